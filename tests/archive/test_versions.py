"""Versions and reservations: exclusive, numbered, cheap."""

import multiprocessing
import resource
import time
from pathlib import Path

import numpy as np
import pytest

from skytrawl.catalogs import versions
from skytrawl.catalogs.archive import Archive, ArchiveWriter
from skytrawl.catalogs.shards import SLOTS
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.versions import PARTITION, Version
from skytrawl.errors import ArchiveError, VersionConflictError

SPAWN = multiprocessing.get_context("spawn")


def test_round_trip_and_damage(tmp_path: Path) -> None:
    table = np.zeros(3, PARTITION)
    table["n_objects"] = 1, 0, 5
    table["n_observations"] = 10, 0, 7
    made = Version(1, table, {"archive_id": "a", "variables": {}})
    storage = Storage(tmp_path)
    versions.publish(storage, made)
    found = versions.read_version(storage)
    np.testing.assert_array_equal(found.partitions, table)
    assert (found.number, found.header, found.fingerprint) == (1, made.header, made.fingerprint)
    np.testing.assert_array_equal(found.object_starts, [0, 1, 1, 6])
    np.testing.assert_array_equal(found.observation_starts, [0, 10, 10, 17])
    with pytest.raises(ValueError, match="read-only"):
        found.partitions["n_objects"] = 0
    file = tmp_path / "versions" / "00000001.npz"
    sound = file.read_bytes()
    for damaged in (sound[:-30], b"", sound[:200] + bytes([sound[200] ^ 1]) + sound[201:]):
        file.write_bytes(damaged)
        with pytest.raises(ArchiveError, match="damaged"):
            versions.read_version(storage)


def test_fingerprint_follows_content() -> None:
    table = np.zeros(2, PARTITION)
    table["content"] = b"a" * 32, b"b" * 32
    first = Version(1, table, {"archive_id": "a"}).fingerprint
    assert first == Version(9, table.copy(), {"archive_id": "a", "created": "later"}).fingerprint
    assert first != Version(1, table[::-1], {"archive_id": "a"}).fingerprint
    assert first != Version(1, table, {"archive_id": "b"}).fingerprint


def test_unknown_versions_are_named(archive_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no version 7; published: 1"):
        Archive.open(archive_path, 7)
    with pytest.raises(ArchiveError, match="no published version"):
        versions.read_version(Storage(tmp_path / "x"))


def publish_at_once(path: str, barrier, results) -> None:  # runs in another process
    writer = ArchiveWriter(path)
    writer.drop(0)
    barrier.wait()
    try:
        results.put(("published", writer.publish().number))
    except VersionConflictError as error:
        results.put(("conflict", str(error)))


def test_of_two_publishers_one_gets_an_error(archive_path: Path) -> None:
    barrier, results = SPAWN.Barrier(2), SPAWN.Queue()
    children = [
        SPAWN.Process(target=publish_at_once, args=(str(archive_path), barrier, results)) for _ in range(2)
    ]
    for child in children:
        child.start()
    found = sorted(results.get(timeout=60) for _ in children)
    for child in children:
        child.join(60)
    assert [kind for kind, _ in found] == ["conflict", "published"]
    assert found[1][1] == 2
    assert "Open the archive again" in found[0][1]
    assert versions.list_versions(Storage(archive_path)) == [1, 2]


def reserve_many(path: str, barrier, results) -> None:  # runs in another process
    barrier.wait()
    results.put([versions.reserve_slots(Storage(path), 2, 3) for _ in range(20)])


def test_no_slot_is_reserved_twice(tmp_path: Path) -> None:
    barrier, results = SPAWN.Barrier(2), SPAWN.Queue()
    children = [SPAWN.Process(target=reserve_many, args=(str(tmp_path), barrier, results)) for _ in range(2)]
    for child in children:
        child.start()
    slots = [slot for _ in children for slot in results.get(timeout=60)]
    for child in children:
        child.join(60)
    assert sorted(slots) == [(2 * number, 3 * number) for number in range(40)]


def test_the_axis_ends(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    assert versions.reserve_slots(storage, SLOTS - 1, 1) == (0, 0)
    with pytest.raises(ArchiveError, match="slots are used"):
        versions.reserve_slots(storage, 2, 1)
    assert versions.reserve_slots(storage, 1, 1) == (SLOTS - 1, 1)


def test_many_partitions_open_fast_and_small(make_writer, tmp_path: Path) -> None:
    path = tmp_path / "many.zarr"
    writer = make_writer(path)
    count = 100_000
    table = np.zeros(count, PARTITION)
    table["object_slot"] = table["observation_slot"] = np.arange(count)
    table["object_slots"] = table["observation_slots"] = 1
    table["n_objects"], table["n_observations"] = 3, 20
    versions.publish(writer.storage, Version(1, table, {"archive_id": writer.attrs["archive_id"]}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    archive = Archive.open(path)
    assert (archive.n_objects, archive.n_partitions) == (3 * count, count)
    assert archive.fingerprint
    assert time.perf_counter() - start < 1.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_content_hash_sees_name_type_and_value() -> None:
    base = {"a": np.arange(3.0), "b": np.arange(3)}
    first = versions.content_hash(base)
    assert len(first) == 32
    assert first == versions.content_hash(dict(reversed(base.items())))
    assert first != versions.content_hash({"a": np.arange(3.0), "c": np.arange(3)})
    assert first != versions.content_hash({"a": np.arange(3, dtype="f4"), "b": np.arange(3)})
    assert first != versions.content_hash({"a": np.array([0.0, 1.0, -2.0]), "b": np.arange(3)})
    assert versions.content_hash({"a": np.zeros(0)}) != versions.content_hash({"a": np.zeros(1)})
