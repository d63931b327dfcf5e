"""Stamps: padding, masks, one flux scale."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skytrawl.catalogs.images.cutouts import cutouts
from skytrawl.errors import ParameterError, SchemaError
from skytrawl.kernels import flags


@pytest.fixture(scope="module")
def planes():
    rng = np.random.default_rng(1)
    science, reference = rng.normal(100.0, 5.0, (2, 80, 120)).astype(np.float32)
    science[40, 60] += 900.0
    return science, reference, science - reference


@pytest.mark.parametrize("size", [1, 2, 7, 30, 63, 201])
def test_stamps_are_windows_of_the_padded_image(planes, size):
    rng = np.random.default_rng(size)
    x, y = np.r_[rng.uniform(-0.5, 119.4, 20), 0, 119], np.r_[rng.uniform(-0.5, 79.4, 20), 79, 0]
    mask = rng.integers(0, 1 << 12, (80, 120)).astype(np.uint16)
    got = cutouts(planes, x, y, size=size, mask=mask)
    assert got.images.shape == (22, 3, size, size)
    assert got.images.dtype == np.float32
    assert got.mask.shape == (22, size, size)
    assert got.planes == ("science", "reference", "difference")
    wide = np.pad(np.stack(planes), ((0, 0), (size, size), (size, size)), constant_values=np.nan)
    bits = np.pad(mask, size, constant_values=flags.NO_DATA)
    for k in range(22):
        u, v = int(np.floor(x[k] + 0.5)), int(np.floor(y[k] + 0.5))
        assert (got.x[k], got.y[k]) == (u, v)
        window = np.s_[
            v + size - size // 2 : v + 2 * size - size // 2, u + size - size // 2 : u + 2 * size - size // 2
        ]
        assert_array_equal(got.images[k], wide[:, *window])
        assert_array_equal(got.mask[k], bits[window])


def test_one_flux_scale(planes):
    science, reference, difference = planes
    sky = np.full(science.shape, 100.0)
    got = cutouts(
        {"science": science * 2.0, "reference": reference / 4.0, "difference": difference},
        [60.0, 2.0], [40.0, 3.0], factors=(0.5, 4.0, 1.0), offsets=(200.0, sky / 4.0, 0.0),
    )  # fmt: skip
    assert_allclose(got.images[:, 0] - got.images[:, 1], got.images[:, 2], atol=1e-3)
    scaled, noise = got.normalised()
    assert scaled.dtype == np.float32
    assert np.isfinite(scaled).all()
    assert_allclose(noise, np.sqrt(50.0), rtol=0.1)
    inside = np.isfinite(got.images)
    assert_allclose(
        scaled[inside], (got.images / noise[:, None, None, None])[inside].astype(np.float32), rtol=1e-6
    )
    assert (scaled[~inside] == 0).all()
    assert_array_equal(np.sign(scaled[inside]), np.sign(got.images[inside]))
    # The median over the finite pixels, as NumPy has it.
    want = np.nanmedian(np.abs(got.images[:, 2].reshape(2, -1)), axis=1) / 0.6744897501960817
    assert_allclose(noise, want, rtol=1e-6)


def test_stamps_of_nothing():
    empty = np.full((20, 20), np.nan, np.float32)
    zeros = np.zeros((20, 20), np.float32)
    for plane in (empty, zeros):
        scaled, noise = cutouts((plane, plane, plane), [5.0], [5.0], size=9).normalised()
        assert np.isnan(noise).all()
        assert (scaled == 0).all()
    none = cutouts((zeros, zeros, zeros), [], [])
    assert none.images.shape == (0, 3, 63, 63)
    assert none.normalised()[0].shape == (0, 3, 63, 63)


def test_high_sky_costs_no_digits():
    sky = np.full((9, 9), 60000.0, np.float32)
    image = sky + np.float32(0.5)
    got = cutouts({"science": image}, [4.0], [4.0], size=3, offsets=[sky], factors=[1e-3])
    assert_allclose(got.images, 5e-4, rtol=1e-6)


def test_input(planes):
    with pytest.raises(ParameterError, match="2 planes"):
        cutouts(planes[:2], [1.0], [1.0])
    with pytest.raises(SchemaError, match="plane 'mask'"):
        cutouts(planes, [1.0], [1.0], mask=np.zeros((3, 3), np.uint16))
    with pytest.raises(SchemaError, match=r"x\[1\] is 120.0: the image has pixels 0 to 119"):
        cutouts(planes, [1.0, 120.0], [1.0, 1.0])
    with pytest.raises(SchemaError, match=r"y\[0\] is nan"):
        cutouts(planes, [1.0], [np.nan])
    with pytest.raises(SchemaError, match="two vectors"):
        cutouts(planes, [1.0], [1.0, 2.0])
    with pytest.raises(SchemaError, match="give a vector"):
        cutouts(planes, 1.0, 2.0)
    with pytest.raises(ParameterError, match="size is 0"):
        cutouts(planes, [1.0], [1.0], size=0)
    with pytest.raises(ParameterError, match="2 factors"):
        cutouts(planes, [1.0], [1.0], factors=[1.0, 1.0])
    with pytest.raises(ParameterError, match="no plane 'D'"):
        cutouts(planes, [1.0], [1.0]).normalised("D")
