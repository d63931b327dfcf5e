"""Speed of the fused scan against jacscanomaly's compiled grid and extraction of clusters.

By hand: ``pytest -m acceptance -s tests/benchmarks/test_scan_fused.py``. Both programs run in turn in one
process, one thread each; what counts is the median of the ratios of the processor time they took.
"""

import statistics
import sys
import time

import numpy as np
import pytest

from skytrawl.kernels.curves import prepare
from skytrawl.kernels.scan import ScanGrid, diagnose, scan

RATIOS = {10_000: 5.0, 40_000: 5.0}


def drawn(n, seed=0):
    """Six seasons of 72 d, uniform times, white noise."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.uniform(0, 72, n) + 365 * rng.integers(0, 6, n))
    return t, rng.normal(0, 1, n), np.ones(n)


def curves_of(time_, flux, error):
    return prepare(time_, flux, error, np.zeros(len(time_), int), np.array([0, len(time_)]))[0]


def compiled_grid(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return pytest.importorskip("jacscanomaly._cpp_grid")


def theirs(module, t, f, e, k=10):
    """K best clusters [t0, teff, dchi2] of every season, default configuration."""
    teff = np.array(ScanGrid().teff)
    ends = np.flatnonzero(np.diff(t) > 100) + 1
    found = []
    for rows in np.split(np.arange(len(t)), ends):
        grids = [np.arange(t[rows[0]], t[rows[-1]], 0.17 * x) for x in teff]
        t0, scales = np.concatenate(grids), np.repeat(teff, [len(g) for g in grids])
        dchi2 = module.run_grid(t[rows], f[rows], e[rows] ** -2.0, t0, scales)[0]
        found.append(module.extract_clusters(t0, scales, dchi2, 3.0, 3))
    rows = np.concatenate(found)
    return rows[np.argsort(-rows[:, 2], kind="stable")][:k]


def in_turn(repeats, *functions):
    """Processor seconds of each function in each round."""
    for function in functions:
        function()
    seconds = np.empty((repeats, len(functions)))
    for r in range(repeats):
        for i, function in enumerate(functions):
            start = time.process_time()
            function()
            seconds[r, i] = time.process_time() - start
    return seconds


def assert_same_candidates(module, t, f, e):
    rows = theirs(module, t, f, e)
    rows = rows[rows[:, 2] > 0]
    top = scan(curves_of(t, f, e), ScanGrid(as_original=True), backend="cpu").top
    np.testing.assert_array_equal(top.t0[0, : len(rows)], rows[:, 0])
    np.testing.assert_array_equal(top.teff[0, : len(rows)], rows[:, 1])
    np.testing.assert_allclose(top.dchi2[0, : len(rows)], rows[:, 2], rtol=1e-9)


@pytest.mark.parametrize("n", [285, 1000])
def test_the_yardstick_gives_the_same_candidates(monkeypatch, n):
    assert_same_candidates(compiled_grid(monkeypatch), *drawn(n, seed=n))


@pytest.mark.acceptance
@pytest.mark.parametrize("n", [1000, 10_000, 40_000])
def test_speed(monkeypatch, n):
    module = compiled_grid(monkeypatch)
    t, f, e = drawn(n)
    assert_same_candidates(module, t, f, e)
    curves, grid = curves_of(t, f, e), ScanGrid()
    top = scan(curves, grid, backend="cpu").top
    seconds = in_turn(
        7, lambda: theirs(module, t, f, e), lambda: scan(curves, grid, backend="cpu"),
        lambda: diagnose(curves, grid, top),
    )  # fmt: skip
    slow, fast, extra = np.median(seconds, axis=0) * 1e3
    ratio = statistics.median(seconds[:, 0] / seconds[:, 1])
    sys.stdout.write(
        f"\nn={n}: jacscanomaly {slow:.1f} ms, ours {fast:.1f} ms: {ratio:.1f}x; diagnostics {extra:.2f} ms\n"
    )
    assert ratio >= RATIOS.get(n, 0.0)


@pytest.mark.acceptance
@pytest.mark.parametrize("name", ["ob03235_ogle", "ob140939_ogle", "ob190033_ogle", "ob150966_ogle"])
def test_speed_of_sparse_curves(monkeypatch, reference_data, name):
    module = compiled_grid(monkeypatch)
    t, f, e = np.load(reference_data / "microlensing" / f"{name}.npy").T
    assert_same_candidates(module, t, f, e)
    curves, grid = curves_of(t, f, e), ScanGrid()
    seconds = in_turn(3, lambda: theirs(module, t, f, e), lambda: scan(curves, grid, backend="cpu"))
    slow, fast = np.median(seconds, axis=0) * 1e3
    points = scan(curves, grid, backend="cpu")
    sys.stdout.write(
        f"\n{name}, {len(t)} points, {points.n_filled[0]} of {points.n_grid[0]} grid points hold data: "
        f"jacscanomaly {slow:.0f} ms, ours {fast:.2f} ms: {slow / fast:.0f}x\n"
    )
    assert fast < 50
