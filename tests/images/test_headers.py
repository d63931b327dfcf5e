"""Header maps: world coordinates, times, fluxes, noise and masks against astropy and hand calculation."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from fits_files import SHAPE, sky_image, tan_header, wcs_headers, write

from skytrawl.catalogs.images.columns import Cards, version_below
from skytrawl.catalogs.images.companions import to_flags, to_variance
from skytrawl.catalogs.images.cover import ORDER, place_of
from skytrawl.catalogs.images.exposure import ReadOptions, read_exposures, wcs_of_frame
from skytrawl.catalogs.images.headers import ROLES, Bits, list_header_maps, load_header_map
from skytrawl.catalogs.images.times import mid_exposure, parse_date
from skytrawl.errors import IngestError, ParameterError, SchemaError
from skytrawl.kernels import flags

pytestmark = pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")
OPTIONAL = ReadOptions(positions="optional")


def one(path: Path, survey: str = "generic", options: ReadOptions | None = None) -> Any:
    (frame,) = read_exposures(path, survey, options)
    return frame


def check_positions(frame: Any, theirs: WCS) -> None:
    """Positions of a frame's WCS are those of astropy's own reading of the file, on a grid of pixels."""
    ny, nx = frame.arrays["image"].shape
    x, y = np.meshgrid(np.linspace(-0.5, nx - 0.5, 9), np.linspace(-0.5, ny - 0.5, 7))
    ours = wcs_of_frame(frame).pixel_to_world_values(x, y)
    np.testing.assert_allclose(ours, theirs.pixel_to_world_values(x, y), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", sorted(wcs_headers()))
def test_positions_and_flux_of_many_kinds_of_wcs(tmp_path: Path, kind: str) -> None:
    header = wcs_headers()[kind]
    path = write(tmp_path / "a.fits", header=header)
    frame = one(path)
    with fits.open(path) as units:
        theirs = WCS(units[0].header)
        pixels = units[0].data
    check_positions(frame, theirs)
    row = frame.row
    centre = theirs.pixel_to_world((SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2).icrs
    assert SkyCoord(row["ra"], row["dec"], unit="deg").separation(centre).arcsec < 1e-6
    outer = theirs.pixel_to_world([-0.5, 63.5, 63.5, -0.5], [-0.5, -0.5, 47.5, 47.5]).icrs
    corners = SkyCoord(*row["corners"].reshape(4, 2).T, unit="deg")
    assert corners.separation(outer).arcsec.max() < 1e-6
    expected = 0.252 if "7e-05" in repr(header.get("CDELT2", 0)) else 0.26
    assert row["pixel_scale"] == pytest.approx(expected, rel=5e-3)
    # Flux: the star of 20,000 counts at magnitude 27.5 - 2.5 log10(20000), in nJy.
    counts = float(frame.arrays["image"][14:34, 22:42].astype(np.float64).sum()) - 400 * row["sky"]
    assert counts * row["njy_per_unit"] == pytest.approx(10 ** (0.4 * (31.4 - 27.5)) * 20_000, rel=0.02)
    assert np.array_equal(frame.arrays["image"], pixels)


@pytest.mark.parametrize("pixels", ["-32", "-64", "16 scaled", "32 scaled", "fpacked", "gzip"])
def test_flux_of_many_kinds_of_pixels(tmp_path: Path, pixels: str) -> None:
    image = sky_image()
    path = tmp_path / "a.fits"
    if pixels == "fpacked":
        unit = fits.CompImageHDU(
            image, tan_header(), compression_type="RICE_1", quantize_method=1, dither_seed=1
        )
        fits.HDUList([fits.PrimaryHDU(), unit]).writeto(path)
    elif pixels.endswith("scaled"):
        unit = fits.PrimaryHDU(image.astype(np.float64), tan_header())
        unit.scale(f"int{pixels[:2]}", "minmax")
        unit.writeto(path)
    else:
        path = tmp_path / ("a.fits.gz" if pixels == "gzip" else "a.fits")
        write(path, image.astype(np.float64) if pixels == "-64" else image)
    frame = one(path)
    with fits.open(path) as units:
        theirs = units[-1].data
    assert np.array_equal(frame.arrays["image"], theirs)
    total = float(np.sum(theirs, dtype=np.float64)) * frame.row["njy_per_unit"]
    assert total == pytest.approx(float(image.sum(dtype=np.float64)) * 10**1.56, rel=1e-3)


def test_real_headers(reference_data: Path) -> None:
    images = reference_data / "images"
    legacy = sorted((images / "legacy").glob("testcase6/images/**/*_ooi_*.fits"))
    for path, survey, options in [
        (legacy[0], "decam", None),
        (images / "decam_mini" / "DEC-OBS18a.mini.fits", "decam", ReadOptions(checksums="note")),
        (next((images / "nircam").glob("jw01324*stamp.fits")), "jwst", None),
        (images / "wcs" / "image_with_distortion_map.fits", "generic", OPTIONAL),
        (images / "wcs" / "secchi_l0_a.fits", "generic", OPTIONAL),
        (images / "wcs" / "secchi_l0_b.fits", "generic", OPTIONAL),
    ]:
        frame = one(path, survey, options)
        with fits.open(path) as units:
            unit = next(unit for unit in units if unit.data is not None)
            check_positions(frame, WCS(unit.header, units))


def test_surface_brightness_becomes_flux(reference_data: Path) -> None:
    path = next((reference_data / "images" / "nircam").glob("jw01324*stamp.fits"))
    frame = one(path, "jwst", ReadOptions(keys={"mid": "MJD-OBS", "exptime": "EXPTIME"}))
    row, header = frame.row, fits.getheader(path)
    # MJy/sr times sr is MJy, and 1 MJy = 1e6 Jy = 1e15 nJy.
    assert row["njy_per_unit"] == header["PIXAR_SR"] * 1e15 == pytest.approx(22.3)
    assert row["zero_point"] == pytest.approx(8.9 - 2.5 * math.log10(header["PIXAR_SR"] * 1e6), abs=1e-9)
    # The stated area is that of the pixels: a wrong one would be a wrong flux.
    assert math.radians(row["pixel_scale"] / 3600) ** 2 == pytest.approx(header["PIXAR_SR"], rel=0.01)
    noise = fits.getdata(str(path).replace(".fits", ".noise.fits"))
    np.testing.assert_allclose(frame.arrays["variance"], noise.astype(np.float64) ** 2, rtol=1e-6)
    assert (row["mjd"], row["exptime"], row["band"], row["unit"]) == (
        header["MJD-OBS"],
        44579.056,
        "F200W",
        "MJy/sr",
    )


def test_decam_with_companions(reference_data: Path) -> None:
    folder = reference_data / "images" / "legacy" / "testcase6"
    path = next(folder.glob("images/**/*050844_ooi_g_ls9.S9.fits"))
    frame = one(path, "decam")
    row = frame.row
    assert (row["exposure"], row["detector"], row["band"], row["field"]) == (
        "802955",
        "S9",
        "g",
        "DECaLS_39257_g",
    )
    assert row["mjd"] == pytest.approx(58466.21440415 + 100 / 86400, abs=1e-9)
    codes = fits.getdata(str(path).replace("_ooi_", "_ood_"), 1)
    assert set(np.unique(codes)) == {0, 3, 4}
    expected = np.where(codes == 3, flags.SATURATED, 0) | np.where(codes == 4, flags.BLEED, 0)
    weight = fits.getdata(str(path).replace("_ooi_", "_oow_"), 1).astype(np.float64)
    expected = expected | np.where((weight == 0) & (codes == 0), flags.NO_DATA, 0)
    np.testing.assert_array_equal(frame.arrays["mask"], expected)
    good = weight > 0
    np.testing.assert_allclose(frame.arrays["variance"][good], 1 / weight[good], rtol=1e-6)
    assert np.isnan(frame.arrays["variance"][~good]).all()
    # The gain of the row explains how the variance grows with the pixels.
    use = good & (codes == 0)
    slope = np.polyfit(fits.getdata(path, 1)[use].astype(np.float64), 1 / weight[use], 1)[0]
    assert slope * row["gain"] == pytest.approx(1, abs=0.05)
    assert frame.arrays["psf_basis"].shape == (6, 63, 63)
    assert "psfex" in frame.attrs["psf_from"]
    assert 3 < row["fwhm"] < 8


def test_rates_and_weights_without_source_noise(reference_data: Path) -> None:
    path = next((reference_data / "images" / "legacy" / "mzlsbass3").glob("images/mosaic/**/*_ooi_*.fits"))
    frame = one(path, "mzls")
    image, variance = frame.arrays["image"].astype(np.float64), frame.arrays["variance"]
    weight = fits.getdata(str(path).replace("_ooi_", "_oow_"), 1).astype(np.float64)
    more = np.maximum(image - frame.row["sky"], 0) / frame.row["exptime"]  # electrons per second
    np.testing.assert_allclose(variance, 1 / weight + more, rtol=1e-5)
    # Sky and its noise agree that pixels are electrons per second: ADU (gain 1.91) would be 38 % off.
    poisson = math.sqrt(frame.row["sky"] * 80.104 + 4.11**2) / 80.104
    assert frame.row["sky_sigma"] == pytest.approx(poisson, rel=0.15)


@pytest.mark.parametrize(
    ("system", "scale"),
    [("UTC", "utc"), ("TAI", "tai"), ("TT", "tt"), ("TDB", "tdb"), ("TDT", "tt"), ("UTC approximate", "utc")],
)
def test_middle_of_the_exposure_in_utc(tmp_path: Path, system: str, scale: str) -> None:
    header = tan_header()
    header["TIMESYS"] = system
    row = one(write(tmp_path / "a.fits", header=header)).row
    expected = Time(58000.25 + 30 / 86400, format="mjd", scale=scale).utc.mjd
    assert row["mjd"] == pytest.approx(expected, abs=1e-9)
    assert row["exptime"] == 60.0


@pytest.mark.parametrize(
    ("cards", "mjd"),
    [
        ({"DATE-OBS": "2017-09-04T06:00:00", "EXPTIME": 60.0}, 58000.25 + 30 / 86400),
        ({"DATE-OBS": "2017-09-04", "TIME-OBS": "06:00:00", "EXPTIME": 60.0}, 58000.25 + 30 / 86400),
        ({"DATE-BEG": "2017-09-04T06:00:00", "DATE-END": "2017-09-04T06:02:00"}, 58000.25 + 60 / 86400),
        ({"MJD-OBS": 58000.25, "MJD-END": 58000.26, "EXPTIME": 60.0}, 58000.255),
        ({"MJD-AVG": 58000.5, "MJD-OBS": 58000.25}, 58000.5),
        ({"JD": 2458000.75, "EXPTIME": 0.0}, 58000.25),
        ({"MJD-OBS": "58000.25", "EXPTIME": 60.0}, 58000.25 + 30 / 86400),
    ],
)
def test_cards_of_time(cards: dict, mjd: float) -> None:
    keys = dict(load_header_map("generic").keys)
    assert mid_exposure(cards.get, keys, "utc")[0] == pytest.approx(mjd, abs=1e-9)


def test_gps_time_is_19_s_behind_tai() -> None:
    keys = {"start": ("MJD-OBS",)}
    gps = mid_exposure({"MJD-OBS": 58000.0, "TIMESYS": "GPS"}.get, keys, "utc")[0]
    assert (gps - 58000.0) * 86400 == pytest.approx(-18.0, abs=1e-3)  # 37 leap seconds of TAI less 19


def test_times_that_contradict_or_lack_are_noted() -> None:
    keys = dict(load_header_map("generic").keys)
    notes = mid_exposure({"MJD-AVG": 58100.0, "MJD-BEG": 58000.0, "MJD-END": 58000.1}.get, keys, "utc")[2]
    assert "contradict" in notes[0]
    mjd, exptime, notes = mid_exposure({}.get, keys, "utc")
    assert math.isnan(mjd)
    assert math.isnan(exptime)
    assert notes == ["no time of the exposure"]
    assert "is taken for the middle" in mid_exposure({"MJD-OBS": 58000.0}.get, keys, "utc")[2][0]


@pytest.mark.parametrize(
    "cards",
    [{"MJD-OBS": "yesterday"}, {"MJD-OBS": 12.0}, {"MJD-OBS": 58000.0, "TIMESYS": "LMT"}, {"EXPTIME": -3.0}],
)
def test_times_that_are_none(cards: dict) -> None:
    with pytest.raises(IngestError, match="card"):
        mid_exposure(cards.get, dict(load_header_map("generic").keys), "utc")


def test_names_of_an_archive_hold_dates() -> None:
    assert parse_date("c4d_160818_043331_ooi_i_v1") == pytest.approx(
        Time("2016-08-18T04:33:31").mjd, abs=1e-9
    )
    assert parse_date("04/09/97") == Time("1997-09-04").mjd


def test_asinh_pixels_of_ps1(tmp_path: Path) -> None:
    flux = sky_image().astype(np.float64) - 100
    header = tan_header()
    header.update({"BOFFSET": -1.5, "BSOFTEN": 40.0, "TIMESYS": "TAI", "HIERARCH FPA.FILTER": "r.00000"})
    stretched = 2.5 / math.log(10) * np.arcsinh((flux + 1.5) / 80)
    frame = one(write(tmp_path / "a.unconv.fits", stretched, header), "ps1", ReadOptions(allow_missing=True))
    np.testing.assert_allclose(frame.arrays["image"], flux, atol=2e-3)
    assert frame.row["zero_point"] == pytest.approx(25 + 2.5 * math.log10(60))
    assert frame.row["band"] == "r"


def test_ztf_masks_and_bands(tmp_path: Path) -> None:
    header = tan_header()
    header.update({"FILTER": "ZTF_g", "MAGZP": 26.2, "SHUTOPEN": "2018-05-01T04:00:00.0"})
    header.update({"SHUTCLSD": "2018-05-01T04:00:30.0", "GAIN": 6.2})
    write(tmp_path / "ztf_2018_sciimg.fits", header=header)
    bits = np.zeros(SHAPE, np.int16)
    for bit in range(13):
        bits[0, bit] = 1 << bit
    bits[1, 0] = (1 << 8) | (1 << 1)
    fits.PrimaryHDU(bits).writeto(tmp_path / "ztf_2018_mskimg.fits")
    frame = one(tmp_path / "ztf_2018_sciimg.fits", "ztf")
    mask = frame.arrays["mask"]
    found = [flags.names_of(int(value)) for value in mask[0, :13]]
    assert found[0] == ("streak",)
    assert found[1] == found[11] == ()
    assert found[2:11] == [
        *(("suspect",), ("suspect",), ("bad",), ("spike",), ("spike",)),
        *(("cosmic_ray",), ("saturated",), ("bad",), ("no_data",)),
    ]
    assert found[12] == ("spike",)
    assert mask[1, 0] == flags.SATURATED
    assert (frame.row["band"], frame.row["zero_point"]) == ("g", 26.2)
    assert frame.row["mjd"] == pytest.approx(Time("2018-05-01T04:00:15").mjd, abs=1e-9)


def test_extensions_of_one_file(tmp_path: Path) -> None:
    units = [fits.PrimaryHDU(header=fits.Header({"MJD-OBS": 58000.25, "EXPTIME": 60.0, "FILTER": "i"}))]
    for chip in ("CCD1", "CCD2"):
        units.append(fits.ImageHDU(sky_image(), tan_header(), name=chip))
    fits.HDUList(units).writeto(tmp_path / "many.fits")
    frames = list(read_exposures(tmp_path / "many.fits"))
    assert [frame.id for frame in frames] == ["many.CCD1", "many.CCD2"]
    assert frames[0].attrs["file_frames"] == ["many.CCD1", "many.CCD2"]

    science = fits.ImageHDU(sky_image(), tan_header(), name="SCI")
    science.header["BUNIT"] = "MJy/sr"
    science.header["PIXAR_SR"] = (0.26 / 206264.806) ** 2
    dq = np.zeros(SHAPE, np.uint32)
    dq[0, :3] = [1, 2, 4]
    error = np.full(SHAPE, 5, np.float32)
    fits.HDUList(
        [fits.PrimaryHDU(), science, fits.ImageHDU(error, name="ERR"), fits.ImageHDU(dq, name="DQ")]
    ).writeto(tmp_path / "jw.fits")
    for survey in ("jwst", "generic"):
        frame = one(tmp_path / "jw.fits", survey)
        assert frame.id == "jw"
        assert (frame.arrays["variance"] == 25).all()
        expected = [flags.BAD, flags.SATURATED, 0] if survey == "jwst" else [flags.BAD] * 3
        assert frame.arrays["mask"][0, :4].tolist() == [*expected, 0]


def test_variance_without_a_plane_comes_from_sky_and_gain(tmp_path: Path) -> None:
    frame = one(write(tmp_path / "a.fits"))
    image, sky = frame.arrays["image"].astype(np.float64), frame.row["sky"]
    expected = frame.row["sky_sigma"] ** 2 + np.maximum(image - sky, 0) / 2
    np.testing.assert_allclose(frame.arrays["variance"], expected, rtol=1e-5)
    assert frame.row["sky"] == pytest.approx(100, abs=0.5)
    assert frame.row["sky_sigma"] == pytest.approx(5, rel=0.05)


def test_kinds_of_noise_planes() -> None:
    values = np.array([[4.0, 0.0, -1.0, np.nan, np.inf]])
    for kind, first in (("weight", 0.25), ("noise", 16.0), ("variance", 4.0)):
        variance = to_variance(kind, values)
        assert variance.dtype == np.float32
        assert variance[0, 0] == first
        assert np.isnan(variance[0, 1:4]).all()
        assert np.isnan(variance[0, 4]) or kind == "weight"


def test_masks_named_by_their_header_and_odd_ones() -> None:
    header = fits.Header({"MP_SAT": 1, "MP_CR": 3, "MP_DETECTED": 5})
    values = np.array([[2, 8, 32, 10]], np.int32)
    cards = Cards(header, header)
    rubin = to_flags(values, cards, (Bits("any"),), "m")
    assert rubin.tolist() == [[flags.SATURATED, flags.COSMIC_RAY, 0, flags.SATURATED | flags.COSMIC_RAY]]
    empty = Cards(fits.Header(), fits.Header())
    assert to_flags(np.array([[0.0, 1.0, np.nan]]), empty, (), "m").tolist() == [[0, flags.BAD, flags.BAD]]
    with pytest.raises(IngestError, match="no whole numbers"):
        to_flags(np.array([[0.5]]), empty, (), "m")


def test_old_decam_masks_are_bits() -> None:
    meanings = load_header_map("decam").masks
    values = np.array([[0, 1, 2, 3, 4, 16, 64]], np.int16)
    old = Cards(fits.Header({"PLVER": "V3.4.1"}), fits.Header())
    new = Cards(fits.Header({"PLVER": "V4.8.2a"}), fits.Header())
    assert to_flags(values, old, meanings, "m").tolist() == [
        [
            0,
            flags.BAD,
            flags.SATURATED,
            flags.BAD | flags.SATURATED,
            flags.INTERPOLATED,
            flags.COSMIC_RAY,
            flags.BLEED,
        ]
    ]
    assert to_flags(values, new, meanings, "m")[0, :5].tolist() == [
        0, flags.BAD, flags.NO_DATA, flags.SATURATED, flags.BLEED
    ]  # fmt: skip
    assert version_below("V3.4.9", "V3.5.0")
    assert not version_below("3.10", "3.5.0")


@pytest.mark.parametrize(
    ("ra", "dec"), [(10.0, 20.0), (0.0, 0.0), (359.99, -60.0), (120.0, 89.98), (0.0, -90.0)]
)
def test_the_cover_holds_every_pixel_and_little_more(ra: float, dec: float) -> None:
    from astropy.coordinates import Latitude, Longitude
    from cdshealpix.nested import healpix_to_lonlat, lonlat_to_healpix

    header = tan_header(ra, dec, scale=15.0)
    header.update({"CD1_1": -0.003, "CD1_2": 0.003, "CD2_1": 0.003, "CD2_2": 0.003})
    wcs = WCS(header)
    place = place_of(wcs, SHAPE)
    y, x = np.mgrid[-0.5 : SHAPE[0] - 0.4, -0.5 : SHAPE[1] - 0.4]
    pixels = wcs.pixel_to_world(x.ravel(), y.ravel())
    found = lonlat_to_healpix(Longitude(pixels.ra), Latitude(pixels.dec), ORDER)
    assert set(found.tolist()) <= set(place.cover.tolist())
    lon, lat = healpix_to_lonlat(place.cover, ORDER)
    nearest = [pixels.separation(SkyCoord(a, b)).deg.min() for a, b in zip(lon, lat, strict=True)]
    assert max(nearest) < 0.08  # a cell is 0.057 degrees wide
    assert place.healpix >> 2 * (29 - ORDER) in place.cover.tolist()


@pytest.mark.parametrize("name", list_header_maps())
def test_header_maps_of_the_package(name: str) -> None:
    found = load_header_map(name)
    assert found.name == name
    assert {"exptime", "band"} <= set(found.keys)
    assert found.masks


def test_header_maps_of_your_own(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        'name = "own"\ntitle = "Own"\n[keys]\nexptime = "TEXP"\nshoe = "SIZE"\n[time]\nscale = "solar"\n'
    )
    with pytest.raises(SchemaError, match=r"shoe.*solar"):
        load_header_map(path)
    with pytest.raises(SchemaError, match="no header map 'none': take one of"):
        load_header_map("none")
    with pytest.raises(ParameterError, match="no role of header cards is called shoe"):
        load_header_map("generic").with_keys({"shoe": "SIZE"})
    assert set(load_header_map("generic").with_keys({"mid": "X"}).keys) <= set(ROLES)


def test_keys_of_your_own(tmp_path: Path) -> None:
    header = tan_header()
    header["TMID"] = 59000.0
    keys = {"mid": "TMID", "zero_point": 22.5, "gain": "4"}
    row = one(write(tmp_path / "a.fits", header=header), options=ReadOptions(keys=keys)).row
    assert (row["mjd"], row["zero_point"], row["gain"]) == (59000.0, 22.5, 4.0)


def test_cosmic_rays_are_found_where_there_is_no_mask(tmp_path: Path) -> None:
    shape = (200, 220)
    image = sky_image(4, shape)
    hits = np.random.default_rng(8).integers(10, 190, (30, 2))
    image[hits[:, 0], hits[:, 1]] += 3000
    write(tmp_path / "a.fits", image)
    plain = one(tmp_path / "a.fits")
    found = one(tmp_path / "a.fits", options=ReadOptions(cosmic_rays=True))
    assert not plain.arrays["mask"].any()
    hit = found.arrays["mask"] == flags.COSMIC_RAY
    assert hit[hits[:, 0], hits[:, 1]].mean() > 0.95
    assert not hit[98:103, 108:113].any()  # the star
    assert hit.sum() < 3 * len(hits)
    assert found.attrs["mask_from"] == "cosmic rays found here"
    fits.PrimaryHDU(np.zeros(shape, np.uint8)).writeto(tmp_path / "a.mask.fits")
    assert not one(tmp_path / "a.fits", options=ReadOptions(cosmic_rays=True)).arrays["mask"].any()
