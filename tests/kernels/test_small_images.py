"""Every compiled image kernel on images of some dozen pixels, against the array API or what must come out."""

from typing import Any

import array_api_strict as strict
import numpy as np
import pytest

from skytrawl.kernels import flags
from skytrawl.kernels.detect import detect
from skytrawl.kernels.detect.forced import forced
from skytrawl.kernels.detect.link import link
from skytrawl.kernels.difference import subtract
from skytrawl.kernels.measure import cosmic_rays, match, measure
from skytrawl.kernels.psf import PsfModel
from skytrawl.kernels.resample import CoordinateGrid, Planes, resample
from skytrawl.kernels.resample.coadd import Coadd


def gaussian(size: int, fwhm: float) -> np.ndarray:
    axis = np.arange(size) - size // 2
    profile = np.exp(-0.5 * (axis / (fwhm / 2.3548)) ** 2)
    stamp = np.outer(profile, profile)
    return stamp / stamp.sum()


def scene(
    shape: tuple[int, int], stars: list[tuple[float, float, float]], fwhm: float, sigma: float, seed: int
) -> Planes:
    """Gaussian stars on noise, with a hole and a bad pixel."""
    y, x = np.indices(shape)
    width = fwhm / 2.3548
    image = np.zeros(shape)
    for sx, sy, flux in stars:
        image += flux * np.exp(-0.5 * ((x - sx) ** 2 + (y - sy) ** 2) / width**2) / (2 * np.pi * width**2)
    noisy = image + np.random.default_rng(seed).normal(0, sigma, shape)
    mask = np.zeros(shape, np.uint16)
    mask[3, 5] = flags.BAD
    noisy[3, 5] = 1e6
    return Planes(np.float32(noisy), np.full(shape, sigma**2, np.float32), mask)


def foreign(planes: Planes) -> Planes:
    return Planes(*(strict.asarray(plane) for plane in planes))


STARS = [(11.3, 9.8, 900.0), (24.0, 20.6, 1500.0), (8.7, 25.1, 600.0)]


@pytest.fixture(scope="module")
def crowd() -> Planes:
    rng = np.random.default_rng(8)
    at = [(12 + 22 * i, 12 + 22 * j) for i in range(3) for j in range(3)]
    stars = [(x + rng.uniform(-1, 1), y + rng.uniform(-1, 1), rng.uniform(800, 4000)) for x, y in at]
    return scene((70, 70), stars, 2.8, 1.0, 9)


def test_resampling_equals_the_array_api() -> None:
    given = scene((34, 36), STARS, 2.8, 1.0, 1)
    given.image[20, 4] = np.nan
    turn = 1.04 * np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    grid = CoordinateGrid.affine((30, 31), turn, (2.3, -1.4))
    found, other = resample(given, grid, (30, 31)), resample(foreign(given), grid, (30, 31), xp=strict)
    np.testing.assert_array_equal(found.mask, np.asarray(other.mask))
    np.testing.assert_allclose(found.image, np.asarray(other.image), rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(found.variance, np.asarray(other.variance), rtol=1e-5)


def test_coadds_equal_the_array_api_and_reject() -> None:
    exposures = [scene((20, 22), STARS[:1], 2.8, 1.0, seed) for seed in range(4)]
    exposures[2].image[14, 15] += 500.0
    done = []
    for xp in (None, strict):
        coadd = Coadd((20, 22), xp=xp)
        for planes in exposures:
            grid = CoordinateGrid.affine((20, 22), np.eye(2))
            coadd.add(resample(foreign(planes) if xp else planes, grid, (20, 22), xp=xp))
        done.append(coadd.finish())
    np.testing.assert_array_equal(done[0].n_rejected, np.asarray(done[1].n_rejected))
    np.testing.assert_allclose(done[0].planes.image, np.asarray(done[1].planes.image), rtol=1e-4, atol=1e-3)
    assert done[0].n_rejected[14, 15] == 1
    assert abs(float(done[0].planes.image[14, 15])) < 5


def test_the_psf_of_a_coadd_is_the_mean_of_those_of_its_exposures() -> None:
    coadd, grid = Coadd((20, 22)), CoordinateGrid.affine((20, 22), np.eye(2))
    for seed, fwhm in ((1, 2.4), (2, 3.0)):
        resampled = resample(scene((20, 22), STARS[:1], fwhm, 1.0, seed), grid, (20, 22))
        coadd.add(resampled, weight=1.0, psf=PsfModel.constant(gaussian(9, fwhm)), grid=grid)
    stamp = coadd.finish().psf.at(10.0, 9.0)
    mean = 0.5 * (gaussian(9, 2.4) + gaussian(9, 3.0))
    assert np.abs(stamp - mean).max() < 0.03 * mean.max()


def test_a_cosmic_ray_is_not_a_star(crowd: Planes) -> None:
    image = crowd.image.copy()
    image[40, 20:24] += 300.0
    bad = (crowd.mask & flags.UNUSABLE) != 0
    found = cosmic_rays(image, bad, variance=crowd.variance, fwhm=2.8)
    assert found[40, 20:24].all()
    assert found.sum() <= 8


def test_detection_and_forced_photometry_equal_the_array_api() -> None:
    blend = [(8.0, 30.0, 150.0), (11.6, 31.0, 120.0), (12.0, 27.2, 90.0)]
    stars = [(11.3, 9.8, 90.0), (24.0, 20.6, -150.0), (30.0, 22.0, 80.0), *blend]
    score = scene((40, 44), stars, 2.8, 0.8, 3)
    error = np.full_like(score.image, 2.0)
    arguments: tuple[Any, ...] = (score.image, 2 * score.image, error, score.mask)
    found = detect(*arguments, fwhm=2.8, saddle=0.5, threshold=4.0)
    other = detect(*(strict.asarray(a) for a in arguments), fwhm=2.8, saddle=0.5, threshold=4.0, xp=strict)
    assert len(found["x"]) >= len(stars)
    for name in ("peak_x", "peak_y", "sign", "n_pixels", "flags"):
        np.testing.assert_array_equal(found[name], np.asarray(other[name]))
    np.testing.assert_allclose(found["flux"], np.asarray(other["flux"]), rtol=1e-5)
    at = forced(*arguments[1:], np.array([11.3, 0.2, 50.0]), np.array([9.8, 39.0, 3.0]))
    assert at["flags"][2] & flags.NO_DATA
    assert np.isfinite(at["flux"][:1]).all()


def test_links_of_a_few_candidates() -> None:
    arcsec = 1 / 3600
    ra = np.array([10.0, 10.0 + 0.3 * arcsec, 10.0 - 0.2 * arcsec, 10.0 + 5 * arcsec, 359.99999, np.nan])
    dec = np.array([0.0, 0.1 * arcsec, 0.0, 0.0, -5.0, 1.0])
    found = link(ra, dec, np.array([1.0, 2.0, 3.0, 1.0, 1.0, 1.0]), 1.0)
    assert found.object[0] == found.object[1] == found.object[2]
    assert len({int(number) for number in found.object}) == 4
    assert found.object[5] == -1
    assert found.n[found.object[0]] == found.n_epochs[found.object[0]] == 3


def test_subtraction_equals_the_array_api() -> None:
    new = scene((70, 72), [*STARS, (48.0, 44.0, 300.0)], 3.2, 1.0, 5)
    old = scene((70, 72), STARS, 2.6, 0.5, 6)
    models = [PsfModel.constant(gaussian(17, fwhm)) for fwhm in (3.2, 2.6)]
    options: dict[str, Any] = {
        "sigma_science": 1.0,
        "sigma_reference": 0.5,
        "shift_error": (0.05, 0.05),
        "relative_error": 0.01,
        "gain_science": 4.0,
        "tile": 64,
        "border": 16,
    }
    found = subtract(new, old, *models, **options)
    other = subtract(foreign(new), foreign(old), *models, **options, xp=strict)
    np.testing.assert_allclose(found.scorr, np.asarray(other.scorr), atol=5e-3)
    assert found.scorr[44, 48] > 5
    assert found.bad[3, 5]


def test_the_psf_of_a_small_field(crowd: Planes) -> None:
    bad = (crowd.mask & flags.UNUSABLE) != 0
    found = measure(crowd.image, bad, variance=crowd.variance, degree=0)
    assert found.fwhm == pytest.approx(2.8, rel=0.03)
    assert abs(found.background.median) < 0.2
    both = match(found.stars, found.stars)
    assert both.scale == pytest.approx(1.0, abs=1e-9)
