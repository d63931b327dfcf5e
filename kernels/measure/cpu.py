"""Star photometry in Numba: splines of the PSF shifted to each star, and sums over its pixels.

A PSF comes as the coefficients of a cubic B-spline [n_terms, side, k, columns], `k` samples an image pixel
(see `render`), with `PAD` image pixels and two samples of zeros around what any star may ask for. `half` is
the half width of a star's stamp in pixels.
"""

import numpy as np

from skytrawl.kernels.jit import njit
from skytrawl.kernels.psf.cpu import weights

PAD = 2
HUGE = 1e30  # pixels with a larger variance do not count


@njit()
def peaks(image, variance, factor, border):  # type: ignore[no-untyped-def]
    """Local maxima (5x5) above `factor` times the root of the variance, as flat indices in raster order."""
    ny, nx = image.shape
    found = []
    for y in range(border, ny - border):
        for x in range(border, nx - border):
            value = image[y, x]
            if value <= 0 or value * value <= factor * factor * variance[y, x]:
                continue
            highest = True
            for j in range(max(y - 2, 0), min(y + 3, ny)):
                for i in range(max(x - 2, 0), min(x + 3, nx)):
                    # Of equal neighbours the first is the peak.
                    if image[j, i] > value or (image[j, i] == value and j * nx + i < y * nx + x):
                        highest = False
            if highest:
                found.append(y * nx + x)
    return np.array(found, dtype=np.int64)


@njit(fastmath=True)
def smooth(image, kernel):  # type: ignore[no-untyped-def]
    """Convolution with a symmetric kernel (its half from the middle on) along both axes, zero outside."""
    ny, nx = image.shape
    n = len(kernel)
    out = np.empty_like(image)
    row = np.zeros(nx + 2 * n, image.dtype)
    for y in range(ny):
        for x in range(nx):
            row[n + x] = kernel[0] * image[y, x]
        for t in range(1, n):
            factor = kernel[t]
            if y - t >= 0:
                for x in range(nx):
                    row[n + x] += factor * image[y - t, x]
            if y + t < ny:
                for x in range(nx):
                    row[n + x] += factor * image[y + t, x]
        for x in range(nx):
            out[y, x] = kernel[0] * row[n + x]
        for t in range(1, n):
            factor = kernel[t]
            for x in range(nx):
                out[y, x] += factor * (row[n + x - t] + row[n + x + t])
    return out


@njit()
def derivatives(t, slope):  # type: ignore[no-untyped-def]
    """Derivatives in t of the `weights`."""
    s = 1.0 - t
    slope[0] = -0.5 * s * s
    slope[1] = t * (1.5 * t - 2.0)
    slope[2] = -s * (1.5 * s - 2.0)
    slope[3] = 0.5 * t * t


@njit(fastmath=True)
def render(coefficients, dx, dy, half, slopes, work, out):  # type: ignore[no-untyped-def]
    """PSF of a star (dx, dy) off the middle pixel into out[0], with `slopes` its derivatives in x, y too.

    `coefficients` [side, k, columns] hold column ``i * k + p`` at [p, i]: what neighbouring pixels take lies
    side by side. `work` is space for two rows of them.
    """
    side, k, _ = coefficients.shape
    w, d = np.empty(4, np.float32), np.empty(4, np.float32)
    v, e = np.empty(4, np.float32), np.empty(4, np.float32)
    n = 2 * half + 1
    y0 = side // 2 - (half + dy) * k
    jy = int(np.floor(y0))
    weights(y0 - jy, w)
    derivatives(y0 - jy, d)
    x0 = side // 2 - (half + dx) * k
    jx = int(np.floor(x0))
    weights(x0 - jx, v)
    derivatives(x0 - jx, e)
    first = (jx - 1) // k
    count = (jx + 2 + (n - 1) * k) // k + 1 - first
    w0, w1, w2, w3 = w
    d0, d1, d2, d3 = d
    v0, v1, v2, v3 = v
    scale = np.float32(k)
    e0, e1, e2, e3 = e[0] * scale, e[1] * scale, e[2] * scale, e[3] * scale
    for j in range(n):
        b = jy - 1 + j * k
        for p in range(k):
            c0, c1 = coefficients[b, p, first:], coefficients[b + 1, p, first:]
            c2, c3 = coefficients[b + 2, p, first:], coefficients[b + 3, p, first:]
            row = work[0, p]
            for i in range(count):
                row[i] = w0 * c0[i] + w1 * c1[i] + w2 * c2[i] + w3 * c3[i]
            if slopes:
                slope = work[1, p]
                for i in range(count):
                    slope[i] = (d0 * c0[i] + d1 * c1[i] + d2 * c2[i] + d3 * c3[i]) * scale
        r0, r1 = _from(work[0], jx - 1, first), _from(work[0], jx, first)
        r2, r3 = _from(work[0], jx + 1, first), _from(work[0], jx + 2, first)
        value = out[0, j]
        for i in range(n):
            value[i] = v0 * r0[i] + v1 * r1[i] + v2 * r2[i] + v3 * r3[i]
        if slopes:
            s0, s1 = _from(work[1], jx - 1, first), _from(work[1], jx, first)
            s2, s3 = _from(work[1], jx + 1, first), _from(work[1], jx + 2, first)
            along_x, along_y = out[1, j], out[2, j]
            for i in range(n):
                along_x[i] = e0 * r0[i] + e1 * r1[i] + e2 * r2[i] + e3 * r3[i]
                along_y[i] = v0 * s0[i] + v1 * s1[i] + v2 * s2[i] + v3 * s3[i]


@njit()
def _from(row, column, first):  # type: ignore[no-untyped-def]
    """Every k-th value from a column on, of a row [k, columns] that begins with column ``first * k``."""
    k = row.shape[0]
    return row[column % k, column // k - first :]


@njit(fastmath=True)
def local(basis, terms, half, out):  # type: ignore[no-untyped-def]
    """Coefficients at one place, as far out as `render` asks for: the sum over the polynomial's terms."""
    side, k, columns = out.shape
    reach = (half + 1) * k + 3
    # Whole rows lie one behind the other: one long loop a term is several times as fast as one a row.
    row = k * columns
    begin, end = max(0, side // 2 - reach) * row, min(side, side // 2 + reach + 1) * row
    planes, to = basis.reshape(len(terms), side * row), out.reshape(side * row)[begin:end]
    for t in range(len(terms)):
        plane, by = planes[t, begin:end], np.float32(terms[t])
        if t == 0:
            for i in range(len(to)):
                to[i] = by * plane[i]
        else:
            for i in range(len(to)):
                to[i] += by * plane[i]


@njit()
def space(basis, half):  # type: ignore[no-untyped-def]
    """Room for local coefficients, for the rows of `render`, and for stamps of these half widths."""
    widest = 2 * half.max() + 1
    coefficients = np.empty(basis.shape[1:], np.float32)
    return (
        coefficients,
        np.empty((2, *basis.shape[2:]), np.float32),
        np.empty((3, widest, widest), np.float32),
    )


@njit(fastmath=True)
def add(image, stamp, factor, x, y, half):  # type: ignore[no-untyped-def]
    """Add a stamp around pixel (x, y) to an image, in place."""
    ny, nx = image.shape
    for j in range(max(0, half - y), min(2 * half + 1, ny - y + half)):
        for i in range(max(0, half - x), min(2 * half + 1, nx - x + half)):
            image[y - half + j, x - half + i] += factor * stamp[j, i]


@njit(fastmath=True)
def sweep(  # type: ignore[no-untyped-def]
    rest, data, sky_variance, slope, basis, terms, x, y, flux, half, error, move,
):  # fmt: skip
    """One Gauss-Newton step of flux and position for each star in turn, on the image minus all stars.

    The variance of a pixel is that of the sky and `slope` times what the models put there.
    `rest`, `x`, `y`, `flux` are updated in place and stay consistent; `error` [n, 3] takes the standard
    deviations (flux, x, y). A step is at most half a pixel; with `move` 0 positions stay.
    """
    coefficients, work, stamps = space(basis, half)
    again = np.empty((1, *stamps.shape[1:]), np.float32)
    ny, nx = rest.shape
    limit = np.float32(HUGE)
    total = np.empty(9)
    for s in range(len(x)):
        h = half[s]
        local(basis, terms[s], h, coefficients)
        px, py = int(np.floor(x[s] + 0.5)), int(np.floor(y[s] + 0.5))
        render(coefficients, x[s] - px, y[s] - py, h, True, work, stamps)
        f = flux[s]
        one, zero = np.float32(1), np.float32(0)
        left, right = max(0, h - px), min(2 * h + 1, nx - px + h)
        total[:] = 0.0
        for j in range(max(0, h - py), min(2 * h + 1, ny - py + h)):
            lit, seen = rest[py - h + j], data[py - h + j]
            noise, psf, psf_x, psf_y = sky_variance[py - h + j], stamps[0, j], stamps[1, j], stamps[2, j]
            # A row in single precision, which the processor takes by the dozen; rows in double.
            s00 = s01 = s02 = s11 = s12 = s22 = t0 = t1 = t2 = zero
            for i in range(left, right):
                r, v = lit[px - h + i], noise[px - h + i]
                w = one / (v + slope * max(seen[px - h + i] - r, zero)) if v < limit else zero
                p0, p1, p2 = psf[i], psf_x[i], psf_y[i]
                w0, w1, w2 = w * p0, w * p1, w * p2
                s00 += w0 * p0
                s01 += w0 * p1
                s02 += w0 * p2
                s11 += w1 * p1
                s12 += w1 * p2
                s22 += w2 * p2
                t0 += w0 * r
                t1 += w1 * r
                t2 += w2 * r
            for n, part in enumerate((s00, s01, s02, s11, s12, s22, t0, t1, t2)):
                total[n] += part
        a00, a01, a02, a11, a12, a22, b0, b1, b2 = total
        error[s, 0] = error[s, 1] = error[s, 2] = np.inf
        if a00 <= 0.0:
            continue
        c00, c01, c02 = a11 * a22 - a12 * a12, a02 * a12 - a01 * a22, a01 * a12 - a02 * a11
        c11, c12, c22 = a00 * a22 - a02 * a02, a01 * a02 - a00 * a12, a00 * a11 - a01 * a01
        det = a00 * c00 + a01 * c01 + a02 * c02
        if move and f > 0.0 and det > 1e-6 * a00 * a11 * a22:
            error[s, 0] = np.sqrt(c00 / det)
            error[s, 1] = np.sqrt(c11 / det) / f
            error[s, 2] = np.sqrt(c22 / det) / f
            step_f = (c00 * b0 + c01 * b1 + c02 * b2) / det
            step_x = -(c01 * b0 + c11 * b1 + c12 * b2) / det / f
            step_y = -(c02 * b0 + c12 * b1 + c22 * b2) / det / f
            reach = max(abs(step_x), abs(step_y))
            if reach > 0.5:
                # Far from the minimum the flux at the old place tells more than the joint solution.
                step_f = b0 / a00
                step_x *= 0.5 / reach
                step_y *= 0.5 / reach
        else:
            error[s, 0] = 1.0 / np.sqrt(a00)
            step_f, step_x, step_y = b0 / a00, 0.0, 0.0
        add(rest, stamps[0], np.float32(f), px, py, h)
        x[s] += step_x
        y[s] += step_y
        flux[s] = max(f + step_f, 0.0)
        px, py = int(np.floor(x[s] + 0.5)), int(np.floor(y[s] + 0.5))
        render(coefficients, x[s] - px, y[s] - py, h, False, work, again)
        add(rest, again[0], np.float32(-flux[s]), px, py, h)


@njit(fastmath=True)
def model_image(image, basis, terms, x, y, flux, half):  # type: ignore[no-untyped-def]
    """Add stars to an image, in place."""
    coefficients, work, stamps = space(basis, half)
    for s in range(len(x)):
        local(basis, terms[s], half[s], coefficients)
        px, py = int(np.floor(x[s] + 0.5)), int(np.floor(y[s] + 0.5))
        render(coefficients, x[s] - px, y[s] - py, half[s], False, work, stamps)
        add(image, stamps[0], np.float32(flux[s]), px, py, half[s])


@njit(fastmath=True)
def normals(  # type: ignore[no-untyped-def]
    rest, data, sky_variance, slope, modes, x, y, flux, half, floor, matrix, right, fit,
):  # fmt: skip
    """Normal equations of linear modes of the PSF's shape for each star.

    Parameters of a star are flux, x, y and one amplitude for each mode after the first; modes[s or 0] are the
    coefficients [1 + n_modes, side, k, columns] of the PSF and its modes. To the variance is added the square
    of `floor` times the star. matrix [n, p, p] and right [n, p] take the sums; fit [n, 2] chi-square and the
    number of pixels.
    """
    n_modes = modes.shape[1] - 1
    p = 3 + n_modes
    widest = 2 * half + 1
    work = np.empty((2, *modes.shape[3:]), np.float32)
    stamps = np.empty((3, widest, widest), np.float32)
    shape = np.empty((3 + n_modes, widest, widest), np.float32)
    values = np.empty(p, np.float64)
    ny, nx = rest.shape
    for s in range(len(x)):
        own = modes[s % len(modes)]
        px, py = int(np.floor(x[s] + 0.5)), int(np.floor(y[s] + 0.5))
        for m in range(n_modes + 1):
            render(own[m], x[s] - px, y[s] - py, half, m == 0, work, stamps)
            for j in range(widest):
                for i in range(widest):
                    if m == 0:
                        shape[0, j, i] = stamps[0, j, i]
                        shape[1, j, i] = stamps[1, j, i]
                        shape[2, j, i] = stamps[2, j, i]
                    else:
                        shape[2 + m, j, i] = stamps[0, j, i]
        for j in range(max(0, half - py), min(widest, ny - py + half)):
            for i in range(max(0, half - px), min(widest, nx - px + half)):
                v = sky_variance[py - half + j, px - half + i]
                if v > HUGE:
                    continue
                r = rest[py - half + j, px - half + i]
                v += slope * max(data[py - half + j, px - half + i] - r, 0.0)
                e = floor * flux[s] * shape[0, j, i]
                w = 1.0 / (v + e * e)
                values[0] = shape[0, j, i]
                values[1] = -flux[s] * shape[1, j, i]
                values[2] = -flux[s] * shape[2, j, i]
                for m in range(n_modes):
                    values[3 + m] = flux[s] * shape[3 + m, j, i]
                for a in range(p):
                    wa = w * values[a]
                    right[s, a] += wa * r
                    for b in range(a + 1):
                        matrix[s, a, b] += wa * values[b]
                fit[s, 0] += w * r * r
                fit[s, 1] += 1.0
        for a in range(p):
            for b in range(a):
                matrix[s, b, a] = matrix[s, a, b]


@njit(fastmath=True)
def keys(t, out):  # type: ignore[no-untyped-def]
    """Cubic convolution with a = -1/2 (Keys 1981) at 1 + t, t, 1 - t, 2 - t."""
    s = 1.0 - t
    out[0] = -0.5 * t * s * s
    out[1] = 1.0 + t * t * (1.5 * t - 2.5)
    out[2] = 1.0 + s * s * (1.5 * s - 2.5)
    out[3] = -0.5 * s * t * t


@njit(fastmath=True)
def gather(  # type: ignore[no-untyped-def]
    rest, data, sky_variance, slope, basis, terms, x, y, flux, half, step, floor, clip, matrix, right,
):  # fmt: skip
    """Weighted normal equations, for each sample of the PSF, of what stars leave after subtraction.

    Sample g of a star is the residual over the flux at offset ``g * step`` pixels from the star, interpolated
    between pixels. Its variance is that of the nearest pixel, plus the squares of `floor` times the star and
    of a tenth of what else lies there. Values beyond `clip` standard deviations are left out. `matrix`
    [t (t + 1) / 2, n, n] holds the products of the polynomial's terms row by row, `right` [t, n, n].
    """
    coefficients, work, stamps = space(basis, np.full(1, half))
    ny, nx = rest.shape
    n = right.shape[1]
    wx, wy = np.empty(4), np.empty(4)
    for s in range(len(x)):
        local(basis, terms[s], half, coefficients)
        px, py = int(np.floor(x[s] + 0.5)), int(np.floor(y[s] + 0.5))
        render(coefficients, x[s] - px, y[s] - py, half, False, work, stamps)
        f = flux[s]
        for j in range(n):
            v = y[s] + (j - n // 2) * step
            jy = int(np.floor(v))
            if jy < 1 or jy > ny - 3:
                continue
            keys(v - jy, wy)
            near_y = int(np.floor(v + 0.5))
            for i in range(n):
                u = x[s] + (i - n // 2) * step
                jx = int(np.floor(u))
                if jx < 1 or jx > nx - 3:
                    continue
                near_x = int(np.floor(u + 0.5))
                known = max(data[near_y, near_x] - rest[near_y, near_x], 0.0)
                value, good = sky_variance[near_y, near_x] + slope * known, True
                for b in range(2):
                    for a in range(2):
                        good &= sky_variance[jy + b, jx + a] < HUGE
                if not good:
                    continue
                keys(u - jx, wx)
                r = 0.0
                for b in range(4):
                    for a in range(4):
                        if sky_variance[jy - 1 + b, jx - 1 + a] < HUGE:
                            r += wy[b] * wx[a] * rest[jy - 1 + b, jx - 1 + a]
                q, p = near_y - py + half, near_x - px + half
                own = f * stamps[0, min(max(q, 0), 2 * half), min(max(p, 0), 2 * half)]
                other = 0.1 * (known - own)
                value += floor * floor * own * own + other * other
                if r * r > clip * clip * value:
                    continue
                w = f * f / value
                c = 0
                for a in range(right.shape[0]):
                    wa = w * terms[s, a]
                    right[a, j, i] += wa * r / f
                    for b in range(a + 1):
                        matrix[c, j, i] += wa * terms[s, b]
                        c += 1
