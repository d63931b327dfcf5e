"""Candidates in maps of significances.

`skytrawl.kernels.detect.forced` does PSF photometry at given positions, `skytrawl.kernels.detect.link` links
candidates across exposures.
"""

from typing import Any

from skytrawl.errors import ParameterError
from skytrawl.kernels.detect.types import COLUMNS, Detection, as_plane, check_planes

__all__ = ["COLUMNS", "Detection", "detect"]


def detect(
    scorr: Any,
    flux: Any,
    flux_error: Any,
    mask: Any,
    *,
    fwhm: float | None = None,
    difference: Any = None,
    blank: Any = None,
    options: Detection | None = None,
    xp: Any = None,
    **settings: Any,
) -> dict[str, Any]:
    """Find candidates on both sides of zero in a map of significances.

    Pixels with ``abs(scorr) > threshold`` that are usable form islands, 8-connected and of one sign; an
    island splits into one candidate per peak that stands `saddle` above the highest saddle to a higher one.

    Parameters
    ----------
    scorr : float32[ny, nx], sigma
        Matched-filter significance (S_corr of Zackay, Ofek & Gal-Yam 2016, ApJ 830, 27, eq. 25).
    flux, flux_error : float32[ny, nx], image units
        PSF flux of a source in each pixel (alpha = S / F_S) and its error.
    mask : uint16[ny, nx]
        Bits of `skytrawl.kernels.flags`.
    fwhm : float, px
        FWHM of the PSF of the difference image.
    difference : float32[ny, nx], optional
        The map whose signs are counted around a peak; default the score.
    blank : float32[ny, nx], optional
        Score without the noise of sources, sigma.
    options : Detection, optional
        In place of fwhm and settings.
    xp : namespace of the array API, optional
        Where the arrays live, such as cupy; by default they are NumPy's and Numba does the work.
    **settings
        Further fields of `Detection`.

    Returns
    -------
    dict
        The columns of `COLUMNS`, one row a candidate, in raster order of their peaks; arrays of `xp`. With
        `xp` integers, signs, scores and flags are those of the CPU, other floats to rounding.

    Raises
    ------
    SchemaError
        For planes that are not two-dimensional or differ in shape.
    ParameterError
        For a parameter that makes no sense.
    """
    if options is None:
        if fwhm is None:
            raise ParameterError("give fwhm, the FWHM of the PSF in pixels, or options=Detection(...)")
        options = Detection(fwhm=fwhm, **settings)
    elif fwhm is not None or settings:
        raise ParameterError("give either options or single settings")
    check_planes(
        tuple(scorr.shape),
        {"flux": flux, "flux_error": flux_error, "mask": mask, "difference": difference, "blank": blank},
    )
    if xp is not None:
        from skytrawl.kernels.detect import arrays

        return arrays.detect(scorr, flux, flux_error, mask, difference, blank, options, xp)
    import numpy as np

    from skytrawl.kernels.detect import cpu

    score = as_plane(scorr)
    return cpu.detect(
        score,
        as_plane(flux),
        as_plane(flux_error),
        np.ascontiguousarray(mask, np.uint16),
        score if difference is None else as_plane(difference),
        None if blank is None else as_plane(blank),
        options,
    )
