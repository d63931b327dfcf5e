"""Forced photometry: unbiased between the pixels, with the right errors, and honest where it is not."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skytrawl.errors import SchemaError
from skytrawl.kernels import flags
from skytrawl.kernels.detect.forced import COLUMNS, forced, psf_flux
from skytrawl.kernels.psf import PsfModel

from .conftest import needs_jit
from .detect_scenes import scene


def positions(rng, n, step):
    v, u = np.mgrid[0:n, 0:n] * step + step / 2.0
    return u.ravel() + rng.uniform(-0.5, 0.5, n * n), v.ravel() + rng.uniform(-0.5, 0.5, n * n)


@needs_jit
@pytest.mark.parametrize("fwhm", [2.6, 3.0, 4.5])
def test_pulls_of_sources_and_of_nothing(fwhm):
    rng = np.random.default_rng(11)
    pulls = {0.0: [], 1.0: [], 10.0: [], 100.0: []}
    for _ in range(3):
        x, y = positions(rng, 24, 42)
        snr = rng.choice(list(pulls), len(x)) * rng.choice([-1.0, 1.0], len(x))
        unit = 10.0 * fwhm / 0.55  # roughly one standard error
        _, flux_map, error, _ = scene(rng, (1008, 1008), x, y, snr * unit, fwhm=fwhm, source_noise=True)
        got = forced(flux_map, error, np.zeros(error.shape, np.uint16), x, y)
        assert (got["order"] == 8).all()
        assert not got["flags"].any()
        for level, found in pulls.items():
            at = np.abs(snr) == level
            # The sign of the source goes into the pull, so that a loss of flux shows.
            sign = np.where(snr[at] < 0, -1.0, 1.0)
            found.append((got["flux"][at] - snr[at] * unit) / got["flux_error"][at] * sign)
    for level, found in pulls.items():
        pull = np.concatenate(found)
        assert len(pull) > 380, level
        assert abs(pull.mean()) < 0.1 + 1.0 / np.sqrt(len(pull)), level
        assert abs(pull.std() - 1.0) < 0.1, level
    pull = np.concatenate([np.concatenate(found) for found in pulls.values()])
    assert abs(pull.mean()) < 0.1
    assert abs(pull.std() - 1.0) < 0.05


@needs_jit
def test_nearest_pixel_would_be_low():
    """What interpolation is for: half a pixel off on both axes."""
    rng = np.random.default_rng(12)
    x, y = np.array([30.5, 80.5]), np.array([30.5, 30.5])
    _, flux_map, error, _ = scene(rng, (61, 111), x, y, [1e5, -1e5], sigma=1.0)
    got = forced(flux_map, error, np.zeros(error.shape, np.uint16), x, y)
    assert_allclose(got["flux"], [1e5, -1e5], rtol=5e-4)
    assert abs(flux_map[30, 30]) < 0.95e5
    assert_allclose(got["snr"], got["flux"] / got["flux_error"])


def test_polynomials_are_exact():
    v, u = np.mgrid[0:20, 0:30].astype(float)
    plane = 3.0 + u - 2.0 * v + 0.1 * u * v + 0.01 * u**3 - 0.02 * v**2
    error = np.sqrt(5.0 + u + v)
    x, y = np.array([4.0, 10.3, 17.9]), np.array([5.5, 9.0, 12.2])
    got = forced(plane, error, np.zeros(plane.shape, np.uint16), x, y)
    want = 3.0 + x - 2.0 * y + 0.1 * x * y + 0.01 * x**3 - 0.02 * y**2
    assert_allclose(got["flux"], want, rtol=1e-6)
    assert_allclose(got["flux_error"], np.sqrt(5.0 + x + y), rtol=1e-6)


def test_fewer_pixels_near_holes_and_borders():
    plane = np.ones((20, 20), np.float32)
    plane[10, 10] = np.nan
    error = np.full((20, 20), 2.0, np.float32)
    mask = np.zeros((20, 20), np.uint16)
    mask[4, 4], mask[4, 6] = flags.SATURATED, flags.COSMIC_RAY
    x = [5.0, 6.5, 7.5, 8.5, 9.5, 10.0, 0.0, 0.5, 1.5, -0.4, 19.4, -0.6, np.nan, 4.5, 5.5]
    y = [5.0, 10.5, 10.5, 10.5, 10.5, 10.0, 0.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 4.5, 4.5]
    got = forced(plane, error, mask, np.array(x), np.array(y))
    assert got["order"].tolist() == [8, 6, 4, 2, 0, 0, 8, 2, 4, 0, 0, 0, 0, 8, 8]
    known = got["order"] > 0
    assert_allclose(got["flux"][known], 1.0)
    assert np.isnan(got["flux"][~known]).all()
    assert got["flags"][11] == got["flags"][12] == flags.NO_DATA
    assert got["flags"][13] == flags.SATURATED
    assert got["flags"][14] == flags.COSMIC_RAY
    assert not got["flags"][:11].any()


def test_input():
    plane, mask = np.ones((5, 5)), np.zeros((5, 5), np.uint16)
    assert [len(v) for v in forced(plane, plane, mask, [], []).values()] == [0] * len(COLUMNS)
    with pytest.raises(SchemaError, match="two vectors"):
        forced(plane, plane, mask, [1.0], [1.0, 2.0])
    with pytest.raises(SchemaError, match="flux_error"):
        forced(plane, plane[:2], mask, [1.0], [1.0])


def star_field(rng, n, size=31):
    """Stars of a PSF that varies over 300 pixels, without noise."""
    grid = np.hypot(*np.meshgrid(*2 * [np.arange(2 * size + 1) - size])) / 2
    narrow, wide = ((1 + (grid / width) ** 2) ** -3.0 for width in (2.0, 2.5))
    psf = PsfModel(np.float32([narrow + wide, wide - narrow, 0 * wide]) / 60, 1, 150, 150, 150, 150, 0.5)
    x, y = positions(rng, n, 300 // n)
    flux, image = rng.uniform(-50, 100, len(x)), np.zeros((300, 300), np.float32)
    half = psf.shape[0] // 2
    for u, v, f in zip(x, y, flux, strict=True):
        stamp = psf.at(u, v, dx=float(u - np.rint(u)), dy=float(v - np.rint(v)))
        rows, columns = (np.arange(-half, half + 1) + int(np.rint(c)) for c in (v, u))
        inside = np.ix_((rows >= 0) & (rows < 300), (columns >= 0) & (columns < 300))
        image[np.ix_(rows[(rows >= 0) & (rows < 300)], columns[(columns >= 0) & (columns < 300)])] += (
            f * stamp[inside]
        )
    return image, psf, x, y, flux


def test_flux_on_the_pixels_themselves():
    rng = np.random.default_rng(21)
    image, psf, x, y, flux = star_field(rng, 5)
    bad = rng.random(image.shape) < 0.1
    image[bad] = np.nan
    found = psf_flux(image, bad, psf, x, y)
    known = np.isfinite(found)
    assert known.sum() >= 20
    assert_allclose(found[known], flux[known], atol=0.001)
    # An error of the position costs what the PSF loses.
    assert np.nanmedian(psf_flux(image, bad, psf, x + 0.5, y) / flux) < 0.98


def test_flux_is_unknown_where_half_of_the_star_is():
    image, psf, _, _, _ = star_field(np.random.default_rng(22), 3)
    bad = np.zeros(image.shape, bool)
    bad[:, :151] = True
    image[bad] = np.nan
    x = np.array([149.0, 152.0, 299.0, 300.0, -400.0, 5.0])
    known = np.isfinite(psf_flux(image, bad, psf, x, np.full(6, 150.0)))
    assert known.tolist() == [False, True, True, False, False, False]
    assert psf_flux(image, bad, psf, [], []).shape == (0,)
