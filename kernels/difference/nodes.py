"""Filters that vary over the field: made at a few nodes, with linear weights between them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Node:
    """One node and the part of the image in which it has weight.

    Attributes
    ----------
    x, y : float, pixels
    rows, columns : slice
    weight : float32[rows, columns]; the weights of all nodes sum to 1 at every pixel
    """

    x: float
    y: float
    rows: slice
    columns: slice
    weight: Image

    def correlate(self, image: Image, stamp: NDArray[np.float64]) -> Image:
        """Weight times ``sum_v stamp(v) image(x + v)``, float32[rows, columns]; zero outside the image."""
        from scipy.signal import oaconvolve

        half_y, half_x = stamp.shape[0] // 2, stamp.shape[1] // 2
        low, left = max(self.rows.start - half_y, 0), max(self.columns.start - half_x, 0)
        part = image[low : self.rows.stop + half_y, left : self.columns.stop + half_x]
        found = oaconvolve(part, np.ascontiguousarray(stamp[::-1, ::-1], np.float32), mode="same")
        inside: Image = found[
            self.rows.start - low : self.rows.stop - low, self.columns.start - left : self.columns.stop - left
        ]
        return inside * self.weight


def place_nodes(shape: tuple[int, int], count: int) -> list[Node]:
    """Nodes at the middles of `count` x `count` equal parts of an image [ny, nx].

    Between nodes the weights are linear; outside the outermost ones they are constant.
    """
    along = [_hats(n, count) for n in shape]
    return [
        Node(x, y, rows, columns, np.outer(wy, wx).astype(np.float32))
        for y, rows, wy in along[0]
        for x, columns, wx in along[1]
    ]


def _hats(n: int, count: int) -> list[tuple[float, slice, NDArray[np.float64]]]:
    places = (np.arange(count) + 0.5) * n / count - 0.5
    pixels = np.arange(n)
    found = []
    for k, place in enumerate(places):
        weight = np.interp(pixels, places, np.eye(count)[k]) if count > 1 else np.ones(n)
        inside = np.flatnonzero(weight > 0)
        part = slice(int(inside[0]), int(inside[-1]) + 1)
        found.append((float(place), part, weight[part]))
    return found
