"""Files of an ingest beside the spilled rows, and the archive that it writes into."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.versions import PARTITION
from skytrawl.catalogs.writer import ArchiveWriter

# The archive of each thread and its writer: opening one reads a dozen files, and one gives slots to one task
# at a time.
_writers: dict[int, tuple[tuple[Any, ...], ArchiveWriter]] = {}


def partitions_of(record: dict[str, Any]) -> np.ndarray:
    """The rows of the partition table that a record speaks of."""
    return np.frombuffer(base64.b64decode(record["partitions"]), PARTITION)


def save_arrays(storage: Storage, key: str, **arrays: np.ndarray) -> None:
    """Arrays as one file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    storage.replace(key, buffer.getvalue(), flush=False)


def load_arrays(storage: Storage, key: str) -> dict[str, np.ndarray]:
    """Arrays of :func:`save_arrays`."""
    with np.load(io.BytesIO(storage.read(key)), allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


def load_array(storage: Storage, key: str) -> np.ndarray:
    """The one array of a file."""
    (values,) = load_arrays(storage, key).values()
    return values


def declared_columns(storage: Storage) -> dict[str, np.dtype]:
    """Types of the archive's columns by short name."""
    return {name.rpartition("/")[2]: dtype for name, dtype in writer_of(storage).dtypes.items()}


def shard_keys(storage: Storage, record: dict[str, Any]) -> Iterator[str]:
    """Files of the partitions that a record speaks of."""
    writer = writer_of(storage)
    for row in partitions_of(record):
        for name, array in writer.arrays.items():
            axis = "object" if name.startswith("objects/") else "observation"
            used = -(-int(row[f"n_{axis}s"]) // array.layout.slot)
            yield from (array.key(int(row[f"{axis}_slot"]) + number) for number in range(used))


def flush(storage: Storage, records: Sequence[dict[str, Any]]) -> None:
    """Wait until the disk has all shards that a version is about to list.

    By now the system has written most of them: waiting shard by shard would have held the tasks up.
    """
    keys = [key for record in records if "partitions" in record for key in shard_keys(storage, record)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(storage.flush, (keys[start::8] for start in range(8))))


def remove(storage: Storage, keys: Sequence[str]) -> None:
    """Remove files."""
    for key in keys:
        storage.delete(key)


def discard(storage: Storage, record: dict[str, Any]) -> None:
    """Remove the shards of partitions that no version will list."""
    remove(storage, list(shard_keys(storage, record)))


def release() -> None:
    """Let go of the reservations of this process: its writers are done."""
    for _, writer in list(_writers.values()):
        writer.close()
    _writers.clear()


def writer_of(storage: Storage) -> ArchiveWriter:
    """The archive that the ingest writes into, opened once a thread."""
    state = storage.path("zarr.json").stat()
    key = (storage.root, state.st_ino, state.st_mtime_ns)
    thread = threading.get_ident()
    if (held := _writers.get(thread)) is None or held[0] != key:
        if held is not None:
            held[1].close()
        _writers[thread] = held = key, ArchiveWriter(storage.root)
    return held[1]
