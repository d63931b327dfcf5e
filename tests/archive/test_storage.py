"""Atomic operations on keys."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from skytrawl.catalogs.storage import Storage


def test_read_back_in_pieces_and_ranges(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.replace("a/b/c", [b"0123", b"", b"456789"])
    assert storage.read("a/b/c") == b"0123456789"
    assert storage.read_range("a/b/c", 2, 3) == b"234"
    assert storage.read_range("a/b/c", -4, 100) == b"6789"
    assert storage.read_range("a/b/c", -400, 2) == b"01"
    assert storage.size("a/b/c") == 10
    assert storage.size("a/b") is not None
    assert storage.size("a/x") is None
    assert storage.size("a/b/c/d") is None
    assert storage.list() == storage.list("a") == ["a/b/c"]
    assert storage.names("a/b") == ["c"]
    assert storage.names("nothing") == []


def test_absent_key(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "not made yet")
    with pytest.raises(FileNotFoundError):
        storage.read("a")
    assert not storage.exists("a")
    assert storage.list() == []
    storage.delete("a")


@pytest.mark.parametrize("key", ["", "/a", "a//b", "../a", "a/..", "a/.", "a.partial"])
def test_keys_stay_below_the_root(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="storage key"):
        Storage(tmp_path).path(key)


def test_creation_is_exclusive_among_threads(tmp_path: Path) -> None:
    storage = Storage(tmp_path)

    def create(number: int) -> int | None:
        try:
            storage.write_new("one", str(number).encode())
        except FileExistsError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(create, range(64)) if number is not None]
    assert len(winners) == 1
    assert storage.read("one") == str(winners[0]).encode()
    assert storage.list() == ["one"]
    assert os.listdir(tmp_path) == ["one"]


def test_unfinished_writes_are_invisible_and_swept(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.replace("c/0", b"x")
    left = tmp_path / "c" / "1.abc.partial"
    left.write_bytes(b"half")
    assert storage.list() == ["c/0"]
    assert storage.names("c") == ["0"]
    assert storage.sweep(3600) == 0
    os.utime(left, (time.time() - 7200,) * 2)
    assert storage.sweep(3600) == 1
    assert os.listdir(tmp_path / "c") == ["0"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.replace("a", b"old")

    def pieces():
        yield b"new"
        raise RuntimeError("source broke")

    with pytest.raises(RuntimeError, match="source broke"):
        storage.replace("a", pieces())
    assert storage.read("a") == b"old"
    assert os.listdir(tmp_path) == ["a"]
