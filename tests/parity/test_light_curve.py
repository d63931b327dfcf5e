"""Counts equal light-curve's exactly; smeared maps agree with its exact error function to 1e-5."""

import light_curve
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytrawl.kernels import dmdt

BORDERS = {"min_lgdt": -2.0, "max_lgdt": np.log10(2500.0), "max_abs_dm": 2.5, "lgdt_size": 32, "dm_size": 32}


def block_of(curves):
    """A block of one band from a list of (time, value[, error])."""
    columns = [np.concatenate(column) for column in zip(*curves, strict=True)]
    offsets = np.cumsum([0, *(len(curve[0]) for curve in curves)])
    error = columns[2] if len(columns) == 3 else None
    return dmdt.LightCurves(columns[0], columns[1], error, np.zeros(offsets[-1], np.uint8), offsets)


def ours(curves, grid, function=dmdt.count_maps, **more):
    maps = function(block_of(curves), [(0, 0)], grid, dmdt.LIGHT_CURVE_RULES, backend="cpu", **more)
    return maps[:, 0]


def survey(n_curves, n, seed, decimals=5):
    """Times of a survey, one visit a night; magnitudes and errors with a few decimals."""
    rng = np.random.default_rng(seed)
    curves = []
    for _ in range(n_curves):
        nights = rng.choice(1800, n, replace=n > 1800)
        time = np.sort(58000.0 + np.round(nights + rng.uniform(0, 0.3, n), decimals))
        value = np.round(18.0 + rng.normal(0, 0.6, n), decimals)
        curves.append((time, value, np.round(rng.uniform(0.005, 0.2, n), decimals)))
    return curves


@pytest.mark.parametrize("decimals", [1, 2, 5, 15])
@pytest.mark.parametrize("n", [2, 50, 300])
def test_counts_equal(n, decimals):
    curves = [curve[:2] for curve in survey(20, n, seed=n, decimals=decimals)]
    theirs = light_curve.DmDt.from_borders(**BORDERS, n_jobs=1).points_many(curves, sorted=True)
    np.testing.assert_array_equal(ours(curves, dmdt.light_curve_grid(**BORDERS)), theirs)


def neighbours(edges):
    return np.unique(np.concatenate([edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)]))


@given(st.floats(-3, 1), st.floats(0.5, 4), st.floats(0.1, 5), st.integers(1, 40), st.integers(1, 40))
def test_every_edge_is_the_same_double(low, length, max_abs_dm, n_dt, n_dm):
    borders = dict(zip(BORDERS, (low, low + length, max_abs_dm, n_dt, n_dm), strict=True))
    grid = dmdt.light_curve_grid(**borders)
    zero = np.zeros(1)
    curves = [(np.append(zero, [dt]), np.zeros(2)) for dt in neighbours(grid.dt.edges)]
    middle = 10.0 ** (low + length / 2)
    curves += [(np.array([0.0, middle]), np.append(zero, [dm])) for dm in neighbours(grid.dm.edges)]
    theirs = light_curve.DmDt.from_borders(**borders, n_jobs=1).points_many(curves, sorted=True)
    np.testing.assert_array_equal(ours(curves, grid), theirs)


def test_any_edges_equal_the_search_of_light_curve():
    grid = dmdt.preset("scope-ml-26x26")
    half_open = dmdt.Grid(dmdt.Axis.from_edges(grid.dt.edges), dmdt.Axis.from_edges(grid.dm.edges))
    theirs = light_curve.DmDt(grid.dt.edges, grid.dm.edges, dt_type="asis", dm_type="asis", n_jobs=1)
    curves = [curve[:2] for curve in survey(10, 100, seed=3, decimals=2)]
    curves.append((np.array([0.0, 0.0, 2000.0]), np.array([0.0, 1.0, 8.0])))
    rules = dmdt.PairRules(duplicates="keep", zero_dt="keep")
    maps = dmdt.count_maps(block_of(curves), [(0, 0)], half_open, rules, backend="cpu")
    np.testing.assert_array_equal(maps[:, 0], theirs.points_many(curves, sorted=True))
    # the preset closes its last edges, as numpy.histogram2d does
    i, j = np.triu_indices(3, 1)
    time, value = curves[-1]
    bins = [grid.dt.edges, grid.dm.edges]
    want, _, _ = np.histogram2d(time[j] - time[i], value[j] - value[i], bins=bins)
    closed = dmdt.count_maps(block_of(curves[-1:]), [(0, 0)], grid, rules, backend="cpu")
    np.testing.assert_array_equal(closed[0, 0], want)


@pytest.mark.parametrize("norm", [[], ["dt"], ["max"], ["dt", "max"]])
def test_smeared_maps_agree(norm):
    curves = survey(30, 60, seed=7)
    curves.append((curves[0][0], curves[0][1], np.full(60, 1e-3)))
    curves.append((curves[0][0], curves[0][1], np.full(60, 3.0)))
    theirs = light_curve.DmDt.from_borders(**BORDERS, norm=norm, n_jobs=1).gausses_many(curves, sorted=True)
    got = ours(curves, dmdt.light_curve_grid(**BORDERS), dmdt.gaussian_maps, norm=norm)
    peak = theirs.max(axis=(1, 2), keepdims=True)
    assert peak.min() > 0
    assert np.max(np.abs(got - theirs) / peak) <= 1e-5


@pytest.mark.parametrize("norm", [["dt"], ["max"], ["dt", "max"]])
def test_norms_agree(norm):
    curves = [curve[:2] for curve in survey(10, 80, seed=1)]
    theirs = light_curve.DmDt.from_borders(**BORDERS, norm=norm, n_jobs=1).points_many(curves, sorted=True)
    np.testing.assert_allclose(ours(curves, dmdt.light_curve_grid(**BORDERS), norm=norm), theirs, rtol=1e-6)
