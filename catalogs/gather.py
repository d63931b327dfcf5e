"""All rows of an ingest: sources read and checked one by one, then joined into one set of columns."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs import readers
from skytrawl.catalogs.identifiers import NO_ROW_ID, alike, as_texts, plain_integers
from skytrawl.catalogs.readers.columns import USUAL, Mapped, map_columns
from skytrawl.catalogs.readers.table import Options
from skytrawl.catalogs.rows import KINDS, Rules, check_units, normalise
from skytrawl.catalogs.tally import EXAMPLES, Tally
from skytrawl.catalogs.times import parse_time_format
from skytrawl.errors import IngestError

_DEFAULTS: dict[str, Any] = {
    "ra": np.nan,
    "dec": np.nan,
    "sign": np.int8(0),
    "upper_limit": False,
    "quality": np.uint32(0),
    "rb": np.float32(np.nan),
    "exposure": np.int64(-1),
    "class": b"",
    "row_id": NO_ROW_ID,
}


@dataclass
class Gathered:
    """The rows of all sources, and what was found on the way."""

    rules: Rules
    options: Options
    columns: dict[str, Any]
    reader: str | None
    tally: Tally = field(default_factory=Tally)
    chunks: list[dict[str, np.ndarray]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    guessed: dict[str, dict[str, str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    time_columns: set[str] = field(default_factory=set)
    own_origin: bool = False
    lost: int = 0

    def source(self, source: Any) -> None:
        """Read and check one source."""
        where = readers.source_name(source)
        found, header = readers.find_reader(source, self.options, self.reader)
        rules = self.rules
        stem = source.name.split(".")[0] if isinstance(source, Path) else "table"
        mapped = map_columns(header, self.columns, rules.survey, rules.quantity, where, stem)
        check_units(header, mapped, rules, where)
        rules = replace(rules, time_format=rules.time_format or _time_format(mapped, rules))
        origin, offset = parse_time_format(rules.time_format)
        self.own_origin |= origin == "days"
        self.time_columns.add(mapped.columns.get("time", ""))
        kinds = {name: KINDS[role] for role, name in mapped.columns.items()}
        if offset and "time" in mapped.columns:
            kinds[mapped.columns["time"]] = "decimal"
        if found.name != "antares" and mapped.guessed:
            self.guessed[where] = mapped.guessed
        before = self.tally.read
        for piece in found.pieces(source, self.options):
            for chunk in found.chunks(piece, kinds, self.options):
                rows = normalise(chunk, mapped, rules, where, self.tally)
                rows["file"] = np.full(len(rows["row"]), len(self.names), np.int32)
                self.chunks.append(rows)
        self.names.append(where)
        if self.tally.read == before:
            self.warnings.append(f"{where} has a header line but no rows")


def _time_format(mapped: Mapped, rules: Rules) -> str:
    name = mapped.columns.get("time", "").lower()
    for prefix, meant in (("mjd", "mjd"), ("jd", "jd"), ("hjd", "jd"), ("bjd", "jd")):
        if name == prefix or name.startswith(prefix + "_"):
            # The survey may know a truncated form of the same kind of date.
            return rules.survey.time_format if rules.survey.time_format.startswith(meant) else meant
    return rules.survey.time_format


def joined(read: Gathered) -> dict[str, np.ndarray]:
    """All kept rows as one set of columns."""
    kept = sum(len(chunk["row"]) for chunk in read.chunks)
    if not read.tally.read:
        raise IngestError(f"no rows in {', '.join(read.names)}: there is nothing to put into an archive")
    if not kept:
        reasons = "\n".join(
            f"  {count} rows: {reason} ({'; '.join(read.tally.examples[reason][:1])})"
            for reason, count in read.tally.dropped.items()
        )
        raise IngestError(f"none of {read.tally.read} rows can be used:\n{reasons}")
    roles = {role for chunk in read.chunks for role in chunk}
    rows = {}
    for role in sorted(roles):
        parts = [
            chunk[role] if role in chunk else np.full(len(chunk["row"]), _DEFAULTS[role])
            for chunk in read.chunks
        ]
        rows[role] = np.concatenate(alike(parts) if role == "object" else parts)
    rows["object"] = _integers(rows["object"])
    read.chunks.clear()
    present, losers = alike([rows["object"], read.tally.losers])
    lost = np.setdiff1d(losers, present)
    read.lost = len(lost)
    if read.lost:
        shown = ", ".join(name.decode(errors="replace") for name in as_texts(lost[:EXAMPLES]).tolist())
        read.warnings.append(
            f"{len(lost)} objects lost all their rows ({shown}{', ...' if len(lost) > 3 else ''})"
        )
    read.warnings += [f"{text} ({count} rows)" if count else text for text, count in read.tally.notes.items()]
    read.warnings += [
        f"{count} rows dropped: {reason}; add it to a survey file of your own if it is meant"
        for reason, count in read.tally.dropped.items()
        if reason.startswith("unknown band")
    ]
    return rows


def _integers(ids: np.ndarray) -> np.ndarray:
    """uint64 where every identifier is a plain non-negative integer, else bytes."""
    if ids.dtype.kind == "i":
        ids = as_texts(ids)
    if ids.dtype.kind == "S":
        values, plain = plain_integers(ids)
        if plain.all():
            return values
    return ids


def apply_objects(rows: dict[str, np.ndarray], objects: Any, read: Gathered) -> None:
    """Positions and classes from a table of objects.

    Raises
    ------
    IngestError
        If the table lacks columns or rows, or holds what is no position in degrees.
    """
    (source,) = readers.sources_of(objects)
    where = readers.source_name(source)
    found, header = readers.find_reader(source, read.options)
    lower = {name.lower(): name for name in reversed(header.names)}
    mapped = {
        role: next((lower[name] for name in (role, *USUAL[role]) if name in lower), "")
        for role in ("object", "ra", "dec", "class")
    }
    lone = bool(mapped["ra"]) != bool(mapped["dec"])
    if not mapped["object"] or lone or not (mapped["ra"] or mapped["class"]):
        raise IngestError(
            f"{where}: a table of objects needs a column object and class, or ra and dec, or all; it has "
            f"{', '.join(header.names)}"
        )
    kinds = {name: KINDS[role] for role, name in mapped.items() if name}
    chunks = [
        chunk
        for piece in found.pieces(source, read.options)
        for chunk in found.chunks(piece, kinds, read.options)
    ]
    if not chunks:
        raise IngestError(f"{where} has no rows")
    table = {
        role: np.concatenate([chunk.columns[name] for chunk in chunks])
        for role, name in mapped.items()
        if name
    }
    _check_positions(chunks, table, where)
    rows["object"], table["object"] = alike([rows["object"], _integers(table["object"])])
    unique, inverse = np.unique(rows["object"], return_inverse=True)
    named, first = np.unique(table["object"], return_index=True)
    place = np.minimum(np.searchsorted(named, unique), len(named) - 1)
    known = named[place] == unique
    for role in ("ra", "dec", "class"):
        if role not in table:
            continue
        old = rows.get(role)
        if old is None:
            old = np.full(len(inverse), _DEFAULTS[role])
        new = table[role][first[place]]
        rows[role] = np.where(known[inverse], new[inverse], old)
    if repeated := len(table["object"]) - len(named):
        read.warnings.append(f"{repeated} rows of {where} repeat an object: its first row is taken")
    unused = len(named) - int(known.sum())
    if unused:
        read.warnings.append(f"{unused} objects of {where} have no observations and are left out")
    if not known.all():
        read.warnings.append(f"{int((~known).sum())} objects are not in {where}")


def _check_positions(chunks: Sequence[readers.Chunk], table: dict[str, np.ndarray], where: str) -> None:
    """Refuse rows of a table of objects that are no positions; missing ones (NaN) are none."""
    faults = [
        (chunk.first_row + int(index), f"{text!r}: {reason}")
        for chunk in chunks
        for reason, indices, texts in chunk.rejected
        for index, text in zip(indices, texts, strict=True)
    ]
    for role, low, high in (("ra", 0.0, 360.0), ("dec", -90.0, 90.0)):
        values = table.get(role, np.zeros(0))
        wrong = np.flatnonzero((values < low) | (values > high))
        faults += [(int(row) + 1, f"{role} is {values[row]:g}") for row in wrong]
    if faults:
        row, what = min(faults)
        raise IngestError(
            f"{where}, row {row}: {what} ({len(faults)} such rows). Positions are degrees, ra 0 to 360 "
            "and dec -90 to 90: repair or remove these rows"
        )
