"""Delivered times to modified Julian dates, without loss."""

import re

import numpy as np

from skytrawl.catalogs.readers.table import parse_numbers
from skytrawl.errors import ParameterError

MJD_ZERO = 2400000.5
# MJD of 1890 and 2150: older plates and later simulations are rare enough to be asked for.
MJD_RANGE = (11_368.0, 106_332.0)
TIME_FORMATS = (
    "'mjd', 'jd', 'jd-<number>' or 'mjd-<number>' for truncated dates, 'days' for an own zero point"
)


def parse_time_format(text: str) -> tuple[str, float]:
    """Kind ("mjd" or "days") of a time format and what brings a delivered time to it by subtraction.

    Raises
    ------
    ParameterError
        If the format is unknown.
    """
    if text == "days":
        return "days", 0.0
    match = re.fullmatch(r"(mjd|jd)(?:-(\d+(?:\.\d+)?))?", text)
    if not match:
        raise ParameterError(f"time_format={text!r} is unknown: take {TIME_FORMATS}")
    return "mjd", (MJD_ZERO if match[1] == "jd" else 0.0) - float(match[2] or 0)


def to_mjd(times: np.ndarray, time_format: str) -> tuple[np.ndarray, list[int]]:
    """MJD of delivered times, and the indices of texts that are no numbers.

    Julian dates that come as text are cut at the decimal point before they become floating point, so that
    digits beyond the 40 microseconds of a float64 Julian date are kept. The difference of floating-point
    dates is exact.

    Parameters
    ----------
    times : float array or bytes array of shape (n,)
    time_format : str
    """
    kind, offset = parse_time_format(time_format)
    if times.dtype.kind != "S":
        values = np.asarray(times, np.float64)
        return (values - offset if kind == "mjd" and offset else values), []
    texts = [text.decode() for text in times.tolist()]
    values, bad = parse_numbers(texts)
    if kind == "mjd" and offset:
        days = np.array([_whole_days(text) for text in texts], np.float64)
        rest, _ = parse_numbers([_fraction(text) for text in texts])
        split = np.isfinite(days) & np.isfinite(rest)
        # Whole days less the offset is exact; one rounding when the fraction joins.
        values = np.where(split, (days - offset) + np.where(split, rest, 0.0), values - offset)
    return values, bad


_PLAIN = re.compile(r"\s*\+?(\d+)(?:\.(\d*))?\s*")


def _whole_days(text: str) -> float:
    match = _PLAIN.fullmatch(text)
    return float(match[1]) if match else np.nan


def _fraction(text: str) -> str:
    match = _PLAIN.fullmatch(text)
    return f"0.{match[2] or 0}" if match else "nan"
