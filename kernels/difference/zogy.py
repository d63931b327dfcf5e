"""Proper image subtraction (ZOGY) of tiles and batches of tiles, in the plain array API.

Zackay, Ofek & Gal-Yam (2016), ApJ 830, 27: D (eq. 13), S (eq. 12), S_corr with source noise (eqs. 25 to 31)
and astrometric noise (eqs. 32, 33). Images are periodic here; `tiles` gives them borders.
"""

from typing import Any

from skytrawl.errors import ParameterError
from skytrawl.kernels.difference import filters as plain
from skytrawl.kernels.difference.constants import LEAST_VARIANCE, OWN_FROM, OWN_FULL, SLOPE_SIGMAS
from skytrawl.kernels.difference.fill import doubtful_variance, lost
from skytrawl.kernels.difference.filters import wide
from skytrawl.kernels.difference.types import Array, Difference, Filters, Prepared, Side
from skytrawl.kernels.namespace import namespace


def prepare(side: Side, *, xp: Any = None) -> Prepared:
    """Transform an image and its variance, to use them for several subtractions.

    Bad pixels must have been filled (`subtract` does it).

    Parameters
    ----------
    side : Side
    xp : array namespace, optional, the same that `zogy` gets

    Returns
    -------
    Prepared
        float32 NumPy arrays without `xp` are laid out for the compiled path.
    """
    from skytrawl.kernels.difference import cpu

    if xp is None and cpu.takes(side):
        return cpu.prepare(side)
    xp = namespace(side.image, xp)
    image, variance = (xp.fft.rfftn(plane, axes=(-2, -1)) for plane in (side.image, side.variance))
    return Prepared(image, variance, (side.image.shape[-2], side.image.shape[-1]), side)


def filters(science: Side, reference: Side, shape: tuple[int, int], *, xp: Any = None) -> Filters:
    """Make the filters of tiles of one shape, to use them for every pair with these PSFs and noises.

    Parameters
    ----------
    science, reference : Side
    shape : (ny, nx)
    xp : array namespace, optional, the same that `zogy` gets

    Returns
    -------
    Filters

    Raises
    ------
    ParameterError
        If a PSF has an even side or is larger than `shape`.
    """
    from skytrawl.kernels.difference import cpu

    if xp is None and cpu.takes(science, reference):
        return cpu.filters(science, reference, shape)
    return plain.filters(science, reference, shape, xp=namespace(science.image, xp))


def _subtract(
    science: Prepared, reference: Prepared, f: Filters, shift: Any, relative: Any, xp: Any
) -> Difference:
    shape = science.shape

    def back(plane: Array) -> Array:
        return xp.fft.irfftn(plane, s=shape, axes=(-2, -1))

    d_hat = f.a * science.image - f.b * reference.image
    root = xp.astype(f.root, d_hat.dtype)
    variance = back(f.kn2 * science.variance + f.kr2 * reference.variance)
    d = back(d_hat)
    if shift is None and relative is None:
        score = back(xp.conj(f.a * f.b) * root * d_hat)
        extra = None
    else:
        s_n = back(xp.conj(f.b) * f.a * xp.conj(f.a) * root * science.image)
        s_r = back(xp.conj(f.a) * f.b * xp.conj(f.b) * root * reference.image)
        score = s_n - s_r
        extra = _alignment(s_n, s_r, f, shift, relative, xp)
    variance = xp.maximum(variance, wide(xp, f.blank_variance * 1e-3, variance))
    null = _null_variance(score, variance, f, xp)
    doubt = doubtful_variance((science.side, reference.side), (f.square_n, f.square_r), xp=xp)
    for more in (extra, doubt):
        null = null if more is None else null + more
    variance = variance if doubt is None else variance + doubt
    bad = xp.zeros(score.shape, dtype=xp.bool, device=score.device)
    masks = [side.side.bad for side in (science, reference) if side.side.bad is not None]
    for mask in masks:
        bad = bad | mask
    if masks:
        bad = lost(bad, f.weight, xp=xp)
    return Difference(d, f.psf_d, score, variance, score / xp.sqrt(null), f.f_s, f.blank_variance, bad)


def _null_variance(score: Array, variance: Array, f: Filters, xp: Any) -> Array:
    """Variance of the score were there no source in one image only.

    Where variances come from the counts, those of a new source stand in them, and so does the noise of the
    score. What noise does on average is taken off everywhere; what a source does from `OWN_FROM` standard
    deviations on, in full from `OWN_FULL`, but nothing below the variance of the empty sky, so that noise
    is not taken for a source: a source of significance 5 shall have the score 5, and noise keep its law.
    """
    significance2 = score**2 / variance
    ramp = (significance2 - OWN_FROM**2) * (1.0 / (OWN_FULL**2 - OWN_FROM**2))
    ramp = xp.minimum(xp.maximum(ramp, xp.zeros_like(ramp)), xp.ones_like(ramp))
    noise = wide(xp, f.self_noise, score)
    above = xp.where(score > 0, wide(xp, f.self_n, score), -wide(xp, f.self_r, score))
    blank = wide(xp, f.blank_variance, variance)
    usual = xp.maximum(variance - noise * score, LEAST_VARIANCE * xp.minimum(variance, blank))
    return xp.maximum(usual - ramp * (above - noise) * score, xp.minimum(usual, blank))


def _alignment(s_n: Array, s_r: Array, f: Filters, shift: Any, relative: Any, xp: Any) -> Array:
    """Variance by an unknown shift and an unknown factor between the two images.

    The mean of both scores is what the shift displaces (eqs. 32, 33 for each half). The curvature term serves
    the centres of bright stars, where the gradient vanishes: half the square of a normal shift of variance v
    has the mean square 3/4 v^2.
    """
    mean = 0.5 * (s_n + s_r)
    extra = xp.zeros_like(mean)
    if shift is not None:
        curved = xp.zeros_like(mean)
        for k, axis in ((0, -1), (1, -2)):
            after, before = xp.roll(mean, -1, axis=axis), xp.roll(mean, 1, axis=axis)
            v = wide(xp, shift[k], mean) ** 2
            slope2 = (0.5 * (after - before)) ** 2 - wide(xp, SLOPE_SIGMAS**2 * f.slope[..., k], mean)
            extra = extra + 2.0 * v * xp.maximum(slope2, xp.zeros_like(slope2))
            curved = curved + v * (after + before - 2.0 * mean)
        extra = extra + 0.75 * curved**2
    if relative is not None:
        common = xp.maximum(xp.minimum(s_n, s_r), xp.zeros_like(s_n))
        extra = extra + (wide(xp, relative, common) * common) ** 2
    return extra


def zogy(
    science: Side,
    reference: Side | Prepared,
    *,
    filters: Filters | None = None,
    shift_error: tuple[Any, Any] | None = None,
    relative_error: Any = None,
    xp: Any = None,
) -> Difference:
    """Subtract a reference from a science image, or batches of them.

    Images are periodic and must hold no NaN; `subtract` takes images as they come.

    Parameters
    ----------
    science : Side
    reference : Side, or Prepared where its transforms are used again
    filters : Filters, optional, to use them again for the same PSFs and noises
    shift_error : (dx, dy), pixels, numbers or arrays over the leading axes, optional
        Standard error of the registration.
    relative_error : float or array over the leading axes, optional
        Relative error of the flux scale, and of what else leaves residuals in proportion to a star's flux.
    xp : array namespace, optional
        Library of the arrays, by default the one they name themselves (``__array_namespace__``), and for
        float32 NumPy arrays the compiled path.

    Returns
    -------
    Difference
        Positive where the science image is brighter. Fluxes are in units of the zero points `scale`.

    Raises
    ------
    ParameterError
        If a PSF has an even side or is larger than the tile, or `reference` was prepared with another `xp`.
    """
    from skytrawl.kernels.difference import cpu

    if xp is None and cpu.takes(science, reference):
        return cpu.zogy(science, reference, filters, shift_error, relative_error)
    xp = namespace(science.image, xp)
    new = prepare(science, xp=xp)
    ref = reference if isinstance(reference, Prepared) else prepare(reference, xp=xp)
    if ref.image.shape[-1] != new.image.shape[-1]:
        raise ParameterError("the reference was prepared for tiles of another shape, or with another `xp`")
    f = plain.filters(science, ref.side, new.shape, xp=xp) if filters is None else filters
    return _subtract(new, ref, f, shift_error, relative_error, xp)
