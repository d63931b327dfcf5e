"""What a worker does with partitions: read, block, write, then a ledger record when the shards are there."""

from __future__ import annotations

import ctypes
import os
import pickle
import platform
import sys
import time
import traceback
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs.ledger import Entry, Ledger
from skytrawl.errors import PreflightError, SkytrawlError
from skytrawl.job import Arrays, Job, Prepared, load_curve_job

if TYPE_CHECKING:
    from skytrawl.catalogs.archive import Archive, Block
    from skytrawl.catalogs.runs import Run
    from skytrawl.catalogs.storage import Storage

# Above this number of partitions a batch is flushed to the disk once, not file by file.
_FLUSH_EACH = 4


@dataclass(frozen=True)
class Spec:
    """What every task of a run is told; a few hundred bytes, the rest is loaded by path on the worker.

    `run` is the folder of the run in a results store, "" for a reduction. `artefact` is the file of the
    prepared payload below `home`, "" if there is none. By `archive_fingerprint` and `packages` a worker
    that came after the preflight notices that it must not take part (empty: not compared).
    """

    job: str
    archive: str
    version: int
    parameters: Any
    backend: str
    fingerprint: str
    home: str
    run: str = ""
    artefact: str = ""
    archive_fingerprint: str = ""
    packages: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Trouble:
    """A partition that raised: the error in a line, its traceback and where it happened."""

    partition: int
    error: str
    traceback: str
    host: str


@dataclass
class Report:
    """What a task hands back: totals, the partitions done, the troubles, and a reduction's partial state."""

    done: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    troubles: list[Trouble] = field(default_factory=list)
    objects: int = 0
    observations: int = 0
    seconds: float = 0.0
    state: Arrays | None = None


def work(spec: Spec, partitions: list[int]) -> Report:
    """Do a batch of partitions; one that raises is reported and the others go on.

    Parameters
    ----------
    spec : Spec
        The run.
    partitions : list of int
        Numbers in the partition table of the archive version.

    Returns
    -------
    Report
        With a reduction, `state` is the combination over the partitions done.
    """
    began = time.perf_counter()
    job, archive, prepared = opened(spec)
    finished: list[tuple[int, float, str]] = []
    report = Report()
    together = len(partitions) > _FLUSH_EACH
    for partition in partitions:
        start = time.perf_counter()
        try:
            arrays = compute(spec, job, archive, prepared, partition)
            rows = job.kind == "rows"
            values = write(spec, partition, arrays, flush=not together) if rows else ""
        except Exception as error:
            report.troubles.append(trouble(partition, error))
            continue
        if not rows:
            # Not inside the try: a combination that breaks off half way has spoilt the state of them all.
            report.state = arrays if report.state is None else job.combine(report.state, arrays)
        finished.append((partition, time.perf_counter() - start, values))
    if job.kind == "rows" and finished:
        if together:
            flush_folder(spec.run)
        record(spec, _run(spec).ledger, archive.version.partitions, finished)
    return totals(report, archive.version.partitions, [partition for partition, _, _ in finished], began)


def part(spec: Spec, partition: int, start: int, stop: int) -> Arrays | Trouble:
    """Compute a range of the objects of a partition; nothing is written."""
    job, archive, prepared = opened(spec)
    try:
        return compute(spec, job, archive, prepared, partition, slice(start, stop))
    except Exception as error:
        return trouble(partition, error)


def gather(spec: Spec, partition: int, *parts: Arrays | Trouble) -> Report:
    """Join the ranges of a partition, in the order of its objects, and write its shards."""
    began = time.perf_counter()
    for piece in parts:
        if isinstance(piece, Trouble):
            return Report(troubles=[piece])
    pieces = [piece for piece in parts if not isinstance(piece, Trouble)]
    job, archive, _ = opened(spec)
    rows = archive.version.partitions
    report = Report()
    try:
        if job.kind == "reduction":
            # Dask still holds the first piece: combining in place would change what it may hand out again.
            state = {name: value.copy() for name, value in pieces[0].items()}
            for piece in pieces[1:]:
                state = job.combine(state, piece)
            report.state = state
        else:
            arrays = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
            values = write(spec, partition, arrays, flush=True)
            record(spec, _run(spec).ledger, rows, [(partition, time.perf_counter() - began, values)])
    except Exception as error:
        return Report(troubles=[trouble(partition, error)])
    return totals(report, rows, [partition], began)


def compute(
    spec: Spec,
    job: Job,
    archive: Archive,
    prepared: Prepared,
    partition: int,
    objects: slice | None = None,
) -> Arrays:
    """Read a partition, or a range of its objects, and call the job's block function.

    Rows: the arrays include the identity columns of the results store. A partition without objects is
    not read: its columns are empty.
    """
    if job.kind == "reduction":
        block = archive.read(partition, job.needs(spec.parameters, archive), objects)
        return job.block(block, spec.parameters, prepared, spec.backend)
    run = _run(spec)
    if not archive.version.partitions["n_objects"][partition]:
        return {name: np.empty((0, *run.column(name).tail), run.column(name).dtype) for name in run.names}
    needed = dict.fromkeys(job.needs(spec.parameters, archive))
    identity = [f"objects/{name}" for name in run.identity]
    block = archive.read(partition, [*needed, *(name for name in identity if name not in needed)], objects)
    arrays = dict(job.block(block, spec.parameters, prepared, spec.backend))
    _check_rows(job, block, arrays, run.outputs)
    arrays.update({name: block.objects[name] for name in run.identity})
    return arrays


def write(spec: Spec, partition: int, arrays: Arrays, *, flush: bool) -> str:
    """Write the shards of a partition; returns the hash of the decoded values."""
    return _run(spec).write(partition, arrays, flush=flush)


def opened(spec: Spec) -> tuple[Job, Archive, Prepared]:
    """The job, the archive version and the prepared payload, each opened once per process.

    Raises
    ------
    PreflightError
        If this process must not take part: other packages, or another archive under the same path.
    """
    from skytrawl.catalogs.archive import Archive

    archive = Archive.cached(spec.archive, spec.version)
    check_fit(archive, spec.archive_fingerprint, spec.packages)
    return load_curve_job(spec.job), archive, load_artefact(spec.home, spec.artefact)


@lru_cache(maxsize=8)
def check_fit(archive: Any, fingerprint: str, packages: tuple[tuple[str, str], ...]) -> None:
    """Refuse to take part (PreflightError) with other packages, or with another store under the same path."""
    from skytrawl.preflight import package_versions, unequal

    lines = unequal(package_versions(), dict(packages))
    if fingerprint and archive.fingerprint != fingerprint:
        lines.append("another archive has taken the place of the one that the driver opened")
    if lines:
        raise PreflightError(
            f"a worker on {platform.node()} that came later does not fit the run: {', '.join(lines)}. What "
            "is done is kept: mend or remove that worker, then start the same run again to continue"
        )


def _run(spec: Spec) -> Run:
    from skytrawl.catalogs.archive import Archive

    return _pinned_run(spec.run, Archive.cached(spec.archive, spec.version))


@lru_cache(maxsize=8)
def _pinned_run(path: str, archive: Archive) -> Run:
    # Partition numbers mean rows of the version that the driver pinned. The run's own copy of the table is
    # replaced by a driver that continues it on another version, perhaps while this task goes on.
    from skytrawl.catalogs.runs import Run

    return Run(path, archive.version)


def save_artefact(storage: Storage, prepared: Prepared) -> str:
    """Write what a job prepared once, under its content; returns the key ("" where there is nothing).

    The file is exclusive and atomic, so that drivers which start together write the same bytes once.
    """
    if not prepared.payload:
        return ""
    data = pickle.dumps(prepared, protocol=5)
    key = f"artefacts/{sha256(data).hexdigest()[:32]}.pkl"
    try:
        storage.write_new(key, data)
    except FileExistsError:
        if storage.size(key) != len(data):
            storage.replace(key, data)
    return key


@lru_cache(maxsize=4)
def load_artefact(home: str, key: str) -> Prepared:
    """What `save_artefact` wrote, loaded once per process.

    Raises
    ------
    SkytrawlError
        If the bytes are not those that the driver wrote.
    """
    if not key:
        return Prepared()
    from skytrawl.catalogs.storage import Storage

    data = Storage(home).read(key)
    if sha256(data).hexdigest()[:32] != key.rpartition("/")[2].removesuffix(".pkl"):
        raise SkytrawlError(f"{home}/{key} is damaged: delete it and start the run again")
    loaded = pickle.loads(data)
    assert isinstance(loaded, Prepared)
    return loaded


def flush_folder(folder: str) -> None:
    """Wait until the file system of a folder has everything on the disk, in one call."""
    if not sys.platform.startswith("linux"):
        os.sync()
        return
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if libc.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), folder)
    finally:
        os.close(descriptor)


def _check_rows(job: Job, block: Block, arrays: Arrays, outputs: tuple[str, ...]) -> None:
    if set(arrays) != set(outputs):
        raise SkytrawlError(f"job {job.name} gave {sorted(arrays)} instead of {sorted(outputs)}")
    for name, values in arrays.items():
        if len(values) != block.n_objects:
            raise SkytrawlError(
                f"job {job.name}: {name} has {len(values)} rows for {block.n_objects} objects"
            )


def record(
    spec: Spec, ledger: Ledger, partitions: np.ndarray, finished: list[tuple[int, float, str]]
) -> None:
    """Enter finished partitions (number, seconds, hash of the values) into the ledger of the run."""
    host = platform.node()
    now = time.time()
    entries = [
        Entry(
            object_slot=int(partitions["object_slot"][partition]),
            content=bytes(partitions["content"][partition]),
            n_objects=int(partitions["n_objects"][partition]),
            n_observations=int(partitions["n_observations"][partition]),
            values=values,
            seconds=seconds,
            finished=now,
            host=host,
            fingerprint=spec.fingerprint,
            backend=spec.backend,
        )
        for partition, seconds, values in finished
    ]
    ledger.record(entries)


def totals(report: Report, partitions: np.ndarray, done: list[int], began: float) -> Report:
    """The report with the counts of the partitions done."""
    report.done = np.array(done, np.int64)
    report.objects = int(partitions["n_objects"][report.done].sum())
    report.observations = int(partitions["n_observations"][report.done].sum())
    report.seconds = time.perf_counter() - began
    return report


def trouble(partition: int, error: Exception) -> Trouble:
    """What is told of a partition that raised."""
    text = f"{type(error).__name__}: {error}"
    return Trouble(partition, text, "".join(traceback.format_exception(error)), platform.node())
