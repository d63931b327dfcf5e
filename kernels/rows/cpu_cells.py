"""Positions into HEALPix cells, nested, order 29, in Numba."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.jit import njit

_ORDER = 29
_SIDE = 2**_ORDER


@njit(inline="always")
def _spread(value):  # type: ignore[no-untyped-def]
    """Put a zero bit behind each of the lower 32 bits."""
    value = (value | (value << np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    value = (value | (value << np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    value = (value | (value << np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    value = (value | (value << np.uint64(2))) & np.uint64(0x3333333333333333)
    return (value | (value << np.uint64(1))) & np.uint64(0x5555555555555555)


@njit()
def _cells(ra: Any, dec: Any, out: Any) -> None:
    for i in range(len(ra)):
        if not (np.isfinite(ra[i]) and np.isfinite(dec[i])):
            out[i] = 2**63
            continue
        z = np.sin(np.radians(dec[i]))
        far = abs(z)
        turn = ra[i] / 90.0
        turn -= 4.0 * np.floor(turn / 4.0)
        if far <= 2.0 / 3.0:
            up, down = _SIDE * (0.5 + turn), _SIDE * (z * 0.75)
            rising, falling = np.int64(up - down), np.int64(up + down)
            one, other = rising >> _ORDER, falling >> _ORDER
            if one == other:
                face = one | 4
            elif one < other:
                face = one
            else:
                face = other + 8
            x, y = falling & (_SIDE - 1), _SIDE - (rising & (_SIDE - 1)) - 1
        else:
            quarter = np.int64(np.fmin(turn, 3.0))
            part = turn - quarter
            # cos(dec) instead of 1 - z: near a pole the difference has no digits left.
            width = _SIDE * np.cos(np.radians(dec[i])) / np.sqrt((1.0 + far) / 3.0)
            one = np.int64(np.fmin(part * width, _SIDE - 1.0))
            other = np.int64(np.fmin((1.0 - part) * width, _SIDE - 1.0))
            if z >= 0:
                face, x, y = quarter, _SIDE - other - 1, _SIDE - one - 1
            else:
                face, x, y = quarter + 8, one, other
        cell = _spread(np.uint64(x)) | (_spread(np.uint64(y)) << np.uint64(1))
        out[i] = (np.uint64(face) << np.uint64(2 * _ORDER)) | cell


def sky_cells(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Find the HEALPix cell of each position; see `skytrawl.kernels.rows.sky_cells`."""
    out = np.empty(len(ra), np.uint64)
    _cells(ra, dec, out)
    return out
