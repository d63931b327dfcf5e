"""Rows of results beside the rows of another table, matched by object id."""

from typing import Any

import numpy as np
import xarray as xr

from skytrawl.catalogs.runs import missing_value, unknown
from skytrawl.errors import ArchiveMismatchError, ParameterError


def join(dataset: xr.Dataset, other: Any, *, on: str, how: str, suffix: str) -> xr.Dataset:
    """Rows of a dataset beside the columns of another table; see `SkytrawlDataset.join`."""
    if how not in ("inner", "left"):
        raise ParameterError(f"how={how!r}: choose 'inner' or 'left'")
    table = table_of(other)
    mine, theirs = dataset.attrs.get("archive_id"), table.attrs.get("archive_id")
    if mine and theirs and mine != theirs:
        raise ArchiveMismatchError(
            f"results of archive {mine} cannot be joined with results of archive {theirs}: "
            "the same id may mean another object there. Match by position instead"
        )
    if on not in table.variables:
        raise ParameterError("the other table: " + unknown("column", on, [str(v) for v in table.variables]))
    ids = dataset["object_id"].values
    keys = _like_ids(table[on].values, ids.dtype)
    # Rows of unfinished partitions have no id.
    named = np.flatnonzero(keys != missing_value(ids.dtype))
    order = named[np.argsort(keys[named], kind="stable")]
    ranked_keys = keys[order]
    if (twice := np.flatnonzero(ranked_keys[1:] == ranked_keys[:-1])).size:
        raise ParameterError(f"the other table holds the id {ranked_keys[twice[0]]!r} more than once")
    if len(order):
        place = np.minimum(np.searchsorted(ranked_keys, ids), len(order) - 1)
        match = ranked_keys[place] == ids
        source = order[place]
    else:
        match, source = np.zeros(len(ids), bool), np.zeros(len(ids), np.int64)
    rows = np.flatnonzero(match) if how == "inner" else np.arange(len(ids))
    result = dataset.isel(object=rows)
    identity = {"ra", "dec", "healpix", "class"} & set(result.variables)
    for name, variable in table.variables.items():
        if name == on or name in identity or variable.dims[:1] != ("object",):
            continue
        taken = name in result.variables
        label = f"{name}{suffix}" if taken else str(name)
        chosen = np.unique(source[rows][match[rows]])
        values = variable.isel(object=chosen).values
        filled = np.full((len(rows), *values.shape[1:]), _missing(values.dtype), values.dtype)
        filled[match[rows]] = values[np.searchsorted(chosen, source[rows][match[rows]])]
        result[label] = (("object", *variable.dims[1:]), filled, dict(variable.attrs))
    return result


def table_of(other: Any) -> xr.Dataset:
    """Any table as a dataset on dim object; datasets stay lazy."""
    if isinstance(other, xr.DataTree):
        if "object" not in other.dims:
            raise ParameterError("join with the group of one job, such as results['dmdt-score']")
        return other.to_dataset()
    if isinstance(other, xr.Dataset):
        return other
    names = getattr(other, "colnames", None) or list(getattr(other, "columns", other))
    arrays = {str(name): np.asarray(other[name]) for name in names}
    return xr.Dataset(
        {name: (("object", *(f"{name}_{i}" for i in range(1, a.ndim))), a) for name, a in arrays.items()}
    )


def _like_ids(keys: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Ids of another table in the type of this one's ids; ids that cannot be of that type match nothing."""
    if dtype.kind == "S":
        if keys.dtype.kind == "S":
            return keys
        return np.char.encode(keys.astype(str), "utf-8")
    if keys.dtype.kind in "iu":
        if keys.dtype.kind == "i" and (keys < 0).any():
            raise ParameterError("the other table holds negative ids; those of these results are not")
        return keys.astype(dtype)
    raise ParameterError(f"the other table's ids are {keys.dtype}, those of these results {dtype}")


def _missing(dtype: np.dtype) -> Any:
    if dtype.kind in "fiuSb":
        return missing_value(dtype)
    return {"U": "", "M": np.datetime64("NaT"), "m": np.timedelta64("NaT"), "c": np.nan}.get(dtype.kind)
