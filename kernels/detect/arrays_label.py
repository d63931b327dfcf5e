"""Islands split at deep saddles, with the array API; see `label` for what is computed."""

from typing import Any

STEPS = (-1, 0, 1)


def _ranks(height: Any, xp: Any) -> Any:
    """Place of each pixel in the order of height, 0 the highest, the first of equal ones ahead."""
    return xp.argsort(xp.argsort(-height, stable=True), stable=True)


def _neighbour(index: Any, value: Any, columns: int, i: int, j: int, xp: Any) -> tuple[Any, Any]:
    """Place of the neighbour at offset (i, j), the pixel itself where there is none; whether there is."""
    n = index.shape[0]
    here = xp.arange(n, dtype=xp.int64, device=index.device)
    wanted = index + (j * columns + i)
    column = index % columns + i
    place = xp.astype(xp.searchsorted(index, wanted), xp.int64)
    place = xp.where(place < n, place, here)
    there = (xp.take(index, place) == wanted) & (column >= 0) & (column < columns)
    there = there & ((xp.take(value, place) > 0) == (value > 0))
    return xp.where(there, place, here), there


def _jump(pointer: Any, xp: Any) -> Any:
    """Follow pointers to their ends, twice as far in each round."""
    while True:
        further = xp.take(pointer, pointer)
        if bool(xp.all(further == pointer)):
            return pointer
        pointer = further


def _first_of(owner: Any, n: int, xp: Any) -> tuple[Any, Any]:
    """Owners that occur, and the place of the first occurrence of each."""
    order = xp.argsort(owner, stable=True)
    ranked = xp.take(owner, order)
    before = xp.concat([xp.full((1,), -1, dtype=ranked.dtype, device=ranked.device), ranked[:-1]])
    fresh = ranked != before
    return ranked[fresh], order[fresh]


def _scatter(base: Any, where: Any, what: Any, xp: Any) -> Any:
    """A copy of `base` with ``base[where] = what``; `where` ascends without repetition."""
    if where.shape[0] == 0:
        return base
    n = base.shape[0]
    here = xp.arange(n, dtype=xp.int64, device=base.device)
    place = xp.astype(xp.searchsorted(where, here), xp.int64)
    place = xp.where(place < where.shape[0], place, xp.zeros_like(place))
    return xp.where(xp.take(where, place) == here, xp.take(what, place), base)


def split(index: Any, value: Any, columns: int, saddle: float, xp: Any) -> Any:
    """Place of the peak that each pixel belongs to; a peak belongs to itself.

    Parameters
    ----------
    index : int64[n], flat indices of the pixels, ascending
    value : float32[n], scores there
    columns : int, of the image
    saddle : float, depth of a saddle that splits
    xp : namespace

    Returns
    -------
    int64[n]
    """
    n = index.shape[0]
    here = xp.arange(n, dtype=xp.int64, device=index.device)
    if n == 0:
        return here
    height = xp.abs(value)
    rank = _ranks(height, xp)
    basin = here
    lows, highs = [], []
    for j in STEPS:
        for i in STEPS:
            place, there = _neighbour(index, value, columns, i, j, xp)
            basin = xp.where(xp.take(rank, place) < xp.take(rank, basin), place, basin)
            # Pairs of pixels in the direction from the lower to the higher one.
            down = there & (xp.take(rank, place) < rank)
            lows.append(here[down])
            highs.append(place[down])
    basin = _jump(basin, xp)
    low, high = xp.concat(lows), xp.concat(highs)
    border = xp.take(basin, low) != xp.take(basin, high)
    low, high = low[border], high[border]
    if low.shape[0] == 0:
        return basin
    order = xp.argsort(xp.take(rank, low) * n + xp.take(rank, high), stable=True)
    low, high = xp.take(low, order), xp.take(high, order)
    into = _joined(xp.take(basin, low), xp.take(basin, high), xp.take(height, low), height, rank, saddle, xp)
    return xp.take(_jump(into, xp), basin)


def _joined(one: Any, other: Any, border: Any, height: Any, rank: Any, saddle: float, xp: Any) -> Any:
    """Where each basin goes, itself if it is a source.

    In each round every joined group of basins whose highest saddle leads to a group with a higher peak joins
    that one. Kruskal's order gives the same: what could reach the group's saddle earlier is in the group, and
    the saddle of the other side's own join is higher.

    Parameters
    ----------
    one, other : int64[m], basins on the sides of each border, from the highest border down
    border : float32[m], its height
    height, rank : of all pixels
    """
    n = height.shape[0]
    here = xp.arange(n, dtype=xp.int64, device=height.device)
    into, group = here, here
    depth = xp.asarray(saddle, dtype=xp.float32, device=height.device)
    # Both directions, the order kept.
    start = xp.reshape(xp.stack([one, other], axis=1), (-1,))
    end = xp.reshape(xp.stack([other, one], axis=1), (-1,))
    level = xp.reshape(xp.stack([border, border], axis=1), (-1,))
    while True:
        mine, theirs = xp.take(group, start), xp.take(group, end)
        open_ = mine != theirs
        start, end, level, mine, theirs = start[open_], end[open_], level[open_], mine[open_], theirs[open_]
        if start.shape[0] == 0:
            return into
        groups, first = _first_of(mine, n, xp)
        target = xp.take(theirs, first)
        rises = xp.take(rank, target) < xp.take(rank, groups)
        groups, first, target = groups[rises], first[rises], target[rises]
        shallow = xp.take(height, groups) - xp.take(level, first) < depth
        into = _scatter(into, groups, xp.where(shallow, xp.take(end, first), groups), xp)
        group = _jump(_scatter(group, groups, target, xp), xp)
