"""Files between the stages of an ingest: rows in the order of their buckets, column by column.

A bucket is a stretch of the HEALPix curve. A task that reads a part of the input writes one file with the
rows of all buckets; the task of a bucket later reads its stretch from every file.
"""

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from skytrawl.catalogs.storage import Storage
from skytrawl.errors import IngestError
from skytrawl.kernels.rows import counting_order, scatter

_HEAD = struct.Struct("<8sI")
_MAGIC = b"sktlspl1"
_AGAIN = "remove the unfinished ingest and start it again"


@dataclass(frozen=True)
class SpillFile:
    """Where everything lies in one file.

    Attributes
    ----------
    buckets : int64 array
        Numbers of the buckets that have rows, ascending.
    starts : int64 array of len(buckets) + 1
        First row of each.
    columns : dict of str to (dtype, byte offset)
    """

    key: str
    buckets: np.ndarray
    starts: np.ndarray
    columns: Mapping[str, tuple[np.dtype, int]]

    def rows(self, bucket: int) -> tuple[int, int]:
        """First row of a bucket and the row after its last."""
        place = int(np.searchsorted(self.buckets, bucket))
        if place == len(self.buckets) or self.buckets[place] != bucket:
            return 0, 0
        return int(self.starts[place]), int(self.starts[place + 1])


def write_spill(
    storage: Storage, key: str, columns: Mapping[str, np.ndarray], bucket: np.ndarray, n_buckets: int
) -> tuple[np.ndarray, np.ndarray]:
    """Write rows in the order of their buckets; within a bucket they keep their order.

    Parameters
    ----------
    storage : Storage
    key : str
        Name of the file; one that exists is replaced.
    columns : mapping of str to array of shape (n,)
    bucket : uint32 array of shape (n,)
    n_buckets : int

    Returns
    -------
    buckets, counts : int64 arrays
        Buckets that have rows, and how many.
    """
    ordered = bool((bucket[1:] >= bucket[:-1]).all())
    all_counts = np.bincount(bucket, minlength=n_buckets).astype(np.int64)
    first = np.concatenate([[0], np.cumsum(all_counts)])
    buckets = np.flatnonzero(all_counts)
    counts = all_counts[buckets]
    starts = np.concatenate([[0], np.cumsum(counts)])
    header = {"columns": {name: column.dtype.str for name, column in columns.items()}}
    text = json.dumps(header | {"rows": len(bucket), "buckets": len(buckets)}).encode()

    def pieces() -> Iterator[bytes | memoryview]:
        yield _HEAD.pack(_MAGIC, len(text)) + text
        yield buckets.tobytes() + starts.tobytes()
        order: np.ndarray | None = None
        for column in columns.values():
            if ordered:
                column = np.ascontiguousarray(column)
            elif column.dtype.itemsize in (1, 4, 8):
                column = scatter(column, bucket, first)
            else:
                if order is None:
                    order, _ = counting_order(bucket, n_buckets)
                column = column[order]
            yield column.view(np.uint8).data if column.size else b""

    # A file that a power failure tears has another length than the journal says.
    storage.replace(key, pieces(), flush=False)
    return buckets, counts


@lru_cache(maxsize=8192)
def _opened(storage: Storage, key: str, size: int) -> SpillFile:
    magic, length = _HEAD.unpack(storage.read_range(key, 0, _HEAD.size))
    if magic != _MAGIC:
        raise IngestError(
            f"{storage.path(key)} is no spill file: remove the unfinished ingest and start it again"
        )
    header = json.loads(storage.read_range(key, _HEAD.size, length))
    count = header["buckets"]
    place = _HEAD.size + length
    index = np.frombuffer(storage.read_range(key, place, 8 * (2 * count + 1)), np.int64)
    place += 8 * (2 * count + 1)
    columns = {}
    for name, code in header["columns"].items():
        dtype = np.dtype(code)
        columns[name] = dtype, place
        place += dtype.itemsize * header["rows"]
    if place != size:
        raise IngestError(f"{storage.path(key)} has {size} bytes instead of {place}: {_AGAIN}")
    return SpillFile(key, index[:count], index[count:], columns)


def open_spill(storage: Storage, key: str) -> SpillFile:
    """The index of a file, kept for the life of the process.

    Raises
    ------
    IngestError
        If the file is torn.
    """
    return _opened(storage, key, storage.size(key) or 0)


class SpilledRows:
    """The rows of one bucket in a list of files, read column by column.

    Parameters
    ----------
    storage : Storage
    sources : sequence of (key, bucket)
        Files, and the number of the bucket in each.
    """

    def __init__(self, storage: Storage, sources: Sequence[tuple[str, int]]) -> None:
        self.storage = storage
        self._parts = []
        for key, bucket in sources:
            file = open_spill(storage, key)
            start, stop = file.rows(bucket)
            if stop > start:
                self._parts.append((file, start, stop))
        self.n = sum(stop - start for _, start, stop in self._parts)
        self.names = {name for file, _, _ in self._parts for name in file.columns}
        self._kept: np.ndarray | None = None

    @property
    def file_of(self) -> np.ndarray:
        """Number of the file in `keys` of each row (int32)."""
        lengths = [stop - start for _, start, stop in self._parts]
        found = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        return found if self._kept is None else found[self._kept]

    @property
    def keys(self) -> list[str]:
        """Names of the files that have rows."""
        return [file.key for file, _, _ in self._parts]

    def objects(self) -> None:
        """Nothing is known of the objects before the rows are grouped."""

    def keep(self, mask: np.ndarray) -> None:
        """Restrict all columns to the rows of a mask."""
        self._kept = np.flatnonzero(mask)
        self.n = len(self._kept)

    def column(self, name: str, dtype: np.dtype, default: object = None) -> np.ndarray:
        """One column of all rows, in the order of the files.

        Parameters
        ----------
        name : str
        dtype : numpy.dtype
            Of the result; files may hold narrower ones.
        default : object
            For files without the column.
        """
        total = sum(stop - start for _, start, stop in self._parts)
        out = np.empty(total, dtype)
        place = 0
        for file, start, stop in self._parts:
            target = out[place : place + stop - start]
            place += stop - start
            if name not in file.columns:
                target[...] = default
                continue
            stored, offset = file.columns[name]
            at = offset + start * stored.itemsize
            if stored == dtype:
                self.storage.read_into(file.key, at, target.view(np.uint8))
            else:
                target[...] = np.frombuffer(
                    self.storage.read_range(file.key, at, (stop - start) * stored.itemsize), stored
                )
        return out if self._kept is None else out[self._kept]
