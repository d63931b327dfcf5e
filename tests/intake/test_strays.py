"""Objects whose rows fall into several buckets come together in one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.errors import IngestError
from skytrawl.intake.driver import append, ingest
from skytrawl.intake.stages import Intake

ZTF = {"survey": "ztf"}


@pytest.fixture
def repaired(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Buckets that were written again."""
    names: list[str] = []
    write = Intake.write

    def watched(self: Any, stage: str, buckets: Any, todo: Any, *others: Any) -> Any:
        if stage == "again":
            names.extend(todo)
        return write(self, stage, buckets, todo, *others)

    monkeypatch.setattr(Intake, "write", watched)
    return names


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("scatter", [0.5, 5.0])
def test_rows_that_scatter_over_borders(
    kit: Any,
    tmp_path: Path,
    repaired: list[str],
    small_pieces: Callable[[int], None],
    text: bool,
    scatter: float,
) -> None:
    table = kit.table(4, scatter=scatter, text=text)
    plain = ingest(table, tmp_path / "one.zarr", **ZTF)
    assert not repaired
    small_pieces(150)
    path = kit.save(table, tmp_path / "t.parquet", row_group_size=50)
    report = ingest(path, tmp_path / "a.zarr", partition_observations=70, **ZTF)
    assert repaired
    kit.sound(tmp_path / "a.zarr")
    kit.same(kit.objects(tmp_path / "a.zarr"), kit.objects(tmp_path / "one.zarr"))
    for name in (
        "rows_read",
        "rows_kept",
        "dropped",
        "objects",
        "new_objects",
        "rows_by_band",
        "equal_stamps",
    ):
        assert getattr(report, name) == getattr(plain, name), name
    wide, expected = (
        [line.partition("objects")[0] for line in one.warnings if "arc minute" in line]
        for one in (report, plain)
    )
    assert wide == expected != []


def test_rows_without_position_join_those_that_have_one(
    kit: Any, tmp_path: Path, repaired: list[str], small_pieces: Callable[[int], None]
) -> None:
    table = kit.table(5)
    nowhere = np.random.default_rng(0).random(len(table["mjd"])) < 0.3
    nowhere |= np.isin(table["object"], np.unique(table["object"])[:5])
    lost = len(np.unique(table["object"])) - len(np.unique(table["object"][~nowhere]))
    table["ra"] = np.where(nowhere, np.nan, table["ra"])
    table["dec"] = np.where(nowhere, np.nan, table["dec"])
    plain = ingest(table, tmp_path / "one.zarr", **ZTF)
    small_pieces(150)
    path = kit.save(table, tmp_path / "t.parquet", row_group_size=50)
    report = ingest(path, tmp_path / "a.zarr", partition_observations=70, **ZTF)
    assert repaired
    kit.sound(tmp_path / "a.zarr")
    objects = kit.objects(tmp_path / "a.zarr")
    kit.same(objects, kit.objects(tmp_path / "one.zarr"))
    missing = f"{lost} of {len(objects)} objects have no position: cones never find them"
    assert missing in report.warnings
    assert missing in plain.warnings


def rows_of(ids: list[Any], first: float, ra: float | None = None) -> dict[str, Any]:
    n = len(ids)
    found: dict[str, Any] = {"object": ids, "mjd": 58000.0 + first + np.arange(n)}
    found |= {"mag": np.full(n, 18.0), "magerr": np.full(n, 0.1), "band": ["g"] * n}
    return found if ra is None else found | {"ra": np.full(n, ra), "dec": np.zeros(n)}


@pytest.mark.parametrize("ra", [None, 10.0])
@pytest.mark.parametrize("most", [4_000_000, 2])
def test_numbers_and_texts_are_one_object(kit: Any, tmp_path: Path, ra: float | None, most: int) -> None:
    """The number 7 and the text 7 are one; 007 is another."""
    files = [
        kit.save(rows_of([7, 8, 7, 9], 0, ra), tmp_path / "1.parquet"),
        kit.save(rows_of(["7", "8", "9", "9"], 10, ra), tmp_path / "2.parquet"),
        kit.save(rows_of(["007", "7", "x", "8"], 20, ra), tmp_path / "3.parquet"),
    ]
    ingest(files[:2], tmp_path / "numbers.zarr", partition_observations=most, **ZTF)
    kit.sound(tmp_path / "numbers.zarr")
    counts = {name: len(found[3]) for name, found in kit.objects(tmp_path / "numbers.zarr").items()}
    assert counts == {7: 3, 8: 2, 9: 3}
    for order in ([0, 1, 2], [2, 1, 0]):
        path = tmp_path / f"texts{order[0]}.zarr"
        ingest([files[number] for number in order], path, partition_observations=most, **ZTF)
        archive = kit.sound(path)
        counts = {name: len(found[3]) for name, found in kit.objects(path).items()}
        assert counts == {b"7": 4, b"8": 3, b"9": 3, b"007": 1, b"x": 1}
        assert archive.find(7) == archive.find("7") != archive.find("007")


@pytest.mark.parametrize("ra", [None, 10.0])
def test_numbers_and_texts_in_an_append(kit: Any, tmp_path: Path, ra: float | None) -> None:
    ingest(rows_of(["007", "7", "x"], 0, ra), tmp_path / "a.zarr", **ZTF)
    report = append(rows_of([7, 8], 10, ra), tmp_path / "a.zarr")
    assert (report.new_objects, report.objects) == (1, 4)
    kit.sound(tmp_path / "a.zarr")
    counts = {name: len(found[3]) for name, found in kit.objects(tmp_path / "a.zarr").items()}
    assert counts == {b"7": 2, b"8": 1, b"007": 1, b"x": 1}


def test_longer_texts_in_an_append_are_refused(tmp_path: Path) -> None:
    """Cut texts would be other objects, or other classes."""
    ingest(rows_of(["abc", "abd"], 0) | {"class": ["RR", "EB"]}, tmp_path / "a.zarr", **ZTF)
    for ids in (["abc", 17 * "a"], [10**16]):
        with pytest.raises(IngestError, match=rf"row {len(ids)}.*object '{ids[-1]}'.* 16 bytes"):
            append(rows_of(ids, 10), tmp_path / "a.zarr")
    with pytest.raises(IngestError, match=r"class 'Cepheid'.* 2 bytes"):
        append(rows_of(["new"], 10) | {"class": ["Cepheid"]}, tmp_path / "a.zarr")
    assert sorted(path.name for path in (tmp_path / "a.zarr/versions").iterdir()) == ["00000001.npz"]
    assert not (tmp_path / "a.zarr/staging").exists()


def test_columns_that_the_archive_lacks_are_told(tmp_path: Path) -> None:
    ingest(rows_of([7, 8], 0), tmp_path / "a.zarr", **ZTF)
    report = append(rows_of([7, 8], 10) | {"rb": [0.5, 0.6]}, tmp_path / "a.zarr")
    assert "the archive has no column rb: it is left out (2 rows)" in report.warnings


def test_texts_in_an_archive_of_numbers_are_refused(kit: Any, tmp_path: Path) -> None:
    ingest(rows_of([7, 8], 0), tmp_path / "a.zarr", **ZTF)
    with pytest.raises(IngestError, match="007"):
        append(rows_of(["007", "8"], 10), tmp_path / "a.zarr")
    append(rows_of(["7", "9"], 10), tmp_path / "a.zarr")
    assert {name: len(found[3]) for name, found in kit.objects(tmp_path / "a.zarr").items()} == {
        7: 2,
        8: 1,
        9: 1,
    }
