"""Stores of frames: exposures, references, difference images, candidates of a detection run.

``frames/<id>/`` is a Zarr group and holds what belongs to one frame; ``versions/<n>.json`` names the table of
a version, which lists the frames and their values. A frame is written under a temporary name and moved into
place whole, so that it is complete or absent; any number of processes may write different frames.
"""

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.images.folders import PARTIAL, read_group, write_group
from skytrawl.catalogs.images.frame import PLANE, Frame, canonical, check_id, checked, plain, unsealed
from skytrawl.catalogs.images.planes import Plane, Window
from skytrawl.catalogs.images.publishing import publish, version_key, versions_of
from skytrawl.catalogs.images.table import decoded, fingerprint_of, table_of
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.stores import FORMAT, group_metadata, store_attrs
from skytrawl.errors import (
    ArchiveError,
    CorruptShardError,
    NotAnArchiveError,
    ObjectNotFoundError,
)

LAYOUT = "frames"


class FrameStore:
    """One version of a store of frames, opened for reading and for writing more.

    Cheap to pickle: only path and version number travel, and the receiving process opens them once.

    Attributes
    ----------
    storage : Storage
        Its bytes.
    attrs : dict
        What was given at creation.
    kind : str
        What the frames are, such as "exposures".
    version : int
        The version that `table` shows; 0 before the first is published.
    """

    def __init__(self, storage: Storage, record: dict[str, Any], version: int) -> None:
        self.storage = storage
        self.kind = str(record["kind"])
        self.attrs: dict[str, Any] = dict(record["attrs"])
        self.version = version

    @classmethod
    def create(cls, path: str | Path, kind: str, attrs: Mapping[str, Any] | None = None) -> "FrameStore":
        """Make an empty store, or open one of the same kind and attributes (an interrupted run goes on).

        Raises
        ------
        ArchiveError
            If the path holds a store of another kind or with other attributes, or something else.
        """
        storage = Storage(path)
        given = plain(attrs or {})
        record = {"format": FORMAT, "layout": LAYOUT, "kind": kind, "attrs": given}
        if storage.root.exists() and not storage.exists("zarr.json") and os.listdir(storage.root):
            raise ArchiveError(f"{storage.root} exists and is no store: choose another path, or remove it")
        try:
            storage.write_new("zarr.json", group_metadata({"skytrawl": record}))
        except FileExistsError:
            found = cls.open(path)
            if found.kind != kind or canonical(found.attrs) != canonical(given):
                raise ArchiveError(
                    f"{storage.root} is a store of {found.kind} made with {canonical(found.attrs):.300}, "
                    f"not of {kind} with {canonical(given):.300}: choose another path"
                ) from None
        storage.replace("frames/zarr.json", group_metadata({}))
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path, version: int | None = None) -> "FrameStore":
        """Open a version, the latest by default.

        Raises
        ------
        NotAnArchiveError
            If the path holds no store of frames; says what it is and what to do.
        ArchiveError
            If there is no such version.
        """
        storage = Storage(path)
        record = store_attrs(storage)
        if record.get("layout") != LAYOUT:
            raise NotAnArchiveError(
                f"{storage.root} is a skytrawl store of kind {record['kind']!r}, not one of frames: make one "
                "with `skytrawl ingest-images`"
            )
        known = versions_of(storage)
        number = (known[-1] if known else 0) if version is None else version
        if number and number not in known:
            names = ", ".join(map(str, known)) or "none"
            raise ArchiveError(f"{storage.root} has no version {number}; published: {names}")
        return cls(storage, record, number)

    def amend(self, **attrs: Any) -> None:
        """Change attributes given at creation, for those who open the store from now on."""
        if any(self.attrs.get(name) != value for name, value in attrs.items()):
            self.attrs |= plain(attrs)
            record = {"format": FORMAT, "layout": LAYOUT, "kind": self.kind, "attrs": self.attrs}
            self.storage.replace("zarr.json", group_metadata({"skytrawl": record}))

    @staticmethod
    def cached(path: str | Path, number: int | None = None) -> "FrameStore":
        """The opened version, kept for the life of the process; without number, or with 0, no table."""
        name = str(path)
        number = number or 0
        try:
            state = os.stat(os.path.join(name, f"versions/{number:08d}.json" if number else "zarr.json"))
        except OSError:
            return FrameStore.open(name, number)  # names what is wrong
        return _opened(name, number, (state.st_ino, state.st_mtime_ns, state.st_size))

    def __reduce__(self) -> tuple[Any, ...]:
        return FrameStore.cached, (str(self.path), self.version)

    def __repr__(self) -> str:
        return f"<FrameStore {self.path} version {self.version}: {len(self)} {self.kind}>"

    def __len__(self) -> int:
        return len(self.table["id"])

    def __contains__(self, frame_id: object) -> bool:
        return frame_id in self._rows

    @property
    def path(self) -> Path:
        """Folder of the store."""
        return self.storage.root

    @cached_property
    def _header(self) -> dict[str, Any]:
        if not self.version:
            return {"table": None, "fingerprint": fingerprint_of(self.kind, table_of([]))}
        file = self.storage.path(version_key(self.version))
        try:
            return unsealed(json.loads(file.read_bytes()))
        except (ValueError, AttributeError) as error:
            raise ArchiveError(
                f"{file} is damaged ({error}): restore it, or open an older version"
            ) from error

    @cached_property
    def table(self) -> dict[str, np.ndarray]:
        """The columns: id, content (hash), nbytes and the values of the rows, in the order of ids.

        bool, int64, float64 or fixed-width bytes; ragged columns come with ``<name>_offsets``.
        """
        if not self.version:
            return table_of([])
        folder = self.storage.path(f"tables/{self._header['table']}")
        record = read_group(folder, "the table")
        return {name: Plane.open(folder / name).read() for name in record["arrays"]}

    @property
    def fingerprint(self) -> str:
        """32 hex digits that change when any value of the version changes."""
        return str(self._header["fingerprint"])

    @cached_property
    def ids(self) -> list[str]:
        """Ids of the frames of the version, ascending."""
        return decoded(self.table["id"])

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.ids)}

    def row_number(self, frame_id: str) -> int:
        """Row of a frame in the table; ObjectNotFoundError if the version does not list it."""
        if frame_id not in self._rows:
            raise ObjectNotFoundError(f"version {self.version} of {self.path} lists no frame {frame_id!r}")
        return self._rows[frame_id]

    def folder(self, frame_id: str) -> Path:
        """Folder of a frame, a Zarr group."""
        return self.storage.path(f"frames/{check_id(frame_id)}")

    def has(self, frame_id: str) -> bool:
        """Whether a frame lies in the store, published or not."""
        return (self.folder(frame_id) / "zarr.json").is_file()

    def write(self, frame: Frame, *, quantise: Mapping[str, float] | None = None, flush: bool = True) -> str:
        """Write a frame, whole or not at all; one that lies there with the same content is kept.

        Parameters
        ----------
        frame : Frame
        quantise : dict of str to float, optional
            Planes that are stored as integers, and their step in units of the pixel noise (such as 0.25).
        flush : bool
            Wait until the disk has the bytes.

        Returns
        -------
        str
            Content hash, of arrays, attributes and row.

        Raises
        ------
        SchemaError
            If the frame cannot be stored; lists every fault.
        OSError
            If the disk is full, naming the file; nothing is left behind.
        """
        return write_group(self.storage, self.folder(frame.id), checked(frame), quantise or {}, flush)

    def record(self, frame_id: str) -> dict[str, Any]:
        """What a frame holds: id, content, nbytes, arrays, attrs and row.

        Raises
        ------
        ObjectNotFoundError
            If the store holds no such frame and the version lists none.
        CorruptShardError
            If the version lists the frame and it is missing, or its record is damaged.
        ArchiveError
            If the frame was replaced since the version was published.
        """
        folder = self.folder(frame_id)
        listed = self.version and frame_id in self._rows
        if not (folder / "zarr.json").is_file() and not listed:
            raise ObjectNotFoundError(f"{self.path} holds no frame {frame_id!r}")
        record = read_group(folder, f"frame {frame_id}")
        if listed:
            wanted = self.table["content"][self._rows[frame_id]].decode()
            if record["content"] != wanted:
                raise ArchiveError(
                    f"frame {frame_id} of {self.path} was replaced since version {self.version} was "
                    f"published (content {record['content']}, not {wanted}): publish again, and open the "
                    "latest version"
                )
        return record

    def plane(self, frame_id: str, name: str) -> Plane:
        """One array of a frame, opened but not read; CorruptShardError if it is missing."""
        with _named(frame_id, name):
            return Plane.open(self.folder(frame_id) / name)

    def read_plane(self, frame_id: str, name: str, plane: Plane, window: Window | None) -> np.ndarray:
        """Values of an opened array in a window of all its axes; errors name the frame."""
        with _named(frame_id, name):
            return plane.read(window)

    def read(
        self,
        frame_id: str,
        names: Iterable[str] | None = None,
        window: tuple[int, int, int, int] | None = None,
    ) -> Frame:
        """Read a frame, or some of its arrays, or a window of them.

        Parameters
        ----------
        frame_id : str
        names : iterable of str, optional
            Arrays; all by default.
        window : (int, int, int, int), optional
            y0, y1, x0, x1, inside the planes: cut out of all arrays on (y, x), of which only the chunks that
            it touches are read.

        Returns
        -------
        Frame

        Raises
        ------
        CorruptShardError
            Naming frame, array and file, if anything that the frame lists is missing, truncated or altered.
        ObjectNotFoundError
            If there is no such frame, or no such array in it.
        """
        for _ in range(20):
            before = _state(self.folder(frame_id))
            try:
                record = self.record(frame_id)
                frame = self._read(frame_id, record, names, window)
            except CorruptShardError:
                if _state(self.folder(frame_id)) == before:
                    raise
                continue
            # A writer that replaced the frame meanwhile would leave arrays of two frames in one.
            if _state(self.folder(frame_id)) == before:
                return frame
        raise ArchiveError(
            f"frame {frame_id} of {self.path} is being replaced again and again: read it later"
        )

    def _read(
        self,
        frame_id: str,
        record: dict[str, Any],
        names: Iterable[str] | None,
        window: tuple[int, int, int, int] | None,
    ) -> Frame:
        frame = Frame(frame_id, {}, record["attrs"], record["row"], {})
        for name in record["arrays"] if names is None else names:
            if name not in record["arrays"]:
                raise ObjectNotFoundError(
                    f"frame {frame_id} of {self.path} has no array {name!r}; "
                    f"it has {', '.join(record['arrays'])}"
                )
            plane = self.plane(frame_id, name)
            frame.arrays[name] = self.read_plane(frame_id, name, plane, _window(plane, window))
            frame.dims[name] = plane.dims
        return frame

    def delete(self, frame_id: str) -> None:
        """Remove a frame; versions that list it can no longer read it. An absent one is no error."""
        away = self.storage.path(f"{PARTIAL}/{uuid.uuid4().hex}")
        away.parent.mkdir(exist_ok=True)
        try:
            os.rename(self.folder(frame_id), away)
        except FileNotFoundError:
            return
        shutil.rmtree(away, ignore_errors=True)

    def written(self) -> list[str]:
        """Ids of the frames that lie in the store, published or not, ascending."""
        return [name for name in self.storage.names("frames") if name != "zarr.json"]

    def publish(self, rows: Iterable[str | Mapping[str, Any]] | None = None) -> int:
        """Publish the next version, whose table lists exactly these frames; see `publishing.publish`."""
        return publish(self, self.written() if rows is None else rows)

    def sweep(self, older_than: float) -> int:
        """Remove what killed writers left that is older than `older_than` seconds; returns how many."""
        limit = time.time() - older_than
        found = 0
        for name in self.storage.names(PARTIAL):
            folder = self.storage.path(f"{PARTIAL}/{name}")
            if folder.is_dir() and folder.stat().st_mtime < limit:
                shutil.rmtree(folder, ignore_errors=True)
                found += 1
        return found


@contextmanager
def _named(frame_id: str, name: str) -> Iterator[None]:
    try:
        yield
    except CorruptShardError as error:
        raise CorruptShardError(
            f"frame {frame_id}, {name}: {error}. Restore the file from a copy, or delete the frame and "
            "write it again"
        ) from error


@lru_cache(maxsize=16)
def _opened(path: str, number: int, state: tuple[int, ...]) -> FrameStore:
    return FrameStore.open(path, number)


def _state(folder: Path) -> tuple[int, int]:
    try:
        state = os.stat(folder / "zarr.json")
    except OSError:
        return 0, 0
    return state.st_ino, state.st_mtime_ns


def _window(plane: Plane, window: tuple[int, int, int, int] | None) -> Window | None:
    if window is None or plane.dims[-2:] != PLANE:
        return None
    y0, y1, x0, x1 = window
    height, width = plane.shape[-2:]
    if not (0 <= y0 <= y1 <= height and 0 <= x0 <= x1 <= width):
        raise IndexError(f"window {window} is not inside the {height} rows and {width} columns of the plane")
    lead = tuple(slice(0, size) for size in plane.shape[:-2])
    return (*lead, slice(y0, y1), slice(x0, x1))
