"""Where the pixels of one image lie on another, by a grid of nodes that is refined until it is right."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytrawl.catalogs.images.wcs_sky import Pair, forward, inverse, require_sky, rotate, scale_of, vectors
from skytrawl.kernels.resample.spline import positions
from skytrawl.kernels.resample.types import CoordinateGrid

# Positions this many input pixels off the image still matter to the kernel.
_REACH = 4.0


def coordinate_grid(
    out: Any,
    in_: Any,
    shape_out: tuple[int, int],
    tolerance: float = 1e-3,
    *,
    shape_in: tuple[int, int] | None = None,
    step: float = 64.0,
) -> CoordinateGrid:
    """Positions of the pixels of an output image on an input image.

    The WCS are followed exactly at the nodes of a grid; cubics between the nodes are compared with the exact
    positions half-way, and the step is halved until they agree on the input image. At a step of one pixel
    nothing is interpolated.

    Parameters
    ----------
    out, in_ : astropy.wcs.WCS
        With any distortion; frames of the sky may differ.
    shape_out : (ny, nx)
    tolerance : float, input pixels
    shape_in : (ny, nx), optional
        Default: the size that the header of `in_` states. Where an image of that size cannot lie there are no
        positions: far from it, the polynomials of a distortion mean nothing.
    step : float, output pixels
        Where to begin; the result is finer by two at least.

    Returns
    -------
    CoordinateGrid
        With no position at all if the images do not overlap.

    Raises
    ------
    ImageError
        If a WCS is none of the sky, or cannot be used.
    """
    if shape_in is None and in_.pixel_shape is not None:
        shape_in = (int(in_.pixel_shape[1]), int(in_.pixel_shape[0]))
    ratio = scale_of(out) / scale_of(in_)
    step = min(step, 2 * _table_pitch(out), 2 * _table_pitch(in_) / ratio)
    path = _Path(out, in_, shape_in, 4 * step * scale_of(out))
    axes = [_axis(side, step) for side in shape_out]
    nodes, error = path(*axes), float("inf")
    while error >= tolerance:
        grid = _grid(nodes, axes, error)
        if grid.step == (1.0, 1.0):
            return _grid(nodes, axes, 0.0)
        axes = [_halved(axis, side) for axis, side in zip(axes, shape_out, strict=True)]
        nodes = path(*axes)
        # An image may lie between the nodes: those around it are compared as well.
        reach = max(_REACH, max(grid.step) * ratio)
        error = _worst(positions(grid, axes[0], axes[1]), nodes, shape_in, reach)
    return _grid(nodes, axes, error)


def _grid(nodes: Pair, axes: list[NDArray[np.float64]], error: float) -> CoordinateGrid:
    rows, columns = axes
    origin = float(rows[0]), float(columns[0])
    return CoordinateGrid(*nodes, origin, (float(rows[1] - rows[0]), float(columns[1] - columns[0])), error)


def _axis(side: int, step: float) -> NDArray[np.float64]:
    """Nodes from the first pixel of an axis to its last, four at least."""
    n = max(int(np.ceil((side - 1) / max(step, 1.0))) + 1, 4)
    if side <= n:
        return np.arange(max(side, 4), dtype=np.float64)
    return np.linspace(0, side - 1, n)


def _halved(axis: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Nodes twice as dense, or all pixels."""
    return _axis(side, 1.0) if axis[1] - axis[0] <= 2 else np.linspace(axis[0], axis[-1], 2 * len(axis) - 1)


def _worst(found: Pair, exact: Pair, shape_in: tuple[int, int] | None, reach: float) -> float:
    """Largest distance over the input image; infinite if a position is missing, NaN if none is there."""
    x, y = exact
    near = np.isfinite(x) & np.isfinite(y)
    if shape_in is not None:
        with np.errstate(invalid="ignore"):
            near &= (x > -reach) & (x < shape_in[1] + reach) & (y > -reach) & (y < shape_in[0] + reach)
    if not near.any():
        return float("nan")
    away = np.hypot(found[0][near] - x[near], found[1][near] - y[near])
    return float(np.where(np.isnan(away), np.inf, away).max())


def _table_pitch(wcs: Any) -> float:
    """Smallest pitch of the distortion tables, pixels; infinite without any."""
    tables = (wcs.cpdis1, wcs.cpdis2, wcs.det2im1, wcs.det2im2)
    return min((float(min(np.abs(t.cdelt))) for t in tables if t is not None), default=float("inf"))


class _Path:
    """From output pixels over the sky to input pixels."""

    def __init__(self, out: Any, in_: Any, shape_in: tuple[int, int] | None, margin: float) -> None:
        self.out, self.in_ = out, in_
        self.frames = require_sky(out), require_sky(in_)
        self.centre: NDArray[np.float64] | None = None
        if shape_in is not None:
            right, top = shape_in[1] - 0.5, shape_in[0] - 0.5
            x = np.array([(right - 0.5) / 2, -0.5, right, right, -0.5])
            y = np.array([(top - 0.5) / 2, -0.5, -0.5, top, top])
            points = vectors(*forward(in_, x, y))
            if np.isfinite(points).all():
                self.centre = points[0]
                # Chords: of the farthest corner, with room for a bent outline and for the nodes around it.
                radius = np.linalg.norm(points[1:] - points[0], axis=1).max()
                self.reach = 1.5 * float(radius) + margin

    def __call__(self, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Pair:
        """Input x and y, float64[len(rows), len(columns)]; NaN where there is none."""
        y, x = np.meshgrid(rows, columns, indexing="ij")
        lon, lat = rotate(*forward(self.out, x, y), *self.frames)
        if self.centre is not None:
            far = np.linalg.norm(vectors(lon, lat) - self.centre, axis=-1) > self.reach
            lon = np.where(far, np.nan, lon)
        return inverse(self.in_, lon, lat)
