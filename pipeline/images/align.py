"""A reference on the pixels of an exposure, with its stars measured there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skytrawl.catalogs.images.wcs_grid import coordinate_grid
from skytrawl.errors import ImageError
from skytrawl.kernels import flags

if TYPE_CHECKING:
    from skytrawl.catalogs.images.measured import Exposure
    from skytrawl.kernels.measure import Match, Measured
    from skytrawl.kernels.resample import CoordinateGrid, Planes

# Less of the exposure than this has a reference: nothing could be said about it.
LEAST_OVERLAP = 0.01


@dataclass(frozen=True)
class Aligned:
    """A reference resampled onto an exposure.

    Attributes
    ----------
    planes : Planes
        Image units of the reference; unusable pixels are 0 with variance 1 and carry bits.
    measured : Measured
        PSF, stars and sky on these pixels.
    match : Match
        Its scale and shift against the exposure, after the images were laid upon each other.
    noise_correlation : float
        Of this resampling.
    reference_correlation : float
        That of the reference before it.
    overlap : float
        Part of the exposure that it covers.
    moved : tuple of float
        Shift (x, y) between the positions of the two headers that was taken out, pixels; the rest: `match`.
    """

    planes: Planes
    measured: Measured
    match: Match
    noise_correlation: float
    reference_correlation: float
    overlap: float
    moved: tuple[float, float]


def align(science: Exposure, reference: Exposure, *, radius: float = 3.0) -> Aligned:
    """Resample a reference onto an exposure; the shift that its stars show against the WCS is taken out.

    Parameters
    ----------
    science, reference : Exposure
    radius : float, pixels
        Stars are the same if they lie so near.

    Raises
    ------
    ImageError
        If they do not overlap, or too few stars are in both to tell scale and shift.
    """
    from dataclasses import replace

    from skytrawl.kernels.measure import match, measure

    shape = science.planes.image.shape
    grid = coordinate_grid(science.wcs, reference.wcs, shape, shape_in=reference.planes.image.shape)
    _require_overlap(science, reference, _share(grid, reference.planes.image.shape))
    before = float(reference.row.get("noise_correlation") or 1.0)
    first = shared(reference, science, radius=radius)
    dx, dy = -first.dx, -first.dy
    moved = (0.0, 0.0)
    for turn in range(2):
        # Reference minus science: a pixel (x, y) of the exposure shows what the reference has at + (dx, dy).
        grid = replace(grid, origin=(grid.origin[0] - dy, grid.origin[1] - dx))
        moved = (moved[0] + dx, moved[1] + dy)
        planes, coverage, correlation = _onto(reference, grid, shape)
        overlap = float(coverage.mean())
        _require_overlap(science, reference, overlap)
        bad = (planes.mask & flags.UNUSABLE) != 0
        found = measure(planes.image, bad, variance=planes.variance)
        both = match(science.stars, found.stars, radius=radius)
        dx, dy = both.dx, both.dy
        # Below a fiftieth of a pixel the noise term takes the shift; above it is worth a second round.
        if turn or np.hypot(dx, dy) < 0.02:
            break
    return Aligned(planes, found, both, correlation, before, overlap, moved)


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
    return match(replace(base.stars, x=x, y=y), other.stars, radius=radius)


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
