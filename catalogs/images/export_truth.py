"""Truth labels of candidates: what kind of source lies behind each, how bright, how well it could be seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from skytrawl.catalogs.simulate_images.completeness import match
from skytrawl.catalogs.simulate_images.truth import read_truth
from skytrawl.errors import ParameterError

Columns = dict[str, np.ndarray]
RADIUS = 3.0  # pixels
# Column of labels -> (unit, meaning).
LABELS: dict[str, tuple[str, str]] = {
    "truth_id": ("", "number of the true source on the same place of the same exposure; -1 without one"),
    "truth_type": ("", "what it is; empty without one"),
    "truth_flux": ("nJy", "its total flux at that time"),
    "truth_quiescent": ("nJy", "its flux when nothing happens"),
    "truth_confidence": ("", "share of the PSF's weight on pixels that are inside and not masked"),
    "truth_distance": ("pixel", "from the candidate to where its light falls"),
}
_NEEDED = ("exposure", "x", "y", "type", "flux", "confidence")


def truth_of(truth: str | Path | Mapping[str, np.ndarray], exposures: list[str]) -> Columns:
    """Truth rows of some exposures.

    Parameters
    ----------
    truth : path or mapping of arrays
        Folder of simulated or injected exposures, or a table as
        :data:`skytrawl.catalogs.simulate_images.truth.TRUTH` says.
    exposures : list of str
        Ids of frames.

    Raises
    ------
    ParameterError
        If columns are missing, or the table knows none of the exposures.
    NotAnArchiveError
        If the folder holds no truth table.
    """
    whole = dict(truth) if isinstance(truth, Mapping) else read_truth(truth)
    missing = [name for name in _NEEDED if name not in whole]
    if missing:
        raise ParameterError(f"the truth table lacks {', '.join(missing)}; it has {', '.join(whole)}")
    columns = {name: np.asarray(values) for name, values in whole.items()}
    columns |= {name: _bytes(columns[name]) for name in ("exposure", "type")}
    wanted = np.isin(columns["exposure"], np.array([name.encode() for name in exposures] or [b""]))
    if not wanted.any() and exposures:
        known = sorted({name.decode() for name in columns["exposure"].tolist()})
        raise ParameterError(
            f"the truth table knows none of the frames: it is about {', '.join(known[:2]) or 'nothing'} ..., "
            f"the frames are {', '.join(exposures[:2])} ..."
        )
    return {name: values[wanted] for name, values in columns.items()}


def labelled(truth: Columns, candidates: Mapping[str, np.ndarray], radius: float) -> tuple[Columns, Columns]:
    """Labels of candidates, and the truth table with the candidate of each source.

    Sources and candidates are paired by :func:`skytrawl.catalogs.simulate_images.completeness.match`: nearest
    first, on the same exposure, each at most once.

    Parameters
    ----------
    truth : dict of arrays
        As `truth_of` gives it.
    candidates : mapping of arrays
        exposure, x, y.
    radius : float, pixel

    Returns
    -------
    labels : dict of arrays of shape (candidates,)
        Columns of `LABELS`.
    truth : dict of arrays
        With the column ``candidate``: row of the candidate, -1 where the source was not found.
    """
    if not radius > 0:
        raise ParameterError(f"the radius of truth labels is {radius:g} pixels: give a positive one")
    n = len(candidates["x"])
    partner = match(truth, candidates, radius) if n else np.full(len(truth["x"]), -1, np.int64)
    found = np.flatnonzero(partner >= 0)
    rows = partner[found]
    labels: Columns = {"truth_id": np.full(n, -1, np.int64), "truth_type": np.zeros(n, truth["type"].dtype)}
    labels["truth_id"][rows] = truth["id"][found] if "id" in truth else found
    labels["truth_type"][rows] = truth["type"][found]
    for name in ("flux", "quiescent", "confidence"):
        if name in truth:
            labels[f"truth_{name}"] = np.full(n, np.nan)
            labels[f"truth_{name}"][rows] = truth[name][found]
    labels["truth_distance"] = np.full(n, np.nan)
    labels["truth_distance"][rows] = np.hypot(
        truth["x"][found] - np.asarray(candidates["x"])[rows],
        truth["y"][found] - np.asarray(candidates["y"])[rows],
    )
    return labels, {**truth, "candidate": partner}


def _bytes(values: np.ndarray) -> np.ndarray:
    return values if values.dtype.kind == "S" else np.char.encode(values.astype(np.str_), "utf-8")
