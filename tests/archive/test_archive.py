"""Writing and reading partitions."""

import pickle
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from skytrawl.catalogs.archive import Archive, Block, archive_of, open_archive
from skytrawl.catalogs.block import sort_rows
from skytrawl.catalogs.writer import ArchiveWriter, group_metadata, slots_for
from skytrawl.errors import ArchiveError, CorruptShardError, NotAnArchiveError, SchemaError

ROWS = ("time", "value", "error", "band")
COLUMNS = ("object_id", "ra", "dec", "healpix")


def same(found: Block, expected: Block) -> None:
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    for name, column in found.objects.items():
        np.testing.assert_array_equal(column, expected.objects[name])
    for name, column in found.observations.items():
        np.testing.assert_array_equal(column, expected.observations[name])


@given(
    counts=st.lists(st.lists(st.integers(0, 90), max_size=20), max_size=4),
    cut=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_round_trip(make_writer, make_block, counts, cut) -> None:
    """Ragged blocks with empty, one-point and longer-than-a-slot objects, whole and in part."""
    blocks = [make_block(numbers, first_id=100 * place) for place, numbers in enumerate(counts)]
    with tempfile.TemporaryDirectory() as folder:
        writer = make_writer(Path(folder) / "a.zarr")
        for block in blocks:
            writer.write(block, flush=False)
        writer.publish()
        blocks.sort(key=lambda block: not block.n_objects)  # empty partitions come last
        archive = Archive.open(writer.path)
        assert archive.n_objects == sum(block.n_objects for block in blocks)
        assert archive.n_observations == sum(block.n_observations for block in blocks)
        for number, block in enumerate(blocks):
            same(archive.read(number, COLUMNS + ROWS), block)
            part = slice(min(cut), max(cut))
            same(archive.read(number, COLUMNS + ROWS, part), block.select(part))
            same(archive.read(number, ["value"], slice(-1, None)), block.select(slice(-1, None)))


def test_derived_columns_and_sizes(archive_path: Path) -> None:
    archive = Archive.open(archive_path)
    block = archive.read(0, ["objects/n_observations", "first_observation", "lightcurves/value", "ra"])
    np.testing.assert_array_equal(block.objects["n_observations"], [3, 0, 100, 1, 7, 7, 0, 12, 5, 9])
    np.testing.assert_array_equal(block.objects["first_observation"], block.offsets[:-1])
    assert block.observations["value"].dtype == np.float32
    assert archive.decoded_bytes(0, ["value", "ra"]) == 144 * 4 + 10 * 8 + 11 * 8
    assert archive.decoded_bytes(3, ["value", "ra"]) == 8


def test_all_zero_columns_are_stored(make_writer, tmp_path: Path) -> None:
    offsets = np.array([0, 40, 40], np.int64)
    zeros = Block(
        {name: np.zeros(2, "u8" if name in ("object_id", "healpix") else "f8") for name in COLUMNS},
        {"time": np.zeros(40), "value": np.zeros(40, "f4"), "error": np.full(40, np.nan, "f4")}
        | {"band": np.zeros(40, "u1")},
        offsets,
    )
    with make_writer(tmp_path / "a") as writer:
        writer.write(zeros)
    archive = Archive.open(tmp_path / "a")
    same(archive.read(0, COLUMNS + ROWS), zeros)
    for name in ROWS:
        archive.array(name).storage.delete(archive.array(name).key(1))
        with pytest.raises(CorruptShardError, match=rf"lightcurves/{name}, partition 0, slot 1: .*missing"):
            archive.read(0, [name])


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_damage_fails_its_partition_alone(archive_path: Path, damage: str) -> None:
    archive = Archive.open(archive_path)
    array = archive.array("time")
    slot = int(archive.version.partitions[2]["observation_slot"]) + 2
    file = array.storage.path(array.key(slot))
    sound = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        flipped = bytearray(sound)
        flipped[len(sound) // 3] ^= 4
        file.write_bytes({"flip": bytes(flipped), "cut": sound[: len(sound) // 2], "empty": b""}[damage])
    with pytest.raises(CorruptShardError) as caught:
        archive.read(2, ["time"])
    for part in ("lightcurves/time", "partition 2", f"slot {slot}", str(file)):
        assert part in str(caught.value)
    assert archive.read(0, ["time"]).n_observations == 144
    assert archive.read(2, ["value"]).n_observations == 400
    assert archive.read(2, ["time"], slice(0, 3)).n_observations == 60


def test_wrong_offsets_are_noticed(archive_path: Path) -> None:
    archive = Archive.open(archive_path)
    array = archive.array("first_observation")
    array.write(int(archive.version.partitions[1]["object_slot"]), np.array([0, 5]))
    with pytest.raises(CorruptShardError, match="partition 1"):
        archive.read(1, ["time"])


def test_a_reader_keeps_its_version(archive_path: Path, make_block: Callable[..., Block]) -> None:
    reader = Archive.open(archive_path)
    before = [reader.read(number, COLUMNS + ROWS) for number in range(reader.n_partitions)]
    writer = ArchiveWriter(archive_path)
    writer.drop(0)
    writer.write(make_block([9, 9], first_id=900))
    # Written, not published: invisible.
    assert Archive.open(archive_path).version.number == 1
    assert writer.publish().number == 2
    for number, block in enumerate(before):
        same(reader.read(number, COLUMNS + ROWS), block)
    latest = Archive.open(archive_path)
    assert (latest.version.number, latest.n_partitions, latest.n_objects) == (2, 4, 24)
    same(latest.read(2, COLUMNS + ROWS), make_block([9, 9], first_id=900))
    same(latest.read(1, COLUMNS + ROWS), before[2])
    assert latest.fingerprint != reader.fingerprint
    used = np.concatenate([reader.version.partitions, latest.version.partitions])["object_slot"]
    assert len(np.unique(used)) == 5


def test_tasks_write_into_reserved_slots(make_writer, make_block, tmp_path: Path) -> None:
    writer = make_writer(tmp_path / "a")
    blocks = [make_block([3, 40], first_id=0), make_block([5], first_id=10)]
    slots = [writer.reserve(block.n_objects, block.n_observations) for block in blocks]
    records = [
        ArchiveWriter(writer.path).write_into(block, *slot) for block, slot in zip(blocks, slots, strict=True)
    ]
    for record in records:
        writer.append(record)
    writer.publish()
    for number, block in enumerate(blocks):
        same(Archive.open(writer.path).read(number, COLUMNS + ROWS), block)


def test_pickles_by_name(archive_path: Path) -> None:
    archive = Archive.open(archive_path)
    data = pickle.dumps(archive)
    assert len(data) < 300
    copy = pickle.loads(data)
    assert copy.version.fingerprint == archive.version.fingerprint
    assert pickle.loads(data) is copy
    same(copy.read(0, ROWS), archive.read(0, ROWS))


def test_a_replaced_archive_is_not_served_from_the_cache(make_writer, make_block, tmp_path: Path) -> None:
    path = tmp_path / "a"
    for count in (2, 3):
        shutil.rmtree(path, ignore_errors=True)
        with make_writer(path) as writer:
            writer.write(make_block([1] * count))
        assert Archive.cached(str(path), 1).n_objects == count
    assert Archive.cached(str(path), 1) is Archive.cached(str(path), 1)


def test_archive_of(archive_path: Path) -> None:
    archive = Archive.open(archive_path)
    tree = open_archive(archive_path)
    assert archive_of(archive) is archive
    for source in (archive_path, str(archive_path), tree):
        assert archive_of(source).fingerprint == archive.fingerprint
    with pytest.raises(ArchiveError, match="open_archive"):
        archive_of(tree["objects"])


def test_what_is_not_an_archive(archive_path: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "table.csv").write_text("a,b")
    zarr.open_group(tmp_path / "foreign", mode="w")
    for name, attrs in (
        ("results", {"kind": "results", "format": 1}),
        ("newer", {"kind": "archive", "format": 99}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "zarr.json").write_bytes(group_metadata({"skytrawl": attrs}))
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "zarr.json").write_text("{")
    for name, remedy in (
        ("nowhere", "does not exist: check the path"),
        ("plain", "skytrawl ingest"),
        ("table.csv", "is a file"),
        ("foreign", "another program"),
        ("results", "open it with skytrawl.open_results"),
        ("newer", "update skytrawl"),
        ("torn", "damaged"),
    ):
        with pytest.raises(NotAnArchiveError, match=remedy) as caught:
            Archive.open(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_unknown_names_and_partitions(archive_path: Path) -> None:
    archive = Archive.open(archive_path)
    with pytest.raises(SchemaError, match="no variable 'flux'"):
        archive.read(0, ["flux"])
    with pytest.raises(SchemaError, match="holds no lightcurves/rb"):
        archive.read(0, ["rb"])
    with pytest.raises(ArchiveError, match="partitions 0 to 3, not 4"):
        archive.read(4, ["time"])
    with pytest.raises(ValueError, match="without step"):
        archive.read(0, ["time"], slice(0, 4, 2))


def test_every_fault_of_a_block_is_listed(make_writer, make_block, tmp_path: Path) -> None:
    writer = make_writer(tmp_path / "a")
    block = make_block([3, 3])
    del block.objects["ra"]
    block.objects["dec"] = block.objects["dec"][:1]
    block.observations["value"] = np.array(["x"] * 6)
    block.observations["seeing"] = np.zeros(6)
    with pytest.raises(SchemaError, match="4 faults") as caught:
        writer.write(block)
    for part in ("objects/ra: column is missing", "objects/dec: wrong shape", "lightcurves/value", "seeing"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda b: b.objects["healpix"].__setitem__(slice(None), b.objects["healpix"][::-1].copy()),
            "ascending",
        ),
        (
            lambda b: b.observations["time"].__setitem__(2, np.nan),
            "1 times are not finite, the first in row 2",
        ),
        (lambda b: b.observations["band"].__setitem__(slice(None), 2), "code 2 in row 0"),
        (
            lambda b: b.observations["band"].__setitem__(slice(5, 10), [1, 1, 1, 1, 0]),
            "object 1 are not ordered",
        ),
        (lambda b: b.offsets.__setitem__(1, 99), "offsets do not span"),
    ],
)
def test_unsound_blocks_are_refused(make_writer, make_block, tmp_path: Path, change, message: str) -> None:
    block = make_block([5, 5, 5])
    make_writer(tmp_path / "a").write(make_block([5, 5, 5]))
    change(block)
    with pytest.raises(SchemaError, match=message):
        ArchiveWriter(tmp_path / "a").write(block)


def test_declarations_are_checked(make_writer, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="4 faults") as caught:
        make_writer(
            tmp_path / "a",
            dtypes={"lightcurves/value": "int16", "lightcurves/seeing": "f4"},
            bands=["g", "g"],
            light_curves={"quantity": "colour", "photometry": "total", "units": "mag"}
            | {"time": {"scale": "utc", "reference_position": "geocenter"}},
        )
    for part in ("lightcurves/value: wrong dtype", "lightcurves/seeing", "light_curves/quantity", "bands"):
        assert part in str(caught.value)
    assert not (tmp_path / "a").exists()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "file").touch()
    with pytest.raises(ArchiveError, match="not empty"):
        make_writer(tmp_path / "b")


def test_values_keep_the_delivered_type(make_writer, make_block, tmp_path: Path) -> None:
    block = make_block([4, 0, 2])
    block.observations["value"] = block.observations["value"].astype("f8") + 1e-12
    block.objects["object_id"] = np.array([b"ZTF1", b"ZTF22", b"A"])
    block.objects["class"] = np.array([b"SN Ia", b"", b"RRL"])
    dtypes = {"lightcurves/value": "f8", "objects/object_id": "S9", "objects/class": "S32"}
    with make_writer(tmp_path / "a", dtypes=dtypes) as writer:
        writer.write(block)
    found = Archive.open(tmp_path / "a").read(0, [*COLUMNS, *ROWS, "class"])
    same(found, block)
    assert found.observations["value"].dtype == np.float64
    block.objects["object_id"] = np.array([b"longer than nine", b"", b""])
    with pytest.raises(SchemaError, match="object_id: values do not fit"):
        writer.write(block)


def test_an_error_inside_the_context_publishes_nothing(make_writer, make_block, tmp_path: Path) -> None:
    writer = make_writer(tmp_path / "a")

    def interrupted() -> None:
        with writer:
            writer.write(make_block([1]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(ArchiveError, match="no published version"):
        Archive.open(tmp_path / "a")


def test_sort_rows(make_block) -> None:
    block = make_block([0, 9, 1, 14])
    order = np.concatenate([np.arange(8, -1, -1), [9], np.arange(23, 9, -1)])
    shuffled = Block(
        block.objects, {name: column[order] for name, column in block.observations.items()}, block.offsets
    )
    same(sort_rows(shuffled), block)
    assert sort_rows(block) is block


def test_slots_for() -> None:
    assert slots_for(0, 0) == (64, 256)
    assert slots_for(500, 15_000) == (512, 16_384)
    assert slots_for(10**9, 10**9) == (65_536, 4_194_304)
