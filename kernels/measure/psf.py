"""The PSF from the stars of an image: a Moffat profile, and what the stars show beyond it."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.measure import cpu
from skytrawl.kernels.measure.photometry import PSF_SNR, Photometry
from skytrawl.kernels.measure.shape import Moffat, coefficients, half_width, oversampling, shape_modes
from skytrawl.kernels.psf import n_terms, polynomial_terms
from skytrawl.kernels.psf.spline import resampling

_FLOOR = 0.01  # part of a star by which no PSF is trusted: one bright star shall not be the PSF
_MAX_STARS = 800
# Stars that each term of the polynomial asks for.
_STARS_PER_TERM = 10


def fit_moffat(stars: Photometry, guess: Moffat, chosen: NDArray[np.int64]) -> Moffat:
    """Moffat profile common to the chosen stars by weighted least squares (Gauss-Newton).

    Flux and position of each star are eliminated from its normal equations (Schur complement), so that the
    profile does not creep. `stars` is left with the new profile as its PSF.
    """
    profile = guess
    for turn in range(8):
        half, k = half_width(profile.fwhm), oversampling(profile.fwhm)
        stars.set_psf(profile.samples(half, k)[None], k, 0)
        stars.sweep(2 if turn < 2 else 1, move=turn > 0)
        matrix, right, _ = normals(stars, profile.modes(half, k), chosen)
        step, which = _common(matrix, right)
        if turn:
            chosen = chosen[which]
        profile = profile.moved(np.clip(step, [-0.2, -0.1, -0.1, -0.3], [0.2, 0.1, 0.1, 0.3]))
        profile = Moffat(
            profile.log_alpha, profile.e1, profile.e2, float(np.clip(profile.log_beta, 0.5, 2.5))
        )
        if turn > 1 and np.abs(step[:3]).max() < 1e-3:
            break
    half, k = half_width(profile.fwhm), oversampling(profile.fwhm)
    stars.set_psf(profile.samples(half, k)[None], k, 0)
    return profile


def normals(
    stars: Photometry, modes: NDArray[np.float64], chosen: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Normal equations of the chosen stars, see `cpu.normals`."""
    n, p = len(chosen), len(modes) + 2
    matrix, right, fit = np.zeros((n, p, p)), np.zeros((n, p)), np.zeros((n, 2))
    half = int(min(stars.full, max(3, stars.full // 2)))
    cpu.normals(
        stars.rest, *stars.noise, coefficients(modes, stars.k)[None], stars.k, stars.x[chosen],
        stars.y[chosen], stars.flux[chosen], half, _FLOOR, matrix, right, fit,
    )  # fmt: skip
    return matrix, right, fit


def eliminated(
    matrix: NDArray[np.float64], right: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Normal equations of the shapes alone, flux and position of each star solved for."""
    own = matrix[:, :3, :3] + 1e-12 * np.einsum("nii->n", matrix[:, :3, :3])[:, None, None] * np.eye(3)
    cross = matrix[:, :3, 3:]
    solved = np.linalg.solve(own, np.concatenate([cross, right[:, :3, None]], axis=2))
    rest = matrix[:, 3:, 3:] - np.einsum("nia,nib->nab", cross, solved[:, :, :-1])
    return rest, right[:, 3:] - np.einsum("nia,ni->na", cross, solved[:, :, -1])


def _common(
    matrix: NDArray[np.float64], right: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Step of the common profile, and the stars whose own width agrees with it."""
    a, b = eliminated(matrix, right)
    own = b[:, 0] / np.maximum(a[:, 0, 0], 1e-300)
    error = 1 / np.sqrt(np.maximum(a[:, 0, 0], 1e-300))
    which = agreeing(own, error, 0.03)
    # A weak prior keeps faint fields from running away: beta = 3 within a factor 1.6.
    prior = np.diag([0.0, 100.0, 100.0, 4.0])
    step = np.linalg.solve(a[which].sum(axis=0) + prior, b[which].sum(axis=0))
    return step, which


def agreeing(
    value: NDArray[np.float64], error: NDArray[np.float64], intrinsic: float, clip: float = 4.0
) -> NDArray[np.bool_]:
    """Values within `clip` standard deviations of what most agree on.

    The centre is the median weighted by the inverse errors, so that a crowd of faint galaxies has little say.
    """
    weight = 1 / np.hypot(error, intrinsic)
    order = np.argsort(value)
    run = np.cumsum(weight[order])
    centre = value[order][np.searchsorted(run, 0.5 * run[-1])]
    scatter = 1.4826 * np.median(np.abs(value - centre) * weight)
    bound = clip * max(1.0, min(scatter, 3.0))
    return np.abs(value - centre) * weight < bound


def candidates(stars: Photometry, least_snr: float = PSF_SNR) -> NDArray[np.int64]:
    """Stars that may tell the PSF: bright, whole, not drowned by neighbours."""
    ny, nx = stars.data.shape
    core = max(2, round(stars.full / 5.5))
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = stars.flux / stars.error[:, 0]
    inside = (stars.x > core) & (stars.y > core) & (stars.x < nx - 1 - core) & (stars.y < ny - 1 - core)
    good = inside & (snr > least_snr) & clean(stars, 0.3)
    return np.flatnonzero(good)[:_MAX_STARS]


def clean(stars: Photometry, share: float) -> NDArray[np.bool_]:
    """Stars with all pixels usable within a FWHM and at most `share` of the central light from others."""
    ny, nx = stars.data.shape
    core = max(2, round(stars.full / 5.5))
    x, y = np.rint(stars.x).astype(np.int64), np.rint(stars.y).astype(np.int64)
    line = np.arange(-core, core + 1)
    rows = np.clip(y[:, None, None] + line[:, None], 0, ny - 1)
    columns = np.clip(x[:, None, None] + line[None, :], 0, nx - 1)
    disc = np.hypot(line[:, None], line[None, :]) <= core
    whole = ~(stars.unusable[rows, columns] & disc).any(axis=(1, 2))
    y, x = np.clip(y, 0, ny - 1), np.clip(x, 0, nx - 1)
    total = stars.data[y, x] - stars.rest[y, x]
    own = stars.flux * stars.samples[0].max()
    # The centre of a star lies up to 0.7 px from the middle of a pixel.
    return np.asarray(whole & (total - own < share * own), np.bool_)


def refine(
    stars: Photometry, base: NDArray[np.float64], chosen: NDArray[np.int64], degree: int, clip: float
) -> None:
    """Correct the PSF of `stars` by the mean residual of the chosen stars on the grid of its samples.

    The correction (against the profile `base`) is solved for each sample as a polynomial of the position
    (Anderson & King 2000 take means) and drawn towards zero where its noise exceeds it.
    """
    k, full = stars.k, stars.full
    # A wide PSF varies little between pixels, and so does the noise of what is put between them.
    per_pixel = 1 if stars.full >= half_width(2.4) else k
    n, terms = 2 * full * per_pixel + 1, n_terms(degree)
    matrix, right = np.zeros((terms * (terms + 1) // 2, n, n)), np.zeros((terms, n, n))
    place = polynomial_terms(*stars.unit(stars.x[chosen], stars.y[chosen]), degree)
    samples = stars.samples
    if len(samples) < terms:
        samples = np.concatenate([samples, np.zeros((terms - len(samples), *samples.shape[1:]))])
    stars.set_psf(samples, k, degree)
    cpu.gather(
        stars.rest, *stars.noise, stars.basis, place, k, stars.x[chosen], stars.y[chosen],
        stars.flux[chosen], full, 1.0 / per_pixel, 2 * _FLOOR, clip, matrix, right,
    )  # fmt: skip
    step, error = _solve(matrix, right)
    side = samples.shape[-1]
    fine = resampling(n, side, per_pixel / k, 0.0)
    coarse = resampling(side, n, k / per_pixel, 0.0)
    reference = np.zeros_like(samples)
    reference[0] = base
    known = coarse @ (samples - reference) @ coarse.T
    # An error of the sky, a fiftieth of its noise, is the same for all samples of a star.
    pedestal = 0.02**2 * float(np.median(stars.sky_variance[::7, ::7])) / np.sum(stars.flux[chosen] ** 2)
    shrunk = _shrink(known + step, error, per_pixel, pedestal)
    stars.set_psf(reference + fine @ shrunk @ fine.T, k, degree)


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
    correction: NDArray[np.float64], error: NDArray[np.float64], per_pixel: int, pedestal: float
) -> NDArray[np.float64]:
    """Take out of a correction what is mere noise, ring by ring around the centre.

    The mean of a ring is better known than its samples; each is multiplied by signal variance over signal
    plus noise variance (the Wiener filter), the signal being what exceeds the expected noise.
    """
    n = correction.shape[-1]
    line = (np.arange(n) - n // 2) / per_pixel
    radius = np.hypot(line[None, :], line[:, None])
    ring = np.rint(radius).astype(np.int64)
    rings = ring.max() + 1
    weight = 1 / error**2
    total = np.array([np.bincount(ring.ravel(), w.ravel(), rings) for w in weight])
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.array([np.bincount(ring.ravel(), w.ravel(), rings) for w in weight * correction]) / total
        noise = 1 / total + pedestal
        mean = np.where(total > 0, mean, 0.0)
        mean *= _wiener(mean**2, noise)
        smooth_mean = np.array([np.interp(radius, np.arange(rings), m) for m in mean])
        deviation = correction - smooth_mean
        count = np.maximum(np.bincount(ring.ravel(), minlength=rings), 1)
        power = np.array([np.bincount(ring.ravel(), p.ravel(), rings) for p in deviation**2 * weight]) / count
        factor = np.array([f[ring] for f in _wiener(power, np.ones_like(power))])
    factor = np.where(np.isfinite(factor), factor, 0.0)
    # Nothing is known beyond the circle in the square, and the edge must not be a step.
    edge = np.clip((n // 2 / per_pixel - radius) / (0.2 * n // 2 / per_pixel), 0, 1)
    return edge * (smooth_mean + factor * deviation)


def _wiener(power: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signal over signal plus noise, for powers that hold both, averaged over neighbouring rings."""
    kernel = np.array([0.25, 0.5, 0.25])

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        padded = np.pad(values, [(0, 0), (1, 1)], mode="edge")
        return np.array([np.convolve(row, kernel, "valid") for row in padded])

    power, noise = mean(power), mean(noise)
    return np.maximum(power - 1.5 * noise, 0) / np.maximum(power, 1e-300)


def field_degree(
    stars: Photometry,
    chosen: NDArray[np.int64],
    value: NDArray[np.float64],
    error: NDArray[np.float64],
    most: int,
) -> tuple[NDArray[np.int64], int]:
    """Drop stars whose width does not fit its surroundings; the degree that the rest asks for.

    Widths and stretches of the stars are fitted by polynomials of growing degree. A degree is taken if it
    lowers chi-square by more than noise would, ln(n) for each of its terms (Schwarz 1978), and if there are ten
    stars a term.

    Parameters
    ----------
    chosen : int64[n]
    value, error : float64[n, 3]
        Relative width and stretches against the PSF at the middle of the image.
    most : int
    """
    x, y = stars.unit(stars.x[chosen], stars.y[chosen])
    error = np.hypot(error, _FLOOR)
    keep = agreeing(value[:, 0], error[:, 0], 0.05)
    best, found, least = 0, keep, np.inf
    for degree in range(most + 1):
        terms = polynomial_terms(x, y, degree)
        if degree and keep.sum() < _STARS_PER_TERM * terms.shape[1]:
            break
        chi2, residual = 0.0, np.empty(len(chosen))
        for mode in range(3):
            w = np.where(keep, 1 / error[:, mode], 0.0)
            fit = np.linalg.lstsq(terms * w[:, None], value[:, mode] * w, rcond=None)[0]
            pull = (value[:, mode] - terms @ fit) / error[:, mode]
            if mode == 0:
                residual = pull
            chi2 += float(np.sum(np.minimum(pull[keep] ** 2, 25.0)))
        chi2 += 3 * terms.shape[1] * np.log(keep.sum())
        if chi2 < least:
            best, least, found = degree, chi2, np.abs(residual) < 4.0
    return chosen[found & keep], best
