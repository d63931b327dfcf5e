"""Job scan-null: what the best bump and the best dip of a survey's light curves are by chance.

The survey is its own null: a sample of objects (those with the smallest hashes of their ids) is scanned with
the parameters that `scan` will have, and their extremes are kept with what they depend on; see
:mod:`skytrawl.catalogs.scan_null`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs import scan_null
from skytrawl.catalogs.sky import hash_of
from skytrawl.errors import ParameterError
from skytrawl.job import Arrays, Job, Prepared
from skytrawl.kernels import scan
from skytrawl.lens_models import positions_needed, sky_inputs, sky_of
from skytrawl.params import option
from skytrawl.scan_analysis import analyse, null_facts, scan_memory, scan_payload
from skytrawl.scan_common import curves_of, rows_needed
from skytrawl.scan_params import ScanParameters

if TYPE_CHECKING:
    import xarray as xr

    from skytrawl.catalogs.archive import Archive, Block

# Hashes are spread evenly, but not exactly: so many times the wanted share of them is scanned.
SPARE = 1.5


@dataclass(frozen=True, kw_only=True)
class Parameters(ScanParameters):
    """Parameters of scan-null."""

    sample_size: int = option(10_000, "objects of the null")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sample_size < 1:
            raise ParameterError("sample_size must be 1 at least")


def job_needs(parameters: Parameters, archive: Archive) -> tuple[str, ...]:
    """Variables that are read."""
    return (*rows_needed(parameters, archive), *positions_needed(parameters, archive), "objects/object_id")


def prepare(parameters: Parameters, archive: Archive) -> Prepared:
    """Pin bands, flux system and the range of hashes that is scanned."""
    job_needs(parameters, archive)
    share = min(1.0, SPARE * parameters.sample_size / max(archive.n_objects, 1))
    limit = np.uint64(min(int(share * 2.0**64), 2**64 - 1))
    return Prepared({**scan_payload(parameters, archive), "limit": limit}, sky_inputs(parameters))


def block(block: Block, parameters: Parameters, prepared: Prepared, backend: str) -> Arrays:
    """Scan the objects of one partition that belong to the sample."""
    hashes = hash_of(block.objects["object_id"])
    chosen = np.flatnonzero(hashes <= prepared.payload["limit"])
    part = take(block, chosen)
    curves, _, _ = curves_of(part, parameters, prepared.payload["system"])
    found = analyse(curves, parameters, backend=backend, sky=sky_of(part, prepared.payload))  # type: ignore[arg-type]
    statistic, features = scan_null.statistic(found.result), scan_null.features(found.residual, found.result)
    sample = scan_null.sample_of(hashes[chosen], statistic, features, parameters.sample_size)
    return {"size": np.array([parameters.sample_size]), **sample}


def take(block: Block, chosen: np.ndarray) -> Block:
    """Some objects of a block with their observations."""
    from skytrawl.catalogs.block import Block as Rows

    counts = np.diff(block.offsets)[chosen]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rows = np.arange(offsets[-1]) + np.repeat(block.offsets[:-1][chosen] - offsets[:-1], counts)
    return Rows(
        {name: column[chosen] for name, column in block.objects.items()},
        {name: column[rows] for name, column in block.observations.items()},
        offsets,
    )


def combine(left: Arrays, right: Arrays) -> Arrays:
    """Join two samples: the smallest hashes stay, whatever was joined in which order."""
    return {"size": left["size"], **scan_null.join(left, right, int(left["size"][0]))}


def finalize(
    state: Arrays, parameters: Parameters, prepared: Prepared, archive: Archive, provenance: dict[str, Any]
) -> xr.Dataset:
    """Make the null."""
    return scan_null.build(state, {**null_facts(parameters, archive), **provenance})


def memory(n_objects: int, n_observations: int, parameters: Parameters, prepared: Prepared) -> int:
    """Bytes of work space, as of a scan, and the joined samples."""
    return scan_memory(n_objects, n_observations, parameters) + 400 * parameters.sample_size


JOB = Job(
    name="scan-null",
    summary="collect what a scan finds by chance: the null of scan's false-alarm probabilities",
    parameters=Parameters,
    needs=job_needs,
    block=block,
    prepare=prepare,
    memory=memory,
    kernel_version=scan.KERNEL_VERSION,
    kind="reduction",
    backends=("cpu", "cuda"),
    combine=combine,
    finalize=finalize,
    save=scan_null.save,
)
