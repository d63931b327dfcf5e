"""Heliocentric and barycentric times back to exposure times.

Light from an object passes the Earth up to 499 s before or after the Sun. Times that were corrected for it
differ from object to object although the exposure is one, and take two to six times as many bytes. Where the
survey file says so (``recover_exposure``), ingest undoes the correction by the object's position and puts the
times on a grid of the stated resolution, so that the objects of one exposure share its time again.

The place of the Earth comes from astropy's built-in ephemeris (no download) at every midnight, is brought to
steps of 1/16 day by cubic interpolation and read linearly in between: within 0.2 ms of astropy's own
``light_travel_time``.
"""

import warnings
from functools import lru_cache

import numpy as np

from skytrawl.errors import ParameterError

POSITIONS = ("heliocenter", "barycenter")
SCALES = ("utc", "tai", "tt", "tdb")
RESOLUTIONS = (1e-8, 0.1)

_STEPS = 16  # of the table, in a day
_SPAN = 512  # days; tables begin and end at its multiples, so that few are made


def to_geocentric(
    time: np.ndarray,
    ra: np.ndarray,
    dec: np.ndarray,
    *,
    scale: str = "utc",
    position: str = "heliocenter",
    counts: np.ndarray | None = None,
) -> np.ndarray:
    """Times at the Earth's centre of times that were corrected to the Sun or the barycentre.

    Parameters
    ----------
    time : float64 array of shape (n,)
        Corrected times, MJD.
    ra, dec : float array of shape (n,) or (n_objects,)
        Positions of the rows, or of the objects if `counts` is given; deg, ICRS.
    scale : {"utc", "tai", "tt", "tdb"}
    position : {"heliocenter", "barycenter"}
        Where the times were corrected to.
    counts : int array of shape (n_objects,), optional
        Consecutive rows of each object.

    Returns
    -------
    float64 array of shape (n,)
        MJD, within 1 ms; NaN where time or position is NaN.

    Raises
    ------
    ParameterError
        For an unknown scale or position, or times outside of the years 1800 to 2200.
    """
    delay, slope = _delay(time, ra, dec, scale, position, counts)
    # One Newton step from t = time: the delay bends by 3 microseconds over itself.
    delay /= 1.0 + slope
    return np.subtract(time, delay, out=delay)


def to_heliocentric(
    time: np.ndarray,
    ra: np.ndarray,
    dec: np.ndarray,
    *,
    scale: str = "utc",
    position: str = "heliocenter",
    counts: np.ndarray | None = None,
) -> np.ndarray:
    """Times at the Sun or the barycentre of times at the Earth's centre; as :func:`to_geocentric`."""
    delay, _ = _delay(time, ra, dec, scale, position, counts)
    return np.add(time, delay, out=delay)


def snap(times: np.ndarray, resolution: float) -> tuple[np.ndarray, float]:
    """Times on the grid of multiples of `resolution` (days), and the largest change.

    A grid, not clusters: the result of a row does not depend on the rows that come with it, so neither
    partitions nor later appends change it. Times of one exposure that differ by less than the resolution fall
    on one or two neighbouring points.
    """
    if not isinstance(resolution, int | float) or not RESOLUTIONS[0] <= resolution <= RESOLUTIONS[1]:
        raise ParameterError(
            f"a time resolution of {resolution!r} days: it must be from {RESOLUTIONS[0]} to {RESOLUTIONS[1]}"
        )
    # Division by the whole number of points in a day, where it is one, gives the doubles of the decimal text.
    points = round(1.0 / resolution)
    if np.isclose(points * resolution, 1.0, rtol=1e-12, atol=0):
        snapped = np.rint(times * points) / points
    else:
        snapped = np.rint(times / resolution) * resolution
    return snapped, float(np.fmax.reduce(np.abs(snapped - times), initial=0.0))


def _delay(
    time: np.ndarray,
    ra: np.ndarray,
    dec: np.ndarray,
    scale: str,
    position: str,
    counts: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Days by which light passes the Earth before the Sun, and their change per day, for every row."""
    if scale not in SCALES or position not in POSITIONS:
        raise ParameterError(
            f"times of scale {scale!r} at the {position!r} cannot be brought to the Earth: "
            f"scales are {', '.join(SCALES)}; places {' and '.join(POSITIONS)}"
        )
    time = np.asarray(time, np.float64)
    finite = np.isfinite(time)
    if not finite.any():
        return np.full(time.shape, np.nan), np.full(time.shape, np.nan)
    low, high = np.min(time, where=finite, initial=np.inf), np.max(time, where=finite, initial=-np.inf)
    if not -21_500 < low <= high < 124_900:
        raise ParameterError(f"times of MJD {low} to {high} lie outside of the years 1800 to 2200")
    first, last = int(low // _SPAN), int(high // _SPAN) + 1
    table, slopes = _table(scale, position, first, last)
    place = (time - first * _SPAN) * _STEPS
    cell = np.where(finite, place, 0.0).astype(np.int64)
    place -= cell
    ra, dec = np.radians(ra), np.radians(dec)
    delay, slope = np.zeros(time.shape), np.zeros(time.shape)
    for axis, direction in enumerate((np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec))):
        along = direction if counts is None else np.repeat(direction, counts)
        step = slopes[axis][cell]
        slope += step * along
        step *= place
        step += table[axis][cell]
        step *= along
        delay += step
    slope *= _STEPS
    return delay, slope


@lru_cache(maxsize=16)
def _table(scale: str, position: str, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """The Earth from the Sun or the barycentre in light days, (3, cells + 1) and the step to the next."""
    days = np.arange(first * _SPAN - 1, last * _SPAN + 3)
    nodes = np.concatenate([_earth(scale, position, part) for part in range(first - 1, last + 1)])
    nodes = nodes[days[0] - (first - 1) * _SPAN :][: len(days)]
    # Lagrange's cubic through the two midnights before and the two after.
    x = np.arange(_STEPS) / _STEPS
    weights = np.stack(
        [
            -x * (x - 1) * (x - 2) / 6,
            (x + 1) * (x - 1) * (x - 2) / 2,
            -(x + 1) * x * (x - 2) / 2,
            (x + 1) * x * (x - 1) / 6,
        ]
    )
    windows = np.lib.stride_tricks.sliding_window_view(nodes, 4, axis=0)
    values = np.ascontiguousarray(np.einsum("nak,ks->ans", windows, weights).reshape(3, -1))
    return values[:, :-1], np.diff(values, axis=1)


@lru_cache(maxsize=256)
def _earth(scale: str, position: str, part: int) -> np.ndarray:
    """The Earth at the midnights of a span of days, in light days, shape (days, 3)."""
    from astropy.time import Time
    from erfa import ErfaWarning, epv00

    days = np.arange(part * _SPAN, (part + 1) * _SPAN, dtype=np.float64)
    with warnings.catch_warnings():
        # UTC of years without known leap seconds: a second more shifts the Earth by 0.1 ms.
        warnings.simplefilter("ignore", ErfaWarning)
        moments = Time(days, format="mjd", scale=scale).tdb
        # What astropy calls its built-in ephemeris, both places from one call.
        from_sun, from_barycentre = epv00(moments.jd1, moments.jd2)
    place = (from_sun if position == "heliocenter" else from_barycentre)["p"]
    light_day = 299_792.458 * 86_400.0 / 149_597_870.7  # au
    return np.ascontiguousarray(place) / light_day
