"""Finds tasks that stall: seen from the driver, with what the scheduler says is being processed."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stall:
    """A task that has been at the head of its worker's queue for too long."""

    key: Any
    worker: str
    seconds: float


class Watchdog:
    """Clocks for the tasks that workers are executing.

    The scheduler lists for each worker the tasks it was given, in the order they were given. Those that
    fit its threads are executing; the others wait behind them. A clock starts when a task first stands
    among the executing ones and starts anew when the task moves to another worker.

    Parameters
    ----------
    client : distributed.Client
        The cluster.
    stall_seconds : float
        Seconds after which an executing task counts as stalled.
    """

    def __init__(self, client: Any, stall_seconds: float) -> None:
        self.client = client
        self.stall_seconds = stall_seconds
        self.interval = min(10.0, max(0.5, stall_seconds / 5))
        self._clocks: dict[tuple[str, Any], float] = {}
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time to look again."""
        return time.monotonic() - self._last >= self.interval

    def look(self, mine: Iterable[Any]) -> list[Stall]:
        """Stalled tasks among `mine` (keys); advances the clocks."""
        now = time.monotonic()
        self._last = now
        known = set(mine)
        threads = self.client.nthreads()
        clocks: dict[tuple[str, Any], float] = {}
        for worker, keys in self.client.processing().items():
            for key in list(keys)[: threads.get(worker, 1)]:
                if key in known:
                    clocks[worker, key] = self._clocks.get((worker, key), now)
        self._clocks = clocks
        return [
            Stall(key, worker, now - began)
            for (worker, key), began in clocks.items()
            if now - began > self.stall_seconds
        ]

    def restart(self, workers: Iterable[str]) -> list[str]:
        """Restart workers that hold stalled tasks; returns those that have no nanny to do it."""
        info = self.client.scheduler_info(n_workers=-1)["workers"]
        helpless: list[str] = []
        able: list[str] = []
        for worker in set(workers):
            if worker in info:
                (able if info[worker].get("nanny") else helpless).append(worker)
        if able:
            # raise_for_error=False: a worker that does not even die in time is removed by the scheduler.
            self.client.restart_workers(able, timeout=30, raise_for_error=False)
        return helpless
