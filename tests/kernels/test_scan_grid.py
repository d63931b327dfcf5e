"""Grid metrics, clusters and scores against plain NumPy, and on faulty curves."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skytrawl.errors import ParameterError
from skytrawl.kernels.curves import Curves, prepare
from skytrawl.kernels.scan import reference
from skytrawl.kernels.scan.clusters import Clusters, clusters
from skytrawl.kernels.scan.cpu_grid import GridMetrics, grid_metrics
from skytrawl.kernels.scan.cpu_window import rsqrt
from skytrawl.kernels.scan.scores import CandidateCriteria, score_032, score_052
from skytrawl.kernels.scan.seasons import filled_ranges, merge_ranges
from skytrawl.kernels.scan.templates import BELLS, Template, bank, template
from skytrawl.kernels.scan.types import ScanGrid, teff_series

from .conftest import examples

SMALL = ScanGrid(teff=(0.5, 1.1, 4.0), gap=30.0)
REALS = ("t0", "teff", "dchi2", "amplitude", "base", "n_eff", "peak_frac", "rho1")
WHOLE = ("season", "scale", "step", "n_window", "n_contrib", "longest_run")


def curves_of(*objects: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Curves:
    """Objects with one data set each."""
    time, flux, error = (np.concatenate([np.zeros(0), *column]) for column in zip(*objects, strict=True))
    offsets = np.cumsum([0, *(len(o[0]) for o in objects)])
    return prepare(time, flux, error, np.zeros(len(time), int), offsets)[0]


def noise(n: int, seed: int = 0, span: float = 60.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A sparse curve in two seasons with errors of different size and a bump."""
    rng = np.random.default_rng(seed)
    time = np.sort(rng.uniform(0, span, n) + 100.0 * rng.integers(0, 2, n))
    error = rng.uniform(0.5, 2.0, n)
    return time, rng.normal(0, error) + 30.0 * np.exp(-0.5 * ((time - 20.0) / 2.0) ** 2), error


def assert_equal(found: GridMetrics, expected: list[dict]) -> None:
    assert len(found.dchi2) == len(expected)
    for name in WHOLE:
        np.testing.assert_array_equal(getattr(found, name), [e[name] for e in expected], err_msg=name)
    for name in REALS:
        values = [e[name] for e in expected]
        np.testing.assert_allclose(getattr(found, name), values, rtol=1e-8, atol=1e-9, err_msg=name)
    # where the fits are equally good, either template may come out of rounding
    differ = found.template != [e["template"] for e in expected]
    assert (found.dchi2[differ] < 1e-12).all()


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("as_original", [True, False])
def test_bells(as_original: bool, weighted: bool) -> None:
    grid = ScanGrid(teff=SMALL.teff, gap=30.0, as_original=as_original)
    objects = [noise(150), noise(0), noise(60, 1), noise(3, 2)]
    found = grid_metrics(curves_of(*objects), grid, weighted=weighted)
    expected = [reference.metrics(*o, grid, bank(), weighted) for o in objects]
    np.testing.assert_array_equal(np.diff(found.offsets), [len(e) for e in expected])
    assert_equal(found, [e for each in expected for e in each])
    assert min(np.diff(found.offsets)[[0, 2]]) > 100
    assert max(found.longest_run) > 2


def test_other_banks() -> None:
    wave = Template("wave", lambda x: math.cos(x))
    templates = bank(["flare", "box", "step", "pspl1", wave])
    objects = [noise(90, 3)]
    assert_equal(grid_metrics(curves_of(*objects), SMALL, templates),
                 reference.metrics(*objects[0], SMALL, templates))  # fmt: skip
    # the two ways to the bells
    same = grid_metrics(curves_of(*objects), SMALL, bank(BELLS)[::-1])
    bells = grid_metrics(curves_of(*objects), SMALL)
    np.testing.assert_allclose(same.dchi2, bells.dchi2, rtol=1e-10, atol=1e-12)


def test_signs_and_shapes() -> None:
    time = np.arange(0.0, 40.0, 0.1)
    for name, sign in (("pspl0", 1), ("flare", 1), ("box", -1), ("step", 1)):
        shape = np.array([bank([name])[0].function(x) for x in (time - 19.55) / 1.1])
        found = grid_metrics(
            curves_of((time, 3.0 + 2.0 * sign * shape, np.full(len(time), 0.1))), SMALL, [name]
        )
        best = int(np.argmax(found.dchi2))
        assert np.sign(found.amplitude[best]) == sign, name
        assert abs(found.t0[best] - 19.55) < 0.4, name


def test_inverse_root() -> None:
    q = np.geomspace(1.0, 1e12, 20001)
    worst = max(abs(rsqrt(x) * math.sqrt(x) - 1.0) for x in q)
    assert worst < 1e-14


@given(
    times=st.lists(st.integers(0, 8000), max_size=40),
    fluxes=st.lists(st.integers(-50, 50), min_size=40, max_size=40),
    unit=st.sampled_from([1.0, 1e11, 1e-11, -1e-9]),
    level=st.sampled_from([0.0, 1e3]),
)
@settings(max_examples=examples(40))
def test_units_and_offsets_change_nothing(
    times: list[int], fluxes: list[int], unit: float, level: float
) -> None:
    """Any rows (none, one, twice the same time, equal fluxes) in other units and days."""
    time = np.sort(np.array(times, float)) / 100.0
    flux = np.array(fluxes, float)[: len(time)] / 10.0
    error = 0.5 + (np.arange(len(time)) % 3)
    found = grid_metrics(curves_of((time, flux, error)), SMALL)
    assert np.isfinite([getattr(found, name) for name in REALS]).all()
    assert (found.dchi2 >= 0).all()
    assert_equal(found, reference.metrics(time, flux, error, SMALL, bank()))
    other = grid_metrics(curves_of((time + 2450000.0, (flux + level) * unit, error * abs(unit))), SMALL)
    for name in WHOLE:
        np.testing.assert_array_equal(getattr(other, name), getattr(found, name), err_msg=name)
    for name in ("dchi2", "n_eff", "peak_frac", "rho1"):
        # without any signal the diagnostics are those of rounding
        real = found.dchi2 > 1e-9
        np.testing.assert_allclose(
            getattr(other, name)[real], getattr(found, name)[real], rtol=1e-6, atol=1e-6, err_msg=name
        )
    assert np.abs(other.dchi2 - found.dchi2).max(initial=0.0) < 1e-6 * max(1.0, found.dchi2.max(initial=0.0))


def full_grid(found: GridMetrics, time: np.ndarray, grid: ScanGrid) -> list[tuple]:
    """t0, teff, dchi2 and flat index (-1 where empty) of the whole grid, season by season."""
    out = []
    for season, rows in enumerate(reference.seasons(time, grid.gap)):
        parts = [reference.grid_of(time[rows], grid, teff)[1] for teff in grid.teff]
        begins = np.cumsum([0, *map(len, parts)])
        index = np.full(begins[-1], -1)
        mine = np.flatnonzero(found.season == season)
        index[begins[found.scale[mine]] + found.step[mine]] = mine
        dchi2 = np.where(index >= 0, np.append(found.dchi2, 0.0)[index], 0.0)
        out.append((np.concatenate(parts), np.repeat(grid.teff, list(map(len, parts))), dchi2, index))
    return out


@pytest.mark.parametrize("as_original", [True, False])
@given(
    n=st.integers(0, 120), seed=st.integers(0, 1000), least=st.integers(1, 400),
    overlap=st.sampled_from([0.3, 3.0]), levels=st.sampled_from([0, 3]),
)  # fmt: skip
@settings(max_examples=examples(40))
def test_clusters(as_original: bool, n: int, seed: int, least: int, overlap: float, levels: int) -> None:
    grid = ScanGrid(teff=SMALL.teff, gap=30.0, as_original=as_original)
    time, flux, error = noise(n, seed, span=35.0)
    found = grid_metrics(curves_of((time, flux, error)), grid)
    if levels:
        # equal values, of which the first counts
        found = found._replace(dchi2=np.floor(found.dchi2 / levels))
    expected = []
    for t0, teff, dchi2, index in full_grid(found, time, grid):
        expected += index[reference.clusters(t0, teff, dchi2, overlap, least)].tolist() if len(t0) else []
    taken = clusters(found, overlap, least)
    assert taken.point.tolist() == expected
    for name in ("season", "scale", "step", "t0", "teff", "dchi2"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(found, name)[taken.point], err_msg=name)
    top = clusters(found, overlap, least, k=3)
    np.testing.assert_array_equal(top.point, taken.best(3).point)
    np.testing.assert_array_equal(top.dchi2, np.sort(taken.dchi2)[::-1][:3])


def test_criteria_before_and_after() -> None:
    found = grid_metrics(curves_of(noise(150), noise(80, 1)), SMALL)
    criteria = CandidateCriteria(min_dchi2=4.0, min_n_window=8, max_peak_frac=0.5, min_n_eff=2.0)
    keep = criteria.accept(found)
    assert 0 < keep.sum() < len(keep)
    before = clusters(found, keep=keep)
    assert keep[before.point].all()
    raw = clusters(found)
    accept = criteria.accept(found, raw.point)
    scores = score_052(raw, accept=accept)
    assert accept[scores.best[scores.best >= 0]].all()
    # all clusters remain in the background
    assert scores.n_reference[0] >= 2


def made_up(dchi2: list[float], teff: list[float] | None = None) -> Clusters:
    n = len(dchi2)
    whole = np.zeros(n, np.int64)
    return Clusters(
        np.array([0, n]), whole, whole, whole, np.arange(n) * 1.0,
        np.ones(n) if teff is None else np.array(teff), np.array(dchi2, float), whole,
    )  # fmt: skip


def test_scores_without_a_background() -> None:
    for dchi2, best in (([], -1), ([5.0], 0), ([5.0, 1.0], 0)):
        for score in (score_032, score_052):
            found = score(made_up(dchi2))
            assert found.best[0] == best
            assert np.isnan(found.score[0])
    for score in (score_032, score_052):
        flat = score(made_up([5.0, 1.0, 1.0, 1.0]))
        assert flat.median[0] == 1.0
        assert flat.scale[0] == 0.0
        assert np.isnan(flat.score[0])


def test_scores_by_hand() -> None:
    # 95th percentile of the others is 11.65: the 12 goes
    found = score_032(made_up([30.0, 12.0, 5.0, 4.0, 3.0, 2.0, 1.0]))
    values = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    assert found.score[0] == pytest.approx((30.0 - 3.0) / values.std())
    # the 1000 is above 3 + 5 * 1.4826 * 1.5 and goes in the first round
    found = score_052(made_up([2000.0, 1000.0, 5.0, 4.0, 3.0, 2.0, 1.0]))
    assert found.n_reference[0] == 5
    assert found.score[0] == pytest.approx((2000.0 - 3.0) / 1.482602218505602)
    # one within the ratio, so the 2 nearest in ln teff
    found = score_052(made_up([9.0, 1.0, 2.0, 4.0], [1.0, 8.0, 3.0, 1.5]), min_reference_clusters=2)
    assert found.median[0] == 3.0


def test_merged_ranges() -> None:
    one, other = np.array([[0, 4], [9, 12]]), np.array([[4, 6], [11, 20], [30, 31]])
    out = np.zeros((5, 2), np.int64)
    assert out[: merge_ranges(one, 2, other, 3, out)].tolist() == [[0, 6], [9, 20], [30, 31]]
    assert filled_ranges(np.zeros(0), 0.0, 1.0, 5, 2.0, 4, np.zeros((1, 2), np.int64)) == 0


def test_user_templates_and_faults() -> None:
    with pytest.raises(ParameterError, match="no template 'bell'"):
        bank(["bell"])
    with pytest.raises(ParameterError, match="one template"):
        bank([])
    with pytest.raises(ParameterError, match="exists already"):
        template("box", math.cos)
    with pytest.raises(ParameterError, match="not finite"):
        template("tail", lambda x: math.inf if x > 2 else 0.0)
    made = template("gaussian", lambda x: math.exp(-0.5 * x * x), "exp(-0.5 * x * x)", smooth=True)
    assert bank(["gaussian"]) == (made,)
    found = grid_metrics(curves_of(noise(60)), SMALL)
    with pytest.raises(ParameterError, match="positive"):
        clusters(found, min_cluster_points=0)
    with pytest.raises(ParameterError, match="keep has 2 values"):
        clusters(found, keep=np.ones(2, bool))
    two = prepare(*noise(40), np.arange(40) % 2, np.array([0, 40]))[0]
    with pytest.raises(ParameterError, match="2 data sets"):
        grid_metrics(two, SMALL)
    for wrong in ({"trim_percentile": 0.0},):
        with pytest.raises(ParameterError):
            score_032(made_up([1.0]), **wrong)
    for wrong in ({"teff_ratio": 0.5}, {"upper_clip_sigma": 0.0}):
        with pytest.raises(ParameterError):
            score_052(made_up([1.0]), **wrong)


def test_series_of_the_original() -> None:
    np.testing.assert_allclose(teff_series(), 0.03 * np.power(4.0 / 3.0, np.arange(24)), rtol=1e-15)
