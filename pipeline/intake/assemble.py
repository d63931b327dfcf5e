"""The rows of one stretch of the sky become a block of the archive: grouped, ordered, without repeats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from skytrawl.catalogs.block import Block
from skytrawl.catalogs.sky import order_key
from skytrawl.intake.reading import DEFAULTS
from skytrawl.kernels.rows import group, median_positions, ordered, take

REPEATED = "repeats another row in every column"
DELIVERED = "is in the archive already"
_DERIVED = ("first_observation", "n_observations")
_OBJECTS = ("object_id", "ra", "dec", "healpix", "class")
_TIED = 65_536  # rows that are compared at a time


class Rows(Protocol):
    """Rows that come column by column."""

    @property
    def n(self) -> int: ...  # noqa: D102
    @property
    def names(self) -> set[str]: ...  # noqa: D102
    @property
    def keys(self) -> list[str]: ...  # noqa: D102
    @property
    def file_of(self) -> np.ndarray: ...  # noqa: D102
    def objects(self) -> tuple[np.ndarray, Any, Any, np.ndarray] | None: ...  # noqa: D102
    def column(self, name: str, dtype: np.dtype, default: object = None) -> np.ndarray: ...  # noqa: D102


@dataclass
class Assembled:
    """A block and what was found on the way.

    Attributes
    ----------
    block : Block
        Objects in ascending key, observations by band, then time.
    known : bool array of shape (n_objects,)
        Objects that the archive held before.
    repeats : dict of str to list of (file number, row, object)
        Rows left out, by reason.
    equal_stamps : int
        Rows that share object, band and time with another one and differ in something else.
    scattered : list of str
        Objects whose rows lie more than an arc minute apart.
    mixed_classes : int
        Objects with more than one class name; the first is kept.
    new_rows : int
        Rows of the block that the archive did not hold before.
    """

    block: Block
    known: np.ndarray
    repeats: dict[str, list[tuple[int, int, str]]] = field(default_factory=dict)
    repeated: dict[str, int] = field(default_factory=dict)
    equal_stamps: int = 0
    scattered: list[str] = field(default_factory=list)
    n_scattered: int = 0
    mixed_classes: int = 0
    new_rows: int = 0


def assemble(
    rows: Rows, declared: dict[str, np.dtype], *, drop_duplicates: bool = True, base: Block | None = None
) -> Assembled:
    """Group rows by object and put them into archive order.

    Parameters
    ----------
    rows : Rows
        Roles by name: object, time, value, error, band, and any of the optional ones, ra, dec, class, row_id,
        row.
    declared : dict of str to dtype
        Columns of the archive by short name.
    drop_duplicates : bool
        Leave out rows that repeat another row in every column.
    base : Block, optional
        What the archive holds there already, all columns. Its objects keep position and class; rows that
        equal one of its rows in every column of the archive are always left out.

    Returns
    -------
    Assembled
    """
    old = Block() if base is None else base
    n_old = old.n_observations
    column = _merged_columns(rows, old, declared)
    band, time = column("band", np.dtype(np.uint8)), column("time", np.dtype(np.float64))
    found = Assembled(Block(), np.zeros(0, bool))
    standing = None if n_old else _standing(rows, declared, band, time)
    if standing is not None:
        object_id, ra, dec, offsets = standing
        order, n_known = None, 0
    else:
        ids = column("object", declared["object_id"])
        first, order, offsets, owner = group(ids, band, time, with_owner=True)
        object_id, n_known = ids[first], int((first < n_old).sum())
        del ids
        ra, dec = _positions(rows, column, offsets, order, owner, found, object_id)
        del owner
    origin = _origins(old, object_id, n_known)
    known = origin >= 0
    keys = order_key(ra, dec, object_id)
    for name, values in (("ra", ra), ("dec", dec), ("healpix", keys)):
        if known.any():
            values[known] = old.objects[name][origin[known]]
    sorted_objects = np.lexsort((object_id, keys))
    if not np.array_equal(sorted_objects, np.arange(len(keys))):
        order, offsets = _reorder(sorted_objects, order, offsets)
    named = object_id[sorted_objects]
    stamps = take(time, order), take(band, order)
    kept, offsets = _drop_repeats(
        rows, column, declared, stamps, order, offsets, n_old, drop_duplicates, found, named
    )
    if kept is not order:
        order, stamps = kept, (take(time, kept), take(band, kept))
    del time, band
    own = {"object_id": object_id, "ra": ra, "dec": dec, "healpix": keys}
    if "class" in declared:
        classes = _classes(column("class", declared["class"]), order, offsets, found)
        if known.any():
            held = np.flatnonzero(known[sorted_objects])
            earlier = old.objects["class"][origin[sorted_objects][held]]
            classes[held] = np.where(earlier != b"", earlier, classes[held])
    objects = {name: column_[sorted_objects] for name, column_ in own.items()}
    if "class" in declared:
        objects["class"] = classes
    observations = {}
    for name, dtype in declared.items():
        if name in _OBJECTS or name in _DERIVED:
            continue
        if name in ("time", "band"):
            observations[name] = stamps[name == "band"]
        else:
            observations[name] = take(column(name, dtype), order)
    found.block = Block(objects, observations, offsets)
    found.known = known[sorted_objects]
    found.new_rows = int(offsets[-1]) - n_old
    if (np.diff(old.offsets) == 0).any():
        _add_empty(found, old)
    return found


def _origins(old: Block, object_id: np.ndarray, n_with_rows: int) -> np.ndarray:
    """Place in the base of each object, -1 for new ones.

    Objects of the base that have rows come first, in its order, because its rows stand first.
    """
    counts = np.diff(old.offsets)
    origin = np.full(len(object_id), -1)
    origin[:n_with_rows] = np.flatnonzero(counts)
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        empty = empty[np.argsort(old.objects["object_id"][empty])]
        ids = old.objects["object_id"][empty]
        place = np.minimum(np.searchsorted(ids, object_id), len(ids) - 1)
        hit = ids[place] == object_id
        origin[hit] = empty[place[hit]]
    return origin


def _standing(
    rows: Rows, declared: dict[str, np.dtype], band: np.ndarray, time: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Identifiers, positions and offsets of rows that are grouped and ordered already; else None."""
    whole = rows.objects()
    if whole is None:
        return None
    ids, ra, dec, counts = whole
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    if not ordered(offsets, band, time):
        return None
    nowhere = np.full(len(ids), np.nan)
    object_id = ids.astype(declared["object_id"], copy=False)
    return object_id, nowhere if ra is None else ra, nowhere.copy() if dec is None else dec, offsets


def _merged_columns(
    rows: Rows, old: Block, declared: dict[str, np.dtype]
) -> Callable[[str, np.dtype], np.ndarray]:
    """A function that gives a role for the rows of the base, then the new ones."""
    counts = np.diff(old.offsets)

    def column(name: str, dtype: np.dtype) -> np.ndarray:
        new = rows.column(name, dtype, DEFAULTS.get(name))
        if not old.n_observations:
            return new
        if name == "object":
            before = np.repeat(old.objects["object_id"], counts)
        elif name in ("ra", "dec"):
            before = np.full(old.n_observations, np.nan)  # its objects have their positions
        elif name in old.observations:
            before = old.observations[name]
        else:
            before = np.full(old.n_observations, DEFAULTS[name], dtype)
        return np.concatenate([before.astype(dtype, copy=False), new])

    return column


def _positions(
    rows: Rows,
    column: Callable[[str, np.dtype], np.ndarray],
    offsets: np.ndarray,
    order: np.ndarray | None,
    owner: np.ndarray | None,
    found: Assembled,
    object_id: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    n_objects = len(offsets) - 1
    if not {"ra", "dec"} <= rows.names:
        return np.full(n_objects, np.nan), np.full(n_objects, np.nan)
    double = np.dtype(np.float64)
    ra, dec, spread = median_positions(column("ra", double), column("dec", double), offsets, order, owner)
    wide = np.flatnonzero(spread > 1.0)
    found.n_scattered = len(wide)
    found.scattered = [text(name) for name in object_id[wide[:3]]]
    return ra, dec


def _reorder(
    sorted_objects: np.ndarray, order: np.ndarray | None, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Row order and offsets after the objects were put into another order."""
    counts = np.diff(offsets)[sorted_objects]
    new = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    index = np.int32 if new[-1] < 2**31 else np.int64
    picked = np.repeat((offsets[:-1][sorted_objects] - new[:-1]).astype(index), counts)
    picked += np.arange(new[-1], dtype=index)
    return (picked if order is None else order[picked]), new


def _drop_repeats(
    rows: Rows,
    column: Callable[[str, np.dtype], np.ndarray],
    declared: dict[str, np.dtype],
    stamps: tuple[np.ndarray, np.ndarray],
    order: np.ndarray | None,
    offsets: np.ndarray,
    n_old: int,
    drop_duplicates: bool,
    found: Assembled,
    object_id: np.ndarray,
) -> tuple[np.ndarray | None, np.ndarray]:
    """Leave out rows that repeat another; count rows that share a stamp (time, band; in order) only."""
    n = int(offsets[-1])
    time, band = stamps
    same = (time[1:] == time[:-1]) & (band[1:] == band[:-1])
    borders = offsets[1:-1]
    same[borders[(borders > 0) & (borders < n)] - 1] = False
    if not same.any():
        return order, offsets
    tied = np.flatnonzero(np.append(False, same) | np.append(same, False))
    rows_tied = tied if order is None else order[tied].astype(np.int64)
    set_of = np.cumsum(~np.append(False, same))[tied]
    stored = [name for name in declared if name not in _OBJECTS and name not in _DERIVED]
    data = {name: column(name, declared[name])[rows_tied] for name in stored}
    again = np.zeros(len(tied), bool)
    is_new = rows_tied >= n_old
    reason = np.zeros(len(tied), np.uint8)
    if n_old:
        groups = _group_numbers(set_of, data)
        has_old = np.zeros(groups.max() + 1, bool)
        has_old[groups[~is_new]] = True
        again = is_new & has_old[groups]
        reason[again] = 1
    if drop_duplicates:
        extra = [name for name in ("ra", "dec", "row_id", "class") if name in rows.names]
        full = data | {name: column(name, _extra_dtype(name, rows))[rows_tied] for name in extra}
        left = np.flatnonzero(is_new & ~again)
        if len(left):
            repeated = _equal_to_earlier(set_of[left], {name: values[left] for name, values in full.items()})
            again[left[repeated]] = True
    left = set_of[~again & is_new]
    alone = left[~np.isin(left, set_of[~is_new])]  # the first of these shares its stamp with later ones only
    found.equal_stamps = len(left) - len(np.unique(alone))
    if not again.any():
        return order, offsets
    files = rows.file_of
    numbers = rows.column("row", np.dtype(np.int64), 0)
    for code, name in ((0, REPEATED), (1, DELIVERED)):
        hit = np.flatnonzero(again & (reason == code))
        if len(hit):
            found.repeated[name] = len(hit)
            shown = hit[np.argsort(rows_tied[hit])[:3]]
            owners = np.searchsorted(offsets, tied[shown], side="right") - 1
            found.repeats[name] = [
                (int(files[row]), int(numbers[row]), text(object_id[owner]))
                for row, owner in zip(rows_tied[shown] - n_old, owners, strict=True)
            ]
    keep = np.ones(n, bool)
    keep[tied[again]] = False
    kept = np.concatenate([[0], np.cumsum(keep)])
    order = np.flatnonzero(keep) if order is None else order[keep]
    return order, kept[offsets].astype(np.int64)


def _extra_dtype(name: str, rows: Rows) -> np.dtype:
    return np.dtype({"ra": "f8", "dec": "f8", "row_id": "u8", "class": "S32"}[name])


def _group_numbers(set_of: np.ndarray, data: dict[str, np.ndarray]) -> np.ndarray:
    """Numbers that are equal for rows of one set whose bytes are equal in every column; sets ascend."""
    numbers = np.empty(len(set_of), np.int64)
    start = count = 0
    while start < len(set_of):
        # Whole sets, a few rows at a time: faster to sort, and little memory where every row is tied.
        last = min(start + _TIED, len(set_of)) - 1
        stop = int(np.searchsorted(set_of, set_of[last], side="right"))
        parts = [part[start:stop] for part in (set_of, *data.values())]
        raw = [np.ascontiguousarray(part).view(np.uint8).reshape(stop - start, -1) for part in parts]
        table = np.ascontiguousarray(np.concatenate(raw, axis=1))
        found, inverse = np.unique(table.view(f"V{table.shape[1]}").ravel(), return_inverse=True)
        numbers[start:stop] = inverse + count
        start, count = stop, count + len(found)
    return numbers


def _equal_to_earlier(set_of: np.ndarray, data: dict[str, np.ndarray]) -> np.ndarray:
    """Rows that repeat an earlier row of their set in every column, byte for byte."""
    _, firsts = np.unique(_group_numbers(set_of, data), return_index=True)
    again = np.ones(len(set_of), bool)
    again[firsts] = False
    return again


def _classes(
    delivered: np.ndarray, order: np.ndarray | None, offsets: np.ndarray, found: Assembled
) -> np.ndarray:
    """First non-empty class of each object."""
    classes = delivered if order is None else delivered[order]
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    result = np.zeros(len(offsets) - 1, classes.dtype)
    named = np.flatnonzero(classes != b"")
    owners, first = np.unique(owner[named], return_index=True)
    result[owners] = classes[named[first]]
    differing = classes[named] != result[owner[named]]
    found.mixed_classes = len(np.unique(owner[named][differing]))
    return result


def _add_empty(found: Assembled, old: Block) -> None:
    """Put back objects of the base that own no observation; grouping rows cannot see them."""
    empty = np.flatnonzero(np.diff(old.offsets) == 0)
    empty = empty[~np.isin(old.objects["object_id"][empty], found.block.objects["object_id"])]
    objects = {
        name: np.concatenate([values, old.objects[name][empty]])
        for name, values in found.block.objects.items()
    }
    counts = np.append(np.diff(found.block.offsets), np.zeros(len(empty), np.int64))
    order = np.lexsort((objects["object_id"], objects["healpix"]))
    # Only objects without rows come in between: the rows stay in place.
    offsets = np.concatenate([[0], np.cumsum(counts[order])]).astype(np.int64)
    found.block = Block(
        {name: values[order] for name, values in objects.items()}, found.block.observations, offsets
    )
    found.known = np.append(found.known, np.ones(len(empty), bool))[order]


def text(value: object) -> str:
    """An identifier as messages show it."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
