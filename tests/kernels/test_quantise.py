"""Pixels as integers: compiled equals reference, faint means stay, errors are what they should be."""

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skytrawl.kernels.quantise import cpu, dequantise, noise, quantise, range_of, reference

from .conftest import examples, needs_jit


def image_of(seed: int, shape: tuple[int, int], dtype: str, holes: float) -> np.ndarray:
    generator = np.random.default_rng(seed)
    image = generator.normal(1000, 50, shape) * generator.lognormal(0, 1, shape)
    image[generator.random(shape) < holes] = np.nan
    return image.astype(dtype)


@settings(max_examples=examples(60))
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(["float32", "float64"]),
    st.sampled_from(["int16", "int32"]),
    st.floats(0.5, 100),
    st.sampled_from([0.0, 0.2, 1.0]),
)
def test_compiled_equals_reference(seed, shape, dtype, kind, step, holes) -> None:
    image = image_of(seed, shape, dtype, holes)
    zero = 500.0 - 3 * step
    numbers = quantise(image, step, zero, seed, kind)
    assert numbers.dtype == kind
    plain = reference.quantise(image, step, zero, seed, np.dtype(kind))
    assert numbers.tobytes() == plain.tobytes()
    values = dequantise(numbers, step, zero, seed, dtype=dtype)
    plain = reference.dequantise(numbers, step, zero, seed, dtype=np.dtype(dtype))
    assert values.dtype == dtype
    assert values.tobytes() == plain.tobytes()
    np.testing.assert_array_equal(np.isnan(values), np.isnan(image))
    rounding = np.finfo(dtype).eps * np.nanmax(np.abs(image), initial=1.0)
    assert np.nanmax(np.abs(values - image.astype(np.float64)), initial=0) <= step / 2 + 2 * rounding


def test_reference_runs_on_any_array_library() -> None:
    image = image_of(3, (30, 50), "float32", 0.1)
    xp = array_api_strict
    for device in (xp.Device("CPU_DEVICE"), xp.Device("device1")):
        given_image = xp.asarray(image, device=device)
        numbers = reference.quantise(given_image, 2.5, 100.0, 9, xp.int32, xp=xp)
        values = reference.dequantise(numbers, 2.5, 100.0, 9, dtype=xp.float32, xp=xp)
        assert values.device == device
        home = xp.Device("CPU_DEVICE")
        expected = quantise(image, 2.5, 100.0, 9, "int32")
        np.testing.assert_array_equal(np.asarray(numbers.to_device(home)), expected)
        np.testing.assert_array_equal(
            np.asarray(values.to_device(home)), dequantise(expected, 2.5, 100.0, 9, dtype="float32")
        )


@pytest.mark.parametrize("width", [37, 70_000])
def test_any_rectangle_alone(width: int) -> None:
    numbers = np.random.default_rng(1).integers(-500, 500, (40, width)).astype(np.int16)[:, :37]
    # The same pixels of a plane of this width, whatever is decoded around them.
    whole = dequantise(np.ascontiguousarray(numbers), 0.5, 3.0, 12, width=width)
    part = slice(7, 30), slice(5, 36)
    alone = dequantise(numbers[part].copy(), 0.5, 3.0, 12, first=(7, 5), width=width)
    np.testing.assert_array_equal(alone, whole[part])
    out = np.zeros((60, 50), np.float32)
    dequantise(numbers.copy(), 0.5, 3.0, 12, first=(7, 5), width=width, part=part, out=out, at=(2, 3))
    np.testing.assert_array_equal(out[2:25, 3:34], whole[part])
    assert np.count_nonzero(out) == np.count_nonzero(alone)
    with pytest.raises(ValueError, match="do not fit"):
        dequantise(numbers.copy(), 0.5, 3.0, 12, out=out, at=(30, 0))


def test_large_index_wraps_around_in_both() -> None:
    numbers = np.arange(12, dtype=np.int32).reshape(3, 4)
    first, width = (100_000, 90_000), 100_000  # beyond 2**32 pixels
    values = dequantise(numbers, 1.0, 0.0, 5, first=first, width=width)
    plain = reference.dequantise(numbers, 1.0, 0.0, 5, first=first, width=width, dtype=np.dtype("f4"))
    np.testing.assert_array_equal(values, plain)


def test_dither_is_uniform_and_without_pattern() -> None:
    values = reference.dither((1024, 1024), 12345, (0, 0), 1024)
    assert -0.5 <= values.min() < -0.4999
    assert 0.4999 < values.max() < 0.5
    counts = np.histogram(values, 256, (-0.5, 0.5))[0]
    chi2 = ((counts - 4096) ** 2 / 4096).sum()
    assert abs(chi2 - 255) < 5 * np.sqrt(2 * 255)
    power = np.abs(np.fft.rfft2(values)) ** 2 / values.size * 12
    assert power[1:, 1:].max() < 25  # of half a million exponential variables of mean 1
    other = reference.dither((1024, 1024), 12346, (0, 0), 1024)
    assert abs(np.mean(values * other) * 12) < 5 / 1024


@needs_jit
@pytest.mark.parametrize("fraction", [0.25, 1.0, 4.0])
def test_faint_fluxes_stay_unbiased(fraction: float) -> None:
    # A source of 0.02 sigma a pixel on noise far below the step: rounding alone would lose it whole.
    generator = np.random.default_rng(8)
    sigma, shape = 10.0, (2048, 2048)
    for quiet in (0.01, 1.0):
        image = generator.normal(100, quiet * sigma, shape).astype(np.float32)
        source = np.float32(0.02 * sigma)
        step = fraction * sigma
        gained = []
        for seed, plane in ((1, image), (2, image + source)):
            back = dequantise(quantise(plane, step, 0.0, seed, "int32"), step, 0.0, seed)
            error = back.astype(np.float64) - plane
            assert abs(error.mean()) < 5 * step / np.sqrt(12 * error.size)
            assert error.std() == pytest.approx(step / np.sqrt(12), rel=3e-3)
            gained.append(back.mean(dtype=np.float64))
        assert gained[1] - gained[0] == pytest.approx(source, abs=5 * step / np.sqrt(6 * image.size))


def test_noise_is_blind_to_stars_gradients_and_holes() -> None:
    generator = np.random.default_rng(2)
    image = generator.normal(0, 3, (600, 400)) + np.linspace(0, 5000, 400)
    image[::23, ::19] += 1e5
    image[:, 50:60] = np.nan
    assert noise(image) == pytest.approx(3, rel=0.05)
    assert noise(image.astype(np.float32)) == pytest.approx(3, rel=0.05)
    assert noise(np.full((9, 9), 4.0)) == noise(np.full((9, 9), np.nan)) == noise(np.zeros((9, 4))) == 0
    assert range_of(np.array([[np.nan, 3.0, -2.0]])) == (-2.0, 3.0)


@needs_jit
def test_kernels_compile_once() -> None:
    for name in ("quantise", "dequantise"):
        assert len(getattr(cpu, name).signatures) <= 8
