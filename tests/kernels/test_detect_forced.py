"""Forced photometry: unbiased between the pixels, with the right errors, and honest where it is not."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skytrawl.errors import SchemaError
from skytrawl.kernels import flags
from skytrawl.kernels.detect.forced import COLUMNS, forced

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
