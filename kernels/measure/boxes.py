"""Mean and noise of an image without stars, in boxes."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ImageError
from skytrawl.kernels.jit import njit

# Standard deviation of normal noise cut at 3 sigma, the cut following the result until both agree.
_CLIPPED = 0.98485
_TURNS = 5
_LEAST = 0.15  # part of a box that must be usable


@njit(fastmath=True)
def clipped(values, bad, box, n_y, n_x, turns, least, mean, sigma):  # type: ignore[no-untyped-def]
    """Mean and standard deviation of each box after clipping at 3 sigma; NaN where too little is usable."""
    ny, nx = values.shape
    for b in range(n_y):
        y0, y1 = b * ny // n_y, (b + 1) * ny // n_y
        for a in range(n_x):
            x0, x1 = a * nx // n_x, (a + 1) * nx // n_x
            low, high = np.float32(-3e38), np.float32(3e38)
            centre = 0.0
            mean[b, a] = sigma[b, a] = np.nan
            for _turn in range(turns):
                n, s, q = 0, 0.0, 0.0
                for y in range(y0, y1):
                    for x in range(x0, x1):
                        v = values[y, x]
                        if not bad[y, x] and low < v < high:
                            # Sums about the last mean do not cancel.
                            d = v - centre
                            n += 1
                            s += d
                            q += d * d
                if n < least * (y1 - y0) * (x1 - x0) or n < 10:
                    break
                s /= n
                deviation = np.sqrt(max(q / n - s * s, 0.0))
                centre += s
                mean[b, a] = centre
                sigma[b, a] = deviation
                low, high = np.float32(centre - 3 * deviation), np.float32(centre + 3 * deviation)


def sky_maps(
    image: NDArray[np.float32], bad: NDArray[np.bool_], box: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Maps of level and noise of an image from which the sources are subtracted or masked.

    Unlike the mode that programs take where stars are still there, the clipped mean is free of the skewness
    of Poisson noise, and half as noisy. Means of the boxes go through a median of 3x3 and a cubic spline.

    Parameters
    ----------
    image : float32[ny, nx]
    bad : bool[ny, nx]
    box : int, pixels

    Returns
    -------
    level, sigma : float32[ny, nx]

    Raises
    ------
    ImageError
        If no box has enough usable pixels.
    """
    ny, nx = image.shape
    n_y, n_x = max(1, round(ny / box)), max(1, round(nx / box))
    mean, sigma = np.empty((n_y, n_x)), np.empty((n_y, n_x))
    clipped(image, bad, box, n_y, n_x, _TURNS, _LEAST, mean, sigma)
    if not np.isfinite(mean).any():
        raise ImageError("the sky cannot be measured: too few usable pixels in every box")
    along_y, along_x = _spline(ny, n_y), _spline(nx, n_x)
    maps = []
    for mesh in (mean, sigma / _CLIPPED):
        maps.append((along_y @ _median(mesh).astype(np.float32)) @ along_x.T)
    return maps[0], maps[1]


def _median(mesh: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of 3x3 boxes; what is missing comes from the nearest that is there."""
    from scipy.ndimage import distance_transform_edt

    missing = ~np.isfinite(mesh)
    if missing.any():
        near = distance_transform_edt(missing, return_distances=False, return_indices=True)
        mesh = mesh[tuple(near)]
    # Mirrored about the edge with the sign turned, so that a slope keeps its ends.
    padded = (
        np.pad(mesh, 1, mode="reflect", reflect_type="odd")
        if min(mesh.shape) > 1
        else np.pad(mesh, 1, mode="edge")
    )
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    return np.asarray(np.median(windows, axis=(2, 3)), np.float64)


def _spline(n: int, boxes: int) -> NDArray[np.float32]:
    """Matrix float32[n, boxes] from values at the middles of boxes to pixels."""
    from scipy.interpolate import make_interp_spline

    if boxes == 1:
        return np.ones((n, 1), np.float32)
    middles = (np.arange(boxes) + 0.5) * n / boxes - 0.5
    degree = 3 if boxes > 3 else 1
    spline = make_interp_spline(middles, np.eye(boxes), k=degree, bc_type="natural" if degree == 3 else None)
    inside = np.clip(np.arange(n), middles[0], middles[-1])
    # Straight on beyond the last middles.
    beyond = np.arange(n) - inside
    return np.asarray(spline(inside) + beyond[:, None] * spline(inside, 1), np.float32)
