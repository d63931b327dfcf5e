"""Appends: the same archive as of all rows at once, written in little, readers undisturbed."""

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.catalogs import versions
from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.simulate import simulate_archive
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.validate import validate
from skytrawl.errors import SkytrawlError
from skytrawl.intake import gather
from skytrawl.intake.assemble import DELIVERED, REPEATED, assemble
from skytrawl.intake.driver import append, ingest

ZTF: dict[str, Any] = {"survey": "ztf", "partition_observations": 150}


@pytest.fixture(scope="module")
def table(kit: Any) -> Any:
    found = kit.table(2, n_objects=80, scatter=0.01)
    # Rows that the archive's columns cannot tell apart would be left out by an append.
    found["mag"] = (15.0 + found["ra"] * 1e6 % 1.0).astype(np.float32)
    found["class"] = np.array(["", "RR", "EB"])[(found["object"] % np.uint64(3)).astype(int)]
    return found


@pytest.fixture(scope="module")
def three(kit: Any, table: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """An archive of three deliveries, and their reports."""
    folder = tmp_path_factory.mktemp("three")
    parts = np.array_split(np.random.default_rng(0).permutation(len(table["mjd"])), 3)
    paths = [
        kit.save(kit.picked(table, part), folder / f"{number}.parquet") for number, part in enumerate(parts)
    ]
    reports = [ingest(paths[0], folder / "a.zarr", **ZTF)]
    reports += [append(path, folder / "a.zarr") for path in paths[1:]]
    return folder / "a.zarr", reports


def test_in_batches_is_as_at_once(
    kit: Any, table: Any, three: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    path, reports = three
    archive = kit.sound(path)
    whole = ingest(table, tmp_path / "one.zarr", **ZTF)
    kit.same(kit.objects(path), kit.objects(tmp_path / "one.zarr"), positions=False)
    assert [report.version for report in reports] == [1, 2, 3]
    assert sum(report.rows_read for report in reports) == whole.rows_read
    assert sum(report.rows_kept for report in reports) == whole.rows_kept == archive.n_observations
    assert sum(report.new_objects for report in reports) == whole.objects == archive.n_objects
    for band, count in whole.rows_by_band.items():
        assert sum(report.rows_by_band[band] for report in reports) == count
    assert sum(report.equal_stamps for report in reports) == whole.equal_stamps
    assert reports[0].dropped.keys() <= {REPEATED}
    assert all(report.dropped.keys() <= {REPEATED, DELIVERED} for report in reports)
    sizes, counts = (archive.version.partitions[name] for name in ("n_observations", "n_objects"))
    assert ((sizes <= 150) | (counts == 1)).all()


def test_positions_and_old_versions_stay(kit: Any, table: Any, three: tuple[Path, list[Any]]) -> None:
    path, _ = three
    found = [kit.objects(path, number) for number in (1, 2, 3)]
    for before, after in itertools.pairwise(found):
        for name, (ra, dec, kind, rows) in before.items():
            assert after[name][:2] == (ra, dec)
            assert kind in (b"", after[name][2])
            assert not [row for row in rows if row not in after[name][3]]
    for number in (1, 2):
        assert validate(path, version=number, deep=True).ok


def test_the_same_night_twice_changes_nothing(kit: Any, table: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    late = table["mjd"] >= 58008
    ingest(kit.picked(table, ~late), path, **ZTF)
    night = kit.save(kit.picked(table, late), tmp_path / "night.csv")
    first = append(night, path)
    before = sorted(file for file in path.rglob("*") if file.is_file())
    objects = kit.objects(path)
    again = append(night, path)
    assert (first.version, again.version) == (2, 2)
    assert (again.rows_kept, again.dropped, again.written) == (0, {DELIVERED: late.sum()}, 0)
    assert (again.objects, again.new_objects, again.partitions) == (first.objects, 0, first.partitions)
    assert set(again.rows_by_band.values()) == {0}
    assert [line for line in again.examples[DELIVERED] if line.startswith(f"{night}, row ")]
    assert versions.list_versions(Storage(path)) == [1, 2]
    assert kit.objects(path) == objects
    left = sorted(file for file in path.rglob("*") if file.is_file())
    assert [file for file in left if "intents" not in file.parts] == [
        file for file in before if "intents" not in file.parts
    ]


def test_a_few_objects_touch_few_partitions(kit: Any, table: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    ingest(kit.save(table, tmp_path / "t.parquet"), path, **ZTF)
    archive = Archive.open(path)
    reader = archive.read(0, ["time"]).observations["time"].copy()
    ids = archive.read(0, ["object_id"]).objects["object_id"]
    some = np.isin(table["object"], ids)
    night = kit.picked(table, some) | {"mjd": table["mjd"][some] + 100}
    report = append(night, path)
    after = kit.sound(path)
    old, new = archive.version.partitions, after.version.partitions
    kept = np.isin(new["observation_slot"], old["observation_slot"])
    assert kept.sum() == len(old) - 1
    assert report.written == (~kept).sum()
    assert [row for row in new if row["observation_slot"] in old["observation_slot"]] == list(old[1:])
    # Bytes: what the version added, against the partitions that it touched as one archive of their own.
    added = after.version.header["bytes"]
    both = np.isin(table["object"], ids)
    both_nights = {name: np.concatenate([column[both], night[name]]) for name, column in table.items()}
    ingest(both_nights, tmp_path / "touched.zarr", **ZTF)
    touched = Archive.open(tmp_path / "touched.zarr").version.header["bytes"]
    assert added <= 1.2 * touched
    # The reader of the version before still reads it.
    np.testing.assert_array_equal(archive.read(0, ["time"]).observations["time"], reader)
    assert archive.n_observations < after.n_observations


def rows_of(ids: list[Any], first: float, ra: float, **others: Any) -> dict[str, Any]:
    n = len(ids)
    found = {"object": ids, "mjd": 58000.0 + first + np.arange(n), "mag": np.full(n, 18.0)}
    return (
        found
        | {"magerr": np.full(n, 0.1), "band": ["g"] * n, "ra": np.full(n, ra), "dec": 0.0 * np.ones(n)}
        | {name: np.array(values) for name, values in others.items()}
    )


def test_objects_that_moved_over_a_border_and_new_ones(kit: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    first = [rows_of([number] * 3, 0, 30.0 * number) for number in range(1, 9)]
    columns = {name: np.concatenate([part[name] for part in first]) for name in first[0]}
    ingest(columns, path, survey="ztf", partition_observations=6)
    assert Archive.open(path).n_partitions > 3
    # Object 1 is seen where 8 is, object 3 has lost its position, 9 and 10 are new on either end.
    moved = [
        rows_of([1, 1], 10, 240.0),
        rows_of([3], 10, np.nan),
        rows_of([9], 10, 0.1),
        rows_of([10], 10, 299.0),
    ]
    moved[1]["dec"] = np.array([np.nan])
    report = append([kit.save(part, tmp_path / f"{row}.parquet") for row, part in enumerate(moved)], path)
    assert (report.rows_kept, report.new_objects, report.objects) == (5, 2, 10)
    kit.sound(path)
    found = kit.objects(path)
    assert {name: len(thing[3]) for name, thing in found.items()} == {
        name: {1: 5, 3: 4, 9: 1, 10: 1}.get(name, 3) for name in range(1, 11)
    }
    assert found[1][:2] == (30.0, 0.0)
    assert found[3][:2] == (90.0, 0.0)


def test_rows_are_left_out_only_if_the_object_has_them(kit: Any, tmp_path: Path) -> None:
    """A known object seen elsewhere brings back a row that it has: not twice."""
    path = tmp_path / "a.zarr"
    columns = {
        name: np.concatenate([rows_of([n] * 3, 0, 30.0 * n)[name] for n in range(1, 9)])
        for name in rows_of([1], 0, 0)
    }
    ingest(columns, path, survey="ztf", partition_observations=6)
    report = append(rows_of([1] * 4, 0, 240.0), path)
    assert (report.rows_kept, report.dropped) == (1, {DELIVERED: 3})
    assert len(kit.objects(path)[1][3]) == 4
    kit.sound(path)


def test_bands_types_and_classes_are_the_archives(kit: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    first = kit.picked(rows_of([7, 8, 9], 0, 10.0, band=["r", "r", "g"]), slice(None))
    first |= {name: first[name].astype(np.float32) for name in ("mag", "magerr")}
    first["class"] = np.array(["RR", "", "EB"])
    made = ingest(first, path, survey="ztf", bands=["r"])
    assert (made.rows_kept, made.bands) == (2, ("r",))
    text = rows_of([7, 8, 8], 10, 10.0, band=["r", "r", "g"])
    text |= {"mag": np.full(3, 18.123456789), "class": np.array(["EB", "SN", "SN"])}
    report = append(kit.save(text, tmp_path / "t.csv"), path)
    assert (report.rows_kept, report.rows_read) == (2, 3)
    assert [reason for reason in report.dropped if "band" in reason]
    assert "values are stored as float32, as the archive has them (2 rows)" in report.warnings
    archive = kit.sound(path)
    assert archive.array("value").dtype == np.float32
    found = kit.objects(path)
    assert (found[7][2], found[8][2]) == (b"RR", b"SN")
    assert found[8][3][-1][-1] == np.float32(18.123456789)
    # The same text again: equal after rounding to what the archive holds.
    assert append(tmp_path / "t.csv", path).version == report.version


def test_what_the_first_ingest_was_told_need_not_be_said_again(kit: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    table = rows_of([7, 8], 0, 10.0)
    table["when"] = table.pop("mjd") + 2400000.5 - 2450000
    table["who"] = table.pop("object")
    words = {"columns": {"time": "when", "object": "who"}, "time_format": "jd-2450000"}
    ingest(table, path, survey="ztf", precision={"value": 0.01}, **words)
    report = append(kit.picked(table, slice(None)) | {"when": table["when"] + 1.5}, path)
    assert report.rows_kept == 2
    assert [row[-2] for row in kit.objects(path)[7][3]] == [58000.0, 58001.5]


def test_nothing_is_left_behind_by_a_refused_append(kit: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    ingest(rows_of([7, 8], 0, 10.0), path, survey="ztf")
    before = sorted(path.rglob("*"))
    with pytest.raises(SkytrawlError, match="none of 2 rows"):
        append(rows_of([7, 8], 0, 10.0) | {"mag": [np.nan, np.nan]}, path)
    with pytest.raises(SkytrawlError):
        append(tmp_path / "missing.csv", path)
    assert sorted(path.rglob("*")) == before


@pytest.mark.parametrize("index", [True, False])
def test_an_archive_of_simulate_grows(kit: Any, tmp_path: Path, index: bool) -> None:
    path = tmp_path / "a.zarr"
    simulate_archive(path, 40, 20.0, seed=1)
    archive = Archive.open(path)
    if not index:
        shutil.rmtree(path / "index", ignore_errors=True)
        found = Archive.open(path).version
        found.header["index"] = []
        (path / "versions/00000001.npz").write_bytes(versions.to_bytes(found))
        archive = Archive.open(path)
    block = archive.read(0, ["object_id", "ra", "dec"]).objects
    name, ra = block["object_id"][0], block["ra"][0]
    night = rows_of([name, name], 4000.0, ra) | {
        "dec": np.full(2, block["dec"][0]),
        "band": [archive.bands[0]] * 2,
    }
    new = rows_of([10**15], 4000.0, 20.0) | {"band": [archive.bands[0]]}
    report = append([night, new], path)
    assert (report.rows_kept, report.new_objects, report.objects) == (3, 1, archive.n_objects + 1)
    after = Archive.open(path)
    assert validate(path, deep=True).ok
    assert after.n_observations == archive.n_observations + 3
    assert after.find(10**15) is not None
    partition, row = after.find(name)
    assert after.light_curve(name).n_observations == archive.light_curve(name).n_observations + 2
    assert after.read(partition, ["object_id"]).objects["object_id"][row] == name


def test_positions_for_an_archive_that_has_none(kit: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    first = {name: column for name, column in rows_of([7, 8], 0, 10.0).items() if name not in ("ra", "dec")}
    ingest(first, path, survey="ztf")
    report = append(rows_of([7, 9], 10, 10.0), path)
    assert "the archive has no positions: those of new rows are left out (2 rows)" in report.warnings
    kit.sound(path)
    assert {name: len(thing[3]) for name, thing in kit.objects(path).items()} == {7: 2, 8: 1, 9: 1}


@pytest.mark.parametrize("text", [False, True])
def test_rows_without_positions_go_to_their_objects_at_once(
    kit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bool
) -> None:
    """They come in no bucket of their own, which might not fit into memory."""
    table = kit.table(5, n_objects=300, text=text)
    half = len(table["mjd"]) // 2
    path = tmp_path / "a.zarr"
    ingest(kit.picked(table, slice(0, half)), path, survey="ztf", partition_observations=300)
    late = kit.picked(table, slice(half, None))
    rows: list[int] = []
    monkeypatch.setattr(
        gather,
        "assemble",
        lambda found, *words, **more: rows.append(found.n) or assemble(found, *words, **more),
    )
    report = append({name: column for name, column in late.items() if name not in ("ra", "dec")}, path)
    assert max(rows) < 600
    assert report.rows_read == report.rows_kept + report.rows_dropped == len(late["mjd"])
    kit.sound(path)
    ingest(table, tmp_path / "whole.zarr", survey="ztf")
    kit.same(kit.objects(path), kit.objects(tmp_path / "whole.zarr"), positions=False)


def test_a_release_onto_a_small_first_night_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One partition below, forty times its size on top: no task holds more than a few partitions."""
    generator = np.random.default_rng(8)
    n_objects, n = 400, 12_000
    ra, dec = generator.uniform(10, 60, n_objects), generator.uniform(-40, 40, n_objects)
    owner = generator.integers(0, n_objects, n)
    table = {
        "objectid": owner + 1,
        "ra": ra[owner],
        "dec": dec[owner],
        "mjd": 58_000 + np.arange(n) * 0.01,
        "mag": generator.normal(18, 1, n).astype(np.float32),
        "magerr": np.full(n, 0.1, np.float32),
        "filter": np.full(n, "g"),
    }
    path = tmp_path / "a.zarr"
    night = {name: column[:300] for name, column in table.items()}
    ingest(night, path, survey="ztf", photometry="total", partition_observations=500)
    sizes = []
    real = gather.assemble

    def watched(rows: Any, *args: Any, **words: Any) -> Any:
        sizes.append(rows.n)
        return real(rows, *args, **words)

    monkeypatch.setattr(gather, "assemble", watched)
    report = append(table, path)
    assert report.rows_kept == n - 300
    assert max(sizes) < 2_000
    archive = Archive.open(path)
    assert archive.n_observations == n
    assert archive.n_objects == len(np.unique(owner))
    assert validate(path, deep=True).ok
    again = append(table, path)
    assert (again.rows_kept, again.version) == (0, report.version)
