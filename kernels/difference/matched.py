"""Subtraction with a fitted matching kernel, and the significance of what is left."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.difference import decorrelate as noise
from skytrawl.kernels.difference.kernel import MatchingKernel
from skytrawl.kernels.difference.matching import match_kernel
from skytrawl.kernels.difference.nodes import place_nodes
from skytrawl.kernels.difference.residuals import ModelError, fit_model_error
from skytrawl.kernels.difference.types import Difference, Side
from skytrawl.kernels.measure.background import background
from skytrawl.kernels.psf import PsfModel

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Stamp = NDArray[np.float64]

_LOST = 0.02  # share of the squared kernel on bad pixels above which a convolved pixel is bad
_KEPT = 0.7  # share of a source's score that must rest on good pixels
_SOURCE = 4.0  # sigma of the smoothed model above which a pixel is no empty sky


@dataclass(frozen=True, eq=False)
class MatchedDifference(Difference):
    """A `Difference` with what was measured on the way.

    Attributes
    ----------
    kernel : MatchingKernel
    correlation_science, correlation_reference : float64[n, n], of the noise of the images
    amplitude_science, amplitude_reference : float
        Variance measured on empty sky over the variance planes, which are used as they are given.
    model_error : ModelError
    background : float32[ny, nx], what was subtracted from the difference
    """

    kernel: MatchingKernel
    correlation_science: Stamp
    correlation_reference: Stamp
    amplitude_science: float
    amplitude_reference: float
    model_error: ModelError
    background: Image

    @staticmethod
    def _wide(number: Image) -> Image:
        return number


def matched_difference(
    science: Side,
    reference: Side,
    kernel: MatchingKernel | None = None,
    *,
    psf: PsfModel | None = None,
    half_width: int = 7,
    degree: int = 0,
    lag: int = 3,
    mesh: int | None = 64,
    nodes: int | None = None,
    model_error: ModelError | bool = True,
) -> MatchedDifference:
    """Subtract one image from another after convolving one of them with a fitted kernel.

    With D = A * N - B * R (A = 1 and B the kernel, or A the kernel and B = 1, both divided by the kernel's sum), the
    score is ``S = w . D``, w the matched filter T / P of the template T = A * PSF in noise of the power
    ``P = s_n^2 rho_n |A|^2 + s_r^2 rho_r |B|^2``. That is ZOGY's score (Zackay et al. 2016, eq. 12) with a fitted
    ratio in place of two PSF models, and for correlated noise. V(S) sums the variance planes with
    `decorrelate.variance_kernel` of w correlated with A and B, and adds the error of the model (`residuals`).

    Parameters
    ----------
    science, reference : Side
        On one grid, background subtracted. Their `scale` and the `psf` of the reference are not used.
    kernel : MatchingKernel, optional; by default solved with `half_width` and `degree`
    psf : PsfModel, optional
        Of the science image, if it varies over the field; by default the stamp of `science`.
    lag : int, pixels
        To which the correlation of the noise is measured (`decorrelate.noise_correlation`); 0 takes it as white.
    mesh : int or None, pixels
        Box in which the background of the difference is measured and subtracted.
    nodes : int, optional
        Places along each axis for which filters are made, with linear weights between them. Default: 1 where
        neither kernel nor PSF varies, else 3.
    model_error : ModelError or bool
        Error of the model under sources: given, fitted, or left out.

    Returns
    -------
    MatchedDifference
        `d` in image units of the science image, whitened; `f_s` and `blank_variance` are maps [ny, nx].
    """
    bad_n, bad_r = _bad(science), _bad(reference)
    v_n, v_r = _clean(science.variance, bad_n), _clean(reference.variance, bad_r)
    n, r = _clean(science.image, bad_n), _clean(reference.image, bad_r)
    if kernel is None:
        kernel = match_kernel(n, r, (v_n, v_r), bad_n | bad_r, half_width=half_width, degree=degree)
    d, model, usable = _subtract(n, r, bad_n, bad_r, kernel)
    sky = usable & ~_sources(n, v_n) & ~_sources(r, v_r)
    level = background(d, ~sky, box=mesh).level if mesh else np.zeros(n.shape, np.float32)
    d = np.where(usable, d - level, np.float32(0))
    ny, nx = n.shape
    responses = _responses(kernel, (nx - 1) / 2, (ny - 1) / 2)
    rho, amplitude = [noise.white(), noise.white()], [float("nan"), float("nan")]
    if lag > 0:
        for k, (image, plane, sign) in enumerate(((n, v_n, 1), (r, v_r, -1))):
            smooth = image - background(image, ~sky, box=mesh or 64).level
            rho[k], amplitude[k] = noise.noise_correlation(d, smooth, plane, sky, sign * responses[k], lag)
    empty = [background(plane, ~sky, box=64).level for plane in (v_n, v_r)]
    level_n, level_r = (float(np.median(plane[sky])) for plane in (v_n, v_r))
    psf = PsfModel.constant(science.psf) if psf is None else psf
    maps = {
        name: np.zeros(n.shape, np.float32)
        for name in ("score", "variance", "blank", "f_s", "share", "m", "d")
    }
    good = usable.astype(np.float32)
    count = nodes or (1 if kernel.degree == 0 and psf.degree == 0 else 3)
    for node in place_nodes((ny, nx), count):
        a, b = _responses(kernel, node.x, node.y)
        template = noise.convolved(psf.at(node.x, node.y).astype(np.float64), a)
        half = template.shape[0] // 2
        side = 2 * max(template.shape[0], b.shape[0]) + 17
        shape = (side, side)
        power = noise.power(level_n * rho[0], shape) * _gain(a, shape) + noise.power(
            level_r * rho[1], shape
        ) * _gain(b, shape)
        power = np.maximum(power, 1e-3 * power.mean())
        weights = noise.matched_weights(template, power, shape, half)
        seen_n, seen_r = (noise.convolved(weights, stamp[::-1, ::-1]) for stamp in (a, b))
        q_n, q_r = noise.variance_kernel(seen_n, rho[0]), noise.variance_kernel(seen_r, rho[1])
        part = node.rows, node.columns
        maps["score"][part] += node.correlate(d, weights)
        maps["m"][part] += node.correlate(model, weights)
        maps["variance"][part] += node.correlate(v_n, q_n) + node.correlate(v_r, q_r)
        maps["blank"][part] += node.correlate(empty[0], q_n) + node.correlate(empty[1], q_r)
        response = weights * template
        maps["share"][part] += node.correlate(good, response / response.sum())
        maps["f_s"][part] += np.float32(response.sum()) * node.weight
        white = noise.whitening(power, shape, half)
        maps["d"][part] += node.correlate(d, white)
    bad = ~usable | (maps["share"] < _KEPT)
    f_s = maps["f_s"] * np.maximum(maps["share"], np.float32(0.1))
    if model_error is True:
        model_error = fit_model_error(maps["score"], maps["variance"], maps["m"], ~bad)
    elif model_error is False:
        model_error = ModelError()
    variance = maps["variance"] + model_error.variance(maps["m"])
    scorr = np.where(bad, np.float32(0), maps["score"] / np.sqrt(np.where(bad, 1, variance)))
    return MatchedDifference(
        d=np.where(bad, np.float32(0), maps["d"]),
        psf_d=noise.convolved(template, white),
        score=maps["score"],
        variance=variance,
        scorr=scorr,
        f_s=f_s,
        blank_variance=maps["blank"],
        bad=bad,
        kernel=kernel,
        correlation_science=rho[0],
        correlation_reference=rho[1],
        amplitude_science=amplitude[0],
        amplitude_reference=amplitude[1],
        model_error=model_error,
        background=level,
    )


def _bad(side: Side) -> Mask:
    finite = np.isfinite(side.image) & np.isfinite(side.variance) & (np.asarray(side.variance) > 0)
    found: Mask = ~finite if side.bad is None else ~finite | side.bad
    return found


def _clean(plane: Image, bad: Mask) -> Image:
    return np.where(bad, np.float32(0), np.asarray(plane, np.float32))


def _sources(image: Image, variance: Image) -> Mask:
    """Pixels near light, judged on 5 x 5 pixels."""
    from scipy.ndimage import binary_dilation, uniform_filter

    level = uniform_filter(image, 5) > _SOURCE / 5 * np.sqrt(np.maximum(uniform_filter(variance, 5), 0))
    return np.asarray(binary_dilation(level, iterations=3), np.bool_)


def _gain(stamp: Stamp, shape: tuple[int, int]) -> Stamp:
    gain: Stamp = np.abs(np.fft.rfft2(noise.embed(stamp, shape))) ** 2
    return gain


def _responses(kernel: MatchingKernel, x: float, y: float) -> tuple[Stamp, Stamp]:
    """A and B at a place: with what the science image and the reference enter the difference."""
    stamp, one = kernel.at(x, y), np.ones((1, 1))
    if kernel.direction == "reference":
        return one, stamp
    return stamp / stamp.sum(), one / stamp.sum()


def _subtract(
    n: Image, r: Image, bad_n: Mask, bad_r: Mask, kernel: MatchingKernel
) -> tuple[Image, Image, Mask]:
    """Difference, model of the static sky in it, and the pixels that can be used."""
    from scipy.signal import oaconvolve

    forward = kernel.direction == "reference"
    target, other, bad_t, bad_o = (n, r, bad_n, bad_r) if forward else (r, n, bad_r, bad_n)
    scale = np.float32(kernel.scale())
    # A bad pixel of the convolved image is filled with what the other shows, so that its neighbours differ little.
    filled = np.where(bad_o & ~bad_t, target / scale, other)
    model = kernel.convolve(filled) + kernel.background_image()
    half = kernel.basis.half_width
    share = kernel.middle**2
    lost = oaconvolve(
        np.pad(bad_o, half, constant_values=True).astype(np.float32),
        (share / share.sum()).astype(np.float32),
        "valid",
    )
    usable = ~(bad_t | bad_o | (lost > _LOST))
    d = target - model
    if not forward:
        d, model = -d / scale, model / scale
    return np.where(usable, d, np.float32(0)), np.where(usable, model, np.float32(0)), usable
