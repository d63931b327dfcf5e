"""Results as xarray sees them: one lazy dataset per job, on the compact object axis of the archive."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from skytrawl.catalogs.compact import SlotArray, SlotTable, variable_of
from skytrawl.catalogs.results import ResultsStore
from skytrawl.catalogs.runs import Run
from skytrawl.catalogs.sidecars import Sidecars, state
from skytrawl.errors import ArchiveError


def results_datasets(path: str | Path, job: str | None = None) -> dict[str, xr.Dataset]:
    """The groups of a results store's compact view: "/" and one per job."""
    store = ResultsStore(path)
    jobs = store.jobs if job is None else (store.run(job).job,)
    root = xr.Dataset(attrs={"path": str(store.path), "skytrawl": store.attrs})
    return {"/": root, **{f"/{name}": run_dataset(store.run(name)) for name in jobs}}


def run_dataset(run: Run) -> xr.Dataset:
    """One run as a lazy dataset on dim object; identity columns are coordinates."""
    table = run_table(str(run.path), run.version.fingerprint)
    assert table.present is not None
    variables: dict[str, xr.Variable] = {}
    for name in run.names:
        variables[name] = variable_of(run.column(name), table, run.fill(name))
    for dim, labels in run.coords.items():
        variables.setdefault(dim, xr.Variable((dim,), np.asarray(labels)))
    counts = np.diff(table.starts)
    attrs = {
        **{name: value for name, value in run.attrs.items() if name not in ("kind", "format", "identity")},
        "path": str(run.path),
        "partitions": len(counts),
        "missing_partitions": int(((counts > 0) & ~table.present).sum()),
    }
    return xr.Dataset(variables, attrs=attrs).set_coords([*run.identity])


@lru_cache(maxsize=16)
def _run_table(path: str, fingerprint: str, made_from: str) -> SlotTable:
    run = Run(path)
    if run.version.fingerprint != fingerprint:
        raise ArchiveError(f"{path} covers a later version of the archive by now: open the results again")
    sidecars = Sidecars.open(run)
    present = run.present() if sidecars is None else sidecars.present
    starts, slots = run.version.object_starts, run.partitions["object_slot"]
    return SlotTable(slots, starts, present=present, reload=(run_table, (path, fingerprint)))


def run_table(path: str, fingerprint: str) -> SlotTable:
    """Where the rows of a run lie; workers make it again from path and version fingerprint."""
    return _run_table(path, fingerprint, state(Run(path)))


def untouched(variable: xr.Variable) -> bool:
    """Whether a variable is still the whole column of a store, as it was opened."""
    data: Any = variable._data
    name = getattr(data, "name", None)
    if hasattr(data, "dask"):
        # Every operation of Dask gives another name; xarray names what it opens like this.
        return isinstance(name, str) and name.startswith("open_dataset-")
    while hasattr(data, "array"):
        if isinstance(data, SlotArray):
            return True
        key = getattr(data, "key", None)
        if key is not None and any(part != slice(None) for part in key.tuple):
            whole = all(
                isinstance(part, slice) and part.indices(size) == (0, size, 1)
                for part, size in zip(key.tuple, data.array.shape, strict=True)
            )
            if not whole:
                return False
        data = data.array
    return False
