"""What an ingest has done so far: a small record a task, so that a killed one goes on where it was."""

import json
from collections.abc import Callable
from typing import Any

from skytrawl.catalogs.storage import Storage


class Journal:
    """Records by stage and number below one folder of the archive.

    A record is written after everything that it speaks of is in place, by temporary name, fsync and rename;
    so a task is done or not, and doing it twice gives the same.

    Parameters
    ----------
    storage : Storage
        Of the archive.
    prefix : str
        Folder of this ingest.
    """

    def __init__(self, storage: Storage, prefix: str) -> None:
        self.storage = storage
        self.prefix = prefix

    def key(self, name: str) -> str:
        """Storage key of a file of this ingest."""
        return f"{self.prefix}/{name}"

    def write(self, stage: str, number: int | str, record: dict[str, Any]) -> dict[str, Any]:
        """Record a task; returns the record."""
        self.storage.replace(self.key(f"{stage}/{number}.json"), json.dumps(record).encode())
        return record

    def read(self, stage: str) -> dict[str, dict[str, Any]]:
        """All records of a stage by their number (as text)."""
        found = {}
        for name in self.storage.names(self.key(stage)):
            if name.endswith(".json"):
                found[name[:-5]] = json.loads(self.storage.read(self.key(f"{stage}/{name}")))
        return found

    def once(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The record of a step that is done once: read if it is there, else made and written."""
        key = self.key(f"{name}.json")
        if not self.storage.exists(key):
            self.storage.replace(key, json.dumps(make()).encode())
        found: dict[str, Any] = json.loads(self.storage.read(key))
        return found
