"""Small archives with known values."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.catalogs.archive import ArchiveWriter, Block
from skytrawl.catalogs.sky import N_CELLS, healpix_of, positions_of

LIGHT_CURVES = {
    "quantity": "magnitude",
    "photometry": "total",
    "units": "mag",
    "zero_point": None,
    "time": {"scale": "utc", "reference_position": "geocenter", "offset": 0.0, "exposure_point": "middle"},
}


def random_block(counts: Sequence[int], seed: int = 0, first_id: int = 0) -> Block:
    """A sound block of objects with these numbers of observations; higher ids lie farther along the curve."""
    generator = np.random.default_rng([seed, first_id])
    per_cent = N_CELLS // 100
    first_cell = per_cent * (first_id // 100)
    offsets = np.concatenate([[0], np.cumsum(np.asarray(counts, np.int64))]).astype(np.int64)
    n_objects, n_rows = len(counts), int(offsets[-1])
    ra, dec = positions_of(generator.integers(first_cell, first_cell + per_cent, n_objects, dtype=np.uint64))
    cells = healpix_of(ra, dec)
    order = np.argsort(cells)
    owner = np.repeat(np.arange(n_objects), counts)
    band = generator.integers(0, 2, n_rows).astype(np.uint8)
    time = generator.uniform(58000, 60000, n_rows)
    rows = np.lexsort((time, band, owner))
    return Block(
        {
            "object_id": np.arange(first_id, first_id + n_objects, dtype=np.uint64),
            "ra": ra[order],
            "dec": dec[order],
            "healpix": cells[order],
        },
        {
            "time": time[rows],
            "value": generator.normal(18, 1, n_rows).astype(np.float32),
            "error": generator.uniform(0.01, 0.1, n_rows).astype(np.float32),
            "band": band[rows],
        },
        offsets,
    )


def new_writer(path: Path | str, **options: Any) -> ArchiveWriter:
    """A writer of a new archive with tiny slots."""
    settings: dict[str, Any] = {
        "survey": {"name": "test"},
        "light_curves": LIGHT_CURVES,
        "bands": ["g", "r"],
        "dtypes": {},
        "object_slot": 8,
        "observation_slot": 32,
    }
    return ArchiveWriter.create(path, **(settings | options))


@pytest.fixture(scope="session")
def make_block() -> Callable[..., Block]:
    return random_block


@pytest.fixture(scope="session")
def make_writer() -> Callable[..., ArchiveWriter]:
    return new_writer


@pytest.fixture
def archive_path(tmp_path: Path) -> Path:
    """Four partitions, the last one empty: several slots, empty objects, objects longer than a slot."""
    path = tmp_path / "a.zarr"
    with new_writer(path) as writer:
        writer.write(random_block([3, 0, 100, 1, 7, 7, 0, 12, 5, 9], first_id=0))
        writer.write(Block())
        writer.write(random_block([0, 1], first_id=100))
        writer.write(random_block([20] * 20, first_id=200))
    return path
