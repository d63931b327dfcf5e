"""Rows by object, band and time, in Numba.

Runs of equal neighbouring identifiers are looked up once each in a hash table. Each row becomes one integer,
placed by counting with those of its object, whose order is that of band, time and row; so nothing is read out
of order to sort, except the times that agree in all the bits that fit.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.jit import njit
from skytrawl.kernels.rows import Order
from skytrawl.kernels.rows.cpu_sort import sort_keys, sort_times


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
def _own(ids, owner, first, counts, names):  # type: ignore[no-untyped-def]
    """Number the objects by first appearance: fill owner[row], first[object], counts[object], names[object].

    Return how many there are. The table holds object + 1, 0 where free, at most half full.
    """
    size = 1024
    mask = np.uint64(size - 1)
    slots = np.zeros(size, owner.dtype)
    m = i = 0
    n = len(ids)
    while i < n:
        name, start = ids[i], i
        at = mix(name) & mask
        while slots[at] != 0 and names[slots[at] - 1] != name:
            at = (at + np.uint64(1)) & mask
        if slots[at] == 0:
            first[m], counts[m], names[m] = start, 0, name
            m += 1
            slots[at] = m
        k = slots[at] - 1
        owner[i] = k
        i += 1
        while i < n and ids[i] == name:
            owner[i] = k
            i += 1
        counts[k] += i - start
        if 2 * m > size:
            size *= 4 if size < 1048576 else 2  # the large ones in small steps, for memory
            mask = np.uint64(size - 1)
            slots = np.zeros(size, owner.dtype)
            for k in range(m):
                at = mix(names[k]) & mask
                while slots[at] != 0:
                    at = (at + np.uint64(1)) & mask
                slots[at] = k + 1
    return m


@njit()
def _number(bits):  # type: ignore[no-untyped-def]
    """An integer that orders as the float64 of these bits does, equal for both zeros."""
    sign = bits >> np.uint64(63)
    return (bits ^ (np.uint64(1) << np.uint64(63) | (np.uint64(0) - sign))) + sign


@njit()
def _span(bits):  # type: ignore[no-untyped-def]
    low = high = _number(bits[0])
    for i in range(1, len(bits)):
        value = _number(bits[i])
        low, high = min(low, value), max(high, value)
    return low, high


@njit()
def _pack(owner, following, band, bits, low, shift, span, row_bits, keys):  # type: ignore[no-untyped-def]
    """Write each row's key (band, leading bits of the time, row) at the next free place of its object."""
    for i in range(len(owner)):
        k = owner[i]
        at = following[k]
        following[k] = at + 1
        stamp = np.uint64(band[i]) * span + ((_number(bits[i]) - low) >> shift)
        keys[at] = (stamp << row_bits) | np.uint64(i)


@njit()
def _sort(keys, offsets, time, row_bits, exact, order):  # type: ignore[no-untyped-def]
    """Sort the keys of each object and write their rows; `time` decides where the leading bits are equal."""
    longest = 0
    for k in range(len(offsets) - 1):
        longest = max(longest, offsets[k + 1] - offsets[k])
    spare, spare_rows = np.empty(longest, keys.dtype), np.empty(longest, order.dtype)
    counts = np.empty(2 * longest + 1, order.dtype)
    times, spare_times = keys.view(np.float64), spare.view(np.float64)
    row_mask = (np.uint64(1) << row_bits) - np.uint64(1)
    for k in range(len(offsets) - 1):
        start, stop = offsets[k], offsets[k + 1]
        sort_keys(keys, order, spare, spare_rows, counts, start, stop)
        before = ~keys[start]
        equal = False
        for at in range(start, stop):
            key = keys[at]
            order[at] = key & row_mask
            equal |= (key ^ before) <= row_mask
            before = key
        if exact or not equal:
            continue
        while start < stop:
            stamp = keys[start] >> row_bits
            at = start + 1
            while at < stop and keys[at] >> row_bits == stamp:
                at += 1
            if at > start + 1:
                for j in range(start, at):
                    times[j] = time[order[j]]
                sort_times(times, order, spare_times, spare_rows, counts, start, at)
            start = at


def index_dtype(n: int) -> type[Any]:
    """The shortest index for n rows: half the memory and faster to read."""
    return np.int32 if n < 2**31 else np.int64


def group(
    ids: NDArray[np.uint64], band: NDArray[np.uint8], time: NDArray[np.float64]
) -> tuple[NDArray[np.int64], Order | None, NDArray[np.int64], Order | None]:
    """Order rows by object, band and time, and name the object of each row; see `skytrawl.kernels.rows`."""
    n = len(ids)
    if not n:
        return np.zeros(0, np.int64), None, np.zeros(1, np.int64), None
    n_runs, ordered, ascending = _look(ids, band, time)
    if ordered and ascending:
        offsets = np.empty(n_runs + 1, np.int64)
        _fill_runs(ids, offsets)
        offsets[-1] = n
        return offsets[:-1].copy(), None, offsets, None
    index = index_dtype(n)
    owner, counts, first = np.empty(n, index), np.empty(n_runs, index), np.empty(n_runs, index)
    keys = np.empty(n, np.uint64)
    m = _own(ids, owner, first, counts, keys)
    offsets = np.zeros(m + 1, np.int64)
    np.cumsum(counts[:m], out=offsets[1:])
    starts = first[:m].astype(np.int64)
    del counts, first
    if ordered and m == n_runs:
        return starts, None, offsets, None
    bits = time.view(np.uint64)
    low, high = (int(value) for value in _span(bits))
    row_bits, n_bands, shift = (n - 1).bit_length(), int(band.max()) + 1, 0
    while n_bands * (((high - low) >> shift) + 1) > 2 ** (64 - row_bits):
        shift += 1
    span = np.uint64(((high - low) >> shift) + 1)
    following = offsets[:-1].copy()
    _pack(owner, following, band, bits, np.uint64(low), np.uint64(shift), span, np.uint64(row_bits), keys)
    order = np.empty(n, index)
    _sort(keys, offsets, time, np.uint64(row_bits), shift == 0, order)
    return starts, order, offsets, owner
