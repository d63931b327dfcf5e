"""Stable sort of the rows of one object by time, in Numba.

Times of a survey are spread fairly evenly, so that as many value buckets as rows leave one or two rows each:
linear time. Where they are not, runs are merged: never worse than n log n.
"""

import math

import numpy as np

from skytrawl.kernels.jit import njit

# Up to so many rows are sorted by insertion.
SHORT = 16


@njit()
def _insert_and_merge(keys, rows, spare_keys, spare_rows, start, stop, width):  # type: ignore[no-untyped-def]
    """Sort runs of `width` rows by insertion and merge them, two by two."""
    for low in range(start, stop, width):
        for i in range(low + 1, min(low + width, stop)):
            key, row = keys[i], rows[i]
            j = i
            while j > low and keys[j - 1] > key:
                keys[j], rows[j] = keys[j - 1], rows[j - 1]
                j -= 1
            keys[j], rows[j] = key, row
    while width < stop - start:
        for low in range(start, stop - width, 2 * width):
            middle, high = low + width, min(low + 2 * width, stop)
            if keys[middle - 1] <= keys[middle]:
                continue
            for k in range(width):
                spare_keys[k], spare_rows[k] = keys[low + k], rows[low + k]
            left, right, out = 0, middle, low
            while left < width:
                if right < high and keys[right] < spare_keys[left]:
                    keys[out], rows[out] = keys[right], rows[right]
                    right += 1
                else:
                    keys[out], rows[out] = spare_keys[left], spare_rows[left]
                    left += 1
                out += 1
        width *= 2


@njit()
def sort_times(keys, rows, spare_keys, spare_rows, counts, start, stop):  # type: ignore[no-untyped-def]
    """Sort ``keys[start:stop]`` (float64) in place, stable, and move `rows` along.

    The spare arrays hold stop - start rows, `counts` one more.
    """
    n = stop - start
    if n < 2:
        return
    low = high = keys[start]
    ordered = True
    for i in range(start + 1, stop):
        key = keys[i]
        ordered &= key >= keys[i - 1]
        low = key if key < low else low
        high = key if key > high else high
    if ordered:
        return
    fullest = n
    scale = n / (high - low) if high > low else np.inf
    # Not for infinite times, nor for such that are too close for a quotient.
    if n > SHORT and 0.0 < scale < np.inf:
        for k in range(n + 1):
            counts[k] = 0
        for i in range(start, stop):
            counts[max(0, min(n - 1, np.int64((keys[i] - low) * scale))) + 1] += 1
        fullest = 0
        for k in range(n):
            fullest = max(fullest, counts[k + 1])
            counts[k + 1] += counts[k]
        for i in range(start, stop):
            k = max(0, min(n - 1, np.int64((keys[i] - low) * scale)))
            at = counts[k]
            spare_keys[at], spare_rows[at] = keys[i], rows[i]
            counts[k] = at + 1
        for k in range(n):
            keys[start + k], rows[start + k] = spare_keys[k], spare_rows[k]
    # In buckets of few rows no row is far from its place.
    _insert_and_merge(keys, rows, spare_keys, spare_rows, start, stop, SHORT if fullest > SHORT else n)


@njit()
def sort_keys(keys, rows, spare, spare_rows, counts, start, stop):  # type: ignore[no-untyped-def]
    """Sort ``keys[start:stop]`` (uint64, no two equal) in place; ``rows[start:stop]`` may become anything.

    The spare arrays hold stop - start items, `counts` twice as many and one.
    """
    n = stop - start
    if n < 2:
        return
    low = high = before = keys[start]
    ordered = True
    for i in range(start + 1, stop):
        key = keys[i]
        ordered &= key > before
        low, high, before = min(low, key), max(high, key), key
    if ordered:
        return
    if n <= SHORT:
        _insert_and_merge(keys, rows, spare, spare_rows, start, stop, n)
        return
    # Between n and 2 n value buckets.
    length = math.frexp(n)[1]
    shift = np.uint64(max(0, math.frexp(np.float64(high - low))[1] - length))
    size = np.int64((high - low) >> shift) + 1
    for k in range(size + 1):
        counts[k] = 0
    for i in range(start, stop):
        counts[np.int64((keys[i] - low) >> shift) + 1] += 1
    steps = np.int64(0)
    for k in range(size):
        steps += np.int64(counts[k + 1]) * np.int64(counts[k + 1])
        counts[k + 1] += counts[k]
    for i in range(start, stop):
        bucket = np.int64((keys[i] - low) >> shift)
        spare[counts[bucket]] = keys[i]
        counts[bucket] += 1
    if steps > SHORT * n:
        for i in range(n):
            keys[start + i] = spare[i]
        _insert_and_merge(keys, rows, spare, spare_rows, start, stop, SHORT)
        return
    for i in range(n):
        key = spare[i]
        j = start + i
        while j > start and keys[j - 1] > key:
            keys[j] = keys[j - 1]
            j -= 1
        keys[j] = key
