"""Quantised pixels on the CPU."""

from typing import Any

import numpy as np

from skytrawl.kernels.jit import njit

_SHIFT = np.float64(2.0**-24)


@njit()
def dither(index: Any, seed: Any) -> Any:
    """Dither of a pixel: float64 in [-1/2, 1/2)."""
    h = np.uint32(index & 0xFFFFFFFF) ^ seed
    h = np.uint32(np.uint32(h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B))
    h = np.uint32(np.uint32(h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    h = np.uint32(h ^ (h >> np.uint32(16)))
    return np.float64(np.int32(h >> np.uint32(8))) * _SHIFT - 0.5


@njit()
def quantise(image, step, zero, seed, out, lowest):  # type: ignore[no-untyped-def]
    """Fill `out` with the integers of `image`; see `skytrawl.kernels.quantise.quantise`."""
    rows, columns = image.shape
    for y in range(rows):
        for x in range(columns):
            value = np.float64(image[y, x])
            steps = (value - zero) / step + dither(y * columns + x, seed) + 0.5
            out[y, x] = lowest if np.isnan(steps) else np.floor(steps)


@njit()
def dequantise(numbers, out, place, shape, step, zero, seed, start, width, lowest):  # type: ignore[no-untyped-def]
    """Values of a rectangle of `numbers` into `out`.

    `place` are its first row and column in `numbers` and in `out`, `start` is the index of its first pixel in
    the plane. Both arrays are contiguous and cut here: views would not be decoded eight pixels at a time.
    """
    for y in range(shape[0]):
        source = numbers[place[0] + y][place[1] : place[1] + shape[1]]
        target = out[place[2] + y][place[3] : place[3] + shape[1]]
        index = start + y * width
        for x in range(len(source)):
            number = source[x]
            value = (np.float64(number) - dither(index + x, seed)) * step + zero
            target[x] = np.nan if number == lowest else value
