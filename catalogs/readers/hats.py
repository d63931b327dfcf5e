"""HATS catalogues: nested light curves (one row an object) and flat tables, read with pyarrow alone.

A catalogue stands for its pixel files, along the sky; a collection for its primary table. Margin caches and
index catalogues repeat what the catalogue holds and are never read.

Light curves may be a struct of lists (nested-pandas), a list of structs, or list columns beside the columns
of the object. They become long rows: values of the lists end to end, columns of the object repeated. Both
``mjd`` and ``lightcurve.mjd`` name the field mjd of the nested column lightcurve.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.readers import parquet
from skytrawl.catalogs.readers.hats_folder import is_pixel_file, pixel_files
from skytrawl.catalogs.readers.hats_layout import Field, Layout, layout_of
from skytrawl.catalogs.readers.hats_order import (
    MOST_ROWS,
    along_sky,
    ends_of_stretches,
    group_ranges,
    sorted_batches,
)
from skytrawl.catalogs.readers.table import Chunk, Coded, Header, Kinds, Options, Piece, Places
from skytrawl.errors import IngestError

__all__ = ["chunks", "expand", "header", "pieces", "sky", "takes"]

EMPTY = "nested light curves without observations are left out"


def expand(source: Path, options: Options) -> list[Path] | None:
    """The pixel files of a catalogue or collection, along the sky; None for another folder."""
    return pixel_files(source)


def takes(source: Path, options: Options) -> bool:
    """Whether a file is a pixel file of a catalogue."""
    return is_pixel_file(source)


def header(source: Path, options: Options) -> Header:
    """Names of the columns of objects and of light curves, and the units that fields state.

    Raises
    ------
    IngestError
        If the file is no Parquet, or ``options.nested`` names no nested column.
    """
    file = parquet._open(source)
    found = layout_of(file.schema_arrow, options.nested, str(source))
    if not found.groups:
        return parquet.header(source, options)
    return Header(found.names, found.units)


def pieces(source: Path, options: Options) -> list[Piece]:
    """Runs of whole row groups of about ``options.piece_rows`` rows, as for Parquet.

    The rows of nested light curves are their observations.
    """
    file = parquet._open(source)
    found = layout_of(file.schema_arrow, options.nested, str(source))
    if not found.groups:
        return parquet.pieces(source, options)
    counts = [_observations(file, found, group) for group in range(file.num_row_groups)]
    size, total = source.stat().st_size, sum(counts)
    ends = ends_of_stretches(group_ranges(file))
    listed: list[Piece] = []
    start, rows, first_row = 0, 0, 1
    for stop, count in enumerate(counts, 1):
        rows += count
        if stop < len(counts):
            if rows + counts[stop] / 2 <= options.piece_rows:
                continue
            # Row groups that reach into each other on the sky stay together, to be sorted.
            if stop not in ends and rows + counts[stop] <= MOST_ROWS:
                continue
        nbytes = size * rows // total if total else size
        listed.append(Piece(source, (start, stop), rows, nbytes, first_row))
        start, rows, first_row = stop, 0, first_row + rows
    return listed or [Piece(source, (0, 0), 0, size)]


def sky(piece: Piece, options: Options) -> tuple[int, int] | None:
    """Range of HEALPix cells (order 29, inclusive) of a piece; None where its objects are not along the sky.

    Objects come along the sky if ``options.align_on`` is set, also from a file that is not sorted.
    """
    file = parquet._open(piece.source)
    found = layout_of(file.schema_arrow, options.nested, str(piece.source))
    start, stop = map(int, piece.part or (0, file.num_row_groups))
    ranges = [pair for pair in group_ranges(file)[start:stop] if pair is not None]
    if not found.groups or not ranges or len(ranges) < stop - start:
        return None
    if (piece.rows or 0) > MOST_ROWS and along_sky(file, start, stop) is not None:
        return None
    return min(first for first, _ in ranges), max(last for _, last in ranges)


def chunks(piece: Piece, kinds: Kinds, options: Options) -> Iterator[Chunk]:
    """Rows of whole objects in chunks of about ``options.chunk_rows`` rows.

    With ``options.align_on`` they come along the sky, as far as :func:`sky` says so.
    If only columns of the object are asked for, there is one row an object.

    Raises
    ------
    IngestError
        If the file is damaged, if columns of several nested columns are asked for, or if the lists of an
        object differ in length.
    """
    import pyarrow as pa

    source = piece.source
    file = parquet._open(source)
    found = layout_of(file.schema_arrow, options.nested, str(source))
    start, stop = map(int, piece.part or (0, file.num_row_groups))
    nested = [name for name in kinds if name in found.rows]
    if not nested:
        if found.groups:
            before = sum(file.metadata.row_group(group).num_rows for group in range(start))
            options, piece = replace(options, align_on=None), replace(piece, first_row=before + 1)
        yield from parquet.chunks(piece, kinds, options)
        return
    parquet._check_types(source, found.types(file.schema_arrow), kinds)
    leaves = _leaves(file)
    of_rows = {name: leaves[_leaf(found.rows[name], leaves)] for name in nested}
    coded = [of_rows[name] for name in nested if kinds[name] == "coded"]
    columns = [of_rows.get(name, name) for name in kinds]
    row, empty = piece.first_row, 0
    try:
        batches: Iterator[tuple[np.ndarray | None, Any]]
        order = None
        if options.align_on is not None and (piece.rows or 0) <= MOST_ROWS:
            order = along_sky(file, start, stop)
        if order is None:
            per_batch = _objects_a_batch(file, found, range(start, stop), options.chunk_rows)
            batches = _in_file(parquet._open(source, coded), range(start, stop), columns, per_batch, coded)
        else:
            file = parquet._open(source, coded if stop - start == 1 else ())
            table = file.read_row_groups(list(range(start, stop)), columns, use_threads=False)
            counts = _lists(table.select([found.rows[nested[0]].column]), found.rows[nested[0]])[1]
            starts = piece.first_row + np.cumsum(counts) - counts
            batches = sorted_batches(table, order, counts, options.chunk_rows)
        for objects, batch in batches:
            chunk, without = _long(source, batch, found, kinds, row)
            empty += without
            if not len(chunk):
                continue
            if objects is not None:
                filled = objects[counts[objects] > 0]
                chunk.places = Places(
                    [""] * len(filled), np.cumsum(counts[filled]) - counts[filled], starts[filled]
                )
            if empty:
                chunk.notes[EMPTY], empty = empty, 0
            yield chunk
            row += len(chunk)
    except (pa.ArrowException, OSError) as error:
        raise IngestError(
            f"{source}, after row {row - 1}: cannot be read ({error}): fetch or write the file again"
        ) from None
    if empty:
        chunk.notes[EMPTY] = empty
        yield chunk


def _in_file(
    file: Any, groups: range, columns: list[str], objects: int, coded: list[str]
) -> Iterator[tuple[None, Any]]:
    """Objects as they stand in the file, some at a time."""
    # pyarrow cannot join lists of codes over row groups, each of which has a dictionary of its own.
    runs = [[group] for group in groups] if coded else [list(groups)]
    for run in runs:
        # One thread: parallelism comes from pieces.
        for batch in file.iter_batches(objects, run, columns, use_threads=False):
            yield None, batch


def _objects_a_batch(file: Any, found: Layout, groups: range, rows: int) -> int:
    """Objects that have about so many observations together."""
    objects = sum(file.metadata.row_group(group).num_rows for group in groups)
    observations = sum(_observations(file, found, group) for group in groups)
    return max(1, min(rows, objects * rows // max(1, observations)))


def _observations(file: Any, found: Layout, group: int) -> int:
    """Observations of a row group; values that are missing in every column of the light curves are none."""
    leaves = _leaves(file)
    taken = {_leaf(place, leaves) for place in found.rows.values()}
    counts = []
    for index in taken:
        column = file.metadata.row_group(group).column(index)
        stated = column.statistics
        counts.append(column.num_values - (stated.null_count or 0 if stated is not None else 0))
    return max(counts, default=0)


def _leaves(file: Any) -> list[str]:
    """Paths of the columns on disk."""
    return [file.schema.column(index).path for index in range(len(file.schema))]


def _leaf(place: Field, leaves: list[str]) -> int:
    """Which column on disk holds the values of a field."""
    middle = "" if place.name is None or place.of_structs else f"{place.name}."
    end = f".{place.name}" if place.of_structs else ""
    return next(
        index
        for index, leaf in enumerate(leaves)
        if leaf.startswith(f"{place.column}.{middle}") and leaf.endswith(end)
    )


def _long(source: Path, batch: Any, found: Layout, kinds: Kinds, first_row: int) -> tuple[Chunk, int]:
    """The rows of some objects, and how many of the objects have none."""
    values, counts = {}, np.zeros(0, np.int64)
    for name in kinds:
        if name not in found.rows:
            continue
        values[name], lengths = _flat(batch, found.rows[name])
        if len(values) > 1 and not np.array_equal(lengths, counts):
            first = int(np.argmax(lengths != counts))
            other = next(iter(values))
            raise IngestError(
                f"{source}: an object has {counts[first]} values of {other} and {lengths[first]} of {name} "
                f"({_shown(batch, found, kinds, first)}): write the file again, with lists of one length"
            )
        counts = lengths
    chunk = parquet._chunk(first_row, values, {name: kinds[name] for name in values})
    once = {name: kind for name, kind in kinds.items() if name not in values}
    objects = parquet._chunk(first_row, {name: batch.column(name) for name in once}, once)
    for name, column in objects.columns.items():
        if isinstance(column, Coded):
            chunk.columns[name] = Coded(np.repeat(column.codes, counts), column.names)
        else:
            chunk.columns[name] = np.repeat(column, counts)
    starts = np.cumsum(counts) - counts
    for reason, indices, texts in objects.rejected:
        rows = [np.arange(starts[index], starts[index] + counts[index]) for index in indices]
        repeated = [text for text, part in zip(texts, rows, strict=True) for _ in part]
        if repeated:
            chunk.rejected.append((reason, np.concatenate(rows), repeated))
    return chunk, int((counts == 0).sum())


def _lists(table: Any, place: Field) -> tuple[Any, np.ndarray]:
    """The lists of a field, of a batch or table, and the length of each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = table.column(place.column)
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.combine_chunks()
    if place.name is not None and not place.of_structs:
        lists = lists.field(place.name)
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return lists, counts.astype(np.int64)


def _flat(batch: Any, place: Field) -> tuple[Any, np.ndarray]:
    """The values of a field end to end, and the number of each object."""
    lists, counts = _lists(batch, place)
    values = lists.flatten()
    return (values.field(place.name) if place.of_structs else values), counts


def _shown(batch: Any, found: Layout, kinds: Kinds, index: int) -> str:
    """What an object is called in messages: the columns of it that were asked for."""
    words = [f"{name} {batch.column(name)[index].as_py()}" for name in kinds if name not in found.rows]
    return ", ".join(words) or f"object {index + 1} of its batch"
