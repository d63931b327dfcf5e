"""A small archive with results whose every value is also kept in memory, for brute-force comparison."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.archive import Archive, ArchiveWriter, Block
from skytrawl.catalogs.ledger import Entry
from skytrawl.catalogs.results import ResultsStore
from skytrawl.catalogs.runs import Run
from skytrawl.catalogs.schema import Variable
from skytrawl.catalogs.sidecars import finalise
from skytrawl.catalogs.sky import healpix_of

LIGHT_CURVES = {
    "quantity": "magnitude",
    "photometry": "total",
    "units": "mag",
    "zero_point": None,
    "time": {
        "scale": "utc",
        "reference_position": "geocenter",
        "offset": 0.0,
        "exposure_point": "middle",
    },
}
KEYS = ["g", "R", "g-R"]
VARIABLES = (
    Variable("score", ("object",), "float64", "", "mean log ratio", codec="float", direction="low"),
    Variable("power", ("object",), "float32", "mag2", "peak power", codec="float", direction="high"),
    Variable("n_pairs", ("object",), "int64", "", "number of pairs", direction="high"),
    Variable("part", ("object", "key"), "float32", "", "part of each key", codec="float"),
    Variable("map", ("object", "key", "cell"), "float32", "", "map", codec="float"),
    Variable("flagged", ("object",), "bool", "", "beyond the threshold", codec="code"),
)
TAILS = {"map": (3, 60)}
COORDS = {"key": KEYS}
PARAMETERS = {"kind": "mean", "floor": -3.0, "cuts": {"mag": [None, 22.0]}}
PROVENANCE = {"backend": "cpu", "kernel_version": "1", "inputs": {"reference": "ab" * 8}}


def make_archive(
    path: Path,
    sizes: list[int],
    *,
    seed: int = 0,
    text_ids: bool = False,
    positions: tuple[np.ndarray, np.ndarray] | None = None,
    has_positions: bool = True,
    object_slot: int = 16,
) -> Archive:
    """An archive with these partition sizes and one observation an object."""
    generator = np.random.default_rng(seed)
    total = sum(sizes)
    ids = generator.permutation(np.arange(1000, 1000 + 7 * total, 7)).astype(np.uint64)
    if positions is None:
        ra = generator.uniform(0, 360, total)
        dec = np.degrees(np.arcsin(generator.uniform(-1, 1, total)))
    else:
        ra, dec = positions
    healpix = healpix_of(ra, dec) if has_positions else np.arange(total, dtype=np.uint64)
    order = np.argsort(healpix, kind="stable")
    dtypes: dict[str, Any] = {"objects/class": "S12"}
    if text_ids:
        dtypes["objects/object_id"] = "S12"
    writer = ArchiveWriter.create(
        path,
        survey={"name": "ztf"},
        light_curves=LIGHT_CURVES,
        bands=["g", "R"],
        dtypes=dtypes,
        has_positions=has_positions,
        object_slot=object_slot,
        observation_slot=64,
    )
    nothing = np.full(total, np.nan)
    start = 0
    for size in sizes:
        rows = order[start : start + size]
        start += size
        names = ids[rows]
        block = Block(
            {
                "object_id": np.array([b"ZTF%d" % i for i in names], "S12") if text_ids else names,
                "ra": (ra if has_positions else nothing)[rows],
                "dec": (dec if has_positions else nothing)[rows],
                "healpix": healpix[rows],
                "class": np.array([(b"SN Ia", b"RR Lyrae", b"")[i % 3] for i in names], "S12"),
            },
            {
                "time": np.full(size, 58000.0),
                "value": np.full(size, 18, np.float32),
                "error": np.full(size, 0.1, np.float32),
                "band": np.zeros(size, np.uint8),
            },
            np.arange(size + 1),
        )
        writer.write(block, flush=False)
    writer.publish()
    return Archive.open(path)


def outputs(generator: np.random.Generator, size: int, ties: bool = True) -> dict[str, np.ndarray]:
    """Random outputs of one partition with NaN, infinities and ties."""
    score = generator.normal(size=size)
    if ties:
        score = np.round(score, 1)
    score[generator.random(size) < 0.15] = np.nan
    score[generator.random(size) < 0.02] = -np.inf
    return {
        "score": score,
        "power": generator.choice(np.array([0, 1, 2.5, np.nan], np.float32), size),
        "n_pairs": generator.integers(0, 50, size),
        "part": generator.normal(size=(size, 3)).astype(np.float32),
        "map": generator.normal(size=(size, 3, 60)).astype(np.float32),
        "flagged": score < -1,
    }


def entry(run: Run, partition: int, values: str) -> Entry:
    """A ledger entry of a partition."""
    row = run.partitions[partition]
    return Entry(
        int(row["object_slot"]), bytes(row["content"]), int(row["n_objects"]), int(row["n_observations"]),
        values, 0.1, 1.0, "host", run.fingerprint, "cpu",
    )  # fmt: skip


@dataclass
class Filled:
    """A run and all of its values, rows of missing partitions left out."""

    archive: Archive
    store: ResultsStore
    run: Run
    columns: dict[str, np.ndarray]


def fill(
    archive: Archive, path: Path, *, missing: set[int] = frozenset(), seed: int = 1, **more: Any
) -> Filled:
    """A finished run over an archive, except for the missing partitions."""
    store = ResultsStore.create_or_open(path, archive)
    run = store.start_run(
        "dmdt-score", "0123456789abcdef", PARAMETERS, PROVENANCE, VARIABLES, archive.version,
        archive=archive, tails=TAILS, coords=COORDS,
    )  # fmt: skip
    generator = np.random.default_rng(seed)
    parts = []
    for partition in range(archive.n_partitions):
        block = archive.read(partition, [f"objects/{name}" for name in run.identity])
        arrays = {**block.objects, **outputs(generator, block.n_objects, **more)}
        if partition in missing:
            continue
        values = run.write(partition, arrays, flush=False)
        run.ledger.record([entry(run, partition, values)])
        place = {"partition": np.full(block.n_objects, partition), "row": np.arange(block.n_objects)}
        parts.append({**arrays, **place})
    finalise(run)
    names = parts[0] if parts else ()
    return Filled(
        archive, store, run, {name: np.concatenate([part[name] for part in parts]) for name in names}
    )
