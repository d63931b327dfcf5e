"""Faults, caused for real: killed, stopped and hanging processes, damaged shards, a full disk."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.deploy.local import connect
from skytrawl.runner import Progress, run


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert set(left) == set(right)
    for name in left:
        assert left[name].tobytes() == right[name].tobytes(), name


def pids(client: Any) -> list[int]:
    return sorted(client.run(os.getpid).values())


def at(fraction: float, action: Callable[[], None]) -> Callable[[Progress], None]:
    """A progress callback that acts once, when this fraction is done."""
    fired = threading.Event()

    def watch(event: Progress) -> None:
        if event.done >= fraction * event.total and not fired.is_set():
            fired.set()
            action()

    return watch


@pytest.fixture
def trouble(tmp_path: Path) -> Path:
    folder = tmp_path / "trouble"
    folder.mkdir()
    return folder


def test_one_error_fails_one_partition(
    archive_path: Path,
    tmp_path: Path,
    threads: Any,
    trouble: Path,
    first_ids: list[int],
    decoded: Any,
    undisturbed: Any,
) -> None:
    from skytrawl.catalogs.results import ResultsStore

    (trouble / f"{first_ids[3]}.error").touch()
    (trouble / f"{first_ids[5]}.once").touch()
    out = tmp_path / "out.zarr"
    done = run("test-mean", archive_path, out, client=threads, trouble=str(trouble))
    assert done.done == 19
    (failure,) = done.failed
    assert (failure.partition, failure.attempts) == (3, 3)
    assert f"object {first_ids[3]} is cursed" in failure.error
    assert "misbehave" in failure.traceback
    recorded = ResultsStore(out).run("test-mean").failures.read()
    assert [entry.partition for entry in recorded.values()] == [3]
    # Only what failed is taken, and its record goes when it is done.
    (trouble / f"{first_ids[3]}.error").unlink()
    again = run("test-mean", archive_path, out, client=threads, trouble=str(trouble), retry_failed=True)
    assert (again.done, again.skipped, again.failed) == (1, 19, [])
    assert ResultsStore(out).run("test-mean").failures.read() == {}
    same(decoded(out), undisturbed)


def test_killer_and_hanger_are_named_and_the_rest_finishes(
    archive_path: Path, tmp_path: Path, trouble: Path, first_ids: list[int], decoded: Any, undisturbed: Any
) -> None:
    (trouble / f"{first_ids[2]}.kill").touch()
    (trouble / f"{first_ids[11]}.hang").touch()
    out = tmp_path / "out.zarr"
    with connect("local", workers=2, threads=1) as client:
        done = run(
            "test-mean", archive_path, out, client=client, trouble=str(trouble), retries=1, stall_seconds=6
        )
    failed = {failure.partition: failure.error for failure in done.failed}
    assert sorted(failed) == [2, 11]
    assert "KilledWorker" in failed[2]
    assert "stalled" in failed[11]
    assert done.done == 18
    for file in trouble.iterdir():
        file.unlink()
    with connect("threads", workers=1, threads=1) as client:
        again = run("test-mean", archive_path, out, client=client, trouble=str(trouble), retry_failed=True)
    assert (again.done, again.failed) == (2, [])
    same(decoded(out), undisturbed)


def test_hang_in_a_thread_of_this_process_is_named(
    archive_path: Path, tmp_path: Path, first_ids: list[int], trouble: Path, monkeypatch: Any
) -> None:
    import engine_jobs

    release = threading.Event()
    monkeypatch.setattr(
        engine_jobs.time, "sleep", lambda seconds: release.wait(seconds) if seconds > 1 else None
    )
    (trouble / f"{first_ids[4]}.hang").touch()
    with connect("threads", workers=1, threads=2) as client:
        done = run(
            "test-mean",
            archive_path,
            tmp_path / "out.zarr",
            client=client,
            trouble=str(trouble),
            stall_seconds=1,
        )
        release.set()
    assert 4 in {failure.partition for failure in done.failed}
    assert "cannot be restarted" in done.failed[0].error
    assert done.done + len(done.failed) == 20


def test_killed_worker_changes_nothing(
    archive_path: Path, tmp_path: Path, processes: Any, decoded: Any, undisturbed: Any
) -> None:
    out = tmp_path / "out.zarr"
    victim = pids(processes)[0]
    act = at(0.2, lambda: os.kill(victim, signal.SIGKILL))
    done = run("test-mean", archive_path, out, client=processes, delay=0.1, progress=act)
    assert (done.done, done.failed) == (20, [])
    assert victim not in pids(processes)
    same(decoded(out), undisturbed)


def test_stopped_worker_changes_nothing(
    archive_path: Path, tmp_path: Path, decoded: Any, undisturbed: Any
) -> None:
    import dask

    out = tmp_path / "out.zarr"
    with (
        dask.config.set({"distributed.scheduler.worker-ttl": "2s"}),
        connect("local", workers=2, threads=1) as client,
    ):
        victim = pids(client)[0]
        back = threading.Timer(6.0, os.kill, (victim, signal.SIGCONT))

        def stop() -> None:
            os.kill(victim, signal.SIGSTOP)
            back.start()

        done = run("test-mean", archive_path, out, client=client, delay=0.25, progress=at(0.2, stop))
        assert (done.done, done.failed) == (20, [])
        before = decoded(out)
        back.join()
        time.sleep(2.0)  # the stopped task now goes on, too late
    same(before, undisturbed)
    same(decoded(out), undisturbed)


def test_straggler_with_old_parameters_changes_nothing(
    archive_path: Path, tmp_path: Path, threads: Any, decoded: Any, undisturbed: Any
) -> None:
    from skytrawl import task, walk

    specs = []
    real = walk.Walk.walk

    def spy(self: Any) -> None:
        specs.append(self.spec)
        real(self)

    out = tmp_path / "out.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk.Walk, "walk", spy)
        run("test-mean", archive_path, out, client=threads, scale=7.0)
        run("test-mean", archive_path, out, client=threads, replace=True)
    report = task.work(specs[0], list(range(20)))
    assert len(report.done) == 20
    same(decoded(out), undisturbed)


@pytest.mark.parametrize("damage", ["flip", "missing", "empty"])
def test_damaged_shard_fails_its_partition_alone(tmp_path: Path, threads: Any, damage: str) -> None:
    from skytrawl.catalogs.archive import Archive
    from skytrawl.catalogs.simulate import simulate_archive

    path = tmp_path / "a.zarr"
    simulate_archive(path, 60, 20, partitions=4, seed=3)
    archive = Archive.open(path)
    array = archive.array("lightcurves/value")
    slot = int(archive.version.partitions["observation_slot"][2])
    file = archive.storage.path(array.key(slot))
    if damage == "flip":
        data = bytearray(file.read_bytes())
        data[len(data) // 3] ^= 4
        file.write_bytes(data)
    elif damage == "missing":
        file.unlink()
    else:
        file.write_bytes(b"")
    done = run("test-mean", path, tmp_path / "out.zarr", client=threads, retries=1)
    assert done.done == 3
    (failure,) = done.failed
    assert failure.partition == 2
    assert "CorruptShardError" in failure.error
    assert "lightcurves/value, partition 2, slot" in failure.error


def limit_files(size: int) -> None:
    import resource

    signal.signal(
        signal.SIGXFSZ, signal.SIG_IGN
    )  # the write then fails with EFBIG, as a full disk with ENOSPC
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_full_disk_ends_as_failed_partitions(
    archive_path: Path, tmp_path: Path, processes: Any, decoded: Any, undisturbed: Any
) -> None:
    out = tmp_path / "out.zarr"
    run(
        "test-mean", archive_path, out, client=processes
    )  # warm: logs and caches are written before the limit
    full = tmp_path / "full.zarr"
    from skytrawl import preflight

    real = preflight.preflight

    def then_limit(client: Any, *args: Any, **kwargs: Any) -> Any:
        found = real(client, *args, **kwargs)
        client.run(limit_files, 100)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preflight, "preflight", then_limit)
        done = run("test-mean", archive_path, full, client=processes, retries=0)
    assert done.done == 0
    assert len(done.failed) == 20
    assert all("OSError: [Errno 27] File too large" in failure.error for failure in done.failed)
    processes.run(limit_files, -1)
    assert run("test-mean", archive_path, full, client=processes).done == 20
    same(decoded(full), undisturbed)
