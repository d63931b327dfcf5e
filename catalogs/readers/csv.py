"""Text tables with a header line: CSV, TSV, ECSV, tables with spaces; plain or gzip.

pyarrow reads them where it is installed; the standard library does otherwise, with the same values. pyarrow
also leaves to it whatever it refuses, so that a fault has one message.
"""

import csv
import gzip
import importlib.util
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from skytrawl.catalogs.readers.arrow import arrow_bytes, arrow_coded, arrow_integers, arrow_numbers
from skytrawl.catalogs.readers.table import (
    MISSING,
    Chunk,
    Coded,
    Header,
    Kinds,
    Options,
    Piece,
    make_chunk,
    whole,
)
from skytrawl.errors import IngestError

_DELIMITERS = (",", "\t", ";", "|")
_ECSV = "# %ECSV"
_SCANNED = 1 << 22
# Shorter rows than this are not looked for when a file is divided.
_LEAST_ROW_BYTES = 16


@dataclass(frozen=True)
class Layout:
    """What stands above the data; `lines` counts all lines up to the header line, which is included."""

    names: tuple[str, ...]
    units: dict[str, str]
    delimiter: str
    lines: int


def header(source: Path, options: Options) -> Header:
    """Column names, and units where the file is ECSV."""
    found = layout(source, options)
    return Header(found.names, found.units)


def pieces(source: Path, options: Options) -> list[Piece]:
    """Ranges of bytes between line ends, of about ``options.piece_rows`` rows; `part` is the range.

    Files in which a line and a row may be two things (quotes, blank lines), compressed files and those of
    other encodings are one piece.
    """
    if source.suffix.lower() == ".gz" or not _is_utf8(options):
        return whole(source, options)
    if source.stat().st_size < _LEAST_ROW_BYTES * options.piece_rows:
        return whole(source, options)
    found: list[Piece] = []
    with open(source, "rb") as file:
        for _ in range(layout(source, options).lines):
            file.readline()
        start, rows, first_row = file.tell(), 0, 1
        while block := file.read(_SCANNED) + file.readline():
            if _unlike_lines(block):
                return whole(source, options)
            rows += block.count(b"\n") + (not block.endswith(b"\n"))
            if rows >= options.piece_rows or file.tell() == source.stat().st_size:
                stop = file.tell()
                found.append(Piece(source, (start, stop), rows, stop - start, first_row))
                start, rows, first_row = stop, 0, first_row + rows
    return found


def _unlike_lines(block: bytes) -> bool:
    """Whether a row of whole lines may be no line: quotes may hold line ends, blank lines are no rows."""
    if b'"' in block or (b"\r" in block and block.count(b"\r") != block.count(b"\r\n")):
        return True
    letters = np.frombuffer(b"\n" + block, np.uint8)
    firsts = letters[np.flatnonzero(letters[:-1] == ord("\n")) + 1]
    return bool(np.isin(firsts, np.frombuffer(b"\n\r \t", np.uint8)).any())


def chunks(piece: Piece, kinds: Kinds, options: Options) -> Iterator[Chunk]:
    """Rows in chunks of the columns in `kinds`.

    Raises
    ------
    IngestError
        For a row with fewer or more fields than the header line, for text that is not of the encoding, and
        for a file that is cut off.
    """
    found = layout(piece.source, options)
    with_pyarrow = options.use_pyarrow
    if with_pyarrow is None:
        with_pyarrow = importlib.util.find_spec("pyarrow") is not None
    if with_pyarrow and found.delimiter != " " and _is_utf8(options):
        return _with_pyarrow(piece, found, kinds, options)
    return _with_csv(piece, found, kinds, options, piece.first_row)


def _is_utf8(options: Options) -> bool:
    return options.encoding.lower() in ("utf-8", "utf8")


def layout(source: Path, options: Options) -> Layout:
    """Read what stands above the data.

    Raises
    ------
    IngestError
        If the file is empty, or not of the encoding, or has doubled or empty column names.
    """
    comments: list[str] = []
    lines = 0
    with _open_text(Piece(source), options) as file:
        line = ""
        for line in _decoded(file, source, options):
            lines += 1
            if line.startswith("#"):
                comments.append(line)
            elif line.strip():
                break
        else:
            raise IngestError(f"{source} is empty: a table needs a header line with column names, then rows")
    units: dict[str, str] = {}
    delimiter = options.delimiter
    if comments and comments[0].startswith(_ECSV):
        declared = _ecsv(source, comments)
        units = {item["name"]: str(item["unit"]) for item in declared["datatype"] if item.get("unit")}
        delimiter = delimiter or declared.get("delimiter", " ")
    if delimiter is None:
        counts = [line.count(option) for option in _DELIMITERS]
        delimiter = (
            _DELIMITERS[int(np.argmax(counts))] if max(counts) else " " if " " in line.strip() else ","
        )
    names = tuple(name.strip() for name in _split(line, delimiter))
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled or not all(names):
        what = f"the column {doubled[0]!r} twice" if doubled else "a column without a name"
        raise IngestError(f"{source} has {what} in its header line: give each column its own name")
    return Layout(names, units, delimiter, lines)


def _split(line: str, delimiter: str) -> list[str]:
    line = line.rstrip("\r\n")
    return next(csv.reader([line.strip()], delimiter=delimiter, skipinitialspace=True), [])


def _ecsv(source: Path, comments: list[str]) -> dict[str, Any]:
    from astropy.table.meta import get_header_from_yaml

    lines = [comment[1:].removeprefix(" ").rstrip("\r\n") for comment in comments if comment.startswith("# ")]
    try:
        found: dict[str, Any] = get_header_from_yaml(lines[1:])
    except Exception as error:  # the YAML package has its own family of errors
        raise IngestError(
            f"{source}: the ECSV header cannot be read ({error}): write the file again"
        ) from None
    return found


class _Range(io.RawIOBase):
    """The bytes of a file from one position to another."""

    def __init__(self, source: Path, start: int, stop: int) -> None:
        self._file = open(source, "rb", buffering=0)  # noqa: SIM115 - closed by close()
        self._file.seek(start)
        self._left = stop - start

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(memoryview(buffer)[: self._left])
        self._left -= count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _open(piece: Piece) -> BinaryIO:
    source: Path = piece.source
    if source.suffix.lower() == ".gz":
        return gzip.open(source, "rb")  # type: ignore[return-value]
    if piece.part:
        return io.BufferedReader(_Range(source, *map(int, piece.part)), 1 << 20)
    return open(source, "rb")


def _open_text(piece: Piece, options: Options) -> io.TextIOWrapper:
    encoding = options.encoding
    # A byte order mark is no part of the first name.
    if encoding.lower() in ("utf-8", "utf8"):
        encoding = "utf-8-sig"
    try:
        return io.TextIOWrapper(_open(piece), encoding=encoding, newline="")
    except LookupError:
        raise IngestError(f"{piece.source}: Python knows no encoding {options.encoding!r}") from None


def _decoded(file: io.TextIOWrapper, source: Path, options: Options, number: int = 0) -> Iterator[str]:
    """Lines, with a message for bytes that are not of the encoding and for broken gzip.

    `number` counts the lines above.
    """
    try:
        for line in file:
            number += 1
            if "\0" in line:
                raise IngestError(
                    f"{source}, line {number}: holds zero bytes, so it is no {options.encoding} text; a "
                    "file of "
                    "16-bit characters needs encoding='utf-16'"
                )
            yield line
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise IngestError(
            f"{source}, near line {number + 1}: byte 0x{byte:02x} is no {options.encoding} text; name the "
            "encoding "
            "of the file, such as encoding='latin-1' or 'utf-16', or convert it to UTF-8"
        ) from None
    except (EOFError, OSError) as error:
        raise IngestError(
            f"{source}, near line {number + 1}: cannot be read ({error}): fetch it again"
        ) from None


def _with_csv(piece: Piece, found: Layout, kinds: Kinds, options: Options, first_row: int) -> Iterator[Chunk]:
    """Chunks by the standard library, from a row on."""
    source = piece.source
    picks = [(name, found.names.index(name)) for name in kinds]
    width = len(found.names)
    texts: dict[str, list[str]] = {name: [] for name in kinds}
    rows = piece.first_row - 1
    with _open_text(piece, options) as file:
        lines = _decoded(file, source, options, found.lines + rows if piece.part else 0)
        for _ in range(0 if piece.part else found.lines):
            next(lines)
        # Runs of spaces are one delimiter: the spaces at the start of a field are skipped.
        rest = (line.strip() for line in lines) if found.delimiter == " " else lines
        reader = csv.reader(rest, delimiter=found.delimiter, skipinitialspace=True)
        try:
            for row in reader:
                if not row or (len(row) == 1 and not row[0].strip() and width > 1):
                    continue
                rows += 1
                if len(row) != width:
                    raise IngestError(
                        f"{source}, row {rows}: {len(row)} fields where the header line has {width}; the "
                        "file is cut "
                        "off or a text holds the delimiter without quotes: repair this row"
                    )
                if rows < first_row:
                    continue
                for name, index in picks:
                    texts[name].append(row[index])
                if rows - first_row + 1 == options.chunk_rows:
                    yield make_chunk(first_row, kinds, texts)
                    first_row = rows + 1
                    texts = {name: [] for name in kinds}
        except csv.Error as error:
            raise IngestError(f"{source}, after row {rows}: {error}: repair the quotes of this row") from None
    if rows >= first_row:
        yield make_chunk(first_row, kinds, texts)


def _with_pyarrow(piece: Piece, found: Layout, kinds: Kinds, options: Options) -> Iterator[Chunk]:
    """Chunks by pyarrow; what it refuses is read again by the standard library from that row on."""
    import pyarrow as pa
    import pyarrow.csv as pacsv

    first_row = piece.first_row
    try:
        with _open(piece) as file:
            for _ in range(0 if piece.part else found.lines):
                file.readline()
            stream = pacsv.open_csv(
                file,
                read_options=pacsv.ReadOptions(
                    block_size=max(1 << 16, 32 * options.chunk_rows), column_names=list(found.names)
                ),
                parse_options=pacsv.ParseOptions(delimiter=found.delimiter, newlines_in_values=True),
                convert_options=pacsv.ConvertOptions(
                    # Everything comes as text: one rule turns text into numbers, here and without pyarrow.
                    column_types={name: pa.string() for name in found.names},
                    include_columns=list(kinds),
                    strings_can_be_null=False,
                ),
            )
            for batch in stream:
                if batch.num_rows:
                    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
                    yield _batch(first_row, columns, kinds)
                    first_row += batch.num_rows
            return
    except (pa.ArrowInvalid, pa.ArrowKeyError, EOFError, OSError):
        # The standard library names the row, or reads what pyarrow does not know.
        rest = _with_csv(piece, found, kinds, options, first_row)
    yield from rest


def _batch(first_row: int, columns: dict[str, Any], kinds: Kinds) -> Chunk:
    import pyarrow as pa

    done: dict[str, np.ndarray | Coded] = {}
    slow: dict[str, list[str]] = {}
    for name, kind in kinds.items():
        text = columns[name]
        if kind in ("number", "integer"):
            number = _cast(text, pa.float64() if kind == "number" else pa.int64())
            if number is not None:
                done[name] = number
            else:  # some text is no number: the slow way names the rows
                slow[name] = text.to_pylist()
        else:
            done[name] = arrow_coded(text) if kind == "coded" else arrow_bytes(text)
    return make_chunk(first_row, kinds, slow, done)


def _cast(text: Any, wanted: Any) -> np.ndarray | None:
    """Numbers of texts; None if there are others."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return _numbers(pc.cast(text, wanted))
    except pa.ArrowInvalid:  # spaces around, or missing ones
        text = pc.utf8_trim_whitespace(text)
    if pa.types.is_integer(wanted):
        return None
    missing = pc.is_in(pc.utf8_lower(text), value_set=pa.array(MISSING))
    try:
        return _numbers(pc.cast(pc.if_else(missing, "nan", text), wanted))
    except pa.ArrowInvalid:
        return None


def _numbers(column: Any) -> np.ndarray:
    import pyarrow as pa

    return arrow_integers(column)[0] if pa.types.is_integer(column.type) else arrow_numbers(column)
