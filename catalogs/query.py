"""Questions to a finished run, answered without loading it: best rows, cones, objects, flagged rows.

NumPy and the files only: no xarray, Dask, pandas or Astropy, so that ``skytrawl query`` starts fast.
The sidecars say which rows or chunks to look at; single chunks of the columns are read and checked one
by one. Without sidecars (an unfinished run) every question is still answered, from whole columns,
partition by partition.
"""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.results import ResultsStore
from skytrawl.catalogs.runs import Run
from skytrawl.catalogs.sidecars import (
    DEPTH,
    DIRECTIONS,
    Sidecars,
    best_rows,
    main_score,
    rank_key,
    ranked,
    separation,
    unit_vectors,
)
from skytrawl.errors import NoPositionsError, ObjectNotFoundError, ParameterError

Columns = dict[str, np.ndarray]


class SidecarWarning(UserWarning):
    """A run is queried without sidecars, or with sidecars older than its results."""


def open_query(path: str | Path, job: str | None = None) -> "Query":
    """Open the current run of a job for questions; reads its small files only.

    Parameters
    ----------
    path : str or Path
        Results store, or the folder of one run.
    job : str, optional
        May be left out where the store has one job.

    Raises
    ------
    NotAnArchiveError
        If the path holds no results.
    ParameterError
        If the job is unknown or must be named.
    """
    folder = Path(path)
    if job is None and (folder / "version.npz").is_file():
        return Query(Run(folder))
    return Query(ResultsStore(folder).run(job))


class Query:
    """Questions to one run. Every answer is a dict of column arrays of equal length.

    Parameters
    ----------
    run : Run
        The run; its sidecars are used where they are current.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.partitions = run.partitions
        self.sidecars = Sidecars.open(run)
        if self.sidecars is not None:
            self.present = self.sidecars.present
        else:
            self.present = run.present()
            if self.present.any():
                warnings.warn(
                    f"{run.path} has no current sidecars (unfinished run?): questions read whole columns. "
                    "Finishing the run (the same `skytrawl run` again) writes them",
                    SidecarWarning,
                    stacklevel=3,
                )

    @property
    def missing(self) -> int:
        """Number of partitions with objects that are not done; their objects are in no answer."""
        return int(((self.partitions["n_objects"] > 0) & ~self.present).sum())

    @property
    def names(self) -> tuple[str, ...]:
        """All columns."""
        return self.run.names

    def scores(self) -> dict[str, str]:
        """Ranked columns and the direction of their interesting end, "low" or "high"."""
        return ranked(self.run)

    def units(self) -> dict[str, str]:
        """Unit of each column."""
        return {name: str(self.run.column(name).attrs.get("units", "")) for name in self.names}

    def labels(self) -> dict[str, list[Any]]:
        """Labels along the second axis of each column that has them, such as the band and colour keys."""
        coords = self.run.coords
        dims = {name: self.run.column(name).dims[1:2] for name in self.names}
        return {name: coords[dim[0]] for name, dim in dims.items() if dim and dim[0] in coords}

    def top(
        self,
        n: int = 20,
        by: str | None = None,
        *,
        direction: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> Columns:
        """The `n` most interesting objects, best first.

        Up to 128 rows come from the sidecars; deeper ones scan the score column alone, by partition.

        Parameters
        ----------
        n : int
            Number of rows; fewer are returned where fewer objects have a score.
        by : str, optional
            Score; "score" or the run's only one if left out. NaN never ranks; ties go by partition and row.
        direction : {"low", "high"}, optional
            Which end is interesting; the score's own direction if left out.
        columns : sequence of str, optional
            All if left out.

        Raises
        ------
        ParameterError
            If the column is unknown, not one number a row, or has no direction and none is given.
        """
        by, direction = self._ranking(by, direction)
        wanted = self._wanted(columns)
        if n < 1:
            raise ParameterError(f"n = {n}: ask for at least one row")
        sidecars = self.sidecars
        if sidecars is not None and n <= DEPTH and ranked(self.run).get(by) == direction:
            partition, row, found = sidecars.top(by, n)
            wide = self._rows(partition, row, [name for name in wanted if name not in found])
            return {name: found[name] if name in found else wide[name] for name in wanted}
        partition, row = self._scan(n, by, direction)
        return self._rows(partition, row, wanted)

    def cone(self, ra: float, dec: float, radius: float, *, columns: Sequence[str] | None = None) -> Columns:
        """Objects within `radius` of a position, nearest first.

        Parameters
        ----------
        ra, dec, radius : float
            Degrees (ICRS). Right ascension wraps; the rim belongs to the cone; 180 or more is the
            whole sky.
        columns : sequence of str, optional
            All if left out; ``separation`` comes always.

        Returns
        -------
        dict of ndarray
            The columns, and ``separation`` in degrees.

        Raises
        ------
        NoPositionsError
            If the objects have no positions.
        ParameterError
            For a declination beyond the poles, a negative radius or a value that is not finite.
        """
        if not self.run.has_positions:
            raise NoPositionsError(f"the objects of {self.run.path} have no sky positions: ask by object id")
        if not np.isfinite([ra, dec, radius]).all() or abs(dec) > 90 or radius < 0:
            raise ParameterError(
                f"cone({ra}, {dec}, {radius}): need finite degrees with -90 <= dec <= 90 and radius >= 0"
            )
        wanted = self._wanted(None if columns is None else [name for name in columns if name != "separation"])
        partitions, rows, distances = [], [], []
        for partition, start, stop in self._near(ra, dec, radius):
            place = self.run.read(partition, ("ra", "dec"), slice(start, stop))
            away = separation(place["ra"], place["dec"], ra, dec)
            inside = np.flatnonzero(away <= radius)
            partitions.append(np.full(len(inside), partition))
            rows.append(start + inside)
            distances.append(away[inside])
        owner, row = _joined(partitions, np.int64), _joined(rows, np.int64)
        distance = _joined(distances, np.float64)
        order = np.lexsort((row, owner, distance))
        answer = self._rows(owner[order], row[order], wanted)
        return {**answer, "separation": distance[order]}

    def object(self, object_id: int | str | bytes, *, columns: Sequence[str] | None = None) -> Columns:
        """All rows of an object (one, unless its id was ingested more than once).

        Parameters
        ----------
        object_id : int, str or bytes
            Id as catalogued.
        columns : sequence of str, optional
            All if left out.

        Raises
        ------
        ObjectNotFoundError
            If no finished partition has the id; names the nearest one.
        """
        wanted = self._wanted(columns)
        dtype = self.run.column("object_id").dtype
        try:
            key = normal_id(object_id, dtype)
        except ValueError as error:
            raise ObjectNotFoundError(f"no object {object_id!r} in {self.run.path}: {error}") from error
        near = ""
        if self.sidecars is not None:
            partition, row, near = self.sidecars.find(key)
        else:
            partition, row = self._scan_ids(key)
        if not len(row):
            hint = f"; the nearest id is {near}" if near else ""
            gone = f"; {self.missing} partitions are not done yet" if self.missing else ""
            raise ObjectNotFoundError(f"no object {object_id!r} in {self.run.path}{hint}{gone}")
        return self._rows(partition, row, wanted)

    def flagged(
        self,
        threshold: float | None = None,
        by: str | None = None,
        *,
        direction: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> Iterator[Columns]:
        """Flagged rows, one dict per partition that has any, in the order of the store.

        Parameters
        ----------
        threshold : float, optional
            Rows beyond it in the score's direction. If left out: the column ``flagged`` that the run wrote.
        by, direction : str, optional
            Score and direction, as in `top`.
        columns : sequence of str, optional
            All if left out.

        Raises
        ------
        ParameterError
            Without threshold where the run has no column ``flagged``.
        """
        wanted = self._wanted(columns)
        if threshold is None:
            if "flagged" not in self.names:
                raise ParameterError(
                    f"{self.run.path} was run without a threshold: give one now, or run the job "
                    "with --threshold"
                )
            column, low = "flagged", False
        else:
            column, end = self._ranking(by, direction)
            low = end == "low"
        return self._flagged(column, threshold, low, wanted)

    def _flagged(
        self, column: str, threshold: float | None, low: bool, wanted: list[str]
    ) -> Iterator[Columns]:
        for partition in self._used():
            values = self.run.read(partition, (column,))[column]
            if threshold is None:
                hits = values.astype(bool)
            else:
                hits = values < threshold if low else values > threshold
            rows = np.flatnonzero(hits)
            if len(rows):
                yield self._rows(np.full(len(rows), partition), rows, wanted)

    def _used(self) -> list[int]:
        return np.flatnonzero(self.present & (self.partitions["n_objects"] > 0)).tolist()

    def _wanted(self, columns: Sequence[str] | None) -> list[str]:
        names = list(self.names if columns is None else columns)
        for name in names:
            self.run.column(name)
        return names

    def _ranking(self, by: str | None, direction: str | None) -> tuple[str, str]:
        scores = ranked(self.run)
        by = main_score(scores, str(self.run.path)) if by is None else by
        column = self.run.column(by)
        if column.tail or column.dtype.kind not in "iufb":
            raise ParameterError(
                f"{by} is not one number a row ({column.dtype}{list(column.tail)}): it cannot rank"
            )
        direction = direction or scores.get(by)
        if direction not in DIRECTIONS:
            raise ParameterError(
                f"{by} declares no direction: give direction='low' or 'high', not {direction!r}"
            )
        return by, direction

    def _near(self, ra: float, dec: float, radius: float) -> Iterator[tuple[int, int, int]]:
        """Ranges of rows (partition, start, stop) that may hold objects of a cone."""
        if self.sidecars is not None:
            yield from self.sidecars.near(unit_vectors(ra, dec), radius)
            return
        for partition in self._used():
            yield partition, 0, int(self.partitions["n_objects"][partition])

    def _scan(self, n: int, by: str, direction: str) -> tuple[np.ndarray, np.ndarray]:
        """Places of the n best rows from the score column alone; memory: one partition and 2 n rows."""
        keys: list[np.ndarray] = []
        places: list[np.ndarray] = []
        held = 0
        limit: Any = None
        for partition in self._used():
            values = self.run.read(partition, (by,))[by]
            rows = best_rows(values, direction, n, limit)
            if not len(rows):
                continue
            keys.append(rank_key(values[rows], direction))
            places.append(np.column_stack([np.full(len(rows), partition), rows]))
            held += len(rows)
            if held >= 2 * n or partition == 0:
                keys, places = _best(keys, places, n)
                held = len(keys[0])
                limit = keys[0][-1] if held == n else None
        if not keys:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        keys, places = _best(keys, places, n)
        return places[0][:, 0], places[0][:, 1]

    def _scan_ids(self, key: Any) -> tuple[np.ndarray, np.ndarray]:
        found = []
        for partition in self._used():
            rows = np.flatnonzero(self.run.read(partition, ("object_id",))["object_id"] == key)
            found.append(np.column_stack([np.full(len(rows), partition), rows]))
        places = np.concatenate(found) if found else np.empty((0, 2), np.int64)
        return places[:, 0], places[:, 1]

    def _rows(self, partition: np.ndarray, row: np.ndarray, names: Sequence[str]) -> Columns:
        """Columns at single rows, in the order given; reads only the chunks that hold them."""
        order = np.lexsort((row, partition))
        partition, row = np.asarray(partition)[order], np.asarray(row)[order]
        cuts = np.flatnonzero(np.diff(partition)) + 1
        groups = [part for part in np.split(np.arange(len(row)), cuts) if len(part)]
        answer: Columns = {}
        for name in names:
            column = self.run.column(name)
            values = np.empty((len(row), *column.tail), column.dtype)
            for group in groups:
                number = int(partition[group[0]])
                slot = int(self.partitions["object_slot"][number])
                here = row[group]
                # Rows in neighbouring chunks are read together.
                chunk = here // column.layout.inner
                for piece in np.split(np.arange(len(here)), np.flatnonzero(np.diff(chunk) > 1) + 1):
                    start, stop = int(here[piece[0]]), int(here[piece[-1]]) + 1
                    block = column.read(slot, start, stop, partition=number)
                    values[group[piece]] = block[here[piece] - start]
            answer[name] = np.empty_like(values)
            answer[name][order] = values
        return answer


def normal_id(object_id: int | str | bytes, dtype: np.dtype) -> Any:
    """An id as the column keeps it; ValueError where it cannot be an id of that column."""
    if dtype.kind == "S":
        key = object_id if isinstance(object_id, bytes) else str(object_id).encode()
        if len(key) > dtype.itemsize:
            raise ValueError(f"ids have at most {dtype.itemsize} characters")
        return np.bytes_(key)
    text = object_id.decode() if isinstance(object_id, bytes) else str(object_id)
    digits = text[1:] if dtype.kind == "i" and text.startswith("-") else text
    limits = np.iinfo(dtype)
    if not (digits.isascii() and digits.isdigit()) or not limits.min <= int(text) <= limits.max:
        sign = "non-negative " if limits.min == 0 else ""
        raise ValueError(f"ids of this store are {sign}integers")
    return dtype.type(int(text))


def _best(
    keys: list[np.ndarray], places: list[np.ndarray], n: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    key, place = np.concatenate(keys), np.concatenate(places)
    order = np.lexsort((place[:, 1], place[:, 0], key))[:n]
    return [key[order]], [place[order]]


def _joined(parts: list[np.ndarray], dtype: Any) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0, dtype)
