"""Interpolation by cubic B-splines, written as matrices: stamps are small and of few shapes."""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray


def cubic(offset: ArrayLike) -> NDArray[np.float64]:
    """Cubic B-spline at distances from its centre, in samples."""
    r = np.abs(np.asarray(offset, np.float64))
    return np.where(r < 1, 2 / 3 - r * r * (1 - r / 2), np.where(r < 2, (2 - r) ** 3 / 6, 0.0))


@lru_cache(maxsize=64)
def prefilter(n: int) -> NDArray[np.float64]:
    """Matrix [n, n] from samples to the coefficients of the spline through them (zero outside)."""
    samples = cubic(np.subtract.outer(np.arange(n), np.arange(n)))
    return np.asarray(np.linalg.inv(samples), np.float64)


@lru_cache(maxsize=512)
def resampling(n_in: int, n_out: int, step: float, offset: float) -> NDArray[np.float64]:
    """Matrix from samples to values of their spline.

    Output i lies at sample ``n_in // 2 + (i - n_out // 2) * step + offset``; outside the samples it is zero.

    Returns
    -------
    float64[n_out, n_in]
    """
    place = n_in // 2 + (np.arange(n_out) - n_out // 2) * step + offset
    weights = cubic(np.subtract.outer(place, np.arange(n_in))) @ prefilter(n_in)
    weights[(place < 0) | (place > n_in - 1)] = 0.0
    weights.setflags(write=False)
    return weights
