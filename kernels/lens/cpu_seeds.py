"""Where a light curve may hold a lens: bells fitted on cells that double from scale to scale, in Numba.

For each effective time scale teff the rows are gathered into cells of teff / 2, and around each filled cell
both bells of the EventFinder of KMTNet (Kim et al. 2018, AJ 155, 76), the forms of PSPL at u0 -> 0 and at 1,
are fitted with a base of their own in a window of 3 teff. The cells of the next scale are pairs of these, so
that the work is proportional to the number of rows, at any cadence and in any unit of time.
"""

import math

import numpy as np

from skytrawl.kernels.jit import njit

# Cells on either side of the central one.
REACH = 6
PER_SCALE = 6
LEAST_ROWS = 3
# Scales lie closer than this for seeds at the same place to be one.
SAME_SCALE = 8.0
MOST_SCALES = 40
WINSOR = 3.0
BELLS = np.empty((2, REACH + 1))
for _lag in range(REACH + 1):
    _q = 1.0 + 0.25 * _lag * _lag
    BELLS[0, _lag], BELLS[1, _lag] = 1.0 / math.sqrt(_q), (_q + 2.0) / math.sqrt(_q * (_q + 4.0))
# Half widths at half maximum, in teff.
BELL_WIDTH = (math.sqrt(3.0), 0.9303)


@njit()
def winsorize(flux, weight, rows):  # type: ignore[no-untyped-def]
    """Bring rows that stand out from both neighbours to what the neighbours and the errors allow."""
    out = flux.copy()
    for d in range(len(rows) - 1):
        a, b = rows[d], rows[d + 1]
        if b - a < 3:
            continue
        for i in range(a, b):
            # a row at the end takes the two rows beside it
            j = i - 1 if i > a else i + 2
            k = i + 1 if i < b - 1 else i - 2
            own = WINSOR / math.sqrt(weight[i])
            ej, ek = WINSOR / math.sqrt(weight[j]), WINSOR / math.sqrt(weight[k])
            high = max(flux[j] + ej, flux[k] + ek) + own
            low = min(flux[j] - ej, flux[k] - ek) - own
            out[i] = min(max(flux[i], low), high)
    return out


@njit()
def centre(flux, weight, rows):  # type: ignore[no-untyped-def]
    """Take the weighted mean of each data set off, in place."""
    for d in range(len(rows) - 1):
        sum_w = sum_wy = 0.0
        for i in range(rows[d], rows[d + 1]):
            sum_w += weight[i]
            sum_wy += weight[i] * flux[i]
        for i in range(rows[d], rows[d + 1]):
            flux[i] -= sum_wy / sum_w


@njit()
def _finest(time):  # type: ignore[no-untyped-def]
    """Return the scale whose windows hold a few rows where rows are dense."""
    n = len(time)
    stride = max(1, (n - 2) // 512)
    gaps = np.empty((n - 2) // stride + 1)
    count = 0
    for i in range(0, n - 2, stride):
        gap = time[i + 2] - time[i]
        if gap > 0.0:
            gaps[count] = gap
            count += 1
    span = time[n - 1] - time[0]
    if count == 0:
        return span / 4.0
    return 0.5 * np.sort(gaps[:count])[count // 20]


@njit(fastmath=True)
def _fit_bells(cell, sums, n_sets, positive, score, bell):  # type: ignore[no-untyped-def]
    """Fit both bells about each cell; `sums` is float64[n_cells, n_sets, 3]: rows, weight, weighted flux."""
    n = len(cell)
    lo = hi = 0
    for c in range(n):
        while cell[lo] < cell[c] - REACH:
            lo += 1
        while hi < n and cell[hi] <= cell[c] + REACH:
            hi += 1
        first = second = 0.0
        for d in range(n_sets):
            rows = w = y = x0 = x1 = xx0 = xx1 = xy0 = xy1 = 0.0
            for j in range(lo, hi):
                lag = abs(cell[j] - cell[c])
                a, b = BELLS[0, lag], BELLS[1, lag]
                wj, yj = sums[j, d, 1], sums[j, d, 2]
                rows += sums[j, d, 0]
                w += wj
                y += yj
                x0 += wj * a
                x1 += wj * b
                xx0 += wj * a * a
                xx1 += wj * b * b
                xy0 += yj * a
                xy1 += yj * b
            if rows < LEAST_ROWS:
                continue
            v0, v1 = xx0 - x0 * x0 / w, xx1 - x1 * x1 / w
            c0, c1 = xy0 - x0 * y / w, xy1 - x1 * y / w
            if v0 > 1e-9 * xx0 and (c0 > 0.0 or not positive):
                first += c0 * c0 / v0
            if v1 > 1e-9 * xx1 and (c1 > 0.0 or not positive):
                second += c1 * c1 / v1
        bell[c] = 0 if first > second else 1
        score[c] = max(first, second)


@njit()
def _effective(time, flux, weight, rows, t0, teff, bell, positive):  # type: ignore[no-untyped-def]
    """Effective number of rows that a bell rests on, (sum u)^2 / sum u^2 with u the gain of each row."""
    total = squares = 0.0
    for d in range(len(rows) - 1):
        part = time[rows[d] : rows[d + 1]]
        a = rows[d] + np.searchsorted(part, t0 - 3.0 * teff)
        b = rows[d] + np.searchsorted(part, t0 + 3.0 * teff)
        if b - a < LEAST_ROWS:
            continue
        x = np.empty(b - a)
        w = y = wx = 0.0
        for i in range(a, b):
            q = 1.0 + ((time[i] - t0) / teff) ** 2
            x[i - a] = 1.0 / math.sqrt(q) if bell == 0 else (q + 2.0) / math.sqrt(q * (q + 4.0))
            w += weight[i]
            y += weight[i] * flux[i]
            wx += weight[i] * x[i - a]
        y, wx = y / w, wx / w
        xx = xy = 0.0
        for i in range(a, b):
            xx += weight[i] * (x[i - a] - wx) ** 2
            xy += weight[i] * (x[i - a] - wx) * (flux[i] - y)
        if xx <= 0.0 or (positive and xy < 0.0):
            continue
        for i in range(a, b):
            off = flux[i] - y
            gain = weight[i] * (off * off - (off - xy / xx * (x[i - a] - wx)) ** 2)
            if gain > 0.0:
                total += gain
                squares += gain * gain
    return total * total / squares if squares > 0.0 else 0.0


@njit()
def seeds(time, flux, weight, rows, first, last, least_effective, positive, most):  # type: ignore[no-untyped-def]
    """Find the most promising places and scales.

    Parameters
    ----------
    time, flux, weight : float64[n]
        Rows by data set, fluxes without outliers.
    rows : int64[n_sets + 1]
    first, last : float
        Range of teff; 0 leaves it to the times.
    least_effective : float
        Effective rows that a seed needs, as long as any seed has them.
    positive : bool
        Bumps only.
    most : int

    Returns
    -------
    float64[k, 4], k <= most
        t0, teff, bell, gain of chi-square, best first.
    """
    n, n_sets = len(time), len(rows) - 1
    order = np.arange(n)
    if n_sets > 1:
        order = np.argsort(time, kind="mergesort")
    owner = np.zeros(n, np.int64)
    for d in range(n_sets):
        owner[rows[d] : rows[d + 1]] = d
    sorted_time = time[order]
    start, span = sorted_time[0], sorted_time[n - 1] - sorted_time[0]
    if not span > 0.0:
        return np.zeros((0, 4))
    teff = first if first > 0.0 else _finest(sorted_time)
    stop = last if last > 0.0 else 0.5 * span
    teff = max(min(teff, stop), span * 2.0**-MOST_SCALES)
    cell, sums = np.empty(n, np.int64), np.zeros((n, n_sets, 3))
    count = 0
    for i in range(n):
        row = order[i]
        at = np.int64((sorted_time[i] - start) / (0.5 * teff))
        if count == 0 or cell[count - 1] != at:
            cell[count] = at
            count += 1
        one = sums[count - 1, owner[row]]
        one[0] += 1.0
        one[1] += weight[row]
        one[2] += weight[row] * flux[row]
    score, bell = np.empty(n), np.empty(n, np.int64)
    found = np.empty((MOST_SCALES * PER_SCALE, 4))
    n_found = 0
    weak = np.empty(MOST_SCALES * PER_SCALE, np.bool_)
    for _ in range(MOST_SCALES):
        _fit_bells(cell[:count], sums[:count], n_sets, positive, score, bell)
        for _peak in range(PER_SCALE):
            best = np.argmax(score[:count])
            if not score[best] > 0.0:
                break
            t0 = start + (cell[best] + 0.5) * 0.5 * teff
            found[n_found, 0], found[n_found, 1] = t0, teff
            found[n_found, 2], found[n_found, 3] = bell[best], score[best]
            effective = _effective(time, flux, weight, rows, t0, teff, bell[best], positive)
            weak[n_found] = effective < least_effective
            n_found += 1
            near = int(best)
            while near > 0 and cell[near - 1] >= cell[best] - REACH:
                near -= 1
            while near < count and cell[near] <= cell[best] + REACH:
                score[near] = 0.0
                near += 1
        teff *= 2.0
        if teff > stop:
            break
        merged = 0
        for c in range(count):
            at = cell[c] >> 1
            if c > 0 and cell[merged - 1] == at:
                for d in range(n_sets):
                    for k in range(3):
                        sums[merged - 1, d, k] += sums[c, d, k]
            else:
                cell[merged] = at
                if merged != c:
                    sums[merged] = sums[c]
                merged += 1
        count = merged
    return _distinct(found[:n_found], weak[:n_found], most)


@njit()
def _distinct(found, weak, most):  # type: ignore[no-untyped-def]
    """Return the best seeds that are not the same place and scale; weak ones only where all are."""
    usable = not np.all(weak)
    out = np.empty((most, 4))
    kept = 0
    for i in np.argsort(-found[:, 3]):
        if kept == most:
            break
        if usable and weak[i]:
            continue
        same = False
        for k in range(kept):
            near = abs(out[k, 0] - found[i, 0]) < out[k, 1] + found[i, 1]
            ratio = out[k, 1] / found[i, 1]
            same = same or (near and 1.0 / SAME_SCALE < ratio < SAME_SCALE)
        if not same:
            out[kept] = found[i]
            kept += 1
    return out[:kept]
