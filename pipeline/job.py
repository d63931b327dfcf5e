"""The job record and the registry: what a detector has to say about itself, and nothing more."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.errors import ParameterError
from skytrawl.params import content_fingerprint

if TYPE_CHECKING:
    import xarray as xr

    from skytrawl.catalogs.archive import Archive, Block
    from skytrawl.catalogs.schema import Variable

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Prepared:
    """What a job pinned on the driver before its first task.

    Attributes
    ----------
    payload : dict
        Arrays and small picklable values that every block needs (a compiled reference). Workers load
        it once per process from an artefact file of the run.
    inputs : dict of str
        Name -> fingerprint of each other input; part of the run's fingerprint.
    attrs : dict
        Plain values for the attributes of the results (survey and classes of the reference, ...).
    """

    payload: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays in the payload."""
        return sum(_nbytes(value) for value in self.payload.values())

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the payload's values where they are plain, else of the named inputs."""
        try:
            return content_fingerprint(self.payload)
        except TypeError:
            return content_fingerprint(self.inputs)


def _nbytes(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if isinstance(value, Mapping):
        return sum(_nbytes(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return sum(_nbytes(item) for item in value)
    if hasattr(value, "__dict__"):
        return sum(_nbytes(item) for item in vars(value).values())
    return 0


def prepare_nothing(parameters: Any, archive: Archive) -> Prepared:
    """The `prepare` of a job without other inputs."""
    return Prepared()


def gives_nothing(parameters: Any, prepared: Prepared) -> tuple[Variable, ...]:
    """The `gives` of a reduction, which writes no row per object."""
    return ()


def no_workspace(n_objects: int, n_observations: int, parameters: Any, prepared: Prepared) -> int:
    """The `memory` of a job that allocates nothing beside its outputs."""
    return 0


def no_coords(parameters: Any, prepared: Prepared) -> dict[str, list[Any]]:
    """The `coords` of a job whose variables have the dim "object" alone."""
    return {}


def add_states(left: Arrays, right: Arrays) -> Arrays:
    """Combine two partial states by adding, in place on the left one (integers: any order, same bits)."""
    for name, value in right.items():
        left[name] += value
    return left


@dataclass(frozen=True, kw_only=True)
class BaseJob:
    """What every job says of itself.

    Attributes
    ----------
    name, summary : str
        Name on the command line and a one-line description.
    parameters : type
        Frozen dataclass; the metadata of a field ("help", "unit", "choices") feeds options and docs.
    kernel_version : str
        Changes whenever the same input may give other bits; part of the run's fingerprint.
    backends : tuple of str
        Backends that it knows; the first is the fallback of "auto".
    kind : "rows", "reduction" or "frames"
        Rows and reductions are a :class:`Job`, frames a :class:`skytrawl.frames.job.FrameJob`.
    """

    name: str
    summary: str
    parameters: type
    kernel_version: str = "1"
    backends: tuple[str, ...] = ("cpu",)
    kind: str = "rows"


@dataclass(frozen=True, kw_only=True)
class Job(BaseJob):
    """A detector, or a reduction, over the light curves of an archive.

    All callables are module-level functions (workers receive them by the job's name).

    Attributes
    ----------
    needs : (parameters, archive) -> tuple of str
        Schema names to read, such as "lightcurves/time".
    block : (block, parameters, prepared, backend) -> dict of ndarray
        The work on one partition, or on a range of its objects. Rows: one array per given variable
        with first axis `block.n_objects`, each row depending on its own object only, so that ranges
        of a partition give the same bits as the whole. Reductions: a partial state.
    gives : (parameters, prepared) -> tuple of Variable
        The variables of the results; dims start with "object".
    prepare : (parameters, archive) -> Prepared
        Runs on the driver: loads and pins other inputs.
    memory : (n_objects, n_observations, parameters, prepared) -> int
        Bytes of work space of `block` beside decoded inputs and outputs.
    seconds : (n_objects, n_observations, parameters, prepared) -> float, optional
        Projected seconds of a block. Without it the runner learns the rate from finished tasks.
    coords : (parameters, prepared) -> dict of list
        Labels along the dims of the given variables other than "object"; their lengths are the shapes.
    combine : (state, state) -> state
        Reductions; associative and order-independent, hence integer states. May change the left one.
    finalize : (state, parameters, prepared, archive, provenance) -> xarray.Dataset
        Reductions; makes the finished product.
    save : (dataset, path, replace) -> None
        Reductions; writes the product to `path`, refusing an existing one unless `replace`.
    """

    needs: Callable[[Any, Archive], tuple[str, ...]]
    block: Callable[[Block, Any, Prepared, str], Arrays]
    gives: Callable[[Any, Prepared], tuple[Variable, ...]] = gives_nothing
    prepare: Callable[[Any, Archive], Prepared] = prepare_nothing
    memory: Callable[[int, int, Any, Prepared], int] = no_workspace
    seconds: Callable[[int, int, Any, Prepared], float] | None = None
    coords: Callable[[Any, Prepared], dict[str, list[Any]]] = no_coords
    combine: Callable[[Arrays, Arrays], Arrays] = add_states
    finalize: Callable[[Arrays, Any, Prepared, Archive, dict[str, Any]], xr.Dataset] | None = None
    save: Callable[[xr.Dataset, Path, bool], None] | None = None

    def __post_init__(self) -> None:
        """Refuse a record that could not run."""
        if self.kind not in ("rows", "reduction"):
            raise ValueError(f"job {self.name}: kind is 'rows' or 'reduction', not {self.kind!r}")
        if self.kind == "reduction" and (self.finalize is None or self.save is None):
            raise ValueError(f"job {self.name}: a reduction needs finalize and save")
        if self.kind == "rows" and self.gives is gives_nothing:
            raise ValueError(f"job {self.name}: say which variables it gives")


# Name -> "module:attribute". The module is imported when the job is first asked for.
_TABLE: dict[str, str] = {
    "detect": "skytrawl.images.detect:JOB",
    "difference": "skytrawl.images.difference:JOB",
    "dmdt-maps": "skytrawl.dmdt_maps:JOB",
    "dmdt-reference": "skytrawl.dmdt_reference:JOB",
    "dmdt-score": "skytrawl.dmdt_score:JOB",
    "forced-photometry": "skytrawl.images.forced:JOB",
    "inject": "skytrawl.images.inject:JOB",
    "lens-fit": "skytrawl.lens_fit:JOB",
    "periods": "skytrawl.periods:JOB",
    "reference": "skytrawl.images.reference:JOB",
    "scan": "skytrawl.scan:JOB",
    "scan-null": "skytrawl.scan_null:JOB",
    "scan-template-free": "skytrawl.scan_template_free:JOB",
}


def register(name: str, location: str) -> None:
    """Add a job that lives outside this package, as "module:attribute".

    Workers are told the location together with the name, so the module must be importable there.
    """
    if ":" not in location:
        raise ParameterError(f"job {name}: location {location!r} is not 'module:attribute'")
    if _TABLE.get(name, location) != location:
        raise ParameterError(f"job {name} is already registered at {_TABLE[name]}")
    _TABLE[name] = location


def job_names() -> tuple[str, ...]:
    """Names of all jobs, sorted; imports none of them."""
    return tuple(sorted(_TABLE))


def location_of(name: str) -> str:
    """Where a job lives, "module:attribute"; ParameterError with the nearest name if unknown."""
    if name not in _TABLE:
        near = difflib.get_close_matches(name, _TABLE, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ParameterError(f"unknown job {name!r}{hint}; known: {', '.join(job_names())}")
    return _TABLE[name]


def load_job(location: str) -> BaseJob:
    """Import the job at "module:attribute"."""
    module, _, attribute = location.partition(":")
    job = getattr(import_module(module), attribute)
    if not isinstance(job, BaseJob):
        raise TypeError(f"{location} is {type(job).__name__}, not a job")
    return job


def load_curve_job(location: str) -> Job:
    """Import a job over light curves."""
    job = load_job(location)
    if not isinstance(job, Job):
        raise TypeError(f"{location} is {type(job).__name__}, not a job over light curves")
    return job


def get_job(job: str | BaseJob) -> BaseJob:
    """The job of a name; a job is returned as it is."""
    return job if isinstance(job, BaseJob) else load_job(location_of(job))


def jobs() -> dict[str, BaseJob]:
    """All jobs by name; imports every job module."""
    return {name: get_job(name) for name in job_names()}
