"""Positions at which fluxes are measured: a table of one's own, or the objects of a detection run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skytrawl.catalogs.images.candidates import read_catalogue
from skytrawl.errors import ParameterError

_NAMES = ("object", "object_id", "id", "name")


def read_positions(path: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Names (str), right ascensions and declinations (float64, ICRS degrees).

    Parameters
    ----------
    path : path
        CSV, Parquet, FITS or any other table that astropy reads, with columns ra and dec and, if the
        objects have names, object, object_id, id or name; or what `skytrawl run detect` wrote.

    Raises
    ------
    ParameterError
        If there are no such columns, positions are not finite, or names come twice.
    """
    path = Path(path)
    if path.is_dir():
        objects = read_catalogue(path)["objects"]
        n = len(objects.get("ra", ()))
        names = np.array([f"object-{number:07d}" for number in range(n)], np.str_)
        return names, np.asarray(objects.get("ra", ()), float), np.asarray(objects.get("dec", ()), float)
    from astropy.table import Table

    try:
        table = Table.read(path)
    except Exception as error:
        raise ParameterError(f"{path} cannot be read as a table of positions: {error}") from error
    columns = {str(name).lower(): np.asarray(table[name]) for name in table.colnames}
    if "ra" not in columns or "dec" not in columns:
        raise ParameterError(f"{path} has no columns ra and dec; it has {', '.join(table.colnames)}")
    ra, dec = (np.asarray(columns[name], np.float64) for name in ("ra", "dec"))
    wrong = np.flatnonzero(~(np.isfinite(ra) & (np.abs(dec) <= 90)))
    if len(wrong):
        row = int(wrong[0])
        raise ParameterError(f"{path}, row {row + 1}: ra {ra[row]}, dec {dec[row]} is no position in degrees")
    named = next((columns[name] for name in _NAMES if name in columns), np.arange(len(ra)))
    names = np.array([_text(value) for value in named.tolist()], np.str_)
    if len(np.unique(names)) < len(names):
        raise ParameterError(f"{path}: the same name stands for several positions")
    return names, ra, dec


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
