"""What the engine costs a scan over its bare kernel: python tests/benchmarks/test_scan_engine.py [objects].

Bare is the time inside the block function alone: neither reading nor writing counts for it. Figures are
ratios of the best of rounds that alternate, because other work on the machine can only add time.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

OVERHEAD, EFFICIENCY = 1.15, 0.93
OBJECTS, YEARS, PARTITIONS, ROUNDS = 20_000, 0.1, 56, 2


@dataclass(frozen=True)
class Case:
    """An archive of simulated light curves, one of a few, and where results go."""

    archive: Path
    small: Path
    folder: Path
    partitions: int


PARAMETERS = {"kind": "dchi2"}


def prepare_case(folder: Path, n_objects: int, years: float, partitions: int) -> Case:
    """KMT-like light curves, a part of a season each."""
    from skytrawl.catalogs.simulate import simulate_survey

    for name, size, parts in (("archive", n_objects, partitions), ("small", 8, 2)):
        target = folder / f"{name}.zarr"
        simulate_survey("kmt", target, size, seed=1, years=years, partitions=parts, with_truth=False)
    return Case(folder / "archive.zarr", folder / "small.zarr", folder, partitions)


def bare(archive: Path, partitions: list[int]) -> tuple[float, list[dict[str, np.ndarray]]]:
    """Seconds of the kernel alone over partitions that are read beforehand one by one, and its results."""
    from skytrawl.catalogs.archive import Archive
    from skytrawl.job import get_job
    from skytrawl.params import build

    job, opened = get_job("scan"), Archive.open(archive)
    parameters = build(job.parameters, PARAMETERS)
    prepared = job.prepare(parameters, opened)
    seconds, results = 0.0, []
    for partition in partitions:
        block = opened.read(partition, job.needs(parameters, opened))
        began = time.perf_counter()
        results.append(job.block(block, parameters, prepared, "cpu"))
        seconds += time.perf_counter() - began
    return seconds, results


def bare_process(case: Case, index: int, count: int, barrier: Any, answers: Any) -> None:
    """One of `count` bare processes, warm before the clock starts."""
    bare(case.small, [0, 1])
    barrier.wait()
    answers.put(bare(case.archive, list(range(index, case.partitions, count)))[0])


def bare_together(case: Case, count: int) -> float:
    """Seconds of the kernel in the slowest of `count` bare processes that share the archive."""
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(count), context.Queue()
    processes = [
        context.Process(target=bare_process, args=(case, index, count, barrier, answers))
        for index in range(count)
    ]
    for process in processes:
        process.start()
    found = [answers.get(timeout=3000) for _ in processes]
    for process in processes:
        process.join()
    return max(found)


def engine(case: Case, count: int, name: str) -> float:
    """Seconds of a run on `count` warm workers."""
    from skytrawl.deploy.local import connect
    from skytrawl.runner import run

    with connect("local", workers=count, threads=1) as client:
        run("scan", case.small, case.folder / f"warm-{name}.zarr", client=client, **PARAMETERS)
        began = time.perf_counter()
        done = run("scan", case.archive, case.folder / f"run-{name}.zarr", client=client, **PARAMETERS)
        seconds = time.perf_counter() - began
    assert (done.done, done.failed) == (case.partitions, []), done
    return seconds


def interrupted(case: Case) -> Any:
    """Stop a run once a partition is done, and go on; the summary of the second run, and its store."""
    from skytrawl.deploy.local import connect
    from skytrawl.runner import run

    out = case.folder / "resumed.zarr"

    def stop(progress: Any) -> None:
        if progress.done:
            raise KeyboardInterrupt

    with connect("threads", workers=1, threads=1) as client:
        with pytest.raises(KeyboardInterrupt):
            run("scan", case.archive, out, client=client, progress=stop, **PARAMETERS)
        return run("scan", case.archive, out, client=client, **PARAMETERS), out


def overhead(case: Case, rounds: int) -> dict[str, float]:
    """Ratios of the best times over alternating rounds."""
    rows = []
    for number in range(rounds):
        rows.append(
            (
                bare_together(case, 1),
                engine(case, 1, f"1-{number}"),
                bare_together(case, 2),
                engine(case, 2, f"2-{number}"),
            )
        )
    best = dict(zip(("bare_1", "run_1", "bare_2", "run_2"), np.array(rows).min(axis=0).tolist(), strict=True))
    return {
        "overhead": best["run_1"] / best["bare_1"],
        "efficiency_of_two": best["bare_2"] / best["run_2"],
        **best,
    }


def test_a_stopped_scan_goes_on_and_gives_what_the_bare_kernel_gives(tmp_path: Path) -> None:
    import skytrawl

    case = prepare_case(tmp_path, 60, 0.02, 6)
    done, out = interrupted(case)
    assert not done.failed
    assert done.skipped > 0
    assert done.done + done.skipped == case.partitions
    _, parts = bare(case.archive, list(range(case.partitions)))
    found = skytrawl.open_results(out)["scan"].to_dataset()
    for name in parts[0]:
        np.testing.assert_array_equal(
            found[name].values, np.concatenate([part[name] for part in parts]), err_msg=name
        )


@pytest.mark.acceptance
@pytest.mark.timeout(7200)
def test_overhead_and_scaling(tmp_path: Path) -> None:
    case = prepare_case(tmp_path, OBJECTS, YEARS, PARTITIONS)
    found = overhead(case, ROUNDS)
    print(found)
    assert found["overhead"] <= OVERHEAD, found
    assert found["efficiency_of_two"] >= EFFICIENCY, found
    done, _ = interrupted(case)
    assert done.skipped > 0
    assert (done.done + done.skipped, done.failed) == (PARTITIONS, [])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        size = int(sys.argv[1]) if len(sys.argv) > 1 else OBJECTS
        case = prepare_case(Path(name), size, YEARS, PARTITIONS)
        print({key: round(value, 3) for key, value in overhead(case, ROUNDS).items()})
