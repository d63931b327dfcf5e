"""`skytrawl.run`: a job over an archive, partition by partition, continued where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl import preflight as checks
from skytrawl.batching import Batcher
from skytrawl.catalogs.ledger import Failure, partition_keys
from skytrawl.errors import SkytrawlError
from skytrawl.frames.job import FrameJob
from skytrawl.job import BaseJob, Prepared, get_job, load_job, location_of
from skytrawl.params import build
from skytrawl.planner import Plan, open_version
from skytrawl.planner import project as project_curves
from skytrawl.sinks import Sink
from skytrawl.task import Spec, save_artefact, work
from skytrawl.walk import Progress, Walk

if TYPE_CHECKING:
    import xarray as xr

    from skytrawl.catalogs.archive import Archive
    from skytrawl.catalogs.images.store import FrameStore
    from skytrawl.products import Product

__all__ = ["Progress", "RunSummary", "run"]


@dataclass
class RunSummary:
    """What a run did.

    Attributes
    ----------
    job, path : str
        The job and its product.
    done, skipped : int
        Partitions finished by this run, and by earlier ones.
    failed : list of Failure
        Partitions given up, with error and traceback.
    observations : int
        Observations of the partitions in `done`.
    seconds : float
        From the first task to the finished product, without the start of the cluster.
    backend, fingerprint : str
        What the run is pinned to.
    pieces, unit : str
        What is counted: partitions and observations, or frames and pixels.
    """

    job: str
    path: str
    done: int = 0
    skipped: int = 0
    failed: list[Failure] = field(default_factory=list)
    observations: int = 0
    seconds: float = 0.0
    backend: str = ""
    fingerprint: str = ""
    pieces: str = "partitions"
    unit: str = "observations"

    @property
    def rate(self) -> float:
        """Observations a second."""
        return self.observations / self.seconds if self.seconds > 0 else 0.0

    def facts(self) -> dict[str, str]:
        """Names and values for people."""
        return {
            self.pieces: f"{self.done:,} done, {self.skipped:,} done before, {len(self.failed):,} failed",
            self.unit: f"{self.observations:,} in {self.seconds:.1f} s ({self.rate:,.0f}/s)",
            "backend": self.backend,
            "fingerprint": self.fingerprint,
            "path": self.path,
        }

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**plain, "failed": [failure.__dict__ for failure in self.failed], "rate": self.rate}


@dataclass(frozen=True)
class _Options:
    retry_failed: bool
    replace: bool
    in_flight: int | None
    retries: int
    stall_seconds: float
    split_seconds: float
    progress: Callable[[Progress], None] | None


def run(
    job: str | BaseJob,
    archive: str | Path | Archive | xr.DataTree | FrameStore,
    out: str | Path,
    *,
    client: Any = None,
    cluster: str = "local",
    workers: int | None = None,
    threads: int | None = None,
    memory: int | None = None,
    backend: str = "auto",
    retry_failed: bool = False,
    replace: bool = False,
    progress: Callable[[Progress], None] | None = None,
    announce: Callable[[str], None] | None = None,
    version: int | None = None,
    in_flight: int | None = None,
    retries: int = 2,
    stall_seconds: float = 1800.0,
    split_seconds: float = 60.0,
    **parameters: Any,
) -> RunSummary:
    """Run a job over an archive and write its product; a run that stopped is continued.

    Parameters
    ----------
    job : str or Job
        A registered job.
    archive : path, Archive, DataTree or FrameStore
        What it runs over.
    out : path
        Results store (a job with rows), the product of a reduction, or a store of frames.
    client : distributed.Client, optional
        A cluster to use; else `cluster`, `workers`, `threads`, `memory` say which to start or to join
        (see `skytrawl.deploy.local.connect`).
    backend : {"auto", "cpu", "cuda"}
        "auto" is resolved on the workers once and pinned for the run.
    retry_failed : bool
        Take only the partitions that an earlier run gave up.
    replace : bool
        Let other parameters (or a new reduction) take the place of what is there.
    progress : callable, optional
        Called with `Progress` events.
    announce : callable, optional
        Called with lines of text, such as the dashboard's address.
    version : int, optional
        Version of the archive; default the latest.
    in_flight : int, optional
        Tasks at a time; default three a thread.
    retries : int
        How often a failed partition is tried again.
    stall_seconds : float
        A task that executes for longer is given up. [s]
    split_seconds : float
        A partition projected over this is cut into ranges of its objects. [s]
    **parameters
        Of the job.

    Returns
    -------
    RunSummary
        With the partitions that failed; these do not raise.

    Raises
    ------
    ParameterError
        Wrong parameters.
    ParametersChangedError
        `out` holds a run with other parameters and `replace` is False; names the differences.
    PlanRefusedError
        The largest partition does not fit the workers.
    PreflightError
        Work that the workers could not take.
    """
    found = get_job(job)
    location = location_of(found.name)
    if load_job(location) is not found:
        raise SkytrawlError(
            f"job {found.name} is not the one registered at {location}: workers could not find it"
        )
    chosen: Any = build(found.parameters, parameters)
    opened: Any
    if isinstance(found, FrameJob):
        from skytrawl.frames.source import open_source

        opened = open_source(archive, version, found)
    else:
        opened = open_version(archive, version)
    options = _Options(retry_failed, replace, in_flight, retries, stall_seconds, split_seconds, progress)
    target = Path(out).absolute()
    context: Any
    if client is not None:
        context = nullcontext(client)
    else:
        from skytrawl.deploy.local import connect

        context = connect(cluster, workers=workers, threads=threads, memory=memory)
    with context as connected:
        if announce is not None:
            from skytrawl.deploy.local import dashboard_link

            if link := dashboard_link(connected):
                announce(f"dashboard: {link}")
        return _Run(connected, found, location, opened, target, chosen, backend, options).go()


class _Run:
    """One call of `run`, from preflight to the finished product."""

    def __init__(
        self,
        client: Any,
        job: BaseJob,
        location: str,
        archive: Any,
        out: Path,
        parameters: Any,
        backend: str,
        options: _Options,
    ) -> None:
        self.client = client
        self.job = job
        self.location = location
        self.archive = archive
        self.out = out
        self.parameters = parameters
        self.options = options
        self.asked = backend
        self.prepared: Prepared
        if isinstance(job, FrameJob):
            from skytrawl.frames import source

            self.prepared, self.archive = source.prepare(job, parameters, archive)
        else:
            self.prepared = job.prepare(parameters, archive)  # type: ignore[attr-defined]
        self.partitions = self.archive.version.partitions

    def go(self) -> RunSummary:
        """Check, walk, finish."""
        began = time.perf_counter()
        kind = self._kind()
        product = kind(self.job, self.archive, self.out, self.parameters, self.prepared, self.options.replace)
        with closing(product):
            return self._go(product, began)

    def _kind(self) -> type[Product]:
        from skytrawl.products import RowProduct, StateProduct

        if self.job.kind == "frames":
            from skytrawl.frames.product import FrameProduct

            return FrameProduct
        return RowProduct if self.job.kind == "rows" else StateProduct

    def _go(self, product: Product, began: float) -> RunSummary:
        pinned = product.pinned(self.asked)
        fitness = checks.preflight(
            self.client,
            self.job,
            self.location,
            str(self.archive.path),
            self.archive.version.number,
            str(product.home),
            pinned or self.asked,
        )
        workers = self.client.nthreads()
        project: Callable[..., Plan] = project_curves
        if isinstance(self.job, FrameJob):
            from skytrawl.frames.plan import project as project_frames

            project = project_frames
        project(
            self.job,
            self.archive,
            self.parameters,
            self.prepared,
            workers=len(workers),
            threads=fitness.threads_per_worker,
            limit=fitness.memory_limit,
        ).check()
        sink = product.start(fitness.backend, checks.provenance())
        spec = Spec(
            job=self.location,
            archive=str(self.archive.path),
            version=self.archive.version.number,
            parameters=self.parameters,
            backend=fitness.backend,
            fingerprint=product.fingerprint,
            home=str(product.storage.root),
            run="" if self.job.kind == "reduction" else str(product.storage.root),
            artefact=save_artefact(product.storage, self.prepared),
            archive_fingerprint=self.archive.fingerprint,
            packages=checks.deciding(fitness.versions),
        )
        done = sink.done()
        # A driver that was killed may have left the record of a failure that was mended.
        sink.failures.clear(partition_keys(self.partitions[done]))
        walk = self._walk(spec, sink, done, fitness.hosts)
        product.finish(walk.done, continued=bool(walk.skipped))
        return RunSummary(
            job=self.job.name,
            path=str(self.out),
            done=walk.done,
            skipped=walk.skipped,
            failed=walk.failed,
            observations=walk.observations,
            seconds=time.perf_counter() - began,
            backend=fitness.backend,
            fingerprint=product.fingerprint,
            **({"pieces": "frames", "unit": "pixels"} if self.job.kind == "frames" else {}),
        )

    def _walk(self, spec: Spec, sink: Sink, done: np.ndarray, hosts: list[str] | None) -> Walk:
        wanted = ~done
        if self.options.retry_failed:
            known = sink.failures.read()
            wanted &= np.fromiter((key in known for key in partition_keys(self.partitions)), bool, len(done))
        seconds = getattr(self.job, "seconds", None)
        task = work
        if isinstance(self.job, FrameJob):
            from skytrawl.frames.task import work as task
        batcher = Batcher(
            self.partitions["n_objects"],
            self.partitions["n_observations"],
            np.flatnonzero(wanted),
            self.options.split_seconds,
            None if seconds is None else lambda n, m: seconds(n, m, self.parameters, self.prepared),
        )
        walk = Walk(
            self.client,
            spec,
            batcher,
            sink,
            self.partitions,
            retries=self.options.retries,
            stall_seconds=self.options.stall_seconds,
            window=self.options.in_flight,
            hosts=hosts,
            progress=self.options.progress,
            skipped=int(done.sum()),
            task=task,
        )
        walk.walk()
        return walk
