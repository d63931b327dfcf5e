"""Parity of the grid scan with jacscanomaly on fixed residuals of 38 light curves.

The residuals are those of the PSPL parameters in the reference, which have ten digits. Half a unit of the
last one moves the residuals by `slack` sigma in all (norm over the rows), and a dchi2 by at most
``2 sqrt(dchi2) slack + slack^2``.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.kernels.curves import Curves, prepare
from skytrawl.kernels.scan.clusters import Clusters, clusters
from skytrawl.kernels.scan.cpu_grid import GridMetrics, grid_metrics
from skytrawl.kernels.scan.scores import score_032, score_052
from skytrawl.kernels.scan.seasons import season_bounds
from skytrawl.kernels.scan.template_free import KINDS, TemplateFreeOptions, template_free
from skytrawl.kernels.scan.types import ScanGrid

PUBLIC = (
    "roman_sim_0000", "wfirst_1827", "ob05086_ogle", "ob08092_o4", "ob140939_ogle", "ob03235_ogle",
    "ob161195_kct01", "ob161195_ksa01", "ob150966_ogle", "survey_1", "survey_parallax", "ob190033_ogle",
    "rt_event001_a", "rt_astroevent001_roman",
)  # fmt: skip
SIMULATED = tuple(f"sim_{k:02d}" for k in range(24))
# Whole-grid comparisons that take more than a second, and more of the same.
SLOW = ("roman_sim_0000", "wfirst_1827", "ob150966_ogle", *SIMULATED[2:])
# NumPy's vectorised power may differ from that of Python by one unit in the last place.
TEFF = tuple(0.03 * np.power(4.0 / 3.0, np.arange(24)))
GRID = ScanGrid(teff=TEFF, as_original=True)
WINDOWS = json.loads((Path(__file__).parent / "jacscanomaly_template_free.json").read_text())


@dataclass
class Event:
    """A fixed residual, what jacscanomaly 0.3.2 and 0.5.2 said of it, and what we say."""

    reference: dict[str, Any]
    newer: dict[str, Any]
    curves: Curves
    slack: float
    metrics: GridMetrics
    clusters: Clusters


@pytest.fixture(scope="module")
def events(reference_data: Path) -> Any:
    folder = reference_data / "microlensing"
    versions = json.loads((folder / "reference_jacscanomaly.json").read_text())["versions"]
    simulated = dict(np.load(folder / "sim_season72d.npz"))

    @cache
    def event(name: str) -> Event:
        if name in SIMULATED:
            k = int(name[4:])
            time, flux, error = (simulated[c].astype(float) for c in ("time", "flux", "ferr"))
            flux, error = flux[k], error[k]
        else:
            time, flux, error = np.load(folder / f"{name}.npy").T.copy()
        reference = versions["0.3.2"][name]
        model = pspl(time, reference["pspl"])
        moved = np.zeros(len(time))
        for key in ("t0", "tE", "u0", "fs", "fb"):
            value = reference["pspl"][key]
            other = reference["pspl"] | {key: value + 0.5 * 10.0 ** (np.floor(np.log10(abs(value))) - 9)}
            moved += np.abs(pspl(time, other) - model)
        offsets, band = np.array([0, len(time)]), np.zeros(len(time), int)
        curves, _ = prepare(time, flux - model, error, band, offsets)
        metrics = grid_metrics(curves, GRID, weighted=False)
        slack = float(np.linalg.norm(moved / error))
        return Event(reference, versions["0.5.2"][name], curves, slack, metrics, clusters(metrics))

    return event


def pspl(time: np.ndarray, p: dict[str, float]) -> np.ndarray:
    u = np.maximum(np.sqrt(((time - p["t0"]) / p["tE"]) ** 2 + p["u0"] ** 2), 1e-12)
    return p["fs"] * ((u * u + 2) / (u * np.sqrt(u * u + 4))) + p["fb"]


@pytest.mark.parametrize("name", PUBLIC + SIMULATED)
def test_published_numbers(events: Any, name: str) -> None:
    event = events(name)
    found, taken, wanted = event.metrics, event.clusters, event.reference

    def close(value: float, dchi2: float) -> bool:
        return abs(value - dchi2) <= 2 * np.sqrt(dchi2) * event.slack + event.slack**2 + 1e-8 * max(dchi2, 1)

    assert found.runs.n_grid().sum() == wanted["summary"]["n_grid_total"]
    assert found.n_window.sum() == wanted["grid_sum_n_window"]
    assert np.sum(found.dchi2) == pytest.approx(wanted["grid_sum_dchi2"], rel=1e-5)
    t0, teff = found.t0, found.teff
    for _, at, scale, dchi2, n_window, *_ in wanted.get("grid_samples", []):
        near = np.flatnonzero((abs(t0 - at) < 1e-3 * scale) & (abs(teff / scale - 1) < 1e-8))
        assert len(near) == (n_window > 0)
        if n_window > 0:
            assert found.n_window[near[0]] == n_window
            assert close(found.dchi2[near[0]], dchi2)
    for season, (start, end, n_grid, n_clusters) in enumerate(wanted.get("seasons", [])):
        assert found.runs.start[season] == pytest.approx(start, rel=1e-9)
        assert found.runs.end[season] == pytest.approx(end, rel=1e-9)
        assert found.runs.n_grid()[season] == n_grid
        # theirs still hold clusters of empty points here
        assert np.sum(taken.season == season) <= n_clusters
    assert len(taken.t0) == wanted["summary"]["n_clusters"]
    best = taken.best(5)
    for k, (at, scale, dchi2) in enumerate(wanted["top_clusters"]):
        assert best.t0[k] == pytest.approx(at, rel=1e-9)
        assert best.teff[k] == pytest.approx(scale, rel=1e-9)
        assert close(best.dchi2[k], dchi2)
    scores = score_032(taken)
    for mine, theirs in (
        (scores.score, "score"),
        (scores.median, "med_others"),
        (scores.scale, "std_others"),
    ):
        assert mine[0] == pytest.approx(wanted["best"][theirs], rel=1e-3)
    here = wanted["summary"]
    point = best.point[0]
    assert found.n_window[point] == here["best_n_window"]
    assert found.n_contrib[point] == here["best_n_contrib"]
    assert found.longest_run[point] == here["best_longest_run"]
    for column in ("n_eff", "peak_frac", "rho1"):
        assert getattr(found, column)[point] == pytest.approx(here[f"best_{column}"], rel=1e-3, abs=1e-5)
    # 0.5.2 has its own fit, whose residuals differ a little
    newer = score_052(taken)
    assert newer.score[0] == pytest.approx(event.newer["best"]["score"], rel=2e-3)
    assert newer.n_reference[0] == event.newer["summary"]["best_score_n_reference"]


@pytest.mark.parametrize("name", PUBLIC + SIMULATED)
def test_weighted_quality(events: Any, name: str) -> None:
    event = events(name)
    found, wanted = grid_metrics(event.curves, GRID), event.reference["best_weighted_quality"]
    point = event.clusters.best(1).point[0]
    for column in ("template", "n_window", "n_contrib", "longest_run"):
        assert getattr(found, column)[point] == wanted[column], column
    for column, key in (
        ("n_eff",) * 2,
        ("peak_frac",) * 2,
        ("rho1",) * 2,
        ("amplitude", "amp"),
        ("base",) * 2,
    ):
        assert getattr(found, column)[point] == pytest.approx(wanted[key], rel=1e-3, abs=1e-5), column


@pytest.mark.parametrize("name", PUBLIC + SIMULATED)
@pytest.mark.parametrize("options", WINDOWS["options"])
def test_windows_without_templates(events: Any, name: str, options: str) -> None:
    found = template_free(events(name).curves, TemplateFreeOptions(**WINDOWS["options"][options]))
    wanted = WINDOWS["events"][name][options]
    assert len(found.kind) == len(wanted)
    for k, (kind, season, first, last, chi2, size, seed_first, seed_last, seed_chi2) in enumerate(wanted):
        place = (KINDS[found.kind[k]], found.season[k], found.start[k], found.stop[k] - 1)
        assert place == (kind, season, first, last)
        assert found.chi2[k] == pytest.approx(chi2, rel=1e-9)
        assert found.max_abs_z[k] == pytest.approx(size, rel=1e-9)
        if seed_first is not None:
            assert (found.seed_start[k], found.seed_stop[k] - 1) == (seed_first, seed_last)
            assert found.seed_chi2[k] == pytest.approx(seed_chi2, rel=1e-9)


@pytest.mark.parametrize("name", ["ob03235_ogle", "ob161195_kct01", "survey_1", "sim_01"])
@pytest.mark.parametrize(("days", "unit"), [(2450000.0, 1.0), (0.0, 1e11), (2450000.0, 1e-11)])
def test_days_and_units_change_nothing(events: Any, name: str, days: float, unit: float) -> None:
    curves, grid = events(name).curves, ScanGrid()
    one = grid_metrics(curves, grid)
    other = grid_metrics(
        curves._replace(time=curves.time + days, flux=curves.flux * unit, error=curves.error * unit), grid
    )
    for column in ("season", "scale", "step", "n_window", "n_contrib", "longest_run"):
        np.testing.assert_array_equal(getattr(one, column), getattr(other, column), err_msg=column)
    for column in ("dchi2", "n_eff", "peak_frac", "rho1"):
        mine, theirs = getattr(one, column), getattr(other, column)
        assert np.max(np.abs(mine - theirs) / np.maximum(1.0, np.abs(mine))) < 1e-6, column
    np.testing.assert_array_equal(clusters(one).point, clusters(other).point)
    for score in (score_032, score_052):
        assert score(clusters(one)).score[0] == pytest.approx(score(clusters(other)).score[0], rel=1e-6)


def exact(event: Event, point: int) -> float:
    """The dchi2 of one point in 80-bit arithmetic."""
    wide = np.longdouble
    t0, teff = event.metrics.t0[point], event.metrics.teff[point]
    inside = (event.curves.time > t0 - 3 * teff) & (event.curves.time < t0 + 3 * teff)
    x = (event.curves.time[inside].astype(wide) - wide(t0)) / wide(teff)
    y, w = event.curves.flux[inside].astype(wide), 1 / event.curves.error[inside].astype(wide) ** 2
    q = 1 + x * x
    gains = []
    for f in (1 / np.sqrt(q), (q + 2) / np.sqrt(q * (q + 4))):
        f, r = f - np.sum(w * f) / np.sum(w), y - np.sum(w * y) / np.sum(w)
        gains.append(np.sum(w * f * r) ** 2 / np.sum(w * f * f))
    return float(max(gains))


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.acceptance if n in SLOW else ()) for n in PUBLIC + SIMULATED],
)
def test_every_point_of_the_compiled_original(events: Any, name: str) -> None:
    """Gains equal to 1e-9, and to the rounding of the original, which subtracts two chi-squares."""
    compiled = pytest.importorskip("jacscanomaly._cpp_grid")
    event = events(name)
    found, curves = event.metrics, event.curves
    weight = 1.0 / curves.error**2
    bounds = season_bounds(curves.time, 100.0)
    t0, season = found.t0, found.season
    theirs_taken = []
    for s in range(len(bounds) - 1):
        rows = slice(bounds[s], bounds[s + 1])
        time = curves.time[rows]
        parts = [np.arange(time[0], time[-1], 0.17 * teff) for teff in TEFF] if len(time) > 1 else []
        if not parts:
            continue
        at, teff = np.concatenate(parts), np.repeat(TEFF, [len(p) for p in parts])
        dchi2, n_window, *rest = compiled.run_grid(time, curves.flux[rows], weight[rows], at, teff)
        filled, mine = n_window > 0, np.flatnonzero(season == s)
        np.testing.assert_array_equal(at[filled], t0[mine])
        np.testing.assert_array_equal(n_window[filled], found.n_window[mine])
        for column, values in zip(
            ("n_contrib", "n_eff", "peak_frac", "rho1", "longest_run"), rest, strict=True
        ):
            np.testing.assert_allclose(getattr(found, column)[mine], values[filled], rtol=1e-7, atol=1e-7)
        if len(mine):
            difference = np.abs(found.dchi2[mine] - dchi2[filled])
            # the chi-square of a window, from which the original subtracts another
            centred = curves.flux[rows] - np.average(curves.flux[rows], weights=weight[rows])
            total = np.concatenate([[0.0], np.cumsum(weight[rows] * centred**2)])
            lo = np.searchsorted(time, at[filled] - 3 * teff[filled], side="right")
            chi2 = total[lo + found.n_window[mine]] - total[lo]
            assert (difference <= 1e-9 * dchi2[filled] + 1e-13 * chi2).all()
            for k in np.argsort(-difference / dchi2[filled])[:3]:
                assert found.dchi2[mine[k]] == pytest.approx(exact(event, mine[k]), rel=1e-10)
        taken = compiled.extract_clusters(at, teff, dchi2, sigma_overlap=3.0, min_points=3)
        theirs_taken.append(taken[taken[:, 2] != 0])
    theirs = np.concatenate(theirs_taken)
    np.testing.assert_array_equal(np.stack([event.clusters.t0, event.clusters.teff], 1), theirs[:, :2])
    np.testing.assert_allclose(event.clusters.dchi2, theirs[:, 2], rtol=1e-9)


@pytest.mark.parametrize("name", PUBLIC)
def test_score_of_the_installed_version(events: Any, name: str) -> None:
    """The score function of 0.5.2 itself, on the same clusters."""
    finder = pytest.importorskip("jacscanomaly.finder")
    config = pytest.importorskip("jacscanomaly.config")
    models = pytest.importorskip("jacscanomaly.models")
    taken, runs = events(name).clusters, events(name).metrics.runs
    table = np.stack([taken.t0, taken.teff, taken.dchi2], axis=1)
    seasons = [
        models.SeasonSummary(
            season_idx=s, t_start=runs.start[s], t_end=runs.end[s], n_grid=0, clusters=table,
            grid_metrics=np.zeros((0, 9)),
        )
        for s in range(len(runs.start))
    ]  # fmt: skip
    for options in ({}, {"teff_ratio": 1.2, "min_reference_clusters": 20, "upper_clip_sigma": 2.0}):
        theirs = finder.Finder(config.FinderConfig(**{f"best_score_{k}": v for k, v in options.items()}))
        wanted = theirs._pick_best_candidate(table, np.zeros((0, 9)), seasons=seasons)
        found = score_052(taken, **options)
        assert found.score[0] == pytest.approx(wanted.score, rel=1e-12)
        assert found.n_reference[0] == wanted.n_score_reference
