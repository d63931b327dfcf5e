"""Proper image subtraction in plain NumPy, complex128: equation by equation, for the tests of the others.

Zackay, Ofek & Gal-Yam (2016), ApJ 830, 27. Nothing is shared with the fast versions.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]


class Answer(NamedTuple):
    """D (eq. 13) with its PSF (eq. 14) and zero point (eq. 15), S (eq. 17), V(S), S_corr (eq. 25), F_S."""

    d: Plane
    psf_d: Plane
    f_d: float
    score: Plane
    variance: Plane
    scorr: Plane
    f_s: float


def _spectrum(stamp: Plane, shape: tuple[int, int]) -> NDArray[np.complex128]:
    """Transform of a stamp put with its middle on pixel [0, 0]."""
    plane = np.zeros(shape)
    plane[: stamp.shape[0], : stamp.shape[1]] = stamp
    return np.fft.fft2(np.roll(plane, (-(stamp.shape[0] // 2), -(stamp.shape[1] // 2)), (0, 1)))


def subtract(
    images: tuple[Plane, Plane],
    variances: tuple[Plane, Plane],
    psfs: tuple[Plane, Plane],
    sigmas: tuple[float, float],
    scales: tuple[float, float],
    shift_error: tuple[float, float] = (0.0, 0.0),
) -> Answer:
    """Subtract the second of two periodic images from the first.

    Parameters
    ----------
    images, variances : two of float[ny, nx]; without NaN
    psfs : two of float[py, px]
    sigmas, scales : two of float
    shift_error : (dx, dy), pixels
        The astrometric noise is that of eqs. 32 and 33 with central differences, of both halves of the score.

    Returns
    -------
    Answer
    """
    shape = images[0].shape
    (n, r), (sn, sr), (fn, fr) = (np.fft.fft2(image.astype(float)) for image in images), sigmas, scales
    pn, pr = (_spectrum(np.asarray(psf, float), shape) for psf in psfs)
    den = sn**2 * fr**2 * np.abs(pr) ** 2 + sr**2 * fn**2 * np.abs(pn) ** 2
    f_d = fr * fn / np.sqrt(sn**2 * fr**2 + sr**2 * fn**2)
    d_hat = (fr * pr * n - fn * pn * r) / np.sqrt(den)
    psf_hat = fr * fn * pr * pn / (f_d * np.sqrt(den))
    score = np.fft.ifft2(f_d * d_hat * np.conj(psf_hat)).real
    kn_hat = fn * fr**2 * np.conj(pn) * np.abs(pr) ** 2 / den
    kr_hat = fr * fn**2 * np.conj(pr) * np.abs(pn) ** 2 / den
    variance = np.zeros(shape)
    for hat, plane in ((kn_hat, variances[0]), (kr_hat, variances[1])):
        squared = np.fft.fft2(np.fft.ifft2(hat).real ** 2)
        variance += np.fft.ifft2(np.fft.fft2(plane.astype(float)) * squared).real
    noise = variance.copy()
    for half in (np.fft.ifft2(kn_hat * n).real, np.fft.ifft2(kr_hat * r).real):
        for delta, axis in ((shift_error[0], 1), (shift_error[1], 0)):
            slope = (np.roll(half, -1, axis) - np.roll(half, 1, axis)) / 2
            noise += delta**2 * slope**2
    f_s = float(np.mean(fn**2 * fr**2 * np.abs(pn) ** 2 * np.abs(pr) ** 2 / den))
    return Answer(
        np.fft.ifft2(d_hat).real,
        np.fft.ifft2(psf_hat).real,
        f_d,
        score,
        variance,
        score / np.sqrt(noise),
        f_s,
    )
