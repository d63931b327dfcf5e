"""Exports of images: every value comes back, in FITS, HDF5, npz and tables; labels; faults."""

import csv
import json
import os
import warnings

import h5py
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from click.testing import CliRunner
from export_stores import COUNTS, SIZE, make_stores, shared_stores
from fits_files import SHAPE, wcs_headers, write
from numpy.testing import assert_allclose, assert_array_equal
from pyarrow import parquet

import skytrawl
from skytrawl.catalogs.images.exposure import ReadOptions, read_exposures
from skytrawl.catalogs.images.store import FrameStore
from skytrawl.cli import main
from skytrawl.errors import (
    ArchiveError,
    CorruptShardError,
    ImageError,
    NotAnArchiveError,
    ObjectNotFoundError,
    ParameterError,
)
from skytrawl.kernels import flags

PLANES = {
    "SCI": "science", "REF": "reference", "DIFF": "difference", "SCORR": "scorr", "FLUX": "flux",
    "FLUXERR": "flux_error", "MASK": "mask",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return shared_stores(tmp_path_factory)


@pytest.fixture(scope="module")
def exported(made, tmp_path_factory):
    """All kinds in all formats."""
    _, paths, truth = made
    out = tmp_path_factory.mktemp("exports")
    for kind, path in paths.items():
        for form in ("fits", "hdf5", "npz"):
            given = None if kind == "exposures" else truth
            skytrawl.export_images(path, out / f"{kind}.{form}", form, truth=given)
    return out


def test_fits_of_exposures_keeps_pixels_cards_and_wcs(made, exported):
    folder, paths, _ = made
    store = FrameStore.open(paths["exposures"])
    for name in COUNTS:
        original = fits.getheader(folder / f"{name}.fits")
        with fits.open(exported / "exposures.fits" / f"{name}.fits", checksum=True) as file:
            file.verify("exception")
            frame = store.read(name)
            assert_array_equal(file["SCI"].data, fits.getdata(folder / f"{name}.fits"))
            assert_array_equal(file["VAR"].data, frame.arrays["variance"])
            assert file["MASK"].data.dtype == np.uint16
            assert_array_equal(file["MASK"].data, frame.arrays["mask"])
            assert_allclose(file["PSF"].data.sum(), 1, rtol=1e-6)
            assert file["SCI"].header["BUNIT"] == "adu"
            assert file["VAR"].header["BUNIT"] == "adu2"
            assert "BUNIT" not in file["MASK"].header
            ours = {str(card) for card in file["SCI"].header.cards}
            left_out = {str(card) for card in original.cards} - ours
            assert {text[:8].strip() for text in left_out} <= {
                "SIMPLE", "BITPIX", "EXTEND", "NAXIS", "NAXIS1", "NAXIS2", "BUNIT",
            }  # fmt: skip
            assert file["MASK"].header["LONGSTR"] == original["LONGSTR"]
            x, y = np.meshgrid([0.0, 31.5, 63.0], [0.0, 23.5, 47.0])
            assert_array_equal(wcs(file["SCI"].header).wcs_pix2world(x, y, 0),
                               wcs(original).wcs_pix2world(x, y, 0))  # fmt: skip
            head = file[0].header
            assert head["SKTSHA"] == frame.row["sha256"]
            assert head["SKTPARM"] == frame.row["parameters"]
            assert head["SKTJOB"] == "ingest-images"
            assert head["SKTHASH"] == store.record(name)["content"]
            assert file["MASK"].header["MSKBIT1"] == "cosmic_ray"
            assert file["MASK"].header["MSKBAD"] == flags.UNUSABLE
            row = file["FRAME"].data[0]
            assert row["id"] == name
            assert row["mjd"] == frame.row["mjd"]
            assert_array_equal(row["corners"], np.ravel(frame.row["corners"]))
            assert file["FRAME"].columns["mjd"].unit == "d"
            for hdu in file:
                assert {"DATASUM", "CHECKSUM"} <= set(hdu.header)


def test_fits_of_differences_has_the_exposure_and_its_provenance(made, exported):
    folder, paths, truth = made
    differences, exposures = (FrameStore.open(paths[kind]) for kind in ("differences", "exposures"))
    for name in COUNTS:
        with fits.open(exported / "differences.fits" / f"{name}.fits", checksum=True) as file:
            file.verify("exception")
            frame = differences.read(name)
            frame.arrays["science"] = exposures.read(name).arrays["image"]
            for extension, plane in PLANES.items():
                assert_array_equal(file[extension].data, frame.arrays[plane], err_msg=extension)
                assert wcs(file[extension].header).wcs.compare(
                    wcs(fits.getheader(folder / f"{name}.fits")).wcs
                )
            assert_array_equal(file["PSFREFBAS"].data, frame.arrays["reference_psf_basis"])
            assert_array_equal(file["PSFREFFRM"].data, frame.arrays["reference_psf_frame"])
            assert file["PSFREF"].data.shape == (7, 9)
            assert file["FLUX"].header["SKTNJY"] == frame.row["njy_per_unit"]
            head = file[0].header
            assert (head["SKTJOB"], head["SKTRUN"]) == ("difference", "0123456789abcdef")
            assert (head["SKTREF"], head["SKTMODE"]) == ("f.r.00", "zogy")
            assert head["SKTSHA"] == exposures.read(name).row["sha256"]
            assert '"tile": 1024' in "".join(head["HISTORY"])
            mine = truth["exposure"] == name.encode()
            assert_array_equal(file["TRUTH"].data["flux"], truth["flux"][mine])
    assert not (exported / "differences.fits" / "z refused.fits").exists()
    with open(exported / "differences.fits" / "frames.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [*COUNTS, "z refused"]
    assert rows[-1]["reason"] == "no reference, as yet"
    assert [float(word) for word in rows[0]["corners"].split()] == list(exposures.read("a1").row["corners"])


def wcs(header):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astropy adds dates to a header that has an MJD alone
        return WCS(header)


def check_candidates(made, columns, images, mask):
    """What an export holds of the candidates is what the frames hold, labels in the right place."""
    _, paths, truth = made
    store = FrameStore.open(paths["candidates"])
    start = 0
    for name, count in COUNTS.items():
        frame, rows = store.read(name), slice(start, start + count)
        start += count
        for column in ("x", "snr", "sign", "ra", "flags", "is_dipole", "healpix"):
            assert_array_equal(columns[column][rows], frame.arrays[column])
        assert set(columns["exposure"][rows]) <= {name}
        if count:
            assert_array_equal(images[rows], frame.arrays["cutouts"])
            assert_array_equal(mask[rows], frame.arrays["cutout_mask"])
            real = truth["exposure"] == name.encode()
            real &= truth["id"] != 999
            for column, values in (
                ("truth_id", "id"),
                ("truth_flux", "flux"),
                ("truth_confidence", "confidence"),
            ):
                assert_array_equal(columns[column][rows][::2], truth[values][real])
            assert list(columns["truth_type"][rows][::2]) == [word.decode() for word in truth["type"][real]]
            assert set(columns["truth_type"][rows][1::2]) <= {""}
            assert (columns["truth_id"][rows][1::2] == -1).all()
            assert np.isnan(columns["truth_flux"][rows][1::2]).all()
            inside = columns["cutout_x"][rows] + SIZE // 2
            assert_array_equal(inside, np.floor(columns["x"][rows] + 0.5))
    assert start == len(columns["x"]) == len(images)


def test_candidates_in_npz(made, exported):
    with np.load(exported / "candidates.npz" / "candidates.npz") as file:
        check_candidates(made, file, file["cutouts"], file["cutout_mask"])
        assert list(file["planes"]) == ["science", "reference", "difference"]
        about = json.loads(str(file["about"]))
    assert about["cutouts"]["unit"] == "nJy"
    assert about["columns"]["x"]["unit"] == "pixel"
    assert about["mask_bits"] == flags.NAMES


def test_candidates_in_hdf5(made, exported):
    with h5py.File(exported / "candidates.hdf5" / "images.h5") as file:
        table = file["tables/candidates"]
        columns = {name: data.asstr()[:] if data.dtype == object else data[:] for name, data in table.items()}
        check_candidates(made, columns, file["cutouts"][:], file["cutout_mask"][:])
        assert file["cutouts"].attrs["units"] == "nJy"
        assert table["theta"].attrs["units"] == "rad"
        assert file["frames/c 3"].attrs["first_candidate"] == 7
        assert file["frames/c 3"].attrs["file"].endswith("c 3.fits")
        assert file.attrs["run"] == "fedcba9876543210"
        assert file["tables/truth/candidate"][-1] == -1


def test_candidates_in_fits(made, exported):
    _, paths, _ = made
    tables, images, masks = [], [], []
    for name, count in COUNTS.items():
        with fits.open(exported / "candidates.fits" / f"{name}.fits", checksum=True) as file:
            file.verify("exception")
            table = file["CANDIDATES"]
            assert len(table.data) == count
            assert table.columns["flux_njy"].unit == "nJy"
            assert table.columns["flux"].unit == "adu"
            assert file[0].header["CTYPE1"] == "RA---TAN"
            assert file[0].header["SKTSHA"] == FrameStore.open(paths["exposures"]).read(name).row["sha256"]
            tables.append({column: np.array(table.data[column]) for column in table.columns.names})
            if count:
                images.append(np.array(file["CUTOUTS"].data))
                masks.append(np.array(file["MASK"].data))
    columns = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    check_candidates(made, columns, np.concatenate(images), np.concatenate(masks))


def test_planes_in_hdf5_and_npz(made, exported):
    _, paths, _ = made
    frame = FrameStore.open(paths["differences"]).read("b,2")
    with (
        h5py.File(exported / "differences.hdf5" / "images.h5") as file,
        np.load(exported / "differences.npz" / "b,2.npz") as arrays,
    ):
        group = file["frames/b,2"]
        for name, values in frame.arrays.items():
            assert_array_equal(group[name][:], values)
            assert_array_equal(arrays[name], values)
            assert arrays[name].dtype == group[name].dtype == values.dtype
        assert group["flux"].attrs["units"] == "adu"
        assert group["flux"].fletcher32
        assert group.attrs["cards"] == str(arrays["cards"]) == frame.attrs["cards"]
        assert json.loads(group.attrs["row"])["limit"] == 22.5
        assert json.loads(str(arrays["about"]))["arrays"]["scorr"]["dims"] == ["y", "x"]


def test_tables_in_all_formats(made, tmp_path):
    _, paths, truth = made
    forms = ("csv", "json", "parquet")
    skytrawl.export_images(paths["candidates"], tmp_path / "t", "tables", truth=truth, tables=forms)
    assert {file.name for file in (tmp_path / "t").iterdir()} == {
        "export.json",
        *(f"{name}.{form}" for name in ("frames", "candidates", "objects", "truth") for form in forms),
    }
    table = parquet.read_table(tmp_path / "t" / "candidates.parquet")
    with open(tmp_path / "t" / "candidates.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = json.loads((tmp_path / "t" / "candidates.json").read_text())
    assert len(rows) == len(found["rows"]) == table.num_rows == sum(COUNTS.values())
    assert found["columns"]["mjd"]["unit"] == "d"
    assert table.schema.field("ra").metadata[b"unit"] == b"deg"
    for number, row in enumerate(rows):
        assert float(row["ra"]) == found["rows"][number]["ra"] == table["ra"][number].as_py()
        assert row["truth_type"] == found["rows"][number]["truth_type"] == table["truth_type"][number].as_py()
    assert [row["truth_flux"] for row in found["rows"]][1] is None
    skytrawl.export_images(paths["exposures"], tmp_path / "e", "tables", tables=forms)
    frames = parquet.read_table(tmp_path / "e" / "frames.parquet")
    cover = json.loads((tmp_path / "e" / "frames.json").read_text())["rows"][1]["cover"]
    assert frames["cover"][1].as_py() == cover


def test_every_kind_of_wcs_is_the_same_after_an_export(tmp_path):
    store = FrameStore.create(tmp_path / "s", "exposures")
    headers = wcs_headers()
    for number, header in enumerate(headers.values()):
        file = write(tmp_path / f"w{number:02d}.fits", header=header)
        for frame in read_exposures(file, options=ReadOptions(measure=False)):
            store.write(frame)
    store.publish()
    skytrawl.export_images(tmp_path / "s", tmp_path / "out", planes=["image"])
    x, y = np.meshgrid(np.linspace(0, SHAPE[1] - 1, 5), np.linspace(0, SHAPE[0] - 1, 5))
    for number, (name, header) in enumerate(headers.items()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # astropy mends old keywords
            got = WCS(fits.getheader(tmp_path / "out" / f"w{number:02d}.fits", "SCI"))
            want = WCS(header)
        assert_array_equal(got.all_pix2world(x, y, 0), want.all_pix2world(x, y, 0), err_msg=name)
        head = fits.getheader(tmp_path / "out" / f"w{number:02d}.fits", "SCI")
        assert "BUNIT" not in head
        assert_allclose(head["SKTNJY"], 10 ** (0.4 * (31.4 - 27.5)))


def test_distortion_tables_go_with_the_image(reference_data, tmp_path):
    source = reference_data / "images" / "wcs" / "image_with_distortion_map.fits"
    store = FrameStore.create(tmp_path / "s", "exposures")
    for frame in read_exposures(source, options=ReadOptions(measure=False, positions="optional")):
        store.write(frame)
    store.publish()
    skytrawl.export_images(tmp_path / "s", tmp_path / "out")
    (made,) = (tmp_path / "out").glob("*.fits")
    x, y = np.meshgrid(np.linspace(0, 255, 7), np.linspace(0, 255, 7))
    with warnings.catch_warnings(), fits.open(made) as ours, fits.open(source) as theirs:
        warnings.simplefilter("ignore")  # the header of others
        number = next(n for n, hdu in enumerate(theirs) if "CPDIS1" in hdu.header)
        got = WCS(ours["SCI"].header, ours).all_pix2world(x, y, 0)
        want = WCS(theirs[number].header, theirs).all_pix2world(x, y, 0)
        bare = WCS(theirs[number].header, theirs).wcs_pix2world(x, y, 0)
    assert_array_equal(got, want)
    assert np.abs(np.array(want) - bare).max() > 0


def test_frames_planes_and_replacing(made, tmp_path):
    _, paths, _ = made
    out = tmp_path / "deep" / "out"
    report = skytrawl.export_images(paths["differences"], out, frames=["a*", "c 3"], planes=["scorr", "mask"])
    assert (report.frames, report.refused) == (2, 0)
    with fits.open(out / "c 3.fits") as file:
        assert [hdu.name for hdu in file] == ["PRIMARY", "SCORR", "MASK", "FRAME"]
    with pytest.raises(ParameterError, match="exists"):
        skytrawl.export_images(paths["differences"], out)
    seen = []
    report = skytrawl.export_images(
        paths["differences"], out, "npz", replace=True, progress=lambda *event: seen.append(event)
    )
    assert (report.frames, report.refused) == (3, 1)
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert sorted(os.listdir(out)) == sorted(
        [*(f"{name}.npz" for name in COUNTS), "export.json", "frames.csv"]
    )
    assert os.listdir(out.parent) == ["out"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(ParameterError, match="no export of images"):
        skytrawl.export_images(paths["differences"], tmp_path / "mine", replace=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all of it"


def test_bad_input(made, tmp_path):
    _, paths, truth = made
    out = tmp_path / "out"
    elsewhere = {**truth, "exposure": np.full(len(truth["x"]), b"other")}
    for kind, words, error, text in (
        ("exposures", {"format": "jpeg"}, ParameterError, "jpeg"),
        ("exposures", {"tables": ["xls"]}, ParameterError, "xls"),
        ("exposures", {"tables": []}, ParameterError, "nothing"),
        ("exposures", {"planes": ["image", "plain"]}, ParameterError, "has no plane plain"),
        ("exposures", {"frames": ["nine*"]}, ObjectNotFoundError, "nine"),
        ("exposures", {"version": 7}, ArchiveError, "version 7"),
        ("exposures", {"truth": elsewhere}, ParameterError, "knows none of the frames"),
        ("exposures", {"truth": tmp_path}, NotAnArchiveError, "truth"),
        ("exposures", {"truth": {"x": truth["x"]}}, ParameterError, "lacks exposure"),
        ("candidates", {"planes": ["flux"]}, ParameterError, "cutouts and no planes"),
        ("candidates", {"truth": truth, "radius": 0.0}, ParameterError, "radius"),
        ("differences", {"origin": tmp_path / "gone"}, NotAnArchiveError, "gone"),
        ("nothing", {}, NotAnArchiveError, "nothing"),
    ):
        with pytest.raises(error, match=text):
            skytrawl.export_images(paths.get(kind, tmp_path / kind), out, **words)
        assert os.listdir(tmp_path) == []


def test_damaged_or_missing_parts_leave_nothing_behind(tmp_path):
    paths, _ = make_stores(tmp_path)
    out = tmp_path / "out"
    before = sorted(os.listdir(tmp_path))
    file = FrameStore.open(paths["differences"]).plane("c 3", "flux").file
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    file.write_bytes(data)
    for form in ("fits", "hdf5", "npz"):
        with pytest.raises(CorruptShardError, match="frame c 3, flux"):
            skytrawl.export_images(paths["differences"], out, form)
    assert sorted(os.listdir(tmp_path)) == before
    paths["exposures"].rename(tmp_path / "moved")
    with pytest.raises(NotAnArchiveError, match="--origin"):
        skytrawl.export_images(paths["differences"], out)
    report = skytrawl.export_images(paths["differences"], out, origin=tmp_path / "moved", frames=["a1"])
    assert report.frames == 1
    store = FrameStore.open(tmp_path / "moved")
    frame = store.read("b,2")
    frame.arrays = {"image": frame.arrays["image"][:40]}
    frame.dims = {}
    store.write(frame)
    store.publish()
    with pytest.raises(ArchiveError, match="not the store it was made from"):
        skytrawl.export_images(
            paths["differences"], tmp_path / "o2", origin=tmp_path / "moved", planes=["science"]
        )


def test_candidates_without_cutouts_and_without_origin(tmp_path):
    paths, truth = make_stores(tmp_path)
    paths["differences"].rename(tmp_path / "moved")
    report = skytrawl.export_images(paths["candidates"], tmp_path / "out", truth=truth)
    assert "header cards" in report.notes[0]
    assert (report.candidates, report.labelled) == (12, 7)
    store = FrameStore.open(paths["candidates"])
    for name, count in COUNTS.items():
        if count:
            frame = store.read(name)
            for array in ("cutouts", "cutout_mask"):
                del frame.arrays[array], frame.dims[array]
            store.write(frame)
    store.publish()
    for form in ("fits", "hdf5", "npz"):
        with pytest.raises(ImageError, match="--cutout 63"):
            skytrawl.export_images(paths["candidates"], tmp_path / form, form)
        skytrawl.export_images(paths["candidates"], tmp_path / form, form, cutouts=False)
    with np.load(tmp_path / "npz" / "candidates.npz") as file:
        assert "cutouts" not in file
        assert len(file["snr"]) == 12


def test_command(made, tmp_path):
    _, paths, _ = made
    out = tmp_path / "out"
    words = ["export-images", str(paths["differences"]), str(out), "--frames", "a1", "--planes", "scorr"]
    done = CliRunner().invoke(main, [*words, "--tables", "csv,json", "--json"])
    assert done.exit_code == 0, done.output
    assert set(json.loads(done.stdout)["files"]) == {"a1.fits", "frames.csv", "frames.json", "export.json"}
    again = CliRunner().invoke(main, words)
    assert again.exit_code == 1
    assert "--replace" in again.stderr
    assert "differences" in CliRunner().invoke(main, [*words, "--replace"]).stdout
    assert CliRunner().invoke(main, [*words[:2], str(tmp_path / "b"), "--format", "gif"]).exit_code == 2
