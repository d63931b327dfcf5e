"""Forced photometry as an archive of light curves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
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
# What values and times of the light curves mean.
_CONVENTIONS: dict[str, Any] = {
    "quantity": "flux",
    "units": "nJy",
    "zero_point": AB_NANOJANSKY,
    "time_format": "mjd",
    "time_scale": "utc",
    "reference_position": "topocenter",
    "exposure_point": "middle",
}
_DELIVERED = "light_curves.json"  # in a run: what of it stands in which archive


def write_light_curves(store: FrameStore, path: Path, positions: dict[str, Any], photometry: str) -> None:
    """Make an archive of the forced photometry of a run, or append what it does not hold.

    Values are nJy (AB zero point 31.4), times the middle of the exposures in MJD UTC at the observatory.
    Fluxes on unusable pixels are left out; those of undetected sources are not. The run remembers what it
    has delivered: exposures that came since are appended, and none is delivered twice.

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
        If the archive holds light curves of another kind, or fluxes that this run does not have.
    """
    from skytrawl.catalogs.archive import Archive
    from skytrawl.catalogs.storage import Storage
    from skytrawl.catalogs.versions import list_versions
    from skytrawl.intake.driver import append, ingest

    kind = "total" if photometry == "total" else "forced difference"
    frames = _contents(store)
    # A first ingest that was killed has published nothing: it is begun anew.
    if not list_versions(Storage(path)):
        tables = list(_tables(store, frames, positions, photometry))
        if not tables:
            raise ImageError(
                f"no position has a usable flux in {store.path}: nothing to make light curves of"
            )
        _note(store, path, frames, "")
        roles = {name: name for name in ("object", "time", "value", "error", "band", "ra", "dec", "quality")}
        ingest(
            tables,
            path,
            survey=_survey(store),
            columns=roles,
            photometry=kind,
            restart=True,
            **_CONVENTIONS,
        )
    else:
        archive = Archive.open(path)
        held = archive.attrs["light_curves"]
        if (held["photometry"], held["units"]) != (kind, "nJy"):
            raise ArchiveMismatchError(
                f"{path} holds {held['photometry']} photometry in {held['units']}, not {kind} in nJy: choose "
                "another path for the light curves"
            )
        new = _not_delivered(store, path, frames, archive.fingerprint)
        tables = list(_tables(store, new, positions, photometry))
        if tables:
            _note(store, path, frames, "")
            append(tables, path)
    _note(store, path, frames, Archive.open(path).fingerprint)


def _contents(store: FrameStore) -> dict[str, str]:
    """Hash of the fluxes of each frame that has some."""
    table = store.table
    return {
        name.decode(): content.decode()
        for name, content, verdict in zip(table["id"], table["content"], table["verdict"], strict=True)
        if verdict != b"refused"
    }


def _note(store: FrameStore, path: Path, frames: dict[str, str], archive: str) -> None:
    """Remember which frames an archive holds; without its fingerprint, those it is about to hold."""
    noted = _noted(store)
    noted[str(path.absolute())] = {"archive": archive, "frames": frames}
    store.storage.replace(_DELIVERED, json.dumps(noted, indent=1).encode())


def _noted(store: FrameStore) -> dict[str, Any]:
    try:
        noted: dict[str, Any] = json.loads(store.storage.read(_DELIVERED))
    except FileNotFoundError:
        return {}
    return noted


def _not_delivered(store: FrameStore, path: Path, frames: dict[str, str], archive: str) -> list[str]:
    """Frames that an archive does not hold for certain.

    Raises
    ------
    ArchiveMismatchError
        If it holds fluxes of other positions, references or exposures: appended to those, the ones of this
        run would give an object two fluxes at one time.
    """
    noted = _noted(store).get(str(path.absolute()))
    remedy = (
        "Appending would give objects two fluxes at one time. Choose another path for the light curves "
        "(light_curves, --light-curves), or remove that archive to have it made anew"
    )
    if noted is None or noted["archive"] not in ("", archive):
        raise ArchiveMismatchError(f"{path} holds light curves that {store.path} has not written. {remedy}")
    other = [name for name, content in noted["frames"].items() if frames.get(name) != content]
    if other:
        raise ArchiveMismatchError(
            f"{path} holds fluxes of {len(other)} images that have been measured anew since, such as "
            f"{other[0]}. {remedy}"
        )
    # Whether a delivery that was cut short is there is not known; rows that are, are not taken twice.
    return [name for name in frames if noted["archive"] == "" or name not in noted["frames"]]


def _tables(
    store: FrameStore, names: Iterable[str], positions: dict[str, Any], photometry: str
) -> Iterator[dict[str, np.ndarray]]:
    parts: list[dict[str, np.ndarray]] = []
    rows = 0
    for name in names:
        frame = store.read(name)
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
        photometry="forced difference",
        magnitude_system="AB",
        **_CONVENTIONS,
    )
