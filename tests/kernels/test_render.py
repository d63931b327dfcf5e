"""Sources, galaxies and charge on pixels: light, noise and signal-to-noise are what they should be."""

import numpy as np
import pytest
from scipy import integrate

from skytrawl.kernels import flags
from skytrawl.kernels.render import MoffatField, add_galaxies
from skytrawl.kernels.render.detector import Detector, cosmic_rays, expose
from skytrawl.kernels.render.galaxies import sersic_mixture
from skytrawl.kernels.render.stamps import blurred, weigh

from .conftest import needs_jit


def field(fwhm: float, size: int = 101, e1: float = 0.1, e2: float = -0.05) -> MoffatField:
    one = np.array([1.0, 0, 0, 0, 0, 0])
    return MoffatField(fwhm * one, e1 * one, e2 * one, 3.5, (size, size))


@pytest.mark.parametrize("fwhm", [2.2, 4.0])
def test_a_point_source_is_integrated_over_each_pixel(fwhm: float) -> None:
    psf, x, y = field(fwhm), 50.3, 49.6
    image = np.zeros((101, 101))
    psf.add(image, np.array([x]), np.array([y]), np.array([1.0]), 200.0)
    xx, xy, yy = psf.quadratics(np.array([x]), np.array([y]))[0]
    norm = (psf.beta - 1) / np.pi * np.sqrt(xx * yy - xy**2)

    def light(v: float, u: float) -> float:
        return float(norm * (1 + xx * u * u + 2 * xy * u * v + yy * v * v) ** -psf.beta)

    for j, i in ((50, 50), (49, 50), (47, 53), (40, 55), (20, 20)):
        truth, _ = integrate.dblquad(light, i - 0.5 - x, i + 0.5 - x, j - 0.5 - y, j + 0.5 - y, epsabs=1e-14)
        assert image[j, i] == pytest.approx(truth, rel=1e-4)
    assert image.sum() == pytest.approx(1.0, abs=1e-5)
    # The half of the flux above half maximum, without pixels, lies within the stated width.
    covariance = psf.covariances(np.array([x]), np.array([y]))[0]
    area = np.sqrt(covariance[0] * covariance[2] - covariance[1] ** 2) * 4 * (2 ** (1 / psf.beta) - 1)
    assert np.sqrt(area) == pytest.approx(fwhm, rel=1e-6)


@pytest.mark.parametrize("fwhm", [2.2, 3.5])
def test_a_galaxy_without_size_is_a_point(fwhm: float) -> None:
    psf, x, y = field(fwhm, 141), np.array([70.3]), np.array([69.6])
    point, drawn = np.zeros((141, 141)), np.zeros((141, 141))
    psf.add(point, x, y, np.ones(1), 200.0)
    covariance = psf.covariances(x, y)
    add_galaxies(drawn, x, y, np.ones(1), np.full((1, 3), 1e-12), np.ones(1), covariance, 3.5, fwhm)
    assert np.abs(drawn - point).max() < 1e-4 * point.max()


@needs_jit
@pytest.mark.parametrize("fwhm", [2.2, 3.5])
def test_a_galaxy_is_convolved_with_the_psf(fwhm: float) -> None:
    psf, x, y = field(fwhm, 141), np.array([70.3]), np.array([69.6])
    covariance = psf.covariances(x, y)
    # Against a sum over many points of the galaxy itself, here its Gaussians sampled by quadrature.
    axes = np.array([[2.0, 0.3], [0.0, 1.2]])
    whole = axes @ axes.T
    shape = np.array([[whole[0, 0], whole[0, 1], whole[1, 1]]])
    galaxy = np.zeros((141, 141))
    add_galaxies(galaxy, x, y, np.ones(1), shape, np.array([0.5]), covariance, 3.5, fwhm)
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    _, (sigma,) = sersic_mixture(0.5)
    u, v = (sigma * part.ravel() for part in np.meshgrid(nodes, nodes))
    share = np.outer(weights, weights).ravel() / (2 * np.pi)
    places = axes @ np.stack([u, v])
    summed = np.zeros((141, 141))
    psf.add(summed, x[0] + places[0], y[0] + places[1], share, 200.0)
    assert galaxy.sum() == pytest.approx(1.0, abs=1e-4)
    assert np.abs(galaxy - summed).max() < 3e-4 * summed.max()

    # And a stamp of the PSF convolved with it, as injection does it.
    at = psf.at(70.3, 69.6, dx=float(x[0] - 70), dy=float(y[0] - 70), size=61)
    stamp = blurred(at[None], shape, np.array([0.5]))[0]
    half = stamp.shape[0] // 2
    assert np.abs(stamp - galaxy[70 - half : 71 + half, 70 - half : 71 + half]).max() < 2e-3 * galaxy.max()


@pytest.mark.parametrize("index", [0.5, 1.0, 2.0, 4.0])
def test_the_gaussians_of_a_sersic_profile(index: float) -> None:
    weight, sigma = sersic_mixture(index)
    inside = 1 - weight @ np.exp(-0.5 / sigma**2)
    assert inside == pytest.approx(0.5, abs=1e-9)
    assert weight.sum() == pytest.approx(1.0)
    assert (weight > 0).all()
    if index == 1.0:
        r = np.linspace(0.1, 2.5, 50)
        profile = np.exp(-0.5 * (r[:, None] / sigma) ** 2) @ (weight / sigma**2)
        exact = np.exp(-1.678 * r)
        assert np.abs(profile / profile[10] / (exact / exact[10]) - 1).max() < 0.03


def test_noise_is_that_of_photons_and_amplifier() -> None:
    detector = Detector(gain=2.5, read_noise=6.0, saturation=1e6)
    generator = np.random.default_rng(1)
    for level in (0.0, 3.0, 400.0, 20_000.0):
        image, mask = expose(generator, np.full((500, 500), level, np.float32), detector)
        sigma = np.sqrt(level + 36.0)
        assert image.mean() * 2.5 == pytest.approx(level, abs=4 * sigma / 500)
        assert image.var() * 6.25 == pytest.approx(level + 36.0, rel=4 * np.sqrt(2) / 500)
        assert not mask.any()


def test_full_wells_spill_along_columns_and_keep_their_charge() -> None:
    expected = np.full((300, 60), 50.0, np.float32)
    field(3.0, 300, 0, 0).add(expected, np.array([30.0]), np.array([150.0]), np.array([6e6]), 40.0)
    detector = Detector(gain=2.0, read_noise=0.0, saturation=40_000.0)
    image, mask = expose(np.random.default_rng(2), expected, detector)
    total = float(expected.sum(dtype=float))
    assert image.sum(dtype=float) * 2 == pytest.approx(total, abs=6 * np.sqrt(total))
    full = (mask & flags.SATURATED) != 0
    assert image.max() == 40_000.0
    assert (image[full] == 40_000.0).all()
    assert full[150, 30]
    rows = np.flatnonzero(full[:, 30])
    assert len(rows) > 3 * np.flatnonzero(full[150]).size
    assert abs(rows.mean() - 150) < 2
    assert ((mask & flags.BLEED) != 0).any(axis=0)[27:34].any()


def test_cosmic_rays_leave_the_charge_of_their_path() -> None:
    detector = Detector(4.0, 10.0, 44_000.0, thickness=250 / 15, pixel=15.0)
    charge = cosmic_rays(np.random.default_rng(0), (2048, 2048), 400, detector)
    # The mean path of the cos^2 law is 4/3 of the depth; a few leave at the edge, the longest are cut.
    assert charge.sum() / 400 == pytest.approx(80 * 250 * 4 / 3, rel=0.15)
    assert 400 * 5 < (charge > 0).sum() < 400 * 120


def test_signal_to_noise_is_that_of_optimal_weights() -> None:
    psf = field(3.0)
    stamp = psf.stamps(np.array([50.2]), np.array([49.7]), 31)
    variance = np.full((101, 101), 9.0, np.float32)
    snr, share = weigh(variance, np.zeros((101, 101), bool), stamp, *np.array([[50.2], [49.7], [300.0]]))
    assert snr[0] == pytest.approx(300 * np.sqrt(np.square(stamp, dtype=float).sum() / 9), rel=1e-6)
    assert share[0] == pytest.approx(1.0)
    half = np.zeros((101, 101), bool)
    half[:, :50] = True
    assert 0.2 < weigh(variance, half, stamp, *np.array([[50.2], [49.7], [300.0]]))[1][0] < 0.8
