"""Photometric scale and shift between two images, from the stars that both show."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ImageError
from skytrawl.kernels.measure.ratio import extra_scatter, flux_ratio
from skytrawl.kernels.measure.types import Match, Stars

_CLIP = 4.0
_TURNS = 20


def match(
    science: Stars,
    reference: Stars,
    *,
    radius: float = 3.0,
    least_snr: float = 10.0,
    least_stars: int = 3,
) -> Match:
    """Compare the PSF fluxes and positions of the same stars in two images on one grid of pixels.

    The scale is that of the constant stars, see :func:`flux_ratio`, the shift their weighted mean. A scatter
    beyond the errors is found and added to them (it also enters the errors of both results).

    Parameters
    ----------
    science, reference : Stars
    radius : float, pixels
        How far apart the images may lie.
    least_snr : float
        Signal to noise ratio that a star must have in both images.
    least_stars : int

    Raises
    ------
    ImageError
        If fewer than `least_stars` stars are common to both, or agree on one ratio of fluxes.
    """
    first, second = (_good(stars, least_snr) for stars in (science, reference))
    a, b = _pairs(science, reference, first, second, radius, (0.0, 0.0))
    if len(a) >= least_stars:
        shift = (
            float(np.median(reference.x[b] - science.x[a])),
            float(np.median(reference.y[b] - science.y[a])),
        )
        a, b = _pairs(science, reference, first, second, max(0.3 * radius, 1.0), shift)
    if len(a) < least_stars:
        raise ImageError(
            f"{len(a)} stars are common to the science image and its reference ({len(first)} and "
            f"{len(second)} usable ones): scale and shift need {least_stars}"
        )
    scale, scale_error, scale_scatter, use = flux_ratio(
        science.flux[a], science.flux_error[a], reference.flux[b], reference.flux_error[b]
    )
    if use.sum() < least_stars:
        raise ImageError(
            f"{int(use.sum())} of {len(a)} common stars agree on one ratio of fluxes between the science "
            f"image and its reference: scale and shift need {least_stars}"
        )
    shifts = []
    for axis in ("x", "y"):
        difference = getattr(reference, axis)[b] - getattr(science, axis)[a]
        error = np.hypot(getattr(reference, axis + "_error")[b], getattr(science, axis + "_error")[a])
        shifts.append(_mean(difference[use], error[use]))
    (dx, dx_error, sx), (dy, dy_error, sy) = shifts
    return Match(
        scale=scale,
        scale_error=scale_error,
        dx=dx,
        dy=dy,
        dx_error=dx_error,
        dy_error=dy_error,
        n_stars=int(use.sum()),
        scale_scatter=scale_scatter,
        shift_scatter=float(np.sqrt((sx**2 + sy**2) / 2)),
        science=a[use],
        reference=b[use],
    )


def _good(stars: Stars, least_snr: float) -> NDArray[np.int64]:
    """Rows that may be compared: clean, bright, and no wider or narrower than a star can be."""
    with np.errstate(invalid="ignore"):
        pointlike = np.abs(stars.width) < np.maximum(0.1, 4 * stars.width_error)
        return np.flatnonzero(stars.clean & (stars.snr > least_snr) & pointlike)


def _pairs(
    science: Stars,
    reference: Stars,
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    radius: float,
    shift: tuple[float, float],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of stars that are each other's nearest, the reference lying `shift` away."""
    from scipy.spatial import cKDTree

    if not len(a) or not len(b):
        return a[:0], b[:0]
    first = np.c_[science.x[a] + shift[0], science.y[a] + shift[1]]
    second = np.c_[reference.x[b], reference.y[b]]
    distance, there = cKDTree(second).query(first, distance_upper_bound=radius)
    _, back = cKDTree(first).query(second)
    near = np.isfinite(distance)
    near[near] = back[there[near]] == np.flatnonzero(near)
    return a[near], b[there[near]]


def _mean(value: NDArray[np.float64], error: NDArray[np.float64]) -> tuple[float, float, float]:
    """Weighted mean with its error after clipping, and the scatter beyond the errors."""
    use, scatter = np.ones(len(value), bool), 0.0
    mean = float(_weighted_median(value, 1 / error))
    for _ in range(_TURNS):
        total = np.hypot(error, scatter)
        use = np.abs(value - mean) < _CLIP * np.hypot(total, 0.01)
        w = use / total**2
        new = float(np.sum(w * value) / np.sum(w))
        scatter = extra_scatter(value - new, error**2, np.ones(len(value)), use)
        done = abs(new - mean) < 1e-9
        mean = new
        if done:
            break
    return mean, float(1 / np.sqrt(np.sum(use / (error**2 + scatter**2)))), scatter


def _weighted_median(value: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    order = np.argsort(value)
    run = np.cumsum(weight[order])
    return float(value[order][np.searchsorted(run, 0.5 * run[-1])])
