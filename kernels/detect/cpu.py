"""Detection in Numba: one pass over the image, the rest over the pixels beyond the threshold."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.detect.dipoles import surroundings
from skytrawl.kernels.detect.interpolate import samples, table
from skytrawl.kernels.detect.label import find, neighbours, split
from skytrawl.kernels.detect.shapes import centroid, finish
from skytrawl.kernels.detect.types import Detection
from skytrawl.kernels.jit import njit


@njit()
def _islands(index, height, peak_of, bits, columns):  # type: ignore[no-untyped-def]
    """Peaks in raster order, and number, box, weighted sums of offsets and bits of the pixels of each."""
    n = len(index)
    number = np.empty(n, np.int64)
    count = 0
    for k in range(n):
        if peak_of[k] == k:
            number[k] = count
            count += 1
    peaks = np.empty(count, np.int64)
    pixels, flags = np.zeros(count, np.int64), np.zeros(count, np.uint16)
    box = np.empty((count, 4), np.int64)
    sums = np.zeros((count, 6))
    for k in range(n):
        o = number[peak_of[k]]
        x, y = index[k] % columns, index[k] // columns
        if peak_of[k] == k:
            peaks[o] = k
        if pixels[o] == 0:
            box[o] = (x, x, y, y)
        pixels[o] += 1
        flags[o] |= bits[index[k]]
        box[o, 0], box[o, 1] = min(box[o, 0], x), max(box[o, 1], x)
        box[o, 3] = y
        top = index[peak_of[k]]
        dx, dy, w = float(x - top % columns), float(y - top // columns), np.float64(height[k])
        sums[o, 0] += w
        sums[o, 1] += w * dx
        sums[o, 2] += w * dy
        sums[o, 3] += w * dx * dx
        sums[o, 4] += w * dy * dy
        sums[o, 5] += w * dx * dy
    return peaks, pixels, box, sums, flags


@njit()
def _nine(plane, peak_x, peak_y, sign):  # type: ignore[no-untyped-def]
    """Values times sign of the 3 x 3 pixels around each peak; NaN outside."""
    rows, columns = plane.shape
    nine = np.full((len(peak_x), 9), np.nan)
    for k in range(len(peak_x)):
        for j in range(3):
            for i in range(3):
                u, v = peak_x[k] + i - 1, peak_y[k] + j - 1
                if 0 <= u < columns and 0 <= v < rows:
                    nine[k, 3 * j + i] = sign[k] * np.float64(plane[v, u])
    return nine


def detect(
    score: NDArray[np.float32],
    flux: NDArray[np.float32],
    flux_error: NDArray[np.float32],
    mask: NDArray[np.uint16],
    difference: NDArray[np.float32],
    blank: NDArray[np.float32] | None,
    options: Detection,
) -> dict[str, NDArray[Any]]:
    """As `skytrawl.kernels.detect.detect`, for checked contiguous arrays."""
    rows, columns = score.shape
    exclude = np.uint16(options.exclude)
    index = find(score.ravel(), mask.ravel(), exclude, np.float32(options.threshold))
    value = score.ravel()[index]
    height = np.abs(value)
    peak_of = split(height, neighbours(index, value, columns), options.saddle)
    peaks, pixels, box, sums, flags = _islands(index, height, peak_of, mask.ravel(), columns)
    width = 1 + np.maximum(box[:, 1] - box[:, 0], box[:, 3] - box[:, 2])
    keep = pixels >= options.min_pixels
    if options.max_size is not None:
        keep &= width <= options.max_size
    peaks, pixels, sums, width, flags = peaks[keep], pixels[keep], sums[keep], width[keep], flags[keep]
    top = index[peaks]
    peak_x, peak_y = top % columns, top // columns
    peak = value[peaks]
    sign = np.sign(peak).astype(np.int8)
    x, y, x_error, y_error, size = centroid(
        _nine(flux, peak_x, peak_y, sign), peak_x, peak_y, np.abs(peak).astype(np.float64), np
    )
    fluxes, errors, orders = samples(flux, flux_error, x, y, table())
    at_peak = ~(np.isfinite(fluxes) & np.isfinite(errors))
    fluxes = np.where(at_peak, flux.ravel()[top], fluxes)
    errors = np.where(at_peak, flux_error.ravel()[top], errors)
    orders = np.where(at_peak, 1, orders).astype(np.int8)
    around = surroundings(
        score, flux, mask, difference, exclude, peak_x, peak_y, sign, flags, options.half, options.radius
    )
    blank_score = np.full_like(peak, np.nan) if blank is None else blank.ravel()[top]
    measured = {
        "x": x, "y": y, "x_error": x_error, "y_error": y_error, "peak_x": peak_x, "peak_y": peak_y,
        "sign": sign, "score": peak, "blank_score": blank_score, "flux": fluxes, "flux_error": errors,
        "order": orders, "n_pixels": pixels, "width": width, "size": size,
    }  # fmt: skip
    return finish(measured, sums, around, (rows, columns), options, np)
