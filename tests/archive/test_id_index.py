"""The index of ids against a plain dictionary, and one object by its id."""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skytrawl.catalogs import id_index, id_parts, id_spill
from skytrawl.catalogs.archive import Archive, ArchiveWriter, Block
from skytrawl.catalogs.storage import Storage
from skytrawl.errors import ArchiveError, ObjectNotFoundError, ParameterError

KINDS = ("u8", "i8", "S3")


def ids_of(kind: str, numbers: list[int]) -> np.ndarray:
    """Few different ids, so that they repeat; of the extremes, too."""
    if kind == "S3":
        return np.array([b"%x" % number for number in numbers], "S3")
    if kind == "i8":
        return np.array(numbers, "i8") - 40
    return np.array([2**64 - 1 if number == 0 else number for number in numbers], "u8")


numbers = st.lists(st.integers(0, 80), max_size=60)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    generations=st.lists(st.lists(numbers, max_size=4), min_size=1, max_size=3),
    wanted=numbers,
    sizes=st.sampled_from([(2**22, 2**22), (30, 7), (12, 64)]),
)
def test_index_equals_a_dictionary(kind, generations, wanted, sizes) -> None:
    """In memory and through files, of one part and of many."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(id_index, "PART_IDS", sizes[0])
        patch.setattr(id_spill, "BUFFER_IDS", sizes[1])
        patch.setattr(id_parts, "BLOCK", 4)
        patch.setattr(os, "fsync", lambda descriptor: None)  # hundreds of small files
        storage = Storage(folder)
        whole: dict[object, int] = {}
        names: list[str] = []
        for place, batches in enumerate(generations):
            key = 1000 * place
            expected: dict[object, int] = {}
            given_batches = []
            count = 0
            for batch in batches:
                ids, keys = ids_of(kind, batch), np.arange(key, key + len(batch), dtype=np.uint64)
                key += len(batch)
                given_batches.append((ids, keys))
                for name, own in zip(ids.tolist(), keys.tolist(), strict=True):
                    expected[name] = min(own, expected.get(name, own))
                    count += 1
            built = id_index.build(storage, f"g{place}", given_batches, known=names, dtype=kind)
            again = count - len(expected) + len(expected.keys() & whole.keys())
            assert (built.count, built.duplicates) == (len(expected), again)
            assert len(built.ids) == again
            for name, own, other in zip(built.ids.tolist(), built.keys, built.other_keys, strict=True):
                assert expected[name] == own
                assert other >= own or whole[name] == other
            names.append(f"g{place}")
            whole |= expected
        assert not storage.names("staging")
        merged = id_index.compact(storage, names, "merged")
        assert merged.count == len(whole)
        probe = ids_of(kind, wanted)
        for searched in (names, ["merged"]):
            found, keys = id_index.lookup(storage, searched, probe)
            for name, hit, key in zip(probe.tolist(), found.tolist(), keys.tolist(), strict=True):
                assert hit == (name in whole)
                assert key == whole.get(name, 0)


def test_ids_of_other_types(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    keys = np.arange(3, dtype=np.uint64)
    id_index.build(storage, "numbers", [(np.array([1, 2, 2**64 - 1], np.uint64), keys)])
    id_index.build(storage, "texts", [(np.array([b"a", b"bc", b"def"]), keys)])
    found, _ = id_index.lookup(storage, ["numbers"], np.array([-1, 1, 2]))
    assert found.tolist() == [False, True, True]
    found, key = id_index.lookup(storage, ["texts"], np.array([b"def", b"defg", b"bc", b""], "S20"))
    assert (found.tolist(), key.tolist()) == ([True, False, True, False], [2, 0, 1, 0])
    with pytest.raises(ParameterError, match="holds texts"):
        id_index.lookup(storage, ["texts"], np.array([1]))
    with pytest.raises(ParameterError, match="pass a wider dtype"):
        id_index.build(storage, "more", [(np.array([b"a"]), keys[:1]), (np.array([b"aa"]), keys[:1])])
    with pytest.raises(ParameterError, match="2 ids with 3 keys"):
        id_index.build(storage, "more", [(np.arange(2), keys)])
    assert id_index.build(storage, "more", []).count == 0
    assert not id_index.lookup(storage, ["more"], np.arange(2))[0].any()


def test_damage_and_leftovers_are_named(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    ids = np.arange(5000, dtype=np.uint64)

    def interrupted():
        yield ids, ids
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        id_index.build(storage, "a", interrupted())
    storage.write_new("index/a/00000.ids", b"left by a killed build")
    id_index.build(storage, "a", [(ids, ids)])
    with pytest.raises(ArchiveError, match="exists: choose another name"):
        id_index.build(storage, "a", [(ids, ids)])
    with pytest.raises(ArchiveError, match="lacks the generation 'b'"):
        id_index.lookup(storage, ["b"], ids)
    file = tmp_path / "index" / "a" / "00000.ids"
    sound = file.read_bytes()
    blocks = -(-5000 // id_parts.BLOCK)
    for place, words in ((3, "fences"), (len(sound) - 9000, "block 8"), (blocks * 12 + 5, "block 0")):
        id_parts._part_head.cache_clear()
        file.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        with pytest.raises(ArchiveError, match=words):
            id_index.lookup(storage, ["a"], ids)
    file.write_bytes(sound[:-7])
    with pytest.raises(ArchiveError, match="truncated"):
        id_index.lookup(storage, ["a"], ids[-1:])
    file.unlink()
    with pytest.raises(ArchiveError, match="missing"):
        id_index.lookup(storage, ["a"], ids[-1:])
    meta = tmp_path / "index" / "a" / "meta.json"
    meta.write_text(meta.read_text().replace("5000", "5001"))
    with pytest.raises(ArchiveError, match="does not match"):
        id_index.lookup(storage, ["a"], ids)


def test_one_id_costs_one_small_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(tmp_path)
    ids = np.arange(2_000_000, dtype=np.uint64) * np.uint64(11)
    id_index.build(storage, "a", [(part, part) for part in np.split(ids, 4)])
    id_index.lookup(storage, ["a"], ids[:1])
    read: list[int] = []
    real = Storage.read_range
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "read_range", lambda *args: (read.append(args[3]), real(*args))[1])
        found, keys = id_index.lookup(storage, ["a"], ids[77_777:77_778])
    assert found.all()
    assert keys[0] == ids[77_777]
    assert read[-1] == 512 * 16
    assert sum(read) < 32_768  # and the fence of the part, where it was not read before
    best = min(timed(storage, ids[place : place + 1]) for place in range(0, 2_000_000, 20_000))
    assert best < 0.0005


def timed(storage: Storage, ids: np.ndarray) -> float:
    start = time.perf_counter()
    id_index.lookup(storage, ["a"], ids)
    return time.perf_counter() - start


def indexed(writer: ArchiveWriter, blocks: list[Block], name: str, **more: object) -> Archive:
    """Publish blocks with an index of all their objects."""
    batches = [(block.objects["object_id"], block.objects["healpix"]) for block in blocks]
    id_index.build(writer.storage, name, batches)
    for block in blocks:
        writer.write(block, flush=False)
    writer.publish(index=[name])
    return Archive.open(writer.path)


@pytest.mark.parametrize("with_index", [True, False])
def test_every_object_is_found(make_writer, make_block, tmp_path: Path, with_index: bool) -> None:
    blocks = [make_block([2, 0, 5] * 9, first_id=100 * place) for place in range(4)]
    # All within one cell: the key alone does not tell, and the run of equal keys spans inner chunks.
    for block in blocks[:2]:
        block.objects["healpix"][:] = blocks[0].objects["healpix"][0]
    if with_index:
        archive = indexed(make_writer(tmp_path / "a"), blocks, "one")
    else:
        with make_writer(tmp_path / "a") as writer:
            for block in blocks:
                writer.write(block, flush=False)
        archive = Archive.open(tmp_path / "a")
    for block in blocks:
        for row, name in enumerate(block.objects["object_id"].tolist()):
            place = archive.find(name)
            assert place is not None
            assert archive.read(place[0], ["object_id"]).objects["object_id"][place[1]] == name
            one = archive.light_curve(str(name))
            np.testing.assert_array_equal(
                one.observations["value"], block.select(slice(row, row + 1)).observations["value"]
            )
            assert set(one.objects) == {"object_id", "ra", "dec", "healpix"}
    for name in (27, 10**9, -1, "x", b"", 2**64, "1.5"):
        assert archive.find(name) is None
    with pytest.raises(ObjectNotFoundError, match=f"no object 27 in {tmp_path}"):
        archive.light_curve(27)
    assert set(archive.light_curve(101, ["time"]).observations) == {"time"}


def test_texts_and_large_numbers(make_writer, make_block, tmp_path: Path) -> None:
    for kind, names in (("S6", [b"a", b"bb", b"ccc"]), ("uint64", [0, 5, 2**64 - 1])):
        block = make_block([1, 2, 3])
        block.objects["object_id"] = np.array(names, kind)
        writer = make_writer(tmp_path / kind, dtypes={"objects/object_id": kind})
        archive = indexed(writer, [block], "one")
        for row, name in enumerate(names):
            assert archive.find(name) == (0, row)
            assert archive.find(name.decode() if isinstance(name, bytes) else str(name)) == (0, row)
        assert archive.find("longer than that") is None


def test_an_index_of_something_else_is_an_error(make_writer, make_block, tmp_path: Path) -> None:
    writer = make_writer(tmp_path / "a")
    id_index.build(writer.storage, "wrong", [(np.array([5], np.uint64), np.array([77], np.uint64))])
    writer.write(make_block([1] * 10))
    writer.publish(index=["wrong"])
    archive = Archive.open(tmp_path / "a")
    assert archive.find(3) is None
    with pytest.raises(ArchiveError, match="where no partition holds it"):
        archive.find(5)
