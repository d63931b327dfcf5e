"""Light curves, oracles and the CPU stand-in of a CUDA device for the kernel tests."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core import config

from skytrawl.kernels import dmdt
from skytrawl.kernels.backend import cuda_problem
from skytrawl.kernels.dmdt import cuda

HERE = Path(__file__).parent

# Without the JIT the kernels run in the interpreter, a thousand times slower, so that every line is counted:
# on small cases, and on fewer examples.
needs_jit = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="takes too long without the JIT")

# Whole images: without the JIT, tests/kernels/test_small_images.py goes through the same kernels.
_WHOLE_IMAGES = {
    "test_detect_arrays.py",
    "test_detect_link.py",
    "test_measure.py",
    "test_measure_pairs.py",
    "test_resample.py",
    "test_resample_coadd.py",
    "test_zogy_statistics.py",
    "test_zogy_tiles.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave whole images out where there is no JIT."""
    for item in items:
        if item.path.name in _WHOLE_IMAGES and item.path.parent == HERE:
            item.add_marker(needs_jit)


def examples(count: int) -> int:
    """Number of examples of a hypothesis test, a tenth without the JIT."""
    return max(2, count // 10) if config.DISABLE_JIT else count


def make_block(sizes, seed=0, bands=2, step=0.25, span=300.0, decimals=2, errors=True):
    """Sorted random light curves with coarse stamps and values, so that ties and edges are hit."""
    rng = np.random.default_rng(seed)
    time, band = [], []
    for n in sizes:
        t = np.round(rng.uniform(0, span, n) / step) * step + 58000.0
        b = rng.integers(0, bands, n)
        order = np.lexsort((t, b))
        time.append(t[order])
        band.append(b[order])
    n = int(np.sum(sizes))
    return dmdt.LightCurves(
        np.concatenate([np.zeros(0), *time]),
        np.round(rng.normal(18.0, 0.6, n), decimals),
        np.round(rng.uniform(0.0, 0.2, n), decimals) if errors else None,
        np.concatenate([np.zeros(0), *band]).astype(np.uint8),
        np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
    )


@pytest.fixture(autouse=True)
def quiet_arithmetic():
    """Without the JIT NumPy warns where the compiled kernels take infinities, on purpose."""
    with np.errstate(
        **({"over": "ignore", "divide": "ignore", "invalid": "ignore"} if config.DISABLE_JIT else {})
    ):
        yield


KEYS = [(0, 0), (1, 1), (0, 1), (1, 0)]

GRIDS = {
    "log-linear": dmdt.light_curve_grid(-1.0, 2.0, 1.0, 9, 8),
    "scope-ml": dmdt.preset("scope-ml-26x26"),
    "uneven": dmdt.Grid(
        dmdt.Axis.from_edges([0.0, 1e-9, 0.25, 0.5, 100.0]),
        dmdt.Axis.from_edges([-1.0, -0.5, -0.4999999999999999, 0.0, 1e-12, 0.01, 3.0], closed_last=True),
    ),
    # too fine for the shared memory of a block
    "fine": dmdt.Grid(dmdt.Axis.log(1e-2, 1e3, 40), dmdt.Axis.linear(-4.0, 4.0, 400)),
}

RULES = {
    "all": dmdt.PairRules(duplicates="keep"),
    "zeros": dmdt.PairRules(duplicates="keep", zero_dt="keep"),
    "first": dmdt.PairRules(duplicates="first", zero_dt="soraisam2020"),
    "soraisam2020": dmdt.SORAISAM2020_RULES,
    "consecutive": dmdt.PairRules(within="consecutive", duplicates="keep", zero_dt="keep"),
}


def make_reference(grid, keys=KEYS, seed=1, floor=None):
    """A compiled reference with random values and marked cells on a grid."""
    rng = np.random.default_rng(seed)
    tables = [
        dmdt.grid_table(grid, rng.normal(-0.5, 2.0, grid.shape), rng.uniform(-30, -20, len(grid.dt)),
                        rng.random(grid.shape) < 0.1)
        for _ in keys
    ]  # fmt: skip
    return tables, dmdt.compile_reference(keys, tables, floor=floor)


class ShimLauncher:
    """Runs a CUDA source on the CPU: one thread per CUDA thread, with the block sizes asked for."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))
        self.threads: int | None = None
        self.launched: list[str] = []

    def put(self, array):
        return np.ascontiguousarray(array)

    def zeros(self, shape, dtype):
        return np.zeros(shape, dtype)

    def get(self, array):
        return array

    def launch(
        self, name: str, n_blocks: int, n_threads: int, shared: int, arguments: tuple[Any, ...]
    ) -> None:
        assert n_blocks > 0
        assert shared <= 48 * 1024
        slots = (ctypes.c_uint64 * len(arguments))()
        for k, argument in enumerate(arguments):
            if isinstance(argument, np.ndarray):
                assert argument.flags.c_contiguous
                slots[k] = argument.ctypes.data
            elif isinstance(argument, np.floating):
                slots[k] = int(np.float64(argument).view(np.uint64))
            else:
                slots[k] = int(np.int64(argument).view(np.uint64))
        self.launched.append(name)
        getattr(self.library, f"shim_{name}")(n_blocks, self.threads or n_threads, slots)


def build_shim(folder: Path, code: str, name: str, launch: str) -> Path:
    """Compile a CUDA source for the CPU: `name` is what `launch` includes it as."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("the CPU shim of the CUDA source needs g++ >= 11")
    (folder / name).write_text(code)
    out = folder / "shim.so"
    options = ["-std=c++20", "-O2", "-ffp-contract=off", "-shared", "-fPIC", "-pthread", f"-I{folder}"]
    command = [
        compiler,
        *options,
        f"-I{HERE / 'cuda_shim'}",
        str(HERE / "cuda_shim" / launch),
        "-o",
        str(out),
    ]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return out


@pytest.fixture(scope="session")
def shim_library(tmp_path_factory) -> Path:
    return build_shim(tmp_path_factory.mktemp("shim"), cuda.source(), "dmdt.cu", "launch.cpp")


@pytest.fixture
def shim(shim_library, monkeypatch) -> ShimLauncher:
    """Put the CPU stand-in where the CUDA device would be."""
    launcher = ShimLauncher(shim_library)
    monkeypatch.setattr(cuda, "launcher", lambda: launcher)
    monkeypatch.setattr(dmdt, "resolve", lambda backend: "cuda" if backend == "cuda" else "cpu")
    return launcher


@pytest.fixture(scope="session")
def scan_shims(tmp_path_factory) -> Callable[[str], ShimLauncher]:
    """Compiles the source of each bank once, and returns its launcher."""

    @cache
    def launcher(code: str) -> ShimLauncher:
        return ShimLauncher(build_shim(tmp_path_factory.mktemp("scan"), code, "scan.cu", "launch_scan.cpp"))

    return launcher


@pytest.fixture
def gpu() -> None:
    """Skip without a CUDA device, or fail where REQUIRE_GPU=1 says that there must be one."""
    problem = cuda_problem()
    if problem is not None:
        message = f"no CUDA device: {problem}"
        if os.environ.get("REQUIRE_GPU") == "1":
            pytest.fail(message)
        pytest.skip(message)
