"""Selection, sorting, checks of the input, and the choice of backend."""

import sys
import types

import numpy as np
import pytest

from skytrawl.errors import BackendUnavailableError, ParameterError, SchemaError
from skytrawl.kernels import backend, dmdt

from .conftest import GRIDS, KEYS, RULES, make_block


def test_select_keeps_objects_and_says_what_it_dropped():
    block = make_block([4, 0, 3])
    block.value[1] = np.nan
    block.time[5] = np.inf
    keep = np.ones(7, bool)
    keep[[0, 1]] = False
    chosen = dmdt.select(block, keep)
    np.testing.assert_array_equal(chosen.rows, [2, 3, 4, 6])
    np.testing.assert_array_equal(chosen.lightcurves.offsets, [0, 2, 2, 4])
    np.testing.assert_array_equal(chosen.lightcurves.value, block.value[chosen.rows])
    assert (chosen.n_cut, chosen.n_not_finite) == (2, 1)
    everything = dmdt.select(block)
    assert (everything.n_cut, everything.n_not_finite) == (0, 2)
    part = dmdt.select(block._replace(offsets=block.offsets[1:], error=None))
    np.testing.assert_array_equal(part.rows, [4, 6])
    assert (part.n_cut, part.n_not_finite) == (0, 1)
    with pytest.raises(SchemaError, match="keep"):
        dmdt.select(block, keep[:3])


def test_duplicates():
    time = np.array([1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 4.0])
    block = dmdt.LightCurves(time, np.arange(7.0), None, np.zeros(7, np.uint8), np.array([0, 7]))
    for duplicates, n in (("keep", 17), ("first", 6), ("drop_all", 1)):
        rules = dmdt.PairRules(duplicates=duplicates)
        assert dmdt.pair_counts(block, [(0, 0)], rules) == n
    found = dmdt.pairs(block, [(0, 0)], dmdt.PairRules(duplicates="drop_all"))[0, 0]
    assert (found["i"].tolist(), found["j"].tolist(), found["dm"].tolist()) == ([6], [2], [4.0])


def test_simultaneous_pairs_of_two_bands():
    block = dmdt.LightCurves(
        np.array([1.0, 1.0]), np.array([18.0, 18.5]), None, np.array([0, 1], np.uint8), np.array([0, 2])
    )
    both = [(0, 1), (1, 0)]
    assert dmdt.pair_counts(block, both, dmdt.SORAISAM2020_RULES).tolist() == [[1, 1]]
    found = dmdt.pairs(block, both, dmdt.SORAISAM2020_RULES)
    assert [x["log_dt"].tolist() for x in found.values()] == [[-7.0], [-7.0]]
    assert [x["dm"].tolist() for x in found.values()] == [[-0.5], [0.5]]
    assert dmdt.pair_counts(block, both, RULES["all"]).tolist() == [[0, 0]]


def test_unsorted_objects_are_named():
    block = make_block([5, 6, 7])
    block.time[7] = block.time[8] + 0.5
    with pytest.raises(SchemaError, match="object 1 of the block is not ordered"):
        dmdt.count_maps(block, KEYS, GRIDS["log-linear"], RULES["all"], backend="cpu")
    with pytest.raises(SchemaError, match="not ordered"):
        dmdt.pairs(block, KEYS, RULES["all"], index=1)
    swapped = make_block([6])
    swapped.band[:] = [1, 0, 0, 0, 0, 0]
    with pytest.raises(SchemaError, match="object 0"):
        dmdt.pair_counts(swapped, KEYS, RULES["all"])


def test_sorting_gives_the_same_and_the_rows_of_the_input():
    block = make_block([30, 20], seed=3)
    rng = np.random.default_rng(1)
    order = np.concatenate([rng.permutation(30), 30 + rng.permutation(20)])
    mixed = block._replace(
        time=block.time[order], value=block.value[order], error=block.error[order], band=block.band[order]
    )
    ordered, rows = dmdt.sort_rows(mixed)
    np.testing.assert_array_equal(mixed.time[rows], ordered.time)
    np.testing.assert_array_equal(ordered.time, block.time)
    args = (KEYS, GRIDS["log-linear"], RULES["all"])
    np.testing.assert_array_equal(dmdt.count_maps(mixed, *args, sort=True), dmdt.count_maps(block, *args))


def test_every_fault_is_listed():
    wrong = dmdt.LightCurves(
        np.zeros(3, np.float32), np.zeros(2, int), np.zeros(3, bool), np.zeros(3, int), np.array([2, 1])
    )
    with pytest.raises(SchemaError) as caught:
        dmdt.pair_counts(wrong, KEYS, RULES["all"])
    for word in (
        "time is float32",
        "value is int64",
        "error is bool",
        "band is int64",
        "offsets",
        "shape (2,)",
    ):
        assert word in str(caught.value)
    with pytest.raises(SchemaError, match="one entry more"):
        dmdt.pair_counts(make_block([2])._replace(offsets=np.zeros(0, int)), KEYS, RULES["all"])


@pytest.mark.parametrize("keys", [[], [(0, 256)], [(-1, 0)]])
def test_wrong_keys_are_refused(keys):
    with pytest.raises(ParameterError, match="keys"):
        dmdt.pair_counts(make_block([2]), keys, RULES["all"])


@pytest.mark.parametrize("name", ["within", "cross", "duplicates", "zero_dt"])
def test_wrong_rules_are_refused(name):
    with pytest.raises(ParameterError, match=name):
        dmdt.PairRules(**{name: "some"})


def test_backends(monkeypatch):
    assert backend.resolve("cpu") == "cpu"
    with pytest.raises(ParameterError, match="unknown"):
        backend.resolve("gpu")
    monkeypatch.setattr(backend, "cuda_problem", lambda: "no device")
    assert backend.resolve("auto") == "cpu"
    with pytest.raises(BackendUnavailableError, match=r"no device.*skytrawl\[gpu\]"):
        backend.resolve("cuda")
    monkeypatch.setattr(backend, "cuda_problem", lambda: None)
    assert backend.resolve("auto") == backend.resolve("cuda") == "cuda"


@pytest.mark.parametrize(("available", "problem"), [(True, None), (False, "no CUDA device")])
def test_the_device_is_asked_for_not_the_package(monkeypatch, available, problem):
    cupy = types.ModuleType("cupy")
    cupy.cuda = types.SimpleNamespace(is_available=lambda: available)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    found = backend.cuda_problem()
    assert found is None if problem is None else problem in found


def test_a_missing_cupy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert "cannot be imported" in backend.cuda_problem()
