"""Metrics, clusters and windows in plain NumPy: slow and obvious, for the tests of the compiled versions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.scan.seasons import EDGE, season_gap
from skytrawl.kernels.scan.template_free import TemplateFreeOptions
from skytrawl.kernels.scan.templates import Template
from skytrawl.kernels.scan.types import ScanGrid

Array = NDArray[np.float64]


def seasons(time: Array, gap: float) -> list[slice]:
    """Rows of each season of ascending times."""
    if len(time) == 0:
        return []
    breaks = np.flatnonzero(np.diff(time) > gap) + 1
    return [slice(a, b) for a, b in zip([0, *breaks], [*breaks, len(time)], strict=True)]


def grid_of(time: Array, grid: ScanGrid, teff: float) -> tuple[Array, Array]:
    """Times of one season on its clock, and the t0 of one teff."""
    step = grid.dt0_coeff * teff
    if grid.as_original:
        return time, np.arange(time[0], time[-1], step) if time[0] < time[-1] else np.zeros(0)
    return time - time[0], np.arange(max(0, np.ceil((time[-1] - time[0] - EDGE) / step))) * step


def point(
    x: Array, flux: Array, error: Array, bank: Sequence[Template], weighted: bool, sigma: float
) -> dict:
    """Everything about one window; x = (t - t0) / teff of its rows."""
    w = error**-2.0
    flat = flux - np.average(flux, weights=w)
    best: dict = {"dchi2": -1.0}
    for j, template in enumerate(bank):
        f = np.array([template.function(value) for value in x])
        centred = f - np.average(f, weights=w)
        variance = np.sum(w * centred**2)
        # a template that is constant up to rounding fits nothing
        usable = variance > 1e-24 * np.sum(w * f**2)
        amplitude = np.sum(w * centred * flat) / variance if usable else 0.0
        dchi2 = np.sum(w * flat**2) - np.sum(w * (flat - amplitude * centred) ** 2)
        # equal up to rounding: the last counts
        if max(dchi2, 0.0) >= best["dchi2"] * (1.0 - 1e-11):
            best = {"dchi2": max(dchi2, 0.0), "template": j, "amplitude": amplitude}
            best["base"] = np.average(flux - amplitude * f, weights=w)
            d = (w if weighted else 1.0) * (flat**2 - (flat - amplitude * centred) ** 2)
    u = np.maximum(d, 0.0)
    hits = "".join("x" if hit else " " for hit in u > sigma**2)
    rest = d - d.mean()
    return best | {
        "n_window": len(x),
        "n_contrib": int(np.sum(u > sigma**2)),
        "n_eff": u.sum() ** 2 / np.sum(u**2) if u.any() else 0.0,
        "peak_frac": u.max() / u.sum() if u.any() else 0.0,
        "rho1": np.mean(rest[:-1] * rest[1:]) / np.mean(rest**2) if rest.any() else 0.0,
        "longest_run": max(map(len, hits.split()), default=0),
    }


def metrics(
    time: Array, flux: Array, error: Array, grid: ScanGrid, bank: Sequence[Template],
    weighted: bool = True, sigma: float = 3.0,
) -> list[dict]:  # fmt: skip
    """Points of one light curve that hold data, in the order of the grid."""
    found = []
    for season, rows in enumerate(seasons(time, season_gap(grid))):
        for scale, teff in enumerate(grid.teff):
            tau, t0 = grid_of(time[rows], grid, teff)
            origin = time[rows][0] - tau[0]
            half = grid.teff_coeff * teff - (0.0 if grid.as_original else EDGE)
            for step, centre in enumerate(t0):
                inside = (tau > centre - half) & (tau < centre + half)
                if inside.sum() >= grid.min_points:
                    x = (tau[inside] - centre) / teff
                    here = point(x, flux[rows][inside], error[rows][inside], bank, weighted, sigma)
                    place = {
                        "season": season,
                        "scale": scale,
                        "step": step,
                        "teff": teff,
                        "t0": origin + centre,
                    }
                    found.append(place | here)
    return found


def clusters(t0: Array, teff: Array, dchi2: Array, overlap_sigma: float, min_points: int) -> list[int]:
    """Clusters with a gain among all points of the grid of a season, empty ones too."""
    found: list[int] = []
    left = np.ones(len(t0), bool)
    while left.any():
        best = int(np.argmax(np.where(left, dchi2, -1.0)))
        found += [best] if dchi2[best] > 0 else []
        left &= ~(np.abs(t0 - t0[best]) < overlap_sigma * (teff + teff[best]))
        if left.sum() < min_points:
            break
    return found


def _apart(windows: list[tuple], limit: float) -> list[tuple]:
    """Windows (chi2, start, stop, ...), largest first, none overlapping one before."""
    kept: list[tuple] = []
    for window in sorted(windows, key=lambda w: -w[0]):
        if len(kept) < limit and not any(window[1] < k[2] and k[1] < window[2] for k in kept):
            kept.append(window)
    return kept


def template_free(time: Array, z: Array, options: TemplateFreeOptions) -> list[tuple]:
    """Windows (chi2, start, stop, kind, season) of one data set, largest first."""
    o = options
    lists: list[list[tuple]] = [[], [], []]
    for season, rows in enumerate(seasons(time, o.gap)):
        begin, n = rows.start, rows.stop - rows.start
        total = np.concatenate([[0.0], np.cumsum(z[rows] ** 2)])
        width = o.fixed_window_points
        windows = [(total[i + width] - total[i], i, i + width) for i in range(n - width + 1)]

        def densest(lo: int, hi: int, start: int, stop: int, total: Array = total) -> tuple | None:
            longest = hi if o.reduced_max_points is None else max(o.reduced_min_points, o.reduced_max_points)
            stretches = [
                ((total[b] - total[a]) / (b - a), a, b)
                for a in range(lo, hi)
                for b in range(a + o.reduced_min_points, min(hi, a + longest) + 1)
                if b > start and a < stop
            ]
            return max(stretches, key=lambda s: s[0], default=None)

        high = [w for w in windows if w[0] >= o.fixed_chi2_threshold]
        fixed = sorted(_apart(high, o.max_candidates_per_season), key=lambda w: w[1])
        lists[0] += [(w[0], begin + w[1], begin + w[2], "fixed", season) for w in fixed]
        low = [w for w in windows if o.hybrid_seed_chi2_threshold <= w[0] < o.fixed_chi2_threshold]
        for _, start, stop in _apart(low, o.max_candidates_per_season):
            reach = o.hybrid_extension_points
            best = densest(max(0, start - reach), min(n, stop + reach), start, stop)
            if best is not None and best[0] >= o.hybrid_reduced_chi2_threshold:
                _, a, b = best
                lists[1].append((total[b] - total[a], begin + a, begin + b, "hybrid", season))
        best = densest(0, n, 0, n) if o.run_blind_reduced_chi2 else None
        if best is not None:
            _, a, b = best
            lists[2].append((total[b] - total[a], begin + a, begin + b, "blind_reduced", season))
    return _apart([*lists[0], *lists[1], *lists[2]], np.inf)
