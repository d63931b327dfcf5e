"""The ``.skytrawl`` accessor of xarray: questions to results without loading them, joins, tables.

A dataset as it was opened is answered from the store (`skytrawl.catalogs.query`). One that was derived
from it (selected, masked, extended, computed), or that never was in a store, is answered from its own
arrays, and what that loads is said below. The arrays themselves decide which of both it is, never the
attributes, which survive selections.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from skytrawl.catalogs import export, match
from skytrawl.catalogs.query import Query, normal_id
from skytrawl.catalogs.results_view import untouched
from skytrawl.catalogs.runs import Run, unknown
from skytrawl.catalogs.sidecars import DIRECTIONS, best_rows, main_score, rank_key, separation
from skytrawl.errors import (
    NoPositionsError,
    ObjectNotFoundError,
    ParameterError,
)

BLOCK_ROWS = 1_000_000


@xr.register_dataset_accessor("skytrawl")
class SkytrawlDataset:
    """Questions to the results of one job."""

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset
        self._opened: Query | None = None

    def top(
        self,
        n: int = 20,
        by: str | None = None,
        *,
        direction: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> xr.Dataset:
        """The `n` most interesting objects, best first; NaN never ranks.

        Opened results: loads `n` rows, from sidecars up to n = 128 and else after a scan of the score column.
        Derived datasets: computes the score column chunk by chunk; the rows stay lazy.

        Parameters
        ----------
        n : int
        by : str, optional
            Score; may be left out where one variable has the attribute ``direction``.
        direction : {"low", "high"}, optional
            The variable's own if left out.
        columns : sequence of str, optional
        """
        query = self._query()
        if query is not None:
            return self._answer(query.top(n, by, direction=direction, columns=self._columns(columns)))
        score, direction = self._ranking(by, direction)
        if n < 1:
            raise ParameterError(f"n = {n}: ask for at least one row")
        return self._pick(_best_of(score, direction, n), columns)

    def cone(
        self, ra: float, dec: float, radius: float, *, columns: Sequence[str] | None = None
    ) -> xr.Dataset:
        """Objects within `radius` of a position (degrees, ICRS), nearest first, with their ``separation``.

        Opened results: loads the chunks around the cone. Derived datasets: loads ra and dec; the rows
        stay lazy.

        Raises
        ------
        NoPositionsError
            If the objects have no positions.
        """
        query = self._query()
        if query is not None:
            return self._answer(query.cone(ra, dec, radius, columns=self._columns(columns)))
        if not {"ra", "dec"} <= set(self._dataset.variables):
            raise NoPositionsError("this dataset has no variables ra and dec")
        if not np.isfinite([ra, dec, radius]).all() or abs(dec) > 90 or radius < 0:
            raise ParameterError(
                f"cone({ra}, {dec}, {radius}): need finite degrees with -90 <= dec <= 90 and radius >= 0"
            )
        away = separation(self._dataset["ra"].values, self._dataset["dec"].values, ra, dec)
        rows = np.flatnonzero(away <= radius)
        rows = rows[np.argsort(away[rows], kind="stable")]
        found = self._pick(rows, columns)
        return found.assign_coords(separation=("object", away[rows], _SEPARATION))

    def object(self, object_id: int | str | bytes, *, columns: Sequence[str] | None = None) -> xr.Dataset:
        """One object by its id, as a dataset of one row (more if its id was ingested more than once).

        Opened results: loads this row. Derived datasets: loads object_id; the row stays lazy.

        Raises
        ------
        ObjectNotFoundError
            If the id is not there.
        """
        query = self._query()
        if query is not None:
            return self._answer(query.object(object_id, columns=self._columns(columns)))
        ids = self._ids()
        try:
            rows = np.flatnonzero(ids == normal_id(object_id, ids.dtype))
        except ValueError as error:
            raise ObjectNotFoundError(f"no object {object_id!r}: {error}") from error
        if not len(rows):
            raise ObjectNotFoundError(f"no object {object_id!r} among the {len(ids)} of this dataset")
        return self._pick(rows, columns)

    def flagged(
        self,
        threshold: float | None = None,
        by: str | None = None,
        *,
        direction: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> xr.Dataset:
        """Flagged rows in the order of the store: variable ``flagged``, or scores beyond `threshold`.

        Opened results: reads the deciding column by partition and loads the flagged rows. Derived
        datasets: loads the deciding column; the rows stay lazy.
        """
        query = self._query()
        if query is not None:
            wanted = self._columns(columns)
            pieces = list(query.flagged(threshold, by, direction=direction, columns=wanted))
            if pieces:
                return self._answer(export.joined(pieces))
            return self._pick(np.empty(0, np.int64), columns)
        if threshold is None:
            if "flagged" not in self._dataset.variables:
                raise ParameterError("this dataset has no variable 'flagged': give a threshold")
            return self._pick(np.flatnonzero(self._dataset["flagged"].values.astype(bool)), columns)
        score, direction = self._ranking(by, direction)
        hits = score.values < threshold if direction == "low" else score.values > threshold
        return self._pick(np.flatnonzero(hits), columns)

    def join(
        self, other: Any, *, on: str = "object_id", how: str = "inner", suffix: str = "_other"
    ) -> xr.Dataset:
        """Rows of this dataset beside the columns of another table, matched by object id.

        Loads the ids of this dataset, and `other`'s rows that match; this dataset's own columns stay lazy.

        Parameters
        ----------
        other : Dataset, DataTree of one job, pandas.DataFrame, astropy Table, or mapping of arrays
            Another job's results, or any table with ids.
        on : str
            Name of the id column in `other`.
        how : {"inner", "left"}
            Only rows that match, or all rows: unmatched ones get NaN, "" or the dtype's missing value.
        suffix : str
            Added to names of `other` that are taken; ra, dec, healpix and class that both have are kept once.

        Raises
        ------
        ArchiveMismatchError
            If both are results and of different archives.
        ParameterError
            If `other` lacks the column `on`, or holds an id twice.
        """
        if "object_id" not in self._dataset.variables:
            raise ParameterError("this dataset has no variable object_id")
        return match.join(self._dataset, other, on=on, how=how, suffix=suffix)

    def to_table(
        self,
        format: str = "pandas",
        path: str | Path | None = None,
        *,
        columns: Sequence[str] | None = None,
    ) -> Any:
        """All rows as a table. Loads the dataset; Parquet and CSV go through a million rows at a time.

        Parameters
        ----------
        format : {"pandas", "astropy", "parquet", "csv", "ecsv", "votable"}
            The first two return a DataFrame or a Table with units, the others write `path` and return it.
        path : str or Path, optional
            File, replaced.
        columns : sequence of str, optional

        Raises
        ------
        ParameterError
            For an unknown format, or a file format without path.
        """
        if format not in export.FORMATS:
            raise ParameterError(unknown("table format", format, export.FORMATS))
        names = self._columns(columns) or self._names()
        dataset = self._dataset
        units = {name: str(dataset[name].attrs.get("units", "")) for name in names}
        coords = {
            name: dataset[str(dataset[name].dims[1])].values.tolist()
            for name in names
            if dataset[name].ndim == 2 and dataset[name].dims[1] in dataset.coords
        }
        if format in ("pandas", "astropy"):
            whole = {name: dataset[name].values for name in names}
            return export.to_pandas(whole, coords) if format == "pandas" else export.to_astropy(whole, units)
        if path is None:
            raise ParameterError(f"format {format!r} writes a file: give its path")
        export.write_table(self._blocks(names), path, units=units, coords=coords, format=format)
        return Path(path)

    def _blocks(self, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        total = self._dataset.sizes["object"]
        for start in range(0, max(total, 1), BLOCK_ROWS):
            part = self._dataset.isel(object=slice(start, start + BLOCK_ROWS))
            yield {name: part[name].values for name in names}

    def _names(self) -> list[str]:
        variables = self._dataset.variables
        names = [str(name) for name, variable in variables.items() if variable.dims[:1] == ("object",)]
        identity = [name for name in names if name in self._dataset.coords]
        return [*identity, *(name for name in names if name not in identity)]

    def _columns(self, columns: Sequence[str] | None) -> list[str] | None:
        names = self._names()
        if columns is None:
            return names
        for name in columns:
            if name not in names:
                raise ParameterError(unknown("column", name, names))
        return list(columns)

    def _query(self) -> Query | None:
        """The store behind a dataset that is still as it was opened, else None."""
        if "object" not in self._dataset.dims:
            raise ParameterError("questions need a dataset with dim 'object': choose the group of a job")
        path = self._dataset.attrs.get("path")
        names = self._names()
        if path is None or not names or not all(untouched(self._dataset[name].variable) for name in names):
            return None
        if self._opened is None:
            run = Run(path)
            if not set(names) <= set(run.names):
                return None
            self._opened = Query(run)
        return self._opened

    def _answer(self, columns: Mapping[str, np.ndarray]) -> xr.Dataset:
        """Columns of an answer as a loaded dataset with the attributes of this one."""
        source = self._dataset
        variables: dict[str, Any] = {}
        for name, values in columns.items():
            if name == "separation":
                variables[name] = ("object", values, _SEPARATION)
            else:
                variables[name] = (source[name].dims, values, dict(source[name].attrs))
        dims = {dim for name in columns if name in source for dim in source[name].dims}
        variables |= {str(dim): source[dim].variable for dim in dims if dim in source.coords}
        found = xr.Dataset(variables, attrs=dict(source.attrs))
        return found.set_coords([name for name in columns if name in source.coords or name == "separation"])

    def _pick(self, rows: np.ndarray, columns: Sequence[str] | None) -> xr.Dataset:
        names = self._columns(columns)
        chosen: xr.Dataset = self._dataset[names or []].isel(object=rows)
        # Selecting variables takes their coordinates along; a choice of columns is meant as it is said.
        return chosen.drop_vars(
            [name for name in self._names() if name not in (names or [])], errors="ignore"
        )

    def _ids(self) -> np.ndarray:
        if "object_id" not in self._dataset.variables:
            raise ParameterError("this dataset has no variable object_id")
        return self._dataset["object_id"].values

    def _ranking(self, by: str | None, direction: str | None) -> tuple[xr.DataArray, str]:
        variables = self._dataset.variables
        scores = [
            str(name)
            for name, variable in variables.items()
            if variable.attrs.get("direction") in DIRECTIONS and variable.dims == ("object",)
        ]
        by = main_score(scores, "this dataset") if by is None else by
        if by not in variables:
            raise ParameterError(unknown("variable", by, [str(name) for name in variables]))
        score = self._dataset[by]
        if score.dims != ("object",) or score.dtype.kind not in "iufb":
            raise ParameterError(f"{by} is not one number an object ({score.dtype}{list(score.dims)})")
        direction = direction or score.attrs.get("direction")
        if direction not in DIRECTIONS:
            raise ParameterError(f"{by} declares no direction: give direction='low' or 'high'")
        return score, direction


@xr.register_datatree_accessor("skytrawl")
class SkytrawlTree:
    """Questions to a results store: those of `SkytrawlDataset`, asked of one of its jobs."""

    def __init__(self, tree: xr.DataTree) -> None:
        self._tree = tree

    def job(self, name: str | None = None) -> SkytrawlDataset:
        """The accessor of one job's dataset; the name may be left out where there is one job.

        Raises
        ------
        ParameterError
            If the job is unknown or must be named.
        """
        if "object" in self._tree.dims and name is None:
            return SkytrawlDataset(self._tree.to_dataset())
        jobs = [str(child) for child in self._tree.children]
        if name is None:
            if len(jobs) != 1:
                raise ParameterError(f"name the job: {', '.join(jobs) or 'there is none'}")
            name = jobs[0]
        if name not in jobs:
            raise ParameterError(unknown("job", name, jobs))
        return SkytrawlDataset(self._tree[name].to_dataset())

    def top(self, n: int = 20, by: str | None = None, *, job: str | None = None, **words: Any) -> xr.Dataset:
        """See `SkytrawlDataset.top`: loads n rows of opened results."""
        return self.job(job).top(n, by, **words)

    def cone(
        self, ra: float, dec: float, radius: float, *, job: str | None = None, **words: Any
    ) -> xr.Dataset:
        """See `SkytrawlDataset.cone`: loads the chunks around the cone."""
        return self.job(job).cone(ra, dec, radius, **words)

    def object(self, object_id: int | str | bytes, *, job: str | None = None, **words: Any) -> xr.Dataset:
        """See `SkytrawlDataset.object`: loads one row."""
        return self.job(job).object(object_id, **words)

    def flagged(
        self, threshold: float | None = None, by: str | None = None, *, job: str | None = None, **words: Any
    ) -> xr.Dataset:
        """See `SkytrawlDataset.flagged`: loads the flagged rows."""
        return self.job(job).flagged(threshold, by, **words)

    def join(self, other: Any, *, job: str | None = None, **words: Any) -> xr.Dataset:
        """See `SkytrawlDataset.join`: loads the ids and the other table's rows."""
        return self.job(job).join(other, **words)

    def to_table(
        self, format: str = "pandas", path: Any = None, *, job: str | None = None, **words: Any
    ) -> Any:
        """See `SkytrawlDataset.to_table`: loads all rows."""
        return self.job(job).to_table(format, path, **words)


_SEPARATION = {"units": "deg", "long_name": "distance from the centre of the cone"}


def _best_of(score: xr.DataArray, direction: str, n: int) -> np.ndarray:
    """Rows of the n best values; a Dask column is reduced chunk by chunk."""
    data: Any = score.variable._data
    if not hasattr(data, "dask"):
        return best_rows(score.values, direction, n)
    import dask

    pieces = data.to_delayed().ravel()
    found = dask.compute(*[dask.delayed(_best_piece)(piece, direction, n) for piece in pieces])
    starts = np.concatenate([[0], np.cumsum(data.chunks[0])])
    rows = np.concatenate([start + piece[0] for start, piece in zip(starts, found, strict=False)])
    key = rank_key(np.concatenate([piece[1] for piece in found]), direction)
    return rows[np.lexsort((rows, key))[:n]]


def _best_piece(values: np.ndarray, direction: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    rows = best_rows(values, direction, n)
    return rows, values[rows]
