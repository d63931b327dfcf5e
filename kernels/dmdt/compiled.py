"""A reference compiled for scoring: a value for every cell, ready for table look-up on CPU and GPU.

The rows are ragged: every key has its own dt rows and every row its own dm cells, as soraisam2020 makes them;
a fixed grid is the special case of equal rows. Values are fixed-point numbers, so that sums of them are exact
and do not depend on the order in which pairs are visited: the scores of all backends agree bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skytrawl.errors import ParameterError
from skytrawl.kernels.dmdt.grids import Grid, log_edge
from skytrawl.kernels.dmdt.guides import bit_guide, checked_edges, linear_guide
from skytrawl.kernels.dmdt.types import Key

# A value v is stored as 2 round(v 2^39) with a flag for penalised pairs in the lowest bit: resolution
# 1.8e-12, rounding error 9e-13 a pair, and 1024 values of the largest size fit into int64.
FRACTION_BITS = 40
LARGEST_VALUE = 4000.0

SORAISAM2020_SHORT, SORAISAM2020_LONG = -2000.0, -30.0


@dataclass(frozen=True, eq=False)
class KeyTable:
    """Values of one key.

    Parameters
    ----------
    dt_edges : float64[n_rows + 1], ascending, days, >= 0
        Row r holds ``dt_edges[r] <= dt < dt_edges[r + 1]``; pairs outside all rows are ignored.
    dm_edges : n_rows arrays float64[n_cells_r + 1], ascending; cell c holds ``edges[c] <= dm < edges[c + 1]``
    values : n_rows arrays float64[n_cells_r], what a pair in the cell adds to the score
    outside : float64[n_rows], what a pair below or above all cells of the row adds; it counts as penalised
    marked : n_rows arrays bool[n_cells_r], optional; pairs in these cells count as penalised, too
    """

    dt_edges: NDArray[np.float64]
    dm_edges: Sequence[NDArray[np.float64]]
    values: Sequence[NDArray[np.float64]]
    outside: NDArray[np.float64]
    marked: Sequence[NDArray[np.bool_]] | None = None


class CompiledReference(NamedTuple):
    """Flat tables of `compile_reference`; plain arrays, which pickle.

    Keys k, rows r (of all keys, one after the other), slots (cells with a guard at both ends).
    Row r has slots ``slot_start[r]:slot_start[r + 1]``; `dm_edges` and `packed` share them, the last dm edge
    of a row is a NaN. Key k has dt edges ``edge_start[k]:edge_start[k + 1]``, the last of them a NaN; row n
    - 1 of the key, counted from ``row_start[k]``, is that of a dt with n edges at or below.
    """

    keys: tuple[Key, ...]
    row_start: NDArray[np.int64]
    dt_shift: NDArray[np.int64]
    dt_first: NDArray[np.int64]
    dt_table_start: NDArray[np.int64]
    dt_table: NDArray[np.int64]
    fine_shift: NDArray[np.int64]
    fine_first: NDArray[np.int64]
    fine_start: NDArray[np.int64]
    fine: NDArray[np.int64]
    edge_start: NDArray[np.int64]
    dt_edges: NDArray[np.float64]
    dm_origin: NDArray[np.float64]
    dm_scale: NDArray[np.float64]
    dm_identity: NDArray[np.bool_]
    dm_table_start: NDArray[np.int64]
    dm_table: NDArray[np.int64]
    slot_start: NDArray[np.int64]
    dm_edges: NDArray[np.float64]
    packed: NDArray[np.int64]


def pack(values: NDArray[np.float64], marked: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return values as fixed-point numbers with the flag in the lowest bit."""
    if not np.all(np.abs(values) <= LARGEST_VALUE):
        raise ParameterError(f"the values of a reference must be finite and inside +-{LARGEST_VALUE}")
    return 2 * np.rint(np.ldexp(values, FRACTION_BITS - 1)).astype(np.int64) + marked


def unpack(packed: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return fixed-point numbers without their flag as float64."""
    return np.ldexp((packed >> 1).astype(np.float64), 1 - FRACTION_BITS)


def compile_reference(
    keys: Sequence[Key], tables: Sequence[KeyTable], *, floor: float | None = None
) -> CompiledReference:
    """Compile one table a key.

    Parameters
    ----------
    keys : pairs of band codes
    tables : the values of each key
    floor : float, optional
        Lower bound of every value, those outside included.

    Raises
    ------
    ParameterError
        For unequal lengths, edges that do not ascend and values that are not finite or beyond +-4000.
    """
    if len(keys) != len(tables) or not keys:
        raise ParameterError(
            f"{len(keys)} keys and {len(tables)} tables: one table for each of at least one key"
        )
    dt_parts: list[Any] = []
    rows: list[Any] = []
    packed = []
    for key, table in zip(keys, tables, strict=True):
        dt_parts.append(bit_guide(table.dt_edges))
        n_rows = len(table.dt_edges) - 1
        if not n_rows == len(table.dm_edges) == len(table.values) == len(table.outside):
            raise ParameterError(f"the table of key {key} does not have {n_rows} rows everywhere")
        guides: dict[bytes, Any] = {}
        for r in range(n_rows):
            edges, values = checked_edges(table.dm_edges[r]), np.asarray(table.values[r], dtype=np.float64)
            marked = (
                np.zeros(len(values), bool) if table.marked is None else np.asarray(table.marked[r], bool)
            )
            if not len(edges) - 1 == len(values) == len(marked):
                raise ParameterError(
                    f"row {r} of key {key} has {len(edges) - 1} cells and {len(values)} values"
                )
            guide = guides.setdefault(edges.tobytes(), None)
            if guide is None:
                guide = guides[edges.tobytes()] = linear_guide(edges)
            rows.append(guide)
            all_values = np.concatenate(([table.outside[r]], values, [table.outside[r]]))
            if floor is not None:
                all_values = np.maximum(all_values, floor)
            packed.append(pack(all_values, np.concatenate(([True], marked, [True]))))
    return CompiledReference(
        tuple((int(a), int(b)) for a, b in keys),
        _starts([len(t.dt_edges) - 1 for t in tables]),
        np.array([g.shift for g in dt_parts], dtype=np.int64),
        np.array([g.first for g in dt_parts], dtype=np.int64),
        _starts([len(g.table) for g in dt_parts]),
        np.concatenate([g.table for g in dt_parts]),
        np.array([g.fine_shift for g in dt_parts], dtype=np.int64),
        np.array([g.fine_first for g in dt_parts], dtype=np.int64),
        _starts([len(g.fine) for g in dt_parts]),
        np.concatenate([g.fine for g in dt_parts]),
        _starts([len(g.edges) for g in dt_parts]),
        np.concatenate([g.edges for g in dt_parts]),
        np.array([g.origin for g in rows]),
        np.array([g.scale for g in rows]),
        np.array([g.identity for g in rows]),
        _starts([len(g.table) for g in rows]),
        np.concatenate([g.table for g in rows]),
        _starts([len(g.edges) for g in rows]),
        np.concatenate([g.edges for g in rows]),
        np.concatenate(packed),
    )


def _starts(lengths: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)


def grid_table(
    grid: Grid, values: ArrayLike, outside: ArrayLike, marked: NDArray[np.bool_] | None = None
) -> KeyTable:
    """Return the table of one key on a fixed grid.

    Parameters
    ----------
    grid : Grid
    values : float[n_dt, n_dm]
    outside : float or float[n_dt], the value of pairs outside the dm range
    marked : bool[n_dt, n_dm], optional
    """
    n_dt, n_dm = grid.shape
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (n_dt, n_dm) or (marked is not None and marked.shape != (n_dt, n_dm)):
        raise ParameterError(f"values of shape {array.shape} do not fit the grid {grid.name}, {(n_dt, n_dm)}")
    beyond = np.broadcast_to(np.asarray(outside, dtype=np.float64), (n_dt,))
    edges = grid.dm.half_open
    return KeyTable(
        grid.dt.half_open, [edges] * n_dt, list(array), beyond, None if marked is None else list(marked)
    )


def soraisam2020_table(
    log_dt_edges: NDArray[np.float64],
    dm_edges: Sequence[NDArray[np.float64]],
    dm_hist: Sequence[NDArray[np.float64]],
) -> KeyTable:
    """Return the table of one key that scores exactly as soraisam2020 does.

    A pair in cell b of row k adds ``log10(h_b) - log10(E_k)`` with ``E_k = sum_b h_b^2 w_b``; a pair outside
    the dm range of its row, the last edge included, adds ``z - log10(E_k)`` with z = -2000 where the right
    edge of the row is below log10(dt) = 1 (10 d) and -30 elsewhere; a pair outside all rows adds nothing. All
    intervals are open at their right edge.

    Parameters
    ----------
    log_dt_edges : float64[n_rows + 1], log10 of days
    dm_edges : n_rows arrays float64[n_cells + 1], mag
    dm_hist : n_rows arrays float64[n_cells], probability density 1/mag; empty cells hold 1e-30 and count as
        penalised
    """
    values, marked, outside = [], [], []
    for right, edges, density in zip(log_dt_edges[1:], dm_edges, dm_hist, strict=True):
        expectation = np.sum(density**2 * np.diff(edges))
        values.append(np.log10(density) - np.log10(expectation))
        marked.append(density <= 1e-30)
        outside.append((SORAISAM2020_SHORT if right < 1.0 else SORAISAM2020_LONG) - np.log10(expectation))
    dt_edges = np.array([log_edge(float(x)) for x in log_dt_edges])
    return KeyTable(dt_edges, list(dm_edges), values, np.array(outside), marked)
