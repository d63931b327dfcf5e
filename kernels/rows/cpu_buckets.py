"""Keys into buckets, in Numba.

The span of the borders is cut into equal cells, a few for each border, and a table says how many borders lie
below each. Crowded cells (a survey of a few fields, with its objects without position far away) are cut
again between their own borders; what is left is searched by halves.
"""

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.jit import njit

_CELLS = 8  # for each border
_CROWDED = 4  # borders


@njit()
def _cut(borders, start, stop, table, base):  # type: ignore[no-untyped-def]
    """Fill ``table[base:]`` for the borders from start to stop; return (number of cells, shift of a key).

    ``table[base + c]`` borders lie at or below the first key of cell c; one more entry is `stop`.
    """
    low, span = borders[start], borders[stop - 1] - borders[start]
    shift = np.uint64(0)
    while span >> shift >= np.uint64(_CELLS * (stop - start)):
        shift += np.uint64(1)
    n_cells = np.int64(span >> shift) + 1
    k = start
    for c in range(n_cells):
        key = low + (np.uint64(c) << shift)
        while k < stop and borders[k] <= key:
            k += 1
        table[base + c] = k
    table[base + n_cells] = stop
    return n_cells, shift


@njit()
def _find(keys, borders, out):  # type: ignore[no-untyped-def]
    n = len(borders)
    table = np.empty((_CELLS + 1) * 2 * n, np.uint32)
    n_cells, shift = _cut(borders, 0, n, table, 0)
    used = n_cells + 1
    inner, inner_cells = np.empty(n_cells, np.int64), np.empty(n_cells, np.uint64)
    inner_shift = np.empty(n_cells, np.uint64)
    for c in range(n_cells):
        start, stop = np.int64(table[c]), np.int64(table[c + 1])
        if stop - start > _CROWDED:
            inner[c] = used
            cells, inner_shift[c] = _cut(borders, start, stop, table, used)
            inner_cells[c] = cells
            used += cells + 1
    low, end = borders[0], np.uint64(n_cells)
    for i in range(len(keys)):
        key = keys[i]
        cell = (key - low) >> shift
        if key < low:
            out[i] = 0
            continue
        if cell >= end:
            out[i] = n
            continue
        start, stop = table[cell], table[cell + np.uint64(1)]
        if stop - start > _CROWDED:
            at = (key - borders[start]) >> inner_shift[cell]
            if key < borders[start]:
                stop = start
            elif at >= inner_cells[cell]:
                start = stop
            else:
                at += np.uint64(inner[cell])
                start, stop = table[at], table[at + np.uint64(1)]
        while start < stop:
            middle = (start + stop) >> np.uint32(1)
            if borders[middle] <= key:
                start = middle + np.uint32(1)
            else:
                stop = middle
        out[i] = start


def bucket_of(keys: NDArray[np.uint64], borders: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Find the bucket of each key; see `skytrawl.kernels.rows.bucket_of`."""
    out = np.zeros(len(keys), np.uint32)
    if len(borders):
        _find(keys, borders, out)
    return out
