"""Tables: what is written is read back by the programs that they are for."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from conftest_results import Filled

from skytrawl.catalogs import export
from skytrawl.catalogs.query import open_query
from skytrawl.catalogs.results import open_results
from skytrawl.errors import BackendUnavailableError, ParameterError

NARROW = ["object_id", "ra", "class", "score", "power", "n_pairs", "part", "flagged"]


@pytest.fixture
def dataset(filled: Filled) -> xr.Dataset:
    return open_results(filled.store.path)["dmdt-score"].to_dataset().skytrawl.top(30, "power")


def test_pandas_spreads_the_keys(dataset: xr.Dataset) -> None:
    frame = dataset.skytrawl.to_table(columns=NARROW)
    assert list(frame) == [*NARROW[:6], "part_g", "part_R", "part_g-R", "flagged"]
    np.testing.assert_array_equal(frame["part_R"], dataset["part"].sel(key="R"))
    assert set(frame["class"]) <= {"SN Ia", "RR Lyrae", ""}
    assert frame["object_id"].dtype == np.uint64
    with pytest.raises(ParameterError, match="map has 180 values a row"):
        dataset.skytrawl.to_table()


def test_astropy_keeps_units_and_arrays(dataset: xr.Dataset) -> None:
    table = dataset.skytrawl.to_table("astropy")
    assert str(table["ra"].unit) == "deg"
    assert str(table["power"].unit) == "mag2"
    assert table["map"].shape == (30, 3, 60)
    np.testing.assert_array_equal(table["score"], dataset["score"])


def test_parquet_round_trip(dataset: xr.Dataset, tmp_path: Path) -> None:
    from pyarrow import parquet

    path = dataset.skytrawl.to_table("parquet", tmp_path / "deep" / "t.parquet")
    table = parquet.read_table(path)
    assert table.schema.field("ra").metadata[b"unit"] == b"deg"
    for name in ("object_id", "ra", "score", "power", "n_pairs", "flagged"):
        values = table[name].to_numpy()
        np.testing.assert_array_equal(values, dataset[name])
        assert values.dtype == dataset[name].dtype
    assert table["class"].to_pylist() == np.char.decode(dataset["class"].values).tolist()
    np.testing.assert_array_equal(np.array(table["map"].to_pylist(), np.float32), dataset["map"])
    assert [entry.name for entry in path.parent.iterdir()] == ["t.parquet"]


def test_csv_round_trip_keeps_every_digit(dataset: xr.Dataset, tmp_path: Path) -> None:
    import pandas

    path = dataset.skytrawl.to_table("csv", tmp_path / "t.csv", columns=NARROW)
    nan = {"score": ["nan"], "power": ["nan"]}
    frame = pandas.read_csv(path, keep_default_na=False, na_values=nan,
                            dtype={"object_id": np.uint64, "power": np.float32, "part_g": np.float32},
                            encoding="utf-8")  # fmt: skip
    for name in ("object_id", "ra", "score", "power", "n_pairs", "flagged"):
        np.testing.assert_array_equal(frame[name], dataset[name], err_msg=name)
    np.testing.assert_array_equal(frame["part_g"], dataset["part"][:, 0])
    assert frame["class"].tolist() == np.char.decode(dataset["class"].values).tolist()


@pytest.mark.parametrize(("format", "suffix"), [("votable", ".vot"), ("ecsv", ".ecsv")])
def test_astropy_formats_round_trip(dataset: xr.Dataset, tmp_path: Path, format: str, suffix: str) -> None:
    from astropy.table import Table

    path = dataset.skytrawl.to_table(format, tmp_path / f"t{suffix}", columns=NARROW)
    table = Table.read(path, format="votable" if format == "votable" else "ascii.ecsv")
    assert str(table["ra"].unit) == "deg"
    for name in ("object_id", "ra", "power", "n_pairs", "flagged", "part"):
        values = np.ma.filled(table[name], np.nan) if name == "power" else np.asarray(table[name])
        np.testing.assert_array_equal(values, dataset[name], err_msg=name)
    words = [str(word) for word in np.ma.filled(table["class"], "")]
    assert words == np.char.decode(dataset["class"].values).tolist()


def test_votable_takes_ids_beyond_its_integers(tmp_path: Path) -> None:
    from astropy.table import Table

    ids = np.array([2**64 - 1, 3], np.uint64)
    export.write_table({"object_id": ids, "code": np.array([200, 1], np.uint8)}, tmp_path / "t.vot")
    table = Table.read(tmp_path / "t.vot")
    assert [int(word) for word in table["object_id"]] == ids.tolist()
    assert table["code"].tolist() == [200, 1]


def test_long_tables_are_written_in_pieces(
    filled: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyarrow import parquet

    from skytrawl.catalogs import accessor

    monkeypatch.setattr(accessor, "BLOCK_ROWS", 50)
    dataset = open_results(filled.store.path)["dmdt-score"].to_dataset()
    dataset.skytrawl.to_table("parquet", tmp_path / "t.parquet")
    assert parquet.ParquetFile(tmp_path / "t.parquet").num_row_groups == 3
    np.testing.assert_array_equal(parquet.read_table(tmp_path / "t.parquet")["score"], dataset["score"])
    dataset.skytrawl.to_table("csv", tmp_path / "t.csv", columns=["object_id", "score"])
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 126


def test_hits_in_the_form_of_soraisam2020(
    filled: Filled, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    query = open_query(filled.store.path)
    count = export.write_flagged_csv(query.flagged(), tmp_path / "hits.csv", run=query.run)
    rows = list(csv.reader(io.StringIO((tmp_path / "hits.csv").read_text())))
    flagged = filled.columns["flagged"]
    assert count == len(rows) == flagged.sum()
    assert [int(row[0]) for row in rows] == filled.columns["object_id"][flagged].tolist()
    assert {row[1] for row in rows} == {"ztf"}
    assert [float(row[2]) for row in rows] == filled.columns["score"][flagged].tolist()
    export.write_flagged_csv(query.flagged(), "-", run=query.run, topic="extragalactic", by="n_pairs")
    first = capsys.readouterr().out.splitlines()[0].split(",")
    assert first[1:] == ["extragalactic", str(filled.columns["n_pairs"][flagged][0])]
    with pytest.raises(ParameterError, match="no column 'nope'"):
        export.write_flagged_csv(query.flagged(), "-", run=query.run, by="nope")
    with pytest.raises(ParameterError, match="needs the columns"):
        export.write_flagged_csv(query.flagged(columns=["ra"]), "-", run=query.run)


def test_impossible_tables_are_refused(dataset: xr.Dataset, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="did you mean 'parquet'"):
        dataset.skytrawl.to_table("parqet")
    with pytest.raises(ParameterError, match="give its path"):
        dataset.skytrawl.to_table("parquet")
    with pytest.raises(ParameterError, match=r"ends in one of \.parquet"):
        export.write_table({"a": np.arange(3)}, tmp_path / "t.xlsx")
    with pytest.raises(ParameterError, match="nothing to write"):
        export.write_table(iter([]), tmp_path / "t.parquet")
    assert list(tmp_path.glob("*t.[xp]*")) == []


def test_parquet_without_pyarrow_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BackendUnavailableError, match=r"pip install 'skytrawl\[hats\]'"):
        export.write_table({"a": np.arange(3)}, tmp_path / "t.parquet")
