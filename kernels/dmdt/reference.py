"""The oracle: everything that the kernels compute, in plain NumPy, slow and obvious."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import SchemaError
from skytrawl.kernels.dmdt.compiled import KeyTable
from skytrawl.kernels.dmdt.grids import Grid
from skytrawl.kernels.dmdt.types import Key, LightCurves, PairRules

PairArrays = dict[str, NDArray[np.generic]]


def _series(lightcurves: LightCurves, code: int, rules: PairRules, with_error: bool) -> NDArray[np.int64]:
    """Return the rows of one band of one object, in time, after dropping what is never paired."""
    first, last = (int(x) for x in lightcurves.offsets)
    rows = np.arange(first, last)
    good = np.isfinite(lightcurves.time[rows]) & np.isfinite(lightcurves.value[rows])
    if with_error:
        assert lightcurves.error is not None
        good &= np.isfinite(lightcurves.error[rows]) & (lightcurves.error[rows] >= 0)
    rows = rows[good & (lightcurves.band[rows] == code)]
    rows = rows[np.argsort(lightcurves.time[rows], kind="stable")]
    stamps = lightcurves.time[rows]
    if rules.duplicates == "drop_all":
        unique, count = np.unique(stamps, return_counts=True)
        rows = rows[np.isin(stamps, unique[count == 1])]
    elif rules.duplicates == "first":
        rows = rows[np.unique(stamps, return_index=True)[1]]
    return rows


def pairs_of(
    lightcurves: LightCurves,
    keys: Sequence[Key],
    rules: PairRules,
    *,
    sort: bool = False,
    with_error: bool = False,
) -> dict[Key, PairArrays]:
    """List the pairs of a block of one object; see `skytrawl.kernels.dmdt.pairs`."""
    first, last = (int(x) for x in lightcurves.offsets)
    finite = np.isfinite(lightcurves.time[first:last]) & np.isfinite(lightcurves.value[first:last])
    band, time = lightcurves.band[first:last][finite], lightcurves.time[first:last][finite]
    if not sort and not np.array_equal(np.lexsort((time, band)), np.arange(len(time))):
        raise SchemaError("the object is not ordered by band and time: ask for sort=True")
    out: dict[Key, PairArrays] = {}
    for a, b in keys:
        later, earlier = (_series(lightcurves, code, rules, with_error) for code in (a, b))
        if a == b and rules.within == "consecutive":
            i, j = later[1:], later[:-1]
        elif a == b:
            second, first_ = np.triu_indices(len(later), 1)
            i, j = later[first_], later[second]
        else:
            i, j = np.repeat(later, len(earlier)), np.tile(earlier, len(later))
        with np.errstate(over="ignore"):
            dt = lightcurves.time[i] - lightcurves.time[j]
            dm = lightcurves.value[i].astype(np.float64) - lightcurves.value[j].astype(np.float64)
        zero = rules.zero_within if a == b else rules.zero_cross
        keep = (dt > 0) | ((dt == 0) & (zero >= 0))
        i, j, dt, dm = i[keep], j[keep], dt[keep], dm[keep]
        dt = np.where(dt == 0, zero, dt)
        with np.errstate(divide="ignore"):
            log_dt = np.log10(dt)
        order = np.argsort(log_dt, kind="stable")
        arrays: PairArrays = {"dt": dt, "log_dt": log_dt, "dm": dm, "i": i, "j": j}
        out[a, b] = {name: array[order] for name, array in arrays.items()}
    return out


def _objects(lightcurves: LightCurves) -> list[LightCurves]:
    return [
        lightcurves._replace(offsets=lightcurves.offsets[k : k + 2]) for k in range(lightcurves.n_objects)
    ]


def count_maps(
    lightcurves: LightCurves, keys: Sequence[Key], grid: Grid, rules: PairRules
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count pairs by search in the sorted edges; also per dt row, with those outside the dm range."""
    n_dt, n_dm = grid.shape
    maps = np.zeros((lightcurves.n_objects, len(keys), n_dt, n_dm), np.int64)
    totals = np.zeros(maps.shape[:3], np.int64)
    for o, one in enumerate(_objects(lightcurves)):
        for k, found in enumerate(pairs_of(one, keys, rules, sort=True).values()):
            for dt, dm in zip(found["dt"], found["dm"], strict=True):
                row = np.searchsorted(grid.dt.half_open, dt, side="right") - 1
                column = np.searchsorted(grid.dm.half_open, dm, side="right") - 1
                if 0 <= row < n_dt:
                    totals[o, k, row] += 1
                    if 0 <= column < n_dm:
                        maps[o, k, row, column] += 1
    return maps, totals


def gaussian_maps(
    lightcurves: LightCurves, keys: Sequence[Key], grid: Grid, rules: PairRules
) -> NDArray[np.float64]:
    """Integrate the normal distribution of each pair over the cells of its row with the exact erf."""
    assert lightcurves.error is not None
    error = lightcurves.error.astype(np.float64)
    n_dt, n_dm = grid.shape
    edges = grid.dm.half_open
    maps = np.zeros((lightcurves.n_objects, len(keys), n_dt, n_dm))
    for o, one in enumerate(_objects(lightcurves)):
        for k, found in enumerate(pairs_of(one, keys, rules, sort=True, with_error=True).values()):
            for dt, dm, i, j in zip(found["dt"], found["dm"], found["i"], found["j"], strict=True):
                row = np.searchsorted(grid.dt.half_open, dt, side="right") - 1
                sigma = math.sqrt(float(error[i]) * float(error[i]) + float(error[j]) * float(error[j]))
                if not 0 <= row < n_dt or sigma == math.inf:
                    continue
                if sigma == 0:
                    below = (edges > dm).astype(np.float64)
                else:
                    below = np.array(
                        [0.5 * (1 + math.erf((float(e) - float(dm)) / (math.sqrt(2) * sigma))) for e in edges]
                    )
                maps[o, k, row] += np.diff(below)
    return maps


def score(
    lightcurves: LightCurves,
    keys: Sequence[Key],
    tables: Sequence[KeyTable],
    rules: PairRules,
    floor: float = -math.inf,
) -> dict[str, NDArray[np.generic]]:
    """Sum the values of the cells of all pairs with `math.fsum`; the names are those of `ScoreResult`."""
    n, n_keys = lightcurves.n_objects, len(keys)
    out: dict[str, NDArray[np.generic]] = {
        "total": np.zeros((n, n_keys)),
        "n_pairs": np.zeros((n, n_keys), np.int64),
        "n_penalised": np.zeros((n, n_keys), np.int64),
        "n_ignored": np.zeros((n, n_keys), np.int64),
        "worst": np.full(n, np.nan),
    }
    for o, one in enumerate(_objects(lightcurves)):
        lowest = []
        found_pairs = pairs_of(one, keys, rules, sort=True)
        for k, (found, table) in enumerate(zip(found_pairs.values(), tables, strict=True)):
            values = []
            for dt, dm in zip(found["dt"], found["dm"], strict=True):
                row = np.searchsorted(table.dt_edges, dt, side="right") - 1
                if not 0 <= row < len(table.dt_edges) - 1:
                    out["n_ignored"][o, k] += 1
                    continue
                column = np.searchsorted(table.dm_edges[row], dm, side="right") - 1
                if 0 <= column < len(table.dm_edges[row]) - 1:
                    value = float(table.values[row][column])
                    penalised = table.marked is not None and bool(table.marked[row][column])
                else:
                    value, penalised = float(table.outside[row]), True
                values.append(max(value, floor))
                out["n_penalised"][o, k] += penalised
            out["total"][o, k] = math.fsum(values)
            out["n_pairs"][o, k] = len(values)
            lowest += values
        if lowest:
            out["worst"][o] = min(lowest)
    return out
