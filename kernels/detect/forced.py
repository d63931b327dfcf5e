"""PSF photometry at given positions, whether or not anything is there."""

from typing import Any

import numpy as np

from skytrawl.errors import SchemaError
from skytrawl.kernels.detect.types import as_plane, check_planes
from skytrawl.kernels.flags import NO_DATA
from skytrawl.kernels.psf import PsfModel

_BATCH = 32  # stamps at a time
# Column: (dtype, unit, meaning).
COLUMNS = {
    "flux": ("float64", "image", "PSF flux at (x, y), signed; NaN where the map has none"),
    "flux_error": ("float64", "image", "its standard error"),
    "snr": ("float64", "", "flux / flux_error"),
    "order": ("int8", "", "pixels a side that flux was interpolated from: 8, 6, 4 or 2; 0: no flux"),
    "flags": ("uint16", "", "bits of the four pixels around (x, y); no_data for a position outside"),
}


def forced(flux: Any, flux_error: Any, mask: Any, x: Any, y: Any, *, xp: Any = None) -> dict[str, Any]:
    """PSF flux at sub-pixel positions from a map of matched-filter fluxes.

    Unbiased for a source at (x, y): the map is interpolated, see `interpolate`, and so is the square of its
    error.

    Parameters
    ----------
    flux, flux_error : float32[ny, nx], image units
        As `detect` takes them.
    mask : uint16[ny, nx]
    x, y : float64[n], px
    xp : namespace of the array API, optional
        Where all arrays live; by default NumPy, and Numba does the work.

    Returns
    -------
    dict of the columns of `COLUMNS`, one row a position; arrays of `xp`

    Raises
    ------
    SchemaError
        For planes or positions that differ in shape.
    """
    check_planes(tuple(flux.shape), {"flux_error": flux_error, "mask": mask})
    if xp is None:
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if tuple(x.shape) != tuple(y.shape) or len(x.shape) != 1:
        raise SchemaError(f"x and y have shapes {tuple(x.shape)} and {tuple(y.shape)}: give two vectors")
    # Numba is loaded only now: columns may be looked up without.
    from skytrawl.kernels.detect.interpolate import sample_array, samples, table

    if xp is None:
        fluxes, errors, orders = samples(as_plane(flux), as_plane(flux_error), x, y, table())
        xp, mask = np, np.ascontiguousarray(mask, np.uint16)
    else:
        fluxes, orders = sample_array(xp.astype(flux, xp.float32), x, y, xp)
        errors, _ = sample_array(xp.astype(flux_error, xp.float32), x, y, xp, squared=True)
    return {
        "flux": fluxes,
        "flux_error": errors,
        "snr": fluxes / errors,
        "order": orders,
        "flags": _bits(mask, x, y, xp),
    }


def psf_flux(image: Any, bad: Any, psf: PsfModel, x: Any, y: Any) -> np.ndarray:
    """PSF flux at positions of an image: least squares on its usable pixels, all of one weight.

    Parameters
    ----------
    image : float32[ny, nx], image units, without its sky
    bad : bool[ny, nx]
        Pixels that are not used.
    psf : PsfModel
    x, y : float64[n], px

    Returns
    -------
    float64[n], image units
        NaN where less than half of sum(P^2) falls on usable pixels.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    flux = np.full(len(x), np.nan)
    sides = [np.arange(side) - side // 2 for side in psf.shape]
    for first in range(0, len(x), _BATCH):
        rows = slice(first, first + _BATCH)
        column, row = np.rint(x[rows]).astype(np.int64), np.rint(y[rows]).astype(np.int64)
        stamps = psf.at(x[rows], y[rows], dx=x[rows] - column, dy=y[rows] - row).astype(np.float64)
        j, i = row[:, None, None] + sides[0][:, None], column[:, None, None] + sides[1]
        inside = (j >= 0) & (j < image.shape[0]) & (i >= 0) & (i < image.shape[1])
        place = np.where(inside, j, 0), np.where(inside, i, 0)
        used = np.where(inside & ~bad[place], stamps, 0.0)
        weight = np.square(used).sum(axis=(1, 2))
        known = weight >= 0.5 * np.square(stamps).sum(axis=(1, 2))
        total = np.sum(used * np.where(used != 0, image[place], 0.0), axis=(1, 2))
        flux[rows] = np.where(known, total / np.where(known, weight, 1.0), np.nan)
    return flux


def _bits(mask: Any, x: Any, y: Any, xp: Any) -> Any:
    """Bits of the pixels that a position lies between; `NO_DATA` outside the image."""
    rows, columns = mask.shape
    flat = xp.reshape(mask, (-1,))
    inside = (x >= -0.5) & (x <= columns - 0.5) & (y >= -0.5) & (y <= rows - 0.5)
    zero = xp.zeros_like(x)
    left, low = xp.where(inside, xp.floor(x), zero), xp.where(inside, xp.floor(y), zero)
    right, high = xp.where(inside, xp.ceil(x), zero), xp.where(inside, xp.ceil(y), zero)
    none = xp.astype(xp.full_like(zero, float(NO_DATA)), mask.dtype)
    bits = xp.where(inside, xp.zeros_like(none), none)
    for v in (low, high):
        for u in (left, right):
            there = inside & (u >= 0) & (u < columns) & (v >= 0) & (v < rows)
            place = xp.astype(xp.where(there, v * columns + u, zero), xp.int64)
            found = xp.take(flat, place)
            bits = bits | xp.where(there, found, xp.zeros_like(found))
    return bits
