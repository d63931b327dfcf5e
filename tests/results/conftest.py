"""Fixtures of the results tests; helpers to import live in `conftest_results`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from conftest_results import Filled, fill, make_archive


@pytest.fixture
def filled(tmp_path: Path) -> Filled:
    """Seven partitions, the last one empty, one missing, one of two slots."""
    archive = make_archive(tmp_path / "archive.zarr", [20, 16, 33, 40, 5, 11, 0], object_slot=32)
    return fill(archive, tmp_path / "out.zarr", missing={4})
