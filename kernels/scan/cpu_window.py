"""Sums over one window of a grid scan, in Numba: vector loops over rows padded to whole vectors.

Rows behind the window are taken with weight 0, up to a multiple of `LANES`, so that no loop ends in single
steps; arrays are therefore longer by `LANES` than their rows. Three things keep the loops vectors: no
division by what might be zero in Python's eyes (``error_model``), few arrays that are written beside those
that are read, and maxima of the bits of positive numbers, as integers.
Sums may be reordered (``fastmath``): rows are finite, and no sum is compared bit by bit.
"""

import numpy as np

from skytrawl.kernels.jit import njit

LANES = 8
# About the means of the two bells over |x| < 3, where their sums are centred.
CENTRE0, CENTRE1 = 0.6, 1.1
# Below this share of S(wXX) the variance is summed again about the true mean.
CENTRED = 1e-4
# Templates that vary by less than 1e-12 over the rows of a window do not fit anything.
FLAT = 1e-24


@njit(fastmath=True, error_model="numpy")
def rsqrt(q):  # type: ignore[no-untyped-def]
    """1 / sqrt(q) to 3e-16 relative: a float32 seed and one step of third order."""
    y = np.float64(np.float32(1.0) / np.sqrt(np.float32(q)))
    e = 1.0 - q * y * y
    return y + y * e * (0.5 + 0.375 * e)


@njit(fastmath=True, error_model="numpy")
def bells(x):  # type: ignore[no-untyped-def]
    """Values of the templates pspl0 and pspl1."""
    q = 1.0 + x * x
    first = rsqrt(q)
    return first, (q + 2.0) * first * rsqrt(q + 4.0)


@njit(fastmath=True, error_model="numpy")
def bell_sums(tau, w, y, lo, n, m, t0, inverse, yc):  # type: ignore[no-untyped-def]
    """S(w), S(wY), then S(wX), S(wXX), S(wXY) of both bells, about CENTRE0, CENTRE1 and yc."""
    sw = sy = sx0 = sx1 = sxx0 = sxx1 = sxy0 = sxy1 = 0.0
    ts, ws, ys = tau[lo : lo + m], w[lo : lo + m], y[lo : lo + m]
    for i in range(m):
        p0, p1 = bells((ts[i] - t0) * inverse)
        p0 -= CENTRE0
        p1 -= CENTRE1
        weight = ws[i]
        weight = weight if i < n else 0.0
        value = ys[i] - yc
        w0, w1 = weight * p0, weight * p1
        sw += weight
        sy += weight * value
        sx0 += w0
        sx1 += w1
        sxx0 += w0 * p0
        sxx1 += w1 * p1
        sxy0 += w0 * value
        sxy1 += w1 * value
    return sw, sy, sx0, sxx0, sxy0, sx1, sxx1, sxy1


@njit(fastmath=True, error_model="numpy")
def other_sums(p, w, y, lo, n, m, c, yc):  # type: ignore[no-untyped-def]
    """S(w), S(wY), S(wX), S(wXX), S(wXY) of template values p about the centres c, yc."""
    sw = sy = sx = sxx = sxy = 0.0
    ws, ys = w[lo : lo + m], y[lo : lo + m]
    for i in range(m):
        x, value, weight = p[i] - c, ys[i] - yc, ws[i]
        weight = weight if i < n else 0.0
        wx = weight * x
        sw += weight
        sy += weight * value
        sx += wx
        sxx += wx * x
        sxy += wx * value
    return sw, sy, sx, sxx, sxy


@njit(error_model="numpy")
def line(share, sy, sx, sxx, sxy):  # type: ignore[no-untyped-def]
    """Gain and amplitude of a line from its sums, and whether they need a second pass; `share` = 1 / S(w)."""
    variance = sxx - sx * sx * share
    covariance = sxy - sx * sy * share
    if not variance > CENTRED * sxx:
        return 0.0, 0.0, True
    slope = covariance / variance
    return covariance * slope, slope, False


@njit(error_model="numpy")
def centred_line(p, w, y, lo, n):  # type: ignore[no-untyped-def]
    """Gain, amplitude and mean of p from sums about the true means; gain 0 where p is constant."""
    sw = sx = sy = 0.0
    for i in range(n):
        sw += w[lo + i]
        sx += w[lo + i] * (p[i] - p[0])
        sy += w[lo + i] * (y[lo + i] - y[lo])
    mean, level = p[0] + sx / sw, y[lo] + sy / sw
    variance = covariance = size = 0.0
    for i in range(n):
        x = p[i] - mean
        variance += w[lo + i] * x * x
        covariance += w[lo + i] * x * (y[lo + i] - level)
        size += w[lo + i] * p[i] * p[i]
    if not variance > FLAT * size:
        return 0.0, 0.0, mean
    return covariance * covariance / variance, covariance / variance, mean


@njit(fastmath=True, error_model="numpy")
def _rest(p, weight, value, inside, level, amplitude, mean, offset):  # type: ignore[no-untyped-def]
    """Return d, u = max(d, 0) and d - offset of one row; all 0 outside the window."""
    model = amplitude * (p - mean)
    d = weight * model * (2.0 * (value - level) - model)
    d = d if inside else 0.0
    rest = d - offset
    return d, max(d, 0.0), rest if inside else 0.0


@njit(fastmath=True, error_model="numpy")
def bell0_rest(tau, v, y, lo, n, m, t0, inverse, level, amplitude, mean, offset, out):  # type: ignore[no-untyped-def]
    """Write d of pspl0 to `out`; return S(u), S(uu), S(d - offset) and that of its square.

    d = v (r_flat^2 - r_line^2) with v the weight (or the unit), u = max(d, 0).
    """
    su = suu = se = see = 0.0
    ts, vs, ys = tau[lo : lo + m], v[lo : lo + m], y[lo : lo + m]
    for i in range(m):
        x = (ts[i] - t0) * inverse
        out[i], u, e = _rest(rsqrt(1.0 + x * x), vs[i], ys[i], i < n, level, amplitude, mean, offset)
        su += u
        suu += u * u
        se += e
        see += e * e
    return su, suu, se, see


@njit(fastmath=True, error_model="numpy")
def bell1_rest(tau, v, y, lo, n, m, t0, inverse, level, amplitude, mean, offset, out):  # type: ignore[no-untyped-def]
    """`bell0_rest` of pspl1."""
    su = suu = se = see = 0.0
    ts, vs, ys = tau[lo : lo + m], v[lo : lo + m], y[lo : lo + m]
    for i in range(m):
        x = (ts[i] - t0) * inverse
        q = 1.0 + x * x
        p = (q + 2.0) * rsqrt(q * (q + 4.0))
        out[i], u, e = _rest(p, vs[i], ys[i], i < n, level, amplitude, mean, offset)
        su += u
        suu += u * u
        se += e
        see += e * e
    return su, suu, se, see


@njit(fastmath=True, error_model="numpy")
def other_rest(p, v, y, lo, n, m, level, amplitude, mean, offset, out):  # type: ignore[no-untyped-def]
    """`bell0_rest` of template values p."""
    su = suu = se = see = 0.0
    vs, ys = v[lo : lo + m], y[lo : lo + m]
    for i in range(m):
        out[i], u, e = _rest(p[i], vs[i], ys[i], i < n, level, amplitude, mean, offset)
        su += u
        suu += u * u
        se += e
        see += e * e
    return su, suu, se, see


@njit(fastmath=True, error_model="numpy")
def spread(d, bits, n, m, offset, threshold):  # type: ignore[no-untyped-def]
    """Sum of products of neighbours of d - offset, largest d (0 if none is positive), number above threshold.

    `bits` is d as int64; d[n : m + 1] is 0, which is not above the threshold.
    """
    products, largest, above = 0.0, np.int64(0), np.int64(0)
    one, following, integers = d[:m], d[1 : m + 1], bits[:m]
    for i in range(m):
        product = (one[i] - offset) * (following[i] - offset)
        products += product if i + 1 < n else 0.0
        largest = max(largest, integers[i])
        above += np.int64(one[i] > threshold)
    return products, largest, above


@njit()
def longest_above(d, n, threshold):  # type: ignore[no-untyped-def]
    """Longest run of consecutive values above a threshold."""
    longest = current = 0
    for i in range(n):
        current = current + 1 if d[i] > threshold else 0
        longest = max(longest, current)
    return longest
