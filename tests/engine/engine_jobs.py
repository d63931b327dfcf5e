"""Small jobs of the engine's tests; workers import this module by name."""

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.schema import Variable
from skytrawl.errors import ReferenceExistsError
from skytrawl.job import Job, Prepared


@dataclass(frozen=True)
class MeanParameters:
    """Parameters of the mean; `trouble` names a folder with files that make partitions misbehave."""

    scale: float = field(default=1.0, metadata={"help": "Factor on each value.", "unit": "mag"})
    kind: str = field(default="mean", metadata={"help": "Which mean.", "choices": ("mean", "rms")})
    delay: float = field(default=0.0, metadata={"help": "Sleep of a block.", "unit": "s"})
    trouble: str = field(default="", metadata={"help": "Folder of the faults."})
    weight: str = field(default="", metadata={"help": "File with a weight."})


def needs(parameters: MeanParameters, archive: Any) -> tuple[str, ...]:
    return ("objects/object_id", "lightcurves/time", "lightcurves/value")


def gives(parameters: MeanParameters, prepared: Prepared) -> tuple[Variable, ...]:
    return (
        Variable("score", ("object",), "float64", "mag", "mean value", direction="low"),
        Variable("n", ("object",), "int64", "", "number of observations"),
        Variable("minmax", ("object", "end"), "float64", "mag", "least and greatest value"),
    )


def coords(parameters: MeanParameters, prepared: Prepared) -> dict[str, list[Any]]:
    return {"end": ["low", "high"]}


def prepare(parameters: MeanParameters, archive: Any) -> Prepared:
    if not parameters.weight:
        return Prepared()
    weight = np.load(parameters.weight)
    return Prepared({"weight": weight}, {"weight": str(weight.sum())}, {"weights": len(weight)})


def misbehave(folder: str, block: Any) -> None:
    """Faults by file name: <first object id>.<kind>; a fault stays until its file is removed."""
    if not folder or not block.n_objects:
        return
    first = int(block.objects["object_id"][0])
    for kind in ("kill", "hang", "error", "once"):
        path = Path(folder) / f"{first}.{kind}"
        if not path.exists():
            continue
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "hang":
            time.sleep(600)
        if kind == "once":
            path.unlink()
        raise RuntimeError(f"object {first} is cursed")


def mean_block(
    block: Any, parameters: MeanParameters, prepared: Prepared, backend: str
) -> dict[str, np.ndarray]:
    misbehave(parameters.trouble, block)
    time.sleep(parameters.delay)
    count = np.diff(block.offsets)
    score = np.full(block.n_objects, np.nan)
    ends = np.full((block.n_objects, 2), np.nan)
    for i in range(block.n_objects):
        values = block.observations["value"][block.offsets[i] : block.offsets[i + 1]].astype(float)
        if len(values):
            values = values**2 if parameters.kind == "rms" else values
            score[i] = (
                parameters.scale
                * values.mean()
                * (prepared.payload["weight"].sum() if prepared.payload else 1)
            )
            ends[i] = values.min(), values.max()
    return {"score": score, "n": count, "minmax": ends}


def memory(n_objects: int, n_observations: int, parameters: MeanParameters, prepared: Prepared) -> int:
    return 8 * n_objects


MEAN = Job(
    name="test-mean",
    summary="Mean of each light curve.",
    parameters=MeanParameters,
    needs=needs,
    gives=gives,
    coords=coords,
    prepare=prepare,
    block=mean_block,
    memory=memory,
)


@dataclass(frozen=True)
class CountParameters:
    step: float = field(default=0.5, metadata={"help": "Width of a cell.", "unit": "mag"})
    delay: float = 0.0
    trouble: str = ""


def count_block(
    block: Any, parameters: CountParameters, prepared: Prepared, backend: str
) -> dict[str, np.ndarray]:
    misbehave(parameters.trouble, block)
    time.sleep(parameters.delay)
    cells = np.clip(block.observations["value"] / parameters.step, 0, 99).astype(int)
    return {
        "histogram": np.bincount(cells, minlength=100).astype(np.int64),
        "objects": np.array([block.n_objects], np.int64),
    }


def finalize(state: Any, parameters: Any, prepared: Any, archive: Any, provenance: dict[str, Any]) -> Any:
    import xarray as xr

    data = {"histogram": ("cell", state["histogram"]), "objects": ((), state["objects"][0])}
    attrs = {"missing": provenance["missing_partitions"], "complete": int(provenance["complete"])}
    return xr.Dataset(data, attrs=attrs)


def save(dataset: Any, path: Path, replace: bool) -> None:
    if path.exists() and not replace:
        raise ReferenceExistsError(f"{path} exists")
    dataset.to_zarr(path, mode="w", consolidated=False)


COUNT = Job(
    name="test-count",
    summary="Histogram of all values.",
    parameters=CountParameters,
    needs=needs,
    block=count_block,
    kind="reduction",
    finalize=finalize,
    save=save,
)


@dataclass(frozen=True)
class HungryParameters:
    gigabytes: float = 1.0


HUNGRY = Job(
    name="test-hungry",
    summary="Needs more memory than there is.",
    parameters=HungryParameters,
    needs=needs,
    gives=gives,
    coords=coords,
    block=mean_block,
    memory=lambda n_objects, n_observations, parameters, prepared: int(parameters.gigabytes * 1e9),
    backends=("cpu", "cuda"),
)
