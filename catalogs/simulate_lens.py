"""Magnification of a point source by one lens, and by a star with a planet."""

import numpy as np

# Beyond this distance from the centre of mass, in Einstein radii, a planet of at most 0.01 of the mass at a
# separation of 0.5 to 2 changes the magnification by less than a thousandth: the formula of one lens serves.
FAR = 3.0
_MOST = 1000.0


def paczynski(u: np.ndarray) -> np.ndarray:
    """Magnification of a point source by a single point lens (Paczynski 1986, ApJ 304, 1).

    Parameters
    ----------
    u : float array
        Distance of source and lens in Einstein radii.

    Returns
    -------
    float array
        At most 1000 (u = 0.001): a star has an extent.
    """
    square = np.maximum(np.square(u), _MOST**-2)
    return (square + 2) / np.sqrt(square * (square + 4))


def planetary(y1: np.ndarray, y2: np.ndarray, s: float, q: float) -> np.ndarray:
    """Magnification by a star and its planet; exact within 3 Einstein radii, one lens beyond.

    Parameters
    ----------
    y1, y2 : float arrays of one shape
        Source in Einstein radii of the total mass, from the centre of mass; the planet is on the side of
        positive y1.
    s : float
        Separation in Einstein radii.
    q : float
        Mass ratio, planet to star.

    Returns
    -------
    float array
        At most 1000.
    """
    u = np.hypot(y1, y2)
    found = paczynski(u)
    near = u < FAR
    found[near] = np.minimum(binary_magnification(y1[near], y2[near], s, q), _MOST)
    return found


def binary_magnification(y1: np.ndarray, y2: np.ndarray, s: float, q: float) -> np.ndarray:
    """Magnification of a point source by two point lenses: the lens equation solved as a polynomial.

    The conjugate of the complex lens equation is put into it, which leaves a polynomial of fifth order (Witt
    1990, A&A 236, 311). Its roots are the eigenvalues of companion matrices, two steps of Newton's method
    sharpen them, and the three or five that satisfy the lens equation itself are images.

    Parameters
    ----------
    y1, y2 : float arrays of shape (n,)
        Source in Einstein radii of the total mass, from the centre of mass; the second lens is on the side
        of positive y1.
    s : float
        Separation in Einstein radii.
    q : float
        Mass ratio of second and first lens.

    Returns
    -------
    float array of shape (n,)
        Infinite on a caustic.
    """
    if not np.size(y1):
        return np.zeros(np.shape(y1))
    first, second = 1 / (1 + q), q / (1 + q)
    # The origin moves to the second lens, whose images would else be lost in rounding where it is light.
    source = np.asarray(y1) - s * first + 1j * np.asarray(y2)
    star = -s
    roots = _roots(_polynomial(source, star, first, second))

    images = roots - source[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        bent = np.conj(first / (roots - star) + second / roots)
        shear = first / (roots - star) ** 2 + second / roots**2
        missed = np.abs(images - bent)
        each = 1 / np.abs(1 - np.abs(shear) ** 2)
    missed[~np.isfinite(missed)] = np.inf
    order = np.argsort(missed, axis=1)
    missed, each = (np.take_along_axis(values, order, 1) for values in (missed, each))
    five = missed[:, 4] < 1e-4
    # The last pair of images appears together; three images are always there.
    return each[:, :3].sum(axis=1) + np.where(five, each[:, 3:].sum(axis=1), 0.0)


def _polynomial(source: np.ndarray, star: float, first: float, second: float) -> np.ndarray:
    """Coefficients, highest order first, shape (n, 6); lenses at `star` and 0 on the real axis.

    With D = z (z - star) and the conjugate of z from the lens equation, the conjugates of z - star and z are
    A / D and B / D, so that (source - z) A B + D (first B + second A) = 0.
    """
    conjugate = np.conj(source)
    zero, one = np.zeros_like(source), np.ones_like(source)
    both = np.stack([zero, (first + second) * one, -second * star * one], -1)
    product = np.stack([one, -star * one, zero], -1)
    a = (conjugate - star)[:, None] * product + both
    b = conjugate[:, None] * product + both
    left = _times(np.stack([-one, source], -1), _times(a, b))
    right = _times(product, first * b + second * a)
    left[:, 1:] += right
    return left


def _times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Products of polynomials, row by row."""
    result = np.zeros((len(a), a.shape[1] + b.shape[1] - 1), np.complex128)
    for power in range(a.shape[1]):
        result[:, power : power + b.shape[1]] += a[:, power, None] * b
    return result


def _roots(coefficients: np.ndarray) -> np.ndarray:
    """Roots of polynomials, one a row; a leading zero gives roots far away, as it should."""
    leading = coefficients[:, 0]
    tiny = np.abs(leading) < 1e-12
    leading = np.where(tiny, 1e-12, leading)
    degree = coefficients.shape[1] - 1
    companion = np.zeros((len(coefficients), degree, degree), np.complex128)
    companion[:, 0] = -coefficients[:, 1:] / leading[:, None]
    companion[:, np.arange(1, degree), np.arange(degree - 1)] = 1
    roots = np.linalg.eigvals(companion)
    for _ in range(2):
        value, slope = np.zeros_like(roots), np.zeros_like(roots)
        for column in coefficients.T:
            slope = slope * roots + value
            value = value * roots + column[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            step = value / slope
        # Newton's step is only trusted where it is small: at a double root it is not.
        roots = roots - np.where(np.isfinite(step) & (np.abs(step) < 1e-3), step, 0)
    return roots
