"""What is exported as HATS opens in lsdb, and comes back with every value as it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import skytrawl
from skytrawl.catalogs.archive import Archive, ArchiveWriter, Block
from skytrawl.catalogs.hats_pixels import SkyHistogram, pixel_range
from skytrawl.catalogs.sky import positions_of
from skytrawl.cli import main
from skytrawl.errors import NoPositionsError, ParameterError

pq = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.filterwarnings("ignore")  # lsdb, hats and nested-pandas warn at import and later
LIGHT_CURVES = {
    "quantity": "magnitude",
    "photometry": "total",
    "units": "mag",
    "zero_point": None,
    "time": {"scale": "utc", "reference_position": "geocenter", "offset": 0.0, "exposure_point": "middle"},
}
Columns = Callable[[Path], dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def archive(nested: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "a.zarr"
    skytrawl.ingest(nested["plain"], path, survey="ztf", partition_observations=300)
    return path


@pytest.fixture(scope="module")
def exported(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalogue") / "curves"
    report = skytrawl.export(archive, path, pixel_bytes=8_000)
    opened = Archive.open(archive)
    assert (report.objects, report.rows) == (opened.n_objects, opened.n_observations)
    assert report.files == len(list(path.glob("dataset/Norder=*/Dir=*/Npix=*.parquet"))) > 4
    return path


def opened(path: Path) -> Any:
    import dask
    import lsdb

    dask.config.set(scheduler="synchronous")
    return lsdb.open_catalog(path)


def test_lsdb_opens_and_searches_it(exported: Path, rows: Any) -> None:
    from hats.io.validation import is_valid_catalog

    assert is_valid_catalog(exported, strict=True)
    catalog = opened(exported)
    frame = catalog.compute(progress_bar=False)
    _, observations = rows
    assert len(frame) == len(catalog) == observations["objid"].nunique()
    assert str(frame["lightcurve.mag"].dtype) == "float[pyarrow]"
    ids = np.repeat(frame["object_id"].to_numpy(), [len(curve) for curve in frame["lightcurve"]])
    mine = np.lexsort((frame["lightcurve.mjd"].to_numpy(), ids))
    theirs = observations.sort_values(["objid", "mjd"])
    for name in ("mjd", "mag", "magerr", "band"):
        assert frame[f"lightcurve.{name}"].to_numpy()[mine].tolist() == theirs[name].tolist()
    one = frame.iloc[3]
    near = catalog.cone_search(one["ra"], one["dec"], radius_arcsec=1.0).compute(progress_bar=False)
    assert near["object_id"].tolist() == [one["object_id"]]
    red = catalog.query("lightcurve.band == 'r'").compute(progress_bar=False)
    assert (red["lightcurve.band"] == "r").all()


def test_lsdb_crossmatches_it(exported: Path, rows: Any) -> None:
    import lsdb

    objects, observations = rows
    mine = objects[objects["objid"].isin(observations["objid"])].head(40)
    left = lsdb.from_dataframe(
        mine, ra_column="ra", dec_column="dec", catalog_name="mine", margin_threshold=None
    )
    pairs = left.crossmatch(opened(exported), radius_arcsec=0.1).compute(progress_bar=False)
    assert pairs["objid_mine"].tolist() == pairs["object_id_curves"].tolist()
    assert len(pairs) == len(mine)


def test_there_and_back(archive: Path, exported: Path, tmp_path: Path, columns_of: Columns) -> None:
    """Archive, HATS, archive: the same partitions with the same content."""
    skytrawl.ingest(exported, tmp_path / "b.zarr", survey="ztf", partition_observations=300)
    before, after = columns_of(archive), columns_of(tmp_path / "b.zarr")
    assert before.keys() == after.keys()
    for name, column in before.items():
        assert column.dtype == after[name].dtype, name
        assert column.tobytes() == after[name].tobytes(), name


def test_parquet_has_one_row_an_observation(archive: Path, tmp_path: Path, columns_of: Columns) -> None:
    skytrawl.export(archive, tmp_path / "rows.parquet", "parquet")
    skytrawl.ingest(tmp_path / "rows.parquet", tmp_path / "b.zarr", survey="ztf")
    before, after = columns_of(archive), columns_of(tmp_path / "b.zarr")
    for name, column in before.items():
        assert column.tobytes() == after[name].tobytes(), name
    fields = pq.read_schema(tmp_path / "rows.parquet")
    assert fields.field("mag").metadata == {b"unit": b"mag"}


def test_objects_without_position_are_never_lost_silently(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("object,mjd,mag,magerr,band,ra,dec\na,58000,18,.1,g,10,20\nb,58001,18,.1,g,,\n")
    skytrawl.ingest(path, tmp_path / "a.zarr", survey="ztf")
    with pytest.raises(NoPositionsError, match=r"1 of 2 objects .* unplaced='drop'"):
        skytrawl.export(tmp_path / "a.zarr", tmp_path / "a")
    assert [file.name for file in tmp_path.iterdir() if "partial" in file.name] == []
    report = skytrawl.export(tmp_path / "a.zarr", tmp_path / "a", unplaced="drop")
    assert (report.objects, report.left_out) == (1, 1)
    assert "1 objects without a position" in str(report)
    with pytest.raises(ParameterError, match="exists already"):
        skytrawl.export(tmp_path / "a.zarr", tmp_path / "a")
    skytrawl.export(tmp_path / "a.zarr", tmp_path / "a.parquet", "parquet")
    assert pq.read_table(tmp_path / "a.parquet")["object_id"].to_pylist() == ["a", "b"]


def test_all_columns_come_back(tmp_path: Path, columns_of: Columns) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "object,mjd,mag,magerr,band,ra,dec,class,isdiffpos,upper_limit,catflags,rb,expid\n"
        "7,58000,18,.1,g,10,20,RRL,t,0,3,0.5,77\n7,58000.5,19,,r,10,20,RRL,f,1,0,,78\n"
        "8,58001,18,.1,g,11,21,,t,0,0,0.25,79\n"
    )
    skytrawl.ingest(path, tmp_path / "a.zarr", survey="ztf")
    skytrawl.export(tmp_path / "a.zarr", tmp_path / "a")
    skytrawl.ingest(tmp_path / "a", tmp_path / "b.zarr", survey="ztf")
    before, after = columns_of(tmp_path / "a.zarr"), columns_of(tmp_path / "b.zarr")
    assert {"class", "sign", "upper_limit", "quality", "rb", "exposure"} <= before.keys()
    assert before.keys() == after.keys()
    for name, column in before.items():
        np.testing.assert_array_equal(column, after[name], err_msg=name)


def test_results_join_in_lsdb(archive: Path, exported: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        main, ["run", "dmdt-reference", str(archive), str(tmp_path / "r.zarr"), "--cluster", "threads"]
    )
    assert done.exit_code == 0, done.output
    words = ["--reference", str(tmp_path / "r.zarr"), "--allow-mismatch", "--cluster", "threads"]
    done = CliRunner().invoke(main, ["run", "dmdt-score", str(archive), str(tmp_path / "s.zarr"), *words])
    assert done.exit_code == 0, done.output
    words = ["export", str(tmp_path / "s.zarr"), str(tmp_path / "scores"), "--columns", "score,n_pairs"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    scores = opened(tmp_path / "scores")
    assert list(scores.columns) == ["object_id", "ra", "dec", "class", "score", "n_pairs"]
    both = opened(exported).join(
        scores,
        left_on="object_id",
        right_on="object_id",
        suffixes=("", "_s"),
        suffix_method="overlapping_columns",
    )
    frame = both.compute(progress_bar=False)
    wanted = skytrawl.open_results(tmp_path / "s.zarr")["dmdt-score"].to_dataset().skytrawl.to_table("pandas")
    assert len(frame) == len(wanted)
    found = dict(zip(frame["object_id"], frame["n_pairs"], strict=True))
    assert found == dict(zip(wanted["object_id"], wanted["n_pairs"], strict=True))


@pytest.mark.parametrize("overlap", [False, True])
def test_pixels_are_sorted_even_if_partitions_are_not(tmp_path: Path, overlap: bool) -> None:
    """Partitions that follow each other on the sky, and such that all cover all of it."""
    generator = np.random.default_rng(5)
    cells = generator.integers(0, 12 * 4**29, (3, 40), dtype=np.uint64)
    cells = np.sort(cells, axis=1) if overlap else np.sort(cells, axis=None).reshape(3, 40)
    counts = np.tile([2, 0, 5, 1], 10)
    n = int(counts.sum())
    with ArchiveWriter.create(
        tmp_path / "a.zarr",
        survey={"name": "test"},
        light_curves=LIGHT_CURVES,
        bands=["g", "r"],
        dtypes={},
        object_slot=64,
        observation_slot=256,
    ) as writer:
        for number, healpix in enumerate(cells):
            ra, dec = positions_of(healpix)
            ids = np.arange(40, dtype=np.uint64) + np.uint64(100 * number)
            objects = {"object_id": ids, "ra": ra, "dec": dec, "healpix": healpix}
            rows = {"time": np.arange(n, dtype=float), "band": np.zeros(n, np.uint8)}
            rows |= {name: generator.normal(18, 1, n).astype(np.float32) for name in ("value", "error")}
            writer.write(Block(objects, rows, np.append(0, np.cumsum(counts))))
    report = skytrawl.export(tmp_path / "a.zarr", tmp_path / "a", pixel_bytes=1_000)
    assert (report.objects, report.rows) == (120, 240)
    ids = []
    for file in (tmp_path / "a").glob("dataset/Norder=*/Dir=*/Npix=*.parquet"):
        table = pq.read_table(file, columns=["_healpix_29", "object_id"])
        cells = table["_healpix_29"].to_numpy()
        assert (np.diff(cells) >= 0).all()
        order, pixel = (int(part.split("=")[1].split(".")[0]) for part in (file.parts[-3], file.name))
        low, high = pixel_range(order, pixel)
        assert low <= cells.min() <= cells.max() < high
        ids += table["object_id"].to_pylist()
    assert len(set(ids)) == len(ids) == 120


def test_pixels_hold_every_row_within_the_limit() -> None:
    generator = np.random.default_rng(1)
    cells = np.sort(generator.integers(0, 12 * 4**29, 3000, dtype=np.uint64))
    cells[:500] = cells[0]
    histogram = SkyHistogram(6)
    for part in np.array_split(generator.permutation(cells), 7):
        histogram.add(part, np.full(len(part), 10))
    histogram.finish()
    pixels = histogram.pixels(400, 5)
    counts = [
        int(((cells >= low) & (cells < high)).sum())
        for low, high in (pixel_range(*pixel) for pixel in pixels)
    ]
    assert sum(counts) == len(cells)
    assert all(10 * count <= 400 or order == 5 for count, (order, _) in zip(counts, pixels, strict=True))
    assert [pixel_range(*pixel) for pixel in pixels] == sorted(pixel_range(*pixel) for pixel in pixels)
    assert histogram.map(3).sum() == len(cells)
