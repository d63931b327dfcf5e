"""Frames through xarray: lazy, only the chunks that are needed, and found on the sky."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import skytrawl
from skytrawl.catalogs.images.cone import frames_in_cone
from skytrawl.catalogs.images.current import point
from skytrawl.catalogs.images.frame import Frame
from skytrawl.catalogs.images.planes import Plane
from skytrawl.catalogs.images.store import FrameStore
from skytrawl.catalogs.images.view import Images
from skytrawl.catalogs.sidecars import separation
from skytrawl.errors import CorruptShardError, NoPositionsError, ObjectNotFoundError, ParameterError


def square(ra: float, dec: float, half: float) -> list[list[float]]:
    """Corners of a small square, away from the poles."""
    wide = half / np.cos(np.radians(dec))
    return [[ra + i * wide, dec + j * half] for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))]


@pytest.fixture
def images(tmp_path: Path) -> Images:
    store = FrameStore.create(tmp_path / "s", "exposures", {"survey": "test"})
    generator = np.random.default_rng(0)
    for number, ra in enumerate((359.9, 0.3, 120.0)):
        image = generator.normal(100, 5, (600, 700)).astype(np.float32)
        arrays = {"image": image, "mask": (image > 110).astype(np.uint16), "psf": np.ones((25, 25), "f4")}
        row = {"ra": ra, "dec": 30.0, "mjd": 58000.0 + number, "corners": square(ra, 30, 0.2)}
        store.write(Frame(f"e{number}", arrays, {"cards": "END"}, row), quantise={"image": 0.25})
    store.publish()
    opened: Images = skytrawl.open_images(tmp_path / "s")
    return opened


def test_table(images: Images) -> None:
    table = images.table
    assert table.frame.values.tolist() == list(images) == ["e0", "e1", "e2"]
    assert (len(images), "e1" in images, "e9" in images) == (3, True, False)
    np.testing.assert_array_equal(table.mjd, [58000, 58001, 58002])
    assert table.mjd.attrs["units"] == "d"
    assert table.content.dtype.kind == "U"
    assert table.sel(frame="e2").ra == 120.0
    assert table.corners.sizes == {"corners_item": 24}
    np.testing.assert_allclose(images.row("e2")["corners"].reshape(4, 2), square(120, 30, 0.2))
    assert images.row("e2")["mjd"] == 58002
    assert (table.attrs["kind"], table.attrs["version"], table.attrs["survey"]) == ("exposures", 1, "test")
    assert "mjd" in repr(images)
    with pytest.raises(ObjectNotFoundError, match="e9"):
        images.row("e9")


KEYS = [
    np.s_[:],
    np.s_[3:590:7, ::-1],
    np.s_[-1, 5],
    np.s_[[5, 3, 599], :4],
    np.s_[500:3:-5, 10:10],
    np.s_[10:2, ::3],
    np.s_[np.array([1, 400]), np.array([-1, 0, 5])],
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing_is_that_of_the_whole(images: Images, key: tuple) -> None:
    for name in ("image", "mask"):
        whole = images.store.read("e1").arrays[name]
        wanted = whole[key] if not isinstance(key, tuple) else whole[key[0]][..., key[1]]
        np.testing.assert_array_equal(images.frame("e1")[name][key].values, wanted)


def test_only_the_chunks_that_are_needed(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    windows: list[tuple[slice, ...]] = []
    real = Plane.read

    def spy(self: Plane, window=None):
        if window is not None:  # of the table
            windows.append(window)
        return real(self, window)

    monkeypatch.setattr(Plane, "read", spy)
    frame = images.frame("e1")
    corner = frame.isel(y=slice(100, 400)).image[5:9, 20]
    assert windows == []
    np.testing.assert_array_equal(corner, images.store.read("e1", ["image"]).arrays["image"][105:109, 20])
    assert windows[0] == (slice(105, 109), slice(20, 21))
    # A damaged chunk elsewhere does not matter, there it does.
    file = frame.image.variable._data.array.plane.file  # type: ignore[union-attr]
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(data)
    assert images.frame("e1").image[500:, 500:].values.shape == (100, 200)
    with pytest.raises(CorruptShardError, match=r"frame e1, image: .*c/0/0"):
        _ = images.frame("e1").image[:5, :5].values


def test_frame_and_dask(images: Images) -> None:
    frame = images.frame("e0")
    assert frame.sizes == {"y": 600, "x": 700, "psf_0": 25, "psf_1": 25}
    assert (frame.attrs["cards"], frame.attrs["id"], frame.attrs["row"]["mjd"]) == ("END", "e0", 58000.0)
    assert frame.image.attrs["quantisation_fraction"] == 0.25
    assert not {"scale_factor", "add_offset", "checksum"} & set(frame.image.attrs)
    lazily = images.frame("e0", chunks={"y": 300})
    assert lazily.image.chunks == ((300, 300), (700,))
    again = pickle.loads(pickle.dumps(lazily))
    assert again.image.sum().compute(scheduler="synchronous") == lazily.image.sum()
    names = {images.frame(name, chunks={}).image.data.name for name in ("e0", "e0", "e1")}
    assert len(names) == 2


def test_a_path_with_results_of_a_job(images: Images, tmp_path: Path) -> None:
    images.store.path.rename(tmp_path / "home")
    run = tmp_path / "job" / "runs" / "abc"
    run.parent.mkdir(parents=True)
    (tmp_path / "home").rename(run)
    point(tmp_path / "job", "abc", {})
    assert list(skytrawl.open_images(tmp_path / "job")) == ["e0", "e1", "e2"]


def test_cone(images: Images) -> None:
    found = images.cone(0.09, 30.0, 0.25)
    assert found.frame.values.tolist() == ["e0", "e1"]
    np.testing.assert_allclose(found.separation, [0.1645, 0.1819], atol=1e-3)
    assert found.corners_offsets.values.tolist() == [0, 8, 16]
    assert images.cone(0.3, 30.0, 0).frame.values.tolist() == ["e1"]
    assert images.cone(0.3 + 0.19 / np.cos(np.radians(30)), 30.19, 0).frame.values.tolist() == ["e1"]
    assert images.cone(120.0, 30.5, 0.29).frame.size == 0
    assert images.cone(120.0, 30.5, 0.31).frame.values.tolist() == ["e2"]
    assert images.cone(300.0, -30.0, 1).frame.size == 0
    assert images.cone(300.0, -30.0, 180).frame.size == 3
    for wrong in ((0, 91, 1), (0, 0, -1), (np.nan, 0, 1)):
        with pytest.raises(ParameterError, match="finite degrees"):
            images.cone(*wrong)
    images.store.publish([{"id": "e0"}])
    with pytest.raises(NoPositionsError, match="no sky positions"):
        skytrawl.open_images(images.store.path).cone(0, 0, 1)


@given(
    st.floats(0, 360), st.floats(-60, 60), st.floats(0.02, 0.6), st.floats(-1.5, 1.5), st.floats(-1.5, 1.5)
)
def test_cone_against_points_of_the_frame(ra, dec, radius, along, up) -> None:
    half = 0.4
    corners = np.array(square(ra, dec, half))
    table = {
        "id": np.array([b"a"]),
        "ra": np.array([ra]),
        "dec": np.array([dec]),
        "corners": corners.ravel(),
        "corners_offsets": np.array([0, 8]),
    }
    centre = ra + along / np.cos(np.radians(dec)), dec + up
    # Points inside: the sides of the polygon are great circles, which a dense grid of this size follows.
    u, v = np.meshgrid(np.linspace(0, 1, 101), np.linspace(0, 1, 101))
    from skytrawl.catalogs.sidecars import unit_vectors

    a, b, c, d = unit_vectors(corners[:, 0], corners[:, 1])
    points = (
        a * ((1 - u) * (1 - v))[..., None]
        + b * (u * (1 - v))[..., None]
        + c * (u * v)[..., None]
        + d * ((1 - u) * v)[..., None]
    ).reshape(-1, 3)
    longitude = np.degrees(np.arctan2(points[:, 1], points[:, 0]))
    latitude = np.degrees(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])))
    nearest = separation(longitude, latitude, *centre).min()
    rows, _ = frames_in_cone(table, centre[0] % 360, centre[1], radius, "s")
    if abs(nearest - radius) > 0.02:
        assert len(rows) == (nearest < radius)
