"""Which exposures make a reference, and which reference an exposure is compared with."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skytrawl.errors import ParameterError
from skytrawl.frames.job import Unit

if TYPE_CHECKING:
    from skytrawl.catalogs.images.store import FrameStore

# What a store says of a frame that never met a rule of its own.
WITHOUT_FIELD = "cell"


@dataclass(frozen=True)
class Group:
    """Exposures of one field and band, and the days that they must keep away from.

    Attributes
    ----------
    id : str
        Of the reference: ``<field>.<detector>.<band>``, without the detector where exposures name none, and
        ``.<block>`` where the survey is cut into blocks of time.
    field, band : str
    rows : int64 array
        Rows of the table of exposures, by time.
    start, stop : float
        Science exposures of these days [MJD] are meant to be compared with it.
    """

    id: str
    field: str
    band: str
    rows: np.ndarray
    start: float
    stop: float


def text(values: np.ndarray) -> list[str]:
    """A column of bytes as text."""
    return [value.decode() for value in values.tolist()]


def fields_of(table: dict[str, np.ndarray]) -> list[str]:
    """Field of each exposure: the header's, else the HEALPix cell (order 6, 55 arcmin) of its centre."""
    cells = table["healpix"].astype(np.int64) >> (2 * (29 - 6))
    names = text(table["field"])
    return [name or f"{WITHOUT_FIELD}{cell}" for name, cell in zip(names, cells.tolist(), strict=True)]


def groups(table: dict[str, np.ndarray], *, window: float, blocks: int) -> list[Group]:
    """Groups of exposures for references.

    Parameters
    ----------
    table : dict of array
        Of a store of exposures.
    window : float, days
        Around the days that a reference serves, no exposure enters it.
    blocks : int
        The exposures of a field, detector and band are cut by time into so many blocks of equal number, and
        each gets a reference of the others; 1 makes one reference of all.

    Returns
    -------
    list of Group
        Those without any exposure outside their window are left out.
    """
    mjd = table["mjd"]
    # Detectors of a camera see different parts of a field.
    keys = list(zip(fields_of(table), text(table["detector"]), text(table["band"]), strict=True))
    members: dict[tuple[str, str, str], list[int]] = {}
    # Images without stars can neither enter a reference nor be compared with one.
    use = np.isfinite(mjd) & (table["n_stars"] > 0 if "n_stars" in table else True)
    for row in np.argsort(mjd, kind="stable").tolist():
        if use[row]:
            members.setdefault(keys[row], []).append(row)
    found = []
    for (field, detector, band), listed in sorted(members.items()):
        rows = np.array(listed, np.int64)
        name = safe(".".join(part for part in (field, detector, band) if part))
        if blocks == 1:
            found.append(Group(name, field, band, rows, -np.inf, np.inf))
            continue
        for number, served in enumerate(np.array_split(rows, min(blocks, len(rows)))):
            start, stop = float(mjd[served[0]]), float(mjd[served[-1]])
            outside = rows[(mjd[rows] < start - window) | (mjd[rows] > stop + window)]
            if len(outside):
                found.append(Group(f"{name}.{number:02d}", field, band, outside, start, stop))
    return found


def safe(name: str) -> str:
    """A name without characters that folders cannot have."""
    return "".join(c if c.isalnum() or c in "._-+" else "_" for c in name).lstrip(".") or "_"


def content(parts: Iterable[str]) -> str:
    """32 hex digits of the contents that a unit is made from, in their order."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def pairs(exposures: FrameStore, references: FrameStore, window: float) -> list[Unit]:
    """Every exposure with the deepest reference that covers it and is not made from its own days.

    An exposure is never compared with a reference that it is part of, nor with one that holds an exposure
    taken within `window` days of it. Where no reference is left, `extra` is empty.

    Raises
    ------
    ParameterError
        If there is no reference that could be used at all.
    """
    table, others = exposures.table, references.table
    if b"good" not in others.get("verdict", np.zeros(0, "S1")).tolist():
        why = sorted({reason for reason in text(others["reason"]) if reason}) if "reason" in others else []
        raise ParameterError(
            f"{references.path} holds no reference that can be used"
            + (f": {'; '.join(why[:3])}" if why else ": make them with `skytrawl run reference`")
        )
    bands, reference_bands = text(table["band"]), text(others["band"])
    names, reference_ids = text(table["id"]), text(others["id"])
    usable = np.array([verdict == "good" for verdict in text(others["verdict"])], bool)
    days = [_ragged(others, "input_mjd", row) for row in range(len(reference_ids))]
    by_cell: dict[tuple[str, int], list[int]] = {}
    for row in np.flatnonzero(usable).tolist():
        for cell in _ragged(others, "cover", row).tolist():
            by_cell.setdefault((reference_bands[row], cell), []).append(row)
    units = []
    for row, name in enumerate(names):
        cells = _ragged(table, "cover", row).tolist()
        shared = Counter(other for cell in cells for other in by_cell.get((bands[row], cell), ()))
        best, rank = -1, (0.0, -np.inf)
        for other, count in sorted(shared.items()):
            gap = np.abs(days[other] - table["mjd"][row]).min(initial=np.inf)
            # The middle of an exposure itself lies 0 days from it, so that its own reference never passes.
            if not gap > window:
                continue
            depth = float(others["depth"][other])
            better = (round(count / len(cells), 2), depth if np.isfinite(depth) else -np.inf)
            if better > rank:
                best, rank = other, better
        extra = reference_ids[best] if best >= 0 else ""
        parts = [table["content"][row].decode(), others["content"][best].decode() if best >= 0 else ""]
        pixels = int(table["width"][row]) * int(table["height"][row])
        units.append(Unit(name, (name,), content(parts), pixels, extra))
    return units


def _ragged(table: dict[str, np.ndarray], name: str, row: int) -> np.ndarray:
    start, stop = table[f"{name}_offsets"][row : row + 2]
    return table[name][start:stop]
