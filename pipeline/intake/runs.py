"""Rows whose objects stand together: what the rows of an object share is held once."""

from __future__ import annotations

import numpy as np

from skytrawl.intake.collect import Columns, of_thread
from skytrawl.intake.reading import DEFAULTS

# Columns that are compared row by row and kept run by run.
SHARED = ("object", "ra", "dec", "place")


class RunRows:
    """Chunks of rows joined, with the face of :class:`skytrawl.intake.spill.SpilledRows`.

    Identifier and position of ordered input are the same over hundreds of rows: to compare them in a chunk
    that is in the cache is cheaper than to copy, group and compare them later.
    """

    def __init__(self, rows: int) -> None:
        self._rows = of_thread()
        self._rows.reserve(rows)
        self._runs: list[Columns] = []
        self._counts: list[np.ndarray] = []
        self._shared: Columns | None = None

    @property
    def n(self) -> int:
        """Number of rows."""
        return self._rows.n

    @property
    def last(self) -> object:
        """Object of the last row."""
        return self._runs[-1]["object"][-1]

    @property
    def names(self) -> set[str]:
        """Columns that there are."""
        return {*self._rows.names, *(name for run in self._runs for name in run)}

    @property
    def keys(self) -> list[str]:
        """Rows carry the number of their place themselves."""
        return [""]

    @property
    def file_of(self) -> np.ndarray:
        """Number of the place that each row comes from."""
        return self.column("place", np.dtype(np.int32), 0)

    def dtypes(self) -> dict[str, np.dtype]:
        """Types of the columns."""
        shared, _ = self._joined()
        return {name: column.dtype for name, column in (self._rows.view() | shared).items()}

    def add(self, rows: Columns) -> None:
        """Append a chunk."""
        count = len(rows["object"])
        if not count:
            return
        new = np.ones(count, bool)
        shared = {name: rows[name] for name in SHARED if name in rows}
        new[1:] = False
        for column in shared.values():
            new[1:] |= column[1:] != column[:-1]
        starts = np.flatnonzero(new)
        self._runs.append({name: column[starts] for name, column in shared.items()})
        self._counts.append(np.diff(np.append(starts, count)))
        self._shared = None
        self._rows.add({name: column for name, column in rows.items() if name not in SHARED})

    def clear(self) -> None:
        """Forget all rows."""
        self._rows.clear()
        self._runs, self._counts, self._shared = [], [], None

    def column(self, name: str, dtype: np.dtype, default: object = None) -> np.ndarray:
        """One column of all rows, or the default in every row."""
        shared, counts = self._joined()
        if name in shared:
            return np.repeat(shared[name].astype(dtype, copy=False), counts)
        if name in self._rows.names:
            return self._rows.view()[name].astype(dtype, copy=False)
        return np.full(self.n, default, dtype)

    def objects(self) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, np.ndarray] | None:
        """Identifiers, positions (None without) and numbers of rows, if each object is one stretch of rows.

        None where an object comes in several stretches, or its rows differ in position.
        """
        shared, counts = self._joined()
        ids = shared["object"]
        first = np.append(True, ids[1:] != ids[:-1])
        starts = np.flatnonzero(first)
        ra, dec = shared.get("ra"), shared.get("dec")
        if ra is not None and dec is not None:
            moved = ~first
            moved[1:] &= (ra[1:] != ra[:-1]) | (dec[1:] != dec[:-1])
            if moved.any() or not (np.isfinite(ra).all() and np.isfinite(dec).all()):
                return None
            ra, dec = ra[starts], dec[starts]
        found = ids[starts]
        ascending = np.sort(found)
        if (ascending[1:] == ascending[:-1]).any():
            return None
        return found, ra, dec, np.add.reduceat(counts, starts)

    def _joined(self) -> tuple[Columns, np.ndarray]:
        if self._shared is None:
            self._shared = {
                name: np.concatenate(
                    [run.get(name, np.full(len(run["object"]), DEFAULTS.get(name))) for run in self._runs]
                )
                for name in {name for run in self._runs for name in run}
            }
            self._all_counts = np.concatenate(self._counts)
        return self._shared, self._all_counts
