"""The same in plain array operations, which the compiled kernels equal bit for bit; and what needs no kernel.

`quantise` and `dequantise` run on any array library of the array API standard, on the device of their input.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LOW = 0xFFFFFFFF


def dither(
    shape: tuple[int, int], seed: int, first: tuple[int, int], width: int, xp: Any = np, device: Any = None
) -> Any:
    """Dither of a rectangle of a plane: float64 in [-1/2, 1/2), multiples of 2**-24.

    Products may wrap around in int64; their low 32 bits are right nevertheless.
    """
    where = {} if xp is np else {"device": device}
    rows = xp.arange(first[0], first[0] + shape[0], dtype=xp.int64, **where)
    columns = xp.arange(first[1], first[1] + shape[1], dtype=xp.int64, **where)
    h = (rows[:, None] * width + columns[None, :]) & _LOW
    h = h ^ seed
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & _LOW
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) & _LOW
    h = h ^ (h >> 16)
    return _cast(h >> 8, xp.float64, xp) * 2.0**-24 - 0.5


def _cast(array: Any, dtype: Any, xp: Any) -> Any:
    # NumPy has no astype of the standard before 2.1.
    return array.astype(dtype) if xp is np else xp.astype(array, dtype)


def quantise(image: Any, step: float, zero: float, seed: int, dtype: Any, xp: Any = np) -> Any:
    """As `skytrawl.kernels.quantise.quantise`."""
    rows, columns = image.shape
    offset = dither((rows, columns), seed, (0, 0), columns, xp, getattr(image, "device", None))
    steps = (_cast(image, xp.float64, xp) - zero) / step + offset + 0.5
    missing = xp.isnan(steps)
    numbers = _cast(xp.floor(xp.where(missing, xp.zeros_like(steps), steps)), dtype, xp)
    return xp.where(missing, xp.full_like(numbers, int(xp.iinfo(dtype).min)), numbers)


def dequantise(
    numbers: Any,
    step: float,
    zero: float,
    seed: int,
    *,
    first: tuple[int, int] = (0, 0),
    width: int | None = None,
    dtype: Any = np.float32,
    xp: Any = np,
) -> Any:
    """As `skytrawl.kernels.quantise.dequantise`."""
    rows, columns = numbers.shape
    offset = dither((rows, columns), seed, first, width or columns, xp, getattr(numbers, "device", None))
    values = _cast((_cast(numbers, xp.float64, xp) - offset) * step + zero, dtype, xp)
    missing = numbers == int(xp.iinfo(numbers.dtype).min)
    return xp.where(missing, xp.full_like(values, float("nan")), values)


def noise(image: NDArray[Any]) -> float:
    """Noise of the pixels, in the unit of the image: blind to stars and to smooth background.

    1.482602 / sqrt(6) times the median of |2 v[i] - v[i-2] - v[i+2]| along the rows (Stoehr et al. 2008, ASP
    394, 505), over up to 512 rows spread evenly. NaN pixels are left out.

    Returns
    -------
    float
        0 where nothing varies or nothing is finite.
    """
    if image.shape[1] < 5:
        return 0.0
    rows = np.linspace(0, image.shape[0] - 1, min(image.shape[0], 512)).astype(np.int64)
    part = image[rows].astype(np.float64)
    with np.errstate(invalid="ignore"):
        third = np.abs(2 * part[:, 2:-2] - part[:, :-4] - part[:, 4:])
    finite = third[np.isfinite(third)]
    return float(1.482602 / np.sqrt(6) * np.median(finite)) if finite.size else 0.0


def range_of(image: NDArray[Any]) -> tuple[float, float]:
    """Lowest and highest pixel without NaN; infinities count. The image must have a number at least."""
    return float(np.fmin.reduce(image, axis=None)), float(np.fmax.reduce(image, axis=None))
