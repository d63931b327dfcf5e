"""What a run will read, write and need, before anything runs; a plan that does not fit is refused."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.errors import PlanRefusedError
from skytrawl.frames.job import FrameJob
from skytrawl.job import BaseJob, Job, Prepared, get_job
from skytrawl.params import build, parameter_dict

if TYPE_CHECKING:
    import xarray as xr

    from skytrawl.catalogs.archive import Archive
    from skytrawl.catalogs.images.store import FrameStore

# Resident memory of a worker process that has imported NumPy, Numba, Dask and the job: measured on Linux
# x86-64 at 190 MB with cached kernels and 245 MB while it compiles them; the rest is for heavier jobs.
BASE_PROCESS = 320_000_000
# What the allocator keeps beyond the arrays that are alive.
ALLOCATOR = 1.15


@dataclass(frozen=True)
class Plan:
    """Projected cost of a run; bytes are decoded unless said otherwise.

    Attributes
    ----------
    job, archive, version, partitions, objects, observations
        What runs over what; `partitions` counts all of the version.
    tasks : int
        Lower bound: partitions that hold objects, before tiny ones are joined.
    read_bytes, write_bytes : int
        All inputs and all outputs.
    memory_task : int
        Of the largest partition: inputs, read buffer, outputs, encoding, the job's work space.
    memory_worker : int
        Base process, prepared payload and `threads` such tasks.
    memory_limit : int
        Of one worker; 0 where there is none.
    threads : int
        Of one worker.
    payload : int
        Bytes of what the job prepared (a reference).
    over : str
        What the objects are: light curves, or a kind of frames, whose observations are pixels.
    refused : str
        Why the plan does not fit, with remedies; "" if it does.
    """

    job: str
    archive: str
    version: int
    parameters: dict[str, Any]
    partitions: int
    objects: int
    observations: int
    tasks: int
    read_bytes: int
    write_bytes: int
    memory_task: int
    memory_worker: int
    memory_limit: int
    workers: int
    threads: int
    payload: int
    needs: tuple[str, ...]
    gives: tuple[str, ...]
    inputs: dict[str, str]
    refused: str = ""
    over: str = "light curves"

    def check(self) -> None:
        """Raise PlanRefusedError if the plan does not fit."""
        if self.refused:
            raise PlanRefusedError(self.refused)

    def facts(self) -> dict[str, str]:
        """Names and values for people."""
        limit = "no limit" if not self.memory_limit else f"limit {_size(self.memory_limit)}"
        facts = {
            "archive": f"{self.archive}, version {self.version}",
            **self._amount(),
            "reads": f"{_size(self.read_bytes)} decoded: {', '.join(self.needs)}",
            "writes": f"{_size(self.write_bytes)}: {', '.join(self.gives) or 'one reduced product'}",
            "workers": f"{self.workers} x {self.threads} threads",
            "memory of a task": _size(self.memory_task),
            "memory of a worker": f"{_size(self.memory_worker)} projected, {limit}",
        }
        if self.inputs:
            facts["other inputs"] = ", ".join(f"{name} {value}" for name, value in self.inputs.items())
        return facts

    def _amount(self) -> dict[str, str]:
        if self.over != "light curves":
            return {self.over: f"{self.objects:,} frames to make from {self.observations / 1e6:,.1f} Mpix"}
        return {
            self.over: f"{self.objects:,} objects, {self.observations:,} observations",
            "partitions": f"{self.partitions:,} ({self.tasks:,} with objects)",
        }

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values."""
        return asdict(self)


def make_plan(
    job: str | BaseJob,
    archive: str | Path | Archive | xr.DataTree | FrameStore,
    *,
    cluster: str = "local",
    workers: int | None = None,
    threads: int | None = None,
    memory: int | None = None,
    version: int | None = None,
    **parameters: Any,
) -> Plan:
    """Plan a job over an archive for a cluster of the given shape; starts nothing.

    Parameters
    ----------
    job : str or Job
        The job.
    archive : path, Archive, DataTree or FrameStore
        What it runs over.
    cluster : str
        "local" or "threads": the shape follows from this machine. A scheduler address is asked.
    workers, threads : int, optional
        Worker processes and threads of each.
    memory : int, optional
        Bytes that one worker may use.
    version : int, optional
        Version of the archive; default the latest.
    **parameters
        Of the job.

    Returns
    -------
    Plan
        `refused` says why it does not fit, if it does not.
    """
    from skytrawl.deploy.local import connect, local_shape, total_memory

    if "://" in cluster:
        with connect(cluster) as client:
            info = client.scheduler_info(n_workers=-1)["workers"].values()
            count = len(info)
            per_worker = max((worker["nthreads"] for worker in info), default=1)
            limit = min((worker["memory_limit"] or 0 for worker in info), default=0)
    else:
        shape = local_shape(workers, threads)
        count, per_worker, limit = shape.processes, shape.threads, memory or shape.memory
        if cluster == "threads":
            count, per_worker, limit = 1, shape.processes * shape.threads, memory or total_memory()
    found = get_job(job)
    chosen: Any = build(found.parameters, parameters)
    if isinstance(found, FrameJob):
        from skytrawl.frames.plan import project as project_frames
        from skytrawl.frames.source import open_source, prepare

        prepared, source = prepare(found, chosen, open_source(archive, version, found))
        return project_frames(found, source, chosen, prepared, workers=count, threads=per_worker, limit=limit)
    opened = open_version(archive, version)
    assert isinstance(found, Job)
    return project(
        found, opened, chosen, found.prepare(chosen, opened), workers=count, threads=per_worker, limit=limit
    )


plan = make_plan


def project(
    job: Job,
    archive: Archive,
    parameters: Any,
    prepared: Prepared,
    *,
    workers: int,
    threads: int,
    limit: int,
) -> Plan:
    """The plan of a prepared job on `workers` of `threads` threads and `limit` bytes each (0: no limit)."""
    needs = tuple(job.needs(parameters, archive))
    names = dict.fromkeys(_full(name) for name in needs)
    rows = job.kind == "rows"
    if rows:
        identity = ("object_id", "ra", "dec", "healpix", "class")
        names |= dict.fromkeys(
            f"objects/{name}" for name in identity if f"objects/{name}" in archive.variables
        )
    widths = {name: archive.array(name).row_bytes for name in names}
    per_object = 8 + sum(width for name, width in widths.items() if name.startswith("objects/"))
    per_observation = sum(width for name, width in widths.items() if name.startswith("lightcurves/"))
    out, gives = _output(job, parameters, prepared) if rows else (0, ())
    if rows:
        out += per_object - 8
    table = archive.version.partitions
    objects, observations = table["n_objects"], table["n_observations"]
    heaviest, parts = _heaviest(table, per_object, per_observation, out)
    task = 0
    for index in heaviest:
        count, length = int(objects[index]), int(observations[index])
        inputs = count * per_object + length * per_observation
        buffer = max((length if n.startswith("lightcurves/") else count) * w for n, w in widths.items())
        workspace = job.memory(count, length, parameters, prepared)
        # Outputs twice: as the block gave them and, one after another, encoded on their way to the disk.
        task = max(task, inputs + buffer + 2 * count * out + workspace)
    task = int(ALLOCATOR * task)
    # The payload is unpickled from its bytes: both exist for a moment.
    worker = BASE_PROCESS + 2 * prepared.nbytes + threads * task
    return Plan(
        job=job.name,
        archive=str(archive.path),
        version=archive.version.number,
        parameters=parameter_dict(parameters),
        partitions=archive.n_partitions,
        objects=archive.n_objects,
        observations=archive.n_observations,
        tasks=int((objects > 0).sum()),
        read_bytes=int(archive.n_objects * per_object + archive.n_observations * per_observation),
        write_bytes=int(archive.n_objects * out),
        memory_task=task,
        memory_worker=worker,
        memory_limit=limit,
        workers=workers,
        threads=threads,
        payload=prepared.nbytes,
        needs=needs,
        gives=gives,
        inputs=dict(prepared.inputs),
        refused=refusal(job.name, worker, task, threads, limit, parts),
    )


def _heaviest(table: np.ndarray, per_object: int, per_observation: int, out: int) -> tuple[list[int], str]:
    """Partitions that can be the largest in memory: most objects, most observations, most bytes."""
    if not len(table):
        return [], "no partitions"
    weight = table["n_objects"] * (per_object + 2 * out) + table["n_observations"] * per_observation
    chosen = {int(np.argmax(values)) for values in (table["n_objects"], table["n_observations"], weight)}
    largest = int(np.argmax(weight))
    row = table[largest]
    return sorted(
        chosen
    ), f"partition {largest}: {row['n_objects']:,} objects, {row['n_observations']:,} observations"


def _output(job: Job, parameters: Any, prepared: Prepared) -> tuple[int, tuple[str, ...]]:
    """Decoded bytes of one object's outputs, and their names."""
    sizes = {dim: len(labels) for dim, labels in job.coords(parameters, prepared).items()}
    total = 0
    variables = job.gives(parameters, prepared)
    for variable in variables:
        total += np.dtype(variable.dtype).itemsize * int(
            np.prod([sizes[dim] for dim in variable.dims[1:]], dtype=int)
        )
    return total, tuple(variable.short for variable in variables)


def refusal(
    job: str,
    worker: int,
    task: int,
    threads: int,
    limit: int,
    largest: str,
    smaller: str = "ingest the archive with smaller partitions",
) -> str:
    """Why a task does not fit a worker, with remedies; "" if it does."""
    if not limit or worker <= limit:
        return ""
    most = max(0, int((limit - (worker - threads * task)) // max(task, 1)))
    fewer = f"give each worker {most} threads, or " if 0 < most < threads else ""
    return (
        f"{job} needs {_size(worker)} on each worker ({threads} threads x {_size(task)} a task, the "
        f"rest for the process itself), the limit is {_size(limit)}. The largest task is {largest}. "
        f"Remedies: {fewer}start fewer workers with at least {_size(worker)} each, or {smaller}"
    )


def open_version(source: Any, version: int | None) -> Archive:
    """The archive behind a path, Archive or tree, at a version (default: the one it has)."""
    from skytrawl.catalogs.archive import Archive, archive_of

    archive = archive_of(source)
    if version is not None and version != archive.version.number:
        archive = Archive.open(archive.path, version)
    return archive


def _full(name: str) -> str:
    from skytrawl.catalogs.schema import full_name

    return full_name(name)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} PB"
