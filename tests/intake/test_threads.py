"""Several tasks at once in one worker process: none comes into the memory or the slots of another."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from skytrawl.intake.driver import append, ingest


def test_tasks_in_threads_of_one_process(
    kit: Any, tmp_path: Path, small_pieces: Callable[[int], None]
) -> None:
    small_pieces(400)
    table = kit.table(3, n_objects=900)
    starts = range(0, len(table["mjd"]), 1500)
    paths = [
        kit.save(kit.picked(table, slice(start, start + 1500)), tmp_path / f"{start:06d}.parquet")
        for start in starts
    ]
    words = {"survey": "ztf", "partition_observations": 500}
    ingest(paths, tmp_path / "one.zarr", cluster="inline", **words)
    expected = kit.objects(tmp_path / "one.zarr")
    for number in range(2):
        path = tmp_path / f"{number}.zarr"
        ingest(paths, path, cluster="threads", workers=2, **words)
        kit.sound(path)
        kit.same(kit.objects(path), expected)
    ingest(paths[:4], tmp_path / "grown.zarr", cluster="threads", workers=2, **words)
    append(paths[4:], tmp_path / "grown.zarr", cluster="threads", workers=2)
    kit.same(kit.objects(tmp_path / "grown.zarr"), expected, positions=False)


def test_workers_that_live_on_hold_no_archive(kit: Any, tmp_path: Path) -> None:
    from distributed import Client, LocalCluster

    paths = [kit.save(kit.table(3), tmp_path / "rows.parquet")]
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=":0") as workers,
        Client(workers, set_as_default=False),
    ):
        ingest(paths, tmp_path / "a.zarr", survey="ztf", cluster=workers.scheduler_address)
        assert not list((tmp_path / "a.zarr" / "writers").iterdir())
