"""Pixels as integers at a fraction of the noise, with subtractive dither.

A value v becomes ``k = floor((v - zero) / step + dither + 1/2)`` and comes back as
``zero + step (k - dither)``, in float64, rounded once to the type of the image. The error is then uniform in
+-step/2 whatever the value, so that means of faint pixels stay unbiased (Widrow & Kollar 2008, Quantization
Noise, ch. 19; Pence et al. 2010, PASP 122, 1065, use the same in FITS). The dither of a pixel, uniform in
[-1/2, 1/2), hashes its index in the plane and a seed with the finaliser of MurmurHash3 (fmix32): any
rectangle of a plane can be decoded on its own.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.quantise.reference import noise, range_of

__all__ = ["dequantise", "noise", "quantise", "range_of"]


def quantise(image: NDArray[Any], step: float, zero: float, seed: int, dtype: Any = np.int16) -> NDArray[Any]:
    """Integers of an image.

    Parameters
    ----------
    image : float32 or float64[rows, columns]
        No infinite pixels; every number must fit the type.
    step, zero : float
    seed : int, 0 to 2**32 - 1
    dtype : int16 or int32

    Returns
    -------
    dtype[rows, columns]
        The lowest number of the type where the image is NaN.
    """
    from skytrawl.kernels.quantise import cpu

    out = np.empty(image.shape, dtype)
    cpu.quantise(np.ascontiguousarray(image), step, zero, np.uint32(seed), out, np.iinfo(out.dtype).min)
    return out


def dequantise(
    numbers: NDArray[Any],
    step: float,
    zero: float,
    seed: int,
    *,
    first: tuple[int, int] = (0, 0),
    width: int | None = None,
    dtype: Any = np.float32,
    out: NDArray[Any] | None = None,
    part: tuple[slice, slice] | None = None,
    at: tuple[int, int] = (0, 0),
) -> NDArray[Any]:
    """Values of integers, all of a plane or a rectangle of it.

    Parameters
    ----------
    numbers : int16 or int32[rows, columns], C-contiguous
    step, zero, seed
        As in `quantise`.
    first : (int, int)
        Row and column in the plane of the first number of the part.
    width : int, optional
        Columns of the plane; by default those of `numbers`.
    dtype : float32 or float64
        Type of the values, unless `out` is given.
    out : float32 or float64[any, any], C-contiguous, optional
        Takes the values from row and column `at` on, and is returned.
    part : (slice, slice), optional
        What of `numbers` is decoded; all by default.
    at : (int, int)

    Returns
    -------
    float[rows, columns]
        NaN where the number is the lowest of its type.
    """
    from skytrawl.kernels.quantise import cpu

    rows, columns = part or (slice(0, numbers.shape[0]), slice(0, numbers.shape[1]))
    shape = rows.stop - rows.start, columns.stop - columns.start
    if out is None:
        out = np.empty(shape, dtype)
    if at[0] + shape[0] > out.shape[0] or at[1] + shape[1] > out.shape[1]:
        raise ValueError(f"{shape} values from {at} on do not fit an array of shape {out.shape}")
    width = width or numbers.shape[1]
    start = first[0] * width + first[1]
    lowest = np.iinfo(numbers.dtype).min
    place = rows.start, columns.start, *at
    cpu.dequantise(numbers, out, place, shape, step, zero, np.uint32(seed), start, width, lowest)
    return out
