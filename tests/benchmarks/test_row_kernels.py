"""Speed and memory of the kernels that bring rows into order, a chunk of four million rows on one thread.

The same calls run once in the suite, where only the results are compared. By hand:

    python -m pytest tests/benchmarks/test_row_kernels.py -m acceptance -s
"""

import subprocess
import sys
import time

import numpy as np
import pytest

from skytrawl.kernels import rows
from skytrawl.kernels.rows import reference

# Most nanoseconds a row, at 300 rows an object.
BARS = {
    "bucket_of": 8.0,
    "counting_order": 8.0,
    "scatter f8": 8.0,
    "take f8": 20.0,
    "group, random": 90.0,
    "group, by time": 90.0,
    "group, in order": 6.0,
    "positions, equal": 40.0,
    "positions, different": 80.0,
}
MOST_BYTES = 100e6
ROWS, PER_OBJECT = 4_000_000, 300


def survey(n, seed=1):
    """Rows of objects of 300 rows in three bands, in random order: identifier, band, time, ra, dec."""
    rng = np.random.default_rng(seed)
    names = rng.integers(0, 2**63, n // PER_OBJECT + 1).astype(np.uint64)
    owner = rng.permutation(np.repeat(np.arange(len(names)), PER_OBJECT)[:n])
    time = rng.uniform(58000, 60000, n)
    ra, dec = (rng.uniform(low, high, len(names))[owner] for low, high in ((0, 360), (-60, 60)))
    return names[owner], rng.integers(0, 3, n).astype(np.uint8), time, ra, dec


def calls(n):
    """Name, kernel and what NumPy gives, all on the same rows."""
    ids, band, times, ra, dec = survey(n)
    borders = np.sort(np.random.default_rng(0).choice(ids, 255))
    bucket = reference.bucket_of(ids, borders)
    order, starts = rows.counting_order(bucket, 256)
    by_time = np.argsort(times)
    _, sorted_order, offsets = rows.group(ids, band, times)
    ordered = [column[sorted_order] for column in (ids, band, times)]
    noisy = ra + np.random.default_rng(2).normal(0, 1e-5, n)
    random, in_time = (ids, band, times), (ids[by_time], band[by_time], times[by_time])
    yield "bucket_of", lambda: rows.bucket_of(ids, borders), lambda: bucket
    yield "counting_order", lambda: rows.counting_order(bucket, 256), lambda: (order, starts)
    yield "scatter f8", lambda: rows.scatter(times, bucket, starts), lambda: times[order]
    yield "take f8", lambda: rows.take(times, sorted_order), lambda: times[sorted_order]
    yield "group, random", lambda: rows.group(*random), lambda: reference.group(*random)
    yield "group, by time", lambda: rows.group(*in_time), lambda: reference.group(*in_time)
    yield "group, in order", lambda: rows.group(*ordered)[2], lambda: offsets
    for name, column in (("equal", ra), ("different", noisy)):
        arguments = (column, dec, offsets, sorted_order)
        yield (
            f"positions, {name}",
            lambda arguments=arguments: rows.median_positions(*arguments)[:2],
            lambda arguments=arguments: reference.median_positions(*arguments)[:2],
        )


def same(found, expected):
    if not isinstance(found, tuple):
        found, expected = (found,), (expected,)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_calls_of_the_benchmark_are_right():
    names = set()
    for name, kernel, numpy in calls(3000):
        same(kernel(), numpy())
        names.add(name)
    assert names == set(BARS)


@pytest.mark.acceptance
def test_nanoseconds_a_row():
    late = []
    for name, kernel, _ in calls(ROWS):
        seconds = []
        for _ in range(4):
            start = time.perf_counter()
            kernel()
            seconds.append(time.perf_counter() - start)
        spent = min(seconds) / ROWS * 1e9
        print(f"{name:24s} {spent:6.1f} ns a row")
        if spent > BARS[name]:
            late.append(f"{name}: {spent:.1f} ns a row, bar {BARS[name]}")
    assert not late


PROBE = f"""
import resource, sys
sys.path.insert(0, {str(__file__.rpartition("/")[0])!r})
from test_row_kernels import ROWS, rows, survey
ids, band, time, ra, dec = survey(ROWS)
rows.group(ids[:9].copy(), band[:9].copy(), time[:9].copy())
# survey() needed more than its result: only what stands now counts
open("/proc/self/clear_refs", "w").write("5")
def peak(word):
    return int(next(l for l in open("/proc/self/status") if l.startswith(word)).split()[1]) * 1024
before = peak("VmRSS")
rows.group(ids, band, time)
print(peak("VmHWM") - before)
"""


@pytest.mark.acceptance
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_a_group():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    print(f"group of {ROWS:,} rows: {int(done.stdout) / 1e6:.0f} MB beside its input")
    assert int(done.stdout) < MOST_BYTES
