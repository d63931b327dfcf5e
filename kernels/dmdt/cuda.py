"""dm-dt kernels on a GPU: the host side of `dmdt.cu`, launched through CuPy.

Entry points, with the same signatures as in `cpu`. The host cuts the work into items, a run of earlier
observations of one object and key; small items take a block of one warp, others one of 256 threads, and long
light curves are cut into many items. Maps stay on the device until they are done; a score returns 64 bytes an
item. The device prepares nothing: block, guides and compiled reference are the arrays that the CPU uses.
"""

from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.device import CupyLauncher, Launcher
from skytrawl.kernels.dmdt.compiled import FRACTION_BITS, CompiledReference
from skytrawl.kernels.dmdt.cpu_score import NO_PAIR
from skytrawl.kernels.dmdt.gauss import HALF, REACH, normal_table
from skytrawl.kernels.dmdt.guides import BitGuide, LinearGuide
from skytrawl.kernels.dmdt.types import PairableBlock

__all__ = ["accumulate", "count_maps", "gaussian_maps", "score"]

KERNELS = ("dmdt_count_maps", "dmdt_accumulate", "dmdt_gaussian_maps", "dmdt_score")

WARP, BLOCK = 32, 256
SMALL_PAIRS = 64 * 64  # combinations up to which one warp takes an item
TILE_PAIRS = 1 << 20  # combinations above which an item is cut
SHARED_BYTES = 48 * 1024  # what every device grants without asking


def source() -> str:
    """Return the CUDA source."""
    return files("skytrawl.kernels.dmdt").joinpath("dmdt.cu").read_text()


@cache
def launcher() -> Launcher:  # pragma: no cover - needs a CUDA device
    """Return the launcher of this process; the source is compiled once."""
    return CupyLauncher(source())


def work_items(block: PairableBlock, slot: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cut the work into items of six numbers: key, i0, i1, a0, a1, output slot.

    Parameters
    ----------
    block : PairableBlock
    slot : int64[n_objects, n_keys], output slot of each; negative ones make no items
    """
    keys = np.broadcast_to(np.arange(slot.shape[1]), slot.shape)
    a0, a1 = (np.take(block.bounds, block.first + k, axis=1) for k in (0, 1))
    b0, b1 = (np.take(block.bounds, block.second + k, axis=1) for k in (0, 1))
    use = (slot >= 0) & (a1 > a0) & (b1 > b0)
    columns = [x[use] for x in (keys, b0, b1, a0, a1, slot)]
    rows = np.maximum(TILE_PAIRS // (columns[4] - columns[3]), 1)
    n_tiles = -(-(columns[2] - columns[1]) // rows)
    tile = np.arange(n_tiles.sum()) - np.repeat(np.cumsum(n_tiles) - n_tiles, n_tiles)
    items = (
        np.stack([np.repeat(x, n_tiles) for x in columns], axis=1)
        if len(rows)
        else np.zeros((0, 6), np.int64)
    )
    step = np.repeat(rows, n_tiles)
    items[:, 1] += tile * step
    items[:, 2] = np.minimum(items[:, 2], items[:, 1] + step)
    return np.ascontiguousarray(items, dtype=np.int64)


def _by_size(items: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], int]]:
    """Return the items of each size class with its threads a block; longest first."""
    combinations = (items[:, 2] - items[:, 1]) * (items[:, 4] - items[:, 3])
    order = np.argsort(-combinations, kind="stable")
    n_large = int(np.count_nonzero(combinations > SMALL_PAIRS))
    classes = [(items[order[:n_large]], BLOCK), (items[order[n_large:]], WARP)]
    return [(part, threads) for part, threads in classes if len(part)]


def _rules(on: Launcher, block: PairableBlock) -> tuple[Any, ...]:
    within = (block.first == block.second).astype(np.int64)
    return (
        on.put(within), np.int32(block.consecutive), np.float64(block.zero_within),
        np.float64(block.zero_cross),
    )  # fmt: skip


def _grid(on: Launcher, dt: BitGuide, dm: LinearGuide) -> tuple[Any, ...]:
    return (
        np.int32(dt.shift), np.int64(dt.first), np.int64(len(dt.table) - 1), on.put(dt.table),
        on.put(dt.edges), np.int64(len(dt.edges) - 2), np.float64(dm.origin), np.float64(dm.scale),
        np.int64(len(dm.table) - 1), on.put(dm.table), on.put(dm.edges), np.int64(len(dm.edges)),
    )  # fmt: skip


def _run_grid(
    name: str,
    block: PairableBlock,
    dt: BitGuide,
    dm: LinearGuide,
    slot: NDArray[np.int64],
    outputs: tuple[Any, ...],
) -> None:
    """Launch a kernel over a grid for all items."""
    on = launcher()
    data = (on.put(block.time), on.put(block.value))
    rules, grid = _rules(on, block), _grid(on, dt, dm)
    histogram = 4 * (len(dt.edges) - 2) * len(dm.edges)
    shared = histogram if histogram <= SHARED_BYTES and name != "dmdt_gaussian_maps" else 0
    for items, threads in _by_size(work_items(block, slot)):
        arguments = (*data, on.put(items), *rules, *grid, np.int32(shared > 0), *outputs)
        on.launch(name, len(items), threads, shared, arguments)


def _own_slots(block: PairableBlock) -> NDArray[np.int64]:
    shape = (block.bounds.shape[0], len(block.first))
    return np.arange(shape[0] * shape[1]).reshape(shape)


def count_maps(
    block: PairableBlock, dt: BitGuide, dm: LinearGuide
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Count pairs per object, key and cell; and per row, with those outside the dm range."""
    on = launcher()
    shape = (block.bounds.shape[0], len(block.first), len(dt.edges) - 2, len(dm.edges))
    out = on.zeros(shape, np.uint32)
    _run_grid("dmdt_count_maps", block, dt, dm, _own_slots(block), (out,))
    return on.get(out[..., 1:-1].copy()), on.get(out.sum(axis=-1, dtype=np.uint32))


def accumulate(
    block: PairableBlock, dt: BitGuide, dm: LinearGuide, group: NDArray[np.int64], counts: NDArray[np.int64]
) -> None:
    """Add the counts of each object with group >= 0 to ``counts[group, key, (n_dt + 2) * (n_dm + 2)]``."""
    on = launcher()
    n_dt, stride = len(dt.edges) - 2, len(dm.edges)
    out = on.zeros((*counts.shape[:2], n_dt, stride), np.uint64)
    n_keys = len(block.first)
    slot = np.where(group[:, np.newaxis] >= 0, group[:, np.newaxis] * n_keys + np.arange(n_keys), -1)
    _run_grid("dmdt_accumulate", block, dt, dm, slot, (out,))
    counts.reshape(*counts.shape[:2], n_dt + 2, stride)[:, :, 1:-1] += on.get(out).astype(np.int64)


def gaussian_maps(
    block: PairableBlock, dt: BitGuide, dm: LinearGuide
) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Smear pairs per object, key and cell, in fixed point; and count them per row."""
    on = launcher()
    shape = (block.bounds.shape[0], len(block.first), len(dt.edges) - 2, len(dm.edges) - 2)
    sums, totals = on.zeros(shape, np.uint64), on.zeros(shape[:3], np.uint32)
    more = (
        on.put(block.variance),
        on.put(normal_table()),
        np.float64(HALF),
        np.float64(HALF / REACH),
        sums,
        totals,
    )
    _run_grid("dmdt_gaussian_maps", block, dt, dm, _own_slots(block), more)
    return on.get(sums).astype(np.int64), on.get(totals)


def score(block: PairableBlock, reference: CompiledReference) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Score every object and key; returns sums[object, key, 5] and worst[object, 4] as on the CPU."""
    on = launcher()
    data = (on.put(block.time), on.put(block.value))
    rules = _rules(on, block)
    names = (
        "row_start", "dt_shift", "dt_first", "dt_table_start", "dt_table", "edge_start", "dt_edges",
        "dm_origin", "dm_scale", "dm_table_start", "dm_table", "slot_start", "dm_edges", "packed",
    )  # fmt: skip
    tables = tuple(on.put(getattr(reference, name)) for name in names)
    n_objects, n_keys = block.bounds.shape[0], len(block.first)
    sums = np.zeros((n_objects * n_keys, 5), np.int64)
    found = [np.zeros((0, 5), np.int64)]
    for items, threads in _by_size(work_items(block, _own_slots(block))):
        out = on.zeros((len(items), 8), np.int64)
        on.launch("dmdt_score", len(items), threads, 0, (*data, on.put(items), *rules, *tables, out))
        results = on.get(out)
        np.add.at(sums, items[:, 5], results[:, :5])
        objects, keys = np.divmod(items[:, 5], n_keys)
        rows = np.stack([objects, results[:, 5], keys, results[:, 6], results[:, 7]], axis=1)
        found.append(rows[results[:, 6] >= 0])
    sums[:, 0] += sums[:, 1] >> FRACTION_BITS
    sums[:, 1] &= (1 << FRACTION_BITS) - 1
    worst = np.full((n_objects, 4), -1, np.int64)
    worst[:, 0] = NO_PAIR
    candidates = np.concatenate(found)
    # lowest value, then key, then earlier row, then later row: the order in which the CPU meets them
    order = np.lexsort(tuple(candidates[:, c] for c in (3, 4, 2, 1, 0)))
    objects, at = np.unique(candidates[order, 0], return_index=True)
    worst[objects] = candidates[order][at, 1:]
    return sums.reshape(n_objects, n_keys, 5), worst
