"""How partitions become tasks: tiny ones together, long ones cut into ranges of their objects."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# A task should last long against Dask's few milliseconds, and short against a lost worker.
TARGET_SECONDS = 2.0
MOST_PARTITIONS = 1000
# Fixed cost of a partition: opening and writing its shards; an empty one has none.
OPENING_SECONDS = 0.02
EMPTY_SECONDS = 5e-5
# Before anything is measured, a batch is bounded by what it reads.
FIRST_OBSERVATIONS = 500_000
# An object costs about as much as this many observations, beside its own.
OBJECT_WEIGHT = 10.0


@dataclass(frozen=True)
class Batch:
    """Partitions of one task; with `ranges` one partition cut into ranges of its objects."""

    partitions: tuple[int, ...]
    ranges: tuple[tuple[int, int], ...] = ()
    isolated: bool = False


class Batcher:
    """Cuts the partitions of a run into tasks by their projected seconds.

    Parameters
    ----------
    n_objects, n_observations : int64 array of shape (n_partitions,)
        Counts of all partitions of the version.
    todo : int64 array
        Partitions to do, in order.
    split_seconds : float
        A partition projected over this is cut.
    projected : (n_objects, n_observations) -> seconds, optional
        The job's own projection; else the rate is learned from finished tasks.
    """

    def __init__(
        self,
        n_objects: np.ndarray,
        n_observations: np.ndarray,
        todo: np.ndarray,
        split_seconds: float,
        projected: Callable[[int, int], float] | None = None,
    ) -> None:
        self.n_objects = n_objects
        self.n_observations = n_observations
        self.todo = todo
        self.position = 0
        self.again: deque[int] = deque()
        self.split_seconds = split_seconds
        self.projected = projected
        self._seconds = 0.0
        self._weight = 0.0

    @property
    def remaining(self) -> int:
        """Partitions that no task has taken yet."""
        return len(self.todo) - self.position + len(self.again)

    def learn(self, objects: int, observations: int, partitions: int, seconds: float) -> None:
        """Take note of what a finished task cost."""
        self._seconds += max(0.0, seconds - partitions * EMPTY_SECONDS)
        self._weight += observations + OBJECT_WEIGHT * objects

    def seconds(self, partition: int) -> float | None:
        """Projected seconds of a partition; None where nothing is known yet."""
        objects, observations = int(self.n_objects[partition]), int(self.n_observations[partition])
        if objects == 0:
            return EMPTY_SECONDS
        if self._weight > 0:
            weight = observations + OBJECT_WEIGHT * objects
            return OPENING_SECONDS + self._seconds / self._weight * weight
        return None if self.projected is None else OPENING_SECONDS + self.projected(objects, observations)

    def next(self, threads: int) -> Batch | None:
        """The next task, or None when everything is handed out."""
        if self.position < len(self.todo):
            return self._batch(threads)
        return self.cut(self.again.popleft()) if self.again else None

    def _batch(self, threads: int) -> Batch:
        left = len(self.todo) - self.position
        most = min(MOST_PARTITIONS, max(1, -(-left // (3 * threads))))
        chosen: list[int] = []
        total, observations = 0.0, 0
        while self.position < len(self.todo) and len(chosen) < most:
            partition = int(self.todo[self.position])
            cost = self.seconds(partition)
            if chosen:
                over = total + (cost or 0.0) > TARGET_SECONDS
                unknown = cost is None and observations + self.n_observations[partition] > FIRST_OBSERVATIONS
                if over or unknown:
                    break
            chosen.append(partition)
            self.position += 1
            total += cost or 0.0
            observations += int(self.n_observations[partition])
        return self.cut(chosen[0]) if len(chosen) == 1 else Batch(tuple(chosen))

    def cut(self, partition: int, isolated: bool = False) -> Batch:
        """A task of one partition, in ranges if it is projected over `split_seconds`."""
        cost, objects = self.seconds(partition), int(self.n_objects[partition])
        if cost is None or cost <= self.split_seconds or objects < 2:
            return Batch((partition,), isolated=isolated)
        pieces = min(objects, int(np.ceil(2 * cost / self.split_seconds)))
        edges = np.linspace(0, objects, pieces + 1).astype(int).tolist()
        return Batch((partition,), tuple(itertools.pairwise(edges)), isolated)
