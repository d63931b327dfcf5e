"""The results store: one group per job, one folder per run, the same object slots as the archive.

``out.zarr/<job>/<fingerprint>/`` holds the arrays of a run (one shard is one object slot of the archive),
the identity columns of its objects, a copy of the archive's partition table, the ledger and the sidecars.
Outputs lie under the fingerprint of the run, so that a late writer with other parameters cannot touch
them; ``current.json`` names the run that readers see.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs.runs import FORMAT, Run, group, inner_rows, missing_value, unknown
from skytrawl.catalogs.shards import SlotFile, SlotLayout
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.versions import Version, to_bytes
from skytrawl.errors import (
    ArchiveError,
    ArchiveMismatchError,
    ParameterError,
    ParametersChangedError,
)

if TYPE_CHECKING:
    import xarray as xr

    from skytrawl.catalogs.archive import Archive
    from skytrawl.catalogs.schema import Variable

__all__ = ["ResultsStore", "Run", "open_results"]

IDENTITY = ("object_id", "ra", "dec", "healpix", "class")
# Folders of a run that are no arrays.
_RESERVED = ("ledger", "failures", "sidecars", "artefacts")
# Entries of a run beside its parameters that make another fingerprint.
_ALSO_COMPARED = ("kernel_version", "backend", "inputs", "kernel_options")


class ResultsStore:
    """The runs of all jobs over one archive, below one folder."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self.storage = Storage(self.path)
        self.attrs: dict[str, Any] = group(self.storage, "", "results", self.path)

    def __repr__(self) -> str:
        return f"ResultsStore({str(self.path)!r})"

    @classmethod
    def create_or_open(cls, path: str | Path, archive: "Archive") -> "ResultsStore":
        """Open the store of this archive, or make an empty one.

        Raises
        ------
        ArchiveMismatchError
            If the store belongs to another archive.
        NotAnArchiveError
            If the folder holds something else.
        """
        target = Path(path).absolute()
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            store = cls(target)
            store.check_archive(archive)
            return store
        attrs = {
            "kind": "results",
            "format": FORMAT,
            "archive_id": archive.attrs["archive_id"],
            "archive_path": str(Path(archive.path).absolute()),
        }
        try:
            Storage(target).write_new("zarr.json", _group_text(attrs))
        except FileExistsError:
            return cls.create_or_open(path, archive)
        return cls(target)

    def check_archive(self, archive: "Archive") -> None:
        """Raise ArchiveMismatchError unless the store belongs to this archive."""
        mine, other = self.attrs["archive_id"], archive.attrs["archive_id"]
        if mine != other:
            raise ArchiveMismatchError(
                f"{self.path} holds results of the archive {mine} (at {self.attrs['archive_path']}), not of "
                f"{archive.path} ({other}). Choose another output path for this archive"
            )

    @property
    def jobs(self) -> tuple[str, ...]:
        """Jobs with a current run, sorted."""
        return tuple(name for name in self.storage.names("") if self.storage.exists(f"{name}/current.json"))

    def run(self, job: str | None = None) -> Run:
        """The current run of a job; the job may be left out where there is only one.

        Raises
        ------
        ParameterError
            If the job is unknown or must be named.
        """
        jobs = self.jobs
        if job is None:
            if len(jobs) != 1:
                known = ", ".join(jobs) or "none yet"
                raise ParameterError(
                    f"{self.path} has results of several jobs or none ({known}): name the job (--job)"
                )
            job = jobs[0]
        if job not in jobs:
            raise ParameterError(f"{self.path}: " + unknown("job", job, jobs))
        current = json.loads(self.storage.read(f"{job}/current.json"))["run"]
        return Run(self.path / job / current)

    def start_run(
        self,
        job: str,
        fingerprint: str,
        parameters: Mapping[str, Any],
        provenance: Mapping[str, Any],
        variables: "Sequence[Variable]",
        version: Version,
        *,
        archive: "Archive",
        tails: Mapping[str, Sequence[int]] | None = None,
        coords: Mapping[str, Sequence[Any]] | None = None,
        replace: bool = False,
    ) -> Run:
        """Begin or continue the run with this fingerprint and make it the current one.

        Parameters
        ----------
        job, fingerprint : str
            Name of the job; fingerprint of everything that decides the values.
        parameters, provenance : dict
            Plain values. `provenance` is kept in the attributes of the run: backend, kernel_version, inputs,
            versions, command, date, host and whatever the job adds.
        variables : sequence of Variable
            Outputs; the first dim is "object".
        version : Version
            Version of the archive that the run covers. A later one may be given when continuing.
        archive : Archive
            Where the identity columns come from.
        tails : dict of tuple, optional
            Shape of one row of each variable that has more dims than object.
        coords : dict of list, optional
            Labels along these dims; their lengths also tell the shapes that `tails` leaves out.
        replace : bool
            Let this run take the place of a current one with another fingerprint. The old one stays on disk
            until `sweep`.

        Raises
        ------
        ParametersChangedError
            If another run is current and `replace` is false; names every difference, old -> new.
        ArchiveMismatchError
            If the store belongs to another archive.
        """
        self.check_archive(archive)
        pointer = f"{job}/current.json"
        if self.storage.exists(pointer) and not replace:
            current = self.run(job)
            if current.fingerprint != fingerprint:
                raise ParametersChangedError(_changed(current, parameters, provenance, self.path))
        prefix = f"{job}/{fingerprint}"
        identity = [name for name in IDENTITY if f"objects/{name}" in archive.variables]
        if not archive.attrs["has_positions"]:
            # There the archive's positions are NaN and its cells a hash of the id.
            identity = [name for name in identity if name not in ("ra", "dec", "healpix")]
        sizes = {dim: list(labels) for dim, labels in (coords or {}).items()}
        attrs = {
            **_plain(provenance),
            "kind": "run",
            "format": FORMAT,
            "job": job,
            "fingerprint": fingerprint,
            "parameters": _plain(parameters),
            "archive_id": self.attrs["archive_id"],
            "archive_path": self.attrs["archive_path"],
            "archive_version": version.number,
            "archive_fingerprint": version.fingerprint,
            "survey": str(archive.attrs.get("survey", {}).get("name", "")),
            "object_slot": archive.attrs["object_slot"],
            "identity": identity,
            "outputs": [variable.short for variable in variables],
            "coords": _plain(sizes),
        }
        _create(self.storage, f"{job}/zarr.json", _group_text({"kind": "job", "format": FORMAT, "job": job}))
        slot = int(archive.attrs["object_slot"])
        for name in identity:
            source = SlotFile.open(archive.storage, f"objects/{name}")
            _declare(
                self.storage, f"{prefix}/{name}", source.dtype, slot, (), ("object",), source.attrs, "default"
            )
        for variable in variables:
            name = variable.short
            if name in (*IDENTITY, *_RESERVED) or variable.dims[:1] != ("object",):
                raise ValueError(f"{job}: {name} with dims {variable.dims} cannot be an output")
            tail = (tails or {}).get(name)
            shape = tuple(tail) if tail is not None else tuple(len(sizes[dim]) for dim in variable.dims[1:])
            _declare(
                self.storage, f"{prefix}/{name}", np.dtype(variable.dtype), slot, shape, variable.dims,
                _attributes(variable), variable.codec,
            )  # fmt: skip
        self.storage.replace(f"{prefix}/version.npz", to_bytes(version))
        # The group comes after its arrays, the pointer after the group: nothing is ever half visible.
        arrays = {
            name: json.loads(self.storage.read(f"{prefix}/{name}/zarr.json"))
            for name in (*identity, *attrs["outputs"])
        }
        self.storage.replace(f"{prefix}/zarr.json", _group_text(attrs, arrays))
        self.storage.replace(pointer, json.dumps({"run": fingerprint}).encode())
        return Run(self.path / prefix)

    def sweep(self) -> list[str]:
        """Delete runs that are not current (readers that have them open lose them); returns their folders."""
        import shutil

        removed = []
        for job in self.jobs:
            current = self.run(job).fingerprint
            for name in self.storage.names(job):
                folder = self.path / job / name
                if name != current and folder.is_dir():
                    shutil.rmtree(folder)
                    removed.append(f"{job}/{name}")
        return removed


def open_results(
    path: str | Path, job: str | None = None, chunks: Any = None, *, archive: "Archive | None" = None
) -> "xr.DataTree":
    """Open a results store as an xarray tree, one group per job, with compact axes; loads nothing.

    Parameters
    ----------
    path : str or Path
        Folder of the store.
    job : str, optional
        Open this job alone.
    chunks : optional
        As in ``xarray.open_datatree``: None is lazy without Dask, {} gives one Dask chunk a partition.
    archive : Archive, optional
        Refuse a store that belongs to another archive.

    Returns
    -------
    xarray.DataTree
        Rows of partitions without ledger entry are missing (attribute ``missing`` of each variable, NaN
        for floating columns); the attribute ``missing_partitions`` of a group says how many there are.
        The accessor ``.skytrawl`` answers queries without loading the store.

    Raises
    ------
    NotAnArchiveError
        If the path holds no results store.
    ArchiveMismatchError
        If it belongs to another archive.
    """
    import xarray as xr

    import skytrawl.catalogs.accessor  # noqa: F401  (registers .skytrawl)
    from skytrawl.catalogs.compact import SkytrawlBackend

    store = ResultsStore(path)
    if archive is not None:
        store.check_archive(archive)
    # Without xarray's cache a column that was looked at is still the store's, and queries stay cheap.
    return xr.open_datatree(str(store.path), engine=SkytrawlBackend, job=job, chunks=chunks, cache=False)


def results_datasets(path: str | Path, job: str | None = None) -> "dict[str, xr.Dataset]":
    """The groups of a store for xarray, "/" and one per job; registers the accessor ``.skytrawl``."""
    import skytrawl.catalogs.accessor  # noqa: F401  (registers .skytrawl)
    from skytrawl.catalogs import results_view

    return results_view.results_datasets(path, job)


def _declare(
    storage: Storage,
    name: str,
    dtype: np.dtype,
    slot: int,
    tail: tuple[int, ...],
    dims: Sequence[str],
    attrs: Mapping[str, Any],
    codec: str,
) -> None:
    layout = SlotLayout(slot, inner_rows(slot, dtype.itemsize * int(np.prod(tail, dtype=np.int64))))
    try:
        SlotFile.create(storage, name, dtype, layout, dims, tail=tail, codec=codec, attrs=dict(attrs))
    except FileExistsError:
        found = SlotFile.open(storage, name)  # continued, or another driver has just declared it
    else:
        return
    if (found.dtype, found.tail, found.layout.slot) != (dtype.newbyteorder("<"), tail, slot):
        raise ArchiveError(
            f"{storage.path(name)} exists as {found.dtype}{list(found.tail)} with slots "
            f"of {found.layout.slot} rows, the job now gives {dtype}{list(tail)} with {slot}. The kernel "
            "version of the job should have changed: choose another output path"
        )


def _attributes(variable: "Variable") -> dict[str, Any]:
    attrs = {"units": variable.units, "long_name": variable.long_name}
    attrs |= {name: value for name in ("direction", "comment") if (value := getattr(variable, name))}
    missing = missing_value(np.dtype(variable.dtype), variable.fill)
    if isinstance(missing, bytes | np.bytes_):
        attrs["missing"] = missing.decode()
    else:
        attrs["missing"] = "NaN" if missing != missing else missing.item()
    return attrs


def _group_text(attrs: Mapping[str, Any], arrays: Mapping[str, Any] | None = None) -> bytes:
    group: dict[str, Any] = {"zarr_format": 3, "node_type": "group", "attributes": {"skytrawl": dict(attrs)}}
    if arrays is not None:
        # Plain Zarr readers need not list the folder, where the ledger and the sidecars would puzzle them.
        group["consolidated_metadata"] = {
            "kind": "inline",
            "must_understand": False,
            "metadata": dict(arrays),
        }
    return json.dumps(group, indent=2).encode()


def _create(storage: Storage, key: str, data: bytes) -> None:
    if not storage.exists(key):
        storage.replace(key, data)


def _plain(value: Any) -> Any:
    """The value as JSON keeps it, so that stored and new parameters compare equal."""
    return json.loads(json.dumps(value, default=_jsonable))


def _jsonable(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bytes):
        return value.decode()
    raise TypeError(f"{type(value).__name__} is no plain value")


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        flat: dict[str, Any] = {}
        for name, item in value.items():
            flat |= _flatten(item, f"{prefix}.{name}" if prefix else str(name))
        return flat
    return {prefix: value}


def _changed(current: Run, parameters: Mapping[str, Any], provenance: Mapping[str, Any], path: Path) -> str:
    old, new = _flatten(current.attrs["parameters"]), _flatten(_plain(parameters))
    for name in _ALSO_COMPARED:
        if name in provenance:
            old |= _flatten(current.attrs.get(name), name)
            new |= _flatten(_plain(provenance[name]), name)
    absent = "(not set)"
    lines = [
        f"  {name}: {old.get(name, absent)!r} -> {new.get(name, absent)!r}"
        for name in sorted({*old, *new})
        if old.get(name, absent) != new.get(name, absent)
    ]
    return (
        f"{path} holds results of {current.job} with other parameters (old -> new):\n"
        + "\n".join(lines or ["  (an input that is not listed among the parameters)"])
        + "\nChoose another output path, or give replace=True (--replace) to make the new run the current one"
    )
