"""dm-dt kernels in Numba: serial over one ragged block, without the GIL.

Entry points, with the same signatures as in `cuda`: count_maps, accumulate, gaussian_maps, score.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from skytrawl.kernels.dmdt.cpu_cells import (
    count_cells,
    dm_cell,
    dm_formula,
    dm_search,
    dt_cell,
    dt_buckets,
    longest_band,
    row_bases,
)
from skytrawl.kernels.dmdt.cpu_gauss import gaussian_maps
from skytrawl.kernels.dmdt.cpu_score import score
from skytrawl.kernels.dmdt.guides import BitGuide, LinearGuide
from skytrawl.kernels.dmdt.types import PairableBlock


__all__ = ["accumulate", "count_maps", "gaussian_maps", "own_cells", "pair_counts", "score"]


@njit(cache=True, nogil=True)
def _count_key(block, o, key, dt, dm, bases, buckets, cells, histogram):  # type: ignore[no-untyped-def]
    """Count the pairs of one object and key into a histogram with guard cells."""
    time, value = block.time, block.value
    first, second = block.first[key], block.second[key]
    a0, a1 = block.bounds[o, first], block.bounds[o, first + 1]
    b0, b1 = block.bounds[o, second], block.bounds[o, second + 1]
    stride = len(dm.edges)
    within = first == second
    zero = block.zero_within if within else block.zero_cross
    if within and block.consecutive:
        for i in range(b0, b1 - 1):
            step = time[i + 1] - time[i]
            if step == 0.0:
                step = zero
            if step >= 0.0:
                histogram[dt_cell(step, dt) * stride + dm_cell(value[i + 1] - value[i], dm)] += 1
        return
    dm_table, dm_edges, top = dm.table, dm.edges, len(dm.edges) - 2.0
    last = len(dt.fine) - 1
    dt_edges = dt.edges
    start = a0
    zero_row = dt_cell(zero, dt) if zero >= 0.0 else 0
    for i in range(b0, b1):
        while start < a1 and time[start] < time[i]:
            start += 1
        j = max(start, i + 1) if within else start
        while j < a1 and time[j] == time[i]:
            if zero >= 0.0:
                histogram[zero_row * stride + dm_cell(value[j] - value[i], dm)] += 1
            j += 1
        if j < a1:
            n = a1 - j
            if dm.formula:
                dm_formula(value, j, n, value[i], dm.low, dm.width, dm.high, top, cells)
            else:
                dm_search(value, j, n, value[i], dm.origin, dm.scale, dm_table, dm_edges, cells)
            dt_buckets(time, j, n, time[i], dt.fine_shift, dt.fine_first, last, buckets)
            count_cells(time, j, n, time[i], dt_edges, stride, bases, buckets, cells, histogram)


@njit(cache=True, nogil=True)
def _count_maps(block, dt, dm, maps, totals):  # type: ignore[no-untyped-def]
    n_dt, n_dm = len(dt.edges) - 2, len(dm.edges) - 2
    stride = n_dm + 2
    longest = longest_band(block.bounds)
    bases = row_bases(dt.fine, stride)
    buckets, cells = np.empty(longest, np.uint32), np.empty(longest, np.uint32)
    histogram = np.zeros((n_dt + 2) * stride, np.uint32)
    for o in range(block.bounds.shape[0]):
        for key in range(len(block.first)):
            histogram[:] = 0
            _count_key(block, o, key, dt, dm, bases, buckets, cells, histogram)
            for row in range(n_dt):
                at = (row + 1) * stride
                for column in range(n_dm):
                    maps[o, key, row, column] = histogram[at + column + 1]
                total = np.uint32(0)
                for column in range(stride):
                    total += histogram[at + column]
                totals[o, key, row] = total


@njit(cache=True, nogil=True)
def _accumulate(block, dt, dm, group, counts):  # type: ignore[no-untyped-def]
    longest = longest_band(block.bounds)
    bases = row_bases(dt.fine, len(dm.edges))
    buckets, cells = np.empty(longest, np.uint32), np.empty(longest, np.uint32)
    for o in range(block.bounds.shape[0]):
        if group[o] >= 0:
            for key in range(len(block.first)):
                histogram = counts[group[o], key]
                _count_key(block, o, key, dt, dm, bases, buckets, cells, histogram)


def count_maps(
    block: PairableBlock, dt: BitGuide, dm: LinearGuide
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Count pairs per object, key and cell; and per row, with those outside the dm range."""
    shape = (block.bounds.shape[0], len(block.first), len(dt.edges) - 2, len(dm.edges) - 2)
    maps, totals = np.empty(shape, np.uint32), np.empty(shape[:3], np.uint32)
    _count_maps(block, dt, dm, maps, totals)
    return maps, totals


def accumulate(
    block: PairableBlock, dt: BitGuide, dm: LinearGuide, group: NDArray[np.int64], counts: NDArray[np.int64]
) -> None:
    """Add the counts of each object with group >= 0 to ``counts[group, key, (n_dt + 2) * (n_dm + 2)]``."""
    _accumulate(block, dt, dm, group, counts)


@njit(cache=True, nogil=True)
def _pair_counts(block, counts):  # type: ignore[no-untyped-def]
    time, bounds = block.time, block.bounds
    for key in range(len(block.first)):
        first, second = block.first[key], block.second[key]
        within = first == second
        zero = block.zero_within if within else block.zero_cross
        for o in range(bounds.shape[0]):
            a1 = bounds[o, first + 1]
            start = same = bounds[o, first]
            n = 0
            for i in range(bounds[o, second], bounds[o, second + 1]):
                while start < a1 and time[start] < time[i]:
                    start += 1
                same = max(same, start)
                while same < a1 and time[same] == time[i]:
                    same += 1
                if within and block.consecutive:
                    n += i + 1 < a1 and (zero >= 0.0 or time[i + 1] > time[i])
                else:
                    begin = max(start, i + 1) if within else start
                    n += a1 - (begin if zero >= 0.0 else same)
            counts[o, key] = n


def pair_counts(block: PairableBlock) -> NDArray[np.int64]:
    """Count pairs per object and key, whatever their cell."""
    counts = np.zeros((block.bounds.shape[0], len(block.first)), np.int64)
    _pair_counts(block, counts)
    return counts


@njit(cache=True, nogil=True)
def _own_cells(block, dt, dm, start):  # type: ignore[no-untyped-def]
    n_dt, stride = len(dt.edges) - 2, len(dm.edges)
    longest = longest_band(block.bounds)
    bases = row_bases(dt.fine, stride)
    buckets, cells = np.empty(longest, np.uint32), np.empty(longest, np.uint32)
    histogram = np.zeros((n_dt + 2) * stride, np.int64)
    cell, count = np.empty(1024, np.int64), np.empty(1024, np.int64)
    used = 0
    start[0] = 0
    for o in range(block.bounds.shape[0]):
        for key in range(len(block.first)):
            _count_key(block, o, key, dt, dm, bases, buckets, cells, histogram)
            if used + n_dt * stride > len(cell):
                room = 2 * len(cell) + n_dt * stride
                cell, count = _grown(cell, room, used), _grown(count, room, used)
            for k in range(stride, (n_dt + 1) * stride):
                if histogram[k] > 0:
                    cell[used] = (key * n_dt - 1) * stride + k
                    count[used] = histogram[k]
                    used += 1
            histogram[:] = 0
        start[o + 1] = used
    return cell[:used].copy(), count[:used].copy()


@njit(cache=True, nogil=True)
def _grown(array, room, used):  # type: ignore[no-untyped-def]
    out = np.empty(room, array.dtype)
    out[:used] = array[:used]
    return out


def own_cells(
    block: PairableBlock, dt: BitGuide, dm: LinearGuide
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return start, cell and count of the occupied cells of each object, guard cells of dm included."""
    start = np.empty(block.bounds.shape[0] + 1, np.int64)
    cell, count = _own_cells(block, dt, dm, start)
    return start, cell, count
