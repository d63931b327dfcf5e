"""Cosmic rays on a single image."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ImageError
from skytrawl.kernels.measure.background import background
from skytrawl.kernels.measure.stars import first_width

_CONTRAST, _SHARP = 5.0, 2.6


def cosmic_rays(
    image: NDArray[np.float32],
    bad: NDArray[np.bool_] | None = None,
    *,
    variance: NDArray[np.float32] | None = None,
    gain: float | None = None,
    read_noise: float | None = None,
    sigma: float = 4.5,
    contrast: float | None = None,
    fwhm: float | None = None,
) -> NDArray[np.bool_]:
    """Pixels hit by cosmic rays: edges too sharp for the PSF (L.A.Cosmic, van Dokkum 2001; astroscrappy).

    Parameters
    ----------
    image : float32[ny, nx], any unit, with its sky or without
    bad : bool[ny, nx], optional
        Pixels to leave out (saturated ones too); they are not in the result.
    variance : float32[ny, nx], optional
        Of each pixel. By default the noise that the sky shows, and the counts above it over the gain.
    gain : float, e- per image unit, optional
        Without it (and without `variance`) the counts of sources add no noise.
    read_noise : float, e-, optional
        With the gain: the noise is at least this.
    sigma : float
        Noise levels that an edge must exceed.
    contrast : float, optional
        How much sharper than the finest structure of a star an edge must be. Default 5, more for stars
        narrower than 2.6 pixels, whose centres are as sharp.
    fwhm : float, pixels, optional
        Of the stars; by default what the commonest width of bright peaks tells.

    Returns
    -------
    bool[ny, nx]

    Raises
    ------
    ImageError
        If no pixel is usable.
    """
    import astroscrappy

    image = np.ascontiguousarray(image, np.float32)
    unusable = ~np.isfinite(image)
    if bad is not None:
        unusable |= bad
    sky = background(image, unusable)
    above = np.where(unusable, np.float32(0), image - sky.level)
    if variance is None:
        variance = np.square(sky.sigma)
        if gain is not None:
            variance += np.maximum(above, 0) / np.float32(gain)
            if read_noise is not None:
                np.maximum(variance, np.float32((read_noise / gain) ** 2), out=variance)
    if contrast is None:
        contrast = _CONTRAST * max(1.0, _SHARP / (fwhm or _width(above, variance))) ** 3
    noise = np.where(unusable | ~(variance > 0), np.float32(np.median(variance)), variance)
    found, _ = astroscrappy.detect_cosmics(
        above,
        inmask=unusable,
        invar=noise.astype(np.float32),
        sigclip=sigma,
        objlim=contrast,
        satlevel=3e38,
        cleantype="meanmask",
    )
    return np.asarray(found, np.bool_) & ~unusable


def _width(above: NDArray[np.float32], variance: NDArray[np.float32]) -> float:
    """FWHM of the stars; infinite where none stands out, and none need be spared."""
    try:
        return first_width(above, np.maximum(variance, np.float32(1e-30)))
    except ImageError:
        return np.inf
