"""Lanczos-3 weights, and what becomes of pixels where some of them fall on pixels that cannot be used.

The kernel is ``sinc(d) sinc(d / 3)`` for |d| < 3 pixels, the weights of an axis divided by their sum (Duchon
1979, J. Appl. Meteorol. 18, 1016). Where an output pixel is larger than an input pixel the kernel is
stretched, so that what the output cannot sample is averaged, not aliased.
"""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError
from skytrawl.kernels.resample.spline import stretch
from skytrawl.kernels.resample.types import CoordinateGrid

RADIUS: Final = 3
TABLE: Final = 256  # steps of the table of weights over a pixel
# Below this stretch the kernel keeps its width: nothing that a telescope resolves is aliased.
NARROW: Final = 1.25
WIDEST: Final = 32.0
# A pixel off the edge by rounding of its position is on the image.
EDGE: Final = 1e-6
# Weights below this touch nothing.
NEGLIGIBLE: Final = 1e-4
# Part of the kernel that must lie on usable pixels for a value: half, and rounding must not decide.
ENOUGH: Final = 0.499


def _weights(fraction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights float64[n, 6] of the taps -2 to 3 at fractions of a pixel, their sum 1."""
    distance = np.arange(-2, 4) - fraction[:, None]
    weights = np.sinc(distance) * np.sinc(distance / RADIUS) * (np.abs(distance) < RADIUS)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float64)


@lru_cache(maxsize=1)
def weight_table() -> NDArray[np.float32]:
    """Taylor coefficients of the weights about fractions 0, 1 / TABLE, ..., 1 of a pixel.

    Two terms beyond the value leave an error below the rounding of float32.

    Returns
    -------
    float32[TABLE + 1, 3, 6]
        Value, slope and half the curvature in steps of the table.
    """
    fraction, h = np.arange(TABLE + 1) / TABLE, 1e-3
    below, here, above = (_weights(fraction + shift) for shift in (-h, 0.0, h))
    # On a pixel the neighbours have weights of exactly 0, not of the rounding of a sine.
    here[0], here[-1] = np.arange(-2, 4) == 0, np.arange(-2, 4) == 1
    slope, curvature = (above - below) / (2 * h * TABLE), (above - 2 * here + below) / (h * TABLE) ** 2
    table = np.stack([here, slope, curvature / 2], axis=1).astype(np.float32)
    table.setflags(write=False)
    return table


def kernel_stretch(grid: CoordinateGrid, shape_in: tuple[int, int]) -> float:
    """Stretch of the kernel, 1 if output pixels are about as large as those of the input or smaller.

    Raises
    ------
    ParameterError
        If an output pixel spans more than 32 input pixels.
    """
    found = stretch(grid, shape_in)
    if not found > NARROW:
        return 1.0
    if found > WIDEST:
        raise ParameterError(
            f"one output pixel spans {found:.0f} input pixels, more than {WIDEST:.0f}: bin the input first"
        )
    return found
