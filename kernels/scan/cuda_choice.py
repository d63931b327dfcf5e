"""Out of the points that the device chose in each season, the candidates of each object."""

import numpy as np

from skytrawl.kernels.jit import njit
from skytrawl.kernels.scan.exact import TIE
from skytrawl.kernels.scan.peaks import LEAST, noise_of, points_left


@njit()
def _clusters_of(s, scale, t0, n, teff, rows_grid, counts, overlap):  # type: ignore[no-untyped-def]
    """How many of the n clusters of a season come before fewer than LEAST grid points are left."""
    picked = np.empty((n, 3))
    for r in range(n):
        picked[r, 0], picked[r, 1], picked[r, 2] = s, t0[r], teff[scale[r]]
    if n < 2 or points_left(s, n - 1, picked, teff, rows_grid, counts, overlap) >= LEAST:
        return n
    for r in range(1, n):
        if points_left(s, r, picked, teff, rows_grid, counts, overlap) < LEAST:
            return r
    return n


@njit()
def merge_clusters(object_season, scale, t0, size, teff, rows_grid, counts, overlap, season, rank):  # type: ignore[no-untyped-def]
    """Best clusters of each object over its seasons.

    Parameters
    ----------
    object_season : int64[n_objects + 1], seasons of each object
    scale : int64[n_seasons, >= K], -1 behind the last
    t0, size : float64[n_seasons, >= K], clusters of each season, the largest first
    teff : float64[n_scales]
    rows_grid, counts : as in `cuda_layout.Layout`
    overlap : float, see `ScanGrid`
    season, rank : int64[n_objects, K]
        Written where there is a candidate: its place in the above.
    """
    n_seasons, k = len(scale), season.shape[1]
    length = np.zeros(n_seasons, np.int64)
    for s in range(n_seasons):
        n = 0
        while n < k and scale[s, n] >= 0:
            n += 1
        length[s] = _clusters_of(s, scale[s], t0[s], n, teff, rows_grid, counts, overlap)
    taken = np.zeros(n_seasons, np.int64)
    for o in range(len(object_season) - 1):
        for r in range(k):
            best, its = 0.0, -1
            for s in range(object_season[o], object_season[o + 1]):
                if taken[s] < length[s] and abs(size[s, taken[s]]) > best * (1.0 + TIE):
                    best, its = abs(size[s, taken[s]]), s
            if its < 0:
                break
            season[o, r], rank[o, r] = its, taken[its]
            taken[its] += 1


@njit()
def merge_extremes(object_season, scale, size, noise, season, rank):  # type: ignore[no-untyped-def]
    """Best bump and dip of each object over its seasons, by size over the noise[n_objects, n_scales].

    As `merge_clusters`; the bump and the dip of each season are the last two columns, n_objects are 2 wide.
    """
    for o in range(len(object_season) - 1):
        for side in range(2):
            best, column = 0.0, scale.shape[1] - 2 + side
            for s in range(object_season[o], object_season[o + 1]):
                if scale[s, column] < 0:
                    continue
                ratio = abs(size[s, column]) / noise[o, scale[s, column]]
                if ratio > best * (1.0 + TIE):
                    best, season[o, side], rank[o, side] = ratio, s, column


@njit()
def noise_levels(median, count, dt0_coeff, teff_coeff):  # type: ignore[no-untyped-def]
    """`peaks.noise_of` of each object and scale."""
    noise = np.empty(median.shape)
    for o in range(median.shape[0]):
        for k in range(median.shape[1]):
            noise[o, k] = noise_of(median[o, k], count[o, k], dt0_coeff, teff_coeff)
    return noise
