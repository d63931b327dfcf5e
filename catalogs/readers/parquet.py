"""Parquet tables, streamed by row groups."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from skytrawl.catalogs.readers.arrow import arrow_bytes, arrow_coded, arrow_integers, arrow_numbers
from skytrawl.catalogs.readers.table import (
    Chunk,
    Coded,
    Header,
    Kinds,
    Options,
    Piece,
    float_texts,
    make_chunk,
    reject_missing,
)
from skytrawl.errors import IngestError

# Column chunks are read through a buffer of this size: a row group of any size takes little memory.
_BUFFER = 1 << 20
# Rows a batch beyond the end of a piece, where only the rest of one object is wanted.
_BEYOND = 8192


def header(source: Path, options: Options) -> Header:
    """Column names, and the units that astropy writes into the file's metadata.

    Raises
    ------
    IngestError
        If pyarrow is missing, the file is no Parquet, or two columns have one name.
    """
    schema = _open(source).schema_arrow
    units: dict[str, str] = {}
    text = (schema.metadata or {}).get(b"table_meta_yaml")
    if text:
        from astropy.table.meta import get_header_from_yaml

        declared = get_header_from_yaml(text.decode().splitlines())
        units = {item["name"]: str(item["unit"]) for item in declared["datatype"] if item.get("unit")}
    for field in schema:
        stated = (field.metadata or {}).get(b"unit")
        if stated:
            units[field.name] = stated.decode()
    doubled = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if doubled:
        raise IngestError(f"{source} has the column {doubled[0]!r} twice: give each column its own name")
    return Header((*schema.names, *(name for name in _keys(source) if name not in schema.names)), units)


def expand(source: Path, options: Options) -> list[Path] | None:
    """The files of a dataset with folders inside, by path; None for another folder.

    Folders that are called ``column=value`` give their files a column.
    """
    found = [
        file
        for suffix in (".parquet", ".pq")
        for file in source.rglob(f"*{suffix}")
        if not any(part[:1] in "._" for part in file.relative_to(source).parts)
    ]
    return sorted(found) if any(file.parent != source for file in found) else None


def pieces(source: Path, options: Options) -> list[Piece]:
    """Runs of whole row groups of about ``options.piece_rows`` rows; `part` is the range of row groups.

    Raises
    ------
    IngestError
        If the file is no Parquet.
    """
    metadata = _open(source).metadata
    counts = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    size, total = source.stat().st_size, sum(counts)
    found: list[Piece] = []
    start = rows = 0
    first_row = 1
    for stop, count in enumerate(counts, 1):
        rows += count
        # A run ends where the next row group would bring it further from the size asked for.
        if stop == len(counts) or rows + counts[stop] / 2 > options.piece_rows:
            nbytes = size * rows // total if total else size
            found.append(Piece(source, (start, stop), rows, nbytes, first_row))
            first_row += rows
            start, rows = stop, 0
    return found or [Piece(source, (0, 0), 0, size)]


def chunks(piece: Piece, kinds: Kinds, options: Options) -> Iterator[Chunk]:
    """Rows in chunks of the columns in `kinds`; floats keep their width.

    Raises
    ------
    IngestError
        If a column is of a type that stands for no column of a long table, or the file is damaged.
    """
    import pyarrow as pa

    source = piece.source
    keys = _keys(source)
    file = _open(source, [name for name, kind in kinds.items() if kind == "coded" and name not in keys])
    keys = {name: text for name, text in keys.items() if name not in file.schema_arrow.names}
    held = {name: kind for name, kind in kinds.items() if name not in keys}
    _check_types(source, file.schema_arrow, held)
    start, stop = map(int, piece.part or (0, file.num_row_groups))
    if stop > file.num_row_groups:
        raise IngestError(f"{source} has changed since this ingest began: start again when it is complete")
    names = list(held) or file.schema_arrow.names[:1]
    row = piece.first_row
    try:
        if options.align_on is None or options.align_on in keys:
            batches = _batches(file, range(start, stop), names, options.chunk_rows, row)
        else:
            batches = _aligned(file, range(start, stop), names, options, row)
        for row, batch in batches:
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            columns |= {name: _repeated(text, batch.num_rows) for name, text in keys.items()}
            yield _chunk(row, columns, kinds)
            row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise IngestError(
            f"{source}, after row {row - 1}: cannot be read ({error}): fetch or write the file again"
        ) from None


def _open(source: Path, coded: Sequence[str] = ()) -> Any:
    """The file; texts of the columns `coded` come as codes, as the file holds them."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise IngestError(
            f"{source}: reading Parquet needs pyarrow: install it with `pip install skytrawl[hats]`, or "
            "convert the file to CSV"
        ) from None
    try:
        return pq.ParquetFile(
            source,
            read_dictionary=list(coded),
            buffer_size=_BUFFER,
            pre_buffer=False,
            page_checksum_verification=True,
        )
    except (pa.ArrowException, OSError) as error:
        raise IngestError(
            f"{source} is no readable Parquet file ({error}): fetch or write it again"
        ) from None


def _keys(source: Path) -> dict[str, str]:
    """Columns that the folders of a dataset state, as column=value."""
    found = [part.partition("=") for part in source.parts[:-1]]
    return {
        name: "" if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value)
        for name, sign, value in found
        if name and sign
    }


def _repeated(text: str, rows: int) -> Any:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array([text]))


def _batches(
    file: Any, groups: range, names: list[str], batch_rows: int, first_row: int
) -> Iterator[tuple[int, Any]]:
    """Record batches of a run of row groups, each with the number of its first row."""
    # One thread: parallelism comes from pieces.
    for batch in file.iter_batches(batch_rows, list(groups), names, use_threads=False):
        if batch.num_rows:
            yield first_row, batch
            first_row += batch.num_rows


def _aligned(
    file: Any, groups: range, names: list[str], options: Options, first_row: int
) -> Iterator[tuple[int, Any]]:
    """The same for whole objects: without the rest of the object before, with the rest of the last one."""
    align_on = str(options.align_on)
    names = list(dict.fromkeys((*names, align_on)))
    before = _last_id(file, groups.start, align_on)
    last = None
    for row, batch in _batches(file, groups, names, options.chunk_rows, first_row):
        if before is not None:
            skipped = _leading(batch.column(align_on), before, align_on)
            if skipped == batch.num_rows:
                continue
            row, batch, before = row + skipped, batch.slice(skipped), None
        yield row, batch
        last, end = batch.column(align_on).slice(batch.num_rows - 1), row + batch.num_rows
    if last is None:
        return
    ident = _ids(last, align_on)
    for group in range(groups.stop, file.num_row_groups):
        for row, batch in _batches(file, range(group, group + 1), names, _BEYOND, end):
            taken = _leading(batch.column(align_on), ident, align_on)
            if taken:
                yield row, batch.slice(0, taken)
            if taken < batch.num_rows:
                return
            end += batch.num_rows


def _last_id(file: Any, group: int, align_on: str) -> np.ndarray | None:
    """Identifier, of shape (1,), of the last row before a row group; None if there is no row."""
    while group > 0:
        group -= 1
        last = None
        for _, batch in _batches(file, range(group, group + 1), [align_on], 1 << 20, 1):
            last = batch.column(0)
        if last is not None:
            return _ids(last.slice(len(last) - 1), align_on)
    return None


def _leading(column: Any, ident: np.ndarray, name: str) -> int:
    """How many rows at the start of a column have an identifier."""
    other = _ids(column, name) != ident
    return int(np.argmax(other)) if other.any() else len(other)


def _ids(column: Any, name: str) -> np.ndarray:
    """Identifiers for comparison: integers (0 where missing) or texts as bytes."""
    import pyarrow as pa

    return arrow_integers(column)[0] if pa.types.is_integer(column.type) else arrow_bytes(column, name)


def _check_types(source: Path, schema: Any, kinds: Kinds) -> None:
    import pyarrow as pa

    faults = []
    for name, kind in kinds.items():
        found = schema.field(name).type
        if pa.types.is_nested(found) or pa.types.is_temporal(found):
            faults.append(f"{name!r} is of type {found}")
        elif kind in ("number", "decimal", "integer") and pa.types.is_boolean(found):
            faults.append(f"{name!r} is of type {found}, not a number")
    if faults:
        raise IngestError(
            f"{source}: the column {'; the column '.join(faults)}: a long table with one row an observation "
            "and times as numbers (MJD, JD) is needed. Convert these columns, or name others with columns=; "
            "a table with one light curve a row, in lists, needs reader='hats'"
        )


def _chunk(first_row: int, columns: dict[str, Any], kinds: Kinds) -> Chunk:
    import pyarrow as pa
    import pyarrow.compute as pc

    done: dict[str, np.ndarray | Coded] = {}
    slow: dict[str, list[str]] = {}
    missing = {}
    for name, kind in kinds.items():
        column = columns[name]
        if kind == "coded":
            done[name] = arrow_coded(column, name)
            continue
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        is_integer = pa.types.is_integer(column.type)
        if kind in ("number", "decimal") and (is_integer or pa.types.is_floating(column.type)):
            done[name] = arrow_numbers(column)
        elif kind == "id" and is_integer:
            done[name], missing[name] = arrow_integers(column)
        elif kind == "integer" and is_integer and not column.null_count:
            done[name] = arrow_integers(pc.cast(column, pa.int64()))[0]
        elif kind in ("text", "id"):
            done[name] = arrow_bytes(column, name)
        elif pa.types.is_floating(column.type):
            slow[name] = float_texts(column.to_numpy(zero_copy_only=False), name)
        else:
            slow[name] = pc.fill_null(pc.cast(column, pa.string()), "").to_pylist()
    chunk = make_chunk(first_row, kinds, slow, done)
    for name, rows in missing.items():
        if rows is not None:
            reject_missing(chunk, name, rows)
    return chunk
