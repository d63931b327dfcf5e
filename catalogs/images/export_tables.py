"""Tables of an export as CSV, JSON or Parquet, with units; rows may hold lists."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.export import new_file, text, write_table
from skytrawl.catalogs.images.frame import plain
from skytrawl.catalogs.images.table import OFFSETS, ragged_names
from skytrawl.catalogs.simulate_tables import require_pyarrow

FORMATS = ("csv", "json", "parquet")
_ROWS = 10_000  # rows that are put into words at once


@dataclass(frozen=True)
class Table:
    """Columns and what they mean.

    Attributes
    ----------
    columns : dict of str to array
        A column of lists is its values one after the other, with ``<name>_offsets``, as in stores of frames.
    about : dict of str to (unit, meaning)
    """

    columns: dict[str, np.ndarray]
    about: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def ragged(self) -> list[str]:
        """Columns of lists."""
        return ragged_names(self.columns)

    def names(self) -> list[str]:
        """Columns without the offsets of those of lists."""
        offsets = {name + OFFSETS for name in self.ragged}
        return [name for name in self.columns if name not in offsets]

    def __len__(self) -> int:
        for name in self.names():
            offsets = self.columns.get(name + OFFSETS)
            return len(self.columns[name]) if offsets is None else len(offsets) - 1
        return 0

    def values(self, name: str, rows: slice = slice(None)) -> Any:
        """Values of a column in some rows: an array, or a list of arrays."""
        offsets = self.columns.get(name + OFFSETS)
        if offsets is None:
            return text(self.columns[name][rows])
        numbers = range(len(offsets) - 1)[rows]
        return [self.columns[name][offsets[number] : offsets[number + 1]] for number in numbers]

    def unit(self, name: str) -> str:
        """Unit of a column, as FITS and VOTable know it; "" without one."""
        return unit_of(self.about.get(name, ("", ""))[0])

    def described(self) -> dict[str, dict[str, str]]:
        """Unit and meaning of the columns that are known."""
        return {
            name: {"unit": self.unit(name), "description": self.about[name][1]}
            for name in self.names()
            if name in self.about
        }


def unit_of(unit: str, image: str = "") -> str:
    """Unit in the spelling of the FITS standard; what has none there is a plain number.

    Parameters
    ----------
    unit : str
        As in the tables of columns: "px", "sigma" and "image" are our own words.
    image : str
        Unit of the pixels.
    """
    return {"px": "pixel", "sigma": "", "image": image}.get(unit, unit)


def write(table: Table, path: Path, format: str) -> None:
    """Write a table to a file, which takes its name when it is complete.

    CSV has lists as numbers with blanks between them. JSON is an object with ``columns`` (unit and
    description) and ``rows``, an array of objects in which NaN is null. Parquet has list columns, and unit
    and description as metadata of the fields.

    Raises
    ------
    BackendUnavailableError
        If pyarrow is missing and Parquet is asked for.
    """
    if format == "csv":
        columns = {name: _words(table, name) for name in table.names()}
        write_table(columns, path, format="csv")
    elif format == "json":
        with new_file(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            file.writelines(_json(table))
    else:
        _parquet(table, path)


def _words(table: Table, name: str) -> np.ndarray:
    values = table.values(name)
    if isinstance(values, np.ndarray):
        return values
    return np.array([" ".join(map(repr, item.tolist())) for item in values] or [], np.str_)


def _json(table: Table) -> Iterator[str]:
    names = table.names()
    yield '{"columns": ' + json.dumps(table.described(), ensure_ascii=False) + ', "rows": ['
    between = "\n"
    for start in range(0, len(table), _ROWS):
        part = slice(start, start + _ROWS)
        columns = [[plain(value) for value in table.values(name, part)] for name in names]
        for row in zip(*columns, strict=True):
            yield between + json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False)
            between = ",\n"
    yield "\n]}\n"


def _parquet(table: Table, path: Path) -> None:
    require_pyarrow("A table in Parquet")
    import pyarrow
    from pyarrow import parquet

    fields, arrays = [], []
    about: Mapping[str, Mapping[str, str]] = table.described()
    for name in table.names():
        array = pyarrow.array(text(table.columns[name]))
        if name in table.ragged:
            array = pyarrow.LargeListArray.from_arrays(table.columns[name + OFFSETS], array)
        notes = {key: value for key, value in about.get(name, {}).items() if value}
        fields.append(pyarrow.field(name, array.type, metadata=notes or None))
        arrays.append(array)
    with new_file(path) as temporary:
        found = pyarrow.Table.from_arrays(arrays, schema=pyarrow.schema(fields))
        parquet.write_table(found, temporary, compression="zstd")
