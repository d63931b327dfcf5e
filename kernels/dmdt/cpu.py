"""dm-dt kernels in Numba: serial over one ragged block, without the GIL.

Entry points, with the same signatures as in `cuda`: count_maps, accumulate, gaussian_maps, score.
"""

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.dmdt.cpu_cells import count_arguments, count_pairs, longest_band
from skytrawl.kernels.dmdt.cpu_gauss import gaussian_maps
from skytrawl.kernels.dmdt.cpu_score import score
from skytrawl.kernels.dmdt.guides import BitGuide, LinearGuide
from skytrawl.kernels.dmdt.types import PairableBlock
from skytrawl.kernels.jit import njit

__all__ = ["accumulate", "count_maps", "gaussian_maps", "own_cells", "pair_counts", "score"]


@njit()
def _count_maps(  # type: ignore[no-untyped-def]
    time, value, bounds, firsts, seconds, consecutive, zero_within, zero_cross, shift, first, bases, dt_edges,
    formula, low, width, high, origin, scale, dm_table, dm_edges, maps, totals,
):  # fmt: skip
    n_dt, n_dm = len(dt_edges) - 1, len(dm_edges) - 2
    stride = n_dm + 2
    longest = longest_band(bounds)
    buckets, cells = np.empty(longest, np.uint32), np.empty(longest, np.uint32)
    histogram = np.zeros((n_dt + 2) * stride, np.uint32)
    for o in range(bounds.shape[0]):
        for key in range(len(firsts)):
            histogram[:] = 0
            count_pairs(
                o, key, time, value, bounds, firsts, seconds, consecutive, zero_within, zero_cross, shift,
                first, bases, dt_edges, formula, low, width, high, origin, scale, dm_table, dm_edges,
                buckets, cells, histogram,
            )  # fmt: skip
            for row in range(n_dt):
                at = (row + 1) * stride
                inside = histogram[at + 1 : at + 1 + n_dm]
                total = histogram[at] + histogram[at + n_dm + 1]
                for column in range(n_dm):
                    maps[o, key, row, column] = inside[column]
                    total += inside[column]
                totals[o, key, row] = total


@njit()
def _accumulate(  # type: ignore[no-untyped-def]
    time, value, bounds, firsts, seconds, consecutive, zero_within, zero_cross, shift, first, bases, dt_edges,
    formula, low, width, high, origin, scale, dm_table, dm_edges, group, counts,
):  # fmt: skip
    longest = longest_band(bounds)
    buckets, cells = np.empty(longest, np.uint32), np.empty(longest, np.uint32)
    for o in range(bounds.shape[0]):
        if group[o] < 0:
            continue
        for key in range(len(firsts)):
            count_pairs(
                o, key, time, value, bounds, firsts, seconds, consecutive, zero_within, zero_cross, shift,
                first, bases, dt_edges, formula, low, width, high, origin, scale, dm_table, dm_edges,
                buckets, cells, counts[group[o], key],
            )  # fmt: skip


def count_maps(
    block: PairableBlock, dt: BitGuide, dm: LinearGuide
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Count pairs per object, key and cell; and per row, with those outside the dm range."""
    shape = (block.bounds.shape[0], len(block.first), len(dt.edges) - 2, len(dm.edges) - 2)
    maps, totals = np.empty(shape, np.uint32), np.empty(shape[:3], np.uint32)
    _count_maps(*count_arguments(block, dt, dm), maps, totals)  # type: ignore[call-arg]
    return maps, totals


def accumulate(
    block: PairableBlock, dt: BitGuide, dm: LinearGuide, group: NDArray[np.int64], counts: NDArray[np.int64]
) -> None:
    """Add the counts of each object with group >= 0 to ``counts[group, key, (n_dt + 2) * (n_dm + 2)]``."""
    _accumulate(*count_arguments(block, dt, dm), group, counts)  # type: ignore[call-arg]


@njit()
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


@njit()
def _grown(array, room, used):  # type: ignore[no-untyped-def]
    out = np.empty(room, array.dtype)
    out[:used] = array[:used]
    return out


@njit()
def _own_cells(  # type: ignore[no-untyped-def]
    time, value, bounds, firsts, seconds, consecutive, zero_within, zero_cross, shift, first, bases, dt_edges,
    formula, low, width, high, origin, scale, dm_table, dm_edges, start,
):  # fmt: skip
    n_dt, stride = len(dt_edges) - 1, len(dm_edges)
    longest = longest_band(bounds)
    buckets, cells = np.empty(longest, np.uint32), np.empty(longest, np.uint32)
    histogram = np.zeros((n_dt + 2) * stride, np.int64)
    cell, count = np.empty(1024, np.int64), np.empty(1024, np.int64)
    used = 0
    start[0] = 0
    for o in range(bounds.shape[0]):
        for key in range(len(firsts)):
            count_pairs(
                o, key, time, value, bounds, firsts, seconds, consecutive, zero_within, zero_cross, shift,
                first, bases, dt_edges, formula, low, width, high, origin, scale, dm_table, dm_edges,
                buckets, cells, histogram,
            )  # fmt: skip
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


def own_cells(
    block: PairableBlock, dt: BitGuide, dm: LinearGuide
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return start, cell and count of the occupied cells of each object, guard cells of dm included."""
    start = np.empty(block.bounds.shape[0] + 1, np.int64)
    cell, count = _own_cells(*count_arguments(block, dt, dm), start)  # type: ignore[call-arg]
    return start, cell, count
