"""The grid seen along time: the largest dchi2 over all time scales, of bumps and of dips, for pictures."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError
from skytrawl.kernels.curves import Curves
from skytrawl.kernels.jit import njit
from skytrawl.kernels.scan.exact import fit_point
from skytrawl.kernels.scan.seasons import (
    filled_ranges,
    grid_row,
    merge_ranges,
    on_clock,
    season_bounds,
    season_gap,
)
from skytrawl.kernels.scan.tables import make_bank
from skytrawl.kernels.scan.types import ScanGrid


class Profile(NamedTuple):
    """Largest joint dchi2 over the time scales, in bins of time.

    Attributes
    ----------
    time : float64[n_seasons, n_bins], middles of the bins, days
    bump, dip : float64[n_seasons, n_bins]
        Of the grid points with a positive, with a negative amplitude; each counts for the bins within half a
        step of its t0. 0 where there is none.
    """

    time: NDArray[np.float64]
    bump: NDArray[np.float64]
    dip: NDArray[np.float64]


@njit()
def _row_ranges(tau, bounds, s, base, delta, count, half, min_points, one, two):  # type: ignore[no-untyped-def]
    """Ranges of t0 where any data set has enough rows, in `one`; returns their number."""
    n = 0
    for d in range(bounds.shape[0]):
        a, b = bounds[d, s], bounds[d, s + 1]
        own = np.empty((b - a + 1, 2), np.int64)
        n_own = filled_ranges(tau[a:b], base, delta, count, half, min_points, own)
        n = merge_ranges(one, n, own, n_own, two)
        one[:n] = two[:n]
    return n


@njit()
def _profile(  # type: ignore[no-untyped-def]
    time, tau, w, y, bounds, starts, ends, teff, dt0_coeff, teff_coeff, min_points, as_original, address, best
):  # fmt: skip
    n_bins = best.shape[2]
    one, two = np.empty((len(tau) + 1, 2), np.int64), np.empty((2 * len(tau) + 2, 2), np.int64)
    x = np.empty(max(1, len(tau)))
    for s in range(len(starts)):
        width = (ends[s] - starts[s]) / n_bins
        if not width > 0.0:
            continue
        origin = starts[s] if as_original else 0.0
        for k in range(len(teff)):
            base, delta, count, half = grid_row(
                starts[s], ends[s], teff[k], dt0_coeff, teff_coeff, as_original
            )
            n = _row_ranges(tau, bounds, s, base, delta, count, half, min_points, one, two)
            for r in range(n):
                for i in range(one[r, 0], one[r, 1]):
                    t0 = base + i * delta
                    gain, _, sign, _ = fit_point(
                        tau, w, y, bounds, s, t0, half, teff[k], min_points, address, x
                    )
                    side = 0 if sign > 0 else 1
                    first = max(0, int((t0 - 0.5 * delta - origin) / width))
                    last = min(n_bins - 1, int((t0 + 0.5 * delta - origin) / width))
                    for b in range(first, last + 1):
                        best[side, s, b] = max(best[side, s, b], gain)


def profile(curves: Curves, grid: ScanGrid, bank: Sequence[str], bins: int = 1000) -> Profile:
    """The largest dchi2 along time of one object, summed over its data sets.

    Parameters
    ----------
    curves : Curves
        One object, such as the residuals of a fit.
    grid : ScanGrid
    bank : sequence of str
        Names of templates.
    bins : int
        Bins of each season.

    Returns
    -------
    Profile

    Raises
    ------
    ParameterError
        If `curves` holds another number of objects.
    """
    if curves.n_objects != 1:
        raise ParameterError(f"a profile is that of one object, not of {curves.n_objects}")
    merged = np.sort(curves.time)
    cuts = season_bounds(merged, season_gap(grid))
    starts, ends = merged[cuts[:-1]], merged[cuts[1:] - 1]
    n_seasons = len(starts)
    bounds = np.empty((curves.n_sets, n_seasons + 1), np.int64)
    tau = np.empty_like(curves.time)
    for d in range(curves.n_sets):
        a, b = int(curves.rows[d]), int(curves.rows[d + 1])
        bounds[d, :-1] = a + np.searchsorted(curves.time[a:b], starts)
        bounds[d, -1] = b
        for s in range(n_seasons):
            rows = slice(bounds[d, s], bounds[d, s + 1])
            tau[rows] = on_clock(curves.time[rows], starts[s], grid.as_original)
    best = np.zeros((2, n_seasons, bins))
    address = np.asarray(make_bank(bank, grid).address)
    _profile(
        curves.time, tau, 1.0 / np.square(curves.error), curves.flux, bounds, starts, ends,
        np.array(grid.teff), grid.dt0_coeff, grid.teff_coeff, grid.min_points, grid.as_original,
        address, best,
    )  # fmt: skip
    middle = (np.arange(bins) + 0.5) / bins
    return Profile(starts[:, None] + (ends - starts)[:, None] * middle, best[0], best[1])
