"""Clusters on this machine: worker processes from its cores and memory, or threads of this process."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skytrawl.errors import ParameterError, SkytrawlError

if TYPE_CHECKING:
    from distributed import Client

# Share of the machine's memory that workers may take together; the rest is for driver and page cache.
MEMORY_SHARE = 0.85
_ENVIRONMENT = {
    # Threads of Numba and BLAS would compete with the workers'.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # The sampling profiler of Dask's dashboard takes the GIL a hundred times a second by default.
    "DASK_DISTRIBUTED__WORKER__PROFILE__INTERVAL": "200ms",
    # Dask gives every freed array back to the system, and the pages of the next one cost as much time as what
    # is computed on it; kept are arrays of up to 32 MB (the most that glibc takes) and 64 MB at the end of a
    # heap. Arrow's own pool would keep more.
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "67108864",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}
_GUARD = (
    "Workers import the script that starts them: put the code of a script below "
    "`if __name__ == '__main__':`, or use cluster='threads'"
)


@dataclass(frozen=True)
class LocalShape:
    """Worker processes, threads of each and the memory limit of each in bytes."""

    processes: int
    threads: int
    memory: int

    def __str__(self) -> str:
        return f"{self.processes} x {self.threads} threads, {self.memory / 1e9:.1f} GB each"


def cores() -> int:
    """Cores this process may run on (affinity and container limits, not the machine's label)."""
    from dask.system import CPU_COUNT

    return max(1, int(CPU_COUNT))


def total_memory() -> int:
    """Bytes of memory this process may use (container limits included)."""
    from distributed.system import MEMORY_LIMIT

    return int(MEMORY_LIMIT)


def local_shape(workers: int | None = None, threads: int | None = None) -> LocalShape:
    """Shape of a local cluster: by default one worker process per core with one thread each.

    Kernels release the GIL, reading and small arrays do not, so processes beat threads.

    Parameters
    ----------
    workers, threads : int, optional
        Worker processes, and threads of each.

    Raises
    ------
    ParameterError
        A number below one.
    """
    for name, value in (("workers", workers), ("threads", threads)):
        if value is not None and value < 1:
            raise ParameterError(f"{name} is {value}: a cluster needs at least one")
    per_worker = threads or 1
    processes = workers or max(1, cores() // per_worker)
    return LocalShape(processes, per_worker, int(total_memory() * MEMORY_SHARE / processes))


@contextlib.contextmanager
def connect(
    cluster: str = "local",
    *,
    workers: int | None = None,
    threads: int | None = None,
    memory: int | None = None,
    dashboard: str = "127.0.0.1:0",
    timeout: float = 60.0,
) -> Iterator[Client]:
    """Start a cluster, or connect to one, and yield its client.

    Parameters
    ----------
    cluster : str
        "local" starts worker processes here, "threads" uses threads of this process (small jobs: no
        start-up cost, no isolation: a crash ends the program), anything else is a scheduler address
        such as "tcp://host:8786".
    workers, threads : int, optional
        Worker processes, and threads of each; an existing scheduler has its own.
    memory : int, optional
        Bytes that a worker may use; default an equal share of 85 % of the machine.
    dashboard : str
        Address of the Dask dashboard; by default any free port, for this machine alone.
    timeout : float
        Seconds to wait for the scheduler.

    Raises
    ------
    ParameterError
        Unknown kind of cluster, or a scheduler that does not answer.
    """
    if cluster == "threads":
        yield from _threads(workers, threads, dashboard)
    elif cluster == "local":
        yield from _processes(local_shape(workers, threads), memory, dashboard, timeout)
    elif "://" in cluster:
        yield from _address(cluster, workers, threads, timeout)
    else:
        raise ParameterError(
            f"cluster {cluster!r}: use 'local', 'threads' or a scheduler address such as 'tcp://host:8786'"
        )


def dask_setup(worker: Any) -> None:
    """Preload of local workers: Ctrl-C in a terminal reaches them too, but the driver stops them.

    The scheduler lives in the driver and goes first: that it does not answer a last heartbeat is no news.
    """
    logging.getLogger("distributed.worker").addFilter(lambda record: "heartbeat" not in record.getMessage())
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _processes(shape: LocalShape, memory: int | None, dashboard: str, timeout: float) -> Iterator[Client]:
    from distributed import Client, LocalCluster

    if getattr(multiprocessing.process.current_process(), "_inheriting", False):
        # A worker that has just been started imports the user's script, which starts workers, which ...
        raise SkytrawlError(_GUARD)
    import dask

    try:
        with dask.config.set({"distributed.nanny.pre-spawn-environ": _ENVIRONMENT}):
            cluster = LocalCluster(
                n_workers=shape.processes,
                threads_per_worker=shape.threads,
                memory_limit=memory or shape.memory,
                processes=True,
                dashboard_address=dashboard,
                preload=[__name__],
                # The runner isolates and retries what was on a dead worker itself; letting the scheduler
                # feed the same task to four workers in a row would kill all of them.
                scheduler_kwargs={"allowed_failures": 1},
                env=_ENVIRONMENT,
            )
    except RuntimeError as error:
        raise SkytrawlError(f"worker processes do not start ({error}). {_GUARD}") from error
    with cluster, Client(cluster, timeout=timeout) as client:
        yield client


def _threads(workers: int | None, threads: int | None, dashboard: str) -> Iterator[Client]:
    from distributed import Client, LocalCluster

    count = (threads or cores()) * (workers or 1)
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=count,
            processes=False,
            memory_limit=0,
            dashboard_address=dashboard,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _address(address: str, workers: int | None, threads: int | None, timeout: float) -> Iterator[Client]:
    if workers is not None or threads is not None:
        raise ParameterError(f"workers and threads belong to a new cluster; {address} has its own")
    from distributed import Client
    from distributed.comm import get_address_host_port

    try:
        # A client that fails on the form of an address would hang for minutes when it is thrown away.
        get_address_host_port(address)
    except ValueError as error:
        raise ParameterError(
            f"cluster {address!r} is no scheduler address ({error}): such as 'tcp://host:8786'"
        ) from error
    try:
        client = Client(address, timeout=timeout, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise ParameterError(
            f"no Dask scheduler answers at {address} ({error}): check the address, or start one with "
            "`dask scheduler`"
        ) from error
    with client:
        yield client


def dashboard_link(client: Any) -> str:
    """Address of a client's dashboard; Dask names the wrong one for a cluster inside this process."""
    link, scheme = str(client.dashboard_link or ""), "inproc://"
    address = client.scheduler_info(n_workers=-1)["address"] if link else ""
    if address.startswith(scheme):
        link = link.replace(address.removeprefix(scheme).split("/")[0], "127.0.0.1", 1)
    return link


def describe(client: Any) -> dict[str, Any]:
    """Workers, threads, memory and dashboard of a client's cluster, for people and provenance."""
    info = client.scheduler_info(n_workers=-1)["workers"]
    return {
        "workers": len(info),
        "threads": sum(worker["nthreads"] for worker in info.values()),
        "memory": sum(worker["memory_limit"] or 0 for worker in info.values()),
        "hosts": sorted({worker["host"] for worker in info.values()}),
        "dashboard": dashboard_link(client),
        "pid": os.getpid(),
    }
