"""PSPL fits: the Jacobian, recovery of simulated lenses, units and offsets, joint fits, bad input."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from skytrawl.errors import ParameterError
from skytrawl.kernels.curves import Curves, prepare
from skytrawl.kernels.lens import STATUS_TEXT, FitOptions, constant, fit, model, reference, residual
from skytrawl.kernels.lens.cpu_sums import normal
from skytrawl.kernels.lens.types import AT_BOUND, FEW_POINTS, FLAT, NO_START, NOT_CONVERGED, OK

from .conftest import examples, needs_jit

WITH_LENS = (OK, AT_BOUND, NOT_CONVERGED)


def block(*objects):
    """Curves of objects, each a list of data sets (time, flux, error)."""
    parts = [(k, b, *d) for k, sets in enumerate(objects) for b, d in enumerate(sets)]
    time, flux, error = (np.concatenate([np.asarray(p[i], float) for p in parts] or [[]]) for i in (2, 3, 4))
    band = np.concatenate([np.full(len(p[2]), p[1]) for p in parts] or [[]]).astype(int)
    counts = [sum(len(d[0]) for d in sets) for sets in objects]
    return prepare(time, flux, error, band, np.concatenate(([0], np.cumsum(counts))).astype(np.int64))[0]


def times(rng, n, cadence="seasons"):
    if cadence == "seasons":
        return np.sort(rng.uniform(0, 200, n) + 365.25 * rng.integers(0, 4, n))
    return np.sort(rng.uniform(0, 72, n))


def simulated(rng, time, lens, fs, fb, sigma):
    error = sigma * rng.uniform(0.7, 1.5, len(time))
    return time, fs * reference.magnification(time, *lens) + fb + error * rng.normal(size=len(time)), error


def joint(seed=5):
    rng = np.random.default_rng(seed)
    lens = (450.0, 25.0, 0.15)
    return lens, [
        simulated(rng, times(rng, 300), lens, 20.0, 5.0, 0.5),
        simulated(rng, times(rng, 150), lens, 3.0, 40.0, 0.3),
        simulated(rng, np.array([451.0, 505.0]), lens, 1.0, 2.0, 0.1),
    ]


@settings(max_examples=examples(40))
@given(
    t0=st.floats(40, 160), log_tE=st.floats(0.5, 5), u0=st.floats(1e-3, 2.5), seed=st.integers(0, 1000),
    n_sets=st.integers(1, 3),
)  # fmt: skip
def test_jacobian(t0, log_tE, u0, seed, n_sets):
    rng = np.random.default_rng(seed)
    tE = float(np.exp(log_tE))
    sets = [
        simulated(rng, np.sort(rng.uniform(0, 200, 40)), (90.0, 20.0, 0.3), 3.0, 1.0, 0.5)
        for _ in range(n_sets)
    ]
    curves = block(sets)
    found, slope = reference.projected(curves, (t0, tE, u0))
    # where the magnification hardly changes over the data, differences are rounding
    flat = all(np.ptp(reference.magnification(s[0], t0, tE, u0)) < 1e-3 for s in sets)
    for k, step in enumerate((1e-4 * tE * u0, 1e-5, 1e-4 * u0)):
        ends = []
        for sign in (-1, 1):
            q = [t0, log_tE, u0]
            q[k] += sign * step
            ends.append(reference.projected(curves, (q[0], float(np.exp(q[1])), q[2]))[0])
        if not flat:
            # residuals of this size lose about so much to rounding
            floor = 1e-12 / step
            scale = np.abs(slope[:, k]).max()
            np.testing.assert_allclose(
                (ends[1] - ends[0]) / (2 * step), slope[:, k], atol=2e-4 * scale + floor
            )
    # the sums of the compiled kernel are J^T J and -J^T r of Kaufman's Jacobian
    _, kaufman = reference.projected(curves, (t0, tE, u0), "kaufman")
    weight, total = 1 / curves.error**2, np.empty(n_sets)
    flux, square = curves.flux.copy(), np.empty(n_sets)
    for d in range(n_sets):
        rows = slice(curves.rows[d], curves.rows[d + 1])
        total[d] = weight[rows].sum()
        flux[rows] -= np.average(flux[rows], weights=weight[rows])
        square[d] = (weight[rows] * flux[rows] ** 2).sum()
    matrix, downhill = np.empty((3, 3)), np.empty(3)
    shift, sums, per_set = np.zeros(n_sets), np.empty((n_sets, 17)), np.empty((n_sets, 4))
    for _ in range(2):
        chi2 = normal(
            curves.time,
            flux,
            weight,
            curves.rows,
            total,
            square,
            t0,
            tE,
            u0,
            shift,
            sums,
            per_set,
            matrix,
            downhill,
        )
    assert chi2 == pytest.approx(found @ found, rel=1e-9)
    if not flat:
        expected = kaufman.T @ kaufman
        scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
        assert np.all(np.abs(matrix - expected) <= 1e-6 * scale + 1e-9)
        size = np.sqrt(np.diag(expected) * chi2)
        assert np.all(np.abs(downhill + kaufman.T @ found) <= 1e-6 * size + 1e-9)


@needs_jit
@settings(max_examples=examples(40))
@given(
    seed=st.integers(0, 10**6), log_tE=st.floats(np.log(2), np.log(25)), u0=st.floats(0.01, 0.8),
    n=st.sampled_from([300, 1000, 4000]), fb=st.floats(-20, 20),
    cadence=st.sampled_from(["seasons", "dense"]),
)  # fmt: skip
def test_simulated_lenses_are_recovered(seed, log_tE, u0, n, fb, cadence):
    rng = np.random.default_rng(seed)
    time = times(rng, n, cadence)
    tE = float(np.exp(log_tE))
    t0 = float(rng.choice(time[n // 10 : -n // 10]))
    # a peak that was not observed may be anywhere between two rows
    assume((np.abs(time - t0) < u0 * tE).sum() >= 4)
    curves = block([simulated(rng, time, (t0, tE, u0), 50.0, fb, 0.5)])
    fits = fit(curves)
    truth = fit(curves, np.array([[t0, tE, u0]]))
    assert fits.status[0] in WITH_LENS
    # no start, not even the truth, may lead to a better place
    assert fits.chi2[0] <= truth.chi2[0] * (1 + 1e-6)
    if fits.status[0] == OK:
        # chi-square of 3 degrees of freedom
        true, _ = reference.projected(curves, (t0, tE, u0), "kaufman")
        assert true @ true - fits.chi2[0] < 35


@needs_jit
def test_errors_are_those_of_repeated_measurements():
    rng = np.random.default_rng(11)
    lens = (450.0, 20.0, 0.2)
    curves = block(*([simulated(rng, times(rng, 400), lens, 30.0, 10.0, 0.5)] for _ in range(400)))
    fits = fit(curves)
    assert (fits.status == OK).all()
    pulls = (fits.params - lens) / fits.errors
    assert np.abs(pulls.mean(0)).max() < 0.2
    np.testing.assert_allclose(pulls.std(0), 1, atol=0.12)
    for value, error, true in (
        (fits.source_flux, fits.source_error, 30.0), (fits.blend_flux, fits.blend_error, 10.0),
    ):  # fmt: skip
        assert ((value - true) / error).std() == pytest.approx(1, abs=0.12)
    assert fits.chi2.mean() == pytest.approx(fits.dof.mean(), rel=0.02)


def test_agrees_with_the_reference():
    lens, sets = joint()
    curves = block(sets)
    fits = fit(curves)
    expected, chi2, covariance = reference.fit(curves, lens)
    np.testing.assert_allclose(fits.params[0], expected, rtol=1e-6)
    assert fits.chi2[0] == pytest.approx(chi2, rel=1e-9)
    np.testing.assert_allclose(fits.covariance[0], covariance, rtol=1e-4, atol=1e-12)
    assert fits.chi2_sets.sum() == pytest.approx(fits.chi2[0], rel=1e-12)


@needs_jit
def test_joint_fit_has_fluxes_of_its_own_in_each_data_set():
    lens, sets = joint()
    both, first = fit(block(sets)), fit(block(sets[:1]))
    assert both.status[0] == OK
    assert (both.errors[0] < first.errors[0]).all()
    np.testing.assert_allclose(both.source_flux[:2], [20, 3], atol=5 * both.source_error[:2].max())
    # two rows fix a source and a blend flux exactly, and tell nothing of the lens
    assert both.chi2_sets[2] == pytest.approx(0, abs=1e-9)
    assert both.source_flux[2] == pytest.approx(1, abs=0.2)
    np.testing.assert_allclose(both.params[0], fit(block(sets[:2])).params[0], rtol=1e-5)
    assert both.n_points[0] == 452
    assert both.dof[0] == 452 - 3 - 6
    assert both.chi2_dof[0] == pytest.approx(both.chi2[0] / 449)
    # a data set of one row, and one that ends long before the event
    rng = np.random.default_rng(1)
    more = [
        *sets,
        ([460.0], [4.0], [0.1]),
        simulated(rng, np.linspace(-9000, -8990, 50), lens, 5.0, 5.0, 0.1),
    ]
    fits = fit(block(more))
    assert np.isnan(fits.source_error[3])
    assert fits.blend_flux[3] == 4
    assert np.isfinite(residual(block(more), fits)).all()


@needs_jit
@pytest.mark.parametrize("offset", [2_450_000.0, -1e4])
@pytest.mark.parametrize("factor", [1.0, 1e11, 1e-150])
def test_offset_of_times_and_unit_of_flux_change_nothing(offset, factor):
    rng = np.random.default_rng(2)
    objects = [joint()[1], [simulated(rng, times(rng, 500), (433.3, 3.0, 0.02), 10.0, -20.0, 1.0)]]
    moved = [[(t + offset, factor * f, factor * e) for t, f, e in sets] for sets in objects]
    a, b = fit(block(*objects)), fit(block(*moved))
    np.testing.assert_allclose(b.t0 - offset, a.t0, atol=1e-6)
    np.testing.assert_allclose(b.params[:, 1:], a.params[:, 1:], rtol=1e-6)
    np.testing.assert_allclose(b.chi2, a.chi2, rtol=1e-6)
    np.testing.assert_allclose(b.errors, a.errors, rtol=1e-6)
    np.testing.assert_allclose(b.source_flux / factor, a.source_flux, rtol=1e-6)
    np.testing.assert_allclose(b.blend_error / factor, a.blend_error, rtol=1e-6)
    np.testing.assert_array_equal(b.status, a.status)


def test_another_unit_of_time():
    rng = np.random.default_rng(4)
    t, f, e = simulated(rng, times(rng, 500), (433.3, 12.0, 0.1), 10.0, 5.0, 0.5)
    days, seconds = fit(block([(t, f, e)])), fit(block([(86400 * t, f, e)]))
    np.testing.assert_allclose(seconds.params[0] / [86400, 86400, 1], days.params[0], rtol=1e-6)


@needs_jit
def test_short_events_of_high_magnification_are_found():
    rng = np.random.default_rng(7)
    objects, truth = [], []
    for _ in range(30):
        time = np.sort(rng.uniform(0, 72, 20000))
        lens = (float(rng.uniform(5, 67)), float(np.exp(rng.uniform(np.log(0.05), np.log(30)))), 0.003)
        objects.append([simulated(rng, time, lens, 1.0, 0.0, 0.3)])
        truth.append(lens)
    fits = fit(block(*objects))
    np.testing.assert_allclose(fits.t0, np.array(truth)[:, 0], atol=0.01)


@needs_jit
def test_single_outliers_do_not_capture_the_start():
    rng = np.random.default_rng(8)
    lens = (450.0, 20.0, 0.3)
    objects = []
    for _ in range(20):
        t, f, e = simulated(rng, times(rng, 400), lens, 10.0, 3.0, 0.5)
        f[40 * np.arange(10) + 3] += 30 * rng.choice([-1, 1], 10)
        objects.append([(t, f, e)])
    curves = block(*objects)
    assert np.abs(fit(curves).t0 - 450).max() < 10
    clean = fit(curves, options=FitOptions(clip_sigma=5))
    assert np.abs((clean.params - lens) / clean.errors).max() < 5
    assert (clean.n_points <= 393).all()
    assert (clean.n_points >= 385).all()
    assert np.abs(clean.chi2 / clean.dof - 1).max() < 0.3


def test_positive_source_is_preferred():
    rng = np.random.default_rng(9)
    t = times(rng, 600)
    bump = simulated(rng, t, (450.0, 20.0, 0.5), 3.0, 10.0, 0.5)
    dip = (t, bump[1] - 40 * (reference.magnification(t, 800.0, 10.0, 0.3) - 1), bump[2])
    curves = block([dip])
    assert fit(curves).source_flux[0] > 0
    either = fit(curves, options=FitOptions(positive_source=False))
    assert either.source_flux[0] < 0
    assert abs(either.t0[0] - 800) < 3


def hopeless(rng):
    t = np.sort(rng.uniform(0, 100, 200))
    noise = rng.normal(size=200)
    one = np.ones(200)
    spike = noise.copy()
    spike[[20, 90]] = 1e6
    wild = 10.0 ** rng.uniform(-8, 8, 200)
    return {
        "empty": [([], [], [])],
        "one row": [([1.0], [2.0], [0.1])],
        "four rows": [([1, 2, 3, 4], [1, 2, 3, 1], [0.1] * 4)],
        "five rows": [([1, 2, 3, 4, 5], [1, 2, 3, 2, 1], [0.1] * 5)],
        "constant": [(t, 7 * one, 0.1 * one)],
        "constant, of two data sets": [(t, 7 * one, 0.1 * one), (t, 3 * one, one)],
        "baseline": [(t, 100 + noise, one)],
        "saturated": [(t, spike, one)],
        "simultaneous": [(5 * one, noise, one)],
        "duplicate times": [(np.repeat(t[::4], 4), noise, one)],
        "negative": [(t, -1e4 + noise, one)],
        "errors of any size": [(t, noise, wild)],
        "huge": [(t, 1e150 * noise, 1e150 * one)],
        "seconds": [(2.4e6 * 86400 + 86400 * t, noise, one)],
        "many single rows": [([float(k)], [noise[k]], [1.0]) for k in range(30)],
        "beyond": [(t, 1e300 * noise, 1e-100 * one)],
    }


@pytest.mark.parametrize("clip", [pytest.param(0.0, marks=needs_jit), 4.0])
def test_bad_input_gives_a_status(clip):
    cases = hopeless(np.random.default_rng(3))
    curves = block(*cases.values())
    fits = fit(curves, options=FitOptions(clip_sigma=clip))
    status = dict(zip(cases, fits.status, strict=True))
    expected = {
        "empty": FEW_POINTS, "one row": FEW_POINTS, "four rows": FEW_POINTS, "constant": FLAT,
        "constant, of two data sets": FLAT, "simultaneous": NO_START, "many single rows": FEW_POINTS,
        "beyond": NO_START,
    }  # fmt: skip
    for name, code in expected.items():
        assert status[name] == code, name
    for name in (
        "baseline",
        "saturated",
        "negative",
        "seconds",
        "errors of any size",
        "huge",
        "duplicate times",
    ):
        assert status[name] in WITH_LENS, (name, STATUS_TEXT[status[name]])
    assert set(fits.status) <= set(STATUS_TEXT)
    lens = fits.fitted
    assert np.isfinite(fits.params[lens]).all()
    assert np.isnan(fits.params[~lens]).all()
    assert (fits.chi2[lens] <= fits.chi2_flat[lens] * (1 + 1e-9)).all()
    assert np.isfinite(residual(curves, fits)).all()
    at = list(cases).index("constant")
    np.testing.assert_allclose(model(curves, fits)[curves.rows[curves.sets[at]]], 7)


@settings(max_examples=examples(60))
@given(data=st.data())
def test_any_numbers_give_a_status(data):
    n = data.draw(st.integers(0, 30))
    number = st.floats(-1e6, 1e6, width=32)
    t = np.sort(data.draw(st.lists(number, min_size=n, max_size=n)))
    f = data.draw(st.lists(number, min_size=n, max_size=n))
    e = data.draw(st.lists(st.floats(2**-10, 1e6, width=32), min_size=n, max_size=n))
    cut = data.draw(st.integers(0, n))
    curves = block([(t[:cut], f[:cut], e[:cut]), (t[cut:], f[cut:], e[cut:])])
    fits = fit(curves)
    assert fits.status[0] in STATUS_TEXT
    assert np.isfinite(residual(curves, fits)).all()


def test_given_starts():
    _, sets = joint()
    curves = block(sets, sets[:1])
    best = fit(curves)
    bad = np.array([800.0, 3.0, 0.5])
    several = np.stack([np.stack([bad, [452.0, 30.0, -0.1], [np.nan] * 3])] * 2)
    fits = fit(curves, several)
    np.testing.assert_allclose(fits.params, best.params, rtol=1e-6)
    nothing = fit(curves, np.full((2, 3), np.nan))
    np.testing.assert_array_equal(nothing.status, NO_START)
    # few rows near t0: not a lens that these data can tell of
    far = fit(curves, np.full((2, 3), [5000.0, 1.0, 0.1]))
    np.testing.assert_array_equal(far.status, NO_START)
    with pytest.raises(ValueError, match="shape"):
        fit(curves, np.zeros((3, 3)))


def test_residuals():
    _, sets = joint()
    curves = block(sets)
    fits = fit(curves)
    t = curves.time
    lens = reference.magnification(t, *fits.params[0])
    owner = np.repeat(np.arange(3), np.diff(curves.rows))
    np.testing.assert_allclose(model(curves, fits), fits.source_flux[owner] * lens + fits.blend_flux[owner])
    off = residual(curves, fits)
    assert ((off / curves.error) ** 2).sum() == pytest.approx(fits.chi2[0], rel=1e-9)
    rows = slice(*curves.rows[:2])
    mean = np.average(curves.flux[rows], weights=curves.error[rows] ** -2.0)
    np.testing.assert_allclose(constant(curves)[rows], mean)
    np.testing.assert_allclose(residual(curves), curves.flux - constant(curves))
    np.testing.assert_array_equal(residual(curves, baseline=curves.flux), 0)
    with pytest.raises(ValueError, match="either"):
        residual(curves, fits, curves.flux)
    with pytest.raises(ValueError, match="finite"):
        residual(curves, baseline=curves.flux * np.nan)
    with pytest.raises(ValueError, match="shape"):
        residual(curves, baseline=curves.flux[1:])
    with pytest.raises(ValueError, match="data sets"):
        model(block(sets[:1]), fits)
    with pytest.raises(ValueError, match="rho"):
        model(curves, fits._replace(names=("t0", "tE", "u0", "rho")))


def test_options_are_checked():
    for wrong in (
        {"start": "0.4"}, {"tE_min": 5.0, "tE_max": 1.0}, {"max_iterations": 0}, {"tolerance": 0.0},
        {"clip_sigma": float("nan")}, {"auto_init_teff_min": -1.0},
    ):  # fmt: skip
        with pytest.raises(ParameterError):
            FitOptions(**wrong)
    _, sets = joint()
    with pytest.raises(ParameterError, match="one data set"):
        fit(block(sets), options=FitOptions(start="0.3.2"))


@pytest.mark.parametrize("start", ["0.3.2", "0.5.2"])
def test_starts_of_the_original_meet_bad_input(start):
    cases = {
        k: v
        for k, v in hopeless(np.random.default_rng(3)).items()
        if len(v) == 1 and k not in ("seconds", "beyond")
    }
    options = FitOptions(start=start, auto_init_fft_max_grid_points=2000, auto_init_teff_grid_n=6)
    fits = fit(block(*cases.values()), options=options)
    assert fits.status[list(cases).index("constant")] == FLAT


def test_limits_hold():
    _, sets = joint()
    fits = fit(block(sets), options=FitOptions(tE_max=20.0))
    assert fits.status[0] == AT_BOUND
    assert fits.tE[0] == pytest.approx(20, rel=1e-12)
    fits = fit(block(sets), options=FitOptions(pspl_fit_u0_min=0.5))
    assert (fits.status[0], fits.u0[0]) == (AT_BOUND, 0.5)
    far = np.array([[440.0, 40.0, 0.4]])
    assert fit(block(sets), far, FitOptions(max_iterations=1)).status[0] == NOT_CONVERGED


@needs_jit
def test_objects_do_not_touch_each_other():
    _, sets = joint()
    alone, crowd = fit(block(sets)), fit(block(sets[:1], sets, [([], [], [])], sets[1:2]))
    np.testing.assert_array_equal(crowd.params[1], alone.params[0])
    np.testing.assert_array_equal(crowd.source_flux[1:4], alone.source_flux)
    assert isinstance(block(sets), Curves)
