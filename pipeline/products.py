"""What a run writes besides its shards: the run in a results store, or the product of a reduction."""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skytrawl.catalogs.storage import Storage
from skytrawl.errors import ParametersChangedError, ReferenceExistsError
from skytrawl.job import BaseJob, Job, Prepared
from skytrawl.lock import NAME as LOCK
from skytrawl.lock import only_driver
from skytrawl.params import differences, fingerprint, parameter_dict
from skytrawl.sinks import ReductionSink, RowSink, Sink

if TYPE_CHECKING:
    from skytrawl.catalogs.runs import Run


# Unfinished writes of this age belong to processes that are gone.
LEFTOVER_SECONDS = 86_400.0


class Product(ABC):
    """The product of one run: its fingerprint, where it lies, how it starts and how it is finished.

    The fingerprint hashes what decides the values of a partition: job, parameters, kernel version, other
    inputs and backend. The archive's version is not in it, because the ledger knows each partition by
    its content: after an append only what is new is done.
    """

    def __init__(
        self, job: BaseJob, archive: Any, out: Path, parameters: Any, prepared: Prepared, replace: bool
    ) -> None:
        self.job = job
        self.archive = archive
        self.out = out
        self.parameters = parameters
        self.prepared = prepared
        self.replace = replace
        self.fingerprint = ""
        self.storage = Storage(out)
        self._held = ExitStack()

    def close(self) -> None:
        """Let another driver in."""
        self._held.close()

    def identity(self, backend: str) -> dict[str, Any]:
        """What the fingerprint hashes; an input is its content, wherever it lies."""
        parameters = parameter_dict(self.parameters)
        return {
            "job": self.job.name,
            "parameters": {name: parameters[name] for name in parameters if name not in self.prepared.inputs},
            "kernel_version": self.job.kernel_version,
            "inputs": dict(self.prepared.inputs),
            "backend": backend,
        }

    @property
    @abstractmethod
    def home(self) -> Path:
        """Folder in which workers must be able to write."""

    @abstractmethod
    def current(self) -> str:
        """Fingerprint of the run that is there, "" if none."""

    @abstractmethod
    def start(self, backend: str, provenance: dict[str, Any]) -> Sink:
        """Keep other drivers out, begin or continue; sets `fingerprint` and `storage` (the run's folder)."""

    @abstractmethod
    def finish(self, done: int, continued: bool) -> None:
        """Finish the product after the walk."""

    def pinned(self, backend: str) -> str:
        """The backend of the run that is continued, if "auto" was asked for; "" if nothing is pinned."""
        if backend == "auto" and not self.replace:
            there = self.current()
            for name in self.job.backends:
                if there and fingerprint(self.identity(name)) == there:
                    return name
        return ""


class RowProduct(Product):
    """A run in a results store."""

    run: Run
    job: Job

    @property
    def home(self) -> Path:
        """The results store."""
        return self.out

    def current(self) -> str:
        """Fingerprint of the job's current run."""
        from skytrawl.catalogs.results import ResultsStore

        if not self.out.is_dir() or not any(self.out.iterdir()):
            return ""
        store = ResultsStore(self.out)
        store.check_archive(self.archive)
        return store.run(self.job.name).fingerprint if self.job.name in store.jobs else ""

    def start(self, backend: str, provenance: dict[str, Any]) -> Sink:
        """Start or continue the run in the store."""
        from skytrawl.catalogs.results import ResultsStore

        identity = self.identity(backend)
        self.fingerprint = fingerprint(identity)
        store = ResultsStore.create_or_open(self.out, self.archive)
        self._held.enter_context(only_driver(self.out / self.job.name))
        self.run = store.start_run(
            self.job.name,
            self.fingerprint,
            identity["parameters"],
            {
                **self.prepared.attrs,
                **provenance,
                "summary": self.job.summary,
                "backend": backend,
                "kernel_version": self.job.kernel_version,
                "inputs": identity["inputs"],
            },
            list(self.job.gives(self.parameters, self.prepared)),
            self.archive.version,
            archive=self.archive,
            coords=self.job.coords(self.parameters, self.prepared),
            replace=self.replace,
        )
        self.storage = self.run.storage
        return RowSink(self.run, self.archive.version.partitions)

    def finish(self, done: int, continued: bool) -> None:
        """Write the sidecars that queries read; after an interruption, remove what it left behind."""
        from skytrawl.catalogs.sidecars import refresh

        refresh(self.run)
        if done and continued:
            self.run.ledger.sweep()
            self.storage.sweep(LEFTOVER_SECONDS)


class StateProduct(Product):
    """A reduction: a working folder beside the product holds its checkpoint until it is complete."""

    sink: ReductionSink
    job: Job

    @property
    def home(self) -> Path:
        """The working folder."""
        return self.out.with_name(self.out.name + ".work")

    def current(self) -> str:
        """Fingerprint of the reduction under way, "" if none."""
        return str(self._begun().get("fingerprint", ""))

    def start(self, backend: str, provenance: dict[str, Any]) -> Sink:
        """Begin or continue the reduction.

        Raises
        ------
        ReferenceExistsError
            If the product exists and neither `replace` nor a reduction of the same kind is under way.
        ParametersChangedError
            If another reduction is under way there.
        """
        identity = self.identity(backend)
        self.fingerprint = fingerprint(identity)
        self._held.callback(self._tidy)
        self._held.enter_context(only_driver(self.home))
        begun = self._begun()
        same = begun.get("fingerprint") == self.fingerprint
        if begun and not same:
            if not self.replace:
                raise ParametersChangedError(
                    f"{self.home} holds an unfinished {begun['identity']['job']} with other parameters:\n  "
                    + "\n  ".join(changes(begun["identity"], identity))
                    + "\nchoose another output path, or use replace=True (--replace) to drop it"
                )
            work = Storage(self.home)
            for key in work.list():
                if key != LOCK:
                    work.delete(key)
        if self.out.exists() and not same and not self.replace:
            raise ReferenceExistsError(
                f"{self.out} exists and is never overwritten silently: choose another path, or use "
                "replace=True (--replace)"
            )
        self.storage = Storage(self.home)
        self.provenance = {
            **provenance,
            **identity,
            "fingerprint": self.fingerprint,
            "archive_id": self.archive.archive_id,
            "archive_path": str(self.archive.path),
            "archive_version": self.archive.version.number,
            "archive_fingerprint": self.archive.fingerprint,
        }
        self.may_replace = same or self.replace
        text = json.dumps({"fingerprint": self.fingerprint, "identity": identity}, indent=1)
        self.storage.replace("reduction.json", text.encode())
        self.sink = ReductionSink(self.job, self.storage, self.archive.version.partitions, self.fingerprint)
        return self.sink

    def finish(self, done: int, continued: bool) -> None:
        """Save the product; the working folder stays while partitions are missing from it."""
        assert self.job.finalize is not None
        assert self.job.save is not None
        state = self.sink.state
        if state is None:
            state = self._empty_state()
        included = self.sink.done()
        missing = [int(partition) for partition in (~included).nonzero()[0]]
        provenance = {
            **self.provenance,
            "partitions": int(included.sum()),
            "missing_partitions": missing[:1000],
            "complete": not missing,
        }
        dataset = self.job.finalize(state, self.parameters, self.prepared, self.archive, provenance)
        self.job.save(dataset, self.out, self.may_replace)
        if not missing:
            shutil.rmtree(self.home)

    def _tidy(self) -> None:
        if self.home.is_dir() and not any(self.home.iterdir()):
            self.home.rmdir()

    def _empty_state(self) -> dict[str, Any]:
        import numpy as np

        from skytrawl.catalogs.block import Block

        block = Block()
        for name in self.job.needs(self.parameters, self.archive):
            array = self.archive.array(name)
            group, _, short = array.name.partition("/")
            target = block.objects if group == "objects" else block.observations
            target[short] = np.empty((0, *array.tail), array.dtype)
        return self.job.block(block, self.parameters, self.prepared, "cpu")

    def _begun(self) -> dict[str, Any]:
        try:
            return dict(json.loads(Storage(self.home).read("reduction.json")))
        except (FileNotFoundError, ValueError):
            return {}


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """In words, what differs between the identities of two runs, parameter by parameter."""
    lines = differences(old["parameters"], new["parameters"])
    rest = {name: value for name, value in old.items() if name != "parameters"}
    return lines + differences(rest, {name: new[name] for name in rest})
