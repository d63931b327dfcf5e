"""World coordinates against astropy, on the kinds of header that surveys write."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from skytrawl.catalogs.images.wcs import (
    cards_of,
    coordinate_grid,
    field_grid,
    footprint,
    pixel_scale,
    pixel_to_sky,
    sky_to_pixel,
    wcs_of,
)
from skytrawl.errors import ImageError, ParameterError
from skytrawl.kernels.resample import Planes, resample
from skytrawl.kernels.resample.spline import node_area, positions

Case = tuple[Any, tuple[int, int]]
BUDGET = 1e-3  # pixels


def header(shape: tuple[int, int] = (600, 500), **cards: Any) -> fits.Header:
    base = {
        "NAXIS": 2, "NAXIS1": shape[1], "NAXIS2": shape[0], "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN",
        "CRPIX1": shape[1] / 2, "CRPIX2": shape[0] / 2, "CRVAL1": 150.1, "CRVAL2": 2.2,
        "CD1_1": -7.3e-5, "CD1_2": 1e-6, "CD2_1": 2e-6, "CD2_2": 7.2e-5,
    }  # fmt: skip
    return fits.Header({**base, **cards})


SIP = {
    "CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 3, "B_ORDER": 3, "A_2_0": 2e-5,
    "A_1_1": -1e-5, "A_3_0": 3e-8, "A_1_2": 2e-8, "B_0_2": 3e-5, "B_2_0": 1e-5, "B_0_3": -4e-8, "B_2_1": 1e-8,
}  # fmt: skip
TPV = {
    "CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_0": -2e-3, "PV1_1": 1.01, "PV1_2": 6e-3,
    "PV1_4": -8e-3, "PV1_5": 5e-3, "PV1_7": 7e-2, "PV1_9": 3e-2, "PV2_0": 3e-3, "PV2_1": 1.01, "PV2_2": -7e-3,
    "PV2_4": 6e-3, "PV2_6": -1e-2, "PV2_7": 5e-2,
}  # fmt: skip
# A projection or frame each; the field lies over 0 h or near a pole in some.
KINDS: dict[str, fits.Header] = {
    "TAN": header(),
    "TAN over 0 h": header(CRVAL1=0.001, CRVAL2=-45.0),
    "TAN at the pole": header(CRVAL1=10.0, CRVAL2=89.99),
    "TAN turned": header(CD1_1=5e-5, CD1_2=5e-5, CD2_1=5e-5, CD2_2=-5e-5),
    "TAN with PC and CDELT": header(
        CD1_1=None, CDELT1=-7e-5, CDELT2=7e-5, PC1_1=0.6, PC1_2=-0.8, PC2_1=0.8, PC2_2=0.6
    ),
    "TAN-SIP": header(**SIP),
    "TPV": header(**TPV),
    "SCAMP's TAN with PV": header(**{**TPV, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}),
    "SIN": header(CTYPE1="RA---SIN", CTYPE2="DEC--SIN"),
    "ZPN": header(CTYPE1="RA---ZPN", CTYPE2="DEC--ZPN", PV2_1=1.0, PV2_3=42.0),
    "STG in galactic coordinates": header(CTYPE1="GLON-STG", CTYPE2="GLAT-STG", CRVAL1=236.8, CRVAL2=42.1),
    "FK5": header(RADESYS="FK5", EQUINOX=2000.0),
    "FK4": header(RADESYS="FK4", EQUINOX=1950.0),
    "declination first": header(
        CTYPE1="DEC--TAN", CTYPE2="RA---TAN", CRVAL1=2.2, CRVAL2=150.1, CD1_1=1e-6, CD1_2=7e-5, CD2_1=-7e-5
    ),
    "of a cube": header(
        NAXIS=3, WCSAXES=3, NAXIS3=1, CTYPE3="FREQ", CRVAL3=1.4e9, CRPIX3=1.0, CD3_3=1e6, CUNIT3="Hz"
    ),
}
for kind in KINDS.values():
    for key in [key for key in kind if kind[key] is None]:
        del kind[key]
del KINDS["TAN with PC and CDELT"]["CD1_*"]
del KINDS["TAN with PC and CDELT"]["CD2_*"]


def astropy_of(cards: fits.Header, **options: Any) -> WCS:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return WCS(cards, **options).celestial


def agree(out: Case, given: Case, exact: Callable[..., Any] | None = None) -> float:
    """Largest error of the grid over the overlap, against astropy's high-level way."""
    (w_out, shape), (w_in, shape_in) = out, given
    grid = coordinate_grid(w_out, w_in, shape, shape_in=shape_in)
    assert not grid.error >= BUDGET
    rng = np.random.default_rng(0)
    rows, columns = (np.unique(rng.integers(0, side, 60)) for side in shape)
    x, y = positions(grid, rows, columns)
    yy, xx = np.meshgrid(rows, columns, indexing="ij")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sky = w_out.pixel_to_world(xx, yy).icrs
        ex, ey = w_in.world_to_pixel(SkyCoord(sky))
    near = (ex > -3) & (ex < shape_in[1] + 2) & (ey > -3) & (ey < shape_in[0] + 2)
    assert near.any()
    away = np.hypot(x - ex, y - ey)[near]
    return float(away.max())


@pytest.mark.parametrize("name", list(KINDS))
def test_kinds_of_header(name: str) -> None:
    cards = KINDS[name]
    wcs, shape = wcs_of(cards.tostring()), (600, 500)
    theirs = astropy_of(cards)
    x, y = np.meshgrid([0.0, 250.0, 499.0], [0.0, 300.0, 599.0])
    sky = theirs.pixel_to_world(x, y).icrs
    ra, dec = pixel_to_sky(wcs, x, y)
    np.testing.assert_allclose(ra, sky.ra.deg, rtol=0, atol=1e-11)
    np.testing.assert_allclose(dec, sky.dec.deg, rtol=0, atol=1e-11)
    back = sky_to_pixel(wcs, ra, dec)
    np.testing.assert_allclose(back, (x, y), rtol=0, atol=1e-4)
    grid, field_shape = field_grid([(wcs, shape)])
    corners = sky_to_pixel(grid, *footprint(wcs, shape).T)
    assert all(c.min() >= -0.5 and c.max() <= s for c, s in zip(corners, field_shape[::-1], strict=True))
    assert agree((grid, field_shape), (wcs, shape)) < BUDGET
    assert agree((wcs, shape), (grid, field_shape)) < BUDGET
    lines = wcs_of(cards.tostring(sep="\n"))
    np.testing.assert_array_equal(pixel_to_sky(lines, x, y), (ra, dec))


def test_the_grid_of_a_field_survives_its_header() -> None:
    wcs, shape = field_grid([(wcs_of(header(**SIP).tostring()), (600, 500))])
    again = wcs_of(cards_of(wcs, shape))
    assert again.pixel_shape == (shape[1], shape[0])
    x, y = np.meshgrid([0.0, shape[1]], [0.0, shape[0]])
    np.testing.assert_allclose(sky_to_pixel(again, *pixel_to_sky(wcs, x, y)), (x, y), atol=1e-6)
    assert pixel_scale(wcs, shape) == pytest.approx(pixel_scale(again, shape))


def legacy(folder: Path) -> dict[str, list[tuple[str, Case]]]:
    found: dict[str, list[tuple[str, Case]]] = {}
    for path in sorted(folder.glob("images/legacy/*/images/**/*_ooi_*.fits")):
        cards = fits.getheader(path, 1)
        case = (wcs_of(cards.tostring()), (cards["NAXIS2"], cards["NAXIS1"]))
        found.setdefault(path.relative_to(folder).parts[2], []).append((path.name, case))
    return found


def test_real_tpv_headers(reference_data: Path) -> None:
    """DECam, 90prime and Mosaic-3: sections, and the whole chip that their WCS describes."""
    chip = (2048, 2048)
    for cases in legacy(reference_data).values():
        images = [case for _, case in cases]
        field = field_grid(images)
        for case in images:
            assert agree(field, case) < BUDGET
        (first, _), (second, _) = images[0], images[-1]
        whole = field_grid([(first, chip)])
        assert agree(whole, (first, chip)) < BUDGET
        assert agree((second, chip), (first, chip)) < BUDGET


def test_real_tan_and_mini_headers(reference_data: Path) -> None:
    folder = reference_data / "images"
    for pattern, size in (("nircam/*_stamp.fits", 900), ("decam_mini/*.mini.fits", 256)):
        paths = sorted(folder.glob(pattern))[:3]
        images = [(wcs_of(fits.getheader(path).tostring()), (size, size)) for path in paths]
        assert len(images) >= 2
        assert agree(images[0], images[1]) < BUDGET
        assert agree(field_grid(images), images[1]) < BUDGET


def test_distortion_tables(reference_data: Path) -> None:
    with fits.open(reference_data / "images/wcs/image_with_distortion_map.fits") as hdus:
        cards = hdus[0].header.copy()
        tables = [(hdu.header.tostring(), hdu.data.copy()) for hdu in hdus[1:]]
    # The file has no sky; its tables stay as they are, and then get waves.
    for key, value in header((100, 100)).items():
        cards[key] = value
    cards["CRPIX1"] = cards["CRPIX2"] = 50.0
    del cards["CDELT1"], cards["CDELT2"]
    with pytest.raises(ImageError, match="give the extensions"):
        wcs_of(cards.tostring())
    rng = np.random.default_rng(3)
    waves = [(text, table + np.float32(rng.normal(0, 0.3, table.shape))) for text, table in tables]
    for given in (tables, waves):
        wcs = wcs_of(cards.tostring(), given)
        assert wcs.cpdis1 is not None
        field = field_grid([(wcs, (100, 100))])
        assert agree(field, (wcs, (100, 100))) < BUDGET
        assert agree((wcs, (100, 100)), field) < BUDGET


def test_areas_of_pixels_keep_the_flux() -> None:
    wcs, shape = wcs_of(header((1000, 1000), **SIP).tostring()), (1000, 1000)
    out, shape_out = field_grid([(wcs, shape)])
    grid = coordinate_grid(out, wcs, shape_out, shape_in=shape)
    rows, columns = (np.arange(30, side - 30, 37.0) for side in shape_out)
    x, y = (np.empty((len(rows), len(columns), 4)) for _ in range(2))
    for k, (down, along) in enumerate([(0, -0.5), (0, 0.5), (-0.5, 0), (0.5, 0)]):
        yy, xx = np.meshgrid(rows + down, columns + along, indexing="ij")
        x[..., k], y[..., k] = sky_to_pixel(wcs, *pixel_to_sky(out, xx, yy))
    exact = np.abs(
        (x[..., 1] - x[..., 0]) * (y[..., 3] - y[..., 2]) - (x[..., 3] - x[..., 2]) * (y[..., 1] - y[..., 0])
    )
    assert np.ptp(exact) > 0.02
    from skytrawl.kernels.resample.spline import dense_weights

    area = dense_weights(grid, 0, rows) @ node_area(grid) @ dense_weights(grid, 1, columns).T
    assert np.abs(area / exact - 1).max() < 1e-6


def test_no_overlap_and_partial_overlap() -> None:
    shape = (600, 500)
    one = wcs_of(header(**SIP).tostring())
    planes = Planes(np.ones(shape, np.float32), np.ones(shape, np.float32), np.zeros(shape, np.uint16))
    for ra, dec in ((150.1, 1.9), (150.1, -2.8), (150.1, -80.0), (330.1, -2.2)):
        other = wcs_of(header(**{**SIP, "CRVAL1": ra, "CRVAL2": dec}).tostring())
        grid = coordinate_grid(other, one, shape, shape_in=shape)
        assert not resample(planes, grid, shape).coverage.any()
    half = wcs_of(header(**{**SIP, "CRVAL2": 2.2 + 0.02}).tostring())
    covered = resample(planes, coordinate_grid(half, one, shape, shape_in=shape), shape).coverage
    assert 0.3 < covered.mean() < 0.7
    # A small image between the nodes of a large one.
    small = wcs_of(header((20, 20), **{**SIP, "CRVAL2": 2.2 + 0.003}).tostring())
    assert agree((one, shape), (small, (20, 20))) < BUDGET


def test_what_is_no_sky(reference_data: Path) -> None:
    nothing = wcs_of(fits.Header({"NAXIS": 2, "NAXIS1": 10, "NAXIS2": 10}).tostring())
    with pytest.raises(ImageError, match="no WCS of the sky"):
        pixel_to_sky(nothing, 0, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cards = fits.getheader(reference_data / "images/wcs/secchi_l0_a.fits")
    sun = wcs_of(cards.tostring())
    with pytest.raises(ImageError, match="not positions among the stars"):
        footprint(sun, (128, 128))
    good = wcs_of(header().tostring())
    with pytest.raises(ImageError, match="among the stars"):
        coordinate_grid(good, sun, (100, 100))
    with pytest.raises(ImageError, match="header cannot be used: Linear transformation matrix is singular"):
        wcs_of(header(CD1_1=0.0, CD1_2=0.0).tostring())
    with pytest.raises(ImageError, match="cannot be used"):
        wcs_of(header(CTYPE2="RA---TAN").tostring())


def test_images_that_are_no_field() -> None:
    one, shape = wcs_of(header().tostring()), (600, 500)
    far, opposite = (wcs_of(header(CRVAL2=dec).tostring()) for dec in (-20.0, 80.0))
    with pytest.raises(ImageError, match="not of one field"):
        field_grid([(one, shape), (far, shape)])
    with pytest.raises(ImageError, match="60 degrees"):
        field_grid([(opposite, shape), (wcs_of(header(CRVAL2=-80.0).tostring()), shape)])
    with pytest.raises(ParameterError, match="one image"):
        field_grid([])
    with pytest.raises(ParameterError, match="scale"):
        field_grid([(one, shape)], scale=-1.0)
    _, coarse = field_grid([(one, shape)], scale=pixel_scale(one, shape) * 2)
    assert coarse[0] == pytest.approx(300, abs=15)
