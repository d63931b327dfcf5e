"""Files that cannot be used are left out and named; the others are there."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from skytrawl.cli import main
from skytrawl.errors import IngestError
from skytrawl.intake.driver import append, ingest

ZTF: dict[str, Any] = {"survey": "ztf", "partition_observations": 100}


def truncated(kit: Any, table: Any, folder: Path) -> Path:
    path = kit.save(table, folder / "truncated.parquet")
    path.write_bytes(path.read_bytes()[:-50])
    return path


def damaged(kit: Any, table: Any, folder: Path) -> Path:
    """Footer and most pages are sound."""
    path = kit.save(table, folder / "damaged.parquet", row_group_size=30, compression="gzip")
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 200] = bytes(200)
    path.write_bytes(data)
    return path


def julian(kit: Any, table: Any, folder: Path) -> Path:
    return kit.save(table | {"mjd": table["mjd"] + 2400000.5}, folder / "julian.parquet")


def flux(kit: Any, table: Any, folder: Path) -> Path:
    columns = dict(table)
    columns["flux"], columns["fluxerr"] = columns.pop("mag") * 1000, columns.pop("magerr")
    return kit.save(columns, folder / "flux.parquet")


def wrong_type(kit: Any, table: Any, folder: Path) -> Path:
    return kit.save(table | {"mag": np.array(["bright"] * len(table["mag"]))}, folder / "wrong.parquet")


def empty(kit: Any, table: Any, folder: Path) -> Path:
    path = folder / "empty.csv"
    path.write_bytes(b"")
    return path


def foreign(kit: Any, table: Any, folder: Path) -> Path:
    path = folder / "letter.csv"
    path.write_text("Dear friends,\nthe data are on the way.\nYours, S.\n")
    return path


FAULTS = {
    truncated: "truncated|cut|magic|Parquet",
    damaged: "damaged|corrupt|deserialize|decompress|Parquet|page",
    julian: "Julian|JD|jd",
    flux: "flux|quantity",
    wrong_type: "mag",
    empty: "empty",
    foreign: "column",
}


@pytest.fixture(scope="module")
def table(kit: Any) -> Any:
    return kit.table(12, n_objects=30)


@pytest.fixture
def good(kit: Any, table: Any, tmp_path: Path) -> list[Path]:
    return [
        kit.save(kit.picked(table, slice(number, None, 2)), tmp_path / f"good{number}.parquet")
        for number in (0, 1)
    ]


@pytest.fixture(scope="module")
def expected(kit: Any, table: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("expected") / "a.zarr"
    return ingest(table, path, survey="ztf"), kit.objects(path)


@pytest.mark.parametrize("fault", FAULTS)
def test_one_bad_file_among_good_ones(
    kit: Any, table: Any, good: list[Path], expected: Any, tmp_path: Path, fault: Any
) -> None:
    bad = fault(kit, table, tmp_path)
    path = tmp_path / "a.zarr"
    report = ingest([good[0], bad, good[1]], path, **ZTF)
    assert list(report.quarantined) == [str(bad)]
    reason = report.quarantined[str(bad)]
    assert bad.name in reason
    assert re.search(FAULTS[fault], reason), reason
    assert f"{bad} is left out: {reason}" in report.warnings
    kit.sound(path)
    kit.same(kit.objects(path), expected[1])
    assert (report.rows_read, report.rows_kept) == (expected[0].rows_read, expected[0].rows_kept)
    with pytest.raises(IngestError, match=bad.name):
        ingest([good[0], bad, good[1]], tmp_path / "strict.zarr", on_bad="raise", **ZTF)
    assert not (tmp_path / "strict.zarr").exists()
    with pytest.raises(IngestError, match=bad.name):
        ingest(bad, tmp_path / "alone.zarr", **ZTF)
    assert not (tmp_path / "alone.zarr").exists()


@pytest.mark.parametrize("fault", [truncated, damaged])
def test_an_append_leaves_bad_files_out_too(
    kit: Any, table: Any, good: list[Path], expected: Any, tmp_path: Path, fault: Any
) -> None:
    path = tmp_path / "a.zarr"
    ingest(good[0], path, **ZTF)
    bad = fault(kit, table, tmp_path)
    before, files = kit.objects(path), sorted(path.rglob("*"))
    with pytest.raises(IngestError, match=bad.name):
        append([good[1], bad], path, on_bad="raise")
    assert kit.objects(path) == before
    assert sorted(path.rglob("*")) == files
    report = append([good[1], bad], path)
    assert list(report.quarantined) == [str(bad)]
    kit.sound(path)
    kit.same(kit.objects(path), expected[1])


def test_a_file_of_which_one_piece_is_bad(
    kit: Any, table: Any, good: list[Path], expected: Any, tmp_path: Path, small_pieces: Callable[[int], None]
) -> None:
    """The pieces that could be read are left out with it."""
    small_pieces(60)
    bad = damaged(kit, table, tmp_path)
    report = ingest([bad, *good], tmp_path / "a.zarr", **ZTF)
    assert list(report.quarantined) == [str(bad)]
    assert (report.rows_read, report.rows_kept) == (expected[0].rows_read, expected[0].rows_kept)
    kit.sound(tmp_path / "a.zarr")
    kit.same(kit.objects(tmp_path / "a.zarr"), expected[1])


def test_ordered_files_with_a_bad_one(kit: Any, table: Any, tmp_path: Path) -> None:
    """The short way cannot leave a file out: buckets do."""
    from skytrawl.catalogs.sky import order_key

    first = {name: row for row, name in reversed(list(enumerate(table["object"].tolist())))}
    rows = [first[name] for name in table["object"].tolist()]
    keys = order_key(table["ra"][rows], table["dec"][rows], table["object"])
    ordered = kit.picked(table, np.lexsort((table["object"], keys)))
    parts = [slice(0, 150), slice(150, 300), slice(300, None)]
    paths = [kit.save(kit.picked(ordered, part), tmp_path / f"{part.start}.parquet") for part in parts]
    bad = damaged(kit, kit.picked(ordered, parts[1]), tmp_path)
    report = ingest([paths[0], bad, paths[2]], tmp_path / "a.zarr", **ZTF)
    assert list(report.quarantined) == [str(bad)]
    kit.sound(tmp_path / "a.zarr")
    ingest([paths[0], paths[2]], tmp_path / "one.zarr", survey="ztf")
    kit.same(kit.objects(tmp_path / "a.zarr"), kit.objects(tmp_path / "one.zarr"))


def test_all_bad(kit: Any, table: Any, tmp_path: Path) -> None:
    bad = [truncated(kit, table, tmp_path), empty(kit, table, tmp_path), damaged(kit, table, tmp_path)]
    with pytest.raises(IngestError):
        ingest(bad, tmp_path / "a.zarr", **ZTF)
    assert not (tmp_path / "a.zarr").exists()


def test_exit_code_of_the_command(kit: Any, table: Any, good: list[Path], tmp_path: Path) -> None:
    bad = truncated(kit, table, tmp_path)
    words = ["ingest", *map(str, good), "--survey", "ztf", str(tmp_path / "a.zarr")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    words[-1:] = [str(bad), str(tmp_path / "b.zarr")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 3, done.output
    assert f"{bad} is left out" in " ".join(done.output.split())
    done = CliRunner().invoke(main, ["append", str(bad), str(good[0]), str(tmp_path / "a.zarr")])
    assert done.exit_code == 3, done.output
