"""Kill -9 of ingests, appends and sweeps at any moment, with readers at work."""

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from skytrawl.catalogs import retention, versions
from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.sky import healpix_of
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.sweep import sweep
from skytrawl.catalogs.validate import validate

HERE = str(Path(__file__).parent)
FORKS = multiprocessing.get_context("forkserver")
RETENTION = 1.5
EVERY = [pytest.param("few", id="few"), pytest.param("all", id="all", marks=pytest.mark.acceptance)]


@pytest.fixture(scope="module", autouse=True)
def work() -> Iterator[Any]:
    """The module of the other processes, which a server of forks has loaded."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (HERE, os.environ.get("PYTHONPATH")))))
    FORKS.set_forkserver_preload(["kill_preload"])
    forkserver.ensure_running()
    import kill_work

    yield kill_work
    monkeypatch.undo()


def make(path: Path, n_objects: int, rows: int, seed: int, scatter: float = 2e-5) -> dict[str, np.ndarray]:
    """Rows of objects all over the sky in random order, a few of them twice, some without value."""
    sky = np.random.default_rng(99)
    ra, dec = sky.uniform(0, 360, n_objects), np.degrees(np.arcsin(sky.uniform(-1, 1, n_objects)))
    chance = np.random.default_rng(seed)
    owner = chance.integers(0, n_objects, rows)
    table = {
        "object": owner.astype(np.uint64) + 1000,
        "mjd": 58000 + 1000 * seed + chance.integers(0, 8000, rows) / 8,
        "mag": chance.normal(18, 1, rows).astype(np.float32),
        "magerr": chance.uniform(0.01, 0.2, rows).astype(np.float32),
        "band": np.array(["g", "r", "i"])[chance.integers(0, 3, rows)],
        "ra": (ra[owner] + scatter * chance.normal(size=rows)) % 360,
        "dec": dec[owner],
    }
    table["mag"][:: rows // 10] = np.nan
    again = chance.integers(0, rows, rows // 30)
    return {name: np.concatenate([column, column[again]]) for name, column in table.items()}


def save(table: dict[str, np.ndarray], path: Path, rows: Any = slice(None), **options: Any) -> str:
    import pandas as pd

    pd.DataFrame({name: column[rows] for name, column in table.items()}).to_parquet(
        path, index=False, **options
    )
    return str(path)


class Case:
    """A command, what it starts from, and what an undisturbed run of it makes."""

    def __init__(
        self, folder: Path, work: Any, name: str, words: dict[str, Any], base: "Case | None"
    ) -> None:
        self.folder, self.work, self.name, self.base = folder, work, name, base
        self.words = {"cluster": "inline", **words}
        self.function = "ingest" if base is None else "append"
        self.number = 0
        self.others: list[Any] = []
        self.quiet = self.new()
        self.report = self.finish(self.quiet, count=1)
        assert "error" not in self.report, self.report
        archive = Archive.open(self.quiet)
        assert archive.version.number == (1 if base is None else 2)
        self.state = work.state_of(archive)
        self.states = [*([] if base is None else [base.state]), self.state]
        # The same once more, as after a kill between publication and report.
        copy = folder / f"{name}-again.zarr"
        shutil.copytree(self.quiet, copy)
        self.repeated = {} if base is None else self.finish(copy)

    def new(self) -> Path:
        """What the command starts from."""
        self.number += 1
        path = self.folder / f"{self.name}-{self.number}.zarr"
        if self.base is not None:
            shutil.copytree(self.base.quiet, path)
        return path

    def start(self, path: Path, **how: Any) -> Any:
        """Begin the command in a process group of its own."""
        begun, result = path.with_suffix(".begun"), path.with_suffix(".json")
        begun.unlink(missing_ok=True)
        result.unlink(missing_ok=True)
        words = {**self.words, "archive_path": str(path), **how.pop("words", {})}
        child = FORKS.Process(
            target=self.work.act, args=(self.function, words, str(begun), str(result)), kwargs=how
        )
        child.start()
        return child

    def finish(self, path: Path, **how: Any) -> dict[str, Any]:
        """The report (or error) of a run to the end."""
        child = self.start(path, **how)
        child.join(120)
        assert child.exitcode == 0, child.exitcode
        found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
        return found

    def killed_after(self, path: Path, seconds: float, **how: Any) -> bool:
        """Kill the whole group so many seconds after its beginning; False if it had ended."""
        child = self.start(path, **how)
        deadline = time.time() + 60
        while not path.with_suffix(".begun").exists() and child.is_alive() and time.time() < deadline:
            time.sleep(0.002)
        child.join(seconds)
        return kill(child)

    def end_others(self) -> None:
        """End readers and sweeps that a failure has left at work."""
        for child in self.others:
            child.kill()
            child.join()

    def published(self, path: Path) -> bool:
        """Whether the command has published."""
        expected = 1 if self.base is None else 2
        return versions.list_versions(Storage(path))[-1:] == [expected]

    def check(self, path: Path, before: bool, report: dict[str, Any]) -> None:
        """As undisturbed, and nothing is left over.

        Parameters
        ----------
        path : Path
        before : bool
            It had been published before the last run.
        report : dict
            Of the last run.
        """
        if before and self.base is None and "error" in report:
            assert "exists already" in report["text"]
        else:
            expected = self.repeated if before and self.base is not None else self.report
            assert told(report) == told(expected)
        assert not (path / "staging").exists(), list((path / "staging").rglob("*"))
        archive = Archive.open(path)
        assert self.work.state_of(archive) == self.state
        sound = validate(path, deep=True)
        assert sound.ok, str(sound)
        for partition in range(archive.n_partitions):
            ids = archive.read(partition, ["object_id"]).objects["object_id"]
            assert archive.find(ids[-1].item()) == (partition, len(ids) - 1)
        storage = Storage(path)
        done = sweep(storage, older_than=-1)
        assert not done.at_work
        kept = [versions.read_version(storage, number) for number in versions.list_versions(storage)]
        listed = {key for version in kept for key in retention.shard_keys(archive.attrs, version)}
        assert {key for key in storage.list() if "/c/" in key} == listed
        assert set(storage.names("index")) == {name for version in kept for name in version.index}
        assert not list(path.rglob("*.partial"))
        assert not [key for folder in ("staging", "writers", "expired") for key in storage.list(folder)]
        assert self.work.state_of(archive) == self.state
        shutil.rmtree(path)


def kill(child: Any) -> bool:
    """Kill -9 of a process group; False if its leader had ended by itself."""
    alive = child.is_alive()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.join(30)
    deadline = time.time() + 30
    while (left := group(child.pid)) and time.time() < deadline:
        time.sleep(0.01)
    assert not left
    return bool(alive and child.exitcode == -signal.SIGKILL)


def group(leader: int) -> list[int]:
    """Living processes of a group."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def told(report: dict[str, Any]) -> dict[str, Any]:
    """What a report says that does not depend on time and place."""
    return {
        name: value for name, value in report.items() if name not in ("archive", "seconds", "took", "changes")
    }


def stage(case: Case, path: Path) -> str:
    """How far a killed run had come."""
    if case.published(path):
        return "published"
    folders = [place for place in (path / "staging").glob("*") if not place.name.startswith("removed-")]
    if not folders:
        return "nothing yet"
    marks = {
        "index.json": "publishing",
        "again": "strays brought home",
        "strays.json": "index or strays",
        "buckets": "buckets",
        "direct": "direct",
        "pieces": "pieces",
        "plan.json": "planned",
    }
    return next((name for mark, name in marks.items() if (folders[0] / mark).exists()), "planning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """In memory where there is such a place: a killed process loses nothing of the page cache either way."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path_factory.mktemp("kill")
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="skytrawl-kill-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def buckets(folder: Path, work: Any) -> Case:
    """A first ingest of six files in random order; objects scatter over the borders of buckets."""
    table = make(folder, 300, 40_000, 1)
    parts = np.array_split(np.arange(len(table["mjd"])), 6)
    sources = [save(table, folder / f"part{number}.parquet", rows) for number, rows in enumerate(parts)]
    words = {"sources": sources, "survey": "ztf", "partition_observations": 2000}
    return Case(folder, work, "buckets", words, None)


@pytest.fixture(scope="module")
def ordered(folder: Path, work: Any) -> Case:
    """A first ingest of a file that stands in the order of the sky."""
    table = make(folder, 300, 40_000, 1, scatter=0)
    order = np.lexsort((table["object"], healpix_of(table["ra"], table["dec"])))
    source = save(table, folder / "ordered.parquet", order, row_group_size=400)
    words = {"sources": [source], "survey": "ztf", "partition_observations": 2000}
    return Case(folder, work, "ordered", words, None)


@pytest.fixture(scope="module")
def night(folder: Path, work: Any, buckets: Case) -> Case:
    """An append of known and new objects of a part of the sky, some rows delivered before."""
    table = make(folder, 360, 8000, 3)
    old = make(folder, 300, 40_000, 1)
    here = np.flatnonzero(table["dec"] > 20)
    both = {name: np.concatenate([column[here], old[name][:200]]) for name, column in table.items()}
    sources = [save(both, folder / f"night{part}.parquet", slice(part, None, 2)) for part in range(2)]
    return Case(folder, work, "night", {"sources": sources}, buckets)


@pytest.mark.parametrize("name", ["buckets", "ordered", "night"])
@pytest.mark.parametrize("amount", EVERY)
@pytest.mark.timeout(900)
def test_kill_at_random_moments(
    name: str, amount: str, request: pytest.FixtureRequest, record_property: Any
) -> None:
    """One kill or two of the same archive, then to the end; readers and sweeps all the time."""
    case: Case = request.getfixturevalue(name)
    request.addfinalizer(case.end_others)
    chance = random.Random(f"{name}-{amount}")
    wanted = 20 if amount == "all" else 3
    hit: Counter[str] = Counter()
    reads: Counter[str] = Counter()
    sweeps = turn = 0
    took = {workers: measured(case, workers) for workers in ([False, True] if amount == "all" else [False])}
    while sum(hit.values()) < wanted:
        # A quarter of the rounds with two workers; the others in one process.
        workers = amount == "all" and turn % 4 == 3
        how = {"words": {"cluster": "local", "workers": 2}} if workers else {}
        path = case.new()
        reader = Reader(case, path)
        sweeper = Sweeper(case, path)
        before = False
        report: dict[str, Any] = {}
        for again in range(1 + turn % 2):
            share = (7 * turn + chance.random()) % wanted / wanted / (1 + again)
            if case.killed_after(path, share * took[workers], **how):
                hit[stage(case, path)] += 1
            before = case.published(path)
            if chance.random() < 0.5:
                sweeps += sweeper.kill()
                sweeper = Sweeper(case, path)
            if before:
                break
        for _ in range(5):
            before = case.published(path)
            report = case.finish(path, **how)
            # A sweep may just be looking whether the work is given up.
            if report.get("error") != "PreflightError":
                break
            time.sleep(0.2)
        turn += 1
        sweeps += sweeper.kill()
        reads.update(reader.end())
        case.check(path, before, report)
    record_property("kills", f"{name}: {dict(hit)}; {sweeps} sweeps killed; reads by state {dict(reads)}")
    print(f"\n{name}: kills {dict(hit)}; {sweeps} sweeps killed; whole reads by state {dict(reads)}")  # noqa: T201
    assert reads[case.state] > 0


def measured(case: Case, workers: bool) -> float:
    """Seconds of an undisturbed run beside a reader and sweeps."""
    path = case.new()
    reader, sweeper = Reader(case, path), Sweeper(case, path)
    how = {"words": {"cluster": "local", "workers": 2}} if workers else {}
    report = case.finish(path, **how)
    sweeper.kill()
    reader.end()
    took: float = report["took"]
    case.check(path, False, report)
    return took


class Reader:
    """A process that reads all the time."""

    def __init__(self, case: Case, path: Path) -> None:
        self.case, self.result = case, path.with_suffix(".read")
        words = (str(path), case.states, 0.8 * RETENTION, str(self.result))
        self.child: Any = FORKS.Process(target=case.work.read_on, args=words, daemon=True)
        self.child.start()
        case.others.append(self.child)

    def end(self) -> dict[str, int]:
        """Whole reads by state."""
        time.sleep(0.1)
        Path(f"{self.result}.stop").touch()
        self.child.join(60)
        found = json.loads(self.result.read_text())
        assert "error" not in found, found
        return dict(zip(self.case.states, found["seen"], strict=True))


class Sweeper:
    """A process that expires and sweeps all the time."""

    def __init__(self, case: Case, path: Path) -> None:
        self.faults = path.with_suffix(".faults")
        words = (str(path), RETENTION, str(self.faults))
        self.child: Any = FORKS.Process(target=case.work.sweep_on, args=words, daemon=True)
        self.child.start()
        case.others.append(self.child)

    def kill(self) -> int:
        """Kill it; it must not have met a fault."""
        self.child.kill()
        self.child.join()
        assert not self.faults.exists(), self.faults.read_text()
        return 1


@pytest.fixture(scope="module")
def tiny(folder: Path, work: Any) -> Case:
    """A first ingest through buckets, of few files, with strays and a table of objects."""
    table = make(folder, 40, 1200, 1)
    sources = [save(table, folder / f"tiny{part}.parquet", slice(part, None, 2)) for part in range(2)]
    names = np.unique(table["object"])
    objects = save({"object": names, "class": np.array(["SN", "RRL"])[names % 2]}, folder / "objects.parquet")
    words = {"sources": sources, "survey": "ztf", "partition_observations": 400, "objects": objects}
    return Case(folder, work, "tiny", words, None)


@pytest.fixture(scope="module")
def undone(folder: Path, work: Any) -> Case:
    """Rows that stand in order, until an object comes twice: what was made directly is given up."""
    table = make(folder, 40, 1200, 1, scatter=0)
    order = np.lexsort((table["object"], healpix_of(table["ra"], table["dec"])))
    table = {name: column[order] for name, column in table.items()}
    table["object"][table["object"] == table["object"][-1]] = table["object"][0]
    source = save(table, folder / "undone.parquet", row_group_size=100)
    words = {"sources": [source], "survey": "ztf", "partition_observations": 400}
    return Case(folder, work, "undone", words, None)


@pytest.fixture(scope="module")
def merged(folder: Path, work: Any, tiny: Case) -> Case:
    """An append that merges the id index, with an object that comes back far away from its place."""
    table = make(folder, 50, 500, 2)
    table["ra"][table["object"] == 1007] = (table["ra"][table["object"] == 1007] + 90) % 360
    return Case(folder, work, "merged", {"sources": [save(table, folder / "merged.parquet")]}, tiny)


@pytest.mark.parametrize("name", ["tiny", "undone", "merged"])
@pytest.mark.parametrize("amount", EVERY)
@pytest.mark.timeout(900)
def test_kill_at_a_change_of_the_file_system(name: str, amount: str, request: pytest.FixtureRequest) -> None:
    """Before or after any change to the file system, so that the shortest stages are hit as well."""
    case: Case = request.getfixturevalue(name)
    how = {"generations": 1} if name == "merged" else {}
    path = case.new()
    report = case.finish(path, count=1, **how)
    case.check(path, False, report)
    total = report["changes"]
    # The last changes: census, index, publication, removal of what was only needed for the ingest.
    chance = random.Random(name)
    wanted = 4 if amount == "few" else 60
    late = chance.sample(range(total - total // 4, total + 1), wanted - wanted // 2)
    hit: Counter[str] = Counter()
    for change in sorted([*late, *chance.sample(range(1, total), wanted // 2)]):
        path = case.new()
        child = case.start(path, kill_at=change, **how)
        child.join(60)
        assert child.exitcode == -signal.SIGKILL, (change, total, path.with_suffix(".json").read_text())
        before = case.published(path)
        hit[stage(case, path)] += 1
        case.check(path, before, case.finish(path, **how))
    print(f"\n{name}: {total} changes, kills {dict(hit)}")  # noqa: T201
