"""The three jobs through the engine, and what the results store shows of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import skytrawl
from skytrawl.catalogs import references
from skytrawl.catalogs.archive import Archive


def test_reference_score_and_maps(archive_of: Callable[..., Archive], tools: Any, tmp_path: Path) -> None:
    # Small partitions: the reduction and the rows meet several of them.
    archive = archive_of(tools.table(30, n_objects=60), partition_observations=150)
    assert archive.n_partitions > 3
    path = str(archive.path)
    skytrawl.run("dmdt-reference", path, tmp_path / "r", cluster="threads", sample_size=20)
    reference = references.load(tmp_path / "r")
    here = tools.reference(archive, sample_size=20)
    assert references.fingerprint(reference) == references.fingerprint(here)
    assert reference.attrs["skytrawl"]["sources"][0]["complete"]
    for kind in ("mean", "tail"):
        out = tmp_path / kind
        summary = skytrawl.run(
            "dmdt-score",
            path,
            out,
            cluster="threads",
            reference=str(tmp_path / "r"),
            kind=kind,
            neighbours=10,
        )
        assert not summary.failed
        found = skytrawl.open_results(out)["dmdt-score"].to_dataset()
        direct = tools.rows("dmdt-score", archive, reference=str(tmp_path / "r"), kind=kind, neighbours=10)
        for name in ("score", "n_pairs", "part", "worst_dt", "worst_key"):
            np.testing.assert_array_equal(found[name].values, direct[name], err_msg=name)
        assert list(found["key"].values) == list(reference["key"].values)
    maps = tmp_path / "maps"
    assert not skytrawl.run("dmdt-maps", path, maps, cluster="threads", keys="g,r").failed
    stored = skytrawl.open_results(maps)["dmdt-maps"].to_dataset()
    assert stored["map"].shape == (archive.n_objects, 2, 26, 26)
    np.testing.assert_array_equal(stored["map"].values, tools.rows("dmdt-maps", archive, keys="g,r")["map"])
