"""NumPy files: structured arrays, plain arrays of time, value and error, and archives of columns."""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.readers import memory
from skytrawl.catalogs.readers.table import Chunk, Header, Kinds, Options, Piece, whole
from skytrawl.errors import IngestError

# Columns of a plain array of this many; beyond and otherwise they are called 1, 2, 3.
_PLAIN = ("time", "value", "error")


def header(source: Path, options: Options) -> Header:
    """Names of the fields, of the arrays, or of the columns of a plain array.

    Raises
    ------
    IngestError
        If the file is no table, or holds Python objects.
    """
    return Header(tuple(_columns(source)))


def pieces(source: Path, options: Options) -> list[Piece]:
    """Ranges of rows of an array; an archive is one piece, because its arrays may be compressed."""
    if source.suffix.lower() == ".npz":
        return whole(source, options)
    columns = _columns(source)
    rows = len(next(iter(columns.values())))
    width = source.stat().st_size // max(rows, 1)
    starts = range(0, max(rows, 1), options.piece_rows)
    stops = [min(start + options.piece_rows, rows) for start in starts]
    return [
        Piece(source, (start, stop), stop - start, (stop - start) * width, start + 1)
        for start, stop in zip(starts, stops, strict=True)
    ]


def chunks(piece: Piece, kinds: Kinds, options: Options) -> Iterator[Chunk]:
    """Rows in chunks of the columns in `kinds`; floats keep their width.

    Raises
    ------
    IngestError
        As :func:`header`.
    """
    found = _columns(piece.source)
    columns = {name: found[name] for name in kinds}
    start, stop = map(int, piece.part or (0, len(next(iter(columns.values())))))
    while start < stop:
        rows = slice(start, min(start + options.chunk_rows, stop))
        try:
            # Copies, so that nothing holds on to the mapped file.
            taken = {name: np.array(column[rows]) for name, column in columns.items()}
            yield memory.chunk_of(start + 1, taken, kinds)
        except IngestError as error:
            raise IngestError(str(error).replace("table in memory", str(piece.source))) from None
        start = rows.stop


def _columns(source: Path) -> Mapping[str, Any]:
    """Columns by name; those of an archive are read when they are asked for."""
    try:
        found = np.load(source, mmap_mode="r", allow_pickle=False)
        if isinstance(found, np.ndarray):
            return _fields(source, found)
        return _Archive(source, found)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise IngestError(
            f"{source} is no readable NumPy file of numbers and texts ({error}): write it again, without "
            "Python objects"
        ) from None


def _fields(source: Path, array: np.ndarray) -> dict[str, np.ndarray]:
    if array.dtype.names and array.ndim == 1:
        return {name: array[name] for name in array.dtype.names}
    if array.dtype.kind in "fiu" and array.ndim == 2 and array.shape[1] >= len(_PLAIN):
        named = dict(zip(_PLAIN, array.T, strict=False)) if array.shape[1] == len(_PLAIN) else {}
        return named | {str(place + 1): column for place, column in enumerate(array.T)}
    raise IngestError(
        f"{source} holds an array of {array.dtype} of shape {array.shape}: a table is a structured array, or "
        "one of numbers of shape (n, 3) with time, value and error"
    )


class _Archive(Mapping[str, np.ndarray]):
    """Arrays of one dimension of an npz file, each read once; others are no columns."""

    def __init__(self, source: Path, found: Any) -> None:
        self._found = found
        self._read: dict[str, np.ndarray] = {}
        self._lengths = {name: shape[0] for name in found.files if len(shape := _shape(found.zip, name)) == 1}
        if len(set(self._lengths.values())) != 1:
            raise IngestError(
                f"{source}: arrays of one dimension and one length are columns, and it holds {self._lengths}"
            )

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._read:
            self._read[name] = self._found[name]
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._lengths)

    def __len__(self) -> int:
        return len(self._lengths)


def _shape(archive: zipfile.ZipFile, name: str) -> tuple[int, ...]:
    """Shape of an array of an npz file, from its header alone."""
    form = np.lib.format
    with archive.open(f"{name}.npy") as member:
        read = form.read_array_header_1_0 if form.read_magic(member) == (1, 0) else form.read_array_header_2_0
        shape: tuple[int, ...] = read(member)[0]
        return shape
