"""Out of the stored grid of one object: typical values, the best bump and dip, and the best clusters.

Stored are the points of the grid with enough data: ``values`` (float32) is dchi2 with the sign of the
amplitude, ``doubts`` how far it may be off. Runs of neighbouring points of one row lie together, rows of one
scale too, and each scale begins at a multiple of BLOCK. For each block the largest bump and dip that it can
hold are kept, so that finding a maximum reads few points; whatever may be the maximum is fitted anew, in two
passes.
"""

import numpy as np

from skytrawl.kernels.jit import njit
from skytrawl.kernels.scan.exact import NOTHING, TIE, fit_point
from skytrawl.kernels.scan.screen import first_above

BLOCK = 64
# With fewer grid points left a season is done.
LEAST = 3
# Median of chi-square with one degree of freedom.
CHI2_MEDIAN = 0.454936423119572
# Windows for which typical values count half.
PRIOR = 10.0
BINS = 8192
SHIFT = 18


@njit()
def summarise(values, doubts, first, stop, bump, dip):  # type: ignore[no-untyped-def]
    """Largest possible bump and dip of the blocks first:stop."""
    for b in range(first, stop):
        most, least = np.float32(0.0), np.float32(0.0)
        for i in range(b * BLOCK, (b + 1) * BLOCK):
            v, e = values[i], doubts[i]
            most = max(most, v + e if v > 0.0 else np.float32(0.0))
            least = min(least, v - e if v < 0.0 else np.float32(0.0))
        bump[b], dip[b] = most, -least


@njit()
def _ranked(values, first, stop, rank, counts, few):  # type: ignore[no-untyped-def]
    """Return the value of `rank` among the positive ones, of the bits that `counts` has counted."""
    below = 0
    b = 0
    while below + counts[b] <= rank:
        below += counts[b]
        b += 1
    n = 0
    for i in range(first, stop):
        bits = values[i] & 0x7FFFFFFF
        if bits > 0 and bits >> SHIFT == b:
            few[n] = bits
            n += 1
    return np.sort(few[:n])[rank - below]


@njit()
def median_size(values, first, stop, counts, few):  # type: ignore[no-untyped-def]
    """Median of the sizes of the values that are not 0, and their number.

    The bits of positive floats stand in the order of the numbers: their upper part is counted, and only the
    bin of the median is sorted.

    Parameters
    ----------
    values : float32[n]
    counts : int64[BINS], int32[>= stop - first], scratch
    """
    bits = values.view(np.int32)
    counts[:] = 0
    n = 0
    for i in range(first, stop):
        b = bits[i] & 0x7FFFFFFF
        counts[b >> SHIFT] += 1
        n += b > 0
    counts[0] -= (stop - first) - n
    if n == 0:
        return 0.0, 0
    few[0] = _ranked(bits, first, stop, n // 2, counts, few)
    high = np.float64(few[:1].view(np.float32)[0])
    if n % 2 == 1:
        return high, n
    few[0] = _ranked(bits, first, stop, n // 2 - 1, counts, few)
    return 0.5 * (high + np.float64(few[:1].view(np.float32)[0])), n


@njit()
def noise_of(median, n, dt0_coeff, teff_coeff):  # type: ignore[no-untyped-def]
    """Factor by which dchi2 exceeds white noise (`ScanResult.noise`).

    n points dt0_coeff teff apart fill ``n dt0_coeff / (2 teff_coeff)`` windows beside each other.
    """
    if n == 0:
        return 1.0
    windows = n * dt0_coeff / (2.0 * teff_coeff)
    return (windows * max(1.0, median / CHI2_MEDIAN) + PRIOR) / (windows + PRIOR)


@njit()
def _consider(i, noise, object_, grid, runs, best, place, x):  # type: ignore[no-untyped-def]
    """Fit the stored point i; keep it if it is better, or equal and earlier. `best` is (ratio, dchi2)."""
    tau, w, y, bounds, rows_grid = object_
    teff, min_points, address = grid
    run_offset, run_season, run_scale, run_first = runs
    r = first_above(run_offset, i) - 1
    s, k, j = run_season[r], run_scale[r], run_first[r] + i - run_offset[r]
    base, delta, half = rows_grid[k, s, 0], rows_grid[k, s, 1], rows_grid[k, s, 2]
    d, t, sign, n = fit_point(tau, w, y, bounds, s, base + j * delta, half, teff[k], min_points, address, x)
    if d <= NOTHING:
        return 0
    ratio = d / noise[k]
    earlier = s < place[0] or (s == place[0] and (k < place[1] or (k == place[1] and j < place[2])))
    if ratio > best[0] * (1.0 + TIE) or (ratio >= best[0] * (1.0 - TIE) and earlier):
        best[0], best[1] = ratio, d
        place[0], place[1], place[2], place[3], place[4], place[5] = s, k, j, t, sign, n
    return sign


@njit()
def _search(b, sign, noise, values, doubts, object_, grid, runs, scale, best, place, x):  # type: ignore[no-untyped-def]
    """Fit all points of a block that may be the best of their sign (0: of both)."""
    for i in range(b * BLOCK, (b + 1) * BLOCK):
        v = values[i]
        if v == 0.0 or v * sign < 0.0:
            continue
        if (abs(v) + doubts[i]) / noise[scale] >= best[0] * (1.0 - TIE):
            _consider(i, noise, object_, grid, runs, best, place, x)


@njit()
def find_best(  # type: ignore[no-untyped-def]
    sign, noise, values, doubts, bump, dip, block_first, object_, grid, runs, best, place, x
):  # fmt: skip
    """Find the point of the largest dchi2 / noise of a sign (0: of both).

    The block with the largest bound is searched first, then every other block whose bound exceeds what was
    found.

    Parameters
    ----------
    block_first : int64[n_teff + 1], blocks of each scale
    best : float64[2], written: dchi2 / noise, dchi2; 0 if there is none
    place : int64[6], written: season, scale, step, template, sign, rows in the window
    """
    best[:] = 0.0
    place[:] = 1 << 62
    leading, largest, its_scale = np.int64(-1), 0.0, np.int64(0)
    for k in range(len(block_first) - 1):
        for b in range(block_first[k], block_first[k + 1]):
            bound = (bump[b] if sign > 0 else dip[b] if sign < 0 else max(bump[b], dip[b])) / noise[k]
            if bound > largest:
                leading, largest, its_scale = b, bound, k  # type: ignore[assignment]
    if leading < 0:
        return
    _search(leading, sign, noise, values, doubts, object_, grid, runs, its_scale, best, place, x)
    for k in range(len(block_first) - 1):
        for b in range(block_first[k], block_first[k + 1]):
            bound = (bump[b] if sign > 0 else dip[b] if sign < 0 else max(bump[b], dip[b])) / noise[k]
            if b != leading and bound > 0.0 and bound >= best[0] * (1.0 - TIE):
                _search(b, sign, noise, values, doubts, object_, grid, runs, k, best, place, x)


@njit()
def steps_near(base, delta, count, t0, reach):  # type: ignore[no-untyped-def]
    """Steps ``first:stop`` of a row of the grid with ``|base + i delta - t0| < reach``."""
    guess = (t0 - reach - base) / delta
    first = 0 if guess <= 0 else (count if guess >= count else np.int64(guess))
    while first > 0 and abs(base + (first - 1) * delta - t0) < reach:
        first -= 1
    while first < count and base + first * delta < t0 and not abs(base + first * delta - t0) < reach:
        first += 1
    guess = (t0 + reach - base) / delta
    stop = 0 if guess <= 0 else (count if guess >= count else np.int64(guess))
    while stop > first and not abs(base + (stop - 1) * delta - t0) < reach:
        stop -= 1
    while stop < count and abs(base + stop * delta - t0) < reach:
        stop += 1
    return first, max(stop, first)


@njit()
def remove(  # type: ignore[no-untyped-def]
    s, t0, reach_of, values, doubts, bump, dip, row_run, runs, run_length, rows_grid, counts
):  # fmt: skip
    """Take the neighbourhood of a cluster out of the store.

    Parameters
    ----------
    reach_of : float64[n_teff]
        Removed are the points of scale k nearer to t0 than ``reach_of[k]``.
    row_run : int64[n_teff, n_seasons + 1]
        First run of each row of the grid.
    """
    run_offset, _, _, run_first = runs
    for k in range(len(reach_of)):
        if row_run[k, s] == row_run[k, s + 1]:
            continue
        first, stop = steps_near(rows_grid[k, s, 0], rows_grid[k, s, 1], counts[k, s], t0, reach_of[k])
        for r in range(row_run[k, s], row_run[k, s + 1]):
            a = max(first - run_first[r], 0)
            b = min(stop - run_first[r], run_length[r])
            if a < b:
                begin, end = run_offset[r] + a, run_offset[r] + b
                values[begin:end] = 0.0
                summarise(values, doubts, begin // BLOCK, (end - 1) // BLOCK + 1, bump, dip)


@njit()
def points_left(s, n, picked, teff, rows_grid, counts, overlap):  # type: ignore[no-untyped-def]
    """Grid points of season s, empty ones too, that the first n clusters of `picked` leave.

    Parameters
    ----------
    picked : float64[n, 3]
        Season, t0 (clock of the season) and teff of the clusters.
    """
    left = 0
    ends = np.empty((n, 2), np.int64)
    for k in range(len(teff)):
        m = 0
        for p in range(n):
            if picked[p, 0] != s:
                continue
            reach = overlap * (teff[k] + picked[p, 2])
            first, stop = steps_near(
                rows_grid[k, s, 0], rows_grid[k, s, 1], counts[k, s], picked[p, 1], reach
            )
            at = m
            while at > 0 and ends[at - 1, 0] > first:
                ends[at, 0], ends[at, 1] = ends[at - 1, 0], ends[at - 1, 1]
                at -= 1
            ends[at, 0], ends[at, 1] = first, stop
            m += 1
        left += counts[k, s]
        reached = 0
        for p in range(m):
            left -= max(0, ends[p, 1] - max(reached, ends[p, 0]))
            reached = max(reached, ends[p, 1])
    return left
