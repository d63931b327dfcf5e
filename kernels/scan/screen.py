"""Dchi2 along one row of the grid: what each row of the light curve adds to the t0 whose window holds it.

Sums over a window of w x, w x^2 and w x y come from polynomials of the template along the grid (`tables`),
the sums without template from a sliding window that only adds (a stack for its older half), so that neither
large fluxes nor large weights elsewhere in the season leave rounding errors behind.
"""

import numpy as np

from skytrawl.kernels.jit import njit
from skytrawl.kernels.scan.calls import call
from skytrawl.kernels.scan.tables import DEGREE, WIDTH

# t0 of one chunk, and room for the rows that reach over its ends.
CHUNK = 4096
PAD = 2 * WIDTH
STRIDE = CHUNK + 2 * PAD
TABLE = (DEGREE + 1) * WIDTH
# Relative rounding of a sum of terms of one sign, with a margin.
ROUNDING = 4e-15
# From so many rows for each t0 on, two cells between two t0, sums of powers stand for the rows.
DENSE = 6
# The largest number that is stored.
HUGE = 3e38
# Windows in which the variance of the template is below this part of its weight are fitted in two passes.
FLAT = 1e-12


@njit()
def edges(tau, base, delta, half, inverse, ja, jb):  # type: ignore[no-untyped-def]
    """First t0 whose window holds each row and first after it whose window does not, beyond the ends too.

    Decided by the comparisons of `seasons.window`. `ja`, `jb` are float64[n], whole numbers.
    """
    for i in range(len(tau)):
        t = tau[i]
        g = np.floor((t - half - base) * inverse)
        n = -1.0
        for step in (-1.0, 0.0, 1.0):
            n += 0.0 if base + (g + step) * delta + half > t else 1.0
        ja[i] = g + n
        g = np.floor((t + half - base) * inverse)
        n = -1.0
        for step in (-1.0, 0.0, 1.0):
            n += 1.0 if base + (g + step) * delta - half < t else 0.0
        jb[i] = g + n


@njit()
def phases(tau, ja, base, delta, teff, middle, reach, phi):  # type: ignore[no-untyped-def]
    """Where between two t0 each row lies, -1 .. 1 (see `tables.Bank`)."""
    per_teff, per_reach = 1.0 / teff, 1.0 / reach
    for i in range(len(tau)):
        phi[i] = ((tau[i] - (base + ja[i] * delta)) * per_teff - middle) * per_reach


@njit()
def ranges_of(ja, jb, count, min_points, ranges):  # type: ignore[no-untyped-def]
    """Maximal ranges of t0 whose window holds `min_points` rows, as `seasons.filled_ranges`."""
    n = 0
    for i in range(len(ja) - min_points + 1):
        first, stop = max(np.int64(ja[i + min_points - 1]), 0), min(np.int64(jb[i]), count)
        if first < stop:
            if n > 0 and first <= ranges[n - 1, 1]:
                ranges[n - 1, 1] = max(stop, ranges[n - 1, 1])
            else:
                ranges[n, 0], ranges[n, 1] = first, stop
                n += 1
    return n


@njit()
def first_above(values, x):  # type: ignore[no-untyped-def]
    """Index of the first of ascending `values` above x."""
    lo, hi = 0, len(values)
    while lo < hi:
        middle = (lo + hi) // 2
        if values[middle] > x:
            hi = middle
        else:
            lo = middle + 1
    return lo


@njit(fastmath={"contract"})
def spread(lo, hi, j0, ja, jb, phi, w, y, coef, longest, width, acc):  # type: ignore[no-untyped-def]
    """Add the rows lo:hi to the sums (x, x^2, xy) of all t0 whose window holds them.

    Unsigned indices and fixed strides are what lets the compiler make a vector loop of it. Steps behind the
    last one of a row have zero polynomials and add nothing.
    """
    n = np.uintp(width)
    for i in range(lo, hi):
        at = np.uintp((longest - np.int64(jb[i] - ja[i])) * TABLE)
        to = np.uintp(np.int64(ja[i]) - j0 + PAD)
        p, wi, yi = phi[i], w[i], y[i]
        for m in range(n):
            c = at + m
            x = coef[c + np.uintp(6 * WIDTH)]
            x = x * p + coef[c + np.uintp(5 * WIDTH)]
            x = x * p + coef[c + np.uintp(4 * WIDTH)]
            x = x * p + coef[c + np.uintp(3 * WIDTH)]
            x = x * p + coef[c + np.uintp(2 * WIDTH)]
            x = x * p + coef[c + np.uintp(1 * WIDTH)]
            x = x * p + coef[c]
            wx = wi * x
            r = to + m
            acc[r] += wx
            acc[r + np.uintp(STRIDE)] += wx * x
            acc[r + np.uintp(2 * STRIDE)] += wx * yi


@njit(fastmath=True)
def moments(lo, hi, phi, w, y):  # type: ignore[no-untyped-def]
    """Sums of ``w phi^k`` and of ``w y phi^k`` over the rows lo:hi, k = 0 .. 6."""
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = 0.0
    b0 = b1 = b2 = b3 = b4 = b5 = b6 = 0.0
    for i in range(lo, hi):
        p, u, v = phi[i], w[i], y[i]
        a0 += u
        b0 += u * v
        u *= p
        a1 += u
        b1 += u * v
        u *= p
        a2 += u
        b2 += u * v
        u *= p
        a3 += u
        b3 += u * v
        u *= p
        a4 += u
        b4 += u * v
        u *= p
        a5 += u
        b5 += u * v
        u *= p
        a6 += u
        b6 += u * v
    return (a0, a1, a2, a3, a4, a5, a6), (b0, b1, b2, b3, b4, b5, b6)


@njit(fastmath={"contract"})
def spread_cells(lo, hi, j0, ja, jb, phi, w, y, coef, square, longest, width, acc):  # type: ignore[no-untyped-def]
    """As `spread` for all templates at once, where many rows lie in the windows of the same t0.

    Such rows differ in phi alone, so that sums of its powers stand for them.
    """
    n = np.uintp(width)
    i = lo
    while i < hi:
        stop = i + 1
        while stop < hi and ja[stop] == ja[i] and jb[stop] == jb[i]:
            stop += 1
        (a0, a1, a2, a3, a4, a5, a6), (b0, b1, b2, b3, b4, b5, b6) = moments(i, stop, phi, w, y)
        at = np.uintp((longest - np.int64(jb[i] - ja[i])) * TABLE)
        for t in range(coef.shape[0]):
            to = np.uintp(np.int64(ja[i]) - j0 + PAD + t * 3 * STRIDE)
            c, q = coef[t], square[t]
            for m in range(n):
                k = at + m
                c0 = c[k]
                c1 = c[k + np.uintp(WIDTH)]
                c2 = c[k + np.uintp(2 * WIDTH)]
                c3 = c[k + np.uintp(3 * WIDTH)]
                c4 = c[k + np.uintp(4 * WIDTH)]
                c5 = c[k + np.uintp(5 * WIDTH)]
                c6 = c[k + np.uintp(6 * WIDTH)]
                sx = a0 * c0 + a1 * c1 + a2 * c2 + a3 * c3 + a4 * c4 + a5 * c5 + a6 * c6
                sxy = b0 * c0 + b1 * c1 + b2 * c2 + b3 * c3 + b4 * c4 + b5 * c5 + b6 * c6
                sxx = a0 * q[k] + a1 * q[k + np.uintp(WIDTH)] + a2 * q[k + np.uintp(2 * WIDTH)]
                sxx += a3 * q[k + np.uintp(3 * WIDTH)] + a4 * q[k + np.uintp(4 * WIDTH)]
                sxx += a5 * q[k + np.uintp(5 * WIDTH)] + a6 * q[k + np.uintp(6 * WIDTH)]
                r = to + m
                acc[r] += sx
                acc[r + np.uintp(STRIDE)] += sxx
                acc[r + np.uintp(2 * STRIDE)] += sxy
        i = stop


@njit(fastmath={"contract"})
def spread_called(lo, hi, j0, j1, ja, jb, tau, w, y, base, delta, teff, address, acc):  # type: ignore[no-untyped-def]
    """As `spread`, with calls of the template."""
    for i in range(lo, hi):
        for j in range(max(np.int64(ja[i]), j0), min(np.int64(jb[i]), j1)):
            x = call(address, (tau[i] - (base + j * delta)) / teff)
            r = j - j0 + PAD
            wx = w[i] * x
            acc[r] += wx
            acc[r + STRIDE] += wx * x
            acc[r + 2 * STRIDE] += wx * y[i]


@njit()
def slide(lo, hi, j0, j1, ja, jb, w, y, older, plain, inside):  # type: ignore[no-untyped-def]
    """Sums of w, w y and w y^2 over the window of each t0, and how many rows it holds.

    Rows enter a sum that grows; when all rows of the stack `older` have left, the rows of the window are
    stacked anew from the last to the first. No row is ever subtracted.

    Parameters
    ----------
    lo, hi : int, rows that lie in any window of j0:j1
    older : float64[n, 3], scratch
    plain : float64[3, >= j1 - j0], written
    inside : int64[>= j1 - j0], written
    """
    first = behind = split = lo
    a = b = c = 0.0
    for j in range(j0, j1):
        while behind < hi and ja[behind] <= j:
            wy = w[behind] * y[behind]
            a += w[behind]
            b += wy
            c += wy * y[behind]
            behind += 1
        while first < behind and jb[first] <= j:
            first += 1
        if first > split:
            a = b = c = 0.0
            for i in range(behind - 1, first - 1, -1):
                wy = w[i] * y[i]
                a += w[i]
                b += wy
                c += wy * y[i]
                older[i, 0], older[i, 1], older[i, 2] = a, b, c
            a = b = c = 0.0
            split = behind
        k = j - j0
        inside[k] = behind - first
        if first < split:
            plain[0, k] = a + older[first, 0]
            plain[1, k] = b + older[first, 1]
            plain[2, k] = c + older[first, 2]
        else:
            plain[0, k], plain[1, k], plain[2, k] = a, b, c


@njit(error_model="numpy")
def gains(n, plain, inside, min_points, acc, error, largest, total, signed, doubt):  # type: ignore[no-untyped-def]
    """Add one data set's dchi2 of one template to the totals of a chunk.

    dchi2 = C^2 / V, C = Sxy - Sx Sy / Sw, V = Sxx - Sx^2 / Sw. With an error e of the template and a relative
    rounding r of the sums, first order in both, F the chi-square about the mean and q = Sw / V::

        |error of dchi2| <= 4 e sqrt(dchi2 F q) + 2 r X sqrt(dchi2 Syy q) + (r X + 3 e) X dchi2 q

    Parameters
    ----------
    total, signed, doubt : float64[n], added to
        dchi2, dchi2 with the sign of the amplitude, a bound of the square of its error; HUGE where two passes
        are needed.
    """
    e2, r2 = 16.0 * error * error, 4.0 * (ROUNDING * largest) ** 2
    r4 = ((ROUNDING * largest + 3.0 * error) * largest) ** 2
    for k in range(n):
        use = inside[k] >= min_points
        sw = plain[0, k] if use else 1.0
        sy, syy = plain[1, k], plain[2, k]
        sx = acc[k + PAD]
        mean = sx / sw
        c = acc[k + PAD + 2 * STRIDE] - mean * sy
        v = acc[k + PAD + STRIDE] - mean * sx
        flat = v <= FLAT * sw
        v = sw if flat else v
        d = c * c / v
        d = d if use else 0.0
        q = sw / v
        f = max(syy - sy * sy / sw, 0.0)
        bound = 3.0 * d * q * (e2 * f + r2 * syy + r4 * d * q)
        bound = HUGE if flat else bound
        total[k] += d
        signed[k] += d if c > 0.0 else -d
        doubt[k] += bound if use else 0.0
