"""What the engine costs over bare kernels from exposures to light curves, and what a killed run leaves.

``python tests/benchmarks/test_image_pipeline.py FOLDER [EXPOSURES]`` keeps everything in FOLDER (about 60 GB
for 200 exposures of 2048 x 2048; 20 is the least) and goes on where it was. Bare is the same functions (read,
make, write) in plain loops, one process a worker, once before and once after the engine over a part of the
frames each.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bare import bare_seconds, cpu_seconds, peak_memory

WORKERS = 2
# Each of both bare loops takes one frame of so many.
SHARE = {"exposures": 10, "inject": 2, "reference": 1, "difference": 10, "detect": 2, "forced-photometry": 1}


def steps(home: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Jobs in their order: what each runs over, and its parameters."""
    return {
        "inject": ("exposures", {"seed": 1}),
        "reference": ("inject", {}),
        "difference": ("inject", {"reference": str(home / "reference")}),
        "detect": ("difference", {}),
        "forced-photometry": (
            "difference",
            {"positions": str(home / "detect"), "light_curves": str(home / "curves.zarr")},
        ),
    }


class Bare:
    """One job over one store without scheduler, ledger and batches."""

    def __init__(self, job: str, source: Path, out: Path, words: dict[str, Any]) -> None:
        from skytrawl.catalogs.images.store import FrameStore
        from skytrawl.frames.source import open_source, prepare
        from skytrawl.job import get_job
        from skytrawl.params import build

        self.job: Any = get_job(job)
        parameters = build(self.job.parameters, words)
        self.store = open_source(source, None, self.job)
        self.prepared, found = prepare(self.job, parameters, self.store)
        self.units = found.units
        self.spec: Any = SimpleNamespace(parameters=parameters, backend="cpu")
        self.out = FrameStore.create(out, self.job.gives)

    def make(self, number: int) -> None:
        """Read, make and write one frame."""
        from skytrawl.frames.task import make

        make(self.job, self.store, self.units[number], self.spec, self.prepared, self.out)


def ingest(files: list[Path], store: Path, **words: Any) -> None:
    """FITS files into a store."""
    from skytrawl.images.ingest import ingest_images

    report = ingest_images(files, store, survey="decam", **words)
    assert not report.quarantined, report.quarantined


def warm(job: str, source: Path, out: Path, words: dict[str, Any]) -> None:
    """Compile and load what a worker needs, on the last frame."""
    Bare(job, source, out, words).make(-1)


def bare_jobs(
    task: tuple[str, Path, Path, dict[str, Any]], which: int, index: int, barrier: Any, answers: Any
) -> None:
    """One of the bare processes of the first (0) or second (1) loop."""
    job, source, out, words = task
    bare = Bare(job, source, out.with_name(f"{out.name}-{which}-{index}"), words)
    numbers = list(range(len(bare.units)))
    some = numbers[which * SHARE[job] // 2 :: SHARE[job]]
    bare.make(some[-1])
    barrier.wait()
    before = time.process_time()
    for number in some[index::WORKERS]:
        bare.make(number)
    answers.put((time.time(), time.process_time() - before, len(numbers) / len(some)))


def bare_ingest(task: tuple[list[Path], Path], which: int, index: int, barrier: Any, answers: Any) -> None:
    """One of the bare processes, reading files."""
    files, out = task
    some = files[which * SHARE["exposures"] // 2 :: SHARE["exposures"]]
    ingest(some[-1:], out / f"warm{which}{index}", cluster="inline")
    barrier.wait()
    before = time.process_time()
    ingest(some[index::WORKERS], out / f"bare{which}{index}", cluster="inline")
    answers.put((time.time(), time.process_time() - before, len(files) / len(some)))


def contents(path: Path) -> dict[str, str]:
    """Hash of the values of every frame."""
    from skytrawl.catalogs.images.current import open_frames

    table = open_frames(path).table
    return dict(zip(table["id"].tolist(), table["content"].tolist(), strict=True))


def cache(folder: Path) -> None:
    """Read all files of a folder, so that both sides of a ratio find them in the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.read_bytes()


def timed_job(home: Path, job: str) -> dict[str, float]:
    """Seconds of a job and of the bare loops, greatest memory of a worker and the plan's projection."""
    from skytrawl.deploy.local import connect
    from skytrawl.planner import make_plan
    from skytrawl.runner import run

    source, words = home / steps(home)[job][0], steps(home)[job][1]
    task = (job, source, home / f"bare-{job}", words)
    cache(source)
    first = bare_seconds(bare_jobs, WORKERS, task, 0)
    with connect("local", workers=WORKERS, threads=1) as client:
        for number, worker in enumerate(client.scheduler_info(n_workers=-1)["workers"]):
            once = (warm, job, source, home / f"warm-{job}-{number}", words)
            client.submit(*once, workers=[worker], pure=False).result()
        cache(source)
        client.run(peak_memory)
        began, before = time.perf_counter(), cpu_seconds()
        done = run(job, source, home / job, client=client, **words)
        engine = time.perf_counter() - began, cpu_seconds() - before
        assert not done.failed, done.failed
        peak = max(client.run(peak_memory).values())
    cache(source)
    second = bare_seconds(bare_jobs, WORKERS, task, 1)
    plan = make_plan(job, source, workers=WORKERS, threads=1, **words)
    tidy(home, job)
    return figures_of(engine, first, second) | {"peak": peak, "projected": plan.memory_worker}


def timed_ingest(home: Path) -> dict[str, float]:
    """Seconds of the ingest and of the bare loops."""
    from skytrawl.deploy.local import connect

    files = sorted((home / "raw").glob("*_ooi_*"))
    (home / "bare-exposures").mkdir()
    task = (files, home / "bare-exposures")
    cache(home / "raw")
    first = bare_seconds(bare_ingest, WORKERS, task, 0)
    with connect("local", workers=WORKERS, threads=1) as client:
        address = client.scheduler.address
        ingest(files[-2 * WORKERS :], home / "warm-exposures", cluster=address)
        cache(home / "raw")
        began, before = time.perf_counter(), cpu_seconds()
        ingest(files, home / "exposures", cluster=address)
        engine = time.perf_counter() - began, cpu_seconds() - before
        peak = max(client.run(peak_memory).values())
    cache(home / "raw")
    second = bare_seconds(bare_ingest, WORKERS, task, 1)
    tidy(home, "exposures")
    return figures_of(engine, first, second) | {"peak": peak, "projected": np.nan}


def figures_of(engine: tuple[float, float], *bare: tuple[float, float]) -> dict[str, float]:
    """Wall-clock and CPU seconds of the engine, and the means of the bare loops."""
    names = ("seconds", "cpu", "bare", "bare_cpu")
    return dict(zip(names, (*engine, *np.mean(bare, axis=0).tolist()), strict=True))


def tidy(home: Path, name: str) -> None:
    """Remove what was made for the clock alone."""
    for folder in [*home.glob(f"warm-{name}*"), *home.glob(f"bare-{name}*")]:
        shutil.rmtree(folder)


def command(home: Path, name: str, out: Path) -> list[str]:
    """A step as a user types it."""
    skytrawl = [sys.executable, "-m", "skytrawl.cli"]
    if name == "exposures":
        return [*skytrawl, "ingest-images", str(home / "raw"), str(out), "--survey", "decam"]
    source, words = steps(home)[name]
    words = {**words, "light_curves": str(home / "killed.zarr")} if "light_curves" in words else words
    options = [part for key, value in words.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    return [*skytrawl, "run", name, str(home / source), str(out), *options, "--workers", str(WORKERS)]


def killed(home: Path, name: str, after: float) -> None:
    """Kill a step with all its processes after some seconds, run it again; the results must be the same."""
    out = home / "killed"
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(home / "killed.zarr", ignore_errors=True)
    with subprocess.Popen(command(home, name, out), start_new_session=True, stderr=subprocess.PIPE) as first:
        time.sleep(after)
        assert first.poll() is None, first.communicate()
        os.killpg(first.pid, signal.SIGKILL)
    subprocess.run(command(home, name, out), check=True, stdout=subprocess.DEVNULL)
    assert contents(out) == contents(home / name)
    if name == "detect":
        from skytrawl.catalogs.images.candidates import read_catalogue

        again, once = (read_catalogue(path)["candidates"] for path in (out, home / name))
        assert {key: again[key].tobytes() for key in once} == {key: once[key].tobytes() for key in once}
    if name == "forced-photometry":
        from skytrawl.catalogs.archive import Archive

        # The table holds the hash of each partition's values; fingerprints name the archive as well.
        again, once = (
            Archive.open(home / path).version.partitions for path in ("killed.zarr", "curves.zarr")
        )
        assert again.tobytes() == once.tobytes()
    shutil.rmtree(out)


def pipeline(home: Path, exposures: int) -> dict[str, dict[str, float]]:
    """All steps, each timed and then killed; what is known already is taken from `figures.json`."""
    from skytrawl.catalogs.simulate_images import simulate_exposures

    home.mkdir(exist_ok=True)
    file = home / "figures.json"
    figures: dict[str, dict[str, float]] = json.loads(file.read_text()) if file.is_file() else {}
    if not (home / "raw" / "truth").is_dir():
        simulate_exposures("decam-like", home / "raw", exposures, seeing=(2.2, 4.0), workers=WORKERS)
    for name in ("exposures", *steps(home)):
        if name not in figures:
            tidy(home, name)
            shutil.rmtree(home / name, ignore_errors=True)
            figures[name] = timed_ingest(home) if name == "exposures" else timed_job(home, name)
            print(name, figures[name], flush=True)
            file.write_text(json.dumps(figures))
    for name, found in figures.items():
        if "killed" not in found:
            killed(home, name, after=15.0 + 0.4 * found["seconds"])
            found["killed"] = 1.0
            print(name, "killed, run again, the same", flush=True)
            file.write_text(json.dumps(figures))
    return figures


def check(figures: dict[str, dict[str, float]]) -> None:
    """The engine may cost a fifth of the bare kernels, within the memory that the plan tells."""
    names = ("seconds", "bare", "cpu", "bare_cpu")
    seconds, bare, cpu, bare_cpu = (sum(found[key] for found in figures.values()) for key in names)
    print(f"all steps: {seconds / bare:.3f} of bare, CPU {cpu / bare_cpu:.3f} ({seconds:.0f} s)")
    for name, found in figures.items():
        print(
            f"{name}: {found['seconds'] / found['bare']:.3f} of bare, CPU "
            f"{found['cpu'] / found['bare_cpu']:.3f} ({found['seconds']:.0f} s); worker "
            f"{found['peak'] / 1e9:.2f} GB, planned {found['projected'] / 1e9:.2f} GB"
        )
        assert not found["peak"] > found["projected"], name
    assert seconds <= 1.2 * bare


@pytest.mark.acceptance
@pytest.mark.timeout(6 * 3600)
def test_two_hundred_exposures(tmp_path: Path) -> None:
    check(pipeline(tmp_path / "survey", 200))


if __name__ == "__main__":
    check(pipeline(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 200))
