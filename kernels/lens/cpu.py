"""PSPL fits of ragged blocks of light curves, in Numba."""

import math

import numpy as np

from skytrawl.kernels.jit import njit
from skytrawl.kernels.lens.cpu_result import fluxes, magnification
from skytrawl.kernels.lens.cpu_seeds import centre, seeds, winsorize
from skytrawl.kernels.lens.cpu_starts import refine
from skytrawl.kernels.lens.cpu_step import descend
from skytrawl.kernels.lens.types import FEW_POINTS, FLAT, NO_START

# How little less than the best a start may promise to be followed on all rows, and the steps within which all
# but the first must be better than the best so far to go on.
WORSE, WORSE_BY, TRIAL_STEPS = 0.02, 30.0, 20
# A chi-square per degree of freedom that calls for more starts, and how many gaps to either side these try.
BAD, NEXT = 1.2, 2
# Standard deviation over median of the absolute value, for a normal distribution.
NORMAL_MEDIAN = 1.4826


@njit()
def _prepare(time, flux, error, rows, keep, reference):  # type: ignore[no-untyped-def]
    """Prepare the kept rows: times from the reference, centred fluxes, weights of mean 1 in each data set.

    Returns
    -------
    time, flux, weight : float64[n]
    rows : int64[n_sets + 1]
    mean, unit : float64[n_sets]
        Flux is ``mean + unit * z``.
    total, square : float64[n_sets], sum of weights, chi-square about the mean
    varies : bool
    """
    n_sets = len(rows) - 1
    n = np.sum(keep)
    t, z, w = np.empty(n), np.empty(n), np.empty(n)
    out_rows = np.zeros(n_sets + 1, np.int64)
    mean, unit = np.zeros(n_sets), np.ones(n_sets)
    total, square = np.zeros(n_sets), np.zeros(n_sets)
    varies = False
    at = 0
    for d in range(n_sets):
        begin = at
        least = np.inf
        for i in range(rows[d], rows[d + 1]):
            if keep[i]:
                least = min(least, error[i])
        for i in range(rows[d], rows[d + 1]):
            if keep[i]:
                # in units of the smallest error, so that no unit of the flux over- or underflows
                t[at], z[at], w[at] = time[i] - reference, flux[i], (least / error[i]) ** 2
                at += 1
        out_rows[d + 1] = at
        if at == begin:
            continue
        sum_w = sum_wz = 0.0
        for i in range(begin, at):
            sum_w += w[i]
            sum_wz += w[i] * (z[i] - z[begin])
            varies = varies or z[i] != z[begin]
        mean[d] = z[begin] + sum_wz / sum_w
        scale = (at - begin) / sum_w
        unit[d] = least * math.sqrt(scale)
        # what rounding left of the mean is taken off once more
        rest = 0.0
        for i in range(begin, at):
            w[i] *= scale
            z[i] = (z[i] - mean[d]) / unit[d]
            rest += w[i] * z[i]
        total[d] = at - begin
        rest = rest / total[d] if np.isfinite(rest) else 0.0
        mean[d] += rest * unit[d]
        for i in range(begin, at):
            z[i] -= rest
            # weights are relative to unit^2: chi-square is the sum of w z^2
            square[d] += w[i] * z[i] * z[i]
    return t, z, w, out_rows, mean, unit, total, square, varies


@njit()
def _starts(time, flux, weight, rows, total, limits, guard, search, u0_range, positive):  # type: ignore[no-untyped-def]
    """Find starts: float64[m, 4], t0 from the reference, ln tE, u0, gain promised; best first.

    Places are sought without outliers. What was cut there may have been the peak of a lens, so that lenses at
    the best place are fitted to the fluxes as given, too.
    """
    calm = winsorize(flux, weight, rows)
    centre(calm, weight, rows)
    found = seeds(time, calm, weight, rows, search[0], search[1], search[2], positive, search[3])
    tries = refine(time, calm, weight, rows, total, found, limits, guard, u0_range, positive)
    if len(tries) == 0 or np.array_equal(calm, flux):
        return tries
    near = np.abs(found[:, 0] - tries[0, 0]) <= 3.0 * found[:, 1]
    sharp = refine(time, flux, weight, rows, total, found[near], limits, guard, u0_range, positive)[:1]
    # as good as the best, so that they are followed
    sharp[:, 3] = tries[0, 3]
    return np.concatenate((tries, sharp))


@njit()
def _between(time, flux, weight, rows, total, limits, guard, u0_range, positive, t0):  # type: ignore[no-untyped-def]
    """Find starts, as `_starts`, with the peak between rows next to t0.

    A peak that lies between two rows leaves a minimum of chi-square of its own for each pair of rows.
    """
    most = 0
    for d in range(len(rows) - 1):
        if rows[d + 1] - rows[d] > rows[most + 1] - rows[most]:
            most = d
    a, b = rows[most], rows[most + 1]
    at = a + np.searchsorted(time[a:b], t0)
    places = np.empty((3 * 2 * NEXT, 4))
    n = 0
    for i in range(max(at - NEXT, a), min(at + NEXT, b - 1)):
        gap = time[i + 1] - time[i]
        if gap > 0.0:
            for k in range(1, 4):
                places[n, 0], places[n, 1] = time[i] + 0.25 * k * gap, 0.125 * gap
                places[n, 2] = places[n, 3] = 0.0
                n += 1
    return refine(time, flux, weight, rows, total, places[:n], limits, guard, u0_range, positive)


@njit()
def _fit_one(  # type: ignore[no-untyped-def]
    time, flux, error, rows, keep, starts, automatic, limits, guard, rounds, tolerance, search, u0_range,
    positive, out, covariance, out_sets,
):  # fmt: skip
    """Fit one object.

    Parameters
    ----------
    time, flux, error : float64[n]
    rows : int64[n_sets + 1]
    keep : bool[n], rows that are fitted
    starts : float64[m, 3], t0 in days of the input, tE, u0; used unless `automatic`
    automatic : bool
    limits, guard, rounds, tolerance
        As `cpu_step.descend` takes them.
    search : (float, float, float, int)
        Range of teff, effective rows, number of seeds.
    u0_range : (float, float)
    positive : bool
    out : float64[8], filled with t0, tE, u0, chi2, chi2_flat, rows, degrees of freedom, steps
    covariance : float64[3, 3]
    out_sets : float64[n_sets, 5], filled with fs, fb, their errors, chi2

    Returns
    -------
    int
        status
    """
    n_sets = len(rows) - 1
    out[:] = np.nan
    out[3] = out[4] = out[5] = out[6] = out[7] = 0.0
    covariance[:, :] = np.nan
    reference = time[len(time) // 2] if len(time) > 0 else 0.0
    t, z, w, krows, mean, unit, total, square, varies = _prepare(time, flux, error, rows, keep, reference)
    out[5], spare = len(t), -3
    for d in range(n_sets):
        count = krows[d + 1] - krows[d]
        spare += max(count - 2, 0)
        out_sets[d, 0], out_sets[d, 1], out_sets[d, 4] = 0.0, mean[d], square[d]
        out_sets[d, 2] = np.nan
        out_sets[d, 3] = unit[d] / math.sqrt(total[d]) if count > 0 else np.nan
        if count == 0:
            out_sets[d, 1] = np.nan
    out[3] = out[4] = square.sum()
    out[6] = spare
    if spare < 0:
        out[6] = max(len(t) - n_sets, 0)
        return FEW_POINTS
    if not varies:
        out[6] = len(t) - n_sets
        return FLAT
    if automatic:
        tries, bumps = np.empty((0, 4)), positive
        for _ in range(2):
            tries = _starts(t, z, w, krows, total, limits, guard, search, u0_range, bumps)
            if not bumps or (len(tries) > 0 and tries[0, 3] > 0.0):
                break
            bumps = False
    else:
        tries = np.empty((len(starts), 4))
        for k in range(len(starts)):
            tries[k, 0] = starts[k, 0] - reference
            tries[k, 1] = math.log(max(abs(starts[k, 1]), 1e-12))
            tries[k, 2], tries[k, 3] = starts[k, 2], 0.0
    lens, best = np.empty(3), np.empty(3)
    sets, matrix = np.zeros((n_sets, 4)), np.zeros((3, 3))
    best_matrix = np.zeros((3, 3))
    best_chi2, best_gain, status = np.inf, -np.inf, NO_START
    k, first_lot = -1, len(tries)
    while k + 1 < len(tries) or (automatic and k + 1 == first_lot and best_chi2 > BAD * max(spare, 1)):
        k += 1
        if k == len(tries):
            if status == NO_START:
                break
            more = _between(t, z, w, krows, total, limits, guard, u0_range, positive, best[0])
            if len(more) == 0:
                break
            tries = np.concatenate((tries, more))
        leader = tries[0 if k < first_lot else first_lot, 3]
        if automatic and tries[k, 3] < leader - max(WORSE * abs(leader), WORSE_BY):
            continue
        lens[:] = tries[k, :3]
        if not np.all(np.isfinite(lens)):
            continue
        first = rounds if k == 0 or not automatic else min(rounds, TRIAL_STEPS)
        chi2, gain, one, steps = descend(
            t, z, w, krows, total, square, t, krows, lens, limits, guard, first, tolerance, sets, matrix,
        )  # fmt: skip
        if steps == first and first < rounds and chi2 < best_chi2:
            chi2, gain, one, steps = descend(
                t, z, w, krows, total, square, t, krows, lens, limits, guard, rounds, tolerance, sets, matrix,
            )  # fmt: skip
        if one == NO_START:
            continue
        better = chi2 < best_chi2
        if positive and (gain > 0.0) != (best_gain > 0.0):
            better = gain > 0.0
        if better:
            best_chi2, best_gain, status = chi2, gain, one
            best[:], best_matrix[:, :], out[7] = lens, matrix, steps
    if status == NO_START:
        out[6] = len(t) - n_sets
        return status
    tE = math.exp(best[1])
    out[0], out[1], out[2] = best[0] + reference, tE, best[2]
    out[3] = fluxes(t, z, w, krows, best, best_matrix, mean, unit, total, covariance, out_sets)
    return status


@njit()
def _clip(time, flux, error, rows, lens, out_sets, sigma, keep):  # type: ignore[no-untyped-def]
    """Set `keep` by the distance from the model; whether that changed anything."""
    far = np.empty(len(time))
    for d in range(len(rows) - 1):
        for i in range(rows[d], rows[d + 1]):
            a = magnification(time[i] - lens[0], lens[1], lens[2])
            far[i] = abs(flux[i] - out_sets[d, 0] * a - out_sets[d, 1]) / error[i]
    farthest = sigma * max(1.0, NORMAL_MEDIAN * np.median(far))
    changed = False
    for i in range(len(time)):
        good = not far[i] > farthest
        changed = changed or good != keep[i]
        keep[i] = good
    return changed


@njit()
def fit_all(  # type: ignore[no-untyped-def]
    time, flux, error, rows, sets, starts, first_start, automatic, limits, guard, rounds, tolerance, search,
    u0_range, positive, clip_sigma, clip_rounds, out, covariance, out_sets, status,
):  # fmt: skip
    """Fit all objects.

    Arguments are those of `_fit_one`, for objects ``sets[k]:sets[k + 1]``; starts ``first_start[k]`` on are
    of object k. `out`, `covariance`, `out_sets` and `status` are filled.
    """
    for k in range(len(sets) - 1):
        a, b = rows[sets[k]], rows[sets[k + 1]]
        mine = rows[sets[k] : sets[k + 1] + 1] - a
        keep = np.ones(b - a, np.bool_)
        t, f, e = time[a:b], flux[a:b], error[a:b]
        s = out_sets[sets[k] : sets[k + 1]]
        given = starts[first_start[k] : first_start[k + 1]]
        # where rows are clipped, the first model comes from data whose outliers were brought near
        first = winsorize(f, 1.0 / (e * e), mine) if clip_sigma > 0.0 else f
        status[k] = _fit_one(
            t, first, e, mine, keep, given, automatic, limits, guard, rounds, tolerance, search, u0_range,
            positive, out[k], covariance[k], s,
        )  # fmt: skip
        if clip_sigma <= 0.0:
            continue
        for turn in range(clip_rounds):
            lens = out[k, :3].copy()
            changed = np.isfinite(lens[0]) and _clip(t, f, e, mine, lens, s, clip_sigma, keep)
            if turn > 0 and not changed:
                break
            # where clipping took the rows that the lens stood on, it is sought anew
            for anew in range(0 if np.isfinite(lens[0]) else 1, 2):
                status[k] = _fit_one(
                    t, f, e, mine, keep, given if anew else lens.reshape(1, 3), automatic and anew == 1,
                    limits, guard, rounds, tolerance, search, u0_range, positive, out[k], covariance[k], s,
                )  # fmt: skip
                if status[k] != NO_START:
                    break
