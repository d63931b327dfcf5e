"""Stores of frames: what was written comes back, here, through Zarr and through xarray."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.images.frame import Frame
from skytrawl.catalogs.images.planes import Plane, chunk_shape
from skytrawl.catalogs.images.store import FrameStore
from skytrawl.catalogs.images.table import table_of
from skytrawl.errors import (
    ArchiveError,
    NotAnArchiveError,
    ObjectNotFoundError,
    SchemaError,
    VersionConflictError,
)


def frame_of(name: str, seed: int = 0, shape: tuple[int, int] = (300, 520), **row: object) -> Frame:
    generator = np.random.default_rng(seed)
    image = generator.normal(400, 20, shape).astype(np.float32)
    image[5, 7] = np.nan
    return Frame(
        name,
        {
            "image": image,
            "mask": (image > 440).astype(np.uint16),
            "psf": generator.normal(size=(6, 25, 25)).astype(np.float32),
            "names": np.array([b"a", b"star", b""]),
            "none": np.zeros((0, 4)),
        },
        {"cards": "SIMPLE  =                    T", "nested": {"list": [1, 2.5, None]}},
        {"mjd": 58000.5 + seed, **row},
    )


def same(one: Frame, two: Frame) -> None:
    assert list(one.arrays) == list(two.arrays)
    for name, array in one.arrays.items():
        assert array.dtype == two.arrays[name].dtype
        assert array.shape == two.arrays[name].shape
        assert array.tobytes() == two.arrays[name].tobytes()
    assert one.attrs == two.attrs


@pytest.fixture
def store(tmp_path: Path) -> FrameStore:
    return FrameStore.create(tmp_path / "s", "exposures", {"survey": "test"})


def test_round_trip(store: FrameStore) -> None:
    frame = frame_of("e 1(a).S1", band="g", n=3, good=True, cover=[5, 6])
    content = store.write(frame)
    found = store.read("e 1(a).S1")
    same(found, frame)
    assert found.row == {"mjd": 58000.5, "band": "g", "n": 3, "good": True, "cover": [5, 6]}
    assert found.dims["image"] == found.dims["mask"] == ("y", "x")
    assert found.dims["psf"] == ("psf_0", "psf_1", "psf_2")
    part = store.read("e 1(a).S1", ["mask", "psf"], window=(10, 290, 255, 258))
    assert list(part.arrays) == ["mask", "psf"]
    np.testing.assert_array_equal(part.arrays["mask"], frame.arrays["mask"][10:290, 255:258])
    np.testing.assert_array_equal(part.arrays["psf"], frame.arrays["psf"])
    assert store.write(frame) == content
    assert len(store) == store.version == 0
    assert store.written() == ["e 1(a).S1"]
    assert not list((store.path / "partial").iterdir())


@given(
    hnp.arrays(
        st.sampled_from(["float32", ">f8", "int16", "uint8", "bool", "S3"]),
        hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=9),
    ),
    st.data(),
)
def test_any_array_and_any_window(tmp_path_factory, values: np.ndarray, data: st.DataObject) -> None:
    values = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<")))
    folder = tmp_path_factory.mktemp("plane")
    whole = Plane.of(folder, values, [f"d{axis}" for axis in range(values.ndim)], {})
    # Small chunks, so that a small array has several on each axis.
    sizes = tuple(data.draw(st.integers(1, 4)) for _ in values.shape)
    plane = Plane(folder, whole.shape, sizes, whole.stored, whole.dims, whole.codecs, {})
    plane.file.parent.mkdir(parents=True)
    plane.file.write_bytes(b"".join(plane.encoded(values)))
    window = []
    for size in values.shape:
        start = data.draw(st.integers(0, size))
        window.append(slice(start, data.draw(st.integers(start, size))))
    np.testing.assert_array_equal(plane.read(tuple(window)), values[tuple(window)])
    np.testing.assert_array_equal(plane.read(), values)


def test_chunks_are_small_and_waste_little() -> None:
    assert chunk_shape((2048, 2048)) == (256, 256)
    assert chunk_shape((900, 900)) == (225, 225)
    assert chunk_shape((6, 41, 41)) == (6, 41, 41)
    assert chunk_shape((10_000, 3, 63, 63)) == (5, 3, 63, 63)
    assert chunk_shape((1_000_000,)) == (62_500,)
    assert chunk_shape((0, 4)) == (1, 4)
    for shape in ((4096, 2046), (9, 1025, 513), (7, 1)):
        assert np.prod(chunk_shape(shape)) <= 65_536


@pytest.mark.filterwarnings("ignore:.*does not have a Zarr V3 specification.*")
def test_zarr_reads_the_same(store: FrameStore) -> None:
    frame = frame_of("a", shape=(700, 1030))
    store.write(frame)
    store.write(frame_of("q"), quantise={"image": 0.25})
    store.publish()
    root = zarr.open_group(store.path, mode="r")
    assert sorted(root["frames"].group_keys()) == ["a", "q"]
    group = root["frames/a"]
    assert sorted(group.array_keys()) == sorted(frame.arrays)
    for name, array in frame.arrays.items():
        np.testing.assert_array_equal(group[name][...], array)
    assert group["image"].metadata.dimension_names == ("y", "x")
    assert group.attrs["skytrawl"]["attrs"]["cards"].startswith("SIMPLE")
    # The metadata are those that Zarr itself would write.
    made = zarr.create_array(
        {},
        shape=(700, 1030),
        shards=(702, 1030),
        chunks=(234, 206),
        dtype="float32",
        fill_value=np.nan,
        dimension_names=["y", "x"],
        compressors=[
            zarr.codecs.BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle", typesize=4),
            zarr.codecs.Crc32cCodec(),
        ],
    ).metadata
    assert str({**group["image"].metadata.to_dict(), "attributes": {}}) == str(made.to_dict())
    table = root[f"tables/{store.storage.names('tables')[0]}"]
    np.testing.assert_array_equal(table["mjd"][...], FrameStore.open(store.path).table["mjd"])


def test_what_zarr_changed_is_read(store: FrameStore) -> None:
    store.write(frame_of("a", shape=(700, 1030)))
    with zarr.config.set({"array.write_empty_chunks": True}):
        zarr.open_group(store.folder("a"), mode="r+")["mask"][...] = 7
    np.testing.assert_array_equal(store.read("a").arrays["mask"], np.full((700, 1030), 7, np.uint16))


def test_quantised_planes(store: FrameStore) -> None:
    frame = frame_of("a", shape=(700, 1030))
    image = frame.arrays["image"]
    image[100:110, 100:110] += 1e6  # beyond 16 bits
    content = store.write(frame, quantise={"image": 0.25})
    assert content != store.write(frame_of("b", shape=(700, 1030)), quantise={"image": 0.25})
    assert store.write(frame, quantise={"image": 0.25}) == content
    kinds = {name: store.plane(name, "image").stored.name for name in "ab"}
    assert kinds == {"a": "int32", "b": "int16"}
    for name in "ab":
        values = image if name == "a" else frame_of("b", shape=(700, 1030)).arrays["image"]
        found = store.read(name)
        assert found.arrays["image"].dtype == np.float32
        np.testing.assert_array_equal(np.isnan(found.arrays["image"]), np.isnan(values))
        note = store.plane(name, "image").attrs["quantisation"]
        assert note["sigma"] == pytest.approx(20, rel=0.02)
        assert note["step"] == pytest.approx(5, rel=0.02)
        error = found.arrays["image"].astype(np.float64) - values
        assert note["error_rms"] == pytest.approx(np.sqrt(np.nanmean(error**2)), rel=1e-12)
        assert note["error_rms"] == pytest.approx(note["step"] / np.sqrt(12), rel=0.01)
        assert note["error_max"] == np.nanmax(np.abs(error)) <= 0.5001 * note["step"] + 0.04
        part = store.read(name, ["image"], window=(99, 500, 200, 700)).arrays["image"]
        np.testing.assert_array_equal(part, found.arrays["image"][99:500, 200:700])
        # xarray alone: without dither, so up to one step off, and unbiased.
        plain = xr.open_dataset(store.folder(name), engine="zarr", consolidated=False)["image"].values
        np.testing.assert_array_equal(np.isnan(plain), np.isnan(values))
        assert np.nanmax(np.abs(plain - values)) <= 1.001 * note["step"] + 0.1
        assert abs(np.nanmean(plain.astype(np.float64) - values)) < 0.02 * note["step"]
    mask = store.read("a").arrays["mask"]
    np.testing.assert_array_equal(mask, frame.arrays["mask"])


def test_what_has_no_noise_stays_as_it_is(store: FrameStore) -> None:
    planes = {"flat": np.full((50, 60), 3.5), "nan": np.full((50, 60), np.nan)}
    store.write(Frame("a", planes), quantise={"flat": 0.25, "nan": 0.25})
    for name, values in planes.items():
        np.testing.assert_array_equal(store.read("a").arrays[name], values)
        assert "no noise" in store.plane("a", name).attrs["quantisation"]["kept"]
    generator = np.random.default_rng(0)
    image = generator.normal(size=(50, 60))
    for wrong, match in (
        (np.where(image > 3, np.inf, image), "infinite"),
        (np.where(image > 3, 1e12, image), "do not fit 32 bits"),
        ((image > 0).astype(np.uint8), "uint8"),
        (image[0], "1 axes"),
    ):
        with pytest.raises(SchemaError, match=f"frame b, image: .*{match}"):
            store.write(Frame("b", {"image": wrong}), quantise={"image": 0.25})
    with pytest.raises(SchemaError, match="no array 'weight'"):
        store.write(Frame("b", {"image": image}), quantise={"weight": 0.25})
    assert store.written() == ["a"]


def test_frames_that_cannot_be_stored(store: FrameStore) -> None:
    for wrong in ("", ".a", "a/b", "a\\b", "a\n", "x" * 201, "zarr.json"):
        with pytest.raises(SchemaError, match="cannot name a frame"):
            store.write(Frame(wrong))
    frame = Frame(
        "a",
        {
            "n": np.array(3),
            "o": np.array([None]),
            "i": np.zeros((4, 5)),
            "j": np.zeros((4, 6)),
            ".k": np.ones(1),
        },
        {"when": object()},
        dims={"j": ("y", "x"), "k": ("z",)},
    )
    with pytest.raises(SchemaError) as caught:
        store.write(frame)
    for fault in ("array n", "array o", "'.k'", "x is 6 long in j and 5 in i", "dims name k", "object"):
        assert fault in str(caught.value)
    assert store.written() == []


def test_versions_and_tables(store: FrameStore) -> None:
    for number in range(3):
        row = {"n": number} if number else {}
        cover = [[1.0, 2.0], [3.0, 4.0]][:number]
        store.write(frame_of(f"e{number}", number, (20, 30), band="gri"[number], cover=cover, **row))
    assert store.publish() == store.publish() == 1
    opened = FrameStore.open(store.path)
    table = opened.table
    assert table["id"].tolist() == [b"e0", b"e1", b"e2"]
    assert table["band"].dtype == "S1"
    np.testing.assert_array_equal(table["n"], [np.nan, 1, 2])
    assert table["cover"].tolist() == [1, 2, 1, 2, 3, 4]
    assert table["cover_offsets"].tolist() == [0, 0, 2, 6]
    assert table["nbytes"].tolist() == [20 * 30 * 6 + 6 * 625 * 4 + 12] * 3
    assert opened.table["content"][1].decode() == store.write(
        frame_of("e1", 1, (20, 30), band="r", cover=[[1.0, 2.0]], n=1)
    )
    again = pickle.loads(pickle.dumps(opened))
    assert again is FrameStore.cached(opened.path, 1)
    assert again.ids == ["e0", "e1", "e2"]
    assert (again.fingerprint, "e1" in again, "x" in again) == (opened.fingerprint, True, False)

    rows = [{"id": "e2", "magnitude": 3}, {"id": "e0", "magnitude": 4.5}]
    assert store.publish(rows) == 2
    second = FrameStore.open(store.path)
    assert second.ids == ["e0", "e2"]
    assert second.table["magnitude"].tolist() == [4.5, 3.0]
    assert second.fingerprint != opened.fingerprint
    assert FrameStore.open(store.path, 1).fingerprint == opened.fingerprint
    assert FrameStore.cached(store.path).version == 0
    with pytest.raises(ArchiveError, match="no version 7; published: 1, 2"):
        FrameStore.open(store.path, 7)
    with pytest.raises(ObjectNotFoundError, match="'e9'"):
        store.publish(["e9"])
    with pytest.raises(SchemaError, match="e1 has two rows"):
        store.publish(["e1", "e1"])
    with pytest.raises(SchemaError, match="column m: frame e2 has 'x' where others have 1"):
        store.publish([{"id": "e1", "m": 1}, {"id": "e2", "m": "x"}])
    with pytest.raises(SchemaError, match="would not be exact"):
        store.publish([{"id": "e1", "m": 2**53 + 1}, {"id": "e2"}])


def test_one_of_two_publishers_gets_an_error(store: FrameStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(frame_of("a"))
    real = store.storage.write_new

    def late(key: str, data: bytes) -> None:
        real(key, b"{}")  # the other one is faster
        real(key, data)

    monkeypatch.setattr(store.storage, "write_new", late)
    with pytest.raises(VersionConflictError, match="another process"):
        store.publish()
    assert store.storage.names("tables") == []


def test_replaced_and_deleted_frames(store: FrameStore) -> None:
    first, second = frame_of("a", 1), frame_of("a", 2)
    store.write(first)
    store.publish()
    pinned = FrameStore.open(store.path)
    same(pinned.read("a"), first)
    assert store.write(second) != pinned.table["content"][0].decode()
    with pytest.raises(ArchiveError, match="was replaced since version 1"):
        pinned.read("a")
    assert store.publish() == 2
    same(FrameStore.open(store.path).read("a"), second)
    store.delete("a")
    store.delete("a")
    assert not store.has("a")
    with pytest.raises(ObjectNotFoundError, match="no frame 'a'"):
        store.read("a")
    store.write(second)
    same(FrameStore.open(store.path).read("a"), second)
    with pytest.raises(ObjectNotFoundError, match="no array 'weight'"):
        store.read("a", ["weight"])
    with pytest.raises(IndexError, match="not inside the 300 rows"):
        store.read("a", window=(0, 301, 0, 5))


def test_what_is_no_store_of_frames(store: FrameStore, tmp_path: Path) -> None:
    assert FrameStore.create(store.path, "exposures", {"survey": "test"}).kind == "exposures"
    with pytest.raises(ArchiveError, match="a store of exposures made with"):
        FrameStore.create(store.path, "difference")
    with pytest.raises(NotAnArchiveError, match=r"skytrawl\.open_images"):
        Archive.open(store.path)
    with pytest.raises(NotAnArchiveError, match="does not exist"):
        FrameStore.open(tmp_path / "nothing")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(ArchiveError, match="is no store"):
        FrameStore.create(tmp_path / "other", "exposures")


def test_frames_without_a_place_do_not_spoil_the_column_of_cells() -> None:
    rows = [
        {"id": "a", "content": "x", "nbytes": 1, "healpix": 3200589497606897455, "verdict": "good"},
        {"id": "b", "content": "y", "nbytes": 1, "verdict": "refused"},
    ]
    found = table_of(rows)["healpix"]
    assert found.dtype == np.int64
    assert found.tolist() == [3200589497606897455, -1]
