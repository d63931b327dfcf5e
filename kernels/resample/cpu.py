"""Resampling in Numba: one pass over the output, image, variance and mask together."""

import numpy as np

from skytrawl.kernels import flags
from skytrawl.kernels.jit import njit
from skytrawl.kernels.resample.lanczos import EDGE, ENOUGH, NEGLIGIBLE, RADIUS, TABLE, weight_table
from skytrawl.kernels.resample.spline import axis_weights, node_area
from skytrawl.kernels.resample.types import CoordinateGrid, HasPlanes, Sums

UNUSABLE = np.uint16(flags.UNUSABLE)
NO_DATA = np.uint16(flags.NO_DATA)
INTERPOLATED = np.uint16(flags.INTERPOLATED)
EDGE_BIT = np.uint16(flags.EDGE)


@njit()
def _defects(image, variance, mask, bits):  # type: ignore[no-untyped-def]
    """Write the mask with NO_DATA where image or variance is no number; return whether any bit is set."""
    ny, nx = image.shape
    found = np.uint16(0)
    for i in range(ny):
        for j in range(nx):
            value, spread = image[i, j], variance[i, j]
            bit = mask[i, j]
            # False for NaN and infinities
            if not (abs(value) < np.inf and spread >= 0 and spread < np.inf):
                bit |= NO_DATA
            bits[i, j] = bit
            found |= bit
    return found != 0


@njit()
def _windows(bits, along, near):  # type: ignore[no-untyped-def]
    """OR the bits of the window of 6 x 6 pixels that begins at each pixel into `near`."""
    ny, nx = bits.shape
    for i in range(ny):
        for j in range(nx - 5):
            found = bits[i, j] | bits[i, j + 1] | bits[i, j + 2]
            along[i, j] = found | bits[i, j + 3] | bits[i, j + 4] | bits[i, j + 5]
    for i in range(ny - 5):
        for j in range(nx - 5):
            found = along[i, j] | along[i + 1, j] | along[i + 2, j]
            near[i, j] = found | along[i + 3, j] | along[i + 4, j] | along[i + 5, j]


@njit()
def _wide_taps(place, widen, weights):  # type: ignore[no-untyped-def]
    """Fill the weights of one axis for a stretched kernel; return the first tap."""
    first = int(np.floor(place - RADIUS * widen)) + 1
    total = 0.0
    for k in range(len(weights)):
        d = abs(first + k - place) / widen
        w = 0.0
        if d < 1e-9:
            w = 1.0
        elif d < RADIUS:
            a = np.pi * d
            w = RADIUS * np.sin(a) * np.sin(a / RADIUS) / (a * a)
        weights[k] = w
        total += w
    for k in range(len(weights)):
        weights[k] /= total
    return first


@njit()
def _taps(place, table, weights):  # type: ignore[no-untyped-def]
    """Fill the six weights of one axis; return the first tap."""
    whole = np.floor(place)
    u = (place - whole) * TABLE
    c = int(u + 0.5)
    t = np.float32(u - c)
    for k in range(6):
        weights[k] = table[c, 0, k] + t * (table[c, 1, k] + t * table[c, 2, k])
    return int(whole) - 2


@njit()
def _careful(image, variance, bits, left, top, wx, wy, tolerance):  # type: ignore[no-untyped-def]
    """Value, variance, bits and sum of squared weights where some pixels may be missing."""
    ny, nx = image.shape
    value, spread, squares, kept, lost, outside = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    bad, suspect = np.uint16(0), np.uint16(0)
    for k in range(len(wy)):
        i = top + k
        for m in range(len(wx)):
            j = left + m
            w = float(wy[k]) * wx[m]
            size = abs(w)
            if i < 0 or i >= ny or j < 0 or j >= nx:
                outside += size
                continue
            bit = bits[i, j]
            if bit & UNUSABLE:
                lost += size
                if size > NEGLIGIBLE:
                    bad |= bit
                continue
            if size > tolerance:
                suspect |= bit
            kept += w
            value += w * image[i, j]
            spread += w * w * variance[i, j]
            squares += w * w
    if kept < ENOUGH:
        return np.nan, np.nan, NO_DATA | bad, 0.0
    mask = suspect
    if outside > tolerance:
        mask |= EDGE_BIT
    if lost + outside > tolerance:
        mask |= bad
    if lost + outside > NEGLIGIBLE:
        mask |= INTERPOLATED
    return value / kept, spread / (kept * kept), mask, squares / (kept * kept)


@njit()
def _clean(image, variance, left, top, wx, wy):  # type: ignore[no-untyped-def]
    """As `_careful`, where all pixels are good."""
    value, spread, zero = np.float32(0), np.float32(0), np.float32(0)
    square_x, square_y = zero, zero
    for m in range(6):
        column, column_spread = zero, zero
        for k in range(6):
            column += wy[k] * image[top + k, left + m]
            column_spread += wy[k] * wy[k] * variance[top + k, left + m]
        value += wx[m] * column
        spread += wx[m] * wx[m] * column_spread
        square_x += wx[m] * wx[m]
        square_y += wy[m] * wy[m]
    return float(value), float(spread), np.uint16(0), float(square_x * square_y)


@njit()
def _resample(  # type: ignore[no-untyped-def]
    image, variance, bits, near, dirty, node_x, node_y, node_a, first_y, weights_y, first_x, weights_x,
    flux, widen, tolerance, table, out_image, out_variance, out_mask, coverage,
):  # fmt: skip
    """Fill the output; return the sums of the pixel areas and of the variances per input variance."""
    ny, nx = image.shape
    n_nodes = node_x.shape[1]
    row = np.empty((3, n_nodes))
    n_taps = int(np.ceil(2 * RADIUS * widen))
    wide_x, wide_y = np.empty(n_taps), np.empty(n_taps)
    wx, wy = np.empty(6, np.float32), np.empty(6, np.float32)
    areas, noise = 0.0, 0.0
    for i in range(out_image.shape[0]):
        a = first_y[i]
        for k in range(n_nodes):
            sx, sy, sa = 0.0, 0.0, 0.0
            for m in range(4):
                w = weights_y[i, m]
                sx += w * node_x[a + m, k]
                sy += w * node_y[a + m, k]
                sa += w * node_a[a + m, k]
            row[0, k], row[1, k], row[2, k] = sx, sy, sa
        for j in range(out_image.shape[1]):
            b = first_x[j]
            w0, w1, w2, w3 = weights_x[j, 0], weights_x[j, 1], weights_x[j, 2], weights_x[j, 3]
            x = w0 * row[0, b] + w1 * row[0, b + 1] + w2 * row[0, b + 2] + w3 * row[0, b + 3]
            y = w0 * row[1, b] + w1 * row[1, b + 1] + w2 * row[1, b + 2] + w3 * row[1, b + 3]
            area = w0 * row[2, b] + w1 * row[2, b + 1] + w2 * row[2, b + 2] + w3 * row[2, b + 3]
            # False for NaN
            along = x >= -0.5 - EDGE and x <= nx - 0.5 + EDGE
            if not (along and y >= -0.5 - EDGE and y <= ny - 0.5 + EDGE and area >= 0):
                out_image[i, j], out_variance[i, j], out_mask[i, j] = np.nan, np.nan, NO_DATA
                continue
            gain = area if flux else 1.0
            if widen > 1.0:
                p, q = _wide_taps(x, widen, wide_x), _wide_taps(y, widen, wide_y)
                value, spread, bit, squares = _careful(image, variance, bits, p, q, wide_x, wide_y, tolerance)
            else:
                p, q = _taps(x, table, wx), _taps(y, table, wy)
                inside = p >= 0 and q >= 0 and p + 6 <= nx and q + 6 <= ny
                if inside and not (dirty and near[q, p] != 0):
                    value, spread, bit, squares = _clean(image, variance, p, q, wx, wy)
                else:
                    value, spread, bit, squares = _careful(image, variance, bits, p, q, wx, wy, tolerance)
            out_image[i, j] = value * gain
            out_variance[i, j] = spread * gain * gain
            out_mask[i, j] = bit
            if squares > 0:
                coverage[i, j] = True
                areas += area
                noise += area * area * squares
    return areas, noise


def resample(
    planes: HasPlanes,
    grid: CoordinateGrid,
    shape: tuple[int, int],
    flux: bool,
    widen: float,
    tolerance: float,
) -> Sums:
    """Planes and the two sums of the noise; see `skytrawl.kernels.resample.resample`."""
    image = np.ascontiguousarray(planes.image, np.float32)
    variance = np.ascontiguousarray(planes.variance, np.float32)
    mask = np.ascontiguousarray(planes.mask, np.uint16)
    bits = np.empty(mask.shape, np.uint16)
    dirty = _defects(image, variance, mask, bits)
    near = np.zeros(mask.shape if dirty else (1, 1), np.uint16)
    if dirty:
        _windows(bits, np.zeros_like(bits), near)
    first_y, weights_y = axis_weights(grid, 0, np.arange(shape[0]))
    first_x, weights_x = axis_weights(grid, 1, np.arange(shape[1]))
    out = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint16)
    coverage = np.zeros(shape, np.bool_)
    areas, noise = _resample(
        image, variance, bits, near, dirty, grid.x, grid.y, node_area(grid), first_y, weights_y, first_x,
        weights_x, flux, widen, tolerance, weight_table(), *out, coverage,
    )  # fmt: skip
    return (*out, coverage), float(areas), float(noise)
