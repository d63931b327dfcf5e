"""How often the scans cry wolf, and what they find: simulated events with known noise.

A cell is one of three cadences with one of three noises. Null curves are single-lens events, which are fitted
and whose residuals are scanned, as those of a survey are; binary events are made with VBMicrolensing.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from skytrawl.catalogs import scan_null
from skytrawl.catalogs import simulate_visits as visits
from skytrawl.kernels import lens, scan
from skytrawl.kernels.curves import Curves, prepare
from skytrawl.kernels.lens.vbm import binary_magnification
from skytrawl.kernels.scan import signs
from skytrawl.kernels.scan.clusters import clusters
from skytrawl.kernels.scan.cpu_grid import grid_metrics
from skytrawl.kernels.scan.scores import score_032, score_052

CADENCES = ("dense", "kmt", "ztf")
NOISES = ("white", "ou", "understated")
CELLS = tuple((cadence, noise) for cadence in CADENCES for noise in NOISES)
DENSE_POINTS, DENSE_DAYS = 5000, 72.0
OU_SHARE, OU_TAU, UNDERSTATED = 0.3, 1.0, 1.3


def times(cadence: str, generator: np.random.Generator) -> np.ndarray:
    """Times of one light curve in days: every object has its own part of the exposures."""
    if cadence == "dense":
        return np.sort(generator.uniform(0.0, DENSE_DAYS, DENSE_POINTS))
    if cadence == "kmt":
        # One season of the I band in a field with an exposure an hour, a fourth of the densest.
        seen = visits.kmt(generator, 0, 1.0, 0.0)
        every = np.sort(seen.time[seen.band == 1])[int(generator.integers(4)) :: 4]
    else:
        seen = visits.ztf(generator, 0, 5.0, 0.0)
        every = np.sort(seen.time[seen.band == 1])
    return every[generator.random(len(every)) < generator.beta(8.0, 2.0)]


def noise_of(kind: str, time: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Noise in units of the stated errors."""
    white = generator.standard_normal(len(time))
    if kind == "understated":
        return UNDERSTATED * white
    if kind == "white":
        return white
    decay = np.exp(-np.diff(time) / OU_TAU)
    kicks = generator.standard_normal(len(time))
    state = np.empty(len(time))
    state[0] = kicks[0]
    for i in range(1, len(time)):
        state[i] = decay[i - 1] * state[i - 1] + np.sqrt(1 - decay[i - 1] ** 2) * kicks[i]
    return white + OU_SHARE * state


def magnification(time: np.ndarray, t0: float, t_e: float, u0: float) -> np.ndarray:
    """Magnification of a point source by a point lens."""
    u2 = ((time - t0) / t_e) ** 2 + u0**2
    return (u2 + 2) / np.sqrt(u2 * (u2 + 4))


def event(time: np.ndarray, generator: np.random.Generator) -> tuple[float, float, float]:
    """t0, tE and u0 of an event that the exposures see."""
    for _ in range(10_000):
        t0 = float(time[generator.integers(len(time))])
        t_e = float(20 * np.exp(0.6 * generator.standard_normal()))
        u0 = float(generator.uniform(0.02, 0.7))
        near = np.abs(time - t0) < 0.5 * t_e
        if near.sum() >= 8 and (time[near] < t0).any() and (time[near] > t0).any():
            return t0, t_e, u0
    raise RuntimeError("no event fits the exposures")


def errors(model: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Standard errors: 2 % of the baseline, photon noise of the light, seeing that comes and goes."""
    return 0.02 * np.sqrt(model) * np.exp(0.2 * generator.standard_normal(len(model)))


def null_curves(cadence: str, noise: str, count: int, seed: int) -> tuple[Curves, np.ndarray]:
    """Single-lens events of one cell, and their true t0, tE, u0 as float64[count, 3]."""
    numbers = (CADENCES.index(cadence), NOISES.index(noise))
    t, f, e, truth = [], [], [], []
    for i in range(count):
        generator = np.random.default_rng([seed, *numbers, i])
        time = times(cadence, generator)
        lens = event(time, generator)
        share = generator.uniform(0.3, 1.0)
        model = 1 + share * (magnification(time, *lens) - 1)
        error = errors(model, generator)
        t.append(time)
        e.append(error)
        f.append(model + error * noise_of(noise, time, generator))
        truth.append(lens)
    return joined(t, f, e), np.array(truth)


def joined(time: list[np.ndarray], flux: list[np.ndarray], error: list[np.ndarray]) -> Curves:
    """One data set an object."""
    offsets = np.concatenate(([0], np.cumsum([len(x) for x in time]))).astype(np.int64)
    band = np.zeros(offsets[-1], np.int64)
    return prepare(np.concatenate(time), np.concatenate(flux), np.concatenate(error), band, offsets)[0]


def binary_curves(cadence: str, noise: str, count: int, seed: int) -> tuple[Curves, np.ndarray]:
    """Events of a star with a planet, of one cell, and the strength of each anomaly.

    The source aims at the planetary caustic, as in `simulate_curves.draw_planet`. The errors are scaled such
    that chi-square of the best single lens, without noise, is the strength: 20 to 1000, uniform in log.
    """
    numbers = (CADENCES.index(cadence), NOISES.index(noise))
    t, f, e, strengths = [], [], [], []
    for i in range(count):
        generator = np.random.default_rng([seed, 1, *numbers, i])
        strength = float(np.exp(generator.uniform(np.log(20.0), np.log(1000.0))))
        for _ in range(200):
            time = times(cadence, generator)
            model = planet(time, generator)
            error = errors(model, generator)
            bare = joined([time], [model], [error])
            factor = np.sqrt(float(lens.fit(bare).chi2[0]) / strength)
            # Errors of 0.1 to 10 % of the baseline.
            if 0.05 < factor < 5.0:
                break
        else:
            raise RuntimeError("no planet fits the exposures")
        t.append(time)
        e.append(error * factor)
        f.append(model + e[-1] * noise_of(noise, time, generator))
        strengths.append(strength)
    return joined(t, f, e), np.array(strengths)


def planet(time: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Light of a star with a planet: s of 0.6 to 1.7, q of 1e-4 to 1e-2, rho of 1e-3."""
    t0, t_e, u0 = event(time, generator)
    s = 10 ** generator.uniform(np.log10(0.6), np.log10(1.7))
    q = 10 ** generator.uniform(-4.0, -2.0)
    caustic = s - 1 / s - s * q / (1 + q)
    missed = generator.uniform(-1.0, 1.0) * np.sqrt(q)
    # The track crosses the axis at u0 / sin(alpha).
    sine = np.clip((u0 + missed) / caustic, -1.0, 1.0) if caustic else 1.0
    alpha = float(np.arcsin(sine)) + (np.pi if generator.random() < 0.5 else 0.0)
    share = generator.uniform(0.3, 1.0)
    light = binary_magnification(time, float(s), float(q), u0, alpha, 1e-3, t_e, t0)
    return np.asarray(1 + share * (light - 1))


@dataclass
class Measured:
    """What the scans say of some curves: arrays with the objects first."""

    statistic: np.ndarray
    features: np.ndarray
    dchi2: np.ndarray

    @classmethod
    def joined(cls, parts: list[Measured]) -> Measured:
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    def part(self, chosen: np.ndarray) -> Measured:
        return Measured(*(getattr(self, f.name)[chosen] for f in fields(self)))


def residuals(curves: Curves) -> Curves:
    """Fit a single lens to each curve and take it off."""
    return curves.with_flux(lens.residual(curves, lens.fit(curves)))


def measure(curves: Curves) -> Measured:
    """Scan the residuals of single-lens fits, as the jobs do."""
    residual = residuals(curves)
    result = scan.scan(residual, scan.ScanGrid(), k=1, backend="cpu")
    # The bare statistic is the largest dchi2 of all.
    return Measured(scan_null.statistic(result), scan_null.features(residual, result), result.top.dchi2[:, 0])


def _null_part(job: tuple[str, str, int, int]) -> Measured:
    return measure(null_curves(*job)[0])


def _score_part(job: tuple[str, str, int, int]) -> np.ndarray:
    return original_scores(null_curves(*job)[0])


def _binary_part(job: tuple[str, str, int, int]) -> tuple[Measured, np.ndarray, np.ndarray]:
    curves, strength = binary_curves(*job)
    return measure(curves), original_scores(curves), strength


def sign_part(job: tuple[str, str, int, int]) -> np.ndarray:
    """Probabilities of single curves without anomaly from 50 copies each, float64[n_objects, 2]."""

    def scanned(curves: Curves, grid: scan.ScanGrid) -> scan.ScanResult:
        return scan.scan(curves, grid, k=1, backend="cpu")

    curves = residuals(null_curves(*job)[0])
    found = []
    for k, (a, b) in enumerate(zip(curves.rows[:-1], curves.rows[1:], strict=True)):
        one = joined([curves.time[a:b]], [curves.flux[a:b]], [curves.error[a:b]])
        found.append(signs.sign_null(one, scan.ScanGrid(), scanned, 50, k).fap)
    return np.array(found)


def in_parts(function: Callable[..., Any], jobs: list[Any], processes: int) -> list[Any]:
    """Results of all jobs, in order."""
    if processes == 1:
        return [function(job) for job in jobs]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(function, jobs))


def null_cells(count: int, seed: int, processes: int = 1, part: int = 200) -> list[Measured]:
    """`count` null curves of each cell, in order of `CELLS`."""
    parts = max(1, count // part)
    jobs = [(*cell, count // parts, seed + k) for cell in CELLS for k in range(parts)]
    found = in_parts(_null_part, jobs, processes)
    return [Measured.joined(found[i * parts : (i + 1) * parts]) for i in range(len(CELLS))]


def leave_one_out(cells: list[Measured], seed: int = 0) -> list[np.ndarray]:
    """False-alarm probabilities from the null of all cells together, without the object itself."""
    whole = Measured.joined(cells)
    hashes = np.random.default_rng(seed).permutation(len(whole.dchi2)).astype(np.uint64)
    null = null_of(cells, hashes)
    found, _ = null.fap(whole.statistic, whole.features, hashes)
    return np.split(found, np.cumsum([len(cell.dchi2) for cell in cells])[:-1])


def null_of(cells: list[Measured], hashes: np.ndarray | None = None) -> scan_null.Null:
    """The null of a survey that mixes all cells."""
    whole = Measured.joined(cells)
    if hashes is None:
        hashes = np.arange(len(whole.dchi2), dtype=np.uint64)
    return scan_null.Null.from_sample(
        scan_null.sample_of(hashes, whole.statistic, whole.features, len(hashes))
    )


def split_rates(cells: list[Measured], level: float = 0.05) -> np.ndarray:
    """Rates of bumps and dips below `level`, one half of each cell tested by the other's null; both ways."""
    rates = np.zeros((len(cells), 2))
    halves = [[cell.part(np.arange(len(cell.dchi2)) % 2 == k) for cell in cells] for k in (0, 1)]
    for built, tested in (halves, halves[::-1]):
        null = null_of(built)
        for i, cell in enumerate(tested):
            rates[i] += (null.fap(cell.statistic, cell.features)[0] < level).mean(axis=0) / 2
    return rates


def original_scores(curves: Curves) -> np.ndarray:
    """Scores of the best cluster as jacscanomaly 0.3.2 and 0.5.2 make them, float64[n_objects, 2]."""
    residual = residuals(curves)
    metrics = grid_metrics(residual, scan.ScanGrid())
    found = clusters(metrics)
    both = np.stack([score_032(found).score, score_052(found).score], axis=1)
    return np.nan_to_num(both, nan=0.0)
