"""Noise of a matched difference: how its pixels are correlated, and the filter that allows for it.

A pixel's noise is written ``n(x) = s(x) g(x)`` with s^2 the variance plane and g stationary with the
correlation rho (1 at lag 0). A weighted sum ``sum_v w(v) n(x + v)`` then has the variance ``sum_v s^2(x + v)
w(v) (rho * w)(v)``, where s(v) s(v') is replaced by the mean of s^2(v) and s^2(v'): exact where s is
constant, else right to second order.
"""

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ImageError

Stamp = NDArray[np.float64]

_FLOOR = 0.02  # of the mean noise power: a frequency without noise would get an infinite weight


def embed(stamp: Stamp, shape: tuple[int, int]) -> Stamp:
    """Place a stamp so that its middle pixel comes to [0, 0], periodically; what exceeds `shape` is cut."""
    ny, nx = stamp.shape
    cut_y, cut_x = max(0, -(-(ny - shape[0]) // 2)), max(0, -(-(nx - shape[1]) // 2))
    inner = stamp[cut_y : ny - cut_y, cut_x : nx - cut_x]
    plane = np.zeros(shape)
    plane[: inner.shape[0], : inner.shape[1]] = inner
    return np.roll(plane, (-(inner.shape[0] // 2), -(inner.shape[1] // 2)), (0, 1))


def cross_correlation(
    first: NDArray[np.float32], second: NDArray[np.float32], usable: NDArray[np.bool_], lag: int
) -> Stamp:
    """Mean of ``first(x) second(x + l)`` over pairs of usable pixels.

    Returns
    -------
    float64[2 lag + 1, 2 lag + 1], lag (0, 0) in the middle

    Raises
    ------
    ImageError
        If fewer than 1000 pairs are left at some lag.
    """
    from scipy.fft import irfft2, next_fast_len, rfft2

    ny, nx = (next_fast_len(n + lag, real=True) for n in usable.shape)
    a = rfft2(np.where(usable, first, np.float32(0)), (ny, nx))
    b = rfft2(np.where(usable, second, np.float32(0)), (ny, nx))
    mask = rfft2(usable.astype(np.float32), (ny, nx))
    lags = np.arange(-lag, lag + 1)
    total = irfft2(np.conj(a) * b, (ny, nx))[np.ix_(lags, lags)]
    count = irfft2(np.abs(mask) ** 2, (ny, nx))[np.ix_(lags, lags)]
    if count.min() < 1000:
        raise ImageError("fewer than 1000 pixels of empty sky are left to measure the correlation of noise")
    mean: Stamp = total.astype(np.float64) / count
    return mean


def noise_correlation(
    difference: NDArray[np.float32],
    image: NDArray[np.float32],
    variance: NDArray[np.float32],
    usable: NDArray[np.bool_],
    kernel: Stamp,
    lag: int = 3,
) -> tuple[Stamp, float]:
    """Correlation of the noise of one image, measured on a difference that it entered.

    The autocorrelation of an image's empty sky holds faint stars as well; they cancel in the difference D.
    Only the image's own noise is common to D = k * I + (another image) and I:
    ``<D(x) I(x + l)> = (k reversed * c)(l)``, c the covariance of I's noise, which is solved for at lags up
    to `lag` by least squares.

    Parameters
    ----------
    difference, image : float32[ny, nx], without large-scale background
    variance : float32[ny, nx], of the image
    usable : bool[ny, nx], empty sky
    kernel : float64[k, k], with what the image entered the difference, sign included
    lag : int, pixels

    Returns
    -------
    correlation : float64[2 lag + 1, 2 lag + 1], 1 in the middle
    amplitude : float, measured variance over the variance plane
    """
    sigma = np.sqrt(np.where(usable, variance, np.float32(1))).astype(np.float32)
    wide = lag + min(kernel.shape[0] // 2, 4)
    first = np.divide(difference, sigma)
    seen = cross_correlation(first, np.divide(image, sigma), usable, wide)
    shape = (4 * wide + kernel.shape[0], 4 * wide + kernel.shape[0])
    response = np.conj(np.fft.rfft2(embed(kernel, shape)))
    lags = np.arange(-wide, wide + 1)
    columns, places = [], []
    for j in range(lag + 1):
        for i in range(-lag, lag + 1):
            if j == 0 and i < 0:
                continue
            unit = np.zeros(shape)
            unit[j, i] = unit[-j, -i] = 1.0
            columns.append(np.fft.irfft2(np.fft.rfft2(unit) * response, shape)[np.ix_(lags, lags)].ravel())
            places.append((j, i))
    # Prior: white noise of the given variance; each covariance uncertain by exp(-lag).
    columns_, places_ = np.stack(columns, axis=1), np.array(places)
    spread = np.exp(-np.hypot(places_[:, 0], places_[:, 1]))
    start = (places_ == 0).all(axis=1).astype(np.float64)
    middle = seen.shape[0] // 2
    error = np.sqrt(float(np.mean(np.square(first[usable]))) / int(usable.sum())) + 1e-12 * abs(
        seen[middle, middle]
    )
    scaled = np.concatenate([columns_ / error, np.diag(1 / spread)])
    wanted = np.concatenate([seen.ravel() / error, start / spread])
    found = np.linalg.lstsq(scaled, wanted, rcond=None)[0]
    covariance = np.zeros((2 * lag + 1, 2 * lag + 1))
    for (j, i), value in zip(places, found, strict=True):
        covariance[lag + j, lag + i] = covariance[lag - j, lag - i] = value
    amplitude = float(covariance[lag, lag])
    if not amplitude > 0:
        raise ImageError(f"the noise on empty sky came out with a variance of {amplitude:g}: is it flat?")
    return covariance / amplitude, amplitude


def white(lag: int = 0) -> Stamp:
    """Correlation of white noise."""
    stamp = np.zeros((2 * lag + 1, 2 * lag + 1))
    stamp[lag, lag] = 1.0
    return stamp


def power(correlation: Stamp, shape: tuple[int, int]) -> Stamp:
    """Power spectrum of a correlation on a grid (rfft2 layout), at least 2 % of its mean."""
    spectrum = np.fft.rfft2(embed(correlation, shape)).real
    return np.maximum(spectrum, _FLOOR * correlation[correlation.shape[0] // 2, correlation.shape[1] // 2])


def convolved(first: Stamp, second: Stamp) -> Stamp:
    """Full convolution of two stamps with odd sides; the middle stays in the middle."""
    from scipy.signal import fftconvolve

    return np.asarray(fftconvolve(first, second), np.float64)


def variance_kernel(weights: Stamp, correlation: Stamp) -> Stamp:
    """Kernel w (rho * w) that sums a variance plane to the variance of a weighted sum.

    It is evaluated where the weights are, and may have negative values.
    """
    from scipy.signal import fftconvolve

    return np.asarray(weights * fftconvolve(weights, correlation, mode="same"), np.float64)


def matched_weights(template: Stamp, noise_power: Stamp, shape: tuple[int, int], half: int) -> Stamp:
    """Weights that find `template` in a difference by correlation, cut to 2 half + 1 pixels.

    The matched filter ``T / P`` of the frequencies; cut off smoothly, so that it is no longer quite optimal,
    but all that is computed with the weights stays exact for them.

    Parameters
    ----------
    template : float64[n, n], the PSF in the difference
    noise_power : float64, power spectrum of the difference's noise on the grid (rfft2 layout)
    shape : of the grid
    half : int, pixels
    """
    plane = np.fft.irfft2(np.fft.rfft2(embed(template, shape)) / noise_power, shape)
    offset = np.arange(-half, half + 1)
    edge = np.clip((half + 1 - np.abs(offset)) / (0.3 * half + 1), 0, 1)
    window = np.sin(0.5 * np.pi * edge) ** 2
    weights: Stamp = plane[np.ix_(offset, offset)] * np.outer(window, window)
    return weights


def whitening(noise_power: Stamp, shape: tuple[int, int], half: int) -> Stamp:
    """Kernel that makes noise of this power white, scaled to leave its low frequencies as they are.

    Of Reiss & Lupton (2016, LSST DMTN-021), here for noise that is correlated before the matching too.
    """
    root = 1 / np.sqrt(noise_power)
    plane = np.fft.irfft2(root / root[0, 0], shape)
    offset = np.arange(-half, half + 1)
    kernel: Stamp = plane[np.ix_(offset, offset)]
    return kernel / kernel.sum()
