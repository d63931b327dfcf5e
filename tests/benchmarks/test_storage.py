"""Bytes on disk and reading: the archive against Parquet and against the Zarr library on the same files.

Figures: python -m pytest -q -s -m acceptance tests/benchmarks/test_storage.py
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import storage_layouts as layouts

from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.sizes import sizes

# Magnitudes with all digits of float32, as ZTF's data releases have them, and cut to 3 and 4 decimals.
DIGITS = {"all digits": None, "decimals": (3, 4)}


def test_all_layouts_hold_the_same(tmp_path: Path) -> None:
    layouts.make(tmp_path, 60, None)
    ways = layouts.readers(tmp_path, 1)
    assert {"skytrawl", "zarr", "Parquet, tuned", "Parquet, untuned"} <= set(ways)
    wanted = ways["skytrawl"]()
    assert len(wanted[0]) > 20_000
    for name, read in ways.items():
        found = read()
        for column, values in zip(wanted[:-1], found[:-1], strict=True):
            assert values.tobytes() == column.tobytes(), name
        np.testing.assert_array_equal(found[-1][:60], wanted[-1][:60], err_msg=name)
    assert layouts.one_object(tmp_path, 5)["median"] > 0


@pytest.mark.acceptance
@pytest.mark.parametrize("digits", list(DIGITS))
def test_bytes_and_speed(tmp_path: Path, digits: str) -> None:
    path = layouts.make(tmp_path, 6000, DIGITS[digits])
    rows = Archive.open(path).n_observations
    assert 3e6 < rows < 4.2e6
    found = sizes(path)
    disk = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert found.total <= disk <= 1.001 * found.total + 10_000
    stored = {name: (tmp_path / f"{name}.parquet").stat().st_size / rows for name in ("tuned", "untuned")}
    print(f"\n{digits}: {rows:,} observations, {disk / rows:.3f} bytes each, whole archive; Parquet {stored}")
    for column in found.columns:
        if column.variable.startswith("lightcurves"):
            print(f"  {column.variable}: {column.stored:.3f} of {column.raw:.0f}, {column.codec}")
    results = {threads: _measured(tmp_path, threads) for threads in (1, 2)}
    for threads, result in results.items():
        for name, figures in result["read"].items():
            nanoseconds = 1e9 * figures["seconds"] / rows
            print(f"  {threads} threads, {name}: {nanoseconds:.1f} ns a row, {figures['ratio']:.2f}")
    print(f"  one object by its id: {results[1]['object']} ms")
    assert disk / rows <= 6.8
    assert results[1]["object"]["median"] <= 2.0
    read = results[1]["read"]
    assert read["Parquet, tuned"]["ratio"] >= 1.3
    if digits == "all digits":
        assert read["Parquet, untuned"]["ratio"] >= 3.0


def _measured(folder: Path, threads: int) -> dict:
    script = str(Path(layouts.__file__))
    done = subprocess.run(
        [sys.executable, script, str(folder), str(threads)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)
