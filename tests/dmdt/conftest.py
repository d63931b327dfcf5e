"""Small archives and helpers for the dm-dt jobs."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.catalogs.archive import Archive
from skytrawl.intake.driver import ingest
from skytrawl.job import Job, get_job
from skytrawl.params import build

Table = dict[str, np.ndarray]


def random_table(seed: int, n_objects: int = 30, bands: tuple[str, ...] = ("g", "r"), **more: Any) -> Table:
    """A long table of random light curves with classes."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(2, 25, n_objects)
    n = int(lengths.sum())
    owner = np.repeat(np.arange(n_objects), lengths)
    return {
        "object": np.array([f"s{seed}o{i:03d}" for i in owner]),
        "time": 58000 + generator.uniform(0, 60, n),
        "value": 18 + generator.normal(0, 1, n),
        "error": generator.uniform(0.01, 0.3, n),
        "band": generator.choice(bands, n),
        "class": np.array(["SN Ia", "RR Lyrae", "AGN"])[owner % 3],
        **more,
    }


@pytest.fixture
def archive_of(tmp_path: Path) -> Callable[..., Archive]:
    """Make an archive from a table: archive_of(table, name="a", **options of ingest)."""

    def make(table: Mapping[str, np.ndarray], name: str = "a", **options: Any) -> Archive:
        words = {"survey": "ztf", "columns": {column: column for column in table}, **options}
        ingest(table, tmp_path / name, **words)
        return Archive.open(tmp_path / name)

    return make


def run_rows(job: str | Job, archive: Archive, **parameters: Any) -> dict[str, np.ndarray]:
    """Run a row job over all partitions in this process; the ids are added."""
    job = get_job(job)
    chosen = build(job.parameters, parameters)
    prepared = job.prepare(chosen, archive)
    names = dict.fromkeys((*job.needs(chosen, archive), "objects/object_id"))
    parts = []
    for partition in range(archive.n_partitions):
        block = archive.read(partition, tuple(names))
        parts.append(job.block(block, chosen, prepared, "cpu") | {"object_id": block.objects["object_id"]})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def count_reference(archive: Archive, pieces: int = 1, **parameters: Any) -> Any:
    """Run dmdt-reference in this process, each partition cut into pieces."""
    job = get_job("dmdt-reference")
    assert job.finalize is not None
    chosen = build(job.parameters, parameters)
    prepared = job.prepare(chosen, archive)
    state = None
    for partition in range(archive.n_partitions):
        block = archive.read(partition, job.needs(chosen, archive))
        edges = np.linspace(0, block.n_objects, pieces + 1).astype(int)
        for start, stop in pairwise(edges):
            part = job.block(block.select(slice(int(start), int(stop))), chosen, prepared, "cpu")
            state = part if state is None else job.combine(state, part)
    assert state is not None
    return job.finalize(state, chosen, prepared, archive, {})


@pytest.fixture
def tools() -> Any:
    """The helpers above, for test modules that pytest imports by path."""

    class Tools:
        table = staticmethod(random_table)
        rows = staticmethod(run_rows)
        reference = staticmethod(count_reference)

    return Tools
