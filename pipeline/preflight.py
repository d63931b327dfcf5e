"""Checks before anything runs: whether the workers can take this work at all."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from skytrawl.catalogs.storage import Storage
from skytrawl.errors import BackendUnavailableError, ParameterError, PreflightError, SkytrawlError
from skytrawl.job import BaseJob

# Packages that decide values; another version on one worker would mix results.
_MUST_AGREE = ("python", "skytrawl", "numpy", "numba")
_RECORDED = (*_MUST_AGREE[1:], "numcodecs", "zarr", "xarray", "dask", "distributed")


@dataclass(frozen=True)
class Fitness:
    """What the workers answered: the backend to pin, and the hosts that may take tasks (None: all)."""

    backend: str
    hosts: list[str] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    memory_limit: int = 0
    threads_per_worker: int = 1


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that provenance records."""
    found = {"python": platform.python_version()}
    for name in _RECORDED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def provenance() -> dict[str, Any]:
    """Who runs what, where and when; plain values."""
    return {
        "command": " ".join(sys.argv),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": platform.node(),
        "versions": package_versions(),
    }


def inspect_worker(job: str, archive: str, number: int, out: str, probe: str, gpu: bool) -> dict[str, Any]:
    """Answer from one worker: versions, sight of the archive, a probe file in the output, the GPU.

    Runs on the worker; every problem comes back as text, so that all of them can be shown together.
    """
    from skytrawl.job import load_job

    problems = []
    kind = ""
    try:
        kind = load_job(job).kind
    except ImportError as error:
        problems.append(f"cannot import the job {job}: {error}")
    try:
        _open(archive, number, kind)
    except (SkytrawlError, OSError) as error:
        problems.append(f"cannot open the archive {archive}: {error}")
    name = f"{probe}/{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        Storage(out).write_new(name, b"probe")
    except OSError as error:
        problems.append(f"cannot write to {out}: {error}")
    missing = None
    if gpu:
        from skytrawl.kernels.backend import cuda_problem

        missing = cuda_problem()
    return {"problems": problems, "probe": name, "versions": package_versions(), "gpu": missing}


def _open(path: str, number: int, kind: str) -> None:
    """Open what a job of this kind runs over, as its tasks will."""
    if kind == "frames":
        from skytrawl.catalogs.images.store import FrameStore

        FrameStore.cached(path, number)
    else:
        from skytrawl.catalogs.archive import Archive

        Archive.cached(path, number)


def preflight(
    client: Any, job: BaseJob, location: str, archive: str, number: int, out: str, backend: str
) -> Fitness:
    """Ask every worker, and refuse work that no worker could ever take.

    Parameters
    ----------
    client : distributed.Client
        The cluster.
    job, location
        The job, and where workers import it from.
    archive, number : str, int
        Path and version of the archive.
    out : str
        Folder that workers must be able to write into.
    backend : {"auto", "cpu", "cuda"}
        "auto" is "cuda" where the job has it and every worker has a GPU, else "cpu".

    Raises
    ------
    PreflightError
        No workers, other package versions, no sight of the archive, no way to write the output.
    BackendUnavailableError
        "cuda" without any GPU worker.
    """
    _check_backend(job, backend)
    wants_gpu = backend != "cpu" and "cuda" in job.backends
    workers = client.scheduler_info(n_workers=-1)["workers"]
    if not workers:  # they may be about to come
        with contextlib.suppress(TimeoutError):
            client.wait_for_workers(1, timeout=5)
        workers = client.scheduler_info(n_workers=-1)["workers"]
    if not workers:
        raise PreflightError("the cluster has no workers: start some, or use cluster='local'")
    probe = f".preflight-{uuid.uuid4().hex[:12]}"
    try:
        answers = client.run(
            inspect_worker, location, archive, number, out, probe, wants_gpu, on_error="return"
        )
        _complain(answers, out)
        versions = package_versions()
        _compare_versions(answers, versions)
    finally:
        _remove(out, probe)
    limits = [_memory_limit(worker, info) for worker, info in workers.items()]
    threads = max(info["nthreads"] for info in workers.values())
    with_gpu = {worker for worker, answer in answers.items() if wants_gpu and answer["gpu"] is None}
    chosen, only = "cpu" if "cpu" in job.backends else job.backends[0], None
    if backend == "cuda":
        if not with_gpu:
            reasons = {str(answer["gpu"]) for answer in answers.values()}
            raise BackendUnavailableError(
                f"backend 'cuda' asked for, but none of {len(answers)} workers has a GPU "
                f"({'; '.join(sorted(reasons))}): start GPU workers with 'skytrawl[gpu]', or use "
                "backend='cpu'"
            )
        chosen, only = "cuda", _gpu_hosts(workers, with_gpu)
    elif wants_gpu and len(with_gpu) == len(answers):
        chosen = "cuda"
    return Fitness(chosen, only, versions, min(limits) if all(limits) else 0, threads)


def _memory_limit(worker: str, info: Mapping[str, Any]) -> int:
    """Bytes that a worker may use; a worker inside this process has what the machine has."""
    if worker.startswith("inproc://"):
        from skytrawl.deploy.local import total_memory

        return total_memory()
    return int(info["memory_limit"] or 0)


def _gpu_hosts(workers: Mapping[str, Any], with_gpu: set[str]) -> list[str] | None:
    """Hosts that may take GPU tasks; hosts, because a restarted worker has another address."""
    if len(with_gpu) == len(workers):
        return None
    hosts = {workers[worker]["host"] for worker in with_gpu}
    mixed = hosts & {info["host"] for worker, info in workers.items() if worker not in with_gpu}
    if mixed:
        raise PreflightError(
            f"workers with and without a GPU share the host {', '.join(sorted(mixed))}: "
            "start GPU workers alone there"
        )
    return sorted(hosts)


def _check_backend(job: BaseJob, backend: str) -> None:
    if backend not in ("auto", *job.backends):
        raise ParameterError(
            f"backend {backend!r}: {job.name} knows {', '.join(job.backends)} and 'auto', which picks one"
        )


def _complain(answers: Mapping[str, Any], out: str) -> None:
    lines = []
    for worker, answer in answers.items():
        if isinstance(answer, BaseException):
            lines.append(f"{worker}: {type(answer).__name__}: {answer} (is skytrawl installed there?)")
            continue
        problems = list(answer["problems"])
        if not problems and not Storage(out).exists(answer["probe"]):
            problems.append(f"its file in {out} is not visible here: use a path on a shared file system")
        lines += [f"{worker}: {problem}" for problem in problems]
    if lines:
        raise PreflightError("the workers cannot do this run:\n  " + "\n  ".join(lines))


def deciding(versions: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The packages that decide values, out of `package_versions`."""
    return tuple((name, versions[name]) for name in _MUST_AGREE)


def unequal(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Packages that decide values and differ, in words; those that `expected` lacks are not compared."""
    return [
        f"{name} {found[name]} instead of {expected[name]}"
        for name in _MUST_AGREE
        if name in expected and found[name] != expected[name]
    ]


def _compare_versions(answers: Mapping[str, Any], mine: Mapping[str, str]) -> None:
    lines = []
    for worker, answer in answers.items():
        if found := unequal(answer["versions"], mine):
            lines.append(f"{worker}: {', '.join(found)}")
    if lines:
        raise PreflightError(
            "workers with other versions than the driver would mix results:\n  "
            + "\n  ".join(lines)
            + "\nuse one environment for all"
        )


def _remove(out: str, probe: str) -> None:
    storage = Storage(out)
    for name in storage.names(probe):
        storage.delete(f"{probe}/{name}")
    folder = storage.path(probe)
    if folder.is_dir():
        folder.rmdir()
