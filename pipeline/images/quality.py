"""How good a difference image is: numbers for the table, and a verdict with its reason."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs.images.quality_columns import COLUMNS as COLUMNS
from skytrawl.kernels import flags
from skytrawl.kernels.measure.ratio import MOST_SCATTER

if TYPE_CHECKING:
    from skytrawl.catalogs.images.measured import Exposure
    from skytrawl.images.align import Aligned
    from skytrawl.kernels.measure import Stars

# LSST refuses differences above these two (ip_diffim, differenceFootprintRatioMean and Stdev).
MOST_FOOTPRINT_MEAN = 0.2
MOST_FOOTPRINT_STD = 0.4
MAD_RANGE = (0.7, 1.3)
# Where many sources vary, that is no fault of the subtraction.
MOST_STARS_BEYOND = 0.25
_FOOTPRINT_SNR = 50.0


def quality(
    science: Exposure, aligned: Aligned, planes: dict[str, np.ndarray], borders: tuple[list[int], list[int]]
) -> dict[str, Any]:
    """Row of a difference image, `COLUMNS`, with verdict and reason.

    Parameters
    ----------
    science : Exposure
    aligned : Aligned
        The reference on its pixels.
    planes : dict
        scorr, flux, flux_error (float32[ny, nx]) and mask.
    borders : (rows, columns)
        First rows and columns of tiles, without the 0.
    """
    scorr, error = planes["scorr"], planes["flux_error"]
    good = np.isfinite(scorr) & ((planes["mask"] & flags.UNUSABLE) == 0)
    match = aligned.match
    row: dict[str, Any] = {
        "overlap": aligned.overlap,
        **{
            name: float(getattr(match, name))
            for name in ("scale", "scale_error", "scale_scatter", "dx", "dy", "dx_error", "dy_error")
        },
        "shift_scatter": float(match.shift_scatter),
        "n_match": int(match.n_stars),
        "n_good": int(good.sum()),
        "n_bad": int(good.size - good.sum()),
        "masked": float(
            (((science.planes.mask | aligned.planes.mask) & flags.UNUSABLE) != 0).mean(),
        ),
    }
    values = scorr[good]
    row |= statistics(values)
    row["stars_beyond_5"] = _stars_beyond(scorr, good, science.stars)
    row["footprint_mean"], row["footprint_std"] = _footprints(planes["flux"], good, science.stars)
    row["seam"] = seam(np.where(good, scorr, np.nan), borders)
    unit = float(science.row.get("njy_per_unit") or math.nan)
    row["flux_error"] = float(np.median(error[good])) if len(values) else math.nan
    row["limit"] = limit(row["flux_error"], unit)
    row["limit_science"] = limit(_single_error(science), unit)
    row["verdict"], row["reason"] = verdict(row)
    return row


def statistics(values: np.ndarray) -> dict[str, Any]:
    """Mean, scaled MAD and counts beyond 5 of S_corr."""
    if not len(values):
        return {"mean_scorr": math.nan, "mad_scorr": math.nan, "above_5": 0, "below_5": 0}
    return {
        "mean_scorr": float(values.mean(dtype=np.float64)),
        "mad_scorr": float(1.4826 * np.median(np.abs(values - np.median(values)))),
        "above_5": int((values > 5).sum()),
        "below_5": int((values < -5).sum()),
    }


def verdict(row: dict[str, Any]) -> tuple[str, str]:
    """The word good, or poor with all the reasons."""
    reasons = []
    low, high = MAD_RANGE
    if not row["n_good"]:
        reasons.append("no pixel has a difference")
    elif not low <= row["mad_scorr"] <= high:
        reasons.append(f"the noise of S_corr is {row['mad_scorr']:.2f} instead of 1")
    if row["scale_scatter"] >= MOST_SCATTER:
        reasons.append(f"constant stars scatter by {100 * MOST_SCATTER:.0f} % or more")
    if row["footprint_mean"] > MOST_FOOTPRINT_MEAN:
        reasons.append(f"stars leave {100 * row['footprint_mean']:.0f} % of their flux")
    if row["footprint_std"] > MOST_FOOTPRINT_STD:
        reasons.append(f"what stars leave scatters by {100 * row['footprint_std']:.0f} % of their flux")
    if row["stars_beyond_5"] > MOST_STARS_BEYOND:
        reasons.append(f"{100 * row['stars_beyond_5']:.0f} % of the stars leave more than 5 sigma")
    return ("poor", "; ".join(reasons)) if reasons else ("good", "")


def limit(flux_error: float, njy_per_unit: float, sigma: float = 5.0) -> float:
    """AB magnitude of a source of `sigma` errors; the zero point of 1 nJy is 31.4."""
    flux = sigma * flux_error * njy_per_unit
    return 31.4 - 2.5 * math.log10(flux) if flux > 0 else math.nan


def seam(scorr: np.ndarray, borders: tuple[list[int], list[int]]) -> float:
    """Rms step of S_corr across the borders of tiles over the rms step between other neighbours.

    NaN where there is only one tile.
    """
    ratios = []
    for axis, at in enumerate(borders):
        if not at:
            continue
        steps = np.square(np.diff(scorr, axis=axis))
        across = np.take(steps, [row - 1 for row in at], axis=axis)
        inside = np.delete(steps, [row - 1 for row in at], axis=axis)
        if np.isfinite(across).any() and np.isfinite(inside).any():
            # Medians: one star on a border is no seam.
            ratios.append(math.sqrt(float(np.nanmedian(across)) / max(float(np.nanmedian(inside)), 1e-30)))
    return max(ratios, default=math.nan)


def _pixels(stars: Stars, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.rint(stars.y).astype(int), np.rint(stars.x).astype(int)
    return np.clip(y, 0, shape[0] - 1), np.clip(x, 0, shape[1] - 1)


def _stars_beyond(scorr: np.ndarray, good: np.ndarray, stars: Stars) -> float:
    at = _pixels(stars, scorr.shape)
    values = scorr[at][good[at]]
    return float((np.abs(values) > 5).mean()) if len(values) else math.nan


def _footprints(flux: np.ndarray, good: np.ndarray, stars: Stars) -> tuple[float, float]:
    at = _pixels(stars, flux.shape)
    bright = good[at] & (stars.snr > _FOOTPRINT_SNR)
    if not bright.any():
        return math.nan, math.nan
    ratios = np.abs(flux[at][bright] / stars.flux[bright])
    return float(ratios.mean()), float(ratios.std())


def _single_error(science: Exposure) -> float:
    """Error of the PSF flux of a faint star in the middle of the exposure, image units."""
    ny, nx = science.planes.image.shape
    area = float(science.psf.noise_area((nx - 1) / 2, (ny - 1) / 2))
    return math.sqrt(area) * float(np.median(science.sky_sigma))
