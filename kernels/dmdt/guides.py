"""Look-up tables that find the cell of a number exactly, without search and without logarithm.

A monotone integer function of x, its bucket, is cheap; a table says how many edges lie at or below every x of
the bucket, and comparing with the next edges settles the rest. This equals a search in the sorted edges for
every double, whatever the rounding of the bucket function, because the table is built with that same
function. Where no bucket holds more than one edge in its interior (`single`), one comparison is enough. CPU
and GPU use the same tables, so that their integers agree bit for bit.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError

LARGEST_TABLE = 1 << 14
LARGEST_FINE_TABLE = 1 << 13  # stays in the first-level cache beside the histogram
UNDECIDED = -1
LARGEST_EDGE = 1e300  # differences of edges must not overflow


class BitGuide(NamedTuple):
    """Guide over numbers >= 0: the bucket is the upper part of the bits of the double.

    ``bucket = clip((bits(x) >> shift) - first, 0, len(table) - 1)``; ``n = table[bucket]``; then
    ``while x >= edges[n]: n += 1`` is the number of edges at or below x. `edges` ends with a NaN, which
    nothing reaches. `fine` is a table of more, narrower buckets (`fine_shift`, `fine_first`) that says the
    number at once, or `UNDECIDED` where an edge lies inside the bucket.
    """

    shift: int
    first: int
    table: NDArray[np.int64]
    edges: NDArray[np.float64]
    single: bool
    fine_shift: int
    fine_first: int
    fine: NDArray[np.int64]


class LinearGuide(NamedTuple):
    """Guide over all numbers: ``bucket = int(clip((x - origin) * scale, 0, len(table) - 1))``.

    `identity` says that besides `single` ``table[b] == b`` for every bucket: the table need not be read.
    `formula` says that ``int(clip(floor((x - low) / width) + 1, 0, n)) + (x >= high)``, with n the number of
    cells, is the number of edges at or below x for every double: no table at all.
    """

    origin: float
    scale: float
    table: NDArray[np.int64]
    edges: NDArray[np.float64]
    single: bool
    identity: bool
    low: float
    width: float
    high: float
    formula: bool


def checked_edges(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return edges as float64, or raise where they do not ascend or lie beyond +-LARGEST_EDGE."""
    edges = np.ascontiguousarray(edges, dtype=np.float64)
    good = edges.ndim == 1 and len(edges) >= 2 and bool(np.all(np.abs(edges) <= LARGEST_EDGE))
    if not good or not np.all(edges[1:] > edges[:-1]):
        raise ParameterError(
            f"edges must be at least two strictly ascending numbers within +-{LARGEST_EDGE:g}"
        )
    return edges


def _table(before: NDArray[np.int64], n_buckets: int) -> tuple[NDArray[np.int64], bool]:
    """Count the edges at or below every number of each bucket, and say whether one comparison is enough.

    `before` is the bucket of the double just below each edge. All of bucket b lies at or above edge e exactly
    if that bucket is earlier than b; two edges with equal `before` share the interior of a bucket.
    """
    table = np.searchsorted(before, np.arange(n_buckets), side="left").astype(np.int64)
    return table, not np.any(np.diff(before) == 0)


def bit_guide(edges: NDArray[np.float64]) -> BitGuide:
    """Build the guide of a time difference axis: edges >= 0, in days."""
    edges = checked_edges(edges)
    if edges[0] < 0:
        raise ParameterError("the edges of a dt axis must not be negative")
    edges = np.abs(edges)  # -0.0 has a sign bit
    shift, first, before = _bits(edges, 2)
    table, single = _table(before, _n_buckets(edges, shift, first))
    fine_shift, fine_first, fine_before = shift, first, before
    for mantissa_bits in range(3, 21):
        finer = _bits(edges, mantissa_bits)
        n_buckets = _n_buckets(edges, *finer[:2])
        if n_buckets > (LARGEST_FINE_TABLE if single else LARGEST_TABLE):
            break
        if not single:
            shift, first, before = finer
            table, single = _table(before, n_buckets)
        if n_buckets <= LARGEST_FINE_TABLE:
            fine_shift, fine_first, fine_before = finer
    fine, _ = _table(fine_before, _n_buckets(edges, fine_shift, fine_first))
    fine[fine_before[fine_before >= 0]] = UNDECIDED
    padded = np.append(edges, np.nan)
    return BitGuide(shift, first, table, padded, single, fine_shift, fine_first, fine)


def _bits(edges: NDArray[np.float64], mantissa_bits: int) -> tuple[int, int, NDArray[np.int64]]:
    """Return shift and first bucket for so many bits of mantissa, and the bucket just below each edge."""
    shift = 52 - mantissa_bits
    below = np.maximum(np.nextafter(edges, -np.inf), 0.0)
    first = int(edges[edges > 0].view(np.int64)[0] >> shift) - 1
    # an edge at 0 lies below everything that is looked up
    return shift, first, np.where(edges > 0, np.maximum((below.view(np.int64) >> shift) - first, 0), -1)


def _n_buckets(edges: NDArray[np.float64], shift: int, first: int) -> int:
    # one more than the bucket of the last edge, so that what lies far beyond it is decided at once
    return int(edges.view(np.int64)[-1] >> shift) - first + 2


def linear_guide(edges: NDArray[np.float64]) -> LinearGuide:
    """Build the guide of a dm axis with any edges."""
    edges = checked_edges(edges)
    padded = np.append(edges, np.nan)
    below = np.nextafter(edges, -np.inf)
    n_cells = len(edges) - 1
    low, high = float(edges[0]), float(edges[-1])
    cell = (high - low) / n_cells
    inner = np.arange(1, n_cells)
    guide = None
    # a width of a few subnormal numbers has an infinite inverse: any finite scale keeps the table exact
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        at, under = (np.floor((x[1:-1] - low) / cell) + 1.0 for x in (edges, below))
        formula = bool(cell > 0 and np.all(at == inner + 1) and np.all(under == inner))
        for power in range(14):
            n = n_cells << power
            if guide is not None and n >= LARGEST_TABLE:
                break
            width = (high - low) / n
            scale = float(min(np.float64(1.0) / width, np.finfo(np.float64).max))
            # shifted by half a bucket, so that on a uniform axis each bucket holds its edge in its middle
            origin = low - 0.5 * width
            before = np.clip((below - origin) * scale, 0.0, float(n)).astype(np.int64)
            table, single = _table(before, n + 1)
            identity = single and bool(np.array_equal(table, np.arange(n + 1)))
            guide = LinearGuide(origin, scale, table, padded, single, identity, low, cell, high, formula)
            if single:
                break
    assert guide is not None
    return guide


def bit_cells(guide: BitGuide, x: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number of edges at or below each x >= 0, by the guide (what the compiled kernels do)."""
    bucket = np.clip((x.view(np.int64) >> guide.shift) - guide.first, 0, len(guide.table) - 1)
    return _settle(guide.table[bucket], guide.edges, x)


def linear_cells(guide: LinearGuide, x: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number of edges at or below each x, by the guide (what the compiled kernels do)."""
    with np.errstate(over="ignore"):
        bucket = np.clip((x - guide.origin) * guide.scale, 0.0, len(guide.table) - 1.0).astype(np.int64)
    return _settle(guide.table[bucket], guide.edges, x)


def _settle(n: NDArray[np.int64], edges: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.int64]:
    while np.any(step := x >= edges[n]):
        n = n + step
    return n
