"""Resampling in terms of the Python array API: the reference of the Numba kernel, and the GPU path."""

from typing import Any

import numpy as np

from skytrawl.kernels import flags
from skytrawl.kernels.resample.lanczos import EDGE, ENOUGH, NEGLIGIBLE, RADIUS
from skytrawl.kernels.resample.spline import dense_weights, missing, node_area
from skytrawl.kernels.resample.types import CoordinateGrid, HasPlanes, Sums


def put(xp: Any, array: Any, like: Any) -> Any:
    """Copy a host array to the device of `like`."""
    try:
        return xp.asarray(array, device=like.device)
    except TypeError:  # pragma: no cover - namespaces whose asarray knows the current device only
        return xp.asarray(array)


def _positions(grid: CoordinateGrid, shape: tuple[int, int], like: Any, xp: Any) -> tuple[Any, Any, Any, Any]:
    """x, y, area (input pixels) and whether there is a position, of all output pixels."""
    down, along = (dense_weights(grid, axis, np.arange(shape[axis])) for axis in (0, 1))
    lost = missing(grid)
    left, right = put(xp, down, like), put(xp, np.ascontiguousarray(along.T), like)
    planes = [
        left @ put(xp, np.where(lost, 0.0, nodes), like) @ right
        for nodes in (grid.x, grid.y, node_area(grid))
    ]
    used_left = put(xp, (down != 0).astype(np.float64), like)
    used_right = put(xp, np.ascontiguousarray((along != 0).T).astype(np.float64), like)
    gone = used_left @ put(xp, lost.astype(np.float64), like) @ used_right
    return planes[0], planes[1], planes[2], gone == 0.0


def _kernel(distance: Any, xp: Any) -> Any:
    """Lanczos-3 at distances in units of the stretched pixel, before it is divided by its sum."""
    size = xp.abs(distance)
    a = xp.where(size < 1e-9, xp.ones_like(size), size * np.pi)
    value = RADIUS * xp.sin(a) * xp.sin(a / RADIUS) / (a * a)
    value = xp.where(size < 1e-9, xp.ones_like(size), value)
    return xp.where(size < RADIUS, value, xp.zeros_like(size))


def _axis(place: Any, widen: float, xp: Any) -> tuple[Any, list[Any]]:
    """First tap (int64) and the weights of the taps along one axis."""
    first = xp.floor(place - RADIUS * widen) + 1.0
    n = int(np.ceil(2 * RADIUS * widen))
    weights = [_kernel((first + k - place) / widen, xp) for k in range(n)]
    total = weights[0]
    for w in weights[1:]:
        total = total + w
    return xp.astype(first, xp.int64), [w / total for w in weights]


def resample(
    planes: HasPlanes,
    grid: CoordinateGrid,
    shape: tuple[int, int],
    flux: bool,
    widen: float,
    tolerance: float,
    xp: Any,
) -> Sums:
    """Image, variance, mask, coverage and the two sums of the noise; see `resample`.

    Sums run in float64. Memory is some twenty output planes of float64.
    """
    image, variance, mask = planes.image, planes.variance, planes.mask
    ny, nx = image.shape
    x, y, area, known = _positions(grid, shape, image, xp)
    inside = known & (x >= -0.5 - EDGE) & (x <= nx - 0.5 + EDGE) & (y >= -0.5 - EDGE) & (y <= ny - 0.5 + EDGE)
    x, y = xp.where(inside, x, xp.zeros_like(x)), xp.where(inside, y, xp.zeros_like(y))

    zero16 = xp.zeros_like(mask)
    no_data = zero16 + flags.NO_DATA
    broken = ~(xp.isfinite(image) & xp.isfinite(variance) & (variance >= 0))
    bits = xp.reshape(mask | xp.where(broken, no_data, zero16), (-1,))
    # Pixels that cannot be used are 0, so that a weight of 0 on them is 0.
    bad = (bits & flags.UNUSABLE) != 0
    values = xp.reshape(xp.astype(image, xp.float64), (-1,))
    spreads = xp.reshape(xp.astype(variance, xp.float64), (-1,))
    values = xp.where(bad, xp.zeros_like(values), values)
    spreads = xp.where(bad, xp.zeros_like(spreads), spreads)

    left, along = _axis(x, widen, xp)
    top, down = _axis(y, widen, xp)
    value, spread, squares, kept, lost, outside = (xp.zeros_like(x) for _ in range(6))
    bad_bits = xp.zeros_like(x, dtype=mask.dtype)
    good_bits, nothing = xp.zeros_like(bad_bits), xp.zeros_like(bad_bits)
    zero = xp.zeros_like(x)
    for k, wy in enumerate(down):
        row = top + k
        row_in = (row >= 0) & (row < ny)
        row = xp.clip(row, 0, ny - 1) * nx
        for m, wx in enumerate(along):
            column = left + m
            on = row_in & (column >= 0) & (column < nx)
            index = xp.reshape(row + xp.clip(column, 0, nx - 1), (-1,))
            w = wy * wx
            size = xp.abs(w)
            bit = xp.reshape(xp.take(bits, index), shape)
            unusable = on & ((bit & flags.UNUSABLE) != 0)
            use = on & ~unusable
            outside = outside + xp.where(on, zero, size)
            lost = lost + xp.where(unusable, size, zero)
            bad_bits = bad_bits | xp.where(unusable & (size > NEGLIGIBLE), bit, nothing)
            good_bits = good_bits | xp.where(use & (size > tolerance), bit, nothing)
            w = xp.where(use, w, zero)
            kept = kept + w
            value = value + w * xp.reshape(xp.take(values, index), shape)
            spread = spread + w * w * xp.reshape(xp.take(spreads, index), shape)
            squares = squares + w * w
    return _finish(
        (value, spread, squares, kept, lost, outside),
        (bad_bits, good_bits),
        area,
        inside,
        flux,
        tolerance,
        xp,
    )


def _finish(
    sums: tuple[Any, ...],
    bits: tuple[Any, Any],
    area: Any,
    inside: Any,
    flux: bool,
    tolerance: float,
    xp: Any,
) -> Sums:
    """Scale up what lost weight, and say so in the mask."""
    value, spread, squares, kept, lost, outside = sums
    bad_bits, good_bits = bits
    nothing = xp.zeros_like(bad_bits)

    def where(condition: Any, bit: int) -> Any:
        return xp.where(condition, nothing + bit, nothing)

    covered = inside & (kept >= ENOUGH)
    kept = xp.where(covered, kept, xp.ones_like(kept))
    missing_weight = lost + outside
    mask = good_bits | where(outside > tolerance, flags.EDGE)
    mask = mask | xp.where(missing_weight > tolerance, bad_bits, nothing)
    mask = mask | where(missing_weight > NEGLIGIBLE, flags.INTERPOLATED)
    blank = where(~covered, flags.NO_DATA) | xp.where(inside, bad_bits, nothing)
    mask = xp.where(covered, mask, blank)
    nan, zero = xp.zeros_like(value) + float("nan"), xp.zeros_like(value)
    gain = area if flux else xp.ones_like(area)
    image = xp.where(covered, value / kept * gain, nan)
    variance = xp.where(covered, spread / (kept * kept) * gain * gain, nan)
    areas = xp.sum(xp.where(covered, area, zero))
    noise = xp.sum(xp.where(covered, area * area * squares / (kept * kept), zero))
    planes = xp.astype(image, xp.float32), xp.astype(variance, xp.float32), mask, covered
    return planes, float(areas), float(noise)
