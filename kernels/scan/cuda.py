"""The fused grid scan on a GPU: the host side of `scan.cu`, launched through CuPy.

The host lays out a batch of objects (`cuda_layout`): only points whose window holds data. The device fits
the templates at every point into a workspace, takes the medians of the noise from it and chooses the best
points of each season; those alone come back.
"""

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError
from skytrawl.kernels.curves import Curves
from skytrawl.kernels.device import CupyLauncher, Launcher
from skytrawl.kernels.scan import templates
from skytrawl.kernels.scan.cuda_choice import merge_clusters, merge_extremes, noise_levels
from skytrawl.kernels.scan.cuda_layout import Layout, lay_out
from skytrawl.kernels.scan.fused import candidates_of
from skytrawl.kernels.scan.templates import Template
from skytrawl.kernels.scan.types import ScanGrid, ScanResult

__all__ = ["scan"]

KERNELS = ("scan_grid", "scan_median", "scan_peaks")

WARP, BLOCK, GRID_BLOCK = 32, 256, 128
# Rows a window from which a warp shares a point.
LARGE_WINDOW = 128.0
# Workspace: 8 bytes the gain, 4 bytes the run of the point.
BYTES_A_POINT = 12
# Sums of one point go through 48 KB of shared memory.
MOST_TEMPLATES = 14


def source(bank: Iterable[str | Template]) -> str:
    """CUDA source for a bank of templates.

    Raises
    ------
    ParameterError
        For a template that is unknown or has no CUDA expression, and for more than 14.
    """
    shapes = templates.bank(bank)
    without = [shape.name for shape in shapes if shape.cuda is None]
    if without:
        raise ParameterError(
            f"no CUDA expression for {', '.join(without)}: give `cuda` to template(), or choose backend='cpu'"
        )
    if len(shapes) > MOST_TEMPLATES:
        raise ParameterError(
            f"a bank of {len(shapes)} templates: the CUDA kernels take {MOST_TEMPLATES} at most"
        )
    lines = "".join(f"    out[{k}] = {shape.cuda};\n" for k, shape in enumerate(shapes))
    head = (
        f"#define N_TEMPLATES {len(shapes)}\n"
        f"__device__ __forceinline__ void templates(double x, double* out) {{\n{lines}}}\n"
    )
    return head + files("skytrawl.kernels.scan").joinpath("scan.cu").read_text()


@cache
def launcher(code: str) -> Launcher:  # pragma: no cover - needs a CUDA device
    """Return the launcher of this process for a source; it is compiled once."""
    return CupyLauncher(code)


def scan(
    curves: Curves, grid: ScanGrid, bank: Iterable[str | Template], k: int, workspace: int = 1 << 30
) -> ScanResult:
    """Scan every object and return its best candidates.

    Parameters
    ----------
    curves : Curves
    grid : ScanGrid
    bank : names of templates, or templates
    k : int, candidates an object
    workspace : int, bytes
        Device memory for the points of the grid that hold data, 12 bytes each: 8 for the gain, 4 for the
        run of points it belongs to. As many objects are scanned at once as fit, one at least, whatever its
        size. Rows take 24 bytes each on top.

    Returns
    -------
    ScanResult

    Raises
    ------
    ParameterError
        For a template that is unknown or has no CUDA expression, and for more than 14.
    """
    on = launcher(source(bank))
    n, first, teff = curves.n_objects, 0, np.array(grid.teff)
    number, noise = np.empty((n, k + 2, 6), np.int64), np.ones((n, len(teff)))
    t0, dchi2, sizes = np.empty((n, k + 2)), np.empty((n, k + 2)), np.empty((n, 3), np.int64)
    while first < n:
        work = lay_out(curves, grid, first, max(workspace // BYTES_A_POINT, 1))
        out = slice(first, work.stop)
        number[out], t0[out], dchi2[out], noise[out], sizes[out] = _scan_batch(on, work, grid, k)
        first = work.stop
    top = candidates_of(number[:, :k], t0[:, :k], dchi2[:, :k], teff)
    extreme = candidates_of(number[:, k:], t0[:, k:], dchi2[:, k:], teff)
    return ScanResult(top, extreme, noise, *(np.ascontiguousarray(column) for column in sizes.T))


def _fit_points(on: Launcher, sky: tuple[Any, ...], work: Layout) -> tuple[Any, Any]:
    """Fit all points; returns the workspace: the gain of each, and the run that it belongs to."""
    points = int(work.bounds[-1])
    value, run_of = on.zeros((points,), np.float64), on.zeros((points,), np.int32)
    runs, none = on.put(work.runs), on.zeros((2,), np.int64)
    lengths = np.diff(np.append(work.runs[:, 3], points))
    large = work.rows_a_window >= LARGE_WINDOW
    for which, lanes in ((np.flatnonzero(large), WARP), (np.flatnonzero(~large), 1)):
        if len(which):
            _fit_runs(on, (*sky, runs), which, lengths[which], lanes, (value, run_of, none, np.int32(0)))
    return value, run_of


def _fit_runs(
    on: Launcher,
    there: tuple[Any, ...],
    which: NDArray[np.int64],
    lengths: NDArray[np.int64],
    lanes: int,
    outputs: tuple[Any, ...],
) -> None:
    """Launch `scan_grid` for some runs, with so many threads a point."""
    first = np.append(0, np.cumsum(lengths))
    arguments = (*there, on.put(which), on.put(first), np.int64(len(which)), np.int32(lanes), *outputs)
    on.launch("scan_grid", -(-int(first[-1]) * lanes // GRID_BLOCK), GRID_BLOCK, 0, arguments)


def _noise(on: Launcher, value: Any, work: Layout, grid: ScanGrid) -> NDArray[np.float64]:
    """Noise of each object and scale."""
    shape = (len(work.object_season) - 1, len(grid.teff))
    median, count = on.zeros(shape, np.float64), on.zeros(shape, np.int64)
    on.launch("scan_median", shape[0] * shape[1], BLOCK, 0, (value, on.put(work.bounds), median, count))
    return noise_levels(on.get(median), on.get(count), grid.dt0_coeff, grid.teff_coeff)


def _details(on: Launcher, sky: tuple[Any, ...], points: NDArray[np.int64]) -> NDArray[np.int64]:
    """Template and rows in the windows of some points (season, scale, step)."""
    n = len(points)
    runs = np.column_stack([points, np.arange(n)])
    detail = on.zeros((n, 2), np.int64)
    outputs = (on.zeros((1,), np.float64), on.zeros((1,), np.int32), detail, np.int32(1))
    _fit_runs(on, (*sky, on.put(runs)), np.arange(n), np.ones(n, np.int64), WARP, outputs)
    return on.get(detail)


def _scan_batch(on: Launcher, work: Layout, grid: ScanGrid, k: int) -> tuple[NDArray[Any], ...]:
    """Scan the objects of one layout: numbers, t0 and dchi2 of the candidates, noise, sizes."""
    n_scales, n_seasons, n_objects = len(grid.teff), len(work.start), len(work.object_season) - 1
    owner = np.repeat(np.arange(n_objects), np.diff(work.object_season))
    sizes = np.zeros((n_objects, 3), np.int64)
    sizes[:, 0], sizes[:, 2] = np.diff(work.object_season), np.diff(work.bounds[::n_scales])
    np.add.at(sizes[:, 1], owner, work.counts.sum(axis=0))
    number = np.zeros((n_objects, k + 2, 6), np.int64)
    number[..., :4] = -1
    t0, dchi2 = np.full((2, n_objects, k + 2), np.nan)
    if work.bounds[-1] == 0:
        return number, t0, dchi2, np.ones((n_objects, n_scales)), sizes

    teff, delta = np.array(grid.teff), np.ascontiguousarray(work.rows_grid[..., 1])
    base, half = np.ascontiguousarray(work.rows_grid[0, :, 0]), np.ascontiguousarray(work.rows_grid[:, 0, 2])
    rows = (work.tau, work.flux, work.weight, work.pieces, work.season_piece)
    numbers = (np.int64(n_seasons), np.int64(grid.min_points))
    sky = (*(on.put(x) for x in (*rows, base, delta, half, teff)), *numbers)
    value, run_of = _fit_points(on, sky, work)
    noise = _noise(on, value, work, grid)
    places, values = on.zeros((n_seasons, k + 2), np.int64), on.zeros((n_seasons, k + 2), np.float64)
    arguments = (
        value, run_of, *(on.put(x) for x in (work.runs, work.parts, owner, base, delta, teff)),
        np.int64(n_seasons), np.int64(n_scales), np.float64(grid.overlap), on.put(1.0 / noise), np.int64(k),
        places, values,
    )  # fmt: skip
    on.launch("scan_peaks", n_seasons, BLOCK, 0, arguments)

    place, gain = on.get(places), on.get(values)
    run = work.runs[np.maximum(np.searchsorted(work.runs[:, 3], place, side="right") - 1, 0)]
    scale, step = np.where(place < 0, -1, run[..., 1]), run[..., 2] + place - run[..., 3]
    since = step * delta[scale, np.arange(n_seasons)[:, np.newaxis]]
    season, rank = np.full((2, n_objects, k + 2), -1)
    merge_clusters(
        work.object_season, scale, base[:, np.newaxis] + since, gain, teff, work.rows_grid, work.counts,
        grid.overlap, season[:, :k], rank[:, :k],
    )  # fmt: skip
    merge_extremes(work.object_season, scale, gain, noise, season[:, k:], rank[:, k:])
    found = season >= 0
    if found.any():
        at = (season[found], rank[found])
        detail = _details(on, sky, np.stack([at[0], scale[at], step[at]], axis=1))
        number[found, 0] = at[0] - work.object_season[np.nonzero(found)[0]]
        number[found, 1], number[found, 2] = scale[at], step[at]
        number[found, 3], number[found, 5] = detail.T
        number[found, 4] = np.where(gain[at] > 0, 1, -1)
        t0[found], dchi2[found] = work.start[at[0]] + since[at], np.abs(gain[at])
    return number, t0, dchi2, noise, sizes
