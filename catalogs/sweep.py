"""Removing what nobody reads any more: shards without version, unfinished work, parts of dropped indexes."""

import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs import versions
from skytrawl.catalogs.holds import Hold, is_held
from skytrawl.catalogs.retention import WEEK, maintenance
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.stores import read_attrs
from skytrawl.catalogs.versions import Version

DOOMED = "removed-"  # begins the name of a staging folder that is being removed


@dataclass
class Swept:
    """What a sweep removed, or with `dry_run` would remove.

    Attributes
    ----------
    shards, unfinished : int
        Files that no version lists, and temporary files of writers that are gone.
    staging, indexes, versions : int
        Folders of interrupted work, generations of the id index, files of expired versions.
    bytes : int
        Of all these.
    at_work : list of str
        Locks that are held and staging folders that stay: while there are any, reservations are left alone,
        however old.
    dry_run : bool
        Nothing was removed.
    """

    shards: int = 0
    unfinished: int = 0
    staging: int = 0
    indexes: int = 0
    versions: int = 0
    bytes: int = 0
    at_work: list[str] = field(default_factory=list)
    dry_run: bool = False

    @property
    def total(self) -> int:
        """Number of things removed."""
        return self.shards + self.unfinished + self.staging + self.indexes + self.versions

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values."""
        return asdict(self)


def sweep(
    storage: Storage,
    older_than: float = WEEK,
    *,
    dry_run: bool = False,
    held: Callable[[Path], bool] | None = None,
) -> Swept:
    """Remove what no version lists and no writer can still want.

    - Shards that only expired versions list, once the expiry is older than the retention. A reader that has
      opened a version can therefore read on for the retention time after it expired.
    - Shards that no version ever listed, if their reservation is older than the retention and no writer is at
      work and no staging folder waits to be continued.
    - Unfinished writes, staging folders that nobody holds and generations of the id index that no version
      names, all if untouched for the retention time.

    It may be killed at any moment: what a version lists is never touched, and the next sweep goes on.

    Parameters
    ----------
    storage : Storage
        Of an archive.
    older_than : float
        Retention in seconds. More than the longest read of a version, and, on file systems without locks,
        than the longest ingest.
    dry_run : bool
        Only count.
    held : callable, optional
        Further test of whether a staging folder is in use; the locks ``*.lock`` in it are looked at anyway.

    Returns
    -------
    Swept

    Raises
    ------
    NotAnArchiveError
        If the storage holds no archive.
    ArchiveError
        If another sweep is under way, or a version is damaged.
    """
    attrs = read_attrs(storage)
    with contextlib.nullcontext() if dry_run else maintenance(storage):
        return _Sweep(storage, attrs, time.time() - older_than, dry_run, held).go(older_than)


class _Sweep:
    def __init__(
        self,
        storage: Storage,
        attrs: dict[str, Any],
        limit: float,
        dry_run: bool,
        held: Callable[[Path], bool] | None,
    ) -> None:
        self.storage, self.limit, self.held = storage, limit, held
        self.names: list[str] = attrs["variables"]
        self.done = Swept(dry_run=dry_run)

    def go(self, older_than: float) -> Swept:
        for path, size in list(self.storage.unfinished(older_than)):
            self.done.unfinished += 1
            self._remove(path, size)
        self._staging()
        # Shards, then reservations, then locks, then versions: a shard that is listed here was reserved
        # before, and a writer whose lock is free by now has published what it ever will.
        slots = {name: self._slots(name) for name in self.names}
        intents = [json.loads(self.storage.read(f"intents/{name}")) for name in self.storage.names("intents")]
        generations = self.storage.names("index")
        self._writers()
        kept, gone, index = self._versions()
        for axis, group in (("object", "objects"), ("observation", "lightcurves")):
            young = _Runs()
            for intent in intents:
                if intent["created"] >= self.limit:
                    young.add([intent[f"{axis}_slot"]], [intent[f"{axis}_slots"]])
            for name in self.names:
                if name.startswith(group + "/"):
                    found = slots[name]
                    free = ~kept[axis].hold(found) & ~young.hold(found)
                    if self.done.at_work:
                        free &= gone[axis].hold(found)
                    for slot in found[free].tolist():
                        path = self.storage.path(f"{name}/c/{slot}")
                        self.done.shards += 1
                        self._remove(path, self.storage.size(f"{name}/c/{slot}") or 0)
        for name in generations:
            if name not in index and not self.done.at_work:
                self._generation(name)
        # Last: as long as its file is there, it is known which shards were an expired version's.
        for number, _ in self._expired(old=True):
            path = self.storage.path(versions.expired_key(number))
            self.done.versions += 1
            self._remove(path, path.stat().st_size)
        return self.done

    def _slots(self, name: str) -> np.ndarray:
        return np.array([int(key) for key in self.storage.names(f"{name}/c") if key.isdigit()], np.int64)

    def _staging(self) -> None:
        for name in self.storage.names("staging"):
            folder = self.storage.path(f"staging/{name}")
            size, newest, locks = _contents(folder)
            doomed = name.startswith(DOOMED)
            if not doomed and (
                newest >= self.limit
                or any(is_held(lock) for lock in locks)
                or (self.held is not None and self.held(folder))
            ):
                self.done.at_work.append(f"staging/{name}")
                continue
            self.done.staging += 1
            self.done.bytes += size
            if self.done.dry_run:
                continue
            if doomed or not folder.is_dir():
                # Its owner may be removing it too.
                shutil.rmtree(folder, ignore_errors=True)
                folder.unlink(missing_ok=True) if folder.is_file() else None
                continue
            try:
                with Hold(folder / "driver.lock"):
                    # At once, so that nobody continues work of which half is gone.
                    grave = folder.with_name(f"{DOOMED}{uuid.uuid4().hex}")
                    folder.rename(grave)
                shutil.rmtree(grave, ignore_errors=True)
            except (BlockingIOError, FileNotFoundError):  # somebody goes on with it, or has just removed it
                self.done.staging -= 1
                self.done.bytes -= size
                self.done.at_work.append(f"staging/{name}")

    def _writers(self) -> None:
        for name in self.storage.names("writers"):
            path = self.storage.path(f"writers/{name}")
            if is_held(path, remove=not self.done.dry_run):
                self.done.at_work.append(f"writers/{name}")

    def _versions(self) -> tuple[dict[str, "_Runs"], dict[str, "_Runs"], set[str]]:
        """Slots of versions that can be read, those of versions whose time is over, generations in use."""
        kept = {"object": _Runs(), "observation": _Runs()}
        gone = {"object": _Runs(), "observation": _Runs()}
        index: set[str] = set()
        # Published before expired, as a version goes from here to there.
        numbers = versions.list_versions(self.storage)
        for number in numbers:
            version = versions.read_version(self.storage, number)
            _add(kept, version)
            index.update(version.index)
        for _, version in self._expired(old=False):
            _add(kept, version)
            index.update(version.index)
        for number, version in self._expired(old=True):
            if number not in numbers:
                _add(gone, version)
        return kept, gone, index

    def _expired(self, old: bool) -> Iterator[tuple[int, Version]]:
        for number in versions.list_expired(self.storage):
            key = versions.expired_key(number)
            version = versions.from_bytes(self.storage.read(key), str(self.storage.path(key)))
            if (float(version.header["expired"]) < self.limit) == old:
                yield number, version

    def _generation(self, name: str) -> None:
        folder = self.storage.path(f"index/{name}")
        size, newest, _ = _contents(folder)
        if newest >= self.limit:
            return
        self.done.indexes += 1
        self.done.bytes += size
        if not self.done.dry_run:
            self.storage.delete(f"index/{name}/meta.json")  # first, so that the rest is no generation
            shutil.rmtree(folder, ignore_errors=True)

    def _remove(self, path: Path, size: int) -> None:
        self.done.bytes += size
        if not self.done.dry_run:
            path.unlink(missing_ok=True)


class _Runs:
    """Runs of slots; a run begins where no other one does."""

    def __init__(self) -> None:
        self.runs: dict[int, int] = {}
        self.ready: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, first: list[int], count: list[int]) -> None:
        self.runs.update(zip(first, count, strict=True))
        self.ready = None

    def hold(self, slots: np.ndarray) -> np.ndarray:
        """Whether each slot lies in a run."""
        if not self.runs:
            return np.zeros(len(slots), bool)
        if self.ready is None:
            ordered = np.array(sorted(self.runs.items()), np.int64)
            self.ready = ordered[:, 0].copy(), np.maximum.accumulate(ordered.sum(axis=1))
        first, last = self.ready
        place = np.searchsorted(first, slots, side="right") - 1
        return (place >= 0) & (slots < last[np.maximum(place, 0)])


def _add(runs: dict[str, _Runs], version: Version) -> None:
    for axis, own in runs.items():
        own.add(version.partitions[f"{axis}_slot"].tolist(), version.partitions[f"{axis}_slots"].tolist())


def _contents(folder: Path) -> tuple[int, float, list[Path]]:
    """Bytes, latest change and locks of a folder (or file) and all below."""
    size, newest = 0, 0.0
    locks: list[Path] = []
    paths = [folder, *(Path(top) / name for top, dirs, files in os.walk(folder) for name in (*dirs, *files))]
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            state = path.stat()
            newest = max(newest, state.st_mtime)
            if not path.is_dir():
                size += state.st_size
                if path.suffix == ".lock":
                    locks.append(path)
    return size, newest, locks
