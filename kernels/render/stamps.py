"""Sources drawn with stamps of a PSF, and how well they can be measured."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def blurred(stamps: NDArray[np.floating], shape: Floats, index: Floats) -> NDArray[np.float32]:
    """Stamps of galaxies: PSF stamps convolved with Sersic profiles.

    Parameters
    ----------
    stamps : array of shape (n, ny, nx)
        PSF stamps, centred, pixel response included.
    shape : float64 array of shape (n, 3)
        xx, xy, yy of A A^T, see `galaxies.add_galaxies`.
    index : float64 array of shape (n,)
        Sersic indices.

    Returns
    -------
    float32 array of shape (n, my, mx)
        Larger than the PSF by what the widest galaxy needs; odd sides.
    """
    from scipy import fft

    from skytrawl.kernels.render.galaxies import STEP, sersic_transform

    n, ny, nx = stamps.shape
    width = np.sqrt(
        0.5 * (shape[:, 0] + shape[:, 2]) + np.hypot(0.5 * (shape[:, 0] - shape[:, 2]), shape[:, 1])
    )
    pad = int(np.ceil(5.0 * width.max(initial=0.0)))
    large = np.zeros((n, ny + 2 * pad, nx + 2 * pad), np.float64)
    large[:, pad : pad + ny, pad : pad + nx] = stamps
    rows = fft.next_fast_len(large.shape[1] + 2 * pad, real=True)
    columns = fft.next_fast_len(large.shape[2] + 2 * pad, real=True)
    waves = fft.rfft2(large, s=(rows, columns), workers=1)
    ky, kx = 2 * np.pi * fft.fftfreq(rows)[:, None], 2 * np.pi * fft.rfftfreq(columns)[None, :]
    for s in range(n):
        xx, xy, yy = shape[s]
        k = np.sqrt(np.maximum(xx * kx * kx + 2.0 * xy * kx * ky + yy * ky * ky, 0.0))
        table = sersic_transform(float(index[s]))
        waves[s] *= np.interp(k, STEP * np.arange(len(table)), table)
    result = fft.irfft2(waves, s=(rows, columns), workers=1)
    return np.ascontiguousarray(result[:, : large.shape[1], : large.shape[2]], np.float32)


def add(
    image: NDArray[np.floating], stamps: NDArray[np.floating], x: Floats, y: Floats, flux: Floats
) -> None:
    """Add stamps (n, ny, nx), already moved by x - rint(x), y - rint(y), times flux to an image in place."""
    from skytrawl.kernels.render.cpu_points import add_stamps

    add_stamps(image, np.ascontiguousarray(stamps), *_whole(x, y), np.ascontiguousarray(flux, np.float64))


def weigh(
    variance: NDArray[np.floating],
    bad: NDArray[np.bool_],
    stamps: NDArray[np.floating],
    x: Floats,
    y: Floats,
    flux: Floats,
    own: float = 0.0,
) -> tuple[Floats, Floats]:
    """Signal-to-noise that PSF photometry with optimal weights can reach, and how much of it is not masked.

    snr = flux sqrt(sum P^2 / V), Horne 1986, PASP 98, 609, equation 9.

    Parameters
    ----------
    variance : array of shape (ny, nx)
        Of the pixels, image units squared.
    bad : bool array of shape (ny, nx)
    stamps : array of shape (n, m, m)
        P, moved to the sub-pixel positions.
    x, y, flux : float64 array of shape (n,)
    own : float
        Variance per flux, 1 / gain, where ``variance`` lacks the noise of the sources themselves.

    Returns
    -------
    snr : float64 array of shape (n,)
        Signed as the flux; as if no pixel were masked.
    share : float64 array of shape (n,)
        Share of sum P^2 on pixels that are inside and not bad.
    """
    from skytrawl.kernels.render.cpu_points import weigh_stamps

    snr, share = np.zeros(len(flux)), np.zeros(len(flux))
    flux = np.ascontiguousarray(flux, np.float64)
    weigh_stamps(variance, bad, np.ascontiguousarray(stamps), *_whole(x, y), flux, own, snr, share)
    return snr, share


def _whole(x: Floats, y: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.rint(x).astype(np.int64), np.rint(y).astype(np.int64)
