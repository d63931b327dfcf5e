"""Build a reference exactly as soraisam2020 does, from the light curves of an archive."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs import soraisam2020
from skytrawl.catalogs.archive import archive_of
from skytrawl.catalogs.soraisam2020 import Rule
from skytrawl.dmdt_common import (
    Cuts,
    Keys,
    key_codes,
    keys_of,
    magnitude_system,
    needs,
    photometry_of,
    usable,
)
from skytrawl.errors import IngestError, ObjectNotFoundError
from skytrawl.kernels import dmdt

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

    from skytrawl.catalogs.archive import Archive


def build_reference(
    archive: Archive | str | Path | xr.DataTree,
    *,
    keys: Keys = (),
    objects: Iterable[str | int] | None = None,
    cuts: Cuts | None = None,
    binning: Rule = "numpy-2.4",
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """Pool the pairs of the objects and bin each key by the original's rule.

    The rule needs all pairs at once: memory grows with their number, and the result cannot be merged.
    Meant for parity, and for references that the original is to read.

    Parameters
    ----------
    archive : Archive, path or DataTree
    keys : text or sequence of keys
        Bands and colour keys, see :func:`skytrawl.catalogs.band_keys.parse_keys`; none = all of the archive.
        A key without pairs is left out, as in the original.
    objects : iterable of ids, optional
        The only objects to pool.
    cuts : Cuts, optional
        Default: detections, without cuts on magnitude and error.
    binning : {"numpy-2.4", "numpy-1.26"}
        Which version of NumPy's "auto" bins.
    progress : callable, optional
        Called with partitions done and their number.

    Returns
    -------
    xarray.Dataset
        Reference of kind "soraisam2020", see :mod:`skytrawl.catalogs.soraisam2020`.

    Raises
    ------
    IngestError
        If no key has a pair.
    ObjectNotFoundError
        If the archive lacks some of `objects`.
    """
    cuts = cuts or Cuts()
    archive = archive_of(archive)
    pairs = keys_of(keys, archive)
    codes = key_codes(pairs, archive.bands)
    zero_point = magnitude_system(archive)["flux_zero_point"]
    names = (*needs(cuts, archive), "objects/object_id")
    wanted = None if objects is None else _ids(archive, objects)
    missing = np.zeros(0, bytes) if wanted is None else wanted
    pool: dict[tuple[int, int], list[Any]] = {code: [] for code in codes}
    for partition in range(archive.n_partitions):
        block = archive.read(partition, names)
        rows = usable(block, cuts, zero_point)
        chosen = np.arange(block.n_objects)
        if wanted is not None:
            chosen = np.flatnonzero(np.isin(block.objects["object_id"], wanted))
            missing = np.setdiff1d(missing, block.objects["object_id"])
        for index in chosen:
            found = dmdt.pairs(rows.lightcurves, codes, dmdt.SORAISAM2020_RULES, index=int(index))
            for code, arrays in found.items():
                pool[code].append((arrays["log_dt"], arrays["dm"]))
        if progress is not None:
            progress(partition + 1, archive.n_partitions)
    if len(missing):
        raise ObjectNotFoundError(
            f"{archive.path} lacks {len(missing)} of the objects, such as {missing[0]!r}"
        )
    distributions = {}
    for pair, code in zip(pairs, codes, strict=True):
        log_dt, dm = (np.concatenate([np.zeros(0), *(part[i] for part in pool[code])]) for i in (0, 1))
        if len(log_dt):
            distributions[pair] = soraisam2020.key_distribution(log_dt, dm, binning)
    if not distributions:
        raise IngestError(f"{archive.path}: no pair in the keys and objects asked for")
    source = {
        "archive_id": archive.archive_id,
        "archive_path": str(archive.path),
        "archive_fingerprint": archive.fingerprint,
    }
    facts = {
        **photometry_of(archive),
        "cuts": cuts.resolved(),
        "binning": binning,
        "rules": "soraisam2020",
        "sources": [source],
    }
    return soraisam2020.make(distributions, facts)


def _ids(archive: Archive, objects: Iterable[str | int]) -> np.ndarray:
    if archive.array("objects/object_id").dtype.kind == "S":
        return np.array([str(name).encode() for name in objects])
    return np.array([int(name) for name in objects], np.uint64)
