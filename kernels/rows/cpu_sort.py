"""Stable sort of the rows of one object by time, in Numba.

Times of a survey are spread fairly evenly, so that as many value buckets as rows leave one or two rows each:
linear time. Where they are not, runs are merged: never worse than n log n.
"""

import numpy as np

from skytrawl.kernels.jit import njit

# Up to so many rows are sorted by insertion.
SHORT = 16


@njit()
def _insert(keys, rows, start, stop):  # type: ignore[no-untyped-def]
    for i in range(start + 1, stop):
        key, row = keys[i], rows[i]
        j = i
        while j > start and keys[j - 1] > key:
            keys[j], rows[j] = keys[j - 1], rows[j - 1]
            j -= 1
        keys[j], rows[j] = key, row


@njit()
def _merge(keys, rows, spare_keys, spare_rows, start, stop):  # type: ignore[no-untyped-def]
    for low in range(start, stop, SHORT):
        _insert(keys, rows, low, min(low + SHORT, stop))
    width = SHORT
    while width < stop - start:
        for low in range(start, stop - width, 2 * width):
            middle, high = low + width, min(low + 2 * width, stop)
            if keys[middle - 1] <= keys[middle]:
                continue
            for k in range(width):
                spare_keys[k], spare_rows[k] = keys[low + k], rows[low + k]
            left, right, out = 0, middle, low
            while left < width and right < high:
                if keys[right] < spare_keys[left]:
                    keys[out], rows[out] = keys[right], rows[right]
                    right += 1
                else:
                    keys[out], rows[out] = spare_keys[left], spare_rows[left]
                    left += 1
                out += 1
            for k in range(left, width):
                keys[out], rows[out] = spare_keys[k], spare_rows[k]
                out += 1
        width *= 2


@njit()
def sort_times(keys, rows, spare_keys, spare_rows, counts, start, stop):  # type: ignore[no-untyped-def]
    """Sort ``keys[start:stop]`` (float64) in place, stable, and move `rows` along.

    The spare arrays hold stop - start rows, `counts` one more.
    """
    n = stop - start
    if n <= SHORT:
        _insert(keys, rows, start, stop)
        return
    low = high = keys[start]
    ordered = True
    for i in range(start + 1, stop):
        ordered &= keys[i] >= keys[i - 1]
        low, high = min(low, keys[i]), max(high, keys[i])
    if ordered:
        return
    width = high - low
    scale = n / width if width > 0.0 else np.inf
    if not 0.0 < scale < np.inf:  # infinite times, or too close for a quotient
        _merge(keys, rows, spare_keys, spare_rows, start, stop)
        return
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
        spare_keys[counts[k]], spare_rows[counts[k]] = keys[i], rows[i]
        counts[k] += 1
    for k in range(n):
        keys[start + k], rows[start + k] = spare_keys[k], spare_rows[k]
    if fullest <= SHORT:
        _insert(keys, rows, start, stop)
    else:
        _merge(keys, rows, spare_keys, spare_rows, start, stop)
