"""Scores against a compiled reference, in Numba: table look-up and exact fixed-point sums."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from skytrawl.kernels.dmdt.compiled import FRACTION_BITS, CompiledReference
from skytrawl.kernels.dmdt.cpu_cells import dt_buckets
from skytrawl.kernels.dmdt.guides import UNDECIDED
from skytrawl.kernels.dmdt.types import PairableBlock

# So many packed values of the largest size fit into int64.
CHUNK = 1024
MASK = (1 << FRACTION_BITS) - 1
NO_PAIR = (1 << 63) - 1
# What the fine table says where it gives no row.
SEARCH, OUTSIDE, EDGE = 1 << 28, (1 << 28) + 1, 1 << 29


@njit(cache=True, nogil=True)
def _slot(dt, dm, dt_edges, row_slots, edges):  # type: ignore[no-untyped-def]
    """Return the slot of a pair by search, -1 outside the dt range."""
    row = np.searchsorted(dt_edges, dt, side="right") - 1
    if row < 0 or row >= len(dt_edges) - 1:
        return -1
    begin = row_slots[row]
    return begin + np.searchsorted(edges[begin : row_slots[row + 1] - 1], dm, side="right")


@njit(cache=True, nogil=True)
def _score(  # type: ignore[no-untyped-def]
    key, time, value, bounds, first_band, second_band, consecutive, zero, shift, first, fine, dt_edges,
    row_slots, origin, scale, top, slots, edges, packed, sums, worst,
):  # fmt: skip
    """Score the pairs of one key for all objects.

    As in `cpu_cells`: plain arrays, a vector loop for the dt buckets and a scalar loop that gathers. Where
    the fine table gives no row (an edge inside the bucket, or a row without equal cells) the slot is searched
    for.
    """
    last = len(fine) - 2
    buckets = np.empty(CHUNK, np.uint32)
    within = first_band == second_band
    search, outside, edge = np.uint32(SEARCH), np.uint32(OUTSIDE), np.uint32(EDGE)
    for o in range(bounds.shape[0]):
        a1 = bounds[o, first_band + 1]
        start = bounds[o, first_band]
        high, low, partial, held = np.int64(0), np.int64(0), np.int64(0), 0
        n_pairs, penalised, ignored = 0, np.int64(0), 0
        least = worst[o, 0]
        for i in range(bounds[o, second_band], bounds[o, second_band + 1]):
            ti, vi = time[i], value[i]
            end = a1
            if within and consecutive:
                j, end = i + 1, min(i + 2, a1)
            else:
                while start < a1 and time[start] < ti:
                    start += 1
                j = max(start, i + 1) if within else start
            while j < end:
                stop = min(j + CHUNK, end)
                if time[j] == ti:
                    # simultaneous pairs come first, one at a time
                    stop = j + 1
                    if zero < 0.0:
                        j = stop
                        continue
                later, values = time[j:stop], value[j:stop]
                dt_buckets(later, ti, shift, first, last, buckets)
                if later[0] == ti:
                    buckets[0] = last + 1
                # sums of this loop alone stay in registers
                some, marked = np.int64(0), np.int64(0)
                for k in range(len(later)):
                    dm = values[k] - vi
                    row = fine[buckets[k]]
                    if row >= edge:
                        row = np.uint32(row - edge)
                        row = np.uint32(row + np.uint32(later[k] - ti >= dt_edges[row]))
                    if row < search:
                        y = (dm - origin[row]) * scale[row]
                        y = y if y > 0.0 else 0.0
                        cell = np.int64(y if y < top[row] else top[row])
                        slot = np.uint32(slots[row] + np.uint32(cell))
                        # added, not branched upon: it is true for every other pair
                        slot = np.uint32(slot + np.uint32(dm >= edges[slot]))
                    elif row == outside:
                        ignored += 1
                        continue
                    else:
                        dt = later[k] - ti
                        found = _slot(zero if dt == 0.0 else dt, dm, dt_edges, row_slots, edges)
                        if found < 0:
                            ignored += 1
                            continue
                        slot = np.uint32(found)
                    q = packed[slot]
                    some += q
                    marked += q & 1
                    if q < least:
                        least = q
                        worst[o, 0], worst[o, 1], worst[o, 2], worst[o, 3] = q, key, j + k, i
                partial += some
                penalised += marked
                n_pairs += len(later)
                held += len(later)
                j = stop
                # at most 2 CHUNK values are pending here
                if held >= CHUNK:
                    high += partial >> FRACTION_BITS
                    low += partial & MASK
                    partial, held = np.int64(0), 0
            high += low >> FRACTION_BITS
            low &= MASK
        low += partial & MASK
        high += (partial >> FRACTION_BITS) + (low >> FRACTION_BITS)
        sums[o, key, 0], sums[o, key, 1], sums[o, key, 2] = high, low & MASK, n_pairs - ignored
        sums[o, key, 3], sums[o, key, 4] = penalised, ignored


def score(block: PairableBlock, reference: CompiledReference) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Score every object and key.

    Returns
    -------
    sums : int64[n_objects, n_keys, 5]
        High and low part of the sum of packed values (high 2^40 + low), pairs, penalised, ignored.
    worst : int64[n_objects, 4]
        Lowest packed value (`NO_PAIR` without pairs), its key, prepared rows of the later and earlier
        observation.
    """
    n_objects = block.bounds.shape[0]
    sums = np.zeros((n_objects, len(block.first), 5), np.int64)
    worst = np.full((n_objects, 4), -1, np.int64)
    worst[:, 0] = NO_PAIR
    ref = reference
    top = np.diff(ref.dm_table_start) - 1.0
    for key, (first, second) in enumerate(zip(block.first, block.second, strict=True)):
        begin, stop = ref.row_start[key], ref.row_start[key + 1]
        fine = ref.fine[ref.fine_start[key] : ref.fine_start[key + 1]]
        codes = np.where(ref.dm_identity[begin:stop], np.arange(1, stop - begin + 1), SEARCH)
        # the last code serves UNDECIDED, which is -1, and one more bucket for simultaneous pairs
        codes = np.concatenate(([OUTSIDE], codes, [OUTSIDE, SEARCH]))
        rows = codes[np.append(fine, -1)]
        # an edge inside a bucket between two rows with equal cells: one comparison finds the row
        for bucket in np.flatnonzero(fine == UNDECIDED):
            row = fine[bucket - 1] if bucket > 0 else -1
            if (
                1 <= row < stop - begin
                and fine[bucket + 1] == row + 1
                and np.all(codes[row : row + 2] < SEARCH)
            ):
                rows[bucket] = EDGE + row
        # the arrays of rows start at the row below the first
        of_rows = np.maximum(np.arange(begin - 1, stop), 0)
        _score(
            key, block.time, block.value, block.bounds, first, second, block.consecutive,
            block.zero_within if first == second else block.zero_cross,
            ref.fine_shift[key], ref.fine_first[key], rows.astype(np.uint32),
            ref.dt_edges[ref.edge_start[key] : ref.edge_start[key + 1] - 1],
            ref.slot_start[begin : stop + 1], ref.dm_origin[of_rows], ref.dm_scale[of_rows], top[of_rows],
            ref.slot_start[of_rows].astype(np.uint32), ref.dm_edges, ref.packed, sums, worst,
        )  # fmt: skip
    return sums, worst
