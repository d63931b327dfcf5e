"""The compiled scan of a block of objects."""

import numpy as np

from skytrawl.kernels.jit import njit
from skytrawl.kernels.scan.fill import fill_scale
from skytrawl.kernels.scan.peaks import (
    BINS,
    BLOCK,
    LEAST,
    find_best,
    median_size,
    noise_of,
    points_left,
    remove,
    steps_near,
    summarise,
)
from skytrawl.kernels.scan.screen import CHUNK, STRIDE
from skytrawl.kernels.scan.seasons import grid_row, season_bounds

# Keeps a sum of weights above 0, however unlike the errors of a data set are.
LIGHTEST = 1e-200


@njit()
def normalise(time, flux, error, sets, starts, bounds, as_original, tau, w, y):  # type: ignore[no-untyped-def]
    """Times on the clock of their season, weights and fluxes in units of about the smallest error.

    The unit is a power of two, so that no digit changes and neither weights nor their products leave the
    range of numbers. Fluxes are counted from the weighted mean of their data set and season; constant ones
    are 0.
    """
    for d in range(bounds.shape[0]):
        a, b = sets[d], sets[d + 1]
        if a == b:
            continue
        unit = 2.0 ** np.floor(np.log2(np.min(error[a:b])))
        for s in range(bounds.shape[1] - 1):
            lo, hi = bounds[d, s], bounds[d, s + 1]
            sw = swy = 0.0
            for i in range(lo, hi):
                tau[i] = time[i] if as_original else time[i] - starts[s]
                e = error[i] / unit
                w[i] = max(1.0 / (e * e), LIGHTEST)
                y[i] = flux[i] / unit
                sw += w[i]
                swy += w[i] * y[i]
            if hi > lo:
                mean = swy / sw
                largest = 0.0
                for i in range(lo, hi):
                    y[i] -= mean
                    largest = max(largest, abs(y[i]))
                if largest <= 1e-14 * abs(mean):
                    y[lo:hi] = 0.0


@njit()
def season_rows(time, sets, n_sets, starts, bounds):  # type: ignore[no-untyped-def]
    """Rows of each data set and season: ``bounds`` int64[n_sets, n_seasons + 1], written."""
    for d in range(n_sets):
        i = sets[d]
        for s in range(len(starts)):
            while i < sets[d + 1] and time[i] < starts[s]:
                i += 1
            bounds[d, s] = i
        bounds[d, len(starts)] = sets[d + 1]


@njit()
def rows_of_grid(starts, ends, teff, dt0_coeff, teff_coeff, as_original, rows_grid, counts):  # type: ignore[no-untyped-def]
    """Every row of the grid: base, delta, half width [n_teff, n_seasons, 3] and number of t0."""
    for k in range(len(teff)):
        for s in range(len(starts)):
            base, delta, count, half = grid_row(
                starts[s], ends[s], teff[k], dt0_coeff, teff_coeff, as_original
            )
            rows_grid[k, s, 0], rows_grid[k, s, 1], rows_grid[k, s, 2] = base, delta, half
            counts[k, s] = count


@njit()
def _pick_clusters(  # type: ignore[no-untyped-def]
    values, doubts, bump, dip, block_first, object_, grid, runs, run_length, row_run, starts, counts, overlap,
    number, t0_out, dchi2_out, best, place, x,
):  # fmt: skip
    """Greedy clusters of all seasons of one object at once: those of one season leave the others alone."""
    rows_grid, teff = object_[4], grid[0]
    k_best = len(number) - 2
    picked, reach_of, equal = np.empty((k_best, 3)), np.empty(len(teff)), np.ones(len(teff))
    removed = np.zeros(len(starts), np.int64)
    for p in range(k_best):
        both = np.int64(0)
        find_best(both, equal, values, doubts, bump, dip, block_first, object_, grid, runs, best, place, x)
        if not best[0] > 0.0:
            break
        s, k = place[0], place[1]
        delta = rows_grid[k, s, 1]
        number[p] = place
        dchi2_out[p], t0_out[p] = best[1], starts[s] + place[2] * delta
        on_clock = rows_grid[k, s, 0] + place[2] * delta
        picked[p, 0], picked[p, 1], picked[p, 2] = s, on_clock, teff[k]
        for q in range(len(teff)):
            reach_of[q] = overlap * (teff[q] + teff[k])
            first, stop = steps_near(
                rows_grid[q, s, 0], rows_grid[q, s, 1], counts[q, s], on_clock, reach_of[q]
            )
            removed[s] += stop - first
        # Counted exactly only where the neighbourhoods, some of them counted twice, come near the whole.
        near = removed[s] > counts[:, s].sum() - LEAST
        if near and points_left(s, p + 1, picked, teff, rows_grid, counts, overlap) < LEAST:
            reach_of[:] = np.inf
        remove(
            s, on_clock, reach_of, values, doubts, bump, dip, row_run, runs, run_length, rows_grid, counts
        )  # fmt: skip


@njit()
def scan_block(  # type: ignore[no-untyped-def]
    time, flux, error, rows, sets, teff, gap, dt0_coeff, teff_coeff, min_points, overlap, as_original, k_best,
    bank, middle, reach, number, t0_out, dchi2_out, noise_out, sizes,
):  # fmt: skip
    """Scan every object of a block.

    Parameters
    ----------
    bank : (address, coef, square, error, largest, slope, longest, width)
        See `tables.Bank`; `coef` and `square` are flat for each template, `width` the steps that are
        computed.
    number : int64[n_objects, k_best + 2, 6], written
        Season, scale, step, template, sign, rows in the window of the clusters, the best bump and the best
        dip.
    t0_out, dchi2_out : float64[n_objects, k_best + 2], written
    noise_out : float64[n_objects, n_teff], written
    sizes : int64[n_objects, 3], written: seasons, grid points, filled grid points
    """
    n_teff, n_templates = len(teff), len(bank[0])
    longest = bank[6]
    most = 0
    for o in range(len(sets) - 1):
        most = max(most, rows[sets[o + 1]] - rows[sets[o]])
    tau, w, y, phi = np.empty(most), np.empty(most), np.empty(most), np.empty(most)
    ja, jb, x = np.empty(most), np.empty(most), np.empty(most)
    ranges = (
        np.empty((most + 1, 2), np.int64),
        np.empty((most + 1, 2), np.int64),
        np.empty((most + 1, 2), np.int64),
    )
    scratch = (
        np.empty(3 * STRIDE * n_templates), np.empty((3, CHUNK)), np.empty(CHUNK, np.int64), np.empty((most,
        3)), np.empty((n_templates, CHUNK)), np.empty((n_templates, CHUNK)), np.empty((n_templates, CHUNK)),
    )  # fmt: skip
    values, doubts, few = np.empty(0, np.float32), np.empty(0, np.float32), np.empty(0, np.int32)
    bump, dip = np.empty(0, np.float32), np.empty(0, np.float32)
    bins = np.empty(BINS, np.int64)
    best, place = np.empty(2), np.empty(6, np.int64)
    number[:], t0_out[:], dchi2_out[:], noise_out[:], sizes[:] = 0, np.nan, np.nan, 1.0, 0
    number[:, :, :4] = -1
    for o in range(len(sets) - 1):
        row0, row1 = rows[sets[o]], rows[sets[o + 1]]
        n_rows, n_sets = row1 - row0, sets[o + 1] - sets[o]
        if n_rows == 0:
            continue
        t, f, e = time[row0:row1], flux[row0:row1], error[row0:row1]
        own = rows[sets[o] : sets[o + 1] + 1] - row0
        union = t if n_sets == 1 else np.sort(t)
        at = season_bounds(union, gap)
        n_seasons = len(at) - 1
        starts, ends = union[at[:-1]], union[at[1:] - 1]
        bounds = np.empty((n_sets, n_seasons + 1), np.int64)
        season_rows(t, own, n_sets, starts, bounds)
        normalise(t, f, e, own, starts, bounds, as_original, tau, w, y)
        rows_grid = np.empty((n_teff, n_seasons, 3))
        counts = np.empty((n_teff, n_seasons), np.int64)
        rows_of_grid(starts, ends, teff, dt0_coeff, teff_coeff, as_original, rows_grid, counts)
        # Each filled point needs min_points rows of a data set, and a row lies in `longest` windows at most.
        room = n_runs = 0
        for k in range(n_teff):
            filled = min(counts[k].sum(), n_rows * (longest + 1) // min_points)
            room += (filled + BLOCK - 1) // BLOCK * BLOCK
            n_runs += min(filled, n_rows)
        sizes[o, 0], sizes[o, 1] = n_seasons, counts.sum()
        if room > len(values):
            # What was there goes before more is taken.
            values = doubts = bump = dip = np.empty(0, np.float32)
            few = np.empty(0, np.int32)
            values, doubts, few = (
                np.empty(room, np.float32),
                np.empty(room, np.float32),
                np.empty(room, np.int32),
            )
            bump, dip = np.empty(room // BLOCK, np.float32), np.empty(room // BLOCK, np.float32)
        runs = (
            np.empty(n_runs, np.int64), np.empty(n_runs, np.int64), np.empty(n_runs, np.int64),
            np.empty(n_runs, np.int64),
        )  # fmt: skip
        run_length = np.empty(n_runs, np.int64)
        row_run = np.zeros((n_teff, n_seasons + 1), np.int64)
        block_first = np.zeros(n_teff + 1, np.int64)
        # Not literals, for which the functions called would be compiled once more.
        offset = n_runs = np.int64(0)  # type: ignore[assignment]
        for k in range(n_teff):
            begin = offset
            offset, n_runs = fill_scale(
                k, teff[k], rows_grid, counts, dt0_coeff, tau, w, y, bounds, min_points, bank, middle, reach,
                scratch, x, ja, jb, phi, ranges, values, doubts, offset, runs, run_length, row_run, n_runs,
            )  # fmt: skip
            sizes[o, 2] += offset - begin
            median, n = median_size(values, begin, offset, bins, few)
            noise_out[o, k] = noise_of(median, n, dt0_coeff, teff_coeff)
            while offset % BLOCK != 0:
                values[offset] = doubts[offset] = 0.0
                offset += 1
            block_first[k + 1] = offset // BLOCK
            summarise(values, doubts, block_first[k], block_first[k + 1], bump, dip)
        runs = (runs[0][:n_runs], runs[1][:n_runs], runs[2][:n_runs], runs[3][:n_runs])
        object_ = (tau, w, y, bounds, rows_grid)
        grid = (teff, min_points, bank[0])
        for p in range(2):
            find_best(
                1 - 2 * p,
                noise_out[o],
                values,
                doubts,
                bump,
                dip,
                block_first,
                object_,
                grid,
                runs,
                best,
                place,
                x,
            )
            if best[0] > 0.0:
                number[o, k_best + p] = place
                dchi2_out[o, k_best + p] = best[1]
                t0_out[o, k_best + p] = starts[place[0]] + place[2] * rows_grid[place[1], place[0], 1]
        _pick_clusters(
            values, doubts, bump, dip, block_first, object_, grid, runs, run_length, row_run, starts, counts,
            overlap, number[o], t0_out[o], dchi2_out[o], best, place, x,
        )  # fmt: skip
