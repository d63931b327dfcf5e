"""From delivered columns to checked rows: units, times, plausibility, and a count of every dropped row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skytrawl.catalogs.readers.columns import Mapped
from skytrawl.catalogs.readers.table import Chunk, Header
from skytrawl.catalogs.surveys import Survey
from skytrawl.catalogs.times import MJD_RANGE, MJD_ZERO, TIME_FORMATS, parse_time_format, to_mjd
from skytrawl.errors import IngestError

EXAMPLES = 3
# From the Sun (-27) to far below any survey's limit; 99 and -999 stand for missing values.
MAGNITUDE_RANGE = (-30.0, 40.0)
KINDS = {
    "object": "text",
    "time": "number",
    "value": "number",
    "error": "number",
    "band": "text",
    "ra": "number",
    "dec": "number",
    "sign": "text",
    "upper_limit": "text",
    "quality": "number",
    "rb": "number",
    "exposure": "integer",
    "class": "text",
    "row_id": "text",
}
# What stands for a missing identifier, as pandas and databases write it.
NO_NAME = (b"", b"nan", b"NaN", b"None", b"null", b"NULL", b"<NA>")
_TRUE = (b"1", b"t", b"true", b"+1", b"1.0", b"y", b"yes", b"positive", b"+")
_FALSE = (b"0", b"f", b"false", b"0.0", b"n", b"no")
_NEGATIVE = (b"-1", b"-1.0", b"negative", b"-")
_UNKNOWN = (b"", b"nan", b"none", b"null", b"na", b"--")


@dataclass
class Tally:
    """Rows read and dropped, by reason, with the first places of each."""

    read: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    losers: set[bytes] = field(default_factory=set)  # objects that lost rows

    def drop(self, reason: str, count: int, examples: list[str]) -> None:
        """Count dropped rows; the first few places are kept."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count
        places = self.examples.setdefault(reason, [])
        places += examples[: EXAMPLES - len(places)]

    def note(self, text: str, count: int = 1) -> None:
        """Count something that is worth a warning but drops no row."""
        self.notes[text] = self.notes.get(text, 0) + count


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


def check_units(header: Header, mapped: Mapped, rules: Rules, where: str) -> None:
    """Compare the units that a file states with what the archive will say.

    Raises
    ------
    IngestError
        Lists every column with another unit, and what to do.
    """
    if not header.units:
        return
    from astropy import units as u

    wanted = {"time": "d", "value": rules.units, "error": rules.units, "ra": "deg", "dec": "deg"}
    remedies = {
        "time": "convert the column to days",
        "value": "convert the column, or pass units= (and zero_point=) to store it as it is",
        "error": "errors and values need one unit",
        "ra": "convert the column to degrees",
        "dec": "convert the column to degrees",
    }
    faults = []
    for role, unit in wanted.items():
        stated = header.units.get(mapped.columns.get(role, ""), "")
        if not stated or stated == unit:
            continue
        try:
            same = u.Unit(stated) == u.Unit(unit) or {stated, unit} <= {
                "mag",
                "mag(AB)",
                "mag(Vega)",
                "ABmag",
            }
        except ValueError:
            same = False
        if not same:
            column = mapped.columns[role]
            faults.append(f"{role} (column {column!r}) is in {stated!r}, not {unit!r}: {remedies[role]}")
    if faults:
        raise IngestError(f"{where}: wrong units:\n  " + "\n  ".join(faults))


def normalise(chunk: Chunk, mapped: Mapped, rules: Rules, where: str, tally: Tally) -> dict[str, np.ndarray]:
    """Checked rows of one chunk; every other row is counted in `tally`.

    Parameters
    ----------
    chunk : Chunk
        As a reader yields it.
    mapped : Mapped
        Columns and constants of the roles.
    rules : Rules
    where : str
        Name of the source.
    tally : Tally
        Takes the counts.

    Returns
    -------
    dict of str to array of shape (n_kept,)
        By role: object and class and row_id as bytes, time MJD float64, value and error as delivered, band as
        bytes, sign int8, upper_limit bool, quality uint32, rb float32, exposure int64, ra and dec float64
        degrees; "row" int64, the number in the source.

    Raises
    ------
    IngestError
        For systematic faults (a wrong time format, fluxes given as magnitudes, bands that the survey does not
        know in most rows), and for the first bad row if the rules say so.
    """
    rows = len(chunk)
    tally.read += rows
    check = _Check(np.ones(rows, bool), chunk.first_row, rules, where, tally)
    delivered = {role: chunk.columns[name] for role, name in mapped.columns.items()}
    for role, value in mapped.constants.items():
        delivered[role] = _constant(role, value, rows)
    optional = {mapped.columns[role]: role for role in ("sign", "rb", "exposure") if role in mapped.columns}
    for reason, indices, texts in chunk.rejected:
        name = reason.partition(" is no ")[0]
        if name in optional:
            tally.note(f"{where}: {reason}, stored as unknown", len(indices))
        else:
            check.drop_indices(reason, indices, texts)
    columns: dict[str, np.ndarray] = {"row": np.arange(chunk.first_row, chunk.first_row + rows)}
    columns["object"] = delivered["object"]
    check.drop("the object identifier is empty", np.isin(delivered["object"], NO_NAME), delivered["object"])
    columns["upper_limit"] = _flags(delivered.get("upper_limit"), rows, check, mapped)
    columns["time"] = _times(delivered["time"], check, mapped)
    _values(delivered, columns, check)
    columns["band"] = delivered["band"]
    _bands(delivered["band"], check)
    _positions(delivered, columns, check)
    if "sign" in delivered:
        is_flag = mapped.columns.get("sign", "").lower().endswith("isdiffpos")
        columns["sign"] = _signs(delivered["sign"], is_flag, where, tally)
    if "quality" in delivered:
        flags = np.nan_to_num(delivered["quality"].astype(np.float64), nan=0.0, posinf=-1, neginf=-1)
        wrong = (flags < 0) | (flags >= 2.0**32) | (flags != np.floor(flags))
        check.drop("quality is no bit mask of 32 bits", wrong, delivered["quality"])
        columns["quality"] = np.where(wrong, 0, flags).astype(np.uint32)
    if "rb" in delivered:
        columns["rb"] = delivered["rb"].astype(np.float32)
    for role in ("exposure", "class", "row_id"):
        if role in delivered:
            columns[role] = delivered[role]
    tally.losers.update(np.unique(delivered["object"][~check.alive]).tolist())
    if "upper_limit" not in delivered:
        del columns["upper_limit"]
    return {name: column[check.alive] for name, column in columns.items()}


@dataclass
class _Check:
    """Marks rows as dropped, each for one reason."""

    alive: np.ndarray
    first_row: int
    rules: Rules
    where: str
    tally: Tally

    def drop(self, reason: str, wrong: np.ndarray, shown: np.ndarray | None) -> None:
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

    def _count(self, reason: str, hit: np.ndarray, texts: list[str]) -> None:
        texts = texts[:EXAMPLES] + [""] * (EXAMPLES - len(texts))
        places = [
            f"{self.where}, row {self.first_row + int(index)}" + (f": {text[:60]!r}" if text else "")
            for index, text in zip(hit[:EXAMPLES], texts, strict=False)
        ]
        if self.rules.on_bad == "raise":
            raise IngestError(
                f"{places[0]}: {reason}. Repair or remove the row, or pass on_bad='drop' to leave such "
                "rows out and "
                "count them"
            )
        self.alive[hit] = False
        self.tally.drop(reason, len(hit), places)


def _show(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _constant(role: str, value: Any, rows: int) -> np.ndarray:
    if KINDS[role] == "text":
        return np.full(rows, str(value).encode())
    return np.full(rows, int(value) if KINDS[role] == "integer" else float(value))


def _times(delivered: np.ndarray, check: _Check, mapped: Mapped) -> np.ndarray:
    rules = check.rules
    times, bad = to_mjd(delivered, rules.time_format)
    column = mapped.columns.get("time", "time")
    if bad:
        check.drop_indices(
            f"{column} is no number", np.array(bad), [_show(delivered[index]) for index in bad]
        )
    check.drop("time is missing or not finite", ~np.isfinite(times), delivered)
    if delivered.dtype == np.float32 and len(delivered):
        step = float(np.spacing(np.nanmax(np.abs(delivered))))
        check.tally.note(
            f"{check.where}: {column} is float32: times come in steps of {step:.2g} d", len(times)
        )
    if parse_time_format(rules.time_format)[0] == "days":
        return times
    outside = (times < MJD_RANGE[0]) | (times > MJD_RANGE[1])
    seen = np.isfinite(times)
    if seen.any() and 2 * (outside & seen).sum() > seen.sum():
        middle = float(np.median(times[seen]))
        raw = middle + parse_time_format(rules.time_format)[1]
        if MJD_RANGE[0] <= raw - MJD_ZERO <= MJD_RANGE[1]:
            hint = "these are Julian dates: pass time_format='jd'"
        elif MJD_RANGE[0] <= raw <= MJD_RANGE[1]:
            hint = "these are modified Julian dates: pass time_format='mjd'"
        else:
            hint = (
                f"pass the time format ({TIME_FORMATS}); such as 'jd-2450000' for HJD less 2450000, or "
                "'days' to keep "
                "times of an own zero point"
            )
        raise IngestError(
            f"{check.where}: {column} holds values about {raw:.10g}, which as {rules.time_format!r} lie "
            "outside the "
            f"years 1890 to 2150; {hint}"
        )
    check.drop("time is outside the years 1890 to 2150", outside, delivered)
    return times


def _values(delivered: Mapping[str, np.ndarray], columns: dict[str, np.ndarray], check: _Check) -> None:
    rules = check.rules
    value, error = delivered["value"], delivered["error"]
    limit = columns["upper_limit"]
    finite = np.isfinite(value)
    if rules.quantity == "magnitude":
        low, high = MAGNITUDE_RANGE
        outside = finite & ((value < low) | (value > high))
        # 90 to 100 and negative round numbers are marks of missing magnitudes, not fluxes.
        odd = outside & ~((value > 90) & (value < 101)) & (value != -99) & (value != -999) & (value != -9999)
        if finite.any() and 2 * odd.sum() > finite.sum():
            raise IngestError(
                f"{check.where}: most values lie outside {low:g} to {high:g} mag (median "
                f"{float(np.median(value[finite])):.6g}), so these are no magnitudes: if they are fluxes, "
                "pass "
                "quantity='flux' with units= and zero_point="
            )
        check.drop("value is missing or not finite", ~finite, value)
        check.drop(f"value is outside {low:g} to {high:g} mag", outside, value)
    else:
        check.drop("value is missing or not finite", ~finite, value)
        sound = value[finite]
        if sound.size and sound.min() > 5 and sound.max() < 35 and np.nanmax(error, initial=0) < 1:
            check.tally.note(
                f"{check.where}: the fluxes lie between 5 and 35 with errors below 1, like magnitudes: pass "
                "quantity='magnitude' if they are",
                sound.size,
            )
    check.drop("error is negative", error < 0, error)
    check.drop("error is infinite", np.isinf(error), error)
    if rules.missing_errors == "drop":
        check.drop("error is missing", np.isnan(error) & ~limit, None)
        check.drop("error is zero", (error == 0) & ~limit, None)
    columns["value"], columns["error"] = value, error


def _bands(names: np.ndarray, check: _Check) -> None:
    rules = check.rules
    unique, inverse = np.unique(names, return_inverse=True)
    taken = None
    if rules.bands is not None:
        taken = {band.name for band in map(rules.survey.band, rules.bands) if band is not None}
    known = np.zeros(len(unique), bool)
    unselected = np.zeros(len(unique), bool)
    for index, name in enumerate(unique):
        band = rules.survey.band(name.decode())
        known[index] = band is not None
        unselected[index] = band is not None and taken is not None and band.name not in taken
    unknown = ~known[inverse]
    if 2 * unknown.sum() > len(names):
        shown = ", ".join(repr(name.decode()) for name in unique[~known][:8])
        options = ", ".join(rules.survey.band_names)
        raise IngestError(
            f"{check.where}: most rows have bands that {rules.survey.name} does not know: {shown} (it has "
            f"{options}). "
            "Pass the right survey=, or a survey file of your own that lists them as bands, spellings or "
            "codes"
        )
    for index in np.flatnonzero(~known).tolist():
        check.drop(f"unknown band {unique[index].decode()!r}", inverse == index, None)
    for index in np.flatnonzero(unselected).tolist():
        check.drop(f"band {unique[index].decode()!r} is not among those asked for", inverse == index, None)


def _positions(delivered: Mapping[str, np.ndarray], columns: dict[str, np.ndarray], check: _Check) -> None:
    if "ra" not in delivered or "dec" not in delivered:
        return
    ra, dec = delivered["ra"].astype(np.float64), delivered["dec"].astype(np.float64)
    wrong = (ra < 0) | (ra > 360) | (dec < -90) | (dec > 90) | np.isinf(ra) | np.isinf(dec)
    seen = np.isfinite(ra) & np.isfinite(dec)
    if seen.any() and 2 * (wrong & seen).sum() > seen.sum():
        index = int(np.argmax(wrong))
        raise IngestError(
            f"{check.where}, row {check.first_row + index}: ra {ra[index]:g}, dec {dec[index]:g} is no "
            "position in "
            "degrees (ra 0 to 360, dec -90 to 90): convert the columns, or name the right ones with ra= "
            "and dec="
        )
    check.drop("ra or dec is out of range", wrong, np.where((dec < -90) | (dec > 90), dec, ra))
    lone = np.isnan(ra) | np.isnan(dec)
    columns["ra"], columns["dec"] = np.where(lone, np.nan, ra), np.where(lone, np.nan, dec)


def _flags(delivered: np.ndarray | None, rows: int, check: _Check, mapped: Mapped) -> np.ndarray:
    if delivered is None:
        return np.zeros(rows, bool)
    if delivered.dtype.kind != "S":
        return np.nan_to_num(delivered.astype(np.float64)) != 0
    lower = np.char.lower(delivered)
    true = np.isin(lower, _TRUE)
    unreadable = ~(true | np.isin(lower, (*_FALSE, *_UNKNOWN)))
    check.drop(f"{mapped.columns.get('upper_limit', 'upper_limit')} is no flag", unreadable, delivered)
    return true


def _signs(delivered: np.ndarray, is_flag: bool, where: str, tally: Tally) -> np.ndarray:
    """+1, -1, 0 of texts; in a flag such as isdiffpos 0 and f mean a negative subtraction."""
    lower = np.char.lower(delivered)
    positive = np.isin(lower, _TRUE)
    negative = np.isin(lower, (*_NEGATIVE, *_FALSE) if is_flag else (*_NEGATIVE, b"f", b"false"))
    known = positive | negative | np.isin(lower, _UNKNOWN) | (np.isin(lower, _FALSE) & (not is_flag))
    if not known.all():
        first = delivered[int(np.argmin(known))].decode(errors="replace")
        tally.note(
            f"{where}: sign cannot be read (such as {first!r}), stored as unknown", int((~known).sum())
        )
    return np.where(positive, 1, np.where(negative, -1, 0)).astype(np.int8)
