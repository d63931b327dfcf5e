"""Whether an archive holds its source bit for bit, whatever the order of both.

A row becomes 64 bits that depend on every bit of time, value, error and band; those of an object are added.
Two bodies of rows are equal if identifiers, numbers of rows and sums are; a fault passes with a chance of
2^-64.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ingest_data import mixed

PENDING = 4_000_000  # objects of batches that wait to be merged
Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def row_hashes(time: np.ndarray, value: np.ndarray, error: np.ndarray, band: np.ndarray) -> np.ndarray:
    """uint64 (n,) of float64 times, values and errors of any one float width, and names of bands (bytes)."""
    names, codes = np.unique(band, return_inverse=True)
    letters = np.array([int.from_bytes(name[:8], "little") for name in names.tolist()], np.uint64)
    state = mixed(time.astype(np.float64).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15))
    for column in (value, error):
        width = np.dtype(f"u{column.dtype.itemsize}")
        state = mixed(state ^ np.ascontiguousarray(column).view(width).astype(np.uint64))
    return mixed(state ^ letters[codes] if len(names) else state)


@dataclass
class Content:
    """Per object: identifier, rows, sum of hashes, and least and greatest ra and dec where known."""

    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    sums: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    pending: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)

    def add(self, ids: np.ndarray, hashes: np.ndarray) -> None:
        """Take in rows: identifiers and hashes of shape (n,)."""
        self.pending.append(_summed(ids, np.ones(len(ids), np.int64), hashes))
        if sum(len(part[0]) for part in self.pending) > PENDING:
            self.merge()

    def merge(self) -> "Content":
        """Bring the pending batches in."""
        parts = [*self.pending, *([(self.ids, self.rows, self.sums)] if len(self.ids) else [])]
        if parts:
            columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
            self.ids, self.rows, self.sums = _summed(*columns)
        self.pending = []
        return self

    def differences(self, other: "Content") -> list[str]:
        """What differs, in words; empty if nothing does."""
        self.merge(), other.merge()
        missing = np.setdiff1d(self.ids, other.ids)
        extra = np.setdiff1d(other.ids, self.ids)
        found = [f"{len(ids)} objects {word}, first {ids[:3]}" for ids, word in
                 ((missing, "missing"), (extra, "too many")) if len(ids)]  # fmt: skip
        if not found:
            for word, mine, its in (("rows", self.rows, other.rows), ("values", self.sums, other.sums)):
                wrong = np.flatnonzero(mine != its)
                if len(wrong):
                    found.append(f"{len(wrong)} objects differ in {word}, first {self.ids[wrong[:3]]}")
        return found


def _summed(ids: np.ndarray, rows: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    first = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]])) if len(ids) else np.zeros(0, int)
    if not len(first):
        return ids, rows, sums
    return ids[first], np.add.reduceat(rows[order], first), np.add.reduceat(sums[order], first)


def content_of(rows: Iterator[Rows]) -> Content:
    """Content of batches of (ids, time, value, error, band names)."""
    found = Content()
    for ids, *columns in rows:
        found.add(ids, row_hashes(*columns))
    return found.merge()


def archive_rows(path: Path) -> Iterator[Rows]:
    """Rows of an archive by partition; also asserts the order of objects and of the rows of each."""
    from skytrawl.catalogs.archive import Archive

    archive = Archive.open(path)
    names = np.array(archive.bands, "S8")
    last = 0
    for number in range(archive.n_partitions):
        block = archive.read(number, ["object_id", "healpix", "time", "value", "error", "band"])
        keys = block.objects["healpix"]
        if len(keys):
            assert int(keys[0]) >= last, f"partition {number} begins before its predecessor ends"
            assert (keys[1:] >= keys[:-1]).all(), f"objects of partition {number} do not follow the curve"
            last = int(keys[-1])
        owner = np.repeat(np.arange(len(keys)), np.diff(block.offsets))
        time, band = block.observations["time"], block.observations["band"]
        same = owner[1:] == owner[:-1]
        later = (band[1:] > band[:-1]) | ((band[1:] == band[:-1]) & (time[1:] >= time[:-1]))
        assert (later | ~same).all(), f"rows of partition {number} are not in order of band and time"
        values, errors = block.observations["value"], block.observations["error"]
        yield block.objects["object_id"][owner], time, values, errors, names[band]


def parquet_rows(folder: Path) -> Iterator[Rows]:
    """Rows of a folder of Parquet files, read with pyarrow, one row group at a time."""
    import pyarrow.parquet as pq

    for path in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                column = table["filter"].combine_chunks()
                names = np.array(column.dictionary.to_pylist(), "S8")
                yield (
                    table["objectid"].to_numpy(),
                    *(table[name].to_numpy() for name in ("mjd", "mag", "magerr")),
                    names[column.indices.to_numpy()],
                )


def hats_rows(path: Path) -> Iterator[Rows]:
    """Rows of a HATS catalogue with a nested column `lightcurve`, read with pyarrow."""
    import pyarrow.parquet as pq

    for file in sorted(path.glob("dataset/Norder=*/Dir=*/Npix=*.parquet")):
        table = pq.read_table(file, partitioning=None)
        column = table["lightcurve"].combine_chunks()
        lists = {field.name: column.field(field.name) for field in column.type}
        counts = np.diff(lists["mjd"].offsets.to_numpy())
        flat = {name: array.flatten() for name, array in lists.items()}
        if "band" in flat:
            coded = flat["band"].dictionary_encode()
            band = np.array(coded.dictionary.to_pylist(), "S8")[coded.indices.to_numpy()]
        else:
            band = np.repeat(np.array([b"", b"g", b"r", b"i"], "S8")[table["filterid"].to_numpy()], counts)
        ids = np.repeat(table["objectid"].to_numpy(), counts)
        yield ids, *(flat[name].to_numpy() for name in ("mjd", "mag", "magerr")), band


def simulated_rows(batches: Iterator[dict[str, np.ndarray]], bands: tuple[str, ...]) -> Iterator[Rows]:
    """Rows as the generator makes them, without any file between."""
    names = np.array(bands, "S8")
    for batch in batches:
        yield batch["objectid"], batch["mjd"], batch["mag"], batch["magerr"], names[batch["band"]]


def ogle_rows(folder: Path) -> Iterator[Rows]:
    """Rows of OGLE files as decimal arithmetic has them: HJD less 2400000.5, float64 values."""
    from decimal import Decimal

    for path in sorted(folder.glob("*.dat")):
        words = [line.split() for line in path.read_text().splitlines()]
        time = np.array([float(Decimal(day) - Decimal("2400000.5")) for day, _, _ in words])
        value, error = (np.array([float(row[i]) for row in words]) for i in (1, 2))
        yield np.full(len(words), path.stem.encode()), time, value, error, np.full(len(words), b"I")


def differences(source: Callable[[], Iterator[Rows]], archive: Path) -> tuple[list[str], Content]:
    """What differs between a source and an archive, and the content of the source."""
    wanted = content_of(source())
    return wanted.differences(content_of(archive_rows(archive))), wanted


def totals(content: Content) -> dict[str, Any]:
    """Numbers of objects and rows."""
    return {"objects": len(content.ids), "rows": int(content.rows.sum())}
