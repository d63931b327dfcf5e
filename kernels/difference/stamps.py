"""Where the kernel between two images is solved."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ImageError


@dataclass(frozen=True, eq=False)
class Stamps:
    """Pixels on which a kernel is solved, in square blocks.

    Attributes
    ----------
    y, x : int64[n_pixels]
    begin : int64[n_stamps + 1], where the pixels of each stamp start
    centre_x, centre_y : float64[n_stamps], mean position of the pixels
    """

    y: NDArray[np.int64]
    x: NDArray[np.int64]
    begin: NDArray[np.int64]
    centre_x: NDArray[np.float64]
    centre_y: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.begin) - 1


def choose_stamps(
    select: NDArray[np.bool_], *, block: int = 48, min_pixels: int = 20, max_pixels: int = 60_000
) -> Stamps:
    """Cut the selected pixels into blocks; of too many, keep every n-th pixel of each block.

    Parameters
    ----------
    select : bool[ny, nx]
        Pixels with light of sources in usable parts of both images.
    block : int, pixels; the kernel is taken as constant inside
    min_pixels : int, fewer make no stamp
    max_pixels : int, bounds the time of the solution
    """
    y, x = np.nonzero(select)
    if not len(y):
        raise ImageError("no pixel with the light of sources is usable in both images")
    label = (y // block) * (select.shape[1] // block + 1) + x // block
    order = np.argsort(label, kind="stable")
    y, x, label = y[order], x[order], label[order]
    _, index, counts = np.unique(label, return_inverse=True, return_counts=True)
    keep = counts[index] >= min_pixels
    step = -(-int(keep.sum()) // max_pixels) if keep.any() else 1
    keep[keep] = np.arange(int(keep.sum())) % step == 0
    y, x, label = y[keep], x[keep], label[keep]
    if not len(y):
        raise ImageError(f"no block of {block} pixels holds {min_pixels} usable pixels of sources")
    _, begin, counts = np.unique(label, return_index=True, return_counts=True)
    edges = np.append(begin, len(label))
    return Stamps(y, x, edges, np.add.reduceat(x, begin) / counts, np.add.reduceat(y, begin) / counts)


def light(
    image: NDArray[np.float32], variance: NDArray[np.float32], *, threshold: float = 5.0, grow: int = 3
) -> NDArray[np.bool_]:
    """Pixels with light, and `grow` pixels around them.

    Light is 3 x 3 pixels whose sum is `threshold` times its noise (of uncorrelated pixels).
    """
    from scipy.ndimage import uniform_filter

    noise = np.sqrt(np.maximum(uniform_filter(variance, 3), 0)) / 3
    return grown(np.asarray(uniform_filter(image, 3) > threshold * noise, np.bool_), grow)


def grown(mask: NDArray[np.bool_], grow: int) -> NDArray[np.bool_]:
    """The mask and what lies within `grow` pixels, diagonals not counted."""
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(mask, iterations=grow), np.bool_) if grow else mask
