"""Classic subtraction: the sharper image blurred by a Gaussian, scaled, subtracted. The baseline."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.difference.basis import KernelBasis
from skytrawl.kernels.difference.matching import match_kernel
from skytrawl.kernels.difference.sides import cleaned, sources, subtract, unusable
from skytrawl.kernels.difference.types import Difference, Side
from skytrawl.kernels.measure.background import background


def gaussian_match(sharp: NDArray[np.floating], broad: NDArray[np.floating]) -> float:
    """Sigma in pixels of the Gaussian that turns one PSF stamp into another, by least squares.

    Parameters
    ----------
    sharp, broad : float[n, n], sum 1, odd sides
    """
    from scipy.ndimage import gaussian_filter
    from scipy.optimize import minimize_scalar

    half = max(sharp.shape[0], broad.shape[0]) // 2
    wide = [np.pad(np.asarray(p, np.float64), half - p.shape[0] // 2) for p in (sharp, broad)]

    def distance(sigma: float) -> float:
        return float(np.sum((gaussian_filter(wide[0], sigma, mode="constant") - wide[1]) ** 2))

    return float(minimize_scalar(distance, bounds=(0.0, half / 2), method="bounded").x)


def classic_difference(science: Side, reference: Side, *, mesh: int | None = 64) -> Difference:
    """Subtract after matching the PSFs with one Gaussian; noise is taken pixel by pixel.

    The flux ratio is fitted with the Gaussian as the only kernel (`match_kernel`). The score is the
    difference correlated with the PSF of the blurrier image, its variance ``sum P^2 V`` with V propagated
    through the squared Gaussian: correlations of pixels, those of the blurring included, are left out, as the
    usual programs do. Significances come out 15 to 40 % too large; `matched_difference` does it properly.

    Parameters
    ----------
    science, reference : Side
        On one grid, background subtracted; `scale` and `sigma` are not used.
    mesh : int or None, pixels
        Box in which the background of the difference is measured and subtracted.

    Returns
    -------
    Difference
        In image units of the science image.
    """
    from scipy.signal import oaconvolve

    bad_n, bad_r = unusable(science), unusable(reference)
    n, r = cleaned(science.image, bad_n), cleaned(reference.image, bad_r)
    v_n, v_r = cleaned(science.variance, bad_n), cleaned(reference.variance, bad_r)
    forward = bool(np.sum(np.square(reference.psf)) >= np.sum(np.square(science.psf)))
    sharp, broad = (reference.psf, science.psf) if forward else (science.psf, reference.psf)
    sigma = gaussian_match(sharp, broad)
    half = int(np.ceil(4 * sigma)) + 1
    offset = np.arange(-half, half + 1)
    # At sigma 0 the Gaussian is one pixel.
    profile = np.exp(-0.5 * (offset / max(sigma, 0.1)) ** 2)
    plane = np.outer(profile, profile)
    kernel = match_kernel(
        n,
        r,
        (v_n, v_r),
        bad_n | bad_r,
        basis=KernelBasis(plane[None] / plane.sum()),
        direction="reference" if forward else "science",
    )
    d, _, usable = subtract(n, r, bad_n, bad_r, kernel)
    if mesh:
        d = d - background(d, ~usable | sources(n, v_n) | sources(r, v_r), box=mesh).level
    d = np.where(usable, d, np.float32(0))
    blur = (kernel.middle**2).astype(np.float32)
    v_t, v_o = (v_n, v_r) if forward else (v_r, v_n)
    pixel = v_t + oaconvolve(v_o, blur, mode="same")
    if not forward:
        pixel = pixel / np.float32(kernel.scale() ** 2)
    weights = np.asarray(broad, np.float64)
    turned = np.ascontiguousarray(weights[::-1, ::-1], np.float32)
    score = oaconvolve(d, turned, mode="same")
    variance = np.maximum(oaconvolve(pixel * usable, turned**2, mode="same"), np.float32(1e-30))
    f_s = float(np.sum(weights**2))
    blank = float(np.median(pixel[usable])) * f_s if usable.any() else float("nan")
    scorr = np.where(usable, score / np.sqrt(variance), np.float32(0))
    return Difference(d, np.float32(weights), score, variance, scorr, f_s, blank, ~usable)
