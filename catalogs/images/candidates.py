"""The table of candidates of all difference images, and the objects that they are detections of.

A detection run is a store with one frame per difference image: the columns of its candidates and their
cutouts. Beside it, ``catalogue`` holds all of them in the order of the sky, linked across exposures.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs.images.current import run_folder
from skytrawl.catalogs.images.frame import Frame
from skytrawl.catalogs.images.store import FrameStore
from skytrawl.errors import NotAnArchiveError

if TYPE_CHECKING:
    import xarray as xr

FOLDER = "catalogue"
KIND = "candidate catalogue"
CUTOUTS = ("science", "reference", "difference")
# Columns beside those of kernels.detect: (unit, meaning).
COLUMNS: dict[str, tuple[str, str]] = {
    "exposure": ("", "frame of the exposure, and of its difference image"),
    "row": ("", "row within that frame, where the cutouts lie"),
    "band": ("", "filter"),
    "mjd": ("d", "middle of the exposure, MJD in UTC"),
    "ra": ("deg", "ICRS"),
    "dec": ("deg", "ICRS"),
    "healpix": ("", "cell, nested, order 29"),
    "flux_njy": ("nJy", "PSF flux of the difference, signed"),
    "flux_njy_error": ("nJy", "its standard error"),
    "object": ("", "number of the object that it is a detection of; row of the objects"),
}


def gather(store: FrameStore, radius: float) -> dict[str, dict[str, np.ndarray]]:
    """All candidates of a detection run, linked by position.

    Parameters
    ----------
    store : FrameStore
        Of the run, at a published version.
    radius : float, arcsec
        Detections within it of an object's position are its own.

    Returns
    -------
    dict
        ``candidates``: columns in the order of HEALPix cell, exposure and row; ``objects``: those of
        :class:`skytrawl.kernels.detect.link.Links`, and the brightest detection of each (``best``).
    """
    from skytrawl.kernels.detect.link import link

    parts: list[dict[str, np.ndarray]] = []
    names = [n.decode() for n in store.table["id"].tolist()]
    counts = store.table.get("n_candidates", np.zeros(len(names)))
    for name, count in zip(names, counts, strict=True):
        if not np.isfinite(count) or count < 1:
            continue
        record = store.record(name)
        frame = store.read(name, [a for a in record["arrays"] if a not in ("cutouts", "cutout_mask")])
        n = len(frame.arrays["x"])
        part = {**frame.arrays, "exposure": np.full(n, name.encode()), "row": np.arange(n)}
        part |= {"band": np.full(n, frame.row["band"].encode()), "mjd": np.full(n, float(frame.row["mjd"]))}
        parts.append(part)
    if not parts:
        return {"candidates": {}, "objects": {}}
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((columns["row"], columns["exposure"], columns["healpix"]))
    columns = {name: values[order] for name, values in columns.items()}
    links = link(columns["ra"], columns["dec"], columns["mjd"], radius)
    columns["object"] = links.object
    objects = {name: np.asarray(values) for name, values in links._asdict().items() if name != "object"}
    objects["best"] = _best(links.object, np.abs(columns["snr"]), len(links.ra))
    return {"candidates": columns, "objects": objects}


def write_catalogue(store: FrameStore, tables: dict[str, dict[str, np.ndarray]]) -> None:
    """Put the tables of `gather` beside the frames of the run."""
    out = FrameStore.create(store.path / FOLDER, KIND)
    for name, columns in tables.items():
        dims: dict[str, tuple[str, ...]] = dict.fromkeys(columns, (name[:-1],))
        out.write(Frame(name, columns, {"of_version": store.version}, {"n": _length(columns)}, dims))
    out.publish(sorted(tables))


def open_candidates(path: str | Path) -> dict[str, xr.Dataset]:
    """Candidates and objects of a detection run as xarray datasets.

    Parameters
    ----------
    path : path
        What `skytrawl run detect` wrote.

    Returns
    -------
    dict
        ``candidates`` with dim "candidate", ``objects`` with dim "object"; every variable has its units.

    Raises
    ------
    NotAnArchiveError
        If there is no catalogue.
    """
    import xarray as xr

    from skytrawl.kernels.detect.types import COLUMNS as DETECTED

    units: dict[str, tuple[str, str]] = {n: (unit, text) for n, (_, unit, text) in DETECTED.items()}
    found = {}
    for name, columns in read_catalogue(path).items():
        dim = name[:-1]
        data: dict[str, Any] = {}
        for column, values in columns.items():
            unit, text = COLUMNS.get(column) or units.get(column) or _OBJECTS.get(column) or ("", "")
            data[column] = (dim, values, {"units": unit, "long_name": text})
        found[name] = xr.Dataset(data)
    return found


def read_catalogue(path: str | Path) -> dict[str, dict[str, np.ndarray]]:
    """The columns of candidates and objects of a detection run."""
    folder = run_folder(path) / FOLDER
    if not (folder / "zarr.json").is_file():
        raise NotAnArchiveError(f"{path} holds no candidates: make them with `skytrawl run detect`")
    store = FrameStore.open(folder)
    return {name: store.read(name).arrays for name in store.ids}


_OBJECTS = {
    "n": ("", "detections"),
    "n_epochs": ("", "different times among them"),
    "first": ("d", "earliest, MJD in UTC"),
    "last": ("d", "latest, MJD in UTC"),
    "scatter": ("arcsec", "root mean square distance of the detections from the position"),
    "best": ("", "row of its detection with the largest |snr|"),
}


def _best(number: np.ndarray, snr: np.ndarray, n: int) -> np.ndarray:
    order = np.lexsort((-snr, number))
    linked = order[number[order] >= 0]
    first = np.unique(number[linked], return_index=True)[1]
    best = np.full(n, -1, np.int64)
    best[number[linked[first]]] = linked[first]
    return best


def _length(columns: dict[str, np.ndarray]) -> int:
    return len(next(iter(columns.values()))) if columns else 0
