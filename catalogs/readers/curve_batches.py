"""Rows of many small files in one chunk."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.readers.curve_parts import Fault, Part, is_number, place_names
from skytrawl.catalogs.readers.curve_text import Columns, NoTable, Parsed, parse_fast, parse_lines
from skytrawl.catalogs.readers.table import Chunk, Coded, Kinds, Places
from skytrawl.catalogs.surveys.files import Files
from skytrawl.catalogs.times import MJD_RANGE, parse_time_format
from skytrawl.errors import IngestError

REFUSED = "the file cannot be read as a light curve"
_ROW_BYTES = 32


@dataclass(frozen=True)
class Reading:
    """What is wanted of the files of a source.

    Attributes
    ----------
    source : Path
    alone : bool
        Whether the source is one file, not a folder.
    kinds : mapping of str to str
    form : Files
    chunk_rows : int
    lean : bool
        Do without pyarrow.
    timed : bool
        Whether the form of time was asked for, so that the first time of a file does not tell it.
    """

    source: Path
    alone: bool
    kinds: Kinds
    form: Files
    chunk_rows: int
    lean: bool
    timed: bool

    def columns_of(self, part: Part) -> Columns:
        """Where the columns of a part stand.

        Raises
        ------
        Fault
            If one is absent.
        """
        form = self.form
        names = part.heading if part.heading is not None else form.columns
        places = {name: place for place, name in reversed(list(enumerate(names)))}
        if part.heading is None:
            places = {str(place + 1): place for place in range(part.width)} | places
        own = {role for role, text in (("object", form.object), ("band", form.band)) if text}
        if form.limit_mark:
            own.add("upper_limit")
        kinds = {
            name: kind
            for name, kind in self.kinds.items()
            if name in places or not (name in own or name.startswith("{"))
        }
        absent = [name for name in kinds if places.get(name, part.width) >= part.width]
        if absent:
            raise Fault(f"it has {part.width} columns, and none called {absent[0]!r}")
        return Columns({name: places[name] for name in kinds}, kinds, part.width, part.heading is not None)

    def time_format(self, part: Part) -> str:
        """The form in which the first time of a part lies between 1890 and 2150; "" if none or many do."""
        if self.timed or not self.form.time_formats or "time" not in self.form.columns[:1]:
            return ""
        if not is_number(part.first):
            return ""
        time = float(part.first)
        fit = [form for form, zero in self.zeros if MJD_RANGE[0] <= time - zero <= MJD_RANGE[1]]
        return fit[0] if len(fit) == 1 else ""

    @cached_property
    def zeros(self) -> list[tuple[str, float]]:
        """Forms of time, and what brings each to MJD by subtraction."""
        return [(form, parse_time_format(form)[1]) for form in self.form.time_formats]


@dataclass
class Batch:
    """Parts of files with the same columns, until they are enough for a chunk."""

    reading: Reading
    first_row: int
    parts: list[Part] = field(default_factory=list)
    nbytes: int = 0
    key: tuple[Any, ...] = ()
    wanted: Columns | None = None
    time_format: str = ""

    def add(self, part: Part) -> Iterator[Chunk]:
        """Take a part; yields the chunk before it if that is full or the columns are others.

        Raises
        ------
        Fault
            If a wanted column is absent.
        """
        time_format = self.reading.time_format(part)
        key = (part.heading, part.width, time_format)
        full = self.nbytes + len(part.text) > self.reading.chunk_rows * _ROW_BYTES
        if key != self.key or full:
            yield from self.rest()
        if key != self.key or self.wanted is None:
            self.key = ()
            self.wanted = self.reading.columns_of(part)
            self.key, self.time_format = key, time_format
        self.parts.append(part)
        self.nbytes += len(part.text)

    def rest(self) -> Iterator[Chunk]:
        """The chunks of all parts so far."""
        parts, self.parts, self.nbytes = self.parts, [], 0
        if not parts or self.wanted is None:
            return
        reading = self.reading
        counts = [part.rows for part in parts]
        if all(part.plain for part in parts):
            text = parts[0].text if len(parts) == 1 else b"".join([part.text for part in parts])
            parsed = parse_fast(text, self.wanted, reading.form, reading.lean)
            if parsed is not None and len(parsed) == sum(counts):
                yield self._chunk(parsed, parts, counts)
                return
        for part, count in zip(parts, counts, strict=True):
            parsed = None
            if part.plain and len(parts) > 1:
                parsed = parse_fast(part.text, self.wanted, reading.form, reading.lean)
            if parsed is not None and len(parsed) == count:
                yield self._chunk(parsed, [part], [count])
                continue
            try:
                parsed = parse_lines(part.text.decode(), self.wanted, reading.form, self.first_row)
                if len(parsed):
                    yield self._chunk(parsed, [part], [len(parsed)])
            except UnicodeDecodeError as error:
                yield from self.refuse(part.name, f"byte 0x{error.object[error.start]:02x} is no text")
            except NoTable as error:
                yield from self.refuse(part.name, str(error))

    def refuse(self, name: str, reason: str) -> Iterator[Chunk]:
        """A file of a folder that cannot be read, as one row that is dropped.

        Raises
        ------
        IngestError
            If it is no file of a folder.
        """
        if self.reading.alone:
            raise IngestError(f"{self.reading.source}: {reason}: repair the file, or fetch it again")
        yield from self.rest()
        try:
            told = place_names(name, self.reading.source, self.reading.alone, self.reading.form)
        except Fault:
            told = {}
        columns: dict[str, Any] = {}
        for column, kind in self.reading.kinds.items():
            text = told.get(column, "").encode()
            if kind == "number":
                columns[column] = np.full(1, np.nan)
            elif kind == "integer":
                columns[column] = np.full(1, -1, np.int64)
            else:
                columns[column] = (
                    Coded(np.zeros(1, np.uint8), [text]) if kind == "coded" else np.array([text])
                )
        places = Places([name], np.zeros(1, np.int64), np.zeros(1, np.int64))
        yield Chunk(self.first_row, columns, [(REFUSED, np.zeros(1, np.int64), [reason])], places=places)
        self.first_row += 1

    def _chunk(self, parsed: Parsed, parts: list[Part], counts: list[int]) -> Chunk:
        rows = len(parsed)
        reading = self.reading
        columns = dict(parsed.columns)
        missing = [name for name in reading.kinds if name not in columns]
        rejected = list(parsed.rejected)
        told: list[dict[str, str]] = []
        ends = np.cumsum(counts)
        if set(missing) - {"upper_limit"}:
            for part, end, count in zip(parts, ends.tolist(), counts, strict=True):
                try:
                    told.append(place_names(part.name, reading.source, reading.alone, reading.form))
                except Fault as fault:
                    if reading.alone:
                        raise IngestError(f"{reading.source}: {fault}: name object and band") from None
                    told.append({})
                    rejected.append((REFUSED, np.arange(end - count, end), [str(fault)] * count))
        for name in missing:
            kind = reading.kinds[name]
            if name == "upper_limit":
                limits = np.zeros(rows, np.uint8) if parsed.limits is None else parsed.limits.view(np.uint8)
                flags = Coded(limits, [b"0", b"1"])
                columns[name] = flags if kind == "coded" else flags.texts()
                continue
            texts = [found.get(name, "").encode() for found in told]
            if kind == "coded":
                codes = {text: code for code, text in enumerate(dict.fromkeys(texts))}
                numbers = np.array([codes[text] for text in texts], np.int32)
                columns[name] = Coded(np.repeat(numbers, counts), list(codes))
            else:
                columns[name] = np.repeat(np.array(texts, "S"), counts)
        chunk = Chunk(self.first_row, columns, rejected, time_format=self.time_format)
        chunk.places = _places(parsed, parts, ends, reading.alone)
        self.first_row += rows
        return chunk


def _places(parsed: Parsed, parts: list[Part], ends: np.ndarray, alone: bool) -> Places:
    names = ["" if alone else part.name for part in parts]
    if parsed.lines is None:
        starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        return Places(names, starts, np.array([part.first_line for part in parts], np.int64))
    starts = np.flatnonzero(np.diff(parsed.lines, prepend=-2) != 1)
    return Places(names * len(starts), starts, parsed.lines[starts] + parts[0].first_line)
