"""dm-dt: pairs of observations of one light curve, histogrammed and scored over (dt, dm).

For a pair of observations dt = t_later - t_earlier in days and dm = m_later - m_earlier (positive = fading).
A key (A, B) of two band codes names the pairs whose later observation is in band A and whose earlier one in
band B; A = B are the pairs inside a band. The method is that of Mahabal et al. 2011 (BASI 39, 387) and
Soraisam et al. 2020 (ApJ 892, 112); the parity rules are those of the program soraisam2020, light-curve and
scope-ml.

Everywhere: rows with a NaN or infinite time or value are never paired; empty objects give zeros; every object
must be ordered by band, then time (the archive guarantees it), or ``sort=True`` asked for. `backend` is "cpu"
(Numba), "cuda" (CuPy) or "auto"; integers and scores are equal bit for bit on both.
"""

from collections.abc import Sequence
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError
from skytrawl.kernels.backend import Backend, resolve
from skytrawl.kernels.dmdt.compiled import (
    CompiledReference,
    KeyTable,
    compile_reference,
    grid_table,
    soraisam2020_table,
)
from skytrawl.kernels.dmdt.grids import Axis, Grid, light_curve_grid, log_edge, preset
from skytrawl.kernels.dmdt.results import normalised, score_result
from skytrawl.kernels.dmdt.types import (
    LIGHT_CURVE_RULES,
    SORAISAM2020_RULES,
    SORAISAM2020_ZERO_DT,
    Key,
    LightCurves,
    OwnCells,
    PairRules,
    ScoreResult,
    Selection,
)

__all__ = [
    "KERNEL_VERSION",
    "LIGHT_CURVE_RULES",
    "SORAISAM2020_RULES",
    "SORAISAM2020_ZERO_DT",
    "Axis",
    "CompiledReference",
    "Grid",
    "Key",
    "KeyTable",
    "LightCurves",
    "OwnCells",
    "PairRules",
    "ScoreResult",
    "Selection",
    "accumulate",
    "compile_reference",
    "count_maps",
    "gaussian_maps",
    "grid_table",
    "light_curve_grid",
    "log_edge",
    "own_cells",
    "pair_counts",
    "pairs",
    "preset",
    "score",
    "select",
    "soraisam2020_table",
    "sort_rows",
]

# Enters the fingerprint of every run: raise it when a kernel gives other numbers.
KERNEL_VERSION = "1"

NORMS = ("dt", "max", "l2")


def _module(backend: Backend) -> ModuleType:
    """Import the module of a backend on the machine that computes."""
    if resolve(backend) == "cuda":
        from skytrawl.kernels.dmdt import cuda

        return cuda
    from skytrawl.kernels.dmdt import cpu

    return cpu


def _checked_norm(norm: Sequence[str]) -> tuple[str, ...]:
    unknown = set(norm) - set(NORMS)
    if unknown or isinstance(norm, str):
        raise ParameterError(f"norm is {norm!r}: give a sequence of {NORMS}")
    return tuple(norm)


def select(lightcurves: LightCurves, keep: NDArray[np.bool_] | None = None) -> Selection:
    """Keep the rows that pass the cuts and have finite time and value.

    Parameters
    ----------
    lightcurves : LightCurves
    keep : bool[n_observations], optional
        Rows that pass the cuts; all by default.

    Returns
    -------
    Selection
        `lightcurves` (compacted, the same number of objects, new offsets), `rows` (int64, the row of each
        kept observation in the input), `n_cut` (rows that `keep` dropped), `n_not_finite` (rows dropped
        because their time or value is NaN or infinite).

    Raises
    ------
    SchemaError
        For wrong dtypes or shapes; the message lists every fault.
    """
    from skytrawl.kernels.dmdt.prepare import select as run

    return run(lightcurves, keep)


def sort_rows(lightcurves: LightCurves) -> tuple[LightCurves, NDArray[np.int64]]:
    """Sort each object by band, then time, and return the block and the row each observation came from.

    The sort is stable; NaN times go to the end of their band.
    """
    from skytrawl.kernels.dmdt.prepare import sort_rows as run

    return run(lightcurves)


def pair_counts(
    lightcurves: LightCurves, keys: Sequence[Key], rules: PairRules, *, sort: bool = False
) -> NDArray[np.int64]:
    """Count the pairs of each object and key, whatever their dt and dm.

    Parameters
    ----------
    lightcurves : LightCurves
    keys : sequence of (A, B) band codes
    rules : PairRules
    sort : bool, sort the rows first

    Returns
    -------
    int64[n_objects, n_keys]
        Time linear in the number of observations; the same on every backend.

    Raises
    ------
    SchemaError
        For wrong dtypes or shapes and, without `sort`, for an object that is not ordered.
    """
    from skytrawl.kernels.dmdt import cpu
    from skytrawl.kernels.dmdt.prepare import prepare

    return cpu.pair_counts(prepare(lightcurves, keys, rules, sort=sort))


def count_maps(
    lightcurves: LightCurves,
    keys: Sequence[Key],
    grid: Grid,
    rules: PairRules,
    *,
    norm: Sequence[str] = (),
    backend: Backend = "auto",
    sort: bool = False,
) -> NDArray[np.uint32] | NDArray[np.float32]:
    """Count the pairs of each object in the cells of a grid.

    Parameters
    ----------
    lightcurves : LightCurves
    keys : sequence of (A, B) band codes
    grid : Grid
    rules : PairRules
        `LIGHT_CURVE_RULES` gives exactly the counts of ``light_curve.DmDt.points_many(..., sorted=True)``.
    norm : any of "dt", "max", "l2", in this order
        "dt" divides each dt row by its number of pairs, also those outside the dm range; "max" divides by the
        largest cell; "l2" by the root of the sum of squares (scope-ml).
    backend : {"auto", "cpu", "cuda"}
    sort : bool, sort the rows first

    Returns
    -------
    uint32[n_objects, n_keys, n_dt, n_dm], or float32 with a norm
        Pairs outside the grid are not counted.

    Raises
    ------
    SchemaError
        For wrong dtypes or shapes and, without `sort`, for an object that is not ordered.
    ParameterError
        For an unknown norm.
    BackendUnavailableError
        For "cuda" where it is not usable.
    """
    from skytrawl.kernels.dmdt.prepare import prepare

    names = _checked_norm(norm)
    maps, totals = _module(backend).count_maps(prepare(lightcurves, keys, rules, sort=sort), *grid.guides())
    return normalised(maps, totals, names) if names else maps


def gaussian_maps(
    lightcurves: LightCurves,
    keys: Sequence[Key],
    grid: Grid,
    rules: PairRules,
    *,
    norm: Sequence[str] = (),
    backend: Backend = "auto",
    sort: bool = False,
) -> NDArray[np.float32]:
    """Smear every pair over the dm cells of its row by its error.

    A pair adds to each cell the integral of N(dm, s1^2 + s2^2) over it (light-curve: ``DmDt.gausses_many``),
    from a table of the normal distribution with an absolute error below 1e-6 a pair and cell, in fixed-point
    numbers of 2^-30. Rows whose error is NaN, infinite or negative are not paired; with both errors 0 the
    pair goes into one cell. An error whose square overflows spreads the pair over all numbers: nothing is
    added.

    Parameters
    ----------
    lightcurves : LightCurves with errors
    keys, grid, rules, norm, backend, sort : as in `count_maps`

    Returns
    -------
    float32[n_objects, n_keys, n_dt, n_dm]
        What falls outside the dm range is lost; "dt" divides by the number of pairs of the row.

    Raises
    ------
    SchemaError, ParameterError, BackendUnavailableError
        As `count_maps`; also SchemaError for light curves without errors.
    """
    from skytrawl.kernels.dmdt.gauss import UNIT
    from skytrawl.kernels.dmdt.prepare import prepare

    names = _checked_norm(norm)
    block = prepare(lightcurves, keys, rules, with_error=True, sort=sort)
    sums, totals = _module(backend).gaussian_maps(block, *grid.guides())
    return normalised(sums, totals, names, 1.0 / UNIT)


def accumulate(
    lightcurves: LightCurves,
    keys: Sequence[Key],
    grid: Grid,
    rules: PairRules,
    *,
    group: NDArray[np.integer] | None = None,
    n_groups: int = 1,
    guards: bool = False,
    out: NDArray[np.int64] | None = None,
    backend: Backend = "auto",
    sort: bool = False,
) -> NDArray[np.int64]:
    """Add up the counts of all objects: the additive count tensor of a reference.

    Parameters
    ----------
    lightcurves : LightCurves
    keys, grid, rules, backend, sort : as in `count_maps`
    group : int[n_objects], optional
        Group (class) of each object, below `n_groups`; a negative one leaves the object out. Default: all 0.
    n_groups : int
    guards : bool
        Keep the cells below and above the dm range: the last axis has n_dm + 2 cells.
    out : int64 array of the shape below, optional
        The counts are added to it in place. Counts of disjoint sets of objects add up exactly, and
        subtract, in any order.

    Returns
    -------
    int64[n_groups, n_keys, n_dt, n_dm (+ 2)]

    Raises
    ------
    ParameterError
        For a group or an `out` that does not fit.
    SchemaError, BackendUnavailableError
        As `count_maps`.
    """
    from skytrawl.kernels.dmdt.prepare import prepare

    groups = np.zeros(lightcurves.n_objects, np.int64) if group is None else np.asarray(group, dtype=np.int64)
    if groups.shape != (lightcurves.n_objects,) or (len(groups) and groups.max() >= n_groups):
        raise ParameterError(f"group must be int[{lightcurves.n_objects}] below n_groups={n_groups}")
    n_dt, n_dm = grid.shape
    shape = (n_groups, len(keys), n_dt, n_dm + 2 * guards)
    if out is None:
        out = np.zeros(shape, np.int64)
    elif out.shape != shape or out.dtype != np.int64:
        raise ParameterError(f"out is {out.dtype}{out.shape}, not int64{shape}")
    counts = np.zeros((n_groups, len(keys), (n_dt + 2) * (n_dm + 2)), np.int64)
    _module(backend).accumulate(prepare(lightcurves, keys, rules, sort=sort), *grid.guides(), groups, counts)
    rows = counts.reshape(n_groups, len(keys), n_dt + 2, n_dm + 2)[:, :, 1:-1]
    out += rows if guards else rows[..., 1:-1]
    return out


def own_cells(
    lightcurves: LightCurves,
    keys: Sequence[Key],
    grid: Grid,
    rules: PairRules,
    *,
    sort: bool = False,
) -> OwnCells:
    """Count each object's own pairs sparsely, for scores without an object's own counts.

    Parameters
    ----------
    lightcurves, keys, grid, rules, sort : as in `count_maps`

    Returns
    -------
    OwnCells
        Object k has ``count[m]`` pairs in ``cell[m]`` for m in ``start[k]:start[k + 1]``, cells ascending.
        `cell` is the flat index into [n_keys, n_dt, n_dm + 2]: the layout of ``accumulate(...,
        guards=True)[0]``, whose dm cells 0 and n_dm + 1 lie below and above the dm range. Always computed on
        the CPU.
    """
    from skytrawl.kernels.dmdt import cpu
    from skytrawl.kernels.dmdt.prepare import prepare

    return OwnCells(*cpu.own_cells(prepare(lightcurves, keys, rules, sort=sort), *grid.guides()))


def score(
    lightcurves: LightCurves,
    reference: CompiledReference,
    rules: PairRules,
    *,
    backend: Backend = "auto",
    sort: bool = False,
) -> ScoreResult:
    """Score each object against a compiled reference without making its map.

    ``total[o, k]`` is the sum over the pairs of key k of the value of their cell, in exact fixed-point
    arithmetic: each value is rounded to 2^-39 once, the sum once, and the result does not depend on backend
    or order.

    Parameters
    ----------
    lightcurves : LightCurves
    reference : CompiledReference
        Its keys are the pairs that are made.
    rules : PairRules
        `SORAISAM2020_RULES` with `soraisam2020_table` give the scores of soraisam2020.
    backend : {"auto", "cpu", "cuda"}
    sort : bool, sort the rows first

    Returns
    -------
    ScoreResult
        Sums and counts per object and key, and the worst pair of each object. Without pairs the sum is 0.

    Raises
    ------
    SchemaError, BackendUnavailableError
        As `count_maps`.
    """
    from skytrawl.kernels.dmdt.prepare import prepare

    block = prepare(lightcurves, reference.keys, rules, sort=sort)
    return score_result(block, *_module(backend).score(block, reference))


def pairs(
    lightcurves: LightCurves, keys: Sequence[Key], rules: PairRules, *, index: int = 0, sort: bool = False
) -> dict[Key, dict[str, NDArray[np.generic]]]:
    """List the pairs of one object, for export and plots.

    Parameters
    ----------
    lightcurves, keys, rules, sort : as in `pair_counts`
    index : int, the object of the block

    Returns
    -------
    dict
        For each key the arrays ``dt`` (days), ``log_dt`` (log10), ``dm``, ``i`` and ``j`` (rows of the later
        and the earlier observation in the light curves given), ordered by log_dt. A key without pairs has
        empty arrays. Plain NumPy, memory linear in the number of pairs.
    """
    from skytrawl.kernels.dmdt import reference

    offsets = lightcurves.offsets[index : index + 2]
    return reference.pairs_of(lightcurves._replace(offsets=offsets), keys, rules, sort=sort)
