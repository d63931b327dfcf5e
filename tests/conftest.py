"""Fixtures of the whole suite."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Simulated image pairs, which tests of kernels, jobs and benchmarks share.
sys.path.insert(0, str(Path(__file__).parent / "images"))

_SLOW = [HealthCheck.too_slow]
# The suite says the same on every machine; "thorough" looks for more, with other examples each time.
settings.register_profile(
    "default", max_examples=60, deadline=None, derandomize=True, suppress_health_check=_SLOW
)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """Folder of the reference sets that may not ship with the package."""
    folder = os.environ.get("SKYTRAWL_REFERENCE_DATA")
    if not folder:
        pytest.skip("SKYTRAWL_REFERENCE_DATA does not name a folder with the reference sets")
    path = Path(folder)
    if not (path / "lightcurves").is_dir():
        pytest.fail(f"SKYTRAWL_REFERENCE_DATA={folder} has no folder 'lightcurves'")
    return path
