"""Quality of candidates, weighted by the errors: K windows an object, each fitted in two passes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError
from skytrawl.kernels.curves import Curves
from skytrawl.kernels.jit import njit
from skytrawl.kernels.scan.exact import fit_window, window_of
from skytrawl.kernels.scan.seasons import grid_row, season_bounds, season_gap
from skytrawl.kernels.scan.tables import make_bank
from skytrawl.kernels.scan.templates import Template
from skytrawl.kernels.scan.types import Candidates, Diagnostics, ScanGrid

# Rows outside the window that tell the scale of the errors.
LEAST_OUTSIDE = 10


@njit(error_model="numpy")
def scale_outside(w, y, lo, hi):  # type: ignore[no-untyped-def]
    """Chi-square per degree of freedom of the rows other than lo:hi, as `outside_scale` has it."""
    n = len(w) - (hi - lo)
    if n < LEAST_OUTSIDE:
        return 1.0
    sw = sy = chi2 = 0.0
    for part in range(2):
        for i in range(0 if part == 0 else hi, lo if part == 0 else len(w)):
            sw += w[i]
            sy += w[i] * y[i]
    mean = sy / sw
    for part in range(2):
        for i in range(0 if part == 0 else hi, lo if part == 0 else len(w)):
            chi2 += w[i] * (y[i] - mean) ** 2
    return chi2 / (n - 1) if chi2 > 0.0 else 1.0


@njit()
def normalise_sets(time, flux, error, rows, w, y):  # type: ignore[no-untyped-def]
    """Weights and fluxes in units of about the smallest error of their data set, fluxes from its mean on.

    As in the scan: the unit is a power of two, returned as float64[n_sets].
    """
    units = np.ones(len(rows) - 1)
    for d in range(len(rows) - 1):
        a, b = rows[d], rows[d + 1]
        if b == a:
            continue
        units[d] = 2.0 ** np.floor(np.log2(np.min(error[a:b])))
        sw = swy = 0.0
        for i in range(a, b):
            e = error[i] / units[d]
            w[i] = max(1.0 / (e * e), 1e-200)
            y[i] = flux[i] / units[d]
            sw += w[i]
            swy += w[i] * y[i]
        mean = swy / sw
        for i in range(a, b):
            y[i] -= mean
    return units


@njit(error_model="numpy")
def _window(d, season, scale, step, time, tau, rows, bounds, union, teff, dt0, coeff, as_original):  # type: ignore[no-untyped-def]
    """Rows of data set d in the window of a grid point, and its t0; fills the data set's part of `tau`."""
    start, end = union[bounds[season]], union[bounds[season + 1] - 1]
    base, delta, _, half = grid_row(start, end, teff[scale], dt0, coeff, as_original)
    t0 = base + step * delta
    a, b = rows[d], rows[d + 1]
    first = a + np.searchsorted(time[a:b], start)
    stop = a + np.searchsorted(time[a:b], end, side="right")
    for i in range(first, stop):
        tau[i] = time[i] if as_original else time[i] - start
    lo, hi = window_of(tau, first, stop, t0, half)
    return lo, hi, t0


@njit(error_model="numpy")
def _outside_scale(  # type: ignore[no-untyped-def]
    time, flux, error, rows, sets, teff, gap, dt0, coeff, as_original, season, scale, step, out
):  # fmt: skip
    w, y, tau = np.empty(len(time)), np.empty(len(time)), np.empty(len(time))
    normalise_sets(time, flux, error, rows, w, y)
    for o in range(len(sets) - 1):
        union = np.sort(time[rows[sets[o]] : rows[sets[o + 1]]])
        bounds = season_bounds(union, gap)
        for c in range(season.shape[1]):
            for d in range(sets[o], sets[o + 1]):
                a, b = rows[d], rows[d + 1]
                if season[o, c] < 0:
                    continue
                lo, hi, _ = _window(
                    d, season[o, c], scale[o, c], step[o, c], time, tau, rows, bounds, union, teff, dt0,
                    coeff, as_original,
                )  # fmt: skip
                out[d, c] = scale_outside(w[a:b], y[a:b], lo - a, hi - a)


@njit(error_model="numpy")
def _diagnose(  # type: ignore[no-untyped-def]
    time, flux, error, rows, sets, teff, gap, dt0, coeff, min_points, as_original, address, season, scale,
    step, template, sign, sigma, source_flux, counts, reals,
):  # fmt: skip
    w, y, tau = np.empty(len(time)), np.empty(len(time)), np.empty(len(time))
    units = normalise_sets(time, flux, error, rows, w, y)
    gain, x, border = np.empty(len(time)), np.empty(len(time)), np.empty(len(time), np.bool_)
    limit = sigma * sigma
    for o in range(len(sets) - 1):
        union = np.sort(time[rows[sets[o]] : rows[sets[o + 1]]])
        bounds = season_bounds(union, gap)
        for c in range(season.shape[1]):
            if season[o, c] < 0:
                continue
            n, n_sets, n_coincident, rescaled = 0, 0, 0, 0.0
            # Amplitudes in units of the source flux: number, weight, weighted sum, and sum of squares later.
            amplitudes, weights, n_amplitudes = (
                np.empty(sets[o + 1] - sets[o]),
                np.empty(sets[o + 1] - sets[o]),
                0,
            )
            for d in range(sets[o], sets[o + 1]):
                a, b = rows[d], rows[d + 1]
                lo, hi, t0 = _window(
                    d, season[o, c], scale[o, c], step[o, c], time, tau, rows, bounds, union, teff, dt0,
                    coeff, as_original,
                )  # fmt: skip
                if hi - lo < min_points:
                    continue
                dchi2, amplitude, foot, variance = fit_window(
                    tau, w, y, lo, hi, t0, teff[scale[o, c]], address[template[o, c]], x
                )
                sw = sy = 0.0
                for i in range(lo, hi):
                    sw += w[i]
                    sy += w[i] * y[i]
                mean = sy / sw
                for i in range(lo, hi):
                    flat, bent = y[i] - mean, y[i] - (amplitude * x[i - lo] + foot)
                    # (flat - bent) (flat + bent): no difference of large squares.
                    gain[n] = w[i] * (flat - bent) * (flat + bent)
                    border[n] = i == lo
                    n += 1
                k2 = scale_outside(w[a:b], y[a:b], lo - a, hi - a)
                n_sets += 1
                rescaled += dchi2 / k2
                if dchi2 / k2 > limit and amplitude * sign[o, c] > 0.0:
                    n_coincident += 1
                source = source_flux[d] / units[d]
                if variance > 0.0 and source != 0.0 and np.isfinite(source):
                    amplitudes[n_amplitudes] = amplitude / source
                    weights[n_amplitudes] = variance * source * source / k2
                    n_amplitudes += 1
            _qualities(gain[:n], border[:n], limit, counts[o, c], reals[o, c])
            counts[o, c, 3], counts[o, c, 4] = n_sets, n_coincident
            reals[o, c, 3] = rescaled
            if n_amplitudes >= 2:
                top = np.max(weights[:n_amplitudes])
                weights[:n_amplitudes] /= top
                mean = np.sum(weights[:n_amplitudes] * amplitudes[:n_amplitudes]) / np.sum(
                    weights[:n_amplitudes]
                )
                chi2 = 0.0
                for i in range(n_amplitudes):
                    # One factor after the other: the units of the fluxes cancel before anything is squared.
                    chi2 += weights[i] * ((amplitudes[i] - mean) * np.sqrt(top)) ** 2
                reals[o, c, 4] = chi2


@njit(error_model="numpy")
def _qualities(gain, border, limit, counts, reals):  # type: ignore[no-untyped-def]
    """Fill n_window, n_contrib, longest_run; n_eff, peak_frac, rho1."""
    n = len(gain)
    contrib = run = longest = n_pairs = 0
    total = squares = largest = mean = 0.0
    for i in range(n):
        u = max(gain[i], 0.0)
        mean += gain[i]
        total += u
        largest = max(largest, u)
        run = 0 if border[i] else run
        if u > limit:
            contrib += 1
            run += 1
            longest = max(longest, run)
        else:
            run = 0
    mean /= max(n, 1)
    variance = pairs = 0.0
    for i in range(n):
        squares += (max(gain[i], 0.0) / largest) ** 2 if largest > 0.0 else 0.0
        variance += (gain[i] - mean) ** 2
        if not border[i]:
            pairs += (gain[i] - mean) * (gain[i - 1] - mean)
            n_pairs += 1
    counts[0], counts[1], counts[2] = n, contrib, longest
    if largest > 0.0:
        reals[0], reals[1] = (total / largest) ** 2 / squares, largest / total
    if variance > 0.0 and n_pairs > 0:
        reals[2] = (pairs / n_pairs) / (variance / n)


def _of_candidates(candidates: Candidates, curves: Curves, grid: ScanGrid) -> tuple[NDArray[np.int64], ...]:
    """Season, scale, step as the compiled code takes them."""
    shape = candidates.season.shape
    if len(shape) != 2 or shape[0] != curves.n_objects:
        raise ParameterError(
            f"candidates are of shape {shape}: they are not those of {curves.n_objects} objects"
        )
    present = candidates.season >= 0
    if present.any() and not (
        0 <= candidates.scale[present].min() <= candidates.scale.max() < len(grid.teff)
    ):
        raise ParameterError(f"candidates have scales outside the {len(grid.teff)} teff of the grid")
    columns = (candidates.season, candidates.scale, candidates.step)
    return tuple(np.ascontiguousarray(column, dtype=np.int64) for column in columns)


def outside_scale(curves: Curves, grid: ScanGrid, candidates: Candidates) -> NDArray[np.float64]:
    """Scale of the errors outside the windows; see `skytrawl.kernels.scan.outside_scale`."""
    season, scale, step = _of_candidates(candidates, curves, grid)
    out = np.full((curves.n_sets, season.shape[1]), np.nan)
    _outside_scale(
        curves.time, curves.flux, curves.error, curves.rows, curves.sets, np.array(grid.teff),
        season_gap(grid), grid.dt0_coeff, grid.teff_coeff, grid.as_original, season, scale, step, out,
    )  # fmt: skip
    return out


def diagnose(
    curves: Curves,
    grid: ScanGrid,
    candidates: Candidates,
    bank: Sequence[str | Template],
    sigma: float = 3.0,
    source_flux: NDArray[np.float64] | None = None,
) -> Diagnostics:
    """Quality of candidates; see `skytrawl.kernels.scan.diagnose`."""
    made = make_bank(bank, grid)
    season, scale, step = _of_candidates(candidates, curves, grid)
    present = season >= 0
    if present.any() and not (
        0 <= candidates.template[present].min() <= candidates.template.max() < len(bank)
    ):
        raise ParameterError(f"candidates have templates outside the bank {tuple(bank)}")
    source = np.ones(curves.n_sets) if source_flux is None else np.asarray(source_flux, dtype=np.float64)
    if source.shape != (curves.n_sets,):
        raise ParameterError(
            f"source_flux is of shape {source.shape}: give one for each of {curves.n_sets} data sets"
        )
    counts = np.zeros((*season.shape, 5), np.int64)
    reals = np.zeros((*season.shape, 5))
    reals[..., 4] = np.nan
    _diagnose(
        curves.time, curves.flux, curves.error, curves.rows, curves.sets, np.array(grid.teff),
        season_gap(grid), grid.dt0_coeff, grid.teff_coeff, grid.min_points, grid.as_original, made.address,
        season, scale, step, np.ascontiguousarray(candidates.template, dtype=np.int64),
        np.ascontiguousarray(candidates.sign, dtype=np.int64), float(sigma), source, counts, reals,
    )  # fmt: skip
    n_window, n_contrib, longest_run, n_sets, n_coincident = np.moveaxis(counts, -1, 0).copy()
    n_eff, peak_frac, rho1, rescaled, achromatic = np.moveaxis(reals, -1, 0).copy()
    return Diagnostics(
        n_window, n_contrib, n_eff, peak_frac, rho1, longest_run, rescaled, n_sets, n_coincident, achromatic
    )
