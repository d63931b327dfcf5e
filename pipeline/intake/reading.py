"""From a piece of a source to checked rows in the archive's terms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs import readers
from skytrawl.catalogs.checks import Rules
from skytrawl.catalogs.identifiers import NO_ROW_ID, as_texts
from skytrawl.catalogs.readers.columns import Mapped, map_columns
from skytrawl.catalogs.readers.table import Header, Options, Piece, Reader
from skytrawl.catalogs.rows import KINDS, check_units, normalise
from skytrawl.catalogs.sky import UNPLACED, hash_of
from skytrawl.catalogs.tally import Tally
from skytrawl.catalogs.times import parse_time_format
from skytrawl.intake.request import Request
from skytrawl.kernels.rows import sky_cells

# What a row has where its source has no such column.
DEFAULTS: dict[str, Any] = {
    "ra": np.nan,
    "dec": np.nan,
    "sign": np.int8(0),
    "upper_limit": False,
    "quality": np.uint32(0),
    "rb": np.float32(np.nan),
    "exposure": np.int64(-1),
    "class": b"",
    "row_id": NO_ROW_ID,
    "row": np.int64(0),
}
# Roles that may become columns of the archive beside the required ones.
OPTIONAL = ("sign", "upper_limit", "quality", "rb", "exposure")


@dataclass
class Notes:
    """What was noticed while reading, in JSON types."""

    guessed: dict[str, dict[str, str]] = field(default_factory=dict)
    time_columns: list[str] = field(default_factory=list)
    own_origin: bool = False
    warnings: list[str] = field(default_factory=list)

    def merge(self, other: Notes) -> None:
        """Add the notes of another task."""
        self.guessed |= other.guessed
        self.time_columns += [name for name in other.time_columns if name not in self.time_columns]
        self.own_origin |= other.own_origin
        self.warnings += [text for text in other.warnings if text not in self.warnings]


@dataclass(frozen=True)
class Opened:
    """A source with its reader, and what its columns are."""

    where: str
    reader: Reader
    header: Header
    mapped: Mapped
    rules: Rules
    kinds: dict[str, str]
    options: Options


def open_source(source: Any, request: Request) -> Opened:
    """Find reader and columns of a source.

    Raises
    ------
    IngestError
        If it cannot be read, lacks columns, or states other units.
    """
    where = readers.source_name(source)
    reader, header = readers.find_reader(source, request.options, request.reader)
    rules = request.rules
    stem = source.name.split(".")[0] if isinstance(source, Path) else "table"
    mapped = map_columns(header, request.columns, rules.survey, rules.quantity, where, stem)
    check_units(header, mapped, rules, where)
    rules = replace(rules, time_format=rules.time_format or time_format(mapped, rules))
    kinds = {name: KINDS[role] for role, name in mapped.columns.items()}
    if parse_time_format(rules.time_format)[1] and "time" in mapped.columns:
        kinds[mapped.columns["time"]] = "decimal"
    options = request.options
    if request.ordered and reader.aligned:
        options = replace(options, align_on=mapped.columns.get("object"))
    return Opened(where, reader, header, mapped, rules, kinds, options)


def time_format(mapped: Mapped, rules: Rules) -> str:
    """The form of dates that the name of a time column speaks of, else the survey's."""
    name = mapped.columns.get("time", "").lower()
    for prefix, meant in (("mjd", "mjd"), ("jd", "jd"), ("hjd", "jd"), ("bjd", "jd")):
        if name == prefix or name.startswith(prefix + "_"):
            # The survey may know a truncated form of the same kind of date.
            return rules.survey.time_format if rules.survey.time_format.startswith(meant) else meant
    return rules.survey.time_format


def read_rows(
    piece: Piece, request: Request, tally: Tally, notes: Notes, chunk_rows: int | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Checked rows of a piece, chunk by chunk; every other row is counted in `tally`."""
    opened = open_source(piece.source, request)
    if opened.reader.name != "antares" and opened.mapped.guessed:
        notes.guessed[opened.where] = opened.mapped.guessed
    notes.own_origin |= parse_time_format(opened.rules.time_format)[0] == "days"
    if (column := opened.mapped.columns.get("time", "")) not in notes.time_columns:
        notes.time_columns.append(column)
    band_map = request.band_map()
    before = tally.read
    options = opened.options if chunk_rows is None else replace(opened.options, chunk_rows=chunk_rows)
    for chunk in opened.reader.chunks(piece, opened.kinds, options):
        rows = normalise(chunk, opened.mapped, opened.rules, opened.where, tally)
        if band_map is not None:
            rows["band"] = band_map[rows["band"]]
        if rows["object"].dtype.kind == "i":
            rows["object"] = as_texts(rows["object"])
        yield rows
    if tally.read == before and not piece.part:
        notes.warnings.append(f"{opened.where} has a header line but no rows")


def sky_keys(rows: dict[str, np.ndarray]) -> np.ndarray:
    """The place of each row on the curve: its HEALPix cell, or the hash of its object without a position.

    Neighbouring rows of one object and one position are looked up once.
    """
    ids = rows["object"]
    n = len(ids)
    placed = "ra" in rows and "dec" in rows
    new = np.ones(n, bool)
    new[1:] = ids[1:] != ids[:-1]
    if placed:
        ra, dec = rows["ra"], rows["dec"]
        new[1:] |= (ra[1:] != ra[:-1]) | (dec[1:] != dec[:-1])
    starts = np.flatnonzero(new)
    alone = 2 * len(starts) > n  # then it is faster to look all of them up
    picked = slice(None) if alone else starts
    if placed:
        keys = sky_cells(ra[picked], dec[picked])
        lost = keys == UNPLACED
        if lost.any():
            keys[lost] |= hash_of(ids[picked][lost]) >> np.uint64(1)
    else:
        keys = UNPLACED | (hash_of(ids[picked]) >> np.uint64(1))
    return keys if alone else np.repeat(keys, np.diff(np.append(starts, n)))
