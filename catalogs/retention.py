"""Which versions are kept: pins, expiry, and the way back to an older one."""

import contextlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from skytrawl.catalogs import versions
from skytrawl.catalogs.holds import Hold
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.stores import read_attrs
from skytrawl.catalogs.versions import Version
from skytrawl.errors import ArchiveError, ParameterError

WEEK = 7 * 86_400.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class Pin:
    """A name that keeps a version from expiring."""

    name: str
    version: int
    note: str = ""
    created: str = ""


@contextlib.contextmanager
def maintenance(storage: Storage) -> Iterator[None]:
    """Let nobody else sweep, expire, pin or go back meanwhile; ArchiveError if somebody does."""
    try:
        hold = Hold(storage.path("maintenance.lock"))
    except BlockingIOError as error:
        raise ArchiveError(
            f"{storage.root}: another sweep, expiry, pin or way back is under way ({error}): "
            "repeat this when it is done"
        ) from None
    with hold:
        yield


def read_pins(storage: Storage) -> list[Pin]:
    """All pins, sorted by name; ArchiveError if one is damaged."""
    pins = []
    for file in storage.names("pins"):
        if file.endswith(".json"):
            try:
                content = json.loads(storage.read(f"pins/{file}"))
                pins.append(Pin(file[:-5], int(content["version"]), content["note"], content["created"]))
            except (ValueError, KeyError, TypeError) as error:
                path = storage.path(f"pins/{file}")
                raise ArchiveError(f"{path} is damaged ({error}): remove it and pin again") from error
    return pins


def pin(storage: Storage, name: str, number: int, note: str = "") -> Pin:
    """Keep a version for good, under a name.

    Raises
    ------
    ArchiveError
        If the name pins another version, or the version is not published.
    ParameterError
        If the name is no plain word.
    """
    if not _NAME.fullmatch(name):
        raise ParameterError(f"{name!r} cannot name a pin: take letters, digits and . _ + -, such as dr2")
    read_attrs(storage)
    with maintenance(storage):
        if number not in (known := versions.list_versions(storage)):
            raise ArchiveError(
                f"{storage.root} has no version {number}; published: {', '.join(map(str, known)) or 'none'}"
            )
        made = Pin(name, number, note, versions.now())
        content = {key: value for key, value in asdict(made).items() if key != "name"}
        try:
            storage.write_new(f"pins/{name}.json", json.dumps(content).encode())
        except FileExistsError:
            (old,) = (pin for pin in read_pins(storage) if pin.name == name)
            if old.version != number:
                raise ArchiveError(
                    f"{storage.root}: {name} pins version {old.version}: unpin it first, or take another name"
                ) from None
            return old
    return made


def unpin(storage: Storage, name: str) -> Pin:
    """Remove a pin and return it; ArchiveError if there is none of this name."""
    found = {pin.name: pin for pin in read_pins(storage)}
    if name not in found:
        raise ArchiveError(f"{storage.root} has no pin {name!r}; pins: {', '.join(found) or 'none'}")
    storage.delete(f"pins/{name}.json")
    return found[name]


def expire(
    storage: Storage, *, keep_last: int = 1, older_than: float = WEEK, dry_run: bool = False
) -> list[int]:
    """Take old versions off the list; a later sweep removes the shards that only they list.

    A version goes if it is neither pinned nor among the last ones nor was the latest within `older_than`
    seconds. Who has it open, or opens it by its number, goes on reading for the retention time of the sweep,
    counted from now.

    Parameters
    ----------
    storage : Storage
        Of an archive.
    keep_last : int
        Latest versions to keep, 1 at least.
    older_than : float
        Seconds since the next version took its place.
    dry_run : bool
        Change nothing.

    Returns
    -------
    list of int
        Numbers of the versions that have expired.
    """
    if keep_last < 1:
        raise ParameterError("keep_last must be 1 at least: the latest version is never removed")
    read_attrs(storage)
    limit = time.time() - older_than
    gone = []
    with contextlib.nullcontext() if dry_run else maintenance(storage):
        numbers = versions.list_versions(storage)
        pinned = {pin.version for pin in read_pins(storage)}
        for place, number in enumerate(numbers[:-keep_last], 1):
            if number in pinned or versions.read_version(storage, numbers[place]).created >= limit:
                continue
            if not dry_run:
                old = versions.read_version(storage, number)
                left = Version(number, old.partitions, {**old.header, "expired": time.time()})
                # First its place in the waiting room: a version is never in neither.
                storage.replace(versions.expired_key(number), versions.to_bytes(left))
                storage.delete(versions.version_key(number))
            gone.append(number)
    return gone


def back_to(storage: Storage, number: int) -> Version:
    """Publish the partitions of an older version again, as the newest version; the ones between stay.

    Returns
    -------
    Version
        The new version, or the latest if its partitions are the same.

    Raises
    ------
    ArchiveError
        If there is no such version, or shards of it have been swept.
    VersionConflictError
        If a writer has published meanwhile.
    """
    attrs = read_attrs(storage)
    with maintenance(storage):
        latest = versions.read_version(storage)
        old = versions.read_version(storage, number)
        if old.partitions.tobytes() == latest.partitions.tobytes() and old.index == latest.index:
            return latest
        wanted = [*shard_keys(attrs, old), *(f"index/{name}/meta.json" for name in old.index)]
        missing = sum(not storage.exists(key) for key in wanted)
        if missing:
            raise ArchiveError(
                f"{storage.root}: version {number} has expired and {missing} of its files were swept: there "
                "is no way back to it. Restore the archive from a copy, or choose one of the versions "
                f"{', '.join(map(str, versions.list_versions(storage)))}"
            )
        header: dict[str, Any] = {
            **{name: value for name, value in old.header.items() if name != "expired"},
            "created": versions.now(),
            "parent": latest.number,
            "note": f"back to {number}",
            "bytes": 0,
        }
        made = Version(latest.number + 1, old.partitions, header)
        versions.publish(storage, made)
    return made


def shard_keys(attrs: dict[str, Any], version: Version) -> Iterator[str]:
    """Keys of all shards of a version."""
    for name in attrs["variables"]:
        axis = "object" if name.startswith("objects/") else "observation"
        rows = attrs[f"{axis}_slot"]
        for first, count in version.partitions[[f"{axis}_slot", f"n_{axis}s"]].tolist():
            for slot in range(first, first - (-count // rows)):
                yield f"{name}/c/{slot}"


def history(storage: Storage) -> list[dict[str, Any]]:
    """Facts of the published versions, ascending.

    Returns
    -------
    list of dict
        number, created, note, parent, partitions, objects, observations, bytes (of the shards that the
        version added; None where it was published by an older release), pins, index, sources.
    """
    read_attrs(storage)
    pins = read_pins(storage)
    facts = []
    for number in versions.list_versions(storage):
        version = versions.read_version(storage, number)
        facts.append(
            {
                "number": number,
                "created": version.header.get("created", ""),
                "note": version.note,
                "parent": version.header.get("parent", 0),
                "partitions": len(version.partitions),
                "objects": int(version.object_starts[-1]),
                "observations": int(version.observation_starts[-1]),
                "bytes": version.header.get("bytes"),
                "pins": [pin.name for pin in pins if pin.version == number],
                "index": list(version.index),
                "sources": version.header.get("sources") or {},
            }
        )
    return facts
