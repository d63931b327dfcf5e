"""Steps between pixels and the sky on astropy's WCS: forward, inverse with proof, change of frame."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ImageError

# pixels; astropy's default of 1e-4 is too coarse for a budget of 1e-3
_TOLERANCE = 1e-6
# pixels; an inverse that leads back farther away is none
_PROOF = 1e-4

Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


def require_sky(wcs: Any) -> Any:
    """Frame of the WCS among the stars, an astropy coordinate frame.

    Raises
    ------
    ImageError
        If it has none, or the frame is not one of the fixed sky.
    """
    from astropy.wcs.utils import wcs_to_celestial_frame

    kinds = ", ".join(kind for kind in wcs.wcs.ctype if kind) or "none"
    if not wcs.has_celestial or wcs.naxis != 2:
        raise ImageError(f"the image has no WCS of the sky (axes: {kinds}): solve the astrometry first")
    try:
        return wcs_to_celestial_frame(wcs)
    except ValueError as error:
        raise ImageError(
            f"positions with axes {kinds} are not positions among the stars: equatorial, galactic or "
            "ecliptic ones are needed"
        ) from error


def forward(wcs: Any, x: NDArray[np.float64], y: NDArray[np.float64]) -> Pair:
    """Longitude and latitude of pixels, degrees in the frame of the WCS; NaN where there is none."""
    first, second = _quiet(wcs.all_pix2world, *np.broadcast_arrays(x, y), 0)
    return (first, second) if wcs.wcs.lng == 0 else (second, first)


def inverse(wcs: Any, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> Pair:
    """Pixels of positions in the frame of the WCS; NaN where there is none that leads back to them."""
    lon, lat = np.broadcast_arrays(lon, lat)
    known = np.isfinite(lon) & np.isfinite(lat)
    x, y = np.full(lon.shape, np.nan), np.full(lon.shape, np.nan)
    if not known.any():
        return x, y
    world = (lon[known], lat[known])
    found = _quiet(
        wcs.all_world2pix, *(world if wcs.wcs.lng == 0 else world[::-1]), 0,
        tolerance=_TOLERANCE, maxiter=50, adaptive=True, quiet=True,
    )  # fmt: skip
    back = forward(wcs, *found)
    away = np.linalg.norm(vectors(*back) - vectors(*world), axis=-1)
    with np.errstate(invalid="ignore"):
        wrong = ~(away <= _PROOF * scale_of(wcs))
    x[known], y[known] = (np.where(wrong, np.nan, pixel) for pixel in found)
    return x, y


def scale_of(wcs: Any) -> float:
    """Size of a pixel by the linear part of the WCS, radians.

    Raises
    ------
    ImageError
        If it is zero or no number.
    """
    size = float(np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix))))
    if not 0 < size < np.inf:
        raise ImageError("the matrix of the WCS (CD, PC, CDELT) is singular: solve the astrometry anew")
    return float(np.radians(size))


def rotate(lon: NDArray[np.float64], lat: NDArray[np.float64], frame: Any, to: Any) -> Pair:
    """Positions in another frame of the sky, degrees."""
    if frame.is_equivalent_frame(to):
        return lon, lat
    from astropy.coordinates import SkyCoord

    known = np.isfinite(lon) & np.isfinite(lat)
    out = np.full((2, *lon.shape), np.nan)
    if known.any():
        place = SkyCoord(lon[known], lat[known], unit="deg", frame=frame).transform_to(to).spherical
        out[0][known], out[1][known] = place.lon.deg, place.lat.deg
    return out[0], out[1]


def vectors(lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors float64[..., 3] of positions in degrees."""
    lon, lat = np.radians(lon), np.radians(lat)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def _quiet(call: Any, *arguments: Any, **options: Any) -> Any:
    """Call astropy without its warnings; what it refuses is an `ImageError`."""
    from astropy.wcs import WcsError

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return call(*arguments, **options)
        except (WcsError, ValueError) as error:
            raise ImageError(f"the WCS of the image cannot be used: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """What wcslib says, without the places in its code."""
    said = re.sub(r"ERROR \d+ in \w+\(\) at line \d+ of file \S+", "", str(error))
    return " ".join(said.replace(" :", "").split()).strip(" :.")[:300] + "; solve the astrometry anew"
