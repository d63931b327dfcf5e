"""Sums over the rows of a data set from which chi-square and the steps of a PSPL fit follow, in Numba.

With q = u^2, s = sqrt(q (q + 4)): A = (q + 2) / s (Paczynski 1986, ApJ 304, 1), A - 1 = 4 / (s (q + 2 + s))
and dA/dq = -4 / s^3, so that the derivatives by t0, ln tE and u0 are 8 g / s^3 with g = tau / tE, tau^2, -u0
and tau = (t - t0) / tE. One square root and two divisions a row give everything. The linear part (one source
and one blend flux a data set) is solved for exactly: variable projection (Golub & Pereyra 1973, SIAM J.
Numer. Anal. 10, 413) with the Jacobian of Kaufman (1975, BIT 15, 49), -fs P dA/dq_k with P the projection off
(1, A).
"""

import math

from skytrawl.kernels.jit import njit

# Sums: x is A - 1 less a constant near its mean, h = 1 / s^3, z the flux less its weighted mean.
X, XX, XY, H0, H1, H2, HX0, HX1, HX2, HY0, HY1, HY2, HH0, HH1, HH2, HH3, HH4 = range(17)
N_SUMS = 17
# A template that varies by less than this (squared, of itself) cannot be told from a constant.
CONSTANT = 1e-12
# Results of one set: source flux, weighted variance of A, its mean less 1, chi-square.
FS, VAR, MEAN, CHI2 = range(4)


@njit(fastmath=True)
def _sums(time, flux, weight, t0, tE, u0, shift, out):  # type: ignore[no-untyped-def]
    """Sum over one data set; `out` is float64[17]."""
    rate, floor = 1.0 / tE, max(u0 * u0, 1e-24)
    x1 = xx = xy = 0.0
    h0 = h1 = h2 = 0.0
    hx0 = hx1 = hx2 = 0.0
    hy0 = hy1 = hy2 = 0.0
    hh0 = hh1 = hh2 = hh3 = hh4 = 0.0
    for i in range(len(time)):
        tau = (time[i] - t0) * rate
        t2 = tau * tau
        q = floor + t2
        s = math.sqrt(q * (q + 4.0))
        inverse = 1.0 / s
        x = 4.0 * inverse / (q + 2.0 + s) - shift
        h = inverse * inverse * inverse
        w, z = weight[i], flux[i]
        wx, wh = w * x, w * h
        whx, why, whh = wh * x, wh * z, wh * h
        x1 += wx
        xx += wx * x
        xy += wx * z
        h0 += wh
        h1 += wh * tau
        h2 += wh * t2
        hx0 += whx
        hx1 += whx * tau
        hx2 += whx * t2
        hy0 += why
        hy1 += why * tau
        hy2 += why * t2
        hh0 += whh
        hh1 += whh * tau
        hh2 += whh * t2
        hh3 += whh * t2 * tau
        hh4 += whh * t2 * t2
    out[X], out[XX], out[XY] = x1, xx, xy
    out[H0], out[H1], out[H2] = h0, h1, h2
    out[HX0], out[HX1], out[HX2] = hx0, hx1, hx2
    out[HY0], out[HY1], out[HY2] = hy0, hy1, hy2
    out[HH0], out[HH1], out[HH2], out[HH3], out[HH4] = hh0, hh1, hh2, hh3, hh4


@njit(fastmath=True)
def _line_sums(time, flux, weight, t0, tE, u0, shift):  # type: ignore[no-untyped-def]
    """Sums of the linear part alone: w x, w x^2, w x z."""
    rate, floor = 1.0 / tE, max(u0 * u0, 1e-24)
    x1 = xx = xy = 0.0
    for i in range(len(time)):
        tau = (time[i] - t0) * rate
        q = floor + tau * tau
        s = math.sqrt(q * (q + 4.0))
        x = 4.0 / (s * (q + 2.0 + s)) - shift
        wx = weight[i] * x
        x1 += wx
        xx += wx * x
        xy += wx * flux[i]
    return x1, xx, xy


@njit()
def line(x1, xx, xy, total, square):  # type: ignore[no-untyped-def]
    """Return source flux, variance and mean of the template, and chi-square of its best line.

    `total` is the sum of weights, `square` the chi-square of the flux about its weighted mean.
    """
    mean = x1 / total
    variance = xx - x1 * mean
    if not variance > CONSTANT * xx:
        return 0.0, 0.0, mean, square
    fs = xy / variance
    return fs, variance, mean, max(square - fs * xy, 0.0)


@njit()
def trial(time, flux, weight, rows, total, square, t0, tE, u0, shift):  # type: ignore[no-untyped-def]
    """Return chi-square of a lens over all data sets, and how much of its gain is of positive sources.

    Data sets of fewer than 3 rows are fitted by any lens and add nothing.
    """
    chi2 = sign = 0.0
    for d in range(len(rows) - 1):
        a, b = rows[d], rows[d + 1]
        if b - a < 3:
            continue
        x1, xx, xy = _line_sums(time[a:b], flux[a:b], weight[a:b], t0, tE, u0, shift[d])
        fs, _, _, one = line(x1, xx, xy, total[d], square[d])
        chi2 += one
        sign += fs * xy if fs > 0.0 else -fs * xy
    return chi2, sign


@njit()
def normal(time, flux, weight, rows, total, square, t0, tE, u0, shift, sums, sets, matrix, slope):  # type: ignore[no-untyped-def]
    """Chi-square of a lens and the normal equations of its projected residual.

    Parameters
    ----------
    time, flux, weight : float64[n]
        Times from the reference of the object, fluxes less the weighted mean of their data set.
    rows : int64[n_sets + 1]
    total, square : float64[n_sets]
    t0, tE, u0 : float
    shift : float64[n_sets]
        Constants near the mean of A - 1, taken off before anything is summed; set to the mean.
    sums : float64[n_sets, 17], workspace
    sets : float64[n_sets, 4], filled with source flux, variance and mean of A - 1, chi-square
    matrix, slope : float64[3, 3], float64[3]
        J^T J and -J^T r by (t0, ln tE, u0), filled.

    Returns
    -------
    float
        chi-square
    """
    matrix[:, :] = 0.0
    slope[:] = 0.0
    chi2 = 0.0
    # derivatives of A are 8 h (tau / tE, tau^2, -u0)
    scale = (8.0 / tE, 8.0, -8.0 * u0)
    for d in range(len(rows) - 1):
        a, b = rows[d], rows[d + 1]
        sets[d, :] = 0.0
        if b - a < 3:
            continue
        s = sums[d]
        _sums(time[a:b], flux[a:b], weight[a:b], t0, tE, u0, shift[d], s)
        fs, variance, mean, one = line(s[X], s[XX], s[XY], total[d], square[d])
        sets[d, FS], sets[d, VAR], sets[d, MEAN], sets[d, CHI2] = fs, variance, mean + shift[d], one
        shift[d] += mean
        chi2 += one
        if variance == 0.0:
            continue
        h = (s[H1], s[H2], s[H0])
        hx = (s[HX1] - s[H1] * mean, s[HX2] - s[H2] * mean, s[HX0] - s[H0] * mean)
        hy = (s[HY1], s[HY2], s[HY0])
        hh = (s[HH2], s[HH3], s[HH1], s[HH4], s[HH2], s[HH0])
        at = 0
        for k in range(3):
            slope[k] += fs * scale[k] * (hy[k] - fs * hx[k])
            for m in range(k, 3):
                off = hh[at] - h[k] * h[m] / total[d] - hx[k] * hx[m] / variance
                matrix[k, m] += fs * fs * scale[k] * scale[m] * off
                at += 1
    for k in range(3):
        for m in range(k):
            matrix[k, m] = matrix[m, k]
    return chi2


@njit()
def solve(matrix, right, damping, step):  # type: ignore[no-untyped-def]
    """Solve (M + damping diag M) step = right by Cholesky in units of the diagonal; False if singular.

    A parameter without curvature stands still.
    """
    root = (math.sqrt(max(matrix[0, 0], 0.0)), math.sqrt(max(matrix[1, 1], 0.0)),
            math.sqrt(max(matrix[2, 2], 0.0)))  # fmt: skip
    inverse = (
        1.0 / root[0] if root[0] > 0.0 else 0.0,
        1.0 / root[1] if root[1] > 0.0 else 0.0,
        1.0 / root[2] if root[2] > 0.0 else 0.0,
    )
    one = 1.0 + damping
    c01 = matrix[0, 1] * inverse[0] * inverse[1]
    c02 = matrix[0, 2] * inverse[0] * inverse[2]
    c12 = matrix[1, 2] * inverse[1] * inverse[2]
    l00 = math.sqrt(one)
    l10, l20 = c01 / l00, c02 / l00
    d11 = one - l10 * l10
    if not d11 > 1e-14:
        return False
    l11 = math.sqrt(d11)
    l21 = (c12 - l20 * l10) / l11
    d22 = one - l20 * l20 - l21 * l21
    if not d22 > 1e-14:
        return False
    l22 = math.sqrt(d22)
    y0 = right[0] * inverse[0] / l00
    y1 = (right[1] * inverse[1] - l10 * y0) / l11
    y2 = (right[2] * inverse[2] - l20 * y0 - l21 * y1) / l22
    x2 = y2 / l22
    x1 = (y1 - l21 * x2) / l11
    step[0] = (y0 - l10 * x1 - l20 * x2) / l00 * inverse[0]
    step[1] = x1 * inverse[1]
    step[2] = x2 * inverse[2]
    return True
