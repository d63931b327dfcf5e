"""References as soraisam2020 makes them: bins that follow the data, a JSON file a key.

The rule (its gen_pdfs program): all pairs of a key are put in dt bins of ``numpy.histogram(bins="auto")``
in log10 dt; bins are joined to the right until each holds at least 100 pairs (the last one may hold
fewer); inside each row dm gets its own "auto" bins and a probability density, with 1e-30 in empty bins.
NumPy changed "auto" between 1.26 and 2.4, therefore both rules stand here in words of their own. Such
references cannot be added: the bins need all pairs at once.

File ``<key>_logdt_dm.json``: ``log_dt_bin_edges`` [n + 1] (log10 d) and, for each row "1" to "n",
``dm_bin_edges`` (mag) and ``dm_hist`` (1/mag).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from skytrawl.catalogs.band_keys import key_label, parse_key
from skytrawl.errors import IngestError, ParameterError, ReferenceExistsError, ReferenceMismatchError
from skytrawl.kernels.dmdt import KeyTable, soraisam2020_table

if TYPE_CHECKING:
    import xarray as xr

Rule = Literal["numpy-2.4", "numpy-1.26"]
Floats = NDArray[np.float64]
RULES: tuple[Rule, ...] = ("numpy-2.4", "numpy-1.26")
SUFFIX = "_logdt_dm.json"
EMPTY = 1e-30
MIN_PAIRS = 100


def auto_edges(values: Floats, rule: Rule = "numpy-2.4") -> Floats:
    """Edges of ``numpy.histogram(values, bins="auto")``, whatever NumPy is installed.

    The width is the smaller of Sturges' ``ptp / (log2 n + 1)`` and Freedman and Diaconis' ``2 IQR /
    n^(1/3)``. With an IQR of zero "numpy-1.26" takes Sturges alone; "numpy-2.4" never lets the second
    fall below half of ``ptp / sqrt n``.

    Parameters
    ----------
    values : float64[n], finite, n >= 1
    rule : {"numpy-2.4", "numpy-1.26"}

    Returns
    -------
    float64[n_bins + 1]
    """
    if rule not in RULES:
        raise ParameterError(f"binning rule {rule!r} is unknown: choose one of {', '.join(RULES)}")
    if not len(values) or not np.isfinite(values).all():
        raise ParameterError("bins need at least one value, and finite ones")
    low, high = float(values.min()), float(values.max())
    if low == high:
        return np.array([low - 0.5, high + 0.5])
    span = high - low
    sturges = span / (np.log2(values.size) + 1.0)
    quartiles = np.percentile(values, [75, 25])
    width = 2.0 * (quartiles[0] - quartiles[1]) * values.size ** (-1.0 / 3.0)
    if rule == "numpy-2.4":
        width = max(width, span / np.sqrt(values.size) / 2.0)
    width = min(width, sturges) if width > 0 else sturges
    return np.linspace(low, high, int(np.ceil(span / width)) + 1)


def joined_edges(edges: Floats, counts: NDArray[np.integer], least: int = MIN_PAIRS) -> Floats:
    """Edges of bins joined to the right until each holds `least` pairs; the last one may hold fewer."""
    kept = [edges[0]]
    held = 0
    for number, right in zip(counts, edges[1:], strict=True):
        held += int(number)
        if held >= least:
            kept.append(right)
            held = 0
    if kept[-1] != edges[-1]:
        kept.append(edges[-1])
    return np.array(kept)


def key_distribution(log_dt: Floats, dm: Floats, rule: Rule = "numpy-2.4") -> dict[str, Any]:
    """Distribution of one key from all its pairs, as the JSON file has it (lists replaced by arrays)."""
    edges = auto_edges(log_dt, rule)
    rows = joined_edges(edges, np.histogram(log_dt, edges)[0])
    row = np.clip(np.searchsorted(rows, log_dt, "right"), 1, len(rows) - 1)
    result: dict[str, Any] = {"log_dt_bin_edges": rows}
    for k in range(1, len(rows)):
        mine = dm[row == k]
        dm_edges = auto_edges(mine, rule)
        density, _ = np.histogram(mine, dm_edges, density=True)
        result[str(k)] = {"dm_hist": np.where(density == 0, EMPTY, density), "dm_bin_edges": dm_edges}
    return result


def make(
    distributions: Mapping[tuple[str, str], Mapping[str, Any]], facts: Mapping[str, Any] | None = None
) -> xr.Dataset:
    """Reference of kind "soraisam2020" from one distribution a key.

    Parameters
    ----------
    distributions : mapping
        Band pair -> what `key_distribution` returns or a JSON file holds.
    facts : mapping, optional
        survey, quantity, photometry, units, cuts, sources, binning: plain values; "unknown" where left out.

    Returns
    -------
    xarray.Dataset
        Ragged: key k has n_rows[k] rows and n_rows[k] + 1 ``log_dt_edges``; row r has n_cells[r] cells.
    """
    import xarray as xr

    rows: list[Floats] = []
    edges: list[Floats] = []
    density: list[Floats] = []
    for pair, content in distributions.items():
        label = key_label(pair)
        try:
            rows.append(np.asarray(content["log_dt_bin_edges"], dtype=np.float64))
            for k in range(1, len(rows[-1])):
                edges.append(np.asarray(content[str(k)]["dm_bin_edges"], dtype=np.float64))
                density.append(np.asarray(content[str(k)]["dm_hist"], dtype=np.float64))
                if len(edges[-1]) != len(density[-1]) + 1 or not (np.diff(edges[-1]) > 0).all():
                    raise ValueError(f"row {k}: dm_bin_edges must ascend and number one more than dm_hist")
                if not (density[-1] > 0).all():
                    raise ValueError(f"row {k}: dm_hist must be positive, 1e-30 where empty")
            if len(rows[-1]) < 2 or not (np.diff(rows[-1]) > 0).all():
                raise ValueError("log_dt_bin_edges must ascend and be two at least")
            if len(content) != len(rows[-1]):
                raise ValueError(f"{len(content) - 1} rows, and edges of {len(rows[-1]) - 1}")
        except (KeyError, TypeError, ValueError) as error:
            raise IngestError(f"distribution of key {label}: {error}") from error
    if not distributions:
        raise IngestError("a reference needs the distribution of at least one key")
    bands = list(dict.fromkeys(band for pair in distributions for band in pair))
    unknown = dict.fromkeys(("survey", "quantity", "photometry", "units"), "unknown")
    words = {
        **unknown,
        "sources": [],
        **(facts or {}),
        "format": 1,
        "kind": "soraisam2020",
        "keys": [list(pair) for pair in distributions],
        "bands": bands,
        "classes": [""],
    }
    data = xr.Dataset(
        {
            "n_rows": ("key_index", np.array([len(r) - 1 for r in rows])),
            "n_cells": ("row", np.array([len(d) for d in density])),
            "log_dt_edges": ("row_edge", np.concatenate(rows), {"long_name": "edges in log10(dt / d)"}),
            "dm_edges": ("cell_edge", np.concatenate(edges), {"long_name": "edges of dm", "units": "mag"}),
            "dm_hist": ("cell", np.concatenate(density), {"long_name": "P(dm|dt)", "units": "1/mag"}),
        }
    )
    data.attrs["skytrawl"] = json.loads(json.dumps(words))
    return data


def distributions_of(reference: xr.Dataset) -> dict[tuple[str, str], dict[str, Any]]:
    """The distribution of each key: the inverse of `make`."""
    facts = reference.attrs["skytrawl"]
    if facts["kind"] != "soraisam2020":
        raise ReferenceMismatchError(
            "this reference is a count tensor, not of kind soraisam2020: rebuild one with "
            "skytrawl.dmdt_soraisam2020.build_reference"
        )
    result: dict[tuple[str, str], dict[str, Any]] = {}
    cells = reference["n_cells"].values
    row = edge = 0
    starts = np.concatenate(([0], np.cumsum(cells)))
    for (a, b), n in zip(facts["keys"], reference["n_rows"].values, strict=True):
        content: dict[str, Any] = {"log_dt_bin_edges": reference["log_dt_edges"].values[edge : edge + n + 1]}
        for k in range(1, n + 1):
            first, last = starts[row], starts[row + 1]
            content[str(k)] = {
                "dm_bin_edges": reference["dm_edges"].values[first + row : last + row + 1],
                "dm_hist": reference["dm_hist"].values[first:last],
            }
            row += 1
        edge += n + 1
        result[a, b] = content
    return result


def key_tables(reference: xr.Dataset) -> list[KeyTable]:
    """Tables with which the kernels give the original's scores, in the order of the keys."""
    tables = []
    for content in distributions_of(reference).values():
        rows = [content[str(k)] for k in range(1, len(content["log_dt_bin_edges"]))]
        dm_edges = [row["dm_bin_edges"] for row in rows]
        tables.append(
            soraisam2020_table(content["log_dt_bin_edges"], dm_edges, [row["dm_hist"] for row in rows])
        )
    return tables


def import_json(source: str | Path | Iterable[str | Path], bands: Sequence[str], **facts: Any) -> xr.Dataset:
    """Read references of soraisam2020.

    Parameters
    ----------
    source : path or paths
        A folder (all its ``*_logdt_dm.json``), a file, or several files.
    bands : sequence of str
        Bands that the keys in the names of the files are made of.
    **facts
        survey, photometry, quantity, units of the light curves behind them, which the files do not say.
        What is left out is "unknown", and a score against it has to be asked for with allow_mismatch.

    Raises
    ------
    IngestError
        If there is no such file, or one does not have the form.
    """
    if isinstance(source, (str, Path)):
        source = Path(source)
        files = sorted(source.glob(f"*{SUFFIX}")) if source.is_dir() else [source]
    else:
        files = [Path(file) for file in source]
    if not files:
        raise IngestError(f"{source}: no file *{SUFFIX} in this folder")
    distributions = {}
    for file in files:
        if not file.name.endswith(SUFFIX):
            raise IngestError(f"{file}: the name of a reference is <key>{SUFFIX}")
        try:
            content = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise IngestError(f"{file}: {error}") from error
        distributions[parse_key(file.name[: -len(SUFFIX)], bands)] = content
    pairs = sorted(
        distributions, key=lambda pair: (pair[0] != pair[1], bands.index(pair[0]), bands.index(pair[1]))
    )
    sources = [{"files": [file.name for file in files]}]
    return make({pair: distributions[pair] for pair in pairs}, {"sources": sources, **facts})


def export_json(reference: xr.Dataset, folder: str | Path, replace: bool = False) -> list[Path]:
    """Write a reference of kind soraisam2020 as the original's JSON files and return their paths.

    Raises
    ------
    ReferenceExistsError
        If one of the files exists and `replace` is false; nothing is written then.
    """
    folder = Path(folder)
    contents = {folder / f"{key_label(pair)}{SUFFIX}": c for pair, c in distributions_of(reference).items()}
    there = [str(path) for path in contents if path.exists()]
    if there and not replace:
        raise ReferenceExistsError(f"{', '.join(there)} exist: choose another folder, or ask for replace")
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in contents.items():
        path.write_text(json.dumps(content, default=lambda array: array.tolist()))
    return list(contents)
