"""Subtraction with a fitted matching kernel, and the significance of what is left."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.difference import decorrelate as noise
from skytrawl.kernels.difference.kernel import MatchingKernel
from skytrawl.kernels.difference.matching import match_kernel
from skytrawl.kernels.difference.nodes import place_nodes
from skytrawl.kernels.difference.residuals import ModelError, fit_model_error
from skytrawl.kernels.difference.sides import cleaned, new_sources, null_variance, sources, subtract, unusable
from skytrawl.kernels.difference.types import Difference, Side
from skytrawl.kernels.measure.background import background
from skytrawl.kernels.psf import PsfModel

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Stamp = NDArray[np.float64]

_KEPT = 0.5  # share of a source's score that must rest on good pixels


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

    With D = A * N - B * R (A = 1 and B the kernel, or A the kernel and B = 1, both divided by the kernel's
    sum), the score is ``S = w . D``, w the matched filter T / P of the template T = A * PSF in noise of the
    power ``P = s_n^2 rho_n |A|^2 + s_r^2 rho_r |B|^2``. That is ZOGY's score (Zackay et al. 2016, eq. 12)
    with a fitted ratio in place of two PSF models, and for correlated noise. V(S) sums the variance planes
    with `decorrelate.variance_kernel` of w correlated with A and B, and adds the error of the model
    (`residuals`).

    Parameters
    ----------
    science, reference : Side
        On one grid, background subtracted. Their `scale` and the `psf` of the reference are not used.
    kernel : MatchingKernel, optional; by default solved with `half_width` and `degree`
    psf : PsfModel, optional
        Of the science image, if it varies over the field; by default the stamp of `science`.
    lag : int, pixels
        To which the correlation of the noise is measured (`decorrelate.noise_correlation`); 0 takes it as
        white.
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
    bad_n, bad_r = unusable(science), unusable(reference)
    v_n, v_r = cleaned(science.variance, bad_n), cleaned(reference.variance, bad_r)
    n, r = cleaned(science.image, bad_n), cleaned(reference.image, bad_r)
    if kernel is None:
        kernel = match_kernel(n, r, (v_n, v_r), bad_n | bad_r, half_width=half_width, degree=degree)
    d, model, usable = subtract(n, r, bad_n, bad_r, kernel)
    sky = usable & ~sources(n, v_n) & ~sources(r, v_r)
    level = background(d, ~sky, box=mesh).level if mesh else np.zeros(n.shape, np.float32)
    d = np.where(usable, d - level, np.float32(0))
    ny, nx = n.shape
    sky &= ~new_sources(d, v_n, np.asarray(science.psf, np.float32))
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
    own: list[tuple[float, float, float]] = []
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
        own.append(
            _own(
                (q_n, q_r),
                (level_n, level_r),
                (science, reference),
                psf.at(node.x, node.y),
                kernel,
                response.sum(),
            )
        )
        white = noise.whitening(power, shape, half)
        maps["d"][part] += node.correlate(d, white)
    bad = ~usable | (maps["share"] < _KEPT)
    f_s = maps["f_s"] * np.maximum(maps["share"], np.float32(0.1))
    # The score is the difference of the two filtered images; one of them is the model.
    other = maps["score"] if kernel.direction == "reference" else -maps["score"]
    parts = maps["m"], maps["m"] + other
    if model_error is True:
        model_error = fit_model_error(maps["score"], maps["variance"], parts, ~bad)
    elif model_error is False:
        model_error = ModelError()
    extra = model_error.variance(*parts)
    middle = np.mean(own, axis=0).tolist()
    quiet = np.where(bad, np.float32(1), maps["variance"])
    null = null_variance(maps["score"], quiet, maps["blank"], (middle[0], middle[1], middle[2])) + extra
    scorr = np.where(bad, np.float32(0), maps["score"] / np.sqrt(null))
    variance = maps["variance"] + extra
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


def _gain(stamp: Stamp, shape: tuple[int, int]) -> Stamp:
    gain: Stamp = np.abs(np.fft.rfft2(noise.embed(stamp, shape))) ** 2
    return gain


def _responses(kernel: MatchingKernel, x: float, y: float) -> tuple[Stamp, Stamp]:
    """A and B at a place: with what the science image and the reference enter the difference."""
    stamp, one = kernel.at(x, y), np.ones((1, 1))
    if kernel.direction == "reference":
        return one, stamp
    return stamp / stamp.sum(), one / stamp.sum()


def _own(
    kernels: tuple[Stamp, Stamp],
    levels: tuple[float, float],
    sides: tuple[Side, Side],
    psf: NDArray[np.float32],
    kernel: MatchingKernel,
    f_s: float,
) -> tuple[float, float, float]:
    """Variance per score that a source of either image adds where it stands, and that noise adds.

    A source of flux alpha in a side of which the variance comes from its counts adds ``alpha scale P / gain``
    to the variance plane.
    """
    scale = kernel.scale() if kernel.direction == "reference" else 1 / kernel.scale()
    found, empty = [], []
    for q, level, side, stamp, flux in zip(
        kernels, levels, sides, (psf, sides[1].psf), (1.0, 1 / scale), strict=True
    ):
        half = min(q.shape[0], stamp.shape[0]) // 2
        inner_q, inner_p = (_middle(plane, half) for plane in (q, stamp))
        found.append(0.0 if side.gain is None else float(np.sum(inner_q * inner_p)) * flux / side.gain / f_s)
        empty.append(level * float(q.sum()))
    noise_slope = (found[0] * empty[0] - found[1] * empty[1]) / max(sum(empty), 1e-300)
    return found[0], found[1], noise_slope


def _middle(plane: NDArray[np.floating], half: int) -> NDArray[np.floating]:
    y, x = plane.shape[0] // 2, plane.shape[1] // 2
    return plane[y - half : y + half + 1, x - half : x + half + 1]
