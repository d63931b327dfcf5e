"""Grouping, keys, cuts, and the account of rows under random faults."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skytrawl.catalogs import partition
from skytrawl.catalogs.archive import Archive
from skytrawl.intake.driver import ingest
from skytrawl.catalogs.partition import cut, group, identifiers
from skytrawl.catalogs.sky import UNPLACED

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


@pytest.mark.parametrize("seed", range(5))
def test_group_against_a_plain_loop(seed: int) -> None:
    generator = np.random.default_rng(seed)
    count = 500
    rows = {
        "object": generator.integers(0, 20, count).astype("S2"),
        "time": generator.integers(0, 30, count) + 58000.0,
        "value": generator.integers(0, 3, count) + 18.0,
        "error": np.full(count, 0.1),
        "band": generator.integers(0, 3, count).astype(np.uint8),
        "ra": generator.uniform(0, 360, 20)[generator.integers(0, 20, count)],
        "dec": np.zeros(count),
    }
    rows["ra"] = np.array([float(name) * 17.5 for name in rows["object"]])
    grouped = group(rows)
    block = grouped.block
    seen = set()
    for i in range(count):
        seen.add(tuple(rows[name][i].item() for name in ("object", "band", "time", "value")))
    stored = []
    for i, name in enumerate(block.objects["object_id"].tolist()):
        for j in range(block.offsets[i], block.offsets[i + 1]):
            observed = block.observations
            stored.append((name, *(observed[key][j].item() for key in ("band", "time", "value"))))
    assert len(stored) == len(seen)
    assert set(stored) == seen
    assert count - len(seen) == len(grouped.duplicates)
    assert grouped.equal_stamps == len(seen) - len({row[:3] for row in seen})
    assert (np.diff(block.objects["healpix"].astype(object)) >= 0).all()
    assert [row[1:3] for row in stored] == [
        row[1:3]
        for name in block.objects["object_id"].tolist()
        for row in sorted((row for row in stored if row[0] == name), key=lambda row: row[1:3])
    ]


def test_scattered_and_mixed_objects_are_told() -> None:
    rows = {
        "object": np.array([b"a", b"a", b"b", b"b"]),
        "time": np.array([1.0, 2.0, 1.0, 2.0]) + 58000,
        "value": np.full(4, 18.0),
        "error": np.full(4, 0.1),
        "band": np.zeros(4, np.uint8),
        "ra": np.array([10.0, 10.1, 20.0, 20.0001]),
        "dec": np.zeros(4),
        "class": np.array([b"", b"SN", b"RR", b"SN"]),
    }
    grouped = partition.group(rows)
    names = grouped.block.objects["object_id"]
    assert names[grouped.scattered].tolist() == [b"a"]
    assert grouped.mixed_classes == 1
    assert dict(zip(names.tolist(), grouped.block.objects["class"].tolist(), strict=True)) == {
        b"a": b"SN",
        b"b": b"RR",
    }


def test_identifiers_of_nothing() -> None:
    assert len(identifiers(np.zeros(0, "S1"))) == 0
