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


@njit()
def _reached(given, reach, out):  # type: ignore[no-untyped-def]
    """Whether anything given lies within the reach along the (periodic) rows; the answer is turned over."""
    ny, nx = given.shape
    for y in range(ny):
        since = reach + 1
        for x in range(-reach, nx):
            since = 0 if given[y, x % nx] else since + 1
            if x >= 0:
                out[x, y] = since <= reach
        since = reach + 1
        for x in range(nx + reach - 1, -1, -1):
            since = 0 if given[y, x % nx] else since + 1
            if x < nx and since <= reach:
                out[x, y] = True


@njit()
def _unknowns(bad, reach):  # type: ignore[no-untyped-def]
    """Bad pixels with a good one in their box, as rows and columns."""
    ny, nx = bad.shape
    along, near = np.empty((nx, ny), np.bool_), np.empty((ny, nx), np.bool_)
    _reached(~bad, reach, along)
    _reached(along, reach, near)
    ys, xs = np.empty(bad.size, np.int32), np.empty(bad.size, np.int32)
    count = 0
    for y in range(ny):
        for x in range(nx):
            if bad[y, x] and near[y, x]:
                ys[count], xs[count] = y, x
                count += 1
    return ys[:count], xs[:count]


@njit(fastmath=True)
def _apply(plane, ys, xs, kernel, out):  # type: ignore[no-untyped-def]
    """Convolve a plane with the (symmetric) kernel at some pixels."""
    ny, nx = plane.shape
    reach = kernel.shape[0] // 2
    for k in range(len(ys)):
        y, x = ys[k], xs[k]
        total = np.float32(0.0)
        if reach <= y < ny - reach and reach <= x < nx - reach:
            for i in range(kernel.shape[0]):
                for j in range(kernel.shape[0]):
                    total += kernel[i, j] * plane[y + i - reach, x + j - reach]
        else:
            for i in range(kernel.shape[0]):
                for j in range(kernel.shape[0]):
                    total += kernel[i, j] * plane[(y + i - reach) % ny, (x + j - reach) % nx]
        out[k] = total


@njit(fastmath=True)
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


@njit(fastmath=True)
def spread(ys, xs, values, weight, out):  # type: ignore[no-untyped-def]
    """Add a stamp about each of some pixels, times the value of the pixel."""
    ny, nx = out.shape
    reach = weight.shape[0] // 2
    for k in range(len(ys)):
        for i in range(weight.shape[0]):
            row = out[(ys[k] + i - reach) % ny]
            for j in range(weight.shape[0]):
                row[(xs[k] + j - reach) % nx] += values[k] * weight[i, j]


def lost(bad: NDArray[np.bool_], weight: NDArray[np.float32]) -> NDArray[np.bool_]:
    """As `fill.lost`, of one tile."""
    # Bad pixels that lie deeper among bad ones reach no good one.
    ys, xs = _unknowns(bad, weight.shape[0] // 2)
    if not len(ys):
        return bad
    share = np.zeros(bad.shape, np.float32)
    spread(ys, xs, np.ones(len(ys), np.float32), np.ascontiguousarray(weight, np.float32), share)
    return bad | (share > np.float32(MOST_LOST))


@njit()
def _doubt(image, bad, ys, xs, profile, sky2, variance, doubt):  # type: ignore[no-untyped-def]
    """Variance of filled pixels, and what is beyond it, see `fill.doubt`."""
    ny, nx = image.shape
    py, px = profile.shape
    area = np.float32((2 * FILL_BOX + 1) ** 2)
    peak, whole = profile.max(), np.sum(profile * profile)
    for k in range(len(ys)):
        missing = np.float32(0.0)
        for i in range(-FILL_BOX, FILL_BOX + 1):
            for j in range(-FILL_BOX, FILL_BOX + 1):
                missing += bad[(ys[k] + i) % ny, (xs[k] + j) % nx]
        products, squares = np.float32(0.0), np.float32(0.0)
        for i in range(py if missing > FILL_MISSING * area else 0):
            y = (ys[k] + i - py // 2) % ny
            for j in range(px):
                x = (xs[k] + j - px // 2) % nx
                if not bad[y, x]:
                    products += profile[i, j] * image[y, x]
                    squares += profile[i, j] * profile[i, j]
        flux = np.float32(0.0)
        if squares > np.float32(FILL_LEAST) * whole:
            flux = products / squares - np.float32(FILL_SIGMAS) * np.sqrt(sky2 / squares)
        error = max(np.float32(FILL_ERROR) * abs(image[ys[k], xs[k]]), missing / area * peak * flux)
        beyond = max(error * error - np.float32(DOUBT_MOST) * sky2, np.float32(0.0))
        variance[ys[k], xs[k]] = sky2 + (error * error - beyond)
        doubt[ys[k], xs[k]] = beyond


def add_doubt(doubt: NDArray[np.float32], square: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """As `fill.doubtful_variance`, of one tile and side, added to `out`."""
    ys, xs = (places.astype(np.int32) for places in np.nonzero(doubt))
    spread(ys, xs, doubt[ys, xs], np.ascontiguousarray(square, np.float32), out)


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
        _solve(images[index], ys, xs, np.ascontiguousarray(kernels[index]), FILL_STEPS)
        profile = np.ascontiguousarray(profiles[index])
        _doubt(images[index], bads[index], ys, xs, profile, sky2[index], variances[index], doubt[index])
    return replace(side, image=images, variance=variances, doubt=doubt if doubt.any() else None)
