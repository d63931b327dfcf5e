"""Positions and classes from a table with one row an object."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.catalogs.archive import Archive
from skytrawl.errors import IngestError
from skytrawl.intake.driver import append, ingest

ZTF: dict[str, Any] = {"survey": "ztf", "partition_observations": 100}


@pytest.fixture(scope="module")
def curves(kit: Any) -> Any:
    return {name: column for name, column in kit.table(3).items() if name not in ("ra", "dec")}


@pytest.fixture(scope="module")
def things(curves: Any) -> Any:
    ids = np.random.default_rng(1).permutation(np.unique(curves["object"]))
    return {
        "object": ids,
        "ra": np.linspace(0, 359, len(ids)),
        "dec": np.linspace(-89, 89, len(ids)),
        "class": np.array(["RR", "EB", ""])[np.arange(len(ids)) % 3],
    }


def check(objects: Any, things: Any, left_out: set[Any] | frozenset[Any] = frozenset()) -> None:
    for name, *here, kind in zip(
        *(things[role].tolist() for role in ("object", "ra", "dec", "class")), strict=True
    ):
        found = objects[name]
        if name in left_out:
            assert np.isnan(found[0])
            assert np.isnan(found[1])
            assert found[2] == b""
        else:
            np.testing.assert_allclose(found[:2], here, rtol=0, atol=1e-12)
            assert found[2].decode() == kind


@pytest.mark.parametrize("kind", ["parquet", "csv", "memory"])
@pytest.mark.parametrize("text", [False, True])
def test_rows_get_position_and_class(
    kit: Any, curves: Any, things: Any, tmp_path: Path, kind: str, text: bool
) -> None:
    """Identifiers may be numbers here and texts there."""
    table: Any = things | {"object": things["object"].astype(str)} if text else things
    if kind != "memory":
        table = kit.save(table, tmp_path / f"objects.{kind}")
    ingest(kit.save(curves, tmp_path / "t.parquet"), tmp_path / "a.zarr", objects=table, **ZTF)
    kit.sound(tmp_path / "a.zarr")
    check(kit.objects(tmp_path / "a.zarr"), things)
    assert Archive.open(tmp_path / "a.zarr").has_positions


def test_a_table_of_objects_is_no_light_curve(tmp_path: Path) -> None:
    """Though the survey's light curves end in .dat too."""
    folder = tmp_path / "I"
    folder.mkdir()
    (folder / "BLG-1.dat").write_text("2457000.5 15.1 0.01\n2457001.5 15.2 0.01\n")
    (tmp_path / "objects.dat").write_text("object ra dec\nBLG-1 268.5 -29.25\n")
    ingest(folder, tmp_path / "a.zarr", survey="ogle", objects=tmp_path / "objects.dat")
    assert Archive.open(tmp_path / "a.zarr").has_positions


def test_what_does_not_meet_is_told(kit: Any, curves: Any, things: Any, tmp_path: Path) -> None:
    table = kit.picked(things, slice(5, None))
    strangers = {
        "object": np.array([1, 2], np.uint64),
        "ra": [1.0, 2.0],
        "dec": [0.0, 0.0],
        "class": ["x", "y"],
    }
    table = {name: np.concatenate([column, strangers[name], column[:1]]) for name, column in table.items()}
    path = kit.save(table, tmp_path / "objects.csv")
    report = ingest(curves, tmp_path / "a.zarr", objects=path, **ZTF)
    assert f"1 rows of {path} repeat an object: its first row is taken" in report.warnings
    assert f"2 objects of {path} have no observations and are left out" in report.warnings
    assert f"5 objects are not in {path}" in report.warnings
    kit.sound(tmp_path / "a.zarr")
    check(kit.objects(tmp_path / "a.zarr"), things, set(things["object"][:5].tolist()))


def test_the_table_comes_before_the_rows(kit: Any, curves: Any, things: Any, tmp_path: Path) -> None:
    """Where both have a position, and where the table has none for an object."""
    rows = curves | {"ra": np.full(len(curves["mjd"]), 7.0), "dec": np.full(len(curves["mjd"]), 7.0)}
    table = kit.picked(things, slice(1, None))
    ingest(rows, tmp_path / "a.zarr", objects=table, **ZTF)
    kit.sound(tmp_path / "a.zarr")
    objects = kit.objects(tmp_path / "a.zarr")
    assert objects[things["object"][0]][:2] == (7.0, 7.0)
    check(objects, table)


def test_an_append_takes_a_table_for_what_is_new(kit: Any, curves: Any, things: Any, tmp_path: Path) -> None:
    ids = things["object"][:30]
    known = np.isin(curves["object"], ids) & (curves["mjd"] < 58006)
    ingest(kit.picked(curves, known), tmp_path / "a.zarr", objects=things, **ZTF)
    first, again = (set(np.unique(curves["object"][rows]).tolist()) for rows in (known, ~known))
    other = things | {"ra": things["ra"][::-1], "class": np.full(len(things["ra"]), "SN")}
    report = append(kit.picked(curves, ~known), tmp_path / "a.zarr", objects=other)
    assert report.new_objects == len(things["object"]) - len(first)
    kit.sound(tmp_path / "a.zarr")
    objects = kit.objects(tmp_path / "a.zarr")
    assert len(objects) == len(things["object"])
    for place, name in enumerate(things["object"].tolist()):
        source = things if name in first else other
        assert objects[name][0] == pytest.approx(source["ra"][place], abs=1e-12)
        kind = source["class"][place] or ("SN" if name in again else "")
        assert objects[name][2].decode() == kind
    assert not [line for line in report.warnings if "objects" in line and "arc minute" not in line]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dec": None}, "needs a column object and class, or ra and dec"),
        ({"ra": -1.0}, "row 1: ra is -1"),
        ({"dec": 91.0}, "row 1: dec is 91"),
        ({"ra": "north"}, "row 1: .*north"),
    ],
)
def test_a_table_that_is_none(
    kit: Any, curves: Any, things: Any, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    table = {name: column for name, column in things.items() if change.get(name, 0) is not None}
    for name, value in change.items():
        if value is not None:
            table[name] = np.where(np.arange(len(things["ra"])) == 0, value, table[name].astype(object))
    path = kit.save(table, tmp_path / "objects.csv")
    with pytest.raises(IngestError, match=words) as caught:
        ingest(curves, tmp_path / "a.zarr", objects=path, **ZTF)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "a.zarr").exists()
