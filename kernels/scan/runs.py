"""Where the points of a block's grid hold data, as runs of neighbouring t0."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError
from skytrawl.kernels.curves import Curves
from skytrawl.kernels.jit import njit
from skytrawl.kernels.scan.seasons import filled_ranges, grid_row, on_clock, season_bounds, season_gap
from skytrawl.kernels.scan.types import ScanGrid


class Runs(NamedTuple):
    """Runs of grid points whose windows hold min_points rows, of objects with one data set each.

    Runs are ordered by object, season, teff and t0, and so are the points in them. Their number is of the
    order of the number of rows, whatever the length of the grid.

    Attributes
    ----------
    offsets : int64[n_objects + 1], runs ``offsets[k]:offsets[k + 1]`` are object k
    season, scale : int64[n_runs], season of the object, index of teff
    first : int64[n_runs], index of the first t0 in its row of the grid
    point : int64[n_runs + 1], points ``point[r]:point[r + 1]`` are run r
    seasons : int64[n_objects + 1], seasons ``seasons[k]:seasons[k + 1]`` are object k
    start, end : float64[n_seasons], first and last time [d]
    bounds : int64[n_seasons, 2], rows of each season
    grid : ScanGrid
    """

    offsets: NDArray[np.int64]
    season: NDArray[np.int64]
    scale: NDArray[np.int64]
    first: NDArray[np.int64]
    point: NDArray[np.int64]
    seasons: NDArray[np.int64]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    bounds: NDArray[np.int64]
    grid: ScanGrid

    @property
    def n_points(self) -> int:
        """Number of points in all runs."""
        return int(self.point[-1])

    def n_grid(self) -> NDArray[np.int64]:
        """Points of the whole grid, empty ones too: int64[n_seasons]."""
        grid = self.grid
        rows = ((s, e, t, grid.dt0_coeff, grid.teff_coeff, grid.as_original)
                for s, e in zip(self.start, self.end, strict=True) for t in grid.teff)  # fmt: skip
        counts = np.array([grid_row(*row)[2] for row in rows], np.int64)
        return counts.reshape(len(self.start), len(grid.teff)).sum(axis=1)


@njit()
def _find(  # type: ignore[no-untyped-def]
    time, rows, sets, gap, teff, dt0_coeff, teff_coeff, as_original, min_points
):
    """Seasons and runs; the lists of runs grow as they fill."""
    n_objects = len(sets) - 1
    offsets, seasons = np.zeros(n_objects + 1, np.int64), np.zeros(n_objects + 1, np.int64)
    starts, ends = np.empty(len(time)), np.empty(len(time))
    bounds = np.empty((len(time), 2), np.int64)
    runs = np.empty((1024, 4), np.int64)
    n_runs = n_seasons = n_points = 0
    for o in range(n_objects):
        if sets[o + 1] > sets[o]:
            begin, stop = rows[sets[o]], rows[sets[o] + 1]
            limits = season_bounds(time[begin:stop], gap)
            ranges = np.empty((stop - begin + 1, 2), np.int64)
            for s in range(len(limits) - 1):
                a, b = begin + limits[s], begin + limits[s + 1]
                start, end = time[a], time[b - 1]
                tau = on_clock(time[a:b], start, as_original)
                for k in range(len(teff)):
                    base, delta, count, half = grid_row(
                        start, end, teff[k], dt0_coeff, teff_coeff, as_original
                    )
                    n = filled_ranges(tau, base, delta, count, half, min_points, ranges)
                    while n_runs + n > len(runs):
                        longer = np.empty((2 * len(runs), 4), np.int64)
                        longer[: len(runs)] = runs
                        runs = longer
                    for r in range(n):
                        runs[n_runs, 0], runs[n_runs, 1] = s, k
                        runs[n_runs, 2], runs[n_runs, 3] = ranges[r, 0], n_points
                        n_points += ranges[r, 1] - ranges[r, 0]
                        n_runs += 1
                starts[n_seasons], ends[n_seasons] = start, end
                bounds[n_seasons, 0], bounds[n_seasons, 1] = a, b
                n_seasons += 1
        offsets[o + 1], seasons[o + 1] = n_runs, n_seasons
    some = slice(0, n_seasons)
    return offsets, runs[:n_runs], n_points, seasons, starts[some], ends[some], bounds[some]


def find_runs(curves: Curves, grid: ScanGrid) -> Runs:
    """Find the points of the grid that hold data.

    Raises
    ------
    ParameterError
        If an object has several data sets: their windows differ.
    """
    several = np.flatnonzero(np.diff(curves.sets) > 1)
    if len(several):
        raise ParameterError(
            f"object {several[0]} of the block has {np.diff(curves.sets)[several[0]]} data sets: "
            "give the grid of one data set an object, or scan() for their sum"
        )
    offsets, runs, n_points, seasons, start, end, bounds = _find(
        curves.time, curves.rows, curves.sets, season_gap(grid), np.array(grid.teff), grid.dt0_coeff,
        grid.teff_coeff, grid.as_original, grid.min_points,
    )  # fmt: skip
    season, scale, first, point = (np.ascontiguousarray(column) for column in runs.T)
    return Runs(offsets, season, scale, first, np.append(point, n_points), seasons, start, end, bounds, grid)
