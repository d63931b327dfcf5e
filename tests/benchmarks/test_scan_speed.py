"""Speed of the scans against jacscanomaly. By hand:

    python -m pytest tests/benchmarks/test_scan_speed.py -m acceptance -s

The suite runs the same code on small input and compares the numbers alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scan_data import (
    Peer032,
    compiled_grid,
    curves_of,
    light_curve,
    original_grid,
    ratio_of,
    seconds_of,
    show,
)

from skytrawl.kernels import scan
from skytrawl.kernels.scan import ScanGrid
from skytrawl.kernels.scan.cpu_grid import grid_metrics
from skytrawl.scan_curve import scan_light_curve

GRID = ScanGrid(as_original=True)
SAME_OUTPUTS = {1000: 2.5, 10_000: 3.0, 40_000: 3.0}
FUSED = {10_000: 5.0, 40_000: 5.0}
WHOLE_RUN, SPARSE = 10.0, 50.0
K = 10


def same_outputs(peer: Any, n: int, rounds: int) -> tuple[float, float, float]:
    """Every grid point with its diagnostics, by both; the numbers must agree."""
    columns = light_curve(n)
    curves, seasons = curves_of(columns), original_grid(columns, GRID)

    def ours() -> Any:
        return grid_metrics(curves, GRID, weighted=False)

    def theirs() -> list[Any]:
        return [peer.run_grid(*rows, t0, teff) for rows, t0, teff in seasons]

    mine = ours()
    # run_grid gives one array for each column but t0 and teff.
    parts = [np.column_stack([*season[1:], *part]) for season, part in zip(seasons, theirs(), strict=True)]
    other = np.concatenate([part[part[:, 3] >= GRID.min_points] for part in parts])
    names = ("t0", "teff", "dchi2", "n_window", "n_contrib", "n_eff", "peak_frac", "rho1", "longest_run")
    assert len(mine.dchi2) == len(other)
    for column, name in enumerate(names):
        # The rounding of the sums: jacscanomaly takes differences of two chi-squares of the window.
        rounding = 1e-9 * np.maximum(1, other[:, 3]) if name == "dchi2" else 1e-6
        wrong = np.abs(getattr(mine, name) - other[:, column]) > rounding + 1e-9 * np.abs(other[:, column])
        assert wrong.mean() < 1e-5, (name, wrong.sum())
    return ratio_of(lambda: seconds_of(ours), lambda: seconds_of(theirs), rounds)


def fused(peer: Any, n: int, rounds: int) -> tuple[float, float, float]:
    """The best clusters: in one pass, and by grid and extraction; they must be the same."""
    columns = light_curve(n)
    curves, seasons = curves_of(columns), original_grid(columns, GRID)

    def ours() -> Any:
        return scan.scan(curves, GRID, k=K, backend="cpu")

    def theirs() -> np.ndarray:
        found = []
        for rows, t0, teff in seasons:
            dchi2 = peer.run_grid(*rows, t0, teff)[0]
            found.append(peer.extract_clusters(t0, teff, dchi2, sigma_overlap=3.0, min_points=3))
        clusters = np.concatenate(found)
        return clusters[np.argsort(-clusters[:, 2], kind="stable")]

    top, clusters = ours().top, theirs()[:K]
    np.testing.assert_allclose(top.dchi2[0], clusters[:, 2], rtol=1e-9)
    np.testing.assert_allclose(top.t0[0], clusters[:, 0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(top.teff[0], clusters[:, 1], rtol=1e-12)
    return ratio_of(lambda: seconds_of(ours), lambda: seconds_of(theirs), rounds)


def whole_run(peer: Peer032, columns: Any, rounds: int) -> tuple[float, float, float]:
    """From fluxes to candidates without a starting guess; the best candidates must be the same."""

    def ours() -> Any:
        return scan_light_curve(*columns, kind="dchi2")

    best, other = ours().best, peer.run(columns)
    assert abs(best.t0 - other["t0"]) < 0.5 * best.teff, (best, other)
    assert abs(best.dchi2 / other["dchi2"] - 1) < 0.05, (best, other)
    return ratio_of(lambda: seconds_of(ours), lambda: peer.run(columns)["seconds"], rounds)


def test_same_numbers_as_the_compiled_grid() -> None:
    peer = compiled_grid()
    same_outputs(peer, 600, 1)
    fused(peer, 600, 1)


@pytest.mark.acceptance
@pytest.mark.timeout(1800)
def test_speed_of_the_same_outputs() -> None:
    peer = compiled_grid()
    rows = [(f"N = {n:,}", same_outputs(peer, n, 9), bar) for n, bar in SAME_OUTPUTS.items()]
    show("every grid point with its diagnostics, against jacscanomaly's run_grid", rows)
    assert all(found[0] >= bar for _, found, bar in rows), rows


@pytest.mark.acceptance
@pytest.mark.timeout(1800)
def test_speed_of_scan_and_clusters() -> None:
    peer = compiled_grid()
    rows = [(f"N = {n:,}", fused(peer, n, 9), bar) for n, bar in FUSED.items()]
    show(f"the {K} best clusters, against jacscanomaly's run_grid and extract_clusters", rows)
    assert all(found[0] >= bar for _, found, bar in rows), rows


@pytest.mark.acceptance
@pytest.mark.timeout(3600)
def test_speed_of_a_whole_run(reference_data: Path) -> None:
    with Peer032() as peer:
        rows = [
            (f"N = {n:,}", whole_run(peer, light_curve(n, lens=True), 5), WHOLE_RUN)
            for n in (1000, 10_000, 40_000)
        ]
        table = np.load(reference_data / "microlensing" / "ob03235_ogle.npy")
        columns = tuple(np.ascontiguousarray(column) for column in table.T)
        rows.append(("OGLE-2003-BLG-235, 285", whole_run(peer, columns, 5), SPARSE))
    show("a whole run without starting guess, against jacscanomaly 0.3.2", rows)
    assert all(found[0] >= bar for _, found, bar in rows), rows
