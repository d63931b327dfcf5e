"""What both kinds of subtraction with a kernel share: masks, empty sky, the subtraction itself."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.difference.constants import LEAST_VARIANCE, OWN_FROM, OWN_FULL
from skytrawl.kernels.difference.kernel import MatchingKernel
from skytrawl.kernels.difference.types import Side

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Stamp = NDArray[np.float64]

_LOST = 0.1  # share of the squared kernel on bad pixels above which a convolved pixel is bad
_NEW = 5.0  # sigma of the PSF-weighted difference above which there may be a transient
_SOURCE = 4.0  # sigma of the smoothed image above which a pixel is no empty sky


def unusable(side: Side) -> Mask:
    """Pixels of a side that carry no information."""
    finite = np.isfinite(side.image) & np.isfinite(side.variance) & (np.asarray(side.variance) > 0)
    found: Mask = ~finite if side.bad is None else ~finite | side.bad
    return found


def cleaned(plane: Image, bad: Mask) -> Image:
    """Plane in float32 with zeros where it is bad."""
    return np.where(bad, np.float32(0), np.asarray(plane, np.float32))


def sources(image: Image, variance: Image) -> Mask:
    """Pixels near light, judged on 5 x 5 pixels."""
    from scipy.ndimage import binary_dilation, uniform_filter

    level = uniform_filter(image, 5) > _SOURCE / 5 * np.sqrt(np.maximum(uniform_filter(variance, 5), 0))
    return np.asarray(binary_dilation(level, iterations=3), np.bool_)


def new_sources(d: Image, variance: Image, psf: Image) -> Mask:
    """Pixels near what is new in a difference, by the typical size of the PSF-weighted difference itself.

    Transients would otherwise pass for noise that is correlated like the PSF.
    """
    from scipy.ndimage import binary_dilation
    from scipy.signal import oaconvolve

    ratio = d / np.sqrt(np.where(variance > 0, variance, np.float32(np.inf)))
    seen = np.abs(oaconvolve(ratio, psf[::-1, ::-1], mode="same"))
    typical = 1.4826 * np.median(seen[ratio != 0]) if (ratio != 0).any() else 0.0
    return np.asarray(binary_dilation(seen > _NEW * typical, iterations=4), np.bool_)


def subtract(
    n: Image, r: Image, bad_n: Mask, bad_r: Mask, kernel: MatchingKernel
) -> tuple[Image, Image, Mask]:
    """Difference, model of the static sky in it, and the pixels that can be used."""
    from scipy.signal import oaconvolve

    forward = kernel.direction == "reference"
    target, other, bad_t, bad_o = (n, r, bad_n, bad_r) if forward else (r, n, bad_r, bad_n)
    scale = np.float32(kernel.scale())
    # A bad pixel of the convolved image is filled with what the other shows, so that its neighbours differ
    # little.
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


def null_variance(score: Image, variance: Image, blank: Image, own: tuple[float, float, float]) -> Image:
    """Variance of the score were there no source in one image only, as ZOGY's S_corr here has it.

    Parameters
    ----------
    score, variance, blank : float32[ny, nx]; blank is the variance on empty sky
    own : (science, reference, noise)
        Variance per score that a source of either image, and noise, adds to a variance taken from the counts.
    """
    ramp = np.clip((score**2 / variance - OWN_FROM**2) / (OWN_FULL**2 - OWN_FROM**2), 0, 1)
    above = np.where(score > 0, np.float32(own[0]), np.float32(-own[1]))
    slope = np.float32(own[2])
    taken = score * (slope + ramp.astype(np.float32) * (above - slope))
    return np.maximum(variance - taken, np.minimum(variance, np.float32(LEAST_VARIANCE) * blank))
