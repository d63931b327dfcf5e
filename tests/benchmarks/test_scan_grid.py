"""Grid metrics and clusters against jacscanomaly's compiled functions, one thread, interleaved.

Six seasons of 72 d with uniform random times and the default grid. Run it with OMP_NUM_THREADS=1:
``pytest -m acceptance -s tests/benchmarks/test_scan_grid.py``.
"""

import os
import statistics
import time
from itertools import pairwise

import numpy as np
import pytest

from skytrawl.kernels.curves import prepare
from skytrawl.kernels.scan.clusters import clusters
from skytrawl.kernels.scan.cpu_grid import grid_metrics
from skytrawl.kernels.scan.seasons import season_bounds
from skytrawl.kernels.scan.types import ScanGrid

GRID = ScanGrid(as_original=True)


def curve(n):
    rng = np.random.default_rng(n)
    days = np.sort(8346.5 + 200.0 * rng.integers(0, 6, n) + rng.uniform(0, 72, n))
    error = rng.uniform(0.5, 2.0, n)
    return days, rng.normal(0, error), error


def seconds(function):
    start = time.thread_time()
    function()
    return time.thread_time() - start


def interleaved(ours, theirs, rounds):
    """Median of the ratios of CPU seconds, and the best of each."""
    ours(), theirs()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    return statistics.median(b / a for a, b in pairs), *(min(column) for column in zip(*pairs, strict=True))


@pytest.mark.acceptance
@pytest.mark.parametrize(("n", "bar"), [(1000, 2.5), (10000, 3.0), (40000, 3.0)])
def test_metrics_and_clusters(n, bar):
    compiled = pytest.importorskip("jacscanomaly._cpp_grid")
    if os.environ.get("OMP_NUM_THREADS") != "1":
        pytest.skip("set OMP_NUM_THREADS=1: the original is compared on one thread")
    days, flux, error = curve(n)
    curves, _ = prepare(days, flux, error, np.zeros(n, int), np.array([0, n]))
    bounds, seasons = season_bounds(days, 100.0), []
    for begin, end in pairwise(bounds):
        rows = slice(begin, end)
        parts = [np.arange(days[begin], days[end - 1], 0.17 * teff) for teff in GRID.teff]
        teff = np.repeat(GRID.teff, [len(part) for part in parts])
        seasons.append((days[rows], flux[rows], error[rows] ** -2.0, np.concatenate(parts), teff))
    theirs = [compiled.run_grid(*season) for season in seasons]
    found = grid_metrics(curves, GRID)
    assert len(found.dchi2) == sum(np.count_nonzero(r[1]) for r in theirs)
    ratio, mine, other = interleaved(
        lambda: grid_metrics(curves, GRID), lambda: [compiled.run_grid(*season) for season in seasons], 15
    )
    print(f"\nmetrics n={n}: {ratio:.2f}x (best {mine * 1e3:.1f} ms against {other * 1e3:.1f} ms)")
    both = list(zip(seasons, theirs, strict=True))
    cluster_ratio, mine, other = interleaved(
        lambda: clusters(found), lambda: [compiled.extract_clusters(*s[3:5], r[0]) for s, r in both], 7
    )
    print(f"clusters n={n}: {cluster_ratio:.1f}x (best {mine * 1e3:.2f} ms against {other * 1e3:.1f} ms)")
    assert ratio >= bar
