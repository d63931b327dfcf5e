"""Where the objects along the sky are cut into partitions."""

import numpy as np

from skytrawl.catalogs.sky import UNPLACED


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
