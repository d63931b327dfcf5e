"""The view of xarray: compact axes, lazy, one chunk a partition."""

import pickle
import time
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from skytrawl.catalogs import versions
from skytrawl.catalogs.archive import Archive, ArchiveWriter, Block, open_archive
from skytrawl.catalogs.compact import SlotArray, SlotTable, variable_of
from skytrawl.catalogs.shards import SlotFile, SlotLayout
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.versions import PARTITION, Version
from skytrawl.errors import ArchiveError, CorruptShardError


def expected(archive: Archive, name: str) -> np.ndarray:
    group, _, short = name.partition("/")
    blocks = [archive.read(number, [name]) for number in range(archive.n_partitions)]
    return np.concatenate([(b.objects if group == "objects" else b.observations)[short] for b in blocks])


@pytest.mark.parametrize("chunks", [None, {}])
def test_the_tree_is_the_concatenation(archive_path: Path, chunks) -> None:
    archive = Archive.open(archive_path)
    tree = open_archive(archive_path, chunks=chunks)
    assert (tree.attrs["path"], tree.attrs["version"]) == (str(archive_path), 1)
    assert tree.attrs["skytrawl"]["bands"] == ["g", "r"]
    assert tree["objects"].sizes == {"object": 32}
    assert tree["lightcurves"].sizes == {"observation": 545}
    for name in archive.variables:
        if name != "objects/first_observation":
            np.testing.assert_array_equal(tree[name].values, expected(archive, name))
            assert tree[name].dtype == archive.array(name).dtype
    assert tree["lightcurves/value"].attrs["units"] == "mag"
    assert tree["lightcurves/time"].attrs["scale"] == "utc"
    assert all(
        variable.attrs["long_name"] for node in tree.children.values() for variable in node.data_vars.values()
    )


def test_a_light_curve_is_a_slice(archive_path: Path) -> None:
    archive, tree = Archive.open(archive_path), open_archive(archive_path)
    objects = tree["objects"].to_dataset()
    for row in (2, 10, 11, 31):
        first, count = int(objects.first_observation[row]), int(objects.n_observations[row])
        found = tree["lightcurves/time"][first : first + count].values
        partition = int(np.searchsorted(archive.version.object_starts, row, side="right")) - 1
        own = row - int(archive.version.object_starts[partition])
        block = archive.read(partition, ["time"], slice(own, own + 1))
        np.testing.assert_array_equal(found, block.observations["time"])


def test_chunks_are_partitions(archive_path: Path) -> None:
    tree = xr.open_datatree(archive_path, engine="skytrawl", chunks={})
    assert tree["objects"].to_dataset().chunksizes == {"object": (10, 2, 20)}
    assert tree["lightcurves"].to_dataset().chunksizes == {"observation": (144, 1, 400)}
    mean = tree["lightcurves/value"].mean()
    with dask.config.set(scheduler="threads"):
        np.testing.assert_allclose(
            mean.values, open_archive(archive_path)["lightcurves/value"].values.mean(), rtol=1e-6
        )
    assert len(pickle.dumps(tree)) < 40_000
    copy = pickle.loads(pickle.dumps(tree))
    np.testing.assert_array_equal(copy["objects/ra"].values, tree["objects/ra"].values)


@given(
    key=st.one_of(
        st.integers(-545, 544),
        st.slices(545),
        st.lists(st.integers(-545, 544), max_size=40).map(lambda rows: np.array(rows, np.int64)),
    )
)
def test_any_index_equals_numpy(
    tmp_path_factory: pytest.TempPathFactory, make_writer, make_block, key
) -> None:
    path = tmp_path_factory.getbasetemp() / "indexed.zarr"
    if not path.exists():
        with make_writer(path) as writer:
            for counts in ([3, 0, 100, 1, 7, 7, 0, 12, 5, 9], [], [0, 1], [20] * 20):
                writer.write(make_block(counts) if counts else Block())
    whole = expected(Archive.open(path), "lightcurves/time")
    lazy = open_archive(path)["lightcurves/time"]
    np.testing.assert_array_equal(lazy[key].values, whole[key])
    # An index of an index stays lazy and composes.
    np.testing.assert_array_equal(lazy[100:][np.array([5, 3, 3])].values, whole[100:][[5, 3, 3]])


@given(data=st.data())
def test_rows_with_more_axes_and_absent_partitions(tmp_path_factory: pytest.TempPathFactory, data) -> None:
    storage = Storage(tmp_path_factory.mktemp("maps"))
    array = SlotFile.create(storage, "maps", "float32", SlotLayout(8, 4), ["object", "dt", "dm"], tail=(3, 4))
    counts = [5, 0, 20, 1, 9]
    slots = np.array([0, 1, 2, 7, 30])
    present = np.array([True, True, True, False, True])
    starts = np.concatenate([[0], np.cumsum(counts)])
    values = np.random.default_rng(0).random((35, 3, 4), dtype=np.float32)
    for number in (0, 2, 4):
        array.write(int(slots[number]), values[starts[number] : starts[number + 1]], flush=False)
    values[25] = -1
    variable = variable_of(array, SlotTable(slots, starts, present), fill=-1)
    assert variable.encoding["preferred_chunks"] == {"object": (5, 20, 1, 9)}
    key = tuple(
        data.draw(
            st.one_of(
                st.integers(0, size - 1),
                st.slices(size),
                st.lists(st.integers(0, size - 1), max_size=9).map(lambda rows: np.array(rows, np.int64)),
            )
        )
        for size in (35, 3, 4)
    )
    found = variable[key]
    reference = xr.Variable(("object", "dt", "dm"), values)[key]
    assert found.dims == reference.dims
    np.testing.assert_array_equal(found.values, reference.values)


def test_only_the_asked_partition_is_read(archive_path: Path) -> None:
    archive = Archive.open(archive_path)
    array = archive.array("value")
    slot = int(archive.version.partitions[2]["observation_slot"])
    array.storage.delete(array.key(slot))
    lazy = open_archive(archive_path)["lightcurves/value"]
    assert lazy[:145].values.shape == (145,)
    assert lazy[np.array([0, 544])].values.shape == (2,)
    with pytest.raises(CorruptShardError, match=f"lightcurves/value, partition 2, slot {slot}"):
        lazy[145].compute()


def test_rows_beyond_the_axis() -> None:
    array = SlotFile(Storage("unused"), "v", np.dtype("f8"), SlotLayout(8, 8))
    lazy = SlotArray(array, SlotTable(np.array([0]), np.array([0, 5])))
    with pytest.raises(IndexError, match="beyond the 5 rows"):
        lazy.rows(np.array([0, 5]))


def test_many_partitions_open_fast_and_small(make_writer, tmp_path: Path) -> None:
    path = tmp_path / "many.zarr"
    writer = make_writer(path)
    table = np.zeros(100_000, PARTITION)
    table["object_slot"] = table["observation_slot"] = np.arange(len(table))
    table["object_slots"] = table["observation_slots"] = 1
    table["n_objects"], table["n_observations"] = 3, 20
    versions.publish(writer.storage, Version(1, table, {"archive_id": writer.attrs["archive_id"]}))
    start, before = time.perf_counter(), memory()
    tree = open_archive(path)
    assert time.perf_counter() - start < 0.5
    assert memory() - before < 100
    assert tree["lightcurves"].sizes == {"observation": 2_000_000}
    # Workers read the partition table themselves.
    lazy = tree["lightcurves/value"].variable.copy()
    lazy.encoding = {}
    assert len(pickle.dumps(lazy)) < 5_000


def memory() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def test_two_versions_in_one_graph(archive_path: Path, make_block) -> None:
    """Dask names chunks by path; different versions must not be taken for one another."""
    old = xr.open_datatree(archive_path, engine="skytrawl", chunks={})
    writer = ArchiveWriter(archive_path)
    writer.drop(0)
    writer.write(make_block([3] * 10, first_id=500))
    writer.publish()
    new = xr.open_datatree(archive_path, engine="skytrawl", chunks={})
    first, second = dask.compute(old["objects/object_id"].data, new["objects/object_id"].data)
    assert first[0] == 0
    assert second[0] == 100
    pinned = xr.open_datatree(archive_path, engine="skytrawl", version=1)
    np.testing.assert_array_equal(pinned["objects/object_id"].values, first)


def test_engine(archive_path: Path, tmp_path: Path) -> None:
    rows = xr.open_dataset(archive_path, group="lightcurves")  # the engine is guessed
    assert rows.sizes == {"observation": 545}
    slim = xr.open_dataset(
        archive_path, engine="skytrawl", group="objects", drop_variables=["ra", "dec"], chunks={}
    )
    assert "ra" not in slim
    assert slim.chunksizes == {"object": (10, 2, 20)}
    assert not xr.open_dataset(archive_path, engine="skytrawl").data_vars
    with pytest.raises(ArchiveError, match="no group 'images'; it has objects, lightcurves"):
        xr.open_dataset(archive_path, engine="skytrawl", group="images")
    with pytest.raises(ValueError, match=r"did not find a match|cannot open"):
        xr.open_dataset(tmp_path)


def test_an_empty_archive(make_writer, tmp_path: Path) -> None:
    with make_writer(tmp_path / "a") as writer:
        writer.write(Block())
    for chunks in (None, {}):
        tree = open_archive(tmp_path / "a", chunks=chunks)
        assert tree["objects/ra"].values.shape == (0,)
