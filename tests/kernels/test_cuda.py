"""The CUDA source equals the Numba kernels bit for bit: on the CPU through the shim, on a GPU where there is
one."""

import inspect
import io
import re

import numpy as np
import pytest

from skytrawl.kernels import dmdt
from skytrawl.kernels.dmdt import cpu, cuda

from .conftest import GRIDS, KEYS, RULES, make_block, make_reference, needs_jit

SIZES = {
    "edges-of-a-warp": [0, 1, 2, 31, 0, 32, 33, 63, 64, 65, 95, 96, 97],
    "long": [0, 300, 3],
}


def compare(sizes, grid, rules):
    """Compare every entry point of the two backends."""
    block = make_block(sizes, seed=len(sizes))
    group = np.arange(block.n_objects) % 3 - 1
    more = {"grid": GRIDS[grid], "rules": RULES[rules]}
    for norm in ((), ("dt", "max")):
        ours = dmdt.count_maps(block, KEYS, backend="cpu", norm=norm, **more)
        theirs = dmdt.count_maps(block, KEYS, backend="cuda", norm=norm, **more)
        assert ours.any()
        np.testing.assert_array_equal(theirs, ours, strict=True)
    for function, extra in (
        (dmdt.gaussian_maps, {}),
        (dmdt.accumulate, {"group": group, "n_groups": 2, "guards": True}),
    ):
        ours = function(block, KEYS, backend="cpu", **more, **extra)
        theirs = function(block, KEYS, backend="cuda", **more, **extra)
        assert ours.any()
        np.testing.assert_array_equal(theirs, ours, strict=True)
    _, reference = make_reference(GRIDS[grid])
    ours = dmdt.score(block, reference, RULES[rules], backend="cpu")
    theirs = dmdt.score(block, reference, RULES[rules], backend="cuda")
    assert ours.n_pairs.any()
    for name in ours._fields:
        np.testing.assert_array_equal(getattr(theirs, name), getattr(ours, name), err_msg=name, strict=True)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("grid", GRIDS)
def test_the_source_on_the_cpu_equals_numba(shim, grid, rules):
    compare([0, 1, 2, 33, 64, 0], grid, rules)
    assert set(shim.launched) == set(cuda.KERNELS)


@needs_jit
@pytest.mark.parametrize("threads", [32, 64, 256])
@pytest.mark.parametrize("sizes", SIZES)
def test_any_block_size_gives_the_same(shim, sizes, threads):
    shim.threads = threads
    compare(SIZES[sizes], "log-linear", "first")


def test_long_light_curves_are_cut_into_tiles(shim, monkeypatch):
    monkeypatch.setattr(cuda, "TILE_PAIRS", 1000)
    compare([5, 150, 0, 40], "log-linear", "zeros")


def test_many_pairs_of_the_largest_value_do_not_overflow(shim):
    grid = GRIDS["log-linear"]
    table = dmdt.grid_table(grid, np.full(grid.shape, -4000.0), -4000.0)
    reference = dmdt.compile_reference([(0, 0)], [table])
    block = make_block([300], bands=1, step=1e-6, span=90.0)
    shim.threads = 32  # more than 1024 pairs a thread
    ours, theirs = (dmdt.score(block, reference, RULES["all"], backend=b) for b in ("cpu", "cuda"))
    assert ours.n_pairs[0, 0] > 32 * 1024
    assert ours.total[0, 0] == theirs.total[0, 0] == -4000.0 * ours.n_pairs[0, 0]


def test_extreme_numbers_give_the_same(shim):
    rng = np.random.default_rng(2)
    n = 40
    block = dmdt.LightCurves(
        np.sort(rng.choice([-1e308, 0.0, 5e-324, 0.25, 1.0, 1e17, 1e308], n)),
        rng.choice([-1e308, -1e17, 0.0, 5e-324, 0.5, 1e308], n),
        rng.choice([0.0, 1e-170, 1e-9, 0.1, 1e17, 1e200], n),
        np.zeros(n, np.uint8),
        np.array([0, n]),
    )
    grid, rules = GRIDS["uneven"], RULES["zeros"]
    for function in (dmdt.count_maps, dmdt.gaussian_maps):
        ours, theirs = (function(block, [(0, 0)], grid, rules, backend=b) for b in ("cpu", "cuda"))
        assert ours.any()
        np.testing.assert_array_equal(theirs, ours)
    reference = make_reference(grid, [(0, 0)])[1]
    ours, theirs = (dmdt.score(block, reference, rules, backend=b) for b in ("cpu", "cuda"))
    assert ours.n_ignored.any()
    for name in ours._fields:
        np.testing.assert_array_equal(getattr(theirs, name), getattr(ours, name), err_msg=name)


def test_nothing_to_do(shim):
    for sizes in ([], [0, 0], [1]):
        block = make_block(sizes)
        assert dmdt.count_maps(block, KEYS, GRIDS["log-linear"], RULES["all"], backend="cuda").sum() == 0
        result = dmdt.score(block, make_reference(GRIDS["log-linear"])[1], RULES["all"], backend="cuda")
        assert result.total.shape == (len(sizes), 4)
        assert np.isnan(result.worst).all()


@pytest.mark.gpu
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("sizes", SIZES)
def test_a_gpu_equals_numba(gpu, sizes, grid, rules):
    compare(SIZES[sizes], grid, rules)


@pytest.mark.gpu
def test_a_gpu_equals_numba_on_long_light_curves(gpu):
    compare([4000, 0, 50, 2500], "log-linear", "first")


@pytest.mark.parametrize("name", cuda.__all__)
def test_the_backends_have_the_same_signatures(name):
    assert inspect.signature(getattr(cuda, name)) == inspect.signature(getattr(cpu, name))


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
def test_the_source_compiles_within_its_budget(arch):
    core = pytest.importorskip(
        "cuda.core",
        reason="needs the wheels cuda-core, cuda-bindings, nvidia-cuda-nvrtc",
        exc_type=ImportError,
    )
    log = io.StringIO()
    options = core.ProgramOptions(arch=arch, std="c++17", fma=False, ptxas_options=["-v"])
    core.Program(cuda.source(), "c++", options).compile("cubin", logs=log)
    text = log.getvalue()
    for name in cuda.KERNELS:
        start = text.index(f"entry function '{name}'")
        part = text[
            start : text.find("Compiling entry", start) if "Compiling entry" in text[start:] else None
        ]
        stack, stores, loads = re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part
        ).groups()
        assert (stack, stores, loads) == ("0", "0", "0"), name
        assert int(re.search(r"Used (\d+) registers", part).group(1)) <= 64, name
        shared = re.search(r"(\d+) bytes smem", part)
        assert shared is None or int(shared.group(1)) <= 48 * 1024, name
