"""Seven microlensing events, five observed and two simulated, as fluxes by telescope."""

import csv
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skytrawl.errors import ParameterError

# Magnitude of one unit of flux, where the files have magnitudes.
ZERO_POINT = 22.0
FILES = ("microlensing_magnitudes.csv.gz", "microlensing_fluxes.csv.gz")
EVENTS = {
    "OGLE-2003-BLG-235": "first planet found by microlensing (Bond et al. 2004); OGLE and MOA",
    "OGLE-2005-BLG-086": "single lens with parallax, nine years (Wyrzykowski et al. 2015); OGLE",
    "OGLE-2008-BLG-092": "bump of a wide companion, two years after the event (Poleski et al. 2014); OGLE",
    "OGLE-2014-BLG-0939": "single lens (Yee et al. 2015); OGLE",
    "OGLE-2016-BLG-1195": "planet of an ultracool dwarf (Shvartzvald et al. 2017); KMTNet, two telescopes",
    "WFIRST_1827": "simulated planetary event, two seasons",
    "roman_sim_0000": "simulated Roman event with a weak anomaly, six seasons",
}


class LightCurve(NamedTuple):
    """Rows of one event, by telescope, then time.

    Attributes
    ----------
    time : float64[n], days
        HJD, BJD or JD less 2450000, as the source has it.
    flux, flux_err : float64[n]
        In units of 22 mag (OGLE, KMTNet, WFIRST_1827), counts (MOA), or the simulation's own unit
        (roman_sim_0000).
    dataset : str[n]
        Telescope and filter.
    """

    time: np.ndarray
    flux: np.ndarray
    flux_err: np.ndarray
    dataset: np.ndarray


@dataclass(frozen=True)
class Microlensing:
    """The bundled events: a table to ingest, and each of them as arrays.

    Attributes
    ----------
    table : dict of str to array of shape (n_rows,)
        object, time (d), flux, flux_err, band.
    options : dict
        Keyword arguments of :func:`skytrawl.ingest`.
    events : mapping of str to str
        Name to what it is.

    Examples
    --------
    >>> import skytrawl
    >>> events = microlensing_events()
    >>> report = skytrawl.ingest(events.table, "events.zarr", **events.options)  # doctest: +SKIP
    >>> time, flux, flux_err, dataset = events["OGLE-2016-BLG-1195"]
    >>> [str(name) for name in np.unique(dataset)]
    ['KMTC_I', 'KMTS_I']
    """

    table: dict[str, np.ndarray]
    options: dict[str, Any]
    events: Mapping[str, str]

    def __getitem__(self, name: str) -> LightCurve:
        """One event by name.

        Raises
        ------
        ParameterError
            If there is none of that name.
        """
        if name not in self.events:
            raise ParameterError(f"no bundled event {name!r}: take one of {', '.join(self.events)}")
        mine = self.table["object"] == name
        return LightCurve(*(self.table[key][mine] for key in ("time", "flux", "flux_err", "band")))


def microlensing_events() -> Microlensing:
    """Seven microlensing events in fluxes; SOURCES.md names their origin and licence.

    Magnitudes m with error s become fluxes F = 10^(-0.4 (m - 22)) with error F s ln(10) / 2.5 (first order).
    Difference fluxes, total fluxes and units of several telescopes stand side by side: scans and lens fits
    give each telescope its own source and blend flux.

    Returns
    -------
    Microlensing
    """
    table = {name: column.copy() for name, column in _table().items()}
    survey = Path(str(resources.files("skytrawl.catalogs.samples").joinpath("microlensing.toml")))
    options = {"survey": survey, "columns": {"value": "flux", "error": "flux_err"}}
    return Microlensing(table, options, EVENTS)


@cache
def _table() -> dict[str, np.ndarray]:
    rows: list[tuple[str, str, float, float, float]] = []
    for file in FILES:
        path = resources.files("skytrawl.catalogs.samples").joinpath(file)
        with path.open("rb") as packed, gzip.open(packed, "rt", encoding="ascii") as text:
            lines = csv.reader(text)
            magnitudes = next(lines)[3] == "mag"
            for name, band, time, value, error in lines:
                flux, flux_err = float(value), float(error)
                if magnitudes:
                    flux = 10.0 ** (-0.4 * (flux - ZERO_POINT))
                    flux_err *= flux * np.log(10.0) / 2.5
                rows.append((name, band, float(time), flux, flux_err))
    columns = dict(zip(("object", "band", "time", "flux", "flux_err"), zip(*rows, strict=True), strict=True))
    order = np.lexsort((columns["time"], columns["band"], columns["object"]))
    return {name: np.array(column)[order] for name, column in columns.items()}
