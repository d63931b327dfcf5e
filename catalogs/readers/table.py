"""What all readers share: their records, and numbers from text by one rule."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.surveys.files import Files
from skytrawl.catalogs.times import parse_time_format
from skytrawl.errors import IngestError, ParameterError

# Texts (lower case, stripped) that stand for a missing number.
MISSING = ("", "nan", "-nan", "+nan", "na", "n/a", "null", "none", "--", "\\n", "masked")
# What a column name is followed by in the reason for rows without identifier.
MISSING_ID = " has no identifier"


@dataclass(frozen=True)
class Options:
    """How files are opened.

    Attributes
    ----------
    encoding : str
        Of text files.
    delimiter : str or None
        Of text files; None takes the header line's most frequent of comma, tab, semicolon, bar, else spaces.
    chunk_rows : int
        Rows a chunk, about; so few that the columns of a chunk stay in the cache of a core.
    piece_rows : int
        Rows a piece, about: what one task reads.
    align_on : str or None
        Name of the object column: pieces yield whole objects (readers with `aligned`).
    nested : str or None
        The nested column that holds the light curves, where a table has several (HATS).
    use_pyarrow : bool or None
        For text files; None uses it where it is installed. The values are the same either way.
    files : tuple of Files
        Forms in which the survey delivers files of one light curve each.
    time_format : str
        As asked for; "" lets a reader tell forms of time apart that its files may have.
    """

    encoding: str = "utf-8"
    delimiter: str | None = None
    chunk_rows: int = 131_072
    piece_rows: int = 2_000_000
    align_on: str | None = None
    nested: str | None = None
    use_pyarrow: bool | None = None
    files: tuple[Files, ...] = ()
    time_format: str = ""

    def __post_init__(self) -> None:
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise ParameterError(
                f"delimiter={self.delimiter!r}: give one character, such as ';' (a tab is $'\\t' in a shell)"
            )
        if self.time_format:
            parse_time_format(self.time_format)


@dataclass(frozen=True)
class Header:
    """Column names of a source and the units of those that state one."""

    names: tuple[str, ...]
    units: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Piece:
    """A part of a source that one task reads.

    Attributes
    ----------
    source : Path or table in memory
    part : tuple
        The reader's own address of the part, of numbers and texts; () for the whole source.
    rows : int or None
        Number of rows where the source tells it without reading.
    nbytes : int
        Bytes of the part, about.
    first_row : int
        Number of its first row in the source; the first row of a source is 1.
    """

    source: Any
    part: tuple[int | str, ...] = ()
    rows: int | None = None
    nbytes: int = 0
    first_row: int = 1


def whole(source: Any, options: Options) -> list[Piece]:
    """A source as one piece."""
    return [Piece(source, nbytes=source.stat().st_size if isinstance(source, Path) else 0)]


@dataclass(frozen=True)
class Coded:
    """A column of few texts: ``names[codes[i]]`` is the text of row i."""

    codes: np.ndarray
    names: list[bytes]

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, row: int) -> bytes:
        return self.names[int(self.codes[row])]

    def texts(self) -> np.ndarray:
        """The column as fixed-width bytes."""
        return np.array(self.names or [b""], "S")[self.codes]


@dataclass(frozen=True)
class Places:
    """Where the rows of a chunk stand in a source of many files.

    Attributes
    ----------
    names : list of str
        Of files, below the source; "" for the source itself.
    starts : int64 array
        First row, in the chunk from 0, of each stretch of consecutive lines of a file.
    lines : int64 array
        Line of that row in its file, from 1; 0 where the row stands for the file as a whole.
    """

    names: list[str]
    starts: np.ndarray
    lines: np.ndarray

    def of(self, source: str, row: int) -> str:
        """File and line of a row."""
        stretch = int(np.searchsorted(self.starts, row, side="right")) - 1
        name = "/".join(filter(None, (source, self.names[stretch])))
        line = int(self.lines[stretch])
        return f"{name}, line {line + row - int(self.starts[stretch])}" if line else name


@dataclass
class Chunk:
    """Some consecutive rows of a source.

    Attributes
    ----------
    first_row : int
        Number of the first row; the first row of a source is 1, the header line does not count.
    columns : dict of str to array of shape (n,) or Coded
        By the kind that was asked for; see :data:`Kinds`.
    rejected : list of (reason, indices, texts)
        Rows that the reader could not take, such as text in a number column, with what stood there.
    notes : dict of str to int
        How often something was seen that is worth a warning but costs no row; 0 where a number says nothing.
    places : Places or None
        Of the rows, if the source is of many files; otherwise rows count from `first_row`.
    time_format : str
        Of the times of this chunk, if the reader could tell; otherwise "".
    """

    first_row: int
    columns: dict[str, Any]
    rejected: list[tuple[str, np.ndarray, list[str]]] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)
    places: Places | None = None
    time_format: str = ""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0


# Column to what it is wanted as:
# "number"   float32 or float64 as delivered, float64 for integers and texts; NaN where missing
# "decimal"  "text" where the file has text, so that no digit of a Julian date is lost, else "number"
# "integer"  int64; -1 where missing
# "id"       int64 or uint64 where the file has integers (missing ones are rejected rows), else "text"
# "text"     stripped, fixed-width bytes (UTF-8); empty where missing
# "coded"    Coded, of texts
Kinds = Mapping[str, str]


@dataclass(frozen=True)
class Reader:
    """One kind of file; see :mod:`skytrawl.catalogs.readers`.

    Attributes
    ----------
    folders : bool
        Whether a folder may be a source, where the reader is asked for by name.
    aligned : bool
        Whether `chunks` honours ``options.align_on``.
    sky : callable or None
        Range of HEALPix cells (order 29, inclusive) of a piece whose objects come along the sky where
        ``options.align_on`` is set, even if they do not where it is not; None for other pieces.
    claims : frozenset of str
        Column names that make a table, read by another reader, one of this reader's.
    """

    name: str
    extensions: tuple[str, ...]
    header: Callable[[Any, Options], Header]
    chunks: Callable[[Piece, Kinds, Options], Iterator[Chunk]]
    pieces: Callable[[Any, Options], list[Piece]] = whole
    expand: Callable[[Path, Options], list[Path] | None] | None = None
    takes: Callable[[Path, Options], bool] | None = None
    folders: bool = False
    aligned: bool = False
    sky: Callable[[Piece, Options], tuple[int, int] | None] | None = None
    claims: frozenset[str] = frozenset()
    summary: str = ""


def parse_numbers(texts: list[str]) -> tuple[np.ndarray, list[int]]:
    """float64 values of texts, correctly rounded; indices of those that are no numbers (NaN there)."""
    joined = "\0".join(texts)
    # float() also takes 1_000 and digits of other scripts, which no table means.
    if joined.isascii() and "_" not in joined:
        try:
            return np.array(list(map(float, texts)), np.float64), []
        except ValueError:  # some are missing or no numbers: look at each
            return _parse_one_by_one(texts)
    return _parse_one_by_one(texts)


def _parse_one_by_one(texts: list[str]) -> tuple[np.ndarray, list[int]]:
    values = np.full(len(texts), np.nan)
    bad = []
    for index, text in enumerate(texts):
        text = text.strip()
        if text.lower() in MISSING:
            continue
        try:
            if "_" in text or not text.isascii():
                raise ValueError
            values[index] = float(text)
        except ValueError:
            bad.append(index)
    return values, bad


def parse_integers(texts: list[str], missing: int = -1) -> tuple[np.ndarray, list[int]]:
    """int64 values of texts, and the indices of those that are no integers of 64 bits (`missing` there)."""
    values = np.full(len(texts), missing, np.int64)
    bad = []
    for index, text in enumerate(texts):
        text = text.strip()
        if text.lower() in MISSING:
            continue
        try:
            values[index] = int(text)
        except (ValueError, OverflowError):
            bad.append(index)
    return values, bad


def float_texts(values: np.ndarray, name: str) -> list[str]:
    """Texts of floating-point identifiers or codes: whole numbers without a point, NaN as "".

    Tables give whole numbers as floats where some are missing.

    Parameters
    ----------
    values : float array of shape (n,)
    name : str
        Of the column, for the message.

    Raises
    ------
    IngestError
        If a number is so large that neighbouring whole numbers are one float: different objects would
        become one.
    """
    most = 2.0 ** (np.finfo(values.dtype).nmant + 1)
    if (large := np.abs(values) >= most).any():
        raise IngestError(
            f"the column {name!r} holds identifiers as {values.dtype}, which cannot tell numbers beyond "
            f"{most:.0f} apart (such as {values[large][0]:.0f}): read it as integers or as text"
        )
    return [
        "" if value != value else str(int(value)) if value == value // 1 else str(value)
        for value in values.tolist()
    ]


def to_bytes(texts: list[str]) -> np.ndarray:
    """Fixed-width UTF-8 bytes of stripped texts."""
    encoded = [text.strip().encode() for text in texts]
    return np.array(encoded, dtype=f"S{max(map(len, encoded), default=1) or 1}")


def to_coded(texts: list[str]) -> Coded:
    """Codes of stripped texts, in the order of first appearance."""
    places: dict[str, int] = {}
    codes = [places.setdefault(text, len(places)) for text in texts]
    return Coded(np.array(codes, np.int32), [text.strip().encode() for text in places])


def code_integers(values: np.ndarray) -> Coded | None:
    """Codes of integers that span less than 256; None for others.

    Parameters
    ----------
    values : integer array of shape (n,)
    """
    if not len(values):
        return None
    low, high = int(values.min()), int(values.max())
    if high - low > 255:
        return None
    # The difference modulo 256 is the difference.
    codes = values.astype(np.uint8) - np.uint8(low % 256)
    return Coded(codes, [str(value).encode() for value in range(low, high + 1)])


def make_chunk(
    first_row: int,
    kinds: Kinds,
    texts: Mapping[str, list[str]],
    done: Mapping[str, np.ndarray | Coded] | None = None,
) -> Chunk:
    """The chunk of columns that came as text, beside those that are arrays already."""
    chunk = Chunk(first_row, {})
    for name, kind in kinds.items():
        if done is not None and name in done:
            chunk.columns[name] = done[name]
            continue
        column = texts[name]
        bad: list[int] = []
        if kind == "number":
            chunk.columns[name], bad = parse_numbers(column)
        elif kind == "integer":
            chunk.columns[name], bad = parse_integers(column)
        elif kind == "coded":
            chunk.columns[name] = to_coded(column)
        else:
            chunk.columns[name] = to_bytes(column)
        if bad:
            reject(chunk, name, "integer" if kind == "integer" else "number", bad, [column[i] for i in bad])
    return chunk


def reject(chunk: Chunk, name: str, wanted: str, indices: list[int], texts: list[str]) -> None:
    """Record rows whose text is not what the column needs."""
    chunk.rejected.append((f"{name} is no {wanted}", np.array(indices, np.int64), texts))


def reject_missing(chunk: Chunk, name: str, missing: np.ndarray) -> None:
    """Record rows that have no identifier (bool array of shape (n,))."""
    indices = np.flatnonzero(missing)
    if indices.size:
        chunk.rejected.append((f"{name}{MISSING_ID}", indices, [""] * len(indices)))
