"""Rows by object, band and time, in Numba.

Runs of equal neighbouring identifiers are looked up once each in a hash table, rows are placed by counting,
and only objects that do not stand in order are sorted.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.jit import njit
from skytrawl.kernels.rows import Order
from skytrawl.kernels.rows.cpu_sort import sort_times


@njit()
def mix(name):  # type: ignore[no-untyped-def]
    """Mix the bits as MurmurHash3 does: the hash that buckets are made by has like bits inside a bucket."""
    name = (name ^ (name >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    name = (name ^ (name >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return name ^ (name >> np.uint64(33))


@njit()
def _look(ids, band, time):  # type: ignore[no-untyped-def]
    """Return (number of runs, whether each run is ordered, whether the identifiers ascend run by run)."""
    runs = 1
    ordered = ascending = True
    for i in range(1, len(ids)):
        same = ids[i] == ids[i - 1]
        runs += not same
        ascending &= ids[i] >= ids[i - 1]
        later = (band[i] > band[i - 1]) | ((band[i] == band[i - 1]) & (time[i] >= time[i - 1]))
        ordered &= later | (not same)
    return runs, ordered, ascending


@njit()
def _fill_runs(ids, starts):  # type: ignore[no-untyped-def]
    starts[0] = 0
    k = 0
    for i in range(1, len(ids)):
        if ids[i] != ids[i - 1]:
            k += 1
            starts[k] = i


@njit()
def _own(ids, owner, first, counts):  # type: ignore[no-untyped-def]
    """Number the objects by first appearance: fill owner[run], first[object], counts[object].

    Return how many there are. The table holds object + 1, 0 where free, at most half full.
    """
    size = 1024
    mask = np.uint64(size - 1)
    slots = np.zeros(size, owner.dtype)
    m = run = i = 0
    n = len(ids)
    while i < n:
        name, start = ids[i], i
        i += 1
        while i < n and ids[i] == name:
            i += 1
        at = mix(name) & mask
        while slots[at] != 0 and ids[first[slots[at] - 1]] != name:
            at = (at + np.uint64(1)) & mask
        if slots[at] == 0:
            first[m], counts[m] = start, 0
            m += 1
            slots[at] = m
        k = slots[at] - 1
        owner[run] = k
        counts[k] += i - start
        run += 1
        if 2 * m > size:
            size *= 4 if size < 1048576 else 2  # the large ones in small steps, for memory
            mask = np.uint64(size - 1)
            slots = np.zeros(size, owner.dtype)
            for k in range(m):
                at = mix(ids[first[k]]) & mask
                while slots[at] != 0:
                    at = (at + np.uint64(1)) & mask
                slots[at] = k + 1
    return m


@njit()
def _place(ids, owner, following, order):  # type: ignore[no-untyped-def]
    """Write each row at the next free place of its object."""
    run = i = 0
    n = len(ids)
    while i < n:
        name, k = ids[i], owner[run]
        at = following[k]
        order[at] = i
        at += 1
        i += 1
        while i < n and ids[i] == name:
            order[at] = i
            at += 1
            i += 1
        following[k] = at
        run += 1


@njit()
def _sort(order, offsets, band, time, n_bands):  # type: ignore[no-untyped-def]
    """Sort the rows of each object by band, then time, in place."""
    longest = 0
    for k in range(len(offsets) - 1):
        longest = max(longest, offsets[k + 1] - offsets[k])
    keys, spare_keys = np.empty(longest, np.float64), np.empty(longest, np.float64)
    rows, spare_rows = np.empty(longest, order.dtype), np.empty(longest, order.dtype)
    counts, ends = np.empty(longest + 1, order.dtype), np.empty(n_bands + 1, np.int64)
    for k in range(len(offsets) - 1):
        base, n = offsets[k], offsets[k + 1] - offsets[k]
        ordered = one_band = True
        before, earlier = band[order[base]], time[order[base]]
        for j in range(n):
            row = order[base + j]
            code, stamp = band[row], time[row]
            keys[j], rows[j] = stamp, row
            ordered &= (code > before) | ((code == before) & (stamp >= earlier))
            one_band &= code == before
            before, earlier = code, stamp
        if ordered:
            continue
        for code in range(n_bands + 1):
            ends[code] = n if one_band else 0
        if one_band:
            keys, spare_keys, rows, spare_rows = spare_keys, keys, spare_rows, rows
        else:
            for j in range(n):
                ends[band[rows[j]] + 1] += 1
            for code in range(n_bands):
                ends[code + 1] += ends[code]
            for j in range(n):
                code = band[rows[j]]
                spare_keys[ends[code]], spare_rows[ends[code]] = keys[j], rows[j]
                ends[code] += 1
        start = 0
        for code in range(n_bands):
            # What was read first is spare from here on.
            sort_times(spare_keys, spare_rows, keys, rows, counts, start, ends[code])
            start = ends[code]
        for j in range(n):
            order[base + j] = spare_rows[j]


def index_dtype(n: int) -> type[Any]:
    """The shortest index for n rows: half the memory and faster to read."""
    return np.int32 if n < 2**31 else np.int64


def group(
    ids: NDArray[np.uint64], band: NDArray[np.uint8], time: NDArray[np.float64]
) -> tuple[NDArray[np.int64], Order | None, NDArray[np.int64]]:
    """Order rows by object, band and time; see `skytrawl.kernels.rows.group`."""
    n = len(ids)
    if not n:
        return np.zeros(0, np.int64), None, np.zeros(1, np.int64)
    n_runs, ordered, ascending = _look(ids, band, time)
    if ordered and ascending:
        offsets = np.empty(n_runs + 1, np.int64)
        _fill_runs(ids, offsets)
        offsets[-1] = n
        return offsets[:-1].copy(), None, offsets
    index = index_dtype(n)
    owner, counts, first = np.empty(n_runs, index), np.empty(n_runs, index), np.empty(n_runs, index)
    m = _own(ids, owner, first, counts)
    offsets = np.zeros(m + 1, np.int64)
    np.cumsum(counts[:m], out=offsets[1:])
    starts = first[:m].astype(np.int64)
    del counts, first
    if ordered and m == n_runs:
        return starts, None, offsets
    order = np.empty(n, index)
    _place(ids, owner, offsets[:-1].copy(), order)
    del owner
    _sort(order, offsets, band, time, int(band.max()) + 1)
    return starts, order, offsets
