"""Median position of each object, in Numba.

Most surveys give all rows of an object one position: where the object of each row is known, that is seen in a
pass over the rows as they stand. Only the other objects are read through the order.
"""

import math

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import SchemaError
from skytrawl.kernels.jit import njit
from skytrawl.kernels.rows import Order
from skytrawl.kernels.rows.cpu_sort import sort_times


@njit()
def _turn(angle):  # type: ignore[no-untyped-def]
    """The angle modulo 360; fmod only where one step is not enough."""
    if 0.0 <= angle < 360.0:
        return angle
    if -360.0 <= angle < 0.0:
        return angle + 360.0
    if 360.0 <= angle < 720.0:
        return angle - 360.0
    return angle % 360.0


@njit()
def _middle(ascending, n):  # type: ignore[no-untyped-def]
    low, high = ascending[(n - 1) // 2], ascending[n // 2]
    return low if n % 2 else (low + high) / 2.0


@njit()
def _common(ra, dec, owner, bits_ra, bits_dec, out_ra, out_dec, spread):  # type: ignore[no-untyped-def]
    """Give each object the position that its rows share bit for bit; spread -1 where they differ.

    False if a row belongs to none of the objects.
    """
    same_ra, same_dec = out_ra.view(np.uint64), out_dec.view(np.uint64)
    for k in range(len(spread)):
        out_ra[k] = out_dec[k] = spread[k] = np.nan
    for i in range(len(owner)):
        k = owner[i]
        if not 0 <= k < len(spread):
            return False
        if (bits_ra[i] == same_ra[k]) & (bits_dec[i] == same_dec[k]):
            continue
        if math.isfinite(ra[i]) and math.isfinite(dec[i]):
            spread[k] = 0.0 if math.isnan(spread[k]) else -1.0
            out_ra[k], out_dec[k] = ra[i], dec[i]
    return True


@njit()
def _median_positions(ra, dec, offsets, order, ordered, partly, out_ra, out_dec, spread):  # type: ignore[no-untyped-def]
    """Fill the positions; `partly`: only where the spread is negative."""
    longest = 0
    for k in range(len(offsets) - 1):
        longest = max(longest, offsets[k + 1] - offsets[k])
    shifts, decs, spare = np.empty(longest), np.empty(longest), np.empty(longest)
    rows, spare_rows = np.empty(longest, order.dtype), np.empty(longest, order.dtype)
    counts = np.empty(longest + 1, order.dtype)
    for k in range(len(offsets) - 1):
        if partly and not spread[k] < 0.0:
            continue
        n = 0
        same = True
        ra0 = dec0 = np.nan
        for j in range(offsets[k], offsets[k + 1]):
            row = j if ordered else order[j]
            a, d = ra[row], dec[row]
            if not (math.isfinite(a) and math.isfinite(d)):
                continue
            if n == 0:
                ra0, dec0 = a, d
            same &= (a == ra0) & (d == dec0)
            shifts[n], decs[n] = a, d
            n += 1
        out_ra[k], out_dec[k] = ra0, dec0
        spread[k] = 0.0 if n else np.nan
        if same:
            continue
        for j in range(n):
            shifts[j] = _turn(shifts[j] - ra0 + 180.0) - 180.0
        for turn in range(2):
            # The rows are not looked at: the sort moves them along.
            sort_times(shifts if turn else decs, rows, spare, spare_rows, counts, 0, n)
        out_dec[k] = _middle(decs, n)
        out_ra[k] = _turn(ra0 + _middle(shifts, n))
        across = (shifts[n - 1] - shifts[0]) * math.cos(math.radians(out_dec[k]))
        spread[k] = max(across, decs[n - 1] - decs[0]) * 60.0


def median_positions(
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    offsets: NDArray[np.int64],
    order: Order | None,
    owner: Order | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Find the median position of each object; see `skytrawl.kernels.rows.median_positions`."""
    m = len(offsets) - 1
    out = np.empty(m), np.empty(m), np.empty(m)
    rows = np.zeros(0, np.int32) if order is None else order
    rows.flags.writeable = False
    if owner is not None:
        if not _common(ra, dec, owner, ra.view(np.uint64), dec.view(np.uint64), *out):
            raise SchemaError(f"the owner of a row is none of the {m} objects")
        if not (out[2] < 0).any():
            return out
    _median_positions(ra, dec, offsets, rows, order is None, owner is not None, *out)
    return out
