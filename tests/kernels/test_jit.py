"""Where compiled code goes."""

import subprocess
import sys
from pathlib import Path

import pytest

PROBE = """
import numpy as np
from numba import config
from skytrawl.kernels import dmdt
curves = dmdt.LightCurves(np.arange(3.0), np.zeros(3), None, np.zeros(3, np.uint8), np.array([0, 3]))
print(int(dmdt.pair_counts(curves, [(0, 0)], dmdt.PairRules()).sum()), repr(config.CACHE_DIR))
"""


def test_compiled_code_stays_outside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.delenv("NUMBA_DISABLE_JIT", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "''"]  # and Numba's own setting is as it was
    assert list((tmp_path / "skytrawl" / "numba").rglob("*.nbi"))
