"""One simulated partition in several layouts, and how each is read into flat arrays.

python storage_layouts.py FOLDER THREADS [ROUNDS] prints medians as JSON. A process of its own for each number
of threads, because the pools of pyarrow and of zarrs are made once.
"""

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

COLUMNS = ("time", "value", "error", "band")
Arrays = list[np.ndarray]
Reader = Callable[[], Arrays]


def make(folder: Path, n_objects: int, decimals: Any, seed: int = 5) -> Path:
    """A ZTF-like archive of one partition with an index of ids, and the same rows as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from skytrawl.catalogs import id_index
    from skytrawl.catalogs.archive import Archive, ArchiveWriter
    from skytrawl.catalogs.simulate import simulate_survey

    path = folder / "archive.zarr"
    simulate_survey("ztf", path, n_objects, seed=seed, partitions=1, decimals=decimals, with_truth=False)
    with ArchiveWriter(path) as writer:
        found = Archive.open(path).read(0, ["object_id", "healpix"]).objects
        id_index.build(writer.storage, "ids", [(found["object_id"], found["healpix"])])
        writer.publish(index=["ids"])
    block = Archive.open(path).read(0, [*COLUMNS, "object_id", "ra", "dec"])
    offsets = pa.array(block.offsets.astype(np.int32))
    lists = [pa.ListArray.from_arrays(offsets, pa.array(block.observations[name])) for name in COLUMNS]
    objects = {name: pa.array(values) for name, values in block.objects.items()}
    # As platform studies of the field tune it: groups of 700 objects, an encoding that fits each column.
    pq.write_table(
        pa.table(objects | dict(zip(COLUMNS, lists, strict=True))),
        folder / "tuned.parquet",
        row_group_size=700,
        compression="zstd",
        compression_level=1,
        use_dictionary=["time.list.element", "band.list.element"],
        column_encoding={f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in ("value", "error")},
    )
    # As a HATS catalogue has it by pyarrow's defaults: one nested column, one row group.
    nested = pa.StructArray.from_arrays(lists, COLUMNS)
    table = pa.table(objects | {"lightcurve": nested})
    pq.write_table(
        table,
        folder / "untuned.parquet",
        row_group_size=len(table),
        compression="zstd",
        compression_level=3,
    )
    return path


def readers(folder: Path, threads: int) -> dict[str, Reader]:
    """Name to a function that reads time, value, error, band and offsets; the libraries that are here."""
    import numcodecs.blosc
    import pyarrow as pa
    import pyarrow.parquet as pq

    from skytrawl.catalogs.archive import Archive

    numcodecs.blosc.use_threads = threads > 1
    pa.set_cpu_count(threads)
    archive = Archive.open(folder / "archive.zarr")

    def own() -> Arrays:
        block = archive.read(0, COLUMNS)
        return [*(block.observations[name] for name in COLUMNS), block.offsets]

    def tuned() -> Arrays:
        table = pq.read_table(folder / "tuned.parquet", columns=list(COLUMNS), use_threads=threads > 1)
        lists = [table.column(name).combine_chunks() for name in COLUMNS]
        return [*(part.flatten().to_numpy() for part in lists), lists[0].offsets.to_numpy()]

    def untuned() -> Arrays:
        table = pq.read_table(folder / "untuned.parquet", columns=["lightcurve"], use_threads=threads > 1)
        nested = table.column("lightcurve").combine_chunks()
        lists = [nested.field(name) for name in COLUMNS]
        return [*(part.flatten().to_numpy() for part in lists), lists[0].offsets.to_numpy()]

    found = {"skytrawl": own}
    for name, pipeline in (("zarr with zarrs", "zarrs.ZarrsCodecPipeline"), ("zarr", "")):
        if not pipeline or _importable("zarrs"):
            found[name] = _zarr_reader(archive, pipeline, threads)
    return found | {"Parquet, tuned": tuned, "Parquet, untuned": untuned}


def _zarr_reader(archive: Any, pipeline: str, threads: int) -> Reader:
    import zarr

    settings: dict[str, Any] = {"threading.max_workers": threads}
    settings["codec_pipeline.path"] = pipeline or "zarr.core.codec_pipeline.BatchedCodecPipeline"
    with zarr.config.set(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = [*(f"lightcurves/{name}" for name in COLUMNS), "objects/first_observation"]
        arrays = [zarr.open_array(str(archive.path / name), mode="r") for name in names]
    record = archive.version.partitions[0]
    rows = int(record["observation_slot"]) * archive.attrs["observation_slot"]
    objects = int(record["object_slot"]) * archive.attrs["object_slot"]

    def read() -> Arrays:
        with zarr.config.set(settings):
            columns = [array[rows : rows + int(record["n_observations"])] for array in arrays[:-1]]
            return [*columns, arrays[-1][objects : objects + int(record["n_objects"])]]

    return read


def _importable(name: str) -> bool:
    try:
        __import__(name)
    except ImportError:
        return False
    return True


def race(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Median seconds of each way, and the median over the rounds of its time against the first.

    In each round every way has its turn, in changing order. A turn does the same twice and counts the second
    time: no way pays for the memory that the one before it has given back.
    """
    names = list(ways)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            ways[name]()
            start = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - start)
    first = seconds[names[0]]
    return {
        name: {
            "seconds": median(taken),
            "ratio": median(other / own for own, other in zip(first, taken, strict=True)),
        }
        for name, taken in seconds.items()
    }


def one_object(folder: Path, count: int, seed: int = 0) -> dict[str, float]:
    """Milliseconds to read an object by its id, warm: median and 95th percentile of `count` objects.

    Each object counts with the best of three reads, because other work on the machine can only add time.
    """
    from skytrawl.catalogs.archive import Archive

    archive = Archive.open(folder / "archive.zarr")
    ids = archive.read(0, ["object_id"]).objects["object_id"]
    chosen = np.random.default_rng(seed).choice(ids, count).tolist()
    for identifier in chosen[:20]:
        archive.light_curve(identifier, COLUMNS)
    taken = []
    for identifier in chosen:
        tries = []
        for _ in range(3):
            start = time.perf_counter()
            archive.light_curve(identifier, COLUMNS)
            tries.append(1e3 * (time.perf_counter() - start))
        taken.append(min(tries))
    return {"median": median(taken), "95 %": float(np.percentile(taken, 95))}


def main(folder: Path, threads: int, rounds: int) -> None:
    """Print the times of all layouts."""
    ways = readers(folder, threads)
    found: dict[str, Any] = {"read": race(ways, rounds)}
    if threads == 1:
        found["object"] = one_object(folder, 200)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    os.environ["RAYON_NUM_THREADS"] = sys.argv[2]  # read once, when zarrs makes its pool
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 9)
