"""Every non-empty point of the grid with all its diagnostics, in Numba.

For each window the weighted line ``a f(x) + b`` is fitted for every template f, x = (t - t0) / teff. With
X = f - c about a provisional centre c and Y likewise about the middle row,

    C = S(wXY) - S(wX) S(wY) / S(w),  V = S(wXX) - S(wX)^2 / S(w),  gain = C^2 / V,  a = C / V,

and the gain is the chi-square of the weighted mean less that of the line (linear least squares; Kim et al.
2018, AJ 155, 76, section 3). Where V is small beside S(wXX), a second pass sums about the true means. Fluxes
are counted from the mean of the season in units of a power of two near its smallest error, so that no unit
matters.
"""

import warnings
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.curves import Curves
from skytrawl.kernels.jit import njit
from skytrawl.kernels.scan.cpu_window import (
    CENTRE0,
    CENTRE1,
    LANES,
    bell0_rest,
    bell1_rest,
    bell_sums,
    bells,
    centred_line,
    line,
    longest_above,
    other_rest,
    other_sums,
    spread,
)
from skytrawl.kernels.scan.exact import TIE
from skytrawl.kernels.scan.runs import Runs, find_runs
from skytrawl.kernels.scan.seasons import grid_row, on_clock, window
from skytrawl.kernels.scan.templates import BELLS, Template
from skytrawl.kernels.scan.templates import bank as bank_of
from skytrawl.kernels.scan.types import ScanGrid


class GridMetrics(NamedTuple):
    """What the fits say at every point of the grid whose window holds min_points rows.

    Points are ordered by object, season, teff and t0; n is their number.

    Attributes
    ----------
    offsets : int64[n_objects + 1], points ``offsets[k]:offsets[k + 1]`` are object k
    dchi2 : float64[n], chi-square of the weighted mean less that of the best template
    template : int32[n], index into the bank
    amplitude, base : float64[n], a and b of ``a f(x) + b``, in the unit of the flux; a > 0 is a brightening
    n_window, n_contrib, longest_run : int32[n]
    n_eff, peak_frac, rho1 : float64[n]
        As in `Diagnostics`; without weights u is in the square of the unit of the flux.
    runs : Runs
        Where the points lie; `season`, `scale`, `step`, `t0` and `teff` are made from it.
    """

    offsets: NDArray[np.int64]
    dchi2: NDArray[np.float64]
    template: NDArray[np.int32]
    amplitude: NDArray[np.float64]
    base: NDArray[np.float64]
    n_window: NDArray[np.int32]
    n_contrib: NDArray[np.int32]
    n_eff: NDArray[np.float64]
    peak_frac: NDArray[np.float64]
    rho1: NDArray[np.float64]
    longest_run: NDArray[np.int32]
    runs: Runs

    @property
    def season(self) -> NDArray[np.int64]:
        """Season of the object: int64[n]."""
        return np.repeat(self.runs.season, np.diff(self.runs.point))

    @property
    def scale(self) -> NDArray[np.int64]:
        """Index into the teff series: int64[n]."""
        return np.repeat(self.runs.scale, np.diff(self.runs.point))

    @property
    def step(self) -> NDArray[np.int64]:
        """Index of t0 in its row of the grid: int64[n]."""
        point = self.runs.point
        return np.arange(point[-1]) - np.repeat(point[:-1] - self.runs.first, np.diff(point))

    @property
    def t0(self) -> NDArray[np.float64]:
        """Times of the points in the days of the input: float64[n]."""
        runs, grid = self.runs, self.runs.grid
        season = np.repeat(runs.seasons[:-1], np.diff(runs.offsets)) + runs.season
        start, step = runs.start[season], grid.dt0_coeff * np.array(grid.teff)[runs.scale]
        delta = (start + step) - start if grid.as_original else step
        lengths = np.diff(runs.point)
        return np.repeat(start, lengths) + self.step * np.repeat(delta, lengths)

    @property
    def teff(self) -> NDArray[np.float64]:
        """Effective time scales [d]: float64[n]."""
        return np.array(self.runs.grid.teff)[self.scale]


def grid_metrics(
    curves: Curves,
    grid: ScanGrid,
    bank: Iterable[str | Template] = BELLS,
    weighted: bool = True,
    sigma: float = 3.0,
) -> GridMetrics:
    """Fit every template in every window that holds min_points rows.

    Parameters
    ----------
    curves : Curves
        One data set an object.
    grid : ScanGrid
    bank : names or templates
        Of templates with the same gain the last is taken (jacscanomaly's rule for its two).
    weighted : bool
        Whether the diagnostics weigh the rows by their errors; without (as jacscanomaly has them) they depend
        on the unit of the flux. The fits are always weighted.
    sigma : float
        Rows with u > sigma^2 contribute.

    Raises
    ------
    ParameterError
        If an object has several data sets, or the bank is wrong.
    """
    templates = bank_of(bank)
    runs = find_runs(curves, grid)
    floats, ints = np.empty((6, runs.n_points)), np.empty((4, runs.n_points), np.int32)
    arguments = (
        curves.time, curves.flux, curves.error, runs.offsets, runs.season, runs.scale, runs.first, runs.point,
        runs.seasons, runs.start, runs.end, runs.bounds, np.array(grid.teff), grid.dt0_coeff, grid.teff_coeff,
        grid.as_original, weighted, float(sigma) ** 2, floats, ints,
    )  # fmt: skip
    if tuple(t.name for t in templates) == BELLS:
        _scan_bells(*arguments)
    else:
        with warnings.catch_warnings():
            # Numba calls functions as arguments experimental; the tests hold their results to the reference.
            warnings.filterwarnings("ignore", message="First-class function type")
            _scan_bank(tuple(t.fill for t in templates), *arguments)
    dchi2, amplitude, base, n_eff, peak_frac, rho1 = floats
    n_window, n_contrib, longest_run, template = ints
    return GridMetrics(
        runs.point[runs.offsets], dchi2, template, amplitude, base, n_window, n_contrib, n_eff, peak_frac,
        rho1, longest_run, runs,
    )  # fmt: skip


@njit(error_model="numpy")
def _unpack(time, flux, error, a, b, as_original, weighted, tau, w, y, v):  # type: ignore[no-untyped-def]
    """Copy a season to padded buffers; return zero point and unit of the fluxes."""
    n = b - a
    tau[:n] = on_clock(time[a:b], time[a], as_original)
    tau[n : n + LANES] = tau[n - 1]
    unit = 2.0 ** np.floor(np.log2(error[a:b].min()))
    total = shift = 0.0
    for i in range(n):
        w[i] = (unit / error[a + i]) ** 2
        total += w[i]
        shift += w[i] * (flux[a + i] - flux[a])
    zero = flux[a] + shift / total
    for i in range(n):
        y[i] = (flux[a + i] - zero) / unit
        v[i] = w[i] if weighted else unit * unit
    w[n : n + LANES] = 0.0
    y[n : n + LANES] = 0.0
    v[n : n + LANES] = 0.0
    return zero, unit


@njit(error_model="numpy")
def _write(  # type: ignore[no-untyped-def]
    g, floats, ints, n, m, gain, amplitude, mean, level, which, zero, unit, sigma2, offset, sums, d, bits
):
    """Make the diagnostics of point g from the sums of its rows and write everything."""
    su, suu, se, see = sums
    d[m] = 0.0
    products, largest, contrib = spread(d, bits, n, m, offset, sigma2)
    bits[m] = largest
    # from sums about `offset` to sums about the mean
    shift = se / n
    variance = see - se * shift
    products += shift * (d[0] + d[n - 1] - 2.0 * (offset + se)) + (n - 1) * shift * shift
    floats[0, g], floats[1, g] = gain, amplitude * unit
    floats[2, g] = zero + unit * (level - amplitude * mean)
    floats[3, g] = su * su / suu if suu > 0.0 else 0.0
    floats[4, g] = d[m] / su if su > 0.0 else 0.0
    floats[5, g] = products * n / ((n - 1) * variance) if variance > 0.0 else 0.0
    ints[0, g], ints[1, g], ints[3, g] = n, contrib, which
    ints[2, g] = longest_above(d, n, sigma2) if contrib > 1 else contrib


@njit(error_model="numpy")
def _scan_bells(  # type: ignore[no-untyped-def]
    time, flux, error, offsets, season, scale, first, point, seasons, start, end, bounds, teff, dt0_coeff,
    teff_coeff, as_original, weighted, sigma2, floats, ints,
):  # fmt: skip
    """Scan with the two bells."""
    size = LANES + 1 + (bounds[:, 1] - bounds[:, 0]).max() if len(bounds) else 0
    tau, w, y, v, d = np.empty(size), np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    bits = d.view(np.int64)
    p = np.empty(size)
    for o in range(len(offsets) - 1):
        at, row = -1, -1
        for r in range(offsets[o], offsets[o + 1]):
            if season[r] != at:
                at, row = season[r], -1
                s = seasons[o] + at
                a, b = bounds[s]
                zero, unit = _unpack(time, flux, error, a, b, as_original, weighted, tau, w, y, v)
                rows = tau[: b - a]
            if scale[r] != row:
                row = scale[r]
                base, delta, _, half = grid_row(
                    start[s], end[s], teff[row], dt0_coeff, teff_coeff, as_original
                )
                inverse = 1.0 / teff[row]
                lo = hi = 0
            for g in range(point[r], point[r + 1]):
                t0 = base + (first[r] + g - point[r]) * delta
                lo, hi = window(rows, t0, half, lo, hi)
                n = hi - lo
                m = (n + LANES - 1) // LANES * LANES
                yc = y[(lo + hi) >> 1]
                sw, sy, sx0, sxx0, sxy0, sx1, sxx1, sxy1 = bell_sums(tau, w, y, lo, n, m, t0, inverse, yc)
                share = 1.0 / sw
                gain0, slope0, again0 = line(share, sy, sx0, sxx0, sxy0)
                gain1, slope1, again1 = line(share, sy, sx1, sxx1, sxy1)
                mean0, mean1, level = CENTRE0 + sx0 * share, CENTRE1 + sx1 * share, yc + sy * share
                if again0 or again1:
                    if again0:
                        for i in range(n):
                            p[i] = bells((tau[lo + i] - t0) * inverse)[0]
                        gain0, slope0, mean0 = centred_line(p, w, y, lo, n)
                    if again1:
                        for i in range(n):
                            p[i] = bells((tau[lo + i] - t0) * inverse)[1]
                        gain1, slope1, mean1 = centred_line(p, w, y, lo, n)
                if gain0 * (1.0 - TIE) > gain1:
                    gain, slope, mean, which = gain0, slope0, mean0, 0
                else:
                    gain, slope, mean, which = gain1, slope1, mean1, 1
                # near the mean of d: exactly it with weights
                offset = gain / n if weighted else gain * share * unit * unit
                if which == 0:
                    sums = bell0_rest(tau, v, y, lo, n, m, t0, inverse, level, slope, mean, offset, d)
                else:
                    sums = bell1_rest(tau, v, y, lo, n, m, t0, inverse, level, slope, mean, offset, d)
                _write(
                    g,
                    floats,
                    ints,
                    n,
                    m,
                    gain,
                    slope,
                    mean,
                    level,
                    which,
                    zero,
                    unit,
                    sigma2,
                    offset,
                    sums,
                    d,
                    bits,
                )


@njit(error_model="numpy")
def _scan_bank(  # type: ignore[no-untyped-def]
    fills, time, flux, error, offsets, season, scale, first, point, seasons, start, end, bounds, teff,
    dt0_coeff, teff_coeff, as_original, weighted, sigma2, floats, ints,
):  # fmt: skip
    """Scan with any bank: each template writes its values of a window to a buffer."""
    size = LANES + 1 + (bounds[:, 1] - bounds[:, 0]).max() if len(bounds) else 0
    tau, w, y, v, d = np.empty(size), np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    bits = d.view(np.int64)
    p = np.zeros((len(fills), size))
    for o in range(len(offsets) - 1):
        at, row = -1, -1
        for r in range(offsets[o], offsets[o + 1]):
            if season[r] != at:
                at, row = season[r], -1
                s = seasons[o] + at
                a, b = bounds[s]
                zero, unit = _unpack(time, flux, error, a, b, as_original, weighted, tau, w, y, v)
                rows = tau[: b - a]
            if scale[r] != row:
                row = scale[r]
                base, delta, _, half = grid_row(
                    start[s], end[s], teff[row], dt0_coeff, teff_coeff, as_original
                )
                inverse = 1.0 / teff[row]
                lo = hi = 0
            for g in range(point[r], point[r + 1]):
                t0 = base + (first[r] + g - point[r]) * delta
                lo, hi = window(rows, t0, half, lo, hi)
                n = hi - lo
                m = (n + LANES - 1) // LANES * LANES
                gain, slope, mean, level, which, share = -1.0, 0.0, 0.0, 0.0, 0, 1.0
                for j in range(len(fills)):
                    fills[j](tau[lo:].ctypes, p[j].ctypes, m, t0, inverse)
                    c, yc = p[j, n >> 1], y[(lo + hi) >> 1]
                    sw, sy, sx, sxx, sxy = other_sums(p[j], w, y, lo, n, m, c, yc)
                    share = 1.0 / sw
                    one, slope_j, again = line(share, sy, sx, sxx, sxy)
                    mean_j, level = c + sx * share, yc + sy * share
                    if again:
                        one, slope_j, mean_j = centred_line(p[j], w, y, lo, n)
                    if one >= gain * (1.0 - TIE):
                        gain, slope, mean, which = one, slope_j, mean_j, j
                offset = gain / n if weighted else gain * share * unit * unit
                sums = other_rest(p[which], v, y, lo, n, m, level, slope, mean, offset, d)
                _write(
                    g,
                    floats,
                    ints,
                    n,
                    m,
                    gain,
                    slope,
                    mean,
                    level,
                    which,
                    zero,
                    unit,
                    sigma2,
                    offset,
                    sums,
                    d,
                    bits,
                )
