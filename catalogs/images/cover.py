"""Where an image lies on the sky: corners, centre, pixel scale and the HEALPix cells that it touches."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from skytrawl.catalogs.sky import healpix_of
from skytrawl.errors import IngestError

ORDER: Final = 10  # of the cells of a cover: 3.4 arcmin
_EDGE_POINTS = 8  # of one side: lines of a distorted image are no great circles
_WORST_ROUND_TRIP = 0.05  # px
_SCALES = (1e-4, 3600.0)  # arcsec a pixel: from radio interferometers to all-sky cameras


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


def is_celestial(wcs: Any) -> bool:
    """Whether the axes are positions on the sky of the stars: equatorial, galactic or ecliptic."""
    kinds = {str(name)[:4].rstrip("-").upper() for name in wcs.wcs.ctype}
    return bool(wcs.has_celestial) and bool(kinds & {"RA", "DEC", "GLON", "GLAT", "ELON", "ELAT"})


def place_of(wcs: Any, shape: tuple[int, int]) -> Place:
    """Place of an image of this shape.

    Raises
    ------
    IngestError
        If positions are not finite, do not lead back to their pixels, or the pixels have a size that no
        camera has: the WCS is wrong.
    """
    ny, nx = shape
    x, y = _outline(nx, ny)
    points = np.stack([np.append(x, [(nx - 1) / 2, nx / 2]), np.append(y, [(ny - 1) / 2, (ny - 1) / 2])])
    points = np.append(points, [[(nx - 1) / 2], [ny / 2]], axis=1)
    try:
        ra, dec = _sky(wcs, points[0], points[1])
        back = np.stack(wcs.world_to_pixel_values(*wcs.pixel_to_world_values(*points)))
    except Exception as error:
        raise IngestError(f"the WCS cannot be used: {type(error).__name__}: {_one_line(error)}") from error
    if not (np.isfinite(ra).all() and np.isfinite(dec).all()):
        raise IngestError("the WCS gives no position for parts of the image: solve the astrometry anew")
    worst = float(np.abs(back - points).max())
    if not worst < _WORST_ROUND_TRIP:
        raise IngestError(
            f"the WCS is wrong: positions on the sky lead back to pixels {worst:.3g} px away (its distortion "
            "is not valid on this image): solve the astrometry anew"
        )
    scale = _pixel_scale(ra[-3:], dec[-3:])
    if not _SCALES[0] < scale < _SCALES[1]:
        raise IngestError(f"the WCS is wrong: a pixel of {scale:.3g} arcsec; look at CD, PC, CDELT and CUNIT")
    outline = slice(0, 4 * _EDGE_POINTS)
    corners = np.stack([ra[outline][::_EDGE_POINTS], dec[outline][::_EDGE_POINTS]], axis=1)
    centre_ra, centre_dec = float(ra[-3]), float(dec[-3])
    return Place(
        ra=centre_ra,
        dec=centre_dec,
        corners=corners,
        pixel_scale=scale,
        healpix=int(healpix_of(np.array([centre_ra]), np.array([centre_dec]))[0]),
        cover=cells(ra[outline], dec[outline]),
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


def _sky(wcs: Any, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ICRS degrees of pixels."""
    where = wcs.pixel_to_world(x, y).icrs
    return np.asarray(where.ra.deg, np.float64), np.asarray(where.dec.deg, np.float64)


def _pixel_scale(ra: np.ndarray, dec: np.ndarray) -> float:
    """From the centre and points half a pixel away along x and y."""
    lon, lat = np.radians(ra), np.radians(dec)
    vectors = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    area = np.linalg.norm(np.cross(vectors[1] - vectors[0], vectors[2] - vectors[0]))
    return math.degrees(math.sqrt(4 * float(area))) * 3600


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
