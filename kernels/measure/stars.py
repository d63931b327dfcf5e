"""Finding stars, and guessing how wide they are."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ImageError
from skytrawl.kernels.measure import cpu

_DENSE, _SEVERAL = 0.25, 4
_PEAKS = 400  # brightest ones that are looked at
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
    for _ in range(5):
        own, error = _widths(data[middle], variance[middle], fwhm)
        if len(own) < 30 and max(data.shape) > _ENOUGH:
            own, error = _widths(data, variance, fwhm)
        if not len(own):
            raise ImageError("no star stands out by 15 sigma: the PSF cannot be measured on this image")
        width = _SIGMA * np.exp(locus(own, error))
        if abs(width / fwhm - 1) < 0.1:
            break
        fwhm = float(width)
    return fwhm


def as_wide(
    height: NDArray[np.float64],
    curvature: NDArray[np.float64],
    noise: NDArray[np.float64],
    fwhm: float,
    smoothed: float,
) -> NDArray[np.bool_]:
    """Peaks of an image smoothed with a FWHM `smoothed` that are about as wide as `fwhm` before that.

    Parameters
    ----------
    height, curvature : float64[n], of `find_peaks`
    noise : float64[n], of a pixel
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        own = curvature - (smoothed / _SIGMA) ** 2
        error = curvature / own * noise / np.sqrt(4 * np.pi) * _SIGMA / smoothed / height
        return np.asarray(np.abs(0.5 * np.log(own) - np.log(fwhm / _SIGMA)) < 2 * np.hypot(0.06, error))


def _widths(
    data: NDArray[np.float32], variance: NDArray[np.float32], fwhm: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logarithms of the widths (sigma, pixels) of the brightest peaks with errors.

    Those as narrow as hot pixels and cosmic rays are left out.
    """
    x, y, height, curvature = find_peaks(np.ascontiguousarray(data), variance, fwhm, 15.0)
    own = curvature[:_PEAKS] - (fwhm / _SIGMA) ** 2
    rows = np.clip(np.rint(y[:_PEAKS]), 0, data.shape[0] - 1).astype(np.int64)
    columns = np.clip(np.rint(x[:_PEAKS]), 0, data.shape[1] - 1).astype(np.int64)
    noise = np.sqrt(variance[rows, columns] / (4 * np.pi)) * _SIGMA / fwhm
    keep = own > 0.25
    # The width of a smoothed peak is known to about the inverse of its signal to noise ratio.
    error = (curvature[:_PEAKS] / own * noise / height[:_PEAKS])[keep]
    return 0.5 * np.log(own[keep]), np.hypot(0.04, error)


def locus(value: NDArray[np.float64], error: NDArray[np.float64]) -> float:
    """Where the widths of stars lie among those of everything.

    Stars have one width, galaxies and blends many, all larger: of the places where values are dense (a
    quarter of what they are anywhere, each value having the weight of its error, and several together) the
    narrowest is that of the stars.
    """
    apart = (value[:, None] - value[None, :]) / error[None, :]
    alike = np.exp(-0.5 * apart**2)
    density, count = (alike / error[None, :] ** 2).sum(axis=1), alike.sum(axis=1)
    order = np.argsort(value)
    value, density, count = value[order], density[order], count[order]
    several = count >= min(_SEVERAL, 0.5 * count.max())
    first = int(np.argmax(several & (density >= _DENSE * density[several].max())))
    # Up from there to the top of this clump: no value within an error of it is denser.
    while True:
        near = np.flatnonzero(np.abs(value - value[first]) <= error[order][first])
        top = int(near[np.argmax(density[near])])
        if top == first:
            return float(value[top])
        first = top
