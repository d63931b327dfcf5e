"""From checked rows to partitions: objects along the sky, rows by band and time, cuts by size."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from skytrawl.catalogs.block import Block
from skytrawl.catalogs.sky import UNPLACED, order_key

ROWS = ("time", "value", "error", "band", "sign", "upper_limit", "quality", "rb", "exposure")


@dataclass
class Grouped:
    """All objects in archive order, with what was found on the way.

    Attributes
    ----------
    block : Block
        Objects in ascending key, observations by band, then time.
    duplicates : int64 array
        Indices of the rows that repeat another row in every column.
    equal_stamps : int
        Rows that share object, band and time with another one and differ in something else.
    scattered : int64 array
        Objects (archive order) whose rows lie more than an arc minute apart.
    mixed_classes : int
        Objects with more than one class name; the first is kept.
    """

    block: Block
    duplicates: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    equal_stamps: int = 0
    scattered: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    mixed_classes: int = 0


def identifiers(texts: np.ndarray) -> np.ndarray:
    """uint64 where every text is a plain non-negative integer, else the bytes as they are.

    "007" is no plain integer, because the number 7 would be another text.

    Parameters
    ----------
    texts : bytes array
    """
    if not len(texts):
        return texts
    letters = np.ascontiguousarray(texts).view(np.uint8).reshape(len(texts), -1)
    used = letters != 0
    digits = (letters >= ord("0")) & (letters <= ord("9"))
    leading = (letters[:, 0] == ord("0")) & (used.sum(axis=1) > 1)
    if (digits | ~used).all() and used[:, 0].all() and not leading.any() and letters.shape[1] <= 20:
        values = [int(text) for text in texts.tolist()]
        if max(values) < 2**64:
            return np.array(values, np.uint64)
    return texts


def group(rows: Mapping[str, np.ndarray], *, drop_duplicates: bool = True) -> Grouped:
    """Sort checked rows into archive order.

    Parameters
    ----------
    rows : mapping of role to array of shape (n,)
        Needs object (bytes or uint64), time, value, error, band (uint8 codes); may have the other roles and
        row_id. Stable: rows with equal object, band and time keep their order.
    drop_duplicates : bool
        Leave out rows that repeat another row in every column, the measurement's identifier (row_id)
        included.

    Returns
    -------
    Grouped
    """
    object_id, owner = np.unique(rows["object"], return_inverse=True)
    ra, dec, scattered = _object_positions(rows, owner, len(object_id))
    keys = order_key(ra, dec, object_id)
    # Ties of the key (two objects in one cell of 0.4 mas) are ordered by the identifier: np.unique has
    # sorted it.
    order = np.argsort(keys, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    owner = rank[owner]
    by_stamp = np.lexsort((rows["time"], rows["band"], owner))
    repeated, equal_stamps = _repeats(rows, owner, by_stamp)
    duplicates = np.zeros(0, np.int64)
    if drop_duplicates and repeated.any():
        duplicates = by_stamp[repeated]
        by_stamp = by_stamp[~repeated]
    else:
        equal_stamps += int(repeated.sum())
    counts = np.bincount(owner[by_stamp], minlength=len(order))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    objects = {"object_id": object_id[order], "ra": ra[order], "dec": dec[order], "healpix": keys[order]}
    mixed = 0
    if "class" in rows:
        objects["class"], mixed = _object_classes(rows["class"][by_stamp], owner[by_stamp], offsets)
    observations = {name: rows[name][by_stamp] for name in ROWS if name in rows}
    return Grouped(
        Block(objects, observations, offsets), duplicates, equal_stamps, np.sort(rank[scattered]), mixed
    )


def cut(offsets: np.ndarray, keys: np.ndarray, most: int) -> list[slice]:
    """Ranges of objects of about equal size with at most `most` observations each.

    A longer object gets a range of its own. Objects with and without position never share a range. Objects of
    one place on the curve always do, so that the place alone tells the partition.

    Parameters
    ----------
    offsets : int64 array of shape (n_objects + 1,)
    keys : uint64 array of shape (n_objects,)
        Ascending.
    most : int
    """
    pieces = []
    border = int(np.searchsorted(keys, UNPLACED))
    for start, end in ((0, border), (border, len(offsets) - 1)):
        while start < end:
            left = int(offsets[end] - offsets[start])
            share = -(-left // -(-left // most)) if left else 0
            stop = int(np.searchsorted(offsets[: end + 1], offsets[start] + share))
            if offsets[stop] - offsets[start] > most:
                stop -= 1
            stop = min(max(stop, start + 1), end) if left else end
            if stop < end and keys[stop] == keys[stop - 1]:
                first = int(np.searchsorted(keys, keys[stop]))
                stop = first if first > start else int(np.searchsorted(keys, keys[stop], side="right"))
            pieces.append(slice(start, stop))
            start = stop
    return pieces


def blocks(grouped: Grouped, most: int) -> Iterator[Block]:
    """The partitions, one by one."""
    for piece in cut(grouped.block.offsets, grouped.block.objects["healpix"], most):
        yield grouped.block.select(piece)


def _object_positions(
    rows: Mapping[str, np.ndarray], owner: np.ndarray, n_objects: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median position of each object, and the objects that scatter over an arc minute."""
    ra, dec = np.full(n_objects, np.nan), np.full(n_objects, np.nan)
    if "ra" not in rows or "dec" not in rows:
        return ra, dec, np.zeros(0, np.int64)
    placed = np.flatnonzero(np.isfinite(rows["ra"]) & np.isfinite(rows["dec"]))
    by_owner = placed[np.argsort(owner[placed], kind="stable")]
    found, first = np.unique(owner[by_owner], return_index=True)
    if not found.size:
        return ra, dec, np.zeros(0, np.int64)
    all_ra, all_dec = rows["ra"][by_owner], rows["dec"][by_owner]
    ra[found], dec[found] = all_ra[first], all_dec[first]
    ends = np.append(first[1:], len(by_owner))
    spread_ra = np.maximum.reduceat(all_ra, first) - np.minimum.reduceat(all_ra, first)
    spread_dec = np.maximum.reduceat(all_dec, first) - np.minimum.reduceat(all_dec, first)
    wide = []
    for index in np.flatnonzero((spread_ra > 0) | (spread_dec > 0)):
        piece = slice(first[index], ends[index])
        # Around the first row, so that 359.9 and 0.1 degrees are neighbours.
        shift = (all_ra[piece] - all_ra[piece][0] + 180.0) % 360.0 - 180.0
        middle = float(np.median(all_dec[piece]))
        ra[found[index]] = (all_ra[piece][0] + float(np.median(shift))) % 360.0
        dec[found[index]] = middle
        if max(np.ptp(shift) * np.cos(np.radians(middle)), np.ptp(all_dec[piece])) > 1 / 60:
            wide.append(found[index])
    return ra, dec, np.array(wide, np.int64)


def _repeats(
    rows: Mapping[str, np.ndarray], owner: np.ndarray, by_stamp: np.ndarray
) -> tuple[np.ndarray, int]:
    """Mask (in the order by_stamp) of rows that repeat an earlier one; number of other equal stamps."""
    same = np.ones(max(0, len(by_stamp) - 1), bool)
    for column in (owner, rows["band"], rows["time"]):
        ordered = column[by_stamp]
        same &= ordered[1:] == ordered[:-1]
    repeated = np.zeros(len(by_stamp), bool)
    if not same.any():
        return repeated, 0
    tied = np.flatnonzero(np.append(False, same) | np.append(same, False))
    picked = by_stamp[tied]
    names = [name for name in rows if name not in ("object", "row", "file")]
    parts = [owner[picked], *(rows[name][picked] for name in names)]
    raw = [np.ascontiguousarray(part).view(np.uint8).reshape(len(picked), -1) for part in parts]
    table = np.ascontiguousarray(np.concatenate(raw, axis=1))
    _, firsts = np.unique(table.view(f"V{table.shape[1]}").ravel(), return_index=True)
    again = np.ones(len(tied), bool)
    again[firsts] = False
    repeated[tied] = again
    keep = tied[~again]
    # Rows left in a group of equal stamps, without the first of each group.
    group_of = np.cumsum(~np.append(False, same))[keep]
    return repeated, len(keep) - len(np.unique(group_of))


def _object_classes(classes: np.ndarray, owner: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, int]:
    """First non-empty class of each object, and how many objects have several."""
    n_objects = len(offsets) - 1
    result = np.zeros(n_objects, classes.dtype)
    named = np.flatnonzero(classes != b"")
    found, first = np.unique(owner[named], return_index=True)
    result[found] = classes[named[first]]
    differing = classes[named] != result[owner[named]]
    return result, len(np.unique(owner[named][differing]))
