"""Ids on their way into the index: in memory while they are few, else in files by the hash."""

import shutil
import uuid
from types import TracebackType

import numpy as np

from skytrawl.catalogs.id_parts import PART_IDS, as_stored, part_of
from skytrawl.catalogs.storage import Storage
from skytrawl.errors import ParameterError

# Files by the top bits of the hash; ids in memory before they go there.
BUCKET_BITS = 8
BUFFER_IDS = PART_IDS


class Spill:
    """Collects ids and keys, and gives them back by the top bits of the hash.

    As a context manager it removes its files at the end.

    Attributes
    ----------
    dtype : numpy.dtype or None
        Of the ids; that of the first batch unless given.
    count : int
        Ids collected.
    """

    def __init__(self, storage: Storage, name: str, dtype: np.dtype | None) -> None:
        self.dtype = dtype
        self.count = 0
        self.folder = storage.path(f"staging/index-{name}-{uuid.uuid4().hex[:12]}")
        self._buffer: list[np.ndarray] = []
        self._held = 0
        self._spilled = False

    def __enter__(self) -> "Spill":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._spilled:
            shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, ids: np.ndarray, keys: np.ndarray) -> None:
        """Collect a batch.

        Raises
        ------
        ParameterError
            If ids and keys differ in length, or an id does not fit the type.
        """
        if len(ids) != len(keys):
            raise ParameterError(f"{len(ids)} ids with {len(keys)} keys")
        if not len(ids):
            return
        if self.dtype is None:
            self.dtype = ids.dtype.newbyteorder("<")
        fits, stored = as_stored(ids, self.dtype)
        if not fits.all():
            row = int(np.argmin(fits))
            raise ParameterError(
                f"id {ids[row]!r} does not fit the type {self.dtype} of the index: pass a wider dtype"
            )
        step = BUFFER_IDS
        for start in range(0, len(ids), step):
            part = slice(start, start + step)
            rows = np.empty(len(stored[part]), self._record())
            rows["id"], rows["key"] = stored[part], keys[part]
            self._buffer.append(rows)
            self._held += len(rows)
            self.count += len(rows)
            if self._held > BUFFER_IDS:
                self._flush()

    def part(self, part: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and keys whose hash begins with `bits` bits that are the number `part`."""
        if self._held and self._spilled:
            self._flush()
        if not self._spilled:
            rows = self._joined()
            mine = part_of(rows["id"], bits) == part if bits else slice(None)
            return np.ascontiguousarray(rows["id"][mine]), np.ascontiguousarray(rows["key"][mine])
        if bits >= BUCKET_BITS:
            buckets = range(part >> (bits - BUCKET_BITS), (part >> (bits - BUCKET_BITS)) + 1)
        else:
            shift = BUCKET_BITS - bits
            buckets = range(part << shift, (part + 1) << shift)
        pieces = []
        for bucket in buckets:
            path = self.folder / f"{bucket:03d}"
            if not path.exists():
                continue
            with open(path, "rb", buffering=0) as file:
                while len(rows := np.fromfile(file, self._record(), BUFFER_IDS)):
                    if bits > BUCKET_BITS:
                        rows = rows[part_of(rows["id"], bits) == part]
                    pieces.append(rows)
        rows = np.concatenate(pieces) if pieces else np.empty(0, self._record())
        return np.ascontiguousarray(rows["id"]), np.ascontiguousarray(rows["key"])

    def _flush(self) -> None:
        rows = self._joined()
        self._buffer, self._held = [], 0
        self.folder.mkdir(parents=True, exist_ok=True)
        self._spilled = True
        bucket = part_of(rows["id"], BUCKET_BITS).astype(np.uint8)
        order = np.argsort(bucket, kind="stable")
        rows, bucket = rows[order], bucket[order]
        starts = np.searchsorted(bucket, np.arange(257))
        for number in range(256):
            piece = rows[starts[number] : starts[number + 1]]
            if len(piece):
                with open(self.folder / f"{number:03d}", "ab") as file:
                    file.write(piece.data)

    def _joined(self) -> np.ndarray:
        if len(self._buffer) != 1:
            joined = np.concatenate(self._buffer) if self._buffer else np.empty(0, self._record())
            self._buffer = [joined]
        return self._buffer[0]

    def _record(self) -> np.dtype:
        return np.dtype([("id", self.dtype or np.dtype(np.uint64)), ("key", "<u8")])
