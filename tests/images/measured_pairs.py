"""Pairs subtracted with PSF, scale and shift measured from the images themselves."""

import numpy as np
from pairs import Pair

from skytrawl.kernels.difference import Difference, subtract
from skytrawl.kernels.measure import match, measure
from skytrawl.kernels.resample.types import Planes

EDGE = 20  # pixels: PSFs of stars there are cut


def subtracted(pair: Pair) -> tuple[Difference, dict[str, float]]:
    """Difference of a pair, and by how much the measurements miss the truth."""
    found, planes = {}, {}
    for which in ("science", "reference"):
        image, variance = getattr(pair, which), pair.data_variance(which)
        found[which] = measure(image, variance=variance)
        above = image - found[which].background.level
        planes[which] = Planes(above, variance, np.zeros(image.shape, np.uint16))
    both = match(found["science"].stars, found["reference"].stars)
    difference = subtract(
        planes["science"],
        planes["reference"],
        found["science"].psf,
        found["reference"].psf,
        sigma_science=found["science"].background.sigma,
        sigma_reference=found["reference"].background.sigma,
        scale=both.scale,
        shift_error=(np.hypot(both.dx, both.dx_error), np.hypot(both.dy, both.dy_error)),
        gain_science=1.0,
        gain_reference=1.0,
    )
    misses = {
        "science width": found["science"].fwhm / pair.fwhm_science - 1,
        "reference width": found["reference"].fwhm / pair.fwhm_reference - 1,
        "scale": both.scale / pair.ratio - 1,
        "shift": float(np.hypot(both.dx - pair.shift[0], both.dy - pair.shift[1])),
    }
    wings = [both.scale_error / both.scale, *(one.common_error for one in found.values())]
    return difference, misses | {"scale pull": misses["scale"] / np.linalg.norm(wings)}


def around(pair: Pair) -> np.ndarray:
    """Inner pixels within 10 px of an injected source."""
    ny, nx = pair.science.shape
    y, x = np.mgrid[EDGE : ny - EDGE, EDGE : nx - EDGE]
    near = np.zeros(y.shape, bool)
    for source in pair.injected:
        near |= np.hypot(x - source["x"], y - source["y"]) < 10
    return near
