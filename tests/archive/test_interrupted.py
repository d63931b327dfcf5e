"""An append that is killed leaves nothing that a reader sees, and nothing that a sweep does not find."""

import multiprocessing
import shutil
import time
from pathlib import Path

import numpy as np

from skytrawl.catalogs.archive import Archive, ArchiveWriter
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.sweep import sweep
from skytrawl.catalogs.validate import validate


def append_forever(path: str, source: str) -> None:  # runs in another process until it is killed
    writer = ArchiveWriter(path)
    archive = Archive.open(source)
    block = archive.read(0, ["object_id", "ra", "dec", "healpix", "time", "value", "error", "band"])
    while True:
        writer.write(block, flush=False)


def files(path: Path) -> set[str]:
    return {key for key in Storage(path).list() if "/c/" in key}


def test_kill_during_an_append(archive_path: Path, make_block, tmp_path: Path) -> None:
    source = tmp_path / "source.zarr"
    shutil.copytree(archive_path, source)
    before = files(archive_path)
    child = multiprocessing.get_context("spawn").Process(
        target=append_forever, args=(str(archive_path), str(source))
    )
    child.start()
    deadline = time.time() + 60
    while len(files(archive_path)) < len(before) + 50 and time.time() < deadline:
        time.sleep(0.01)
    child.kill()
    child.join()
    assert len(files(archive_path)) >= len(before) + 50
    assert Archive.open(archive_path).version.number == 1
    assert validate(archive_path, deep=True).ok

    # The next writer does not touch what the killed one may have written.
    writer = ArchiveWriter(archive_path)
    writer.write(make_block([5, 6], first_id=700))
    slots = writer.publish().partitions["object_slot"]
    assert len(np.unique(slots)) == 5
    assert validate(archive_path, deep=True).ok
    left = files(archive_path)

    assert sweep(Storage(archive_path), older_than=3600).total == 0
    assert files(archive_path) == left
    assert sweep(Storage(archive_path), older_than=-1).total > 0
    assert validate(archive_path, deep=True).ok
    assert Archive.open(archive_path, 1).n_objects == 32
    assert before < files(archive_path) < left
    assert not list(archive_path.rglob("*.partial"))


def test_dropped_partitions_stay_for_older_versions(archive_path: Path, make_block) -> None:
    writer = ArchiveWriter(archive_path)
    writer.drop(0)
    writer.publish()
    assert sweep(Storage(archive_path), older_than=-1).total == 0
    assert validate(archive_path, version=1, deep=True).ok
