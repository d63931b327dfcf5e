"""PSF of a coadd: the weighted mean of those of its exposures, on the coadd's pixels."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ImageError
from skytrawl.kernels.psf import PsfModel, n_terms, polynomial_terms
from skytrawl.kernels.resample import resample
from skytrawl.kernels.resample.spline import positions
from skytrawl.kernels.resample.types import CoordinateGrid, Planes

# Stars stand anywhere on a pixel; the resampling is averaged over these places, pixels.
_PHASES = (-0.25, 0.25)
_PAD = 4  # of zeros around a stamp, so that the kernel does not end on its edge


class Part(NamedTuple):
    """What an exposure gives to the PSF of a coadd: its own, its place, its share, and where it counts."""

    psf: PsfModel
    grid: CoordinateGrid
    weight: float
    window: tuple[int, int, int, int]


def coadd_psf(parts: Sequence[Part], *, degree: int | None = None) -> PsfModel:
    """PSF of a weighted mean of exposures.

    At a raster of places, as far as any exposure reaches, the PSFs of those that reach there are resampled as
    their images were and averaged; a polynomial of the position goes through the means.

    Parameters
    ----------
    parts : sequence of Part
    degree : int, optional
        Of the polynomial; less if few places are covered. Default: the highest of the exposures.

    Returns
    -------
    PsfModel
        With one sample per pixel of the coadd.
    """
    half, windows = max(_half(part) for part in parts), zip(*(part.window for part in parts), strict=True)
    degree = max(part.psf.degree for part in parts) if degree is None else degree
    top, bottom, left, right = (f(ends) for f, ends in zip((min, max, min, max), windows, strict=True))
    sides = np.array([right - left, bottom - top])
    centre = np.array([left, top]) + sides / 2 - 0.5
    places = (np.arange(2 * degree + 3) + 0.5) / (2 * degree + 3) - 0.5
    xs, ys = centre[:, None] + sides[:, None] * places
    found, where = [], []
    for y in ys:
        for x in xs:
            here = [part for part in parts if _reaches(part, x, y)]
            stamps = [(part.weight, _on_coadd(part, x, y, half)) for part in here]
            kept = [(weight, stamp) for weight, stamp in stamps if stamp is not None]
            if kept:
                total = sum(weight for weight, _ in kept)
                found.append(sum(weight * stamp for weight, stamp in kept) / total)
                where.append((x, y))
    if not found:
        # Exposures that are small or strips of the field may lie between the places of the raster.
        for part in parts:
            x, y = _middle(part.window)
            stamp = _on_coadd(part, x, y, half)
            if stamp is not None:
                found.append(stamp)
                where.append((x, y))
    if not found:
        raise ImageError("the PSF of the coadd is not known at any place: the exposures do not reach there")
    means, place = np.array(found), np.array(where)
    spread = sides / 2
    while n_terms(degree) > len(means) // 2 and degree > 0:
        degree -= 1
    u, v = ((place - centre) / spread).T
    basis = np.tensordot(np.linalg.pinv(polynomial_terms(u, v, degree)), means, 1)
    return PsfModel(basis.astype(np.float32), degree, *centre.tolist(), *spread.tolist())


def _reaches(part: Part, x: float, y: float) -> bool:
    """Whether a place counts: the corners of the window of a turned exposure lie beside it."""
    top, bottom, left, right = part.window
    inside = top <= y < bottom and left <= x < right
    return bool(inside) and part.psf.reaches(*jacobian(part.grid, x, y)[1:])


def _middle(window: tuple[int, int, int, int]) -> tuple[float, float]:
    top, bottom, left, right = window
    return (left + right - 1) / 2, (top + bottom - 1) / 2


def jacobian(grid: CoordinateGrid, x: float, y: float) -> tuple[NDArray[np.float64], float, float]:
    """Matrix from output to input offsets at an output position, and the input position."""
    xs, ys = positions(grid, np.array([y - 0.5, y, y + 0.5]), np.array([x - 0.5, x, x + 0.5]))
    matrix = np.array(
        [[xs[1, 2] - xs[1, 0], xs[2, 1] - xs[0, 1]], [ys[1, 2] - ys[1, 0], ys[2, 1] - ys[0, 1]]]
    )
    return matrix, float(xs[1, 1]), float(ys[1, 1])


def _half(part: Part) -> int:
    """Half side of the stamp on the coadd that holds that of the exposure."""
    matrix, _, _ = jacobian(part.grid, *_middle(part.window))
    return math.ceil(max(part.psf.shape) // 2 / math.sqrt(abs(np.linalg.det(matrix))) - 1e-3)


def _on_coadd(part: Part, x: float, y: float, half: int) -> NDArray[np.float64] | None:
    """Stamp of an exposure's PSF on the pixels of the coadd, sum 1; None where it has no position."""
    matrix, px, py = jacobian(part.grid, x, y)
    if not np.isfinite(matrix).all():
        return None
    size = max(part.psf.shape) + 2 * _PAD
    side = 2 * half + 1
    stamp = np.zeros((side, side))
    zeros, mask = np.zeros((size, size), np.float32), np.zeros((size, size), np.uint16)
    for dy in _PHASES:
        for dx in _PHASES:
            image = part.psf.at(px, py, dx=dx, dy=dy, size=size)
            shift = size // 2 + np.array([dx, dy]) - matrix @ np.array([half, half])
            grid = CoordinateGrid.affine((side, side), matrix, (float(shift[0]), float(shift[1])))
            out = resample(Planes(image, zeros, mask), grid, (side, side))
            stamp += np.where(out.coverage, out.image, 0.0)
    total = stamp.sum()
    return stamp / total if total > 0 else None
