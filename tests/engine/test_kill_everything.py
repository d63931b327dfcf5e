"""Kill -9 of a worker, then of everything, at random moments, five times in a row."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from skytrawl.catalogs.simulate import simulate_archive
from skytrawl.runner import run

PARTITIONS = 60
HERE = Path(__file__).parent


def start(archive: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / "kill_driver.py"), str(archive), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def shard_times(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.rglob("c/*") if path.is_file()}


def done_by_ledger(out: Path) -> set[Any]:
    from skytrawl.catalogs.results import ResultsStore

    return ResultsStore(out).run("test-mean").ledger.keys()


def workers_of(driver: psutil.Process) -> list[psutil.Process]:
    found = driver.children(recursive=True)
    return [child for child in found if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.timeout(240)
def test_resumed_run_redoes_only_what_is_unfinished(tmp_path: Path, threads: Any, decoded: Any) -> None:
    archive_path, out = tmp_path / "archive.zarr", tmp_path / "out.zarr"
    simulate_archive(archive_path, 240, 30, partitions=PARTITIONS, seed=5)
    run("test-mean", archive_path, tmp_path / "quiet.zarr", client=threads)
    undisturbed = decoded(tmp_path / "quiet.zarr")
    moments = random.Random(7)
    killed = 0
    for round_number in range(5):
        process = start(archive_path, out)
        assert process.stdout is not None
        first = process.stdout.readline()
        if first.startswith("finished"):
            break
        driver = psutil.Process(process.pid)
        family = driver.children(recursive=True)
        time.sleep(moments.uniform(0.05, 0.4))
        if round_number % 2 == 0 and (workers := workers_of(driver)):
            moments.choice(workers).kill()
            time.sleep(moments.uniform(0.05, 0.3))
        family = [*{*family, *driver.children(recursive=True)}]
        for victim in [driver, *family]:
            try:
                os.kill(victim.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()
        psutil.wait_procs(family, timeout=5)
        killed += 1
        before = done_by_ledger(out)
        assert len(before) < PARTITIONS, "the machine was too fast: the run had finished before it was killed"
    assert killed == 5
    finished, times = done_by_ledger(out), shard_times(out)
    process = start(archive_path, out)
    text, _ = process.communicate(timeout=120)
    _, done, skipped, failed = text.strip().splitlines()[-1].split()
    assert (int(done), int(skipped), int(failed)) == (PARTITIONS - len(finished), len(finished), 0)
    # Shards of finished partitions were not touched again.
    from skytrawl.catalogs.results import ResultsStore

    stored = ResultsStore(out).run("test-mean")
    after = shard_times(out)
    for row in stored.partitions:
        if (int(row["object_slot"]), bytes(row["content"])) in finished:
            path = stored.storage.path(stored.column("score").key(int(row["object_slot"])))
            assert after[path] == times[path]
    values = decoded(out)
    for name, expected in undisturbed.items():
        assert values[name].tobytes() == expected.tobytes(), name
