"""Candidates of a detection run in the order of their frames, with truth labels and cutouts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from skytrawl.catalogs.images.candidates import open_candidates
from skytrawl.catalogs.images.export_source import Source
from skytrawl.catalogs.images.export_tables import Table, unit_of
from skytrawl.catalogs.images.export_truth import LABELS, labelled, truth_of
from skytrawl.catalogs.images.planes import Plane
from skytrawl.catalogs.simulate_images.truth import TRUTH
from skytrawl.errors import ArchiveError, ImageError

CUTOUTS, MASK = "cutouts", "cutout_mask"
# Where the stamps lie on the image.
_PLACES = {
    "cutout_x": ("pixel", "column of the image at [0, 0] of the cutout, 0-based; may lie outside"),
    "cutout_y": ("pixel", "row of the image at [0, 0] of the cutout"),
}


class Candidates:
    """Candidates of the chosen frames of a detection run.

    Parameters
    ----------
    source : Source
        Of kind "candidates".
    truth : path or mapping, optional
        See :func:`skytrawl.catalogs.images.export_truth.truth_of`.
    radius : float, pixel
        Between candidates and true sources.

    Attributes
    ----------
    table : Table
        One row a candidate: by frame, then by the row in the frame, which is the order of the cutouts.
    objects : Table
        What the candidates are detections of; ``best`` is a row of the catalogue.
    truth : Table or None
        With the row of the candidate in `table` of each source, -1 without one.
    size : int
        Side of the cutouts; 0 where the run made none.
    planes : list of str
        Of the cutouts.
    frames : list of (id, slice)
        Frames with candidates and their rows in `table`.

    Raises
    ------
    ArchiveError
        If the catalogue does not fit the frames.
    """

    def __init__(
        self,
        source: Source,
        truth: str | Path | Mapping[str, np.ndarray] | None = None,
        radius: float = 3.0,
    ) -> None:
        self.source = source
        found = open_candidates(source.store.path)
        tables = {name: _table(data) for name, data in found.items()}
        whole, self.objects = tables["candidates"], tables["objects"]
        names = np.array([name.encode() for name in source.ids] or [b""])
        columns, about = dict(whole.columns), dict(whole.about)
        exposure = columns.get("exposure", np.zeros(0, "S1"))
        order = np.lexsort((columns.get("row", exposure), exposure))
        order = order[np.isin(exposure[order], names)]
        columns = {"candidate": order, **{name: values[order] for name, values in columns.items()}}
        about["candidate"] = ("", "row of the run's catalogue")
        self.frames = _slices(columns.get("exposure", exposure), source)
        self.size, self.planes = self._shape()
        if self.size and len(order):
            for axis in "xy":
                columns[f"cutout_{axis}"] = np.floor(columns[axis] + 0.5).astype(np.int64) - self.size // 2
            about |= _PLACES
        self.truth: Table | None = None
        if truth is not None:
            rows = truth_of(truth, source.ids)
            places = {name: columns.get(name, np.zeros(0)) for name in ("exposure", "x", "y")}
            labels, rows = labelled(rows, places, radius)
            columns |= labels
            about |= LABELS
            partner = ("", "row of the exported candidates, -1 where none was found")
            self.truth = Table(rows, {**TRUTH, "candidate": partner})
        unit = source.unit(self.frames[0][0]) if self.frames else ""
        self.table = Table(columns, {name: (unit_of(u, unit), text) for name, (u, text) in about.items()})

    def __len__(self) -> int:
        return len(self.table)

    def of_frame(self, rows: slice) -> Table:
        """The table of the candidates of one frame."""
        return Table({name: values[rows] for name, values in self.table.columns.items()}, self.table.about)

    def unit(self, frame_id: str | None = None) -> str:
        """Unit of the cutouts of a frame, or of all: nJy with a zero point, else that of the images.

        "" where frames differ or nothing is known.
        """
        names = [frame_id] if frame_id else [name for name, _ in self.frames]
        found = set()
        for name in names:
            njy = self.source.store.record(name)["row"].get("njy_per_unit")
            found.add("nJy" if njy is not None and np.isfinite(njy) else self.source.unit(name))
        return found.pop() if len(found) == 1 else ""

    def mixed(self) -> bool:
        """Whether the cutouts of some frames are in nJy and those of others are not."""
        return len({self.unit(name) == "nJy" for name, _ in self.frames}) > 1

    def require_cutouts(self) -> None:
        """ImageError if the run made no cutouts of its candidates."""
        if len(self) and not self.size:
            raise ImageError(
                f"the run in {self.source.path} made no cutouts: run detect with --cutout 63, or leave them "
                "out (--no-cutouts)"
            )

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of all cutouts, or of all their masks."""
        lead = (len(self), len(self.planes)) if name == CUTOUTS else (len(self),)
        return (*lead, self.size, self.size)

    def parts(self, name: str) -> Iterator[tuple[slice, np.ndarray]]:
        """Cutouts, or masks of them, a few megabytes at a time: rows of `table` and their values."""
        for frame_id, rows in self.frames:
            plane = self.source.store.plane(frame_id, name)
            for part in _parts(plane):
                window = (part, *(slice(0, size) for size in plane.shape[1:]))
                values = self.source.store.read_plane(frame_id, name, plane, window)
                yield slice(rows.start + part.start, rows.start + part.stop), values

    def _shape(self) -> tuple[int, list[str]]:
        for frame_id, _ in self.frames:
            record = self.source.store.record(frame_id)
            if CUTOUTS not in record["arrays"]:
                return 0, []
            return self.source.store.plane(frame_id, CUTOUTS).shape[-1], list(record["attrs"]["planes"])
        return 0, []


_PART = 1 << 25  # bytes of cutouts that are in memory at once


def _parts(plane: Plane) -> Iterator[slice]:
    """Rows of a plane in multiples of its chunks."""
    each = max(1, plane.nbytes // max(1, plane.shape[0]))
    step = max(1, _PART // each // plane.chunks[0]) * plane.chunks[0]
    for start in range(0, plane.shape[0], step):
        yield slice(start, min(start + step, plane.shape[0]))


def _slices(exposure: np.ndarray, source: Source) -> list[tuple[str, slice]]:
    table = source.store.table
    found = []
    for name in source.ids:
        first, last = (int(np.searchsorted(exposure, name.encode(), side)) for side in ("left", "right"))
        count = table["n_candidates"][source.store.row_number(name)]
        if last - first != count:
            raise ArchiveError(
                f"the catalogue of {source.path} has {last - first} candidates of {name}, its frame "
                f"{count:g}: finish the run with the same command of `skytrawl run detect`"
            )
        if count:
            found.append((name, slice(first, last)))
    return found


def _table(data: object) -> Table:
    variables = data.data_vars  # type: ignore[attr-defined]
    columns = {str(name): values.values for name, values in variables.items()}
    about = {str(n): (v.attrs["units"], v.attrs["long_name"]) for n, v in variables.items()}
    return Table(columns, about)
