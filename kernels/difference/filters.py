"""The filters of a subtraction: what two PSFs, noises and zero points make of it, in Fourier space.

Zackay, Ofek & Gal-Yam (2016), ApJ 830, 27. Kernels of the score are compact, so that all that concerns them
alone is computed on a small grid. Plain array API, in float64; the result is cast to the type of the images.
"""

from typing import Any

import numpy as np

from skytrawl.errors import ParameterError
from skytrawl.kernels.difference.types import Array, Filters, Side

_GRID = 4  # sides of the PSF in the small grid
FLOOR = 1e-16  # of the denominator at frequency 0: below it a frequency is lost in both images


def wide(xp: Any, number: Any, like: Array) -> Array:
    """Number(s) of tiles as an array that broadcasts over their pixels, with the type of `like`."""
    array = xp.astype(xp.asarray(number, device=like.device), like.dtype)
    return array[..., None, None] if array.ndim else array


def spectrum(xp: Any, stamp: Array, shape: tuple[int, int], dtype: Any = None) -> Array:
    """Transform of stamps about their middle pixel: complex128 (or `dtype`) [..., ny, nx // 2 + 1].

    As two matrix products: a stamp is small, and so nothing need be padded, shifted or cut.

    Raises
    ------
    ParameterError
        If the stamp has an even side or is larger than `shape`.
    """
    py, px = stamp.shape[-2:]
    ny, nx = shape
    if py % 2 == 0 or px % 2 == 0:
        raise ParameterError(f"a PSF stamp of {px} x {py} px has no middle pixel: its sides must be odd")
    if py > ny or px > nx:
        raise ParameterError(f"a PSF of {px} x {py} px is larger than the tile of {nx} x {ny} px")

    def phases(n: int, count: int, side: int) -> Array:
        k = xp.arange(count, dtype=xp.float64, device=stamp.device)
        x = xp.arange(side, dtype=xp.float64, device=stamp.device) - side // 2
        turns = xp.exp(xp.astype(k[:, None] * x[None, :] * (2.0 * np.pi / n), xp.complex128) * -1j)
        return xp.astype(turns, dtype)

    dtype = xp.complex128 if dtype is None else dtype
    values = xp.astype(xp.astype(stamp, xp.float64), dtype)
    along_x = xp.matmul(values, xp.matrix_transpose(phases(nx, nx // 2 + 1, px)))
    return xp.matmul(phases(ny, ny, py), along_x)


def middle(xp: Any, plane: Array, side: int) -> Array:
    """The part of a periodic plane about its pixel [0, 0], as a stamp [..., side, side]."""
    ny, nx = plane.shape[-2:]
    shifted = xp.roll(plane, (ny // 2, nx // 2), axis=(-2, -1))
    y, x = ny // 2 - side // 2, nx // 2 - side // 2
    return shifted[..., y : y + side, x : x + side]


def _ratios(xp: Any, pn: Array, pr: Array, sn: Array, sr: Array, fn: Array, fr: Array) -> tuple[Array, ...]:
    """Filters a and b and the root of the denominator, see `Filters`."""
    new, ref = fn * xp.abs(pn), fr * xp.abs(pr)
    den = sn**2 * ref**2 + sr**2 * new**2
    # Where neither image has a response, the difference has none: 0 / 0 there is 0.
    kept = den > FLOOR * den[..., :1, :1]
    root = xp.sqrt(den)
    zero_point = fn * fr / xp.sqrt(sn**2 * fr**2 + sr**2 * fn**2)
    inverse = xp.where(
        kept, 1.0 / (zero_point * xp.where(kept, root, xp.ones_like(root))), xp.zeros_like(root)
    )
    a = pr * xp.astype(fr * inverse, pr.dtype)
    b = pn * xp.astype(fn * inverse, pn.dtype)
    return a, b, root * zero_point**3, zero_point


def whole_planes(
    science: Side,
    reference: Side,
    squares: list[Array],
    numbers: tuple[Array, ...],
    shape: tuple[int, int],
    xp: Any,
) -> dict[str, Array]:
    """The planes over all frequencies of `Filters`, by name."""
    responses = (spectrum(xp, side.psf, shape) for side in (science, reference))
    a, b, root, _ = _ratios(xp, *responses, *numbers)
    dtype = science.image.dtype
    complex_dtype = xp.complex64 if dtype == xp.float32 else xp.complex128
    kn2, kr2 = (xp.astype(spectrum(xp, square, shape), complex_dtype) for square in squares)
    return {
        "a": xp.astype(a, complex_dtype),
        "b": xp.astype(b, complex_dtype),
        "root": xp.astype(root, dtype),
        "kn2": kn2,
        "kr2": kr2,
    }


def filters(
    science: Side, reference: Side, shape: tuple[int, int], *, xp: Any, planes: Any = whole_planes
) -> Filters:
    """Make the filters of tiles of one shape.

    Parameters
    ----------
    science, reference : Side
        PSFs, noises, zero points and gains are used. Leading axes broadcast.
    shape : (ny, nx)
    xp : array namespace
    planes : callable, what makes the planes over all frequencies

    Returns
    -------
    Filters
        In the precision of the science image; they may serve every pair with these PSFs and noises.
    """
    side = max(*science.psf.shape[-2:], *reference.psf.shape[-2:])
    m = max(64, 1 << (_GRID * side - 1).bit_length())
    double = xp.empty(0, dtype=xp.float64, device=science.psf.device)
    sn, sr = wide(xp, science.sigma, double), wide(xp, reference.sigma, double)
    fn, fr = wide(xp, science.scale, double), wide(xp, reference.scale, double)
    pn, pr = spectrum(xp, science.psf, (m, m)), spectrum(xp, reference.psf, (m, m))
    a, b, root, zero_point = _ratios(xp, pn, pr, sn, sr, fn, fr)
    real = xp.astype(root, pn.dtype)

    def back(plane: Array) -> Array:
        return xp.fft.irfftn(plane, s=(m, m), axes=(-2, -1))

    def forward(plane: Array) -> Array:
        return xp.fft.rfftn(plane, axes=(-2, -1))

    kn_hat = xp.conj(b) * a * xp.conj(a) * real
    kr_hat = xp.conj(a) * b * xp.conj(b) * real
    kn, kr = back(kn_hat), back(kr_hat)
    f_s = (fn * back(kn_hat * pn))[..., 0, 0]
    noise_n, noise_r = (xp.sum(k**2 * s**2, axis=(-2, -1)) for k, s in ((kn, sn), (kr, sr)))
    noise, slopes = noise_n + noise_r, []
    for axis in (-1, -2):
        total = 0.0
        for k, s in ((kn, sn), (kr, sr)):
            step = (xp.roll(k, -1, axis=axis) - xp.roll(k, 1, axis=axis)) * s
            total = total + xp.sum(step**2, axis=(-2, -1)) / 16.0
        slopes.append(total)
    own = []
    for k, p, f, gain in ((kn, pn, fn, science.gain), (kr, pr, fr, reference.gain)):
        response = back(forward(k**2) * p * xp.astype(f, p.dtype))[..., 0, 0]
        g = xp.asarray(np.inf if gain is None else gain, dtype=xp.float64, device=double.device)
        own.append(response / (f_s * g))
    about = max(7, side // 4 * 2 + 1)
    halves = []
    for k, p, f in ((kn, pn, fn), (kr, pr, fr)):
        # The kernel is turned over against the image of a source.
        mirrored = xp.flip(middle(xp, back(p), about), axis=(-2, -1))
        halves.append(middle(xp, k, about) * mirrored * (0.5 * f / f_s[..., None, None]))
    dtype = science.image.dtype
    psf_d = back(a * b * real / xp.astype(zero_point**2, pn.dtype))
    squares = [middle(xp, k**2, min(side, *_odd(shape))) for k in (kn, kr)]
    return Filters(
        **planes(science, reference, squares, (sn, sr, fn, fr), shape, xp),
        square_n=xp.astype(squares[0], dtype),
        square_r=xp.astype(squares[1], dtype),
        psf_d=xp.astype(middle(xp, psf_d, side), dtype),
        f_s=f_s,
        blank_variance=noise,
        self_n=own[0],
        self_r=own[1],
        self_noise=(own[0] * noise_n - own[1] * noise_r) / noise,
        weight=xp.astype(halves[0] + halves[1], dtype),
        slope=xp.stack(slopes, axis=-1),
    )


def _odd(shape: tuple[int, int]) -> tuple[int, int]:
    return shape[0] - 1 + shape[0] % 2, shape[1] - 1 + shape[1] % 2
