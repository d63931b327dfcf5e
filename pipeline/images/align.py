"""A reference on the pixels of an exposure.

What is known of the reference (sky, noise, PSF, stars) is carried over with its pixels instead of being
measured again on every exposure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skytrawl.catalogs.images.wcs_grid import coordinate_grid
from skytrawl.errors import ImageError
from skytrawl.kernels import flags

if TYPE_CHECKING:
    from skytrawl.catalogs.images.measured import Exposure
    from skytrawl.kernels.measure import Match
    from skytrawl.kernels.psf import PsfModel
    from skytrawl.kernels.resample import CoordinateGrid, Planes

# Less of the exposure than this has a reference: nothing could be said about it.
LEAST_OVERLAP = 0.01


@dataclass(frozen=True)
class Aligned:
    """A reference resampled onto an exposure.

    Attributes
    ----------
    planes : Planes
        Without its sky, image units of the reference; unusable pixels are 0 with variance 1 and carry bits.
    sky_sigma : float32[ny, nx], image units
        Noise of a pixel that holds nothing but sky, were it that of white noise.
    psf : PsfModel
        On these pixels.
    fwhm : float, pixels, in the middle of what the reference covers
    psf_error : float
        Relative error of the PSF's width; NaN where unknown.
    match : Match
        Its scale against the exposure, and the shift (reference minus exposure) between their headers that
        was taken out, along x and y of the exposure and in its pixels.
    noise_correlation : float
        Of this resampling.
    reference_correlation : float
        That of the reference before it.
    overlap : float
        Part of the exposure that it covers.
    """

    planes: Planes
    sky_sigma: np.ndarray
    psf: PsfModel
    fwhm: float
    psf_error: float
    match: Match
    noise_correlation: float
    reference_correlation: float
    overlap: float


def align(science: Exposure, reference: Exposure, *, radius: float = 3.0) -> Aligned:
    """Resample a reference onto an exposure; the shift that its stars show against the WCS is taken out.

    Parameters
    ----------
    science, reference : Exposure
    radius : float, pixels of the reference
        Stars are the same if they lie so near.

    Raises
    ------
    ImageError
        If they do not overlap, or too few stars are in both to tell scale and shift.
    """
    from dataclasses import replace

    from skytrawl.kernels.resample.coadd_psf import Part, coadd_psf, jacobian

    shape = science.planes.image.shape
    grid = coordinate_grid(science.wcs, reference.wcs, shape, shape_in=reference.planes.image.shape)
    _require_overlap(science, reference, _share(grid, reference.planes.image.shape))
    both = shared(science, reference, radius=radius)
    # A pixel (x, y) of the exposure shows what the WCS put there of the reference, and (dx, dy) farther on.
    grid = replace(grid, x=grid.x + both.dx, y=grid.y + both.dy)
    planes, coverage, correlation = _onto(reference, grid, shape)
    overlap = float(coverage.mean())
    _require_overlap(science, reference, overlap)
    rows, columns = np.flatnonzero(coverage.any(axis=1)), np.flatnonzero(coverage.any(axis=0))
    window = (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
    psf = coadd_psf([Part(reference.psf, grid, 1.0, window)])
    middle = (window[2] + window[3] - 1) / 2, (window[0] + window[1] - 1) / 2
    return Aligned(
        planes,
        _sky_sigma(reference, grid, shape),
        psf,
        float(psf.fwhm(*middle)),
        float(reference.row.get("psf_error") or np.nan),
        _turned(both, jacobian(grid, *middle)[0]),
        correlation,
        float(reference.row.get("noise_correlation") or 1.0),
        overlap,
    )


def _turned(match: Match, matrix: np.ndarray) -> Match:
    """The shift along the axes of the exposure; `matrix` takes offsets on it to those on the reference."""
    from dataclasses import replace

    back = np.linalg.inv(matrix)
    dx, dy = (back @ [match.dx, match.dy]).tolist()
    dx_error, dy_error = np.sqrt(back**2 @ np.square([match.dx_error, match.dy_error])).tolist()
    scatter = float(match.shift_scatter * np.sqrt(abs(np.linalg.det(back))))
    return replace(match, dx=dx, dy=dy, dx_error=dx_error, dy_error=dy_error, shift_scatter=scatter)


def _sky_sigma(reference: Exposure, grid: CoordinateGrid, shape: tuple[int, int]) -> np.ndarray:
    """Noise of the sky of the reference in every pixel of the exposure."""
    from skytrawl.kernels.resample import Planes, resample

    sky = np.square(reference.sky_sigma)
    found = resample(Planes(sky, sky, np.zeros(sky.shape, flags.DTYPE)), grid, shape)
    known = found.coverage & (found.variance > 0)
    return np.sqrt(np.where(known, found.variance, np.median(found.variance[known])))


def _share(grid: CoordinateGrid, shape: tuple[int, ...]) -> float:
    """Part of the nodes of a grid that lie on its input."""
    inside = (np.abs(grid.x - (shape[1] - 1) / 2) < shape[1] / 2) & (
        np.abs(grid.y - (shape[0] - 1) / 2) < shape[0] / 2
    )
    return float(inside.mean())


def _require_overlap(science: Exposure, reference: Exposure, overlap: float) -> None:
    if overlap < LEAST_OVERLAP:
        raise ImageError(
            f"{reference.id} covers {100 * overlap:.1f} % of {science.id}: the images do not overlap"
        )


def shared(base: Exposure, other: Exposure, *, radius: float = 3.0) -> Match:
    """Scale and shift of an exposure against another, by the stars measured on each and the two WCS.

    The shift is in pixels of `other`: its stars lie so far from where the WCS put those of `base`.

    Raises
    ------
    ImageError
        If too few stars are common to tell.
    """
    from dataclasses import replace

    from skytrawl.catalogs.images.wcs import pixel_to_sky, sky_to_pixel
    from skytrawl.kernels.measure import match

    x, y = sky_to_pixel(other.wcs, *pixel_to_sky(base.wcs, base.stars.x, base.stars.y))
    x, y = np.nan_to_num(x, nan=-1e9), np.nan_to_num(y, nan=-1e9)
    pixel = base.row["pixel_scale"] / other.row["pixel_scale"]
    errors = {"x_error": pixel * base.stars.x_error, "y_error": pixel * base.stars.y_error}
    return match(replace(base.stars, x=x, y=y, **errors), other.stars, radius=radius)


def _onto(
    reference: Exposure, grid: CoordinateGrid, shape: tuple[int, int]
) -> tuple[Planes, np.ndarray, float]:
    from skytrawl.kernels.resample import Planes, resample

    found = resample(reference.planes, grid, shape)
    usable = found.coverage & ((found.mask & flags.UNUSABLE) == 0)
    mask = np.where(usable, found.mask, found.mask | flags.REFERENCE).astype(flags.DTYPE)
    image = np.where(usable, found.image, np.float32(0))
    variance = np.where(usable & (found.variance > 0), found.variance, np.float32(1))
    return Planes(image, variance, mask), usable, found.noise_correlation
