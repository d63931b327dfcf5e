"""FITS, VOTable, IPAC, CDS, NumPy and Arrow files: the values of the source, bit for bit."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.catalogs.readers import READERS, find_reader
from skytrawl.catalogs.readers.table import Options
from skytrawl.errors import IngestError

Take = Callable[..., Any]
COLUMNS = ("object", "mjd", "mag", "magerr", "band")


def long_table(rows: int = 1000) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(7)
    return {
        "object": np.repeat(np.arange(rows // 10, dtype=np.int64) + 2**60, 10),
        "mjd": generator.uniform(58000, 59000, rows),
        "mag": generator.normal(18, 1, rows).astype(np.float32),
        "magerr": generator.uniform(0.01, 0.1, rows),
        "band": np.array(["g", "r"] * (rows // 2)),
    }


def check(found: dict[str, np.ndarray], table: dict[str, np.ndarray], keep: Any = slice(None)) -> None:
    """Rows of an archive, which are sorted by object, band and time, against those of the source."""
    table = {name: np.asarray(column)[keep] for name, column in table.items()}
    order = np.lexsort((table["mjd"], table["band"], table["object"]))
    mine = np.lexsort((found["time"], found["band"], found["object"]))
    assert found["object"][mine].tolist() == table["object"][order].tolist()
    for name, column in (("time", "mjd"), ("value", "mag"), ("error", "magerr")):
        assert found[name].dtype == table[column].dtype, name
        assert found[name][mine].tobytes() == table[column][order].tobytes(), name
    assert found["band"][mine].tolist() == table["band"][order].tolist()


def rows_of(path: Path, **words: Any) -> list[Any]:
    """Times of a file by its pieces and chunks, with the number of the first row of each chunk."""
    options = Options(**words)
    reader, _ = find_reader(path, options)
    found = []
    for piece in reader.pieces(path, options):
        for chunk in reader.chunks(piece, {"mjd": "number"}, options):
            found.append((chunk.first_row, chunk.columns["mjd"].tolist()))
    return found


def check_pieces(path: Path, times: np.ndarray) -> None:
    whole = [time for _, chunk in rows_of(path) for time in chunk]
    assert whole == times.tolist()
    small = rows_of(path, piece_rows=300, chunk_rows=70)
    assert [time for _, chunk in small for time in chunk] == whole
    first = 1
    for row, chunk in small:
        assert row == first
        assert len(chunk) <= 70
        first += len(chunk)


@pytest.mark.parametrize("name", ["t.fits", "t.fits.gz"])
def test_fits(tmp_path: Path, take: Take, name: str) -> None:
    from astropy.io import fits
    from astropy.table import MaskedColumn, Table

    table = long_table()
    delivered = Table(table, units={"mjd": "d", "mag": "mag", "magerr": "mag"})
    delivered["quality"] = MaskedColumn(np.arange(1000, dtype=np.int32) % 7, mask=np.arange(1000) % 5 == 0)
    delivered["visit"] = np.arange(1000, dtype=np.uint32) + 2**31
    path = tmp_path / name
    fits.HDUList([fits.PrimaryHDU(np.zeros((2, 2))), fits.table_to_hdu(delivered)]).writeto(path)
    report, found = take(path)
    assert report.rows_kept == 1000
    check(found, table)
    assert sorted(found["exposure"]) == (np.arange(1000) + 2**31).tolist()
    assert found["quality"].sum() == delivered["quality"].filled(0).sum()
    check_pieces(path, table["mjd"])


def test_fits_faults(tmp_path: Path, take: Take) -> None:
    from astropy.io import fits
    from astropy.table import Table

    table = long_table()
    path = tmp_path / "t.fits"
    Table(table).write(path)
    data = path.read_bytes()
    (tmp_path / "cut.fits").write_bytes(data[: len(data) // 2])
    with pytest.raises(IngestError, match=r"cut.fits is cut off"):
        take(tmp_path / "cut.fits")
    (tmp_path / "cut.fits.gz").write_bytes(gzip.compress(data)[:-2000])
    with pytest.raises(IngestError, match=r"cut.fits.gz"):
        take(tmp_path / "cut.fits.gz")
    (tmp_path / "text.fits").write_text("object,mjd\n")
    with pytest.raises(IngestError, match="no readable FITS"):
        take(tmp_path / "text.fits")
    fits.PrimaryHDU(np.zeros(3)).writeto(tmp_path / "image.fits")
    with pytest.raises(IngestError, match="holds no table"):
        take(tmp_path / "image.fits")
    Table({name: column[:0] for name, column in table.items()}).write(tmp_path / "none.fits")
    with pytest.raises(IngestError, match="no rows in"):
        take(tmp_path / "none.fits")
    Table(table | {"mag": np.zeros((1000, 3))}).write(tmp_path / "arrays.fits")
    with pytest.raises(IngestError, match=r"arrays.fits.*'mag' holds arrays"):
        take(tmp_path / "arrays.fits")
    Table(table, units={"mag": "Jy", "mjd": "s"}).write(tmp_path / "units.fits")
    with pytest.raises(IngestError, match=r"(?s)units.fits.*'s', not 'd'.*'Jy', not 'mag'"):
        take(tmp_path / "units.fits")
    texts = Table(table)
    texts["mag"] = ["bright"] * 1000
    texts.write(tmp_path / "texts.fits")
    with pytest.raises(IngestError, match=r"texts.fits.*'mag' holds text"):
        take(tmp_path / "texts.fits")


@pytest.mark.parametrize(
    ("name", "form"), [("t.vot", "votable"), ("t.tbl", "ascii.ipac"), ("t.ecsv", "ascii.ecsv")]
)
def test_tables_with_missing_values(tmp_path: Path, take: Take, name: str, form: str) -> None:
    from astropy.table import MaskedColumn, Table

    table = long_table(200)
    if form != "votable":
        table["mag"] = table["mag"].astype(np.float64)
    missing = np.arange(200) % 10 == 3
    delivered = Table(table, units={"mjd": "d", "mag": "mag", "magerr": "mag"}, masked=True)
    delivered["mag"] = MaskedColumn(table["mag"], mask=missing, unit="mag")
    path = tmp_path / name
    delivered.write(path, format=form)
    report, found = take(path)
    assert report.rows_read == 200
    assert report.dropped == {"value is missing or not finite": 20}
    check(found, table, ~missing)
    delivered["mjd"].unit = "yr"
    delivered.write(path, format=form, overwrite=True)
    with pytest.raises(IngestError, match=r"'yr', not 'd'"):
        take(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(IngestError, match=rf"{name}"):
        take(path)
    path.write_bytes(b"")
    with pytest.raises(IngestError, match=rf"{name}"):
        take(path)


def test_machine_readable_table(tmp_path: Path, take: Take) -> None:
    from astropy.table import Table

    table = long_table(40)
    table["mag"] = table["mag"].astype(np.float64)
    path = tmp_path / "t.mrt"
    Table(table, units={"mjd": "d", "mag": "mag", "magerr": "mag"}).write(path, format="ascii.mrt")
    check(take(path)[1], table)


def test_structured_array(tmp_path: Path, take: Take) -> None:
    table = long_table()
    fields = [(name, column.dtype.newbyteorder(">")) for name, column in table.items()]
    array = np.zeros(1000, fields)
    for name, column in table.items():
        array[name] = column
    path = tmp_path / "t.npy"
    np.save(path, array)
    check(take(path)[1], table)
    check_pieces(path, table["mjd"])
    (tmp_path / "cut.npy").write_bytes(path.read_bytes()[:-100])
    with pytest.raises(IngestError, match=r"cut.npy is no readable NumPy file"):
        take(tmp_path / "cut.npy")


@pytest.mark.parametrize("compressed", [False, True])
def test_archive_of_columns(tmp_path: Path, take: Take, compressed: bool) -> None:
    table = long_table()
    path = tmp_path / "t.npz"
    matrix = np.zeros((3, 1000))
    (np.savez_compressed if compressed else np.savez)(path, matrix=matrix, **table)
    check(take(path)[1], table)
    check_pieces(path, table["mjd"])
    data = path.read_bytes()
    path.write_bytes(data[:-30])
    with pytest.raises(IngestError, match=r"t.npz is no readable NumPy"):
        take(path)
    np.savez(path, **(table | {"mag": table["mag"][:5]}))
    with pytest.raises(IngestError, match=r"t.npz.*one length"):
        take(path)


def test_plain_array(tmp_path: Path, take: Take) -> None:
    table = long_table(60)
    array = np.stack([table["mjd"], table["mag"], table["magerr"]], 1)
    path = tmp_path / "star 7.npy"
    words: dict[str, Any] = {"columns": {"object": "{stem}", "band": "r"}}
    for order in ("C", "F"):
        np.save(path, np.asarray(array, order=order))
        _, found = take(path, **words)
        assert np.stack([found["time"], found["value"], found["error"]], 1).tolist() == sorted(array.tolist())
        assert set(found["object"].tolist()) == {b"star 7"}
    np.save(path, np.column_stack([np.arange(60), array]))
    words["columns"] |= {"time": "2", "value": "3", "error": "4"}
    _, found = take(path, **words)
    assert found["time"].tolist() == sorted(array[:, 0])
    for fault in (array[:, 0], array.astype(object), array[:, :2]):
        np.save(path, fault)
        with pytest.raises(IngestError, match=r"star 7\.npy"):
            take(path, **words)
    np.save(path, array[:0])
    with pytest.raises(IngestError, match=r"no rows in .*star 7.npy"):
        take(path, columns={"object": "{stem}", "band": "r"})


@pytest.mark.parametrize("name", ["t.feather", "t.arrow", "t.arrows"])
@pytest.mark.parametrize("compression", ["uncompressed", "lz4"])
def test_arrow(tmp_path: Path, take: Take, name: str, compression: str) -> None:
    pa = pytest.importorskip("pyarrow")
    table = long_table()
    path = tmp_path / name
    held = pa.table(table)
    options = pa.ipc.IpcWriteOptions(compression=None if compression == "uncompressed" else compression)
    new = pa.ipc.new_stream if name == "t.arrows" else pa.ipc.new_file
    with new(str(path), held.schema, options=options) as writer:
        writer.write_table(held, max_chunksize=130)
    check(take(path)[1], table)
    check_pieces(path, table["mjd"])
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(IngestError, match=rf"{name}"):
        take(path)
    path.write_bytes(b"")
    with pytest.raises(IngestError, match=rf"{name}"):
        take(path)


def test_arrow_missing_values_and_types(tmp_path: Path, take: Take) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import feather

    table = long_table(200)
    gone = np.arange(200) % 10 == 3
    path = tmp_path / "t.feather"
    held = {name: pa.array(column) for name, column in table.items()}
    held["mag"] = pa.array(table["mag"], mask=gone)
    held["band"] = held["band"].dictionary_encode()
    feather.write_feather(pa.table(held), path)
    report, found = take(path)
    assert report.dropped == {"value is missing or not finite": 20}
    check(found, table, ~gone)
    held["mjd"] = pa.array(np.zeros(200, "M8[s]"))
    feather.write_feather(pa.table(held), path)
    with pytest.raises(IngestError, match=r"t.feather.*'mjd' is of type timestamp"):
        take(path)


def test_partitioned_folders(tmp_path: Path, take: Take) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.dataset as ds

    table = long_table()
    for form in ("feather", "parquet"):
        folder = tmp_path / form
        ds.write_dataset(
            pa.table(table), folder, format=form, partitioning=["band"], partitioning_flavor="hive"
        )
        assert not any(path.is_file() for path in folder.iterdir())
        check(take(folder)[1], table)
        # A file that is cut off is refused; nothing else is lost.
        cut = next((folder / "band=g").iterdir())
        cut.write_bytes(cut.read_bytes()[:-500])
        report, found = take(folder)
        assert report.rows_kept == 500
        assert set(found["band"]) == {"r"}


def test_every_reader_says_what_it_reads() -> None:
    seen: dict[str, str] = {}
    for name, reader in READERS.items():
        assert reader.name == name
        assert reader.summary
        for suffix in reader.extensions:
            assert seen.setdefault(suffix, name) == name


def test_real_arrays(take: Take) -> None:
    reference = os.environ.get("SKYTRAWL_REFERENCE_DATA")
    if not reference:
        pytest.skip("SKYTRAWL_REFERENCE_DATA is not set")
    folder = Path(reference) / "microlensing"
    words: dict[str, Any] = {
        "survey": "ogle",
        "quantity": "flux",
        "units": "count",
        "zero_point": 22.0,
        "columns": {"object": "{stem}", "band": "I"},
        "time_format": "jd-2450000",
    }
    for name in ("ob140939_ogle.npy", "ob161195_kct01.npy"):
        array = np.load(folder / name)
        _, found = take(folder / name, **words)
        assert found["value"].tolist() == array[np.argsort(array[:, 0], kind="stable"), 1].tolist()
