"""Cuts, and the account of rows under random faults."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.partition import cut
from skytrawl.catalogs.sky import UNPLACED
from skytrawl.intake.driver import ingest

ROW = st.tuples(
    st.sampled_from(["a", "b", "c", ""]),
    st.sampled_from([58000.0, 58001.0, 58001.25, float("nan"), float("inf"), 0.0]),
    st.sampled_from([18.0, 18.5, float("nan"), 99.0]),
    st.sampled_from([0.1, 0.2, 0.0, -1.0, float("nan"), float("inf")]),
    st.sampled_from(["g", "r", "R", "V"]),
    st.sampled_from([0.0, 120.0, 359.9, float("nan"), 400.0]),
)


@settings(max_examples=60)
@given(
    rows=st.lists(ROW, min_size=1, max_size=40),
    most=st.integers(1, 9),
    duplicates=st.sampled_from(["drop", "keep"]),
)
def test_every_row_is_kept_or_counted(rows: list[Any], most: int, duplicates: str) -> None:
    good = [("good", 58005.0 + i, 18.0, 0.1, "g", 10.0) for i in range(len(rows) + 1)]
    columns = dict(
        zip(("object", "mjd", "mag", "magerr", "band", "ra"), zip(*rows, *good, strict=True), strict=True)
    )
    table = columns | {"dec": np.zeros(len(rows) + len(good))}
    folder = Path(tempfile.mkdtemp())
    try:
        report = ingest(
            table, folder / "a.zarr", survey="ztf", partition_observations=most, duplicates=duplicates
        )
        archive = Archive.open(folder / "a.zarr")
        assert report.rows_read == len(rows) + len(good)
        assert report.rows_read == archive.n_observations + sum(report.dropped.values())
        assert report.objects == archive.n_objects
        assert report.partitions == archive.n_partitions
        bad = [
            row
            for row in rows
            if not row[0]
            or not 11368 <= row[1] <= 106332
            or row[2] != row[2]
            or row[2] > 40
            or not 0 < row[3] < np.inf
            or row[4] == "V"
            or row[5] > 360
        ]
        repeats = report.dropped.get("repeats another row in every column", 0)
        assert report.rows_kept + repeats == report.rows_read - len(bad)
        assert repeats == 0 or duplicates == "drop"
        sound = {(*tuple(map(repr, row[:4])), row[4].lower(), repr(row[5])) for row in rows if row not in bad}
        if duplicates == "drop":
            assert report.rows_kept == len(sound) + len(good)
        sizes = archive.version.partitions["n_observations"]
        counts = archive.version.partitions["n_objects"]
        assert ((sizes <= most) | (counts == 1)).all()
    finally:
        shutil.rmtree(folder)


def test_cut_by_observations() -> None:
    counts = np.array([3, 3, 3, 50, 1, 0, 2, 2])
    offsets = np.concatenate([[0], np.cumsum(counts)])
    keys = np.arange(8, dtype=np.uint64)
    assert cut(offsets, keys, 6) == [slice(0, 2), slice(2, 3), slice(3, 4), slice(4, 8)]
    keys[5:] |= UNPLACED
    assert cut(offsets, keys, 6) == [slice(0, 2), slice(2, 3), slice(3, 4), slice(4, 5), slice(5, 8)]
