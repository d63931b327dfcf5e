"""Small tables, and archives read back as columns."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.report import IngestReport
from skytrawl.intake.driver import ingest

HEADER = "object,mjd,mag,magerr,band"


@pytest.fixture(params=[True, False], ids=["pyarrow", "lean"])
def use_pyarrow(request: pytest.FixtureRequest) -> bool:
    if request.param:
        pytest.importorskip("pyarrow")
    return bool(request.param)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write lines below a header to a file."""

    def _write(*rows: str, header: str = HEADER, name: str = "table.csv", encoding: str = "utf-8") -> Path:
        data = "".join(line + "\n" for line in ([header] if header else []) + list(rows)).encode(encoding)
        path = tmp_path / name
        path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
        return path

    return _write


@pytest.fixture
def take(tmp_path: Path) -> Callable[..., tuple[IngestReport, dict[str, np.ndarray]]]:
    """Ingest and read everything back."""

    def _take(source: Any, **options: Any) -> tuple[IngestReport, dict[str, np.ndarray]]:
        path = tmp_path / f"archive{len(list(tmp_path.glob('archive*')))}.zarr"
        report = ingest(source, path, **({"survey": "ztf"} | options))
        return report, read_back(path)

    return _take


def read_back(path: Path) -> dict[str, np.ndarray]:
    """All columns of an archive; `object` and `band` by name for each row."""
    archive = Archive.open(path)
    names = [
        name
        for name in archive.variables
        if name not in ("objects/first_observation", "objects/n_observations")
    ]
    blocks = [archive.read(partition, names) for partition in range(archive.n_partitions)]
    found = {}
    for name in names:
        group, _, short = name.partition("/")
        parts = [(block.objects if group == "objects" else block.observations)[short] for block in blocks]
        found[short] = np.concatenate(parts)
    counts = np.concatenate([np.diff(block.offsets) for block in blocks])
    found["counts"] = counts
    found["object"] = np.repeat(found["object_id"], counts)
    found["band"] = np.array(archive.bands)[found["band"]]
    return found
