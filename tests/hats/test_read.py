"""Catalogues of the real packages come in with every value as it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skytrawl

Columns = Callable[[Path], dict[str, np.ndarray]]


def check(found: dict[str, np.ndarray], observations: Any) -> None:
    """Every row of the table, bit for bit."""
    ordered = observations.sort_values(["objid", "band", "mjd"])
    assert found["object_id"].tolist() == ordered["objid"].tolist()
    for name, column in (
        ("time", "mjd"),
        ("value", "mag"),
        ("error", "magerr"),
        ("ra", "ra"),
        ("dec", "dec"),
    ):
        wanted = ordered[column].to_numpy()
        assert found[name].dtype == wanted.dtype
        assert found[name].tobytes() == wanted.tobytes(), name
    assert found["band"].tolist() == ordered["band"].tolist()


@pytest.mark.parametrize("kind", ["plain", "collection", "folders"])
def test_nested_light_curves(
    nested: dict[str, Path], rows: Any, kind: str, tmp_path: Path, columns_of: Columns
) -> None:
    report = skytrawl.ingest(nested[kind], tmp_path / "a.zarr", survey="ztf")
    objects, observations = rows
    check(columns_of(tmp_path / "a.zarr"), observations)
    assert report.rows_read == report.rows_kept == len(observations)
    empty = len(objects) - observations["objid"].nunique()
    assert f"({empty} rows)" in str([text for text in report.warnings if "without observations" in text])


def test_flat_pair(flat: Path, rows: Any, tmp_path: Path, columns_of: Columns) -> None:
    objects, observations = rows
    report = skytrawl.ingest(flat / "sources", tmp_path / "a.zarr", survey="ztf", objects=flat / "objects")
    found = columns_of(tmp_path / "a.zarr")
    check(found, observations)
    assert report.rows_kept == len(observations)  # and so no row of the margin cache
    classes = dict(zip(objects["objid"], objects["class"], strict=True))
    assert [name.decode() for name in found["class"]] == [classes[key] for key in found["object_id"].tolist()]
