"""Windows of residuals whose chi-square is too large, without any template (jacscanomaly 0.3.2).

With z = residual / error, per season and in order of time: windows of `fixed_window_points` rows whose sum of
z^2 reaches `hybrid_seed_chi2_threshold` are seeds, the largest first, none overlapping another. Around each
seed, within `hybrid_extension_points` rows on both sides, the stretch with the largest mean of z^2 that
overlaps the seed is a *hybrid* candidate. Windows that reach `fixed_chi2_threshold` are *fixed* candidates
instead of seeds; the *blind* candidate is the stretch with the largest mean of z^2 in the whole season.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError
from skytrawl.kernels.curves import Curves
from skytrawl.kernels.jit import njit
from skytrawl.kernels.scan.seasons import season_bounds

KINDS = ("fixed", "hybrid", "blind_reduced")
FIXED, HYBRID, BLIND = range(3)


@dataclass(frozen=True)
class TemplateFreeOptions:
    """Options of the scan (the TemplateFreeSearchConfig of jacscanomaly 0.3.2).

    Parameters
    ----------
    gap : float, days
    fixed_window_points : int
        Rows of the windows that are seeds or fixed candidates.
    fixed_chi2_threshold : float
        From here on such a window is a candidate itself and no seed (default: never).
    hybrid_seed_chi2_threshold : float
        From here on it is a seed.
    hybrid_reduced_chi2_threshold : float
        Mean z^2 that a hybrid candidate must reach.
    hybrid_extension_points : int
    reduced_min_points : int
    reduced_max_points : int or None
        Lengths of the stretches of hybrid and blind candidates.
    run_blind_reduced_chi2 : bool
        Look at every stretch of a season: costs the square of its rows unless `reduced_max_points` is set.
    max_candidates_per_season : int
        Limit of the seeds and of the fixed candidates, 1 at least.
    """

    gap: float = 100.0
    fixed_window_points: int = 20
    fixed_chi2_threshold: float = float("inf")
    hybrid_seed_chi2_threshold: float = 70.0
    hybrid_reduced_chi2_threshold: float = 6.0
    hybrid_extension_points: int = 12
    reduced_min_points: int = 5
    reduced_max_points: int | None = None
    run_blind_reduced_chi2: bool = False
    max_candidates_per_season: int = 50

    def __post_init__(self) -> None:
        if self.fixed_window_points < 1:
            raise ParameterError("fixed_window_points must be positive")
        if not self.gap > 0:
            raise ParameterError("gap must be positive")


class Windows(NamedTuple):
    """Candidates of each data set, largest chi2 first, none overlapping a larger one.

    Attributes
    ----------
    offsets : int64[n_sets + 1], windows ``offsets[d]:offsets[d + 1]`` are data set d; the first is the best
    kind : int64[n], index into `KINDS`
    season : int64[n], season of the data set
    start, stop : int64[n], rows ``start:stop`` of the curves
    t_start, t_end : float64[n], times of the first and last row [d]
    chi2, reduced_chi2 : float64[n], sum and mean of z^2
    max_abs_z : float64[n]
    seed_start, seed_stop : int64[n], rows of the seed of a hybrid candidate; else -1
    seed_chi2 : float64[n], else NaN
    """

    offsets: NDArray[np.int64]
    kind: NDArray[np.int64]
    season: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    t_start: NDArray[np.float64]
    t_end: NDArray[np.float64]
    chi2: NDArray[np.float64]
    reduced_chi2: NDArray[np.float64]
    max_abs_z: NDArray[np.float64]
    seed_start: NDArray[np.int64]
    seed_stop: NDArray[np.int64]
    seed_chi2: NDArray[np.float64]


def template_free(curves: Curves, options: TemplateFreeOptions | None = None) -> Windows:
    """Scan every data set, whose fluxes are residuals of a model.

    Parameters
    ----------
    curves : Curves
    options : TemplateFreeOptions, optional
    """
    o = TemplateFreeOptions() if options is None else options
    longest = -1 if o.reduced_max_points is None else max(1, o.reduced_min_points, o.reduced_max_points)
    offsets, where, seed_chi2, chi2 = _scan(
        curves.time, curves.flux, curves.error, curves.rows, o.gap, o.fixed_window_points,
        o.fixed_chi2_threshold, o.hybrid_seed_chi2_threshold, o.hybrid_reduced_chi2_threshold,
        max(0, o.hybrid_extension_points), max(1, o.reduced_min_points), longest, o.run_blind_reduced_chi2,
        max(1, o.max_candidates_per_season),
    )  # fmt: skip
    kind, season, start, stop, seed_start, seed_stop = (np.ascontiguousarray(column) for column in where.T)
    size = np.array(
        [np.abs(curves.flux[a:b] / curves.error[a:b]).max() for a, b in zip(start, stop, strict=True)]
    )
    return Windows(
        offsets, kind, season, start, stop, curves.time[start], curves.time[stop - 1], chi2,
        chi2 / (stop - start), size.astype(np.float64), seed_start, seed_stop, seed_chi2,
    )  # fmt: skip


@njit()
def _apart(start, stop, order, limit, kept):  # type: ignore[no-untyped-def]
    """Take windows in an order unless they overlap one taken before; return their number (1 at least)."""
    n_kept = 0
    for i in order:
        free = True
        for j in range(n_kept):
            if start[i] < stop[kept[j]] and start[kept[j]] < stop[i]:
                free = False
                break
        if free:
            kept[n_kept] = i
            n_kept += 1
        if n_kept >= limit:
            break
    return n_kept


@njit()
def _descending(values):  # type: ignore[no-untyped-def]
    """Order of values, largest first, equal ones as they stand."""
    return np.argsort(-values, kind="mergesort")


@njit()
def _fixed_windows(total, width, low, high, limit):  # type: ignore[no-untyped-def]
    """Starts of windows with ``low <= chi2 < high``, largest first, none overlapping; and their chi2."""
    n = max(0, len(total) - width)
    chi2, start = np.empty(n), np.empty(n, np.int64)
    m = 0
    for i in range(n):
        value = total[i + width] - total[i]
        if low <= value < high:
            chi2[m], start[m] = value, i
            m += 1
    kept = np.empty(m + 1, np.int64)
    n_kept = _apart(start[:m], start[:m] + width, _descending(chi2[:m]), limit, kept)
    return start[kept[:n_kept]], chi2[kept[:n_kept]]


@njit()
def _densest(total, lo, hi, seed_start, seed_stop, shortest, longest):  # type: ignore[no-untyped-def]
    """First of the stretches of lo:hi with the largest mean that overlap the seed; start -1 without one."""
    best, begin, end = -np.inf, -1, -1
    for a in range(lo, min(hi - shortest + 1, seed_stop)):
        last = hi if longest < 0 else min(hi, a + longest)
        for b in range(max(a + shortest, seed_start + 1), last + 1):
            mean = (total[b] - total[a]) / (b - a)
            if mean > best:
                best, begin, end = mean, a, b
    return begin, end


@njit()
def _scan(  # type: ignore[no-untyped-def]
    time, flux, error, rows, gap, width, fixed, seed, reduced, extension, shortest, longest, blind, limit
):
    """Windows of all data sets: kind, season, start, stop, seed start and stop; seed chi2; chi2."""
    n_sets = len(rows) - 1
    offsets = np.zeros(n_sets + 1, np.int64)
    where, values = np.empty((64, 6), np.int64), np.empty((64, 2))
    n_found = 0
    for d in range(n_sets):
        time_d = time[rows[d] : rows[d + 1]]
        bounds = season_bounds(time_d, gap)
        n_seasons = len(bounds) - 1
        # kinds stand in this order in the list whose equal values keep their order
        size = n_seasons * (2 * limit + 3)
        list_, chi2, seeds = np.empty((size, 6), np.int64), np.empty(size), np.empty(size)
        at = 0
        for kind in range(3):
            for s in range(n_seasons):
                begin = rows[d] + bounds[s]
                n = bounds[s + 1] - bounds[s]
                total = np.zeros(n + 1)
                for i in range(n):
                    z = flux[begin + i] / error[begin + i]
                    total[i + 1] = total[i] + z * z
                if kind == 0:
                    starts, sums = _fixed_windows(total, width, fixed, np.inf, limit)
                    # in order of time, by their middle
                    for i in np.argsort(starts):
                        list_[at, :4] = kind, s, begin + starts[i], begin + starts[i] + width
                        list_[at, 4:] = -1
                        chi2[at], seeds[at] = sums[i], np.nan
                        at += 1
                elif kind == 1:
                    starts, sums = _fixed_windows(total, width, seed, fixed, limit)
                    for i in range(len(starts)):
                        lo, hi = max(0, starts[i] - extension), min(n, starts[i] + width + extension)
                        a, b = _densest(total, lo, hi, starts[i], starts[i] + width, shortest, longest)
                        if a >= 0 and (total[b] - total[a]) / (b - a) >= reduced:
                            list_[at, 0], list_[at, 1] = kind, s
                            list_[at, 2], list_[at, 3] = begin + a, begin + b
                            list_[at, 4], list_[at, 5] = begin + starts[i], begin + starts[i] + width
                            chi2[at], seeds[at] = total[b] - total[a], sums[i]
                            at += 1
                elif blind:
                    a, b = _densest(total, 0, n, 0, n, shortest, longest)
                    if a >= 0:
                        list_[at, :4] = kind, s, begin + a, begin + b
                        list_[at, 4:] = -1
                        chi2[at], seeds[at] = total[b] - total[a], np.nan
                        at += 1
        kept = np.empty(at + 1, np.int64)
        n_kept = _apart(list_[:at, 2], list_[:at, 3], _descending(chi2[:at]), at + 1, kept)
        while n_found + n_kept > len(where):
            where = np.concatenate((where, np.empty_like(where)))
            values = np.concatenate((values, np.empty_like(values)))
        for i in range(n_kept):
            where[n_found], values[n_found, 0], values[n_found, 1] = (
                list_[kept[i]],
                seeds[kept[i]],
                chi2[kept[i]],
            )
            n_found += 1
        offsets[d + 1] = n_found
    return offsets, where[:n_found], values[:n_found, 0].copy(), values[:n_found, 1].copy()
