"""Small files beside a run that answer its commonest questions: best rows, objects by id, cones.

Written when a run is finished, from its own columns, one partition in memory at a time; they can be
deleted and rebuilt at any time. All are ``.npy`` files that are mapped, not loaded:

- ``best``: per partition the first 128 rows of each ranked score, with all their columns;
- ``ids``: ids sorted in segments of a few million, with their places;
- ``caps``: a cap on the sky (centre and radius) around each chunk of rows. Objects follow the HEALPix
  curve, so a chunk is a compact patch, and a cap needs no case for poles, wraps or cell borders.

``index.json`` names the files and is replaced last, so that a reader sees one complete set or the one before.
"""

import hashlib
import json
import os
import uuid
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from skytrawl.catalogs.runs import Run
from skytrawl.errors import NoPositionsError, ParameterError

Result = TypeVar("Result")

FORMAT = 1
DEPTH = 128
# Wider columns (maps) stay in the store: they are read for the rows that an answer needs.
WIDE_BYTES = 512
SEGMENT_IDS = 4_000_000
DIRECTIONS = ("low", "high")
# Rounding of float64 unit vectors, far below any catalogue's precision.
_SLACK = 1e-9


def ranked(run: Run) -> dict[str, str]:
    """Columns of a run that declare a direction, "low" or "high", with it."""
    attrs = {name: run.column(name).attrs.get("direction") for name in run.outputs}
    return {name: end for name, end in attrs.items() if end in DIRECTIONS and not run.column(name).tail}


def main_score(scores: Iterable[str], where: str) -> str:
    """The score to rank by where nobody names one: "score", or the only one there is."""
    names = list(scores)
    if "score" in names:
        return "score"
    if len(names) != 1:
        known = ", ".join(names) or "none"
        raise ParameterError(f"{where} has not one ranked score ({known}): name one with `by`")
    return names[0]


def rank_key(values: np.ndarray, direction: str) -> np.ndarray:
    """Numbers that sort ascending from most to least interesting; exact for integers of any width."""
    if values.dtype.kind == "b":
        values = values.astype(np.int8)
    if direction == "low":
        return values
    return -values if values.dtype.kind == "f" else ~values


def best_rows(values: np.ndarray, direction: str, n: int, limit: Any = None) -> np.ndarray:
    """Rows of the `n` best values, best first, ties by row; NaN never ranks.

    Parameters
    ----------
    values : array of shape (rows,)
    direction : {"low", "high"}
    n : int
    limit : number, optional
        Rank key (see `rank_key`) beyond which rows cannot matter.
    """
    key = rank_key(values, direction)
    rows = np.flatnonzero(~np.isnan(values)) if values.dtype.kind == "f" else np.arange(len(values))
    if limit is not None:
        rows = rows[key[rows] <= limit]
    if len(rows) > n:
        edge = np.partition(key[rows], n - 1)[n - 1]
        rows = rows[key[rows] <= edge]
    return rows[np.argsort(key[rows], kind="stable")][:n]


def separation(ra: np.ndarray, dec: np.ndarray, ra0: float, dec0: float) -> np.ndarray:
    """Great-circle distance in degrees, float64 (Vincenty's formula: accurate from 0 to 180 degrees)."""
    # The remainder makes 360 and 0 the same number, so that radius 0 finds an object at its own position.
    delta = np.radians(np.mod(np.asarray(ra, np.float64), 360.0) - np.mod(ra0, 360.0))
    one, two = np.radians(np.float64(dec0)), np.radians(np.asarray(dec, np.float64))
    sin1, cos1, sin2, cos2 = np.sin(one), np.cos(one), np.sin(two), np.cos(two)
    across = np.hypot(cos2 * np.sin(delta), cos1 * sin2 - sin1 * cos2 * np.cos(delta))
    along = sin1 * sin2 + cos1 * cos2 * np.cos(delta)
    return np.degrees(np.arctan2(across, along))


def unit_vectors(ra: Any, dec: Any) -> np.ndarray:
    """Unit vectors, float64[..., 3], of positions in degrees."""
    lon, lat = np.radians(np.asarray(ra, np.float64)), np.radians(np.asarray(dec, np.float64))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def cap_around(vectors: np.ndarray) -> np.ndarray:
    """Cap (x, y, z, radius in radians) that holds all finite vectors; radius -1 where there are none."""
    vectors = vectors[np.isfinite(vectors).all(axis=1)]
    if not len(vectors):
        return np.array([0.0, 0.0, 1.0, -1.0])
    centre = vectors.sum(axis=0)
    length = np.linalg.norm(centre)
    centre = centre / length if length > 1e-6 else np.array([0.0, 0.0, 1.0])
    chord = np.linalg.norm(vectors - centre, axis=1).max()
    return np.append(centre, 2 * np.arcsin(min(1.0, chord / 2)))


def refresh(run: Run) -> bool:
    """Write the sidecars if there are none, or if the run went on since; returns whether it did."""
    if Sidecars.open(run) is not None:
        return False
    finalise(run)
    return True


def finalise(run: Run) -> dict[str, int]:
    """Write the sidecars of a run from its finished partitions; earlier ones are replaced.

    Holds one partition's columns of one kind in memory, and `SEGMENT_IDS` ids.

    Parameters
    ----------
    run : Run
        A run, finished or not: the sidecars cover what the ledger lists.

    Returns
    -------
    dict of int
        Counts: "partitions" covered, "missing" partitions, "objects".

    Raises
    ------
    CorruptShardError
        If a finished partition cannot be read; the earlier sidecars stay.
    """
    made_from = state(run)
    present = run.present()
    counts = np.where(present, run.partitions["n_objects"], 0).astype(np.int64)
    token = uuid.uuid4().hex[:12]
    built = _Build(run, counts, token)
    index: dict[str, Any] = {"format": FORMAT, "token": token, "state": made_from, "depth": DEPTH}
    built.save("present", present)
    index["segments"] = built.ids()
    if run.has_positions:
        index["chunk"] = built.caps()
    index["scores"] = {
        name: {"direction": end, "wide": built.best(name, end)} for name, end in ranked(run).items()
    }
    run.storage.replace("sidecars/index.json", json.dumps(index, indent=1).encode())
    for name in run.storage.names("sidecars"):
        # Readers that hold older files mapped keep them until they close.
        if name.endswith(".npy") and not name.startswith(token):
            run.storage.delete(f"sidecars/{name}")
    missing = int(((run.partitions["n_objects"] > 0) & ~present).sum())
    return {"partitions": int(present.sum()), "missing": missing, "objects": int(counts.sum())}


def _ahead(function: Callable[[int], Result], items: Sequence[int]) -> Iterator[Result]:
    """Results in order, computed a few items ahead in threads: decoding shards releases the GIL."""
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@dataclass
class _Build:
    """The passes over the columns; each writes its files as it goes."""

    run: Run
    counts: np.ndarray
    token: str

    @property
    def used(self) -> list[int]:
        return np.flatnonzero(self.counts).tolist()

    def save(self, name: str, array: np.ndarray) -> None:
        self.stream(name, array.dtype, array.shape, iter([array]))

    def stream(self, name: str, dtype: np.dtype, shape: tuple[int, ...], parts: Iterator[np.ndarray]) -> None:
        """Write a .npy file of known shape from consecutive pieces."""

        def pieces() -> Iterator[bytes]:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            yield _npy_header(header)
            rows = 0
            for part in parts:
                rows += len(part)
                yield np.ascontiguousarray(part, dtype).tobytes()
            if rows != shape[0]:
                raise ValueError(f"sidecar {name}: {rows} rows instead of {shape[0]}")

        self.run.storage.replace(f"sidecars/{self.token}.{name}.npy", pieces())

    def ids(self) -> list[int]:
        """Sorted ids in segments; returns the bounds of the segments."""
        bounds, group, size = [0], [], 0
        groups: list[list[int]] = []
        for partition in self.used:
            group.append(partition)
            size += int(self.counts[partition])
            if size >= SEGMENT_IDS:
                groups.append(group)
                bounds.append(bounds[-1] + size)
                group, size = [], 0
        if group:
            groups.append(group)
            bounds.append(bounds[-1] + size)
        dtype = np.dtype([("id", self.run.column("object_id").dtype), ("partition", "<u4"), ("row", "<u4")])

        def sorted_ids() -> Iterator[np.ndarray]:
            for members in groups:
                ids = np.concatenate([self.run.read(p, ("object_id",))["object_id"] for p in members])
                place = np.empty(len(ids), dtype)
                place["id"] = ids
                place["partition"] = np.repeat(members, self.counts[members])
                place["row"] = np.concatenate([np.arange(self.counts[p]) for p in members])
                yield place[np.argsort(ids, kind="stable")]

        self.stream("ids", dtype, (bounds[-1],), sorted_ids())
        return bounds

    def caps(self) -> int:
        """Caps around chunks of rows; returns the rows of a chunk."""
        chunk = self.run.column("ra").layout.inner
        numbers = -(-self.counts // chunk)
        starts = np.concatenate([[0], np.cumsum(numbers)])

        def caps() -> Iterator[np.ndarray]:
            for partition in self.used:
                place = self.run.read(partition, ("ra", "dec"))
                vectors = unit_vectors(place["ra"], place["dec"])
                yield np.stack([cap_around(vectors[i : i + chunk]) for i in range(0, len(vectors), chunk)])

        self.stream("caps", np.dtype("<f8"), (int(starts[-1]), 4), caps())
        self.save("cap-starts", starts)
        return chunk

    def best(self, name: str, direction: str) -> list[str]:
        """The first rows by one score, with their columns; returns the columns that are too wide to keep."""
        columns = {other: self.run.column(other) for other in self.run.names}
        wide = [other for other, column in columns.items() if column.row_bytes > WIDE_BYTES]
        fields: list[Any] = [("_row", "<u4")]
        fields += [(o, column.dtype, column.tail) for o, column in columns.items() if o not in wide]
        dtype = np.dtype(fields)
        # Two passes over the score: the first counts, so that the file can be written in one go.
        numbers = np.zeros(len(self.counts), np.int64)
        leaders = np.zeros(len(self.counts), rank_key(np.empty(0, columns[name].dtype), direction).dtype)

        def rows_of(partition: int) -> tuple[np.ndarray, np.ndarray]:
            values = self.run.read(partition, (name,))[name]
            rows = best_rows(values, direction, DEPTH)
            return rows, values[rows]

        for partition, (rows, values) in zip(self.used, _ahead(rows_of, self.used), strict=True):
            numbers[partition] = len(rows)
            if len(rows):
                leaders[partition] = rank_key(values[:1], direction)[0]
        starts = np.concatenate([[0], np.cumsum(numbers)])

        def record_of(partition: int) -> np.ndarray:
            rows, values = rows_of(partition)
            record = np.zeros(len(rows), dtype)
            record["_row"] = rows
            record[name] = values
            for other in columns:
                if other != name and other not in wide:
                    record[other] = self.run.read(partition, (other,))[other][rows]
            return record

        records = _ahead(record_of, np.flatnonzero(numbers).tolist())
        self.stream(f"best.{name}", dtype, (int(starts[-1]),), records)
        self.save(f"best-starts.{name}", starts)
        self.save(f"best-leaders.{name}", leaders)
        return wide


class Sidecars:
    """The sidecars of a run, opened for reading; see the module for what they hold."""

    def __init__(self, run: Run, index: dict[str, Any]) -> None:
        self.run = run
        self.index = index
        self.present = self._file("present").astype(bool)
        # All files are mapped at once: a rebuild may remove their names while this reader lives.
        self._ids = self._file("ids")
        self._caps = (self._file("caps"), self._file("cap-starts")) if "chunk" in index else None
        kinds = ("best", "best-starts", "best-leaders")
        self._best = {name: [self._file(f"{kind}.{name}") for kind in kinds] for name in index["scores"]}

    @classmethod
    def open(cls, run: Run) -> "Sidecars | None":
        """The sidecars, or None where there are none, or where the run went on after they were written."""
        for _ in range(3):
            try:
                index = json.loads(run.storage.read("sidecars/index.json"))
                if index["format"] != FORMAT or index["state"] != state(run):
                    return None
                return cls(run, index)
            except FileNotFoundError:
                # Either there are none, or a rebuild has replaced the files between two steps.
                if not run.storage.exists("sidecars/index.json"):
                    return None
        return None

    def _file(self, name: str) -> np.ndarray:
        path = self.run.storage.path(f"sidecars/{self.index['token']}.{name}.npy")
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        return array.view(np.ndarray)

    def top(self, by: str, n: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Places of the `n` <= 128 best rows by a score, and their columns (wide ones left out).

        Returns
        -------
        partition, row : int64[<= n]
        columns : dict of ndarray
        """
        records, starts, leaders = self._best[by]
        direction = self.index["scores"][by]["direction"]
        numbers = np.diff(starts)
        able = np.flatnonzero(numbers)
        if len(able) > n:
            # A partition whose best row is behind n other best rows has nothing to add.
            edge = np.partition(leaders[able], n - 1)[n - 1]
            able = able[leaders[able] <= edge]
        span = [np.arange(starts[p], starts[p + 1]) for p in able.tolist()]
        where = np.concatenate(span) if span else np.empty(0, np.int64)
        partition = np.repeat(able, numbers[able])
        key = rank_key(records[by][where], direction)
        order = np.lexsort((records["_row"][where], partition, key))[:n]
        chosen = records[where[order]]
        names = [name for name in records.dtype.names or () if name != "_row"]
        columns = {name: np.ascontiguousarray(chosen[name]) for name in names}
        return partition[order], chosen["_row"].astype(np.int64), columns

    def find(self, key: Any) -> tuple[np.ndarray, np.ndarray, str]:
        """Places of an id (as the column keeps it), and the nearest id where there is none."""
        ids, records, bounds = self._ids["id"], self._ids, self.index["segments"]
        places, near = [records[:0]], []
        for low, high in pairwise(bounds):
            # Step by step on the mapped file: searchsorted would copy the whole field first.
            left = bisect_left(ids, key, low, high)
            right = bisect_right(ids, key, left, high)
            near += [ids[i] for i in (left - 1, left) if low <= i < high]
            places.append(records[left:right])
        place = np.sort(np.concatenate(places), order=("partition", "row"))
        return place["partition"].astype(np.int64), place["row"].astype(np.int64), _nearest(key, near)

    def near(self, vector: np.ndarray, radius: float) -> Iterator[tuple[int, int, int]]:
        """Ranges of rows (partition, start, stop) that may lie within `radius` degrees of a direction."""
        if self._caps is None:
            raise NoPositionsError(f"the objects of {self.run.path} have no sky positions")
        (caps, starts), chunk = self._caps, self.index["chunk"]
        chord = np.linalg.norm(caps[:, :3] - vector, axis=1)
        distance = 2 * np.arcsin(np.minimum(1.0, chord / 2))
        hits = np.flatnonzero((caps[:, 3] >= 0) & (distance <= np.radians(radius) + caps[:, 3] + _SLACK))
        owners = np.searchsorted(starts, hits, "right") - 1
        counts = self.run.partitions["n_objects"]
        joined = np.flatnonzero((np.diff(hits) > 1) | (np.diff(owners) > 0)) + 1
        for piece in np.split(np.arange(len(hits)), joined):
            if len(piece):
                partition = int(owners[piece[0]])
                first = int(hits[piece[0]] - starts[partition]) * chunk
                last = int(hits[piece[-1]] - starts[partition] + 1) * chunk
                yield partition, first, min(last, int(counts[partition]))


def _nearest(key: Any, near: list[Any]) -> str:
    if not near:
        return ""
    if isinstance(key, bytes):
        import difflib

        words = [word.decode(errors="replace") for word in near]
        text = key.decode(errors="replace")
        return max(words, key=lambda word: difflib.SequenceMatcher(None, word, text).ratio())
    return str(min((int(other) for other in near), key=lambda other: abs(other - int(key))))


def state(run: Run) -> str:
    """What the sidecars were made from: the covered version and the files of the ledger."""
    digest = hashlib.blake2b(run.version.fingerprint.encode(), digest_size=16)
    for key in run.storage.list("ledger"):
        digest.update(f"\n{key} {run.storage.size(key)}".encode())
    return digest.hexdigest()


def _npy_header(header: dict[str, Any]) -> bytes:
    import io

    buffer = io.BytesIO()
    np.lib.format.write_array_header_2_0(buffer, header)
    return buffer.getvalue()
