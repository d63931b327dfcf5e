"""The ledger: what counts as done, whatever was torn, packed or written twice."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from skytrawl.catalogs.ledger import ENTRY, Entry, Failure, Failures, Ledger, decode, encode
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.versions import PARTITION


def entry(slot: int, content: bytes = b"c", values: str = "v", finished: float = 1.0) -> Entry:
    return Entry(slot, content, 10, 100, values, 0.5, finished, "host", "f" * 16, "cpu")


def ledger(path: Path) -> Ledger:
    return Ledger(Storage(path), "ledger")


def test_entries_come_back(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    assert book.read() == {}
    book.record([entry(1), entry(2)])
    book.record([entry(0)])
    assert book.read() == {(slot, b"c"): entry(slot) for slot in range(3)}
    assert book.table()["object_slot"].tolist() == [0, 1, 2]


def test_key_is_slot_and_content(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    book.record([entry(1, b"old"), entry(2, b"b")])
    table = np.zeros(3, PARTITION)
    table["object_slot"] = 1, 2, 3
    table["content"] = b"new", b"b", b"c"
    assert book.done(table).tolist() == [False, True, False]


def test_packing_keeps_every_entry_and_is_idempotent(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    for slot in range(30):
        book.record([entry(slot)])
    before = book.read()
    assert book.pack(31) == 0
    assert book.pack(30) == 30
    assert book.loose_files() == 0
    assert book.pack(1) == 0
    assert book.read() == before == ledger(tmp_path).read()


def test_crash_between_segment_and_deletion_counts_once(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    book.record([entry(5, finished=1.0)])
    data = {key: book.storage.read(key) for key in book.storage.list("ledger/records/")}
    book.pack(1)
    for key, content in data.items():
        book.storage.write_new(key, content)
    book.record([entry(5, finished=9.0)])  # by a worker that came back
    assert ledger(tmp_path).read() == {(5, b"c"): entry(5, finished=1.0)}
    assert book.sweep() == 2
    assert book.loose_files() == 0
    assert len(book.read()) == 1


def test_torn_files_are_not_entries(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    book.record([entry(1)])
    whole = encode(np.array([entry(2).row()], ENTRY))
    for number, data in enumerate([b"", whole[:20], whole[:-1], b"x" * len(whole), whole[:-1] + b"\1"]):
        book.storage.write_new(f"ledger/records/torn-{number}", data)
    (tmp_path / "ledger/records/9-abc.1234.partial").write_bytes(whole)
    assert set(book.read()) == {(1, b"c")}
    assert len(book.torn) == 5
    assert book.pack(1) == 1
    assert book.sweep() == 5
    assert set(book.read()) == {(1, b"c")}


def test_decode_refuses_other_bytes() -> None:
    with pytest.raises(ValueError, match="too short"):
        decode(b"abc")
    with pytest.raises(ValueError, match="not a whole"):
        decode(encode(np.zeros(2, ENTRY))[:-4])


def test_readers_beside_a_packing_driver_miss_nothing(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    for slot in range(200):
        book.record([entry(slot)])
    stop, short = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            found = len(ledger(tmp_path).read())
            if found < 200:
                short.append(found)

    thread = threading.Thread(target=read)
    thread.start()
    for slot in range(200, 260):
        book.record([entry(slot)])
        book.pack(1)
    stop.set()
    thread.join()
    assert short == []


def test_hundred_thousand_entries_are_read_fast(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    rows = np.zeros(100_000, ENTRY)
    rows["object_slot"] = np.arange(100_000)
    rows["content"] = b"c"
    for start in range(0, 100_000, 4096):
        book.storage.write_new(f"ledger/segments/{start:020d}", encode(rows[start : start + 4096]))
    fresh = ledger(tmp_path)
    began = time.perf_counter()
    assert len(fresh.keys()) == 100_000
    assert time.perf_counter() - began < 1.5  # measured 0.15 s; other tests share the cores


def test_failures(tmp_path: Path) -> None:
    failures = Failures(Storage(tmp_path), "failures")
    assert failures.read() == {}
    one = Failure(3, 7, "abc", "OSError: x", "Traceback", 3, "host", 1.0)
    failures.record(one)
    failures.record(one)
    assert failures.read() == {(7, b"abc"): one}
    (tmp_path / "failures/torn.json").write_text("{")
    assert failures.read() == {(7, b"abc"): one}
    failures.clear([(7, b"abc"), (8, b"x")])
    assert failures.read() == {}
