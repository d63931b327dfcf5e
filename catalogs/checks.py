"""Checks of the rows of a chunk, role by role: a quick look at the extremes, and a close one if they are odd.

Each function takes the column of a role as delivered and gives it in the archive's terms. Bad rows are
dropped through :class:`Check`, each for one reason.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skytrawl.catalogs.readers.table import Coded, Places, code_integers
from skytrawl.catalogs.surveys import Survey
from skytrawl.catalogs.tally import EXAMPLES, Tally
from skytrawl.catalogs.times import MJD_RANGE, MJD_ZERO, TIME_FORMATS, parse_time_format, to_mjd
from skytrawl.errors import IngestError

# From the Sun (-27) to far below any survey's limit; 99 and -999 stand for missing values.
MAGNITUDE_RANGE = (-30.0, 40.0)
_TRUE = (b"1", b"t", b"true", b"+1", b"1.0", b"y", b"yes", b"positive", b"+")
_FALSE = (b"0", b"f", b"false", b"0.0", b"n", b"no")
_NEGATIVE = (b"-1", b"-1.0", b"negative", b"-")
_UNKNOWN = (b"", b"nan", b"none", b"null", b"na", b"--")
# Codes of bands that the survey does not know, and of those that were not asked for.
_STRANGE, _UNASKED = 255, 254


@dataclass(frozen=True)
class Rules:
    """What rows are checked against.

    Attributes
    ----------
    survey : Survey
    quantity, units : str
        Of the values.
    time_format : str
        Of the delivered times.
    bands : tuple of str or None
        Names to take; None takes all of the survey.
    on_bad : {"drop", "raise"}
        What a bad row does.
    missing_errors : {"drop", "keep"}
        What becomes of rows whose error is missing (NaN) or zero.
    """

    survey: Survey
    quantity: str
    units: str
    time_format: str
    bands: tuple[str, ...] | None = None
    on_bad: str = "drop"
    missing_errors: str = "drop"


@dataclass
class Check:
    """Marks rows of a chunk as dropped, each for one reason.

    Attributes
    ----------
    alive : bool array of shape (n,)
    dropped : int
        Number of rows that are not alive.
    """

    rows: int
    first_row: int
    rules: Rules
    where: str
    tally: Tally
    places: Places | None = None
    alive: np.ndarray = field(init=False)
    dropped: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.alive = np.ones(self.rows, bool)

    def drop(self, reason: str, wrong: np.ndarray, shown: np.ndarray | Coded | None = None) -> None:
        """Drop the rows that are still alive and wrong."""
        hit = np.flatnonzero(self.alive & wrong)
        if hit.size:
            texts = [] if shown is None else [_show(shown[index]) for index in hit[:EXAMPLES]]
            self._count(reason, hit, texts)

    def drop_indices(self, reason: str, indices: np.ndarray, texts: list[str]) -> None:
        """The same for a list of rows."""
        fresh = self.alive[indices]
        if fresh.any():
            self._count(reason, indices[fresh], [text for text, new in zip(texts, fresh, strict=True) if new])

    def place(self, row: int) -> str:
        """Source and number of a row, or file and line."""
        if self.places is not None:
            return self.places.of(self.where, row)
        return f"{self.where}, row {self.first_row + row}"

    @property
    def named(self) -> str:
        """The source, with the first of its files that the rows are from."""
        return self.where if self.places is None else self.place(0)

    def _count(self, reason: str, hit: np.ndarray, texts: list[str]) -> None:
        texts = texts[:EXAMPLES] + [""] * (EXAMPLES - len(texts))
        places = [
            self.place(int(index)) + (f": {text[:60]!r}" if text else "")
            for index, text in zip(hit[:EXAMPLES], texts, strict=False)
        ]
        if self.rules.on_bad == "raise":
            raise IngestError(
                f"{places[0]}: {reason}. Repair or remove the row, or pass on_bad='drop' to leave such "
                "rows out and count them"
            )
        self.alive[hit] = False
        self.dropped += len(hit)
        self.tally.drop(reason, len(hit), places)


def _show(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def as_coded(column: np.ndarray | Coded) -> Coded:
    """A column of texts or of integers as codes."""
    if isinstance(column, Coded):
        return column
    found = code_integers(column) if column.dtype.kind in "iu" else None
    if found is None:
        names, codes = np.unique(
            column if column.dtype.kind == "S" else column.astype("S"), return_inverse=True
        )
        found = Coded(codes, names.tolist())
    return found


def recode(codes: np.ndarray, table: np.ndarray) -> np.ndarray:
    """``table[codes]`` for a table of uint8; may be memory of the codes."""
    if len(table) > 256:
        found: np.ndarray = table[codes]
        return found
    narrow = codes.astype(np.uint8, copy=False)
    if (table == np.arange(len(table))).all():
        return narrow
    # Several times as fast as indexing, which makes wide integers of the codes first.
    return np.frombuffer(bytearray(narrow).translate(table.tobytes().ljust(256)), np.uint8)


def _extent(values: np.ndarray) -> tuple[float, float]:
    """Least and greatest value; NaN if any value is NaN or there is none."""
    if not len(values):
        return np.nan, np.nan
    return float(values.min()), float(values.max())


def times(delivered: np.ndarray, check: Check, column: str) -> np.ndarray:
    """MJD (float64) of delivered times."""
    rules = check.rules
    found, bad = to_mjd(delivered, rules.time_format)
    if delivered.dtype == np.float32 and len(delivered):
        step = float(np.spacing(np.nanmax(np.abs(delivered))))
        check.tally.note(
            f"{check.where}: {column} is float32: times come in steps of {step:.2g} d", len(found)
        )
    own_zero = parse_time_format(rules.time_format)[0] == "days"
    low, high = _extent(found)
    least, most = (-np.finfo(float).max, np.finfo(float).max) if own_zero else MJD_RANGE
    if least <= low and high <= most:
        return found
    if bad:
        check.drop_indices(
            f"{column} is no number", np.array(bad), [_show(delivered[index]) for index in bad]
        )
    check.drop("time is missing or not finite", ~np.isfinite(found), delivered)
    if own_zero:
        return found
    outside = (found < MJD_RANGE[0]) | (found > MJD_RANGE[1])
    seen = np.isfinite(found)
    if seen.any() and 2 * (outside & seen).sum() > seen.sum():
        middle = float(np.median(found[seen]))
        raw = middle + parse_time_format(rules.time_format)[1]
        if MJD_RANGE[0] <= raw - MJD_ZERO <= MJD_RANGE[1]:
            hint = "these are Julian dates: pass time_format='jd' (--time-format jd)"
        elif MJD_RANGE[0] <= raw <= MJD_RANGE[1]:
            hint = "these are modified Julian dates: pass time_format='mjd' (--time-format mjd)"
        else:
            hint = (
                f"pass the time format ({TIME_FORMATS}); such as 'jd-2450000' for HJD less 2450000, or "
                "'days' to keep times of an own zero point"
            )
        raise IngestError(
            f"{check.named}: {column} holds values about {raw:.10g}, which as {rules.time_format!r} lie "
            f"outside the years 1890 to 2150; {hint}"
        )
    check.drop("time is outside the years 1890 to 2150", outside, delivered)
    return found


def values(value: np.ndarray, error: np.ndarray, check: Check) -> None:
    """Drop rows whose value cannot be one; note fluxes that look like magnitudes."""
    low, high = _extent(value)
    if check.rules.quantity == "magnitude":
        least, most = MAGNITUDE_RANGE
        if least <= low and high <= most:
            return
        finite = np.isfinite(value)
        outside = finite & ((value < least) | (value > most))
        # 90 to 100 and negative round numbers are marks of missing magnitudes, not fluxes.
        odd = outside & ~((value > 90) & (value < 101)) & (value != -99) & (value != -999) & (value != -9999)
        # Faint fluxes are numbers like magnitudes: a tenth that cannot be one gives them away.
        if 10 * odd.sum() > finite.sum():
            raise IngestError(
                f"{check.named}: {odd.sum() / finite.sum():.0%} of the values lie outside {least:g} to "
                f"{most:g} mag (median {float(np.median(value[finite])):.6g}), so they are no magnitudes: if "
                "they are fluxes, pass quantity='flux' with units= and zero_point="
            )
        check.drop("value is missing or not finite", ~finite, value)
        check.drop(f"value is outside {least:g} to {most:g} mag", outside, value)
        return
    if not np.isfinite((low, high)).all():
        finite = np.isfinite(value)
        check.drop("value is missing or not finite", ~finite, value)
        value = value[finite]
        low, high = _extent(value)
    if low > 5 and high < 35 and np.nanmax(error, initial=0) < 1:
        check.tally.note(
            f"{check.where}: the fluxes lie between 5 and 35 with errors below 1, like magnitudes: pass "
            "quantity='magnitude' if they are",
            len(value),
        )


def errors(error: np.ndarray, limit: np.ndarray | None, check: Check) -> None:
    """Drop rows whose error cannot be one; upper limits need none."""
    keep = check.rules.missing_errors == "keep"
    low, high = _extent(error)
    if (low > 0 or (keep and low == 0)) and np.isfinite(high):
        return
    check.drop("error is negative", error < 0, error)
    check.drop("error is infinite", np.isinf(error), error)
    if not keep:
        needed = True if limit is None else ~limit
        check.drop("error is missing", np.isnan(error) & needed)
        check.drop("error is zero", (error == 0) & needed)


def bands(names: Coded, check: Check) -> np.ndarray:
    """Index (uint8) in the survey's bands of each row; rows that are not alive may have any."""
    rules = check.rules
    taken = None
    if rules.bands is not None:
        taken = {band.name for band in map(rules.survey.band, rules.bands) if band is not None}
    table = []
    for name in names.names:
        band = rules.survey.band(name.decode(errors="replace"))
        if band is None:
            table.append(_STRANGE)
        elif taken is not None and band.name not in taken:
            table.append(_UNASKED)
        else:
            table.append(rules.survey.bands.index(band))
    found = recode(names.codes, np.array(table, np.uint8))
    if not len(found) or found.max() < _UNASKED:
        return found
    strange = found == _STRANGE
    # The names that are there, in the order of the alphabet; a table of names may hold others, or one twice.
    present = np.unique(names.codes[found >= _UNASKED]).tolist()
    named: dict[bytes, list[int]] = {}
    for code in present:
        named.setdefault(names.names[code], []).append(code)
    if 2 * int((strange & check.alive).sum()) > int(check.alive.sum()):
        shown = [repr(_show(name)) for name in sorted(named) if table[named[name][0]] == _STRANGE]
        raise IngestError(
            f"{check.named}: most rows have bands that {rules.survey.name} does not know: "
            f"{', '.join(shown[:8])} (it has {', '.join(rules.survey.band_names)}). Pass the right survey=, "
            "or a survey file of your own that lists them as bands, spellings or codes, or band= for files "
            "of one band"
        )
    for wanted, reason in (
        (_STRANGE, "unknown band {!r}"),
        (_UNASKED, "band {!r} is not among those asked for"),
    ):
        for name in sorted(named):
            if table[named[name][0]] == wanted:
                check.drop(reason.format(_show(name)), np.isin(names.codes, named[name]))
    return found


def spell(names: Coded, check: Check) -> None:
    """Put down under which names the bands of the rows that are alive were delivered."""
    codes = names.codes[check.alive] if check.dropped else names.codes
    spellings = check.tally.spellings
    for code, name in enumerate(names.names):
        band = check.rules.survey.band(name.decode(errors="replace"))
        text = _show(name)
        if band is not None and text not in spellings.get(band.name, ()) and (codes == code).any():
            spellings.setdefault(band.name, set()).add(text)


def positions(ra: np.ndarray, dec: np.ndarray, check: Check) -> tuple[np.ndarray, np.ndarray]:
    """Positions in float64; both coordinates NaN where one is."""
    ra, dec = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    (ra_low, ra_high), (dec_low, dec_high) = _extent(ra), _extent(dec)
    if ra_low >= 0 and ra_high <= 360 and dec_low >= -90 and dec_high <= 90:
        return ra, dec
    wrong = (ra < 0) | (ra > 360) | (dec < -90) | (dec > 90)
    seen = np.isfinite(ra) & np.isfinite(dec)
    if seen.any() and 2 * (wrong & seen).sum() > seen.sum():
        index = int(np.argmax(wrong))
        raise IngestError(
            f"{check.place(index)}: ra {ra[index]:g}, dec {dec[index]:g} is no "
            "position in degrees (ra 0 to 360, dec -90 to 90): convert the columns, or name the right ones "
            "with ra= and dec="
        )
    check.drop("ra or dec is out of range", wrong, np.where((dec < -90) | (dec > 90), dec, ra))
    lone = np.isnan(ra) | np.isnan(dec)
    return np.where(lone, np.nan, ra), np.where(lone, np.nan, dec)


def flags(delivered: np.ndarray | Coded, check: Check, column: str) -> np.ndarray:
    """Whether each row is flagged (bool): texts that mean yes, numbers other than 0."""
    if not isinstance(delivered, Coded) and delivered.dtype.kind != "S":
        return np.nan_to_num(delivered.astype(np.float64)) != 0
    coded = as_coded(delivered)
    lower = [name.lower() for name in coded.names]
    unreadable = np.array([name not in (*_TRUE, *_FALSE, *_UNKNOWN) for name in lower], bool)
    if unreadable.any():
        check.drop(f"{column} is no flag", unreadable[coded.codes], coded)
    return recode(coded.codes, np.array([name in _TRUE for name in lower], np.uint8)).view(bool)


def signs(delivered: np.ndarray | Coded, is_flag: bool, check: Check) -> np.ndarray:
    """+1, -1, 0 (int8) of texts; in a flag such as isdiffpos 0 and f mean a negative subtraction."""
    coded = as_coded(delivered)
    negative = (*_NEGATIVE, *_FALSE) if is_flag else (*_NEGATIVE, b"f", b"false")
    table = np.zeros(len(coded.names), np.int8)
    strange = []
    for code, name in enumerate(name.lower() for name in coded.names):
        if name in _TRUE:
            table[code] = 1
        elif name in negative:
            table[code] = -1
        elif name not in (*_UNKNOWN, *_FALSE):
            strange.append(code)
    if strange and (hit := np.flatnonzero(np.isin(coded.codes, strange))).size:
        first = _show(coded.names[int(coded.codes[hit[0]])])
        check.tally.note(
            f"{check.where}: sign cannot be read (such as {first!r}), stored as unknown", hit.size
        )
    return recode(coded.codes, table.view(np.uint8)).view(np.int8)


def quality(delivered: np.ndarray, check: Check) -> np.ndarray:
    """Bit masks (uint32); missing ones are 0."""
    low, high = _extent(delivered)
    if low >= 0 and high < 2.0**32:
        bits = delivered.astype(np.uint32)
        if delivered.dtype.kind in "iu" or (bits == delivered).all():
            return bits
    found = np.nan_to_num(delivered.astype(np.float64), nan=0.0, posinf=-1, neginf=-1)
    wrong = (found < 0) | (found >= 2.0**32) | (found != np.floor(found))
    check.drop("quality is no bit mask of 32 bits", wrong, delivered)
    return np.where(wrong, 0, found).astype(np.uint32)
