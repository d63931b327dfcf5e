"""The stretches of the sky that an ingest works by, and the spill files that hold the rows of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_END = 2**64 - 1


@dataclass
class Buckets:
    """Stretches of the curve that follow each other without gaps.

    Attributes
    ----------
    territory : dict of str to (int, int)
        First and last place on the curve of each bucket, in ascending order.
    base : dict of str to int
        Partition of the version below that an append replaces.
    sources : dict of str to list of (key, number)
        Spill files with rows of the bucket, and its number in them.
    rows : dict of str to int
    cut : set of str
        Parts of a partition of the version below: where one is written, all are, also those without new rows.
    """

    territory: dict[str, tuple[int, int]]
    base: dict[str, int] = field(default_factory=dict)
    sources: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)

    @classmethod
    def from_borders(cls, borders: Sequence[int]) -> Buckets:
        """Buckets that begin at 0 and at each border."""
        return cls(_cut("", (0, _END), borders))

    def borders(self) -> np.ndarray:
        """First place of every bucket but the first (uint64)."""
        return np.array([first for first, _ in self.territory.values()][1:], np.uint64)

    def filled(self) -> Iterator[str]:
        """Names of the buckets that have something to write, along the curve."""
        return (name for name in self.territory if self.rows.get(name) or name in self.cut)

    def fill(self, records: Sequence[dict[str, Any]]) -> None:
        """Note the spill files of the pieces."""
        names = list(self.territory)
        for record in records:
            self._add(record["parts"], names)

    def split(self, name: str, record: dict[str, Any]) -> None:
        """Replace a bucket by smaller ones; without borders it stays."""
        if not record["borders"]:
            return
        parts = _cut(name + ".", self.territory[name], record["borders"])
        whole: dict[str, tuple[int, int]] = {}
        for other, stretch in self.territory.items():
            whole.update(parts if other == name else {other: stretch})
        self.territory = whole
        del self.sources[name], self.rows[name]
        if (base := self.base.pop(name, None)) is not None:
            self.base.update(dict.fromkeys(parts, base))
            self.cut.update(parts)
        self._add(record["parts"], list(parts))

    def _add(self, parts: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
        for part in parts:
            for number, count in zip(part["buckets"], part["counts"], strict=True):
                name = names[number]
                self.sources.setdefault(name, []).append((part["key"], number))
                self.rows[name] = self.rows.get(name, 0) + count


def from_partitions(partitions: np.ndarray) -> Buckets:
    """Buckets of an append: each partition with the stretch up to the next one.

    Partitions without objects have no stretch. Those that begin at the same place cannot be told apart and
    do not occur, because an object lies in one partition only.
    """
    used = np.flatnonzero(partitions["n_objects"])
    used = used[np.argsort(partitions["healpix_min"][used], kind="stable")]
    borders = partitions["healpix_min"][used][1:].tolist()
    made = Buckets.from_borders(borders)
    made.base = {name: int(number) for name, number in zip(made.territory, used, strict=bool(len(used)))}
    return made


def _cut(prefix: str, stretch: tuple[int, int], borders: Sequence[int]) -> dict[str, tuple[int, int]]:
    firsts = [stretch[0], *borders]
    lasts = [border - 1 for border in borders] + [stretch[1]]
    return {f"{prefix}{number}": ends for number, ends in enumerate(zip(firsts, lasts, strict=True))}
