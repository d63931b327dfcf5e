"""Tables in memory: a mapping of arrays, a data frame, an astropy table."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from skytrawl.catalogs.readers.table import (
    Chunk,
    Coded,
    Header,
    Kinds,
    Options,
    Piece,
    code_integers,
    float_texts,
    make_chunk,
)
from skytrawl.errors import IngestError


def header(source: Any, options: Options) -> Header:
    """Column names, and units where columns have a ``unit``.

    Raises
    ------
    IngestError
        If the object is no table or its columns differ in length.
    """
    names = _names(source)
    lengths = {name: len(source[name]) for name in names}
    if len(set(lengths.values())) > 1:
        raise IngestError(f"table in memory: the columns differ in length ({lengths})")
    units = {
        name: str(source[name].unit) for name in names if getattr(source[name], "unit", None) is not None
    }
    return Header(names, units)


def chunks(piece: Piece, kinds: Kinds, options: Options) -> Iterator[Chunk]:
    """Rows in chunks of the columns in `kinds`; floats keep their width."""
    source = piece.source
    columns = {name: _plain(source[name], kind) for name, kind in kinds.items()}
    rows = len(next(iter(columns.values()))) if columns else 0
    for start in range(0, rows, options.chunk_rows):
        yield _chunk(
            start, {name: col[start : start + options.chunk_rows] for name, col in columns.items()}, kinds
        )


def chunk_of(first_row: int, columns: Mapping[str, Any], kinds: Kinds) -> Chunk:
    """The chunk of columns that are arrays; values of masked arrays may be missing."""
    return _chunk(
        first_row - 1, {name: _plain(column, kinds[name]) for name, column in columns.items()}, kinds
    )


def _names(source: Any) -> tuple[str, ...]:
    names = tuple(source) if isinstance(source, Mapping) else getattr(source, "colnames", None)
    if names is None:
        names = getattr(source, "columns", None)
    if names is None:
        raise IngestError(
            f"a source is a path, a mapping of column names to arrays, a data frame or an astropy table, not "
            f"{type(source).__name__}"
        )
    if other := [name for name in names if not isinstance(name, str)]:
        raise IngestError(f"table in memory: a column is called {other[0]!r}: names of columns are texts")
    return tuple(names)


def _plain(column: Any, kind: str) -> np.ndarray:
    if isinstance(column, np.ma.MaskedArray):
        masked: Any = column if column.dtype.kind == "f" else column.astype(object)
        column = masked.filled(np.nan if column.dtype.kind == "f" else "")
    # A pandas column of nullable integers as an array is float64, which holds no identifier of 64 bits.
    named = kind in ("text", "id", "coded", "integer")
    nullable = named and hasattr(column, "isna") and not isinstance(column.dtype, np.dtype)
    values = column.to_numpy(dtype=object, na_value=None) if nullable else np.asarray(column)
    if values.ndim != 1:
        raise IngestError(f"table in memory: columns have one dimension, not the shape {values.shape}")
    return values


def _chunk(start: int, columns: dict[str, np.ndarray], kinds: Kinds) -> Chunk:
    done: dict[str, np.ndarray | Coded] = {}
    slow: dict[str, list[str]] = {}
    for name, values in columns.items():
        kind = kinds[name]
        if kind in ("number", "decimal") and values.dtype.kind in "fiub":
            # Whatever the order of its bytes.
            single = values.dtype.kind == "f" and values.dtype.itemsize == 4
            dtype = np.float32 if single else np.float64
            done[name] = values.astype(dtype, copy=False)
        elif kind == "integer" and values.dtype.kind in "iu":
            done[name] = values.astype(np.int64)
        elif kind == "id" and values.dtype.kind in "iu":
            done[name] = values.astype(np.int64 if values.dtype.kind == "i" else np.uint64, copy=False)
        elif kind == "coded" and (coded := _coded(values)) is not None:
            done[name] = coded
        elif kind in ("text", "id") and values.dtype.kind == "S":
            done[name] = np.strings.strip(values)
        elif values.dtype.kind == "f":
            slow[name] = float_texts(values, name)
        else:
            slow[name] = [_text(value) for value in values.tolist()]
    return make_chunk(start + 1, kinds, slow, done)


def _coded(values: np.ndarray) -> Coded | None:
    """Codes of integers that are few, or of texts; None for what must be looked at one by one."""
    if values.dtype.kind in "iu":
        return code_integers(values)
    if values.dtype.kind not in "SU":
        return None
    places: dict[Any, int] = {}
    codes = [places.setdefault(value, len(places)) for value in values.tolist()]
    return Coded(np.array(codes, np.int32), [_text(value).strip().encode() for value in places])


def _text(value: Any) -> str:
    if value is None or value != value:  # NaN stands for a missing text in data frames
        return ""
    return value.decode() if isinstance(value, bytes) else str(value)
