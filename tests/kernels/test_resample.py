"""Resampling: flux, noise, masks, and the array API against Numba."""

from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pairs import draw

from skytrawl.errors import ParameterError
from skytrawl.kernels import flags
from skytrawl.kernels.resample import CoordinateGrid, Planes, Resampled, resample
from skytrawl.kernels.resample.spline import input_rows, positions

DEVICE = strict.Device("device1")


def turned(degrees: float, scale: float) -> np.ndarray:
    a = np.radians(degrees)
    return scale * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])


def about(shape_in: tuple[int, int], shape: tuple[int, int], matrix: np.ndarray) -> CoordinateGrid:
    """Affine grid that lays the middles of two images upon each other."""
    middle_in, middle = ((np.array(s[::-1]) - 1) / 2 for s in (shape_in, shape))
    shift = middle_in - matrix @ middle
    return CoordinateGrid.affine(shape, matrix, (float(shift[0]), float(shift[1])))


def planes(image: np.ndarray, variance: float = 1.0, mask: np.ndarray | None = None) -> Planes:
    bits = np.zeros(image.shape, np.uint16) if mask is None else mask
    return Planes(np.float32(image), np.full(image.shape, variance, np.float32), bits)


def on_device(given: Planes) -> Planes:
    return Planes(*(strict.asarray(plane, device=DEVICE) for plane in given))


def host(array: Any) -> np.ndarray:
    return np.asarray(strict.asarray(array, device=strict.Device("CPU_DEVICE")))


def both(given: Planes, grid: CoordinateGrid, shape: tuple[int, int], **options: Any) -> Resampled:
    """Numba's answer, after the array API on a foreign device gave the same."""
    found = resample(given, grid, shape, **options)
    other = resample(on_device(given), grid, shape, xp=strict, **options)
    assert all(plane.device == DEVICE for plane in other[:4])
    image, variance, mask, coverage = (host(plane) for plane in other[:4])
    finite = given.image[np.isfinite(given.image)]
    size = np.abs(finite).max() if len(finite) else 1.0
    np.testing.assert_array_equal(found.coverage, coverage)
    np.testing.assert_array_equal(found.mask, mask)
    np.testing.assert_allclose(found.image, image, rtol=1e-6, atol=1e-6 * size)
    np.testing.assert_allclose(found.variance, variance, rtol=2e-6)
    np.testing.assert_allclose(found.noise_correlation, other.noise_correlation, rtol=1e-5)
    return found


def test_whole_steps_copy_pixels() -> None:
    image = np.random.default_rng(1).normal(size=(40, 50)).astype(np.float32)
    mask = np.zeros(image.shape, np.uint16)
    mask[20, 20], mask[25, 30] = flags.BAD, flags.SUSPECT
    grid = CoordinateGrid.affine((30, 30), np.eye(2), (3.0, 5.0))
    found = both(planes(image, 4.0, mask), grid, (30, 30))
    expected = image[5:35, 3:33].copy()
    expected[15, 17] = np.nan
    np.testing.assert_array_equal(found.image, expected)
    bits = mask[5:35, 3:33].copy()
    bits[15, 17] |= flags.NO_DATA
    np.testing.assert_array_equal(found.mask, bits)
    np.testing.assert_array_equal(found.coverage, np.isfinite(expected))
    assert np.nanmax(np.abs(found.variance - 4)) == 0
    assert found.noise_correlation == 1.0


@pytest.mark.parametrize(("degrees", "scale"), [(1.5, 1.02), (-37.0, 1.0), (90.0, 0.7), (180.0, 1.2)])
def test_flux_is_conserved_on_average(degrees: float, scale: float) -> None:
    rng = np.random.default_rng(2)
    shape, matrix = (1000, 1000), turned(degrees, scale)
    side = int(0.65 * 1000 / scale)
    out = (side, side)
    grid = about(shape, out, matrix)
    # Stars on a lattice of the output, at all phases of a pixel.
    lattice = np.arange(20, side - 20, 12.0)
    x, y = (v.ravel() + rng.uniform(-0.5, 0.5, v.size) for v in np.meshgrid(lattice, lattice))
    middle = (np.array(shape) - 1) / 2
    x_in, y_in = matrix @ (np.stack([x, y]) - (side - 1) / 2) + middle[:, None]
    image = np.zeros(shape, np.float32)
    draw(image, x_in, y_in, np.full(x.size, 1e4), 3.0)
    found = resample(planes(image), grid, out)
    total = found.image.sum(dtype=np.float64) / (1e4 * x.size)
    assert total == pytest.approx(1.0, abs=1e-4)


def test_brightness_needs_no_area() -> None:
    flat = planes(np.full((120, 120), 5.0))
    grid = about((120, 120), (60, 60), turned(10, 0.5))
    found = both(flat, grid, (60, 60), conserve="brightness")
    np.testing.assert_allclose(found.image, 5.0, rtol=1e-6)
    np.testing.assert_allclose(resample(flat, grid, (60, 60)).image, 1.25, rtol=1e-5)
    assert found.noise_correlation == pytest.approx(resample(flat, grid, (60, 60)).noise_correlation)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.02, 1.2, 3.0])
def test_white_noise(scale: float) -> None:
    rng = np.random.default_rng(3)
    side = int(1000 / max(1.0, 1.4 * scale))
    n_in = int(np.ceil(1.5 * side * scale)) + 20
    grid = about((n_in, n_in), (side, side), turned(23.0, scale))
    image = rng.normal(0, 2, (n_in, n_in))
    found = resample(planes(image, 4.0), grid, (side, side))
    assert found.coverage.all()
    assert np.var(found.image) == pytest.approx(np.mean(found.variance), rel=0.03)
    # Sums of blocks see the noise at low frequencies.
    block = 25
    n = side // block
    sums = found.image[: n * block, : n * block].reshape(n, block, n, block).sum(axis=(1, 3))
    power = np.mean(sums.astype(np.float64) ** 2) / (block * block) / np.mean(found.variance)
    assert power == pytest.approx(found.noise_correlation, rel=4 * np.sqrt(2 / n**2) + 0.06)


@given(
    st.floats(0, 360),
    st.floats(0.4, 2.6),
    st.integers(0, 59),
    st.integers(0, 59),
    st.sampled_from([flags.BAD, 0]),
)
def test_bad_pixels_stay_within_the_kernel(
    degrees: float, scale: float, row: int, column: int, bit: int
) -> None:
    image = np.full((60, 60), 7.0)
    clean = planes(image)
    mask = np.zeros(image.shape, np.uint16)
    mask[row, column] = bit
    image[row, column] = np.nan if bit == 0 else 1e30
    grid, shape = about((60, 60), (50, 50), turned(degrees, scale)), (50, 50)
    found, before = resample(planes(image, 1.0, mask), grid, shape), resample(clean, grid, shape)
    x, y = positions(grid, np.arange(50), np.arange(50))
    reach = 3 * max(scale * 1.001, 1.0)
    near = (np.abs(x - column) <= reach) & (np.abs(y - row) <= reach)
    assert not near[found.mask != before.mask].any() or near.any()
    np.testing.assert_array_equal(found.mask[~near], before.mask[~near])
    np.testing.assert_array_equal(found.image[~near], before.image[~near])
    # Within it, what has a value has that of the good pixels, and whoever lost a share says so.
    area = scale * scale
    np.testing.assert_allclose(found.image[found.coverage], 7 * area, rtol=1e-5)
    assert (found.mask[~found.coverage] & flags.NO_DATA).all()
    unlike = found.coverage & (np.abs(found.variance - before.variance) > 1e-2 * before.variance)
    assert (found.mask[unlike] & (flags.UNUSABLE | flags.INTERPOLATED)).all()


def test_bits_follow_the_weight() -> None:
    image = np.random.default_rng(4).normal(100, 1, (40, 40))
    mask = np.zeros(image.shape, np.uint16)
    mask[20, 20] = flags.COSMIC_RAY
    image[20, 20] = 1e6
    grid = CoordinateGrid.affine((40, 40), np.eye(2), (0.5, 0.5))
    found = both(planes(image, 1.0, mask), grid, (40, 40))
    marked = np.argwhere(found.mask & flags.COSMIC_RAY)
    # The plus-shaped middle of the kernel; the corners of the 6 x 6 footprint are made up for.
    assert len(marked) == 12
    assert np.abs(marked - 19.5).max() < 2
    inner = found.mask[5:35, 5:35]
    assert np.count_nonzero(inner & flags.INTERPOLATED) == 36
    assert np.nanmax(np.abs(found.image[5:35, 5:35] - 100)) < 10
    # Half of the kernel is off the edge, and in the corners more.
    assert (found.mask[-1, 3:36] & flags.EDGE).all()
    assert not found.coverage[-1, -1]
    assert not (found.mask[3:36, 3:36] & flags.EDGE).any()


def test_random_masks_and_holes_agree_with_the_array_api() -> None:
    rng = np.random.default_rng(5)
    image = rng.normal(50, 20, (90, 80))
    mask = np.where(rng.random(image.shape) < 0.03, 2 ** rng.integers(0, 12, image.shape), 0).astype(
        np.uint16
    )
    image[rng.random(image.shape) < 0.01] = np.nan
    given = planes(image, 3.0, mask)
    given.variance[rng.random(image.shape) < 0.01] = -1.0
    given.variance[40, 40] = np.inf
    for matrix in (turned(13, 1.02), turned(-80, 0.6), turned(200, 2.2)):
        for conserve in ("flux", "brightness"):
            both(given, about((90, 80), (70, 75), matrix), (70, 75), conserve=conserve)


def test_nodes_without_position_have_no_pixels() -> None:
    y, x = np.meshgrid(np.arange(16) * 10.0, np.arange(15) * 10.0, indexing="ij")
    x[8, 7] = np.nan
    grid = CoordinateGrid(x, y, (0.0, 0.0), (10.0, 10.0))
    found = both(planes(np.ones((151, 141))), grid, (151, 141))
    assert not found.coverage[80, 70]
    # The cubic over the four nearest nodes, and the slopes at them from five: four steps in all.
    rows, columns = np.nonzero(~found.coverage[1:-1, 1:-1])
    assert np.abs(rows + 1 - 80).max() <= 40
    assert np.abs(columns + 1 - 70).max() <= 40


def test_no_overlap_covers_nothing() -> None:
    grid = CoordinateGrid.affine((30, 30), np.eye(2), (500.0, 0.0))
    found = both(planes(np.ones((40, 40))), grid, (30, 30))
    assert not found.coverage.any()
    assert np.isnan(found.image).all()
    assert (found.mask == flags.NO_DATA).all()
    assert np.isnan(found.noise_correlation)
    empty = CoordinateGrid(np.full((4, 4), np.nan), np.full((4, 4), np.nan))
    assert not resample(planes(np.ones((40, 40))), empty, (30, 30)).coverage.any()


def test_coarse_pixels_average() -> None:
    # Unwidened, a checkerboard would come out as -1 or 1; averaged it is gone.
    board = np.indices((240, 240)).sum(axis=0) % 2 * 2.0 - 1
    grid = CoordinateGrid.affine((30, 30), np.eye(2) * 8, (3.5, 3.5))
    found = resample(planes(board), grid, (30, 30), conserve="brightness")
    assert np.abs(found.image[4:-4, 4:-4]).max() < 0.01
    with pytest.raises(ParameterError, match="bin the input"):
        resample(planes(board), CoordinateGrid.affine((30, 30), np.eye(2) * 40), (30, 30))


def test_windows_of_a_grid_show_the_same() -> None:
    rng = np.random.default_rng(6)
    given = planes(rng.normal(size=(200, 200)))
    grid, shape = about((200, 200), (150, 160), turned(5, 1.1)), (150, 160)
    whole = resample(given, grid, shape)
    part = resample(given, grid.window(40, 20), (50, 60))
    np.testing.assert_allclose(part.image, whole.image[40:90, 20:80], rtol=1e-5, atol=1e-6)
    begin, end = input_rows(grid.window(40), (50, 160), (200, 200))
    assert 0 < begin < end < 200
    cut = Planes(*(plane[begin:end] for plane in given))
    moved = CoordinateGrid(grid.x, grid.y - begin, grid.origin, grid.step).window(40)
    np.testing.assert_allclose(
        resample(cut, moved, (50, 160)).image, whole.image[40:90], rtol=1e-5, atol=1e-6
    )


def test_wrong_arguments() -> None:
    grid = CoordinateGrid.affine((30, 30), np.eye(2))
    good = planes(np.ones((40, 40)))
    with pytest.raises(ParameterError, match="one shape"):
        resample(good._replace(mask=good.mask[1:]), grid, (30, 30))
    with pytest.raises(ParameterError, match="conserve"):
        resample(good, grid, (30, 30), conserve="peak")
    with pytest.raises(ParameterError, match="tolerance"):
        resample(good, grid, (30, 30), tolerance=0.9)
    with pytest.raises(ParameterError, match="4 x 4 nodes"):
        CoordinateGrid(np.ones((3, 4)), np.ones((3, 4)))
    with pytest.raises(ParameterError, match="step"):
        CoordinateGrid(np.ones((4, 4)), np.ones((4, 4)), step=(0.0, 1.0))
