"""The same rows in any order, over any files, pieces and buckets, give the same archive."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.catalogs.sky import order_key
from skytrawl.intake import plan
from skytrawl.intake.assemble import REPEATED
from skytrawl.intake.driver import ingest
from skytrawl.intake.stages import Intake


@pytest.fixture(scope="module")
def table(kit: Any) -> Any:
    return kit.table(scatter=1e-5)


@pytest.fixture(scope="module")
def expected(kit: Any, table: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Objects and report of one table in memory, one bucket, one partition."""
    path = tmp_path_factory.mktemp("expected") / "a.zarr"
    report = ingest(table, path, survey="ztf")
    kit.sound(path)
    return kit.objects(path), report


def test_one_table_against_a_plain_loop(kit: Any, table: Any, expected: Any) -> None:
    objects, report = expected
    rows = list(zip(*(column.tolist() for column in table.values()), strict=True))
    unique = Counter(rows)
    assert report.dropped == {REPEATED: len(rows) - len(unique)}
    assert (report.rows_read, report.rows_kept) == (len(rows), len(unique))
    assert report.objects == report.new_objects == len({row[0] for row in rows})
    assert report.rows_by_band == Counter(row[4] for row in unique)
    stamps = Counter((row[0], row[1], row[4]) for row in unique)
    assert report.equal_stamps == len(unique) - len(stamps)
    wanted: dict[Any, list[Any]] = {}
    for name, time, value, error, band, _, _, quality in unique:
        wanted.setdefault(name, []).append((band, time, error, quality, time, value))
    # Columns stand in the order of their names: error, quality, time, value.
    assert {name: found[3] for name, found in objects.items()} == {
        name: sorted(found) for name, found in wanted.items()
    }


def account(report: Any) -> tuple[Any, ...]:
    return (
        report.rows_read,
        report.rows_kept,
        report.dropped,
        report.objects,
        report.new_objects,
        report.rows_by_band,
        report.equal_stamps,
        report.upper_limits,
        report.lost_objects,
        report.quarantined,
    )


@pytest.mark.parametrize(
    ("seed", "files", "rows", "most"), [(1, 1, 10**6, 100), (2, 7, 200, 150), (3, 3, 90, 37)]
)
def test_any_files_pieces_and_buckets(
    kit: Any,
    table: Any,
    expected: Any,
    tmp_path: Path,
    small_pieces: Callable[[int], None],
    seed: int,
    files: int,
    rows: int,
    most: int,
) -> None:
    small_pieces(rows)
    order = np.random.default_rng(seed).permutation(len(table["mjd"]))
    paths = [
        kit.save(kit.picked(table, part), tmp_path / f"{number}.{kind}", **options)
        for number, part in enumerate(np.array_split(order, files))
        for kind, options in [("parquet", {"row_group_size": 50}) if number % 2 == 0 else ("csv", {})]
    ]
    report = ingest(paths, tmp_path / "a.zarr", survey="ztf", partition_observations=most)
    archive = kit.sound(tmp_path / "a.zarr")
    kit.same(kit.objects(tmp_path / "a.zarr"), expected[0])
    assert account(report) == account(expected[1])
    sizes, counts = (archive.version.partitions[name] for name in ("n_observations", "n_objects"))
    assert ((sizes <= most) | (counts == 1)).all()
    assert len(sizes) >= report.rows_kept / most


def test_buckets_that_are_too_large_are_cut(
    kit: Any, table: Any, expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two buckets only, so that each holds many partitions."""
    monkeypatch.setattr(plan, "MOST_BUCKETS", 2)
    cut = []
    refine = Intake._refine

    def watched(self: Any, buckets: Any) -> None:
        before = len(buckets.territory)
        refine(self, buckets)
        cut.append((before, len(buckets.territory), list(buckets.territory)))

    monkeypatch.setattr(Intake, "_refine", watched)
    paths = [
        kit.save(kit.picked(table, slice(number, None, 2)), tmp_path / f"{number}.parquet")
        for number in (0, 1)
    ]
    report = ingest(paths, tmp_path / "a.zarr", survey="ztf", partition_observations=60)
    kit.sound(tmp_path / "a.zarr")
    kit.same(kit.objects(tmp_path / "a.zarr"), expected[0])
    assert account(report) == account(expected[1])
    ((before, after, names),) = cut
    assert before == 2
    assert after > 4
    assert any(name.count(".") > 1 for name in names), names


def test_the_short_way_gives_the_same(
    kit: Any, table: Any, expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects along the sky; the buckets are forbidden."""
    first = {name: row for row, name in reversed(list(enumerate(table["object"].tolist())))}
    rows = [first[name] for name in table["object"].tolist()]
    keys = order_key(table["ra"][rows], table["dec"][rows], table["object"])
    ordered = kit.picked(table, np.lexsort((table["object"], keys)))
    path = kit.save(ordered, tmp_path / "t.parquet", row_group_size=70)
    monkeypatch.setattr(Intake, "_through_buckets", None)
    report = ingest(path, tmp_path / "a.zarr", survey="ztf", partition_observations=200)
    kit.sound(tmp_path / "a.zarr")
    kit.same(kit.objects(tmp_path / "a.zarr"), expected[0])
    assert account(report) == account(expected[1])
    assert report.partitions > 3


def test_workers_give_the_same(kit: Any, table: Any, expected: Any, tmp_path: Path) -> None:
    paths = [
        kit.save(kit.picked(table, slice(number, None, 3)), tmp_path / f"{number}.parquet")
        for number in range(3)
    ]
    report = ingest(paths, tmp_path / "a.zarr", survey="ztf", partition_observations=120, workers=2)
    kit.sound(tmp_path / "a.zarr")
    kit.same(kit.objects(tmp_path / "a.zarr"), expected[0])
    assert account(report) == account(expected[1])
