"""Coordinates of simulated exposures: the cards of a survey's projection, and positions through them."""

from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs.images.wcs import pixel_to_sky, sky_to_pixel, wcs_of
from skytrawl.catalogs.simulate_images.sky import offset
from skytrawl.catalogs.simulate_images.surveys import ImageModel

if TYPE_CHECKING:
    from astropy.io.fits import Header

# Where detector S4 of DECam lies from the middle of the focal plane, pixels.
_OFF_AXIS = {"decam": (1900.0, -1050.0)}


def cards(
    model: ImageModel, size: int, centre: tuple[float, float], turn: float, scale: float = 1.0
) -> "Header":
    """Header cards of a projection with the survey's distortion.

    Parameters
    ----------
    model : ImageModel
    size : int
        Rows and columns.
    centre : tuple of float
        Right ascension and declination of the middle of the image, degrees.
    turn : float
        Rotation, degrees.
    scale : float
        Factor on the distortion; 0 is a plain tangent plane.
    """
    from astropy.io.fits import Header

    header = Header()
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, size, size
    header["WCSAXES"] = 2
    suffix = {"TPV": "TPV", "SIP": "TAN-SIP"}[model.projection]
    header["CTYPE1"], header["CTYPE2"] = f"RA---{suffix}", f"DEC--{suffix}"
    header["CUNIT1"], header["CUNIT2"] = "deg", "deg"
    away = _OFF_AXIS.get(model.survey, (0.0, 0.0))
    header["CRPIX1"], header["CRPIX2"] = 0.5 * (size + 1) + away[0], 0.5 * (size + 1) + away[1]
    step, angle = model.pixel_scale / 3600.0, np.radians(turn)
    header["CD1_1"], header["CD1_2"] = -step * np.cos(angle), step * np.sin(angle)
    header["CD2_1"], header["CD2_2"] = step * np.sin(angle), step * np.cos(angle)
    if model.projection == "TPV":
        terms = {"PV1_0": 0.0, "PV1_1": 1.0, "PV1_2": 0.0, "PV2_0": 0.0, "PV2_1": 1.0, "PV2_2": 0.0}
        for name, value in (terms | dict(model.distortion)).items():
            header[name] = terms.get(name, 0.0) * (1.0 - scale) + scale * value
    else:
        header["A_ORDER"], header["B_ORDER"] = 3, 3
        for name, value in model.distortion.items():
            header[name] = scale * value
    header["RADESYS"] = "ICRS"
    header["EQUINOX"] = 2000.0
    header["CRVAL1"], header["CRVAL2"] = centre
    # The middle of the image is not the reference point: move that until the middle is right.
    middle = 0.5 * (size - 1)
    for _ in range(4):
        ra, dec = pixel_to_sky(wcs_of(header.tostring()), [middle], [middle])
        header["CRVAL1"] += (centre[0] - float(ra[0]) + 180.0) % 360.0 - 180.0
        header["CRVAL2"] += centre[1] - float(dec[0])
    header["CRVAL1"] %= 360.0
    return header


def jacobians(wcs: Any, ra: np.ndarray, dec: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pixels per arcsec: float64 array of shape (n, 2, 2) that maps (east, north) to (x, y)."""
    step = np.full(len(ra), 1.0 / 3600.0)
    east = sky_to_pixel(wcs, *offset(ra, dec, step, np.zeros_like(step)))
    north = sky_to_pixel(wcs, *offset(ra, dec, np.zeros_like(step), step))
    rows = [[east[0] - x, north[0] - x], [east[1] - y, north[1] - y]]
    return np.moveaxis(np.array(rows), -1, 0)
