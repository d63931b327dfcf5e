"""Extended sources, drawn in Fourier space: exact for any PSF, sub-pixel position, shape and pixel."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Step and end of the tables of transforms; beyond the end the last value stands.
STEP = 0.02
_LENGTH = 10_000
# Widest Gaussian of a Sersic profile in half-light radii, which lets it fade beyond a few radii.
_WIDEST = 2.0
# So far a galaxy reaches, in half-light radii, and its PSF, in full widths.
_RADII, _WIDTHS = 7.0, 6.0
# Wider PSFs have nothing beyond the Nyquist frequency that could be folded back.
_SAMPLED = 4.0


@lru_cache(maxsize=16)
def sersic_mixture(index: float) -> tuple[Floats, Floats]:
    """A Sersic profile as a sum of round Gaussians.

    exp(-b r^(1/n)) is completely monotone in r^2 for n >= 1/2, so by Bernstein's theorem it is a mixture of
    Gaussians with positive weights; these are found by non-negative least squares on a grid of widths, as
    Hogg and Lang 2013, PASP 125, 719, do for n = 1 and 4. b after Ciotti and Bertin 1999, A&A 352, 447,
    equation 18. The widest Gaussian has sigma 2 to 2.5, so that the profile fades beyond about 5 radii; the
    half-light radius is that of the faded profile.

    Parameters
    ----------
    index : float
        n, from 0.5 (a Gaussian) to 6.

    Returns
    -------
    weight, sigma : float64 arrays of shape (k,)
        Weights sum to 1; sigma in half-light radii.
    """
    from scipy.optimize import nnls

    if index == 0.5:
        return np.ones(1), np.array([1.0 / np.sqrt(2.0 * np.log(2.0))])
    b = 2 * index - 1 / 3 + 4 / (405 * index) + 46 / (25515 * index**2)
    r = np.geomspace(0.01, 4.0, 400)
    sigma = np.geomspace(0.02, _WIDEST, 12)
    # Rings of equal width in log r, each weighted by the light in it; b^2n sets the scale to about 1.
    light = r * r * b ** (2 * index)
    basis = np.exp(-0.5 * (r[:, None] / sigma) ** 2) / sigma**2 * light[:, None]
    weight, _ = nnls(basis, np.exp(-b * r ** (1 / index)) * light, maxiter=1000)
    weight, sigma = weight[weight > 0] / weight.sum(), sigma[weight > 0]
    low, high = 0.1, 4.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        outside = weight @ np.exp(-0.5 * (middle / sigma) ** 2)
        low, high = (middle, high) if outside > 0.5 else (low, middle)
    return weight, sigma / high


@lru_cache(maxsize=16)
def sersic_transform(index: float) -> Floats:
    """Fourier transform of the profile of half-light radius 1 and flux 1 at |k| = 0, STEP, 2 STEP, ..."""
    weight, sigma = sersic_mixture(index)
    k = STEP * np.arange(_LENGTH)
    return np.asarray(np.exp(-0.5 * (k[:, None] * sigma) ** 2) @ weight)


@lru_cache(maxsize=64)
def moffat_transform(beta: float) -> Floats:
    """Fourier transform of a Moffat profile with a = 1 and flux 1: 2 (k/2)^(beta-1) K_(beta-1)(k) / Gamma.

    K is the modified Bessel function of the second kind, Gamma stands for Gamma(beta - 1); from the Hankel
    transform of (1 + r^2)^-beta (Gradshteyn and Ryzhik, 6.565.4).
    """
    from scipy.special import gamma, kv

    k = STEP * np.arange(_LENGTH)
    table = np.zeros(_LENGTH)
    table[0] = 1.0
    near = k[1:] < 600.0
    table[1:][near] = (
        2.0 * (k[1:][near] / 2.0) ** (beta - 1.0) * kv(beta - 1.0, k[1:][near]) / gamma(beta - 1.0)
    )
    return table


def add_galaxies(
    image: NDArray[np.floating],
    x: Floats,
    y: Floats,
    flux: Floats,
    shape: Floats,
    index: Floats,
    covariance: Floats,
    beta: float,
    fwhm: float,
) -> None:
    """Add galaxies seen through a Moffat PSF to an image, in place.

    The transform of galaxy, PSF and pixel is a product; it is folded at the Nyquist frequency where the PSF
    is so narrow that something lies beyond, and transformed back on a stamp around each galaxy.

    Parameters
    ----------
    image : float32 or float64 array of shape (ny, nx)
    x, y, flux : float64 array of shape (n,)
        Centres and integrated fluxes.
    shape : float64 array of shape (n, 3)
        xx, xy, yy of A A^T, A the map from the round galaxy of half-light radius 1 to pixels.
    index : float64 array of shape (n,)
        Sersic indices.
    covariance : float64 array of shape (n, 3)
        C of the PSF at each galaxy, see `moffat.MoffatField.covariances`.
    beta : float
    fwhm : float
        Of the PSF, pixels, which decides on the size of the stamps.
    """
    from scipy import fft

    from skytrawl.kernels.render.cpu_galaxies import add_plane, spectrum

    psf = moffat_transform(beta)
    fold = 2 if fwhm < _SAMPLED else 1
    major = np.sqrt(
        0.5 * (shape[:, 0] + shape[:, 2]) + np.hypot(0.5 * (shape[:, 0] - shape[:, 2]), shape[:, 1])
    )
    ny, nx = image.shape
    for s in range(len(x)):
        side = 2 * fft.next_fast_len(int(np.ceil(_RADII * major[s] + _WIDTHS * fwhm)), real=True)
        corner_x, corner_y = int(np.rint(x[s])) - side // 2, int(np.rint(y[s])) - side // 2
        if corner_x >= nx or corner_y >= ny or corner_x + side <= 0 or corner_y + side <= 0:
            continue
        waves = np.empty((fold * side, fold * side // 2 + 1), np.complex64)
        centre = np.array([x[s] - corner_x, y[s] - corner_y])
        table = sersic_transform(float(index[s]))
        spectrum(waves, fold, centre, flux[s], shape[s], covariance[s], table, psf, 1.0 / STEP)
        plane = fft.irfft2(waves, s=(fold * side, fold * side), workers=1, overwrite_x=True)
        add_plane(image, plane, fold, corner_x, corner_y)
