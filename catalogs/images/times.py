"""When an exposure was taken: the middle, as MJD in UTC, whatever card and time scale the header uses."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from typing import Any

from skytrawl.catalogs.times import MJD_RANGE, MJD_ZERO
from skytrawl.errors import IngestError

DAY = 86_400.0
# Two statements of the middle of an exposure that differ by more than this many days contradict each other.
CONTRADICTION = 0.1
# Names of TIMESYS (FITS standard 4.0, table 30) and older ones; "UTC approximate" is one of NOAO's.
_SCALES = {"UTC": "utc", "UT": "utc", "UT1": "utc", "GMT": "utc", "TAI": "tai", "IAT": "tai", "TT": "tt"}
_SCALES |= {"TDT": "tt", "ET": "tt", "TDB": "tdb", "GPS": "gps"}
# Files of the NOIRLab archive are named by the start of the exposure, such as c4d_160818_043331_ooi_i_v1.
_ARCHIVED = re.compile(r"[a-z]\w\w_(\d\d)(\d\d)(\d\d)_(\d\d)(\d\d)(\d\d)_")
_GPS_BEHIND_TAI = 19.0  # seconds, by definition of GPS time

Read = Callable[[str], Any]


def mid_exposure(
    read: Read, keys: dict[str, tuple[str, ...]], default_scale: str
) -> tuple[float, float, list[str]]:
    """Middle and length of an exposure.

    The middle is that of a card of role ``mid``, else half-way from ``start`` to ``end``, else ``start`` and
    half of ``exptime``; roles may be missing.

    Parameters
    ----------
    read : callable
        Value of a keyword, None where the header lacks it.
    keys : dict of str to tuple of str
        Keywords of the roles mid, start, end and exptime.
    default_scale : str
        Time scale where the header has no TIMESYS.

    Returns
    -------
    mjd : float
        UTC; NaN where the header tells no time.
    exptime : float
        Seconds; NaN where the header does not tell.
    notes : list of str
        What is doubtful.

    Raises
    ------
    IngestError
        If a card holds no date, or TIMESYS no known scale.
    """
    notes: list[str] = []
    scale = _scale(read("TIMESYS"), default_scale)
    exptime = _exptime(read, keys.get("exptime", ()))
    middle, start, end = (_first(read, keys.get(role, ())) for role in ("mid", "start", "end"))
    if start and not middle and not end and math.isnan(exptime):
        notes.append(f"no exposure time: {start[0]} is taken for the middle")
    if middle:
        days = middle[1]
        if start and end and abs(days - (start[1] + end[1]) / 2) > CONTRADICTION:
            notes.append(
                f"times contradict each other: {middle[0]} {days}, {start[0]} {start[1]}, {end[0]} {end[1]}"
            )
    elif start and end and end[1] >= start[1]:
        days = start[1] + (end[1] - start[1]) / 2
    elif start:
        days = start[1] + (0.0 if math.isnan(exptime) else exptime / DAY / 2)
    else:
        return math.nan, exptime, ["no time of the exposure"]
    if math.isnan(exptime) and start and end and end[1] > start[1]:
        exptime = (end[1] - start[1]) * DAY
    return to_utc(days, scale), exptime, notes


def to_utc(mjd: float, scale: str) -> float:
    """MJD in UTC of an MJD in utc, tai, tt, tdb or gps."""
    if scale == "utc":
        return mjd
    if scale == "gps":
        mjd, scale = mjd + _GPS_BEHIND_TAI / DAY, "tai"
    from astropy.time import Time

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # years beyond the list of leap seconds
        return float(Time(mjd, format="mjd", scale=scale).utc.mjd)


def parse_date(value: Any) -> float:
    """MJD of a number (MJD or JD) an ISO 8601 date, dd/mm/yy of before 2000, or a name of NOIRLab.

    Raises
    ------
    ValueError
        If it is none of these, or no date between 1890 and 2150.
    """
    if isinstance(value, str):
        text = value.strip()
        old = re.fullmatch(r"(\d\d)/(\d\d)/(\d\d)", text)
        text = f"19{old[3]}-{old[2]}-{old[1]}" if old else text
        archived = _ARCHIVED.match(text)
        text = "20{}-{}-{}T{}:{}:{}".format(*archived.groups()) if archived else text
        days = _days(text)
        if math.isnan(days):
            raise ValueError(f"{value!r} is no date")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        days = float(value)
    else:
        raise ValueError(f"{value!r} is no date")
    days = days - MJD_ZERO if days > MJD_ZERO else days
    if not MJD_RANGE[0] <= days <= MJD_RANGE[1]:
        raise ValueError(f"{value!r} is no date between 1890 and 2150")
    return days


def _first(read: Read, cards: tuple[str, ...]) -> tuple[str, float] | None:
    for card in cards:
        value = read(card)
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        if card.startswith("DATE") and isinstance(value, str) and "T" not in value and ":" not in value:
            value = _with_time(value, read)
        try:
            return card, parse_date(value)
        except ValueError as error:
            raise IngestError(f"card {card}: {error}") from error
    return None


def _days(text: str) -> float:
    """MJD (or JD) of a number or an ISO date as text, NaN of anything else."""
    try:
        return float(text)
    except ValueError:
        from astropy.time import Time
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return float(Time(text.rstrip("Z").replace(" ", "T"), format="isot", scale="tai").mjd)
        except ValueError:
            return math.nan


def _with_time(date: str, read: Read) -> str:
    """A date without time, completed by the cards that used to hold it."""
    for card in ("TIME-OBS", "UT", "UTC-OBS", "UTSTART"):
        text = read(card)
        if isinstance(text, str) and re.fullmatch(r"\s*\d\d?:\d\d:\d\d(\.\d*)?\s*", text) and "/" not in date:
            return f"{date.strip()}T{text.strip():0>8}"
    return date


def _exptime(read: Read, cards: tuple[str, ...]) -> float:
    for card in cards:
        value = read(card)
        if value is None:
            continue
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            raise IngestError(f"card {card}: {value!r} is no exposure time in seconds") from None
        if seconds < 0 or not math.isfinite(seconds):
            raise IngestError(f"card {card}: {value!r} is no exposure time in seconds")
        return seconds
    return math.nan


def _scale(text: Any, default: str) -> str:
    words = str(text or "").upper().replace("(", " ").split()
    if not words:
        return default
    if words[0] not in _SCALES:
        raise IngestError(f"card TIMESYS: {text!r} is no time scale: take UTC, TAI, TT, TDB or GPS")
    return _SCALES[words[0]]
