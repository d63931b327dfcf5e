"""Fixtures of the engine's tests: jobs that workers can import, archives, clusters, decoded results."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = str(Path(__file__).parent)


@pytest.fixture(scope="session", autouse=True)
def importable_jobs() -> Iterator[None]:
    """Here and in worker processes: `engine_jobs` by name."""
    from skytrawl.job import _TABLE, register

    sys.path.insert(0, HERE)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = HERE if not before else f"{HERE}{os.pathsep}{before}"
    names = {"test-mean": "MEAN", "test-count": "COUNT", "test-hungry": "HUNGRY"}
    for name, attribute in names.items():
        register(name, f"engine_jobs:{attribute}")
    yield
    for name in names:
        del _TABLE[name]
    sys.path.remove(HERE)
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.fixture(scope="session")
def archive_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 objects in 20 partitions."""
    from skytrawl.catalogs.simulate import simulate_archive

    path = tmp_path_factory.mktemp("engine") / "archive.zarr"
    simulate_archive(path, 400, 30, partitions=20, seed=5)
    return path


@pytest.fixture(scope="session")
def threads() -> Iterator[Any]:
    """A cluster of threads in this process."""
    from skytrawl.deploy.local import connect

    with connect("threads", workers=1, threads=2) as client:
        yield client


@pytest.fixture
def processes() -> Iterator[Any]:
    """Two worker processes."""
    from skytrawl.deploy.local import connect

    with connect("local", workers=2, threads=1, memory=2_000_000_000) as client:
        yield client


@pytest.fixture(scope="session")
def decoded() -> Callable[[Path], dict[str, np.ndarray]]:
    """All columns of a results store, in the order of partitions; missing partitions are absent."""

    def read(path: Path, job: str = "test-mean") -> dict[str, np.ndarray]:
        from skytrawl.catalogs.results import ResultsStore

        run = ResultsStore(path).run(job)
        parts = [run.read(int(p)) for p in np.flatnonzero(run.present())]
        return {name: np.concatenate([part[name] for part in parts]) for name in run.names}

    return read


@pytest.fixture(scope="session")
def first_ids(archive_path: Path) -> list[int]:
    """Object id of the first object of each partition: the handle of the faults in engine_jobs."""
    from skytrawl.catalogs.archive import Archive

    archive = Archive.open(archive_path)
    return [
        int(archive.read(p, ["objects/object_id"]).objects["object_id"][0])
        for p in range(archive.n_partitions)
    ]


@pytest.fixture(scope="session")
def undisturbed(
    archive_path: Path, threads: Any, tmp_path_factory: pytest.TempPathFactory, decoded: Any
) -> dict[str, np.ndarray]:
    """The results of one quiet run."""
    from skytrawl.runner import run

    out = tmp_path_factory.mktemp("quiet") / "out.zarr"
    assert not run("test-mean", archive_path, out, client=threads).failed
    return decoded(out)
