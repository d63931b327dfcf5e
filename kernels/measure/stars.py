"""Finding stars, and guessing how wide they are."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ImageError
from skytrawl.kernels.measure import cpu

_ENOUGH = 1024  # pixels: the middle of an image tells the width
_SIGMA = 2 * np.sqrt(2 * np.log(2))  # FWHM over sigma of a Gaussian


def smooth(data: NDArray[np.float32], fwhm: float) -> NDArray[np.float32]:
    """The image convolved with a Gaussian of this FWHM and sum 1."""
    sigma = fwhm / _SIGMA
    half = np.exp(-0.5 * (np.arange(int(np.ceil(3 * sigma)) + 1) / sigma) ** 2)
    return cpu.smooth(data, np.float32(half / (2 * half.sum() - half[0])))


def find_peaks(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    fwhm: float,
    threshold: float,
    known: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Peaks of the image smoothed with a Gaussian of the stars' width.

    A peak counts if it exceeds `threshold` standard deviations, rises above its surroundings by three, and
    above a tenth of what is `known` to lie there.

    Parameters
    ----------
    data : float32[ny, nx], sky subtracted
    variance : float32[ny, nx], of sky and known sources; huge where unusable
    fwhm : float, pixels
    threshold : float
    known : float32[ny, nx], optional
        Model of the sources that were subtracted from `data` already.

    Returns
    -------
    x, y : float64[n], pixels, to a fraction of a pixel
    height : float64[n], of the smoothed peaks in image units
    curvature : float64[n]
        Variance along one axis (pixels^2) of the Gaussian through the smoothed peak; NaN if it has none.
    """
    flat = smooth(data, fwhm)
    sigma = fwhm / _SIGMA
    narrowing = np.float32(1 / np.sqrt(4 * np.pi * sigma**2))
    index = cpu.peaks(flat, variance, np.float32(threshold) * narrowing, 1)
    y, x = np.divmod(index, flat.shape[1])
    if known is not None:
        # The model of a star leaves a part of it, which is not another star.
        fresh = flat[y, x] > 0.1 * known[y, x]
        y, x = y[fresh], x[fresh]
    height = flat[y, x].astype(np.float64)
    angle = np.arange(8) * np.pi / 4
    reach = 1.5 * fwhm
    ring_y = np.clip(np.rint(y[:, None] + reach * np.sin(angle)), 0, flat.shape[0] - 1).astype(np.int64)
    ring_x = np.clip(np.rint(x[:, None] + reach * np.cos(angle)), 0, flat.shape[1] - 1).astype(np.int64)
    rises = height - np.median(flat[ring_y, ring_x], axis=1)
    keep = rises > 3 * narrowing * np.sqrt(variance[y, x])
    y, x, height = y[keep], x[keep], height[keep]
    order = np.argsort(-height, kind="stable")
    y, x, height = y[order], x[order], height[order]
    offsets, curvatures = [], []
    with np.errstate(invalid="ignore", divide="ignore"):
        for dy, dx in ((0, 1), (1, 0)):
            left, right = np.log(flat[y - dy, x - dx]), np.log(flat[y + dy, x + dx])
            bend = 2 * np.log(height) - left - right
            offsets.append(np.nan_to_num(np.clip(0.5 * (right - left) / bend, -0.5, 0.5)))
            curvatures.append(1 / bend)
        curvature = np.where(np.minimum(*curvatures) > 0, np.sqrt(curvatures[0] * curvatures[1]), np.nan)
    return x + offsets[0], y + offsets[1], height, curvature


def first_width(data: NDArray[np.float32], variance: NDArray[np.float32]) -> float:
    """FWHM of the stars in pixels, to a tenth or so: the commonest curvature of bright peaks.

    Raises
    ------
    ImageError
        If no peak stands out.
    """
    fwhm = 2.5
    middle = tuple(slice(max(0, (n - _ENOUGH) // 2), (n + _ENOUGH) // 2) for n in data.shape)
    for _ in range(4):
        own = _narrow(data[middle], variance[middle], fwhm)
        if len(own) < 30 and max(data.shape) > _ENOUGH:
            own = _narrow(data, variance, fwhm)
        if not len(own):
            raise ImageError("no star stands out by 15 sigma: the PSF cannot be measured on this image")
        width = _SIGMA * np.exp(0.5 * _mode(np.log(own)))
        if abs(width / fwhm - 1) < 0.1:
            break
        fwhm = float(width)
    return fwhm


def _narrow(data: NDArray[np.float32], variance: NDArray[np.float32], fwhm: float) -> NDArray[np.float64]:
    """Variances (pixels^2) of the brightest peaks, without those as narrow as hot pixels and cosmic rays."""
    _, _, _, curvature = find_peaks(np.ascontiguousarray(data), variance, fwhm, 15.0)
    own = curvature[:300] - (fwhm / _SIGMA) ** 2
    return np.asarray(own[own > 0.25], np.float64)


def _mode(values: NDArray[np.float64]) -> float:
    """Half-sample mode (Robertson & Cryer 1974)."""
    values = np.sort(values)
    while len(values) > 3:
        half = (len(values) + 1) // 2
        begin = int(np.argmin(values[half - 1 :] - values[: len(values) - half + 1]))
        values = values[begin : begin + half]
    return float(np.median(values))
