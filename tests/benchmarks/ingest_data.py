"""Sources for the ingest benchmarks: seeded, streamed, of any size.

python tests/benchmarks/ingest_data.py {sorted,random,hats,hats-single,ogle} PATH [--observations N] ...

A survey of a ground-based telescope with a large field: the sky is tiled, a tile shares one list of
exposures, an object has its own random part of these. Every value is a hash of seed, object and exposure, so
that whichever program cuts the sky in whichever way gets the same light curves.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

BANDS = ("g", "r", "i")
SHARES = (0.4, 0.5, 0.1)  # of the exposures
FIRST_NIGHT, YEARS = 58_200, 5.0
TILE, SOUTH = 7.2, -30.0  # degrees: side of a tile, southern limit
ROW_GROUP = 1_048_576  # as pyarrow's writer by default


@dataclass(frozen=True)
class Sky:
    """What is simulated: number of objects, mean observations of one, and how values look.

    `decimals` rounds magnitudes to as many decimals (errors to one more); `jitter` moves the position of each
    row by up to as many arc seconds.
    """

    objects: int
    mean: float = 250.0
    seed: int = 1
    decimals: int | None = None
    jitter: float = 0.0


def mixed(keys: np.ndarray) -> np.ndarray:
    """Finalizer of splitmix64 (Steele et al. 2014), in place."""
    keys ^= keys >> np.uint64(30)
    keys *= np.uint64(0xBF58476D1CE4E5B9)
    keys ^= keys >> np.uint64(27)
    keys *= np.uint64(0x94D049BB133111EB)
    keys ^= keys >> np.uint64(31)
    return keys


def tile_of(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Number of the tile that a position lies in."""
    row = np.minimum((dec - SOUTH) / TILE, _rows() - 1).astype(np.int64)
    firsts, counts = _tiles()
    return firsts[row] + np.minimum(ra / 360.0 * counts[row], counts[row] - 1).astype(np.int64)


def _rows() -> int:
    return int(np.ceil((90 - SOUTH) / TILE))


@lru_cache
def _tiles() -> tuple[np.ndarray, np.ndarray]:
    """First tile of each row of tiles, and the tiles of it."""
    middle = np.minimum(SOUTH + TILE * (np.arange(_rows()) + 0.5), 90)
    counts = np.maximum(1, np.ceil(360 * np.cos(np.radians(middle)) / TILE)).astype(np.int64)
    return np.cumsum(counts) - counts, counts


@lru_cache(maxsize=4)
def exposures(sky: Sky) -> tuple[np.ndarray, np.ndarray]:
    """Times (tile, exposure) in order of band and time, with half of the nights visited twice; bands."""
    firsts, counts = _tiles()
    tiles = int(firsts[-1] + counts[-1])
    generator = np.random.default_rng([sky.seed, 1])
    wanted = [max(1, round(sky.mean / 0.8 * share)) for share in SHARES]
    columns = []
    for number in wanted:
        night = generator.integers(0, int(YEARS * 243), (tiles, number))
        night[:, 1::2] = night[:, : number // 2 * 2 : 2]
        stamps = night // 243 * 365.25 + night % 243 + generator.uniform(0.15, 0.5, (tiles, number))
        columns.append(np.sort(FIRST_NIGHT + np.round(stamps, 6), axis=1))
    band = np.repeat(np.arange(len(BANDS), dtype=np.uint8), wanted)
    return np.concatenate(columns, axis=1), band


@lru_cache(maxsize=2)
def objects(sky: Sky) -> dict[str, np.ndarray]:
    """Columns objectid, ra, dec of all objects along the HEALPix curve; tiles differ in density."""
    from skytrawl.catalogs.sky import healpix_of

    generator = np.random.default_rng([sky.seed, 2])
    firsts, counts = _tiles()
    density = generator.lognormal(0.0, 0.6, int(firsts[-1] + counts[-1])).clip(0.2, 3.0) / 3.0
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    while sum(len(part[0]) for part in parts) < sky.objects:
        ra = generator.uniform(0, 360, sky.objects)
        dec = np.degrees(np.arcsin(generator.uniform(np.sin(np.radians(SOUTH)), 1, sky.objects)))
        kept = generator.random(sky.objects) < density[tile_of(ra, dec)]
        parts.append((ra[kept], dec[kept]))
    ra, dec = (np.concatenate(column)[: sky.objects] for column in zip(*parts, strict=True))
    # An odd factor is a bijection modulo 2**53: identifiers are unique, and in no order of the sky.
    ids = np.arange(1, sky.objects + 1, dtype=np.uint64) * np.uint64(0x1DEECE66D1CE4F) & np.uint64(2**53 - 1)
    order = np.argsort(healpix_of(ra, dec), kind="stable")
    return {"objectid": ids[order].astype(np.int64), "ra": ra[order], "dec": dec[order]}


def curves(sky: Sky, ids: np.ndarray, ra: np.ndarray, dec: np.ndarray) -> dict[str, np.ndarray]:
    """Observations of objects: counts (per object), and mjd, band, mag, magerr by object, band, time."""
    parts = [
        _curves(sky, ids[i : i + 1024], ra[i : i + 1024], dec[i : i + 1024]) for i in range(0, len(ids), 1024)
    ]
    parts = parts or [_curves(sky, ids, ra, dec)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _curves(sky: Sky, ids: np.ndarray, ra: np.ndarray, dec: np.ndarray) -> dict[str, np.ndarray]:
    times, band = exposures(sky)
    stars = mixed(ids.astype(np.uint64) + np.uint64(sky.seed * 0x9E3779B97F4A7C15 % 2**64))
    rows = mixed(stars[:, None] + np.arange(len(band), dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03))
    part = 0.6 + 0.4 * (stars >> np.uint64(48)) / 65536.0
    chosen = (rows & np.uint64(0xFFFF)) < (part * 65536).astype(np.uint64)[:, None]
    owner, exposure = np.nonzero(chosen)
    bits = np.ascontiguousarray(rows[chosen]).view(np.uint16).reshape(-1, 4)  # the first chose
    base = 15.5 + 5.0 * (stars & np.uint64(0xFFFF)) / 65536.0
    sigma = np.hypot(0.01, 0.02 * 10 ** (0.3 * (base - 18.0)))
    error = sigma[owner] * (0.8 + 0.4 / 65536.0 * (bits[:, 1] ^ bits[:, 2]))
    normal = (bits[:, 1:].sum(axis=1, dtype=np.int64) / 65536.0 - 1.5) * 2.0  # sum of three uniforms
    value = base[owner] + 0.4 * band[exposure] + normal * error
    if sky.decimals is not None:
        value, error = np.round(value, sky.decimals), np.round(error, sky.decimals + 1)
    return {
        "counts": np.count_nonzero(chosen, axis=1),
        "mjd": times[tile_of(ra, dec)[owner], exposure],
        "band": band[exposure],
        "mag": value.astype(np.float32),
        "magerr": error.astype(np.float32),
    }


def batches(sky: Sky, rows: int = 1_000_000) -> Iterator[dict[str, np.ndarray]]:
    """All observations along the curve, about `rows` each: objectid, ra, dec, mjd, mag, magerr, band."""
    every = objects(sky)
    step = max(1, int(rows / sky.mean))
    for first in range(0, sky.objects, step):
        some = {name: column[first : first + step] for name, column in every.items()}
        found = curves(sky, some["objectid"], some["ra"], some["dec"])
        counts = found.pop("counts")
        batch = {name: np.repeat(column, counts) for name, column in some.items()} | found
        if sky.jitter:
            size = sky.jitter / 3600.0
            place = np.random.default_rng([sky.seed, 3, first]).uniform(-size, size, (2, len(batch["ra"])))
            batch["dec"] = (batch["dec"] + place[0]).clip(-90, 90)
            batch["ra"] = (batch["ra"] + place[1] / np.cos(np.radians(batch["dec"])).clip(0.01)) % 360.0
        yield batch


class Dataset:
    """A folder of Parquet files, filled in full row groups as pyarrow writes them by default."""

    def __init__(self, folder: Path, rows: int, files: int, compression: str) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder, self.compression, self.files = folder, compression, 0
        self.groups = max(1, round(rows / files / ROW_GROUP))  # of a file
        self.rows, self.written, self.waiting, self.writer = 0, 0, [], None  # type: ignore[var-annotated]

    def add(self, batch: dict[str, np.ndarray]) -> None:
        import pyarrow as pa

        names = pa.DictionaryArray.from_arrays(pa.array(batch["band"].view(np.int8)), pa.array(BANDS))
        columns = {name: pa.array(column) for name, column in batch.items() if name != "band"}
        self.waiting.append(pa.table(columns | {"filter": names}))
        self.rows += len(names)
        while sum(len(table) for table in self.waiting) >= ROW_GROUP:
            table = pa.concat_tables(self.waiting)
            self._write(table.slice(0, ROW_GROUP))
            self.waiting = [table.slice(ROW_GROUP)]

    def _write(self, table: Any) -> None:
        import pyarrow.parquet as pq

        if self.writer is None:
            path = self.folder / f"part-{self.files:04d}.parquet"
            self.writer = pq.ParquetWriter(path, table.schema, compression=self.compression)
            self.files, self.written = self.files + 1, 0
        self.writer.write_table(table)
        self.written += 1
        if self.written == self.groups:
            self.writer.close()
            self.writer = None

    def close(self) -> int:
        """Write the rest; rows in all."""
        import pyarrow as pa

        if self.waiting and (table := pa.concat_tables(self.waiting)).num_rows:
            self._write(table)
        if self.writer is not None:
            self.writer.close()
        return self.rows


def write_sorted(sky: Sky, folder: Path, files: int = 8, compression: str = "snappy") -> int:
    """The observations along the HEALPix curve, by object, band, time; number of rows."""
    dataset = Dataset(folder, int(sky.objects * sky.mean), files, compression)
    for batch in batches(sky):
        dataset.add(batch)
    return dataset.close()


def write_random(sky: Sky, folder: Path, files: int = 8, compression: str = "snappy") -> int:
    """The same observations in random order: each row draws a bucket, buckets are permuted; number of rows.

    The buckets need 41 bytes of disk a row beside `folder`, freed as they are written.
    """
    generator = np.random.default_rng([sky.seed, 4])
    aside = folder.with_name(folder.name + ".buckets")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    count = max(1, round(sky.objects * sky.mean / 2_000_000))
    kinds = {
        "objectid": "i8",
        "ra": "f8",
        "dec": "f8",
        "mjd": "f8",
        "mag": "f4",
        "magerr": "f4",
        "band": "u1",
    }
    layout = np.dtype(list(kinds.items()))
    for batch in batches(sky):
        records = np.empty(len(batch["mjd"]), layout)
        for name in kinds:
            records[name] = batch[name]
        bucket = generator.integers(0, count, len(records), dtype=np.uint16)
        records = records[np.argsort(bucket, kind="stable")]
        ends = np.cumsum(np.bincount(bucket, minlength=count))
        for number, part in enumerate(np.split(records, ends[:-1])):
            with open(aside / str(number), "ab") as file:
                part.tofile(file)
    dataset = Dataset(folder, int(sky.objects * sky.mean), files, compression)
    for number in range(count):
        records = generator.permutation(np.fromfile(aside / str(number), layout))
        (aside / str(number)).unlink()
        dataset.add({name: np.ascontiguousarray(records[name]) for name in kinds})
    aside.rmdir()
    return dataset.close()


def write_hats(sky: Sky, path: Path, partition_rows: int = 60_000, nested_band: bool = True) -> None:
    """A HATS catalogue of nested light curves, made and written by lsdb, two partitions at a time in memory.

    `nested_band` puts the name of the band beside each observation; else an object has one band, as a light
    curve of the ZTF data releases, and keeps observations of that alone.
    """
    import lsdb
    import pandas as pd

    shutil.rmtree(path, ignore_errors=True)
    flat = lsdb.from_dataframe(
        pd.DataFrame(objects(sky)),
        ra_column="ra",
        dec_column="dec",
        catalog_name=path.name,
        partition_rows=partition_rows,
        margin_threshold=None,
    )
    meta = nested(flat.meta, sky, nested_band)
    flat.map_partitions(nested, sky, nested_band, meta=meta).write_catalog(
        path, catalog_name=path.name, as_collection=False, progress_bar=False
    )


def nested(frame: Any, sky: Sky, nested_band: bool) -> Any:
    """The frame of objects with a column `lightcurve` of their observations."""
    import nested_pandas as npd
    import pandas as pd
    import pyarrow as pa
    from nested_pandas.series.ext_array import NestedExtensionArray

    found = curves(sky, *(frame[name].to_numpy() for name in ("objectid", "ra", "dec")))
    counts, band = found.pop("counts"), found.pop("band")
    extra = {}
    if nested_band:
        found["band"] = pa.DictionaryArray.from_arrays(pa.array(band.view(np.int8)), pa.array(BANDS)).cast(
            pa.string()
        )
    else:
        own = (frame["objectid"].to_numpy() % len(BANDS)).astype(np.uint8)
        kept = np.repeat(own, counts) == band
        owner = np.repeat(np.arange(len(own)), counts)[kept]
        counts = np.bincount(owner, minlength=len(own))
        found = {name: column[kept] for name, column in found.items()}
        extra["filterid"] = own.astype(np.int64) + 1
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    lists = {name: pa.ListArray.from_arrays(offsets, pa.array(column)) for name, column in found.items()}
    column = NestedExtensionArray(pa.StructArray.from_arrays(list(lists.values()), list(lists)))
    frame = npd.NestedFrame(frame).assign(**extra)
    frame["lightcurve"] = pd.Series(column, index=frame.index)
    return frame


def write_ogle(folder: Path, files: int = 5000, rows: int = 500, seed: int = 1) -> int:
    """Light curves as OGLE distributes them: a file each, of HJD, I and its error in plain columns; rows."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    generator = np.random.default_rng([seed, 5])
    total = 0
    for number in range(1, files + 1):
        count = int(generator.integers(rows * 4 // 5, rows * 6 // 5 + 1))
        days = np.sort(generator.choice(400_000_000, count, replace=False)) / 1e5 + 2_455_000
        error = generator.uniform(0.003, 0.05, count)
        value = generator.uniform(13, 20) + error * generator.standard_normal(count)
        lines = (
            f"{day:.5f} {mag:.3f} {sigma:.3f}\n" for day, mag, sigma in zip(days, value, error, strict=True)
        )
        (folder / f"OGLE-BLG-TEST-{number:05d}.dat").write_text("".join(lines))
        total += count
    return total


def size_of(path: Path) -> int:
    """Bytes of a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kind", choices=["sorted", "random", "hats", "hats-single", "ogle"])
    parser.add_argument("path", type=Path)
    parser.add_argument("--observations", type=float, default=1e6, help="in all, about (ogle: files)")
    parser.add_argument("--mean", type=float, default=250.0, help="of an object (ogle: of a file)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--decimals", type=int, help="of magnitudes; by default not rounded")
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--compression", default="snappy")
    given = parser.parse_args()
    sky = Sky(round(given.observations / given.mean), given.mean, given.seed, given.decimals)
    made: dict[str, Any] = {"kind": given.kind, **asdict(sky)}
    if given.kind in ("sorted", "random"):
        write = write_sorted if given.kind == "sorted" else write_random
        made["rows"] = write(sky, given.path, given.files, given.compression)
    elif given.kind == "ogle":
        made = {
            "kind": "ogle",
            "rows": write_ogle(given.path, int(given.observations), int(given.mean), given.seed),
        }
    else:
        write_hats(sky, given.path, nested_band=given.kind == "hats")
    made["bytes"] = size_of(given.path)
    given.path.with_name(given.path.name + ".json").write_text(json.dumps(made))
    print(made)


if __name__ == "__main__":
    main()
