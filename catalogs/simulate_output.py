"""Where simulated surveys go: the partitions of an archive, long tables, and the truth table beside them."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs import export
from skytrawl.catalogs.block import Block
from skytrawl.catalogs.simulate_chunks import Simulation
from skytrawl.catalogs.simulate_tables import RowWriter
from skytrawl.catalogs.versions import Version
from skytrawl.catalogs.writer import PARTITION_OBSERVATIONS, ArchiveWriter, slots_for
from skytrawl.errors import ParameterError

_TRUTH_ROWS = 65_536

Progress = Callable[[int, int], None]


@dataclass
class Simulated:
    """What :func:`simulate_survey` has written.

    Attributes
    ----------
    path : Path
        Archive or table.
    truth : Path or None
        Truth table.
    kind, format : str
    objects, observations : int
    classes : Counter
        Objects of each class.
    version : Version or None
        Of an archive.
    """

    path: Path
    truth: Path | None
    kind: str
    format: str
    objects: int = 0
    observations: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    version: Version | None = None

    def count(self, block: Block) -> None:
        """Add the objects and observations of a block."""
        self.objects += block.n_objects
        self.observations += block.n_observations
        names, counts = np.unique(block.objects["class"], return_counts=True)
        self.classes.update({name.decode(): int(n) for name, n in zip(names, counts, strict=True)})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "path": str(self.path),
            "truth": None if self.truth is None else str(self.truth),
            "kind": self.kind,
            "format": self.format,
            "objects": self.objects,
            "observations": self.observations,
            "classes": dict(self.classes.most_common()),
        }

    def __str__(self) -> str:
        classes = ", ".join(f"{count:,} {name}" for name, count in self.classes.most_common())
        lines = [f"{self.path}: {self.objects:,} objects, {self.observations:,} observations ({self.kind})"]
        lines += [f"  {classes}"] if classes else []
        return "\n".join(lines + ([f"  truth: {self.truth}"] if self.truth else []))


def bounds(planned: Simulation, partitions: int | None) -> np.ndarray:
    """Numbers of objects at which partitions begin and end; about 4 million observations each by default."""
    if partitions is None:
        partitions = max(1, round(planned.n_objects * planned.mean_observations / PARTITION_OBSERVATIONS))
    if partitions < 1:
        raise ParameterError(f"partitions={partitions} must be at least 1")
    return np.linspace(0, planned.n_objects, partitions + 1).astype(np.int64)


def regrouped(chunks: Iterator[Block], cuts: np.ndarray) -> Iterator[Block]:
    """Blocks cut at these numbers of objects, from blocks of any size."""
    held: list[Block] = []
    count = 0
    for target in np.diff(cuts).tolist():
        while count < target:
            held.append(next(chunks))
            count += held[-1].n_objects
        joined = _joined(held)
        yield joined.select(slice(0, target))
        held = [joined.select(slice(target, count))] if count > target else []
        count -= target


def _joined(blocks: list[Block]) -> Block:
    if len(blocks) < 2:
        return blocks[0] if blocks else Block()
    starts = np.cumsum([0, *(block.n_observations for block in blocks)])
    moved = [block.offsets[1:] + start for block, start in zip(blocks, starts[:-1], strict=True)]
    return Block(
        {name: np.concatenate([b.objects[name] for b in blocks]) for name in blocks[0].objects},
        {name: np.concatenate([b.observations[name] for b in blocks]) for name in blocks[0].observations},
        np.concatenate([np.zeros(1, np.int64), *moved]),
    )


def into_archive(
    planned: Simulation,
    done: Simulated,
    partitions: int | None,
    slots: tuple[int | None, int | None],
    flush: bool,
    progress: Progress | None,
    per_partition: bool = False,
) -> Iterator[dict[str, np.ndarray]]:
    """Write and publish an archive; yields the rows of the truth table on the way."""
    cuts = bounds(planned, partitions)
    most = int(np.diff(cuts).max(initial=0))
    fitting = slots_for(most, int(1.1 * most * planned.mean_observations))
    survey, time = planned.survey, planned.model.time
    writer = ArchiveWriter.create(
        done.path,
        survey=survey.to_dict(),
        light_curves={
            "quantity": survey.quantity,
            "photometry": "total",
            "units": survey.units,
            "magnitude_system": survey.magnitude_system,
            **({} if survey.zero_point is None else {"zero_point": survey.zero_point}),
            "time": {
                "scale": survey.time_scale,
                "reference_position": time.get("reference_position", survey.reference_position),
                "exposure_point": time.get("exposure_point", survey.exposure_point),
                "offset": 0.0,
                "origin": "MJD",
            },
        },
        bands=planned.bands,
        dtypes={"objects/class": planned.class_dtype},
        object_slot=slots[0] or fitting[0],
        observation_slot=slots[1] or fitting[1],
    )
    rows: list[dict[str, np.ndarray]] = []

    def chunks() -> Iterator[Block]:
        for block, found in planned.chunks():
            rows.append(found)
            yield block

    for number, block in enumerate(regrouped(chunks(), cuts), 1):
        if block.n_objects:
            done.count(block)
        writer.write(block, flush=flush)
        yield from rows
        rows.clear()
        if progress is not None:
            progress(*((number, len(cuts) - 1) if per_partition else (done.objects, planned.n_objects)))
    done.version = writer.publish(note="simulate", sources=planned.provenance())


def into_table(
    planned: Simulation, done: Simulated, progress: Progress | None
) -> Iterator[dict[str, np.ndarray]]:
    """Write a long table; yields the rows of the truth table on the way."""
    with RowWriter(done.path, done.format, planned) as writer:
        for block, found in planned.chunks():
            writer.write(block)
            done.count(block)
            yield found
            if progress is not None:
                progress(done.objects, planned.n_objects)


def gathered(pieces: Iterator[dict[str, np.ndarray]], planned: Simulation) -> Iterator[dict[str, np.ndarray]]:
    """Pieces of the truth table joined to row groups; at least one, if without rows."""
    held: list[dict[str, np.ndarray]] = [planned.no_truth()]
    for piece in pieces:
        held.append(piece)
        if sum(len(part["object_id"]) for part in held) >= _TRUTH_ROWS:
            yield export.joined(held)
            held = []
    if held:
        yield export.joined(held)
