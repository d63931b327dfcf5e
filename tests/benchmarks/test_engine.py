"""What the engine costs over a bare loop: python tests/benchmarks/test_engine.py [observations in millions].

Bare is the same functions (read, block, write) in a plain loop, on a store of its own; figures are ratios
of the best of several rounds that alternate, because other work on the machine can only add time.
"""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from bare import bare_seconds, peak_memory

PARTITIONS = 56
OBSERVATIONS = 100
ROUNDS = 3


@dataclass(frozen=True)
class Case:
    """An archive, the job that runs over it, and its parameters."""

    archive: Path
    job: str
    parameters: dict[str, Any]
    folder: Path


def prepare_case(folder: Path, millions: float) -> Case:
    """A simulated archive and a reference made from a small part of the same sky."""
    from skytrawl.catalogs.simulate import simulate_archive
    from skytrawl.runner import run

    archive = folder / "archive.zarr"
    simulate_archive(archive, int(millions * 1e6 / OBSERVATIONS), OBSERVATIONS, partitions=PARTITIONS, seed=1)
    simulate_archive(folder / "small.zarr", 2000, OBSERVATIONS, partitions=2, seed=2)
    reference = folder / "reference.zarr"
    run("dmdt-reference", folder / "small.zarr", reference, cluster="threads", workers=1, threads=1)
    return Case(archive, "dmdt-score", {"reference": str(reference)}, folder)


def open_case(case: Case, archive: Path, out: Path) -> Any:
    """What a bare loop needs: the same objects that a task of the engine opens."""
    from skytrawl.catalogs.archive import Archive
    from skytrawl.job import get_job, location_of
    from skytrawl.params import build
    from skytrawl.preflight import provenance
    from skytrawl.products import RowProduct
    from skytrawl.task import Spec, save_artefact

    job, opened = get_job(case.job), Archive.open(archive)
    parameters = build(job.parameters, case.parameters)
    prepared = job.prepare(parameters, opened)
    product = RowProduct(job, opened, out, parameters, prepared, False)
    product.start("cpu", provenance())
    home = str(product.storage.root)
    artefact = save_artefact(product.storage, prepared)
    number = opened.version.number
    return Spec(
        location_of(case.job),
        str(archive),
        number,
        parameters,
        "cpu",
        product.fingerprint,
        home,
        home,
        artefact,
    )


def loop(spec: Any, partitions: list[int]) -> float:
    """Read, block, write, without ledger, scheduler or batches; seconds."""
    from numcodecs import blosc

    from skytrawl.task import compute, opened, write

    blosc.use_threads = False  # as in the threads of a worker
    job, archive, prepared = opened(spec)
    began = time.perf_counter()
    for partition in partitions:
        write(spec, partition, compute(spec, job, archive, prepared, partition), flush=True)
    return time.perf_counter() - began


def bare_process(case: Case, count: int, out: Path, index: int, barrier: Any, answers: Any) -> None:
    """One of `count` bare processes, warm before the clock starts."""
    loop(open_case(case, case.folder / "small.zarr", out.with_suffix(f".warm{index}")), [0, 1])
    spec = open_case(case, case.archive, out.with_suffix(f".{index}"))
    barrier.wait()
    before = time.process_time()
    loop(spec, list(range(index, PARTITIONS, count)))
    answers.put((time.time(), time.process_time() - before, 1.0))


def engine(case: Case, count: int, name: str) -> tuple[float, float, float]:
    """Seconds of a run on `count` warm workers, their greatest resident memory, and the plan's projection."""
    from skytrawl.deploy.local import connect
    from skytrawl.planner import make_plan
    from skytrawl.runner import run

    with connect("local", workers=count, threads=1) as client:
        run(
            case.job,
            case.folder / "small.zarr",
            case.folder / f"warm-{name}.zarr",
            client=client,
            **case.parameters,
        )
        began = time.perf_counter()
        done = run(case.job, case.archive, case.folder / f"run-{name}.zarr", client=client, **case.parameters)
        seconds = time.perf_counter() - began
        assert (done.done, done.failed) == (PARTITIONS, []), done
        peak = max(client.run(peak_memory).values())
    plan = make_plan(case.job, case.archive, workers=count, threads=1, **case.parameters)
    return seconds, peak, plan.memory_worker


def overhead(case: Case) -> dict[str, float]:
    """Ratios of the best times over alternating rounds, and the greatest memory."""
    rows, peaks, projected = [], [], 0.0
    for number in range(ROUNDS):
        one, two = (
            bare_seconds(bare_process, count, case, count, case.folder / f"bare-{count}-{number}")[0]
            for count in (1, 2)
        )
        run_one, peak, projected = engine(case, 1, f"1-{number}")
        run_two, _, _ = engine(case, 2, f"2-{number}")
        rows.append((one, run_one, two, run_two))
        peaks.append(peak)
    best = dict(zip(("bare_1", "run_1", "bare_2", "run_2"), np.array(rows).min(axis=0).tolist(), strict=True))
    return {
        "overhead": best["run_1"] / best["bare_1"],
        "efficiency_of_two": best["bare_2"] / best["run_2"],
        "peak": max(peaks),
        "projected": projected,
        **best,
    }


def empty(folder: Path, count: int = 100_000) -> dict[str, float]:
    """Cost of empty partitions; the scheduler lives in this process, together with client and driver."""
    from skytrawl.catalogs.simulate import simulate_archive
    from skytrawl.deploy.local import connect
    from skytrawl.runner import run

    simulate_archive(folder / "empty.zarr", 0, partitions=count)
    simulate_archive(folder / "few.zarr", 0, partitions=10)
    me = psutil.Process()
    with connect("local", workers=2, threads=1) as client:
        run("dmdt-maps", folder / "few.zarr", folder / "few-out.zarr", client=client)
        before, peak = me.memory_info().rss, [0]

        def watch(_: Any) -> None:
            peak[0] = max(peak[0], me.memory_info().rss)

        done = run(
            "dmdt-maps", folder / "empty.zarr", folder / "empty-out.zarr", client=client, progress=watch
        )
    assert (done.done, done.failed) == (count, [])
    return {"growth_MB": (max(peak) - before) / 1e6, "ms_each": done.seconds / count * 1000}


@pytest.mark.acceptance
@pytest.mark.timeout(3600)
def test_overhead_scaling_and_memory(tmp_path: Path) -> None:
    found = overhead(prepare_case(tmp_path, 50.0))
    assert found["overhead"] <= 1.15, found
    assert found["efficiency_of_two"] >= 0.93, found
    assert found["peak"] <= found["projected"], found


@pytest.mark.acceptance
@pytest.mark.timeout(1800)
def test_hundred_thousand_empty_partitions(tmp_path: Path) -> None:
    found = empty(tmp_path)
    assert found["growth_MB"] < 100, found
    assert found["ms_each"] < 5, found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        print({key: round(value, 3) for key, value in empty(Path(name)).items()}, flush=True)
        size = float(sys.argv[1]) if len(sys.argv) > 1 else 50.0
        print({key: round(value, 3) for key, value in overhead(prepare_case(Path(name), size)).items()})
