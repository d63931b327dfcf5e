"""What an ingest that did not come to its end has left: to be continued, or to be removed."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from pathlib import Path

from skytrawl.catalogs.holds import is_held
from skytrawl.catalogs.storage import PARTIAL, Storage
from skytrawl.catalogs.sweep import DOOMED
from skytrawl.catalogs.versions import list_versions
from skytrawl.errors import IngestError, PreflightError
from skytrawl.lock import NAME

# All that stands in the folder of an archive without a version.
_OWN = {"staging", "objects", "lightcurves", "intents", "writers", "index", "zarr.json", "maintenance.lock"}


def check_place(path: Path, prefix: str, restart: bool) -> None:
    """Refuse a path that holds anything but an interrupted ingest of the same input.

    Parameters
    ----------
    path : Path
        Of the archive.
    prefix : str
        Folder below it in which this ingest works.
    restart : bool
        Remove an interrupted ingest, whatever its input.

    Raises
    ------
    IngestError
        Says what the path holds.
    PreflightError
        If what would be removed is still at work.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    numbers = list_versions(Storage(path))
    if numbers == [1] and (path / prefix).is_dir():
        return  # published, and killed before it could say so
    names = {child.name for child in path.iterdir()} if path.is_dir() else set()
    own = {name for name in names if name in _OWN or name.endswith(PARTIAL)}
    if numbers or "staging" not in names or names - own - {"versions"}:
        if numbers:
            _drop_graves(path)
        more = ", or add to it with append (skytrawl append)" if numbers else ""
        raise IngestError(f"{path} exists already: choose another path, or remove it first{more}")
    waiting = _waiting(path)
    if restart or not waiting:  # without: a sweep has given it up
        for folder in waiting:
            if is_held(folder / NAME):
                raise PreflightError(f"an ingest is at work in {folder}: wait for it, or stop it first")
        forget(path)
    elif waiting != [path / prefix]:
        raise IngestError(
            f"{path} holds an unfinished ingest of other input or with other parameters: repeat that command "
            "to go on with it, or pass restart=True (--restart) to begin anew"
        )


def refuse_company(path: Path, prefix: str) -> None:
    """Of several first ingests that began in one folder at the same moment, let none go on.

    Raises
    ------
    PreflightError
        If another one has a folder there too; the own one is removed.
    """
    others = [folder for folder in _waiting(path) if folder != path / prefix]
    if others:
        drop(bury(path / prefix))
        raise PreflightError(
            f"another ingest has begun in {path} at the same moment ({others[0]}): choose another path"
        )


def bury(folder: Path) -> Path:
    """Take a staging folder away at once, so that nobody continues what is half gone; its new place."""
    grave = folder.with_name(f"{DOOMED}{uuid.uuid4().hex}")
    with contextlib.suppress(FileNotFoundError):
        folder.rename(grave)
    return grave


def drop(folder: Path) -> None:
    """Remove a folder below ``staging/``, and that one if it is the last."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # others are at work
        folder.parent.rmdir()


def forget(path: Path) -> None:
    """Remove an archive that has no version; what an interrupted call leaves is known to be given up."""
    for folder in _waiting(path):
        bury(folder)
    for child in path.iterdir():
        if child.name != "staging":
            shutil.rmtree(child, ignore_errors=True)
            if child.is_file():
                child.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def drop_older(path: Path, fingerprint: str) -> None:
    """Remove what the same append left on top of older versions: it cannot be continued."""
    for folder in _waiting(path):
        if folder.name.startswith(f"{fingerprint}-on-") and not is_held(folder / NAME):
            drop(bury(folder))
    _drop_graves(path)


def _drop_graves(path: Path) -> None:
    """Finish removals that were interrupted."""
    for grave in (path / "staging").glob(f"{DOOMED}*"):
        drop(grave)


def _waiting(path: Path) -> list[Path]:
    """Folders of ingests that can be continued."""
    staging = path / "staging"
    if not staging.is_dir():
        return []
    away = (DOOMED, "index-")  # being removed; spilled identifiers of the index
    return [folder for folder in staging.iterdir() if folder.is_dir() and not folder.name.startswith(away)]
