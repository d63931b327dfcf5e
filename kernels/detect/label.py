"""Islands of pixels beyond a threshold, split at deep saddles, in Numba.

Only the pixels beyond the threshold are kept, in raster order, with pointers to their neighbours. Pixels are
ordered by magnitude, the first in raster order of equal ones ahead. Each pixel climbs to its highest
neighbour, which cuts an island into one basin per local maximum. Basins are then joined in the order of the
saddles between them, highest first (Kruskal's tree, as in the component trees of mathematical morphology):
where two meet, the lower one is a source of its own if its peak stands `saddle` above the meeting point, else
it goes to the basin on the other side. A basin that is joined so never holds a source of its own: that
one's peak is lower than the basin's, and its saddle higher.
"""

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.jit import njit

STRIDE = 64


@njit()
def find(heights, bits, exclude, threshold):  # type: ignore[no-untyped-def]
    """Indices of the usable pixels beyond the threshold in the flat score and mask, ascending; int64."""
    size = len(heights)
    found = np.empty(1024, np.int64)
    n = 0
    for start in range(0, size, STRIDE):
        stop = min(start + STRIDE, size)
        if stop - start == STRIDE:
            # A slice of fixed length: the loop runs over vectors of pixels, as fast as memory is.
            part = heights[start : start + STRIDE]
            beyond = np.int32(0)
            for k in range(STRIDE):
                beyond |= np.int32(abs(part[k]) > threshold)
            if beyond == 0:
                continue
        if n + STRIDE > len(found):
            larger = np.empty(2 * len(found), np.int64)
            larger[:n] = found[:n]
            found = larger
        for k in range(start, stop):
            height = abs(heights[k])
            if height > threshold and height < np.inf and bits[k] & exclude == 0:
                found[n] = k
                n += 1
    return found[:n].copy()


@njit()
def neighbours(index, value, columns):  # type: ignore[no-untyped-def]
    """Places in `index` of the west, north-west, north and north-east neighbours of the same sign, or -1."""
    n = len(index)
    near = np.full((n, 4), -1, np.int32)
    above = 0
    for k in range(n):
        at = index[k]
        x = at % columns
        if k > 0 and index[k - 1] == at - 1 and x > 0 and value[k - 1] * value[k] > 0:
            near[k, 0] = k - 1
        while index[above] < at - columns - 1:
            above += 1
        j = above
        while j < k and index[j] <= at - columns + 1:
            step = index[j] - (at - columns)
            if 0 <= x + step < columns and value[j] * value[k] > 0:
                near[k, 2 + step] = j
            j += 1
    return near


@njit()
def _higher(height, a, b):  # type: ignore[no-untyped-def]
    return height[a] > height[b] or (height[a] == height[b] and a < b)


@njit()
def _climb(to, k):  # type: ignore[no-untyped-def]
    """The end of the pointers that start at k, and all of them set to it."""
    top = k
    while to[top] != top:
        top = to[top]
    while to[k] != top:
        following = to[k]
        to[k] = top
        k = following
    return top


@njit()
def basins(height, near):  # type: ignore[no-untyped-def]
    """Place of the local maximum that each pixel climbs to, and the pairs of pixels between basins.

    Parameters
    ----------
    height : float32[n], magnitudes of the pixels in raster order
    near : int32[n, 4], see `neighbours`

    Returns
    -------
    basin : int64[n]
    low, high : int64[m], places of the lower and the higher pixel of each pair
    """
    n = len(height)
    basin = np.arange(n)
    for k in range(n):
        for c in range(4):
            j = near[k, c]
            if j >= 0:
                if _higher(height, j, basin[k]):
                    basin[k] = j
                if _higher(height, k, basin[j]):
                    basin[j] = k
    for k in range(n):
        _climb(basin, k)
    pairs = 0
    for k in range(n):
        for c in range(4):
            pairs += near[k, c] >= 0 and basin[near[k, c]] != basin[k]
    low, high = np.empty(pairs, np.int64), np.empty(pairs, np.int64)
    if pairs == 0:
        return basin, low, high
    pairs = 0
    for k in range(n):
        for c in range(4):
            j = near[k, c]
            if j >= 0 and basin[j] != basin[k]:
                below = _higher(height, j, k)
                low[pairs], high[pairs] = (k, j) if below else (j, k)
                pairs += 1
    return basin, low, high


@njit()
def _join(height, basin, low, high, saddle):  # type: ignore[no-untyped-def]
    """Join basins over the ordered pairs; `basin` becomes the peak of each pixel."""
    n = len(height)
    into, joined = np.arange(n), np.arange(n)
    for e in range(len(low)):
        one, other = basin[low[e]], basin[high[e]]
        upper, lower = _climb(joined, one), _climb(joined, other)
        if upper == lower:
            continue
        across = one
        if _higher(height, lower, upper):
            upper, lower = lower, upper
            across = other
        if height[lower] - height[low[e]] < saddle:
            into[lower] = across
        joined[lower] = upper
    for k in range(n):
        basin[k] = _climb(into, basin[k])


def split(height: NDArray[np.float32], near: NDArray[np.int32], saddle: float) -> NDArray[np.int64]:
    """Place of the peak that each pixel belongs to; a peak belongs to itself.

    Parameters
    ----------
    height : float32[n], magnitudes of the pixels in raster order
    near : int32[n, 4], see `neighbours`
    saddle : float, depth of a saddle that splits

    Returns
    -------
    int64[n]
    """
    basin, low, high = basins(height, near)
    if len(low):
        # Highest saddle first: by the lower pixel of a pair, then the higher; equal ones in raster order.
        order = np.lexsort((high, -height[high], low, -height[low]))
        _join(height, basin, low[order], high[order], np.float32(saddle))
    return basin
