"""The driver's side of faults: two at once, stopped ones, a lost scheduler, workers that do not fit."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from skytrawl.errors import PreflightError
from skytrawl.runner import Progress, run

BIN = Path(sys.executable).parent
COMMAND = """
from skytrawl.cli import main
from skytrawl.job import register
if __name__ == "__main__":
    register("test-mean", "engine_jobs:MEAN")
    main()
"""


def same(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert set(left) == set(right)
    for name in left:
        assert left[name].tobytes() == right[name].tobytes(), name


@pytest.mark.parametrize("job", ["test-mean", "test-count"])
def test_second_driver_is_refused_and_the_first_goes_on(
    archive_path: Path, tmp_path: Path, threads: Any, job: str
) -> None:
    met: list[str] = []

    def second(event: Progress) -> None:
        if event.done and not met:
            with pytest.raises(PreflightError, match=f"process {os.getpid()} on") as caught:
                run(job, archive_path, tmp_path / "out", client=threads)
            met.append(str(caught.value))

    done = run(job, archive_path, tmp_path / "out", client=threads, delay=0.02, progress=second)
    assert (done.done, done.failed) == (20, [])
    assert len(met) == 1
    assert not list(tmp_path.rglob("driver.lock"))


def test_writer_of_an_older_version_changes_nothing(tmp_path: Path, threads: Any, decoded: Any) -> None:
    from skytrawl import task, walk
    from skytrawl.catalogs.archive import Archive, ArchiveWriter
    from skytrawl.catalogs.simulate import simulate_archive

    path, out = tmp_path / "a.zarr", tmp_path / "out.zarr"
    simulate_archive(path, 60, 20, partitions=3, seed=1)
    specs = []
    with pytest.MonkeyPatch.context() as patch:
        real = walk.Walk.walk
        patch.setattr(walk.Walk, "walk", lambda self: (specs.append(self.spec), real(self))[1])
        run("test-mean", path, out, client=threads)
    with ArchiveWriter(path) as writer:
        writer.drop(0)
        writer.publish()
    assert Archive.open(path).n_partitions == 2
    run("test-mean", path, out, client=threads)
    before = decoded(out)
    task._pinned_run.cache_clear()  # as in a worker that was restarted
    assert len(task.work(specs[0], [0, 1, 2]).done) == 3
    same(decoded(out), before)


def test_archive_made_anew_under_the_same_path(tmp_path: Path, threads: Any, decoded: Any) -> None:
    from skytrawl.catalogs.archive import Archive
    from skytrawl.catalogs.simulate import simulate_archive

    path = tmp_path / "a.zarr"
    simulate_archive(path, 40, 20, partitions=2, seed=1)
    old = Archive.open(path)
    run("test-mean", path, tmp_path / "one.zarr", client=threads)
    shutil.rmtree(path)
    simulate_archive(path, 40, 20, partitions=4, seed=2)
    # A driver that still holds the old archive would count other partitions than its workers do.
    with pytest.raises(PreflightError, match="another archive has taken the place"):
        run("test-mean", old, tmp_path / "two.zarr", client=threads)
    shutil.rmtree(tmp_path / "one.zarr")
    assert run("test-mean", path, tmp_path / "one.zarr", client=threads).done == 4
    run("test-mean", path, tmp_path / "three.zarr", client=threads)
    same(decoded(tmp_path / "one.zarr"), decoded(tmp_path / "three.zarr"))


def test_worker_of_other_versions_that_came_later_stops_the_run(
    archive_path: Path, tmp_path: Path, threads: Any, monkeypatch: Any
) -> None:
    from skytrawl import preflight

    real = preflight.deciding
    monkeypatch.setattr(preflight, "deciding", lambda found: real({**found, "numpy": "0.1"}))
    with pytest.raises(PreflightError, match=r"came later.*numpy .* instead of 0\.1"):
        run("test-mean", archive_path, tmp_path / "out.zarr", client=threads)
    monkeypatch.undo()
    assert run("test-mean", archive_path, tmp_path / "out.zarr", client=threads).done == 20


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_command_says_so_and_can_be_continued(
    archive_path: Path, tmp_path: Path, threads: Any, decoded: Any, undisturbed: Any, number: int, code: int
) -> None:
    script, out = tmp_path / "command.py", tmp_path / "out.zarr"
    script.write_text(COMMAND)
    words = ["run", "test-mean", str(archive_path), str(out), "--workers", "2", "--delay", "0.3"]
    process = subprocess.Popen(
        [sys.executable, str(script), *words],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A test-suite that runs in the background ignores it, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    limit = time.monotonic() + 60
    # A file whose writing is under way, "name.partial", is no record yet.
    while all(p.suffix for p in out.glob("test-mean/*/ledger/records/*")) and time.monotonic() < limit:
        time.sleep(0.05)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "the same command continues" in errors
    assert "Traceback" not in errors
    again = run("test-mean", archive_path, out, client=threads, delay=0.3)
    assert again.skipped > 0
    assert again.skipped + again.done == 20
    same(decoded(out), undisturbed)


def test_interrupted_combination_is_never_a_checkpoint(
    archive_path: Path, tmp_path: Path, threads: Any, undisturbed: Any, monkeypatch: Any
) -> None:
    import engine_jobs
    import xarray as xr

    calls = []

    def broken_off(left: Any, right: Any) -> Any:
        if threading.current_thread() is threading.main_thread():  # the driver, not a task
            calls.append(1)
        left["histogram"] += right["histogram"]
        if len(calls) == 3:
            raise KeyboardInterrupt
        left["objects"] += right["objects"]
        return left

    stopping = dataclasses.replace(engine_jobs.COUNT, combine=broken_off)
    with monkeypatch.context() as patch:
        patch.setattr(engine_jobs, "COUNT", stopping)
        with pytest.raises(KeyboardInterrupt):
            run("test-count", archive_path, tmp_path / "ref.zarr", client=threads, in_flight=1, delay=0.01)
    run("test-count", archive_path, tmp_path / "ref.zarr", client=threads, delay=0.01)
    with xr.open_zarr(tmp_path / "ref.zarr", consolidated=False) as made:
        assert int(made.objects) == 400
        assert int(made.histogram.sum()) == undisturbed["n"].sum()


def test_script_without_guard_is_told(archive_path: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import skytrawl\nfrom skytrawl.job import register\nregister('test-mean', 'engine_jobs:MEAN')\n"
        f"skytrawl.run('test-mean', {str(archive_path)!r}, {str(tmp_path / 'out')!r}, workers=1)\n"
    )
    made = subprocess.run([sys.executable, str(script)], stderr=subprocess.PIPE, text=True, timeout=60)
    assert made.returncode == 1
    assert "if __name__ == '__main__'" in made.stderr.splitlines()[-1]


def test_scheduler_that_dies_stops_the_run_and_relative_paths_reach_workers(
    archive_path: Path, tmp_path: Path, threads: Any, decoded: Any, undisturbed: Any, monkeypatch: Any
) -> None:
    from distributed import Client

    elsewhere, file = tmp_path / "elsewhere", tmp_path / "scheduler.json"
    elsewhere.mkdir()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": elsewhere}
    words = ["--no-dashboard", "--scheduler-file", str(file)]
    scheduler = subprocess.Popen(
        [BIN / "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", *words], **quiet
    )
    worker = subprocess.Popen([BIN / "dask", "worker", "--nthreads", "1", *words], **quiet)
    monkeypatch.chdir(tmp_path)
    source = os.path.relpath(archive_path)

    def end(event: Progress) -> None:
        if event.done >= 3:
            scheduler.kill()

    try:
        with Client(scheduler_file=str(file), timeout=3, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=30)
            with pytest.raises(
                PreflightError, match=r"scheduler at tcp.* does not answer.*What is done is kept"
            ):
                run("test-mean", source, "out.zarr", client=client, delay=0.2, progress=end)
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()
    again = run("test-mean", source, "out.zarr", client=threads, delay=0.2)
    assert again.skipped >= 3
    assert again.failed == []
    same(decoded(tmp_path / "out.zarr"), undisturbed)
