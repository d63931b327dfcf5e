"""What the columns of a table of difference images are, beside those of exposures."""

from collections.abc import Mapping
from typing import Final

# Column -> (unit, meaning); the table of a store of difference images.
COLUMNS: Final[Mapping[str, tuple[str, str]]] = {
    "reference": ("", "frame of the reference store that was subtracted"),
    "overlap": ("", "part of the exposure that the reference covers"),
    "scale": ("", "flux in the exposure over flux in the reference, image units"),
    "scale_error": ("", "its standard error"),
    "scale_scatter": ("", "scatter of the ratio from star to star beyond the errors"),
    "dx": ("pixel", "shift (reference minus exposure) between the two WCS that was taken out, along x"),
    "dy": ("pixel", "the same, along y"),
    "dx_error": ("pixel", "its standard error"),
    "dy_error": ("pixel", "its standard error"),
    "shift_scatter": ("pixel", "scatter of the shift from star to star along one axis beyond the errors"),
    "n_match": ("", "stars that gave scale and shift"),
    "n_good": ("", "pixels with a difference"),
    "n_bad": ("", "pixels without"),
    "masked": ("", "part of the pixels that the masks of exposure and reference make unusable"),
    "mean_scorr": ("", "mean of S_corr over good pixels"),
    "mad_scorr": (
        "",
        "1.4826 times the median absolute deviation of S_corr; 1 where the noise is understood",
    ),
    "above_5": ("", "good pixels with S_corr above 5"),
    "below_5": ("", "good pixels with S_corr below -5"),
    "stars_beyond_5": ("", "part of the stars on whose pixel |S_corr| exceeds 5"),
    "footprint_mean": (
        "",
        "mean of |flux in the difference| over flux in the exposure, stars above 50 sigma",
    ),
    "footprint_std": ("", "standard deviation of that ratio"),
    "seam": ("", "rms step of S_corr across borders of tiles over that between other neighbours"),
    "limit": ("mag", "AB magnitude of 5 sigma in the difference, median over good pixels"),
    "limit_science": ("mag", "AB magnitude of 5 sigma in the exposure"),
    "flux_error": ("", "median error of the PSF flux of a new source, image units"),
}
