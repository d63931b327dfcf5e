"""Lays out the work of the CUDA scan: rows by season, the rows of the grid and the runs of filled points."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.curves import Curves
from skytrawl.kernels.jit import njit
from skytrawl.kernels.scan.block import normalise, rows_of_grid, season_rows
from skytrawl.kernels.scan.seasons import filled_ranges, merge_ranges, season_bounds, season_gap
from skytrawl.kernels.scan.types import ScanGrid


class Layout(NamedTuple):
    """The work of a batch of objects; P pieces, S seasons, K scales, R runs.

    A piece is the rows of one data set in one season; those with fewer than min_points rows are left out.
    Points of the workspace are ordered by (object, scale, season, step), which keeps the points of an object
    and scale together for the median, and in a season leaves them in the order in which ties are decided.

    Attributes
    ----------
    stop : int, the object after the last of the batch
    tau, weight, flux : float64[n_rows], see `block.normalise`
    pieces : int64[P, 2], first row and row after the last
    season_piece : int64[S + 1], pieces of each season
    object_season : int64[n_objects + 1], seasons of each object
    start : float64[S], first time of the season [d]
    rows_grid : float64[K, S, 3]
        First t0 on the clock of the season, step of t0, half width of the windows [d].
    counts : int64[K, S], t0 of each row of the grid
    runs : int64[R, 4], season, scale, first step, place in the workspace
    rows_a_window : float64[R], mean over the run's season
    parts : int64[S, K, 2], places of each season and scale
    bounds : int64[n_objects * K + 1], places of each object and scale
    """

    stop: int
    tau: NDArray[np.float64]
    weight: NDArray[np.float64]
    flux: NDArray[np.float64]
    pieces: NDArray[np.int64]
    season_piece: NDArray[np.int64]
    object_season: NDArray[np.int64]
    start: NDArray[np.float64]
    rows_grid: NDArray[np.float64]
    counts: NDArray[np.int64]
    runs: NDArray[np.int64]
    rows_a_window: NDArray[np.float64]
    parts: NDArray[np.int64]
    bounds: NDArray[np.int64]


@njit()
def _seasons(time, flux, error, rows, sets, gap, min_points, as_original):  # type: ignore[no-untyped-def]
    """Rows normalised, the pieces of each season, the seasons of each object, their first and last times."""
    n_objects, n_rows = len(sets) - 1, len(time)
    tau, w, y = np.empty(n_rows), np.empty(n_rows), np.empty(n_rows)
    pieces = np.empty((n_rows // min_points, 2), np.int64)
    season_piece, object_season = np.zeros(n_rows + 1, np.int64), np.zeros(n_objects + 1, np.int64)
    span = np.empty((n_rows, 2))
    n_seasons = n_pieces = 0
    for k in range(n_objects):
        row0, row1 = rows[sets[k]], rows[sets[k + 1]]
        own = rows[sets[k] : sets[k + 1] + 1] - row0
        merged = np.sort(time[row0:row1])
        bounds = season_bounds(merged, gap)
        n = len(bounds) - 1
        starts, within = merged[bounds[:-1]], np.empty((len(own) - 1, n + 1), np.int64)
        season_rows(time[row0:row1], own, len(own) - 1, starts, within)
        normalise(
            time[row0:row1], flux[row0:row1], error[row0:row1], own, starts, within, as_original,
            tau[row0:row1], w[row0:row1], y[row0:row1],
        )  # fmt: skip
        for s in range(n):
            for d in range(len(own) - 1):
                if within[d, s + 1] - within[d, s] >= min_points:
                    pieces[n_pieces] = within[d, s] + row0, within[d, s + 1] + row0
                    n_pieces += 1
            span[n_seasons] = starts[s], merged[bounds[s + 1] - 1]
            n_seasons += 1
            season_piece[n_seasons] = n_pieces
        object_season[k + 1] = n_seasons
    return tau, w, y, pieces[:n_pieces], season_piece[: n_seasons + 1], object_season, span[:n_seasons]


@njit()
def _runs(tau, pieces, season_piece, object_season, rows_grid, counts, min_points, max_points):  # type: ignore[no-untyped-def]
    """Runs of the objects until their points exceed `max_points`, of one at least."""
    n_scales, n_seasons = counts.shape
    n_objects = len(object_season) - 1
    parts = np.zeros((n_seasons, n_scales, 2), np.int64)
    bounds = np.zeros(n_objects * n_scales + 1, np.int64)
    runs, rows_a_window = np.empty((1024, 4), np.int64), np.empty(1024)
    ranges = np.empty((3, len(tau) + 1, 2), np.int64)
    n_runs = n_points = 0
    for k in range(n_objects):
        before = n_runs
        for c in range(n_scales):
            for s in range(object_season[k], object_season[k + 1]):
                base, delta, half = rows_grid[c, s, 0], rows_grid[c, s, 1], rows_grid[c, s, 2]
                n = n_rows = 0
                for p in range(season_piece[s], season_piece[s + 1]):
                    piece = tau[pieces[p, 0] : pieces[p, 1]]
                    n_rows += len(piece)
                    n_own = filled_ranges(piece, base, delta, counts[c, s], half, min_points, ranges[1])
                    n = merge_ranges(ranges[0], n, ranges[1], n_own, ranges[2])
                    ranges[0, :n] = ranges[2, :n]
                while n_runs + n > len(runs):
                    runs = np.concatenate((runs, np.empty_like(runs)))
                    rows_a_window = np.concatenate((rows_a_window, np.empty_like(rows_a_window)))
                parts[s, c, 0] = n_points
                for r in range(n):
                    runs[n_runs] = s, c, ranges[0, r, 0], n_points
                    rows_a_window[n_runs] = n_rows * min(1.0, 2.0 * half / (counts[c, s] * delta))
                    n_points += ranges[0, r, 1] - ranges[0, r, 0]
                    n_runs += 1
                parts[s, c, 1] = n_points
            bounds[k * n_scales + c + 1] = n_points
        if n_points > max_points and k > 0:
            return k, runs[:before].copy(), rows_a_window[:before].copy(), parts, bounds
    return n_objects, runs[:n_runs].copy(), rows_a_window[:n_runs].copy(), parts, bounds


def lay_out(curves: Curves, grid: ScanGrid, first: int, max_points: int) -> Layout:
    """Lay out the objects from `first` on: as many as keep below `max_points` filled points, one at least."""
    ends = curves.rows[curves.sets]
    # A dense row makes eight points and a lone one none; what turns out to be too much is laid out once more.
    last = int(np.searchsorted(ends, ends[first] + max_points // 8, side="right")) - 1
    last = min(max(last, first + 1), curves.n_objects)
    rows, teff = slice(ends[first], ends[last]), np.array(grid.teff)
    tau, weight, flux, pieces, season_piece, object_season, span = _seasons(
        curves.time[rows], curves.flux[rows], curves.error[rows],
        curves.rows[curves.sets[first] : curves.sets[last] + 1] - ends[first],
        curves.sets[first : last + 1] - curves.sets[first], season_gap(grid), grid.min_points,
        grid.as_original,
    )  # fmt: skip
    rows_grid, counts = np.empty((len(teff), len(span), 3)), np.empty((len(teff), len(span)), np.int64)
    rows_of_grid(
        span[:, 0], span[:, 1], teff, grid.dt0_coeff, grid.teff_coeff, grid.as_original, rows_grid, counts
    )
    n, runs, rows_a_window, parts, bounds = _runs(
        tau, pieces, season_piece, object_season, rows_grid, counts, grid.min_points, max_points
    )
    n_seasons, n_rows = object_season[n], ends[first + n] - ends[first]
    n_pieces = season_piece[n_seasons]
    return Layout(
        first + n, tau[:n_rows], weight[:n_rows], flux[:n_rows], pieces[:n_pieces],
        season_piece[: n_seasons + 1], object_season[: n + 1], span[:n_seasons, 0].copy(),
        rows_grid[:, :n_seasons], counts[:, :n_seasons], runs, rows_a_window, parts[:n_seasons],
        bounds[: n * len(teff) + 1],
    )  # fmt: skip
