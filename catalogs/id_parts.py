"""Parts of a generation of the id index: written once, read by ranges, checked."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from skytrawl.catalogs.codecs import crc32c
from skytrawl.catalogs.sky import hash_of
from skytrawl.catalogs.storage import Storage
from skytrawl.errors import ArchiveError, ParameterError

BLOCK = 512
PART_IDS = 1 << 20
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Generation:
    """A complete generation of the index.

    Attributes
    ----------
    storage : Storage
        Of the archive.
    name : str
        Folder below ``index/``.
    dtype : numpy.dtype
        Of the ids.
    bits : int
        Top bits of the hash that tell the part.
    counts : int64 array
        Ids of each part.
    checksums : uint32 array
        crc32c over fences and checksums of each part.
    """

    storage: Storage
    name: str
    dtype: np.dtype
    bits: int
    counts: np.ndarray
    checksums: np.ndarray

    @property
    def count(self) -> int:
        """Ids of all parts."""
        return int(self.counts.sum())

    def lookup(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(found, keys) of ids in the type of the generation."""
        found, keys = np.zeros(len(ids), bool), np.zeros(len(ids), np.uint64)
        parts = part_of(ids, self.bits)
        order = np.lexsort((ids, parts)) if len(ids) > 1 else np.zeros(len(ids), np.intp)
        borders = np.flatnonzero(np.diff(parts[order])) + 1
        for rows in np.split(order, borders):
            if len(rows):
                found[rows], keys[rows] = self._in_part(int(parts[rows[0]]), ids[rows])
        return found, keys

    def _in_part(self, part: int, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of ascending ids of one part."""
        found, keys = np.zeros(len(ids), bool), np.zeros(len(ids), np.uint64)
        if not self.counts[part]:
            return found, keys
        fences, _ = self._head(part)
        block = np.searchsorted(fences, ids, side="right") - 1
        inside = np.flatnonzero(block >= 0)
        if not len(inside):
            return found, keys
        needed = np.unique(block[inside])
        # Most of the part: one read. A few blocks: each run of neighbours.
        if len(needed) * 4 > len(fences):
            runs = [np.array([0, len(fences) - 1])]
        else:
            runs = np.split(needed, np.flatnonzero(np.diff(needed) > 1) + 1)
        for run in runs:
            first, last = int(run[0]), int(run[-1]) + 1
            rows = inside[(block[inside] >= first) & (block[inside] < last)]
            stored, values = self.blocks(part, first, last)
            place = np.minimum(np.searchsorted(stored, ids[rows]), len(stored) - 1)
            hit = stored[place] == ids[rows]
            found[rows] = hit
            keys[rows[hit]] = values[place[hit]]
        return found, keys

    def blocks(self, part: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and keys of blocks [first, last) of a part, checked."""
        fences, checksums = self._head(part)
        width = BLOCK * (self.dtype.itemsize + 8)
        start = _head_bytes(len(fences), self.dtype) + first * width
        data = np.frombuffer(self._read(part, start, (last - first) * width), np.uint8)
        if len(data) != (last - first) * width:
            raise self._damaged(part, "it is truncated")
        rows = data.reshape(last - first, width)
        for number, row in enumerate(rows, first):
            if crc32c(row) != checksums[number]:
                raise self._damaged(part, f"block {number} fails its checksum (crc32c)")
        count = min(int(self.counts[part]), last * BLOCK) - first * BLOCK
        split = BLOCK * self.dtype.itemsize
        ids = np.ascontiguousarray(rows[:, :split]).reshape(-1).view(self.dtype)[:count]
        keys = np.ascontiguousarray(rows[:, split:]).reshape(-1).view("<u8")[:count]
        return ids, keys

    def piece(self, part: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and keys whose hash begins with `bits` bits that are the number `part`; ascending by part."""
        if bits >= self.bits:
            own = part >> (bits - self.bits)
            ids, keys = self.whole(own)
            if bits > self.bits:
                mine = part_of(ids, bits) == part
                ids, keys = ids[mine], keys[mine]
            return ids, keys
        shift = self.bits - bits
        pieces = [self.whole(own) for own in range(part << shift, (part + 1) << shift)]
        return np.concatenate([ids for ids, _ in pieces]), np.concatenate([keys for _, keys in pieces])

    def whole(self, part: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and keys of a part, ascending by id."""
        blocks = -(-int(self.counts[part]) // BLOCK)
        if not blocks:
            return np.zeros(0, self.dtype), np.zeros(0, np.uint64)
        return self.blocks(part, 0, blocks)

    def parts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Ids and keys of all parts, one by one."""
        for part in range(len(self.counts)):
            yield self.whole(part)

    def _head(self, part: int) -> tuple[np.ndarray, np.ndarray]:
        return _part_head(self, part)

    def _read(self, part: int, start: int, length: int) -> bytes:
        try:
            return self.storage.read_range(_key(self.name, part), start, length)
        except FileNotFoundError:
            raise self._damaged(part, "it is missing") from None

    def _damaged(self, part: int, what: str) -> ArchiveError:
        path = self.storage.path(_key(self.name, part))
        return ArchiveError(
            f"{path}: {what}. Restore the file from a copy, or an older version of the archive"
        )


@lru_cache(maxsize=256)
def _part_head(generation: Generation, part: int) -> tuple[np.ndarray, np.ndarray]:
    """First ids and checksums of the blocks of a part."""
    blocks = -(-int(generation.counts[part]) // BLOCK)
    size = _head_bytes(blocks, generation.dtype)
    data = generation._read(part, 0, size)
    if len(data) != size or crc32c(data) != generation.checksums[part]:
        raise generation._damaged(part, "it is truncated, or its fences fail the checksum (crc32c)")
    border = blocks * generation.dtype.itemsize
    return np.frombuffer(data[:border], generation.dtype), np.frombuffer(data[border:], "<u4")


def open_generation(storage: Storage, name: str) -> Generation:
    """Open a generation; the process keeps it.

    Raises
    ------
    ArchiveError
        If it is missing, unfinished or damaged.
    """
    try:
        state = storage.path(_meta(name)).stat()
    except FileNotFoundError:
        raise ArchiveError(
            f"{storage.root} lacks the generation {name!r} of its id index: restore "
            f"{storage.path(f'index/{name}')} from a copy"
        ) from None
    return _opened(storage, name, (state.st_ino, state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=64)
def _opened(storage: Storage, name: str, state: tuple[int, ...]) -> Generation:
    path = storage.path(_meta(name))
    try:
        meta = json.loads(storage.read(_meta(name)))
        body = meta["body"]
        if crc32c(_canonical(body)) != meta["crc32c"]:
            raise ValueError("its checksum (crc32c) does not match")
        if body["format"] > _FORMAT:
            raise ArchiveError(
                f"{path} has format {body['format']}, this release reads {_FORMAT}: update skytrawl"
            )
        counts = np.array(body["counts"], np.int64)
        return Generation(
            storage,
            name,
            np.dtype(body["dtype"]),
            body["bits"],
            counts,
            np.array(body["checksums"], np.uint32),
        )
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(f"{path} is damaged: {error}. Restore it from a copy") from error


def write_part(storage: Storage, name: str, part: int, ids: np.ndarray, keys: np.ndarray) -> int:
    """Write ascending ids and their keys; returns the checksum of the head. Nothing for an empty part."""
    if not len(ids):
        return 0
    blocks = -(-len(ids) // BLOCK)
    split = BLOCK * ids.dtype.itemsize
    rows = np.zeros((blocks, split + 8 * BLOCK), np.uint8)
    for column, values in ((slice(None, split), ids), (slice(split, None), keys.astype("<u8", copy=False))):
        padded = np.zeros(blocks * BLOCK, values.dtype)
        padded[: len(values)] = values
        rows[:, column] = padded.view(np.uint8).reshape(blocks, -1)
    checksums = np.array([crc32c(row) for row in rows], "<u4")
    head = np.ascontiguousarray(ids[::BLOCK]).tobytes() + checksums.tobytes()
    storage.write_new(_key(name, part), [head, rows.tobytes()])
    return int(crc32c(head))


def write_meta(
    storage: Storage, name: str, dtype: np.dtype, bits: int, counts: Sequence[int], checksums: Sequence[int]
) -> None:
    """Complete a generation."""
    body = {
        "format": _FORMAT,
        "dtype": dtype.newbyteorder("<").str,
        "bits": bits,
        "counts": list(counts),
        "checksums": list(checksums),
    }
    text = json.dumps({"body": body, "crc32c": crc32c(_canonical(body))})
    storage.write_new(_meta(name), text.encode())


def drop_unfinished(storage: Storage, name: str) -> None:
    """Remove what an interrupted build left; ArchiveError if the generation is complete."""
    if storage.exists(_meta(name)):
        raise ArchiveError(f"{storage.path(f'index/{name}')} exists: choose another name for the generation")
    for key in storage.list(f"index/{name}"):
        storage.delete(key)


def as_stored(ids: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Which ids the type can hold, and all of them in it (others wrapped or cut).

    Raises
    ------
    ParameterError
        If one is text and the other numbers.
    """
    if (ids.dtype.kind == "S") != (dtype.kind == "S") or ids.dtype.kind not in "Siu":
        kinds = {"S": "texts"}
        raise ParameterError(
            f"ids of type {ids.dtype}, but the index holds {kinds.get(dtype.kind, 'numbers')} ({dtype})"
        )
    if ids.dtype == dtype:
        return np.ones(len(ids), bool), ids
    stored = ids.astype(dtype)
    if dtype.kind == "S":
        return np.char.str_len(ids) <= dtype.itemsize, stored
    limits = np.iinfo(dtype)
    fits = np.ones(len(ids), bool)
    if ids.dtype.kind == "i" and limits.min == 0:
        fits &= ids >= 0
    if np.iinfo(ids.dtype).max > limits.max:
        fits &= ids <= ids.dtype.type(limits.max)
    if limits.min and np.iinfo(ids.dtype).min < limits.min:
        fits &= ids >= limits.min
    return fits, stored


def part_of(ids: np.ndarray, bits: int) -> np.ndarray:
    """Part of each id: the top bits of its hash (uint32)."""
    if not bits:
        return np.zeros(len(ids), np.uint32)
    return (hash_of(ids) >> np.uint64(64 - bits)).astype(np.uint32)


def _head_bytes(blocks: int, dtype: np.dtype) -> int:
    return blocks * (dtype.itemsize + 4)


def _key(name: str, part: int) -> str:
    return f"index/{name}/{part:05d}.ids"


def _meta(name: str) -> str:
    return f"index/{name}/meta.json"


def _canonical(body: Any) -> bytes:
    return json.dumps(body, sort_keys=True).encode()
