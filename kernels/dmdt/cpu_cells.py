"""The loops that every CPU kernel shares: which cell a pair falls into, for one earlier observation at a time.

The cell number counts edges at or below, so that 0 and n + 1 are the guard cells outside the axis and no
branch is needed. Plain vector loops write to scratch arrays first and a scalar loop gathers and scatters:
a loop that does both is not vectorised, because the compiler cannot rule out that the arrays overlap.
"""

import numpy as np
from numba import njit

from skytrawl.kernels.dmdt.guides import UNDECIDED

UNDECIDED_BASE = 0xFFFFFFFF


@njit(cache=True, nogil=True, inline="always")
def dt_cell(dt, guide):  # type: ignore[no-untyped-def]
    """Return the number of dt edges at or below dt >= 0."""
    bucket = (np.float64(dt).view(np.int64) >> guide.shift) - guide.first
    n = guide.table[min(max(bucket, 0), len(guide.table) - 1)]
    while dt >= guide.edges[n]:
        n += 1
    return n


@njit(cache=True, nogil=True, inline="always")
def dm_cell(dm, guide):  # type: ignore[no-untyped-def]
    """Return the number of dm edges at or below dm."""
    bucket = min(max((dm - guide.origin) * guide.scale, 0.0), len(guide.table) - 1.0)
    n = guide.table[int(bucket)]
    while dm >= guide.edges[n]:
        n += 1
    return n


@njit(cache=True, nogil=True)
def dm_formula(value, start, n, at, low, width, high, top, cells):  # type: ignore[no-untyped-def]
    """Write the dm cells of n partners by the formula of a linear axis."""
    for k in range(n):
        dm = value[start + k] - at
        cell = min(max(np.floor((dm - low) / width) + 1.0, 0.0), top)
        cells[k] = np.uint32(np.int32(cell) + np.int32(dm >= high))


@njit(cache=True, nogil=True)
def dm_search(value, start, n, at, origin, scale, table, edges, cells):  # type: ignore[no-untyped-def]
    """Write the dm cells of n partners by the table of an uneven axis."""
    top = len(table) - 1.0
    for k in range(n):
        dm = value[start + k] - at
        cell = table[int(min(max((dm - origin) * scale, 0.0), top))]
        while dm >= edges[cell]:
            cell += 1
        cells[k] = cell


@njit(cache=True, nogil=True)
def dt_buckets(time, start, n, at, shift, first, last, buckets):  # type: ignore[no-untyped-def]
    """Write the fine buckets of n time differences."""
    for k in range(n):
        bucket = (np.float64(time[start + k] - at).view(np.int64) >> shift) - first
        buckets[k] = np.uint32(min(max(bucket, 0), last))


@njit(cache=True, nogil=True, inline="always")
def longest_band(bounds):  # type: ignore[no-untyped-def]
    """Return the largest number of observations of one object in one band."""
    longest = 0
    for k in range(bounds.shape[0]):
        for s in range(bounds.shape[1] - 1):
            longest = max(longest, bounds[k, s + 1] - bounds[k, s])
    return longest


@njit(cache=True, nogil=True)
def count_cells(time, start, n, at, edges, stride, bases, buckets, cells, histogram):  # type: ignore[no-untyped-def]
    """Count the cells of n partners; their rows come from the buckets."""
    one = histogram.dtype.type(1)
    undecided = np.uint32(UNDECIDED_BASE)
    for k in range(n):
        base = bases[buckets[k]]
        if base == undecided:
            row = np.searchsorted(edges[:-1], time[start + k] - at, side="right")
            base = np.uint32(row * stride)
        histogram[np.uint32(base + cells[k])] += one


@njit(cache=True, nogil=True)
def row_bases(fine, stride):  # type: ignore[no-untyped-def]
    """Return the fine table with rows multiplied by stride, and UNDECIDED_BASE where it is undecided."""
    bases = np.empty(len(fine), np.uint32)
    for k in range(len(fine)):
        bases[k] = np.uint32(fine[k] * stride if fine[k] != UNDECIDED else UNDECIDED_BASE)
    return bases
