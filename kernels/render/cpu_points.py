"""Point sources on pixels: elliptical Moffat profiles integrated over each pixel, and stamps of any PSF."""

import numpy as np

from skytrawl.kernels.jit import njit

# Gauss-Legendre nodes and weights on [-1/2, 1/2]; three in the core, two in the wings.
_THREE = np.array([-0.3872983346207417, 0.0, 0.3872983346207417])
_THREE_WEIGHTS = np.array([5.0, 8.0, 5.0]) / 18.0
_TWO = np.array([-0.28867513459481287, 0.28867513459481287])


@njit(fastmath=True)
def _pixel(dx, dy, qxx, qxy, qyy, beta, core):  # type: ignore[no-untyped-def]
    """Integral of (1 + r Q r)^-beta over the unit pixel whose centre lies at (dx, dy) from the source."""
    total = 0.0
    if dx * dx + dy * dy < core:
        for j in range(3):
            y = dy + _THREE[j]
            for i in range(3):
                x = dx + _THREE[i]
                u = 1.0 + x * (qxx * x + 2.0 * qxy * y) + qyy * y * y
                total += _THREE_WEIGHTS[i] * _THREE_WEIGHTS[j] * np.exp(-beta * np.log(u))
        return total
    for j in range(2):
        y = dy + _TWO[j]
        for i in range(2):
            x = dx + _TWO[i]
            u = 1.0 + x * (qxx * x + 2.0 * qxy * y) + qyy * y * y
            total += np.exp(-beta * np.log(u))
    return 0.25 * total


@njit(fastmath=True)
def add_moffats(image, x, y, flux, quadratic, beta, radius):  # type: ignore[no-untyped-def]
    """Add Moffat profiles to an image, each within its radius."""
    ny, nx = image.shape
    for s in range(len(x)):
        qxx, qxy, qyy = quadratic[s, 0], quadratic[s, 1], quadratic[s, 2]
        root = np.sqrt(qxx * qyy - qxy * qxy)
        norm = flux[s] * (beta - 1.0) / np.pi * root
        # Three nodes an axis out to about three widths, and at least four pixels.
        core = max(16.0, 9.0 / root)
        reach = radius[s] * radius[s]
        first = max(0, int(np.ceil(y[s] - radius[s])))
        last = min(ny - 1, int(np.floor(y[s] + radius[s])))
        left = max(0, int(np.ceil(x[s] - radius[s])))
        right = min(nx - 1, int(np.floor(x[s] + radius[s])))
        for j in range(first, last + 1):
            dy = j - y[s]
            for i in range(left, right + 1):
                dx = i - x[s]
                if dx * dx + dy * dy <= reach:
                    image[j, i] += norm * _pixel(dx, dy, qxx, qxy, qyy, beta, core)


@njit(fastmath=True)
def moffat_stamps(stamps, dx, dy, quadratic, beta):  # type: ignore[no-untyped-def]
    """Fill stamps with profiles of flux 1 that lie (dx, dy) from the centre of the middle pixel."""
    half = stamps.shape[1] // 2
    for s in range(len(dx)):
        qxx, qxy, qyy = quadratic[s, 0], quadratic[s, 1], quadratic[s, 2]
        root = np.sqrt(qxx * qyy - qxy * qxy)
        norm = (beta - 1.0) / np.pi * root
        core = max(16.0, 9.0 / root)
        for j in range(stamps.shape[1]):
            for i in range(stamps.shape[2]):
                value = _pixel(i - half - dx[s], j - half - dy[s], qxx, qxy, qyy, beta, core)
                stamps[s, j, i] = norm * value


@njit()
def add_stamps(image, stamps, column, row, flux):  # type: ignore[no-untyped-def]
    """Add stamps times flux, middle pixels on (row, column); what lies outside is lost."""
    ny, nx = image.shape
    half_y, half_x = stamps.shape[1] // 2, stamps.shape[2] // 2
    for s in range(len(flux)):
        for j in range(stamps.shape[1]):
            v = row[s] + j - half_y
            if v < 0 or v >= ny:
                continue
            for i in range(stamps.shape[2]):
                u = column[s] + i - half_x
                if 0 <= u < nx:
                    image[v, u] += flux[s] * stamps[s, j, i]


@njit()
def weigh_stamps(variance, bad, stamps, column, row, flux, own, snr, share):  # type: ignore[no-untyped-def]
    """Signal-to-noise of optimal weights, and the share of the squared PSF on usable pixels.

    ``own`` is the variance that a source adds per unit of its light; 0 if ``variance`` holds it already.
    """
    ny, nx = variance.shape
    half_y, half_x = stamps.shape[1] // 2, stamps.shape[2] // 2
    for s in range(len(flux)):
        information, usable, whole = 0.0, 0.0, 0.0
        for j in range(stamps.shape[1]):
            v = row[s] + j - half_y
            for i in range(stamps.shape[2]):
                u = column[s] + i - half_x
                p = np.float64(stamps[s, j, i])
                whole += p * p
                if v < 0 or v >= ny or u < 0 or u >= nx:
                    continue
                noise = variance[v, u] + own * max(flux[s] * p, 0.0)
                if noise > 0.0 and noise < np.inf:
                    information += p * p / noise
                    if not bad[v, u]:
                        usable += p * p
        snr[s] = flux[s] * np.sqrt(information)
        share[s] = usable / whole if whole > 0.0 else 0.0
