"""One point of the grid, fitted in two passes: what the scan reports, and what settles close calls."""

from skytrawl.kernels.jit import njit
from skytrawl.kernels.scan.calls import call

# Values closer than this are equal; the later template and the earlier point of the grid are taken. Rows at
# no more than two different times give every template and t0 the same dchi2 but for rounding.
TIE = 1e-11
# Smaller dchi2 are rounding errors and count as 0; so does a template whose variance in the window is below
# this part of its mean square.
NOTHING = 1e-12
NO_VARIANCE = 1e-26


@njit()
def window_of(tau, first, stop, t0, half):  # type: ignore[no-untyped-def]
    """Rows ``lo:hi`` of first:stop with ``t0 - half < tau < t0 + half``."""
    left, right = t0 - half, t0 + half
    lo, hi = first, stop
    while lo < hi:
        middle = (lo + hi) // 2
        if tau[middle] > left:
            hi = middle
        else:
            lo = middle + 1
    begin, hi = lo, stop
    while lo < hi:
        middle = (lo + hi) // 2
        if tau[middle] >= right:
            hi = middle
        else:
            lo = middle + 1
    return begin, lo


@njit(error_model="numpy")
def fit_window(tau, w, y, lo, hi, t0, teff, address, x):  # type: ignore[no-untyped-def]
    """Weighted line ``a x + b`` through the rows lo:hi.

    Parameters
    ----------
    x : float64[>= hi - lo], written: template in the window

    Returns
    -------
    dchi2, amplitude, base, variance of the template (weighted sum of squares about its mean)
    """
    sw = sy = sx = sxx = 0.0
    for i in range(lo, hi):
        value = call(address, (tau[i] - t0) / teff)
        x[i - lo] = value
        sw += w[i]
        sy += w[i] * y[i]
        sx += w[i] * value
        sxx += w[i] * value * value
    mean_y, mean_x = sy / sw, sx / sw
    c = v = 0.0
    for i in range(lo, hi):
        dx = x[i - lo] - mean_x
        c += w[i] * dx * (y[i] - mean_y)
        v += w[i] * dx * dx
    if not v > NO_VARIANCE * sxx:
        return 0.0, 0.0, mean_y, 0.0
    return c * c / v, c / v, mean_y - c / v * mean_x, v


@njit(error_model="numpy")
def fit_point(  # type: ignore[no-untyped-def]
    tau, w, y, bounds, s, t0, half, teff, min_points, address, x
):  # fmt: skip
    """Joint dchi2 of the data sets at one t0 of season s, for the best template of the bank.

    Parameters
    ----------
    bounds : int64[n_sets, n_seasons + 1], rows of each data set and season

    Returns
    -------
    dchi2, template, sign of the amplitudes weighted by their dchi2, rows in the windows
    """
    best, chosen, direction, rows = -1.0, 0, 0.0, 0
    for t in range(len(address)):
        total, signed, rows = 0.0, 0.0, 0
        for d in range(bounds.shape[0]):
            lo, hi = window_of(tau, bounds[d, s], bounds[d, s + 1], t0, half)
            if hi - lo < min_points:
                continue
            rows += hi - lo
            gain, amplitude, _, _ = fit_window(tau, w, y, lo, hi, t0, teff, address[t], x)
            total += gain
            signed += gain if amplitude > 0.0 else -gain
        if total >= best * (1.0 - TIE):
            best, chosen, direction = total, t, signed
    if not best > NOTHING:
        best = 0.0
    return best, chosen, (1 if direction > 0.0 else -1), rows
