"""After an append only the partitions that it changed are computed; the results are those of a whole run."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.catalogs.archive import Archive, ArchiveWriter, Block
from skytrawl.catalogs.query import open_query
from skytrawl.catalogs.results import ResultsStore, open_results
from skytrawl.catalogs.retention import back_to, expire
from skytrawl.catalogs.simulate import simulate_archive
from skytrawl.catalogs.sweep import sweep
from skytrawl.catalogs.validate import validate
from skytrawl.errors import ObjectNotFoundError
from skytrawl.runner import run

PARTITIONS = 200
CHANGED = (17, 140)


def a_night_later(block: Block, new_id: int) -> Block:
    """One more observation of every object but the first, and a new object beside the last."""
    owner = np.repeat(np.arange(block.n_objects), np.diff(block.offsets))
    more = np.arange(1, block.n_objects)
    twin = np.flatnonzero(owner == block.n_objects - 1)
    rows = np.concatenate([np.arange(block.n_observations), block.offsets[more], twin])
    owner = np.concatenate([owner, more, np.full(len(twin), block.n_objects)])
    columns = {name: column[rows].copy() for name, column in block.observations.items()}
    added = slice(block.n_observations, block.n_observations + len(more))
    columns["time"][added] += 4000.0
    columns["value"][added] += 0.25
    order = np.lexsort((columns["time"], columns["band"], owner))
    objects = {name: np.append(column, column[-1]) for name, column in block.objects.items()}
    objects["object_id"][-1] = new_id
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner))])
    return Block(objects, {name: column[order] for name, column in columns.items()}, offsets)


def columns_of(path: Path) -> dict[str, np.ndarray]:
    tree = open_results(path)["dmdt-score"].to_dataset()
    return {str(name): tree[name].values for name in tree.variables}


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, column in expected.items():
        np.testing.assert_array_equal(found[name], column, err_msg=name)


def test_append_to_two_of_two_hundred_partitions(
    tmp_path: Path, threads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # ten thousand small files
    path, out = tmp_path / "a.zarr", tmp_path / "out"
    simulate_archive(path, 400, 25, partitions=PARTITIONS, seed=3)
    run("dmdt-reference", path, tmp_path / "ref", client=threads, sample_size=50)
    options: dict[str, Any] = {"client": threads, "reference": tmp_path / "ref"}
    options |= {"kind": "tail", "neighbours": 10}
    first = run("dmdt-score", path, out, **options)
    assert (first.done, first.failed) == (PARTITIONS, [])
    before = columns_of(out)
    old = Archive.open(path)
    names = [name for name in old.variables if not name.endswith(("first_observation", "n_observations"))]
    writer = ArchiveWriter(path)
    for number in CHANGED:
        block = a_night_later(old.read(number, names), 10**6 + number)
        slots = writer.reserve(block.n_objects, block.n_observations)
        writer.replace_partition(number, [writer.write_into(block, *slots)])
    version = writer.publish(note="append")
    changed = version.partitions["object_slot"] != old.version.partitions["object_slot"]
    assert np.flatnonzero(changed).tolist() == list(CHANGED)
    assert validate(path, deep=True).ok

    shards = {file: file.stat().st_mtime_ns for file in out.rglob("c/*") if file.is_file()}
    again = run("dmdt-score", path, out, **options)
    assert (again.done, again.skipped, again.failed) == (len(CHANGED), PARTITIONS - len(CHANGED), [])
    assert again.fingerprint == first.fingerprint
    assert {file: file.stat().st_mtime_ns for file in shards} == shards

    whole = run("dmdt-score", path, tmp_path / "whole", **options)
    assert whole.done == PARTITIONS
    found = columns_of(out)
    same(found, columns_of(tmp_path / "whole"))
    assert len(found["object_id"]) == 402
    ledgers = [ResultsStore(folder).run().ledger.read() for folder in (out, tmp_path / "whole")]
    assert len(ledgers[0]) == PARTITIONS + 2  # those of the older version are kept for the way back
    assert all(ledgers[0][key].values == entry.values for key, entry in ledgers[1].items())

    # Queries, which read the sidecars, tell of the new version alone.
    queries = [open_query(folder) for folder in (out, tmp_path / "whole")]
    assert queries[0].sidecars is not None
    tops = [query.top(100, "score") for query in queries]
    same(*tops)
    same(*(query.object(10**6 + 17) for query in queries))

    # The way back costs nothing.
    assert back_to(writer.storage, 1).number == 3
    returned = run("dmdt-score", path, out, **options)
    assert (returned.done, returned.skipped) == (0, PARTITIONS)
    same(columns_of(out), before)
    with pytest.raises(ObjectNotFoundError):
        open_query(out).object(10**6 + 17)

    # Nor does a sweep of the version between, which the results do not depend on.
    assert expire(writer.storage, older_than=-1) == [1, 2]
    assert sweep(writer.storage, older_than=-1).shards > 0
    assert run("dmdt-score", path, out, **options).skipped == PARTITIONS
    assert validate(path, deep=True).ok
