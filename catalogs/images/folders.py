"""Zarr groups that are complete or absent: written under a temporary name, then moved into place."""

import ctypes
import errno
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from skytrawl.catalogs.images.frame import Frame, canonical, sealed, unsealed
from skytrawl.catalogs.images.planes import Plane
from skytrawl.catalogs.images.quantised import quantise_plane
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.stores import group_metadata
from skytrawl.catalogs.versions import content_hash
from skytrawl.errors import CorruptShardError, SchemaError

PARTIAL = "partial"
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of renameat2(2)


def write_group(
    storage: Storage, target: Path, frame: Frame, quantise: Mapping[str, float], flush: bool
) -> str:
    """Write a checked frame as the group `target`, replacing one with other content.

    Parameters
    ----------
    storage : Storage
        The store, below whose root unfinished groups lie.
    target : Path
    frame : Frame
    quantise : mapping of str to float
        Planes that become integers, and their step in units of their noise.
    flush : bool

    Returns
    -------
    str
        Content hash.
    """
    arrays, notes = _stored(frame, quantise)
    content = _content(frame, arrays, notes)
    if _holds(target, content):
        return content
    planes = {
        name: Plane.of(target / name, values, frame.dims[name], notes.get(name, {}))
        for name, values in arrays.items()
    }
    record = {
        "id": frame.id,
        "content": content,
        "nbytes": sum(plane.nbytes for plane in planes.values()),
        "arrays": list(planes),
        "attrs": frame.attrs,
        "row": frame.row,
    }
    temporary = storage.path(f"{PARTIAL}/{uuid.uuid4().hex}")
    try:
        sizes: dict[str, int] = {}
        for name, plane in planes.items():
            place = temporary / name
            _write(place / "zarr.json", target, temporary, [_json(plane.metadata())], flush)
            if arrays[name].size:
                file = temporary / plane.file.relative_to(target)
                sizes[name] = _write(file, target, temporary, plane.encoded(arrays[name]), flush)
        record["sizes"] = sizes
        _write(
            temporary / "zarr.json", target, temporary, [group_metadata({"skytrawl": sealed(record)})], flush
        )
        if flush:
            _flush_folders(temporary)
        _move(temporary, target, content)
        if flush:
            _flush(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return content


def read_group(folder: Path, what: str) -> dict[str, Any]:
    """The record of a group.

    Raises
    ------
    CorruptShardError
        If it is missing or damaged.
    """
    file = folder / "zarr.json"
    try:
        meta = json.loads(file.read_bytes())
        if (meta["zarr_format"], meta["node_type"]) != (3, "group"):
            raise ValueError("it is no Zarr v3 group")
        return unsealed(meta["attributes"]["skytrawl"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptShardError(
            f"{what}: {file} is missing or damaged ({error}). Restore it from a copy, or write it again"
        ) from error


def _stored(
    frame: Frame, quantise: Mapping[str, float]
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    arrays = dict(frame.arrays)
    notes: dict[str, dict[str, Any]] = {}
    for name, fraction in quantise.items():
        if name not in arrays:
            raise SchemaError(f"frame {frame.id} has no array {name!r} that could be quantised")
        # Frames differ in their dither, so that errors do not add up when they are stacked.
        seed = zlib.crc32(f"{frame.id}/{name}".encode())
        try:
            arrays[name], notes[name] = quantise_plane(arrays[name], fraction, seed)
        except SchemaError as error:
            raise SchemaError(f"frame {frame.id}, {name}: {error}") from error
    return arrays, notes


def _content(frame: Frame, arrays: Mapping[str, np.ndarray], notes: Mapping[str, Any]) -> str:
    dims = {name: list(axes) for name, axes in frame.dims.items()}
    texts = canonical({"attrs": frame.attrs, "row": frame.row, "dims": dims, "notes": dict(notes)})
    return xxhash.xxh3_128(f"{content_hash(arrays)}|{texts}".encode()).hexdigest()


def _holds(target: Path, content: str) -> bool:
    """Whether a whole group with this content lies there; files of another length are not kept."""
    try:
        record = read_group(target, "")
        sizes = record["sizes"].items()
        planes = {name: Plane.open(target / name) for name in record["arrays"]}
        return record["content"] == content and all(
            planes[name].file.stat().st_size == size for name, size in sizes
        )
    except (CorruptShardError, OSError, KeyError, AttributeError):
        return False


def _move(temporary: Path, target: Path, content: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            os.rename(temporary, target)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        if _holds(target, content):
            return  # another process wrote the same meanwhile
        if _exchange(temporary, target):
            return
        old = temporary.with_name(uuid.uuid4().hex)
        try:
            os.rename(target, old)
        except FileNotFoundError:
            continue
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, two: Path) -> bool:
    """Swap two names in one step, so that a reader or a kill never finds none; False where that cannot be."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # pragma: no cover - systems other than Linux
        return False
    code = rename(_HERE, os.fsencode(one), _HERE, os.fsencode(two), ctypes.c_uint(_EXCHANGE))
    return int(code) == 0


def _write(file: Path, target: Path, temporary: Path, pieces: Iterable[bytes], flush: bool) -> int:
    """Write a new file; errors name the file that it would have become."""
    final = target / file.relative_to(temporary)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "xb") as stream:
            for piece in pieces:
                stream.write(piece)
            stream.flush()
            if flush:
                os.fsync(stream.fileno())
            return stream.tell()
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(final)) from error


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode()


def _flush_folders(top: Path) -> None:
    for folder, _, _ in os.walk(top, topdown=False):
        _flush(Path(folder))


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
