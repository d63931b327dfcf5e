"""Ingests that are stopped, run out of disk, lose workers or meet each other."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from skytrawl.catalogs import archive as archive_module
from skytrawl.catalogs import versions
from skytrawl.catalogs.archive import Archive, ArchiveWriter
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.sweep import sweep
from skytrawl.errors import IngestError, PreflightError, VersionConflictError
from skytrawl.intake import account
from skytrawl.intake.driver import append, ingest
from skytrawl.intake.stages import Intake
from skytrawl.lock import only_driver

COMMAND = str(Path(sys.executable).with_name("skytrawl"))


@pytest.fixture(scope="module")
def sources(kit: Any, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("stop")
    table = kit.table(seed=8, n_objects=400, mean=40, scatter=1e-5)
    parts = [kit.picked(table, slice(part, None, 4)) for part in range(4)]
    return [str(kit.save(part, folder / f"{number}.parquet")) for number, part in enumerate(parts)]


@pytest.fixture(scope="module")
def words(sources: list[str]) -> dict[str, Any]:
    return {"sources": sources, "survey": "ztf", "partition_observations": 1000}


@pytest.fixture(scope="module")
def expected(kit: Any, words: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Objects and report of an undisturbed run."""
    path = tmp_path_factory.mktemp("expected") / "a.zarr"
    report = ingest(archive_path=path, **words)
    kit.sound(path)
    return kit.objects(path), counts(report.to_dict())


def counts(report: dict[str, Any]) -> dict[str, Any]:
    names = (
        "rows_read",
        "rows_kept",
        "dropped",
        "objects",
        "new_objects",
        "rows_by_band",
        "partitions",
        "version",
    )
    return {name: report[name] for name in names}


def night(kit: Any, folder: Path, seed: int) -> Path:
    path: Path = kit.save(kit.table(seed=seed, n_objects=5, mean=4), folder / f"night{seed}.parquet")
    return path


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_ends_in_order_and_goes_on(
    number: int, code: int, kit: Any, words: dict[str, Any], expected: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.zarr"
    command = [COMMAND, "ingest", *words["sources"], str(path), "--survey", "ztf"]
    command += ["--partition-observations", "1000", "--json"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test-suite that runs in the background ignores Ctrl-C, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.time() + 60
    while not list(path.glob("staging/*/plan.json")) and time.time() < deadline:
        time.sleep(0.002)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == code, told
    assert "the same command continues" in told
    assert "Traceback" not in told
    assert not versions.list_versions(Storage(path))
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert counts(json.loads(done.stdout)) == expected[1]
    kit.sound(path)
    kit.same(kit.objects(path), expected[0])


def test_a_worker_that_is_killed_costs_nothing(
    kit: Any, words: dict[str, Any], expected: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.zarr"
    killed: list[int] = []

    def kill_one(stage: str, done: int, total: int) -> None:
        if stage == ("read", "write")[min(len(killed), 1)] and done > 1 and len(killed) < 2:
            children = psutil.Process().children(recursive=True)
            alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
            workers = [child for child in alive if "spawn_main" in " ".join(child.cmdline())]
            workers[-1].kill()
            killed.append(workers[-1].pid)

    report = ingest(archive_path=path, cluster="local", workers=2, progress=kill_one, **words)
    assert len(killed) == 2
    assert counts(report.to_dict()) == expected[1]
    kit.sound(path)
    kit.same(kit.objects(path), expected[0])


def test_a_disk_that_fills_up(kit: Any, words: dict[str, Any], expected: Any, tmp_path: Path) -> None:
    """It grows step by step until the ingest fits, which goes on every time."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    stages = set()
    with Disk(mounted) as grow:
        path = mounted / "a.zarr"
        for size in range(100_000, 20_000_000, 100_000):
            grow(size)
            try:
                report = ingest(archive_path=path, **words)
                break
            except OSError as error:
                told = str(error)
            assert str(mounted) in told
            assert not versions.list_versions(Storage(path))
            marks = ("strays.json", "buckets", "spill", "plan.json")
            stages.add(next((mark for mark in marks if list(path.glob(f"staging/*/{mark}"))), "plan"))
        assert {"spill", "buckets"} <= stages
        assert counts(report.to_dict()) == expected[1]
        kit.sound(path)
        kit.same(kit.objects(path), expected[0])
        sweep(Storage(path), older_than=-1)
        kit.sound(path)


class Disk:
    """A file system of a given size, which only the administrator of a machine can make."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mounted = False

    def __enter__(self) -> Callable[[int], None]:
        mount = shutil.which("mount")
        if mount and os.geteuid() == 0:
            command = [mount, "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(self.folder)]
            self.mounted = not subprocess.run(command, capture_output=True, check=False).returncode
        if not self.mounted:
            pytest.skip("only the administrator of the machine can mount a small disk")
        return self.grow

    def grow(self, size: int) -> None:
        command = ["mount", "-o", f"remount,size={size}", str(self.folder)]
        subprocess.run(command, check=True, capture_output=True)

    def __exit__(self, *error: object) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


def test_files_that_may_not_grow(kit: Any, words: dict[str, Any], expected: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: .*/spill/"):
            ingest(archive_path=path, **words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(path.rglob("*.partial"))
    assert counts(ingest(archive_path=path, **words).to_dict()) == expected[1]
    kit.same(kit.objects(path), expected[0])


@pytest.fixture
def archive(kit: Any, words: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "a.zarr"
    ingest(archive_path=path, **words)
    return path


def test_a_second_driver_is_refused(kit: Any, words: dict[str, Any], expected: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    other = {**words, "sources": words["sources"][:2]}
    refused: list[Any] = []

    def second(stage: str, done: int, total: int) -> None:
        if stage == "write" and not refused:
            for command in (words, {**words, "restart": True}, other, {**other, "restart": True}):
                thread = threading.Thread(target=attempt, args=(command,))
                thread.start()
                thread.join()

    def attempt(command: dict[str, Any]) -> None:
        try:
            ingest(archive_path=path, **command)
        except (PreflightError, IngestError) as error:
            refused.append(type(error))

    report = ingest(archive_path=path, progress=second, **words)
    assert refused == [PreflightError, PreflightError, IngestError, PreflightError]
    assert counts(report.to_dict()) == expected[1]
    kit.sound(path)
    kit.same(kit.objects(path), expected[0])


def test_of_two_appends_one_is_repeated(kit: Any, archive: Path, tmp_path: Path, monkeypatch: Any) -> None:
    one, two, three = (night(kit, tmp_path, seed) for seed in (1, 2, 3))
    quiet = tmp_path / "quiet.zarr"
    shutil.copytree(archive, quiet)
    for source in (two, three, one):
        expected = append(source, quiet)
    raced: list[Any] = []
    settle, check = Intake._through_buckets, account.check_kept

    def slow(self: Any, made: Any) -> Any:
        found = settle(self, made)
        if not raced:
            raced.append(two)
            append(two, archive)  # meanwhile
        return found

    def late(*arguments: Any) -> None:
        check(*arguments)
        if len(raced) == 1:
            raced.append(three)
            append(three, archive)  # at the last moment

    with monkeypatch.context() as patch:
        patch.setattr(Intake, "_through_buckets", slow)
        with pytest.raises(VersionConflictError, match="repeat the append"):
            append(one, archive)
    with monkeypatch.context() as patch:
        patch.setattr(account, "check_kept", late)
        with pytest.raises(VersionConflictError, match="repeat the append"):
            append(one, archive)
    assert Archive.open(archive).version.number == 3
    report = append(one, archive)
    assert counts(report.to_dict()) == counts(expected.to_dict())
    assert report.version == 4
    assert report.rows_kept > 0
    kit.sound(archive)
    assert kit.objects(archive) == kit.objects(quiet)
    done = sweep(Storage(archive), older_than=-1)
    assert done.shards > 0
    assert not done.at_work
    kit.sound(archive)


def test_an_append_that_published_and_was_killed_adds_nothing_again(
    kit: Any, archive: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    one = night(kit, tmp_path, 1)

    def killed(self: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Intake, "clean", killed)
        with pytest.raises(KeyboardInterrupt):
            append(one, archive, duplicates="keep")
    found = kit.objects(archive)
    assert (archive / "staging").is_dir()
    report = append(one, archive, duplicates="keep")
    assert (report.version, report.rows_kept, report.new_objects) == (2, 0, 0)
    kit.sound(archive)
    assert kit.objects(archive) == found


def test_an_ingest_that_published_and_was_killed_is_told_then_exists(
    kit: Any, words: dict[str, Any], expected: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    path = tmp_path / "a.zarr"

    def killed(self: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Intake, "clean", killed)
        with pytest.raises(KeyboardInterrupt):
            ingest(archive_path=path, **words)
    content = (path / "versions" / "00000001.npz").read_bytes()
    assert counts(ingest(archive_path=path, **words).to_dict()) == expected[1]
    assert (path / "versions" / "00000001.npz").read_bytes() == content
    kit.sound(path)
    with pytest.raises(IngestError, match="exists already"):
        ingest(archive_path=path, **words)
    kit.same(kit.objects(path), expected[0])


def test_an_ingest_that_was_given_up_by_a_sweep_begins_anew(
    kit: Any, words: dict[str, Any], expected: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.zarr"

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "write" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(archive_path=path, progress=stop, **words)
    other = {**words, "sources": words["sources"][:2]}
    with pytest.raises(IngestError, match="unfinished ingest of other input"):
        ingest(archive_path=path, **other)
    assert sweep(Storage(path), older_than=-1).staging == 1
    mine = path / "notes.txt"
    mine.write_text("not of an archive")
    for more in ({}, {"restart": True}):
        with pytest.raises(IngestError, match="exists already"):
            ingest(archive_path=path, **words, **more)
    mine.unlink()
    assert counts(ingest(archive_path=path, **words).to_dict()) == expected[1]
    kit.sound(path)
    kit.same(kit.objects(path), expected[0])


def test_a_version_is_never_read_with_attributes_of_before(
    kit: Any, words: dict[str, Any], tmp_path: Path, monkeypatch: Any
) -> None:
    """The first ingest settles what bands are called, then publishes; a reader may come in between."""
    path = tmp_path / "a.zarr"

    def unpublished(self: Any, **_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ArchiveWriter, "settle", unpublished)
        with pytest.raises(KeyboardInterrupt):
            ingest(archive_path=path, **words)
    early = archive_module.read_version

    def late(*arguments: Any) -> Any:
        monkeypatch.undo()
        ingest(archive_path=path, **words)
        return early(*arguments)

    monkeypatch.setattr(archive_module, "read_version", late)
    opened = Archive.open(path)
    again = Archive.open(path)
    assert opened.attrs == again.attrs
    assert "ingest" in opened.attrs


def test_workers_that_still_run_hurt_nothing(kit: Any, tmp_path: Path) -> None:
    """Reservations outlast an undone short way: a late task writes where nobody else does."""
    path = tmp_path / "a.zarr"
    with only_driver(path / "staging" / "x"):
        pass
    writer = ArchiveWriter.create(
        path,
        survey={"name": "test"},
        light_curves=light_curves(),
        bands=["g"],
        dtypes={},
        object_slot=8,
        observation_slot=32,
    )
    late = writer.reserve(1, 1)
    (path / "zarr.json").unlink()
    for name in ("objects", "lightcurves"):
        shutil.rmtree(path / name)
    other = ArchiveWriter.create(
        path, survey={"name": "test"}, light_curves=light_curves(), bands=["g"], dtypes={}
    )
    assert other.reserve(1, 1)[0] > late[0]


def light_curves() -> dict[str, Any]:
    times = {"scale": "utc", "reference_position": "geocenter", "offset": 0.0, "exposure_point": "middle"}
    return {"quantity": "magnitude", "photometry": "total", "units": "mag", "zero_point": None, "time": times}
