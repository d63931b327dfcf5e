"""Removing what interrupted appends have left behind."""

import json
import time

import numpy as np

from skytrawl.catalogs import versions
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.writer import read_attrs


def sweep(storage: Storage, older_than: float = 7 * 86_400.0) -> int:
    """Remove shards that no version lists, and unfinished writes.

    Parameters
    ----------
    storage : Storage
        Of an archive.
    older_than : float
        Seconds; more than the longest append takes. Slots that were reserved more recently are left alone,
        because their writer may be at work.

    Returns
    -------
    int
        Number of files removed.

    Raises
    ------
    NotAnArchiveError
        If the storage holds no archive.
    """
    attrs = read_attrs(storage)
    limit = time.time() - older_than
    removed = storage.sweep(older_than)
    # Intents before versions: a version that appears in between lists slots of an intent that is known here.
    intents = [json.loads(storage.read(f"intents/{name}")) for name in storage.names("intents")]
    tables = [versions.read_version(storage, number).partitions for number in versions.list_versions(storage)]
    for axis, group in (("object", "objects"), ("observation", "lightcurves")):
        runs = [
            (intent[f"{axis}_slot"], intent[f"{axis}_slots"])
            for intent in intents
            if intent["created"] >= limit
        ]
        for table in tables:
            runs += zip(table[f"{axis}_slot"].tolist(), table[f"{axis}_slots"].tolist(), strict=True)
        first, last = _merged(runs)
        for name in attrs["variables"]:
            if not name.startswith(group + "/"):
                continue
            slots = np.array([int(key) for key in storage.names(f"{name}/c") if key.isdigit()], np.int64)
            place = np.searchsorted(first, slots, side="right") - 1
            listed = (place >= 0) & (slots < last[np.maximum(place, 0)]) if len(first) else slots < 0
            for slot in slots[~listed].tolist():
                storage.delete(f"{name}/c/{slot}")
                removed += 1
    return removed


def _merged(runs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """First slots and running ends of runs in ascending order; runs may overlap between versions."""
    ordered = np.array(sorted(set(runs)), np.int64).reshape(-1, 2)
    return ordered[:, 0], np.maximum.accumulate(ordered.sum(axis=1))
