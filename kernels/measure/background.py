"""Sky level and noise of an image."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ImageError
from skytrawl.kernels.measure.boxes import sky_maps
from skytrawl.kernels.measure.types import Background

# The clipping at 3 sigma takes the tails off: what is left of the standard deviation of normal noise
# once the cut follows the result until both agree.
_CLIPPED = 0.98485


def background(
    image: NDArray[np.float32],
    bad: NDArray[np.bool_] | None = None,
    *,
    box: int = 64,
    filter_size: int = 3,
    stars: bool = True,
) -> Background:
    """Sky and noise maps by clipped statistics in boxes (Bertin & Arnouts 1996, as sep has them).

    Stars lift such a map where they fill a good part of a box; `measure` therefore takes it from an image
    from which the stars are subtracted. The noise is corrected for what clipping at 3 sigma removes.

    Parameters
    ----------
    image : float32[ny, nx], any unit
    bad : bool[ny, nx], optional
        Pixels to leave out; those that are not finite are left out anyway.
    box : int, pixels
    filter_size : int
        Boxes across the median filter of the maps (3 without stars).
    stars : bool
        Whether stars are still there; without them clipped means are taken, see `boxes.sky_maps`.

    Returns
    -------
    Background

    Raises
    ------
    ImageError
        If no pixel is usable.
    """
    values = np.ascontiguousarray(image, np.float32)
    unusable = ~np.isfinite(values)
    if bad is not None:
        unusable |= bad
    if unusable.all():
        raise ImageError("no usable pixel: every one is masked or not finite")
    if unusable.any():
        values = np.where(unusable, np.float32(0), values)
    if not stars:
        return _record(*sky_maps(values, unusable, box))
    import sep

    found = sep.Background(
        values,
        mask=unusable if unusable.any() else None,
        bw=min(box, values.shape[1]),
        bh=min(box, values.shape[0]),
        fw=filter_size,
        fh=filter_size,
    )
    level = found.back(dtype=np.float32)
    sigma = found.rms(dtype=np.float32)
    sigma *= np.float32(1 / _CLIPPED)
    if not (np.isfinite(level).all() and np.isfinite(sigma).all()):
        raise ImageError("the sky cannot be measured: too few usable pixels in every box")
    return _record(level, sigma)


def _record(level: NDArray[np.float32], sigma: NDArray[np.float32]) -> Background:
    # The maps are smooth: every seventh pixel tells the median.
    return Background(level, sigma, float(np.median(level[::7, ::7])), float(np.median(sigma[::7, ::7])))
