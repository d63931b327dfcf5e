"""Speed of the dm-dt kernels on one thread, against light-curve and a transcription of soraisam2020.

Every ratio comes from runs in one process, one after the other in turn, and is that of the medians. The same
calls run once in the suite, where only the numbers are compared. By hand:

    python -m pytest tests/benchmarks/test_dmdt_kernels.py -m acceptance -s
"""

import csv
import importlib.util
import json
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

import light_curve
import numpy as np
import pytest

from skytrawl.kernels import dmdt

BORDERS = {"min_lgdt": -2.0, "max_lgdt": np.log10(2500.0), "max_abs_dm": 2.5, "lgdt_size": 32, "dm_size": 32}
CURVES = {50: 1000, 200: 120, 1000: 8}
COUNT_RATIOS = {50: 3.0, 200: 6.0, 1000: 10.0}
GAUSSIAN_RATIO, GAUSSIAN_ERROR = 10.0, 1e-5
SUPERNOVA_RATIO, LOCUS_RATIO, LEAST_YARDSTICK = 150.0, 500.0, 430.0


def transcription():
    """The yardstick, from the folder of the parity tests."""
    path = Path(__file__).parents[1] / "parity" / "soraisam2020_transcription.py"
    spec = importlib.util.spec_from_file_location("soraisam2020_transcription", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_turn(repeats, *functions):
    """Median seconds of each function, run in turn."""
    seconds = [[] for _ in functions]
    for function in functions:
        function()
    for _ in range(repeats):
        for function, one in zip(functions, seconds, strict=True):
            start = time.perf_counter()
            function()
            one.append(time.perf_counter() - start)
    return [statistics.median(one) for one in seconds]


def survey(n_curves, n, seed=1):
    """Curves of 1800 d with one visit a night: (time, magnitude, error)."""
    rng = np.random.default_rng(seed)
    curves = []
    for _ in range(n_curves):
        nights = rng.choice(1800, n, replace=n > 1800)
        t = np.sort(58000.0 + nights + rng.uniform(0, 0.3, n))
        curves.append((t, np.round(18.0 + rng.normal(0, 0.5, n), 5), np.round(rng.uniform(0.01, 0.2, n), 5)))
    return curves


def block_of(curves):
    """The block of one band of these curves."""
    time_, value, error = (np.concatenate(column) for column in zip(*curves, strict=True))
    offsets = np.cumsum([0, *(len(curve[0]) for curve in curves)])
    return dmdt.LightCurves(time_, value, error, np.zeros(offsets[-1], np.uint8), offsets)


def counting(n, n_curves):
    """Both programs' counts of the same curves, as functions."""
    curves = survey(n_curves, n)
    pairs = [curve[:2] for curve in curves]
    block, grid = block_of(curves), dmdt.light_curve_grid(**BORDERS)
    theirs = light_curve.DmDt.from_borders(**BORDERS, n_jobs=1)
    rules = dmdt.LIGHT_CURVE_RULES
    return (
        lambda: theirs.points_many(pairs, sorted=True),
        lambda: dmdt.count_maps(block, [(0, 0)], grid, rules, backend="cpu")[:, 0],
    )


def smearing(n, n_curves):
    """Both programs' smeared maps of the same curves, as functions."""
    curves = survey(n_curves, n)
    block, grid = block_of(curves), dmdt.light_curve_grid(**BORDERS)
    theirs = light_curve.DmDt.from_borders(**BORDERS, n_jobs=1)
    rules = dmdt.LIGHT_CURVE_RULES
    return (
        lambda: theirs.gausses_many(curves, sorted=True),
        lambda: dmdt.gaussian_maps(block, [(0, 0)], grid, rules, backend="cpu")[:, 0],
    )


class Soraisam2020:
    """Both ways to score the same light curves against the same references."""

    names = ("g", "R", "g-R", "R-g")
    codes = {"g": 0, "R": 1, "i": 2}  # noqa: RUF012

    def __init__(self, folder: Path, which: str) -> None:
        self.slow = transcription()
        self.references = {
            name: json.loads((folder / "soraisam2020" / f"{name}_logdt_dm.json").read_text())
            for name in self.names
        }
        self.expected = self.slow.expectations(self.references)
        tables = []
        for entry in self.references.values():
            rows = [entry[str(k)] for k in range(1, len(entry["log_dt_bin_edges"]))]
            edges, density = ([np.array(row[c]) for row in rows] for c in ("dm_bin_edges", "dm_hist"))
            tables.append(dmdt.soraisam2020_table(np.array(entry["log_dt_bin_edges"]), edges, density))
        self.compiled = dmdt.compile_reference([(0, 0), (1, 1), (0, 1), (1, 0)], tables)
        self.curves = self.supernovae(folder) if which == "supernovae" else [self.locus(folder)]
        self.block = self.packed()

    @staticmethod
    def supernovae(folder):
        curves = defaultdict(list)
        with (folder / "ztf_bts_snia_antares.csv").open() as file:
            for row in csv.DictReader(file):
                curves[row["object"]].append((float(row["time"]), float(row["mag"]), row["band"]))
        return [curves[name] for name in sorted(curves)[750:]]

    @staticmethod
    def locus(folder):
        with (folder / "antares_locus_ANT202037lq.csv").open() as file:
            return [
                (float(row["ant_mjd"]), float(row["ztf_magpsf"]), row["ant_passband"])
                for row in csv.DictReader(file)
                if row["ant_survey"] == "1"
            ]

    def packed(self):
        rows = [(o, self.codes[band], t, m) for o, one in enumerate(self.curves) for t, m, band in one]
        objects, band, t, m = (np.array(column) for column in zip(*sorted(rows), strict=True))
        offsets = np.searchsorted(objects, np.arange(len(self.curves) + 1)).astype(np.int64)
        return dmdt.LightCurves(t, m, None, band.astype(np.uint8), offsets)

    def theirs(self, n=None):
        scores = []
        for curve in self.curves[:n]:
            pairs = self.slow.dmdt_pairs(*zip(*curve, strict=True), [["g", "R"], ["R", "g"]])
            scores.append(self.slow.score(pairs, self.references, self.expected))
        return np.array(scores)

    def ours(self):
        result = dmdt.score(self.block, self.compiled, dmdt.SORAISAM2020_RULES, backend="cpu")
        return result.total.sum(axis=1)


def test_the_yardsticks_give_the_same_numbers(reference_data):
    theirs, ours = counting(50, 5)
    np.testing.assert_array_equal(ours(), theirs())
    theirs, ours = smearing(50, 5)
    np.testing.assert_allclose(ours(), theirs(), rtol=0, atol=1e-5 * theirs().max())
    both = Soraisam2020(reference_data / "lightcurves", "supernovae")
    np.testing.assert_allclose(both.ours()[:60], both.theirs(60), rtol=1e-8, atol=1e-9)


@pytest.mark.acceptance
@pytest.mark.parametrize("n", CURVES)
def test_speed_of_counting(n):
    theirs, ours = counting(n, CURVES[n])
    np.testing.assert_array_equal(ours(), theirs())
    slow, fast = in_turn(11, theirs, ours)
    mega = CURVES[n] * n * (n - 1) / 2e6
    rates = f"light-curve {mega / slow:.0f}, ours {mega / fast:.0f} Mpairs/s"
    sys.stdout.write(f"\ncounting n={n}: {rates}: {slow / fast:.1f}x\n")
    assert slow / fast >= COUNT_RATIOS[n]


@pytest.mark.acceptance
@pytest.mark.parametrize("n", CURVES)
def test_speed_of_smearing(n):
    n_curves = max(1, CURVES[n] // 4)
    theirs, ours = smearing(n, n_curves)
    exact = theirs()
    error = np.max(np.abs(ours() - exact) / exact.max(axis=(1, 2), keepdims=True))
    slow, fast = in_turn(7, theirs, ours)
    mega = n_curves * n * (n - 1) / 2e6
    rates = f"light-curve {mega / slow:.1f}, ours {mega / fast:.1f} Mpairs/s"
    sys.stdout.write(f"\nsmearing n={n}: {rates}: {slow / fast:.1f}x, error {error:.1e} of the maximum\n")
    assert error <= GAUSSIAN_ERROR
    assert slow / fast >= GAUSSIAN_RATIO


@pytest.mark.acceptance
def test_speed_of_scoring_supernovae(reference_data):
    both = Soraisam2020(reference_data / "lightcurves", "supernovae")
    n = 200
    np.testing.assert_allclose(both.ours()[:n], both.theirs(n), rtol=1e-8, atol=1e-9)
    slow, fast = in_turn(5, lambda: both.theirs(n), both.ours)
    slow, fast = n / slow, len(both.curves) / fast
    sys.stdout.write(
        f"\nscoring supernovae: transcription {slow:.0f}, ours {fast:.0f} objects/s: {fast / slow:.0f}x\n"
    )
    assert slow >= LEAST_YARDSTICK
    assert fast / slow >= SUPERNOVA_RATIO


@pytest.mark.acceptance
def test_speed_of_scoring_the_long_locus(reference_data):
    both = Soraisam2020(reference_data / "lightcurves", "locus")
    np.testing.assert_allclose(both.ours(), both.theirs(), rtol=1e-8)
    slow, _ = in_turn(3, both.theirs, both.ours)
    _, fast = in_turn(5, both.ours, both.ours)
    sys.stdout.write(
        f"\nscoring the locus: transcription {slow:.2f} s, ours {1e3 * fast:.2f} ms: {slow / fast:.0f}x\n"
    )
    assert slow / fast >= LOCUS_RATIO
