"""Scores against a compiled reference, in Numba: table look-up and exact fixed-point sums."""

import numpy as np
from numba import njit
from numpy.typing import NDArray
from skytrawl.kernels.dmdt.compiled import FRACTION_BITS, CompiledReference
from skytrawl.kernels.dmdt.types import PairableBlock

# So many packed values of the largest size fit into int64.
CHUNK = 1024
MASK = (1 << FRACTION_BITS) - 1
NO_PAIR = (1 << 63) - 1


@njit(cache=True, nogil=True)
def _value(dm, row, ref_origin, ref_scale, table_start, table, slot_start, edges, packed):  # type: ignore[no-untyped-def]
    """Return the packed value of one pair in a row."""
    first = table_start[row]
    top = table_start[row + 1] - first - 1.0
    slot = slot_start[row]
    n = table[first + int(min(max((dm - ref_origin[row]) * ref_scale[row], 0.0), top))]
    while dm >= edges[slot + n]:
        n += 1
    return packed[slot + n]


@njit(cache=True, nogil=True)
def _uniform(value, start, stop, at, origin, scale, top, slot, edges, packed):  # type: ignore[no-untyped-def]
    """Return sum, penalised and minimum of the packed values of partners in one uniform row."""
    total, penalised, least = np.int64(0), np.int64(0), np.int64(NO_PAIR)
    for j in range(start, stop):
        dm = value[j] - at
        n = slot + int(min(max((dm - origin) * scale, 0.0), top))
        n += np.int64(dm >= edges[np.uint64(n)])
        q = packed[np.uint64(n)]
        total += q
        penalised += q & 1
        least = min(least, q)
    return total, penalised, least


@njit(cache=True, nogil=True)
def _row_of(dt, shift, first, table, edges):  # type: ignore[no-untyped-def]
    """Return the number of dt edges at or below dt >= 0."""
    n = table[min(max((np.float64(dt).view(np.int64) >> shift) - first, 0), len(table) - 1)]
    while dt >= edges[n]:
        n += 1
    return n


@njit(cache=True, nogil=True)
def _score_key(  # type: ignore[no-untyped-def]
    time, value, a0, a1, b0, b1, within, consecutive, zero, key, shift, first, dt_table, dt_edges, row0,
    origin, scale, identity, table_start, table, slot_start, edges, packed, pointers, sums, worst,
):  # fmt: skip
    """Score the pairs of one object and key: sums = high, low, pairs, penalised, ignored; worst = q, key, j, i."""
    n_rows = len(dt_edges) - 2
    pointers[:] = a0
    start = a0
    high, low, n_pairs, penalised, ignored = np.int64(0), np.int64(0), 0, np.int64(0), 0
    for i in range(b0, b1):
        ti, vi = time[i], value[i]
        if consecutive:
            j, stop = i + 1, min(i + 2, a1)
        else:
            while start < a1 and time[start] < ti:
                start += 1
            j, stop = max(start, i + 1) if within else start, a1
        while j < stop:
            dt = time[j] - ti
            simultaneous = dt == 0.0
            if simultaneous:
                dt = zero
                if dt < 0.0:
                    j += 1
                    continue
            row = _row_of(dt, shift, first, dt_table, dt_edges)
            # all partners of this row are scored together, up to the next edge
            end = j + 1
            if not simultaneous:
                if row > n_rows:
                    ignored += stop - j
                    break
                edge = dt_edges[row]
                end = max(pointers[row], end)
                while end < stop and time[end] - ti < edge:
                    end += 1
                pointers[row] = end
            if row == 0 or row > n_rows:
                ignored += end - j
                j = end
                continue
            n_pairs += end - j
            r = row0 + row
            while j < end:
                part = min(end, j + CHUNK)
                s = np.int64(0)
                if identity[r] and part - j > 3:
                    top = table_start[r + 1] - table_start[r] - 1.0
                    s, p, least = _uniform(
                        value, j, part, vi, origin[r], scale[r], top, slot_start[r], edges, packed
                    )
                    penalised += p
                    if least < worst[0]:
                        at = j
                        while (
                            _value(
                                value[at] - vi,
                                r,
                                origin,
                                scale,
                                table_start,
                                table,
                                slot_start,
                                edges,
                                packed,
                            )
                            != least
                        ):
                            at += 1
                        worst[0], worst[1], worst[2], worst[3] = least, key, at, i
                    j = part
                else:
                    while j < part:
                        q = _value(
                            value[j] - vi, r, origin, scale, table_start, table, slot_start, edges, packed
                        )
                        s += q
                        penalised += q & 1
                        if q < worst[0]:
                            worst[0], worst[1], worst[2], worst[3] = q, key, j, i
                        j += 1
                low += s & MASK
                high += s >> FRACTION_BITS
        high += low >> FRACTION_BITS
        low &= MASK
    sums[0], sums[1], sums[2], sums[3], sums[4] = high, low, n_pairs, penalised, ignored


@njit(cache=True, nogil=True)
def _score(block, ref, sums, worst):  # type: ignore[no-untyped-def]
    """Fill sums[object, key, 5] and worst[object, 4]."""
    bounds = block.bounds
    pointers = np.empty(len(ref.dt_edges), np.int64)
    for key in range(len(block.first)):
        first, second = block.first[key], block.second[key]
        within = first == second
        zero = block.zero_within if within else block.zero_cross
        dt_table = ref.dt_table[ref.dt_table_start[key] : ref.dt_table_start[key + 1]]
        dt_edges = ref.dt_edges[ref.edge_start[key] : ref.edge_start[key + 1]]
        key_pointers = pointers[: len(dt_edges)]
        for o in range(bounds.shape[0]):
            _score_key(
                block.time, block.value, bounds[o, first], bounds[o, first + 1], bounds[o, second],
                bounds[o, second + 1], within, within and block.consecutive, zero, key, ref.dt_shift[key],
                ref.dt_first[key], dt_table, dt_edges, ref.row_start[key] - 1, ref.dm_origin, ref.dm_scale,
                ref.dm_identity, ref.dm_table_start, ref.dm_table, ref.slot_start, ref.dm_edges, ref.packed,
                key_pointers, sums[o, key], worst[o],
            )  # fmt: skip


def score(block: PairableBlock, reference: CompiledReference) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Score every object and key.

    Returns
    -------
    sums : int64[n_objects, n_keys, 5]
        High and low part of the sum of packed values (high 2^40 + low), pairs, penalised, ignored.
    worst : int64[n_objects, 4]
        Lowest packed value (`NO_PAIR` without pairs), its key, prepared rows of the later and earlier observation.
    """
    n_objects = block.bounds.shape[0]
    sums = np.zeros((n_objects, len(block.first), 5), np.int64)
    worst = np.full((n_objects, 4), -1, np.int64)
    worst[:, 0] = NO_PAIR
    _score(block, reference, sums, worst)
    return sums, worst
