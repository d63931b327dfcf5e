"""Scores against a compiled reference: the oracle, exactness, the worst pair, refused input."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba.core import config

from skytrawl.errors import ParameterError
from skytrawl.kernels import dmdt
from skytrawl.kernels.dmdt import reference
from skytrawl.kernels.dmdt.compiled import KeyTable

from .conftest import GRIDS, KEYS, RULES, make_block, make_reference

COUNTS = ("n_pairs", "n_penalised", "n_ignored")


def compare(block, tables, compiled, rules, floor=-np.inf):
    got = dmdt.score(block, compiled, rules, backend="cpu")
    want = reference.score(block, compiled.keys, tables, rules, floor)
    for name in COUNTS:
        np.testing.assert_array_equal(getattr(got, name), want[name], err_msg=name)
    np.testing.assert_allclose(
        got.total, want["total"], rtol=0, atol=2e-12 * (1 + got.n_pairs.max(initial=0))
    )
    np.testing.assert_allclose(got.worst, want["worst"], rtol=0, atol=1e-12)
    return got


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("grid", GRIDS)
def test_scores_equal_the_oracle(grid, rules):
    block = make_block([0, 1, 2, 20, 33], seed=4)
    tables, compiled = make_reference(GRIDS[grid])
    got = compare(block, tables, compiled, RULES[rules])
    assert got.n_penalised.any()
    np.testing.assert_array_equal(got.n_pairs + got.n_ignored, dmdt.pair_counts(block, KEYS, RULES[rules]))


@st.composite
def ragged_tables(draw):
    """Tables with rows of their own, uniform and uneven."""
    n_rows = draw(st.integers(1, 4))
    dt = np.sort(draw(st.lists(st.floats(1e-8, 400), min_size=n_rows + 1, max_size=n_rows + 1, unique=True)))
    edges, values = [], []
    for _ in range(n_rows):
        n = draw(st.integers(1, 5))
        if draw(st.booleans()):
            low = draw(st.floats(-2, 1))
            edges.append(np.linspace(low, low + draw(st.floats(0.1, 3)), n + 1))
        else:
            edges.append(
                np.sort(draw(st.lists(st.floats(-3, 3), min_size=n + 1, max_size=n + 1, unique=True)))
            )
        values.append(np.array(draw(st.lists(st.floats(-30, 3), min_size=n, max_size=n))))
    outside = np.array(draw(st.lists(st.floats(-2000, 0), min_size=n_rows, max_size=n_rows)))
    return KeyTable(dt, edges, values, outside)


@given(
    ragged_tables(), ragged_tables(), st.integers(0, 99), st.sampled_from(sorted(RULES)), st.floats(-40, -1)
)
def test_ragged_references_equal_the_oracle(within, cross, seed, rules, floor):
    block = make_block([3, 8], seed=seed, decimals=1)
    keys = [(0, 0), (1, 0)]
    compare(block, [within, cross], dmdt.compile_reference(keys, [within, cross]), RULES[rules])
    floored = dmdt.compile_reference(keys, [within, cross], floor=floor)
    got = compare(block, [within, cross], floored, RULES[rules], floor)
    assert not np.any(got.worst < floor - 1e-9)


def test_the_worst_pair_is_a_pair_of_that_value():
    block = make_block([0, 30, 12], seed=8)
    shuffled = np.random.default_rng(0).permutation(30)
    grid = GRIDS["log-linear"]
    tables, compiled = make_reference(grid)
    order = np.concatenate([shuffled, np.arange(30, 42)])
    mixed = block._replace(
        time=block.time[order], value=block.value[order], error=None, band=block.band[order]
    )
    got = dmdt.score(mixed, compiled, RULES["first"], backend="cpu", sort=True)
    assert got.worst_key[0] == -1
    assert (got.worst_rows[0] == -1).all()
    for k in (1, 2):
        later, earlier = got.worst_rows[k]
        key = got.worst_key[k]
        assert (mixed.band[later], mixed.band[earlier]) == KEYS[key]
        dt = max(mixed.time[later] - mixed.time[earlier], dmdt.SORAISAM2020_ZERO_DT)
        row = np.searchsorted(grid.dt.edges, dt, side="right") - 1
        column = np.searchsorted(grid.dm.edges, mixed.value[later] - mixed.value[earlier], side="right") - 1
        inside = 0 <= column < len(grid.dm)
        value = tables[key].values[row][column] if inside else tables[key].outside[row]
        assert value == pytest.approx(got.worst[k], abs=1e-12)
        np.testing.assert_allclose(got.worst[k], dmdt.score(block, compiled, RULES["first"]).worst[k])


def test_ties_go_to_the_first_pair():
    grid = GRIDS["log-linear"]
    table = dmdt.grid_table(grid, np.full(grid.shape, -1.0), -1.0)
    compiled = dmdt.compile_reference([(0, 0)], [table])
    block = dmdt.LightCurves(np.arange(5.0), np.zeros(5), None, np.zeros(5, np.uint8), np.array([0, 5]))
    got = dmdt.score(block, compiled, RULES["all"], backend="cpu")
    np.testing.assert_array_equal(got.worst_rows, [[1, 0]])
    assert got.total[0, 0] == -10.0


def test_many_pairs_add_up_exactly():
    grid = dmdt.Grid(dmdt.Axis.log(1e-9, 1e6, 3), dmdt.Axis.linear(-1.0, 1.0, 2))
    table = dmdt.grid_table(grid, np.full(grid.shape, -4000.0), -4000.0)
    compiled = dmdt.compile_reference([(0, 0)], [table])
    n = 1300  # partners beyond one chunk
    block = dmdt.LightCurves(np.arange(float(n)), np.zeros(n), None, np.zeros(n, np.uint8), np.array([0, n]))
    short = block._replace(offsets=np.array([0, 60]))
    # without the JIT the long one takes a minute
    for one, size in ((short, 60), (block, 0 if config.DISABLE_JIT else n)):
        if size:
            got = dmdt.score(one, compiled, RULES["all"], backend="cpu")
            assert got.total[0, 0] == -4000.0 * size * (size - 1) / 2


def test_compiled_references_pickle():
    _, compiled = make_reference(GRIDS["log-linear"])
    again = pickle.loads(pickle.dumps(compiled))
    block = make_block([20])
    results = [dmdt.score(block, c, RULES["all"], backend="cpu").total for c in (compiled, again)]
    np.testing.assert_array_equal(*results)


def test_the_scores_of_soraisam2020_by_hand():
    edges = np.array([0.0, 0.5, 2.0])  # log10 of 1, 3.16 and 100 days
    dm_edges = [np.array([-1.0, 0.0, 1.0]), np.array([-1.0, 1.0])]
    density = [np.array([1e-30, 1.0]), np.array([0.5])]
    compiled = dmdt.compile_reference([(0, 0)], [dmdt.soraisam2020_table(edges, dm_edges, density)])

    def total(dt, dm):
        block = dmdt.LightCurves(
            np.array([0.0, dt]), np.array([0.0, dm]), None, np.zeros(2, np.uint8), np.array([0, 2])
        )
        return dmdt.score(block, compiled, dmdt.SORAISAM2020_RULES, backend="cpu")

    assert total(2.0, 0.5).total[0, 0] == pytest.approx(0.0, abs=1e-12)
    assert total(2.0, -0.5).total[0, 0] == pytest.approx(-30.0)
    assert total(2.0, -0.5).n_penalised[0, 0] == 1
    assert total(2.0, 1.0).total[0, 0] == pytest.approx(-2000.0)  # on the last edge: outside
    assert total(20.0, 3.0).total[0, 0] == pytest.approx(-30.0 - np.log10(0.5))
    assert total(20.0, 0.0).total[0, 0] == pytest.approx(0.0, abs=1e-12)
    assert total(100.0, 0.0).n_ignored[0, 0] == 1
    assert total(0.5, 9.0).n_ignored[0, 0] == 1


def good(**change):
    parts = {
        "dt_edges": np.array([1.0, 2.0]),
        "dm_edges": [np.array([0.0, 1.0])],
        "values": [np.array([0.0])],
        "outside": np.array([-1.0]),
    }
    return KeyTable(**{**parts, **change})


@pytest.mark.parametrize(
    "make",
    [
        lambda: dmdt.compile_reference([], []),
        lambda: dmdt.compile_reference([(0, 0)], []),
        lambda: dmdt.compile_reference([(0, 0)], [good(values=[np.array([np.nan])])]),
        lambda: dmdt.compile_reference([(0, 0)], [good(values=[np.array([-5000.0])])]),
        lambda: dmdt.compile_reference([(0, 0)], [good(values=[np.array([0.0, 1.0])])]),
        lambda: dmdt.compile_reference([(0, 0)], [good(outside=np.array([0.0, 1.0]))]),
        lambda: dmdt.compile_reference([(0, 0)], [good(dm_edges=[np.array([0.0, 0.0])])]),
        lambda: dmdt.grid_table(GRIDS["log-linear"], np.zeros((2, 2)), 0.0),
    ],
)
def test_wrong_references_are_refused(make):
    with pytest.raises(ParameterError):
        make()
