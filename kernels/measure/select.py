"""Which stars tell the PSF, and whether they ask for one that varies over the field."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.measure.photometry import PSF_SNR, Photometry
from skytrawl.kernels.measure.profile import CONSTANT, FLOOR, Variation, agreeing
from skytrawl.kernels.psf import polynomial_terms

_MAX_STARS = 800
_CLIP = 3.0
# Stars that each term of the polynomial asks for.
_STARS_PER_TERM = 10


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

    Widths and stretches of the stars are fitted by polynomials of growing degree. A degree is taken if it
    lowers chi-square of one of them by more than ln(n) for each term (Schwarz 1978), and if there are ten
    stars a term.

    Parameters
    ----------
    chosen : int64[n]
    value, error : float64[n, 3]
        Relative width and stretches against the PSF at the middle of the image.
    most : int
    """
    x, y = stars.unit(stars.x[chosen], stars.y[chosen])
    error = np.hypot(error, FLOOR)
    keep = agreeing(value[:, 0], error[:, 0], 0.05)
    best, found, most_gain, first = CONSTANT, keep, 0.0, np.zeros(3)
    for degree in range(most + 1):
        terms = polynomial_terms(x, y, degree)
        if degree and keep.sum() < _STARS_PER_TERM * terms.shape[1]:
            break
        within, pulls = keep, np.empty_like(value)
        for _ in range(3):
            fits = []
            for mode in range(3):
                w = np.where(within, 1 / error[:, mode], 0.0)
                fits.append(np.linalg.lstsq(terms * w[:, None], value[:, mode] * w, rcond=None)[0])
                pulls[:, mode] = (value[:, mode] - terms @ fits[-1]) / error[:, mode]
            within = keep & (np.abs(pulls[:, 0]) < _CLIP)
        chi2 = np.minimum(pulls[keep] ** 2, _CLIP**2).sum(axis=0)
        amplitude = np.array(fits)
        amplitude[:, 0] = 0.0
        if degree == 0:
            first = chi2
        gain = np.maximum(first - chi2 - (terms.shape[1] - 1) * np.log(keep.sum()), 0.0).sum()
        if degree == 0 or gain > most_gain:
            best, most_gain, found = Variation(degree, amplitude), gain, within
    return chosen[found], best
