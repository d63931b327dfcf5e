"""Forced photometry as an archive of light curves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs.images.columns import AB_NANOJANSKY
from skytrawl.catalogs.surveys import Band, Survey, list_surveys, load_survey
from skytrawl.errors import ArchiveMismatchError, ImageError

if TYPE_CHECKING:
    from skytrawl.catalogs.images.store import FrameStore

# Filters that no survey description names: effective wavelengths of LSST [nm], by their first letter.
_WAVELENGTHS = {"u": 370.9, "g": 476.7, "r": 619.4, "i": 753.9, "z": 866.8, "y": 973.9}
_BATCH = 4_000_000  # rows of a table that is given to the ingest at once


def write_light_curves(store: FrameStore, path: Path, positions: dict[str, Any], photometry: str) -> None:
    """Make an archive of the forced photometry of a run, or append what it does not hold.

    Values are nJy (AB zero point 31.4), times the middle of the exposures in MJD UTC at the observatory.
    Fluxes on unusable pixels are left out; those of undetected sources are not.

    Parameters
    ----------
    store : FrameStore
        Of the run.
    path : Path
        Archive of light curves.
    positions : dict
        names, ra [deg], dec [deg].
    photometry : {"difference", "total"}

    Raises
    ------
    ImageError
        If no position has a usable flux.
    ArchiveMismatchError
        If the archive holds light curves of another kind.
    """
    from skytrawl.catalogs.archive import Archive
    from skytrawl.catalogs.storage import Storage
    from skytrawl.catalogs.versions import list_versions
    from skytrawl.intake.driver import append, ingest

    kind = "total" if photometry == "total" else "forced difference"
    tables = list(_tables(store, positions, photometry))
    if not tables:
        raise ImageError(f"no position has a usable flux in {store.path}: nothing to make light curves of")
    roles = {name: name for name in ("object", "time", "value", "error", "band", "ra", "dec", "quality")}
    # A first ingest that was killed has published nothing: it is begun anew.
    if list_versions(Storage(path)):
        held = Archive.open(path).attrs["light_curves"]
        if (held["photometry"], held["units"]) != (kind, "nJy"):
            raise ArchiveMismatchError(
                f"{path} holds {held['photometry']} photometry in {held['units']}, not {kind} in nJy: choose "
                "another path for the light curves"
            )
        append(tables, path)
        return
    ingest(
        tables,
        path,
        survey=_survey(store),
        columns=roles,
        quantity="flux",
        photometry=kind,
        units="nJy",
        zero_point=AB_NANOJANSKY,
        time_format="mjd",
        time_scale="utc",
        reference_position="topocenter",
        exposure_point="middle",
        restart=True,
    )


def _tables(store: FrameStore, positions: dict[str, Any], photometry: str) -> Iterator[dict[str, np.ndarray]]:
    parts: list[dict[str, np.ndarray]] = []
    rows = 0
    for frame_id in store.ids:
        if store.record(frame_id)["row"]["verdict"] == "refused":
            continue
        frame = store.read(frame_id)
        found = frame.arrays
        use = np.flatnonzero(found["usable"])
        number = found["position"][use]
        value = found["flux"][use]
        if photometry == "total":
            value = value + found["reference_flux"][use]
        parts.append(
            {
                "object": positions["names"][number],
                "time": np.full(len(use), float(frame.row["mjd"])),
                "value": value,
                "error": found["flux_error"][use],
                "band": np.full(len(use), frame.row["band"]),
                "ra": positions["ra"][number],
                "dec": positions["dec"][number],
                "quality": found["flags"][use].astype(np.uint32),
            }
        )
        rows += len(use)
        if rows >= _BATCH:
            yield _joined(parts)
            parts, rows = [], 0
    if rows:
        yield _joined(parts)


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _survey(store: FrameStore) -> Survey:
    """The survey of the exposures if it is described and has their bands, else one made for them."""
    table = store.table
    known = [name.decode() for name in np.unique(table["survey"]) if name]
    bands = [name.decode() for name in np.unique(table["band"]) if name]
    if len(known) == 1 and known[0] in list_surveys():
        found = load_survey(known[0])
        if all(found.band(name) for name in bands):
            return found
    filters = tuple(Band(name, _WAVELENGTHS.get(name[:1].lower(), float("nan"))) for name in bands)
    return Survey(
        name="+".join(known) or "images",
        title="forced photometry on difference images",
        citation="",
        object_id="name",
        bands=filters,
        quantity="flux",
        photometry="forced difference",
        units="nJy",
        magnitude_system="AB",
        zero_point=AB_NANOJANSKY,
        time_format="mjd",
        time_scale="utc",
        reference_position="topocenter",
        exposure_point="middle",
    )
