"""Images, difference images and candidates as files for other programs."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.images import export_tables
from skytrawl.catalogs.images.columns import COLUMNS
from skytrawl.catalogs.images.export_arrays import require_h5py
from skytrawl.catalogs.images.export_candidates import Candidates
from skytrawl.catalogs.images.export_source import Source
from skytrawl.catalogs.images.export_tables import Table
from skytrawl.catalogs.images.export_truth import RADIUS, truth_of
from skytrawl.catalogs.images.export_writers import Writer, writer_of
from skytrawl.catalogs.images.frame import plain
from skytrawl.catalogs.images.quality_columns import COLUMNS as QUALITY
from skytrawl.catalogs.images.table import taken
from skytrawl.catalogs.simulate_images.truth import TRUTH
from skytrawl.catalogs.simulate_tables import require_pyarrow
from skytrawl.errors import ParameterError
from skytrawl.kernels import flags

__all__ = ["FORMATS", "ImageExport", "export_images"]

FORMATS = ("fits", "hdf5", "npz", "tables")
RECORD = "export.json"


@dataclass
class ImageExport:
    """What :func:`export_images` has written.

    Attributes
    ----------
    path : str
        Folder of the export.
    format, kind : str
    frames : int
        Frames with files or groups of their own.
    refused : int
        Chosen frames that hold nothing, because the job refused their image; the table of frames has them.
    candidates, labelled : int
        Rows of the candidate table, and those on the place of a true source.
    files : dict of str to int
        Bytes of each file.
    notes : list of str
    """

    path: str
    format: str
    kind: str
    frames: int = 0
    refused: int = 0
    candidates: int = 0
    labelled: int = 0
    files: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return asdict(self)

    def facts(self) -> dict[str, Any]:
        """What the command line shows."""
        found: dict[str, Any] = {"format": self.format, "frames": f"{self.frames:,} {self.kind}"}
        if self.refused:
            found["without an image"] = f"{self.refused:,}"
        if self.kind == "candidates":
            found["candidates"] = f"{self.candidates:,}, {self.labelled:,} with a truth label"
        found["files"] = f"{len(self.files):,}, {sum(self.files.values()) / 1e6:,.1f} MB"
        return found | {f"note {number}": text for number, text in enumerate(self.notes, 1)}


def export_images(
    store: str | Path,
    path: str | Path,
    format: str = "fits",
    *,
    frames: Sequence[str] | None = None,
    planes: Sequence[str] | None = None,
    cutouts: bool = True,
    truth: str | Path | Mapping[str, np.ndarray] | None = None,
    radius: float = RADIUS,
    tables: Sequence[str] = ("csv",),
    origin: str | Path | None = None,
    version: int | None = None,
    replace: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ImageExport:
    """Write exposures, references, difference images or candidates into a new folder.

    The folder gets its name when everything is in it. Beside the files of the format it holds the tables
    ``frames`` and, where there are such, ``candidates``, ``objects`` and ``truth``, and ``export.json``: the
    provenance, the units and meanings of all columns, and the bits of masks.

    Parameters
    ----------
    store : str or Path
        What `skytrawl ingest-images` or a job over images wrote.
    path : str or Path
        The folder.
    format : {"fits", "hdf5", "npz", "tables"}
        ``fits``: a file a frame; ``hdf5``: one file ``images.h5``; ``npz``: a file a frame, or
        ``candidates.npz``; ``tables``: nothing but tables.
    frames : sequence of str, optional
        Ids, or patterns such as ``"ztf_*"``; all by default.
    planes : sequence of str, optional
        Of images, such as ``("science", "scorr", "mask")``; all by default.
    cutouts : bool
        Write the cutouts of candidates, not their columns alone.
    truth : str, Path or mapping of arrays, optional
        Folder of simulated or injected exposures, or a truth table: candidates get labels (type, flux,
        confidence), and frames the rows that are about them.
    radius : float, pixel
        Farthest that a candidate may lie from the true source whose label it gets.
    tables : sequence of {"csv", "json", "parquet"}
        Formats of the tables.
    origin : str or Path, optional
        Store that the job of this one ran over, where that is no longer where it was.
    version : int, optional
        Of the store; the latest by default.
    replace : bool
        Put the new export in the place of one that is there.
    progress : callable, optional
        Called with done and total (frames).

    Returns
    -------
    ImageExport

    Raises
    ------
    NotAnArchiveError
        If a store is missing or holds nothing that is exported like this.
    ParameterError
        For an unknown format or plane, a path that exists, or a truth table of other exposures.
    ObjectNotFoundError
        If no frame is called so.
    BackendUnavailableError
        If h5py or pyarrow is needed and not installed.
    CorruptShardError
        Naming frame, array and file that are damaged; nothing is left behind.
    """
    _check(format, tables)
    target = Path(path)
    _check_target(target, replace)
    source = Source(store, frames, version, origin)
    if source.kind == "candidates":
        if planes is not None:
            raise ParameterError(f"{store} holds candidates, which have cutouts and no planes")
    else:
        source.check_planes(planes)
    report = ImageExport(
        str(target), format, source.kind, len(source.ids), len(source.rows) - len(source.ids)
    )
    candidates = Candidates(source, truth, radius) if source.kind == "candidates" else None
    found = _tables(source, candidates, truth)
    if candidates is not None:
        report.candidates = len(candidates)
        if truth is not None:
            report.labelled = int((found["candidates"].columns["truth_id"] >= 0).sum())
        if cutouts and format != "tables":
            candidates.require_cutouts()
            if candidates.mixed():
                report.notes.append(
                    "cutouts are in nJy where the frame has a zero point, else in image units"
                )
    with _new_folder(target, replace) as folder:
        if format != "tables":
            writer = writer_of(format)(folder, source, found, report.notes)
            _write(writer, source, candidates if cutouts else None, planes, progress)
        for name, table in found.items():
            for form in tables:
                export_tables.write(table, folder / f"{name}.{form}", form)
        record = {
            "format": format,
            "provenance": source.provenance(),
            "frames": {name: source.of_frame(name) for name in source.ids},
            "columns": {name: table.described() for name, table in found.items()},
            "mask_bits": flags.NAMES,
            "unusable": flags.UNUSABLE,
            "notes": report.notes,
        }
        (folder / RECORD).write_text(json.dumps(plain(record), indent=1, allow_nan=False))
        report.files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    return report


def _write(
    writer: Writer,
    source: Source,
    candidates: Candidates | None,
    planes: Sequence[str] | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    with writer:
        total = len(source.ids)
        for done, name in enumerate(source.ids):
            if progress:
                progress(done, total)
            if source.kind == "candidates":
                writer.candidates(name, candidates)
            else:
                writer.frame(name, planes)
        if source.kind == "candidates":
            writer.all_candidates(candidates)
        if progress:
            progress(total, total)


def _tables(
    source: Source,
    candidates: Candidates | None,
    truth: str | Path | Mapping[str, np.ndarray] | None,
) -> dict[str, Table]:
    about = {**QUALITY, **COLUMNS}
    found = {"frames": Table(taken(source.store.table, source.rows), about)}
    if candidates is not None:
        found |= {"candidates": candidates.table, "objects": candidates.objects}
        if candidates.truth is not None:
            found["truth"] = candidates.truth
    elif truth is not None:
        found["truth"] = Table(truth_of(truth, source.ids), dict(TRUTH))
    return found


def _check(format: str, tables: Sequence[str]) -> None:
    if format not in FORMATS:
        raise ParameterError(f"format={format!r} is unknown: take one of {', '.join(FORMATS)}")
    wrong = [name for name in tables if name not in export_tables.FORMATS]
    if wrong or not tables:
        raise ParameterError(
            f"tables={', '.join(wrong) or 'nothing'}: take of {', '.join(export_tables.FORMATS)}"
        )
    if format == "hdf5":
        require_h5py()
    if "parquet" in tables:
        require_pyarrow("A table in Parquet")


def _check_target(target: Path, replace: bool) -> None:
    if not os.path.lexists(target):
        return
    if not replace:
        raise ParameterError(f"{target} exists: choose another path, or replace it (replace, --replace)")
    if not (target / RECORD).is_file():
        raise ParameterError(f"{target} is no export of images and will not be replaced: choose another path")


@contextmanager
def _new_folder(target: Path, replace: bool) -> Iterator[Path]:
    """A folder to write into, which takes its name only if all went well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.partial")
    old = folder.with_suffix(".old")
    folder.mkdir()
    try:
        yield folder
        _check_target(target, replace)
        if target.exists():
            os.rename(target, old)
        os.rename(folder, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if old.exists() and not target.exists():
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)
