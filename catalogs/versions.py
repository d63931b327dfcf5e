"""Numbered versions of an archive: which partitions there are, where they lie and what they hold.

``versions/00000001.npz`` is written once, by exclusive creation, so that of two writers one gets an error.
Readers pin a version. Writers reserve their slots by exclusive files under ``intents/`` and write only
there, so that an interrupted append leaves nothing that a reader sees. The file of a version that was expired
stays under ``expired/`` until a sweep has removed its shards: who has pinned it can still open it by number.
"""

import calendar
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
_CREATED = "%Y-%m-%dT%H:%M:%SZ"


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
        archive_id, variables (path to dtype), created (UTC), parent, and optionally note (what made it),
        index (generations of the id index), sources (where the data came from), bytes (of the shards added).
    """

    number: int
    partitions: np.ndarray
    header: dict[str, Any] = field(default_factory=dict)

    @property
    def archive_id(self) -> str:
        """Identifier of the archive that the version belongs to."""
        return str(self.header.get("archive_id", ""))

    @property
    def index(self) -> tuple[str, ...]:
        """Generations of the id index that together hold every object of the version; () without index."""
        return tuple(self.header.get("index") or ())

    @property
    def note(self) -> str:
        """What made the version, such as "append"."""
        return str(self.header.get("note") or "")

    @property
    def created(self) -> float:
        """When it was published, in Unix seconds."""
        text = self.header.get("created")
        return float(calendar.timegm(time.strptime(text, _CREATED))) if text else 0.0

    def partitions_at(self, key: int) -> np.ndarray:
        """Partitions whose range holds a key of ``objects/healpix``: int64, in the order of the curve."""
        order, first, reach = self._curve
        stop = int(np.searchsorted(first, np.uint64(key), side="right"))
        start = int(np.searchsorted(reach, np.uint64(key)))
        found = order[start:stop]
        return found[self.partitions["healpix_max"][found] >= np.uint64(key)]

    @cached_property
    def _curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Filled partitions along the curve, where each begins, and how far it and all before it reach."""
        order = curve_order(self.partitions)
        order = order[self.partitions["n_objects"][order] > 0]
        reach = np.maximum.accumulate(self.partitions["healpix_max"][order])
        return order, np.ascontiguousarray(self.partitions["healpix_min"][order]), reach

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


def curve_order(partitions: np.ndarray) -> np.ndarray:
    """Order of partitions along the HEALPix curve, empty ones last; stable (int64)."""
    return np.lexsort((partitions["healpix_min"], partitions["n_objects"] == 0))


def value_key(record: np.void | np.ndarray) -> tuple[bytes, int, int]:
    """What a partition holds, wherever it lies: content hash and counts."""
    return bytes(record["content"]), int(record["n_objects"]), int(record["n_observations"])


def now() -> str:
    """The time of publication as headers have it."""
    return time.strftime(_CREATED, time.gmtime())


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


def version_key(number: int) -> str:
    """Storage key of a published version."""
    return f"versions/{number:08d}.npz"


def expired_key(number: int) -> str:
    """Storage key of a version that is no longer published."""
    return f"expired/{number:08d}.npz"


def list_versions(storage: Storage) -> list[int]:
    """Numbers of the published versions, ascending; stray files of other programs are passed over."""
    return _numbers(storage, "versions")


def list_expired(storage: Storage) -> list[int]:
    """Numbers of the versions that were expired and whose shards are not swept yet, ascending."""
    return _numbers(storage, "expired")


def _numbers(storage: Storage, folder: str) -> list[int]:
    names = [name[:-4] for name in storage.names(folder) if name.endswith(".npz")]
    return sorted(int(name) for name in names if name.isdigit())


def read_version(storage: Storage, number: int | None = None) -> Version:
    """Read a version; the latest if no number is given.

    A version that was expired can be read by its number until a sweep has removed its shards.

    Raises
    ------
    ArchiveError
        If nothing is published, or not this number.
    """
    if number is None:
        return _latest(storage)
    for key in (version_key(number), expired_key(number)):
        try:
            return from_bytes(storage.read(key), str(storage.path(key)))
        except FileNotFoundError:
            continue
    known = ", ".join(map(str, list_versions(storage))) or "none"
    raise ArchiveError(f"{storage.root} has no version {number}; published: {known}")


def _latest(storage: Storage) -> Version:
    before: list[int] | None = None
    while True:
        numbers = list_versions(storage)
        if not numbers:
            raise ArchiveError(
                f"{storage.root} has no published version: its first ingest did not finish. Run it again"
            )
        key = version_key(numbers[-1])
        try:
            return from_bytes(storage.read(key), str(storage.path(key)))
        except FileNotFoundError:
            if numbers == before:
                raise
            before = numbers  # since the listing a newer one was published, and this one expired


def publish(storage: Storage, version: Version) -> None:
    """Publish a version under its number.

    Raises
    ------
    VersionConflictError
        If another writer has published this number first; nothing is changed.
    """
    try:
        storage.write_new(version_key(version.number), to_bytes(version))
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
