"""Queries on eight million objects: acceptance figures, printed; see docs/benchmarks.md."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest_results import LIGHT_CURVES, entry

from skytrawl.catalogs.archive import Archive, ArchiveWriter
from skytrawl.catalogs.query import open_query
from skytrawl.catalogs.results import ResultsStore, open_results
from skytrawl.catalogs.runs import Run
from skytrawl.catalogs.schema import Variable
from skytrawl.catalogs.sidecars import finalise
from skytrawl.catalogs.sky import healpix_of
from skytrawl.catalogs.versions import PARTITION, Version, publish
from skytrawl.catalogs.writer import slots_for

pytestmark = pytest.mark.acceptance

OBJECTS = 8_000_000
KEYS = ["g", "r", "i", "g-r", "r-g", "r-i"]
VARIABLES = (
    Variable("score", ("object",), "float64", "", "mean log ratio", codec="float", direction="low"),
    Variable("n_pairs", ("object",), "int64", "", "number of pairs"),
    Variable("n_penalised", ("object",), "int64", "", "number of penalised pairs"),
    Variable("worst", ("object",), "float32", "", "worst pair", codec="float"),
    Variable("parts", ("object", "key"), "float32", "", "part of each key", codec="float"),
    Variable("flagged", ("object",), "bool", "", "beyond the threshold", codec="code"),
)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


def make_store(folder: Path, partitions: int) -> Run:
    """Results over eight million objects, uniform on the sky, through `Run.write`."""
    generator = np.random.default_rng(partitions)
    ra = generator.uniform(0, 360, OBJECTS)
    dec = np.degrees(np.arcsin(generator.uniform(-1, 1, OBJECTS)))
    healpix = healpix_of(ra, dec)
    order = np.argsort(healpix)
    ids = generator.permutation(OBJECTS).astype(np.uint64) * np.uint64(10**9 + 7)
    bounds = np.linspace(0, OBJECTS, partitions + 1).astype(int)
    sizes = np.diff(bounds)
    slot = slots_for(int(sizes.max()), 1)[0]
    writer = ArchiveWriter.create(
        folder / "archive",
        survey={"name": "simulated"},
        light_curves=LIGHT_CURVES,
        bands=["g", "r", "i"],
        dtypes={"objects/class": "S12"},
        object_slot=slot,
        observation_slot=64,
    )
    table = np.zeros(partitions, PARTITION)
    table["n_objects"], table["object_slots"] = sizes, -(-sizes // slot)
    table["object_slot"] = np.cumsum(table["object_slots"]) - table["object_slots"]
    table["content"] = [b"%032d" % number for number in range(partitions)]
    header = {"archive_id": writer.attrs["archive_id"]}
    publish(writer.storage, Version(1, table, header))
    archive = Archive.open(folder / "archive")
    store = ResultsStore.create_or_open(folder / "results", archive)
    run = store.start_run(
        "dmdt-score", "0" * 16, {}, {}, VARIABLES, archive.version, archive=archive, coords={"key": KEYS}
    )
    for number in range(partitions):
        rows = order[bounds[number] : bounds[number + 1]]
        count = len(rows)
        score = generator.normal(size=count)
        pairs = generator.integers(0, 5000, count)
        values = run.write(
            number,
            {
                "object_id": ids[rows],
                "ra": ra[rows],
                "dec": dec[rows],
                "healpix": healpix[rows],
                "class": generator.choice(np.array([b"", b"SN Ia", b"RR Lyrae"], "S12"), count),
                "score": np.where(pairs > 0, score, np.nan),
                "n_pairs": pairs,
                "n_penalised": pairs // 9,
                "worst": generator.normal(size=count).astype(np.float32),
                "parts": generator.normal(size=(count, 6)).astype(np.float32),
                "flagged": score < -4,
            },
            flush=False,
        )
        run.ledger.record([entry(run, number, values)])
    run.ledger.pack(1)
    return run


@pytest.fixture(scope="module", params=[100, 650])
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    start = time.perf_counter()
    run = make_store(tmp_path_factory.mktemp(f"store{request.param}"), request.param)
    written = time.perf_counter()
    finalise(run)
    finished = time.perf_counter()
    size = sum(path.stat().st_size for path in (run.path / "sidecars").iterdir())
    say(
        f"\n{request.param} partitions: written in {written - start:.1f} s, finalised in "
        f"{finished - written:.1f} s, sidecars {size / 1e6:.0f} MB"
    )
    return run


def timed(ask: Callable[[], object], repeats: int = 9) -> tuple[float, float]:
    """Seconds of the first call, and the median of all."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - start)
    return seconds[0], statistics.median(seconds)


def questions(run: Run) -> dict[str, tuple[object, ...]]:
    ident = int(run.read(len(run.partitions) // 2, ["object_id"])["object_id"][77])
    return {"top": (100,), "cone": (150.0, 2.2, 1.0), "pole": (10.0, 89.9, 1.0), "object": (ident,)}


def test_in_process(stored: Run) -> None:
    path = stored.path.parent.parent
    asked = questions(stored)
    for face in ("query", "accessor"):
        start = time.perf_counter()
        opened = open_query(path) if face == "query" else open_results(path).skytrawl
        seconds = time.perf_counter() - start
        line = f"{face}: open {seconds:.3f} s"
        slowest = 0.0
        for name, words in asked.items():
            first, median = timed(
                lambda o=opened, n=name, w=words: getattr(o, "cone" if n == "pole" else n)(*w)
            )
            line += f"; {name} first {first:.4f} median {median:.4f}"
            slowest = max(slowest, first, median)
        say(line)
        assert slowest < 0.3, line


def test_answers_are_right(stored: Run) -> None:
    query = open_query(stored.path)
    score, ra, dec = [], [], []
    for partition in range(len(stored.partitions)):
        part = stored.read(partition, ["score", "ra", "dec"])
        score.append(part["score"])
        ra.append(part["ra"])
        dec.append(part["dec"])
    whole = np.concatenate(score)
    np.testing.assert_array_equal(query.top(100)["score"], np.sort(whole)[:100])
    deep, _ = timed(lambda: query.top(10_000), 3)
    say(f"top 10,000: {deep:.2f} s")
    np.testing.assert_array_equal(query.top(10_000)["score"], np.sort(whole)[:10_000])
    lon, lat = np.radians(np.concatenate(ra)), np.radians(np.concatenate(dec))
    near, up = np.radians(150.0), np.radians(2.2)
    cosine = np.sin(lat) * np.sin(up) + np.cos(lat) * np.cos(up) * np.cos(lon - near)
    found = query.cone(150.0, 2.2, 1.0)
    assert len(found["ra"]) == np.count_nonzero(cosine >= np.cos(np.radians(1.0)))


@pytest.mark.parametrize("question", ["top", "cone", "object"])
def test_as_a_process(stored: Run, question: str) -> None:
    """`skytrawl query` as a user types it, from the start of Python to the last line."""
    words = [str(word) for word in questions(stored)[question]]
    command = [
        sys.executable,
        "-m",
        "skytrawl.cli",
        "query",
        str(stored.path),
        f"--{question}",
        *words,
        "--json",
    ]

    def process() -> dict[str, list[float]]:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        columns: dict[str, list[float]] = json.loads(done.stdout)["columns"]
        return columns

    first, median = timed(process, 5)
    say(f"skytrawl query --{question}: first {first:.2f} s, median {median:.2f} s")
    assert len(process()["score"]) > 0
    assert max(first, median) < 2
