"""One Zarr v3 array whose shards are slots: whole slots are written once, and every read is checked.

The arrays are ordinary sharded Zarr v3 arrays (``zarr.open_array`` reads them). They are read and written
here without Zarr, because its readers replace what is missing by the fill value, and because a task writes
or reads whole shards, where nothing is left for an event loop to do.
"""

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from skytrawl.catalogs.codecs import Coder, crc32c, fill_value, pipeline
from skytrawl.catalogs.storage import Storage
from skytrawl.errors import ArchiveError, CorruptShardError

SLOTS = 2**31
ABSENT = 2**64 - 1
READ_AHEAD = 1 << 19  # bytes that are read at once, and decoded while they are in the cache

_thread = threading.local()


@dataclass(frozen=True)
class SlotLayout:
    """How the first axis is cut: `slot` rows a shard, `inner` rows a chunk (a divisor of `slot`)."""

    slot: int
    inner: int

    def __post_init__(self) -> None:
        if self.inner < 1 or self.slot < self.inner or self.slot % self.inner:
            raise ArchiveError(
                f"a slot of {self.slot} rows is no multiple of inner chunks of {self.inner} rows"
            )


@dataclass(frozen=True)
class SlotFile:
    """A sharded array on the first axis of which partitions own slots.

    Attributes
    ----------
    storage : Storage
        Where the array lies.
    name : str
        Folder of the array below the storage.
    dtype : numpy.dtype
        Little-endian type of the values.
    layout : SlotLayout
        Rows per slot and per inner chunk.
    tail : tuple of int
        Shape of one row; () for a plain column.
    attrs : dict
        Attributes (units, long_name, ...).
    """

    storage: Storage
    name: str
    dtype: np.dtype
    layout: SlotLayout
    tail: tuple[int, ...] = ()
    dims: tuple[str, ...] = ()
    codecs: tuple[dict[str, Any], ...] = ()
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def fill(self) -> Any:
        """Value of rows that were never written."""
        return fill_value(self.dtype)

    @property
    def row_bytes(self) -> int:
        """Decoded bytes of one row."""
        return self.dtype.itemsize * int(np.prod(self.tail, dtype=np.int64))

    @cached_property
    def _coder(self) -> Coder:
        return Coder(self.codecs)

    def key(self, slot: int) -> str:
        """Storage key of the shard of a slot."""
        return f"{self.name}/c/{slot}" + "/0" * len(self.tail)

    @classmethod
    def create(
        cls,
        storage: Storage,
        name: str,
        dtype: np.dtype | str,
        layout: SlotLayout,
        dims: Sequence[str],
        *,
        tail: Sequence[int] = (),
        codec: str = "default",
        attrs: dict[str, Any] | None = None,
    ) -> "SlotFile":
        """Declare an array of 2**31 slots; no value is written.

        Raises
        ------
        FileExistsError
            If the array exists.
        """
        dtype = np.dtype(dtype).newbyteorder("<")
        made = cls(
            storage, name, dtype, layout, tuple(tail), tuple(dims), tuple(pipeline(codec, dtype)), attrs or {}
        )
        storage.write_new(f"{name}/zarr.json", json.dumps(made._metadata(), indent=2).encode())
        return made

    @classmethod
    def open(cls, storage: Storage, name: str) -> "SlotFile":
        """Open an array by its folder.

        Raises
        ------
        FileNotFoundError
            If there is no array.
        ArchiveError
            If it is not an array that skytrawl wrote.
        """
        text = storage.read(f"{name}/zarr.json")
        try:
            meta = json.loads(text)
            (sharding,) = meta["codecs"]
            shard, inner = (
                meta["chunk_grid"]["configuration"]["chunk_shape"],
                sharding["configuration"]["chunk_shape"],
            )
            tail = tuple(meta["shape"][1:])
            if tuple(shard[1:]) != tail or tuple(inner[1:]) != tail or meta["zarr_format"] != 3:
                raise ValueError("chunks divide an axis other than the first")
            settings = sharding["configuration"]
            index = [codec["name"] for codec in settings["index_codecs"]]
            if sharding["name"] != "sharding_indexed" or index != ["bytes", "crc32c"]:
                raise ValueError(f"codec {sharding['name']!r} with index {index} instead of checked shards")
            if settings.get("index_location", "end") != "end":
                raise ValueError("the index is not at the end of the shard")
            codecs = tuple(settings["codecs"])
            Coder(codecs)
            return cls(
                storage,
                name,
                dtype_from_json(meta["data_type"]),
                SlotLayout(shard[0], inner[0]),
                tail,
                tuple(meta.get("dimension_names") or ()),
                codecs,
                meta.get("attributes", {}),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            path = storage.path(f"{name}/zarr.json")
            raise ArchiveError(f"{path} does not describe an array of a skytrawl store: {error}") from error

    def write(self, first_slot: int, values: np.ndarray, *, flush: bool = True) -> int:
        """Write rows into consecutive slots from `first_slot` on, whole shards only.

        Parameters
        ----------
        first_slot : int
            Slot that takes the first rows.
        values : array of shape (rows, *tail)
            All rows of the partition.
        flush : bool
            Wait until the disk has the bytes.

        Returns
        -------
        int
            Bytes written.
        """
        values = np.asarray(values)
        if values.shape[1:] != self.tail:
            raise ValueError(f"{self.name}: rows have shape {values.shape[1:]} instead of {self.tail}")
        if values.dtype != self.dtype:
            raise ValueError(f"{self.name}: values are {values.dtype} instead of {self.dtype}")
        written = 0
        coder = self._coder
        for number in range(-(-len(values) // self.layout.slot)):
            rows = values[number * self.layout.slot : (number + 1) * self.layout.slot]
            pieces = self._encode(coder, rows)
            self.storage.replace(self.key(first_slot + number), pieces, flush)
            written += sum(map(len, pieces))
        return written

    def read(
        self,
        first_slot: int,
        start: int,
        stop: int,
        *,
        partition: int | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Rows [start, stop) of the run of slots that begins at `first_slot`.

        Parameters
        ----------
        first_slot : int
            First slot of the partition.
        start, stop : int
            Rows relative to the partition.
        partition : int, optional
            Number of the partition, for messages.
        out : array of shape (stop - start, *tail), optional
            Filled and returned if given.

        Raises
        ------
        CorruptShardError
            If a shard or an inner chunk is missing or fails its checksum; never filled.
        """
        if out is None:
            out = np.empty((stop - start, *self.tail), self.dtype)
        coder = self._coder
        slot_rows = self.layout.slot
        row = start
        while row < stop:
            number = row // slot_rows
            begin = row - number * slot_rows
            end = min(stop - number * slot_rows, slot_rows)
            target = out[row - start : row - start + end - begin]
            self._read_slot(coder, first_slot + number, begin, end, target, partition)
            row += end - begin
        return out

    def _read_slot(
        self, coder: Coder, slot: int, begin: int, end: int, out: np.ndarray, partition: int | None
    ) -> None:
        inner, chunks = self.layout.inner, self.layout.slot // self.layout.inner
        first, last = begin // inner, -(-end // inner)
        index_bytes = 16 * chunks + 4
        try:
            with self.storage.parts(self.key(slot)) as shard:
                if shard.size == 0:
                    raise ValueError("the shard is empty (0 bytes)")
                # A small shard in one piece, of a large one the index first.
                base = 0 if shard.size <= READ_AHEAD else shard.size - index_bytes
                data = shard_buffer(shard.size - base)
                shard.into(base, data)
                index = read_index(data[-index_bytes:], chunks, shard.size)[first:last]
                check_entries(index, first, shard.size - index_bytes)
                entries = index.tolist()
                scratch: np.ndarray | None = None
                for place, (offset, length) in enumerate(entries):
                    if offset < base or offset + length > base + len(data):
                        base, data = offset, shard_buffer(run_bytes(entries[place:]))
                        shard.into(base, data)
                    encoded = data[offset - base : offset - base + length]
                    number = first + place
                    low, high = max(begin, number * inner), min(end, (number + 1) * inner)
                    target = out[low - begin : high - begin]
                    if high - low == inner:
                        coder.decode(encoded, target)
                        continue
                    if scratch is None:
                        scratch = np.empty((inner, *self.tail), self.dtype)
                    coder.decode(encoded, scratch)
                    target[...] = scratch[low - number * inner : high - number * inner]
        except FileNotFoundError:
            missing = ValueError("the shard is missing")
            raise CorruptShardError(self._complaint(slot, partition, missing)) from missing
        except (ValueError, RuntimeError) as error:
            raise CorruptShardError(self._complaint(slot, partition, error)) from error

    def _complaint(self, slot: int, partition: int | None, error: Exception) -> str:
        where = f"slot {slot}" if partition is None else f"partition {partition}, slot {slot}"
        return (
            f"{self.name}, {where}: {error} (file {self.storage.path(self.key(slot))}). "
            "Restore the file from a copy, or write that partition again"
        )

    def _encode(self, coder: Coder, rows: np.ndarray) -> list[bytes]:
        inner, chunks = self.layout.inner, self.layout.slot // self.layout.inner
        index = np.full((chunks, 2), ABSENT, "<u8")
        pieces: list[bytes] = []
        position = 0
        for number in range(-(-len(rows) // inner)):
            chunk = rows[number * inner : (number + 1) * inner]
            if len(chunk) < inner:
                padded = np.full((inner, *self.tail), self.fill, self.dtype)
                padded[: len(chunk)] = chunk
                chunk = padded
            # Every used chunk is stored, also one of fill values: absence then always means damage.
            encoded = coder.encode(np.ascontiguousarray(chunk))
            length = sum(map(len, encoded))
            index[number] = position, length
            position += length
            pieces += encoded
        packed = index.tobytes()
        return [*pieces, packed, crc32c(packed).to_bytes(4, "little")]

    def _metadata(self) -> dict[str, Any]:
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [SLOTS * self.layout.slot, *self.tail],
            "data_type": dtype_to_json(self.dtype),
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [self.layout.slot, *self.tail]},
            },
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": {"f": "NaN", "S": "", "b": False}.get(self.dtype.kind, 0),
            "codecs": [
                {
                    "name": "sharding_indexed",
                    "configuration": {
                        "chunk_shape": [self.layout.inner, *self.tail],
                        "codecs": list(self.codecs),
                        "index_codecs": [little, {"name": "crc32c"}],
                        "index_location": "end",
                    },
                }
            ],
            "attributes": self.attrs,
            "dimension_names": list(self.dims),
            "storage_transformers": [],
        }


def shard_buffer(size: int) -> np.ndarray:
    """Bytes of this thread for encoded chunks, overwritten by the next call: fresh memory is slow."""
    buffer: np.ndarray | None = getattr(_thread, "buffer", None)
    if buffer is None or len(buffer) < size:
        buffer = np.empty(max(size, READ_AHEAD), np.uint8)
        if size <= 4 * READ_AHEAD:
            _thread.buffer = buffer
    return buffer[:size]


def run_bytes(entries: Sequence[Sequence[int]]) -> int:
    """Bytes of the first chunk and of those that lie right behind it, at most a window."""
    start, length = entries[0]
    end = start + length
    for offset, length in entries[1:]:
        if offset != end or offset + length - start > READ_AHEAD:
            break
        end += length
    return end - start


def read_index(tail: np.ndarray, chunks: int, size: int) -> np.ndarray:
    """Offset and length of each inner chunk (uint64, two columns), checked; ValueError if it is damaged."""
    if len(tail) != 16 * chunks + 4:
        raise ValueError(f"the shard is truncated: {size} bytes are less than its index")
    if crc32c(tail[:-4]) != int.from_bytes(tail[-4:].tobytes(), "little"):
        raise ValueError("the shard is truncated, or its index fails the checksum (crc32c)")
    return tail[:-4].view("<u8").reshape(chunks, 2)


def check_entries(entries: np.ndarray, first: int, payload: int) -> None:
    """Every used chunk must be present and lie inside the shard."""
    absent = (entries == ABSENT).any(axis=1)
    if absent.any():
        raise ValueError(f"inner chunk {first + int(np.argmax(absent))} is missing from the shard")
    if (entries > payload).any() or (entries.sum(axis=1) > payload).any():
        raise ValueError("the index points outside the shard")


def dtype_to_json(dtype: np.dtype) -> Any:
    """Type of an array as it stands in ``zarr.json``."""
    if dtype.kind == "S":
        return {"name": "null_terminated_bytes", "configuration": {"length_bytes": dtype.itemsize}}
    return dtype.name


def dtype_from_json(data: Any) -> np.dtype:
    """Type of an array from ``zarr.json``; ValueError for one that no column has."""
    if isinstance(data, dict):
        if data["name"] != "null_terminated_bytes":
            raise ValueError(f"unsupported data type {data['name']!r}")
        return np.dtype(f"S{data['configuration']['length_bytes']}")
    dtype = np.dtype(data).newbyteorder("<")
    if dtype.kind not in "fiub":
        raise ValueError(f"unsupported data type {data!r}")
    return dtype
