"""The scan without templates in Numba; `template_free` tells what it looks for."""

import numpy as np

from skytrawl.kernels.jit import njit
from skytrawl.kernels.scan.seasons import season_bounds


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
def scan_windows(  # type: ignore[no-untyped-def]
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
