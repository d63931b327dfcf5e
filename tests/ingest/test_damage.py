"""Damaged files and columns of wrong types: a message with file, row and remedy, and no row is lost."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.catalogs.readers import find_reader, parquet, sources_of
from skytrawl.catalogs.readers.columns import map_columns
from skytrawl.catalogs.readers.table import Options, Piece
from skytrawl.catalogs.rows import KINDS, Rules, Tally, normalise
from skytrawl.catalogs.surveys import load_survey
from skytrawl.errors import IngestError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = 4000
GOOD = {
    "object": np.repeat(np.arange(1, ROWS // 100 + 1), 100),
    "mjd": np.linspace(58000, 59000, ROWS),
    "mag": np.random.default_rng(3).normal(18, 1, ROWS).astype(np.float32),
    "magerr": np.full(ROWS, 0.1, np.float32),
    "band": ["g", "r"] * (ROWS // 2),
}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(columns: dict[str, Any] | None = None, **options: Any) -> Path:
        path = tmp_path / "curves.parquet"
        pq.write_table(pa.table(GOOD | (columns or {})), path, row_group_size=1000, **options)
        return path

    return _write


def checked(path: Path, options: Options | None = None) -> tuple[Tally, list[dict[str, np.ndarray]]]:
    """All rows of a file, piece by piece."""
    options = options or Options()
    ztf, tally, rows = load_survey("ztf"), Tally(), []
    reader, header = find_reader(path, options)
    mapped = map_columns(header, {}, ztf, "magnitude", str(path))
    kinds = {name: KINDS[role] for role, name in mapped.columns.items()}
    for piece in reader.pieces(path, options):
        for chunk in reader.chunks(piece, kinds, options):
            rows.append(normalise(chunk, mapped, Rules(ztf, "magnitude", "mag", "mjd"), str(path), tally))
    return tally, rows


def test_a_file_that_is_cut_off(write: Write) -> None:
    path = write()
    data = path.read_bytes()
    for length in (0, 3, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(IngestError, match=r"curves\.parquet is no readable Parquet.*write it again"):
            checked(path)


@pytest.mark.parametrize("compression", ["snappy", "zstd", "none"])
def test_damaged_pages_are_placed(write: Write, compression: str) -> None:
    path = write(compression=compression, write_page_checksum=True)
    start = pq.ParquetFile(path).metadata.row_group(2).column(2).data_page_offset
    data = bytearray(path.read_bytes())
    data[start + 200 : start + 300] = bytes(100)
    path.write_bytes(data)
    options = Options(chunk_rows=500, piece_rows=1000)
    with pytest.raises(IngestError, match=r"curves\.parquet, after row 2000: cannot be read.*again"):
        checked(path, options)
    kinds = {"mjd": "number", "mag": "number"}
    for number, piece in enumerate(parquet.pieces(path, options)):
        if number != 2:
            assert sum(map(len, parquet.chunks(piece, kinds, options))) == 1000


def test_a_file_that_shrinks_meanwhile(write: Write) -> None:
    path = write()
    with pytest.raises(IngestError, match="has changed since"):
        list(parquet.chunks(Piece(path, (3, 9)), {"mjd": "number"}, Options()))


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        (
            "mag",
            ["bright"] * ROWS,
            r"row 1: the column 'mag' holds text \(such as 'bright'\).*value=<column>",
        ),
        ("mjd", ["2020-01-01"] * ROWS, r"row 1: the column 'mjd' holds text.*time=<column>"),
        ("mjd", [datetime.datetime(2020, 1, 1)] * ROWS, r"'mjd' is of type timestamp.*times as numbers"),
        ("mag", [[18.0, 19.0]] * ROWS, r"'mag' is of type list.*one row an observation"),
        ("mag", [{"v": 1.0}] * ROWS, r"'mag' is of type struct.*one row an observation"),
        ("magerr", [True] * ROWS, r"'magerr' is of type bool, not a number"),
        ("object", [2.0**60] * ROWS, r"'object' holds identifiers as double|float64"),
    ],
)
def test_columns_of_wrong_types(write: Write, column: str, values: list[Any], says: str) -> None:
    path = write({column: values})
    with pytest.raises(IngestError, match=says):
        checked(path)


def test_missing_values_are_dropped_with_a_reason(write: Write) -> None:
    columns: dict[str, Any] = {name: list(np.asarray(values)) for name, values in GOOD.items()}
    columns["object"] = [*columns["object"][:-1], None]
    for place, name in enumerate(("mjd", "mag", "magerr", "band")):
        columns[name][place] = None
    path = write(columns)
    tally, rows = checked(path)
    assert tally.dropped == {
        "the object identifier is empty": 1,
        "time is missing or not finite": 1,
        "value is missing or not finite": 1,
        "error is missing": 1,
        "unknown band ''": 1,
    }
    assert tally.read == ROWS == sum(len(part["row"]) for part in rows) + 5
    assert tally.examples["the object identifier is empty"] == [f"{path}, row {ROWS}"]
    assert tally.losers.tolist() == [1]


def test_files_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "none.parquet"
    empty = pa.table({name: pa.array(values)[:0] for name, values in GOOD.items()})
    pq.write_table(empty, path)
    assert checked(path)[0].read == 0
    with pq.ParquetWriter(path, empty.schema):
        pass
    assert pq.ParquetFile(path).num_row_groups == 0
    assert checked(path, Options(align_on="object"))[0].read == 0


def test_doubled_columns(tmp_path: Path) -> None:
    path = tmp_path / "twice.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1.0])] * 2, ["mag", "mag"]), path)
    with pytest.raises(IngestError, match="column 'mag' twice"):
        find_reader(path, Options())


@pytest.mark.parametrize("kind", ["number", "decimal", "integer", "id", "text", "coded"])
def test_every_arrow_type_as_every_kind(tmp_path: Path, kind: str) -> None:
    whole, text = [7, None, 9], ["7", None, "9 "]
    columns = {
        "int8": pa.array(whole, pa.int8()),
        "uint64": pa.array(whole, pa.uint64()),
        "float16": pa.array([7.0, None, 9.0], pa.float16()),
        "float64": pa.array([7.0, None, 9.0]),
        "string": pa.array(text),
        "large": pa.array(text, pa.large_string()),
        "view": pa.array(text, pa.string_view()),
        "binary": pa.array(text, pa.binary()),
        "codes": pa.array(text).dictionary_encode(),
        "numbers": pa.array([7.0, None, 9.0]).dictionary_encode(),
        "decimal": pa.array(whole, pa.decimal128(20, 0)),
    }
    path = tmp_path / "types.parquet"
    pq.write_table(pa.table(columns), path)
    (chunk,) = parquet.chunks(Piece(path), dict.fromkeys(columns, kind), Options())
    for name, column in chunk.columns.items():
        if kind == "coded":
            assert column.texts().tolist() == [b"7", b"", b"9"], name
        elif column.dtype.kind == "S":
            assert column.tolist() == [b"7", b"", b"9"], name
        elif kind == "integer":
            assert column.tolist() == [7, -1, 9], name
        elif kind == "id":
            assert column.tolist() == [7, 0, 9], name
            assert (f"{name} has no identifier", [1]) in [(r[0], r[1].tolist()) for r in chunk.rejected]
        else:
            assert np.array_equal(column, [7.0, np.nan, 9.0], equal_nan=True), name


def test_datasets_in_folders(tmp_path: Path) -> None:
    table = pa.table(GOOD)
    pq.write_to_dataset(table, tmp_path / "set", partition_cols=["band"])
    (tmp_path / "set" / "_metadata.parquet").write_bytes(b"")
    files = parquet.expand(tmp_path / "set", Options())
    assert files is not None
    assert [file.parent.name for file in files] == ["band=g", "band=r"]
    found = [row for file in files for row in checked(file)[1]]
    assert [set(rows["band"].tolist()) for rows in found] == [{0}, {1}]
    values = np.concatenate([rows["value"] for rows in found])
    assert sorted(values.tolist()) == sorted(GOOD["mag"].tolist())
    assert parquet.expand(tmp_path / "set" / "band=g", Options()) is None
    (tmp_path / "set" / "band=g" / ".part.parquet.crc").write_bytes(b"")
    assert sources_of(tmp_path / "set" / "band=g") == files[:1]
    assert sources_of(tmp_path / "set") == files
