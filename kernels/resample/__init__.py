"""Images on another pixel grid: flux-conserving Lanczos-3 with variance and mask, and coadds.

An output pixel takes the kernel's value at its centre on the input image times its area in input pixels, so
that the flux of a star is kept; images of surface brightness leave the area out. The kernel of 6 x 6 input
pixels is stretched where an output pixel is larger than 1.25 input pixels.
"""

from typing import Any

import numpy as np

from skytrawl.errors import ParameterError
from skytrawl.kernels.resample.lanczos import kernel_stretch
from skytrawl.kernels.resample.types import CoordinateGrid, HasPlanes, Planes, Resampled

__all__ = ["CoordinateGrid", "Planes", "Resampled", "resample"]


def resample(
    planes: HasPlanes,
    grid: CoordinateGrid,
    shape_out: tuple[int, int],
    *,
    conserve: str = "flux",
    tolerance: float = 0.02,
    xp: Any = None,
) -> Resampled:
    """Resample an exposure onto another grid of pixels.

    Pixels that cannot be used (bits of `flags.UNUSABLE`, NaN, negative variance) or lie outside the image get
    no weight, and the rest of the kernel is scaled up. If they would have had more than `tolerance` of the
    weight (sum of absolute values), the output pixel carries their bits (EDGE for what lies outside); if
    less, INTERPOLATED alone; if less than half the kernel is left, there is no value: NaN, NO_DATA and no
    coverage.
    Bits of usable pixels (SUSPECT, INTERPOLATED) are carried from pixels with a weight above `tolerance`.

    Parameters
    ----------
    planes : Planes, or anything with image, variance and mask
        NaN may occur. A pixel that is NaN and has no bit counts as NO_DATA.
    grid : CoordinateGrid
        Positions of the output pixels on the input image.
    shape_out : (ny, nx)
    conserve : "flux" or "brightness"
        Whether the values are fluxes of a pixel, or fluxes of an area (MJy/sr).
    tolerance : float
    xp : module, optional
        Array API namespace of the planes (CuPy, say). Default: NumPy arrays, in Numba.

    Returns
    -------
    Resampled
        If the images do not overlap, nothing is covered and `noise_correlation` is NaN.

    Raises
    ------
    ParameterError
        If planes differ in shape, or an output pixel spans more than 32 input pixels.
    """
    shape_in = tuple(planes.image.shape)
    if len(shape_in) != 2 or not (shape_in == tuple(planes.variance.shape) == tuple(planes.mask.shape)):
        raise ParameterError(
            f"image, variance and mask must have one shape [ny, nx], not {shape_in}, "
            f"{tuple(planes.variance.shape)} and {tuple(planes.mask.shape)}"
        )
    if conserve not in ("flux", "brightness"):
        raise ParameterError(f"conserve must be 'flux' or 'brightness', not {conserve!r}")
    if not 0 <= tolerance < 0.5:
        raise ParameterError(f"tolerance must lie in [0, 0.5), not {tolerance}")
    ny, nx = (int(side) for side in shape_out)
    arguments = (grid, (ny, nx), conserve == "flux", kernel_stretch(grid, shape_in), tolerance)
    if xp is None:
        from skytrawl.kernels.resample import cpu

        planes_out, areas, noise = cpu.resample(planes, *arguments)
    else:
        from skytrawl.kernels.resample import arrays

        planes_out, areas, noise = arrays.resample(planes, *arguments, xp)
    # The noise at low frequencies keeps the variance of the area (flux is conserved), single pixels do not.
    correlation = max(areas / noise, 1.0) if noise > 0 else np.nan
    return Resampled(*planes_out, float(correlation))
