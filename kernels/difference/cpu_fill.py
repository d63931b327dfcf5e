"""Bad pixels filled from their neighbours, on the CPU: work in proportion to the number of bad pixels."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.difference.constants import (
    DOUBT_MOST,
    FILL_BOX,
    FILL_ERROR,
    FILL_LEAST,
    FILL_MISSING,
    FILL_REACH,
    FILL_SIGMAS,
    FILL_STEPS,
    MOST_LOST,
)
from skytrawl.kernels.difference.types import Side
from skytrawl.kernels.jit import njit

_SIDE = 2 * FILL_REACH + 1


@njit(error_model="numpy")
def _unknowns(bad, reach):  # type: ignore[no-untyped-def]
    """Bad pixels with a good one in their box, as rows and columns; the plane is periodic."""
    ny, nx = bad.shape
    near = np.zeros((ny, nx), np.bool_)
    # Along the rows, then along the columns: how far back the last good pixel lies, in both directions.
    for y in range(ny):
        row, here = bad[y], near[y]
        for step in (1, -1):
            since = reach + 1
            for x in range(nx - reach, nx) if step > 0 else range(reach - 1, -1, -1):
                since = since + 1 if row[x] else 0
            for x in range(nx) if step > 0 else range(nx - 1, -1, -1):
                since = since + 1 if row[x] else 0
                here[x] |= since <= reach
    both = np.zeros((ny, nx), np.bool_)
    for step in (1, -1):
        ago = np.full(nx, reach + 1)
        for y in range(ny - reach, ny) if step > 0 else range(reach - 1, -1, -1):
            for x in range(nx):
                ago[x] = 0 if near[y, x] else ago[x] + 1
        for y in range(ny) if step > 0 else range(ny - 1, -1, -1):
            for x in range(nx):
                ago[x] = 0 if near[y, x] else ago[x] + 1
                both[y, x] |= ago[x] <= reach
    ys, xs = np.empty(bad.size, np.int32), np.empty(bad.size, np.int32)
    count = 0
    for y in range(ny):
        for x in range(nx):
            if bad[y, x] and both[y, x]:
                ys[count], xs[count] = y, x
                count += 1
    return ys[:count].copy(), xs[:count].copy()


@njit(fastmath=True, error_model="numpy")
def _apply(plane, ys, xs, kernel, out):  # type: ignore[no-untyped-def]
    """Convolve a plane with the (symmetric) kernel at some pixels."""
    ny, nx = plane.shape
    for k in range(len(ys)):
        y, x = ys[k] - FILL_REACH, xs[k] - FILL_REACH
        total = np.float32(0.0)
        if y >= 0 and x >= 0 and y + _SIDE <= ny and x + _SIDE <= nx:
            for i in range(_SIDE):
                row, weight = plane[y + i, x : x + _SIDE], kernel[i]
                for j in range(_SIDE):
                    total += weight[j] * row[j]
        else:
            for i in range(_SIDE):
                for j in range(_SIDE):
                    total += kernel[i, j] * plane[(y + i) % ny, (x + j) % nx]
        out[k] = total


@njit(fastmath=True, error_model="numpy")
def _solve(plane, ys, xs, kernel, steps):  # type: ignore[no-untyped-def]
    """Conjugate gradients for the unknown pixels of a plane that is 0 there; they are filled in place."""
    n = len(ys)
    x, turned = np.zeros(n, np.float32), np.empty(n, np.float32)
    _apply(plane, ys, xs, kernel, turned)
    residual = -turned
    direction = residual.copy()
    scratch = np.zeros(plane.shape, plane.dtype)
    size = np.sum(residual * residual)
    for _ in range(steps):
        if not size > 0.0:
            break
        for k in range(n):
            scratch[ys[k], xs[k]] = direction[k]
        _apply(scratch, ys, xs, kernel, turned)
        curvature = np.sum(direction * turned)
        if not curvature > 0.0:
            break
        step = np.float32(size / curvature)
        x += step * direction
        residual -= step * turned
        fresh = np.sum(residual * residual)
        direction = residual + np.float32(fresh / size) * direction
        size = fresh
    for k in range(n):
        plane[ys[k], xs[k]] = x[k]


@njit(fastmath=True, error_model="numpy")
def spread(ys, xs, values, weight, out):  # type: ignore[no-untyped-def]
    """Add a stamp about each of some pixels, times the value of the pixel."""
    ny, nx = out.shape
    side = weight.shape[0]
    for k in range(len(ys)):
        y, x = ys[k] - side // 2, xs[k] - side // 2
        value = values[k]
        if y >= 0 and x >= 0 and y + side <= ny and x + side <= nx:
            for i in range(side):
                row, stamp = out[y + i, x : x + side], weight[i]
                for j in range(side):
                    row[j] += value * stamp[j]
        else:
            for i in range(side):
                for j in range(side):
                    out[(y + i) % ny, (x + j) % nx] += value * weight[i, j]


def lost(bad: NDArray[np.bool_], weight: NDArray[np.float32]) -> NDArray[np.bool_]:
    """As `fill.lost`, of one tile."""
    # Bad pixels that lie deeper among bad ones reach no good one.
    ys, xs = _unknowns(bad, weight.shape[0] // 2)
    if not len(ys):
        return bad
    share = np.zeros(bad.shape, np.float32)
    spread(ys, xs, np.ones(len(ys), np.float32), np.ascontiguousarray(weight, np.float32), share)
    return bad | (share > np.float32(MOST_LOST))


@njit(fastmath=True, error_model="numpy")
def _fitted(known, good, y, x, profile):  # type: ignore[no-untyped-def]
    """Sums of P I and of P^2 over the good pixels about one; `known` is the image, 0 where bad."""
    ny, nx = known.shape
    py, px = profile.shape
    products, squares = np.float32(0.0), np.float32(0.0)
    if y >= 0 and x >= 0 and y + py <= ny and x + px <= nx:
        for i in range(py):
            p, a, g = profile[i], known[y + i, x : x + px], good[y + i, x : x + px]
            for j in range(px):
                products += p[j] * a[j]
                squares += p[j] * p[j] * g[j]
        return products, squares
    for i in range(py):
        for j in range(px):
            row, column = (y + i) % ny, (x + j) % nx
            products += profile[i, j] * known[row, column]
            squares += profile[i, j] * profile[i, j] * good[row, column]
    return products, squares


@njit(error_model="numpy")
def _doubt(image, known, good, ys, xs, profile, sky2, variance, doubt):  # type: ignore[no-untyped-def]
    """Variance of filled pixels, and what is beyond it, see `fill.doubt`."""
    ny, nx = image.shape
    area = np.float32((2 * FILL_BOX + 1) ** 2)
    peak, least = profile.max(), np.float32(FILL_LEAST) * np.sum(profile * profile)
    for k in range(len(ys)):
        missing = np.float32(0.0)
        for i in range(-FILL_BOX, FILL_BOX + 1):
            for j in range(-FILL_BOX, FILL_BOX + 1):
                missing += np.float32(1.0) - good[(ys[k] + i) % ny, (xs[k] + j) % nx]
        flux = np.float32(0.0)
        if missing > FILL_MISSING * area:
            y, x = ys[k] - profile.shape[0] // 2, xs[k] - profile.shape[1] // 2
            products, squares = _fitted(known, good, y, x, profile)
            if squares > least:
                flux = products / squares - np.float32(FILL_SIGMAS) * np.sqrt(sky2 / squares)
        error = max(np.float32(FILL_ERROR) * abs(image[ys[k], xs[k]]), missing / area * peak * flux)
        beyond = max(error * error - np.float32(DOUBT_MOST) * sky2, np.float32(0.0))
        variance[ys[k], xs[k]] = sky2 + (error * error - beyond)
        doubt[ys[k], xs[k]] = beyond


@njit(error_model="numpy")
def _present(plane):  # type: ignore[no-untyped-def]
    """Where a plane is not 0, as rows and columns, and what it is there."""
    ys, xs = np.empty(plane.size, np.int32), np.empty(plane.size, np.int32)
    values = np.empty(plane.size, plane.dtype)
    count = 0
    for y in range(plane.shape[0]):
        for x in range(plane.shape[1]):
            if plane[y, x] != 0:
                ys[count], xs[count], values[count] = y, x, plane[y, x]
                count += 1
    return ys[:count].copy(), xs[:count].copy(), values[:count].copy()


def add_doubt(doubt: NDArray[np.float32], square: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """As `fill.doubtful_variance`, of one tile and side, added to `out`."""
    ys, xs, values = _present(np.ascontiguousarray(doubt))
    spread(ys, xs, values, np.ascontiguousarray(square, np.float32), out)


def fill(side: Side) -> Side:
    """As `fill.fill`, of float32 NumPy arrays."""
    from skytrawl.kernels.difference.fill import star, stencil

    bad: Any = side.bad
    if not bad.any():
        return side
    lead = np.broadcast_shapes(side.image.shape[:-2], bad.shape[:-2])
    shape = lead + side.image.shape[-2:]
    kernels = stencil(np.asarray(side.psf), xp=np).astype(np.float32)
    kernels = np.broadcast_to(kernels, lead + kernels.shape[-2:])
    profiles = star(np.asarray(side.psf, np.float32))
    profiles = np.broadcast_to(profiles, lead + profiles.shape[-2:])
    bads = np.broadcast_to(bad, shape)
    sky2 = np.broadcast_to(np.asarray(side.sigma, np.float32) ** 2, lead)
    images = np.where(bads, np.float32(0), side.image)
    variances = np.where(bads, sky2[..., None, None] if lead else sky2, side.variance).astype(np.float32)
    doubt = np.zeros(shape, np.float32)
    for index in np.ndindex(lead):
        ys, xs = _unknowns(bads[index], FILL_REACH)
        known, good = images[index].copy(), (~bads[index]).astype(np.float32)
        _solve(images[index], ys, xs, np.ascontiguousarray(kernels[index]), FILL_STEPS)
        profile = np.ascontiguousarray(profiles[index])
        _doubt(images[index], known, good, ys, xs, profile, sky2[index], variances[index], doubt[index])
    return replace(side, image=images, variance=variances, doubt=doubt)
