"""The light of the simulated classes against formulas, published values and brute force."""

import numpy as np
import pytest

from skytrawl.catalogs import simulate_curves as curves
from skytrawl.catalogs.simulate_chunks import noiseless, simulation
from skytrawl.catalogs.simulate_lens import binary_magnification, paczynski, planetary


def sight_of(time: np.ndarray) -> curves.Sight:
    return curves.Sight(time, np.ones(len(time)), 15.0, 20.0, 25.0)


def column(**values: float) -> curves.Values:
    return {name: np.array([value]) for name, value in values.items()}


def test_peak_of_microlensing() -> None:
    """The largest magnification is Paczynski's of u0, in the archive's own simulation."""
    made = simulation("roman-bulge", 12, 4, years=0.4, rates={"microlensing": 1.0})
    time = None
    for rows in made.truths():
        flux = noiseless(made, rows)
        visits = made.exposures(0).visits
        time = visits.time[visits.band == 1]
        main = flux[:, visits.band == 1]
        base = 10 ** (-0.4 * (rows["mag_F146"] - 31.4))
        u0 = rows["u0"]
        wanted = 1 + rows["blend"] * ((u0**2 + 2) / (u0 * np.sqrt(u0**2 + 4)) - 1)
        inside = (rows["t0"] > time[0]) & (rows["t0"] < time[-1])
        # The nearest exposure is at most 6 minutes (and a lost one) from the peak.
        np.testing.assert_allclose((main.max(axis=1) / base)[inside], wanted[inside], rtol=2e-3)
    assert time is not None


def test_single_lens() -> None:
    assert paczynski(np.array([1.0])) == pytest.approx(3 / np.sqrt(5))
    assert paczynski(np.array([0.0]))[0] == pytest.approx(1000, rel=1e-3)
    assert paczynski(np.array([50.0]))[0] == pytest.approx(1, abs=1e-6)


def test_two_lenses_against_a_published_value() -> None:
    """VBBinaryLensing's documentation: BinaryMag0(s 0.8, q 0.1, y 0.01, 0.01) is 18.18....

    https://github.com/valboz/VBBinaryLensing/blob/master/docs/BinaryLenses.md
    """
    found = binary_magnification(np.array([0.01]), np.array([0.01]), 0.8, 0.1)
    assert found[0] == pytest.approx(18.185, abs=0.006)


def shot(y1: float, y2: float, s: float, q: float, half: float = 0.02) -> float:
    """Mean magnification over a small square, by shooting rays back from the lens plane."""
    n, edge = 3000, 3.0
    line = (np.arange(n) + 0.5) / n * 2 * edge - edge
    star, planet = -s * q / (1 + q), s / (1 + q)
    hits = 0
    for row in line:
        z = line + 1j * row
        w = z - 1 / (1 + q) / np.conj(z - star) - q / (1 + q) / np.conj(z - planet)
        hits += np.count_nonzero((np.abs(w.real - y1) < half) & (np.abs(w.imag - y2) < half))
    return hits * (2 * edge / n) ** 2 / (2 * half) ** 2


@pytest.mark.parametrize(("y1", "y2", "s", "q"), [(0.1, 0.2, 1.2, 0.01), (0.5, 0.5, 0.7, 0.3)])
def test_two_lenses_against_rays(y1: float, y2: float, s: float, q: float) -> None:
    found = binary_magnification(np.array([y1]), np.array([y2]), s, q)
    assert found[0] == pytest.approx(shot(y1, y2, s, q), rel=0.01)


def test_two_lenses_in_the_limits() -> None:
    generator = np.random.default_rng(1)
    y = generator.uniform(-2, 2, (2, 500))
    single = paczynski(np.hypot(*y))
    # A planet of no weight; the odd source on its tiny caustic aside.
    ratio = binary_magnification(y[0], y[1], 1.3, 1e-7) / single
    assert np.median(np.abs(ratio - 1)) < 1e-6
    assert np.mean(np.abs(ratio - 1) < 1e-4) > 0.99
    # Two halves almost at one place, and symmetry about the axis.
    np.testing.assert_allclose(binary_magnification(y[0], y[1], 1e-3, 1.0), single, rtol=1e-4)
    above, below = (binary_magnification(y[0], sign * y[1], 0.9, 0.01) for sign in (1, -1))
    np.testing.assert_allclose(above, below, rtol=1e-6)
    # Inside the caustic of equal masses there are five images, and at least 3 in magnification.
    assert binary_magnification(np.zeros(1), np.zeros(1), 1.0, 1.0)[0] > 3
    # No step where the formula of one lens takes over.
    angle = generator.uniform(0, 2 * np.pi, 200)
    inner, outer = (planetary(u * np.cos(angle), u * np.sin(angle), 1.7, 0.01) for u in (2.9999, 3.0001))
    np.testing.assert_allclose(inner, outer, rtol=1e-3)
    assert binary_magnification(np.zeros(0), np.zeros(0), 1.0, 0.1).shape == (0,)


def test_planets_leave_a_trace() -> None:
    generator = np.random.default_rng(5)
    time = np.linspace(0, 72, 4000)
    sight = sight_of(time)
    values = curves.draw_planet(generator, 40, sight)
    values["t0"][:], values["t_e"][:] = 36.0, 10.0
    flux = np.ones((40, len(time)))
    change = np.abs(curves.planet(flux, sight, values) / curves.microlensing(flux, sight, values) - 1)
    assert (change.max(axis=1) > 0.02).mean() > 0.6
    # The path keeps its distance.
    tau = (time - 36) / 10
    a, u0 = values["alpha"][:, None], values["u0"][:, None]
    y1, y2 = tau * np.cos(a) - u0 * np.sin(a), tau * np.sin(a) + u0 * np.cos(a)
    np.testing.assert_allclose(np.hypot(y1, y2).min(axis=1), values["u0"], atol=1e-3)


def test_flare() -> None:
    """Table 1 of Davenport et al. 2014: peak 1, half maxima one width apart, the knee of the decay."""
    time = np.linspace(-2, 20, 220_001)
    values = column(t0=0.0, fwhm=1.0, flare=2.0)
    shape = (curves.flare(np.ones((1, len(time))), sight_of(time), values)[0] - 1) / 2
    assert shape.max() == pytest.approx(1, abs=0.01)
    assert abs(time[np.argmax(shape)]) < 1e-3
    above = time[shape >= 0.5]
    assert np.ptp(above) == pytest.approx(1, abs=0.1)  # a fit: 0.91
    assert (shape[time < -1.001] == 0).all()
    assert shape[np.searchsorted(time, 1.0)] == pytest.approx(0.689 * np.exp(-1.6) + 0.303 * np.exp(-0.2783))


def test_supernova() -> None:
    time = np.linspace(-100, 300, 400_001)
    values = column(t0=10.0, rise=4.0, fall=25.0, peak=18.0)
    shape = curves.supernova(np.zeros((1, len(time))), sight_of(time), values)[0]
    assert time[np.argmax(shape)] == pytest.approx(10, abs=0.01)
    assert -2.5 * np.log10(shape.max()) + 25 == pytest.approx(18, abs=1e-6)
    late = np.searchsorted(time, [200.0, 225.0])
    assert np.log(shape[late[0]] / shape[late[1]]) == pytest.approx(1, abs=1e-3)
    assert shape[0] < 1e-8 * shape.max()


def test_periodic() -> None:
    time = np.linspace(0, 30, 30_001)
    sight = sight_of(time)
    base = np.ones((1, len(time)))
    wave = -2.5 * np.log10(curves.sine(base, sight, column(period=3.0, t0=0.0, amplitude=0.3)))[0]
    assert (wave.max(), wave.min()) == pytest.approx((0.3, -0.3), abs=1e-4)
    tooth = -2.5 * np.log10(curves.rrlyrae(base, sight, column(period=3.0, t0=1.0, amplitude=0.8)))[0]
    assert np.ptp(tooth) == pytest.approx(0.8, abs=1e-3)
    assert tooth[1000] == pytest.approx(-0.4, abs=1e-3)
    assert np.mean(np.diff(tooth) > 0) == pytest.approx(0.85, abs=0.01)  # fades most of the time
    values = column(period=3.0, t0=1.0, depth=0.5, depth2=0.2, width=0.1)
    light = curves.eclipse(base, sight, values)[0]
    assert (light[1000], light[2500], light[1700]) == pytest.approx((0.5, 0.8, 1.0))
    assert np.mean(light < 1) == pytest.approx(0.2, abs=0.01)
