"""Finite sources and parallax against VBMicrolensing, jacscanomaly and formulas by hand; fits; bad input."""

from pathlib import Path

import numpy as np
import pytest

from skytrawl.catalogs import simulate_lens
from skytrawl.catalogs.ephemeris import (
    earth_ephemeris,
    read_satellite_table,
    to_bjd_tdb,
    vbm_earth_ephemeris,
)
from skytrawl.errors import BackendUnavailableError, ParameterError
from skytrawl.kernels.curves import prepare
from skytrawl.kernels.lens import vbm
from skytrawl.kernels.lens.parallax import Ephemeris, displace, sky
from skytrawl.kernels.lens.types import FEW_POINTS, FLAT, OUTSIDE
from skytrawl.kernels.lens.vbm_fit import fit, model, solutions
from skytrawl.kernels.lens.vbm_model import KINDS, Model, kind_of
from skytrawl.kernels.lens.vbm_scene import Parallax

from .conftest import needs_jit

library = pytest.importorskip("VBMicrolensing")

DATA = Path(library.__file__).parent / "data"
RA, DEC = 15 * (17 + 57 / 60 + 5 / 3600), -(30 + 22 / 60 + 59 / 3600)
TREF = 2457200.0
TIME = TREF + np.sort(np.random.default_rng(7).uniform(-300, 300, 1500))
ROWS = np.array([0, len(TIME)])


@pytest.fixture
def engine(tmp_path):
    def make(place="17:57:05.0 -30:22:59.0"):
        (tmp_path / "event.txt").write_text(place)
        found = library.VBMicrolensing()
        found.SetObjectCoordinates(str(tmp_path / "event.txt"), str(DATA))
        found.parallaxsystem = 1
        return found

    return make


def lenses(seed, count=10):
    """(t0 after TREF, tE, u0, piEN, piEE, rho), drawn widely."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        piEN, piEE = rng.normal(size=2) * 0.4
        tE, rho = np.exp(rng.uniform(1, 5)), np.exp(rng.uniform(-9, 0))
        yield rng.uniform(-50, 50), tE, rng.uniform(-1, 1), piEN, piEE, rho


def point(u):
    return (u * u + 2) / (u * np.sqrt(u * u + 4))


def test_finite_source_is_that_of_vbmicrolensing(engine):
    found = engine()
    for t0, tE, u0, _, _, rho in lenses(1):
        theirs = found.ESPLLightCurve([np.log(abs(u0)), np.log(tE), TREF + t0, np.log(rho)], TIME)[0]
        ours = vbm.finite_source(np.hypot((TIME - TREF - t0) / tE, u0), rho)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_finite_source_of_values_that_are_no_numbers():
    u = np.array([np.nan, 0.0, np.inf, -0.3, 0.3])
    found = vbm.finite_source(u, 0.1)
    assert np.isnan(found[[0, 2]]).all()
    assert found[1] == pytest.approx(
        np.sqrt(1 + 4 / 0.01), rel=1e-5
    )  # Witt & Mao 1994, source behind the lens
    assert found[3] == found[4]
    for rho in (0.0, -1.0, np.nan, 101.0):
        with pytest.raises(ParameterError, match="source radius"):
            vbm.finite_source(u, rho)


def test_far_binary_equals_the_polynomial():
    time = np.linspace(-40, 40, 41)
    found = vbm.binary_magnification(time + TREF, 1.2, 0.01, 0.3, 0.7, 1e-4, 20.0, TREF, tolerance=1e-5)
    tau = time / 20.0
    y1, y2 = 0.3 * np.sin(0.7) - tau * np.cos(0.7), -0.3 * np.cos(0.7) - tau * np.sin(0.7)
    theirs = simulate_lens.binary_magnification(y1, y2, 1.2, 0.01)
    far = theirs < 5  # one point lies at the caustic, where the size of the source counts
    assert far.sum() == 40
    np.testing.assert_allclose(found[far], theirs[far], rtol=1e-5)
    with pytest.raises(ParameterError, match="rho"):
        vbm.binary_magnification(time, 1.2, 0.01, 0.3, 0.7, 0.0, 20.0, 0.0)


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    import sys

    vbm._engine.cache_clear()
    monkeypatch.setitem(sys.modules, "VBMicrolensing", None)
    with pytest.raises(BackendUnavailableError, match=r"skytrawl\[lens\]"):
        vbm.require()


@pytest.mark.parametrize("satellite", [0, 1, 2])
@pytest.mark.parametrize("at_sun", [True, False])
def test_parallax_is_that_of_vbmicrolensing(engine, satellite, at_sun):
    table = read_satellite_table(DATA / f"satellite{satellite}.txt") if satellite else None
    found = engine()
    found.satellite, found.t_in_HJD = satellite, at_sun
    # With a fixed reference time VBMicrolensing forgets the light travel time of t0 after the first row.
    found.t0_par_fixed, found.t0_par = int(at_sun), TREF - 2450000.0
    for t0, tE, u0, piEN, piEE, rho in lenses(2):
        tref = TREF if at_sun else TREF + t0
        shift = displace(TIME, ROWS, [table], vbm_earth_ephemeris(), RA, DEC, tref, "vbm", at_sun)
        u = np.hypot(*shift.track(TREF + t0 - tref, tE, u0, piEN, piEE))
        track = [u0, np.log(tE), TREF + t0 - 2450000.0]
        theirs = found.PSPLLightCurveParallax([*track, piEN, piEE], TIME - 2450000.0)[0]
        np.testing.assert_allclose(point(u), theirs, rtol=1e-6)
        theirs = found.ESPLLightCurveParallax([*track, np.log(rho), piEN, piEE], TIME - 2450000.0)[0]
        np.testing.assert_allclose(vbm.finite_source(u, rho), theirs, rtol=1e-6)


def test_gulls_is_vbmicrolensing_in_another_frame(engine):
    # At the pole of the ecliptic light travel times vanish, and the frames differ by an even motion: the
    # offset and speed of the telescope from the Earth at tref go into t0, u0, tE and the direction of piE.
    ra, dec = 270.0, 66.5607083
    found = engine("18:00:00.0 66:33:38.55")
    found.satellite, found.t_in_HJD, found.t0_par_fixed, found.t0_par = 1, True, 1, TREF - 2450000.0
    earth, table = vbm_earth_ephemeris(), read_satellite_table(DATA / "satellite1.txt")
    shift = displace(TIME, ROWS, [table], earth, ra, dec, TREF, "gulls")
    _, north, east = sky(ra, dec)
    offset, speed = table.at(np.array([TREF]))[0], table.speed(TREF)
    for t0, tE, u0, piEN, piEE, _ in lenses(3):
        size = np.hypot(piEN, piEE)
        along = np.array([piEN, piEE]) / size
        across = np.array([-along[1], along[0]])
        # place of the source at tref and its motion, to (north, east), as seen from the Earth
        place = along * (-t0 / tE) + across * u0 + size * np.array([offset @ north, offset @ east])
        motion = along / tE + size * np.array([speed @ north, speed @ east])
        rate = np.hypot(*motion)
        ahead = motion / rate
        theirs_t0 = -(place @ ahead) / rate
        theirs_u0 = place @ np.array([-ahead[1], ahead[0]])
        track = [theirs_u0, -np.log(rate), TREF - 2450000.0 + theirs_t0, *(size * ahead)]
        theirs = found.PSPLLightCurveParallax(track, TIME - 2450000.0)[0]
        ours = point(np.hypot(*shift.track(t0, tE, u0, piEN, piEE)))
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_annual_parallax_by_hand():
    # Gould 2004, equations 1 to 6, with the Earth from erfa at each moment; light crosses the au in 499 s.
    from erfa import epv00

    toward, north, east = sky(RA, DEC)

    def earth(days, key="p"):
        return epv00(TREF, days)[0][key]

    days = TIME - TREF
    passing, first = days, 0.0
    for _ in range(5):
        passing = days - earth(passing) @ toward * 499.004784 / 86400
        first = -(earth(first) @ toward) * 499.004784 / 86400
    s = -(earth(passing) - earth(first) - np.outer(days, earth(first, "v")))  # the Sun, from the Earth
    shift = displace(TIME, ROWS, [None], earth_ephemeris(TIME[0], TIME[-1]), RA, DEC, TREF)
    # Straight lines over 1/16 d are off by h^2 / 8 times the second derivative: the places at t and tref by
    # 1.5e-7 au each, the velocity at tref by 2.5e-9 au/d.
    bound = 3e-7 + 2.5e-9 * np.abs(days)
    assert (np.abs(shift.north + s @ north) < bound).all()
    assert (np.abs(shift.east + s @ east) < bound).all()
    for t0, tE, u0, piEN, piEE, _ in lenses(4):
        tau = (days - t0) / tE + piEN * (s @ north) + piEE * (s @ east)
        beta = u0 - piEE * (s @ north) + piEN * (s @ east)
        found = shift.track(t0, tE, u0, piEN, piEE)
        assert (np.abs(np.hypot(*found) - np.hypot(tau, beta)) < 2 * bound * np.hypot(piEN, piEE)).all()


@needs_jit
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("convention", ["annual", "vbm", "gulls"])
def test_tracks_are_those_of_jacscanomaly(convention):
    from erfa import epv00

    jnp = pytest.importorskip("jax.numpy")
    trajectory = pytest.importorskip("jacscanomaly.trajectory")
    path = DATA / "satellite1.txt"
    if convention == "annual":
        projector = trajectory.make_parallax_projector(RA, DEC, TREF)
    else:
        projector = trajectory.make_space_parallax_projector(RA, DEC, TREF, str(path), convention=convention)
    tables = [None if convention == "annual" else read_satellite_table(path)]
    frame = "vbm" if convention == "annual" else convention
    # Its Earth is counted from the barycentre, whose acceleration makes 5e-4 au in 300 days.
    days = np.arange(-400, 400, 1 / 16)
    earth = Ephemeris(TREF + days, epv00(TREF, days)[1]["p"])
    shift = displace(TIME, ROWS, tables, earth, RA, DEC, TREF, frame)
    of = trajectory.u_parallax if convention == "annual" else trajectory.u_space_parallax
    for t0, tE, u0, piEN, piEE, _ in lenses(5, 4):
        theirs = np.asarray(of(jnp.asarray(TIME), TREF + t0, tE, u0, piEN, piEE, projector))
        # Its tables have a row a day, for places at t and tref (4e-5 au each) and for the speed (7e-7 au/d).
        allowed = np.hypot(piEN, piEE) * (8e-5 + 7e-7 * np.abs(TIME - TREF))
        assert (np.abs(np.hypot(*shift.track(t0, tE, u0, piEN, piEE)) - theirs) < allowed).all()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_derivatives(kind):
    what = kind_of(kind)
    tables = [read_satellite_table(DATA / "satellite1.txt") if what.space else None]
    shift = displace(TIME, ROWS, tables, vbm_earth_ephemeris(), RA, DEC, TREF) if what.parallax else None
    ours = Model(what, TIME - TREF, shift)
    x = np.array([3.0, 3.5, 0.35, *[-2.5] * what.source, *[0.2, -0.3] * what.parallax])
    by = ours.derivatives(x)[1]
    # Differences of finite sources show the kinks of the table; the derivatives are smooth.
    tolerance = 0.02 if what.source else 1e-5
    for k, step in enumerate(
        np.array([0.1, 0.005, 0.003, 0.05, 0.003, 0.003]) * (1 if what.source else 0.01)
    ):
        if k < len(x):
            more, less = (ours.magnification(x + sign * step * np.eye(len(x))[k]) for sign in (1, -1))
            assert np.abs((more - less) / (2 * step) - by[k]).max() <= tolerance * np.abs(by[k]).max()


def event(rng, lens, kind, parallax, labels=(0,), error=0.01):
    """A light curve of a lens in the shape `prepare` takes, one data set for each label."""
    what, n = kind_of(kind), 600
    time = np.tile(TREF + np.sort(rng.uniform(-120, 120, n)), len(labels))
    rows = np.arange(len(labels) + 1) * n
    shift = None
    if what.parallax:
        tables = parallax.telescopes(np.array(labels)) if what.space else [None] * len(labels)
        shift = displace(time, rows, tables, parallax.earth, RA, DEC, TREF)
    flux = 2.0 * Model(what, time - TREF, shift).magnification(np.array(lens)) + 1.0
    return time, flux + error * rng.normal(size=len(time)), np.full(len(time), error), np.repeat(labels, n)


SCENE = Parallax(vbm_earth_ephemeris(), RA, DEC, TREF, {1: read_satellite_table(DATA / "satellite1.txt")})
LENS = {"fspl": [2.0, 3.2, 0.03, np.log(0.04)], "pspl_parallax": [2.0, 3.9, 0.2, 0.3, -0.2]}
LENS["fspl_parallax"] = [2.0, 3.9, 0.03, np.log(0.04), 0.3, -0.2]
LENS["pspl_space_parallax"], LENS["fspl_space_parallax"] = LENS["pspl_parallax"], LENS["fspl_parallax"]


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=needs_jit if k == "fspl_space_parallax" else ()) for k in LENS]
)
def test_fits_of_every_kind(kind):
    labels = (0, 1) if "space" in kind else (0,)
    rows = event(np.random.default_rng(3), LENS[kind], kind, SCENE, labels)
    curves, _ = prepare(*rows, np.array([0, len(rows[0])]))
    fits, found = solutions(curves, kind=kind, parallax=SCENE)
    truth = np.array(LENS[kind])
    truth[[1, 3] if "fspl" in kind else [1]] = np.exp(truth[[1, 3] if "fspl" in kind else [1]])
    truth[0] += TREF
    near = (np.abs(found.params[0] - truth) <= 4 * np.sqrt(np.einsum("mkk->mk", found.covariance[0]))).all(1)
    assert (near & (found.chi2[0] < fits.chi2[0] + 9)).any()
    assert fits.names == kind_of(kind).names
    assert 0.85 < fits.chi2[0] / fits.dof[0] < 1.15
    assert (np.abs(fits.source_flux - 2.0) < 5 * fits.source_error).all()
    assert (np.abs(fits.blend_flux - 1.0) < 5 * fits.blend_error).all()
    residual = (curves.flux - model(curves, fits, kind=kind, parallax=SCENE)) / curves.error
    assert residual @ residual == pytest.approx(fits.chi2[0], rel=1e-9)


@needs_jit
def test_units_and_offsets_of_the_times_change_nothing():
    time, flux, error, band = event(np.random.default_rng(4), LENS["fspl"], "fspl", None)
    found = []
    for offset, unit in ((0.0, 1.0), (TREF, 1.0), (0.0, 1e-11)):
        rows = (time - TREF + offset, flux * unit, error * unit, band)
        curves, _ = prepare(*rows, np.array([0, len(time)]))
        fits = fit(curves, kind="fspl")
        found.append([*(fits.params[0] - [offset, 0, 0, 0]), fits.chi2[0], fits.source_flux[0] / unit])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-4)


def test_bad_objects_have_a_status_and_harm_nobody():
    rng = np.random.default_rng(5)
    good = event(rng, LENS["pspl_parallax"], "pspl_parallax", SCENE)
    n = len(good[0])
    few = tuple(column[:6] for column in good)
    constant = (good[0], np.ones(n), good[2], good[3])
    short = (good[0] - 2450000.0, *good[1:])
    missing = (good[0], np.full(n, np.nan), *good[2:])
    negative = (good[0], good[1] - 1e3, *good[2:])
    blocks = [good, few, constant, short, missing, negative, good]
    offsets = np.concatenate([[0], np.cumsum([len(block[0]) for block in blocks])])
    curves, _ = prepare(*(np.concatenate(column) for column in zip(*blocks, strict=True)), offsets)
    ra = np.full(len(blocks), RA)
    ra[-1] = np.nan
    scene = Parallax(SCENE.earth, ra, DEC)
    fits = fit(curves, kind="pspl_parallax", parallax=scene)
    assert fits.status.tolist()[1:5] == [FEW_POINTS, FLAT, OUTSIDE, FEW_POINTS]
    assert fits.status[6] == OUTSIDE
    assert fits.fitted.tolist() == [True, False, False, False, False, True, False]
    assert np.isnan(fits.params[~fits.fitted]).all()
    np.testing.assert_allclose(fits.chi2[5], fits.chi2[0], rtol=1e-6)
    assert np.isfinite(model(curves, fits, kind="pspl_parallax", parallax=scene)).all()


def test_what_cannot_be_fitted_is_said():
    curves, _ = prepare(*event(np.random.default_rng(6), LENS["fspl"], "fspl", None), np.array([0, 600]))
    with pytest.raises(ParameterError, match="choose one of fspl"):
        fit(curves, kind="pspl_xallarap")
    with pytest.raises(ParameterError, match="parallax="):
        fit(curves, kind="pspl_parallax")
    with pytest.raises(ParameterError, match="satellite="):
        fit(curves, kind="pspl_space_parallax", parallax=Parallax(SCENE.earth, RA, DEC))
    with pytest.raises(ParameterError, match="'vbm' or 'gulls'"):
        Parallax(SCENE.earth, RA, DEC, space_parallax_convention="mulens")
    with pytest.raises(ParameterError, match="ascend"):
        Parallax(Ephemeris(np.array([2.0, 1.0, 3.0]), np.zeros((3, 3))), RA, DEC)
    with pytest.raises(ValueError, match="start has shape"):
        fit(curves, np.zeros((1, 7)), kind="fspl")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no line"),
        ("2457000.5 10 20\n", "line 1"),
        ("# x\n2457000.5 10 20 1\n7001.5 10 20 1\n", "line 3"),
        ("2457000.5 10 20 1\n2457002.5 10 20 1\n2457001.5 10 20 1\n", "ascend"),
        ("2457000.5 10 20 1\n2457001.5 nan 20 1\n2457002.5 10 20 1\n", "finite"),
    ],
)
def test_faults_of_satellite_tables(tmp_path, text, fault):
    (tmp_path / "satellite.txt").write_text(text)
    with pytest.raises(ParameterError, match=fault):
        read_satellite_table(tmp_path / "satellite.txt")
    with pytest.raises(ParameterError, match="cannot be read"):
        read_satellite_table(tmp_path / "absent.txt")


def test_barycentric_dates_are_those_of_astropy():
    from astropy import units
    from astropy.coordinates import EarthLocation, SkyCoord
    from astropy.time import Time

    mjd = np.array([51544.25, 57000.1, np.nan, 59000.9])
    place = SkyCoord(RA, DEC, unit="deg")
    centre = EarthLocation.from_geocentric(0, 0, 0, unit=units.m)
    moments = Time(mjd[[0, 1, 3]], format="mjd", scale="utc", location=centre)
    theirs = (moments.tdb + moments.light_travel_time(place, "barycentric", ephemeris="builtin")).jd
    found = to_bjd_tdb(mjd, RA, DEC, scale="utc", reference_position="geocenter")
    assert np.isnan(found[2])
    assert np.abs(found[[0, 1, 3]] - theirs).max() < 1e-3 / 86400
    sun = moments + moments.light_travel_time(place, "heliocentric", ephemeris="builtin")
    again = to_bjd_tdb(sun.utc.mjd, RA, DEC, scale="utc", reference_position="heliocenter")
    assert np.abs(again - theirs).max() < 1e-3 / 86400
    same = to_bjd_tdb(mjd, RA, DEC, scale="tdb", reference_position="barycenter")
    np.testing.assert_array_equal(same, mjd + 2400000.5)
    for word, value in (("scale", "local"), ("reference_position", "unknown")):
        with pytest.raises(ParameterError, match="state"):
            to_bjd_tdb(mjd, RA, DEC, **{"scale": "utc", "reference_position": "geocenter", word: value})
