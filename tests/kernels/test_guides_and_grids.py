"""Cells by look-up tables equal a search in the sorted edges, for every double."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytrawl.errors import ParameterError
from skytrawl.kernels import dmdt
from skytrawl.kernels.dmdt.grids import first_reaching
from skytrawl.kernels.dmdt.guides import UNDECIDED, bit_cells, bit_guide, linear_cells, linear_guide

from .conftest import GRIDS

FINITE = st.floats(-1e300, 1e300)
EDGES = st.lists(FINITE, min_size=2, max_size=12, unique=True).map(sorted)
POSITIVE = st.lists(st.floats(0, 1e300), min_size=2, max_size=12, unique=True)


def around(edges):
    """The edges, their neighbours and numbers far away."""
    edges = np.asarray(edges, dtype=np.float64)
    near = [
        np.nextafter(edges, -np.inf),
        edges,
        np.nextafter(edges, np.inf),
        (edges[1:] / 2 + edges[:-1] / 2),
    ]
    return np.concatenate([*near, [-np.inf, np.inf, 0.0, -0.0, 1.0, -1e300, 1e300, 5e-324]])


@given(EDGES)
def test_linear_guides_are_exact(edges):
    x = around(edges)
    np.testing.assert_array_equal(
        linear_cells(linear_guide(edges), x), np.searchsorted(edges, x, side="right")
    )


@given(POSITIVE)
def test_bit_guides_are_exact(edges):
    edges = np.sort(np.abs(edges))
    x = np.abs(around(edges))
    guide = bit_guide(edges)
    want = np.searchsorted(edges, x, side="right")
    np.testing.assert_array_equal(bit_cells(guide, x), want)
    fine = guide.fine[
        np.clip((x.view(np.int64) >> guide.fine_shift) - guide.fine_first, 0, len(guide.fine) - 1)
    ]
    decided = fine != UNDECIDED
    np.testing.assert_array_equal(fine[decided], want[decided])


@pytest.mark.parametrize("name", GRIDS)
def test_guides_of_the_grids(name):
    grid = GRIDS[name]
    dt, dm = grid.guides()
    x = around(grid.dt.half_open)
    x = x[x >= 0]
    np.testing.assert_array_equal(bit_cells(dt, x), np.searchsorted(grid.dt.half_open, x, side="right"))
    x = around(grid.dm.half_open)
    want = np.searchsorted(grid.dm.half_open, x, side="right")
    np.testing.assert_array_equal(linear_cells(dm, x), want)
    if dm.formula:
        cells = np.clip(np.floor((x - dm.low) / dm.width) + 1, 0, len(grid.dm)) + (x >= dm.high)
        np.testing.assert_array_equal(cells, want)


def test_uniform_axes_need_no_table():
    guide = linear_guide(dmdt.Axis.linear(-2.5, 2.5, 32).edges)
    assert guide.formula
    assert guide.identity
    assert linear_guide(np.linspace(-1.2345, 2.3456, 40)).identity
    assert not linear_guide(dmdt.preset("scope-ml-26x26").dm.edges).identity


@given(st.floats(-8, 8), st.floats(1e-3, 10), st.integers(1, 64))
def test_linear_axes_change_cell_where_the_formula_does(start, length, n):
    stop = start + length
    axis = dmdt.Axis.linear(start, stop, n)
    width = (stop - start) / n
    for k in range(1, n):
        edge = axis.edges[k]
        assert (edge - start) / width >= k > (np.nextafter(edge, -np.inf) - start) / width


@given(st.floats(-6, 2), st.floats(0.1, 5), st.integers(1, 64))
def test_log_axes_change_cell_where_the_formula_does(low, length, n):
    start, stop = 10.0**low, 10.0 ** (low + length)
    axis = dmdt.Axis.log(start, stop, n)
    lg_start = math.log10(start)
    width = (math.log10(stop) - lg_start) / n
    for k in range(1, n):
        edge = axis.edges[k]
        assert (math.log10(edge) - lg_start) / width >= k
        assert (math.log10(np.nextafter(edge, 0)) - lg_start) / width < k


@given(st.floats(-7, 4))
def test_log_edges_are_the_first_double_that_reaches_them(value):
    edge = dmdt.log_edge(value)
    assert np.log10(edge) >= value > np.log10(np.nextafter(edge, 0))


def test_first_reaching_searches_far_when_the_guess_is_bad():
    assert first_reaching(lambda x: x, 3.0, 1.0) == 3.0
    assert first_reaching(lambda x: x, -3.0, 1.0) == -3.0


def test_the_zero_of_soraisam2020_is_exact():
    assert np.log10(dmdt.SORAISAM2020_ZERO_DT) == -7.0


def test_closed_last_edges_take_their_number():
    axis = dmdt.Axis.from_edges([0.0, 1.0, 2.0], closed_last=True)
    assert np.searchsorted(axis.half_open, 2.0, side="right") == 2
    assert axis != dmdt.Axis.from_edges([0.0, 1.0, 2.0])
    assert axis == dmdt.Axis.from_edges([0, 1, 2], closed_last=True)
    assert hash(axis) == hash(dmdt.Axis.from_edges([0, 1, 2], closed_last=True))
    assert axis != "axis"


@pytest.mark.parametrize("name", ["skytrawl-1", "scope-ml-26x26", "light-curve"])
def test_presets_have_their_name(name):
    grid = dmdt.preset(name)
    assert grid.name == name
    assert grid.shape == (len(grid.dt), len(grid.dm))
    assert not grid.dt.edges.flags.writeable


def test_the_scope_ml_preset_is_26_by_26_with_closed_ends():
    grid = dmdt.preset("scope-ml-26x26")
    assert grid.shape == (26, 26)
    assert grid.dt.closed_last
    assert grid.dm.closed_last


@pytest.mark.parametrize(
    "make",
    [
        lambda: dmdt.preset("none"),
        lambda: dmdt.Axis.from_edges([1.0]),
        lambda: dmdt.Axis.from_edges([1.0, 1.0]),
        lambda: dmdt.Axis.from_edges([1.0, np.nan]),
        lambda: dmdt.Axis.from_edges([1.0, 1e301]),
        lambda: dmdt.Axis.linear(1.0, 1.0, 3),
        lambda: dmdt.Axis.log(0.0, 1.0, 3),
        lambda: dmdt.Grid(dmdt.Axis.linear(-1.0, 1.0, 2), dmdt.Axis.linear(-1.0, 1.0, 2)),
        lambda: bit_guide(np.array([-1.0, 1.0])),
        lambda: dmdt.log_edge(400.0),
    ],
)
def test_wrong_axes_are_refused(make):
    with pytest.raises(ParameterError):
        make()
