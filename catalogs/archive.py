"""An archive as its jobs see it: partitions that are read as blocks of arrays."""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs import schema
from skytrawl.catalogs.block import Block
from skytrawl.catalogs.shards import SlotFile
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.versions import Version, read_version
from skytrawl.catalogs.writer import DERIVED, ArchiveWriter, read_attrs
from skytrawl.errors import ArchiveError, CorruptShardError, SchemaError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Archive", "ArchiveWriter", "Block", "archive_of", "open_archive"]


class Archive:
    """One version of an archive, opened for reading.

    Cheap to pickle: only path and version number travel, and the receiving process opens them once.

    Attributes
    ----------
    path : Path
        Folder of the archive.
    storage : Storage
        Its bytes.
    attrs : dict
        The ``skytrawl`` attributes of the root group.
    version : Version
        The pinned version.
    """

    def __init__(self, storage: Storage, attrs: dict[str, Any], version: Version) -> None:
        self.storage = storage
        self.attrs = attrs
        self.version = version
        self._arrays: dict[str, SlotFile] = {}

    @classmethod
    def open(cls, path: str | Path, version: int | None = None) -> "Archive":
        """Open a version, the latest by default.

        Raises
        ------
        NotAnArchiveError
            If the path holds no archive; says what it is and what to do.
        ArchiveError
            If there is no such version.
        """
        storage = Storage(path)
        attrs = read_attrs(storage)
        found = read_version(storage, version)
        if found.number == 1:
            # A first ingest settles the attributes just before it publishes: these may be of before.
            attrs = read_attrs(storage)
        if found.archive_id != attrs["archive_id"]:
            raise ArchiveError(f"{storage.root}: version {found.number} belongs to another archive")
        return cls(storage, attrs, found)

    @staticmethod
    def cached(path: str, number: int) -> "Archive":
        """The opened version, kept for the life of the process.

        A published version never changes; a folder that was removed and made again is noticed.
        """
        file = os.path.join(path, "versions", f"{number:08d}.npz")
        try:
            state = os.stat(file)
        except OSError:
            return Archive.open(path, number)  # names what is wrong
        return _opened(path, number, (state.st_ino, state.st_mtime_ns, state.st_size))

    def __reduce__(self) -> tuple[Any, ...]:
        return Archive.cached, (str(self.path), self.version.number)

    def __repr__(self) -> str:
        return (
            f"<Archive {self.path} version {self.version.number}: {self.n_objects} objects, "
            f"{self.n_observations} observations, {self.n_partitions} partitions, "
            f"bands {', '.join(self.bands)}>"
        )

    @property
    def path(self) -> Path:
        """Folder of the archive."""
        return self.storage.root

    @property
    def archive_id(self) -> str:
        """Identifier given at creation."""
        return str(self.attrs["archive_id"])

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the version's values."""
        return self.version.fingerprint

    @property
    def variables(self) -> tuple[str, ...]:
        """Paths of the variables that the archive holds."""
        return tuple(self.attrs["variables"])

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the band codes 0, 1, ..."""
        return tuple(self.attrs["bands"])

    @property
    def has_positions(self) -> bool:
        """Whether ra, dec and healpix are positions on the sky."""
        return bool(self.attrs["has_positions"])

    @property
    def n_objects(self) -> int:
        """Objects of the version."""
        return int(self.version.object_starts[-1])

    @property
    def n_observations(self) -> int:
        """Observations of the version."""
        return int(self.version.observation_starts[-1])

    @property
    def n_partitions(self) -> int:
        """Partitions of the version, with the empty ones."""
        return len(self.version.partitions)

    def array(self, name: str) -> SlotFile:
        """The array of a variable, by path or short name.

        Raises
        ------
        SchemaError
            If the archive does not hold it.
        """
        name = schema.full_name(name)
        if name not in self._arrays:
            if name not in self.attrs["variables"]:
                raise SchemaError(f"{self.path} holds no {name}; it holds {', '.join(self.variables)}")
            self._arrays[name] = SlotFile.open(self.storage, name)
        return self._arrays[name]

    def read(self, partition: int, names: Sequence[str], objects: slice | None = None) -> Block:
        """Read variables of a partition, or of a range of its objects.

        Parameters
        ----------
        partition : int
            From 0 to n_partitions - 1.
        names : sequence of str
            Paths or short names; offsets come always.
        objects : slice, optional
            Range of objects within the partition, without step.

        Returns
        -------
        Block
            Decoded values under their short names.

        Raises
        ------
        CorruptShardError
            Naming variable, partition, slot and file, if anything is missing or damaged; nothing is ever
            filled.
        SchemaError
            If the archive lacks a variable.
        """
        record = self._record(partition)
        n_objects, n_observations = int(record["n_objects"]), int(record["n_observations"])
        start, stop, step = (objects or slice(None)).indices(n_objects)
        if step != 1:
            raise ValueError("objects must be a slice without step")
        stop = max(start, stop)
        arrays = {schema.full_name(name): self.array(name) for name in names}
        offsets = self._offsets(partition, start, stop, n_objects, n_observations)
        first, last = int(offsets[0]), int(offsets[-1])
        block = Block(offsets=offsets - first)
        for name, array in arrays.items():
            group, _, short = name.partition("/")
            if group == "objects":
                slot = int(record["object_slot"])
                block.objects[short] = array.read(slot, start, stop, partition=partition)
            else:
                slot = int(record["observation_slot"])
                block.observations[short] = array.read(slot, first, last, partition=partition)
        return block

    def find(self, object_id: int | str | bytes) -> tuple[int, int] | None:
        """Where an object is.

        The id index answers within a millisecond or so. Archives of older releases have none, nor do versions
        that were published without it: there the id columns of the partitions are read one after another,
        which takes as long as that takes.

        Returns
        -------
        (int, int) or None
            Partition and row in it; None if the archive does not hold the object.

        Raises
        ------
        ArchiveError
            If the index is missing or damaged.
        CorruptShardError
            If a column is.
        """
        from skytrawl.catalogs.locate import find

        return find(self, object_id)

    def light_curve(self, object_id: int | str | bytes, names: Sequence[str] | None = None) -> Block:
        """The variables of one object, found as by :meth:`find`.

        Parameters
        ----------
        object_id : int, str or bytes
        names : sequence of str, optional
            Paths or short names; default all but first_observation and n_observations, which the offsets
            of the block tell.

        Returns
        -------
        Block
            Of one object.

        Raises
        ------
        ObjectNotFoundError
            If the archive does not hold the object.
        """
        from skytrawl.catalogs.locate import must_find

        partition, row = must_find(self, object_id)
        if names is None:
            names = [name for name in self.variables if name not in DERIVED]
        return self.read(partition, names, slice(row, row + 1))

    def decoded_bytes(self, partition: int, names: Sequence[str]) -> int:
        """Bytes of the arrays that `read` of the whole partition returns."""
        record = self._record(partition)
        rows = {"objects": int(record["n_objects"]), "lightcurves": int(record["n_observations"])}
        total = 8 * (rows["objects"] + 1)
        for name in {schema.full_name(name) for name in names}:
            total += self.array(name).row_bytes * rows[name.partition("/")[0]]
        return total

    def _record(self, partition: int) -> np.void:
        if not 0 <= partition < self.n_partitions:
            raise ArchiveError(f"{self.path} has partitions 0 to {self.n_partitions - 1}, not {partition}")
        return self.version.partitions[partition]

    def _offsets(
        self, partition: int, start: int, stop: int, n_objects: int, n_observations: int
    ) -> np.ndarray:
        """Offsets of objects [start, stop) and the end of the last, relative to the partition, checked."""
        if not n_objects:
            return np.zeros(1, np.int64)
        slot = int(self.version.partitions[partition]["object_slot"])
        offsets = np.empty(stop - start + 1, np.int64)
        known = min(stop + 1, n_objects) - start
        self.array("objects/first_observation").read(
            slot, start, start + known, partition=partition, out=offsets[:known]
        )
        offsets[known:] = n_observations
        wrong = offsets[0] < 0 or offsets[-1] > n_observations or (start == 0 and offsets[0] != 0)
        if wrong or (np.diff(offsets) < 0).any():
            raise CorruptShardError(
                f"objects/first_observation, partition {partition}, slot {slot}: offsets {offsets[0]} to "
                f"{offsets[-1]} do not ascend within the {n_observations} rows of the partition"
            )
        return offsets


@lru_cache(maxsize=8)
def _opened(path: str, number: int, state: tuple[int, ...]) -> Archive:
    return Archive.open(path, number)


def open_archive(path: str | Path, version: int | None = None, chunks: Any = None) -> "xr.DataTree":
    """Open an archive as a compact, lazy :class:`xarray.DataTree`.

    Parameters
    ----------
    path : str or Path
        Folder of the archive.
    version : int, optional
        Version to pin; the latest by default.
    chunks : None, {} or as in xarray
        None indexes lazily without Dask; {} makes Dask arrays with one chunk a partition.

    Returns
    -------
    xarray.DataTree
        Group ``objects`` (dim object; first_observation counts on the observation axis of the tree) and group
        ``lightcurves`` (dim observation). Root attributes: path, version, skytrawl.

    Raises
    ------
    NotAnArchiveError
        If the path holds no archive.
    """
    from skytrawl.catalogs.compact import archive_tree

    return archive_tree(Archive.open(path, version), chunks=chunks)


def archive_of(source: "str | Path | Archive | xr.DataTree") -> Archive:
    """The archive behind a path, an :class:`Archive` or a tree from :func:`open_archive`.

    Raises
    ------
    ArchiveError
        If a tree does not come from an archive.
    """
    if isinstance(source, Archive):
        return source
    if isinstance(source, str | Path):
        return Archive.open(source)
    attrs = getattr(source, "attrs", {})
    if "path" not in attrs or "version" not in attrs:
        raise ArchiveError(
            f"{type(source).__name__} does not say which archive it is from: "
            "pass a path, or a tree from open_archive"
        )
    return Archive.cached(str(attrs["path"]), int(attrs["version"]))
