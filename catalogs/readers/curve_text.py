"""Columns from the text of many small tables at once.

The tables of a batch have the same columns. Their text is read as one, by pyarrow where it is installed;
what that refuses is read again table by table, and then line by line, so that a fault has its line.
"""

import csv
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skytrawl.catalogs.readers.arrow import arrow_coded
from skytrawl.catalogs.readers.table import MISSING, Kinds, make_chunk
from skytrawl.catalogs.surveys.files import Files

UNEVEN = "the line has more or fewer fields than the others of its file"
_NULLS = sorted({form for text in MISSING for form in (text, text.upper(), text.capitalize())})


class NoTable(Exception):
    """Text that no table of numbers can be."""


@dataclass(frozen=True)
class Columns:
    """Where the wanted columns of a table stand.

    Attributes
    ----------
    places : dict of str to int
        Field, from 0, of each column.
    kinds : mapping of str to str
        What each is wanted as.
    width : int
        Fields of a line.
    named : bool
        Whether a header line named them, so that every line of other than `width` fields is bad.
    """

    places: Mapping[str, int]
    kinds: Kinds
    width: int
    named: bool


@dataclass
class Parsed:
    """Rows of a text.

    Attributes
    ----------
    columns : dict of str to array or Coded of shape (n,)
    limits : bool array of shape (n,) or None
        Rows in which a number stands behind the mark of upper limits; None if there is none.
    lines : int64 array of shape (n,) or None
        Line of each row in the text, from 0; None if every line is a row.
    rejected : list of (reason, indices, texts)
    """

    columns: dict[str, Any]
    limits: np.ndarray | None = None
    lines: np.ndarray | None = None
    rejected: list[tuple[str, np.ndarray, list[str]]] = field(default_factory=list)

    def __len__(self) -> int:
        if self.lines is not None:
            return len(self.lines)
        return len(next(iter(self.columns.values()))) if self.columns else 0


def parse_fast(text: bytes, wanted: Columns, files: Files, lean: bool = False) -> Parsed | None:
    """Columns of a text whose lines are all rows; None if a closer look is needed.

    Parameters
    ----------
    text : bytes
        ASCII or UTF-8; each line ends with a line feed, none is blank or a comment.
    wanted : Columns
    files : Files
    lean : bool
        Do without pyarrow.
    """
    if lean:
        return _by_split(text, wanted, files)
    found = None
    head = text[: text.find(b"\n")]
    if files.delimiter != " " or b" ".join(head.split()) == head:
        found = _by_arrow(text, wanted, files)
    if found is None and files.delimiter == " " and (plain := single_spaces(text)) != text:
        found = _by_arrow(plain, wanted, files)
    return found


def single_spaces(text: bytes) -> bytes:
    """Text with one space between the fields of a line."""
    if b"\t" in text:
        text = text.replace(b"\t", b" ")
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    if b"\n " in text or text[:1] == b" ":
        text = text.replace(b"\n ", b"\n").removeprefix(b" ")
    return text.replace(b" \n", b"\n") if b" \n" in text else text


def _by_arrow(text: bytes, wanted: Columns, files: Files) -> Parsed | None:
    import pyarrow as pa
    import pyarrow.csv as pacsv

    if "integer" in wanted.kinds.values():
        return None
    marked = bool(files.limit_mark) and files.limit_mark.encode() in text
    plain = {
        str(wanted.places[name]) for name, kind in wanted.kinds.items() if kind == "number" and not marked
    }
    strings = {str(wanted.places[name]) for name in wanted.kinds} - plain
    try:
        table = pacsv.read_csv(
            pa.BufferReader(text),
            read_options=pacsv.ReadOptions(
                column_names=[str(place) for place in range(wanted.width)],
                use_threads=False,
                block_size=len(text) + 1,
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=files.delimiter, quote_char=False if files.delimiter == " " else '"'
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(plain, pa.float64()) | dict.fromkeys(strings, pa.string()),
                include_columns=sorted(plain | strings),
                # Between spaces nothing is no missing number, but a field too few.
                null_values=_NULLS if files.delimiter != " " else _NULLS[1:],
                strings_can_be_null=False,
            ),
        )
        found = Parsed({})
        for name, kind in wanted.kinds.items():
            column = table.column(str(wanted.places[name])).combine_chunks()
            if kind == "number" and marked:
                found.columns[name], limits = _marked(column, files.limit_mark)
                found.limits = limits if found.limits is None else found.limits | limits
            elif kind == "number":
                found.columns[name] = column.to_numpy(zero_copy_only=False)
            else:
                found.columns[name] = arrow_coded(column) if kind == "coded" else _fixed_width(column)
    except pa.ArrowException:
        return None
    return found


def _marked(column: Any, mark: str) -> tuple[np.ndarray, np.ndarray]:
    """Numbers, and which of them stand behind a mark."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.utf8_trim_whitespace(column)
    plain = pc.replace_substring_regex(text, pattern="^" + re.escape(mark), replacement="")
    plain = pc.if_else(pc.is_in(plain, value_set=pa.array(_NULLS)), "nan", plain)
    return (
        pc.cast(plain, pa.float64()).to_numpy(zero_copy_only=False),
        pc.starts_with(text, pattern=mark).to_numpy(zero_copy_only=False),
    )


def _fixed_width(column: Any) -> np.ndarray:
    """Texts of pyarrow as fixed-width bytes, stripped."""
    import pyarrow.compute as pc

    column = pc.utf8_trim_whitespace(column)
    rows = len(column)
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int32, rows + 1, column.offset * 4)
    lengths = np.diff(ends)
    width = int(lengths.max(initial=1)) or 1
    letters = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] if data is not None else np.zeros(0, np.uint8)
    if len(letters) == width * rows:
        return letters.view(f"S{width}")
    padded = np.zeros((rows, width), np.uint8)
    padded[np.arange(width) < lengths[:, None]] = letters
    return padded.view(f"S{width}")[:, 0]


def _by_split(text: bytes, wanted: Columns, files: Files) -> Parsed | None:
    """The same by the standard library, for numbers between spaces."""
    if files.delimiter != " " or not set(wanted.kinds.values()) <= {"number", "decimal"}:
        return None
    # float() also takes 1_000, which no table means.
    if not text.isascii() or b"_" in text or b"|" in text:
        return None
    width = wanted.width + 1
    fields = text.replace(b"\n", b" | ").split()
    if fields[width - 1 :: width].count(b"|") * width != len(fields):
        return None
    found = Parsed({})
    try:
        for name, kind in wanted.kinds.items():
            column = fields[wanted.places[name] :: width]
            found.columns[name] = np.array(column if kind == "decimal" else list(map(float, column)))
    except ValueError:
        return None
    return found


def parse_lines(text: str, wanted: Columns, files: Files, first_row: int) -> Parsed:
    """Columns of a text, line by line; lines that are no rows are rejected rows.

    Blank lines and comments are passed over.

    Raises
    ------
    NoTable
        If most lines have too few fields.
    """
    rows: list[list[str]] = []
    lines: list[int] = []
    whole = text.split("\n")
    for number, line in enumerate(whole):
        line = line.strip()
        if line and not (files.comment and line.startswith(files.comment)):
            rows.append(_fields(line, files.delimiter))
            lines.append(number)
    width = wanted.width
    if rows and not wanted.named:
        width = Counter(map(len, rows)).most_common(1)[0][0]
    needed = max(wanted.places.values(), default=0) + 1
    if needed > width:
        raise NoTable(f"most of its lines have {width} fields, and field {needed} is needed")
    uneven = [index for index, row in enumerate(rows) if len(row) != width]
    for index in uneven:
        rows[index] = [""] * width
    mark = files.limit_mark
    limits = np.zeros(len(rows), bool)
    texts: dict[str, list[str]] = {}
    for name, kind in wanted.kinds.items():
        column = [row[wanted.places[name]] for row in rows]
        if mark and kind == "number":
            limits |= [text.startswith(mark) for text in column]
            column = [text.removeprefix(mark) for text in column]
        texts[name] = column
    chunk = make_chunk(first_row, wanted.kinds, texts)
    rejected = []
    if uneven:
        shown = [whole[lines[index]].strip() for index in uneven]
        rejected.append((UNEVEN, np.array(uneven, np.int64), shown))
    places = np.array(lines, np.int64)
    return Parsed(chunk.columns, limits if limits.any() else None, places, rejected + chunk.rejected)


def _fields(line: str, delimiter: str) -> list[str]:
    if delimiter == " ":
        return line.split()
    try:
        found = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True), [])
    except csv.Error:
        return [line]
    return [text.strip() for text in found]
