"""Writing an archive: declare it, append partitions into fresh slots, publish a version."""

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from skytrawl.catalogs import schema, versions
from skytrawl.catalogs.block import Block, structure_issues
from skytrawl.catalogs.shards import SlotFile, SlotLayout
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.versions import PARTITION, Version, content_hash
from skytrawl.errors import ArchiveError, NotAnArchiveError

FORMAT = 1
OBJECT_SLOT, OBSERVATION_SLOT = 65_536, 4_194_304
PARTITION_OBSERVATIONS = 4_000_000

_DERIVED = ("objects/first_observation", "objects/n_observations")
_LONGEST_RESERVATION = 4096


def inner_rows(slot: int, axis: str) -> int:
    """Rows of an inner chunk: 1/8 of an object slot, 1/16 of an observation slot, bounded."""
    parts, most = (8, 8_192) if axis == "object" else (16, 262_144)
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
    block that ends without an error.

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
        if storage.root.exists() and (not storage.root.is_dir() or any(storage.root.iterdir())):
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
            SlotFile.create(
                storage, name, dtype, layout, variable.dims, codec=variable.codec, attrs=described
            )
        for group in ("objects", "lightcurves"):
            storage.write_new(f"{group}/zarr.json", group_metadata({}))
        # Last, so that a folder whose creation was interrupted is not taken for an archive.
        storage.write_new("zarr.json", group_metadata({"skytrawl": attrs}))
        return cls(path)

    def reserve(self, n_objects: int, n_observations: int) -> tuple[int, int]:
        """Fresh slots for one partition: first object slot and first observation slot.

        Slots are reserved in growing runs, so that many small partitions cost few intent files.
        """
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

    def write(self, block: Block, *, flush: bool = True) -> int:
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
        int
            Number of the partition in the version that :meth:`publish` will make.

        Raises
        ------
        SchemaError
            Lists every fault of the block; nothing is written then.
        """
        self.append(self.write_into(block, *self.reserve(block.n_objects, block.n_observations), flush=flush))
        kept = 0 if self.base is None else len(self.base.partitions) - len(self._dropped)
        return kept + len(self._rows) - 1

    def write_into(
        self, block: Block, object_slot: int, observation_slot: int, *, flush: bool = True
    ) -> np.ndarray:
        """Write one partition into reserved slots, without recording it (for a task on another machine).

        Returns
        -------
        array of PARTITION, shape ()
            The record for :meth:`append`.
        """
        columns = self._columns(block)
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

    def publish(self) -> Version:
        """Publish base version and written partitions as the next version; the writer may go on from there.

        Raises
        ------
        VersionConflictError
            If another writer has published first.
        """
        old = np.zeros(0, PARTITION) if self.base is None else self.base.partitions
        if self._dropped:
            old = np.delete(old, sorted(self._dropped))
        new = np.stack(self._rows) if self._rows else np.zeros(0, PARTITION)
        header = {
            "archive_id": self.attrs["archive_id"],
            "variables": {name: dtype.str for name, dtype in self.dtypes.items()},
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "parent": 0 if self.base is None else self.base.number,
        }
        version = Version(header["parent"] + 1, np.concatenate([old, new]), header)
        versions.publish(self.storage, version)
        self.base = version
        self._rows.clear()
        self._dropped.clear()
        return version

    def __enter__(self) -> "ArchiveWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and (self._rows or self._dropped or self.base is None):
            self.publish()

    def _slots(self, n_objects: int, n_observations: int) -> tuple[int, int]:
        # Also an empty partition owns a slot: the slot is its name in the ledger.
        pairs = (n_objects, self.attrs["object_slot"]), (n_observations, self.attrs["observation_slot"])
        first, second = (max(1, -(-count // slot)) for count, slot in pairs)
        return first, second

    def _columns(self, block: Block) -> dict[str, np.ndarray]:
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
        if not issues:
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


def group_metadata(attrs: Mapping[str, Any]) -> bytes:
    """``zarr.json`` of a group."""
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attrs}, indent=2).encode()


def store_attrs(storage: Storage) -> dict[str, Any]:
    """The skytrawl attributes of the root group of a store of any kind.

    Raises
    ------
    NotAnArchiveError
        With a remedy, for a missing path, a plain folder, a foreign Zarr store, a format that this release
        does not know.
    """
    root = storage.root
    if not root.exists():
        raise NotAnArchiveError(
            f"{root} does not exist: check the path, or make an archive with `skytrawl ingest`"
        )
    if not root.is_dir():
        raise NotAnArchiveError(
            f"{root} is a file, not a store: a table of light curves goes through `skytrawl ingest`"
        )
    try:
        meta = json.loads(storage.read("zarr.json"))
        attrs = meta.get("attributes", {}).get("skytrawl")
    except FileNotFoundError:
        raise NotAnArchiveError(
            f"{root} is a folder without zarr.json, so no skytrawl store: check the path, "
            "or make an archive with `skytrawl ingest`"
        ) from None
    except (ValueError, AttributeError) as error:
        raise NotAnArchiveError(
            f"{root / 'zarr.json'} is damaged ({error}): restore it from a copy"
        ) from None
    if not isinstance(attrs, dict) or "kind" not in attrs:
        raise NotAnArchiveError(
            f"{root} is a Zarr store of another program: it lacks the skytrawl attributes. "
            "Bring its light curves in with `skytrawl ingest`"
        )
    if not isinstance(attrs.get("format"), int) or attrs["format"] > FORMAT:
        raise NotAnArchiveError(
            f"{root} has format {attrs.get('format')!r}, this release reads up to {FORMAT}: update skytrawl"
        )
    return attrs


def read_attrs(storage: Storage, kind: str = "archive") -> dict[str, Any]:
    """The skytrawl attributes of a store that must be of this kind, else NotAnArchiveError."""
    attrs = store_attrs(storage)
    if attrs["kind"] != kind:
        opener = {"archive": "skytrawl.open_archive", "results": "skytrawl.open_results"}.get(attrs["kind"])
        raise NotAnArchiveError(
            f"{storage.root} is a skytrawl store of kind {attrs['kind']!r}, not {kind!r}"
            + (f": open it with {opener}" if opener else "")
        )
    return attrs


__all__ = ["ArchiveWriter", "group_metadata", "inner_rows", "read_attrs", "slots_for", "store_attrs"]
