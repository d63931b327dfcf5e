"""Dchi2 of the rows of the grid of one object, stored for `peaks`."""

import numpy as np

from skytrawl.kernels.jit import njit
from skytrawl.kernels.scan.exact import NOTHING, fit_point
from skytrawl.kernels.scan.screen import (
    CHUNK,
    DENSE,
    HUGE,
    PAD,
    STRIDE,
    edges,
    first_above,
    gains,
    phases,
    ranges_of,
    slide,
    spread,
    spread_called,
    spread_cells,
)
from skytrawl.kernels.scan.seasons import merge_ranges
from skytrawl.kernels.scan.tables import LENGTHS, WORST


@njit()
def fill_range(  # type: ignore[no-untyped-def]
    r0, r1, s, base, delta, half, teff, extra, tau, w, y, bounds, ja, jb, phi, bank, fast, min_points,
    scratch, x, values, doubts, offset,
):  # fmt: skip
    """Dchi2 of the t0 r0:r1 of a row of the grid, stored from `offset` on."""
    address, coef, square, error, largest, slope, longest, width = bank
    acc, plain, inside, older, total, signed, doubt = scratch
    n_templates = len(address)
    for j0 in range(r0, r1, CHUNK):
        j1 = min(j0 + CHUNK, r1)
        n = j1 - j0
        total[:, :n] = 0.0
        signed[:, :n] = 0.0
        doubt[:, :n] = 0.0
        for d in range(bounds.shape[0]):
            a, b = bounds[d, s], bounds[d, s + 1]
            lo, hi = a + first_above(jb[a:b], j0), a + first_above(ja[a:b], j1 - 0.5)
            if hi - lo < min_points:
                continue
            slide(lo, hi, j0, j1, ja, jb, w, y, older, plain, inside)
            for q in range(3 * n_templates):
                acc[q * STRIDE + PAD - width : q * STRIDE + PAD + n + width] = 0.0
            cells = fast and hi - lo > DENSE * n and np.all(np.isfinite(error))
            if cells:
                spread_cells(lo, hi, j0, ja, jb, phi, w, y, coef, square, longest, width, acc)
            for t in range(n_templates):
                sums = acc[3 * t * STRIDE : 3 * (t + 1) * STRIDE]
                e = 0.0
                if fast and np.isfinite(error[t]):
                    e = error[t] + slope[t] * extra
                    if not cells:
                        spread(lo, hi, j0, ja, jb, phi, w, y, coef[t], longest, width, sums)
                else:
                    spread_called(lo, hi, j0, j1, ja, jb, tau, w, y, base, delta, teff, address[t], sums)
                gains(n, plain, inside, min_points, sums, e, largest[t], total[t], signed[t], doubt[t])
        factor = bounds.shape[0]
        for i in range(n):
            best, off, way = 0.0, 0.0, 0.0
            for t in range(n_templates):
                if total[t, i] >= best:
                    best, way = total[t, i], signed[t, i]
                off = max(off, doubt[t, i])
            if off < HUGE and best < HUGE:
                off = np.sqrt(factor * off) + 1.2e-7 * best
            else:
                t0 = base + (j0 + i) * delta
                best, _, sign, _ = fit_point(tau, w, y, bounds, s, t0, half, teff, min_points, address, x)
                best, way, off = min(best, HUGE), float(sign), 1.2e-7 * best
            k = offset + j0 - r0 + i
            if best <= NOTHING and best + off <= NOTHING:
                best = off = 0.0
            values[k] = best if way > 0.0 else -best
            doubts[k] = min(off, HUGE)


@njit()
def fill_scale(  # type: ignore[no-untyped-def]
    k, teff, rows_grid, counts, dt0_coeff, tau, w, y, bounds, min_points, bank, middle, reach, scratch, x, ja,
    jb, phi, ranges, values, doubts, offset, runs, run_length, row_run, n_runs,
):  # fmt: skip
    """All rows of one teff. Returns the end of the stored values and runs."""
    longest = bank[6]
    run_offset, run_season, run_scale, run_first = runs
    one, other, joined = ranges
    for s in range(bounds.shape[1] - 1):
        row_run[k, s] = n_runs
        base, delta, half = rows_grid[k, s, 0], rows_grid[k, s, 1], rows_grid[k, s, 2]
        count = counts[k, s]
        if count == 0 or half <= 0.0:
            continue
        n_ranges, shortest, most, farthest = 0, np.inf, 0.0, 0.0
        for d in range(bounds.shape[0]):
            a, b = bounds[d, s], bounds[d, s + 1]
            if b - a < min_points:
                continue
            edges(tau[a:b], base, delta, half, 1.0 / delta, ja[a:b], jb[a:b])
            n_one = ranges_of(ja[a:b], jb[a:b], count, min_points, one)
            if n_one == 0:
                continue
            phases(tau[a:b], ja[a:b], base, delta, teff, middle, reach, phi[a:b])
            for i in range(a, b):
                shortest, most = min(shortest, jb[i] - ja[i]), max(most, jb[i] - ja[i])
                farthest = max(farthest, abs(phi[i]))
            n_ranges = merge_ranges(one, n_one, other, n_ranges, joined)
            one, other, joined = one, joined, other
        if n_ranges == 0:
            continue
        # What the polynomials do not know: a step rounded to the digits of the times, times so rounded.
        extra = (longest * abs(delta - dt0_coeff * teff) + 4e-16 * (abs(base) + count * delta)) / teff
        fast = most <= longest and shortest > longest - LENGTHS and farthest <= 1.0 + 1e-6 and extra < WORST
        for r in range(n_ranges):
            r0, r1 = other[r, 0], other[r, 1]
            run_offset[n_runs], run_season[n_runs], run_scale[n_runs], run_first[n_runs] = offset, s, k, r0
            run_length[n_runs] = r1 - r0
            n_runs += 1
            fill_range(
                r0, r1, s, base, delta, half, teff, extra, tau, w, y, bounds, ja, jb, phi, bank, fast,
                min_points, scratch, x, values, doubts, offset,
            )  # fmt: skip
            offset += r1 - r0
    row_run[k, bounds.shape[1] - 1] = n_runs
    return offset, n_runs
