"""Where finished work goes on the driver: the ledger of a results run, or the state of a reduction."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from skytrawl.catalogs.ledger import SEGMENT_ENTRIES, Failures, Ledger, partition_keys
from skytrawl.errors import SkytrawlError

if TYPE_CHECKING:
    from skytrawl.catalogs.storage import Storage
    from skytrawl.job import Arrays, Job
    from skytrawl.task import Report


class Sink(Protocol):
    """What the walk asks of the place where results go."""

    failures: Failures

    def done(self) -> np.ndarray:
        """Finished partitions of the version: bool[n_partitions]."""

    def finished_meanwhile(self, partitions: Iterable[int]) -> list[int]:
        """Those of the partitions that are done although their task was lost."""

    def accept(self, report: Report) -> None:
        """Take the report of a task."""

    def close(self) -> None:
        """Make everything durable and tidy."""


class Recorded(Protocol):
    """A run with a ledger."""

    @property
    def ledger(self) -> Ledger:
        """Which partitions are done."""

    @property
    def failures(self) -> Failures:
        """Which partitions were given up, and why."""


class RowSink:
    """The ledger of a run: workers write it, the driver packs it."""

    def __init__(self, run: Recorded, partitions: np.ndarray) -> None:
        self.run = run
        self.partitions = partitions
        self.failures = run.failures
        self._loose = 0

    def done(self) -> np.ndarray:
        """Finished partitions by the ledger."""
        return self.run.ledger.done(self.partitions)

    def finished_meanwhile(self, partitions: Iterable[int]) -> list[int]:
        """Partitions whose record was written before their task was lost."""
        known = self.run.ledger.keys()
        chosen = list(partitions)
        keys = partition_keys(self.partitions[chosen])
        return [partition for partition, key in zip(chosen, keys, strict=True) if key in known]

    def accept(self, report: Report) -> None:
        """Count, and pack the records when there are enough for a segment."""
        self._loose += len(report.done)
        if self._loose >= SEGMENT_ENTRIES:
            self.run.ledger.pack()
            self._loose = 0

    def close(self) -> None:
        """Pack what is left."""
        self.run.ledger.pack(1)


class ReductionSink:
    """The state of a reduction and the partitions in it, kept in one checkpoint file.

    Parameters
    ----------
    job : Job
        The reduction.
    storage : Storage
        Working folder.
    partitions : array
        Partition table of the archive version.
    fingerprint : str
        Of the run; a checkpoint of another run is never used.
    seconds : float
        Least time between two checkpoints.
    """

    KEY = "checkpoint.npz"

    def __init__(
        self, job: Job, storage: Storage, partitions: np.ndarray, fingerprint: str, seconds: float = 20.0
    ) -> None:
        self.job = job
        self.storage = storage
        self.fingerprint = fingerprint
        self.seconds = seconds
        self.partitions = partitions
        self.failures = Failures(storage, "failures")
        self.state: Arrays | None = None
        self.included = np.zeros(len(partitions), bool)
        self._load()
        self._saved = time.monotonic()
        self._dirty = False
        self._spoilt = False

    def done(self) -> np.ndarray:
        """Partitions whose counts are in the state."""
        return self.included.copy()

    def finished_meanwhile(self, partitions: Iterable[int]) -> list[int]:
        """None: what a lost task had counted is lost with it."""
        return []

    def accept(self, report: Report) -> None:
        """Combine a partial state; a partition counts once."""
        if not len(report.done) or report.state is None:
            return
        if self.included[report.done].any():
            raise SkytrawlError(f"{self.job.name}: a partition came back twice; the state was left as it was")
        # Ctrl-C may come while the state is changed in place: half a sum must not become a checkpoint.
        self._spoilt = True
        if self.state is None:
            # The arrays that come out of a future may be read-only views of the network buffer.
            self.state = {name: np.array(value) for name, value in report.state.items()}
        else:
            self.state = self.job.combine(self.state, report.state)
        self.included[report.done] = True
        self._spoilt = False
        self._dirty = True
        if time.monotonic() - self._saved >= self.seconds:
            self.checkpoint()

    def close(self) -> None:
        """Write the last checkpoint; after a combination that broke off, the one before stays."""
        if self._dirty and not self._spoilt:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Write state and included partitions in one atomic file."""
        arrays: dict[str, Any] = {f"state:{name}": value for name, value in (self.state or {}).items()}
        rows = self.partitions[self.included]
        arrays["slots"], arrays["contents"] = rows["object_slot"], rows["content"]
        header = json.dumps({"job": self.job.name, "fingerprint": self.fingerprint})
        arrays["header"] = np.frombuffer(header.encode(), np.uint8)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        self.storage.replace(self.KEY, buffer.getvalue())
        self._saved = time.monotonic()
        self._dirty = False

    def _load(self) -> None:
        if not self.storage.exists(self.KEY):
            return
        try:
            with np.load(io.BytesIO(self.storage.read(self.KEY)), allow_pickle=False) as content:
                header = json.loads(content["header"].tobytes())
                state = {name[6:]: content[name] for name in content.files if name.startswith("state:")}
                known = set(zip(content["slots"].tolist(), content["contents"].tolist(), strict=True))
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            path = self.storage.path(self.KEY)
            raise SkytrawlError(
                f"{path} is damaged ({error}): delete it to begin the reduction anew"
            ) from error
        # A partition that this version no longer has cannot be taken out of a sum: begin anew.
        included = np.fromiter((key in known for key in partition_keys(self.partitions)), bool)
        if header["fingerprint"] == self.fingerprint and included.sum() == len(known):
            self.state, self.included = state, included
