"""Rows that stand alone: cosmic rays, blooming, bad subtractions, which no anomaly of several rows can be."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError
from skytrawl.kernels.curves import Curves


def isolated(curves: Curves, sigma: float) -> NDArray[np.bool_]:
    """Find the rows that lie above both their neighbours in time, or below both, by far.

    The row and the nearer of its neighbours differ by more than `sigma` times ``k sqrt(e1^2 + e2^2)``, e the
    errors and k how much larger than their errors differences of consecutive rows typically are: 1.4826 times
    the median size of ``(f2 - f1) / sqrt(e1^2 + e2^2)`` in the data set, 1 at least. A slow variation
    therefore never counts, and a row beside another of the same kind does not. The first and the last row of
    a data set are held against the two rows next to them.

    Parameters
    ----------
    curves : Curves
        Light curves or residuals.
    sigma : float

    Returns
    -------
    bool[n_rows]
        None in data sets of fewer than 8 rows, whose typical difference a spike would decide.

    Raises
    ------
    ParameterError
        If `sigma` is not positive.
    """
    if not sigma > 0:
        raise ParameterError(f"sigma is {sigma}: it must be positive")
    found = np.zeros(len(curves.flux), bool)
    for first, stop in zip(curves.rows[:-1], curves.rows[1:], strict=True):
        if stop - first < 8:
            continue
        flux, error = curves.flux[first:stop], curves.error[first:stop]
        n = len(flux)
        # The two rows that each row is held against.
        left, right = np.arange(-1, n - 1), np.arange(1, n + 1)
        left[0], right[-1] = 2, n - 3
        steps = np.abs(np.diff(flux)) / np.hypot(error[1:], error[:-1])
        k = max(1.0, 1.4826 * float(np.median(steps)))
        above, beside = (flux - flux[at] for at in (left, right))
        reach = np.minimum(
            np.abs(above) / np.hypot(error, error[left]), np.abs(beside) / np.hypot(error, error[right])
        )
        found[first:stop] = (reach > sigma * k) & (np.sign(above) == np.sign(beside))
    return found


def without(curves: Curves, rows: NDArray[np.bool_]) -> Curves:
    """The curves less some rows; every data set and object stays."""
    kept = np.flatnonzero(~rows)
    before = np.concatenate([[0], np.cumsum(~rows)])
    return curves._replace(
        time=curves.time[kept],
        flux=curves.flux[kept],
        error=curves.error[kept],
        rows=before[curves.rows].astype(np.int64),
        source=curves.source[kept],
    )
