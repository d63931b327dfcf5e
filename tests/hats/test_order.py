"""Objects come along the sky where that is asked for, from files in any order."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytrawl.catalogs import readers
from skytrawl.catalogs.readers import hats
from skytrawl.catalogs.readers.hats_order import ends_of_stretches
from skytrawl.catalogs.readers.table import Options
from skytrawl.catalogs.sky import healpix_of

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

KINDS = {"oid": "id", "mjd": "number", "band": "coded"}


def table(cells: list[int], counts: list[int]) -> Any:
    """Object i has the cell cells[i]; its times are i + 0.0, 0.01, ... and its band is g or r."""
    offsets = pa.array(np.append(0, np.cumsum(counts)).astype(np.int32))
    times = [index + step / 100 for index, count in enumerate(counts) for step in range(count)]
    bands = ["gr"[index % 2] for index, count in enumerate(counts) for _ in range(count)]
    lists = [
        pa.ListArray.from_arrays(offsets, pa.array(values))
        for values in (times, pa.array(bands, pa.string()))
    ]
    return pa.table(
        {
            "oid": pa.array(range(len(cells)), pa.int64()),
            "lc": pa.StructArray.from_arrays(lists, names=["mjd", "band"]),
            "_healpix_29": pa.array(cells, pa.int64()),
        }
    )


@given(
    objects=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 4)), min_size=1, max_size=40),
    group=st.integers(1, 50),
    rows=st.integers(1, 30),
    piece_rows=st.integers(1, 60),
)
def test_pieces_come_along_the_sky(
    tmp_path_factory: pytest.TempPathFactory,
    objects: list[tuple[int, int]],
    group: int,
    rows: int,
    piece_rows: int,
) -> None:
    cells, counts = map(list, zip(*objects, strict=True))
    path = tmp_path_factory.mktemp("order") / "file.parquet"
    pq.write_table(table(cells, counts), path, row_group_size=group)
    options = Options(chunk_rows=rows, piece_rows=piece_rows, align_on="oid")
    seen: list[int] = []
    last = -1
    starts = np.cumsum(counts) - counts + 1
    for piece in hats.pieces(path, options):
        known = hats.sky(piece, options)
        assert known is not None
        assert known[0] > last
        last = known[1]
        for chunk in hats.chunks(piece, KINDS, options):
            ids = chunk.columns["oid"]
            assert ids.tolist() == np.floor(chunk.columns["mjd"]).tolist()
            assert [name.decode() for name in chunk.columns["band"].texts()] == ["gr"[one % 2] for one in ids]
            if chunk.places is not None:
                for row in range(len(ids)):
                    step = round(100 * (chunk.columns["mjd"][row] % 1))
                    assert chunk.places.of("file", row) == f"file, line {starts[ids[row]] + step}"
            seen += ids.tolist()
            assert all(known[0] <= cells[one] <= known[1] for one in ids)
    along = [cells[one] for one in seen]
    assert along == sorted(along)
    assert sorted(seen) == np.repeat(np.arange(len(counts)), counts).tolist()


def test_stretches_end_where_all_that_follows_lies_behind() -> None:
    assert ends_of_stretches([]) == set()
    assert ends_of_stretches([(0, 3), (4, 5), (5, 9), (8, 8), (10, 11)]) == {1, 4, 5}
    assert ends_of_stretches([(0, 3), None, (2, 9)]) == {1, 2, 3}


def test_cells_are_those_of_the_positions(nested: dict[str, Path]) -> None:
    """What a piece says of its place on the sky holds for the positions of its objects."""
    options = Options(align_on="objid")
    last = -1
    for file in readers.sources_of(nested["plain"]):
        for piece in hats.pieces(file, options):
            known = hats.sky(piece, options)
            assert known is not None
            for chunk in hats.chunks(piece, {"ra": "number", "dec": "number", "mjd": "number"}, options):
                cells = healpix_of(chunk.columns["ra"], chunk.columns["dec"]).astype(np.int64)
                assert (np.diff(cells) >= 0).all()
                assert last < known[0] <= cells[0] <= cells[-1] <= known[1]
            last = known[1]
