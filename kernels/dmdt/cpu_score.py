"""Scores against a compiled reference, in Numba: table look-up and exact fixed-point sums."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.dmdt.compiled import FRACTION_BITS, CompiledReference
from skytrawl.kernels.dmdt.cpu_cells import dt_buckets
from skytrawl.kernels.dmdt.guides import UNDECIDED
from skytrawl.kernels.dmdt.types import PairableBlock
from skytrawl.kernels.jit import njit

# So many packed values of the largest size fit into int64.
CHUNK = 1024
MASK = (1 << FRACTION_BITS) - 1
NO_PAIR = (1 << 63) - 1
# What the fine table says where it gives no row.
SEARCH, OUTSIDE, EDGE = 1 << 28, (1 << 28) + 1, 1 << 29


@njit()
def _slot(dt, dm, dt_edges, row_slots, edges):  # type: ignore[no-untyped-def]
    """Return the slot of a pair by search, -1 outside the dt range."""
    row = np.searchsorted(dt_edges, dt, side="right") - 1
    if row < 0 or row >= len(dt_edges) - 1:
        return -1
    begin = row_slots[row]
    return begin + np.searchsorted(edges[begin : row_slots[row + 1] - 1], dm, side="right")


@njit()
def _score(  # type: ignore[no-untyped-def]
    key, time, value, bounds, first_band, second_band, consecutive, zero, shift, first, fine, dt_edges,
    row_slots, rows, slots, edges, packed, sums, worst,
):  # fmt: skip
    """Score the pairs of one key for all objects.

    As in `cpu_cells`: plain arrays, a vector loop for the dt buckets and a scalar loop that gathers. Where
    the fine table gives no row (an edge inside the bucket, or a row without equal cells) the slot is searched
    for.
    """
    last = len(fine) - 2
    buckets, found = np.empty(CHUNK, np.uint32), np.empty(CHUNK, np.uint32)
    within = first_band == second_band
    search, edge = np.uint32(SEARCH), np.uint32(EDGE)
    one, two, four = np.uint32(1), np.uint32(2), np.uint32(4)
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
                # pairs outside the dt range come first or last
                begin, inside = 0, len(later)
                for k in range(len(later)):
                    dm = values[k] - vi
                    row = fine[buckets[k]]
                    if row >= search:
                        dt = later[k] - ti
                        if row >= edge:
                            row = np.uint32(row - edge)
                            row = np.uint32(row + np.uint32(dt >= dt_edges[(row >> two) + one]) * four)
                        else:
                            at = -1
                            if row == search:
                                at = _slot(zero if dt == 0.0 else dt, dm, dt_edges, row_slots, edges)
                            if at >= 0:
                                found[k] = np.uint32(at)
                            elif begin == k:
                                begin += 1
                            else:
                                inside = k
                                break
                            continue
                    y = (dm - rows[row]) * rows[row + one]
                    y = y if y > 0.0 else 0.0
                    cell = np.int64(y if y < rows[row + two] else rows[row + two])
                    slot = np.uint32(slots[row] + np.uint32(cell))
                    # added, not branched upon: it is true for every other pair
                    found[k] = np.uint32(slot + np.uint32(dm >= edges[slot]))
                # a loop of its own, which is vectorised
                mine = found[begin:inside]
                some, marked, lowest = np.int64(0), np.int64(0), np.int64(NO_PAIR)
                for k in range(len(mine)):
                    q = packed[mine[k]]
                    some += q
                    marked += q & 1
                    lowest = min(lowest, q)
                if lowest < least:
                    least = lowest
                    k = begin
                    while packed[found[k]] != least:
                        k += 1
                    worst[o, 0], worst[o, 1], worst[o, 2], worst[o, 3] = least, key, j + k, i
                ignored += len(later) - len(mine)
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
    # four numbers a row, side by side, because the loop has few registers
    rows = np.stack([ref.dm_origin, ref.dm_scale, top, top], axis=1)
    for key, (first, second) in enumerate(zip(block.first, block.second, strict=True)):
        of_key = slice(ref.row_start[key], ref.row_start[key + 1])
        fine = ref.fine[ref.fine_start[key] : ref.fine_start[key + 1]]
        _score(
            key, block.time, block.value, block.bounds, first, second, block.consecutive,
            block.zero_within if first == second else block.zero_cross,
            ref.fine_shift[key], ref.fine_first[key], _row_codes(fine, ref.dm_identity[of_key]),
            ref.dt_edges[ref.edge_start[key] : ref.edge_start[key + 1] - 1],
            ref.slot_start[of_key.start : of_key.stop + 1], rows[of_key].ravel(),
            np.repeat(ref.slot_start[of_key], 4).astype(np.uint32), ref.dm_edges, ref.packed, sums, worst,
        )  # fmt: skip
    return sums, worst


def _row_codes(fine: NDArray[np.int64], equal_cells: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Return for each fine bucket 4 times its row, or what to do instead, and one bucket of SEARCH.

    Rows without equal cells are searched. EDGE + 4 row says that one edge, that after the row, lies inside
    the bucket: one comparison decides between the row and the next.
    """
    n_rows = len(equal_cells)
    codes = np.where(equal_cells, 4 * np.arange(n_rows), SEARCH)
    # edges at or below: 0 and n_rows + 1 are outside; UNDECIDED is -1, the last code
    codes = np.concatenate(([OUTSIDE], codes, [OUTSIDE, SEARCH]))
    out = codes[np.append(fine, UNDECIDED)]
    at = np.flatnonzero(fine == UNDECIDED)
    at = at[at > 0]
    before, after = fine[at - 1], fine[at + 1]
    simple = (before > 0) & (before < n_rows) & (after == before + 1)
    simple &= (codes[before] < SEARCH) & (codes[after] < SEARCH)
    out[at[simple]] = EDGE + codes[before[simple]]
    return out.astype(np.uint32)
