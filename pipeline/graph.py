"""A job as a lazy xarray dataset: one Dask chunk a partition, nothing read until it is computed."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.errors import ParameterError
from skytrawl.job import Arrays, Job, Prepared, get_job, load_curve_job, location_of
from skytrawl.params import build, parameter_dict
from skytrawl.planner import open_version

if TYPE_CHECKING:
    import xarray as xr

    from skytrawl.catalogs.archive import Archive

# Above this number of chunks a graph costs the scheduler gigabytes (25 kB a chunk and variable).
MOST_PARTITIONS = 20_000
_IDENTITY = ("object_id", "ra", "dec", "class")


def lazy(
    job: str | Job,
    archive: str | Path | Archive | xr.DataTree,
    *,
    backend: str = "cpu",
    version: int | None = None,
    **parameters: Any,
) -> xr.Dataset:
    """The outputs of a job as a Dask-backed dataset, one chunk a partition with objects.

    Parameters
    ----------
    job : str or Job
        A registered job that gives rows.
    archive : path, Archive or DataTree
        What it runs over.
    backend : {"cpu", "cuda"}
        Where kernels run; "auto" would not say on which machine it is decided.
    version : int, optional
        Version of the archive; default the latest.
    **parameters
        Of the job.

    Returns
    -------
    xarray.Dataset
        Variables of the job on dim "object", and the identity of the objects as lazy coordinates. Nothing
        is read until computed. Each chunk of all variables comes from one task.

    Raises
    ------
    ParameterError
        For a reduction, an unknown backend, or an archive of too many partitions: use `skytrawl.run`.
    """
    import xarray as xr

    found = get_job(job)
    if not isinstance(found, Job) or found.kind != "rows":
        raise ParameterError(f"{found.name} does not give one row an object: use skytrawl.run")
    if backend not in found.backends:
        raise ParameterError(f"backend {backend!r}: {found.name} knows {', '.join(found.backends)}")
    chosen: Any = build(found.parameters, parameters)
    opened = open_version(archive, version)
    table = opened.version.partitions
    filled = np.flatnonzero(table["n_objects"])
    if len(filled) > MOST_PARTITIONS:
        raise ParameterError(
            f"{opened.path} has {len(filled):,} partitions: a lazy graph is meant for {MOST_PARTITIONS:,} at "
            f"most. Use skytrawl.run({found.name!r}, ..., 'out.zarr'), which walks any number of them"
        )
    prepared = found.prepare(chosen, opened)
    labels = found.coords(chosen, prepared)
    identity = tuple(name for name in _IDENTITY if f"objects/{name}" in opened.variables)
    variables = found.gives(chosen, prepared)
    specs: dict[str, tuple[tuple[str, ...], np.dtype, dict[str, Any]]] = {
        variable.short: (
            variable.dims,
            np.dtype(variable.dtype),
            {"units": variable.units, "long_name": variable.long_name},
        )
        for variable in variables
    }
    for name in identity:
        array = opened.array(f"objects/{name}")
        specs[name] = (("object",), array.dtype, dict(array.attrs))
    sizes = {dim: len(values) for dim, values in labels.items()}
    arrays = _arrays(
        location_of(found.name), opened, chosen, prepared, backend, filled.tolist(), identity, specs, sizes
    )
    data = {name: (specs[name][0], array, specs[name][2]) for name, array in arrays.items()}
    return xr.Dataset(
        {variable.short: data[variable.short] for variable in variables},
        coords={**{name: data[name] for name in identity}, **labels},
        attrs={
            **prepared.attrs,
            "job": found.name,
            "parameters": repr(parameter_dict(chosen)),
            "kernel_version": found.kernel_version,
            "backend": backend,
            "archive": str(opened.path),
            "archive_version": opened.version.number,
            "archive_fingerprint": opened.fingerprint,
        },
    )


def block_arrays(
    location: str,
    path: str,
    number: int,
    partition: int,
    parameters: Any,
    prepared: Prepared,
    backend: str,
    identity: tuple[str, ...],
) -> Arrays:
    """All outputs of a partition: the one task of its chunks."""
    from skytrawl.catalogs.archive import Archive

    job, archive = load_curve_job(location), Archive.cached(path, number)
    needed = dict.fromkeys(job.needs(parameters, archive))
    names = [*needed, *(f"objects/{name}" for name in identity if f"objects/{name}" not in needed)]
    block = archive.read(partition, names)
    arrays = dict(job.block(block, parameters, prepared, backend))
    arrays.update({name: block.objects[name] for name in identity})
    return arrays


def _arrays(
    location: str,
    archive: Archive,
    parameters: Any,
    prepared: Prepared,
    backend: str,
    filled: list[int],
    identity: tuple[str, ...],
    specs: dict[str, tuple[tuple[str, ...], np.dtype, dict[str, Any]]],
    sizes: dict[str, int],
) -> dict[str, Any]:
    """One Dask array a variable over a hand-built graph: a task a partition, and cheap picks from it."""
    import operator
    import uuid

    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph

    token = uuid.uuid4().hex
    base, payload = f"{location.partition(':')[0].rpartition('.')[2]}-{token}", f"prepared-{token}"
    common = (parameters, payload, backend, identity)
    blocks: dict[Hashable, Any] = {
        (base, index): (block_arrays, location, str(archive.path), archive.version.number, partition, *common)
        for index, partition in enumerate(filled)
    }
    counts = tuple(int(archive.version.partitions["n_objects"][partition]) for partition in filled)
    made = {}
    for name, (dims, dtype, _) in specs.items():
        tail = tuple(sizes[dim] for dim in dims[1:])
        if not filled:
            made[name] = da.from_array(np.empty((0, *tail), dtype))
            continue
        layer = f"{name}-{token}"
        zeros = (0,) * len(tail)
        picks = {(layer, i, *zeros): (operator.getitem, (base, i), name) for i in range(len(filled))}
        layers: dict[str, Any] = {layer: picks, base: blocks, payload: {payload: prepared}}
        graph = HighLevelGraph(
            layers,
            {layer: {base}, base: {payload}, payload: set()},
        )
        chunks = (counts, *((size,) for size in tail))
        made[name] = da.Array(graph, layer, chunks=chunks, dtype=dtype)
    return made
