"""From seeds to starts: lenses of several shapes on bins that widen away from the peak, in Numba."""

import math

import numpy as np

from skytrawl.kernels.jit import njit
from skytrawl.kernels.lens.cpu_seeds import BELL_WIDTH
from skytrawl.kernels.lens.cpu_step import descend, supported
from skytrawl.kernels.lens.cpu_sums import trial

SHAPES = (0.003, 0.03, 0.1, 0.3, 0.6, 1.0)
WIDTHS = (0.5, 1.0, 2.0)
SHIFTS = (-0.7, 0.0, 0.7)
# Data sets of fewer rows are not binned.
SMALL = 300
# Bins across a half width of the peak, and per e-fold of the distance from it.
CORE_BINS, WING_BINS = 8, 10
DESCENTS, STEPS, NEAR, KEPT = 3, 40, 1e-3, 3


@njit()
def prefix_sums(time, flux, weight):  # type: ignore[no-untyped-def]
    """Running sums of weight, weight x time and weight x flux: float64[n + 1, 3]."""
    out = np.zeros((len(time) + 1, 3))
    for i in range(len(time)):
        w = weight[i]
        out[i + 1, 0] = out[i, 0] + w
        out[i + 1, 1] = out[i, 1] + w * time[i]
        out[i + 1, 2] = out[i, 2] + w * flux[i]
    return out


@njit()
def bins_around(time, flux, weight, rows, prefix, t0, width):  # type: ignore[no-untyped-def]
    """Average rows in bins of width / 8 near t0 and a tenth of the distance farther out.

    Returns
    -------
    time, flux, weight : float64[n_bins]
    rows : int64[n_sets + 1]
    square : float64[n_sets], chi-square of the bins about zero
    """
    n_sets = len(rows) - 1
    span = width
    for d in range(n_sets):
        if rows[d + 1] > rows[d]:
            span = max(span, abs(time[rows[d]] - t0), abs(time[rows[d + 1] - 1] - t0))
    wing = math.ceil(WING_BINS * math.log(span / width)) + 1
    side = CORE_BINS + wing
    edges = np.empty(2 * side + 1)
    for k in range(side + 1):
        far = width * k / CORE_BINS if k <= CORE_BINS else width * math.exp((k - CORE_BINS) / WING_BINS)
        edges[side + k], edges[side - k] = t0 + far, t0 - far
    most = 0
    for d in range(n_sets):
        n = rows[d + 1] - rows[d]
        most += n if n <= SMALL else 2 * side
    out = np.empty((3, most))
    out_rows, square = np.zeros(n_sets + 1, np.int64), np.zeros(n_sets)
    at = 0
    for d in range(n_sets):
        a, b = rows[d], rows[d + 1]
        if b - a <= SMALL:
            for i in range(a, b):
                out[0, at], out[1, at], out[2, at] = time[i], flux[i], weight[i]
                at += 1
        else:
            low = a + np.searchsorted(time[a:b], edges[0])
            for k in range(2 * side):
                high = a + np.searchsorted(time[a:b], edges[k + 1]) if k < 2 * side - 1 else b
                if high > low:
                    w = prefix[high, 0] - prefix[low, 0]
                    # a row of next to no weight may vanish in the running sums
                    if w > 0.0:
                        out[0, at] = (prefix[high, 1] - prefix[low, 1]) / w
                        out[1, at] = (prefix[high, 2] - prefix[low, 2]) / w
                        out[2, at] = w
                        at += 1
                    low = high
        out_rows[d + 1] = at
        for i in range(out_rows[d], at):
            square[d] += out[2, i] * out[1, i] ** 2
    return out[0, :at], out[1, :at], out[2, :at], out_rows, square


@njit()
def _einstein_time(half, u0):  # type: ignore[no-untyped-def]
    """Return about the tE at which a lens of u0 has this half width at half maximum."""
    return half * (1.0 + 0.86 * u0) / (BELL_WIDTH[0] * u0)


@njit()
def _half_width(tE, u0):  # type: ignore[no-untyped-def]
    return tE * BELL_WIDTH[0] * u0 / (1.0 + 0.86 * u0)


@njit()
def refine(  # type: ignore[no-untyped-def]
    time, flux, weight, rows, total, seeds, limits, guard, u0_range, positive,
):  # fmt: skip
    """Fit lenses to the bins around each seed and return the best few.

    Parameters
    ----------
    time, flux, weight, rows, total
        As `cpu_sums.normal` takes them, the flux without outliers.
    seeds : float64[k, 4], of `cpu_seeds.seeds`
    limits, guard
        As `cpu_step.descend` takes them.
    u0_range : (float, float)
    positive : bool

    Returns
    -------
    float64[m, 4], m <= KEPT
        t0, ln tE, u0 and gain of chi-square, best first.
    """
    prefix = prefix_sums(time, flux, weight)
    n_sets = len(rows) - 1
    found = np.empty((len(seeds) * DESCENTS, 4))
    n_found = 0
    shift, lens = np.zeros(n_sets), np.empty(3)
    sets, matrix = np.zeros((n_sets, 4)), np.zeros((3, 3))
    for k in range(len(seeds)):
        half = seeds[k, 1] * BELL_WIDTH[int(seeds[k, 2])]
        bt, bf, bw, brows, square = bins_around(time, flux, weight, rows, prefix, seeds[k, 0], half)
        best = np.full((len(SHAPES), 4), -np.inf)
        for s in range(len(SHAPES)):
            u0 = min(max(SHAPES[s], u0_range[0], limits[0]), u0_range[1])
            for w in range(len(WIDTHS)):
                tE = _einstein_time(half * WIDTHS[w], u0)
                if not math.exp(limits[1]) <= tE <= math.exp(limits[2]):
                    continue
                for m in range(len(SHIFTS)):
                    t0 = seeds[k, 0] + SHIFTS[m] * half
                    if not supported(time, rows, t0, guard[0] * tE, guard[1]):
                        continue
                    chi2, sign = trial(bt, bf, bw, brows, total, square, t0, tE, u0, shift)
                    gain = sign if positive else square.sum() - chi2
                    if gain > best[s, 0]:
                        best[s, 0], best[s, 1], best[s, 2], best[s, 3] = gain, t0, math.log(tE), u0
        order = np.argsort(-best[:, 0])
        for s in range(DESCENTS):
            if best[order[s], 0] == -np.inf:
                break
            lens[:] = best[order[s], 1:]
            sure = _descend_bins(
                bt, bf, bw, brows, total, square, time, rows, lens, limits, guard, positive, sets, matrix,
            )  # fmt: skip
            if sure == -np.inf:
                continue
            found[n_found, :3], found[n_found, 3] = lens, sure
            n_found += 1
    out = np.empty((KEPT, 4))
    kept = 0
    for i in np.argsort(-found[:n_found, 3]):
        same = False
        for j in range(kept):
            half = max(_half_width(math.exp(out[j, 1]), out[j, 2]), 1e-300)
            same = same or (
                abs(out[j, 0] - found[i, 0]) < 0.03 * half and abs(out[j, 1] - found[i, 1]) < 0.1
                and abs(out[j, 2] - found[i, 2]) < 0.1 * max(out[j, 2], found[i, 2])
            )  # fmt: skip
        if same or kept == KEPT:
            continue
        out[kept] = found[i]
        kept += 1
    # once more on bins that suit what was found
    for i in range(kept):
        lens[:] = out[i, :3]
        half = _half_width(math.exp(lens[1]), lens[2])
        bt, bf, bw, brows, square = bins_around(time, flux, weight, rows, prefix, lens[0], half)
        sure = _descend_bins(
            bt, bf, bw, brows, total, square, time, rows, lens, limits, guard, positive, sets, matrix,
        )  # fmt: skip
        if sure != -np.inf:
            out[i, :3], out[i, 3] = lens, sure
    return out[np.argsort(-out[:kept, 3])]


@njit()
def _descend_bins(  # type: ignore[no-untyped-def]
    bt, bf, bw, brows, total, square, time, rows, lens, limits, guard, positive, sets, matrix,
):  # fmt: skip
    """Descend on bins; the gain found, -inf without a usable lens."""
    chi2, gain, _, _ = descend(
        bt, bf, bw, brows, total, square, time, rows, lens, limits, guard, np.int64(STEPS), NEAR,
        sets, matrix,
    )  # fmt: skip
    if not chi2 < np.inf:
        return -np.inf
    return gain if positive else square.sum() - chi2
