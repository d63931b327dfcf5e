"""Arrays of slots: what was written comes back, for this reader and for Zarr; damage never passes."""

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skytrawl.catalogs.codecs import CODECS, Coder, pipeline
from skytrawl.catalogs.shards import SlotFile, SlotLayout
from skytrawl.catalogs.storage import Storage
from skytrawl.errors import ArchiveError, CorruptShardError

DTYPES = ("float64", "float32", "uint8", "int8", "bool", "uint32", "int64", "uint64", "S7")
LAYOUT = SlotLayout(32, 8)


def sample(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    numbers = generator.integers(0, 100, shape)
    return numbers.astype(dtype) if dtype[0] != "S" else numbers.astype("U3").astype(dtype)


def open_with_zarr(storage: Storage, name: str) -> zarr.Array:
    with warnings.catch_warnings():
        # Fixed-width bytes have no final Zarr v3 specification yet.
        warnings.filterwarnings("ignore", message=".*does not have a Zarr V3 specification.*")
        return zarr.open_array(storage.path(name), mode="r+")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("codec", CODECS)
def test_round_trip_and_zarr_reads_it(tmp_path: Path, dtype: str, codec: str) -> None:
    storage = Storage(tmp_path)
    attrs = {"units": "mag"}
    made = SlotFile.create(storage, "v", dtype, LAYOUT, ["object"], codec=codec, attrs=attrs)
    values = sample(dtype, (75,))
    made.write(4, values)
    found = SlotFile.open(storage, "v")
    assert (found.dtype, found.layout, found.dims, found.attrs) == (values.dtype, LAYOUT, ("object",), attrs)
    np.testing.assert_array_equal(found.read(4, 0, 75), values)
    np.testing.assert_array_equal(found.read(4, 30, 71), values[30:71])
    foreign = open_with_zarr(storage, "v")
    assert foreign.shape == (2**31 * 32,)
    assert foreign.metadata.dimension_names == ("object",)
    np.testing.assert_array_equal(foreign[128 : 128 + 75], values)
    np.testing.assert_array_equal(foreign[128 + 75 : 128 + 96], np.full(21, made.fill, values.dtype))


@pytest.mark.parametrize("codec", CODECS)
def test_what_zarr_writes_is_read(tmp_path: Path, codec: str) -> None:
    storage = Storage(tmp_path)
    made = SlotFile.create(storage, "v", "float32", LAYOUT, ["object"], codec=codec)
    values = sample("float32", (32,), seed=1) + 1
    open_with_zarr(storage, "v")[64:96] = values
    np.testing.assert_array_equal(made.read(2, 0, 32), values)


def test_metadata_is_what_zarr_would_write(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    SlotFile.create(storage, "v", "float32", LAYOUT, ["object"], codec="float")
    foreign = open_with_zarr(storage, "v").metadata
    made = zarr.create_array(
        {},
        shape=(2**31 * 32,),
        shards=(32,),
        chunks=(8,),
        dtype="float32",
        fill_value=np.nan,
        dimension_names=["object"],
        compressors=[
            zarr.codecs.BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=4),
            zarr.codecs.Crc32cCodec(),
        ],
    ).metadata
    # The text, because NaN differs from itself.
    assert str(foreign.to_dict()) == str(made.to_dict())


def test_rows_with_more_axes(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    made = SlotFile.create(storage, "maps", "uint32", LAYOUT, ["object", "dt", "dm"], tail=(3, 5))
    values = sample("uint32", (40, 3, 5))
    made.write(0, values)
    np.testing.assert_array_equal(SlotFile.open(storage, "maps").read(0, 7, 33), values[7:33])
    np.testing.assert_array_equal(open_with_zarr(storage, "maps")[:40], values)


@given(
    values=hnp.arrays(np.float64, st.integers(0, 100), elements=st.floats(width=64)),
    cut=st.tuples(st.integers(0, 100), st.integers(0, 100)),
    slot=st.integers(0, 2**31 - 8),
)
def test_any_bits_come_back(tmp_path_factory: pytest.TempPathFactory, values, cut, slot) -> None:
    storage = Storage(tmp_path_factory.mktemp("any"))
    made = SlotFile.create(storage, "v", "float64", LAYOUT, ["object"], codec="time")
    made.write(slot, values, flush=False)
    low, high = sorted(min(edge, len(values)) for edge in cut)
    # Bits, because NaN payloads and negative zeros are values as delivered.
    assert made.read(slot, low, high).tobytes() == values[low:high].tobytes()


@pytest.mark.parametrize("dtype", ["float64", "uint8", "bool", "S4"])
def test_fill_values_are_stored_and_their_absence_is_noticed(tmp_path: Path, dtype: str) -> None:
    storage = Storage(tmp_path)
    made = SlotFile.create(storage, "v", dtype, LAYOUT, ["object"])
    values = np.full(20, made.fill, dtype)
    made.write(0, values)
    assert made.read(0, 0, 20).tobytes() == values.tobytes()
    storage.delete(made.key(0))
    with pytest.raises(CorruptShardError, match="missing"):
        made.read(0, 0, 20)


def test_a_missing_inner_chunk_is_an_error(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    made = SlotFile.create(storage, "v", "float32", LAYOUT, ["object"])
    values = np.ones(32, np.float32)
    values[8:16] = np.nan
    # Zarr leaves out the chunk that equals the fill value.
    open_with_zarr(storage, "v")[:32] = values
    np.testing.assert_array_equal(made.read(0, 16, 32), values[16:])
    with pytest.raises(CorruptShardError, match="inner chunk 1 is missing"):
        made.read(0, 0, 32)


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    """Each bit of each byte of a shard: an error, or (never here) the same values."""
    storage = Storage(tmp_path)
    for codec in ("time", "float"):
        made = SlotFile.create(storage, codec, "float32", LAYOUT, ["object"], codec=codec)
        values = sample("float32", (30,))
        made.write(0, values)
        sound = storage.read(made.key(0))
        file = storage.path(made.key(0))
        for position in range(len(sound)):
            damaged = bytearray(sound)
            damaged[position] ^= 1 << (position % 8)
            file.write_bytes(damaged)
            with pytest.raises(CorruptShardError):
                made.read(0, 0, 30)


@given(position=st.integers(0), mask=st.integers(1, 255), dtype=st.sampled_from(DTYPES))
def test_flipped_bits_at_random(tmp_path_factory: pytest.TempPathFactory, position, mask, dtype) -> None:
    storage = Storage(tmp_path_factory.mktemp("flip"))
    made = SlotFile.create(storage, "v", dtype, LAYOUT, ["object"])
    values = sample(dtype, (70,))
    made.write(0, values, flush=False)
    key = made.key(position % 3)
    damaged = bytearray(storage.read(key))
    damaged[position % len(damaged)] ^= mask
    storage.path(key).write_bytes(damaged)
    with pytest.raises(CorruptShardError):
        made.read(0, 0, 70)


def test_every_truncation_is_found_and_named(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    made = SlotFile.create(storage, "v", "float64", LAYOUT, ["object"])
    made.write(5, sample("float64", (50,)))
    sound = storage.read(made.key(6))
    for length in range(len(sound)):
        storage.path(made.key(6)).write_bytes(sound[:length])
        with pytest.raises(CorruptShardError, match=r"v, partition 3, slot 6: .*empty|truncated|outside"):
            made.read(5, 0, 50, partition=3)
    np.testing.assert_array_equal(made.read(5, 0, 32), sample("float64", (50,))[:32])


def test_large_shards_are_read_in_part(tmp_path: Path) -> None:
    """The path that reads the index and a few chunks, which small shards never take."""
    storage = Storage(tmp_path)
    made = SlotFile.create(storage, "v", "float64", SlotLayout(262_144, 4096), ["observation"])
    values = np.random.default_rng(0).random(200_000)
    made.write(0, values)
    size = storage.size(made.key(0)) or 0
    assert size > 300_000
    for low, high in ((0, 5), (4095, 4097), (150_000, 160_001), (199_999, 200_000), (8192, 12_288)):
        np.testing.assert_array_equal(made.read(0, low, high), values[low:high])
    file = storage.path(made.key(0))
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(CorruptShardError, match="index"):
        made.read(0, 0, 5)
    with pytest.raises(CorruptShardError, match="missing"):
        made.read(1, 0, 5)
    file.write_bytes(b"")
    with pytest.raises(CorruptShardError, match="0 bytes"):
        made.read(0, 0, 5)


def test_wrong_values_are_refused(tmp_path: Path) -> None:
    made = SlotFile.create(Storage(tmp_path), "v", "float64", LAYOUT, ["object"], tail=(2,))
    with pytest.raises(ValueError, match="shape"):
        made.write(0, np.zeros(4))
    with pytest.raises(ValueError, match="float32"):
        made.write(0, np.zeros((4, 2), np.float32))
    with pytest.raises(ArchiveError, match="multiple"):
        SlotLayout(10, 3)
    with pytest.raises(FileExistsError):
        SlotFile.create(made.storage, "v", "float64", LAYOUT, ["object"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"sharding_indexed"', '"other"'),
        ('"blosc"', '"gzip"'),
        ('"crc32c"', '"adler32"'),
        ('"end"', '"start"'),
        ('"float64"', '"complex128"'),
        ('"zarr_format": 3', '"zarr_format": 2'),
        ("{", "{{"),
    ],
)
def test_foreign_metadata_is_refused(tmp_path: Path, before: str, after: str) -> None:
    storage = Storage(tmp_path)
    SlotFile.create(storage, "v", "float64", LAYOUT, ["object"])
    file = storage.path("v/zarr.json")
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))
    with pytest.raises(ArchiveError, match=r"v/zarr\.json"):
        SlotFile.open(storage, "v")


def test_codecs_refuse_what_they_do_not_know() -> None:
    with pytest.raises(ValueError, match="unknown codec"):
        pipeline("best", np.dtype("f8"))
    with pytest.raises(ValueError, match="crc32c"):
        Coder([{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 1}}])
    with pytest.raises(ValueError, match="little-endian"):
        Coder([{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "crc32c"}])
    plain = Coder([{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}])
    values, out = np.arange(5.0), np.empty(5)
    encoded = np.frombuffer(b"".join(plain.encode(values)), np.uint8)
    plain.decode(encoded, out)
    np.testing.assert_array_equal(out, values)
    with pytest.raises(ValueError, match="no checksum"):
        plain.decode(encoded[:3], out)


def test_pickles_small(tmp_path: Path) -> None:
    made = SlotFile.create(Storage(tmp_path), "v", "float64", LAYOUT, ["object"])
    made.write(0, np.arange(10.0))
    copy = pickle.loads(pickle.dumps(made))
    np.testing.assert_array_equal(copy.read(0, 0, 10), np.arange(10.0))
