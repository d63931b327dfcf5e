"""A store of frames as the engine sees its input: units in a partition table, one object a unit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from skytrawl.catalogs.versions import PARTITION, Version
from skytrawl.errors import ArchiveError, ArchiveMismatchError

if TYPE_CHECKING:
    from skytrawl.catalogs.images.store import FrameStore
    from skytrawl.frames.job import FrameJob, Unit
    from skytrawl.job import Prepared


class FrameSource:
    """A version of a frame store with the units of a job over it.

    Parameters
    ----------
    store : FrameStore
        At the version that is read.
    units : sequence of Unit
        Work of the job.

    Attributes
    ----------
    path : Path
    version : Version
        Its partition table has a row for each unit; the slot is a hash of the unit's id, so that a unit
        keeps its place in the ledger when others come.
    fingerprint : str
        Of the store.
    """

    def __init__(self, store: FrameStore, units: Sequence[Unit]) -> None:
        self.store = store
        self.units = units
        self.path = store.path
        self.fingerprint = store.fingerprint
        self.version = Version(store.version, unit_table(units))


def unit_table(units: Sequence[Unit]) -> np.ndarray:
    """The partition table of units: int64 columns, one object each, its pixels as observations."""
    table = np.zeros(len(units), PARTITION)
    table["object_slot"] = [xxhash.xxh64_intdigest(unit.id.encode()) >> 1 for unit in units]
    table["content"] = [unit.content[:32].encode() for unit in units]
    table["object_slots"] = table["n_objects"] = 1
    table["n_observations"] = [unit.pixels for unit in units]
    return table


def open_source(source: Any, version: int | None, job: FrameJob) -> FrameStore:
    """The store of frames behind a path or an opened store.

    Raises
    ------
    ArchiveMismatchError
        If it holds frames of a kind that the job does not run over.
    """
    from skytrawl.catalogs.images.current import open_frames

    store = source if hasattr(source, "fingerprint") and hasattr(source, "kind") else None
    if store is None or (version is not None and version != store.version):
        store = open_frames(Path(source if store is None else store.path), version)
    if store.kind not in job.over:
        raise ArchiveMismatchError(
            f"{store.path} holds {store.kind}; {job.name} runs over {' or '.join(job.over)}"
        )
    found: FrameStore = store
    return found


def prepare(job: FrameJob, parameters: Any, store: FrameStore) -> tuple[Prepared, FrameSource]:
    """What the job pins on the driver, with its units in the payload for the workers."""
    prepared = job.prepare(parameters, store)
    units = sorted(job.units(parameters, prepared, store), key=lambda unit: unit.id)
    for one, other in pairwise(units):
        if one.id == other.id:
            raise ArchiveError(
                f"{job.name}: {one.inputs[0]} and {other.inputs[0]} both make a frame {one.id}"
            )
    prepared.payload["units"] = units
    return prepared, FrameSource(store, units)
