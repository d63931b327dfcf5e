"""How each format lays out frames and candidates."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.images.export_arrays import Npz, put, put_attributes, put_table, require_h5py
from skytrawl.catalogs.images.export_candidates import CUTOUTS, MASK, Candidates
from skytrawl.catalogs.images.export_fits import FitsFile
from skytrawl.catalogs.images.export_source import Piece, Source
from skytrawl.catalogs.images.export_tables import Table
from skytrawl.catalogs.images.frame import plain
from skytrawl.catalogs.images.table import row_of, taken
from skytrawl.kernels import flags

_CUTOUTS = "candidate, plane, y, x; NaN outside the image"
_MASK = "bits of the pixels of the cutouts: candidate, y, x"


class Writer(ABC):
    """One format; a context manager that ends the files.

    Parameters
    ----------
    folder : Path
    source : Source
    tables : dict of str to Table
        frames, and candidates, objects and truth where there are such.
    notes : list of str
        Grows by what the reader of the export should know.
    """

    def __init__(self, folder: Path, source: Source, tables: dict[str, Table], notes: list[str]) -> None:
        self.folder = folder
        self.source = source
        self.tables = tables
        self.notes = notes
        self.stack = ExitStack()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: Any) -> None:
        self.stack.__exit__(*error)

    @abstractmethod
    def frame(self, frame_id: str, planes: Sequence[str] | None) -> None:
        """A frame of an image with its planes."""

    def candidates(self, frame_id: str, candidates: Candidates | None) -> None:  # noqa: B027
        """Candidates of a frame, in formats with a file for each; None leaves cutouts out."""

    def all_candidates(self, candidates: Candidates | None) -> None:  # noqa: B027
        """Candidates of all frames, in formats with one file for them."""

    def row(self, frame_id: str) -> Table:
        """The row of a frame in the table of frames."""
        number = np.array([self.source.store.row_number(frame_id)])
        return Table(taken(self.source.store.table, number), self.tables["frames"].about)

    def truth(self, frame_id: str) -> Table | None:
        """The true sources on a frame."""
        whole = self.tables.get("truth")
        if whole is None:
            return None
        rows = whole.columns["exposure"] == frame_id.encode()
        return Table({name: values[rows] for name, values in whole.columns.items()}, whole.about)

    def njy(self, frame_id: str) -> float:
        """Flux of one unit of the image in nJy, NaN where unknown."""
        value = self.source.store.record(frame_id)["row"].get("njy_per_unit")
        return math.nan if value is None else float(value)

    def own(self, frame_id: str) -> tuple[slice, Table]:
        """Rows of a frame among all candidates, and their columns."""
        table = self.tables["candidates"]
        exposure = table.columns.get("exposure", np.zeros(0, "S1"))
        first, last = (int(np.searchsorted(exposure, frame_id.encode(), side)) for side in ("left", "right"))
        rows = slice(first, last)
        return rows, Table({name: values[rows] for name, values in table.columns.items()}, table.about)


class FitsWriter(Writer):
    """A file a frame: planes or cutouts as extensions, FRAME (its row), CANDIDATES, TRUTH."""

    def frame(self, frame_id: str, planes: Sequence[str] | None) -> None:
        """Planes as image extensions, each with all cards of the original header."""
        cards, primary = self.source.cards(frame_id)
        file = FitsFile(self.folder / f"{frame_id}.fits", primary)
        file.begin(self.source, frame_id)
        njy = self.njy(frame_id)
        for piece in self.source.pieces(frame_id, planes):
            if piece.values.ndim and piece.values.size:
                file.add(piece, cards, njy)
        for text, values in self.source.tables(frame_id):
            file.add_distortion(text, values)
        self._tables(file, frame_id)

    def candidates(self, frame_id: str, candidates: Candidates | None) -> None:
        """CANDIDATES, and their cutouts as cubes."""
        cards, primary = self.source.cards(frame_id)
        if not cards:
            note = "no header cards and WCS: the difference images are not where the run found them"
            self.notes += [note] if note not in self.notes else []
        file = FitsFile(self.folder / f"{frame_id}.fits", cards or primary)
        file.begin(self.source, frame_id)
        _, table = self.own(frame_id)
        file.add_table(table, "CANDIDATES")
        if candidates is not None and len(table):
            for name, extension, dims, meaning in (
                (CUTOUTS, "CUTOUTS", ("candidate", "plane", "y", "x"), self._meaning(candidates)),
                (MASK, "MASK", ("candidate", "y", "x"), _MASK),
            ):
                values = self.source.store.read(frame_id, [name]).arrays[name]
                unit = candidates.unit(frame_id) if name == CUTOUTS else ""
                file.add(Piece(name, extension, values, dims, unit, meaning, False), "", math.nan)
        self._tables(file, frame_id)

    def _meaning(self, candidates: Candidates) -> str:
        return f"{_CUTOUTS}; planes: {', '.join(candidates.planes)}"

    def _tables(self, file: FitsFile, frame_id: str) -> None:
        file.add_table(self.row(frame_id), "FRAME")
        truth = self.truth(frame_id)
        if truth is not None:
            file.add_table(truth, "TRUTH")


class Hdf5Writer(Writer):
    """One file: frames, tables, and all cutouts in one dataset, row by row as the candidates."""

    def __init__(self, folder: Path, source: Source, tables: dict[str, Table], notes: list[str]) -> None:
        super().__init__(folder, source, tables, notes)
        self.file = self.stack.enter_context(require_h5py().File(folder / "images.h5", "x"))
        put_attributes(
            self.file, {**source.provenance(), "mask_bits": flags.NAMES, "unusable": flags.UNUSABLE}
        )
        for name, table in tables.items():
            put_table(self.file.create_group(f"tables/{name}"), table)

    def frame(self, frame_id: str, planes: Sequence[str] | None) -> None:
        """A group a frame with its arrays, header cards and provenance."""
        group = self._group(frame_id)
        for piece in self.source.pieces(frame_id, planes):
            put(group, piece.name, piece.values, piece.unit, piece.meaning).attrs["dims"] = list(piece.dims)
        for number, (text, values) in enumerate(self.source.tables(frame_id)):
            put(group, f"wcs_table_{number}", values).attrs["cards"] = text

    def candidates(self, frame_id: str, candidates: Candidates | None) -> None:
        """A group with the provenance and the rows of the frame among all candidates."""
        rows, _ = self.own(frame_id)
        put_attributes(
            self._group(frame_id), {"first_candidate": rows.start, "n_candidates": rows.stop - rows.start}
        )

    def all_candidates(self, candidates: Candidates | None) -> None:
        """Datasets cutouts and cutout_mask, filled a part at a time."""
        if candidates is None or not len(candidates):
            return
        more = {CUTOUTS: (np.float32, candidates.unit(), _CUTOUTS), MASK: (np.uint16, "", _MASK)}
        for name, (dtype, unit, meaning) in more.items():
            shape = candidates.shape(name)
            small = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if name == MASK else {}
            # A stamp a chunk, so that any of them is read by itself.
            dataset = self.file.create_dataset(
                name, shape, dtype, chunks=(1, *shape[1:]), fletcher32=True, **small
            )
            dataset.attrs["units"], dataset.attrs["long_name"] = unit, meaning
            for rows, values in candidates.parts(name):
                dataset[rows] = values
        self.file[CUTOUTS].attrs["planes"] = candidates.planes

    def _group(self, frame_id: str) -> Any:
        group = self.file.create_group(f"frames/{frame_id}")
        cards, primary = self.source.cards(frame_id)
        row = self.source.store.record(frame_id)["row"]
        put_attributes(
            group, {**self.source.of_frame(frame_id), "row": row, "cards": cards, "primary_cards": primary}
        )
        return group


class NpzWriter(Writer):
    """A file a frame with its planes, or ``candidates.npz`` with all cutouts and columns."""

    def frame(self, frame_id: str, planes: Sequence[str] | None) -> None:
        """Arrays by name, the header cards, and row and provenance as JSON text."""
        with Npz(self.folder / f"{frame_id}.npz") as file:
            about: dict[str, Any] = {}
            for piece in self.source.pieces(frame_id, planes):
                file.add(piece.name, piece.values)
                about[piece.name] = {"unit": piece.unit, "description": piece.meaning, "dims": piece.dims}
            for number, (text, values) in enumerate(self.source.tables(frame_id)):
                file.add(f"wcs_table_{number}", values)
                about[f"wcs_table_{number}"] = {"cards": text}
            cards, primary = self.source.cards(frame_id)
            file.add("cards", np.array(cards))
            file.add("primary_cards", np.array(primary))
            truth = self.truth(frame_id)
            if truth is not None:
                _columns(file, truth, "truth_")
            row = row_of(self.source.store.table, self.source.store.row_number(frame_id))
            self._about(file, {"arrays": about, "row": row, **self.source.of_frame(frame_id)})

    def all_candidates(self, candidates: Candidates | None) -> None:
        """``cutouts`` and ``cutout_mask``, and one array a column."""
        table = self.tables["candidates"]
        with Npz(self.folder / "candidates.npz") as file:
            _columns(file, table, "")
            about: dict[str, Any] = {"columns": table.described()}
            if candidates is not None and len(candidates):
                for name, dtype in ((CUTOUTS, np.float32), (MASK, np.uint16)):
                    parts: Iterator[np.ndarray] = (values for _, values in candidates.parts(name))
                    file.stream(name, dtype, candidates.shape(name), parts)
                file.add("planes", np.array(candidates.planes))
                about[CUTOUTS] = {"unit": candidates.unit(), "description": _CUTOUTS}
            self._about(file, about)

    def _about(self, file: Npz, values: dict[str, Any]) -> None:
        whole = {**self.source.provenance(), **values, "mask_bits": flags.NAMES, "unusable": flags.UNUSABLE}
        file.add("about", np.array(json.dumps(plain(whole), allow_nan=False)))


def _columns(file: Npz, table: Table, prefix: str) -> None:
    for name in table.names():
        values = table.values(name)
        file.add(prefix + name, values if isinstance(values, np.ndarray) else table.columns[name])


def writer_of(format: str) -> type[Writer]:
    """The writer of a format."""
    return {"fits": FitsWriter, "hdf5": Hdf5Writer, "npz": NpzWriter}[format]
