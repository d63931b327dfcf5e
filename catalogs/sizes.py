"""What an archive costs on disk: bytes of every column, a row, an observation and an object.

The bytes are those of the files of one version, asked of the file system, not estimated.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.codecs import described
from skytrawl.errors import CorruptShardError


@dataclass(frozen=True)
class ColumnSize:
    """One column of a version.

    Attributes
    ----------
    variable : str
        Path in the archive.
    dtype, codec : str
    rows : int
        Objects or observations.
    raw : float
        Decoded bytes of a row.
    stored : float
        Bytes on disk of a row, with checksums and indices; NaN without rows.
    ratio : float
        raw / stored.
    bytes : int
        Of all its shards.
    share : float
        Of the bytes of all columns.
    shards : int
    """

    variable: str
    dtype: str
    codec: str
    rows: int
    raw: float
    stored: float
    ratio: float
    bytes: int
    share: float
    shards: int


@dataclass(frozen=True)
class Sizes:
    """The columns of a version and their sums.

    Attributes
    ----------
    columns : tuple of ColumnSize
        In the order of the archive.
    n_objects, n_observations : int
    other : int
        Bytes of the version's own file, of its index of ids and of the metadata of the arrays.
    rounding : dict
        Column to step and largest error, where values were rounded at ingest.
    recovered : dict
        What the recovery of exposure times did: resolution, largest error, bytes of a row before and after.
    """

    columns: tuple[ColumnSize, ...]
    n_objects: int
    n_observations: int
    other: int
    rounding: dict[str, Any]
    recovered: dict[str, Any]

    @property
    def total(self) -> int:
        """Bytes of the version on disk, all files."""
        return sum(column.bytes for column in self.columns) + self.other

    @property
    def raw(self) -> float:
        """Decoded bytes of all columns."""
        return sum(column.raw * column.rows for column in self.columns)

    def of(self, group: str) -> int:
        """Bytes of the columns of a group, "objects" or "lightcurves"."""
        return sum(column.bytes for column in self.columns if column.variable.startswith(group + "/"))

    def to_dict(self) -> dict[str, Any]:
        """All figures in JSON types; None where there are no rows to share the bytes."""
        return {
            "objects": self.n_objects,
            "observations": self.n_observations,
            "bytes": self.total,
            "bytes per observation": _per(self.total, self.n_observations),
            "bytes per observation, its columns": _per(self.of("lightcurves"), self.n_observations),
            "bytes per object, its columns": _per(self.of("objects"), self.n_objects),
            "other bytes": self.other,
            "ratio": _per(self.raw, self.total),
            "rounding": self.rounding,
            "recovered": self.recovered,
            "columns": [
                {key: None if value != value else value for key, value in asdict(column).items()}
                for column in self.columns
            ],
        }


def sizes(store: str | Path | Archive, version: int | None = None) -> Sizes:
    """Bytes on disk of every column of a version.

    Parameters
    ----------
    store : str, Path or Archive
    version : int, optional
        The latest by default.

    Raises
    ------
    CorruptShardError
        If a shard that the version lists is missing.
    """
    archive = store if isinstance(store, Archive) else Archive.open(store, version)
    counts = {"objects": archive.n_objects, "lightcurves": archive.n_observations}
    slots = {group: _slots(archive, group) for group in counts}
    found = []
    for name in archive.variables:
        array, group = archive.array(name), name.partition("/")[0]
        stored = _shard_bytes(archive, name, slots[group])
        found.append((name, array, counts[group], stored, len(slots[group])))
    everything = sum(stored for *_, stored, _ in found)
    columns = tuple(
        ColumnSize(
            name,
            array.dtype.name if array.dtype.kind != "S" else f"S{array.dtype.itemsize}",
            described(array.codecs),
            rows,
            float(array.row_bytes),
            stored / rows if rows else float("nan"),
            array.row_bytes * rows / stored if stored else float("nan"),
            stored,
            stored / everything if everything else 0.0,
            shards,
        )
        for name, array, rows, stored, shards in found
    )
    curves = archive.attrs["light_curves"]
    return Sizes(
        columns,
        archive.n_objects,
        archive.n_observations,
        _other(archive),
        dict(curves.get("rounding", {})),
        dict(curves.get("time", {}).get("recovered", {})),
    )


def _slots(archive: Archive, group: str) -> list[int]:
    """Slots with rows of all partitions on the axis of a group."""
    axis = {"objects": "object", "lightcurves": "observation"}[group]
    table = archive.version.partitions
    used = -(-table[f"n_{axis}s"] // archive.attrs[f"{axis}_slot"])
    first = np.repeat(table[f"{axis}_slot"], used)
    within = np.arange(len(first)) - np.repeat(np.cumsum(used) - used, used)
    return (first + within).tolist()


def _shard_bytes(archive: Archive, name: str, slots: list[int]) -> int:
    folder = str(archive.storage.path(f"{name}/c"))
    total = 0
    for slot in slots:  # a tenth of a million of these take a quarter of a second
        try:
            total += os.stat(f"{folder}/{slot}").st_size
        except FileNotFoundError:
            raise CorruptShardError(
                f"{name}, slot {slot}: the shard is missing (file {folder}/{slot}). "
                "Restore the file from a copy, or write that partition again"
            ) from None
    return total


def _other(archive: Archive) -> int:
    storage = archive.storage
    keys = ["zarr.json", f"versions/{archive.version.number:08d}.npz"]
    keys += [f"{name}/zarr.json" for name in ("objects", "lightcurves", *archive.variables)]
    for generation in archive.version.header.get("index", ()):
        keys += storage.list(f"index/{generation}")
    return sum(storage.size(key) or 0 for key in keys)


def _per(amount: float, rows: float) -> float | None:
    return amount / rows if rows else None
