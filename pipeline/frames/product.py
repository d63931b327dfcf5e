"""What a run over frames writes: a store of frames below the run's fingerprint, and the pointer to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs.images.current import open_frames, point, pointed
from skytrawl.catalogs.images.folders import read_group
from skytrawl.catalogs.ledger import Failures, Ledger
from skytrawl.errors import ArchiveMismatchError, CorruptShardError, ParametersChangedError
from skytrawl.lock import only_driver
from skytrawl.params import fingerprint
from skytrawl.products import LEFTOVER_SECONDS, Product, changes
from skytrawl.sinks import RowSink, Sink

if TYPE_CHECKING:
    from skytrawl.catalogs.images.store import FrameStore
    from skytrawl.catalogs.storage import Storage
    from skytrawl.frames.job import FrameJob, Unit


class FrameRun:
    """Ledger and failures of a run over frames, as the sink asks for them."""

    def __init__(self, storage: Storage) -> None:
        self.ledger = Ledger(storage, "ledger")
        self.failures = Failures(storage, "failures")


class FrameSink(RowSink):
    """Asks the frames as well: what the ledger knows may have been made anew of other contents since."""

    def __init__(
        self, run: FrameRun, units: Sequence[Unit], partitions: np.ndarray, store: FrameStore
    ) -> None:
        super().__init__(run, partitions)
        self.units = units
        self.store = store

    def done(self) -> np.ndarray:
        """Units of which the frame is there, made of what they are made of now."""
        return np.array([known and self._there(n) for n, known in enumerate(super().done())], bool)

    def finished_meanwhile(self, partitions: Iterable[int]) -> list[int]:
        """Those of them that were recorded before their task was lost."""
        return [n for n in super().finished_meanwhile(partitions) if self._there(n)]

    def _there(self, number: int) -> bool:
        unit = self.units[number]
        try:
            record = read_group(self.store.folder(unit.id), unit.id)
        except CorruptShardError:
            return False
        return bool(record["attrs"].get("made_from") == unit.content)


class FrameProduct(Product):
    """A store of frames."""

    job: FrameJob
    run: FrameRun
    store: FrameStore
    sink: FrameSink

    @property
    def home(self) -> Path:
        """The folder of all runs."""
        return self.out

    def current(self) -> str:
        """Fingerprint of the run that is there."""
        return str(pointed(self.out).get("run", ""))

    def start(self, backend: str, provenance: dict[str, Any]) -> Sink:
        """Start or continue the run with this fingerprint."""
        from skytrawl.catalogs.images.store import FrameStore

        # Results of a job are other results when that job had other parameters, be the frames named alike.
        identity = {**self.identity(backend), "archive": self.archive.store.attrs.get("fingerprint", "")}
        self.fingerprint = fingerprint(identity)
        self._held.enter_context(only_driver(self.out))
        before = pointed(self.out)
        if before and before["run"] != self.fingerprint and not self.replace:
            lines = changes(before["identity"], identity)
            raise ParametersChangedError(
                f"{self.out} holds results of {before['identity']['job']} with other parameters:\n  "
                + "\n  ".join(lines)
                + "\nChoose another output path, or give replace=True (--replace) to start anew"
            )
        if not before and self.out.is_dir() and any(p.name not in _OURS for p in self.out.iterdir()):
            raise ArchiveMismatchError(f"{self.out} exists and holds something else: choose another path")
        folder = self.out / "runs" / self.fingerprint
        attrs = {
            **self.prepared.attrs,
            **provenance,
            "job": self.job.name,
            "fingerprint": self.fingerprint,
            **{name: identity[name] for name in ("parameters", "kernel_version", "inputs", "backend")},
            "source": str(self.archive.path),
            "source_version": self.archive.version.number,
        }
        # Opened where it is there: a run that goes on keeps the provenance of its beginning, but
        # for the version of the source, which `finish` states anew.
        begun = (folder / "zarr.json").is_file()
        self.store = FrameStore.open(folder) if begun else FrameStore.create(folder, self.job.gives, attrs)
        point(self.out, self.fingerprint, identity)
        self.storage = self.store.storage
        self.run = FrameRun(self.storage)
        self.sink = FrameSink(self.run, self.archive.units, self.archive.version.partitions, self.store)
        return self.sink

    def finish(self, done: int, continued: bool) -> None:
        """Publish the table of the frames that are done, then let the job make what it sums up."""
        done_now = self.sink.done()
        ids = [unit.id for unit, there in zip(self.archive.units, done_now, strict=True) if there]
        self.store.amend(source=str(self.archive.path), source_version=self.archive.version.number)
        self.store.publish(ids)
        out = open_frames(self.out)
        self.job.close(out, self.parameters, self.prepared, self.archive.store)
        if done and continued:
            self.run.ledger.sweep()
            self.storage.sweep(LEFTOVER_SECONDS)
            self.store.sweep(LEFTOVER_SECONDS)


_OURS = ("runs", "driver.lock", "current.json")
