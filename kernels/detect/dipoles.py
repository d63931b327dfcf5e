"""What lies around a peak: bits, bad and negative pixels, and the partner of a dipole, in Numba."""

import numpy as np

from skytrawl.kernels.jit import njit


@njit()
def surroundings(  # type: ignore[no-untyped-def]
    score, flux, mask, difference, exclude, peak_x, peak_y, sign, flags, half, radius
):
    """Look into the box and the circle around each peak.

    Parameters
    ----------
    score, flux, difference : float32[ny, nx]
    mask : uint16[ny, nx]
    exclude : uint16
    peak_x, peak_y : int64[n]
    sign : int8[n]
    flags : uint16[n], bits to begin with
    half : int, of the box
    radius : float, of the circle

    Returns
    -------
    flags : uint16[n]
    n_negative, n_bad : int64[n]
        Usable pixels of the box of the other sign in `difference`; pixels that are not usable or outside.
    partner : float32[n]
        The score in the circle that is farthest on the other side of zero, 0 where none is; the first in
        raster order of equal ones.
    squared : int64[n], squared distance of that pixel, -1 where there is none
    ratio : float64[n], minus its flux over the flux at the peak
    """
    rows, columns = score.shape
    n = len(peak_x)
    bits, n_negative, n_bad = flags.copy(), np.zeros(n, np.int64), np.zeros(n, np.int64)
    partner, squared, ratio = np.zeros(n, np.float32), np.full(n, -1, np.int64), np.zeros(n)
    reach, infinite, exclude = int(np.floor(radius)), np.float32(np.inf), np.uint32(exclude)
    for k in range(n):
        side = np.float32(sign[k])
        left, right = max(peak_x[k] - half, 0), min(peak_x[k] + half + 1, columns)
        low, high = max(peak_y[k] - half, 0), min(peak_y[k] + half + 1, rows)
        # Sums in variables of their own and of the width of a pixel: the loop runs over vectors of them.
        found, good, negative = np.uint32(0), np.int32(0), np.int32(0)
        for v in range(low, high):
            row, row_bits = difference[v, left:right], mask[v, left:right]
            for i in range(len(row)):
                bit, value = np.uint32(row_bits[i]), side * row[i]
                fine = np.int32(bit & exclude == 0) & np.int32(abs(value) < infinite)
                found |= bit
                good += fine
                negative += fine & np.int32(value < 0)
        bits[k] |= np.uint16(found)
        n_bad[k] = (2 * half + 1) ** 2 - good
        n_negative[k] = negative
        depth = np.float32(0.0)
        place = -1
        left, right = max(peak_x[k] - reach, 0), min(peak_x[k] + reach + 1, columns)
        for v in range(max(peak_y[k] - reach, 0), min(peak_y[k] + reach + 1, rows)):
            row = score[v, left:right]
            # Most rows hold nothing deeper, and that is seen without a branch a pixel.
            deeper = np.int32(0)
            for i in range(len(row)):
                deeper |= np.int32(-side * row[i] > depth)
            if deeper == 0:
                continue
            for i in range(len(row)):
                deep, u = -side * row[i], left + i
                if deep > depth and deep < np.inf and mask[v, u] & exclude == 0:
                    apart = (u - peak_x[k]) ** 2 + (v - peak_y[k]) ** 2
                    if apart <= radius * radius:
                        depth = deep
                        place = v * columns + u
                        squared[k] = apart
        if place >= 0:
            partner[k] = -sign[k] * depth
            ratio[k] = -np.float64(flux[place // columns, place % columns]) / np.float64(
                flux[peak_y[k], peak_x[k]]
            )
    return bits, n_negative, n_bad, partner, squared, ratio
