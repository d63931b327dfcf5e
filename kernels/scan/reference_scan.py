"""The fused scan in plain NumPy: slow and obvious, the standard for the compiled ones."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.curves import Curves
from skytrawl.kernels.scan.calls import values
from skytrawl.kernels.scan.fused import candidates_of
from skytrawl.kernels.scan.seasons import grid_row, season_bounds, season_gap
from skytrawl.kernels.scan.templates import Template
from skytrawl.kernels.scan.templates import bank as templates_of
from skytrawl.kernels.scan.types import ScanGrid, ScanResult

# What `exact` says of equal and of vanishing values, and `peaks` of typical ones, in numbers of its own.
TIE, NOTHING, NO_VARIANCE, CHI2_MEDIAN, PRIOR = 1e-11, 1e-12, 1e-26, 0.454936423119572, 10.0

FloatArray = NDArray[np.float64]


class Points(NamedTuple):
    """The filled grid points of one object in order of season, teff, t0; empty ones are only counted."""

    season: NDArray[np.int64]
    scale: NDArray[np.int64]
    step: NDArray[np.int64]
    on_clock: FloatArray
    t0: FloatArray
    dchi2: FloatArray
    template: NDArray[np.int64]
    sign: NDArray[np.int64]
    n_window: NDArray[np.int64]


def fit(x: FloatArray, y: FloatArray, w: FloatArray) -> tuple[float, float]:
    """Gain of the line ``a x + b`` over a constant, and a."""
    dx, dy = x - np.average(x, weights=w), y - np.average(y, weights=w)
    variance = np.sum(w * dx**2)
    if not variance > NO_VARIANCE * np.sum(w * x**2):
        return 0.0, 0.0
    amplitude = np.sum(w * dx * dy) / variance
    return amplitude**2 * variance, amplitude


def point(
    sets: list[tuple[FloatArray, FloatArray, FloatArray]],
    t0: float,
    half: float,
    teff: float,
    grid: ScanGrid,
    bank: Sequence[Template],
) -> tuple[float, int, int, int] | None:
    """Joint fit at one grid point: dchi2, template, sign and rows; None if no data set has enough rows."""
    inside = []
    for tau, y, w in sets:
        rows = slice(np.searchsorted(tau, t0 - half, side="right"), np.searchsorted(tau, t0 + half))
        if rows.stop - rows.start >= grid.min_points:
            inside.append((tau[rows], y[rows], w[rows]))
    if not inside:
        return None
    best, chosen, sign = -1.0, 0, 0.0
    for t, template in enumerate(bank):
        fits = [fit(values(template, (tau - t0) / teff), y, w) for tau, y, w in inside]
        dchi2 = sum(gain for gain, _ in fits)
        if dchi2 >= best * (1 - TIE):
            best, chosen = dchi2, t
            sign = sum(gain if amplitude > 0 else -gain for gain, amplitude in fits)
    best = best if best > NOTHING else 0.0
    return best, chosen, 1 if sign > 0 else -1, sum(len(tau) for tau, _, _ in inside)


def points_of(
    time: list[FloatArray],
    flux: list[FloatArray],
    error: list[FloatArray],
    grid: ScanGrid,
    bank: Sequence[Template],
) -> tuple[Points, list[tuple[int, int, FloatArray]]]:
    """All filled grid points of one object, and (season, scale, every t0) of each row of the grid."""
    union = np.sort(np.concatenate(time))
    bounds = season_bounds(union, season_gap(grid))
    found: list[tuple[float, ...]] = []
    rows = []
    for s in range(len(bounds) - 1):
        start, end = union[bounds[s]], union[bounds[s + 1] - 1]
        sets = []
        for t, f, e in zip(time, flux, error, strict=True):
            own = (t >= start) & (t <= end)
            if not own.any():
                continue
            tau = t[own] if grid.as_original else t[own] - start
            y = f[own] - np.average(f[own], weights=e[own] ** -2.0)
            equal = np.abs(y).max() <= 1e-14 * np.abs(f[own]).max()
            sets.append((tau, np.zeros_like(y) if equal else y, e[own] ** -2.0))
        for k, teff in enumerate(grid.teff):
            base, delta, count, half = grid_row(
                start, end, teff, grid.dt0_coeff, grid.teff_coeff, grid.as_original
            )
            on_clock = base + np.arange(count) * delta
            rows.append((s, k, on_clock))
            for i, t0 in enumerate(on_clock):
                fitted = point(sets, t0, half, teff, grid, bank)
                if fitted is not None:
                    found.append((s, k, i, t0, start + i * delta, *fitted))
    table = np.array(found).reshape(-1, 9).T
    season, scale, step, template, sign, n_window = table[[0, 1, 2, 6, 7, 8]].astype(np.int64)
    return Points(season, scale, step, table[3], table[4], table[5], template, sign, n_window), rows


def best_of(ratio: FloatArray, candidates: NDArray[np.bool_]) -> int:
    """Index of the first of the largest values among the candidates; -1 without any above 0."""
    if not candidates.any() or ratio[candidates].max() <= 0:
        return -1
    return int(np.flatnonzero(candidates & (ratio >= ratio[candidates].max() * (1 - TIE)))[0])


def noise_levels(points: Points, grid: ScanGrid) -> FloatArray:
    """`ScanResult.noise` of one object."""
    noise = np.ones(len(grid.teff))
    for k in range(len(noise)):
        sizes = points.dchi2[(points.scale == k) & (points.dchi2 > 0)]
        if len(sizes):
            windows = len(sizes) * grid.dt0_coeff / (2 * grid.teff_coeff)
            noise[k] = (windows * max(1.0, np.median(sizes) / CHI2_MEDIAN) + PRIOR) / (windows + PRIOR)
    return noise


def clusters_of(points: Points, rows: list[tuple[int, int, FloatArray]], grid: ScanGrid, k: int) -> list[int]:
    """Greedy clusters of all seasons, the K best of them."""
    teff = np.array(grid.teff)
    chosen: list[int] = []
    for s in sorted({row[0] for row in rows}):
        left = points.season == s
        grid_left = [np.ones(len(row[2]), bool) for row in rows]
        while (i := best_of(points.dchi2, left)) >= 0:
            chosen.append(i)
            t0, its = points.on_clock[i], teff[points.scale[i]]
            left &= ~(np.abs(points.on_clock - t0) < grid.overlap * (teff[points.scale] + its))
            for mask, (_, scale, on_clock) in zip(grid_left, rows, strict=True):
                mask &= ~(np.abs(on_clock - t0) < grid.overlap * (teff[scale] + its))
            if sum(mask.sum() for mask, row in zip(grid_left, rows, strict=True) if row[0] == s) < 3:
                break
    return sorted(chosen, key=lambda i: -points.dchi2[i])[:k]


def scan(curves: Curves, grid: ScanGrid, bank: Sequence[str | Template], k: int = 10) -> ScanResult:
    """Scan a block of curves; see `skytrawl.kernels.scan.scan`."""
    templates = templates_of(bank)
    n = curves.n_objects
    number = np.zeros((n, k + 2, 6), np.int64)
    number[:, :, :4] = -1
    t0, dchi2 = np.full((n, k + 2), np.nan), np.full((n, k + 2), np.nan)
    noise, sizes = np.ones((n, len(grid.teff))), np.zeros((n, 3), np.int64)
    for o in range(n):
        bounds = [slice(*curves.rows[d : d + 2]) for d in range(curves.sets[o], curves.sets[o + 1])]
        if not bounds:
            continue
        time, flux, error = ([column[b] for b in bounds] for column in curves[:3])
        points, rows = points_of(time, flux, error, grid, templates)
        sizes[o] = len({row[0] for row in rows}), sum(len(row[2]) for row in rows), len(points.t0)
        noise[o] = noise_levels(points, grid)
        places = list(enumerate(clusters_of(points, rows, grid, k)))
        for p, sign in enumerate((1, -1)):
            places.append((k + p, best_of(points.dchi2 / noise[o][points.scale], points.sign == sign)))
        for place, i in places:
            if i >= 0:
                record = (
                    points.season,
                    points.scale,
                    points.step,
                    points.template,
                    points.sign,
                    points.n_window,
                )
                number[o, place] = [column[i] for column in record]
                t0[o, place], dchi2[o, place] = points.t0[i], points.dchi2[i]
    teff = np.array(grid.teff)
    top = candidates_of(number[:, :k], t0[:, :k], dchi2[:, :k], teff)
    extreme = candidates_of(number[:, k:], t0[:, k:], dchi2[:, k:], teff)
    return ScanResult(top, extreme, noise, *sizes.T.copy())
