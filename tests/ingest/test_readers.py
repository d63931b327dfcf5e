"""Files of every kind become the same archive, bit for bit."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytrawl.catalogs.readers import READERS, Options, find_reader
from skytrawl.catalogs.readers.table import Piece, parse_numbers
from skytrawl.catalogs.samples import sample, sample_path
from skytrawl.errors import IngestError

GOOD = ["a,58001.5,18.0,0.1,g", "a,58002.5,18.5,0.1,r", "b,58003.5,19.0,0.2,g"]
Take = Callable[..., Any]
Write = Callable[..., Path]


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].dtype == right[name].dtype, name
        assert left[name].tobytes() == right[name].tobytes(), name


@pytest.mark.parametrize("name", ["ztf_alert_histories", "sdss_s82_rrlyrae", "antares_locus_ANT202037lq"])
def test_with_and_without_pyarrow(take: Take, name: str) -> None:
    pytest.importorskip("pyarrow")
    chosen = sample(name)
    first, with_pyarrow = take(chosen.path, use_pyarrow=True, **chosen.ingest_options())
    second, lean = take(chosen.path, use_pyarrow=False, **chosen.ingest_options())
    same(with_pyarrow, lean)
    assert first.dropped == second.dropped
    assert first.examples == second.examples
    assert first.warnings == second.warnings


def test_awkward_text_reads_alike(write: Write, take: Take) -> None:
    pytest.importorskip("pyarrow")
    rows = [
        "a, 58001.123456789012 ,1.8e1,0.1,g",
        '"a, the second",58002.5,18.000000000000001,1e-1,"r"',
        "",
        "a,+58003.5,18.5,NA,g",
        "a,58004.5,1_8.5,0.1,g",
        "a,58005.5,--,0.1,g",
        "a,58006.5,inf,0.1,g",
        "a,58007.5,1e999,0.1,g",
        "a,58008.5,18,.5,g",
        "å,58008.5,17.9,4.9406564584124654e-324,g",
    ]
    path = write(*rows)
    first, with_pyarrow = take(path, use_pyarrow=True)
    second, lean = take(path, use_pyarrow=False)
    same(with_pyarrow, lean)
    assert first.dropped == second.dropped
    assert first.examples == second.examples
    assert first.rows_read == 9
    assert lean["time"][0] == 58001.123456789012


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False).map(repr), min_size=1, max_size=30))
def test_numbers_are_correctly_rounded(texts: list[str]) -> None:
    values, bad = parse_numbers(texts)
    assert not bad
    assert values.tolist() == [float(text) for text in texts]


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "t.txt", "t.dat"])
def test_delimiters_and_gzip(write: Write, take: Take, use_pyarrow: bool, name: str) -> None:
    delimiter = {"t.tsv": "\t", "t.txt": ";", "t.dat": "   "}.get(name, ",")
    rows = [row.replace(",", delimiter) for row in GOOD]
    path = write(*rows, header="object,mjd,mag,magerr,band".replace(",", delimiter), name=name)
    report, found = take(path, use_pyarrow=use_pyarrow)
    assert report.rows_kept == 3
    assert sorted(found["value"]) == [18.0, 18.5, 19.0]


def test_byte_order_mark_and_comment_lines(write: Write, take: Take, use_pyarrow: bool) -> None:
    path = write("# made by hand", "", "object,mjd,mag,magerr,band", *GOOD, header="", encoding="utf-8-sig")
    assert take(path, use_pyarrow=use_pyarrow)[0].rows_kept == 3


def test_other_encodings(write: Write, take: Take, use_pyarrow: bool) -> None:
    path = write("Å,58001.5,18.0,0.1,g", encoding="latin-1")
    with pytest.raises(IngestError, match=r"byte 0xc5 is no utf-8 text.*encoding='latin-1'"):
        take(path, use_pyarrow=use_pyarrow)
    _, found = take(path, use_pyarrow=use_pyarrow, encoding="latin-1")
    assert found["object_id"][0].decode() == "Å"
    wide = write(*GOOD, name="wide.csv", encoding="utf-16")
    with pytest.raises(IngestError, match="utf-16"):
        take(wide, use_pyarrow=use_pyarrow)
    assert take(wide, use_pyarrow=use_pyarrow, encoding="utf-16")[0].rows_kept == 3
    with pytest.raises(IngestError, match="knows no encoding"):
        take(wide, encoding="klingon")


def test_ecsv_units(tmp_path: Path, take: Take, use_pyarrow: bool) -> None:
    from astropy.table import Table

    table = Table(
        {
            "object": ["a b", "a b", "c"],
            "mjd": [58001.5, 58002.5, 58003.5],
            "mag": [18.0, 18.5, 19.0],
            "magerr": [0.1, 0.1, 0.2],
            "band": ["g", "r", "g"],
        },
        units={"mjd": "d", "mag": "mag", "magerr": "mag"},
    )
    good, bad = tmp_path / "good.ecsv", tmp_path / "bad.ecsv"
    table.write(good)
    report, found = take(good, use_pyarrow=use_pyarrow)
    assert report.rows_kept == 3
    assert found["object_id"].tolist().count(b"a b") == 1
    table["mag"].unit = "mJy"
    table["mjd"].unit = "s"
    table.write(bad)
    with pytest.raises(IngestError) as caught:
        take(bad, use_pyarrow=use_pyarrow)
    for part in ("'mag'", "'mJy'", "units=", "'mjd'", "'s'", "days"):
        assert part in str(caught.value)


def test_parquet_keeps_float32(tmp_path: Path, take: Take) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    generator = np.random.default_rng(5)
    value = generator.normal(18, 1, 1000).astype(np.float32)
    time = generator.uniform(58000, 59000, 1000)
    table = {
        "diaObjectId": np.repeat(np.arange(2**60, 2**60 + 10, dtype=np.int64), 100),
        "midpointMjdTai": time,
        "psfFlux": value,
        "psfFluxErr": np.full(1000, 0.5, np.float32),
        "band": pa.array(["u", "y"] * 500).dictionary_encode(),
        "ra": np.repeat(np.linspace(10, 20, 10), 100),
        "dec": np.repeat(np.linspace(-5, 5, 10), 100),
    }
    path = tmp_path / "sources.parquet"
    pq.write_table(pa.table(table), path, row_group_size=130)
    report, found = take(path, survey="lsst", partition_observations=250)
    assert found["value"].dtype == np.float32
    assert found["object_id"].dtype == np.uint64
    assert set(found["object_id"].tolist()) == set(range(2**60, 2**60 + 10))
    order = np.lexsort((found["time"], found["object"]))
    expected = np.lexsort((time, table["diaObjectId"]))
    assert found["value"][order].tobytes() == value[expected].tobytes()
    assert 4 <= report.partitions <= 8  # the cuts follow row groups
    assert report.guessed[str(path)]["value"] == "psfFlux"


def test_table_in_memory(take: Take) -> None:
    table = {
        "object": [3, 3, 1],
        "time": [58001.0, 58000.0, 58002.0],
        "mag": np.array([18, 19, 20], np.float32),
        "magerr": [0.1, 0.2, 0.3],
        "band": ["R", "R", "g"],
    }
    report, found = take(table)
    assert report.bands == ("g", "R", "i")
    assert found["object_id"].dtype == np.uint64
    assert found["value"].dtype == np.float32
    assert found["error"].dtype == np.float64
    with pytest.raises(IngestError, match="differ in length"):
        take(table | {"mag": [1.0]})
    with pytest.raises(IngestError, match="not int"):
        take(5)


def test_data_frames_and_astropy_tables(take: Take) -> None:
    pd = pytest.importorskip("pandas")
    from astropy import units as u
    from astropy.table import QTable

    columns = {
        "object": ["a", "b", None],
        "mjd": [58001.0, 58002.0, 58003.0],
        "mag": np.array([18.0, np.nan, 19.0], np.float32),
        "magerr": [0.1, 0.2, 0.3],
        "band": ["g", "r", "i"],
    }
    report, found = take(pd.DataFrame(columns))
    assert report.dropped == {"value is missing or not finite": 1, "the object identifier is empty": 1}
    assert found["value"].dtype == np.float32
    good = columns | {
        "object": ["a", "b", "c"],
        "mag": [18.0, 18.5, 19.0] * u.mag,
        "mjd": columns["mjd"] * u.d,
    }
    assert take(QTable(good))[0].rows_kept == 3
    with pytest.raises(IngestError, match=r"time \(column 'mjd'\) is in 'h'"):
        take(QTable(good | {"mjd": columns["mjd"] * u.h}))


def test_identifiers_in_columns_with_gaps(take: Take, tmp_path: Path) -> None:
    """Two 64-bit identifiers that are one float64 stay two objects, or are refused."""
    pd = pytest.importorskip("pandas")
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    names = [2**60, 2**60 + 1, None]
    rest = {
        "mjd": [58001.0, 58002.0, 58003.0],
        "mag": [18.0] * 3,
        "magerr": [0.1] * 3,
        "fid": [1.0, 2.0, 3.0],
    }
    for kind in ("Int64", pd.ArrowDtype(pa.int64())):
        report, found = take(pd.DataFrame(rest | {"object": pd.array(names, dtype=kind)}))
        assert sorted(found["object_id"].tolist()) == names[:2]
        assert report.dropped == {"the object identifier is empty": 1}
    for values, ids in (([5.0, 2.0**53 - 1, np.nan], [5, 2**53 - 1]), ([5.0, 2.0**53, np.nan], None)):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.parquet"
        parquet.write_table(pa.table(rest | {"object": pa.array(values)}), path)
        for source in (path, rest | {"object": np.array(values)}):
            if ids is not None:
                assert sorted(take(source)[1]["object_id"].tolist()) == ids
                continue
            with pytest.raises(IngestError, match=r"'object' holds identifiers as float64"):
                take(source)


def test_long_chunks_of_every_reader_number_rows_alike(write: Write) -> None:
    path = write(*(f"a,{58000 + i},18,0.1,g" for i in range(1000)))
    kinds = {"mjd": "number"}
    for use_pyarrow in (True, False):
        options = Options(chunk_rows=128, use_pyarrow=use_pyarrow)
        reader, _ = find_reader(path, options)
        for chunk in reader.chunks(Piece(path), kinds, options):
            assert chunk.columns["mjd"][0] == 58000 + chunk.first_row - 1


def test_a_fault_deep_in_the_file_is_placed_alike(write: Write, take: Take) -> None:
    rows = [f"a,{58000 + i},18,0.1,g" for i in range(5000)]
    path = write(*rows, "a,1,2")
    for use_pyarrow in (True, False):
        with pytest.raises(IngestError, match=r"row 5001: 3 fields where the header line has 5"):
            take(path, use_pyarrow=use_pyarrow)


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from skytrawl.intake.driver import ingest\n"
        "from skytrawl.catalogs.samples import sample\n"
        "s = sample('ztf_alert_histories')\n"
        f"print(ingest(s.path, r'{tmp_path}/lean.zarr', **s.ingest_options()).rows_kept)\n"
        f"ingest(r'{tmp_path}/x.parquet', r'{tmp_path}/a.zarr', survey='ztf')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "1366"
    assert "skytrawl[hats]" in done.stderr


def test_readers_are_registered_once() -> None:
    extensions = [suffix for reader in READERS.values() for suffix in reader.extensions]
    assert len(extensions) == len(set(extensions))
    assert all(name == reader.name and reader.summary for name, reader in READERS.items())


def test_antares_locus(take: Take, use_pyarrow: bool) -> None:
    report, found = take(sample_path("antares_locus_ANT202037lq"), use_pyarrow=use_pyarrow)
    assert (report.rows_read, report.rows_kept, report.upper_limits) == (3959, 3959, 407)
    assert found["object_id"].tolist() == [b"ANT202037lq"]
    detected = ~found["upper_limit"]
    assert detected.sum() == 3552
    counts = {band: int((found["band"][detected] == band).sum()) for band in ("g", "R", "i")}
    assert counts == {"g": 1795, "R": 1745, "i": 12}
    assert (found["sign"][detected] == -1).all()
    assert (found["sign"][~detected] == 0).all()
    assert np.isnan(found["error"][~detected]).all()
    assert np.isfinite(found["error"][detected]).all()
    assert np.isfinite(found["rb"][detected]).all()


def test_antares_values_are_those_of_the_file(take: Take) -> None:
    import csv
    import gzip

    with gzip.open(sample_path("antares_locus_ANT202037lq"), "rt") as file:
        rows = [row for row in csv.DictReader(file) if row["ant_survey"] == "1"]
    _, found = take(sample_path("antares_locus_ANT202037lq"))
    keep = ~found["upper_limit"]
    delivered = sorted(
        (row["ant_passband"], float(row["ant_mjd"]), float(row["ztf_magpsf"]), float(row["ztf_sigmapsf"]))
        for row in rows
    )
    stored = sorted(
        zip(*(found[name][keep].tolist() for name in ("band", "time", "value", "error")), strict=True)
    )
    assert stored == delivered


def test_antares_locus_without_a_field(write: Write, take: Take) -> None:
    path = write("58001,1,g", header="ant_mjd,ant_survey,ant_passband", name="ANT2020abc.csv")
    with pytest.raises(IngestError, match=r"ant_maglim, ztf_magpsf, ztf_sigmapsf, ztf_isdiffpos missing"):
        take(path)


def _rows(reader: Any, piece: Piece, options: Options) -> list[tuple[int, int, float]]:
    """Row number, object, time of every row of a piece."""
    found = []
    for chunk in reader.chunks(piece, {"object": "id", "mjd": "number"}, options):
        numbers = range(chunk.first_row, chunk.first_row + len(chunk))
        found += list(
            zip(numbers, map(int, chunk.columns["object"]), chunk.columns["mjd"].tolist(), strict=True)
        )
    return found


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("with_pyarrow", [True, False])
def test_pieces_of_text_number_rows_as_the_file_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, with_pyarrow: bool
) -> None:
    if with_pyarrow:
        pytest.importorskip("pyarrow")
    monkeypatch.setattr("skytrawl.catalogs.readers.csv._SCANNED", 1000)
    path = tmp_path / "long.csv"
    lines = [f"{row // 7},{58000 + row}" for row in range(1, 2000)]
    path.write_text(end.join(["# curves", "object,mjd", *lines]), newline="")
    options = Options(chunk_rows=100, piece_rows=300, use_pyarrow=with_pyarrow)
    reader, _ = find_reader(path, options)
    pieces = reader.pieces(path, options)
    assert len(pieces) in (6, 7)
    assert [piece.first_row for piece in pieces[1:]] == [
        piece.first_row + piece.rows for piece in pieces[:-1]
    ]
    expected = [(row, row // 7, 58000.0 + row) for row in range(1, 2000)]
    assert [row for piece in pieces for row in _rows(reader, piece, options)] == expected
    path.write_text(path.read_text().replace("58900", '"58900"'))
    assert len(reader.pieces(path, options)) == 1
    path.write_text(path.read_text().replace('"', "").replace(",58900", ""))
    with pytest.raises(IngestError, match="row 900: 1 fields where"):
        [_rows(reader, piece, options) for piece in reader.pieces(path, options)]


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    group=st.integers(1, 30),
    piece=st.integers(1, 60),
    as_text=st.booleans(),
)
def test_aligned_pieces_hold_whole_objects(counts: list[int], group: int, piece: int, as_text: bool) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    objects = np.repeat(np.arange(len(counts)), counts)
    column = pa.array(objects)
    table = pa.table(
        {"object": column.cast(pa.string()) if as_text else column, "mjd": 58000.0 + np.arange(len(objects))}
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sorted.parquet"
        pq.write_table(table, path, row_group_size=group)
        options = Options(chunk_rows=8, piece_rows=piece, align_on="object")
        reader, _ = find_reader(path, options)
        assert reader.aligned
        found = [_rows(reader, part, options) for part in reader.pieces(path, options)]
        plain = Options(chunk_rows=8, piece_rows=piece)
        exact = reader.pieces(path, plain)
        assert sum(part.rows for part in exact) == len(objects)
        for part in exact:
            rows = _rows(reader, part, plain)
            assert [row[0] for row in rows] == list(range(part.first_row, part.first_row + part.rows))
    together = [row for rows in found for row in rows]
    assert together == [(i + 1, int(name), 58000.0 + i) for i, name in enumerate(objects)]
    owned = [{row[1] for row in rows} for rows in found]
    assert sum(map(len, owned)) == len(set(objects.tolist()))
