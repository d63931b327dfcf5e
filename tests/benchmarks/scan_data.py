"""Light curves of the scan benchmarks, and the programs that skytrawl is measured against.

jacscanomaly's compiled grid (the installed version) is loaded by itself, without the package around it.
Version 0.3.2 needs an interpreter of its own, named by the environment variable
SKYTRAWL_PEER_JACSCANOMALY_032. Both run on one thread.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.kernels.curves import Curves, prepare
from skytrawl.kernels.scan import ScanGrid

SEASONS, DAYS, YEAR = 6, 72.0, 365.25
PEER_032 = "SKYTRAWL_PEER_JACSCANOMALY_032"
Columns = tuple[np.ndarray, np.ndarray, np.ndarray]

_SERVE = """
import json, sys, time
import numpy as np
from jacscanomaly import Finder, FinderConfig
finder = Finder(FinderConfig())
print("ready", flush=True)
for line in sys.stdin:
    table = np.load(line.strip())
    began = time.perf_counter()
    result = finder.run(table[:, 0], table[:, 1], table[:, 2], verbose=False)
    seconds = time.perf_counter() - began
    best = result.best
    found = dict(seconds=seconds, t0=best.t0, teff=best.teff, dchi2=best.dchi2, score=best.score)
    print(json.dumps({k: float(v) for k, v in found.items()}), flush=True)
"""


def light_curve(n: int, seed: int = 1, *, lens: bool = False) -> Columns:
    """Times, fluxes and errors: six seasons of 72 d, white noise, one short bump, a lens on demand."""
    generator = np.random.default_rng(seed)
    season = generator.integers(0, SEASONS, n)
    time_ = np.sort(9000 + season * YEAR / 2 + generator.uniform(0, DAYS, n))
    error = generator.uniform(0.8, 1.2, n)
    centre = 9000 + 2 * YEAR / 2 + 40
    flux = 6 / np.sqrt(1 + np.square((time_ - centre - 6) / 0.8))
    if lens:
        u2 = 0.2**2 + np.square((time_ - centre) / 20)
        flux += 20 * (u2 + 2) / np.sqrt(u2 * (u2 + 4))
    return time_, flux + generator.normal(0, error), error


def curves_of(columns: Columns) -> Curves:
    """One light curve as a block."""
    n = len(columns[0])
    return prepare(*columns, np.zeros(n, np.int64), np.array([0, n]))[0]


def original_grid(columns: Columns, grid: ScanGrid) -> list[tuple[Columns, np.ndarray, np.ndarray]]:
    """Rows (time, flux, weight), t0 and teff of every season, as jacscanomaly makes them."""
    time_, flux, error = columns
    breaks = np.flatnonzero(np.diff(time_) > grid.gap) + 1
    found = []
    for rows in np.split(np.arange(len(time_)), breaks):
        steps = [np.arange(time_[rows[0]], time_[rows[-1]], grid.dt0_coeff * teff) for teff in grid.teff]
        teff = np.repeat(grid.teff, [len(step) for step in steps])
        season = (time_[rows], flux[rows], 1 / np.square(error[rows]))
        found.append((season, np.concatenate(steps), teff))
    return found


def compiled_grid() -> Any:
    """The compiled part of jacscanomaly on one thread; skips without the package."""
    spec = importlib.util.find_spec("jacscanomaly")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("jacscanomaly is not installed (pip install 'skytrawl[bench]')")
    files = sorted(Path(spec.submodule_search_locations[0]).glob("_cpp_grid*.so"))
    if not files:
        pytest.skip("this jacscanomaly was built without its compiled grid")
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # read once, when the library is loaded
    try:
        name = "jacscanomaly._cpp_grid"
        loader = importlib.machinery.ExtensionFileLoader(name, str(files[0]))
        made = importlib.util.spec_from_file_location(name, files[0], loader=loader)
        assert made is not None
        module = importlib.util.module_from_spec(made)
        loader.exec_module(module)
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
    return module


class Peer032:
    """jacscanomaly 0.3.2 in its own process, ready to be timed; use it in a with statement."""

    def __init__(self) -> None:
        python = os.environ.get(PEER_032)
        if not python:
            pytest.skip(f"{PEER_032} does not name an interpreter that holds jacscanomaly 0.3.2")
        self.folder = tempfile.TemporaryDirectory()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
        self.process = subprocess.Popen(
            [python, "-c", _SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=self.folder.name,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == "ready"

    def __enter__(self) -> Peer032:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()
        self.folder.cleanup()

    def run(self, columns: Columns) -> dict[str, float]:
        """A whole run with default settings and no starting guess: seconds and the best candidate."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        path = Path(self.folder.name) / "curve.npy"
        np.save(path, np.column_stack(columns))
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def seconds_of(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def ratio_of(
    ours: Callable[[], float], theirs: Callable[[], float], rounds: int
) -> tuple[float, float, float]:
    """Median of theirs / ours over rounds that alternate, and the median seconds of both."""
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    mine, other = zip(*pairs, strict=True)
    return (
        statistics.median(b / a for a, b in pairs),
        statistics.median(mine),
        statistics.median(other),
    )


def show(title: str, rows: list[tuple[Any, ...]]) -> None:
    """Print a table: case, ratio, the seconds of both, bar."""
    print(f"\n{title}\n{'case':>24} {'ratio':>8} {'ours, ms':>10} {'peer, ms':>10} {'bar':>6}")
    for case, (ratio, mine, other), bar in rows:
        print(f"{case:>24} {ratio:8.2f} {1e3 * mine:10.2f} {1e3 * other:10.2f} {bar:6.2f}")
