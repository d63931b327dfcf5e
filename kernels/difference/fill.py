"""Bad pixels filled from their neighbours, in the plain array API; `cpu_fill` is the compiled version.

A transform needs a number everywhere, and one that stands out would ring far beyond the PSF. The sky is
taken as a random field of the power spectrum c |P|^2 + 1, P the PSF, and a bad pixel gets what is expected
given the good ones (Rybicki & Press 1992, ApJ 398, 169): with L the inverse of the covariance, a convolution
with the transform of 1 / (c |P|^2 + 1), the values x of the bad pixels solve L_bb x = -L_bg (good pixels).
L is cut to a stencil, whose middle is raised until it is positive definite again, and the system is solved by
conjugate gradients.
"""

from dataclasses import replace
from typing import Any

from skytrawl.kernels.difference.constants import (
    DOUBT_MOST,
    FILL_BOX,
    FILL_ERROR,
    FILL_LEAST,
    FILL_MISSING,
    FILL_POWER,
    FILL_REACH,
    FILL_SIGMAS,
    FILL_STAR,
    FILL_STEPS,
    MOST_LOST,
)
from skytrawl.kernels.difference.filters import middle, spectrum, wide
from skytrawl.kernels.difference.types import Array, Side
from skytrawl.kernels.namespace import namespace


def stencil(psf: Array, *, xp: Any) -> Array:
    """Kernel L of PSF stamps: float64[..., 2 reach + 1, 2 reach + 1]."""
    m = max(64, 1 << (2 * max(psf.shape[-2:]) - 1).bit_length())
    power = xp.abs(spectrum(xp, psf, (m, m))) ** 2
    inverse = xp.astype(1.0 / (FILL_POWER * power + 1.0), xp.complex128)
    cut = middle(xp, xp.fft.irfftn(inverse, s=(m, m), axes=(-2, -1)), 2 * FILL_REACH + 1)
    lowest = xp.min(xp.real(spectrum(xp, cut, (m, m))), axis=(-2, -1))[..., None, None]
    lift = xp.maximum(1.0 / (FILL_POWER + 1.0) - lowest, xp.zeros_like(lowest))
    at_middle = xp.zeros((2 * FILL_REACH + 1, 2 * FILL_REACH + 1), dtype=xp.float64, device=psf.device)
    at_middle[FILL_REACH, FILL_REACH] = 1.0
    return cut + lift * at_middle


def unknowns(bad: Array, *, xp: Any) -> Array:
    """Bad pixels that have a good one within the reach of the stencil; bool[..., ny, nx]."""
    near = ~bad
    for axis in (-2, -1):
        reached = near
        for step in range(1, FILL_REACH + 1):
            reached = reached | xp.roll(near, step, axis=axis) | xp.roll(near, -step, axis=axis)
        near = reached
    return bad & near


def filled(image: Array, bad: Array, kernel: Array, *, xp: Any) -> Array:
    """Image with its bad pixels replaced.

    Parameters
    ----------
    image : float[..., ny, nx], what stands in bad pixels is not looked at
    bad : bool[..., ny, nx]
    kernel : float64[..., 2 reach + 1, 2 reach + 1], see `stencil`

    Returns
    -------
    float[..., ny, nx]
        Bad pixels out of the stencil's reach of any good one are 0.
    """
    zero = xp.zeros_like(image)
    shape = (image.shape[-2], image.shape[-1])
    known = xp.where(bad, zero, image)
    transform = spectrum(xp, kernel, shape)
    transform = xp.astype(transform, xp.complex64 if image.dtype == xp.float32 else xp.complex128)
    unknown = unknowns(bad, xp=xp)

    def apply(plane: Array) -> Array:
        turned = xp.fft.irfftn(xp.fft.rfftn(plane, axes=(-2, -1)) * transform, s=shape, axes=(-2, -1))
        return xp.where(unknown, turned, zero)

    def dot(a: Array, b: Array) -> Array:
        return xp.sum(a * b, axis=(-2, -1), keepdims=True)

    x, residual = zero, -apply(known)
    direction, size = residual, dot(residual, residual)
    for _ in range(FILL_STEPS):
        turned = apply(direction)
        curvature = dot(direction, turned)
        step = xp.where(
            curvature > 0, size / xp.where(curvature > 0, curvature, 1.0 + 0.0 * curvature), 0.0 * size
        )
        x, residual = x + step * direction, residual - step * turned
        fresh = dot(residual, residual)
        ratio = xp.where(size > 0, fresh / xp.where(size > 0, size, 1.0 + 0.0 * size), 0.0 * size)
        direction, size = residual + ratio * direction, fresh
    return known + x


def star(psf: Array) -> Array:
    """The part of PSF stamps by which hidden stars are judged: [..., p, p], p at most 2 FILL_STAR + 1."""
    y, x = (max(0, side // 2 - FILL_STAR) for side in psf.shape[-2:])
    return psf[..., y : psf.shape[-2] - y, x : psf.shape[-1] - x]


def doubt(image: Array, bad: Array, psf: Array, sigma: Any, *, xp: Any) -> Array:
    """Standard error of filled pixels by the sources that they may have held.

    The flux of a star at a pixel, fitted to the good pixels g about it, is ``sum(g P I) / sum(g P^2)``.

    Parameters
    ----------
    image, bad : [..., ny, nx]
    psf : float[..., p, p]
    sigma : float or float[...]

    Returns
    -------
    float[..., ny, nx], of bad pixels; meaningless elsewhere
    """
    missing = xp.astype(bad, image.dtype)
    for axis in (-2, -1):
        total = missing
        for step in range(1, FILL_BOX + 1):
            total = total + xp.roll(missing, step, axis=axis) + xp.roll(missing, -step, axis=axis)
        missing = total / (2 * FILL_BOX + 1)
    profile = xp.astype(star(psf), xp.float64)
    shape = (image.shape[-2], image.shape[-1])

    def correlated(plane: Array, stamp: Array) -> Array:
        # In double precision: few pixels may count for little beside those of a whole tile.
        hat = xp.fft.rfftn(xp.astype(plane, xp.float64), axes=(-2, -1)) * xp.conj(spectrum(xp, stamp, shape))
        return xp.fft.irfftn(hat, s=shape, axes=(-2, -1))

    products = correlated(xp.where(bad, xp.zeros_like(image), image), profile)
    squares = correlated(~bad, profile**2)
    least = FILL_LEAST * xp.sum(profile**2, axis=(-2, -1), keepdims=True)
    judged = (missing > FILL_MISSING) & (squares > least) & unknowns(bad, xp=xp)
    squares = xp.where(judged, squares, xp.ones_like(squares))
    flux = products / squares - FILL_SIGMAS * wide(xp, sigma, products) / xp.sqrt(squares)
    flux = xp.where(judged & (flux > 0), flux, xp.zeros_like(flux))
    peak = xp.max(profile, axis=(-2, -1), keepdims=True)
    return xp.maximum(FILL_ERROR * xp.abs(image), missing * xp.astype(peak * flux, image.dtype))


def fill(side: Side, *, xp: Any = None) -> Side:
    """Fill the bad pixels of an image, and give them the variance of what was filled in.

    That is the sky's plus the square of `doubt`, of which `Side.doubt` holds what is too large.

    Parameters
    ----------
    side : Side
    xp : array namespace, optional, as for `zogy`

    Returns
    -------
    Side
        The same where nothing is bad.
    """
    from skytrawl.kernels.difference import cpu, cpu_fill

    if side.bad is None:
        return side
    if xp is None and cpu.takes(side):
        return cpu_fill.fill(side)
    xp = namespace(side.image, xp)
    image = filled(side.image, side.bad, stencil(side.psf, xp=xp), xp=xp)
    sky2 = wide(xp, side.sigma, image) ** 2
    doubtful = xp.where(
        side.bad, doubt(image, side.bad, side.psf, side.sigma, xp=xp) ** 2, xp.zeros_like(image)
    )
    beyond = xp.maximum(doubtful - DOUBT_MOST * sky2, xp.zeros_like(image))
    variance = xp.where(side.bad, sky2 + (doubtful - beyond), side.variance)
    return replace(side, image=image, variance=variance, doubt=beyond)


def lost(bad: Array, weight: Array, *, xp: Any) -> Array:
    """Pixels whose score comes from bad pixels by more than `MOST_LOST`, and the bad ones.

    Parameters
    ----------
    bad : bool[..., ny, nx]
    weight : float[..., p, p], part of a source's score that each pixel about it gives (`Filters.weight`)

    Returns
    -------
    bool[..., ny, nx]
    """
    shape = (bad.shape[-2], bad.shape[-1])
    transform = spectrum(xp, weight, shape)
    part = xp.astype(bad, xp.float32 if weight.dtype == xp.float32 else xp.float64)
    turned = xp.fft.rfftn(part, axes=(-2, -1)) * xp.astype(
        transform, xp.complex64 if weight.dtype == xp.float32 else xp.complex128
    )
    return bad | (xp.fft.irfftn(turned, s=shape, axes=(-2, -1)) > MOST_LOST)


def doubtful_variance(sides: Any, squares: Any, *, xp: Any) -> Array | None:
    """Variance of the score by ``Side.doubt`` of both sides; float[..., ny, nx], or None without any."""
    total = None
    for side, square in zip(sides, squares, strict=True):
        if side.doubt is not None:
            shape = (side.doubt.shape[-2], side.doubt.shape[-1])
            hat = xp.fft.rfftn(xp.astype(side.doubt, xp.float64), axes=(-2, -1)) * spectrum(xp, square, shape)
            part = xp.fft.irfftn(hat, s=shape, axes=(-2, -1))
            part = xp.astype(xp.maximum(part, xp.zeros_like(part)), side.image.dtype)
            total = part if total is None else total + part
    return total
