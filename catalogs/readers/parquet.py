"""Parquet tables, streamed by row groups."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.readers.arrow import arrow_bytes
from skytrawl.catalogs.readers.table import Chunk, Header, Kinds, Options, float_texts, make_chunk
from skytrawl.errors import IngestError


def header(source: Path, options: Options) -> Header:
    """Column names, and the units that astropy writes into the file's metadata.

    Raises
    ------
    IngestError
        If pyarrow is missing or the file is no Parquet.
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
    return Header(tuple(schema.names), units)


def chunks(source: Path, kinds: Kinds, options: Options) -> Iterator[Chunk]:
    """Rows in chunks of the columns in `kinds`; floats keep their width."""
    import pyarrow as pa

    first_row = 1
    try:
        for batch in _open(source).iter_batches(batch_size=options.chunk_rows, columns=list(kinds)):
            if batch.num_rows:
                columns = dict(zip(batch.schema.names, batch.columns, strict=True))
                yield _chunk(source, first_row, columns, kinds)
                first_row += batch.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise IngestError(
            f"{source}, after row {first_row - 1}: cannot be read ({error}): fetch or write the file again"
        ) from None


def _open(source: Path) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise IngestError(
            f"{source}: reading Parquet needs pyarrow: install it with `pip install skytrawl[hats]`, or "
            "convert the "
            "file to CSV"
        ) from None
    try:
        return pq.ParquetFile(source)
    except (pa.ArrowInvalid, OSError) as error:
        raise IngestError(
            f"{source} is no readable Parquet file ({error}): fetch or write it again"
        ) from None


def _chunk(source: Path, first_row: int, columns: dict[str, Any], kinds: Kinds) -> Chunk:
    import pyarrow as pa
    import pyarrow.compute as pc

    done: dict[str, np.ndarray] = {}
    slow: dict[str, list[str]] = {}
    for name, kind in kinds.items():
        column = columns[name]
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if pa.types.is_nested(column.type) or pa.types.is_temporal(column.type):
            raise IngestError(
                f"{source}: the column {name!r} is of type {column.type}; a long table with one row an "
                "observation "
                "and times as numbers (MJD, JD) is needed"
            )
        numeric = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
        if kind in ("number", "decimal") and numeric:
            if pa.types.is_integer(column.type) or pa.types.is_float16(column.type):
                column = pc.cast(column, pa.float64(), safe=False)
            done[name] = column.to_numpy(zero_copy_only=False).copy()
        elif kind == "integer" and pa.types.is_integer(column.type) and not column.null_count:
            done[name] = pc.cast(column, pa.int64()).to_numpy(zero_copy_only=False)
        elif pa.types.is_floating(column.type):
            slow[name] = float_texts(column.to_numpy(zero_copy_only=False), name)
        elif kind == "text":
            done[name] = arrow_bytes(column)
        else:
            slow[name] = pc.fill_null(pc.cast(column, pa.string()), "").to_pylist()
    return make_chunk(first_row, kinds, slow, done)
