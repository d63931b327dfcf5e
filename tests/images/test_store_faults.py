"""Damage, death and a full disk: a frame is complete or absent, and nothing damaged is read as values."""

import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.catalogs.images.frame import Frame
from skytrawl.catalogs.images.store import FrameStore
from skytrawl.errors import CorruptShardError, SkytrawlError

SPAWN = multiprocessing.get_context("spawn")


def frame_of(name: str, value: int = 0, side: int = 600) -> Frame:
    """A frame whose every value tells which it is."""
    generator = np.random.default_rng(value)
    noise = generator.normal(0, 1, (side, side)).astype(np.float32)
    arrays = {"image": noise + value, "mask": np.full((side, side), value % 60_000, np.uint16)}
    return Frame(name, arrays, {"value": value}, {"value": value})


def values_of(store: FrameStore, name: str) -> int:
    """Read a frame and check that it is one frame, whole."""
    frame = store.read(name)
    value: int = frame.attrs["value"]
    np.testing.assert_array_equal(frame.arrays["image"], frame_of(name, value).arrays["image"])
    assert (frame.arrays["mask"] == value % 60_000).all()
    return value


def truncate(data: bytearray) -> bytearray:
    return data[: len(data) // 2]


def flip(place: float) -> Callable[[bytearray], bytearray]:
    def change(data: bytearray) -> bytearray:
        data[int(place * (len(data) - 1))] ^= 16
        return data

    return change


DAMAGES: dict[str, Callable[[bytearray], bytearray | None]] = {
    "missing": lambda data: None,
    "empty": lambda data: bytearray(),
    "truncated": truncate,
    "one byte lost": lambda data: data[:-1],
    "first byte": flip(0.0),
    "inside": flip(0.3),
    "more inside": flip(0.77),
    "index": flip(0.9999),
    "last byte": flip(1.0),
    "zeros": lambda data: bytearray(len(data)),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
@pytest.mark.parametrize("file", ["image/c/0/0", "quantised/c/0/0", "mask/c/0/0"])
def test_damaged_planes_are_errors(tmp_path: Path, damage: str, file: str) -> None:
    store = FrameStore.create(tmp_path / "s", "exposures")
    frame = frame_of("a.1")
    frame.arrays["quantised"] = frame.arrays["image"]
    store.write(frame, quantise={"quantised": 0.25})
    store.publish()
    name = file.partition("/")[0]
    path = store.folder("a.1") / file
    changed = DAMAGES[damage](bytearray(path.read_bytes()))
    path.unlink() if changed is None else path.write_bytes(changed)
    # Whatever is read in windows: an error or the right values, and an error for the whole.
    opened = FrameStore.open(store.path)
    with pytest.raises(CorruptShardError, match=rf"frame a\.1, {name}: .*{file}.*Restore"):
        opened.read("a.1")
    intact = 0
    for y in range(0, 600, 150):
        try:
            part = opened.read("a.1", ["image", "mask"], window=(y, y + 150, 0, 600))
        except CorruptShardError:
            continue
        intact += 1
        np.testing.assert_array_equal(part.arrays["image"], frame.arrays["image"][y : y + 150])
        np.testing.assert_array_equal(part.arrays["mask"], frame.arrays["mask"][y : y + 150])
    assert intact < 4 or name == "quantised"
    # The remedy works: delete and write again.
    opened.delete("a.1")
    opened.write(frame, quantise={"quantised": 0.25})
    assert len(opened.read("a.1").arrays) == 3


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "first byte", "inside", "zeros"])
@pytest.mark.parametrize("file", ["zarr.json", "image/zarr.json", "mask/zarr.json"])
def test_damaged_records_are_errors(tmp_path: Path, damage: str, file: str) -> None:
    store = FrameStore.create(tmp_path / "s", "exposures")
    store.write(frame_of("a"))
    store.publish()
    path = store.folder("a") / file
    changed = DAMAGES[damage](bytearray(path.read_bytes()))
    path.unlink() if changed is None else path.write_bytes(changed)
    with pytest.raises(CorruptShardError, match=rf"frame a.*{file}"):
        FrameStore.open(store.path).read("a")


def test_a_frame_that_vanished_is_an_error(tmp_path: Path) -> None:
    store = FrameStore.create(tmp_path / "s", "exposures")
    store.write(frame_of("a"))
    store.publish()
    shutil.rmtree(store.folder("a"))
    with pytest.raises(CorruptShardError, match=r"frame a: .*missing"):
        FrameStore.open(store.path).read("a")


@pytest.mark.parametrize("damage", ["missing", "truncated", "inside", "zeros"])
def test_damaged_tables_are_errors(tmp_path: Path, damage: str) -> None:
    store = FrameStore.create(tmp_path / "s", "exposures")
    store.write(frame_of("a"))
    store.publish()
    files = [*store.path.rglob("versions/*.json"), *store.path.glob("tables/*/**/c/0")]
    files += store.path.glob("tables/**/zarr.json")
    assert len(files) == 10
    for path in files:
        before = path.read_bytes()
        changed = DAMAGES[damage](bytearray(before))
        path.unlink() if changed is None else path.write_bytes(changed)
        with pytest.raises(SkytrawlError, match=r"versions|tables|no version 1"):
            _ = FrameStore.open(store.path, 1).table
        path.write_bytes(before)


def write_many(path: str, first: int, count: int) -> None:  # runs in another process
    store = FrameStore.open(path)
    for number in range(first, first + count):
        store.write(frame_of(f"f{number}", number, side=300), flush=False)


def test_processes_write_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "s"
    FrameStore.create(path, "exposures")
    # Every frame is written by two of them, and every process writes frames of its own too.
    children = [SPAWN.Process(target=write_many, args=(str(path), first, 20)) for first in (0, 10, 20)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
        assert child.exitcode == 0
    store = FrameStore.open(path)
    assert sorted(store.written()) == sorted(f"f{number}" for number in range(40))
    store.publish()
    store = FrameStore.open(path)
    for number in range(40):
        frame = store.read(f"f{number}")
        expected = frame_of("", number, side=300).arrays["image"]
        np.testing.assert_array_equal(frame.arrays["image"], expected)
    assert not list((path / "partial").iterdir())


def replace_forever(path: str, seed: int, ready: str) -> None:  # runs in another process until it is killed
    os.fsync = lambda descriptor: None  # a killed process loses nothing of the page cache; more turns
    store = FrameStore.open(path)
    Path(ready).touch()
    for turn in range(10**6):
        store.write(frame_of(f"f{turn % 3}", 1000 * seed + turn))


def test_kill_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "s"
    store = FrameStore.create(path, "exposures")
    moments = random.Random(5)
    seen: set[int] = set()
    for seed in range(1, 6):
        ready = tmp_path / f"ready-{seed}"
        child = SPAWN.Process(target=replace_forever, args=(str(path), seed, str(ready)))
        child.start()
        deadline = time.time() + 60
        while not ready.exists() and time.time() < deadline:
            time.sleep(0.01)
        until = time.time() + moments.uniform(0.05, 0.6)
        # Read while frames are replaced: whole frames of one value, always.
        while time.time() < until:
            for name in store.written():
                seen.add(values_of(store, name))
        assert child.is_alive()
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        for name in store.written():
            seen.add(values_of(store, name))
    assert len(seen) > 12
    left = list((path / "partial").iterdir())
    assert store.sweep(3600) == 0
    assert store.sweep(-1) == len(left)
    assert not list((path / "partial").iterdir())
    assert store.publish() == 1


FULL = """
import sys
import numpy as np
from skytrawl.catalogs.images.frame import Frame
from skytrawl.catalogs.images.store import FrameStore
store = FrameStore.create(sys.argv[1], "exposures")
generator = np.random.default_rng(0)
written = 0
try:
    for number in range(100):
        image = generator.normal(size=(300, 300))
        store.write(Frame(f"f{number}", {"image": image, "more": image}))
        written += 1
except OSError as error:
    print(written, error.errno, error.filename, sep="|")
whole = store.written() == sorted(f"f{n}" for n in range(written))
print(len(list((store.path / "partial").iterdir())), whole)
for name in store.written():
    assert len(store.read(name).arrays) == 2
"""


def test_full_disk_names_the_file(tmp_path: Path) -> None:
    mount = tmp_path / "disk"
    mount.mkdir()
    inside = f"mount -t tmpfs -o size=4m tmpfs {mount} && exec {sys.executable} -c '{FULL}' {mount}/s"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", inside], capture_output=True, text=True)
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no file system of its own can be mounted: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    said, left = done.stdout.splitlines()
    written, number, file = said.split("|")
    assert 1 <= int(written) < 5
    assert int(number) == 28  # ENOSPC
    assert file.startswith(f"{mount}/s/frames/f{written}/")
    assert left == "0 True"


def limit_files(size: int) -> Any:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails with EFBIG then
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def write_limited(path: str, results: Any) -> None:  # runs in another process
    limit_files(100_000)
    store = FrameStore.open(path)
    try:
        store.write(frame_of("a"))
    except OSError as error:
        results.put((error.errno, error.filename, store.written(), os.listdir(store.path / "partial")))


def test_a_file_that_may_not_grow_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s"
    FrameStore.create(path, "exposures")
    results = SPAWN.Queue()
    child = SPAWN.Process(target=write_limited, args=(str(path), results))
    child.start()
    number, file, written, left = results.get(timeout=60)
    child.join()
    assert number == 27  # EFBIG
    assert file == str(path / "frames/a/image/c/0/0")
    assert (written, left) == ([], [])


def test_every_digit_of_the_records_counts(tmp_path: Path) -> None:
    store = FrameStore.create(tmp_path / "s", "exposures")
    store.write(frame_of("a", 7, side=40), quantise={"image": 0.25})
    for file in ("zarr.json", "image/zarr.json"):
        path = store.folder("a") / file
        before = path.read_bytes()
        digits = [place for place, byte in enumerate(before) if chr(byte).isdigit()]
        assert len(digits) > 40
        for place in digits:
            changed = bytearray(before)
            changed[place] = ord("1") + (changed[place] - ord("0")) % 9
            if json.loads(changed) == json.loads(before):
                continue  # the last digit of a float beyond its precision
            path.write_bytes(changed)
            with pytest.raises(CorruptShardError, match=file):
                store.read("a")
        path.write_bytes(before)
    store.read("a")
