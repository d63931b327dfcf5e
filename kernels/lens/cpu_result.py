"""Fluxes, errors and residuals that belong to fitted lenses, in Numba."""

import math

import numpy as np

from skytrawl.kernels.jit import njit
from skytrawl.kernels.lens.cpu_sums import CONSTANT

# Least u^2, as in jacscanomaly (u >= 1e-12).
LEAST = 1e-24


@njit()
def magnification(since, tE, u0):  # type: ignore[no-untyped-def]
    """A point lens's magnification at `since` days after t0 (Paczynski 1986, ApJ 304, 1)."""
    tau = since / tE
    q = max(u0 * u0 + tau * tau, LEAST)
    return (q + 2.0) / math.sqrt(q * (q + 4.0))


@njit()
def _excess(since, tE, u0):  # type: ignore[no-untyped-def]
    """Magnification less 1, without a difference of near equals."""
    tau = since / tE
    q = max(u0 * u0 + tau * tau, LEAST)
    s = math.sqrt(q * (q + 4.0))
    return 4.0 / (s * (q + 2.0 + s))


@njit()
def _invert(matrix, out):  # type: ignore[no-untyped-def]
    """Invert a symmetric 3 x 3 matrix in units of its diagonal; False (and NaN) if that is singular."""
    out[:, :] = np.nan
    root = np.empty(3)
    for k in range(3):
        if not matrix[k, k] > 0.0:
            return False
        root[k] = math.sqrt(matrix[k, k])
    a = matrix[0, 1] / root[0] / root[1]
    b = matrix[0, 2] / root[0] / root[2]
    c = matrix[1, 2] / root[1] / root[2]
    det = 1.0 + 2.0 * a * b * c - a * a - b * b - c * c
    if not det > 1e-14:
        return False
    out[0, 0], out[1, 1], out[2, 2] = 1.0 - c * c, 1.0 - b * b, 1.0 - a * a
    out[0, 1], out[0, 2], out[1, 2] = b * c - a, a * c - b, a * b - c
    for k in range(3):
        for m in range(k, 3):
            out[k, m] /= det * root[k] * root[m]
            out[m, k] = out[k, m]
    return True


@njit()
def _error(variance):  # type: ignore[no-untyped-def]
    """Square root of a variance; NaN where rounding has made one of a degenerate lens negative."""
    return math.sqrt(variance) if variance >= 0.0 else math.nan


@njit()
def fluxes(time, flux, weight, rows, lens, matrix, mean, unit, total, covariance, out_sets):  # type: ignore[no-untyped-def]
    """Fluxes of each data set and all errors.

    Parameters
    ----------
    time, flux, weight, rows, total
        As `cpu_sums.normal` takes them.
    lens : float64[3]
        t0 from the reference, ln tE, u0.
    matrix : float64[3, 3]
        J^T J at the lens.
    mean, unit : float64[n_sets]
        Fluxes are ``mean + unit * flux``.
    covariance : float64[3, 3], filled, by (t0, tE, u0)
    out_sets : float64[n_sets, 5], filled with fs, fb, their errors, chi-square

    Returns
    -------
    float
        chi-square
    """
    known = _invert(matrix, covariance)
    tE = math.exp(lens[1])
    slope, weighted = np.empty(3), np.empty(3)
    both, source, blend = np.empty(3), np.empty(3), np.empty(3)
    chi2 = 0.0
    for d in range(len(rows) - 1):
        a, b = rows[d], rows[d + 1]
        if b == a:
            continue
        centre = 0.0
        for i in range(a, b):
            centre += weight[i] * _excess(time[i] - lens[0], tE, lens[2])
        centre /= total[d]
        xx = xy = 0.0
        weighted[:] = 0.0
        both[:] = 0.0
        for i in range(a, b):
            tau = (time[i] - lens[0]) / tE
            q = max(lens[2] * lens[2] + tau * tau, LEAST)
            s = math.sqrt(q * (q + 4.0))
            x = 4.0 / (s * (q + 2.0 + s)) - centre
            h = 8.0 / (s * s * s)
            slope[0], slope[1], slope[2] = h * tau / tE, h * tau * tau, -h * lens[2]
            xx += weight[i] * x * x
            xy += weight[i] * x * flux[i]
            for k in range(3):
                weighted[k] += weight[i] * slope[k]
                both[k] += weight[i] * slope[k] * x
        # one row, or a lens that does not change over the data set, says nothing of the source
        seen = b - a > 1 and xx > CONSTANT * total[d] * centre * centre
        fs = xy / xx if seen else 0.0
        one = 0.0
        for i in range(a, b):
            x = _excess(time[i] - lens[0], tE, lens[2]) - centre
            off = flux[i] - fs * x
            one += weight[i] * off * off
        chi2 += one
        # from A - 1 to A
        centre += 1.0
        out_sets[d, 0], out_sets[d, 1] = fs * unit[d], mean[d] - fs * centre * unit[d]
        out_sets[d, 2], out_sets[d, 3], out_sets[d, 4] = np.nan, unit[d] / math.sqrt(total[d]), one
        if not seen:
            continue
        source_var, blend_var = 1.0 / xx, 1.0 / total[d] + centre * centre / xx
        if known:
            for k in range(3):
                source[k] = -fs * both[k] / xx
                blend[k] = -fs * weighted[k] / total[d] - centre * source[k]
            for k in range(3):
                for m in range(3):
                    source_var += source[k] * source[m] * covariance[k, m]
                    blend_var += blend[k] * blend[m] * covariance[k, m]
        out_sets[d, 2], out_sets[d, 3] = _error(source_var) * unit[d], _error(blend_var) * unit[d]
    covariance[1, :] *= tE
    covariance[:, 1] *= tE
    return chi2


@njit()
def model_flux(time, rows, sets, lens, source, blend, out):  # type: ignore[no-untyped-def]
    """Fill the model flux of all rows."""
    for k in range(len(sets) - 1):
        for d in range(sets[k], sets[k + 1]):
            for i in range(rows[d], rows[d + 1]):
                # without a source flux there is no need of a lens, which may be absent
                if source[d] == 0.0:
                    out[i] = blend[d]
                else:
                    a = magnification(time[i] - lens[k, 0], lens[k, 1], lens[k, 2])
                    out[i] = source[d] * a + blend[d]


@njit()
def weighted_means(flux, error, rows, out):  # type: ignore[no-untyped-def]
    """Fill with the weighted mean of each data set."""
    for d in range(len(rows) - 1):
        least = np.inf
        for i in range(rows[d], rows[d + 1]):
            least = min(least, error[i])
        sum_w = sum_wy = 0.0
        for i in range(rows[d], rows[d + 1]):
            w = (least / error[i]) ** 2
            sum_w += w
            sum_wy += w * (flux[i] - flux[rows[d]])
        for i in range(rows[d], rows[d + 1]):
            out[i] = flux[rows[d]] + sum_wy / sum_w
