"""The CUDA source of the grid scans gives the candidates of the CPU kernel: on the CPU through the shim, on a
GPU where there is one."""

import io
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skytrawl.catalogs.samples.microlensing import microlensing_events
from skytrawl.errors import ParameterError
from skytrawl.kernels import scan
from skytrawl.kernels.curves import prepare
from skytrawl.kernels.scan import ScanGrid, cuda, fused, reference_scan, teff_series
from skytrawl.kernels.scan.cuda_layout import lay_out
from skytrawl.kernels.scan.templates import Template

from .conftest import needs_jit

BELLS = ("pspl0", "pspl1")
GRIDS = {
    "short": ScanGrid(teff=teff_series(0.3, count=6)),
    "wide": ScanGrid(teff=(4.0, 11.0, 22.0), dt0_coeff=0.25, overlap=1.5, min_points=5),
    "original": ScanGrid(teff=(0.5, 2.0, 7.5), as_original=True),
    "gaps": ScanGrid(gap=3.0, teff=(0.2, 0.9), min_points=2),
}
BANKS = {"bells": BELLS, "all": ("flare", "pspl0", "box", "step", "pspl1")}


@pytest.fixture(params=["shim", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request, monkeypatch):
    """Where the CUDA source runs."""
    if request.param == "gpu":
        request.getfixturevalue("gpu")
        return None
    shims = request.getfixturevalue("scan_shims")

    def launcher(code):
        shim = shims(code)
        shim.threads = 32  # fewer threads to start; the number must not matter
        return shim

    monkeypatch.setattr(cuda, "launcher", launcher)
    return shims


def events(*names, offset=0.0, joint=True):
    """Bundled events as a block, fluxes from their median; telescopes apart, or all as one data set."""
    samples = microlensing_events()
    rows = [samples[name] for name in names]
    band = np.concatenate([np.unique(r.dataset, return_inverse=True)[1] for r in rows])
    offsets = np.concatenate(([0], np.cumsum([len(r.time) for r in rows])))
    time, error = (np.concatenate([getattr(r, f) for r in rows]) for f in ("time", "flux_err"))
    flux = np.concatenate([r.flux - np.median(r.flux) for r in rows])
    return prepare(time + offset, flux, error, band if joint else np.zeros_like(band), offsets)[0]


def random_curves(seed, sizes, step=0.25, span=30.0, n_bands=2, levels=None):
    """Coarse stamps, so that times repeat and fall on edges of windows."""
    rng = np.random.default_rng(seed)
    n = int(np.sum(sizes))
    time = 2458000.5 + np.round(rng.uniform(0, span, n) / step) * step
    flux = rng.normal(0, 2.0, n) if levels is None else rng.choice(levels, n)
    error = rng.uniform(0.5, 2.0, n)
    offsets = np.append(0, np.cumsum(sizes, dtype=np.int64))
    return prepare(time, flux, error, rng.integers(0, n_bands, n), offsets)[0]


def compare(ours, theirs):
    """Integer columns equal, dchi2 to 1e-6, noise as close as the CPU's single precision."""
    for part in ("top", "extreme"):
        a, b = getattr(ours, part), getattr(theirs, part)
        for name in a._fields:
            x, y = getattr(a, name), getattr(b, name)
            assert x.dtype == y.dtype
            if x.dtype == np.int64:
                np.testing.assert_array_equal(x, y, err_msg=f"{part}.{name}")
            else:
                tolerance = {"rtol": 1e-9, "atol": 1e-9} if name == "dchi2" else {"rtol": 0, "atol": 0}
                np.testing.assert_allclose(x, y, err_msg=f"{part}.{name}", **tolerance)
    np.testing.assert_allclose(ours.noise, theirs.noise, rtol=1e-6)
    for name in ("n_seasons", "n_grid", "n_filled"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), strict=True)


@needs_jit
@pytest.mark.parametrize("bank", BANKS)
@pytest.mark.parametrize("grid", ["short", "wide", "original"])
def test_the_candidates_of_real_events_are_those_of_the_cpu(device, grid, bank):
    curves = events("OGLE-2003-BLG-235", "OGLE-2014-BLG-0939")
    found = cuda.scan(curves, GRIDS[grid], BANKS[bank], 10)
    compare(found, fused.scan(curves, GRIDS[grid], BANKS[bank], 10))
    assert (found.top.season[:, 0] >= 0).all()


@needs_jit
def test_two_telescopes_and_windows_that_a_warp_shares(device, monkeypatch):
    curves = events("OGLE-2016-BLG-1195")
    grid = ScanGrid(teff=(1.0, 4.0, 9.0), dt0_coeff=1.0)
    theirs = fused.scan(curves, grid, BELLS, 5)
    for rows in (0.0, 60.0, np.inf):
        monkeypatch.setattr(cuda, "LARGE_WINDOW", rows)
        compare(cuda.scan(curves, grid, BELLS, 5), theirs)
    assert (theirs.top.n_window > 128).any()


@needs_jit
def test_the_default_grid_on_an_event_of_nine_years(device):
    curves = events("OGLE-2005-BLG-086")
    compare(cuda.scan(curves, ScanGrid(), BELLS, 10), fused.scan(curves, ScanGrid(), BELLS, 10))


@needs_jit
@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(0, 45), min_size=1, max_size=6),
    grid=st.sampled_from(sorted(GRIDS)),
    n_bands=st.integers(1, 3),
    step=st.sampled_from([0.01, 0.25, 1.0]),
    levels=st.sampled_from([None, (0.0,), (3.0, 4.0), (-50.0, 1.0, 2.0)]),
    k=st.integers(1, 6),
)
def test_any_block_gives_the_candidates_of_the_cpu(scan_shims, seed, sizes, grid, n_bands, step, levels, k):
    curves = random_curves(seed, sizes, step=step, n_bands=n_bands, levels=levels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda, "launcher", scan_shims)
        scan_shims(cuda.source(BELLS)).threads = 32
        found = cuda.scan(curves, GRIDS[grid], BELLS, k)
    compare(found, fused.scan(curves, GRIDS[grid], BELLS, k))


def test_the_first_of_nearly_equal_points_is_taken(device):
    # An outlier of 1e5 sigma leaves a chain of points, each within 1e-11 of the next.
    curves = random_curves(1316, [18, 45, 45], step=1.0, levels=(-1e5, 1.0, 2.0))
    found = cuda.scan(curves, GRIDS["gaps"], BELLS, 1)
    expected = reference_scan.scan(curves, GRIDS["gaps"], BELLS, 1)
    for name in ("season", "scale", "step", "template", "sign", "n_window"):
        np.testing.assert_array_equal(getattr(found.top, name), getattr(expected.top, name))
    np.testing.assert_allclose(found.top.dchi2, expected.top.dchi2, rtol=1e-12)


def test_an_offset_of_the_times_changes_nothing(device):
    near, far = (events("OGLE-2003-BLG-235", offset=x) for x in (0.0, 2450000.0))
    ours, theirs = (cuda.scan(c, GRIDS["short"], BELLS, 10) for c in (near, far))
    for name in ("season", "scale", "step", "template", "sign", "n_window"):
        np.testing.assert_array_equal(getattr(ours.top, name), getattr(theirs.top, name))
    np.testing.assert_allclose(ours.top.dchi2, theirs.top.dchi2, rtol=1e-6)


def test_batches_of_any_size_give_the_same(device):
    curves = random_curves(3, [40, 0, 1, 60, 25, 0, 30, 0], span=60.0)
    whole = cuda.scan(curves, GRIDS["short"], BELLS, 4)
    assert lay_out(curves, GRIDS["short"], 0, 1 << 20).stop == curves.n_objects
    assert lay_out(curves, GRIDS["short"], 0, 600).stop < curves.n_objects
    for workspace in (1, 600 * cuda.BYTES_A_POINT):
        again = cuda.scan(curves, GRIDS["short"], BELLS, 4, workspace=workspace)
        for part in ("top", "extreme"):
            for x, y in zip(getattr(again, part), getattr(whole, part), strict=True):
                np.testing.assert_array_equal(x, y)
        for x, y in zip(again[2:], whole[2:], strict=True):
            np.testing.assert_array_equal(x, y)


def test_any_block_size_gives_the_same(scan_shims, monkeypatch):
    monkeypatch.setattr(cuda, "launcher", scan_shims)
    shim, curves = scan_shims(cuda.source(BELLS)), random_curves(5, [50, 0, 80])
    theirs = fused.scan(curves, GRIDS["wide"], BELLS, 3)
    for threads in (None, 64, 128):
        shim.threads = threads
        shim.launched.clear()
        compare(cuda.scan(curves, GRIDS["wide"], BELLS, 3), theirs)
        assert set(shim.launched) == set(cuda.KERNELS)


@pytest.mark.parametrize("sizes", [[], [0, 0], [1], [3, 2]])
def test_nothing_to_scan(device, sizes):
    curves = random_curves(1, sizes)
    found = cuda.scan(curves, GRIDS["short"], BELLS, 3)
    compare(found, fused.scan(curves, GRIDS["short"], BELLS, 3))
    assert (found.top.season == -1).all()
    assert found.top.season.shape == (len(sizes), 3)


def test_a_template_of_the_user(device):
    hat = Template("hat", lambda x: max(0.0, 1.0 - abs(x)), "fmax(0.0, 1.0 - fabs(x))")
    found = cuda.scan(events("OGLE-2003-BLG-235"), GRIDS["short"], (hat, "pspl1"), 5)
    assert {0, 1} <= set(found.top.template[0])


def test_banks_that_cannot_be_compiled():
    with pytest.raises(ParameterError, match="no CUDA expression for bare"):
        cuda.source((Template("bare", float),))
    with pytest.raises(ParameterError, match="a bank of 15 templates"):
        cuda.source(("box",) * 15)
    with pytest.raises(ParameterError, match="no template 'bell'"):
        cuda.source(("bell",))


@pytest.mark.gpu
def test_a_gpu_gives_the_candidates_of_the_cpu_on_all_bundled_events(gpu):
    curves = events(*microlensing_events().events)
    compare(cuda.scan(curves, ScanGrid(), BELLS, 10), scan.scan(curves, ScanGrid(), BELLS, 10, backend="cpu"))


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize(("bank", "registers"), [("bells", 128), ("all", 168)])
def test_the_source_compiles_within_its_budget(arch, bank, registers):
    core = pytest.importorskip(
        "cuda.core",
        reason="needs the wheels cuda-core, cuda-bindings, nvidia-cuda-nvrtc",
        exc_type=ImportError,
    )
    log = io.StringIO()
    options = core.ProgramOptions(arch=arch, std="c++17", fma=False, ptxas_options=["-v"])
    core.Program(cuda.source(BANKS[bank]), "c++", options).compile("cubin", logs=log)
    parts = log.getvalue().split("Compiling entry function '")[1:]
    assert {part.split("'")[0] for part in parts} == set(cuda.KERNELS)
    for part in parts:
        stack, stores, loads = re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part
        ).groups()
        assert (stack, stores, loads) == ("0", "0", "0"), part
        assert int(re.search(r"Used (\d+) registers", part).group(1)) <= registers, part
        assert int(re.search(r"(\d+) bytes smem", part).group(1)) <= 48 * 1024, part
