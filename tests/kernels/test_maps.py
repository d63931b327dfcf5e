"""Counts, smeared maps and accumulated counts against the oracle in plain NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skytrawl.errors import ParameterError, SchemaError
from skytrawl.kernels import dmdt
from skytrawl.kernels.dmdt import reference

from .conftest import GRIDS, KEYS, RULES, make_block

CPU = {"backend": "cpu"}
ANY_RULES = st.builds(
    dmdt.PairRules,
    within=st.sampled_from(["all", "consecutive"]),
    duplicates=st.sampled_from(["drop_all", "first", "keep"]),
    zero_dt=st.sampled_from(["skip", "keep", "soraisam2020"]),
)
# few distinct stamps, so that equal ones are common; NaN, infinities and huge numbers
TIMES = st.sampled_from([0.0, 0.25, 0.5, 1.0, 58000.0, 58000.1, 58001.0, -1e308, 1e308, np.nan, np.inf])
VALUES = st.sampled_from([18.0, 18.5, 18.49, 17.5, 19.0, 1e308, -1e308, np.nan, -np.inf, 5e-324])
ERRORS = st.sampled_from([0.0, 0.01, 0.5, 1e200, 1e-170, np.nan, -1.0])
ROWS = st.lists(st.tuples(TIMES, VALUES, ERRORS, st.integers(0, 2)), max_size=9)


@st.composite
def blocks(draw):
    """Blocks of up to three objects, unsorted."""
    objects = draw(st.lists(ROWS, min_size=1, max_size=3))
    rows = [row for one in objects for row in one]
    columns = [np.array([row[c] for row in rows], dtype=np.float64) for c in range(3)]
    band = np.array([row[3] for row in rows], dtype=np.uint8)
    offsets = np.cumsum([0, *(len(one) for one in objects)])
    return dmdt.LightCurves(*columns, band, offsets)


@given(blocks(), ANY_RULES, st.sampled_from(["log-linear", "scope-ml", "uneven"]))
def test_counts_equal_the_oracle(block, rules, grid):
    want, totals = reference.count_maps(block, KEYS, GRIDS[grid], rules)
    got = dmdt.count_maps(block, KEYS, GRIDS[grid], rules, sort=True, **CPU)
    np.testing.assert_array_equal(got, want)
    counts = dmdt.pair_counts(block, KEYS, rules, sort=True)
    for k in range(block.n_objects):
        found = dmdt.pairs(block, KEYS, rules, index=k, sort=True)
        assert [len(x["dt"]) for x in found.values()] == counts[k].tolist()
    both = dmdt.accumulate(block, KEYS, GRIDS[grid], rules, guards=True, sort=True, **CPU)
    np.testing.assert_array_equal(both[0, ..., 1:-1], want.sum(axis=0))
    np.testing.assert_array_equal(both[0].sum(axis=-1), totals.sum(axis=0))


@given(blocks(), ANY_RULES, st.sampled_from(["log-linear", "uneven"]))
@settings(max_examples=40)
def test_smeared_maps_equal_the_exact_error_function(block, rules, grid):
    want = reference.gaussian_maps(block, KEYS, GRIDS[grid], rules)
    got = dmdt.gaussian_maps(block, KEYS, GRIDS[grid], rules, sort=True, **CPU)
    n_pairs = max(1, int(dmdt.pair_counts(block, KEYS, rules, sort=True).max()))
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * n_pairs)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("grid", GRIDS)
def test_a_block_equals_the_oracle(grid, rules):
    block = make_block([0, 1, 2, 20, 33], seed=5)
    want, _ = reference.count_maps(block, KEYS, GRIDS[grid], RULES[rules])
    got = dmdt.count_maps(block, KEYS, GRIDS[grid], RULES[rules], **CPU)
    assert got.dtype == np.uint32
    assert want.any()
    np.testing.assert_array_equal(got, want)


def test_values_on_the_edges():
    grid = GRIDS["log-linear"]
    n = len(grid.dt.edges)
    time = np.stack([np.zeros(n), grid.dt.edges], axis=1).ravel()
    value = np.zeros(2 * n)
    value[1::2] = grid.dm.edges[np.arange(n) % len(grid.dm.edges)]
    block = dmdt.LightCurves(time, value, None, np.zeros(2 * n, np.uint8), np.arange(0, 2 * n + 1, 2))
    got = dmdt.count_maps(block, [(0, 0)], grid, RULES["all"], **CPU)[:, 0]
    for k in range(n - 1):
        column = k % len(grid.dm.edges)
        assert got[k].sum() == (column < len(grid.dm))
        assert column == len(grid.dm) or got[k, k, column] == 1
    assert got[n - 1].sum() == 0  # the last edge is open


def test_float32_values_and_unused_bands_and_bare_offsets():
    block = make_block([10, 12], bands=3)
    short = block._replace(value=block.value.astype(np.float32), error=None)
    wide = short._replace(value=short.value.astype(np.float64))
    maps = [dmdt.count_maps(b, [(2, 0)], GRIDS["log-linear"], RULES["all"], **CPU) for b in (short, wide)]
    np.testing.assert_array_equal(*maps)
    # offsets that do not start at 0: only the objects named are read
    tail = block._replace(offsets=block.offsets[1:])
    np.testing.assert_array_equal(
        dmdt.pair_counts(tail, KEYS, RULES["all"]), dmdt.pair_counts(block, KEYS, RULES["all"])[1:]
    )
    again = dmdt.count_maps(tail, KEYS, GRIDS["log-linear"], RULES["all"], sort=True, **CPU)
    np.testing.assert_array_equal(
        again[0], dmdt.count_maps(block, KEYS, GRIDS["log-linear"], RULES["all"])[1]
    )


def test_accumulated_counts_add_up_and_subtract():
    block = make_block([5, 30, 0, 17])
    group = np.array([0, 1, 0, -1])
    grid, rules = GRIDS["log-linear"], RULES["all"]
    maps = dmdt.count_maps(block, KEYS, grid, rules, **CPU).astype(np.int64)
    out = np.zeros((2, len(KEYS), *grid.shape), np.int64)
    result = dmdt.accumulate(block, KEYS, grid, rules, group=group, n_groups=2, out=out, **CPU)
    assert result is out
    np.testing.assert_array_equal(out, [maps[0] + maps[2], maps[1]])
    dmdt.accumulate(block, KEYS, grid, rules, group=group, n_groups=2, out=out, **CPU)
    np.testing.assert_array_equal(out[1], 2 * maps[1])
    total = dmdt.accumulate(block, KEYS, grid, rules, **CPU)
    np.testing.assert_array_equal(total[0] - maps[3], out.sum(axis=0) // 2)


def test_own_cells_are_the_counts_of_each_object():
    block = make_block([40, 0, 12], seed=9)
    grid, rules = GRIDS["fine"], RULES["zeros"]
    own = dmdt.own_cells(block, KEYS, grid, rules)
    assert own.start.shape == (4,)
    for k in range(3):
        one = block._replace(offsets=block.offsets[k : k + 2])
        want = dmdt.accumulate(one, KEYS, grid, rules, guards=True, **CPU)[0].ravel()
        part = slice(own.start[k], own.start[k + 1])
        np.testing.assert_array_equal(own.cell[part], np.flatnonzero(want))
        np.testing.assert_array_equal(own.count[part], want[want > 0])


def test_norms():
    block = make_block([40, 1])
    grid, rules = GRIDS["log-linear"], RULES["all"]
    counts, totals = reference.count_maps(block, KEYS, grid, rules)
    by_dt = counts / np.maximum(totals, 1)[..., np.newaxis]
    got = dmdt.count_maps(block, KEYS, grid, rules, norm=["dt"], **CPU)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, by_dt, rtol=1e-6)
    peak = by_dt.max(axis=(2, 3), keepdims=True)
    got = dmdt.count_maps(block, KEYS, grid, rules, norm=["max", "dt"], **CPU)
    np.testing.assert_allclose(got, by_dt / np.where(peak > 0, peak, 1), rtol=1e-6)
    got = dmdt.count_maps(block, KEYS, grid, rules, norm=["l2"], **CPU)
    size = np.sqrt((counts**2).sum(axis=(2, 3)))
    np.testing.assert_allclose(np.sqrt((got**2).sum(axis=(2, 3))), size > 0, rtol=1e-5)
    for norm in ("dt", ["none"]):
        with pytest.raises(ParameterError, match="norm"):
            dmdt.count_maps(block, KEYS, grid, rules, norm=norm, **CPU)


def test_wrong_groups_are_refused():
    block = make_block([3, 4])
    grid, rules = GRIDS["log-linear"], RULES["all"]
    for more in (
        {"group": np.zeros(3, int)},
        {"group": np.array([0, 1])},
        {"out": np.zeros((1, 1, 1, 1), int)},
    ):
        with pytest.raises(ParameterError):
            dmdt.accumulate(block, KEYS, grid, rules, **CPU, **more)


def test_smeared_maps_need_errors():
    with pytest.raises(SchemaError, match="errors are needed"):
        dmdt.gaussian_maps(make_block([3], errors=False), KEYS, GRIDS["log-linear"], RULES["all"], **CPU)
