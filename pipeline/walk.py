"""The walk over partitions: a bounded window of tasks, retries, isolation of what kills, a watchdog."""

from __future__ import annotations

import itertools
import queue
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skytrawl.batching import Batch, Batcher
from skytrawl.catalogs.ledger import Failure, Key, partition_keys
from skytrawl.errors import PreflightError
from skytrawl.sinks import Sink
from skytrawl.task import Report, Spec, gather, part, work
from skytrawl.watchdog import Stall, Watchdog

# Without any worker for so long, nobody will come.
NO_WORKER_SECONDS = 120.0
_CONTINUE = "What is done is kept; start the same run again to continue"


@dataclass(frozen=True)
class Progress:
    """How far a run is; handed to the `progress` callback.

    `done` counts finished partitions of the version, those of earlier runs included; `observations` those
    of this run; `failed` the partitions given up.
    """

    done: int
    total: int
    observations: int
    failed: int
    seconds: float


@dataclass
class _Unit:
    batch: Batch
    futures: list[Any]
    keys: list[Any]


class Walk:
    """Hands partitions to workers and takes back what they report.

    Suspects are partitions whose task was lost with its process, or stalled. They share no worker with
    others any more: when the rest is done they run one by one, so that the culprit is known for certain
    and the innocent finish.

    Parameters
    ----------
    client : distributed.Client
        The cluster.
    spec : Spec
        The run.
    batcher : Batcher
        Cuts partitions into tasks.
    sink : Sink
        Where results go.
    partitions : array
        Partition table of the version.
    retries : int
        How often a partition that failed is tried again.
    stall_seconds : float
        When an executing task counts as stalled.
    window : int, optional
        Tasks in flight; default three a thread.
    hosts : list of str, optional
        The only hosts whose workers may take tasks.
    progress : callable, optional
        Called with `Progress`, at most five times a second.
    task : callable
        What a worker calls with the run and the numbers of a batch of partitions.
    """

    def __init__(
        self,
        client: Any,
        spec: Spec,
        batcher: Batcher,
        sink: Sink,
        partitions: np.ndarray,
        *,
        retries: int,
        stall_seconds: float,
        window: int | None = None,
        hosts: list[str] | None = None,
        progress: Callable[[Progress], None] | None = None,
        skipped: int = 0,
        task: Callable[[Spec, list[int]], Report] = work,
    ) -> None:
        self.task = task
        self.client = client
        self._scheduler = str(client.scheduler.address)  # a closed client has forgotten it
        self.spec = spec
        self.batcher = batcher
        self.sink = sink
        self.partitions = partitions
        self.retries = retries
        self.window = window
        self.hosts = hosts
        self.progress = progress
        self.skipped = skipped
        self.watchdog = Watchdog(client, stall_seconds)
        self.stall_seconds = stall_seconds
        self.done = 0
        self.observations = 0
        self.failed: list[Failure] = []
        self._attempts: Counter[int] = Counter()
        self._suspects: deque[int] = deque()
        self._units: dict[int, _Unit] = {}
        self._ready: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._numbers = itertools.count()
        self._prefix = f"{spec.job.rpartition('.')[2].partition(':')[0]}-{uuid.uuid4().hex}"
        self._earlier: set[Key] = set()
        self._threads = 0
        self._counted = self._worker_seen = -1e9
        self._stuck = 0
        self._began = time.monotonic()
        self._told = 0.0

    def walk(self) -> None:
        """Do all partitions; on return each is done, or in `failed`."""
        self._began = self._worker_seen = time.monotonic()
        self._earlier = set(self.sink.failures.read())
        self._tell(always=True)
        try:
            self._loop()
        except OSError as error:
            if self.client.status == "running":
                raise
            raise self._gone() from error
        finally:
            # What is done is made durable whatever the cluster still answers.
            try:
                self._cancel()
            finally:
                self.sink.close()
        self._tell(always=True)

    def _loop(self) -> None:
        while self._feed():
            try:
                number = self._ready.get(timeout=min(1.0, self.watchdog.interval))
            except queue.Empty:
                self._count_threads()
            else:
                self._take(number)
                self._tell()
            if self.watchdog.due():
                self._watch()

    def _cancel(self) -> None:
        futures = [future for unit in self._units.values() for future in unit.futures]
        self._units.clear()
        if futures and self.client.status == "running":
            self.client.cancel(futures, force=True)

    def _feed(self) -> bool:
        """Top the window up; False when nothing is left to wait for."""
        while self.client.status == "connecting":
            time.sleep(0.1)  # the client gives up by itself after its timeout
        if self.client.status != "running":
            raise self._gone()
        self._count_threads()
        limit = self.window or max(4, 3 * self._threads)
        while len(self._units) < limit:
            batch = self.batcher.next(max(1, self._threads))
            if batch is None:
                break
            self._submit(batch)
        if not self._units and self._suspects:
            self._submit(self.batcher.cut(self._suspects.popleft(), isolated=True))
        return bool(self._units)

    def _count_threads(self) -> None:
        now = time.monotonic()
        if now - self._counted < 5.0 and self._threads:
            return
        threads = self.client.nthreads()
        chosen = {w: n for w, n in threads.items() if self.hosts is None or _host(w) in self.hosts}
        self._threads = sum(chosen.values()) - self._stuck
        self._counted = now
        if chosen:
            self._worker_seen = now
        elif now - self._worker_seen > NO_WORKER_SECONDS:
            raise PreflightError(f"no worker for {NO_WORKER_SECONDS:.0f} s: the cluster is gone. {_CONTINUE}")

    def _gone(self) -> PreflightError:
        return PreflightError(f"the scheduler at {self._scheduler} does not answer any more. {_CONTINUE}")

    def _submit(self, batch: Batch) -> None:
        number = next(self._numbers)
        common = {"pure": False, "retries": 0, "workers": self.hosts}
        if batch.ranges:
            partition = batch.partitions[0]
            parts = [
                self.client.submit(
                    part, self.spec, partition, start, stop, key=(self._prefix, number, index), **common
                )
                for index, (start, stop) in enumerate(batch.ranges)
            ]
            last = self.client.submit(
                gather, self.spec, partition, *parts, key=(self._prefix, number), **common
            )
            futures = [last, *parts]
        else:
            last = self.client.submit(
                self.task, self.spec, list(batch.partitions), key=(self._prefix, number), **common
            )
            futures = [last]
        self._units[number] = _Unit(batch, futures, [future.key for future in futures])
        last.add_done_callback(lambda _: self._ready.put(number))

    def _take(self, number: int) -> None:
        unit = self._units.pop(number, None)
        if unit is None:
            return  # cancelled by the watchdog
        future = unit.futures[0]
        if future.status == "finished":
            try:
                # The worker may die between finishing and handing over; Dask then computes once more.
                report = future.result(timeout=self.stall_seconds)
            except Exception as error:
                self._lost(unit.batch, _one_line(error), "")
            else:
                self._report(unit.batch, report)
            return
        if future.status == "error":
            raised = future.exception()
            if isinstance(raised, PreflightError):
                raise raised  # a worker that does not fit would swallow one task after another
            self._lost(unit.batch, _explained(raised), _traceback(future))
        else:
            # A connection that broke, or another client that restarted the cluster: no partition is to blame.
            dropped = f"the scheduler dropped the task ({future.status})"
            for partition in self._unfinished(unit.batch):
                self._again(partition, dropped, "", "")

    def _report(self, batch: Batch, report: Report) -> None:
        self.sink.accept(report)
        self.done += len(report.done)
        self.observations += report.observations
        if len(report.done) and not batch.ranges:
            self.batcher.learn(report.objects, report.observations, len(report.done), report.seconds)
        if self._earlier and len(report.done):
            again = [key for key in partition_keys(self.partitions[report.done]) if key in self._earlier]
            self.sink.failures.clear(again)
        for trouble in report.troubles:
            self._again(trouble.partition, trouble.error, trouble.traceback, trouble.host)

    def _again(self, partition: int, error: str, traceback: str, host: str) -> None:
        self._attempts[partition] += 1
        if self._attempts[partition] > self.retries:
            self._give_up(partition, error, traceback, host)
        else:
            self.batcher.again.append(partition)

    def _unfinished(self, batch: Batch) -> list[int]:
        """Partitions of a task that came back without a report, less those that it had finished."""
        finished = set(self.sink.finished_meanwhile(batch.partitions))
        if finished:
            rows = self.partitions[sorted(finished)]
            self.sink.failures.clear(partition_keys(rows))
            self.done += len(finished)
            self.observations += int(rows["n_observations"].sum())
        return [partition for partition in batch.partitions if partition not in finished]

    def _lost(self, batch: Batch, error: str, traceback: str) -> None:
        """A task that took its process with it, or stalled: which partition is to blame is not known yet."""
        for partition in self._unfinished(batch):
            if batch.isolated:
                self._attempts[partition] += 1
                if self._attempts[partition] >= max(1, self.retries):
                    self._give_up(partition, error, traceback, "")
                    continue
            self._suspects.append(partition)

    def _watch(self) -> None:
        keys = {key: number for number, unit in self._units.items() for key in unit.keys}
        stalls = self.watchdog.look(keys)
        if not stalls:
            return
        taken: dict[int, tuple[Batch, Stall]] = {}
        for stall in stalls:
            number = keys[stall.key]
            if number in self._units:
                unit = self._units.pop(number)
                # Before the restart, so that the scheduler does not hand the task to the next worker.
                self.client.cancel(unit.futures, force=True)
                taken[number] = unit.batch, stall
        helpless = self.watchdog.restart(
            stall.worker for stall in stalls if not self._in_process(stall.worker)
        )
        for batch, stall in taken.values():
            message = (
                f"stalled: no result after {stall.seconds:.0f} s on {stall.worker} "
                f"(stall_seconds={self.stall_seconds:g})"
            )
            if self._in_process(stall.worker) or stall.worker in helpless:
                # A thread cannot be stopped; it is lost to this run, and so are its partitions.
                self._stuck += 1
                for partition in batch.partitions:
                    self._give_up(partition, message + "; its thread cannot be restarted", "", "")
                if self._threads - self._stuck < 1:
                    raise PreflightError(f"{message}, and no other thread is left: use cluster='local'")
            else:
                self._lost(batch, message, "")

    def _in_process(self, worker: str) -> bool:
        return worker.startswith("inproc://")

    def _give_up(self, partition: int, error: str, traceback: str, host: str) -> None:
        row = self.partitions[partition]
        failure = Failure(
            partition=partition,
            object_slot=int(row["object_slot"]),
            content=bytes(row["content"]).decode(),
            error=error,
            traceback=traceback,
            attempts=self._attempts[partition],
            host=host,
            finished=time.time(),
        )
        self.sink.failures.record(failure)
        self.failed.append(failure)

    def _tell(self, always: bool = False) -> None:
        now = time.monotonic()
        if self.progress is None or (now - self._told < 0.2 and not always):
            return
        self._told = now
        self.progress(
            Progress(
                self.skipped + self.done,
                len(self.partitions),
                self.observations,
                len(self.failed),
                now - self._began,
            )
        )


def _host(worker: str) -> str:
    return worker.partition("://")[2].rpartition(":")[0].strip("[]")


def _one_line(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}"


def _explained(error: BaseException | None) -> str:
    if type(error).__name__ == "KilledWorker":
        return (
            "KilledWorker: the worker process died each time it ran this partition (out of memory, or a "
            "crash in compiled code): see the worker's log, or give workers more memory"
        )
    return _one_line(error)


def _traceback(future: Any) -> str:
    import traceback

    frames = future.traceback()
    lines: Sequence[str] = traceback.format_tb(frames) if frames is not None else ()
    return "".join(lines)
