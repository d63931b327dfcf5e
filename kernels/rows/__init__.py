"""Rows of light curves into order: buckets along the sky, groups by object, band and time.

Everything is exact, stable and runs without the GIL. Orders are int32 below 2**31 rows: half the memory, and
faster to read. Arrays may be read-only, strided or unaligned; the last two are copied.
"""

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import SchemaError

__all__ = [
    "Order",
    "bucket_of",
    "codes",
    "counting_order",
    "group",
    "median_positions",
    "ordered",
    "runs",
    "scatter",
    "sky_cells",
    "take",
]

Order = NDArray[np.int32] | NDArray[np.int64]


def _input(name: str, array: Any, *dtypes: Any, n: int | None = None) -> NDArray[Any]:
    """Return a contiguous read-only view, so that each kernel is compiled for one kind of array; or raise."""
    array = np.asarray(array)
    if array.ndim != 1 or (n is not None and len(array) != n):
        raise SchemaError(f"{name} has shape {array.shape}, not ({'n' if n is None else n},)")
    if array.dtype not in [np.dtype(dtype) for dtype in dtypes]:
        raise SchemaError(f"{name} is {array.dtype}, not {' or '.join(np.dtype(d).name for d in dtypes)}")
    view = np.require(array, array.dtype.newbyteorder("="), ["C", "A"]).view()
    view.flags.writeable = False
    return view


def _identifiers(ids: Any) -> NDArray[np.uint64]:
    """Any identifiers as uint64 that are equal where they are."""
    ids = np.asarray(ids)
    if ids.dtype.kind == "S":
        return codes(ids)
    if ids.dtype.kind not in "iu":
        raise SchemaError(f"ids are {ids.dtype}, neither integers nor bytes")
    wide = ids if ids.dtype.itemsize == 8 else ids.astype(np.int64)
    return _input("ids", wide, np.uint64, np.int64).view(np.uint64)


def bucket_of(keys: NDArray[np.uint64], borders: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Find the bucket of each key.

    Parameters
    ----------
    keys : uint64[n]
    borders : uint64[n_buckets - 1], ascending
        Bucket b holds ``borders[b - 1] <= key < borders[b]``; equal borders leave a bucket empty.

    Returns
    -------
    uint32[n]
        Equal to ``searchsorted(borders, keys, side="right")``.

    Raises
    ------
    SchemaError
        For wrong dtypes or shapes, or borders that do not ascend.
    """
    from skytrawl.kernels.rows import cpu

    borders = _input("borders", borders, np.uint64)
    if np.any(borders[1:] < borders[:-1]):
        raise SchemaError("the borders of the buckets do not ascend: sort them first")
    return cpu.bucket_of(_input("keys", keys, np.uint64), borders)


def sky_cells(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Find the HEALPix cell of each position, fast enough to sort rows by.

    Parameters
    ----------
    ra, dec : float64[n]
        Degrees; dec within -90 to 90.

    Returns
    -------
    uint64[n]
        Nested, order 29, after Gorski et al. 2005 (ApJ 622, 759, section 4). By rounding, a position may come
        into a neighbour (0.4 milliarcseconds) of the cell that a HEALPix library gives: less than one in 10^6
        does. 2**63 without position.

    Raises
    ------
    SchemaError
        For wrong dtypes or shapes.
    """
    from skytrawl.kernels.rows.cpu_cells import sky_cells

    return sky_cells(_input("ra", ra, np.float64), _input("dec", dec, np.float64, n=len(ra)))


def ordered(offsets: NDArray[np.int64], band: NDArray[np.uint8], time: NDArray[np.float64]) -> bool:
    """Tell whether the rows of each object stand by band, then time.

    Parameters
    ----------
    offsets : int64[m + 1]
        Object k owns the rows ``offsets[k]:offsets[k + 1]``.
    band : uint8[n]
    time : float64[n]

    Raises
    ------
    SchemaError
        For wrong dtypes or shapes, or offsets beyond the rows.
    """
    from skytrawl.kernels.rows.cpu_runs import ordered

    offsets = _input("offsets", offsets, np.int64)
    if not len(offsets) or offsets[0] < 0 or offsets[-1] > len(band) or (offsets[1:] < offsets[:-1]).any():
        raise SchemaError(f"the offsets do not ascend within {len(band)} rows")
    return ordered(offsets, _input("band", band, np.uint8), _input("time", time, np.float64, n=len(band)))


def counting_order(bucket: NDArray[np.uint32], n_buckets: int) -> tuple[Order, NDArray[np.int64]]:
    """Order rows by bucket; rows of one bucket keep their order.

    Parameters
    ----------
    bucket : uint32[n], below `n_buckets`
    n_buckets : int

    Returns
    -------
    order : int32 or int64[n]
        The row that comes at each place.
    starts : int64[n_buckets + 1]
        Places ``starts[b]:starts[b + 1]`` are bucket b.

    Raises
    ------
    SchemaError
        For wrong dtypes or shapes, or a row in none of the buckets.
    """
    from skytrawl.kernels.rows import cpu

    return cpu.counting_order(_input("bucket", bucket, np.uint32), n_buckets)


def scatter(column: NDArray[Any], bucket: NDArray[np.uint32], starts: NDArray[np.int64]) -> NDArray[Any]:
    """Move a column into the order of its buckets; rows of one bucket keep their order.

    Parameters
    ----------
    column : array[n, ...] of any dtype
        One-dimensional ones with items of 1, 4 or 8 bytes are faster than ``column[order]``.
    bucket : uint32[n]
    starts : int64[n_buckets + 1]
        As `counting_order` gives them for these rows.

    Returns
    -------
    array of the same dtype and shape

    Raises
    ------
    SchemaError
        For wrong dtypes or shapes, or starts that do not belong to these buckets.
    """
    from skytrawl.kernels.rows import cpu

    bucket = _input("bucket", bucket, np.uint32, n=len(column))
    return cpu.scatter(column, bucket, _input("starts", starts, np.int64))


def take(column: NDArray[Any], order: Order | None) -> NDArray[Any]:
    """Read a column in another order.

    Parameters
    ----------
    column : array[n, ...] of any dtype
    order : int32 or int64[k], rows of the column; None for the column as it is

    Returns
    -------
    array[k, ...]
        ``column[order]``; the column itself, not a copy, for None.

    Raises
    ------
    SchemaError
        For an order of another dtype, or one that names a row outside 0..n - 1.
    """
    from skytrawl.kernels.rows import cpu

    return column if order is None else cpu.take(column, _input("order", order, np.int32, np.int64))


def runs(ids: NDArray[Any]) -> NDArray[np.int64]:
    """First row of each run of equal neighbours.

    Parameters
    ----------
    ids : array[n] of integers or bytes

    Returns
    -------
    int64[number of runs]
        Ascending, beginning with 0; empty for no rows.
    """
    ids = np.asarray(ids)
    first = np.zeros(min(1, len(ids)), np.int64)
    return np.concatenate([first, np.flatnonzero(ids[1:] != ids[:-1]) + 1])


def codes(ids: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """Integers that are equal exactly where texts are, so that text is grouped as fast as numbers.

    Parameters
    ----------
    ids : bytes (fixed width)[n]

    Returns
    -------
    uint64[n]
        Up to 8 bytes: the bytes themselves. Longer: objects numbered by first appearance. They mean
        something only inside this array.

    Raises
    ------
    SchemaError
        For another dtype or shape.
    """
    from skytrawl.kernels.rows import cpu_codes

    ids = np.asarray(ids)
    if ids.dtype.kind != "S" or ids.ndim != 1:
        raise SchemaError(f"ids are {ids.dtype}{ids.shape}, not a column of bytes")
    return cpu_codes.codes(ids)


@overload
def group(
    ids: NDArray[Any], band: NDArray[np.uint8], time: NDArray[np.float64]
) -> tuple[NDArray[np.int64], Order | None, NDArray[np.int64]]: ...
@overload
def group(
    ids: NDArray[Any], band: NDArray[np.uint8], time: NDArray[np.float64], *, with_owner: Literal[True]
) -> tuple[NDArray[np.int64], Order | None, NDArray[np.int64], Order | None]: ...
def group(
    ids: NDArray[Any], band: NDArray[np.uint8], time: NDArray[np.float64], *, with_owner: bool = False
) -> tuple[Any, ...]:
    """Order rows by object, band and time; objects stand in the order of their first rows.

    Parameters
    ----------
    ids : integers or bytes[n], the identifier of the object of each row
    band : uint8[n]
    time : float64[n], not NaN
    with_owner : bool
        Return the object of each row too.

    Returns
    -------
    first : int64[m]
        Row of first appearance of each object.
    order : int32 or int64[n], or None
        The row that comes at each place; rows with equal object, band and time keep their order. None where
        the rows stand so already.
    offsets : int64[m + 1]
        Places ``offsets[k]:offsets[k + 1]`` are object k.
    owner : int32 or int64[n], or None
        With `with_owner`: the object of each row. None where `order` is.

    Raises
    ------
    SchemaError
        For wrong dtypes or shapes.
    """
    from skytrawl.kernels.rows import cpu

    band, time = _input("band", band, np.uint8, n=len(ids)), _input("time", time, np.float64, n=len(ids))
    found = cpu.group(_identifiers(ids), band, time)
    return found if with_owner else found[:3]


def median_positions(
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    offsets: NDArray[np.int64],
    order: Order | None = None,
    owner: Order | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Find the median position of each object, and how far its rows lie apart.

    Parameters
    ----------
    ra, dec : float64[n], degrees
        Rows where one of them is not finite do not count.
    offsets : int64[m + 1]
        Places ``offsets[k]:offsets[k + 1]`` are object k.
    order : int32 or int64[n], optional
        The row at each place, as `group` gives it; the rows as they stand by default.
    owner : int32 or int64[n], optional
        The object of each row, as `group` gives it with this order: many times faster where the rows of
        objects agree, the same result.

    Returns
    -------
    ra, dec : float64[m], degrees
        The position of all rows where they agree, else the medians, those of ra around the first row, so
        that 359.9 and 0.1 degrees are neighbours. NaN for an object without positions.
    spread : float64[m], arc minutes
        The larger of the ranges of ra cos(dec) and dec; 0 where all rows agree, NaN without positions.

    Raises
    ------
    SchemaError
        For wrong dtypes or shapes, offsets that do not ascend inside 0..n, an order that names a row
        outside, or an owner outside 0..m - 1.
    """
    from skytrawl.kernels.rows import cpu

    ra = _input("ra", ra, np.float64)
    dec = _input("dec", dec, np.float64, n=len(ra))
    offsets = _input("offsets", offsets, np.int64)
    places = len(ra)
    if order is not None:
        order = _input("order", order, np.int32, np.int64)
        places = len(order)
        if places and not 0 <= order.min() <= order.max() < len(ra):
            raise SchemaError(f"the order names a row outside 0..{len(ra) - 1}")
    if not len(offsets) or offsets[0] < 0 or offsets[-1] > places or np.any(offsets[1:] < offsets[:-1]):
        raise SchemaError(f"offsets must ascend inside 0..{places}, one more than there are objects")
    if owner is not None:
        owner = _input("owner", owner, np.int32, np.int64, n=len(ra))
    return cpu.median_positions(ra, dec, offsets, order, owner)
