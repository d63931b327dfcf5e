"""Maps smeared by the errors, in Numba."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.dmdt.cpu_cells import UNDECIDED_BASE, dt_buckets, longest_band, row_bases
from skytrawl.kernels.dmdt.gauss import HALF, POSITION_BITS, REACH, normal_table
from skytrawl.kernels.dmdt.guides import BitGuide, LinearGuide
from skytrawl.kernels.dmdt.types import PairableBlock
from skytrawl.kernels.jit import njit

UNROLL = 4


@njit(error_model="numpy", inline="always")
def _reach(value, variance, vi, of_one, half, steps, origin, scale, top, slopes, lefts, rights):  # type: ignore[no-untyped-def]
    """Write for each partner its table positions in a unit of dm, and the buckets that it reaches."""
    for k in range(len(value)):
        dm = value[k] - vi
        sigma = np.sqrt(variance[k] + of_one)
        slopes[k] = steps / sigma
        # a little more than the table reaches, against rounding
        away = sigma * (1.001 * half / steps)
        left = (dm - away - origin) * scale
        left = left if left > 0.0 else 0.0
        lefts[k] = np.uint32(np.int32(left if left < top else top))
        right = (dm + away - origin) * scale
        right = right if right > 0.0 else 0.0
        rights[k] = np.uint32(np.int32(right if right < top else top))


@njit(error_model="numpy", inline="always")
def _smear(dm, slope, half, first, stop, edges, normal, cumulative, at):  # type: ignore[no-untyped-def]
    """Add the normal distribution of one pair at the edges first:stop of its row, whose edge 0 is at `at`.

    Blocks of `UNROLL` edges, the last one beyond stop: fewer branches to guess. Return where they end.
    """
    bits, mask = np.uint64(POSITION_BITS), np.uint64((1 << POSITION_BITS) - 1)
    edge = first
    while edge < stop:
        for _ in range(UNROLL):
            position = (edges[edge] - dm) * slope + half
            position = position if position > 0.0 else 0.0
            position = position if position < 2.0 * half else 2.0 * half
            fixed = np.uint64(np.int64(position))
            node = fixed >> bits
            step = normal[node, 1] * np.int64(fixed & mask) >> POSITION_BITS
            cumulative[np.uint64(at + edge)] += normal[node, 0] + step
            edge += 1
    return edge


@njit()
def _cells(cumulative, beyond, totals, sums):  # type: ignore[no-untyped-def]
    """Turn sums at the edges, and of pairs wholly below an edge, into sums in the cells; clear them."""
    n_edges = sums.shape[1] + 1
    for row in range(len(totals)):
        if totals[row] > 0:
            full = beyond[row, 0]
            below = cumulative[row, 0] + full
            for edge in range(1, n_edges):
                full += beyond[row, edge]
                above = cumulative[row, edge] + full
                sums[row, edge - 1] = above - below
                below = above
            cumulative[row] = 0
            beyond[row] = 0


@njit(error_model="numpy")
def _gaussian_maps(  # type: ignore[no-untyped-def]
    time, value, variance, bounds, firsts, seconds, consecutive, zero_within, zero_cross, shift, first, bases,
    dt_edges, origin, scale, dm_table, dm_next, dm_edges, normal, half, reach, sums, totals,
):  # fmt: skip
    n_dt, n_dm = len(dt_edges) - 1, len(dm_edges) - 2
    last, top = len(bases) - 1, len(dm_table) - 1.0
    steps = half / reach
    full = normal[len(normal) - 1, 0]
    undecided = np.uint32(UNDECIDED_BASE)
    longest = longest_band(bounds)
    buckets, slopes = np.empty(longest, np.uint32), np.empty(longest, np.float64)
    lefts, rights = np.empty(longest, np.uint32), np.empty(longest, np.uint32)
    # sums of the distribution at the edges, and how often it has reached 1 before an edge: their differences
    # are the cells, and a pair touches only the edges near it
    width = n_dm + 1 + UNROLL
    padded = np.full(width, np.nan)
    padded[: n_dm + 1] = dm_edges[: n_dm + 1]
    cumulative, beyond = np.zeros((n_dt, width), np.int64), np.zeros((n_dt, n_dm + 2), np.int64)
    flat = cumulative.reshape(-1)
    for o in range(bounds.shape[0]):
        for key in range(len(firsts)):
            a1 = bounds[o, firsts[key] + 1]
            start = bounds[o, firsts[key]]
            within = firsts[key] == seconds[key]
            zero = zero_within if within else zero_cross
            for i in range(bounds[o, seconds[key]], bounds[o, seconds[key] + 1]):
                ti = time[i]
                end = a1
                if within and consecutive:
                    j, end = i + 1, min(i + 2, a1)
                else:
                    while start < a1 and time[start] < ti:
                        start += 1
                    j = max(start, i + 1) if within else start
                later, values, spread = time[j:end], value[j:end], variance[j:end]
                dt_buckets(later, ti, shift, first, last, buckets)
                _reach(
                    values,
                    spread,
                    value[i],
                    variance[i],
                    half,
                    steps,
                    origin,
                    scale,
                    top,
                    slopes,
                    lefts,
                    rights,
                )
                for k in range(len(later)):
                    row = np.int64(bases[buckets[k]])
                    if later[k] == ti:
                        if zero < 0.0:
                            continue
                        row = np.searchsorted(dt_edges, zero, side="right")
                    elif row == undecided:
                        row = np.searchsorted(dt_edges, later[k] - ti, side="right")
                    row -= 1
                    if row < 0 or row >= n_dt:
                        continue
                    totals[o, key, row] += np.uint32(1)
                    dm = values[k] - value[i]
                    slope = slopes[k]
                    if slope == np.inf:
                        beyond[row, np.searchsorted(dm_edges[: n_dm + 1], dm, side="right")] += full
                    elif slope > 0.0:
                        edge, stop = dm_table[lefts[k]], dm_next[rights[k]]
                        stop = _smear(dm, slope, half, edge, stop, padded, normal, flat, row * width)
                        beyond[row, min(stop, n_dm + 1)] += full
            _cells(cumulative, beyond, totals[o, key], sums[o, key])


def gaussian_maps(
    block: PairableBlock, dt: BitGuide, dm: LinearGuide
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Smear pairs per object, key and cell, in fixed point; and count them per row."""
    shape = (block.bounds.shape[0], len(block.first), len(dt.edges) - 2, len(dm.edges) - 2)
    sums, totals = np.zeros(shape, np.int64), np.zeros(shape[:3], np.uint32)
    _gaussian_maps(
        block.time, block.value, block.variance, block.bounds, block.first, block.second, block.consecutive,
        block.zero_within, block.zero_cross, dt.fine_shift, dt.fine_first, row_bases(dt.fine, 1),
        dt.edges[:-1], dm.origin, dm.scale, dm.table, np.append(dm.table[1:], len(dm.edges) - 1), dm.edges,
        normal_table(), HALF, REACH, sums, totals,
    )  # fmt: skip
    return sums, totals
