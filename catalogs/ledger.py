"""The ledger of a run: which partitions are done, with what result.

A task writes one record file (one or several entries) after the shards of its partitions are in
place. The driver packs loose records into immutable segments, because a million small files hurt a
shared file system. An entry belongs to (first object slot, content hash of the partition), so that
resuming and re-running after an append are one rule. Entries may occur twice (a record that was packed
but not yet deleted, a partition done by two workers): both say the same and count once.
"""

import json
import struct
import time
import uuid
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

ENTRY = np.dtype(
    [
        ("object_slot", "<i8"),
        ("content", "S32"),
        ("n_objects", "<i8"),
        ("n_observations", "<i8"),
        ("values", "S64"),
        ("seconds", "<f8"),
        ("finished", "<f8"),
        ("host", "S40"),
        ("fingerprint", "S16"),
        ("backend", "S8"),
    ]
)
SEGMENT_ENTRIES = 4096
_HEAD = struct.Struct("<8sII")
_MAGIC = b"sktlgr01"

Key = tuple[int, bytes]


class KeyValue(Protocol):
    """What the ledger asks of a storage: `skytrawl.catalogs.storage.Storage` has it."""

    def read(self, key: str) -> bytes: ...  # noqa: D102
    def list(self, prefix: str) -> list[str]: ...  # noqa: D102
    def write_new(self, key: str, data: bytes) -> None: ...  # noqa: D102
    def replace(self, key: str, data: bytes) -> None: ...  # noqa: D102
    def delete(self, key: str) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Entry:
    """One finished partition: where, how many rows, the hash of its decoded values, when and by whom."""

    object_slot: int
    content: bytes
    n_objects: int
    n_observations: int
    values: str
    seconds: float
    finished: float
    host: str
    fingerprint: str
    backend: str

    @property
    def key(self) -> Key:
        """(first object slot, content hash)."""
        return self.object_slot, self.content

    def row(self) -> tuple[Any, ...]:
        """The entry as a row of `ENTRY`."""
        return (
            self.object_slot,
            self.content,
            self.n_objects,
            self.n_observations,
            self.values.encode(),
            self.seconds,
            self.finished,
            self.host.encode("utf-8", "replace")[:40],
            self.fingerprint.encode(),
            self.backend.encode(),
        )


def partition_keys(partitions: np.ndarray) -> list[Key]:
    """Ledger keys of the rows of a version's partition table."""
    return list(zip(partitions["object_slot"].tolist(), partitions["content"].tolist(), strict=True))


class Ledger:
    """The records and segments below one prefix of a storage.

    Parameters
    ----------
    storage : Storage
        Bytes by key, with atomic exclusive writes.
    prefix : str
        Folder of the ledger, such as "dmdt-score/0123456789abcdef/ledger".
    """

    def __init__(self, storage: KeyValue, prefix: str) -> None:
        self.storage = storage
        self.prefix = prefix.rstrip("/")
        self.torn: list[str] = []
        self._packed: dict[str, np.ndarray] = {}

    def record(self, entries: Sequence[Entry]) -> str:
        """Write one record file; its shards must already be in place.

        Returns
        -------
        str
            Key of the record.
        """
        rows = np.array([entry.row() for entry in entries], dtype=ENTRY)
        key = f"{self.prefix}/records/{int(rows['object_slot'].min()):012d}-{uuid.uuid4().hex[:12]}"
        self.storage.write_new(key, encode(rows))
        return key

    def table(self) -> np.ndarray:
        """All entries as an `ENTRY` array, each key once (the first finished), sorted by slot.

        Torn or foreign files are not entries: their keys are in `torn` and the partitions count as
        unfinished.
        """
        self.torn = []
        # Loose records first: one that the driver packs meanwhile is then found in its segment.
        parts = [rows for _, rows in self._loose()]
        parts += [rows for _, rows in self._segments()]
        if not parts:
            return np.empty(0, ENTRY)
        rows = np.concatenate(parts)
        order = np.lexsort((rows["finished"], rows["content"], rows["object_slot"]))
        rows = rows[order]
        first = np.ones(len(rows), bool)
        first[1:] = (rows["object_slot"][1:] != rows["object_slot"][:-1]) | (
            rows["content"][1:] != rows["content"][:-1]
        )
        return rows[first]

    def keys(self) -> set[Key]:
        """Keys of the finished partitions."""
        return set(partition_keys(self.table()))

    def read(self) -> dict[Key, Entry]:
        """All entries by key."""
        return {entry.key: entry for entry in map(_entry, self.table().tolist())}

    def done(self, partitions: np.ndarray) -> np.ndarray:
        """Which rows of a version's partition table have an entry: bool[n_partitions]."""
        known = self.keys()
        return np.fromiter((key in known for key in partition_keys(partitions)), bool, len(partitions))

    def pack(self, least: int = SEGMENT_ENTRIES) -> int:
        """Move loose records into immutable segments; only the driver of a run does this.

        Parameters
        ----------
        least : int
            Do nothing below this number of loose entries; 1 packs everything.

        Returns
        -------
        int
            Number of entries packed.
        """
        loose = list(self._loose())
        total = sum(len(rows) for _, rows in loose)
        if total < max(least, 1):
            return 0
        rows = np.concatenate([rows for _, rows in loose])
        for start in range(0, len(rows), SEGMENT_ENTRIES):
            piece = rows[start : start + SEGMENT_ENTRIES]
            self.storage.write_new(
                f"{self.prefix}/segments/{time.time_ns():020d}-{uuid.uuid4().hex[:8]}", encode(piece)
            )
        # The segment is durable before its records go: a crash in between leaves harmless duplicates.
        for key, _ in loose:
            self._delete(key)
        return total

    def loose_files(self) -> int:
        """Number of record files that are not packed yet."""
        return len(self.storage.list(f"{self.prefix}/records/"))

    def sweep(self) -> int:
        """Delete what a crash left behind: torn files, and records already held by a segment.

        Must not run while another driver packs the same ledger.
        """
        held: set[Key] = set()
        for _, rows in self._segments():
            held |= set(partition_keys(rows))
        removed = 0
        self.torn = []
        for key, rows in self._loose():
            if held.issuperset(partition_keys(rows)):
                self._delete(key)
                removed += 1
        for key in self.torn:
            self._delete(key)
            removed += 1
        self.torn = []
        return removed

    def _segments(self) -> Iterable[tuple[str, np.ndarray]]:
        for key in self.storage.list(f"{self.prefix}/segments/"):
            if key not in self._packed:
                rows = self._decoded(key)
                if rows is None:
                    continue
                self._packed[key] = rows  # immutable, so read once
            yield key, self._packed[key]

    def _loose(self) -> Iterable[tuple[str, np.ndarray]]:
        for key in self.storage.list(f"{self.prefix}/records/"):
            rows = self._decoded(key)
            if rows is not None:
                yield key, rows

    def _decoded(self, key: str) -> np.ndarray | None:
        try:
            rows = decode(self.storage.read(key))
        except FileNotFoundError:
            return None  # packed by the driver between listing and reading: it is in a segment
        except ValueError:
            self.torn.append(key)
            return None
        return rows

    def _delete(self, key: str) -> None:
        try:
            self.storage.delete(key)
        except FileNotFoundError:
            return


def encode(rows: np.ndarray) -> bytes:
    """Bytes of an `ENTRY` array: magic, count, crc32, rows."""
    body = np.ascontiguousarray(rows, ENTRY).tobytes()
    return _HEAD.pack(_MAGIC, len(rows), zlib.crc32(body)) + body


def decode(data: bytes) -> np.ndarray:
    """The `ENTRY` array of `encode`; ValueError where the bytes are torn or of something else."""
    if len(data) < _HEAD.size:
        raise ValueError("too short for a ledger record")
    magic, count, checksum = _HEAD.unpack_from(data)
    body = data[_HEAD.size :]
    if magic != _MAGIC or len(body) != count * ENTRY.itemsize or zlib.crc32(body) != checksum:
        raise ValueError("not a whole ledger record")
    return np.frombuffer(body, ENTRY)


def _entry(row: tuple[Any, ...]) -> Entry:
    slot, content, objects, observations, values, seconds, finished, host, fingerprint, backend = row
    return Entry(
        slot, content, objects, observations, values.decode(), seconds, finished,
        host.decode("utf-8", "replace"), fingerprint.decode(), backend.decode(),
    )  # fmt: skip


@dataclass(frozen=True)
class Failure:
    """A partition that was given up: why, after how many attempts, with the traceback."""

    partition: int
    object_slot: int
    content: str
    error: str
    traceback: str
    attempts: int
    host: str = ""
    finished: float = 0.0

    @property
    def key(self) -> Key:
        """(first object slot, content hash)."""
        return self.object_slot, self.content.encode()


class Failures:
    """The failed partitions of a run, one small file each, below one prefix of a storage."""

    def __init__(self, storage: KeyValue, prefix: str) -> None:
        self.storage = storage
        self.prefix = prefix.rstrip("/")

    def _key(self, slot: int, content: str) -> str:
        return f"{self.prefix}/{slot:012d}-{content[:16]}.json"

    def record(self, failure: Failure) -> None:
        """Write or replace the record of a partition."""
        text = json.dumps(failure.__dict__, indent=1)
        self.storage.replace(self._key(failure.object_slot, failure.content), text.encode())

    def clear(self, keys: Iterable[Key]) -> None:
        """Forget partitions that have been done after all."""
        present = set(self.storage.list(f"{self.prefix}/"))
        if not present:
            return
        for slot, content in keys:
            key = self._key(slot, content.decode())
            if key in present:
                self.storage.delete(key)

    def read(self) -> dict[Key, Failure]:
        """All failures by partition key; a torn file is skipped, its partition is simply unfinished."""
        found = {}
        for key in self.storage.list(f"{self.prefix}/"):
            try:
                failure = Failure(**json.loads(self.storage.read(key)))
            except (ValueError, TypeError, FileNotFoundError):
                continue
            found[failure.key] = failure
        return found
