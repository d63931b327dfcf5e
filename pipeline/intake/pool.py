"""Where the tasks of an ingest run: in this process, or on the workers of a Dask cluster."""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from skytrawl.errors import SkytrawlError

# A task whose worker dies is tried again this often.
RETRIES = 3


class Pool:
    """Runs tasks in this process, one after the other."""

    threads = 1

    def run(
        self, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]], done: Callable[[Any], None]
    ) -> None:
        """Call `function(*task)` for every task and hand each result to `done`, in any order."""
        for task in tasks:
            done(function(*task))

    def everywhere(self, function: Callable[[], None]) -> None:
        """Call a function once in each process that runs tasks."""
        function()


class DaskPool(Pool):
    """Runs tasks on a cluster through a bounded window, so that its scheduler's memory stays flat."""

    def __init__(self, client: Any) -> None:
        self.client = client
        info = client.scheduler_info(n_workers=-1)["workers"]
        self.threads = max(1, sum(worker["nthreads"] for worker in info.values()))

    def run(
        self, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]], done: Callable[[Any], None]
    ) -> None:
        """Call `function(*task)` for every task and hand each result to `done`, in any order.

        Raises
        ------
        SkytrawlError
            If a task has lost its worker several times. Errors of a task are raised as they are.
        """
        from distributed import KilledWorker, as_completed

        waiting = deque(tasks)
        flying: dict[Any, tuple[Any, ...]] = {}
        lost: Counter[str] = Counter()
        completed = as_completed(loop=self.client.loop)

        def fill() -> None:
            while waiting and len(flying) < 2 * self.threads:
                task = waiting.popleft()
                future = self.client.submit(function, *task, pure=False)
                flying[future] = task
                completed.add(future)

        try:
            fill()
            while flying:
                future = next(completed)
                task = flying.pop(future)
                try:
                    done(future.result())
                except KilledWorker as error:
                    lost[repr(task)] += 1
                    if lost[repr(task)] >= RETRIES:
                        raise SkytrawlError(
                            f"a task of the ingest lost its worker {RETRIES} times ({error}): most likely "
                            "there is too little memory: use fewer workers, or smaller partitions. "
                            "What is done is kept: run the same command again to go on"
                        ) from error
                    waiting.append(task)
                fill()
        finally:
            self.client.cancel(list(flying))

    def everywhere(self, function: Callable[[], None]) -> None:
        """Call a function once in each process that runs tasks; those that do not answer are passed over."""
        self.client.run(function, on_error="ignore")


@contextlib.contextmanager
def open_pool(cluster: str | None, workers: int | None, nbytes: int) -> Iterator[Pool]:
    """The place for the tasks of an ingest of so many bytes.

    Parameters
    ----------
    cluster : str or None
        "inline" for this process, else as in :func:`skytrawl.deploy.local.connect`; None decides by size.
    workers : int or None
        Worker processes; given, a cluster starts.
    nbytes : int
        Size of the input. Starting workers takes longer than reading 64 MB.
    """
    if cluster is None:
        cluster = "inline" if workers is None and nbytes < 64_000_000 else "local"
    if cluster == "inline":
        yield Pool()
        return
    from skytrawl.deploy.local import connect

    with connect(cluster, workers=workers) as client:
        yield DaskPool(client)
