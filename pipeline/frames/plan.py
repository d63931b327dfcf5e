"""What a job over frames will read and need, before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.params import parameter_dict
from skytrawl.planner import ALLOCATOR, BASE_PROCESS, Plan, refusal

if TYPE_CHECKING:
    from skytrawl.frames.job import FrameJob
    from skytrawl.frames.source import FrameSource
    from skytrawl.job import Prepared


def project(
    job: FrameJob,
    source: FrameSource,
    parameters: Any,
    prepared: Prepared,
    *,
    workers: int,
    threads: int,
    limit: int,
) -> Plan:
    """The plan of a prepared job on `workers` of `threads` threads and `limit` bytes each (0: no limit).

    Pixels stand where the plan of a job over light curves has observations.
    """
    pixels = np.array([unit.pixels for unit in source.units], np.int64)
    needs = [job.memory(unit, parameters, prepared) for unit in source.units]
    greatest = int(np.argmax(needs)) if needs else None
    task = 0 if greatest is None else int(ALLOCATOR * needs[greatest])
    worker = BASE_PROCESS + prepared.nbytes + threads * task
    what = "none" if greatest is None else source.units[greatest].id
    largest = 0 if greatest is None else int(pixels[greatest])
    return Plan(
        job=job.name,
        archive=str(source.path),
        version=source.version.number,
        parameters=parameter_dict(parameters),
        partitions=len(pixels),
        objects=len(pixels),
        observations=int(pixels.sum()),
        tasks=len(pixels),
        read_bytes=int(pixels.sum()) * 10,  # image and variance in float32, 16 bits of mask
        write_bytes=int(pixels.sum()) * 4 * job.planes,
        memory_task=task,
        memory_worker=worker,
        memory_limit=limit,
        workers=workers,
        threads=threads,
        payload=prepared.nbytes,
        needs=("image", "variance", "mask", "psf"),
        gives=(job.gives,),
        inputs=dict(prepared.inputs),
        refused=refusal(
            job.name,
            worker,
            task,
            threads,
            limit,
            f"{what}: {largest / 1e6:.1f} Mpix",
            "cut the images into smaller ones",
        ),
        over=source.store.kind,
    )
