"""An ingest that was stopped anywhere goes on, and gives the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.catalogs import versions
from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.sky import order_key
from skytrawl.catalogs.storage import Storage
from skytrawl.errors import IngestError
from skytrawl.intake import gather, scatter
from skytrawl.intake.driver import append, ingest
from skytrawl.intake.journal import Journal

ZTF: dict[str, Any] = {"survey": "ztf", "partition_observations": 120}


class Stopped(Exception):
    """As a power failure would."""


def stop_at(nth: int) -> Callable[[str, int, int], None]:
    """A progress that raises at its n-th call."""
    left = [nth]

    def progress(stage: str, done: int, total: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Stopped(f"{stage} {done} of {total}")

    return progress


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Stage and number of every record that is written."""
    found: list[tuple[str, str]] = []
    write = Journal.write

    def watched(self: Journal, stage: str, number: int | str, record: Any) -> Any:
        found.append((stage, str(number)))
        return write(self, stage, number, record)

    monkeypatch.setattr(Journal, "write", watched)
    return found


@pytest.fixture(scope="module")
def files(kit: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Objects that scatter over borders, in three files."""
    folder = tmp_path_factory.mktemp("files")
    table = kit.table(8, n_objects=40, scatter=3.0)
    return [
        kit.save(kit.picked(table, slice(number, None, 3)), folder / f"{number}.parquet")
        for number in range(3)
    ]


def finish(make: Callable[[Any], Any]) -> tuple[Any, int]:
    """Repeat a command that is stopped at its second, third, ... sign of progress until it ends."""
    for nth in range(2, 200):
        try:
            return make(stop_at(nth)), nth - 2
        except Stopped:
            continue
    raise AssertionError("it never ends")


def test_stopped_again_and_again(
    kit: Any, files: list[Path], tmp_path: Path, tasks: list[tuple[str, str]]
) -> None:
    whole = ingest(files, tmp_path / "one.zarr", **ZTF)
    expected = list(tasks)
    assert {stage for stage, _ in expected} == {"pieces", "buckets", "extracted", "again"}
    tasks.clear()
    path = tmp_path / "a.zarr"
    report, stops = finish(lambda progress: ingest(files, path, progress=progress, **ZTF))
    assert stops > 5
    assert sorted(tasks) == sorted(expected)  # none twice
    kit.sound(path)
    kit.same(kit.objects(path), kit.objects(tmp_path / "one.zarr"))
    assert (report.rows_kept, report.dropped, report.warnings) == (
        whole.rows_kept,
        whole.dropped,
        whole.warnings,
    )
    assert report.examples == whole.examples


def test_an_append_stopped_again_and_again(
    kit: Any, files: list[Path], tmp_path: Path, tasks: list[tuple[str, str]]
) -> None:
    for name in ("one", "a"):
        ingest(files[0], tmp_path / f"{name}.zarr", **ZTF)
    tasks.clear()
    whole = append(files[1:], tmp_path / "one.zarr")
    expected = list(tasks)
    tasks.clear()
    path = tmp_path / "a.zarr"
    before = kit.objects(path)
    seen = []

    def go(progress: Any) -> Any:
        seen.append(kit.objects(path) == before)
        return append(files[1:], path, progress=progress)

    report, stops = finish(go)
    assert stops > 5
    assert all(seen)
    assert sorted(tasks) == sorted(expected)
    kit.sound(path)
    kit.same(kit.objects(path), kit.objects(tmp_path / "one.zarr"))
    assert (report.rows_kept, report.dropped, report.version) == (whole.rows_kept, whole.dropped, 2)


def test_the_short_way_stopped(kit: Any, tmp_path: Path, tasks: list[tuple[str, str]]) -> None:
    table = kit.table(9)
    first = {name: row for row, name in reversed(list(enumerate(table["object"].tolist())))}
    rows = [first[name] for name in table["object"].tolist()]
    keys = order_key(table["ra"][rows], table["dec"][rows], table["object"])
    ordered = kit.picked(table, np.lexsort((table["object"], keys)))
    file = kit.save(ordered, tmp_path / "t.parquet", row_group_size=60)
    _, stops = finish(lambda progress: ingest(file, tmp_path / "a.zarr", progress=progress, **ZTF))
    assert stops > 3
    assert {stage for stage, _ in tasks} == {"direct"}
    assert len(set(tasks)) == len(tasks)
    ingest(file, tmp_path / "one.zarr", survey="ztf")
    kit.sound(tmp_path / "a.zarr")
    kit.same(kit.objects(tmp_path / "a.zarr"), kit.objects(tmp_path / "one.zarr"))


@pytest.mark.parametrize("place", ["write_spill", "write_block", "publish", "settle_strays", "index"])
def test_stopped_inside_a_task(
    kit: Any, files: list[Path], tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the work, before its record."""
    from skytrawl.catalogs import id_index
    from skytrawl.intake import stages

    owner, name = {
        "write_spill": (scatter, "write_spill"),
        "write_block": (gather, "write_block"),
        "settle_strays": (stages, "settle_strays"),
        "index": (id_index, "build"),
        "publish": (stages.ArchiveWriter, "publish"),
    }[place]
    real = getattr(owner, name)
    calls = []

    def broken(*words: Any, **others: Any) -> Any:
        calls.append(name)
        if len(calls) == 1 and place == "publish":
            raise Stopped(name)
        found = real(*words, **others)
        if len(calls) == 1:
            raise Stopped(name)
        return found

    monkeypatch.setattr(owner, name, broken)
    path = tmp_path / "a.zarr"
    with pytest.raises(Stopped):
        ingest(files, path, **ZTF)
    assert not versions.list_versions(Storage(path))
    ingest(files, path, **ZTF)
    kit.sound(path)
    monkeypatch.undo()
    ingest(files, tmp_path / "one.zarr", survey="ztf")
    kit.same(kit.objects(path), kit.objects(tmp_path / "one.zarr"))


def test_other_words_are_refused_until_restart(kit: Any, files: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    with pytest.raises(Stopped):
        ingest(files, path, progress=stop_at(5), **ZTF)
    left = sorted(path.rglob("*"))
    for sources, words in (
        (files, {"duplicates": "keep"}),
        (files[:2], {}),
        (files, {"photometry": "total"}),
    ):
        with pytest.raises(IngestError, match=r"unfinished ingest .* restart=True"):
            ingest(sources, path, **ZTF | words)
    assert sorted(path.rglob("*")) == left
    report = ingest(files[:2], path, restart=True, **ZTF)
    kit.sound(path)
    ingest(files[:2], tmp_path / "one.zarr", survey="ztf")
    kit.same(kit.objects(path), kit.objects(tmp_path / "one.zarr"))
    assert report.version == 1
    for words in ({}, {"restart": True}):
        with pytest.raises(IngestError, match="exists already"):
            ingest(files[:2], path, **ZTF | words)
    assert Archive.open(path).version.number == 1


def test_restart_leaves_alone_what_is_no_ingest(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "mine/staging").mkdir(parents=True)
    (tmp_path / "mine/thesis.tex").write_text("years of work")
    with pytest.raises(IngestError, match="exists already"):
        ingest(files, tmp_path / "mine", restart=True, **ZTF)
    assert (tmp_path / "mine/thesis.tex").read_text() == "years of work"


def test_a_file_that_changed_is_other_input(kit: Any, tmp_path: Path) -> None:
    table = kit.table(1)
    file = kit.save(table, tmp_path / "t.parquet")
    with pytest.raises(Stopped):
        ingest(file, tmp_path / "a.zarr", progress=stop_at(4), **ZTF)
    kit.save(kit.picked(table, slice(0, 100)), file)
    with pytest.raises(IngestError, match="unfinished ingest"):
        ingest(file, tmp_path / "a.zarr", **ZTF)


def test_a_torn_spill_file_is_named(files: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    with pytest.raises(Stopped):
        ingest(files, path, progress=stop_at(6), **ZTF)
    (spill,) = path.glob("staging/*/spill/00000001-0000")
    spill.write_bytes(spill.read_bytes()[:-7])
    with pytest.raises(IngestError, match=r"00000001-0000 has .* bytes instead of .*: remove"):
        ingest(files, path, **ZTF)


def test_tables_in_memory_are_known_by_their_values(
    kit: Any, tmp_path: Path, tasks: list[tuple[str, str]]
) -> None:
    """An address may be that of another table a moment later."""
    import pandas as pd

    table = kit.table(5)
    halves = [kit.picked(table, slice(start, None, 2)) for start in (0, 1)]
    path = tmp_path / "a.zarr"
    frame = pd.DataFrame(halves[0])
    with pytest.raises(Stopped):
        ingest(frame, path, progress=stop_at(4), **ZTF)
    done = list(tasks)
    assert done
    with pytest.raises(IngestError, match="unfinished ingest"):
        ingest(frame.assign(mag=frame["mag"] + 1), path, **ZTF)
    ingest(frame.copy(), path, **ZTF)
    assert len(set(tasks)) == len(tasks)
    before = kit.objects(path)
    night = {name: column[:50].copy() for name, column in halves[1].items()}
    with pytest.raises(Stopped):
        append(night, path, progress=stop_at(4))
    for name, column in halves[1].items():  # the same object, filled with other values
        night[name] = column[50:]
    report = append(night, path)
    assert report.rows_read == len(halves[1]["mjd"]) - 50
    assert report.rows_kept == sum(
        len(rows) - len(before[name][3] if name in before else [])
        for name, (*_, rows) in kit.objects(path).items()
    )


def test_stopped_between_index_and_record(kit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many generations of the index are merged into one."""
    from skytrawl.catalogs import id_index
    from skytrawl.intake import census

    monkeypatch.setattr(census, "MOST_GENERATIONS", 2)
    table = kit.table(5, n_objects=40)
    ids = np.unique(table["object"])
    nights = [kit.picked(table, np.isin(table["object"], ids[start::4])) for start in range(4)]
    path = tmp_path / "a.zarr"
    ingest(nights[0], path, **ZTF)
    counts = []
    for night in nights[1:]:
        with monkeypatch.context() as patch:
            compact = id_index.compact

            def broken(*words: Any, compact: Any = compact) -> None:
                compact(*words)
                raise Stopped("index")

            patch.setattr(id_index, "compact", broken)
            try:
                append(night, path)
            except Stopped:
                counts.append(-1)
                patch.undo()
                append(night, path)
        archive = kit.sound(path)
        counts.append(len(archive.version.index))
    assert counts == [2, -1, 1, 2]
    ingest(table, tmp_path / "one.zarr", survey="ztf")
    kit.same(kit.objects(path), kit.objects(tmp_path / "one.zarr"))
