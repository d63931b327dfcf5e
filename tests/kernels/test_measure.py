"""Sky, stars, PSF, scale and cosmic rays on simulated and real images."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from pairs import READ_NOISE, draw, make_pair
from scipy.signal import fftconvolve
from scipy.spatial import cKDTree

from skytrawl.errors import ImageError
from skytrawl.kernels.measure import Measured, background, cosmic_rays, match, measure
from skytrawl.kernels.measure.profile import Variation
from skytrawl.kernels.measure.select import field_variation


def field(
    seed: int,
    *,
    size: int = 512,
    n: int = 105,
    fwhm: float = 3.6,
    most: float = 1e5,
    sky: float = 400.0,
    variation: float = 0.0,
    galaxies: int = 0,
    ramp: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image with its sky, variance from its counts, stars (x, y, flux)."""
    rng = np.random.default_rng([77, seed])
    x, y = rng.uniform(-5, size + 5, (2, n))
    flux = 300 / (1 - rng.uniform(0, 1 - 300 / most, n))
    light = np.zeros((size, size))
    for _ in range(galaxies):
        half, scale = 20, rng.uniform(0.7, 4.0)
        j, i = rng.integers(half, size - half, 2)
        grid = np.mgrid[-half : half + 1, -half : half + 1]
        disc = np.exp(-np.hypot(*grid) / scale)
        light[j - half : j + half + 1, i - half : i + half + 1] += rng.uniform(2e3, 2e4) * disc / disc.sum()
    if galaxies:
        psf = np.zeros((41, 41))
        draw(psf, np.array([20.0]), np.array([20.0]), np.array([1.0]), fwhm)
        light = fftconvolve(light, psf, mode="same")
    draw(light, x, y, flux, fwhm, variation)
    light += sky + ramp * np.arange(size)
    counts = rng.poisson(light) + rng.normal(0, READ_NOISE, light.shape)
    variance = np.maximum(counts, 0) + READ_NOISE**2
    return counts.astype(np.float32), variance.astype(np.float32), np.stack([x, y, flux], axis=1)


def found_flux(found: Measured, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True fluxes of the bright clean stars that were found, and the found ones over their errors."""
    stars = found.stars
    distance, near = cKDTree(truth[:, :2]).query(np.c_[stars.x, stars.y])
    good = stars.clean & (stars.snr > 20) & (distance < 1)
    return truth[near[good], 2], np.array([stars.flux[good], stars.flux_error[good]])


def test_sky_beneath_the_stars() -> None:
    image, variance, _ = field(0, ramp=0.1)
    found = measure(image, variance=variance).background
    truth = 400 + 0.1 * np.arange(512)
    # Skewness of Poisson noise and wings of stars would each shift it by half a count.
    assert abs((found.level - truth).mean()) < 0.35
    assert (found.level - truth).std() < 0.05 * np.sqrt(425)
    assert abs(found.median_sigma / np.sqrt(np.median(truth) + READ_NOISE**2) - 1) < 0.02


def test_noise_is_not_that_of_clipped_values() -> None:
    image = np.random.default_rng(1).normal(0, 20, (1024, 1024)).astype(np.float32)
    for stars in (True, False):
        assert abs(background(image, stars=stars).median_sigma / 20 - 1) < 0.004


def test_fluxes_and_positions_have_the_stated_errors() -> None:
    image, variance, truth = field(1, size=1024, n=420)
    found = measure(image, variance=variance)
    true, (flux, error) = found_flux(found, truth)
    common = np.average(flux / true - 1, weights=1 / error**2)
    assert abs(common) < 3 * found.common_error + 0.005
    pull = (flux / (1 + common) - true) / error
    assert len(pull) > 25
    assert 0.8 < pull.std() < 1.25
    assert abs(found.gain_slope - 1) < 0.05
    assert 0.9 < found.chi2 < 1.1


@pytest.mark.parametrize("fwhm", [2.0, 3.0, 5.0])
def test_width_at_all_samplings(fwhm: float) -> None:
    image, variance, _ = field(2, fwhm=fwhm)
    found = measure(image, variance=variance)
    assert abs(found.fwhm / fwhm - 1) < 0.02
    assert found.psf.shape[0] >= 8 * fwhm
    assert found.psf.degree == 0


def test_psf_follows_the_field() -> None:
    image, variance, _ = field(3, size=1024, n=420, variation=0.15)
    found = measure(image, variance=variance)
    assert found.psf.degree >= 1
    for x in (100, 512, 924):
        assert abs(found.psf.fwhm(x, 512) / (3.6 * (1 + 0.15 * (x / 1024 - 0.5))) - 1) < 0.025
    assert measure(image, variance=variance, degree=0).psf.degree == 0


def test_each_shape_of_the_psf_has_its_own_degree() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.uniform(-1, 1, (2, 80))
    error = np.full((80, 3), 0.004)
    value = rng.normal(size=(80, 3)) * np.hypot(error, 0.003)
    value[:, 0] += 0.02 * y**2
    value[:, 1] += 0.02 * y
    unit = SimpleNamespace(x=x, y=y, unit=lambda x, y: (x, y))
    chosen, found = field_variation(unit, np.arange(80), value, error, 2)
    assert found.degree == 2
    assert len(chosen) > 70
    # 1, x, x^2, y, xy, y^2
    expected = np.zeros((3, 6))
    expected[0, 5], expected[1, 3] = 0.02, 0.02
    np.testing.assert_allclose(found.amplitude, expected, atol=0.006)
    assert (found.amplitude[1, [2, 4, 5]] == 0).all()
    assert (found.amplitude[2] == 0).all()


def test_a_correction_of_lower_degree_is_added_to_its_own_terms() -> None:
    first = Variation(2, np.arange(18.0).reshape(3, 6))
    # 1, x, y among 1, x, x^2, y, xy, y^2
    more = first.corrected(Variation(1, np.full((3, 3), 100.0)))
    expected = first.amplitude + 100 * np.array([1, 1, 0, 1, 0, 0])
    assert more.degree == 2
    np.testing.assert_array_equal(more.amplitude, expected)


def test_galaxies_do_not_widen_the_psf() -> None:
    image, variance, _ = field(4, galaxies=40)
    assert abs(measure(image, variance=variance).fwhm / 3.6 - 1) < 0.02


def test_damage_is_kept_out() -> None:
    image, variance, truth = field(5)
    whole = measure(image, variance=variance)
    rng = np.random.default_rng(5)
    bad = np.zeros(image.shape, bool)
    bad[:, 200:204] = True
    rows, columns = rng.integers(0, 512, (2, 300))
    bad[rows, columns] = True
    brightest = truth[np.argmax(truth[:, 2]), :2].round().astype(int)
    core = np.hypot(*(np.mgrid[:512, :512] - brightest[::-1, None, None])) < 4
    bad |= core
    broken = image.copy()
    broken[bad] = rng.choice([np.nan, np.inf, 6e4, -1e5], int(bad.sum()))
    found = measure(broken, bad, variance=variance)
    assert abs(found.fwhm / whole.fwhm - 1) < 0.01
    assert np.isfinite(found.background.level).all()
    unmarked = broken.copy()
    unmarked[core] = 5e4  # saturated, and nobody said so
    assert abs(measure(np.where(core, unmarked, image), variance=variance).fwhm / 3.6 - 1) < 0.03


def test_units_do_not_matter() -> None:
    image, variance, _ = field(6)
    found = measure(image, variance=variance)
    scaled = measure(image * np.float32(1e-4), variance=variance * np.float32(1e-8))
    assert abs(scaled.fwhm / found.fwhm - 1) < 1e-3
    np.testing.assert_allclose(scaled.stars.flux[:20], 1e-4 * found.stars.flux[:20], rtol=1e-2)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.full((200, 200), np.nan, np.float32), "no usable pixel"),
        (np.random.default_rng(0).normal(100, 5, (200, 200)).astype(np.float32), "no star"),
        (np.zeros((200, 200), np.float32), "no star"),
    ],
)
def test_nothing_to_measure(image: np.ndarray, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        measure(image)


def test_scale_and_shift_have_the_stated_errors() -> None:
    pair = make_pair("C", 5, size=768, max_flux=1e5)
    both = match(*(measure(pair_image(pair, w), variance=pair.data_variance(w)).stars for w in SIDES))
    assert both.n_stars > 30
    assert abs(both.scale / pair.ratio - 1) < 0.03
    assert abs(both.dx - 0.15) < 0.03
    assert abs(both.dy + 0.1) < 0.03
    assert both.scale_error < 0.01
    assert both.dx_error < 0.02


SIDES = ("science", "reference")


def pair_image(pair: object, which: str) -> np.ndarray:
    return getattr(pair, which)


def test_variable_stars_do_not_move_the_scale() -> None:
    rng = np.random.default_rng(9)
    image, variance, _ = field(7)
    stars = measure(image, variance=variance).stars
    from dataclasses import replace

    changed = replace(stars, flux=stars.flux * np.where(rng.random(len(stars)) < 0.2, 1.5, 1.0) / 1.3)
    both = match(stars, replace(changed, flux_error=changed.flux_error / 1.3))
    assert abs(both.scale / 1.3 - 1) < 0.01
    with pytest.raises(ImageError, match="common"):
        match(stars, replace(stars, x=stars.x + 100))


@pytest.mark.parametrize("fwhm", [1.8, 3.6])
def test_cosmic_rays_are_found_and_stars_are_not(fwhm: float) -> None:
    image, _, _ = field(8, size=256, n=26, fwhm=fwhm, most=2e4)
    rng = np.random.default_rng(8)
    assert cosmic_rays(image, gain=1.0).sum() < 20
    hit = np.zeros(image.shape, bool)
    for _ in range(25):
        x, y, length, angle = *rng.integers(10, 246, 2), rng.integers(1, 8), rng.uniform(0, 6.3)
        steps = np.arange(0, length, 0.7)
        hit[(y + steps * np.sin(angle)).astype(int), (x + steps * np.cos(angle)).astype(int)] = True
    image[hit] += rng.uniform(300, 3000, int(hit.sum())).astype(np.float32)
    found = cosmic_rays(image, gain=1.0)
    assert (found & hit).sum() > 0.95 * hit.sum()
    assert (found & ~hit).sum() < 0.5 * hit.sum()


def test_real_exposures_agree_on_scale_and_shift(reference_data: Path) -> None:
    folder = reference_data / "images" / "decam_mini"
    names = ("DEC-OBS04a.mini.fits", "DEC-OBS04d.mini.fits", "DEC-OBS04e.mini.fits")
    found = [measure(fits.getdata(folder / name).astype(np.float32)) for name in names]
    for one in found:
        assert 3.5 < one.fwhm < 5.9
        assert one.n_used >= 5
        assert 0.8 < one.chi2 < 1.3
    for one in found[1:]:
        both = match(one.stars, found[0].stars)
        assert abs(both.scale - 1) < 0.06
        assert np.hypot(both.dx, both.dy) < 0.2
        assert both.scale_scatter < 0.03


def test_real_field_of_galaxies(reference_data: Path) -> None:
    (path,) = (reference_data / "images" / "nircam").glob("jw02561*i2d_stamp.fits")
    found = measure(fits.getdata(path).astype(np.float32))
    # The model of this exposure has 2.1 px before the drizzling.
    assert 2.1 < found.fwhm < 2.8
    assert found.chi2 < 1.5
