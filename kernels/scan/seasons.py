"""Seasons, rows of the grid and where they hold data: the layout that every grid scan shares.

A row of the grid is one (season, teff). Its t0 are ``base + i * delta`` for i in 0 .. count - 1, on the clock
of the season: times as given (``as_original``) or counted from the first time of the season. Functions below
take `tau`, the times of one data set in one season on that clock, ascending. A scan of one data set reads::

    for s in range(len(bounds) - 1):  # bounds = season_bounds(time, season_gap(grid))
        start, end = time[bounds[s]], time[bounds[s + 1] - 1]
        tau = on_clock(time[bounds[s] : bounds[s + 1]], start, as_original)
        for k in range(len(teff)):
            base, delta, count, half = grid_row(start, end, teff[k], dt0_coeff, teff_coeff, as_original)
            n_ranges = filled_ranges(tau, base, delta, count, half, min_points, ranges)
            lo = hi = 0
            for r in range(n_ranges):
                for i in range(ranges[r, 0], ranges[r, 1]):
                    lo, hi = window(tau, base + i * delta, half, lo, hi)  # rows lo:hi, min_points at least

`ranges` is int64[len(tau) + 1, 2]. With several data sets the seasons come from all their times, merged and
sorted, and `merge_ranges` joins the ranges of the data sets.
"""

import numpy as np

from skytrawl.kernels.jit import njit
from skytrawl.kernels.scan.types import ScanGrid

# Days. A full Julian date is rounded to 4.7e-10 d. Decimal times and steps meet the edge of a window, or
# miss it by multiples of some 1e-6 d, which this tells apart.
EDGE = 3e-7


def season_gap(grid: ScanGrid) -> float:
    """Gap [d] that two neighbouring times of one season do not exceed."""
    return grid.gap if grid.as_original else grid.gap + EDGE


@njit()
def season_bounds(time, gap):  # type: ignore[no-untyped-def]
    """Bounds of the seasons of ascending times.

    Returns
    -------
    int64[n_seasons + 1]
        Rows ``bounds[s]:bounds[s + 1]`` are season s; ``[0]`` without rows.
    """
    n = len(time)
    n_seasons = 0
    for i in range(n):
        if i == 0 or time[i] - time[i - 1] > gap:
            n_seasons += 1
    bounds = np.empty(n_seasons + 1, np.int64)
    s = 0
    for i in range(n):
        if i == 0 or time[i] - time[i - 1] > gap:
            bounds[s] = i
            s += 1
    bounds[n_seasons] = n
    return bounds


@njit()
def on_clock(time, start, as_original):  # type: ignore[no-untyped-def]
    """Times on the clock of a season that begins at `start` [d]: as given, or since its begin."""
    return time.copy() if as_original else time - start


@njit()
def grid_row(start, end, teff, dt0_coeff, teff_coeff, as_original):  # type: ignore[no-untyped-def]
    """One row of the grid.

    As original, t0 are those of ``numpy.arange(start, end, dt0_coeff * teff)``: its step is
    ``(start + step) - start`` after rounding.

    Parameters
    ----------
    start, end : float, first and last time of the season [d]
    teff, dt0_coeff, teff_coeff : float
    as_original : bool

    Returns
    -------
    base, delta : float, first t0 on the clock of the season and step [d]
    count : int, number of t0; 0 where the season has no length
    half : float, half width of the windows [d]
    """
    step = dt0_coeff * teff
    if as_original:
        half = teff_coeff * teff
        count = int(np.ceil((end - start) / step)) if start < end else 0
        return start, (start + step) - start, count, half
    half = teff_coeff * teff - EDGE
    count = max(0, int(np.ceil((end - start - EDGE) / step)))
    return 0.0, step, count, half


@njit()
def _first_reaching(base, delta, count, half, tau):  # type: ignore[no-untyped-def]
    """Index of the first t0 with ``t0 + half > tau``, `count` if none; decided by that very comparison."""
    guess = (tau - half - base) / delta
    i = 0 if guess <= 0 else (count if guess >= count else int(guess))
    while i > 0 and base + (i - 1) * delta + half > tau:
        i -= 1
    while i < count and not (base + i * delta + half > tau):
        i += 1
    return i


@njit()
def _first_beyond(base, delta, count, half, tau):  # type: ignore[no-untyped-def]
    """Index of the first t0 without ``t0 - half < tau``, `count` if none; decided by that very comparison."""
    guess = (tau + half - base) / delta
    i = 0 if guess <= 0 else (count if guess >= count else int(guess))
    while i > 0 and not (base + (i - 1) * delta - half < tau):
        i -= 1
    while i < count and base + i * delta - half < tau:
        i += 1
    return i


@njit()
def filled_ranges(tau, base, delta, count, half, min_points, ranges):  # type: ignore[no-untyped-def]
    """Maximal ranges of t0 whose window holds `min_points` rows, without a look at the others.

    Rows k .. k + min_points - 1 lie in the window of the t0 between ``tau[k + min_points - 1] - half`` and
    ``tau[k] + half``. Both ends ascend with k, so one walk over the rows joins these intervals.

    Parameters
    ----------
    tau : float64[n], ascending
    base, delta, count, half
        From `grid_row`.
    min_points : int
    ranges : int64[n + 1, 2], written
        Ranges ``ranges[r, 0] <= i < ranges[r, 1]``, ascending, never touching.

    Returns
    -------
    int
        Number of ranges.
    """
    n, last = len(tau), min_points - 1
    n_ranges = 0
    if count == 0 or half <= 0.0:
        return 0
    # Rows whose intervals overlap by more than rounding continue the range.
    overlap = 2.0 * half - delta
    k = 0
    while k + last < n:
        first = _first_reaching(base, delta, count, half, tau[k + last])
        while k + last + 1 < n and tau[k + last + 1] - tau[k] < overlap:
            k += 1
        stop = _first_beyond(base, delta, count, half, tau[k])
        k += 1
        if first < stop:
            if n_ranges > 0 and first <= ranges[n_ranges - 1, 1]:
                ranges[n_ranges - 1, 1] = max(stop, ranges[n_ranges - 1, 1])
            else:
                ranges[n_ranges, 0], ranges[n_ranges, 1] = first, stop
                n_ranges += 1
    return n_ranges


@njit()
def merge_ranges(one, n_one, other, n_other, out):  # type: ignore[no-untyped-def]
    """Union of two ascending lists of ranges; `out` int64[n_one + n_other, 2]. Returns their number."""
    a = b = n_out = 0
    while a < n_one or b < n_other:
        if b == n_other or (a < n_one and one[a, 0] <= other[b, 0]):
            first, stop = one[a, 0], one[a, 1]
            a += 1
        else:
            first, stop = other[b, 0], other[b, 1]
            b += 1
        if n_out > 0 and first <= out[n_out - 1, 1]:
            out[n_out - 1, 1] = max(stop, out[n_out - 1, 1])
        else:
            out[n_out, 0], out[n_out, 1] = first, stop
            n_out += 1
    return n_out


@njit()
def window(tau, t0, half, lo, hi):  # type: ignore[no-untyped-def]
    """Rows ``lo:hi`` with ``t0 - half < tau < t0 + half``, from those of an earlier t0 of the same row."""
    n = len(tau)
    left, right = t0 - half, t0 + half
    while lo < n and tau[lo] <= left:
        lo += 1
    hi = max(hi, lo)
    while hi < n and tau[hi] < right:
        hi += 1
    return lo, hi
