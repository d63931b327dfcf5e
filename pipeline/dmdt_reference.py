"""Job dmdt-reference: count the pairs of all or selected objects into an additive reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl import __version__
from skytrawl.catalogs import references
from skytrawl.catalogs.reference_sample import SAMPLE, smallest_hashes
from skytrawl.catalogs.sky import hash_of
from skytrawl.dmdt_common import (
    Cuts,
    key_codes,
    keys_of,
    magnitude_system,
    needs,
    photometry_of,
    usable,
)
from skytrawl.errors import ParameterError
from skytrawl.job import Arrays, Job, Prepared
from skytrawl.kernels import dmdt
from skytrawl.kernels.dmdt.grids import PRESETS
from skytrawl.params import content_fingerprint, option

if TYPE_CHECKING:
    import xarray as xr

    from skytrawl.catalogs.archive import Archive, Block

# Sparse counts of this many observations at a time: bounds the work space whatever the partition.
CHUNK_OBSERVATIONS = 100_000
GRIDS = tuple(sorted(PRESETS))
_ADD = ("counts", "objects", "n_objects", "dropped")


@dataclass(frozen=True)
class Parameters(Cuts):
    """Parameters of dmdt-reference."""

    keys: tuple[str | tuple[str, ...], ...] = option(
        (), "bands and colour keys, such as g,R,g-R, or JSON lists; none = all of the archive"
    )
    grid: str = option("skytrawl-1", "name of the grid over dt and dm", "", GRIDS)
    within: str = option("all", "pairs inside a band", "", ("all", "consecutive"))
    classes: tuple[str, ...] = option(
        (), "count only objects of these catalogued classes; none = all objects"
    )
    by_class: bool = option(False, "count each class by itself (also for scores by catalogued class)")
    objects: Path | None = field(
        default=None, metadata={"help": "text file with the ids of the only objects to count, one a line"}
    )
    sample_size: int = option(1000, "objects a class whose own counts are kept, for calibrated scores")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sample_size < 0:
            raise ParameterError("sample_size must not be negative")


def job_needs(parameters: Parameters, archive: Archive) -> tuple[str, ...]:
    """Variables that are read."""
    names = [*needs(parameters, archive), "objects/object_id"]
    if parameters.by_class or parameters.classes:
        if "objects/class" not in archive.variables:
            raise ParameterError(f"{archive.path} has no classes: leave out classes and by_class")
        names.append("objects/class")
    return tuple(names)


def prepare(parameters: Parameters, archive: Archive) -> Prepared:
    """Pin keys, grid, classes and the list of objects."""
    job_needs(parameters, archive)  # names what the archive lacks before anything is read
    pairs = keys_of(parameters.keys, archive)
    classes = list(parameters.classes)
    if parameters.by_class:
        # Classes that are asked for may be absent, so that the references of all nights fit together.
        classes = classes or _classes_in(archive)
    elif classes:
        there = _classes_in(archive)
        unknown = [name for name in classes if name not in there]
        if unknown:
            raise ParameterError(
                f"{archive.path} has no object of class {', '.join(unknown)}; it has {', '.join(there)}"
            )
    payload: dict[str, Any] = {
        "pairs": pairs,
        "codes": key_codes(pairs, archive.bands),
        "classes": classes if parameters.by_class else [""],
        "wanted": np.array([name.encode() for name in parameters.classes], "S32"),
        "objects": None,
        **magnitude_system(archive),
    }
    inputs = {}
    if parameters.objects is not None:
        payload["objects"] = _listed(Path(parameters.objects), archive)
        inputs["objects"] = content_fingerprint({"objects": payload["objects"]})
    return Prepared(payload, inputs)


def _classes_in(archive: Archive) -> list[str]:
    found: set[bytes] = set()
    for partition in range(archive.n_partitions):
        found |= set(np.unique(archive.read(partition, ["objects/class"]).objects["class"]).tolist())
    return sorted(name.decode() for name in found)


def _listed(path: Path, archive: Archive) -> np.ndarray:
    try:
        names = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except OSError as error:
        raise ParameterError(f"objects={path}: {error}; give a text file with one id a line") from error
    dtype = archive.array("objects/object_id").dtype
    try:
        ids = np.array([name.encode() for name in names]) if dtype.kind == "S" else np.array(names, dtype)
    except (ValueError, OverflowError) as error:
        raise ParameterError(f"objects={path}: ids of this archive are numbers ({error})") from error
    if not len(ids):
        raise ParameterError(f"objects={path} names no object")
    return np.unique(ids)


def block(block: Block, parameters: Parameters, prepared: Prepared, backend: str) -> Arrays:
    """Count the pairs of one partition, and keep the sparse counts of its part of the sample."""
    payload = prepared.payload
    grid, codes = dmdt.preset(parameters.grid), payload["codes"]
    rules = dmdt.PairRules(within=parameters.within)  # type: ignore[arg-type]
    n_classes, (n_dt, n_dm) = len(payload["classes"]), grid.shape
    state = {
        "counts": np.zeros((n_classes, len(codes), n_dt, n_dm + 2), np.int64),
        "objects": np.zeros((n_classes, len(codes), n_dt), np.int64),
        "n_objects": np.zeros(n_classes, np.int64),
        # observations used, negative subtractions, other cuts
        "dropped": np.zeros(3, np.int64),
        "sample_limit": np.array([parameters.sample_size]),
        "sample_class": np.zeros(0, np.int16),
        "sample_hash": np.zeros(0, np.uint64),
        "sample_cells": np.zeros(0, np.int64),
        "sample_cell": np.zeros(0, np.int32),
        "sample_count": np.zeros(0, np.int32),
    }
    group = _groups(block, parameters, payload)
    hashes = hash_of(block.objects["object_id"])
    for start, stop in _ranges(block.offsets):
        part, of = block.select(slice(start, stop)), group[start:stop]
        rows = usable(part, parameters, payload["flux_zero_point"])
        counted = of >= 0
        state["dropped"] += [int(n[counted].sum()) for n in (rows.n_used, rows.n_negative, rows.n_dropped)]
        state["n_objects"] += np.bincount(of[counted], minlength=n_classes)
        dmdt.accumulate(
            rows.lightcurves,
            codes,
            grid,
            rules,
            group=of,
            n_groups=n_classes,
            guards=True,
            out=state["counts"],
            backend=backend,  # type: ignore[arg-type]
        )
        own = dmdt.own_cells(rows.lightcurves, codes, grid, rules)
        _count_objects(state["objects"], own, of, n_dm + 2)
        piece = _sample(own, of, hashes[start:stop])
        joined = {name: np.concatenate([state[name], array]) for name, array in piece.items()}
        state.update(smallest_hashes(joined, parameters.sample_size))
    return state


def _groups(block: Block, parameters: Parameters, payload: dict[str, Any]) -> np.ndarray:
    group = np.zeros(block.n_objects, np.int64)
    if parameters.by_class:
        names = np.array([name.encode() for name in payload["classes"]], "S32")
        order = np.argsort(names)
        place = np.clip(np.searchsorted(names[order], block.objects["class"]), 0, len(names) - 1)
        group = np.where(names[order][place] == block.objects["class"], order[place], -1)
    elif len(payload["wanted"]):
        group[~np.isin(block.objects["class"], payload["wanted"])] = -1
    if payload["objects"] is not None:
        group[~np.isin(block.objects["object_id"], payload["objects"])] = -1
    return group


def _ranges(offsets: np.ndarray) -> Iterator[tuple[int, int]]:
    start, n = 0, len(offsets) - 1
    while start < n:
        stop = int(np.searchsorted(offsets, offsets[start] + CHUNK_OBSERVATIONS, "right")) - 1
        stop = min(max(stop, start + 1), n)
        yield start, stop
        start = stop


def _count_objects(objects: np.ndarray, own: dmdt.OwnCells, group: np.ndarray, wide: int) -> None:
    owner = np.repeat(np.arange(len(group)), np.diff(own.start))
    row = own.cell // wide
    # Cells ascend inside an object: a row starts where the row or the object changes.
    first = np.ones(len(row), bool)
    first[1:] = (row[1:] != row[:-1]) | (owner[1:] != owner[:-1])
    first &= group[owner] >= 0
    n_rows = objects[0].size
    flat = np.bincount(group[owner[first]] * n_rows + row[first], minlength=objects.size)
    objects += flat.reshape(objects.shape)


def _sample(own: dmdt.OwnCells, group: np.ndarray, hashes: np.ndarray) -> Arrays:
    lengths = np.diff(own.start)
    keep = (group >= 0) & (lengths > 0)
    entries = np.repeat(keep, lengths)
    return {
        "sample_class": group[keep].astype(np.int16),
        "sample_hash": hashes[keep],
        "sample_cells": lengths[keep].astype(np.int64),
        "sample_cell": own.cell[entries].astype(np.int32),
        "sample_count": own.count[entries].astype(np.int32),
    }


def combine(left: Arrays, right: Arrays) -> Arrays:
    """Join two partial states: counts add, of the samples the smallest hashes stay."""
    for name in _ADD:
        left[name] += right[name]
    both = {name: np.concatenate([left[name], right[name]]) for name in SAMPLE}
    left.update(smallest_hashes(both, int(left["sample_limit"][0])))
    return left


def finalize(
    state: Arrays, parameters: Parameters, prepared: Prepared, archive: Archive, provenance: dict[str, Any]
) -> xr.Dataset:
    """Make the reference."""
    payload = prepared.payload
    used, negative, cut = (int(n) for n in state["dropped"])
    source = {
        "archive_id": archive.archive_id,
        "archive_path": str(archive.path),
        "archive_version": archive.version.number,
        "archive_fingerprint": archive.fingerprint,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "skytrawl": __version__,
        "observations": used,
        "negative_detections_dropped": negative,
        "observations_cut": cut,
        "selection": {
            "classes": list(parameters.classes),
            "objects": prepared.inputs.get("objects", ""),
            "objects_listed": 0 if payload["objects"] is None else len(payload["objects"]),
            "objects_counted": int(state["n_objects"].sum()),
        },
        "complete": bool(provenance.get("complete", True)),
        "missing_partitions": provenance.get("missing_partitions", []),
    }
    attrs = {
        **photometry_of(archive),
        "keys": [list(pair) for pair in payload["pairs"]],
        "bands": list(dict.fromkeys(band for pair in payload["pairs"] for band in pair)),
        "classes": payload["classes"],
        "rules": {
            "within": parameters.within,
            "cross": "ordered",
            "duplicates": "drop_all",
            "zero_dt": "skip",
        },
        "cuts": parameters.resolved(),
        "sources": [source],
        "sample_size": parameters.sample_size,
    }
    return references.make_reference(state, dmdt.preset(parameters.grid), attrs)


def memory(n_objects: int, n_observations: int, parameters: Parameters, prepared: Prepared) -> int:
    """Bytes of work space: the state, a chunk's sparse counts and the sample."""
    n_dt, n_dm = dmdt.preset(parameters.grid).shape
    n_keys = len(prepared.payload["codes"])
    tensor = 8 * len(prepared.payload["classes"]) * n_keys * n_dt * (n_dm + 2)
    rows = min(n_observations, CHUNK_OBSERVATIONS)
    # An observation has pairs with the others of its object, and each object at most all cells.
    longest = n_observations / max(n_objects, 1)
    entries = int(min(rows * longest / 2 * n_keys, 4e7))
    return 4 * tensor + 48 * entries + 40 * n_observations


JOB = Job(
    name="dmdt-reference",
    summary="count the (dt, dm) pairs of all or selected objects into a reference",
    parameters=Parameters,
    needs=job_needs,
    prepare=prepare,
    block=block,
    memory=memory,
    kernel_version=dmdt.KERNEL_VERSION,
    kind="reduction",
    backends=("cpu", "cuda"),
    combine=combine,
    finalize=finalize,
    save=references.save,
)
