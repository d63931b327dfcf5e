"""Images that cannot be used: each is left out with its reason, and everything else goes on."""

import gzip
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from fits_files import SHAPE, sky_image, tan_header, write

from skytrawl.catalogs.images.exposure import Fault, ReadOptions, scan
from skytrawl.catalogs.images.store import FrameStore
from skytrawl.errors import IngestError
from skytrawl.images import ingest
from skytrawl.images.ingest import quarantined

pytestmark = pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")
ingest_images = partial(ingest.ingest_images, measure=False)


def without_wcs(path: Path) -> None:
    write(path, header=fits.Header({"MJD-OBS": 58000.0, "EXPTIME": 1.0}))


def header_with(**cards: object) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        header = tan_header()
        header.update(cards)
        write(path, header=header)

    return make


def image_of(image: np.ndarray) -> Callable[[Path], None]:
    return lambda path: write(path, image)


def changed(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(change(write(path, checksum=True).read_bytes()))


def beside(name: str, values: np.ndarray | None) -> Callable[[Path], None]:
    """An image with an extension."""

    def make(path: Path) -> None:
        units = [fits.PrimaryHDU(sky_image(), tan_header()), fits.ImageHDU(values, name=name)]
        fits.HDUList(units).writeto(path)

    return make


def table_only(path: Path) -> None:
    fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.zeros(3))]).writeto(path)


def flipped_bit(content: bytes) -> bytes:
    return content[:9000] + bytes([content[9000] ^ 16]) + content[9001:]


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no WCS": (without_wcs, r"no WCS of the sky \(axes: none\)"),
    "solar frame": (header_with(CTYPE1="HPLN-TAN", CTYPE2="HPLT-TAN"), "HPLN-TAN, HPLT-TAN"),
    "linear axes": (header_with(CTYPE1="X", CTYPE2="Y"), "axes: X, Y"),
    "singular matrix": (header_with(CD1_1=0.0, CD2_2=0.0), "WCS"),
    "declination of 95": (header_with(CRVAL2=95.0), "WCS"),
    "pixels of degrees": (header_with(CD1_1=-2.0, CD2_2=2.0), "a pixel of"),
    "units forgotten": (header_with(CD1_1=-0.26, CD2_2=0.26), "WCS|pixel"),
    "distortion that folds over": (
        header_with(CTYPE1="RA---TPV", CTYPE2="DEC--TPV", PV1_1=1.0, PV2_1=1.0, PV1_4=900.0, PV2_4=900.0),
        "lead back to pixels|no position",
    ),
    "unknown projection": (header_with(CTYPE1="RA---XYZ", CTYPE2="DEC--XYZ"), "WCS"),
    "all NaN": (image_of(np.full(SHAPE, np.nan, np.float32)), "every pixel is NaN"),
    "empty mask": (beside("MASK", None), "has no data|no image"),
    "mask of another shape": (beside("MASK", np.zeros((3, 4), np.uint8)), r"has shape \(3, 4\), the image"),
    "mask over everything": (beside("MASK", np.ones(SHAPE, np.uint8)), "leaves no pixel"),
    "mask of fractions": (beside("MASK", np.full(SHAPE, 0.5)), "no whole numbers"),
    "weights of zero": (beside("WEIGHT", np.zeros(SHAPE, np.float32)), "gives no pixel a variance"),
    "truncated": (changed(lambda content: content[:9000]), "cut short"),
    "truncated gzip": (
        lambda path: path.write_bytes(gzip.compress(write(path).read_bytes())[:-800]),
        "cut short inside its gzip",
    ),
    "BITPIX": (changed(lambda content: content.replace(b" -32 / array", b" -16 / array")), "BITPIX=-16"),
    "bad DATASUM": (changed(flipped_bit), "not what DATASUM says"),
    "not a FITS": (lambda path: path.write_bytes(b"GIF89a" * 999), "not a FITS file"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "a table": (table_only, "holds no image of two axes"),
    "a cube": (lambda path: fits.PrimaryHDU(np.zeros((3, 4, 5))).writeto(path), "holds no image of two axes"),
    "a date that is none": (header_with(**{"MJD-OBS": "soon"}), "card MJD-OBS: 'soon' is no date"),
    "an unknown time scale": (header_with(TIMESYS="MARS"), "card TIMESYS: 'MARS'"),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_each_fault_has_its_reason(tmp_path: Path, case: str) -> None:
    make, message = CASES[case]
    path = tmp_path / "a.fits"
    make(path)
    (fault,) = scan(path)
    assert isinstance(fault, Fault)
    assert fault.source == str(path)
    import re

    assert re.search(message, fault.reason), fault.reason


def test_bad_ones_are_left_out_and_the_rest_goes_on(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for number, case in enumerate(sorted(CASES)):
        CASES[case][0](source / f"bad{number:02d}.fits")
    for number in range(3):
        write(source / f"good{number}.fits", sky_image(number))
    (source / "folder.fits").mkdir()
    report = ingest_images([source, source / "missing.fits"], tmp_path / "store")
    assert report.frames == 3
    assert len(report.quarantined) == len(CASES) + 1
    assert "No such file" in report.quarantined[str(source / "missing.fits")]
    assert quarantined(tmp_path / "store") == report.quarantined
    assert FrameStore.open(tmp_path / "store").ids == ["good0", "good1", "good2"]
    # What is mended is taken, and leaves the list.
    write(source / "bad00.fits", sky_image(50))
    again = ingest_images(source, tmp_path / "store")
    assert (again.frames, again.kept) == (1, 3)
    assert str(source / "bad00.fits") not in quarantined(tmp_path / "store")
    with pytest.raises(IngestError, match=r"bad01\.fits"):
        ingest_images(source, tmp_path / "store", on_bad="raise")


def test_one_bad_detector_does_not_cost_the_others(tmp_path: Path) -> None:
    units = [fits.PrimaryHDU(header=fits.Header({"MJD-OBS": 58000.25, "EXPTIME": 60.0}))]
    for chip in ("N1", "N2", "N3"):
        image = sky_image() if chip != "N2" else np.full(SHAPE, np.nan, np.float32)
        units.append(fits.ImageHDU(image, tan_header(), name=chip))
    path = tmp_path / "many.fits"
    fits.HDUList(units).writeto(path, checksum=True)
    report = ingest_images(path, tmp_path / "store")
    assert FrameStore.open(tmp_path / "store").ids == ["many.N1", "many.N3"]
    assert report.quarantined == {f"{path}[N2]": "every pixel is NaN: nothing was measured"}
    again = ingest_images(path, tmp_path / "store")
    assert (again.frames, again.kept, again.quarantined) == (0, 2, report.quarantined)


def test_companions_that_are_missing_or_lack_an_extension(reference_data: Path, tmp_path: Path) -> None:
    folder = reference_data / "images" / "legacy" / "testcase6"
    image = next(folder.glob("images/**/*050844_ooi_g_ls9.S9.fits"))
    for kind in ("ooi", "oow"):
        (tmp_path / image.name.replace("_ooi_", f"_{kind}_")).write_bytes(
            Path(str(image).replace("_ooi_", f"_{kind}_")).read_bytes()
        )
    path = tmp_path / image.name
    (fault,) = scan(path, "decam")
    assert "no mask beside" in fault.reason
    assert "_ood_g_ls9" in fault.reason
    (frame,) = scan(path, "decam", ReadOptions(allow_missing=True))
    assert not isinstance(frame, Fault)
    assert frame.attrs["mask_from"] == ""
    mask = np.zeros((101, 101), np.int32)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(mask, name="N1"), fits.ImageHDU(mask, name="N2")]).writeto(
        tmp_path / image.name.replace("_ooi_", "_ood_")
    )
    (fault,) = scan(path, "decam")
    assert "has no mask for extension S9: it holds N1, N2" in fault.reason


def test_an_image_far_from_where_the_telescope_pointed(reference_data: Path, tmp_path: Path) -> None:
    folder = reference_data / "images" / "legacy" / "testcase6"
    image = next(folder.glob("images/**/*050844_ooi_g_ls9.S9.fits"))
    with fits.open(image) as units:
        units[1].header["CRVAL2"] = 33.7
        units.writeto(tmp_path / "moved.fits")
    (fault,) = scan(tmp_path / "moved.fits", "decam")
    assert "degrees from where the telescope pointed, 110.8653 +23.7390" in fault.reason


def test_wrong_sums_can_be_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    changed(flipped_bit)(path)
    (frame,) = scan(path, options=ReadOptions(checksums="note"))
    assert frame.row["checksum"] == "failed"
    assert frame.attrs["notes"][0] == "checksum: failed"


def test_images_without_a_place_can_be_taken(tmp_path: Path) -> None:
    without_wcs(tmp_path / "a.fits")
    report = ingest_images(tmp_path / "a.fits", tmp_path / "store", positions="optional")
    assert report.frames == 1
    table = FrameStore.open(tmp_path / "store").table
    assert np.isnan(table["ra"][0])
    assert table["healpix"][0] == -1
    assert table["cover_offsets"].tolist() == [0, 0]


def test_noise_does_not_make_nan_or_infinity(tmp_path: Path) -> None:
    image = sky_image()
    image[3, 4], image[5, 6] = np.inf, np.nan
    weight = np.full(SHAPE, 0.04, np.float32)
    weight[7, 8] = 1e-45
    write(tmp_path / "a.fits", image)
    fits.PrimaryHDU(weight).writeto(tmp_path / "a.weight.fits")
    (frame,) = scan(tmp_path / "a.fits")
    mask, variance = frame.arrays["mask"], frame.arrays["variance"]
    assert {(3, 4), (5, 6), (7, 8)} == set(zip(*np.nonzero(mask), strict=True))
    assert np.isfinite(variance[mask == 0]).all()
