"""Greedy clusters of grid points, exactly those of jacscanomaly (its ResultExtractor).

In each season the point of the largest dchi2 (the first of equal ones in the order of the grid) becomes a
cluster, and every point with ``|t0 - t0_max| < overlap_sigma (teff + teff_max)`` goes with it; and so on
until fewer than min_cluster_points points of the whole grid remain, empty ones included. Clusters without
gain are left out.

A row of the grid loses one stretch of its points to each cluster. The largest value of every `BLOCK` points
is kept, so that neither finding a maximum nor taking points out touches all of them; empty points are counted
only where the stop rule can depend on them.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError
from skytrawl.kernels.jit import njit
from skytrawl.kernels.scan.cpu_grid import GridMetrics
from skytrawl.kernels.scan.runs import Runs
from skytrawl.kernels.scan.seasons import grid_row

BLOCK = 64


class Clusters(NamedTuple):
    """Clusters of each object, by season and then in the order in which they were taken.

    Attributes
    ----------
    offsets : int64[n_objects + 1], clusters ``offsets[k]:offsets[k + 1]`` are object k
    season, scale, step : int64[n], season of the object, index of teff, index of t0 in its row of the grid
    t0, teff, dchi2 : float64[n]; days of the input, days, no unit
    point : int64[n], index into the arrays of `GridMetrics`
    """

    offsets: NDArray[np.int64]
    season: NDArray[np.int64]
    scale: NDArray[np.int64]
    step: NDArray[np.int64]
    t0: NDArray[np.float64]
    teff: NDArray[np.float64]
    dchi2: NDArray[np.float64]
    point: NDArray[np.int64]

    def best(self, k: int) -> "Clusters":
        """The k clusters of each object with the largest dchi2, largest first."""
        owner = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        order = np.lexsort((-self.dchi2, owner))
        rank = np.arange(len(order)) - np.repeat(self.offsets[:-1], np.diff(self.offsets))
        kept = order[rank < k]
        offsets = np.searchsorted(owner[kept], np.arange(len(self.offsets))).astype(np.int64)
        columns: list[Any] = [column[kept] for column in self[1:]]
        return Clusters(offsets, *columns)


def clusters(
    metrics: GridMetrics,
    overlap_sigma: float | None = None,
    min_cluster_points: int = 3,
    keep: NDArray[np.bool_] | None = None,
    k: int | None = None,
) -> Clusters:
    """Take the clusters of every object.

    Parameters
    ----------
    metrics : GridMetrics
    overlap_sigma : float, optional
        Overlap in units of the sum of the two teff, in place of ``grid.overlap``.
    min_cluster_points : int
        A season ends when fewer points remain.
    keep : bool[n_points], optional
        Points that may become clusters (`CandidateCriteria.accept`): version 0.3.2 of jacscanomaly applies
        its criteria here, before clusters are made.
    k : int, optional
        Only the k best clusters of each object, best first.

    Raises
    ------
    ParameterError
        If `overlap_sigma` or `min_cluster_points` is not positive, or `keep` has another length.
    """
    runs, grid = metrics.runs, metrics.runs.grid
    overlap_sigma = grid.overlap if overlap_sigma is None else overlap_sigma
    if not overlap_sigma > 0 or min_cluster_points < 1:
        raise ParameterError("overlap_sigma and min_cluster_points must be positive")
    if keep is not None and len(keep) != runs.n_points:
        raise ParameterError(f"keep has {len(keep)} values for {runs.n_points} points")
    value = metrics.dchi2.copy() if keep is None else np.where(keep, metrics.dchi2, 0.0)
    offsets, points, run = _take(
        value, runs.offsets, runs.season, runs.scale, runs.first, runs.point, runs.seasons, runs.start,
        runs.end, np.array(grid.teff), grid.dt0_coeff, grid.teff_coeff, grid.as_original,
        float(overlap_sigma), min_cluster_points, -1 if k is None else k,
    )  # fmt: skip
    step = runs.first[run] + points - runs.point[run]
    found = Clusters(
        offsets, runs.season[run], runs.scale[run], step, _t0(runs, run, step),
        np.array(grid.teff)[runs.scale[run]], metrics.dchi2[points], points,
    )  # fmt: skip
    return found if k is None else found.best(k)


def _t0(runs: Runs, run: NDArray[np.int64], step: NDArray[np.int64]) -> NDArray[np.float64]:
    """Times of steps in the rows of some runs [d]."""
    owner = np.searchsorted(runs.offsets, run, side="right") - 1
    start = runs.start[runs.seasons[owner] + runs.season[run]]
    delta = runs.grid.dt0_coeff * np.array(runs.grid.teff)[runs.scale[run]]
    return start + step * ((start + delta) - start if runs.grid.as_original else delta)


@njit()
def _stretch(base, delta, count, t0, reach):  # type: ignore[no-untyped-def]
    """Steps ``first:stop`` of a row with ``|t - t0| < reach``, decided by that very comparison."""
    first = min(max(int(np.floor((t0 - reach - base) / delta)) - 1, 0), count)
    while first < count and base + first * delta <= t0 and not abs(base + first * delta - t0) < reach:
        first += 1
    stop = min(max(int(np.floor((t0 + reach - base) / delta)) - 1, first), count)
    while stop < count and abs(base + stop * delta - t0) < reach:
        stop += 1
    return first, stop


@njit()
def _n_left(taken_t0, taken_teff, n_taken, base, delta, count, teff, sigma):  # type: ignore[no-untyped-def]
    """Points of the whole grid of a season that no cluster has taken."""
    left = 0
    steps = np.empty((n_taken, 2), np.int64)
    for k in range(len(teff)):
        for c in range(n_taken):
            reach = sigma * (teff[k] + taken_teff[c])
            steps[c, 0], steps[c, 1] = _stretch(base[k], delta[k], count[k], taken_t0[c], reach)
        reached = 0
        for c in np.argsort(steps[:, 0]):
            left += max(0, steps[c, 0] - reached)
            reached = max(reached, steps[c, 1])
        left += max(0, count[k] - reached)
    return left


@njit()
def _summit(value, summit, b, begin, stop):  # type: ignore[no-untyped-def]
    """Largest value of block b of the points from `begin` to `stop`."""
    largest = 0.0
    for g in range(begin + b * BLOCK, min(begin + (b + 1) * BLOCK, stop)):
        largest = max(largest, value[g])
    summit[b] = largest


@njit()
def _strike(value, summit, g0, g1, begin, stop):  # type: ignore[no-untyped-def]
    """Set points g0:g1 to 0; return how many were positive."""
    struck = 0
    for g in range(g0, g1):
        if value[g] > 0.0:
            struck += 1
            value[g] = 0.0
    if struck > 0:
        for b in range((g0 - begin) // BLOCK, (g1 - 1 - begin) // BLOCK + 1):
            _summit(value, summit, b, begin, stop)
    return struck


@njit()
def _take(  # type: ignore[no-untyped-def]
    value, offsets, season, scale, first, point, seasons, start, end, teff, dt0_coeff, teff_coeff,
    as_original, sigma, min_points, k_best,
):  # fmt: skip
    """Points and runs of the clusters, by object and season; `value` is used up."""
    n_teff = len(teff)
    found = np.empty((256, 2), np.int64)
    n_found = 0
    ends = np.zeros(len(offsets), np.int64)
    base, delta, count = np.empty(n_teff), np.empty(n_teff), np.empty(n_teff, np.int64)
    row = np.empty(n_teff + 1, np.int64)
    for o in range(len(offsets) - 1):
        r0 = offsets[o]
        while r0 < offsets[o + 1]:
            r1 = r0
            while r1 < offsets[o + 1] and season[r1] == season[r0]:
                r1 += 1
            s = seasons[o] + season[r0]
            r = r0
            for k in range(n_teff):
                base[k], delta[k], count[k], _ = grid_row(
                    start[s], end[s], teff[k], dt0_coeff, teff_coeff, as_original
                )
                row[k] = r
                while r < r1 and scale[r] == k:
                    r += 1
            row[n_teff] = r1
            begin, stop = point[r0], point[r1]
            n_blocks = (stop - begin + BLOCK - 1) // BLOCK
            summit = np.empty(n_blocks)
            for b in range(n_blocks):
                _summit(value, summit, b, begin, stop)
            positive = 0
            for g in range(begin, stop):
                positive += value[g] > 0.0
            taken_t0, taken_teff = np.empty(64), np.empty(64)
            n_taken: Any = np.int64(0)  # a literal would compile `_n_left` once more
            while positive > 0 and n_taken != k_best:
                if n_taken > 0 and positive < min_points:
                    left = _n_left(taken_t0, taken_teff, n_taken, base, delta, count, teff, sigma)
                    if left < min_points:
                        break
                highest = np.argmax(summit)
                g = begin + highest * BLOCK
                while value[g] != summit[highest]:
                    g += 1
                r = r0 + np.searchsorted(point[r0:r1], g, side="right") - 1
                here = scale[r]
                t0 = base[here] + (first[r] + g - point[r]) * delta[here]
                if n_found == len(found):
                    found = np.concatenate((found, np.empty_like(found)))
                found[n_found, 0], found[n_found, 1] = g, r
                n_found += 1
                if n_taken == len(taken_t0):
                    taken_t0 = np.concatenate((taken_t0, np.empty_like(taken_t0)))
                    taken_teff = np.concatenate((taken_teff, np.empty_like(taken_teff)))
                taken_t0[n_taken], taken_teff[n_taken] = t0, teff[here]
                n_taken += 1
                for k in range(n_teff):
                    if row[k] == row[k + 1]:
                        continue
                    a, b = _stretch(base[k], delta[k], count[k], t0, sigma * (teff[k] + teff[here]))
                    # the last run that begins at or before a, then on to the last that begins before b
                    q = row[k] + np.searchsorted(first[row[k] : row[k + 1]], a, side="right") - 1
                    q = max(q, row[k])
                    while q < row[k + 1] and first[q] < b:
                        length = point[q + 1] - point[q]
                        g0 = point[q] + max(a - first[q], 0)
                        g1 = point[q] + min(b - first[q], length)
                        if g0 < g1:
                            positive -= _strike(value, summit, g0, g1, begin, stop)
                        q += 1
            r0 = r1
        ends[o + 1] = n_found
    return ends, found[:n_found, 0].copy(), found[:n_found, 1].copy()
