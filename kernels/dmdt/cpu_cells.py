"""The loops that every CPU kernel shares: which cell a pair falls into.

All partners of one earlier observation are done at a time. The cell number counts edges at or below, so that
0 and n + 1 are the guard cells outside the axis and no branch is needed. Plain vector loops write to scratch
arrays first and a scalar loop gathers and scatters: a loop that does both is not vectorised, because the
compiler cannot rule out that the arrays overlap.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.dmdt.guides import UNDECIDED, BitGuide, LinearGuide
from skytrawl.kernels.dmdt.types import PairableBlock
from skytrawl.kernels.jit import njit

UNDECIDED_BASE = 0xFFFFFFFF


@njit(inline="always")
def dt_buckets(time, at, shift, first, last, buckets):  # type: ignore[no-untyped-def]
    """Write the fine buckets of the time differences."""
    for k in range(len(time)):
        bucket = (np.float64(time[k] - at).view(np.int64) >> shift) - first
        buckets[k] = np.uint32(min(max(bucket, 0), last))


@njit(inline="always")
def formula_cells(time, value, at, height, shift, first, last, low, width, high, top, buckets, cells):  # type: ignore[no-untyped-def]
    """Write the fine dt buckets and, by the formula of a linear axis, the dm cells of n partners."""
    for k in range(len(time)):
        bucket = (np.float64(time[k] - at).view(np.int64) >> shift) - first
        buckets[k] = np.uint32(min(max(bucket, 0), last))
        dm = value[k] - height
        # conditionals instead of min and max, which care about NaN
        cell = np.floor((dm - low) / width) + 1.0
        cell = cell if cell > 0.0 else 0.0
        cell = cell if cell < top else top
        cells[k] = np.uint32(np.int32(cell) + np.int32(dm >= high))


@njit(inline="always")
def table_cells(time, value, at, height, shift, first, last, origin, scale, table, edges, buckets, cells):  # type: ignore[no-untyped-def]
    """Write the fine dt buckets and, by the table of an uneven axis, the dm cells of n partners."""
    top = len(table) - 1.0
    for k in range(len(time)):
        bucket = (np.float64(time[k] - at).view(np.int64) >> shift) - first
        buckets[k] = np.uint32(min(max(bucket, 0), last))
        dm = value[k] - height
        cell = table[int(min(max((dm - origin) * scale, 0.0), top))]
        while dm >= edges[cell]:
            cell += 1
        cells[k] = np.uint32(cell)


@njit(inline="always")
def count_cells(time, at, edges, stride, bases, buckets, cells, histogram):  # type: ignore[no-untyped-def]
    """Count the cells of n partners; their dt rows come from the buckets."""
    one = histogram.dtype.type(1)
    undecided = np.uint32(UNDECIDED_BASE)
    for k in range(len(time)):
        base = bases[buckets[k]]
        if base == undecided:
            row = np.searchsorted(edges, time[k] - at, side="right")
            base = np.uint32(row * stride)
        histogram[np.uint32(base + cells[k])] += one


@njit()
def count_pairs(  # type: ignore[no-untyped-def]
    o, key, time, value, bounds, firsts, seconds, consecutive, zero_within, zero_cross, shift, first, bases,
    dt_edges, formula, low, width, high, origin, scale, dm_table, dm_edges, buckets, cells, histogram,
):  # fmt: skip
    """Count the pairs of object o and a key into a histogram with guard cells, [n_dt + 2, n_dm + 2] flat.

    The arguments between `key` and `buckets` are those of `count_arguments`.
    """
    a0, a1 = bounds[o, firsts[key]], bounds[o, firsts[key] + 1]
    b0, b1 = bounds[o, seconds[key]], bounds[o, seconds[key] + 1]
    within = firsts[key] == seconds[key]
    zero = zero_within if within else zero_cross
    last = len(bases) - 1
    stride = len(dm_edges)
    top = stride - 2.0
    one = histogram.dtype.type(1)
    start = a0
    for i in range(b0, b1):
        ti, vi = time[i], value[i]
        end = a1
        if within and consecutive:
            j, end = i + 1, min(i + 2, a1)
        else:
            while start < a1 and time[start] < ti:
                start += 1
            j = max(start, i + 1) if within else start
        while j < end and time[j] == ti:
            if zero >= 0.0:
                row = np.searchsorted(dt_edges, zero, side="right")
                column = np.searchsorted(dm_edges[: stride - 1], value[j] - vi, side="right")
                histogram[row * stride + column] += one
            j += 1
        # slices from j on, so that no index can be negative: the test for it would stop vectorisation
        later, values = time[j:end], value[j:end]
        if formula:
            formula_cells(later, values, ti, vi, shift, first, last, low, width, high, top, buckets, cells)
        else:
            table_cells(
                later, values, ti, vi, shift, first, last, origin, scale, dm_table, dm_edges, buckets, cells
            )
        count_cells(later, ti, dt_edges, stride, bases, buckets, cells, histogram)


def count_arguments(block: PairableBlock, dt: BitGuide, dm: LinearGuide) -> tuple[Any, ...]:
    """Return the arguments of the counting loops, flat.

    Plain arrays on purpose: a compiled function that takes records of arrays is not vectorised as well, and
    each call counts references to every array of the record.
    """
    return (
        block.time, block.value, block.bounds, block.first, block.second, block.consecutive,
        block.zero_within, block.zero_cross, dt.fine_shift, dt.fine_first,
        row_bases(dt.fine, len(dm.edges)), dt.edges[:-1], dm.formula, dm.low, dm.width, dm.high, dm.origin,
        dm.scale, dm.table, dm.edges,
    )  # fmt: skip


@njit(inline="always")
def longest_band(bounds):  # type: ignore[no-untyped-def]
    """Return the largest number of observations of one object in one band."""
    longest = 0
    for k in range(bounds.shape[0]):
        for s in range(bounds.shape[1] - 1):
            longest = max(longest, bounds[k, s + 1] - bounds[k, s])
    return longest


def row_bases(fine: NDArray[np.int64], stride: int) -> NDArray[np.uint32]:
    """Return the fine table with rows multiplied by stride, and UNDECIDED_BASE where it is undecided."""
    return np.where(fine == UNDECIDED, UNDECIDED_BASE, fine * stride).astype(np.uint32)
