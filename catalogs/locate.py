"""One object of an archive by its id: partition and row."""

from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs.id_index import lookup
from skytrawl.catalogs.query import normal_id
from skytrawl.errors import ArchiveError, ObjectNotFoundError

if TYPE_CHECKING:
    from skytrawl.catalogs.archive import Archive


def find(archive: "Archive", object_id: int | str | bytes) -> tuple[int, int] | None:
    """See :meth:`skytrawl.catalogs.archive.Archive.find`."""
    try:
        wanted = normal_id(object_id, archive.array("objects/object_id").dtype)
    except ValueError:
        return None  # no id of this archive can be that
    names = archive.version.index
    if not names:
        return _scan(archive, wanted)
    found, keys = lookup(archive.storage, names, np.array([wanted]))
    if not found[0]:
        return None
    for partition in archive.version.partitions_at(int(keys[0])).tolist():
        rows = equal_keys(archive, partition, int(keys[0]))
        if rows.stop > rows.start:
            ids = _column(archive, "objects/object_id", partition, rows.start, rows.stop)
            for row in np.flatnonzero(ids == wanted).tolist():
                return partition, rows.start + row
    raise ArchiveError(
        f"{archive.path}, version {archive.version.number}: the id index ({', '.join(names)}) places "
        f"{object_id!r} at the key {keys[0]}, where no partition holds it: the version was published with "
        "the index of another. Go back to the version before it (`skytrawl versions`)"
    )


def must_find(archive: "Archive", object_id: int | str | bytes) -> tuple[int, int]:
    """Like :func:`find`; ObjectNotFoundError if the archive does not hold it."""
    found = find(archive, object_id)
    if found is None:
        raise ObjectNotFoundError(
            f"no object {object_id!r} in {archive.path}, version {archive.version.number}"
        )
    return found


def equal_keys(archive: "Archive", partition: int, key: int) -> slice:
    """Rows of a partition whose ``objects/healpix`` is this key; reads a few inner chunks."""
    n_objects = int(archive.version.partitions["n_objects"][partition])
    step = archive.array("objects/healpix").layout.inner
    wanted = np.uint64(key)
    # The first chunk whose last key is not below: the run of equal keys begins there.
    low, high = 0, -(-n_objects // step) - 1
    known: dict[int, np.ndarray] = {}

    def chunk(number: int) -> np.ndarray:
        if number not in known:
            stop = min(n_objects, (number + 1) * step)
            known[number] = _column(archive, "objects/healpix", partition, number * step, stop)
        return known[number]

    while low < high:
        middle = (low + high) // 2
        if chunk(middle)[-1] < wanted:
            low = middle + 1
        else:
            high = middle
    start = low * step + int(np.searchsorted(chunk(low), wanted))
    stop = low * step + int(np.searchsorted(chunk(low), wanted, side="right"))
    while stop == (low + 1) * step and stop < n_objects:  # it goes on in the next chunk
        low += 1
        stop = low * step + int(np.searchsorted(chunk(low), wanted, side="right"))
    return slice(start, stop)


def _column(archive: "Archive", name: str, partition: int, start: int, stop: int) -> np.ndarray:
    slot = int(archive.version.partitions["object_slot"][partition])
    return archive.array(name).read(slot, start, stop, partition=partition)


def _scan(archive: "Archive", wanted: Any) -> tuple[int, int] | None:
    for partition, count in enumerate(archive.version.partitions["n_objects"].tolist()):
        if count:
            rows = np.flatnonzero(_column(archive, "objects/object_id", partition, 0, count) == wanted)
            if len(rows):
                return partition, int(rows[0])
    return None
