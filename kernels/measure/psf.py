"""What the stars show beyond the profile that they share, on the samples of the PSF."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.measure import cpu
from skytrawl.kernels.measure.photometry import Photometry
from skytrawl.kernels.measure.profile import FLOOR
from skytrawl.kernels.measure.shape import half_width
from skytrawl.kernels.psf import n_terms, polynomial_terms
from skytrawl.kernels.psf.spline import resampling


def refine(stars: Photometry, base: NDArray[np.float64], chosen: NDArray[np.int64], clip: float) -> None:
    """Correct the PSF of `stars` by the mean residual of the chosen stars on the grid of its samples.

    The correction (against the planes `base` [n_terms, n, n] of a profile) is solved for each sample as a
    polynomial of the position (Anderson & King 2000 take means) and drawn towards zero where its noise
    exceeds it.
    """
    k, full = stars.k, stars.full
    # A wide PSF varies little between pixels, and so does the noise of what is put between them.
    per_pixel = 1 if stars.full >= half_width(2.4) else k
    degree, samples = stars.degree, stars.samples
    n, terms = 2 * full * per_pixel + 1, n_terms(degree)
    matrix, right = np.zeros((terms * (terms + 1) // 2, n, n)), np.zeros((terms, n, n))
    place = polynomial_terms(*stars.unit(stars.x[chosen], stars.y[chosen]), degree)
    cpu.gather(
        stars.rest, *stars.noise, stars.basis, place, stars.x[chosen], stars.y[chosen],
        stars.flux[chosen], full, 1.0 / per_pixel, 2 * FLOOR, clip, matrix, right,
    )  # fmt: skip
    step, error = _solve(matrix, right)
    side = samples.shape[-1]
    fine = resampling(n, side, per_pixel / k, 0.0)
    coarse = resampling(side, n, k / per_pixel, 0.0)
    known = coarse @ (samples - base) @ coarse.T
    # An error of the sky, a fiftieth of its noise, is the same for all samples of a star.
    pedestal = 0.02**2 * float(np.median(stars.sky_variance[::7, ::7])) / np.sum(stars.flux[chosen] ** 2)
    shrunk = _shrink(known + step, error, per_pixel, pedestal, stars.full / 5.5)
    stars.set_psf(base + fine @ shrunk @ fine.T, k, degree)


def _solve(
    matrix: NDArray[np.float64], right: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Polynomials [terms, n, n] for all samples, and their errors; zero and infinite where unmeasured."""
    terms, n, _ = right.shape
    full = np.zeros((n, n, terms, terms))
    row, column = np.tril_indices(terms)
    full[..., row, column] = full[..., column, row] = np.moveaxis(matrix, 0, -1)
    weight = full[..., 0, 0]
    measured = weight > 1e-3 * np.median(weight)
    ridge = np.where(measured, 1e-6 * weight, 1.0)[..., None, None] * np.eye(terms)
    inverse = np.linalg.inv(full + ridge)
    solution = np.einsum("yxab,byx->ayx", inverse, right)
    error = np.sqrt(np.einsum("yxaa->ayx", inverse))
    return np.where(measured, solution, 0.0), np.where(measured, error, np.inf)


def _shrink(
    correction: NDArray[np.float64], error: NDArray[np.float64], per_pixel: int, pedestal: float, fwhm: float
) -> NDArray[np.float64]:
    """Take out of a correction what is mere noise, ring by ring around the centre.

    It is taken apart into the means of rings, what is smooth over a third of the FWHM, and the rest; each is
    multiplied by signal variance over signal plus noise variance (the Wiener filter), the signal being what
    exceeds the expected noise. What extends over many samples is better known than single ones.
    """
    n = correction.shape[-1]
    line = (np.arange(n) - n // 2) / per_pixel
    radius = np.hypot(line[None, :], line[:, None])
    rings = Rings(np.rint(radius).astype(np.int64))
    known = np.isfinite(error)
    noise = np.where(known, error, 0.0) ** 2
    correction = np.where(known, correction, 0.0)
    weight = known / np.where(noise > 0, noise, 1.0)
    total = rings.sum(weight)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(total > 0, rings.sum(weight * correction) / total, 0.0)
        mean *= _wiener(mean**2, 1 / np.maximum(total, 1e-300) + pedestal)
    smooth_mean = np.array([np.interp(radius, np.arange(rings.count), m) for m in mean])
    deviation = np.where(known, correction - smooth_mean, 0.0)
    blur = np.exp(-0.5 * (np.subtract.outer(line, line) / (fwhm / 3)) ** 2)
    blur /= blur.sum(axis=1, keepdims=True)
    broad = blur @ deviation @ blur.T
    broad_noise = blur**2 @ noise @ (blur**2).T
    middle = np.diagonal(blur)
    own = middle[:, None] * middle[None, :]
    fine_noise = np.maximum(noise * (1 - 2 * own) + broad_noise, 0.0)
    result = smooth_mean
    for part, expected in ((broad, broad_noise), (deviation - broad, fine_noise)):
        result = result + part * _wiener(rings.mean(part**2), rings.mean(expected))[:, rings.ring]
    # Nothing is known beyond the circle in the square, and the edge must not be a step.
    reach = n // 2 / per_pixel
    return np.asarray(result * np.clip((reach - radius) / (0.2 * reach), 0, 1), np.float64)


class Rings:
    """Sums over rings of samples around the centre."""

    def __init__(self, ring: NDArray[np.int64]) -> None:
        self.ring, self.count = ring, int(ring.max()) + 1
        self.size = np.bincount(ring.ravel(), minlength=self.count)

    def sum(self, planes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums float64[terms, rings] of planes [terms, n, n]."""
        return np.array([np.bincount(self.ring.ravel(), p.ravel(), self.count) for p in planes])

    def mean(self, planes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Means float64[terms, rings]."""
        return self.sum(planes) / np.maximum(self.size, 1)


def _wiener(power: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signal over signal plus noise, for powers that hold both, averaged over neighbouring rings."""
    kernel = np.array([0.25, 0.5, 0.25])

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        padded = np.pad(values, [(0, 0), (1, 1)], mode="edge")
        return np.array([np.convolve(row, kernel, "valid") for row in padded])

    power, noise = mean(power), mean(noise)
    return np.maximum(power - 1.5 * noise, 0) / np.maximum(power, 1e-300)
