"""The table of the demonstration: four samples in one, kinds of photometry mixed on purpose."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.readers import csv
from skytrawl.catalogs.readers.table import Options, Piece
from skytrawl.catalogs.rows import KINDS

_ROLES = ("object", "time", "value", "error", "band", "ra", "dec", "sign", "rb", "class", "row_id")
_DEFAULTS: dict[str, Any] = {
    "ra": np.nan,
    "dec": np.nan,
    "sign": b"0",
    "rb": np.nan,
    "class": b"",
    "row_id": b"",
}


@dataclass(frozen=True)
class Demo:
    """A long table in memory, and how to ingest it.

    Attributes
    ----------
    table : dict of str to array of shape (n_rows,)
        object, time (MJD), value (mag), error, band, ra, dec (NaN where unknown), sign, rb, class, row_id.
    options : dict
        Keyword arguments of :func:`skytrawl.ingest`.
    provenance : dict of str to str
        Sample to what was taken from it.
    supernovae : list of str
        Identifiers of the supernovae by name; the first part makes a reference.
    """

    table: dict[str, np.ndarray]
    options: dict[str, Any]
    provenance: dict[str, str]
    supernovae: list[str]


def demo_sources() -> Demo:
    """One table of ZTF supernovae, Stripe 82 RR Lyrae, ZTF alert histories and rare events.

    Difference and total magnitudes stand side by side (the archive says photometry "mixed"), and so do UTC
    and TAI (37 s apart) and r filters of several telescopes: good enough to see which light curves look
    unlike a supernova's, not for a measurement. Only the alert histories have positions.

    Returns
    -------
    Demo

    Examples
    --------
    >>> from skytrawl.intake.driver import ingest
    >>> demo = demo_sources()
    >>> report = ingest(demo.table, "demo.zarr", **demo.options)  # doctest: +SKIP
    """
    magnitudes = {"object": "object", "time": "time", "value": "mag", "error": "magerr", "band": "band"}
    supernovae = _read("ztf_bts_snia", magnitudes)
    supernovae["class"] = np.full(len(supernovae["time"]), b"SN Ia")
    names = np.unique(supernovae["object"])

    stars = _read("sdss_s82_rrlyrae", magnitudes)
    stars = _pick(stars, np.isin(stars["band"], (b"g", b"r", b"i")))
    classes = _read("sdss_s82_rrlyrae_objects", {"object": "object", "class": "class"})
    order = np.argsort(classes["object"])
    place = order[np.searchsorted(classes["object"], stars["object"], sorter=order)]
    stars["class"] = classes["class"][place]
    stars["object"] = np.char.add(b"SDSS-S82-", stars["object"])

    extra = {"ra": "ra", "dec": "dec", "sign": "sign", "rb": "rb", "row_id": "candid"}
    histories = _read("ztf_alert_histories", magnitudes | extra | {"time": "mjd"})
    twice = np.isin(histories["object"], names)
    histories = _pick(histories, ~twice)

    rare = _read("snad_rare_events", magnitudes | {"time": "mjd", "class": "class"})
    parts = [supernovae, stars, histories, rare]
    table = {role: np.concatenate([_column(part, role) for part in parts]) for role in _ROLES}
    return Demo(
        table,
        # Most rows of Gaia16aye come with the error 0, which stands for unknown.
        {"survey": "ztf", "photometry": "mixed", "bands": ("g", "r", "i"), "missing_errors": "keep"},
        {
            "ztf_bts_snia": f"{len(names)} type Ia supernovae, difference magnitudes, no positions, sign "
            "unknown",
            "sdss_s82_rrlyrae": f"{len(np.unique(stars['object']))} RR Lyrae stars, g r i, total "
            "magnitudes, TAI",
            "ztf_alert_histories": (
                f"{len(np.unique(histories['object']))} objects with positions, difference magnitudes and "
                "signs "
                "(objects that are among the supernovae are left out)"
            ),
            "snad_rare_events": f"{len(np.unique(rare['object']))} rare events, r, total magnitudes",
        },
        [name.decode() for name in names],
    )


def _read(name: str, columns: dict[str, str]) -> dict[str, np.ndarray]:
    path = Path(str(resources.files("skytrawl.catalogs.samples").joinpath(f"{name}.csv.gz")))
    kinds = {column: KINDS[role] if KINDS[role] == "number" else "text" for role, column in columns.items()}
    chunks = list(csv.chunks(Piece(path), kinds, Options(use_pyarrow=False)))
    return {
        role: np.concatenate([chunk.columns[column] for chunk in chunks]) for role, column in columns.items()
    }


def _pick(part: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, np.ndarray]:
    return {role: column[mask] for role, column in part.items()}


def _column(part: dict[str, np.ndarray], role: str) -> np.ndarray:
    if role in part:
        return part[role]
    return np.full(len(part["time"]), _DEFAULTS[role])
