"""World coordinates: header cards to positions on the sky, footprints, and the grid of a field.

Positions on the sky are ICRS degrees. Pixels are 0-based, (0, 0) is the centre of the first pixel.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skytrawl.catalogs.images.wcs_grid import coordinate_grid
from skytrawl.catalogs.images.wcs_sky import forward, inverse, reason_of, require_sky, rotate, vectors
from skytrawl.errors import ImageError, ParameterError

__all__ = [
    "cards_of",
    "coordinate_grid",
    "field_grid",
    "footprint",
    "pixel_scale",
    "pixel_to_sky",
    "sky_to_pixel",
    "wcs_of",
]

# Points along each side of an image where its outline is projected.
_SIDE = 9


def wcs_of(cards: str, tables: Sequence[tuple[str, NDArray[Any]]] = ()) -> Any:
    """World coordinates of an image from the text of its header.

    Parameters
    ----------
    cards : str
        Cards of 80 characters each, one after the other, or one a line.
    tables : sequence of (cards, array)
        The image extensions that hold distortion tables (WCSDVARR, D2IMARR), if the header points at such.

    Returns
    -------
    astropy.wcs.WCS
        Of the two axes of the sky where the header has more; as it is where the header has no sky.

    Raises
    ------
    ImageError
        If astropy cannot make anything of the cards, or distortion tables are missing.
    """
    from astropy.io import fits
    from astropy.wcs import WCS

    header = fits.Header.fromstring(cards, sep="\n" if "\n" in cards else "")
    hdus = fits.HDUList([fits.PrimaryHDU()])
    for text, array in tables:
        hdus.append(fits.ImageHDU(array, fits.Header.fromstring(text, sep="\n" if "\n" in text else "")))
    needs = [key for key in ("CPDIS1", "CPDIS2", "D2IMDIS1", "D2IMDIS2", "D2IM1.EXTVER") if key in header]
    if needs and not tables:
        raise ImageError(
            f"the WCS has distortion tables ({', '.join(needs)}), which the header alone does not hold: "
            "give the extensions as well"
        )
    with warnings.catch_warnings():
        # What astropy mends on reading (old dates, names of frames) does not touch positions.
        warnings.simplefilter("ignore")
        try:
            wcs = WCS(header, fobj=hdus if tables else None)
        except Exception as error:
            raise ImageError(f"the WCS of the header cannot be used: {reason_of(error)}") from error
        return wcs.celestial if wcs.naxis > 2 and wcs.has_celestial else wcs


def cards_of(wcs: Any, shape: tuple[int, int]) -> str:
    """Header cards, one after the other, that `wcs_of` makes this WCS of (no distortion tables)."""
    header = wcs.to_header(relax=True)
    header["NAXIS1"], header["NAXIS2"] = shape[1], shape[0]
    return str(header.tostring(endcard=False, padding=False))


def pixel_to_sky(wcs: Any, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions of pixels on the sky.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
    x, y : float64 arrays, pixels

    Returns
    -------
    ra, dec : float64 arrays, ICRS degrees; NaN where the WCS has no position
    """
    from astropy.coordinates import ICRS

    frame = require_sky(wcs)
    lon, lat = forward(wcs, np.asarray(x, np.float64), np.asarray(y, np.float64))
    return rotate(lon, lat, frame, ICRS())


def sky_to_pixel(wcs: Any, ra: ArrayLike, dec: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixels of positions on the sky.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
    ra, dec : float64 arrays, ICRS degrees

    Returns
    -------
    x, y : float64 arrays, pixels; NaN where the position has no pixel, or where the distortion of the WCS
        cannot be inverted
    """
    from astropy.coordinates import ICRS

    frame = require_sky(wcs)
    lon, lat = rotate(np.asarray(ra, np.float64), np.asarray(dec, np.float64), ICRS(), frame)
    return inverse(wcs, lon, lat)


def footprint(wcs: Any, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Corners of an image on the sky, at the outer edges of its pixels.

    Returns
    -------
    float64[4, 2], ICRS degrees (ra, dec) at pixels (0, 0), (nx, 0), (nx, ny), (0, ny)
    """
    right, top = shape[1] - 0.5, shape[0] - 0.5
    ra, dec = pixel_to_sky(wcs, [-0.5, right, right, -0.5], [-0.5, -0.5, top, top])
    return np.stack([ra, dec], axis=1)


def pixel_scale(wcs: Any, shape: tuple[int, int]) -> float:
    """Side of the square with the area of the pixel at the centre of the image, arcsec."""
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    ra, dec = pixel_to_sky(wcs, [x - 0.5, x + 0.5, x, x], [y, y, y - 0.5, y + 0.5])
    v = vectors(ra, dec)
    area = float(np.linalg.norm(np.cross(v[1] - v[0], v[3] - v[2])))
    return math.degrees(math.sqrt(area)) * 3600


def field_grid(
    images: Sequence[tuple[Any, tuple[int, int]]], *, scale: float | None = None, max_side: int = 32768
) -> tuple[Any, tuple[int, int]]:
    """Pixel grid that holds a set of images: gnomonic about their middle, north up, east to the left.

    Parameters
    ----------
    images : sequence of (WCS, (ny, nx))
    scale : float, arcsec
        Side of a pixel. Default: the median of the images.
    max_side : int, pixels
        Images farther apart than that are not of one field.

    Returns
    -------
    wcs : astropy.wcs.WCS
    shape : (ny, nx)

    Raises
    ------
    ImageError
        If an image has no WCS of the sky, or they do not fit one grid.
    ParameterError
        If there are no images, or the scale is not positive.
    """
    from astropy.wcs import WCS

    if not images:
        raise ParameterError("the grid of a field needs one image at least")
    if scale is None:
        scale = float(np.median([pixel_scale(wcs, shape) for wcs, shape in images]))
    if not (scale > 0 and math.isfinite(scale)):
        raise ParameterError(f"the scale of a pixel must be positive, not {scale}")
    outlines = [pixel_to_sky(wcs, *_outline(shape)) for wcs, shape in images]
    points = np.concatenate([vectors(ra, dec) for ra, dec in outlines])
    middle = points.mean(axis=0)
    size = float(np.linalg.norm(middle))
    if not math.isfinite(size):
        raise ImageError("the WCS of an image has no positions along its border: solve the astrometry anew")
    if size < 0.5 or (points @ middle / size).min() < 0.5:
        raise ImageError("the images lie more than 60 degrees apart: they are not of one field")
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.radesys = "ICRS"
    ra0 = math.degrees(math.atan2(middle[1], middle[0])) % 360
    # A round number survives the header's decimals.
    wcs.wcs.crval = [round(ra0, 6), round(math.degrees(math.asin(middle[2] / size)), 6)]
    step = round(scale / 3600, 12)
    wcs.wcs.cdelt = [-step, step]
    wcs.wcs.crpix = [1.0, 1.0]
    x, y = (np.concatenate(both) for both in zip(*(sky_to_pixel(wcs, *o) for o in outlines), strict=True))
    left, bottom = math.floor(x.min()), math.floor(y.min())
    shape = (math.ceil(y.max()) - bottom + 1, math.ceil(x.max()) - left + 1)
    if max(shape) > max_side:
        raise ImageError(
            f"the images need a grid of {shape[1]} x {shape[0]} pixels, more than {max_side} along a side: "
            "they are not of one field, or one of them has a wrong WCS"
        )
    wcs.wcs.crpix = [1.0 - left, 1.0 - bottom]
    wcs.wcs.set()
    wcs.pixel_shape = (shape[1], shape[0])
    return wcs, shape


def _outline(shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points along the outer border of an image."""
    along, up = np.linspace(-0.5, shape[1] - 0.5, _SIDE), np.linspace(-0.5, shape[0] - 0.5, _SIDE)
    low, high = np.full(_SIDE, -0.5), np.full(_SIDE, shape[0] - 0.5)
    left, right = low, np.full(_SIDE, shape[1] - 0.5)
    return np.concatenate([along, along, left, right]), np.concatenate([low, high, up, up])
