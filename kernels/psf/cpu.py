"""Stamps of a PSF where stars lie on the pixels, from the coefficients of its spline."""

import numpy as np

from skytrawl.kernels.jit import njit

PAD = 2  # zeros around the coefficients, so that every sample has its four neighbours


@njit()
def weights(t, value):  # type: ignore[no-untyped-def]
    """Cubic B-spline at t + 1, t, 1 - t, 2 - t."""
    s = 1.0 - t
    value[0] = s * s * s / 6.0
    value[1] = 2.0 / 3.0 - t * t * (1.0 - 0.5 * t)
    value[2] = 2.0 / 3.0 - s * s * (1.0 - 0.5 * s)
    value[3] = t * t * t / 6.0


@njit()
def _between(place, value):  # type: ignore[no-untyped-def]
    """Weights at a place between samples; returns the first of the four they belong to, padded."""
    first = int(np.floor(place))
    weights(place - first, value)
    return first - 1 + PAD


@njit()
def stamps(coefficients, terms, dx, dy, step, out):  # type: ignore[no-untyped-def]
    """Values [n, ny, nx] of splines that are sums of `coefficients` [n_terms, my, mx] times `terms`.

    Pixel [ny // 2, nx // 2] lies (dx, dy) pixels, of `step` samples each, before the middle sample; what lies
    outside the samples is 0.
    """
    n_terms, padded_y, padded_x = coefficients.shape
    my, mx = padded_y - 2 * PAD, padded_x - 2 * PAD
    n, ny, nx = out.shape
    local, row = np.empty((padded_y, padded_x)), np.empty(padded_x)
    first, along_x, along_y = np.empty(nx, np.int64), np.empty((nx, 4)), np.empty(4)
    for s in range(n):
        local[:] = 0.0
        for k in range(n_terms):
            factor, plane = terms[s, k], coefficients[k]
            for j in range(padded_y):
                for i in range(padded_x):
                    local[j, i] += factor * plane[j, i]
        for i in range(nx):
            place = mx // 2 + (i - nx // 2 - dx[s]) * step
            first[i] = _between(place, along_x[i]) if 0.0 <= place <= mx - 1 else -1
        for j in range(ny):
            place = my // 2 + (j - ny // 2 - dy[s]) * step
            if not 0.0 <= place <= my - 1:
                out[s, j] = 0.0
                continue
            b = _between(place, along_y)
            for i in range(padded_x):
                row[i] = (
                    along_y[0] * local[b, i]
                    + along_y[1] * local[b + 1, i]
                    + along_y[2] * local[b + 2, i]
                    + along_y[3] * local[b + 3, i]
                )
            for i in range(nx):
                a = first[i]
                if a < 0:
                    out[s, j, i] = 0.0
                else:
                    w = along_x[i]
                    out[s, j, i] = w[0] * row[a] + w[1] * row[a + 1] + w[2] * row[a + 2] + w[3] * row[a + 3]
