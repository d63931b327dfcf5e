"""Where an image lies on the sky: corners, centre, pixel scale and the HEALPix cells that it touches."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from skytrawl.catalogs.images.wcs import footprint, pixel_scale, pixel_to_sky, sky_to_pixel
from skytrawl.catalogs.sky import healpix_of
from skytrawl.errors import IngestError

ORDER: Final = 10  # of the cells of a cover: 3.4 arcmin
_EDGE_POINTS = 8  # of one side: lines of a distorted image are no great circles
_WORST_ROUND_TRIP = 0.05  # px
_SCALES = (1e-4, 600.0)  # arcsec a pixel: from radio interferometers to all-sky cameras


@dataclass(frozen=True)
class Place:
    """Position of an image.

    Attributes
    ----------
    ra, dec : float
        Of the centre, ICRS degrees.
    corners : float64 array of shape (4, 2)
        ra, dec of the outer corners of pixels (0, 0), (nx - 1, 0), (nx - 1, ny - 1), (0, ny - 1).
    pixel_scale : float
        Square root of the area of the central pixel, arcsec.
    healpix : int
        Cell of the centre, nested, order 29.
    cover : uint64 array
        Cells of order :data:`ORDER`, nested, that the outline touches or holds.
    """

    ra: float
    dec: float
    corners: np.ndarray
    pixel_scale: float
    healpix: int
    cover: np.ndarray


def place_of(wcs: Any, shape: tuple[int, int]) -> Place:
    """Place of an image of this shape.

    Raises
    ------
    ImageError
        If the WCS has no frame of the stars.
    IngestError
        If positions are not finite, do not lead back to their pixels, or the pixels have a size that no
        camera has: the WCS is wrong.
    """
    ny, nx = shape
    x, y = _outline(nx, ny)
    x, y = np.append(x, (nx - 1) / 2), np.append(y, (ny - 1) / 2)
    ra, dec = pixel_to_sky(wcs, x, y)
    if not (np.isfinite(ra).all() and np.isfinite(dec).all()):
        raise IngestError("the WCS gives no position for parts of the image: solve the astrometry anew")
    scale = pixel_scale(wcs, shape)
    if not _SCALES[0] < scale < _SCALES[1]:
        raise IngestError(f"the WCS is wrong: a pixel of {scale:.3g} arcsec; look at CD, PC, CDELT and CUNIT")
    back = sky_to_pixel(wcs, ra, dec)
    away = np.nan_to_num(np.hypot(back[0] - x, back[1] - y), nan=np.inf)
    if away.max() > _WORST_ROUND_TRIP:
        raise IngestError(
            f"the WCS is wrong: positions on the sky lead back to pixels {away.max():.3g} px away (its "
            "distortion is not valid on this image): solve the astrometry anew"
        )
    centre_ra, centre_dec = float(ra[-1]), float(dec[-1])
    return Place(
        ra=centre_ra,
        dec=centre_dec,
        corners=footprint(wcs, shape),
        pixel_scale=scale,
        healpix=int(healpix_of(np.array([centre_ra]), np.array([centre_dec]))[0]),
        cover=cells(ra[:-1], dec[:-1]),
    )


def cells(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """HEALPix cells (nested, :data:`ORDER`) that a polygon on the sphere touches or holds.

    Parameters
    ----------
    ra, dec : float64 arrays
        Its vertices in order, degrees.

    Returns
    -------
    uint64 array, sorted
    """
    from astropy.coordinates import Latitude, Longitude
    from cdshealpix.nested import polygon_search

    found, _depth, _ = polygon_search(Longitude(ra, "deg"), Latitude(dec, "deg"), np.uint8(ORDER), flat=True)
    return np.unique(np.asarray(found, np.uint64))


def parse_angle(value: Any, *, hours: bool) -> float:
    """Degrees of a number (degrees) or of text with colons (hours or degrees); NaN for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    match = re.fullmatch(r"\s*([+-]?)(\d+)[: ](\d+)(?:[: ](\d+(?:\.\d*)?))?\s*", str(value))
    if not match:
        try:
            return float(str(value))
        except ValueError:
            return math.nan
    size = int(match[2]) + int(match[3]) / 60 + float(match[4] or 0) / 3600
    return (-size if match[1] == "-" else size) * (15.0 if hours else 1.0)


def _outline(nx: int, ny: int) -> tuple[np.ndarray, np.ndarray]:
    """Points along the outer border of the pixels, beginning at the corner of (0, 0), by x first."""
    step = np.arange(_EDGE_POINTS) / _EDGE_POINTS
    low, right, top = -0.5, nx - 0.5, ny - 0.5
    zeros, ones = np.full(_EDGE_POINTS, low), np.ones(_EDGE_POINTS)
    x = np.concatenate([low + nx * step, right * ones, right - nx * step, zeros])
    y = np.concatenate([zeros, low + ny * step, top * ones, top - ny * step])
    return x, y
