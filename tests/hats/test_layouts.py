"""Shapes of nested light curves, pieces, and folders that are not what they say."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import skytrawl
from skytrawl.catalogs import readers
from skytrawl.catalogs.readers import hats
from skytrawl.catalogs.readers.table import Chunk, Coded, Options
from skytrawl.errors import IngestError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

KINDS = {"oid": "id", "ra": "number", "mjd": "number", "mag": "number", "band": "coded"}


def lists(counts: list[int], values: Any, kind: Any = None) -> Any:
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(values, kind))


def curves(counts: list[int]) -> dict[str, Any]:
    n = sum(counts)
    generator = np.random.default_rng(n)
    return {
        "mjd": lists(counts, generator.uniform(58000, 60000, n)),
        "mag": lists(counts, generator.normal(18, 1, n).astype(np.float32)),
        "band": lists(counts, generator.choice(["g", "r"], n).tolist(), pa.string()),
    }


def table(counts: list[int], shape: str) -> Any:
    columns: dict[str, Any] = {
        "oid": pa.array(np.arange(len(counts)) + 5),
        "ra": pa.array(np.arange(len(counts)) / 7),
        "mag": pa.array(np.full(len(counts), -1.0)),
    }
    found = curves(counts)
    if shape == "struct of lists":
        columns["lc"] = pa.StructArray.from_arrays(list(found.values()), names=list(found))
    elif shape == "list of structs":
        inner = pa.StructArray.from_arrays([column.flatten() for column in found.values()], names=list(found))
        columns["lc"] = lists(counts, inner)
    else:
        columns |= found
    return pa.table(columns)


def joined(chunks: Iterator[Chunk]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for chunk in chunks:
        for name, column in chunk.columns.items():
            values = column.texts() if isinstance(column, Coded) else column
            found.setdefault(name, []).extend(values.tolist())
    return found


@pytest.mark.parametrize("shape", ["struct of lists", "list of structs", "plain lists"])
@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=40),
    group=st.integers(1, 50),
    chunk_rows=st.integers(1, 60),
    piece_rows=st.integers(1, 100),
)
def test_shapes(
    tmp_path_factory: pytest.TempPathFactory,
    shape: str,
    counts: list[int],
    group: int,
    chunk_rows: int,
    piece_rows: int,
) -> None:
    """Pieces of any size give every row once, numbered from 1 on, and whole objects."""
    path = tmp_path_factory.mktemp("shape") / "file.parquet"
    pq.write_table(table(counts, shape), path, row_group_size=group)
    options = Options(chunk_rows=chunk_rows, piece_rows=piece_rows)
    pieces = hats.pieces(path, options)
    assert sum(piece.rows or 0 for piece in pieces) == sum(counts)
    chunks = [chunk for piece in pieces for chunk in hats.chunks(piece, KINDS, options)]
    found = joined(iter(chunks))
    wanted = curves(counts)
    assert found["oid"] == np.repeat(np.arange(len(counts)) + 5, counts).tolist()
    assert found["ra"] == np.repeat(np.arange(len(counts)) / 7, counts).tolist()
    assert found["mjd"] == wanted["mjd"].flatten().to_pylist()
    assert found["mag"] == wanted["mag"].flatten().to_pylist()
    assert [band.decode() for band in found["band"]] == wanted["band"].flatten().to_pylist()
    first = 1
    for chunk in chunks:
        if len(chunk):
            assert chunk.first_row == first
            first += len(chunk)
    assert sum(chunk.notes.get(hats.EMPTY, 0) for chunk in chunks) == counts.count(0)


def test_names_with_and_without_the_nested_column(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(table([2, 1], "struct of lists"), path)
    assert set(hats.header(path, Options()).names) == {
        *("mjd", "mag", "band", "lc.mjd", "lc.mag", "lc.band", "oid", "ra")
    }
    (piece,) = hats.pieces(path, Options())
    assert (
        joined(hats.chunks(piece, {"lc.mjd": "number"}, Options()))["lc.mjd"]
        == (joined(hats.chunks(piece, {"mjd": "number"}, Options()))["mjd"])
    )


def test_columns_of_objects_alone_are_one_row_an_object(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(table([2, 0, 3], "struct of lists"), path, row_group_size=2)
    pieces = hats.pieces(path, Options(piece_rows=1))
    assert len(pieces) == 2
    chunks = [chunk for piece in pieces for chunk in hats.chunks(piece, {"oid": "id"}, Options())]
    assert joined(iter(chunks))["oid"] == [5, 6, 7]
    assert [chunk.first_row for chunk in chunks] == [1, 3]


def test_missing_values_and_missing_lists(tmp_path: Path) -> None:
    rows = [
        {"oid": 1, "lc": {"mjd": [1.0, None], "mag": [2.0, 3.0]}},
        {"oid": 2, "lc": None},
        {"oid": None, "lc": {"mjd": [4.0], "mag": [5.0]}},
        {"oid": 4, "lc": {"mjd": None, "mag": None}},
    ]
    kind = pa.struct({"mjd": pa.list_(pa.float64()), "mag": pa.list_(pa.float32())})
    path = tmp_path / "file.parquet"
    pq.write_table(pa.Table.from_pylist(rows, pa.schema({"oid": pa.int64(), "lc": kind})), path)
    (piece,) = hats.pieces(path, Options())
    (chunk,) = hats.chunks(piece, {"oid": "id", "mjd": "number", "mag": "number"}, Options())
    assert chunk.columns["mag"].tolist() == [2.0, 3.0, 5.0]
    assert np.isnan(chunk.columns["mjd"][1])
    assert chunk.notes == {hats.EMPTY: 2}
    ((reason, indices, _),) = chunk.rejected
    assert reason.startswith("oid")
    assert indices.tolist() == [2]


def test_lists_of_different_lengths_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    columns = {
        "oid": pa.array([8, 9]),
        "mjd": lists([1, 2], [1.0, 2.0, 3.0]),
        "mag": lists([1, 1], [1.0, 2.0]),
    }
    pq.write_table(pa.table(columns), path)
    (piece,) = hats.pieces(path, Options())
    with pytest.raises(IngestError, match=r"file\.parquet: .*2 values of mjd and 1 of mag \(oid 9\)"):
        list(hats.chunks(piece, {"oid": "id", "mjd": "number", "mag": "number"}, Options()))


def test_several_nested_columns_need_a_choice(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    found = table([2, 1], "struct of lists")
    pq.write_table(found.append_column("forced", found["lc"]), path)
    assert "mjd" not in hats.header(path, Options()).names
    assert "forced.mjd" in hats.header(path, Options()).names
    assert "mjd" in hats.header(path, Options(nested="forced")).names
    with pytest.raises(IngestError, match="no nested column 'curve': it has lc, forced"):
        hats.header(path, Options(nested="curve"))


def test_times_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    moments = lists([2], np.array([0, 1], "datetime64[us]"))
    pq.write_table(pa.table({"oid": pa.array([1]), "mjd": moments}), path)
    (piece,) = hats.pieces(path, Options())
    with pytest.raises(IngestError, match="timestamp"):
        list(hats.chunks(piece, {"oid": "id", "mjd": "number"}, Options()))


def test_truncated_pixel_is_named(nested: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(nested["plain"], folder)
    (first, *_) = readers.sources_of(folder)
    first.write_bytes(first.read_bytes()[:-100])
    with pytest.raises(IngestError, match=first.name):
        readers.find_reader(first, Options())


def test_files_must_be_those_listed(nested: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "holes"
    shutil.copytree(nested["plain"], folder)
    files = readers.sources_of(folder)
    assert len(files) > 3
    files[1].rename(files[1].with_name("Npix=99.parquet"))
    with pytest.raises(IngestError, match=f"1 pixels of partition_info.csv have no file.*{files[1].name}"):
        readers.sources_of(folder)
    shutil.copy(files[1].with_name("Npix=99.parquet"), files[1])
    with pytest.raises(IngestError, match=r"not listed in partition_info\.csv.*Npix=99"):
        readers.sources_of(folder)
    (folder / "partition_info.csv").unlink()
    assert len(readers.sources_of(folder)) == len(files) + 1


def test_files_follow_the_curve(nested: dict[str, Path]) -> None:
    last = -1
    for file in readers.sources_of(nested["folders"]):
        cells = pq.read_table(file, columns=["_healpix_29"])["_healpix_29"].to_numpy()
        assert cells.min() > last
        last = int(cells.max())


def test_margins_and_indexes_are_no_light_curves(flat: Path) -> None:
    (margin,) = (flat / "sources").glob("sources_*")
    with pytest.raises(IngestError, match=r"margin catalogue.*name the catalogue it belongs to"):
        readers.sources_of(margin)
    assert readers.sources_of(flat / "sources") == readers.sources_of(flat / "sources" / "sources")
    with pytest.raises(IngestError, match=r"several HATS catalogues \(objects, sources\)"):
        readers.sources_of(flat)


def test_light_curves_as_plain_lists_take_the_band_from_the_object(tmp_path: Path) -> None:
    """As in the light curves of ZTF's data releases: one row an object and filter, lists without a name."""
    path = tmp_path / "file.parquet"
    columns = {
        "objectid": pa.array([5, 6]),
        "filterid": pa.array([2, 1], pa.int8()),
        "objra": pa.array([10.0, 11.0]),
        "objdec": pa.array([20.0, 21.0]),
        "hmjd": lists([2, 1], [58000.0, 58001.0, 58002.0]),
        "mag": lists([2, 1], np.array([18.0, 18.5, 19.0], np.float32)),
        "magerr": lists([2, 1], np.array([0.1, 0.1, 0.2], np.float32)),
    }
    pq.write_table(pa.table(columns), path)
    report = skytrawl.ingest(
        path,
        tmp_path / "a.zarr",
        survey="ztf",
        reader="hats",
        columns={"time": "hmjd"},
        photometry="total",
        reference_position="heliocenter",
    )
    assert report.rows_by_band == {"g": 1, "r": 2, "i": 0}
    assert report.objects == 2
