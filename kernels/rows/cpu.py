"""Rows into buckets and columns into another order, in Numba.

Columns are moved as unsigned integers of their item size, so that one compiled function serves all dtypes of
a size.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import SchemaError
from skytrawl.kernels.jit import njit
from skytrawl.kernels.rows import Order
from skytrawl.kernels.rows.cpu_buckets import bucket_of
from skytrawl.kernels.rows.cpu_group import group, index_dtype
from skytrawl.kernels.rows.cpu_positions import median_positions

__all__ = ["bucket_of", "counting_order", "group", "median_positions", "scatter", "take"]

_WORDS: dict[int, np.dtype[Any]] = {1: np.dtype(np.uint8), 4: np.dtype(np.uint32), 8: np.dtype(np.uint64)}


@njit()
def _count(bucket, starts):  # type: ignore[no-untyped-def]
    """Fill the starts of the buckets; False if a row is in none of them."""
    n_buckets = len(starts) - 1
    for k in range(n_buckets + 1):
        starts[k] = 0
    for i in range(len(bucket)):
        if bucket[i] >= n_buckets:
            return False
        starts[bucket[i] + 1] += 1
    for k in range(n_buckets):
        starts[k + 1] += starts[k]
    return True


@njit()
def _order(bucket, following, order):  # type: ignore[no-untyped-def]
    for i in range(len(bucket)):
        at = following[bucket[i]]
        order[at] = i
        following[bucket[i]] = at + 1


@njit()
def _scatter(column, bucket, following, out):  # type: ignore[no-untyped-def]
    for i in range(len(bucket)):
        if bucket[i] >= len(following):
            return False
        at = following[bucket[i]]
        if not 0 <= at < len(out):
            return False
        out[at] = column[i]
        following[bucket[i]] = at + 1
    return True


@njit()
def _take(column, order, out):  # type: ignore[no-untyped-def]
    size = np.uint64(len(column))
    for i in range(len(order)):
        row = np.uint64(order[i])  # negative ones become large
        if row >= size:
            return False
        out[i] = column[row]
    return True


def _words(column: NDArray[Any]) -> NDArray[Any] | None:
    """The column as unsigned integers, or None where its items have another size or are Python objects."""
    word = _WORDS.get(column.dtype.itemsize)
    if word is None or column.dtype.hasobject or column.ndim != 1:
        return None
    words = np.require(column, None, ["C", "A"]).view(word)
    words.flags.writeable = False
    return words


def counting_order(bucket: NDArray[np.uint32], n_buckets: int) -> tuple[Order, NDArray[np.int64]]:
    """Order rows by bucket; see `skytrawl.kernels.rows.counting_order`."""
    starts = np.empty(n_buckets + 1, np.int64)
    if not _count(bucket, starts):
        raise SchemaError(f"row {int(np.argmax(bucket >= n_buckets))} is in none of {n_buckets} buckets")
    order = np.empty(len(bucket), index_dtype(len(bucket)))
    _order(bucket, starts[:-1].copy(), order)
    return order, starts


def scatter(column: NDArray[Any], bucket: NDArray[np.uint32], starts: NDArray[np.int64]) -> NDArray[Any]:
    """Move a column into the order of its buckets; see `skytrawl.kernels.rows.scatter`."""
    words = _words(column)
    if words is None:
        return column[counting_order(bucket, len(starts) - 1)[0]]
    out = np.empty(len(words), words.dtype)
    following = starts[:-1].copy()
    fits = len(starts) > 0 and starts[0] == 0 and starts[-1] == len(words)
    if not (fits and _scatter(words, bucket, following, out) and np.array_equal(following, starts[1:])):
        raise SchemaError("the starts are not those of these buckets: take them from counting_order")
    return out.view(column.dtype)


def take(column: NDArray[Any], order: Order) -> NDArray[Any]:
    """Read a column in another order; see `skytrawl.kernels.rows.take`."""
    words = _words(column)
    if words is None:
        inside = not len(order) or 0 <= order.min() <= order.max() < len(column)
        out = column[order] if inside else column
    else:
        out = np.empty(len(order), words.dtype)
        inside = _take(words, order, out)
    if not inside:
        raise SchemaError(f"the order names a row outside 0..{len(column) - 1}")
    return out.view(column.dtype)
