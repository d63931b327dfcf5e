"""Bytes by key below one root folder, with the few atomic operations that archives and results rest on.

Everything that is not read by another program through plain Zarr goes through :class:`Storage`, so that an
object store needs one class of the same shape: whole reads, ranged reads, listing, exclusive creation,
replacement.
"""

import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

PARTIAL = ".partial"
_WRONG = frozenset(("", ".", ".."))
Keys = list[str]  # inside the class the name list is its method


class Storage:
    """Bytes by key below one local folder.

    A key is a relative path with forward slashes. A write is complete or absent: bytes go to a temporary
    name in the same folder, are flushed to the disk and then take their final name. Instances are small and
    picklable.

    Parameters
    ----------
    root : str or Path
        Folder that holds all keys; created by the first write.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(os.path.abspath(root))

    def __repr__(self) -> str:
        return f"Storage({str(self.root)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Storage) and other.root == self.root

    def __hash__(self) -> int:
        return hash(self.root)

    def path(self, key: str) -> Path:
        """Local file of a key.

        Raises
        ------
        ValueError
            If the key is empty, absolute or leaves the root.
        """
        return Path(self._file(key))

    def _file(self, key: str) -> str:
        # Reads of one object make dozens of these, so without pathlib.
        if not _WRONG.isdisjoint(key.split("/")) or key.endswith(PARTIAL):
            raise ValueError(f"{key!r} is not a storage key: use relative names joined by single slashes")
        return f"{self.root}/{key}"

    def child(self, prefix: str) -> "Storage":
        """The storage whose root is a folder of this one."""
        return Storage(self.path(prefix))

    def read(self, key: str) -> bytes:
        """All bytes of a key; FileNotFoundError if it is absent."""
        with open(self._file(key), "rb", buffering=0) as file:
            return file.readall()

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """Up to `length` bytes from `start`; a negative `start` counts from the end."""
        with open(self._file(key), "rb", buffering=0) as file:
            if start < 0:
                start = max(0, os.fstat(file.fileno()).st_size + start)
            file.seek(start)
            # A raw read may return less than asked for large requests.
            parts = []
            while length > 0 and (part := file.read(length)):
                parts.append(part)
                length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def parts(self, key: str) -> "Parts":
        """A key opened for reads of its parts, as a context manager; FileNotFoundError if it is absent."""
        return Parts(self._file(key))

    def read_into(self, key: str, start: int, out: np.ndarray) -> None:
        """Fill an array of bytes (uint8, contiguous) from `start` on; EOFError if there are fewer."""
        view = memoryview(out.data)
        with open(self.path(key), "rb", buffering=0) as file:
            file.seek(start)
            while len(view):
                count = file.readinto(view)
                if not count:
                    raise EOFError(f"{self.path(key)} ends {len(view)} bytes too early")
                view = view[count:]

    def exists(self, key: str) -> bool:
        """Whether the key holds bytes (zero bytes count)."""
        return self.path(key).is_file()

    def size(self, key: str) -> int | None:
        """Number of bytes, or None if the key is absent."""
        try:
            return os.stat(self._file(key)).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def list(self, prefix: str = "") -> Keys:
        """Sorted keys in the folder `prefix` and below, without unfinished writes."""
        top = self.path(prefix.rstrip("/")) if prefix else self.root
        keys: Keys = []
        for folder, _, names in os.walk(top):
            relative = Path(folder).relative_to(self.root).as_posix()
            head = "" if relative == "." else relative + "/"
            keys.extend(head + name for name in names if not name.endswith(PARTIAL))
        return sorted(keys)

    def names(self, prefix: str) -> Keys:
        """Sorted names directly in a folder ("" is the root), without unfinished writes; may be empty."""
        try:
            return sorted(
                name
                for name in os.listdir(self.path(prefix) if prefix else self.root)
                if not name.endswith(PARTIAL)
            )
        except (FileNotFoundError, NotADirectoryError):
            return []

    def delete(self, key: str) -> None:
        """Remove a key; an absent key is no error."""
        self.path(key).unlink(missing_ok=True)

    def flush(self, keys: Iterable[str]) -> None:
        """Wait until the disk has files and their names."""
        folders = set()
        for key in keys:
            path = self.path(key)
            folders.add(path.parent)
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        for folder in folders:
            _flush_folder(folder)

    def write_new(self, key: str, data: bytes | Iterable[bytes]) -> None:
        """Create a key that must not exist yet, atomically.

        Raises
        ------
        FileExistsError
            If the key exists, also when another process creates it at the same moment.
        """
        target = self.path(key)
        with self._temporary(target, data, flush=True) as temporary:
            # link() fails when the name exists; rename() would replace it.
            os.link(temporary, target)
        _flush_folder(target.parent)

    def replace(self, key: str, data: bytes | Iterable[bytes | memoryview], flush: bool = True) -> None:
        """Create or replace a key atomically; `flush` waits until the disk has it."""
        target = self.path(key)
        with self._temporary(target, data, flush) as temporary:
            os.replace(temporary, target)
        if flush:
            _flush_folder(target.parent)

    def sweep(self, older_than: float) -> int:
        """Remove unfinished writes that are older than `older_than` seconds; returns how many."""
        found = list(self.unfinished(older_than))
        for path, _ in found:
            path.unlink(missing_ok=True)
        return len(found)

    def unfinished(self, older_than: float) -> Iterator[tuple[Path, int]]:
        """File and bytes of the unfinished writes that are older than `older_than` seconds."""
        limit = time.time() - older_than
        for folder, _, names in os.walk(self.root):  # folders that others remove meanwhile are passed over
            for name in names:
                if name.endswith(PARTIAL):
                    path = Path(folder, name)
                    with suppress(FileNotFoundError):  # finished since it was listed
                        state = path.stat()
                        if state.st_mtime < limit:
                            yield path, state.st_size

    @contextmanager
    def _temporary(
        self, target: Path, data: bytes | Iterable[bytes | memoryview], flush: bool
    ) -> Iterator[Path]:
        temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex}{PARTIAL}")
        chunks = [data] if isinstance(data, bytes | bytearray | memoryview) else data
        if not target.parent.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "xb", buffering=0) as file:
                for chunk in chunks:
                    view = memoryview(chunk)
                    while len(view):
                        view = view[file.write(view) :]
                if flush:
                    os.fsync(file.fileno())
            yield temporary
        except OSError as error:
            if error.filename is None:  # a full disk does not say whose
                error.filename = str(target)
            raise
        finally:
            temporary.unlink(missing_ok=True)


class Parts:
    """The bytes of one key, read in parts into memory of the caller.

    Attributes
    ----------
    size : int
        Number of bytes.
    """

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (closed by __exit__)
        self.size = os.fstat(self._file.fileno()).st_size

    def into(self, start: int, out: Any) -> None:
        """Fill a writable buffer of bytes with those from `start` on; ValueError if the key ends before."""
        self._file.seek(start)
        view = memoryview(out.data)
        while len(view):
            count = self._file.readinto(view)
            if not count:
                raise ValueError(f"the file ends at byte {self._file.tell()}")
            view = view[count:]

    def __enter__(self) -> "Parts":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def _flush_folder(folder: Path) -> None:
    # Without this a power loss can forget the new name although the bytes are on the disk.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
