"""Starts as jacscanomaly finds them, for fits that are to be compared with its own.

Version 0.3.2 scans the raw flux for bells and spreads tE over a grid; version 0.5.2 correlates it with PSPL
templates. Both are for one data set an object. They are slow: use ``start="auto"`` for anything else.
"""

import math

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError
from skytrawl.kernels.curves import Curves
from skytrawl.kernels.jit import njit
from skytrawl.kernels.lens.types import FitOptions
from skytrawl.kernels.scan.seasons import filled_ranges, grid_row, season_bounds, window

# Of the scan for starts, which has no options of its own for these.
GAP, TEFF_COEFF, MIN_POINTS, OVERLAP = 100.0, 3.0, 4, 3.0


@njit()
def _bell(which, since, teff):  # type: ignore[no-untyped-def]
    q = 1.0 + (since / teff) ** 2
    return 1.0 / math.sqrt(q) if which == 0 else (q + 2.0) / math.sqrt(q * (q + 4.0))


@njit()
def _point(time, flux, weight, lo, hi, t0, teff):  # type: ignore[no-untyped-def]
    """Gain of the better bell in a window, and the effective rows by the gains without weights."""
    w = y = 0.0
    for i in range(lo, hi):
        w += weight[i]
        y += weight[i] * flux[i]
    y /= w
    best, best_slope, best_mean, which = -1.0, 0.0, 0.0, 1
    for k in (1, 0):
        mean = xx = xy = 0.0
        for i in range(lo, hi):
            mean += weight[i] * _bell(k, time[i] - t0, teff)
        mean /= w
        for i in range(lo, hi):
            x = _bell(k, time[i] - t0, teff) - mean
            xx += weight[i] * x * x
            xy += weight[i] * x * (flux[i] - y)
        gain = xy * xy / xx if xx > 0.0 else 0.0
        if gain > best:
            best, best_slope, best_mean, which = gain, (xy / xx if xx > 0.0 else 0.0), mean, k
    total = squares = 0.0
    for i in range(lo, hi):
        off = flux[i] - y
        left = off - best_slope * (_bell(which, time[i] - t0, teff) - best_mean)
        u = max(0.0, off * off - left * left)
        total += u
        squares += u * u
    return best, total * total / squares if squares > 0.0 else 0.0


@njit()
def _scan(time, flux, weight, scales, dt0_coeff):  # type: ignore[no-untyped-def]
    """Return all clusters of the scan of one curve: float64[n, 4] of t0, teff, gain, effective rows."""
    bounds = season_bounds(time, GAP)
    out = np.empty((0, 4))
    for s in range(len(bounds) - 1):
        a, b = bounds[s], bounds[s + 1]
        tau = time[a:b]
        ranges = np.empty((b - a + 1, 2), np.int64)
        found = np.empty((64, 4))
        n = 0
        for k in range(len(scales)):
            row = grid_row(tau[0], tau[b - a - 1], scales[k], dt0_coeff, TEFF_COEFF, True)
            base, delta, count, half = row
            n_ranges = filled_ranges(tau, base, delta, count, half, MIN_POINTS, ranges)
            lo = hi = 0
            for r in range(n_ranges):
                for i in range(ranges[r, 0], ranges[r, 1]):
                    t0 = base + i * delta
                    lo, hi = window(tau, t0, half, lo, hi)
                    if n == len(found):
                        grown = np.empty((2 * n, 4))
                        grown[:n] = found
                        found = grown
                    gain, effective = _point(time, flux, weight, a + lo, a + hi, t0, scales[k])
                    if gain > 0.0:
                        found[n, 0], found[n, 1], found[n, 2], found[n, 3] = t0, scales[k], gain, effective
                        n += 1
        kept = np.empty(n, np.int64)
        n_kept = 0
        for i in np.argsort(-found[:n, 2], kind="mergesort"):
            free = True
            for j in range(n_kept):
                c = kept[j]
                if abs(found[i, 0] - found[c, 0]) < OVERLAP * (found[i, 1] + found[c, 1]):
                    free = False
                    break
            if free:
                kept[n_kept] = i
                n_kept += 1
        out = np.concatenate((out, found[kept[:n_kept]]))
    return out


def _starts_032(
    time: NDArray[np.float64], flux: NDArray[np.float64], error: NDArray[np.float64], options: FitOptions
) -> NDArray[np.float64]:
    """t0, tE, u0 as version 0.3.2 finds them."""
    low = options.auto_init_teff_min or 1.0
    high = options.auto_init_teff_max or 1000.0
    count = options.auto_init_teff_grid_n or 25
    ratio = (high / low) ** (1.0 / (count - 1)) if count > 1 else 1.0
    scales = low * ratio ** np.arange(count, dtype=np.float64)
    found = _scan(time, flux, 1.0 / np.maximum(error, 1e-12) ** 2, scales, options.auto_init_dt0_coeff)
    if len(found):
        good = found[:, 3] >= options.auto_init_min_n_eff
        order = np.lexsort((-found[:, 2], -found[:, 3]))
        if good.any():
            found = found[good]
            order = np.argsort(found[:, 2])[::-1]
        found = found[order[: options.auto_init_max_clusters or 1]]
    else:
        teff = min(max(0.1 * (time[-1] - time[0]), low), high)
        found = np.array([[time[np.argmax(flux)], teff, 0.0, 0.0]])
    ends = math.log(options.auto_init_tE_min), math.log(options.auto_init_tE_max)
    grid = (
        np.exp(np.linspace(*ends, options.auto_init_tE_grid_n)) if options.auto_init_tE_grid_n > 1 else None
    )
    times = np.array([options.auto_init_tE_max]) if grid is None else grid
    starts = [
        (t0, tE, teff / tE)
        for t0, teff in found[:, :2]
        for tE in times
        if options.auto_init_u0_min <= teff / tE <= options.auto_init_u0_max
    ]
    if not starts:
        t0, teff = found[0, :2]
        tE = min(max(teff / 0.1, options.auto_init_tE_min), options.auto_init_tE_max)
        starts = [(t0, tE, min(max(teff / tE, options.auto_init_u0_min), options.auto_init_u0_max))]
    return np.array(starts)


def _excess(lag: NDArray[np.float64], u0: float, teff: float) -> NDArray[np.float64]:
    """A - 1 of a point lens without a difference of near equals."""
    q = (u0 * u0) * (1.0 + np.square(lag / teff))
    s = np.sqrt(q * (q + 4.0))
    return 4.0 / (s * (q + 2.0 + s))


def _starts_052(
    time: NDArray[np.float64], flux: NDArray[np.float64], error: NDArray[np.float64], options: FitOptions
) -> NDArray[np.float64]:
    """t0, tE, u0 as version 0.5.2 finds them.

    Where its cells would be too many, which it refuses, they are widened here.
    """
    low = options.auto_init_teff_min or 0.03
    high = options.auto_init_teff_max or 100.0
    scales = np.geomspace(low, high, options.auto_init_teff_grid_n or 24)
    impacts = np.geomspace(options.auto_init_u0_min, options.auto_init_u0_max, options.auto_init_u0_grid_n)
    span = time[-1] - time[0]
    cell = max(options.auto_init_fft_grid_dt, span / (options.auto_init_fft_max_grid_points - 2))
    n = max(math.ceil(span / cell) + 1, 2)
    weight = 1.0 / np.square(error)
    total = weight.sum()
    centred = flux - (weight * flux).sum() / total
    at = np.clip(np.floor((time - time[0]) / cell + 0.5).astype(np.int64), 0, n - 1)
    size = 1 << (3 * n - 3).bit_length()
    of_weight = np.fft.rfft(np.bincount(at, weight, n), size)
    of_flux = np.fft.rfft(np.bincount(at, weight * centred, n), size)
    lag = (np.arange(2 * n - 1) - (n - 1)) * cell
    inside = slice(n - 1, 2 * n - 1)
    found = []
    for u0 in impacts:
        for teff in scales:
            # symmetric, so that convolution is correlation
            template = _excess(lag, u0, teff)
            one = np.fft.rfft(template, size)
            x = np.fft.irfft(of_weight * one, size)[inside]
            xy = np.fft.irfft(of_flux * one, size)[inside]
            square = np.fft.irfft(of_weight * np.fft.rfft(np.square(template), size), size)[inside]
            xx = square - np.square(x) / total
            valid = xx > 1e-12 * max(1.0, np.abs(square).max())
            gain = np.where(valid, np.square(np.maximum(xy, 0.0)) / np.where(valid, xx, 1.0), 0.0)
            best = int(np.argmax(gain))
            if gain[best] > 0:
                found.append((gain[best], time[0] + cell * best, teff / u0, u0))
    found.sort(key=lambda row: -row[0])
    if found:
        return np.array(found)[: options.auto_init_fft_top_k, 1:]
    u0 = math.sqrt(options.auto_init_u0_min * options.auto_init_u0_max)
    return np.array([(time[np.argmax(flux)], math.sqrt(low * high) / u0, u0)])


def original_starts(curves: Curves, options: FitOptions) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Starts of all objects as ``options.start`` has them.

    Parameters
    ----------
    curves : Curves, one data set an object
    options : FitOptions

    Returns
    -------
    starts : float64[n_starts, 3]
        t0 [days of the input], tE [days], u0.
    first : int64[n_objects + 1]
        Starts ``first[k]:first[k + 1]`` belong to object k.

    Raises
    ------
    ParameterError
        If an object has several data sets.
    """
    counts = np.diff(curves.sets)
    if (counts > 1).any():
        at = int(np.argmax(counts > 1))
        raise ParameterError(
            f"start {options.start!r} is for one data set an object, object {at} has {counts[at]}: "
            "use start 'auto'"
        )
    find = _starts_032 if options.start == "0.3.2" else _starts_052
    parts, first = [np.empty((0, 3))], np.zeros(curves.n_objects + 1, np.int64)
    for k in range(curves.n_objects):
        rows = slice(curves.rows[curves.sets[k]], curves.rows[curves.sets[k + 1]])
        if rows.stop - rows.start >= 2:
            parts.append(find(curves.time[rows], curves.flux[rows], curves.error[rows], options))
        first[k + 1] = first[k] + (len(parts[-1]) if rows.stop - rows.start >= 2 else 0)
    return np.concatenate(parts), first
