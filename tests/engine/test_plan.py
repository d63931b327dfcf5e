"""Plan, batches, local shapes, preflight."""

import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.batching import MOST_PARTITIONS, Batcher
from skytrawl.deploy.local import connect, cores, describe, local_shape
from skytrawl.errors import ParameterError, PlanRefusedError, PreflightError
from skytrawl.planner import BASE_PROCESS, make_plan
from skytrawl.runner import run


def test_plan_counts(archive_path: Path) -> None:
    plan = make_plan("test-mean", archive_path, workers=1, threads=2, memory=4_000_000_000)
    assert (plan.partitions, plan.tasks, plan.objects, plan.threads) == (20, 20, 400, 2)
    # object_id, ra, dec, healpix, offset of each object; float64 time, float32 value of each observation.
    width = 8 * 5 + (16 if "objects/class" in _variables(archive_path) else 0)
    assert plan.read_bytes == 400 * width + plan.observations * 12
    assert plan.write_bytes == 400 * (8 + 8 + 16 + width - 8)
    assert plan.memory_worker == BASE_PROCESS + 2 * plan.memory_task
    assert plan.refused == ""
    assert plan.facts()["workers"] == "1 x 2 threads"
    plan.check()


def _variables(path: Path) -> tuple[str, ...]:
    from skytrawl.catalogs.archive import Archive

    return Archive.open(path).variables


def test_plan_refuses_with_numbers_and_remedies(archive_path: Path) -> None:
    plan = make_plan("test-hungry", archive_path, workers=1, threads=4, memory=3_000_000_000)
    assert "limit is 3 GB" in plan.refused
    assert "give each worker 2 threads" in plan.refused
    with pytest.raises(PlanRefusedError, match="start fewer workers with at least"):
        plan.check()
    assert make_plan("test-hungry", archive_path, workers=1, threads=2, memory=3_000_000_000).refused == ""


def test_plan_asks_a_running_cluster(archive_path: Path, processes: Any) -> None:
    address = processes.scheduler.address
    plan = make_plan("test-mean", archive_path, cluster=address)
    assert (plan.workers, plan.threads, plan.memory_limit) == (2, 1, 2_000_000_000)


def batches(objects: Any, observations: Any, threads: int = 2, **options: Any) -> list[Any]:
    n_objects, n_observations = np.asarray(objects), np.asarray(observations)
    batcher = Batcher(n_objects, n_observations, np.arange(len(n_objects)), 60.0, **options)
    found = []
    while (batch := batcher.next(threads)) is not None:
        found.append(batch)
    return found


def test_every_partition_is_handed_out_once() -> None:
    generator = np.random.default_rng(1)
    observations = generator.choice([0, 10, 1000, 400_000, 4_000_000], 500)
    found = batches((observations > 0) * 5, observations)
    assert [p for batch in found for p in batch.partitions] == list(range(500))


def test_empty_partitions_go_together() -> None:
    assert max(len(b.partitions) for b in batches(np.zeros(100_000), np.zeros(100_000))) == MOST_PARTITIONS
    assert len(batches(np.zeros(100_000), np.zeros(100_000))) < 150


def test_rate_is_learned_and_long_partitions_are_cut() -> None:
    sizes = np.full(10, 1_000_000)
    batcher = Batcher(np.full(10, 100), sizes, np.arange(10), 60.0)
    first = batcher.next(2)
    assert first is not None
    assert first.ranges == ()
    batcher.learn(100, 1_000_000, 1, 180.0)
    second = batcher.next(2)
    assert second is not None
    assert len(second.partitions) == 1
    assert len(second.ranges) in (6, 7)
    assert second.ranges[0][0] == 0
    assert second.ranges[-1][1] == 100
    assert all(a[1] == b[0] for a, b in zip(second.ranges, second.ranges[1:], strict=False))


def test_shapes() -> None:
    assert local_shape(3, 2).processes == 3
    assert local_shape().processes == cores()
    with pytest.raises(ParameterError, match="workers is 0"):
        local_shape(workers=0)
    with pytest.raises(ParameterError, match="cluster 'slurn'"), connect("slurn"):
        pass
    with (
        pytest.raises(ParameterError, match="no Dask scheduler answers"),
        connect("tcp://127.0.0.1:9", timeout=0.5),
    ):
        pass
    for address in ("tcp://127.0.0.1", "foo://127.0.0.1:1"):
        with pytest.raises(ParameterError, match="is no scheduler address"), connect(address):
            pass


def test_connect_to_an_address(processes: Any, archive_path: Path, tmp_path: Path) -> None:
    address = processes.scheduler.address
    with connect(address) as client:
        facts = describe(client)
        assert (facts["workers"], facts["threads"]) == (2, 2)
    done = run("test-mean", archive_path, tmp_path / "out.zarr", cluster=address)
    assert done.done == 20
    with pytest.raises(ParameterError, match="has its own"), connect(address, workers=2):
        pass


def test_dashboard_of_threads_is_where_it_is_said_to_be() -> None:
    with connect("threads") as client:
        link = describe(client)["dashboard"]
        assert link.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(link, timeout=20) as answer:
            assert answer.status == 200


def test_output_that_workers_cannot_write(archive_path: Path, tmp_path: Path, processes: Any) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PreflightError, match="cannot write to"):
        run("test-mean", archive_path, tmp_path / "file" / "out.zarr", client=processes)


def test_other_versions_are_refused(
    archive_path: Path, tmp_path: Path, processes: Any, monkeypatch: Any
) -> None:
    from skytrawl import preflight

    mine = preflight.package_versions()
    monkeypatch.setattr(preflight, "package_versions", lambda: {**mine, "numpy": "1.0"})
    with pytest.raises(PreflightError, match=r"numpy .* instead of 1\.0"):
        run("test-mean", archive_path, tmp_path / "out.zarr", client=processes)


def test_peak_memory_stays_within_the_plan(tmp_path: Path) -> None:
    from skytrawl.catalogs.simulate import simulate_archive

    path = tmp_path / "a.zarr"
    simulate_archive(path, 4000, 1000, partitions=2, seed=1)
    plan = make_plan("test-mean", path, workers=1, threads=1, memory=2_000_000_000)
    with connect("local", workers=1, threads=1, memory=2_000_000_000) as client:
        run("test-mean", path, tmp_path / "out.zarr", client=client)
        (peak,) = client.run(_peak).values()
    assert peak < plan.memory_worker
    # A projection that is far too large would be no help either.
    assert plan.memory_worker < 4 * peak


def _peak() -> int:
    # Not ru_maxrss, which a new process inherits from the one that started it.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024
