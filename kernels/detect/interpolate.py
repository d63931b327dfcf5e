"""Values of smooth maps between the pixels.

A map of matched-filter fluxes is band-limited by the filter, so that its value at a sub-pixel position is the
PSF flux there: the response of the filter to a source off the centre of a pixel. The value of the nearest
pixel is too low instead, by 7 % for a source on the corner of a pixel and a PSF of 3 px FWHM. Lagrange's
polynomial through six pixels an axis is exact to the fifth order.
"""

from typing import Any

import numpy as np

from skytrawl.kernels.jit import njit

ORDERS = (6, 4, 2)


@njit()
def weights(offset, order, out):  # type: ignore[no-untyped-def]
    """Fill ``out[:order]`` with Lagrange's weights of pixels 1 - order/2 ... order/2 at an offset."""
    first = 1 - order // 2
    for j in range(order):
        product = 1.0
        for i in range(order):
            if i != j:
                product *= (offset - (first + i)) / (j - i)
        out[j] = product


@njit()
def sample(plane, squared, x, y, wx, wy):  # type: ignore[no-untyped-def]
    """Value at (x, y) and the number of pixels a side that it came from, 0 and NaN where none are.

    The largest stencil of 6, 4 or 2 pixels a side counts whose pixels with weight are finite and inside. With
    `squared` the squares are interpolated, never below those of the four nearest, and the root is returned.
    """
    rows, columns = plane.shape
    if not (-0.5 <= x <= columns - 0.5 and -0.5 <= y <= rows - 0.5):
        return np.nan, 0
    left, low = int(np.floor(x)), int(np.floor(y))
    for order in ORDERS:
        weights(x - left, order, wx)
        weights(y - low, order, wy)
        begin = 1 - order // 2
        total, least = 0.0, np.inf
        whole = True
        for j in range(order):
            if wy[j] == 0.0:
                continue
            v = low + begin + j
            if v < 0 or v >= rows:
                whole = False
                break
            line = 0.0
            for i in range(order):
                if wx[i] == 0.0:
                    continue
                u = left + begin + i
                if u < 0 or u >= columns or not np.isfinite(plane[v, u]):
                    whole = False
                    break
                value = np.float64(plane[v, u])
                if squared:
                    value *= value
                    if 0 <= begin + i <= 1 and 0 <= begin + j <= 1:
                        least = min(least, value)
                line += wx[i] * value
            if not whole:
                break
            total += wy[j] * line
        if whole:
            return (np.sqrt(max(total, least)) if squared else total), order
    return np.nan, 0


def weights_array(offset: Any, order: int, xp: Any) -> list[Any]:
    """As `weights`, for an array of offsets: one array a pixel."""
    first = 1 - order // 2
    result = []
    for j in range(order):
        product = xp.ones_like(offset)
        for i in range(order):
            if i != j:
                product = product * ((offset - (first + i)) / (j - i))
        result.append(product)
    return result


def sample_array(plane: Any, x: Any, y: Any, xp: Any, *, squared: bool = False) -> tuple[Any, Any]:
    """As `sample`, for arrays of positions of any namespace of the array API.

    Parameters
    ----------
    plane : float32[ny, nx]
    x, y : float64[n]
    xp : namespace
    squared : bool

    Returns
    -------
    float64[n], int8[n]
    """
    rows, columns = plane.shape
    flat = xp.reshape(plane, (-1,))
    inside = (x >= -0.5) & (x <= columns - 0.5) & (y >= -0.5) & (y <= rows - 0.5)
    left = xp.astype(xp.floor(xp.where(inside, x, xp.zeros_like(x))), xp.int64)
    low = xp.astype(xp.floor(xp.where(inside, y, xp.zeros_like(y))), xp.int64)
    dx = xp.where(inside, x - xp.astype(left, xp.float64), xp.zeros_like(x))
    dy = xp.where(inside, y - xp.astype(low, xp.float64), xp.zeros_like(y))
    result = xp.full_like(x, xp.nan)
    orders = xp.zeros_like(left, dtype=xp.int8)
    for order in ORDERS:
        wx, wy = weights_array(dx, order, xp), weights_array(dy, order, xp)
        begin = 1 - order // 2
        whole = xp.ones_like(inside)
        total = xp.zeros_like(x)
        least = xp.full_like(x, xp.inf)
        for j in range(order):
            v = low + (begin + j)
            line = xp.zeros_like(x)
            for i in range(order):
                u = left + (begin + i)
                valid = (v >= 0) & (v < rows) & (u >= 0) & (u < columns)
                place = xp.where(valid, v * columns + u, xp.zeros_like(v))
                value = xp.astype(xp.take(flat, place), xp.float64)
                valid = valid & xp.isfinite(value)
                used = (wx[i] != 0.0) & (wy[j] != 0.0)
                whole = whole & (valid | ~used)
                value = xp.where(valid & used, value, xp.zeros_like(value))
                if squared:
                    value = value * value
                    if 0 <= begin + i <= 1 and 0 <= begin + j <= 1:
                        least = xp.where(used, xp.minimum(least, value), least)
                line = line + wx[i] * value
            total = total + wy[j] * line
        if squared:
            total = xp.sqrt(xp.maximum(total, least))
        take = inside & whole & (orders == 0)
        result = xp.where(take, total, result)
        orders = xp.where(take, xp.full_like(orders, order), orders)
    return result, orders
