"""An append that is killed leaves nothing that a reader sees, and nothing that a sweep does not find."""

import multiprocessing
import os
import random
import shutil
import time
from pathlib import Path

import numpy as np

from skytrawl.catalogs import id_index, retention, versions
from skytrawl.catalogs.archive import Archive, ArchiveWriter, Block
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.sweep import sweep
from skytrawl.catalogs.validate import validate
from skytrawl.catalogs.versions import content_hash

SPAWN = multiprocessing.get_context("spawn")
RETENTION = 1.0
COLUMNS = ["object_id", "ra", "dec", "healpix", "time", "value", "error", "band"]


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
    child = SPAWN.Process(target=append_forever, args=(str(archive_path), str(source)))
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


def marked(block: Block, mark: float) -> Block:
    """The block with one value in all observations."""
    values = np.full(block.n_observations, mark, np.float32)
    return Block(dict(block.objects), {**block.observations, "value": values}, block.offsets)


def change_forever(path: str, seed: int, ready: str) -> None:  # runs in another process until it is killed
    """Append, go back, expire and sweep; all filled partitions of a version carry the same mark."""
    chance = random.Random(seed)
    storage = Storage(path)
    os.fsync = lambda descriptor: None  # a killed process loses nothing of the page cache; more turns
    Path(ready).touch()
    for turn in range(10**9):
        archive = Archive.open(path)
        blocks = [archive.read(number, COLUMNS) for number in range(2)]
        writer = ArchiveWriter(path)
        name = f"{seed}-{turn}"
        id_index.build(
            storage, name, [(block.objects["object_id"], block.objects["healpix"]) for block in blocks]
        )
        for number, block in enumerate(blocks):
            writer.drop(number)
            writer.write(marked(block, 1000 * seed + turn), flush=False)
        writer.publish(note="append", index=[name])
        step = chance.randrange(4)
        if step == 0:
            retention.expire(storage, older_than=0)
        elif step == 1:
            sweep(storage, older_than=RETENTION)
        elif step == 2:
            retention.back_to(storage, chance.choice(versions.list_versions(storage)[-3:]))


def read_forever(path: str, stop, results) -> None:  # runs in another process until it is told to stop
    """Whole latest versions, each value against the hash of its version."""
    seen: set[int] = set()
    while not stop.is_set():
        start = time.monotonic()
        try:
            archive = Archive.open(path)
            blocks = [archive.read(number, archive.variables) for number in range(archive.n_partitions)]
            place = archive.find(int(blocks[0].objects["object_id"][3]))
        except Exception as error:
            if time.monotonic() - start < 0.9 * RETENTION:
                results.put(f"version {archive.version.number}: {error!r}")
                return
            continue
        for number, block in enumerate(blocks):
            columns = {f"objects/{name}": column for name, column in block.objects.items()}
            columns |= {f"lightcurves/{name}": column for name, column in block.observations.items()}
            if content_hash(columns).encode() != archive.version.partitions["content"][number]:
                results.put(f"version {archive.version.number}, partition {number}: other values")
                return
        marks = {float(value) for block in blocks for value in block.observations["value"]}
        if len(marks) != 1 or place != (0, 3):
            results.put(f"version {archive.version.number}: a mixture of {sorted(marks)}, object at {place}")
            return
        seen.add(archive.version.number)
    results.put(len(seen))


def test_kill_at_any_moment_of_writing_publishing_expiring_and_sweeping(
    make_writer, make_block, tmp_path: Path
) -> None:
    path = tmp_path / "a.zarr"
    with make_writer(path) as writer:
        for first in (100, 200):
            writer.write(marked(make_block([5, 0, 40, 9], first_id=first), 0))
    stop, results = SPAWN.Event(), SPAWN.Queue()
    reader = SPAWN.Process(target=read_forever, args=(str(path), stop, results))
    reader.start()
    moments = random.Random(11)
    for seed in range(1, 9):
        ready = tmp_path / f"ready-{seed}"
        child = SPAWN.Process(target=change_forever, args=(str(path), seed, str(ready)))
        child.start()
        deadline = time.time() + 60
        while not ready.exists() and time.time() < deadline:
            time.sleep(0.01)
        time.sleep(moments.uniform(0.02, 0.7))
        assert child.is_alive()
        child.kill()
        child.join()
    stop.set()
    found = results.get(timeout=60)
    reader.join(60)
    assert isinstance(found, int), found
    assert found > 3
    storage = Storage(path)
    assert versions.read_version(storage).number > 5
    for number in versions.list_versions(storage):
        assert validate(path, version=number, deep=True).ok
    retention.expire(storage, older_than=-1)
    done = sweep(storage, older_than=-1)
    assert not done.at_work
    latest = versions.read_version(storage)
    assert latest.number == max(versions.list_versions(storage))
    assert files(path) == set(retention.shard_keys(writer.attrs, latest))
    assert storage.names("index") == list(latest.index)
    assert validate(path, deep=True).ok
    leftovers = [file for folder in ("staging", "writers", "expired") for file in storage.list(folder)]
    assert not leftovers
    assert not list(path.rglob("*.partial"))
