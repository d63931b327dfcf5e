"""Speed of the PSPL fits on one thread, against jacscanomaly's compiled fit, in turn in one process. By hand:

python -m pytest tests/benchmarks/test_lens.py -m acceptance -s
"""

import statistics
import time

import numpy as np
import pytest

from skytrawl.kernels.curves import prepare
from skytrawl.kernels.lens import fit
from skytrawl.kernels.lens.reference import magnification

# Milliseconds that a fit without a start may take, by number of rows.
BARS = {285: 3.0, 1000: 5.0, 10_000: 20.0, 40_000: 70.0}


def curve(n, seed=1):
    """Six seasons of 72 days, uniform random times; 285 rows over 12 years instead."""
    rng = np.random.default_rng(seed)
    if n == 285:
        t = np.sort(rng.uniform(0, 240, n) + 365.25 * rng.integers(0, 12, n))
        t0 = float(t[140]) + 1.0
    else:
        t = np.sort(rng.uniform(0, 72, n) + 182.6 * rng.integers(0, 6, n))
        t0 = 400.3
    error = np.full(n, 0.1)
    return t + 8000, 3 * magnification(t, t0, 12.0, 0.2) + 1 + rng.normal(0, 0.1, n), error, t0 + 8000


def in_turn(repeats, *functions):
    """Median seconds of the processor for each function, run in turn; others may keep the machine busy."""
    seconds = [[] for _ in functions]
    for function in functions:
        function()
    for _ in range(repeats):
        for function, one in zip(functions, seconds, strict=True):
            start = time.thread_time()
            function()
            one.append(time.thread_time() - start)
    return [statistics.median(one) for one in seconds]


def cases(n):
    t, f, e, t0 = curve(n)
    curves = prepare(t, f, e, np.zeros(n, np.int64), np.array([0, n], np.int64))[0]
    return curves, (t, f, e), np.array([t0 + 0.05, 12.6, 0.21])


@pytest.mark.parametrize("n", [285, 1000])
def test_numbers(n):
    """What is timed below is the same optimum, from a good start and without one."""
    compiled = pytest.importorskip("jacscanomaly._cpp_grid")
    curves, data, start = cases(n)
    auto, given = fit(curves), fit(curves, start[None])
    np.testing.assert_allclose(auto.params, given.params, rtol=1e-5)
    theirs = compiled.fit_pspl(*data, start, u0_min=1e-4)
    params = next(
        np.asarray(x) for x in (theirs.values() if isinstance(theirs, dict) else theirs) if np.size(x) == 3
    )
    np.testing.assert_allclose(np.abs(params), auto.params[0], rtol=1e-3)


@pytest.mark.acceptance
def test_speed():
    compiled = pytest.importorskip("jacscanomaly._cpp_grid")
    for n, bar in BARS.items():
        curves, data, start = cases(n)
        auto, given, theirs = in_turn(
            15,
            lambda curves=curves: fit(curves),
            lambda curves=curves, start=start: fit(curves, start[None]),
            lambda data=data, start=start: compiled.fit_pspl(*data, start, u0_min=1e-4),
        )
        print(
            f"{n:6d} rows: without a start {1e3 * auto:.2f} ms, from a good start {1e3 * given:.2f} ms, "
            f"jacscanomaly from it {1e3 * theirs:.2f} ms ({theirs / given:.1f} x)"
        )
        assert 1e3 * auto <= bar
        assert given < theirs
