"""Archives and results as xarray sees them: the gaps between partitions are gone, indexing stays lazy.

The ``skytrawl`` engine of :func:`xarray.open_dataset` and :func:`xarray.open_datatree`. A chunk is a
partition. What travels to a worker is the name of the store, not its partition table.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.shards import SlotFile
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.writer import store_attrs
from skytrawl.errors import ArchiveError

__all__ = ["SkytrawlBackend", "SlotArray", "SlotTable", "archive_datasets", "archive_tree"]


@dataclass(frozen=True, eq=False)
class SlotTable:
    """Where the rows of a compact axis lie.

    Attributes
    ----------
    slots : int64 array of shape (partitions,)
        First slot of each partition.
    starts : int64 array of shape (partitions + 1,)
        First row of each partition on the compact axis, and the total.
    present : bool array of shape (partitions,), optional
        Partitions that have been written; rows of the others read as the fill value. None: all.
    shifts : int64 array of shape (partitions,), optional
        Added to the values of each partition (for indices that are stored relative to it).
    reload : tuple, optional
        Function and its arguments that make this table again; pickled in place of the arrays.
    """

    slots: np.ndarray
    starts: np.ndarray
    present: np.ndarray | None = None
    shifts: np.ndarray | None = None
    reload: tuple[Callable[..., "SlotTable"], tuple[Any, ...]] | None = field(default=None, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.reload is not None:
            return self.reload
        return SlotTable, (self.slots, self.starts, self.present, self.shifts)

    @property
    def rows(self) -> int:
        """Length of the compact axis."""
        return int(self.starts[-1])

    @property
    def chunks(self) -> tuple[int, ...]:
        """Rows of the partitions that have any."""
        counts = np.diff(self.starts)
        return tuple(counts[counts > 0].tolist())


class SlotArray(BackendArray):
    """A lazy array on a compact axis, read from the slots of its partitions.

    Parameters
    ----------
    array : SlotFile
        The array on disk.
    table : SlotTable
        Where its rows lie.
    fill : object, optional
        Value of partitions that are not present; by default that of the array.
    """

    def __init__(self, array: SlotFile, table: SlotTable, fill: object = None) -> None:
        self.array = array
        self.table = table
        self.fill = array.fill if fill is None else fill
        self.shape = (table.rows, *array.tail)
        self.dtype = array.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        if isinstance(key, indexing.BasicIndexer | indexing.OuterIndexer):
            return self._outer(key.tuple)
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._outer
        )

    def _outer(self, key: tuple[Any, ...]) -> np.ndarray:
        values = self.rows(key[0])
        # From the last axis on, because an integer takes its axis away.
        for axis in range(len(key) - 1, 0, -1):
            values = values[(slice(None),) * axis + (key[axis],)]
        return values[0] if isinstance(key[0], int | np.integer) else values

    def rows(self, key: int | np.integer | slice | np.ndarray) -> np.ndarray:
        """Rows of the compact axis; an integer gives one row and keeps the axis.

        Raises
        ------
        IndexError
            If a row is beyond the axis.
        CorruptShardError
            Naming variable, partition and slot.
        """
        if isinstance(key, slice):
            start, stop, step = key.indices(self.shape[0])
            if step == 1:
                return self._range(start, max(start, stop))
            wanted = np.arange(start, stop, step)
        else:
            wanted = np.atleast_1d(np.asarray(key)).astype(np.int64)
        wanted = np.where(wanted < 0, wanted + self.shape[0], wanted)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < self.shape[0]:
            raise IndexError(f"{self.array.name}: a row is beyond the {self.shape[0]} rows of the axis")
        if (np.diff(wanted) > 0).all():
            return self._scattered(wanted)
        ordered, inverse = np.unique(wanted, return_inverse=True)
        return self._scattered(ordered)[inverse]

    def _range(self, start: int, stop: int) -> np.ndarray:
        out = np.empty((stop - start, *self.array.tail), self.dtype)
        starts = self.table.starts
        row = start
        partition = int(np.searchsorted(starts, start, side="right")) - 1
        while row < stop:
            end = min(stop, int(starts[partition + 1]))
            if end > row:
                self._piece(partition, row - int(starts[partition]), out[row - start : end - start])
                row = end
            partition += 1
        return out

    def _scattered(self, rows: np.ndarray) -> np.ndarray:
        """Ascending rows without duplicates: neighbouring inner chunks are read together."""
        out = np.empty((len(rows), *self.array.tail), self.dtype)
        if not len(rows):
            return out
        partition = np.searchsorted(self.table.starts, rows, side="right") - 1
        local = rows - self.table.starts[partition]
        chunk = local // self.array.layout.inner
        borders = np.flatnonzero((np.diff(partition) != 0) | (np.diff(chunk) > 1)) + 1
        for first, last in zip([0, *borders.tolist()], [*borders.tolist(), len(rows)], strict=True):
            low, high = int(local[first]), int(local[last - 1]) + 1
            if high - low == last - first:
                self._piece(int(partition[first]), low, out[first:last])
                continue
            piece = np.empty((high - low, *self.array.tail), self.dtype)
            self._piece(int(partition[first]), low, piece)
            out[first:last] = piece[local[first:last] - low]
        return out

    def _piece(self, partition: int, low: int, out: np.ndarray) -> None:
        table = self.table
        if table.present is not None and not table.present[partition]:
            out[...] = self.fill
            return
        self.array.read(int(table.slots[partition]), low, low + len(out), partition=partition, out=out)
        if table.shifts is not None:
            out += table.shifts[partition]


def variable_of(array: SlotFile, table: SlotTable, fill: object = None) -> xr.Variable:
    """The lazy xarray variable of an array; its preferred chunks are the partitions."""
    data = indexing.LazilyIndexedArray(SlotArray(array, table, fill))
    encoding = {"preferred_chunks": {array.dims[0]: table.chunks}} if table.rows else {}
    return xr.Variable(array.dims, data, dict(array.attrs), encoding)


def archive_table(path: str, number: int, archive_id: str, axis: str) -> SlotTable:
    """The table of one axis of an archive's version.

    Parameters
    ----------
    path, number, archive_id
        Name the version; the identifier guards against another archive that took its place.
    axis : {"object", "observation", "first_observation"}
        "first_observation" is the object axis with the shifts that make relative rows absolute.
    """
    archive = Archive.cached(path, number)
    if archive.archive_id != archive_id:
        raise ArchiveError(f"{path} was replaced by another archive: open it again")
    version = archive.version
    reload = archive_table, (path, number, archive_id, axis)
    if axis == "observation":
        return SlotTable(version.partitions["observation_slot"], version.observation_starts, reload=reload)
    shifts = version.observation_starts[:-1] if axis == "first_observation" else None
    return SlotTable(version.partitions["object_slot"], version.object_starts, shifts=shifts, reload=reload)


def archive_datasets(archive: Archive) -> dict[str, xr.Dataset]:
    """The groups of an archive's compact view: "/", "/objects" and "/lightcurves"."""
    where = str(archive.path), archive.version.number, archive.archive_id
    tables = {axis: archive_table(*where, axis) for axis in ("object", "observation", "first_observation")}
    groups: dict[str, dict[str, xr.Variable]] = {"objects": {}, "lightcurves": {}}
    for name in archive.variables:
        array = archive.array(name)
        group, _, short = name.partition("/")
        groups[group][short] = variable_of(array, tables[short if short in tables else array.dims[0]])
    attrs = {"path": where[0], "version": where[1], "skytrawl": archive.attrs}
    return {
        "/": xr.Dataset(attrs=attrs),
        **{f"/{group}": xr.Dataset(variables) for group, variables in groups.items()},
    }


def archive_tree(archive: Archive, chunks: Any = None) -> xr.DataTree:
    """The compact view of an opened archive; see :func:`skytrawl.open_archive`."""
    return xr.open_datatree(
        str(archive.path), engine=SkytrawlBackend, version=archive.version.number, chunks=chunks
    )


class SkytrawlBackend(BackendEntrypoint):
    """xarray engine ``skytrawl``: archives and results stores with compact axes."""

    description = "Open skytrawl archives and results stores (Zarr v3) with compact axes"
    open_dataset_parameters = ("filename_or_obj", "drop_variables", "group", "version", "job")
    supports_groups: ClassVar[bool] = True

    def open_dataset(  # type: ignore[override]
        self,
        filename_or_obj: str | os.PathLike[str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        version: int | None = None,
        job: str | None = None,
    ) -> xr.Dataset:
        """One group ("objects", "lightcurves", the name of a job); the root holds attributes only."""
        groups = self.open_groups_as_dict(
            filename_or_obj, drop_variables=drop_variables, version=version, job=job
        )
        path = "/" + (group or "").strip("/")
        if path not in groups:
            known = ", ".join(name.strip("/") for name in groups if name != "/")
            raise ArchiveError(f"{filename_or_obj} has no group {group!r}; it has {known}")
        return groups[path]

    def open_groups_as_dict(  # type: ignore[override]
        self,
        filename_or_obj: str | os.PathLike[str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        version: int | None = None,
        job: str | None = None,
    ) -> dict[str, xr.Dataset]:
        """All groups, by path."""
        import skytrawl.catalogs.accessor  # noqa: F401  (what is opened here has the accessor .skytrawl)

        path = Path(filename_or_obj)
        attrs = store_attrs(Storage(path))
        if attrs["kind"] == "results":
            from skytrawl.catalogs.results import results_datasets

            groups: Mapping[str, xr.Dataset] = results_datasets(path, job=job)
        else:
            found = Archive.open(path, version)
            groups = archive_datasets(Archive.cached(str(found.path), found.version.number))
        unwanted = {drop_variables} if isinstance(drop_variables, str) else set(drop_variables or ())
        return {
            name: dataset.drop_vars(unwanted.intersection(dataset.variables))
            for name, dataset in groups.items()
        }

    def open_datatree(  # type: ignore[override]
        self,
        filename_or_obj: str | os.PathLike[str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        version: int | None = None,
        job: str | None = None,
    ) -> xr.DataTree:
        """All groups as one tree."""
        groups = self.open_groups_as_dict(
            filename_or_obj, drop_variables=drop_variables, version=version, job=job
        )
        return xr.DataTree.from_dict(groups)

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether the path is a store of this package; any other object or path is left to other engines."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        name = os.fspath(filename_or_obj)
        if not isinstance(name, str) or "://" in name or not os.path.isfile(os.path.join(name, "zarr.json")):
            return False
        try:
            store_attrs(Storage(name))
        except ArchiveError:
            return False
        return True
