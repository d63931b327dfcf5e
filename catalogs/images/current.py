"""Results of a job over images: one store of frames a run, and a pointer to the current one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skytrawl.catalogs.storage import Storage

if TYPE_CHECKING:
    from skytrawl.catalogs.images.store import FrameStore

POINTER = "current.json"


def open_frames(path: str | Path, version: int | None = None) -> FrameStore:
    """The store of frames at a path, or that of the current run of a job's results.

    Parameters
    ----------
    path : path
        What `ingest-images` or a job over images wrote.
    version : int, optional
        Default the latest.
    """
    from skytrawl.catalogs.images.store import FrameStore

    return FrameStore.open(run_folder(path), version)


def run_folder(path: str | Path) -> Path:
    """Folder of the frames: the path itself, or that of the current run below it."""
    path = Path(path)
    current = pointed(path)
    return path / "runs" / current["run"] if current else path


def pointed(path: str | Path) -> dict[str, Any]:
    """Run and identity that the pointer of a job's results names; {} where there is none."""
    try:
        found: dict[str, Any] = json.loads(Storage(path).read(POINTER))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return found


def point(path: str | Path, run: str, identity: dict[str, Any]) -> None:
    """Make a run the current one."""
    Storage(path).replace(POINTER, json.dumps({"run": run, "identity": identity}, indent=1).encode())
