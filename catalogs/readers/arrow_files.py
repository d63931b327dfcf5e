"""Feather and Arrow IPC files, by record batches; folders column=value of a dataset give columns."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skytrawl.catalogs.readers import parquet
from skytrawl.catalogs.readers.table import Chunk, Header, Kinds, Options, Piece, whole
from skytrawl.errors import IngestError

SUFFIXES = (".feather", ".arrow", ".ipc", ".arrows")


def header(source: Path, options: Options) -> Header:
    """Column names, and units in the metadata of the fields.

    Raises
    ------
    IngestError
        If pyarrow is missing, the file is no Arrow file, or two columns have one name.
    """
    with _opened(source) as (reader, _):
        schema = reader.schema
    doubled = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if doubled:
        raise IngestError(f"{source} has the column {doubled[0]!r} twice: give each column its own name")
    units = {
        field.name: field.metadata[b"unit"].decode()
        for field in schema
        if field.metadata and b"unit" in field.metadata
    }
    return Header(
        (*schema.names, *(name for name in parquet._keys(source) if name not in schema.names)), units
    )


def expand(source: Path, options: Options) -> list[Path] | None:
    """The files of a dataset with folders inside, by path; None for another folder."""
    found = sorted(
        file
        for suffix in SUFFIXES
        for file in source.rglob(f"*{suffix}")
        if not any(part[:1] in "._" for part in file.relative_to(source).parts)
    )
    return found if any(file.parent != source for file in found) else None


def pieces(source: Path, options: Options) -> list[Piece]:
    """Runs of record batches of about ``options.piece_rows`` rows; a stream is one piece."""
    with _opened(source) as (reader, is_stream):
        if is_stream:
            return whole(source, options)
        counts = [reader.get_batch(index).num_rows for index in range(reader.num_record_batches)]
    size, total = source.stat().st_size, max(sum(counts), 1)
    found: list[Piece] = []
    start = rows = 0
    first_row = 1
    for stop, count in enumerate(counts, 1):
        rows += count
        if stop == len(counts) or rows + counts[stop] / 2 > options.piece_rows:
            found.append(Piece(source, (start, stop), rows, size * rows // total, first_row))
            start, rows, first_row = stop, 0, first_row + rows
    return found or [Piece(source, (0, 0), 0, size)]


def chunks(piece: Piece, kinds: Kinds, options: Options) -> Iterator[Chunk]:
    """Rows in chunks of the columns in `kinds`; floats keep their width.

    Raises
    ------
    IngestError
        If a column is of a type that stands for no column of a long table, or the file is damaged.
    """
    source: Path = piece.source
    row = piece.first_row
    with _opened(source) as (reader, is_stream):
        keys = {name: text for name, text in parquet._keys(source).items() if name not in reader.schema.names}
        held = [name for name in kinds if name not in keys]
        parquet._check_types(source, reader.schema, {name: kinds[name] for name in held})
        for batch in reader if is_stream else map(reader.get_batch, _run(piece, reader)):
            for start in range(0, batch.num_rows, options.chunk_rows):
                part = batch.slice(start, options.chunk_rows)
                columns = {name: part.column(name) for name in held}
                columns |= {name: parquet._repeated(text, part.num_rows) for name, text in keys.items()}
                yield parquet._chunk(row, columns, kinds)
                row += part.num_rows


def _run(piece: Piece, reader: Any) -> range:
    start, stop = map(int, piece.part or (0, reader.num_record_batches))
    return range(start, stop)


@contextmanager
def _opened(source: Path) -> Iterator[tuple[Any, bool]]:
    """A reader of record batches, and whether it is one of a stream."""
    try:
        import pyarrow as pa
    except ImportError:
        raise IngestError(
            f"{source}: reading Arrow files needs pyarrow: install it with `pip install skytrawl[hats]`"
        ) from None
    try:
        with pa.memory_map(str(source)) as file:
            if file.read(6) == b"ARROW1":
                yield pa.ipc.open_file(file), False
            else:
                file.seek(0)
                yield pa.ipc.open_stream(file), True
    except (pa.ArrowException, OSError) as error:
        raise IngestError(f"{source} is no readable Arrow file ({error}): fetch or write it again") from None
