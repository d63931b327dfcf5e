"""Writing an archive: declare it, append partitions into fresh slots, publish a version."""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from skytrawl.catalogs import schema, versions
from skytrawl.catalogs.block import Block, structure_issues
from skytrawl.catalogs.holds import Hold
from skytrawl.catalogs.shards import SlotFile, SlotLayout
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.stores import FORMAT, group_metadata, read_attrs, store_attrs
from skytrawl.catalogs.versions import PARTITION, Version, content_hash
from skytrawl.errors import ArchiveError

OBJECT_SLOT, OBSERVATION_SLOT = 65_536, 4_194_304
PARTITION_OBSERVATIONS = 4_000_000

DERIVED = ("objects/first_observation", "objects/n_observations")
_LONGEST_RESERVATION = 4096
_FIXED = ("kind", "format", "archive_id", "object_slot", "observation_slot", "variables")


def inner_rows(slot: int, axis: str) -> int:
    """Rows of an inner chunk: 1/8 of an object slot, 1/16 of an observation slot, bounded.

    65,536 observations decode within the second-level cache, and one object costs four such chunks (0.5 ms).
    """
    parts, most = (8, 8_192) if axis == "object" else (16, 65_536)
    inner = max(1, min(most, slot // parts))
    while slot % inner:
        inner -= 1
    return inner


def slots_for(n_objects: int, n_observations: int) -> tuple[int, int]:
    """Rows of an object slot and of an observation slot that fit the largest partition of an archive.

    Powers of two, at least 64 and 256, at most the defaults of a survey-scale archive.

    Parameters
    ----------
    n_objects, n_observations : int
        Of the largest partition.
    """

    def fit(count: int, least: int, most: int) -> int:
        return min(most, max(least, 1 << max(0, count - 1).bit_length()))

    return fit(n_objects, 64, OBJECT_SLOT), fit(n_observations, 256, OBSERVATION_SLOT)


class ArchiveWriter:
    """Appends partitions to an archive and publishes them as one version.

    Nothing is visible to readers before :meth:`publish`. As a context manager it publishes at the end of a
    block that ends without an error. From its first reservation to its publication (or :meth:`close`, or the
    end of its process) a writer holds a lock under ``writers/``, which keeps sweeps off what is reserved.

    Parameters
    ----------
    path : str or Path
        An existing archive; :meth:`create` makes a new one.
    """

    def __init__(self, path: str | Path) -> None:
        self.storage = Storage(path)
        self.attrs = read_attrs(self.storage)
        numbers = versions.list_versions(self.storage)
        self.base = versions.read_version(self.storage) if numbers else None
        self.arrays = {name: SlotFile.open(self.storage, name) for name in self.attrs["variables"]}
        self.dtypes = {name: array.dtype for name, array in self.arrays.items()}
        self._rows: list[np.ndarray] = []
        self._dropped: set[int] = set()
        self._free = [0, 0, 0, 0]  # next and end on the object axis, next and end on the observation axis
        self._reservation = 16
        self._hold: Hold | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_hold": None}  # copies on other machines write into slots reserved here

    @property
    def path(self) -> Path:
        """Folder of the archive."""
        return self.storage.root

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        survey: Mapping[str, Any],
        light_curves: Mapping[str, Any],
        bands: Sequence[str],
        dtypes: Mapping[str, np.dtype | str],
        has_positions: bool = True,
        object_slot: int = OBJECT_SLOT,
        observation_slot: int = OBSERVATION_SLOT,
    ) -> "ArchiveWriter":
        """Declare a new archive.

        Parameters
        ----------
        path : str or Path
            Folder to create; it must be absent or empty.
        survey : mapping
            Full description of the survey (JSON types).
        light_curves : mapping
            What values and times mean: quantity, photometry, units, zero_point, time (scale,
            reference_position, offset, exposure_point).
        bands : sequence of str
            Names of the band codes 0, 1, ...
        dtypes : mapping
            Path of each variable to its dtype; required ones that are absent take the schema's default.
        has_positions : bool
            Whether ra, dec and healpix are positions on the sky.
        object_slot, observation_slot : int
            Rows of a slot on each axis. A partition may own several; small archives do well with small slots.

        Raises
        ------
        SchemaError
            Lists every fault of the declaration.
        ArchiveError
            If the folder is not empty.
        """
        storage = Storage(path)
        # An ingest keeps what it is working on in a folder of its own, and reservations are for good.
        working = {"staging", "intents", "writers"}
        if storage.root.exists() and (not storage.root.is_dir() or {*storage.names("")} - working):
            raise ArchiveError(f"{storage.root} exists and is not empty: choose another path or remove it")
        full = {name: np.dtype(schema.VARIABLES[name].dtype) for name in schema.REQUIRED}
        full |= {name: np.dtype(dtype) for name, dtype in dtypes.items()}
        schema.raise_issues("the declaration", schema.check(full, light_curves, bands))
        attrs = {
            "kind": "archive",
            "format": FORMAT,
            "archive_id": uuid.uuid4().hex,
            "object_slot": int(object_slot),
            "observation_slot": int(observation_slot),
            "survey": dict(survey),
            "light_curves": dict(light_curves),
            "bands": list(bands),
            "has_positions": bool(has_positions),
            "variables": list(full),
        }
        rows = {"object": int(object_slot), "observation": int(observation_slot)}
        for name, dtype in full.items():
            variable = schema.VARIABLES[name]
            (dim,) = variable.dims
            layout = SlotLayout(rows[dim], inner_rows(rows[dim], dim))
            described = schema.attributes(name, light_curves)
            codec = schema.codec_of(name, light_curves)
            SlotFile.create(storage, name, dtype, layout, variable.dims, codec=codec, attrs=described)
        for group in ("objects", "lightcurves"):
            storage.write_new(f"{group}/zarr.json", group_metadata({}))
        # Last, so that a folder whose creation was interrupted is not taken for an archive.
        storage.write_new("zarr.json", group_metadata({"skytrawl": attrs}))
        return cls(path)

    def reserve(self, n_objects: int, n_observations: int) -> tuple[int, int]:
        """Fresh slots for one partition: first object slot and first observation slot.

        Slots are reserved in growing runs, so that many small partitions cost few intent files.
        """
        if self._hold is None:
            self._hold = Hold(self.storage.path(f"writers/{uuid.uuid4().hex}.lock"))
        need = self._slots(n_objects, n_observations)
        free = self._free
        if free[0] + need[0] > free[1] or free[2] + need[1] > free[3]:
            counts = [max(needed, self._reservation) for needed in need]
            first = versions.reserve_slots(self.storage, *counts)
            free[:] = [first[0], first[0] + counts[0], first[1], first[1] + counts[1]]
            self._reservation = min(2 * self._reservation, _LONGEST_RESERVATION)
        slots = free[0], free[2]
        free[0] += need[0]
        free[2] += need[1]
        return slots

    def write(self, block: Block, *, flush: bool = True) -> np.ndarray:
        """Write one partition into fresh slots.

        Parameters
        ----------
        block : Block
            Objects in ascending order of healpix; observations of each object ordered by band, then time.
            Every declared variable but first_observation and n_observations must be there.
        flush : bool
            Wait until the disk has the bytes.

        Returns
        -------
        array of PARTITION, shape ()
            Its record. Its number in the version follows from its place on the curve, see :meth:`publish`.

        Raises
        ------
        SchemaError
            Lists every fault of the block; nothing is written then.
        """
        slots = self.reserve(block.n_objects, block.n_observations)
        record = self.write_into(block, *slots, flush=flush)
        self.append(record)
        return record

    def write_into(
        self,
        block: Block,
        object_slot: int,
        observation_slot: int,
        *,
        flush: bool = True,
        in_order: bool = False,
    ) -> np.ndarray:
        """Write one partition into reserved slots, without recording it (for a task on another machine).

        `in_order` says that the caller has just put offsets, objects and rows into order: it is not checked
        again.

        Returns
        -------
        array of PARTITION, shape ()
            The record for :meth:`append`.
        """
        columns = self._columns(block, in_order)
        record = np.zeros((), PARTITION)
        record["object_slot"], record["observation_slot"] = object_slot, observation_slot
        record["object_slots"], record["observation_slots"] = self._slots(
            block.n_objects, block.n_observations
        )
        record["n_objects"], record["n_observations"] = block.n_objects, block.n_observations
        if block.n_objects:
            record["healpix_min"] = columns["objects/healpix"][0]
            record["healpix_max"] = columns["objects/healpix"][-1]
        record["content"] = content_hash(columns)
        for name, column in columns.items():
            first = object_slot if name.startswith("objects/") else observation_slot
            self.arrays[name].write(first, column, flush=flush)
        return record

    def append(self, record: np.ndarray) -> None:
        """Record a partition that :meth:`write_into` has written."""
        self._rows.append(record)

    def drop(self, partition: int) -> None:
        """Leave a partition of the base version out of the next (its replacement is written as new)."""
        if self.base is None or not 0 <= partition < len(self.base.partitions):
            raise ArchiveError(f"{self.path}: the version below has no partition {partition}")
        self._dropped.add(partition)

    def replace_partition(self, partition: int, records: Iterable[np.ndarray]) -> None:
        """Let partitions that :meth:`write_into` has written take the place of one of the base version."""
        self.drop(partition)
        for record in records:
            self.append(record)

    def settle(self, **attrs: Any) -> None:
        """Replace root attributes that are known only at the end of the first ingest.

        Parameters
        ----------
        **attrs
            Such as bands, has_positions, survey, light_curves (with the attributes of the columns that follow
            from it), or further ones; JSON types. What the slots and arrays were made by is fixed.

        Raises
        ------
        ArchiveError
            If a version is published (readers rely on the attributes), or an attribute is fixed.
        SchemaError
            Lists every fault of the new description.
        """
        if versions.list_versions(self.storage):
            raise ArchiveError(
                f"{self.path} has a published version: {', '.join(attrs)} can no longer change. Make a new "
                "archive instead"
            )
        if fixed := sorted(set(attrs) & set(_FIXED)):
            raise ArchiveError(f"{self.path}: {', '.join(fixed)} are fixed when an archive is created")
        new = {**self.attrs, **attrs}
        schema.raise_issues("the description", schema.check(self.dtypes, new["light_curves"], new["bands"]))
        for name, array in self.arrays.items():
            described = schema.attributes(name, new["light_curves"])
            if described != array.attrs:
                meta = json.loads(self.storage.read(f"{name}/zarr.json"))
                meta["attributes"] = described
                self.storage.replace(f"{name}/zarr.json", json.dumps(meta, indent=2).encode())
                self.arrays[name] = SlotFile.open(self.storage, name)
        self.storage.replace("zarr.json", group_metadata({"skytrawl": new}))
        self.attrs = new

    def publish(
        self,
        *,
        note: str = "",
        index: Sequence[str] | None = None,
        sources: Mapping[str, Any] | None = None,
    ) -> Version:
        """Publish base version and written partitions as the next version; the writer may go on from there.

        Partitions are put in the order of the curve (by healpix_min, stable, empty ones last), which is the
        order of objects on the compact axis. A written partition that equals a dropped one in every value
        is not taken: the old one stays, so that results that were computed of it stay valid. Where nothing is
        changed then, no version is made.

        Parameters
        ----------
        note : str
            What makes the version, such as "ingest" or "append".
        index : sequence of str, optional
            Generations of the id index that together hold every object. By default those of the base version,
            if the partitions are the same, else none.
        sources : mapping, optional
            Where the data came from, in few words (JSON types).

        Returns
        -------
        Version
            The new version, or the base version if nothing is changed.

        Raises
        ------
        VersionConflictError
            If another writer has published first.
        ArchiveError
            If a shard of a written partition is missing, as after a sweep of what a writer left that was
            dead for longer than the retention.
        """
        partitions, added = self._next()
        size = self._stored_bytes(added)
        old = None if self.base is None else self.base.partitions
        same = old is not None and np.array_equal(old, partitions)
        if index is None:
            index = self.base.index if same and self.base is not None else ()
        if self.base is not None and same and tuple(index) == self.base.index:
            version = self.base
        else:
            header: dict[str, Any] = {
                "archive_id": self.attrs["archive_id"],
                "variables": {name: dtype.str for name, dtype in self.dtypes.items()},
                "created": versions.now(),
                "parent": 0 if self.base is None else self.base.number,
                "note": note,
                "index": list(index),
                "sources": dict(sources or {}),
                "bytes": size,
            }
            version = Version(header["parent"] + 1, partitions, header)
            versions.publish(self.storage, version)
        self.base = version
        self._rows.clear()
        self._dropped.clear()
        self.close()
        return version

    def close(self) -> None:
        """Let go of the lock: what was written and not published may be swept after the retention time."""
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    def _next(self) -> tuple[np.ndarray, np.ndarray]:
        """Partitions of the next version along the curve, and those of them that are new."""
        old = np.zeros(0, PARTITION) if self.base is None else self.base.partitions
        new = np.stack(self._rows) if self._rows else np.zeros(0, PARTITION)
        kept = np.ones(len(old), bool)
        kept[sorted(self._dropped)] = False
        fresh = np.ones(len(new), bool)
        back: dict[tuple[bytes, int, int], list[int]] = {}
        for number in sorted(self._dropped):
            back.setdefault(versions.value_key(old[number]), []).append(number)
        for place, record in enumerate(new):
            if same := back.get(versions.value_key(record)):
                kept[same.pop()] = True
                fresh[place] = False
        added = new[fresh]
        partitions = np.concatenate([old[kept], added])
        # An older version may stand in another order: it is kept where nothing else changes.
        if kept.all() and not len(added):
            return old, added
        return partitions[versions.curve_order(partitions)], added

    def _stored_bytes(self, records: np.ndarray) -> int:
        """Bytes of all shards of partitions; ArchiveError if one is missing."""
        total = 0
        for name, array in self.arrays.items():
            axis = "object" if name.startswith("objects/") else "observation"
            for first, rows in records[[f"{axis}_slot", f"n_{axis}s"]].tolist():
                for slot in range(first, first - (-rows // array.layout.slot)):
                    size = self.storage.size(array.key(slot))
                    if size is None:
                        raise ArchiveError(
                            f"{self.storage.path(array.key(slot))} is missing: it was swept since it was "
                            "written, or written elsewhere. Nothing is published: write the partition again"
                        )
                    total += size
        return total

    def __enter__(self) -> "ArchiveWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and (self._rows or self._dropped or self.base is None):
            self.publish()
        self.close()

    def _slots(self, n_objects: int, n_observations: int) -> tuple[int, int]:
        # Also an empty partition owns a slot: the slot is its name in the ledger.
        pairs = (n_objects, self.attrs["object_slot"]), (n_observations, self.attrs["observation_slot"])
        first, second = (max(1, -(-count // slot)) for count, slot in pairs)
        return first, second

    def _columns(self, block: Block, in_order: bool = False) -> dict[str, np.ndarray]:
        """Columns by path in the declared dtypes, checked."""
        issues: list[schema.Issue] = []
        columns: dict[str, np.ndarray] = {}
        offsets = np.asarray(block.offsets, np.int64)
        given = dict(block.objects) | {
            "first_observation": offsets[:-1],
            "n_observations": np.diff(offsets),
        }
        for name, dtype in self.dtypes.items():
            group, _, short = name.partition("/")
            source = given if group == "objects" else block.observations
            rows = block.n_objects if group == "objects" else block.n_observations
            if short not in source:
                if rows:
                    issues.append(schema.Issue(name, "column is missing from the block"))
                columns[name] = np.zeros(0, dtype)
                continue
            column = np.asarray(source[short])
            if column.shape != (rows,):
                issues.append(schema.Issue(name, "wrong shape", str(column.shape), f"({rows},)"))
            elif not _fits(column, dtype):
                issues.append(
                    schema.Issue(name, "values do not fit the column", str(column.dtype), str(dtype))
                )
            else:
                columns[name] = column.astype(dtype, copy=False)
        known = {name.partition("/")[2] for name in self.dtypes}
        issues += [
            schema.Issue(short, "column is not declared in the archive")
            for short in (*block.objects, *block.observations)
            if short not in known
        ]
        if not issues and not in_order:
            rows_of = {"time": columns["lightcurves/time"], "band": columns["lightcurves/band"]}
            issues = structure_issues(
                offsets,
                block.n_observations,
                columns["objects/healpix"],
                rows_of,
                len(self.attrs["bands"]),
                "new partition",
            )
        schema.raise_issues("the block", issues)
        return columns


def _fits(column: np.ndarray, dtype: np.dtype) -> bool:
    if column.dtype.kind == "S" and dtype.kind == "S":
        return column.dtype.itemsize <= dtype.itemsize or bool(
            (np.char.str_len(column) <= dtype.itemsize).all()
        )
    if column.dtype == dtype or np.can_cast(column.dtype, dtype, "safe"):
        return True
    if column.dtype.kind in "iub" and dtype.kind in "iub":
        if not column.size:
            return True
        if dtype.kind == "b":
            return bool(((column == 0) | (column == 1)).all())
        limits = np.iinfo(dtype)
        return int(column.min()) >= limits.min and int(column.max()) <= limits.max
    return False


__all__ = ["ArchiveWriter", "group_metadata", "inner_rows", "read_attrs", "slots_for", "store_attrs"]
