"""What other processes do in the tests of kills: ingest, append, sweep, read. Imported by name there."""

import hashlib
import json
import os
import resource
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs import retention, versions
from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.sweep import sweep
from skytrawl.catalogs.versions import content_hash
from skytrawl.errors import ArchiveError, SkytrawlError
from skytrawl.intake import census
from skytrawl.intake.driver import append, ingest

MUTATIONS = ("link", "replace", "rename", "unlink", "remove", "rmdir", "mkdir")


def act(work: str, words: dict[str, Any], begun: str, result: str, **how: Any) -> None:
    """Ingest or append in a process group of its own; the report, or the error, goes to a file.

    Parameters
    ----------
    work : {"ingest", "append"}
    words : dict
        Of the function.
    begun : str
        File that appears when the work begins (with workers: when they are there).
    result : str
        File for the outcome.
    **how
        kill_at: number of the change to the file system that is the last; count: count them; largest: bytes
        of the largest file that may be written; generations: most of the index.
    """
    os.setsid()
    if "largest" in how:
        resource.setrlimit(resource.RLIMIT_FSIZE, (how["largest"], resource.RLIM_INFINITY))
    if "generations" in how:
        census.MOST_GENERATIONS = how["generations"]
    made = counted(how.get("kill_at", 0)) if "kill_at" in how or "count" in how else [0]
    function: Callable[..., Any] = {"ingest": ingest, "append": append}[work]
    begins: list[float] = []

    def begin(*_: Any) -> None:
        if not begins:
            begins.append(time.monotonic())
            Path(begun).touch()

    if words.get("cluster") == "inline":
        begin()
    try:
        found = function(progress=begin, **words).to_dict()
        found["took"] = time.monotonic() - begins[0]
        found["changes"] = made[0]
    except (SkytrawlError, OSError) as error:
        found = {"error": type(error).__name__, "text": str(error)}
    Path(result).write_text(json.dumps(found))


def counted(last: int) -> list[int]:
    """Count all changes to the file system from here on; at the one with this number the process dies.

    Odd numbers die before the change is made, even ones after it.
    """
    made = [0]

    def watch(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **words: Any) -> Any:
            made[0] += 1
            if made[0] == last and last % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return function(*args, **words)
            finally:
                if made[0] == last:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    for name in MUTATIONS:
        setattr(os, name, watch(getattr(os, name)))
    return made


def state_of(archive: Archive) -> str:
    """Digest of all values, object by object in the order of identifiers."""
    names = [name for name in archive.variables if not name.endswith("first_observation")]
    blocks = [archive.read(number, names) for number in range(archive.n_partitions)]
    for number, block in enumerate(blocks):
        columns = {f"objects/{name}": column for name, column in block.objects.items()}
        columns |= {f"lightcurves/{name}": column for name, column in block.observations.items()}
        columns["objects/first_observation"] = block.offsets[:-1]
        if content_hash(columns).encode() != archive.version.partitions["content"][number]:
            raise ValueError(f"version {archive.version.number}, partition {number}: other values")
    ids = np.concatenate([block.objects["object_id"] for block in blocks])
    if len(np.unique(ids)) != len(ids):
        raise ValueError(f"version {archive.version.number}: an object stands twice")
    counts = np.concatenate([np.diff(block.offsets) for block in blocks])
    owner = np.repeat(ids, counts)
    digest = hashlib.sha256(repr(archive.bands).encode())
    for group, order in (("objects", np.argsort(ids)), ("observations", np.argsort(owner, kind="stable"))):
        for name in sorted(getattr(blocks[0], group)):
            column = np.concatenate([getattr(block, group)[name] for block in blocks])
            digest.update(name.encode() + column[order].tobytes())
    return digest.hexdigest()


def read_on(path: str, states: list[str], allowed_after: float, result: str) -> None:
    """Read whole latest versions until a file ``<result>.stop`` appears; what is wrong goes to a file.

    Parameters
    ----------
    path : str
    states : list of str
        Digests that are allowed, in the order in which they follow each other.
    allowed_after : float
        Seconds after opening a version from which on a missing shard is no fault.
    result : str
        File for the number of versions read, by state.
    """
    seen = [0] * len(states)
    latest = -1
    while not os.path.exists(result + ".stop"):
        start = time.monotonic()
        try:
            archive = Archive.open(path)
        except ArchiveError as error:
            if latest < 0 and ("no published version" in str(error) or "ingest" in str(error)):
                time.sleep(0.01)
                continue
            Path(result).write_text(json.dumps({"error": repr(error)}))
            return
        try:
            state = states.index(state_of(archive))
            first = archive.read(0, ["object_id"]).objects["object_id"]
            place = archive.find(first[len(first) // 2].item())
            if state < latest or place != (0, len(first) // 2):
                raise ValueError(f"state {state} after {latest}, object at {place}")
        except Exception as error:
            if time.monotonic() - start > allowed_after:
                continue
            text = f"version {archive.version.number}, after {time.monotonic() - start:.2f} s: {error!r}"
            Path(result).write_text(json.dumps({"error": text}))
            return
        latest = state
        seen[state] += 1
    Path(result).write_text(json.dumps({"seen": seen}))


def sweep_on(path: str, older_than: float, faults: str) -> None:
    """Expire and sweep until killed; errors other than that there is nothing to sweep go to a file."""
    storage = Storage(path)
    while True:
        try:
            if versions.list_versions(storage):
                retention.expire(storage, older_than=older_than)
            sweep(storage, older_than=older_than)
        except ArchiveError:
            pass  # no archive yet
        except Exception as error:
            if versions.list_versions(storage):
                Path(faults).write_text("".join(traceback.format_exception(error)))
        time.sleep(0.02)


def fresh(path: Path) -> None:
    """Remove a folder."""
    shutil.rmtree(path, ignore_errors=True)
