"""Rows of many chunks in one set of columns, in memory that is used again and again."""

from __future__ import annotations

import threading

import numpy as np

from skytrawl.catalogs.identifiers import as_texts
from skytrawl.intake.reading import DEFAULTS

Columns = dict[str, np.ndarray]


class Collector:
    """Columns that grow chunk by chunk.

    The memory stays when the rows are taken out: fresh memory of this size costs as much time as reading the
    rows does.
    """

    def __init__(self) -> None:
        self._columns: Columns = {}
        self._names: set[str] = set()
        self._capacity = 0
        self.n = 0

    @property
    def names(self) -> set[str]:
        """Columns that there are."""
        return self._names

    def clear(self) -> None:
        """Forget all rows and which columns there were."""
        self._columns = {name: column for name, column in self._columns.items() if column.dtype.kind != "S"}
        self._names = set()
        self.n = 0

    def reserve(self, rows: int) -> None:
        """Make room for so many rows in all."""
        if rows > self._capacity:
            for name, column in self._columns.items():
                self._columns[name] = self._moved(column, column.dtype, rows)
            self._capacity = rows

    def add(self, rows: Columns) -> None:
        """Append a chunk; a column that was missing so far gets its default."""
        end = self.n + len(next(iter(rows.values())))
        if end > self._capacity:
            self.reserve(max(end, self._capacity + self._capacity // 2))
        for name in self._names - rows.keys():
            self._columns[name][self.n : end] = DEFAULTS[name]
        for name, values in rows.items():
            column = self._columns.get(name)
            if column is None or name not in self._names:
                if column is None or column.dtype != values.dtype:
                    column = self._columns[name] = np.empty(self._capacity, values.dtype)
                if self.n:
                    column[: self.n] = DEFAULTS[name]
                self._names.add(name)
            elif column.dtype != values.dtype:
                column = self._columns[name] = self._moved(column, _common(column, values), self._capacity)
            column[self.n : end] = values
        self.n = end

    def view(self) -> Columns:
        """All rows; valid until the collector changes."""
        return {name: self._columns[name][: self.n] for name in sorted(self._names)}

    def _moved(self, column: np.ndarray, dtype: np.dtype, capacity: int) -> np.ndarray:
        larger = np.empty(capacity, dtype)
        larger[: self.n] = column[: self.n]
        return larger


def _common(one: np.ndarray, other: np.ndarray) -> np.dtype:
    """The type for both; numbers become text beside text."""
    if {one.dtype.kind, other.dtype.kind} <= {"u", "S"} and one.dtype.kind != other.dtype.kind:
        return np.promote_types(as_texts(one[:0]).dtype, as_texts(other[:0]).dtype)
    return np.promote_types(one.dtype, other.dtype)


def of_thread() -> Collector:
    """The collector of this thread, emptied: a task that reads begins."""
    if not hasattr(_kept, "collector"):
        _kept.collector = Collector()
    collector: Collector = _kept.collector
    collector.clear()
    return collector


def release() -> None:
    """Give the memory of the collector back: a task that needs it for other things begins."""
    vars(_kept).clear()


# Of each thread, because a worker may run several tasks at once.
_kept = threading.local()
