"""What a worker does with units of a job over frames: read, make, write, then a ledger record."""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skytrawl.catalogs.ledger import Ledger
from skytrawl.catalogs.storage import Storage
from skytrawl.errors import ImageError, ParameterError
from skytrawl.frames.source import unit_table
from skytrawl.job import load_job
from skytrawl.task import Report, Spec, check_fit, load_artefact, record, totals, trouble

if TYPE_CHECKING:
    from skytrawl.catalogs.images.store import FrameStore
    from skytrawl.frames.job import FrameJob, Unit
    from skytrawl.job import Prepared


def work(spec: Spec, partitions: list[int]) -> Report:
    """Make the frames of some units; one that raises is reported and the others go on."""
    from skytrawl.catalogs.images.store import FrameStore

    began = time.perf_counter()
    job: Any = load_job(spec.job)
    store = FrameStore.cached(spec.archive, spec.version)
    check_fit(store, spec.archive_fingerprint, spec.packages)
    prepared = load_artefact(spec.home, spec.artefact)
    out = _opened(spec.run)
    table = unit_table(prepared.payload["units"])
    finished: list[tuple[int, float, str]] = []
    report = Report()
    for partition in partitions:
        start = time.perf_counter()
        try:
            values = make(job, store, prepared.payload["units"][partition], spec, prepared, out)
        except Exception as error:
            report.troubles.append(trouble(partition, error))
            continue
        finished.append((partition, time.perf_counter() - start, values))
        # At once: a frame takes seconds, and what is recorded need not be made again.
        record(spec, Ledger(Storage(spec.run), "ledger"), table, finished[-1:])
    return totals(report, table, [partition for partition, _, _ in finished], began)


def make(
    job: FrameJob, store: FrameStore, unit: Unit, spec: Spec, prepared: Prepared, out: FrameStore
) -> str:
    """Make and write one frame; returns the hash of its values."""
    from skytrawl.catalogs.images.frame import Frame

    source = store.record(unit.inputs[0])["row"]
    kept = {name: source[name] for name in job.keeps if name in source}
    try:
        frame = job.make(store, unit, spec.parameters, prepared, spec.backend)
        frame.row = {**kept, "verdict": "good", "reason": "", **frame.row}
    except (ImageError, ParameterError) as error:
        frame = Frame(unit.id, {}, {}, {**kept, "verdict": "refused", "reason": str(error)})
    if frame.id != unit.id:
        raise ValueError(f"job {job.name} made frame {frame.id} for unit {unit.id}")
    frame.attrs = {**frame.attrs, "made_from": unit.content}
    steps = job.quantise(spec.parameters) if job.quantise is not None else None
    return out.write(frame, quantise=steps)


@lru_cache(maxsize=8)
def _opened(path: str) -> FrameStore:
    from skytrawl.catalogs.images.store import FrameStore

    return FrameStore.open(Path(path))
