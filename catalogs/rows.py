"""From delivered columns to checked rows: units, times, plausibility, and a count of every dropped row."""

from dataclasses import replace
from typing import Any

import numpy as np

from skytrawl.catalogs import checks
from skytrawl.catalogs.checks import Check, Rules
from skytrawl.catalogs.identifiers import numbers_of, unnamed
from skytrawl.catalogs.readers.columns import Mapped
from skytrawl.catalogs.readers.table import MISSING_ID, Chunk, Coded, Header
from skytrawl.catalogs.tally import Tally
from skytrawl.errors import IngestError

__all__ = ["KINDS", "Rules", "Tally", "check_units", "normalise"]

NAMELESS = "the object identifier is empty"
# What readers are asked for, by role.
KINDS = {
    "object": "id",
    "time": "number",
    "value": "number",
    "error": "number",
    "band": "coded",
    "ra": "number",
    "dec": "number",
    "sign": "coded",
    "upper_limit": "coded",
    "quality": "number",
    "rb": "number",
    "exposure": "integer",
    "class": "text",
    "row_id": "id",
}


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
        By role. Always: "object" (uint64; int64 where the chunk has negative ones; bytes where the source has
        texts), "time" (MJD, float64), "value" and "error" (as delivered, float32 or float64), "band" (uint8,
        index in ``rules.survey.bands``), "row" (int64, number in the source). Where the source has them: "ra"
        and "dec" (float64 degrees, both NaN without position), "sign" (int8), "upper_limit" (bool), "quality"
        (uint32), "rb" (float32), "exposure" (int64), "class" (bytes), "row_id" (uint64, see
        :func:`~skytrawl.catalogs.identifiers.numbers_of`). Arrays may be memory of the chunk.

    Raises
    ------
    IngestError
        For systematic faults (a wrong time format, fluxes given as magnitudes, bands that the survey does not
        know in most rows), and for the first bad row if the rules say so.
    """
    rows = len(chunk)
    tally.read += rows
    for text, count in chunk.notes.items():
        tally.note(text, count)
    if chunk.time_format:
        rules = replace(rules, time_format=chunk.time_format)
    check = Check(rows, chunk.first_row, rules, where, tally, chunk.places)
    delivered = {role: chunk.columns[name] for role, name in mapped.columns.items()}
    for role, value in mapped.constants.items():
        delivered[role] = _constant(role, value, rows)
    nameless = _rejected(chunk, mapped, check)
    columns: dict[str, np.ndarray] = {"row": np.arange(chunk.first_row, chunk.first_row + rows)}
    columns["object"] = _objects(_plain(delivered["object"]), check)
    if "upper_limit" in delivered:
        name = mapped.columns.get("upper_limit", "upper_limit")
        columns["upper_limit"] = checks.flags(delivered["upper_limit"], check, name)
    columns["time"] = checks.times(delivered["time"], check, mapped.columns.get("time", "time"))
    columns["value"], columns["error"] = delivered["value"], delivered["error"]
    checks.values(columns["value"], columns["error"], check)
    checks.errors(columns["error"], columns.get("upper_limit"), check)
    names = checks.as_coded(delivered["band"])
    columns["band"] = checks.bands(names, check)
    if "ra" in delivered and "dec" in delivered:
        columns["ra"], columns["dec"] = checks.positions(delivered["ra"], delivered["dec"], check)
    if "sign" in delivered:
        is_flag = mapped.columns.get("sign", "").lower().endswith("isdiffpos")
        columns["sign"] = checks.signs(delivered["sign"], is_flag, check)
    if "quality" in delivered:
        columns["quality"] = checks.quality(delivered["quality"], check)
    if "rb" in delivered:
        columns["rb"] = delivered["rb"].astype(np.float32, copy=False)
    if "exposure" in delivered:
        columns["exposure"] = delivered["exposure"].astype(np.int64, copy=False)
    if "class" in delivered:
        columns["class"] = _plain(delivered["class"])
    if "row_id" in delivered:
        columns["row_id"] = numbers_of(_plain(delivered["row_id"]))
    checks.spell(names, check)
    if not check.dropped:
        return columns
    tally.lose(_losers(columns["object"], check.alive, nameless))
    return {name: column[check.alive] for name, column in columns.items()}


def _rejected(chunk: Chunk, mapped: Mapped, check: Check) -> np.ndarray:
    """Drop the rows that the reader could not take; indices of those without object."""
    optional = {mapped.columns[role] for role in ("sign", "rb", "exposure") if role in mapped.columns}
    nameless = [np.zeros(0, np.int64)]
    for reason, indices, texts in chunk.rejected:
        if reason.endswith(MISSING_ID):
            # A measurement needs no identifier.
            if reason.removesuffix(MISSING_ID) == mapped.columns.get("object"):
                check.drop_indices(NAMELESS, indices, texts)
                nameless.append(indices)
        elif reason.partition(" is no ")[0] in optional:
            check.tally.note(f"{check.where}: {reason}, stored as unknown", len(indices))
        else:
            _check_type(reason, indices, texts, mapped, check)
            check.drop_indices(reason, indices, texts)
    return np.concatenate(nameless)


def _check_type(reason: str, indices: np.ndarray, texts: list[str], mapped: Mapped, check: Check) -> None:
    """Refuse a column without any number."""
    column = reason.removesuffix(" is no number")
    roles = [role for role, name in mapped.columns.items() if name == column and reason != column]
    if roles and check.places is None and check.first_row == 1 and 1 < check.rows == len(indices):
        raise IngestError(
            f"{check.place(0)}: the column {column!r} holds text (such as {texts[0][:60]!r}) in all "
            f"of the first {check.rows} rows, where {roles[0]} needs numbers: name the right column with "
            f"{roles[0]}=<column>, or convert this one"
        )


def _objects(ids: np.ndarray, check: Check) -> np.ndarray:
    if ids.dtype.kind == "S":
        wrong = unnamed(ids)
        if wrong.any():
            check.drop(NAMELESS, wrong, ids)
    elif ids.dtype.kind == "i" and (not len(ids) or ids.min() >= 0):
        return ids.astype(np.int64, copy=False).view(np.uint64)
    return ids


def _losers(ids: np.ndarray, alive: np.ndarray, nameless: np.ndarray) -> np.ndarray:
    """Objects of the rows that are not alive; without those of which a neighbouring row is."""
    lost = np.setdiff1d(np.flatnonzero(~alive), nameless, assume_unique=True)
    for step in (-1, 1):
        near = np.clip(lost + step, 0, len(ids) - 1)
        lost = lost[~(alive[near] & (ids[near] == ids[lost]))]
    found = ids[lost]
    return found[~unnamed(found)]


def _plain(column: np.ndarray | Coded) -> np.ndarray:
    return column.texts() if isinstance(column, Coded) else column


def _constant(role: str, value: Any, rows: int) -> np.ndarray | Coded:
    kind = KINDS[role]
    if kind == "coded":
        return Coded(np.zeros(rows, np.uint8), [str(value).encode()])
    if kind == "id" and isinstance(value, int) and -(2**63) <= value < 2**64:
        return np.full(rows, value)
    if kind in ("id", "text"):
        return np.full(rows, str(value).encode())
    return np.full(rows, int(value) if kind == "integer" else float(value))
