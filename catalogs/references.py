"""The store of dm-dt references: counts that add up, with the grid, the rules and where they came from.

A reference is an ``xarray.Dataset`` of integers on a fixed grid, so that references of disjoint sets of
objects can be merged and subtracted exactly:

- ``counts`` (class, key, dt, dm): pairs in each cell; ``below``, ``above`` (class, key, dt): pairs beyond
  the dm range;
- ``objects`` (class, key, dt): objects with a pair in the row; ``n_objects`` (class): objects that were
  counted;
- ``sample_*``: the sparse counts of the objects with the smallest hashes of their ids, at most
  `sample_size` a class: a random sample that merges exactly, for scores of reference objects without
  their own counts (`tail`).

Attributes say survey, bands, photometry kind, units, pair rules, cuts, grid and sources. An imported or
rebuilt reference of soraisam2020 is another kind: see :mod:`skytrawl.catalogs.soraisam2020`.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs.band_keys import key_label
from skytrawl.catalogs.reference_model import Counts
from skytrawl.catalogs.reference_sample import (
    SAMPLE,
    limits_of,
    names_of,
    sampled,
    shared,
    smallest_hashes,
    within,
)
from skytrawl.catalogs.versions import content_hash
from skytrawl.errors import NotAnArchiveError, ReferenceExistsError, ReferenceMismatchError
from skytrawl.kernels.dmdt import Axis, Grid

if TYPE_CHECKING:
    import xarray as xr

FORMAT = 1
# What two references must share to be added.
_SAME = (
    "kind",
    "keys",
    "bands",
    "survey",
    "quantity",
    "photometry",
    "units",
    "rules",
    "cuts",
    "grid",
    "classes",
)
_FIXED = ("counts", "below", "above", "objects", "n_objects")
_WORDS = {
    "counts": ("pairs in the cell", "1"),
    "below": ("pairs below the dm range", "1"),
    "above": ("pairs above the dm range", "1"),
    "objects": ("objects with a pair in the row", "1"),
    "n_objects": ("objects that were counted", "1"),
    "sample_class": ("class of a sample object", "1"),
    "sample_hash": ("hash of the id of a sample object", "1"),
    "sample_cells": ("entries of a sample object", "1"),
    "sample_cell": ("flat cell in (key, dt, dm + 2)", "1"),
    "sample_count": ("pairs of a sample object in the cell", "1"),
}


def make_reference(state: Mapping[str, np.ndarray], grid: Grid, attrs: Mapping[str, Any]) -> xr.Dataset:
    """Make a reference from counted arrays.

    Parameters
    ----------
    state : mapping
        ``counts`` int64[class, key, dt, dm + 2] (with the pairs beyond the dm range at the ends), ``objects``
        int64[class, key, dt], ``n_objects`` int64[class] and the arrays ``sample_*``.
    grid : Grid
    attrs : mapping
        keys (list of band pairs), classes (list of str, "" = every class), bands, survey, quantity,
        photometry, units, rules, cuts, sources, sample_size: plain values.

    Returns
    -------
    xarray.Dataset
    """
    counts = state["counts"]
    arrays = {
        "counts": counts[..., 1:-1],
        "below": counts[..., 0],
        "above": counts[..., -1],
        **{name: state[name] for name in ("objects", "n_objects", *SAMPLE)},
    }
    words = {
        "grid": {
            "name": grid.name,
            "version": grid.version,
            "closed_last": [grid.dt.closed_last, grid.dm.closed_last],
        }
    }
    return _dataset(arrays, grid.dt.edges, grid.dm.edges, {**attrs, **words, "kind": "counts"})


def _dataset(
    arrays: Mapping[str, np.ndarray], dt_edges: np.ndarray, dm_edges: np.ndarray, attrs: Mapping[str, Any]
) -> xr.Dataset:
    import xarray as xr

    dims = {
        "counts": ("class", "key", "dt", "dm"),
        "below": ("class", "key", "dt"),
        "above": ("class", "key", "dt"),
        "objects": ("class", "key", "dt"),
        "n_objects": ("class",),
        "sample_class": ("sample",),
        "sample_hash": ("sample",),
        "sample_cells": ("sample",),
        "sample_cell": ("entry",),
        "sample_count": ("entry",),
    }
    data = xr.Dataset(
        {
            name: (
                dims[name],
                np.asarray(arrays[name]),
                dict(zip(("long_name", "units"), _WORDS[name], strict=True)),
            )
            for name in dims
        }
    )
    data["dt_edges"] = ("dt_edge", np.asarray(dt_edges), {"long_name": "edges of the dt rows", "units": "d"})
    words = {"long_name": "edges of the dm cells", "units": str(attrs.get("units", "mag"))}
    data["dm_edges"] = ("dm_edge", np.asarray(dm_edges), words)
    data.attrs["skytrawl"] = {"format": FORMAT, **json.loads(json.dumps(dict(attrs)))}
    return labelled(data)


def labelled(data: xr.Dataset) -> xr.Dataset:
    """Add the labels of keys and classes, which live in the attributes on disk."""
    facts = data.attrs["skytrawl"]
    if facts["kind"] != "counts":
        return data
    labels = [key_label((a, b)) for a, b in facts["keys"]]
    return data.assign_coords({"key": labels, "class": list(facts["classes"])})


def grid_of(reference: xr.Dataset) -> Grid:
    """The grid of a reference."""
    words = reference.attrs["skytrawl"]["grid"]
    closed_dt, closed_dm = words["closed_last"]
    return Grid(
        Axis.from_edges(reference["dt_edges"].values, closed_dt),
        Axis.from_edges(reference["dm_edges"].values, closed_dm),
        words["name"],
        words["version"],
    )


def fingerprint(reference: xr.Dataset) -> str:
    """Hash of the numbers of a reference and of what they mean; not of when and where it was made."""
    facts = reference.attrs["skytrawl"]
    meaning = json.dumps({name: facts.get(name) for name in _SAME}, sort_keys=True)
    arrays = {str(name): reference[name].values for name in reference.data_vars}
    return content_hash({**arrays, "meaning": np.frombuffer(meaning.encode(), np.uint8)})[:16]


def save(reference: xr.Dataset, path: str | Path, replace: bool = False) -> None:
    """Write a reference as a Zarr v3 folder, complete or not at all.

    Raises
    ------
    ReferenceExistsError
        If `path` exists and `replace` is false.
    """
    plain = reference.drop_vars([name for name in ("key", "class") if name in reference.coords])
    plain.attrs["skytrawl"] = {**plain.attrs["skytrawl"], "fingerprint": fingerprint(reference)}
    write_whole(plain, Path(path), replace)


def write_whole(plain: xr.Dataset, path: Path, replace: bool) -> None:
    """Write a dataset as a Zarr v3 folder under another name, then rename it; see `save`."""
    if path.exists() and not replace:
        raise _exists(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    working = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        plain.to_zarr(working, zarr_format=3, consolidated=False, mode="w-")
        if replace and path.exists():
            old = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
            os.rename(path, old)
            os.rename(working, path)
            shutil.rmtree(old)
        else:
            # Renaming onto a folder with content fails: a reference that appeared meanwhile stays.
            os.rename(working, path)
    except OSError as error:
        if path.exists() and not replace:
            raise _exists(path) from error
        raise
    finally:
        shutil.rmtree(working, ignore_errors=True)


def _exists(path: Path) -> ReferenceExistsError:
    return ReferenceExistsError(
        f"{path} exists and is never overwritten silently: choose another path, or ask for replace"
    )


def load(path: str | Path) -> xr.Dataset:
    """Read a reference into memory and check it against its fingerprint.

    Raises
    ------
    NotAnArchiveError
        If there is no reference, or its content is not what was saved.
    """
    import xarray as xr

    path = Path(path)
    try:
        facts = json.loads((path / "zarr.json").read_text())["attributes"]["skytrawl"]
    except FileNotFoundError as error:
        what = "does not exist" if not path.exists() else "is not a reference"
        raise NotAnArchiveError(
            f"{path} {what}: make one with the job dmdt-reference, or import one"
        ) from error
    except (OSError, ValueError, KeyError) as error:
        raise NotAnArchiveError(f"{path} is not a reference: its zarr.json says nothing of one") from error
    if facts.get("kind") not in ("counts", "soraisam2020"):
        raise NotAnArchiveError(
            f"{path} is of kind {facts.get('kind')!r}, not a reference: give the folder that "
            f"dmdt-reference wrote"
        )
    with xr.open_dataset(path, engine="zarr", consolidated=False) as opened:
        reference = labelled(opened.load())
    if fingerprint(reference) != reference.attrs["skytrawl"].get("fingerprint"):
        raise NotAnArchiveError(
            f"{path} is damaged: its content does not match its fingerprint; make it anew"
        )
    return reference


def merge(left: xr.Dataset, right: xr.Dataset) -> xr.Dataset:
    """Reference of the objects of both, which must be disjoint sets.

    Objects in both are found where the samples hold them: by the same class and id where the references
    share an archive, and otherwise also by the same counts.

    Raises
    ------
    ReferenceMismatchError
        If grid, keys, rules, cuts, survey or photometry differ (the message names all differences), or if
        the samples share objects.
    """
    _alike(left, right)
    twice = shared(left, right)
    if twice:
        raise ReferenceMismatchError(
            f"{twice} objects of the samples are in both references and would count twice: merge references "
            "of different objects, or subtract the old one first"
        )
    arrays = {name: left[name].values + right[name].values for name in _FIXED}
    limits = limits_of(left, right)
    parts = [sampled(reference, within(reference, limits)) for reference in (left, right)]
    both = {name: np.concatenate([part[name] for part in parts]) for name in SAMPLE}
    size = min(left.attrs["skytrawl"]["sample_size"], right.attrs["skytrawl"]["sample_size"])
    arrays |= smallest_hashes(both, size)
    return _derived(left, right, "+", arrays, size, limits)


def subtract(left: xr.Dataset, right: xr.Dataset) -> xr.Dataset:
    """Reference of the objects of `left` without those of `right`, which must be part of them.

    The sample loses the objects of `right`'s sample, and those whose hash is beyond what `right`'s sample
    knows of.

    Raises
    ------
    ReferenceMismatchError
        If the two do not fit (see `merge`), or a count would be negative: `right` is no part of `left`.
    """
    _alike(left, right)
    arrays = {name: left[name].values - right[name].values for name in _FIXED}
    for name, array in arrays.items():
        if (array < 0).any():
            raise ReferenceMismatchError(
                f"subtracting would leave {int((array < 0).sum())} negative numbers in {name!r}: the second "
                "reference is not a part of the first"
            )
    gone, limits = names_of(right), limits_of(left, right)
    keep = np.array([name not in gone for name in names_of(left)], bool) & within(left, limits)
    arrays |= sampled(left, keep)
    return _derived(left, right, "-", arrays, left.attrs["skytrawl"]["sample_size"], limits)


def _alike(left: xr.Dataset, right: xr.Dataset) -> None:
    a, b = left.attrs["skytrawl"], right.attrs["skytrawl"]
    found = [f"{name} ({a.get(name)} and {b.get(name)})" for name in _SAME if a.get(name) != b.get(name)]
    for name in ("dt_edges", "dm_edges"):
        if not found and not np.array_equal(left[name].values, right[name].values):
            found.append(name)
    if not found and a["kind"] != "counts":
        found.append("kind soraisam2020, whose bins follow the data, cannot be added")
    if found:
        raise ReferenceMismatchError(f"the references do not fit together: {'; '.join(found)}")


def _derived(
    left: xr.Dataset,
    right: xr.Dataset,
    sign: str,
    arrays: dict[str, np.ndarray],
    size: int,
    limits: list[int],
) -> xr.Dataset:
    facts = dict(left.attrs["skytrawl"])
    facts.pop("fingerprint", None)
    other = [{**source, "sign": sign} for source in right.attrs["skytrawl"].get("sources", [])]
    facts |= {
        "sources": [*facts.get("sources", []), *other],
        "sample_size": size,
        "sample_limits": limits,
    }
    return _dataset(arrays, left["dt_edges"].values, left["dm_edges"].values, facts)


def counts_of(reference: xr.Dataset, class_name: str | None = None) -> Counts:
    """Plain arrays of one class, or of all classes together (None).

    Raises
    ------
    ReferenceMismatchError
        If the reference has no such class.
    """
    facts = reference.attrs["skytrawl"]
    picked = _classes(facts["classes"], class_name)
    inside = reference["counts"].values[picked].sum(0)
    below, above = (reference[name].values[picked].sum(0)[..., None] for name in ("below", "above"))
    grid = grid_of(reference)
    return Counts(
        np.concatenate([below, inside, above], axis=-1),
        reference["objects"].values[picked].sum(0),
        int(reference["n_objects"].values[picked].sum()),
        np.array([a != b for a, b in facts["keys"]]),
        # What was counted in a closed last cell is to be scored there.
        grid.dt.half_open,
        grid.dm.half_open,
    )


def sample_of(
    reference: xr.Dataset, class_name: str | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sparse counts of the sample objects of one class or of all: starts, cells, counts."""
    picked = _classes(reference.attrs["skytrawl"]["classes"], class_name)
    keep = np.isin(reference["sample_class"].values, picked)
    lengths = reference["sample_cells"].values
    entries = np.repeat(keep, lengths)
    starts = np.concatenate(([0], np.cumsum(lengths[keep]))).astype(np.int64)
    return (
        starts,
        reference["sample_cell"].values[entries].astype(np.int64),
        reference["sample_count"].values[entries].astype(np.int64),
    )


def _classes(classes: Sequence[str], class_name: str | None) -> list[int]:
    if class_name is None:
        return list(range(len(classes)))
    if class_name not in classes:
        raise ReferenceMismatchError(
            f"the reference has no class {class_name!r}; it has {', '.join(classes)}"
        )
    return [list(classes).index(class_name)]


def compare(left: xr.Dataset, right: xr.Dataset) -> xr.Dataset:
    """Drift between two references, key by key; see :func:`skytrawl.catalogs.reference_views.compare`."""
    from skytrawl.catalogs import reference_views

    return reference_views.compare(left, right)
