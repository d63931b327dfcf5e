"""Objects of a pixel file along the sky: files of HATS cover a pixel each, but need not be sorted inside."""

from collections.abc import Iterator
from typing import Any

import numpy as np

SPATIAL_INDEX = "_healpix_29"
# Rows (observations) that are sorted in memory, about 20 bytes each.
MOST_ROWS = 8_000_000


def group_ranges(file: Any) -> list[tuple[int, int] | None]:
    """First and last HEALPix cell (order 29) of each row group; None where the file does not tell."""
    names = [file.schema.column(index).path for index in range(len(file.schema))]
    if SPATIAL_INDEX not in names:
        return [None] * file.num_row_groups
    column = names.index(SPATIAL_INDEX)
    found: list[tuple[int, int] | None] = []
    for group in range(file.num_row_groups):
        stated = file.metadata.row_group(group).column(column).statistics
        known = stated is not None and stated.has_min_max and isinstance(stated.min, int)
        found.append((stated.min, stated.max) if known else None)
    return found


def ends_of_stretches(ranges: list[tuple[int, int] | None]) -> set[int]:
    """Numbers of row groups, 1 to n, before which the file can be cut so that no later cell is smaller."""
    n = len(ranges)
    known = [pair for pair in ranges if pair is not None]
    if len(known) < n or not n:
        return set(range(1, n + 1))
    before = np.maximum.accumulate([last for _, last in known])
    after = np.minimum.accumulate([first for first, _ in reversed(known)])[::-1]
    return {*(np.flatnonzero(before[:-1] < after[1:]) + 1).tolist(), n}


def along_sky(file: Any, start: int, stop: int) -> np.ndarray | None:
    """Order of the objects of some row groups along the curve; None if they stand so, or if nobody knows.

    Returns
    -------
    int64 array of shape (n_objects,) or None
    """
    if SPATIAL_INDEX not in file.schema_arrow.names or start == stop:
        return None
    cells = file.read_row_groups(list(range(start, stop)), [SPATIAL_INDEX], use_threads=False)[SPATIAL_INDEX]
    if cells.null_count:
        return None
    values = cells.to_numpy()
    return None if (values[1:] >= values[:-1]).all() else np.argsort(values, kind="stable")


def sorted_batches(
    table: Any, order: np.ndarray, counts: np.ndarray, rows: int
) -> Iterator[tuple[np.ndarray, Any]]:
    """Objects of a table in another order, some at a time.

    Parameters
    ----------
    table : pyarrow.Table
    order : int64 array of shape (n_objects,)
    counts : int64 array of shape (n_objects,)
        Rows (observations) of the objects as they stand in the table.
    rows : int
        Of a batch, about.

    Yields
    ------
    places : int64 array
        Of the objects in the table.
    batch : pyarrow.RecordBatch
    """
    ends = np.cumsum(counts[order])
    start = 0
    while start < len(order):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + rows, side="right")))
        (batch,) = table.take(order[start:stop]).combine_chunks().to_batches()
        yield order[start:stop], batch
        start = stop
