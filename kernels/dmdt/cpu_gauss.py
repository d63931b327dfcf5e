"""Maps smeared by the errors, in Numba."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from skytrawl.kernels.dmdt.cpu_cells import dm_cell, dt_cell
from skytrawl.kernels.dmdt.gauss import REACH, normal_table
from skytrawl.kernels.dmdt.guides import BitGuide, LinearGuide
from skytrawl.kernels.dmdt.types import PairableBlock


@njit(cache=True, nogil=True)
def _smear(dm, variance, guide, edges, table, reach, sums):  # type: ignore[no-untyped-def]
    """Add one pair to the cells of its row; sums has no guard cells."""
    n_dm = len(sums)
    n_steps = len(table) - 2
    if variance == 0.0:
        column = dm_cell(dm, guide) - 1
        if 0 <= column < n_dm:
            sums[column] += np.int64(table[n_steps])
        return
    if not variance < np.inf:
        return
    sigma = np.sqrt(variance)
    column = max(dm_cell(dm - reach * sigma, guide) - 1, 0)
    scale = n_steps / (2.0 * reach) / sigma
    shift = n_steps / 2.0
    position = min(max((edges[column] - dm) * scale + shift, 0.0), float(n_steps))
    node = int(position)
    low = table[node]
    below = np.int64(low + (position - node) * (table[node + 1] - low))
    full = np.int64(table[n_steps])
    while column < n_dm and below < full:
        column += 1
        position = min(max((edges[column] - dm) * scale + shift, 0.0), float(n_steps))
        node = int(position)
        low = table[node]
        above = np.int64(low + (position - node) * (table[node + 1] - low))
        sums[column - 1] += above - below
        below = above


@njit(cache=True, nogil=True)
def _gaussian_maps(block, dt, dm, table, reach, sums, totals):  # type: ignore[no-untyped-def]
    time, value, variance, bounds = block.time, block.value, block.variance, block.bounds
    n_dt = len(dt.edges) - 2
    edges = dm.edges
    for o in range(bounds.shape[0]):
        for key in range(len(block.first)):
            first, second = block.first[key], block.second[key]
            within = first == second
            zero = block.zero_within if within else block.zero_cross
            start, a1 = bounds[o, first], bounds[o, first + 1]
            for i in range(bounds[o, second], bounds[o, second + 1]):
                while start < a1 and time[start] < time[i]:
                    start += 1
                j, stop = max(start, i + 1) if within else start, a1
                if within and block.consecutive:
                    j, stop = i + 1, min(i + 2, a1)
                while j < stop:
                    step = time[j] - time[i]
                    if step == 0.0:
                        step = zero
                    if step >= 0.0:
                        row = dt_cell(step, dt) - 1
                        if row >= n_dt and time[j] > time[i]:
                            break
                        if 0 <= row < n_dt:
                            totals[o, key, row] += 1
                            spread = variance[j] + variance[i]
                            _smear(value[j] - value[i], spread, dm, edges, table, reach, sums[o, key, row])
                    j += 1


def gaussian_maps(
    block: PairableBlock, dt: BitGuide, dm: LinearGuide
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Smear pairs per object, key and cell, in fixed point; and count them per row."""
    shape = (block.bounds.shape[0], len(block.first), len(dt.edges) - 2, len(dm.edges) - 2)
    sums, totals = np.zeros(shape, np.int64), np.zeros(shape[:3], np.uint32)
    _gaussian_maps(block, dt, dm, normal_table(), REACH, sums, totals)
    return sums, totals
