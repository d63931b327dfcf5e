"""Where an object is, by its id: sorted parts on disk, built and read with bounded memory.

``index/<generation>/`` holds the ids of one ingest or append with the key (column ``objects/healpix``) of
each. Ids are spread over parts by the top bits of :func:`~skytrawl.catalogs.sky.hash_of`; a part is sorted by
id and cut into blocks of 512, each with a checksum, so that one id costs one small read. A version names the
generations that together hold its objects; a later one overrides an earlier one. Generations never change.

Files: ``<part>.ids`` is ``fences | checksums | blocks``: the first id of each block, the crc32c of each
block, and the blocks (512 ids, then 512 keys; the last one padded with zeros). ``meta.json`` comes last and
tells how many ids each part holds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skytrawl.catalogs.id_parts import (
    PART_IDS,
    Generation,
    as_stored,
    drop_unfinished,
    open_generation,
    write_meta,
    write_part,
)
from skytrawl.catalogs.id_spill import Spill
from skytrawl.catalogs.storage import Storage
from skytrawl.errors import ArchiveError

__all__ = ["Built", "Generation", "build", "compact", "lookup", "open_generation"]

Batch = tuple[np.ndarray, np.ndarray]


@dataclass
class Built:
    """A generation of the index.

    Attributes
    ----------
    name : str
        Of the generation.
    count : int
        Ids that it holds.
    duplicates : int
        Ids that were met again, in the batches or in a known generation; one for each time.
    ids : array
        Examples of these, in ascending order within a part.
    keys, other_keys : uint64 arrays
        The key that is stored for each example, and the other one.
    """

    name: str
    count: int
    duplicates: int
    ids: np.ndarray
    keys: np.ndarray
    other_keys: np.ndarray


def build(
    storage: Storage,
    name: str,
    batches: Iterable[Batch],
    *,
    known: Sequence[str] = (),
    dtype: np.dtype | str | None = None,
    examples: int = 1000,
) -> Built:
    """Write a generation of the index.

    Memory is bounded (about 100 MB with ids of 8 bytes), however many ids there are: beyond a million they
    pass through files under ``staging/``.

    Parameters
    ----------
    storage : Storage
        Of an archive.
    name : str
        Of the new generation; what an interrupted call left under this name is removed.
    batches : iterable of (ids, keys)
        Integer ids or fixed-width bytes, and uint64 keys, of equal length.
    known : sequence of str
        Generations that should not hold any of the ids.
    dtype : dtype, optional
        Type of the stored ids; by default that of the first batch. Ids of the others must fit.
    examples : int
        Most duplicates that are returned.

    Returns
    -------
    Built
        Of an id that occurs several times in the batches, the lowest key is stored. An id of a known
        generation is stored all the same. Both are counted, and whether they are faults is up to the caller.

    Raises
    ------
    ArchiveError
        If the generation exists.
    ParameterError
        If ids do not fit the type.
    """
    drop_unfinished(storage, name)
    with Spill(storage, name, None if dtype is None else np.dtype(dtype)) as spill:
        for ids, keys in batches:
            spill.add(np.asarray(ids), np.asarray(keys, np.uint64))
        kind = spill.dtype or np.dtype(np.uint64)
        found = _Duplicates(storage, known, examples, kind)
        bits = _bits(spill.count)
        counts, checksums = [], []
        for part in range(1 << bits):
            ids, keys = found.unique(*spill.part(part, bits))
            checksums.append(write_part(storage, name, part, ids, keys))
            counts.append(len(ids))
    write_meta(storage, name, kind, bits, counts, checksums)
    return found.report(name, sum(counts))


def lookup(storage: Storage, names: Sequence[str], ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys of ids.

    Parameters
    ----------
    storage : Storage
        Of an archive.
    names : sequence of str
        Generations; of an id that several hold, the last one counts.
    ids : integer array or bytes array of shape (n,)
        Of the kind that the index holds.

    Returns
    -------
    found : bool array
    keys : uint64 array
        0 where not found.

    Raises
    ------
    ArchiveError
        If a generation is missing or damaged.
    ParameterError
        If numbers are looked up in an index of texts, or the other way round.
    """
    ids = np.asarray(ids)
    found = np.zeros(len(ids), bool)
    keys = np.zeros(len(ids), np.uint64)
    open_rows = np.arange(len(ids))
    for name in reversed(names):
        if not len(open_rows):
            break
        generation = open_generation(storage, name)
        fits, stored = as_stored(ids[open_rows], generation.dtype)
        rows = open_rows[fits]
        hit, key = generation.lookup(stored[fits])
        found[rows] = hit
        keys[rows[hit]] = key[hit]
        open_rows = open_rows[~found[open_rows]]
    return found, keys


def compact(storage: Storage, names: Sequence[str], new_name: str) -> Built:
    """Merge generations into a new one, part by part; of an id that several hold, the last one counts.

    The old ones stay for the versions that name them, until a sweep.

    Raises
    ------
    ArchiveError
        If a generation is missing or damaged, the new one exists, or there is none to merge.
    """
    if not names:
        raise ArchiveError(f"{storage.root}: name the generations of the index that are to be merged")
    drop_unfinished(storage, new_name)
    generations = [open_generation(storage, name) for name in names]
    dtype = _common([generation.dtype for generation in generations])
    bits = _bits(sum(generation.count for generation in generations))
    counts, checksums = [], []
    repeated = 0
    for part in range(1 << bits):
        pieces = [generation.piece(part, bits) for generation in generations]
        ids = np.concatenate([ids.astype(dtype) for ids, _ in pieces])
        keys = np.concatenate([keys for _, keys in pieces])
        # Stable: of equal ids the last one is of the last generation.
        order = np.argsort(ids, kind="stable")
        ids, keys = ids[order], keys[order]
        last = np.ones(len(ids), bool)
        last[:-1] = ids[1:] != ids[:-1]
        repeated += int((~last).sum())
        checksums.append(write_part(storage, new_name, part, ids[last], keys[last]))
        counts.append(int(last.sum()))
    write_meta(storage, new_name, dtype, bits, counts, checksums)
    none = np.zeros(0, np.uint64)
    return Built(new_name, sum(counts), repeated, np.zeros(0, dtype), none, none)


def _bits(count: int) -> int:
    """Bits of the hash that tell the part, so that no part exceeds PART_IDS (the hash is uniform)."""
    bits = 0
    while count / (1 << bits) > (PART_IDS if bits == 0 else 0.9 * PART_IDS):
        bits += 1
    return bits


def _common(dtypes: list[np.dtype]) -> np.dtype:
    kinds = {dtype.kind for dtype in dtypes}
    if kinds == {"S"}:
        return max(dtypes, key=lambda dtype: dtype.itemsize)
    if len(set(dtypes)) > 1:
        raise ArchiveError(f"generations of the index with ids of different types: {dtypes}")
    return dtypes[0]


class _Duplicates:
    """Counts ids that occur again, and keeps examples."""

    def __init__(self, storage: Storage, known: Sequence[str], most: int, dtype: np.dtype) -> None:
        self.storage, self.known, self.most, self.dtype = storage, known, most, dtype
        self.count = 0
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def unique(self, ids: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sorted ids without repetition, with the lowest key of each."""
        order = np.argsort(ids)
        again = ids[order][1:] == ids[order][:-1]
        if again.any():
            order = np.lexsort((keys, ids))
        ids, keys = ids[order], keys[order]
        if again.any():
            first = np.append(True, ~again)
            owner = (np.cumsum(first) - 1)[~first]
            repeated, other = ids[~first], keys[~first]
            ids, keys = ids[first], keys[first]
            self.note(repeated, keys[owner], other)
        if self.known:
            held, other = lookup(self.storage, self.known, ids)
            self.note(ids[held], keys[held], other[held])
        return ids, keys

    def note(self, ids: np.ndarray, keys: np.ndarray, other: np.ndarray) -> None:
        room = max(0, self.most - sum(len(part[0]) for part in self.parts))
        self.count += len(ids)
        if room and len(ids):
            self.parts.append((ids[:room].copy(), keys[:room].copy(), other[:room].copy()))

    def report(self, name: str, count: int) -> Built:
        none: list[Any] = [np.zeros(0, self.dtype), np.zeros(0, np.uint64), np.zeros(0, np.uint64)]
        ids, keys, other = (
            np.concatenate([part[i] for part in self.parts]) if self.parts else none[i] for i in range(3)
        )
        return Built(name, count, self.count, ids, keys, other)
