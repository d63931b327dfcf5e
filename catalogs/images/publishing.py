"""Versions of a store of frames: a table in a folder of its own, and the file that names it."""

import json
import shutil
import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from skytrawl.catalogs.images.folders import read_group, write_group
from skytrawl.catalogs.images.frame import Frame, plain, sealed
from skytrawl.catalogs.images.table import FIXED, OFFSETS, fingerprint_of, table_of
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.versions import now
from skytrawl.errors import ObjectNotFoundError, VersionConflictError

if TYPE_CHECKING:
    from skytrawl.catalogs.images.store import FrameStore


def versions_of(storage: Storage) -> list[int]:
    """Numbers of the published versions of a store of frames, ascending."""
    names = [name[:-5] for name in storage.names("versions") if name.endswith(".json")]
    return sorted(int(name) for name in names if name.isdigit())


def version_key(number: int) -> str:
    """Storage key of a version."""
    return f"versions/{number:08d}.json"


def publish(store: "FrameStore", rows: Iterable[str | Mapping[str, Any]]) -> int:
    """Publish the next version of a store: its table lists exactly these frames.

    Parameters
    ----------
    store : FrameStore
    rows : iterable of str or mapping
        Ids of frames, whose rows are those they were written with, or rows with `id` and the values of the
        table in their place (with `content` and `nbytes`, the frame is not opened for them).

    Returns
    -------
    int
        Its number; the number of the latest version if that has the same values.

    Raises
    ------
    ObjectNotFoundError
        If a frame is not there.
    SchemaError
        If rows do not fit together.
    VersionConflictError
        If another process publishes at the same time; nothing is changed.
    """
    table = table_of([_row(store, row) for row in rows])
    fingerprint = fingerprint_of(store.kind, table)
    latest = type(store).open(store.path)
    if latest.version and latest.fingerprint == fingerprint:
        return latest.version
    name = uuid.uuid4().hex
    lengths = len(table["id"])
    dims: dict[str, tuple[str, ...]] = {
        column: ("frame",) for column in table if len(table[column]) == lengths
    }
    for column in table:
        if column + OFFSETS in table:
            dims[column] = (f"{column}_item",)
            dims[column + OFFSETS] = ("frame_end",)
    folder = store.storage.path(f"tables/{name}")
    write_group(store.storage, folder, Frame(name, table, {}, {}, dims), {}, True)
    number = latest.version + 1
    header = {"number": number, "table": name, "fingerprint": fingerprint, "created": now()}
    try:
        store.storage.write_new(version_key(number), json.dumps(sealed(header)).encode())
    except FileExistsError:
        shutil.rmtree(folder, ignore_errors=True)
        raise VersionConflictError(
            f"{store.path}: version {number} was published by another process in the meantime. Open the "
            "store again and publish on top of it"
        ) from None
    return number


def _row(store: "FrameStore", row: str | Mapping[str, Any]) -> dict[str, Any]:
    frame_id = row if isinstance(row, str) else str(row["id"])
    if not store.has(frame_id):
        raise ObjectNotFoundError(f"{store.path} holds no frame {frame_id!r}: write it before publishing")
    if not isinstance(row, str) and all(name in row for name in FIXED):
        return dict(plain(row))
    record = read_group(store.folder(frame_id), f"frame {frame_id}")
    values = record["row"] if isinstance(row, str) else plain(row)
    fixed = {"id": frame_id, "content": record["content"], "nbytes": record["nbytes"]}
    return {**fixed, **{name: value for name, value in values.items() if name not in FIXED}}
