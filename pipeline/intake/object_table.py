"""A table with one row an object, such as positions and classes, joined to rows by identifier."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs import readers
from skytrawl.catalogs.identifiers import alike, as_texts, plain_integers
from skytrawl.catalogs.readers.columns import USUAL
from skytrawl.catalogs.readers.table import Chunk
from skytrawl.catalogs.rows import KINDS
from skytrawl.errors import IngestError
from skytrawl.intake.journal import Journal
from skytrawl.intake.reading import DEFAULTS
from skytrawl.intake.request import Request
from skytrawl.kernels.rows import runs

_ROLES = ("object", "ra", "dec", "class")


class ObjectTable:
    """Columns sorted by identifier, in files that are mapped, so that workers share them in memory.

    Parameters
    ----------
    folder : Path
        As :func:`prepare` made it.
    """

    def __init__(self, folder: Path) -> None:
        self.columns = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
        self.ids = self.columns.pop("object")

    @staticmethod
    @lru_cache(maxsize=2)
    def cached(folder: Path) -> ObjectTable:
        """The table, opened once a process."""
        return ObjectTable(folder)

    @classmethod
    def of(cls, journal: Journal) -> ObjectTable | None:
        """The table of an ingest, if it has one."""
        folder = journal.storage.path(journal.key("objects"))
        return cls.cached(folder) if folder.is_dir() else None

    def _place(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row of each identifier, and whether there is one."""
        if ids.dtype.kind != self.ids.dtype.kind:
            if ids.dtype.kind == "S":  # texts that are no numbers are not in a table of numbers
                numbers, plain = plain_integers(ids)
                place, known = self._place(numbers)
                return place, known & plain
            ids = as_texts(ids)
        place = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return place, np.asarray(self.ids[place] == ids)

    def contains(self, ids: np.ndarray) -> np.ndarray:
        """Which identifiers the table has (bool)."""
        return self._place(ids)[1]

    def apply(self, rows: dict[str, np.ndarray]) -> None:
        """Replace position and class of rows by those of the table."""
        ids = rows["object"]
        starts = runs(ids) if ids.dtype == np.uint64 else np.arange(len(ids))
        place, known = self._place(ids[starts])
        counts = np.diff(np.append(starts, len(ids)))
        all_known = np.repeat(known, counts)
        for role, values in self.columns.items():
            new = np.repeat(values[place], counts)
            old = rows.get(role)
            if old is None:
                old = np.full(len(ids), DEFAULTS[role])
            rows[role] = np.where(all_known, new, old)


def prepare(objects: Any, request: Request, folder: Path, warnings: list[str]) -> int:
    """Read a table of objects and store it sorted; returns its number of objects.

    The table is sorted in memory: about 60 bytes an object.

    Raises
    ------
    IngestError
        If the table lacks columns or rows, or holds what is no position in degrees.
    """
    listed = readers.sources_of(objects)
    parts: dict[str, list[np.ndarray]] = {}
    for source in listed:
        for role, column in _read(source, request).items():
            parts.setdefault(role, []).append(column)
    if any(len(columns) != len(listed) for columns in parts.values()):
        raise IngestError(f"the tables of objects have different columns: {', '.join(map(str, listed))}")
    table = {role: np.concatenate(alike(columns)) for role, columns in parts.items()}
    where = ", ".join(readers.source_name(source) for source in listed[:3])
    if table["object"].dtype.kind == "S":
        numbers, plain = plain_integers(table["object"])
        table["object"] = numbers if plain.all() else table["object"]
    _, first = np.unique(table["object"], return_index=True)
    if repeated := len(table["object"]) - len(first):
        warnings.append(f"{repeated} rows of {where} repeat an object: its first row is taken")
    folder.mkdir(parents=True, exist_ok=True)
    for role, column in table.items():
        np.save(folder / f"{role}.npy", column[first])
    return len(first)


def _read(source: Any, request: Request) -> dict[str, np.ndarray]:
    where = readers.source_name(source)
    options = replace(request.options, files=())  # no light curve, whatever its name
    found, header = readers.find_reader(source, options)
    lower = {name.lower(): name for name in reversed(header.names)}
    mapped = {
        role: next((lower[name] for name in (role, *USUAL[role]) if name in lower), "") for role in _ROLES
    }
    lone = bool(mapped["ra"]) != bool(mapped["dec"])
    if not mapped["object"] or lone or not (mapped["ra"] or mapped["class"]):
        raise IngestError(
            f"{where}: a table of objects needs a column object and class, or ra and dec, or all; it has "
            f"{', '.join(header.names)}"
        )
    kinds = {name: KINDS[role] for role, name in mapped.items() if name}
    chunks = [
        chunk for piece in found.pieces(source, options) for chunk in found.chunks(piece, kinds, options)
    ]
    if not chunks:
        raise IngestError(f"{where} has no rows")
    table = {
        role: np.concatenate([chunk.columns[name] for chunk in chunks])
        for role, name in mapped.items()
        if name
    }
    if table["object"].dtype.kind == "i":
        table["object"] = as_texts(table["object"])
    _check_positions(chunks, table, where)
    return table


def _check_positions(chunks: list[Chunk], table: dict[str, np.ndarray], where: str) -> None:
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
