"""Which stars tell the PSF, and whether they ask for one that varies over the field."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.measure.photometry import PSF_SNR, Photometry
from skytrawl.kernels.measure.profile import FLOOR, Variation, agreeing
from skytrawl.kernels.psf import polynomial_terms, term_degrees

_MAX_STARS = 800
_CLIP = 3.0
# Stars that each term of the polynomial asks for.
_STARS_PER_TERM = 6
# Relative error of a width or stretch below which stars weigh the same.
_ALIKE = 0.003
_EVIDENCE = 6.0


def candidates(stars: Photometry, least_snr: float = PSF_SNR) -> NDArray[np.int64]:
    """Stars that may tell the PSF: bright, whole, not drowned by neighbours."""
    ny, nx = stars.data.shape
    core = max(2, round(stars.full / 5.5))
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = stars.flux / stars.error[:, 0]
    inside = (stars.x > core) & (stars.y > core) & (stars.x < nx - 1 - core) & (stars.y < ny - 1 - core)
    good = inside & (snr > least_snr) & clean(stars, 0.3) & stars.trusted()
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


def field_variation(
    stars: Photometry,
    chosen: NDArray[np.int64],
    value: NDArray[np.float64],
    error: NDArray[np.float64],
    most: int,
) -> tuple[NDArray[np.int64], Variation]:
    """Drop stars whose width does not fit its surroundings; how the rest varies.

    The width and both stretches of the stars are fitted by polynomials of growing degree. Each takes a higher
    degree if that lowers the information criterion of Schwarz (1978) for noise of unknown strength,
    n ln(chi-square) + terms ln(n), by 6 (strong evidence, Kass & Raftery 1995), and if there are six stars a
    term.

    Parameters
    ----------
    chosen : int64[n]
    value, error : float64[n, 3]
        Relative width and stretches against the PSF at the middle of the image.
    most : int
    """
    x, y = stars.unit(stars.x[chosen], stars.y[chosen])
    keep = agreeing(value[:, 0], np.hypot(error[:, 0], FLOOR), 0.05)
    error = np.hypot(error, _ALIKE)
    n, lowest = int(keep.sum()), np.full(3, np.inf)
    best, degrees, found = [np.zeros(1)] * 3, np.zeros(3, np.int64), keep
    for degree in range(most + 1):
        terms = polynomial_terms(x, y, degree)
        if degree and n < _STARS_PER_TERM * terms.shape[1]:
            break
        within = keep
        for _ in range(3):
            fits = np.array([_fitted(terms, value[:, k], within / error[:, k]) for k in range(3)])
            pulls = (value - terms @ fits.T) / error
            within = keep & (np.abs(pulls[:, 0]) < _CLIP)
        chi2 = np.minimum(pulls[keep] ** 2, _CLIP**2).sum(axis=0)
        criterion = n * np.log(np.maximum(chi2, 1e-30)) + terms.shape[1] * np.log(n)
        better = criterion < lowest - _EVIDENCE
        lowest = np.where(better, criterion, lowest)
        degrees[better] = degree
        best = [fits[k] if better[k] else best[k] for k in range(3)]
        if better[0]:
            found = within
    highest = int(degrees.max())
    of_term = term_degrees(highest)
    amplitude = np.zeros((3, len(of_term)))
    for k in range(3):
        amplitude[k, of_term <= degrees[k]] = best[k]
    amplitude[:, 0] = 0.0
    return chosen[found], Variation(highest, amplitude)


def _fitted(
    terms: NDArray[np.float64], value: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Coefficients of the terms by weighted least squares."""
    return np.asarray(np.linalg.lstsq(terms * weight[:, None], value * weight, rcond=None)[0])
