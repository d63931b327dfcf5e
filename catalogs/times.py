"""Delivered times to modified Julian dates, without loss."""

import re

import numpy as np

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
    from skytrawl.catalogs.readers.table import parse_numbers  # the readers ask for time formats

    kind, offset = parse_time_format(time_format)
    if times.dtype.kind != "S":
        values = np.asarray(times, np.float64)
        return (values - offset if kind == "mjd" and offset else values), []
    if kind != "mjd" or not offset:
        return parse_numbers([text.decode() for text in times.tolist()])
    days, rest, plain = _split(times)
    # Whole days less the offset is exact; one rounding when the fraction joins.
    values = (days - offset) + rest
    odd = np.flatnonzero(~plain)
    texts = [text.decode() for text in times[odd].tolist()]
    numbers, bad = parse_numbers(texts)
    for index, text, number in zip(odd.tolist(), texts, numbers.tolist(), strict=True):
        match = _PLAIN.fullmatch(text)
        values[index] = (float(match[1]) - offset) + float(f"0.{match[2] or 0}") if match else number - offset
    return values, odd[bad].tolist()


_PLAIN = re.compile(r"\s*\+?([0-9]+)(?:\.([0-9]*))?\s*")
# So many digits are a whole number that float64 holds, and its quotient by a power of ten is rounded once.
_EXACT_DIGITS = 15


def _split(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole days and fractions (float64) of texts of plain dates, and which texts are such (bool)."""
    letters = np.ascontiguousarray(texts).view(np.uint8).reshape(len(texts), texts.dtype.itemsize)
    whole, fraction = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
    n_whole, n_fraction = np.zeros(len(texts), np.int8), np.zeros(len(texts), np.int8)
    behind, plain = np.zeros(len(texts), bool), np.ones(len(texts), bool)
    for column in letters.T[: 2 * _EXACT_DIGITS + 1]:
        digit = column - np.uint8(ord("0"))
        is_digit, is_point = digit <= 9, column == ord(".")
        plain &= is_digit | (is_point & ~behind) | (column == 0)
        behind |= is_point
        before, after = is_digit & ~behind, is_digit & behind
        whole = np.where(before, 10 * whole + digit, whole)
        fraction = np.where(after, 10 * fraction + digit, fraction)
        n_whole += before
        n_fraction += after
    plain &= (n_whole > 0) & (n_whole <= _EXACT_DIGITS) & (n_fraction <= _EXACT_DIGITS)
    plain &= (letters[:, 2 * _EXACT_DIGITS + 1 :] == 0).all(axis=1)
    return whole.astype(np.float64), fraction / np.power(10.0, np.minimum(n_fraction, 22)), plain
