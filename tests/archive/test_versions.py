"""Versions and reservations: exclusive, numbered, cheap."""

import multiprocessing
import resource
import time
from pathlib import Path

import numpy as np
import pytest

from skytrawl.catalogs import versions
from skytrawl.catalogs.archive import Archive, ArchiveWriter, Block
from skytrawl.catalogs.shards import SLOTS
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.versions import PARTITION, Version
from skytrawl.errors import ArchiveError, SchemaError, VersionConflictError

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


def ids(archive: Archive) -> list[int]:
    """First id of each filled partition."""
    return [
        int(archive.read(number, ["object_id"]).objects["object_id"][0])
        for number in np.flatnonzero(archive.version.partitions["n_objects"])
    ]


def test_partitions_follow_the_curve(make_writer, make_block, tmp_path: Path) -> None:
    path = tmp_path / "a"
    writer = make_writer(path)
    for first in (300, 100, -1, 500):
        writer.write(make_block([2, 3], first_id=first) if first >= 0 else Block())
    made = writer.publish(note="ingest", sources={"files": 3})
    assert (made.note, made.header["sources"], made.index) == ("ingest", {"files": 3}, ())
    assert made.partitions["n_objects"].tolist() == [2, 2, 2, 0]
    stored = [key for key in writer.storage.list() if "/c/" in key]
    assert made.header["bytes"] == sum(path.joinpath(key).stat().st_size for key in stored)
    assert ids(Archive.open(path)) == [100, 300, 500]
    slots = writer.reserve(1, 4)
    record = writer.write_into(make_block([4], first_id=200), *slots)
    later = writer.write_into(make_block([1], first_id=700), *writer.reserve(1, 1))
    writer.replace_partition(0, [record, later])
    assert writer.publish(note="append").number == 2
    assert ids(Archive.open(path)) == [200, 300, 500, 700]
    assert ids(Archive.open(path, 1)) == [100, 300, 500]
    version = Archive.open(path).version
    for number, record in enumerate(version.partitions[:4]):
        for key in (record["healpix_min"], record["healpix_max"]):
            assert version.partitions_at(int(key)).tolist() == [number]
    assert not len(version.partitions_at(int(version.partitions["healpix_max"][3]) + 1))


def test_partitions_that_overlap_are_all_found() -> None:
    generator = np.random.default_rng(0)
    table = np.zeros(50, PARTITION)
    table["n_objects"] = generator.integers(0, 3, 50)
    edges = np.sort(generator.integers(0, 200, (50, 2)), axis=1)
    table["healpix_min"], table["healpix_max"] = edges.T
    version = Version(1, table)
    for key in range(201):
        expected = (table["n_objects"] > 0) & (edges[:, 0] <= key) & (key <= edges[:, 1])
        assert sorted(version.partitions_at(key).tolist()) == np.flatnonzero(expected).tolist()


def test_what_changes_nothing_makes_no_version(archive_path: Path, make_block) -> None:
    writer = ArchiveWriter(archive_path)
    assert writer.publish().number == 1
    old = Archive.open(archive_path)
    names = ["object_id", "ra", "dec", "healpix", "time", "value", "error", "band"]
    blocks = [old.read(number, names) for number in range(3)]
    # The same values, delivered again: the partitions stay where they are, and so do results of them.
    for number in (2, 0, 1):
        writer.drop(number)
        writer.write(blocks[number])
    assert writer.publish(note="append").number == 1
    assert versions.list_versions(writer.storage) == [1]
    blocks[1].observations["value"][0] += 1
    for number in (0, 1):
        writer.drop(number)
        writer.write(blocks[number])
    second = writer.publish()
    assert second.number == 2
    changed = second.partitions != old.version.partitions
    assert changed.tolist() == [False, True, False, False]
    # Another index is a change; without one, that of the same partitions stays.
    assert writer.publish(index=["a"]).index == ("a",)
    assert writer.publish().number == 3
    writer.write(make_block([1], first_id=900))
    assert writer.publish().index == ()


def test_a_missing_shard_is_never_published(archive_path: Path, make_block) -> None:
    writer = ArchiveWriter(archive_path)
    record = writer.write(make_block([3], first_id=900))
    lost = writer.arrays["lightcurves/band"].key(int(record["observation_slot"]))
    writer.storage.delete(lost)
    with pytest.raises(ArchiveError, match=r"band/c/\d+ is missing.*Nothing is published"):
        writer.publish()
    assert versions.list_versions(writer.storage) == [1]


def test_what_is_known_at_the_end_is_settled_before_the_first_version(
    make_writer, make_block, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    writer = make_writer(path)
    writer.write(make_block([3]))
    curves = {**writer.attrs["light_curves"], "units": "nJy", "quantity": "flux"}
    with pytest.raises(SchemaError, match="bands: need"):
        writer.settle(bands=[])
    with pytest.raises(ArchiveError, match="object_slot are fixed"):
        writer.settle(object_slot=3)
    writer.settle(bands=["zg", "zr"], light_curves=curves, rounding={"value": 1e-4}, has_positions=True)
    writer.publish()
    archive = Archive.open(path)
    assert archive.bands == ("zg", "zr")
    assert archive.attrs["rounding"] == {"value": 1e-4}
    assert archive.array("value").attrs["units"] == "nJy"
    assert archive.read(0, ["value"]).n_observations == 3
    with pytest.raises(ArchiveError, match="has a published version"):
        writer.settle(bands=["g", "r"])
