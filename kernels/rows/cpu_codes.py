"""Texts into integers that are equal where they are, in Numba."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.jit import njit
from skytrawl.kernels.rows.cpu_group import index_dtype, mix


@njit()
def _differ(words, row, other):  # type: ignore[no-untyped-def]
    for k in range(words.shape[1]):  # noqa: SIM110  # a generator does not compile
        if words[row, k] != words[other, k]:
            return True
    return False


@njit()
def _hash(words, row):  # type: ignore[no-untyped-def]
    state = np.uint64(0)
    for k in range(words.shape[1]):
        state = mix(state ^ words[row, k]) + np.uint64(0x9E3779B97F4A7C15)
    return state


@njit()
def _codes(words, first, out):  # type: ignore[no-untyped-def]
    """The table holds code + 1, 0 where free, at most half full."""
    size = 1024
    mask = np.uint64(size - 1)
    slots = np.zeros(size, first.dtype)
    m = 0
    for i in range(len(out)):
        if i > 0 and not _differ(words, i, i - 1):
            out[i] = out[i - 1]
            continue
        at = _hash(words, i) & mask
        while slots[at] != 0 and _differ(words, i, first[slots[at] - 1]):
            at = (at + np.uint64(1)) & mask
        if slots[at] == 0:
            first[m] = i
            m += 1
            slots[at] = m
        out[i] = slots[at] - 1
        if 2 * m > size:
            size *= 4 if size < 1048576 else 2
            mask = np.uint64(size - 1)
            slots = np.zeros(size, first.dtype)
            for k in range(m):
                at = _hash(words, first[k]) & mask
                while slots[at] != 0:
                    at = (at + np.uint64(1)) & mask
                slots[at] = k + 1


def codes(ids: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """Number texts; see `skytrawl.kernels.rows.codes`."""
    n, width = len(ids), ids.dtype.itemsize
    n_words = max(1, -(-width // 8))
    words = np.ascontiguousarray(ids.astype(f"S{8 * n_words}")).view(np.uint64).reshape(n, n_words)
    if n_words == 1:
        return words[:, 0]
    out = np.empty(n, np.uint64)
    _codes(words, np.empty(n, index_dtype(n)), out)
    return out
