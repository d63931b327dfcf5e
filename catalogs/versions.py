"""Numbered versions of an archive: which partitions there are, where they lie and what they hold.

``versions/00000001.npz`` is written once, by exclusive creation, so that of two writers one gets an error.
Readers pin a version. Writers reserve their slots by exclusive files under ``intents/`` and write only
there, so that an interrupted append leaves nothing that a reader sees.
"""

import hashlib
import io
import json
import os
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import xxhash

from skytrawl.catalogs.shards import SLOTS
from skytrawl.catalogs.storage import Storage
from skytrawl.errors import ArchiveError, VersionConflictError

PARTITION = np.dtype(
    [
        ("object_slot", "i8"),
        ("object_slots", "i8"),
        ("observation_slot", "i8"),
        ("observation_slots", "i8"),
        ("n_objects", "i8"),
        ("n_observations", "i8"),
        ("healpix_min", "u8"),
        ("healpix_max", "u8"),
        ("content", "S32"),
    ]
)


@dataclass(frozen=True, eq=False)
class Version:
    """One published state of an archive.

    Attributes
    ----------
    number : int
        From 1 on.
    partitions : array of PARTITION
        Slots, counts, HEALPix range and content hash of every partition. `healpix_min` and `healpix_max` are
        inclusive; both are 0 in a partition without objects.
    header : dict
        archive_id, variables (path to dtype), created, parent.
    """

    number: int
    partitions: np.ndarray
    header: dict[str, Any] = field(default_factory=dict)

    @property
    def archive_id(self) -> str:
        """Identifier of the archive that the version belongs to."""
        return str(self.header.get("archive_id", ""))

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits that change when any decoded value or the order of partitions changes."""
        digest = hashlib.sha256(self.archive_id.encode())
        digest.update(np.ascontiguousarray(self.partitions["content"]).tobytes())
        digest.update(np.ascontiguousarray(self.partitions["n_objects"]).tobytes())
        return digest.hexdigest()[:32]

    @cached_property
    def object_starts(self) -> np.ndarray:
        """First object of each partition on the compact axis, and the total (int64)."""
        return _starts(self.partitions["n_objects"])

    @cached_property
    def observation_starts(self) -> np.ndarray:
        """First observation of each partition on the compact axis, and the total."""
        return _starts(self.partitions["n_observations"])


def _starts(counts: np.ndarray) -> np.ndarray:
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts


def content_hash(columns: Mapping[str, np.ndarray]) -> str:
    """Hash of decoded values: xxh3 over name, dtype, shape and bytes of each column in the order of names.

    It tells whether values changed and whether a disk gave back what it got; nobody is expected to forge it,
    so a fast 128-bit hash does (18 GB/s, where sha256 at 1.5 GB/s would cost more than the compression).

    Returns
    -------
    str
        32 hex digits.
    """
    digest = xxhash.xxh3_128()
    for name in sorted(columns):
        column = np.ascontiguousarray(columns[name])
        digest.update(f"{name}|{column.dtype.str}|{column.shape}|".encode())
        digest.update(column.reshape(-1).view(np.uint8).data if column.size else b"")
    return digest.hexdigest()


def to_bytes(version: Version) -> bytes:
    """The file of a version."""
    header = json.dumps({"number": version.number, **version.header}).encode()
    buffer = io.BytesIO()
    np.savez(buffer, partitions=version.partitions, header=np.frombuffer(header, np.uint8))
    return buffer.getvalue()


def from_bytes(data: bytes, where: str = "version file") -> Version:
    """Read the file of a version; ArchiveError if it is damaged (its members carry checksums)."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as content:
            header = json.loads(content["header"].tobytes())
            partitions = content["partitions"]
        if partitions.dtype != PARTITION:
            raise ValueError(f"partitions have dtype {partitions.dtype}")
        partitions.setflags(write=False)
        return Version(int(header.pop("number")), partitions, header)
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ArchiveError(f"{where} is damaged: {error}. Restore it, or open an older version") from error


def _key(number: int) -> str:
    return f"versions/{number:08d}.npz"


def list_versions(storage: Storage) -> list[int]:
    """Numbers of the published versions, ascending; stray files of other programs are passed over."""
    names = [name[:-4] for name in storage.names("versions") if name.endswith(".npz")]
    return sorted(int(name) for name in names if name.isdigit())


def read_version(storage: Storage, number: int | None = None) -> Version:
    """Read a version; the latest if no number is given.

    Raises
    ------
    ArchiveError
        If nothing is published, or not this number.
    """
    if number is None:
        numbers = list_versions(storage)
        if not numbers:
            raise ArchiveError(
                f"{storage.root} has no published version: its first ingest did not finish. Run it again"
            )
        number = numbers[-1]
    try:
        data = storage.read(_key(number))
    except FileNotFoundError:
        known = ", ".join(map(str, list_versions(storage))) or "none"
        raise ArchiveError(f"{storage.root} has no version {number}; published: {known}") from None
    return from_bytes(data, str(storage.path(_key(number))))


def publish(storage: Storage, version: Version) -> None:
    """Publish a version under its number.

    Raises
    ------
    VersionConflictError
        If another writer has published this number first; nothing is changed.
    """
    try:
        storage.write_new(_key(version.number), to_bytes(version))
    except FileExistsError:
        raise VersionConflictError(
            f"{storage.root}: version {version.number} was published by another writer in the meantime. "
            "Open the archive again and repeat the append on top of it"
        ) from None
    # xarray names Dask arrays by path and modification time; versions must never share a name.
    os.utime(storage.root)


def reserve_slots(storage: Storage, n_object_slots: int, n_observation_slots: int) -> tuple[int, int]:
    """Reserve consecutive slots on both axes for this writer alone.

    Returns
    -------
    (int, int)
        First object slot and first observation slot; nobody else ever gets these.

    Raises
    ------
    ArchiveError
        If the axes are used up.
    """
    while True:
        names = storage.names("intents")
        sequence, object_slot, observation_slot = 1, 0, 0
        if names:
            # Each intent begins where the one before it ends, so the last alone says what is free.
            last = json.loads(storage.read(f"intents/{names[-1]}"))
            sequence = int(names[-1].partition(".")[0]) + 1
            object_slot = last["object_slot"] + last["object_slots"]
            observation_slot = last["observation_slot"] + last["observation_slots"]
        if object_slot + n_object_slots > SLOTS or observation_slot + n_observation_slots > SLOTS:
            raise ArchiveError(f"{storage.root}: all {SLOTS} slots are used; copy the archive into a new one")
        intent = {
            "object_slot": object_slot,
            "object_slots": n_object_slots,
            "observation_slot": observation_slot,
            "observation_slots": n_observation_slots,
            "created": time.time(),
        }
        try:
            storage.write_new(f"intents/{sequence:08d}.json", json.dumps(intent).encode())
        except FileExistsError:
            continue
        return object_slot, observation_slot
