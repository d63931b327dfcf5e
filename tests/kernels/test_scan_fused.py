"""The fused scan against the scan in plain NumPy, and what must not change or break it."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skytrawl.errors import ParameterError
from skytrawl.kernels.curves import prepare
from skytrawl.kernels.jit import njit
from skytrawl.kernels.scan import ScanGrid, scan, teff_series, workspace_bytes
from skytrawl.kernels.scan.exact import fit_point
from skytrawl.kernels.scan.reference_scan import scan as reference_scan
from skytrawl.kernels.scan.seasons import grid_row, season_bounds, season_gap
from skytrawl.kernels.scan.tables import make_bank

from .conftest import examples, needs_jit

FEW = (0.1, 0.5, 2.0, 9.0)


def one(time, flux, error):
    """Curves of one object of one data set."""
    columns = (np.asarray(column, dtype=np.float64) for column in (time, flux, error))
    return prepare(*columns, np.zeros(len(time), int), np.array([0, len(time)]))[0]


def assert_same(ours, theirs, rtol=1e-9, noise=1e-6):
    for mine, other in zip((ours.top, ours.extreme), (theirs.top, theirs.extreme), strict=True):
        for name in mine._fields:
            a, b = getattr(mine, name), getattr(other, name)
            if a.dtype.kind == "f":
                np.testing.assert_allclose(a, b, rtol=rtol, err_msg=name)
            else:
                np.testing.assert_array_equal(a, b, err_msg=name)
    np.testing.assert_allclose(ours.noise, theirs.noise, rtol=noise)
    for name in ("n_seasons", "n_grid", "n_filled"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)


def random_block(rng, n_objects):
    """Objects of up to three data sets with bumps, outliers, rounded and repeated times."""
    columns, offsets = [], [0]
    for _ in range(n_objects):
        n = int(rng.integers(0, 110))
        t = rng.uniform(0, rng.choice([5, 20, 40]), n) + rng.choice([0, 150.0], n) + rng.choice([0, 2.45e6])
        t = np.round(t, 1) if rng.random() < 0.3 else t
        e = rng.uniform(0.5, 2, n)
        f = rng.normal(0, e) + rng.choice([0, 1e3]) + rng.choice([0, 30]) * np.exp(-((t - t[:1].sum()) ** 2))
        f[rng.random(n) < 0.01] += 1e4
        columns.append((t, f, e, rng.integers(0, rng.integers(1, 4), n)))
        offsets.append(offsets[-1] + n)
    return prepare(*map(np.concatenate, zip(*columns, strict=True)), np.array(offsets))[0]


@pytest.mark.parametrize("as_original", [False, True])
@pytest.mark.parametrize("bank", [("pspl0", "pspl1"), ("pspl1", "box", "flare", "step"), ("pspl0",)])
@pytest.mark.parametrize("min_points", [2, 4])
def test_as_the_reference(as_original, bank, min_points):
    curves = random_block(np.random.default_rng(len(bank) + min_points), 3)
    grid = ScanGrid(teff=FEW, as_original=as_original, min_points=min_points)
    assert_same(scan(curves, grid, bank, 6, "cpu"), reference_scan(curves, grid, bank, 6))


@settings(max_examples=examples(20))
@given(
    st.integers(0, 2**32), st.sampled_from([0.05, 0.17, 0.3, 1.0]), st.sampled_from([0.7, 3.0, 4.0]),
    st.sampled_from([1.0, 3.0, 5.0]),
)  # fmt: skip
def test_as_the_reference_on_other_grids(seed, dt0_coeff, teff_coeff, overlap):
    curves = random_block(np.random.default_rng(seed), 1)
    grid = ScanGrid(
        teff=(0.7, 3.0), dt0_coeff=dt0_coeff, teff_coeff=teff_coeff, overlap=overlap, min_points=3
    )
    ours, theirs = scan(curves, grid, k=5, backend="cpu"), reference_scan(curves, grid, ("pspl0", "pspl1"), 5)
    # Typical values are medians of gains with polynomials for templates. In a window of 0.7 teff these are so
    # flat (V / Sxx about 0.01) that an error of 7e-10 beside an outlier of 1e4 sigma grows to some 1e-6.
    assert_same(ours, theirs, noise=1e-5)


def test_dense_rows_as_the_reference():
    rng = np.random.default_rng(2)
    t = np.sort(rng.uniform(0, 6, 3000))
    curves = one(t, rng.normal(size=3000) + 8 * (np.abs(t - 2) < 0.1), rng.uniform(0.5, 1.5, 3000))
    grid = ScanGrid(teff=teff_series(0.4, 2.0, 3))
    assert_same(scan(curves, grid, k=8, backend="cpu"), reference_scan(curves, grid, ("pspl0", "pspl1"), 8))


@njit()
def every_point(tau, w, y, bounds, grid_rows, counts, teff, min_points, address, x, out):  # type: ignore[no-untyped-def]
    """[t0, teff, dchi2] of the whole grid, each point fitted in two passes."""
    n = 0
    for s in range(bounds.shape[1] - 1):
        for k in range(len(teff)):
            for j in range(counts[k, s]):
                t0 = grid_rows[k, s, 0] + j * grid_rows[k, s, 1]
                out[n, 0], out[n, 1] = t0, teff[k]
                out[n, 2] = fit_point(
                    tau, w, y, bounds, s, t0, grid_rows[k, s, 2], teff[k], min_points, address, x
                )[0]
                n += 1


def full_clusters(time, flux, error, grid, k):
    """K best greedy clusters of the whole grid: [t0, teff, dchi2], t0 as `grid.as_original` has it."""
    at = season_bounds(time, season_gap(grid))
    found = []
    address, teff = make_bank(("pspl0", "pspl1"), grid).address, np.array(grid.teff)
    for a, b in pairwise(at):
        t = time[a:b] if grid.as_original else time[a:b] - time[a]
        rows = [
            grid_row(time[a], time[b - 1], x, grid.dt0_coeff, grid.teff_coeff, grid.as_original) for x in teff
        ]
        counts = np.array([[row[2]] for row in rows])
        grid_rows = np.array([[(row[0], row[1], row[3])] for row in rows])
        out = np.zeros((counts.sum(), 3))
        every_point(
            t, error[a:b] ** -2, flux[a:b], np.array([[0, b - a]]), grid_rows, counts, teff, grid.min_points,
            address, np.empty(b - a), out,
        )  # fmt: skip
        left = np.ones(len(out), bool)
        for _ in range(k):
            i = np.argmax(np.where(left, out[:, 2], -1.0))
            if not (left[i] and out[i, 2] > 0):
                break
            found.append((time[a] + out[i, 0] * (not grid.as_original), *out[i, 1:]))
            if grid.as_original:
                found[-1] = tuple(out[i])
            left &= ~(np.abs(out[:, 0] - out[i, 0]) < grid.overlap * (out[:, 1] + out[i, 1]))
            if left.sum() < 3:
                break
    return np.array(sorted(found, key=lambda row: -row[2])[:k]).reshape(-1, 3)


def assert_full(curves, grid, k=10):
    theirs = full_clusters(curves.time, curves.flux, curves.error, grid, k)
    top = scan(curves, grid, k=k, backend="cpu").top
    n = len(theirs)
    np.testing.assert_allclose(top.dchi2[0, :n], theirs[:, 2], rtol=1e-9)
    np.testing.assert_array_equal(top.teff[0, :n], theirs[:, 1])
    np.testing.assert_allclose(top.t0[0, :n], theirs[:, 0], rtol=0, atol=1e-9)
    assert (top.season[0, n:] == -1).all()


REAL = ("ob03235_ogle", "ob05086_ogle", "ob08092_o4", "ob140939_ogle", "ob161195_kct01", "survey_1")


@needs_jit
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("as_original", [False, True])
def test_real_curves_as_the_full_grid(reference_data, name, as_original):
    curves = one(*np.load(reference_data / "microlensing" / f"{name}.npy").T)
    assert_full(curves, ScanGrid(as_original=as_original))


@needs_jit
@pytest.mark.acceptance
def test_every_curve_as_the_full_grid(reference_data):
    folder = reference_data / "microlensing"
    grid = ScanGrid(as_original=True)
    for path in sorted(folder.glob("*.npy")):
        assert_full(one(*np.load(path).T), grid)
    drawn = np.load(folder / "sim_season72d.npz")
    for flux, error in zip(drawn["flux"], drawn["ferr"], strict=True):
        assert_full(one(drawn["time"], flux, error), grid)


@needs_jit
@pytest.mark.parametrize("name", ["ob05086_ogle", "survey_1"])
def test_offset_and_units_change_nothing(reference_data, name):
    t, f, e = np.load(reference_data / "microlensing" / f"{name}.npy").T
    grid = ScanGrid()
    first = scan(one(t, f, e), grid, backend="cpu")
    shifted = scan(one(t + 2_450_000, f, e), grid, backend="cpu")
    shifted.top.t0[:] -= 2_450_000
    shifted.extreme.t0[:] -= 2_450_000
    assert_same(shifted, first, rtol=1e-6)
    for factor in (1e11, 1e-9, -1.0):
        other = scan(one(t, f * factor, e * abs(factor)), grid, backend="cpu")
        if factor < 0:
            np.testing.assert_array_equal(other.top.sign, -first.top.sign)
            np.testing.assert_allclose(other.extreme.dchi2, first.extreme.dchi2[:, ::-1], rtol=1e-9)
        else:
            assert_same(other, first, rtol=1e-9)


@needs_jit
def test_bad_input_has_an_answer():
    rng = np.random.default_rng(3)
    grid = ScanGrid()
    t, f, e = np.sort(rng.uniform(0, 72, 600)), rng.normal(size=600), np.ones(600)
    plain = scan(one(t, f, e), grid, backend="cpu").top.dchi2
    for n in range(6):
        result = scan(one(t[:n], f[:n], e[:n]), grid, backend="cpu")
        assert (result.top.season[0, 1:] == -1).all()
        assert (result.noise == 1).all() or n >= grid.min_points
        assert result.n_seasons[0] == (n > 0)
    for constant, error in ((17.3, 1.0), (1.23456e7, 1e-3), (0.0, 1.0)):
        result = scan(one(t, np.full(600, constant), error * e), grid, backend="cpu")
        assert (result.top.season == -1).all()
        assert (result.extreme.sign == 0).all()
        assert np.isnan(result.top.dchi2).all()
        assert result.n_filled[0] > 1000
    assert (scan(one(np.full(600, 5.0), f, e), grid, backend="cpu").top.season == -1).all()
    repeated = scan(one(np.repeat(t[:60], 10), f, e), grid, backend="cpu")
    assert repeated.top.dchi2[0, 0] > 1
    np.testing.assert_allclose(scan(one(t, f - 1e4, e), grid, backend="cpu").top.dchi2, plain, rtol=1e-7)
    f[100] += 1e6
    saturated = scan(one(t, f, e), grid, backend="cpu")
    assert saturated.top.dchi2[0, 0] > 1e10
    assert saturated.top.sign[0, 0] == 1
    f[100] = 1e160
    assert np.isfinite(scan(one(t, f, e), grid, backend="cpu").noise).all()
    assert scan(one(t, f, 10 ** rng.uniform(-100, 100, 600)), grid, backend="cpu").n_filled[0] > 1000


@needs_jit
def test_seconds_cost_no_more_than_their_rows():
    rng = np.random.default_rng(4)
    t = np.sort(rng.uniform(0, 72, 5000) + 365 * rng.integers(0, 6, 5000))
    result = scan(one(t * 86400, rng.normal(size=5000), np.ones(5000)), ScanGrid(gap=1e6), backend="cpu")
    assert result.n_grid[0] > 1e10
    assert result.n_filled[0] < 24 * 9 * 5000


def test_objects_do_not_touch_each_other():
    rng = np.random.default_rng(6)
    curves = random_block(rng, 12)
    grid = ScanGrid(teff=FEW)
    whole = scan(curves, grid, k=4, backend="cpu")
    for o in range(curves.n_objects):
        sets = slice(curves.sets[o], curves.sets[o + 1] + 1)
        a, b = curves.rows[sets][[0, -1]]
        alone = curves._replace(
            time=curves.time[a:b], flux=curves.flux[a:b], error=curves.error[a:b], rows=curves.rows[sets] - a,
            sets=np.array([0, sets.stop - 1 - sets.start]),
        )  # fmt: skip
        result = scan(alone, grid, k=4, backend="cpu")
        for mine, other in zip(result.top + result.extreme, whole.top + whole.extreme, strict=True):
            np.testing.assert_array_equal(mine[0], other[o])
        np.testing.assert_array_equal(result.noise[0], whole.noise[o])


@needs_jit
def test_more_clusters_begin_with_the_same(reference_data):
    curves = one(*np.load(reference_data / "microlensing" / "ob05086_ogle.npy").T)
    few, many = (scan(curves, ScanGrid(), k=k, backend="cpu").top for k in (3, 400))
    for a, b in zip(few, many, strict=True):
        np.testing.assert_array_equal(a, b[:, :3])
    found = many.season[0] >= 0
    assert found.sum() < 400
    assert (np.diff(many.dchi2[0, found]) <= 0).all()


@needs_jit
def test_published_maxima(reference_data):
    """Raw flux of events: the best grid point is the event itself."""
    truth = json.loads((reference_data / "microlensing" / "reference_jacscanomaly.json").read_text())
    curves = one(*np.load(reference_data / "microlensing" / "ob03235_ogle.npy").T)
    top = scan(curves, ScanGrid(), backend="cpu").top
    event = truth["versions"]["0.3.2"]["ob03235_ogle"]["pspl"]
    assert abs(top.t0[0, 0] - event["t0"]) < 30
    assert top.sign[0, 0] == 1


def test_parameters_are_checked():
    curves = one([1.0, 2.0], [0.0, 1.0], [1.0, 1.0])
    for bank, k in ((("nothing",), 1), ((), 1), (("pspl0",), 0)):
        with pytest.raises(ParameterError):
            scan(curves, ScanGrid(), bank, k, "cpu")


def test_memory_is_bounded_by_the_rows():
    grid = ScanGrid()
    assert workspace_bytes(0, grid) < 2**20
    assert workspace_bytes(40_000, grid, days=72) < workspace_bytes(40_000, grid) / 4 < 40_000 * 6000 / 4
    assert workspace_bytes(10_000, grid) > 10_000 * 300
