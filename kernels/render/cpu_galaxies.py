"""Transforms of galaxies, frequency by frequency."""

import numpy as np

from skytrawl.kernels.jit import njit


@njit(fastmath=True)
def _at(table, place):  # type: ignore[no-untyped-def]
    """Linear interpolation; the last value beyond the end."""
    cell = int(place)
    if cell >= len(table) - 1:
        return table[-1]
    part = place - cell
    return table[cell] * (1.0 - part) + table[cell + 1] * part


@njit(fastmath=True)
def spectrum(waves, fold, centre, flux, shape, covariance, table, psf, scale):  # type: ignore[no-untyped-def]
    """Fill the half plane of frequencies of a real image that is `fold` times finer than the pixels."""
    rows, columns = waves.shape
    step = 2.0 * np.pi * fold / rows
    phase_x = np.empty(columns, np.complex128)
    pixel_x = np.empty(columns)
    for i in range(columns):
        k = step * i
        phase_x[i] = np.exp(-1j * k * centre[0])
        pixel_x[i] = np.sin(0.5 * k) / (0.5 * k) if i > 0 else 1.0
    # The inverse transform divides by the number of fine pixels, each fold^-2 of a pixel.
    level = flux * fold * fold
    for j in range(rows):
        n = j if j <= rows // 2 else j - rows
        ky = step * n
        phase_y = np.exp(-1j * ky * centre[1])
        pixel_y = level * (np.sin(0.5 * ky) / (0.5 * ky) if n != 0 else 1.0)
        for i in range(columns):
            kx = step * i
            blur = kx * (covariance[0] * kx + 2.0 * covariance[1] * ky) + covariance[2] * ky * ky
            seen = _at(psf, np.sqrt(max(blur, 0.0)) * scale)
            if seen < 1e-9:
                waves[j, i] = 0.0
                continue
            size = kx * (shape[0] * kx + 2.0 * shape[1] * ky) + shape[2] * ky * ky
            seen *= _at(table, np.sqrt(max(size, 0.0)) * scale) * pixel_x[i] * pixel_y
            waves[j, i] = seen * phase_x[i] * phase_y


@njit()
def add_plane(image, plane, fold, corner_x, corner_y):  # type: ignore[no-untyped-def]
    """Add every `fold`-th pixel of a plane whose first pixel lies on (corner_y, corner_x)."""
    ny, nx = image.shape
    for j in range(plane.shape[0] // fold):
        v = corner_y + j
        if v < 0 or v >= ny:
            continue
        for i in range(plane.shape[1] // fold):
            u = corner_x + i
            if 0 <= u < nx:
                image[v, u] += plane[j * fold, i * fold]
