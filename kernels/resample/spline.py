"""Positions between the nodes of a coordinate grid: cubics through the four nearest nodes.

Local cubics rather than one spline through all nodes: a node without a position spoils the cells beside it
only, and a kink of a distortion table does not ring.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.resample.types import CoordinateGrid


def cubic_weights(
    pixels: NDArray[Any], n_nodes: int, origin: float, step: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """First node and Lagrange weights of the cubics at output pixels along an axis.

    Parameters
    ----------
    pixels : float64[n]

    Returns
    -------
    first : int64[n]
    weights : float64[n, 4]
    """
    place = (pixels - origin) / step
    first = np.clip(np.floor(place).astype(np.int64) - 1, 0, n_nodes - 4)
    t = place - first
    a, b, c, d = t, t - 1, t - 2, t - 3
    weights = np.stack([-b * c * d / 6, a * c * d / 2, -a * b * d / 2, a * b * c / 6], axis=-1)
    return first, weights


def axis_weights(
    grid: CoordinateGrid, axis: int, pixels: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """`cubic_weights` of a grid along axis 0 (y) or 1 (x)."""
    return cubic_weights(pixels, grid.x.shape[axis], grid.origin[axis], grid.step[axis])


def positions(
    grid: CoordinateGrid, rows: NDArray[Any], columns: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Input positions at output rows and columns, which need not be whole.

    Parameters
    ----------
    grid : CoordinateGrid
    rows, columns : float64[ny], float64[nx], output pixels

    Returns
    -------
    x, y : float64[ny, nx], input pixels; NaN where there is none
    """
    down, along = dense_weights(grid, 0, rows), dense_weights(grid, 1, columns)
    lost = missing(grid)
    gone = (down != 0).astype(float) @ lost @ (along != 0).T.astype(float) > 0
    x, y = (down @ np.where(lost, 0.0, nodes) @ along.T for nodes in (grid.x, grid.y))
    x[gone] = y[gone] = np.nan
    return x, y


def dense_weights(grid: CoordinateGrid, axis: int, pixels: NDArray[Any]) -> NDArray[np.float64]:
    """The weights of `axis_weights` as a matrix [n, n_nodes]; those of nodes in use are not zero."""
    first, weights = axis_weights(grid, axis, pixels)
    dense = np.zeros((len(pixels), grid.x.shape[axis]))
    # A weight that is 0 on a node must still tell that the node is in use.
    weights = np.where(weights == 0, 1e-300, weights)
    np.put_along_axis(dense, first[:, None] + np.arange(4), weights, axis=1)
    return dense


def missing(grid: CoordinateGrid) -> NDArray[np.bool_]:
    """Nodes without a position or without an area, bool[my, mx]."""
    return ~(np.isfinite(grid.x) & np.isfinite(grid.y) & np.isfinite(node_area(grid)))


def _slopes(grid: CoordinateGrid) -> tuple[Any, Any, Any, Any]:
    """Derivatives at the nodes: dx/dX, dx/dY, dy/dX, dy/dY with (X, Y) the output pixels."""
    found = []
    for nodes in (grid.x, grid.y):
        found.append(_slope(nodes.T, grid.step[1]).T)
        found.append(_slope(nodes, grid.step[0]))
    return found[0], found[1], found[2], found[3]


@lru_cache(maxsize=64)
def _slope_weights(n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """First node int64[n] and weights float64[n, 5] of the derivative at each of n nodes."""
    order = min(n, 5)
    first = np.clip(np.arange(n) - order // 2, 0, n - order)
    columns = []
    for k in range(order):
        # The Lagrange polynomial of node k: 1 there, 0 on the others.
        others = np.poly([m for m in range(order) if m != k])
        columns.append(np.polyval(np.polyder(others), np.arange(n) - first) / np.polyval(others, k))
    return first, np.stack(columns, axis=-1)


def _slope(nodes: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Derivatives along the first axis of the polynomials through the nearest five nodes (or all four)."""
    first, weights = _slope_weights(len(nodes))
    with np.errstate(invalid="ignore"):
        terms = [weights[:, k, None] * nodes[first + k] for k in range(weights.shape[1])]
        return np.asarray(sum(terms) / step, np.float64)


def node_area(grid: CoordinateGrid) -> NDArray[np.float64]:
    """Area of an output pixel in input pixels at the nodes, float64[my, mx]."""
    x_along, x_down, y_along, y_down = _slopes(grid)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(x_along * y_down - x_down * y_along), np.float64)


def stretch(grid: CoordinateGrid, shape_in: tuple[int, int]) -> float:
    """Largest number of input pixels that one step of an output pixel passes, over the input image.

    The larger singular value of the Jacobian at the nodes that lie on the input image (or within a step of
    it); NaN if none does.
    """
    a, b, c, d = _slopes(grid)
    with np.errstate(invalid="ignore"):
        half = (a * a + b * b + c * c + d * d) / 2
        size = np.sqrt(half + np.sqrt(np.maximum(half * half - (a * d - b * c) ** 2, 0.0)))
        reach = size * max(grid.step)
        near = (grid.x > -reach) & (grid.x < shape_in[1] + reach)
        near &= (grid.y > -reach) & (grid.y < shape_in[0] + reach)
    found = size[near & np.isfinite(size)]
    return float(found.max()) if len(found) else float("nan")


def input_rows(grid: CoordinateGrid, shape: tuple[int, int], shape_in: tuple[int, int]) -> tuple[int, int]:
    """Rows of the input image that an output image of this shape may need: first, and one past the last.

    The positions at all output pixels of the grid's rows are bounded by their nodes with a margin for the
    kernel and the curvature of the cubics; (0, 0) if there are none.
    """
    ends = [axis_weights(grid, axis, np.array([0, shape[axis] - 1]))[0] for axis in (0, 1)]
    rows, columns = (slice(int(first[0]), int(first[1]) + 4) for first in ends)
    nodes = grid.y[rows, columns]
    nodes = nodes[np.isfinite(nodes)]
    if not len(nodes):
        return 0, 0
    widest = stretch(grid, shape_in)
    margin = 4.0 + 4.0 * (widest if np.isfinite(widest) else 1.0)
    begin = int(np.clip(np.floor(nodes.min() - margin), 0, shape_in[0]))
    end = int(np.clip(np.ceil(nodes.max() + margin) + 1, 0, shape_in[0]))
    return (begin, end) if end > begin else (0, 0)
