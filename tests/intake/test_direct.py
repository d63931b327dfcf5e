"""Input along the sky goes from files to partitions; where its order breaks, it goes through buckets."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.catalogs.sky import order_key
from skytrawl.intake.assemble import REPEATED
from skytrawl.intake.driver import ingest
from skytrawl.intake.stages import Intake

ZTF: dict[str, Any] = {"survey": "ztf", "partition_observations": 200}


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which ways the rows took."""
    found: list[str] = []
    for name in ("_direct", "_through_buckets", "_undo_direct"):
        method = getattr(Intake, name)

        def watched(self: Any, *words: Any, method: Any = method, name: str = name) -> Any:
            found.append(name)
            return method(self, *words)

        monkeypatch.setattr(Intake, name, watched)
    return found


def along_sky(kit: Any, table: Any) -> Any:
    """The table with objects along the curve; rows of an object stay in their order."""
    first = {name: row for row, name in reversed(list(enumerate(table["object"].tolist())))}
    rows = [first[name] for name in table["object"].tolist()]
    keys = order_key(table["ra"][rows], table["dec"][rows], table["object"])
    return kit.picked(table, np.lexsort((table["object"], keys)))


@pytest.fixture(scope="module")
def table(kit: Any) -> Any:
    return along_sky(kit, kit.table(6, n_objects=90))


@pytest.fixture(scope="module")
def expected(kit: Any, table: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("expected") / "a.zarr"
    report = ingest(table, path, survey="ztf")
    return kit.objects(path), report


def test_objects_over_borders_of_files_and_row_groups(
    kit: Any, table: Any, expected: Any, tmp_path: Path, ways: list[str]
) -> None:
    n = len(table["mjd"])
    cuts = [slice(low, low + 171) for low in range(0, n, 171)]
    paths = [
        kit.save(kit.picked(table, cut), tmp_path / f"{number:03d}.parquet", row_group_size=23)
        for number, cut in enumerate(cuts)
    ]
    report = ingest(paths, tmp_path / "a.zarr", **ZTF)
    assert ways == ["_direct"]
    archive = kit.sound(tmp_path / "a.zarr")
    kit.same(kit.objects(tmp_path / "a.zarr"), expected[0])
    for name in (
        "rows_read",
        "rows_kept",
        "dropped",
        "objects",
        "new_objects",
        "rows_by_band",
        "equal_stamps",
    ):
        assert getattr(report, name) == getattr(expected[1], name), name
    sizes, counts = (archive.version.partitions[name] for name in ("n_observations", "n_objects"))
    assert ((sizes <= 200) | (counts == 1)).all()
    # An example of a repeat is where it says.
    for line in report.examples[REPEATED]:
        place, _, name = line.rpartition(": ")
        path, _, row = place.rpartition(", row ")
        number = [str(path) for path in paths].index(path)
        assert str(kit.picked(table, cuts[number])["object"][int(row) - 1]) == name.strip("'")


def test_an_object_over_many_files(kit: Any, table: Any, tmp_path: Path, ways: list[str]) -> None:
    """It goes on farther than the task looks that has its first rows."""
    row = len(table["mjd"]) // 2
    rows = np.repeat(np.arange(len(table["mjd"])), np.where(np.arange(len(table["mjd"])) == row, 1500, 1))
    long = kit.picked(table, rows)
    long["mjd"] = long["mjd"] + np.where(rows == row, np.arange(len(rows)) / 64, 0)
    paths = [
        kit.save(kit.picked(long, slice(low, low + 171)), tmp_path / f"{low:06d}.parquet")
        for low in range(0, len(rows), 171)
    ]
    ingest(long, tmp_path / "whole.zarr", survey="ztf")
    ingest(paths, tmp_path / "a.zarr", **ZTF)
    assert ways[-3:] == ["_direct", "_undo_direct", "_through_buckets"]
    kit.sound(tmp_path / "a.zarr")
    kit.same(kit.objects(tmp_path / "a.zarr"), kit.objects(tmp_path / "whole.zarr"))


def test_a_file_within_an_object(kit: Any, tmp_path: Path, ways: list[str]) -> None:
    """The rows of one object fill three files."""
    table = along_sky(kit, kit.table(7))
    table["mjd"] = 58000.0 + np.random.default_rng(0).permutation(len(table["mjd"])) / 64
    ids, counts = np.unique(table["object"], return_counts=True)
    rows = np.flatnonzero(table["object"] == ids[np.argmax(counts)])
    ends = [0, rows[20], rows[70], rows[90], len(table["mjd"])]
    paths = [
        kit.save(kit.picked(table, slice(*ends[number : number + 2])), tmp_path / f"{number}.parquet")
        for number in range(4)
    ]
    report = ingest(paths, tmp_path / "a.zarr", **ZTF)
    assert ways == ["_direct"]
    kit.sound(tmp_path / "a.zarr")
    assert report.rows_kept == len(table["mjd"])
    assert len(kit.objects(tmp_path / "a.zarr")[table["object"][rows[0]]][3]) == len(rows)


def test_a_repeat_is_told_by_its_file(kit: Any, table: Any, tmp_path: Path, ways: list[str]) -> None:
    """One partition has rows of two files."""
    parts = [kit.picked(table, slice(0, 60)), kit.picked(table, slice(60, 120))]
    for number, part in enumerate(parts):
        part["mjd"] = 58000.0 + 100 * number + np.arange(60)
    parts[1] = {name: np.insert(column, 8, column[7]) for name, column in parts[1].items()}
    paths = [
        kit.save(part, tmp_path / f"{number}.parquet", row_group_size=20) for number, part in enumerate(parts)
    ]
    report = ingest(paths, tmp_path / "a.zarr", survey="ztf", partition_observations=100)
    assert ways == ["_direct"]
    assert report.examples == {REPEATED: [f"{paths[1]}, row 9: {str(parts[1]['object'][8])!r}"]}


@pytest.mark.parametrize("bad", ["end", "start", "both"])
def test_bad_rows_at_a_border(kit: Any, table: Any, tmp_path: Path, ways: list[str], bad: str) -> None:
    """An object of which the first file has bad rows alone belongs to the second."""
    _, starts, counts = np.unique(table["object"], return_index=True, return_counts=True)
    for number, which in enumerate(np.flatnonzero(counts > 4)[10:14]):
        start, count = starts[which], counts[which]
        mag = table["mag"].copy()
        cut = start + count // 2
        mag[start:cut] = np.nan if bad != "start" else mag[start:cut]
        mag[cut : start + count] = np.nan if bad != "end" else mag[cut : start + count]
        parts = [
            kit.save(kit.picked(table | {"mag": mag}, part), tmp_path / f"{number}{part.start}.parquet")
            for part in (slice(0, cut), slice(cut, None))
        ]
        report = ingest(parts, tmp_path / f"{number}.zarr", **ZTF)
        kit.sound(tmp_path / f"{number}.zarr")
        plain = ingest(table | {"mag": mag}, tmp_path / f"plain{number}.zarr", survey="ztf")
        kit.same(kit.objects(tmp_path / f"{number}.zarr"), kit.objects(tmp_path / f"plain{number}.zarr"))
        assert (report.rows_kept, report.dropped) == (plain.rows_kept, plain.dropped)
        assert report.lost_objects == plain.lost_objects == (bad == "both")


@pytest.mark.parametrize("fault", ["swapped", "again"])
def test_order_that_breaks_deep_inside(
    kit: Any, table: Any, expected: Any, tmp_path: Path, ways: list[str], fault: str, monkeypatch: Any
) -> None:
    """The sample sees the first rows of pieces only."""
    from skytrawl.intake import plan

    monkeypatch.setattr(plan, "SAMPLE_ROWS", 5)
    monkeypatch.setattr(plan, "SAMPLED", 2)
    _, starts, counts = np.unique(table["object"], return_index=True, return_counts=True)
    order = np.arange(len(table["mjd"]))
    inside = np.flatnonzero((starts > 300) & (starts < len(order) - 300) & (counts > 3))
    if fault == "swapped":
        one, other = (np.arange(starts[which], starts[which] + counts[which]) for which in inside[:2])
        order = np.setdiff1d(order, np.append(one, other), assume_unique=True)
        order = np.concatenate([order[:310], other, one, order[310:]])
    else:  # a row of an object comes again, far behind it
        place = starts[inside[np.argmin(starts[inside])]] + 1
        order = np.append(np.delete(order, place)[:-250], [place, *np.delete(order, place)[-250:]])
    path = kit.save(kit.picked(table, order), tmp_path / "t.parquet", row_group_size=40)
    report = ingest(path, tmp_path / "a.zarr", **ZTF)
    assert ways == ["_direct", "_undo_direct", "_through_buckets"]
    kit.sound(tmp_path / "a.zarr")
    kit.same(kit.objects(tmp_path / "a.zarr"), expected[0])
    assert (report.rows_kept, report.dropped) == (expected[1].rows_kept, expected[1].dropped)
    slots = sorted(int(name) for name in (tmp_path / "a.zarr/objects/ra/c").iterdir() for name in [name.name])
    assert len(slots) == report.partitions  # nothing of the first try is left


def test_tables_in_memory(kit: Any, table: Any, expected: Any, tmp_path: Path, ways: list[str]) -> None:
    report = ingest(
        [kit.picked(table, slice(0, 400)), kit.picked(table, slice(400, None))], tmp_path / "a.zarr", **ZTF
    )
    assert ways == ["_direct"]
    kit.sound(tmp_path / "a.zarr")
    kit.same(kit.objects(tmp_path / "a.zarr"), expected[0])
    assert all(line.startswith("table in memory, row ") for line in report.examples[REPEATED])


def test_nested_catalogues_take_the_short_way(
    kit: Any, table: Any, expected: Any, tmp_path: Path, ways: list[str]
) -> None:
    """Objects in the order of the pixels, one row each, observations in lists."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    starts = np.flatnonzero(np.append(True, table["object"][1:] != table["object"][:-1]))
    offsets = pa.array(np.append(starts, len(table["object"])).astype(np.int32))
    first = {name: pa.array(table[name][starts]) for name in ("object", "ra", "dec")}
    names = ["mjd", "mag", "magerr", "band", "quality"]
    lists = {name: pa.ListArray.from_arrays(offsets, pa.array(table[name])) for name in names}
    nested = pa.StructArray.from_arrays(list(lists.values()), names=names)
    folder = tmp_path / "curves"
    (folder / "dataset/Norder=0/Dir=0").mkdir(parents=True)
    (folder / "hats.properties").write_text("dataproduct_type=object\nobs_collection=curves\n")
    keys = order_key(table["ra"][starts], table["dec"][starts], table["object"][starts])
    whole = pa.table({"_healpix_29": pa.array(keys.astype(np.int64)), **first, "lightcurve": nested})
    for pixel in range(12):
        part = whole.filter(pa.array(keys >> np.uint64(58) == pixel))
        if part.num_rows:
            pq.write_table(part, folder / f"dataset/Norder=0/Dir=0/Npix={pixel}.parquet")
    report = ingest(folder, tmp_path / "a.zarr", **ZTF)
    assert ways == ["_direct"]
    kit.sound(tmp_path / "a.zarr")
    kit.same(kit.objects(tmp_path / "a.zarr"), expected[0])
    assert (report.rows_kept, report.dropped) == (expected[1].rows_kept, expected[1].dropped)
