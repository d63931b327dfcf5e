"""Candidates of a detection run by rank, place, object or exposure."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skytrawl.errors import ObjectNotFoundError, ParameterError

SIGNS = {"+": 1, "-": -1}


def find_candidates(
    path: str | Path,
    *,
    top: int | None = None,
    cone: tuple[float, float, float] | None = None,
    object_number: int | None = None,
    exposure: str | None = None,
    sign: str | None = None,
    min_snr: float = 0.0,
) -> dict[str, np.ndarray]:
    """Candidates that meet all conditions: nearest first in a cone, by time for an object, else by |score|.

    Parameters
    ----------
    path : path
        What `skytrawl run detect` wrote.
    top : int, optional
        So many at most.
    cone : (ra, dec, radius), degrees, optional
    object_number : int, optional
        Row of the objects.
    exposure : str, optional
        Name of a frame.
    sign : {"+", "-"}, optional
        Brighter or fainter than the reference.
    min_snr : float
        Least |snr|.

    Returns
    -------
    dict of array
        Columns as in :func:`skytrawl.open_candidates`, ``catalogue_row`` (their row there) and, in a cone,
        ``separation`` [deg]. All of length 0 if nothing meets the conditions; no columns at all if the run
        found nothing.

    Raises
    ------
    ObjectNotFoundError
        If there is no such object or exposure.
    ParameterError
        For a cone, sign or limit that makes no sense.
    """
    from skytrawl.catalogs.images.candidates import read_catalogue
    from skytrawl.catalogs.images.current import open_frames
    from skytrawl.catalogs.sidecars import separation

    if sign is not None and sign not in SIGNS:
        raise ParameterError(f"sign is {sign!r}: give + or -")
    if not min_snr >= 0 or (top is not None and top < 1):
        raise ParameterError("min_snr must not be negative, top is 1 at least")
    tables = read_catalogue(path)
    columns, objects = tables["candidates"], tables["objects"]
    if exposure is not None and exposure not in open_frames(path):
        raise ObjectNotFoundError(f"{path} has no exposure {exposure!r}")
    n_objects = len(objects.get("ra", ()))
    if object_number is not None and not 0 <= object_number < n_objects:
        raise ObjectNotFoundError(f"{path} has no object {object_number}; it has {n_objects}, from 0")
    if not columns:
        return {}
    keep = np.abs(columns["snr"]) >= min_snr
    if sign is not None:
        keep &= columns["sign"] == SIGNS[sign]
    if exposure is not None:
        keep &= columns["exposure"] == exposure.encode()
    if object_number is not None:
        keep &= columns["object"] == object_number
    order = -np.abs(columns["score"]) if object_number is None else columns["mjd"]
    found = {"catalogue_row": np.arange(len(keep)), **columns}
    if cone is not None:
        ra, dec, radius = cone
        if not np.isfinite(cone).all() or abs(dec) > 90 or radius < 0:
            raise ParameterError(f"cone {cone}: need finite degrees, -90 <= dec <= 90 and radius >= 0")
        order = found["separation"] = separation(columns["ra"], columns["dec"], ra, dec)
        keep &= order <= radius
    rows = np.flatnonzero(keep)
    rows = rows[np.argsort(order[rows], kind="stable")][:top]
    return {name: values[rows] for name, values in found.items()}
