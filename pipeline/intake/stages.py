"""The stages of an ingest on the driver: hand out tasks, keep their records, publish."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs import readers
from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.readers.table import Piece
from skytrawl.catalogs.report import IngestReport
from skytrawl.catalogs.writer import ArchiveWriter, slots_for
from skytrawl.errors import IngestError, VersionConflictError
from skytrawl.intake import account, files, gather, leftovers, plan, scatter
from skytrawl.intake.buckets import Buckets, from_partitions
from skytrawl.intake.census import settle_strays
from skytrawl.intake.journal import Journal
from skytrawl.intake.pool import Pool
from skytrawl.intake.reading import OPTIONAL
from skytrawl.intake.request import Request, remembered

Record = dict[str, Any]
# Groups of ordered pieces, behind its own, into which a task follows its last object.
_REACH = 2


class Intake:
    """One ingest or append.

    Parameters
    ----------
    request : Request
    journal : Journal
    pool : Pool
    listed : sequence
        Sources.
    progress : callable or None
        Called with stage, done and total.
    base : Archive, optional
        The version that an append goes on top of.
    """

    def __init__(
        self,
        request: Request,
        journal: Journal,
        pool: Pool,
        listed: Sequence[Any],
        progress: Callable[[str, int, int], None] | None,
        base: Archive | None = None,
    ) -> None:
        self.request = request
        self.journal = journal
        self.pool = pool
        self.listed = listed
        self.progress = progress
        self.base = base
        self._pieces: list[Piece] = []
        self.on_disk = all(isinstance(source, Path) for source in listed)

    def first(self, started: float) -> IngestReport:
        """Make the first version of a new archive."""
        made = self._planned()
        self._refuse(made["refused"])
        records: list[Record] = []
        if made["ordered"]:
            if not self._marked("unordered"):
                records = self._direct(made)
            elif not self._marked("undone"):
                self._undo_direct()
        if records:
            total = account.add(records, made["refused"])
            blocks = [block for record in records for block in record["blocks"]]
            index = settle_strays(self, None, blocks)
            if index is None:  # an object lies in two places of the input
                blocks = []
                self._undo_direct()
        if not records or not blocks:
            total, blocks, index = self._through_buckets(made)
        writer = ArchiveWriter(self.journal.storage.root)
        for block in blocks:
            for row in files.partitions_of(block):
                writer.append(row)
        account.check_kept(self, total, blocks)
        settled = self._settled(total, blocks)
        version = writer.base  # there is one if this ingest was killed after it had published
        if version is None:
            files.flush(self.journal.storage, blocks)
            writer.settle(**settled)
            sources = account.provenance(self.listed, total)
            version = writer.publish(note="ingest", index=index, sources=sources)
        report = account.report(self, total, blocks, version, writer, started)
        self.clean()
        return report

    def further(self, started: float) -> IngestReport:
        """Make the next version of an archive."""
        assert self.base is not None
        made = self._planned()
        self._refuse(made["refused"])
        total, blocks, index = self._through_buckets(made)
        writer = ArchiveWriter(self.journal.storage.root)
        if writer.base is None or writer.base.number != self.base.version.number:
            raise VersionConflictError(
                f"{self.base.path}: another writer has published version "
                f"{writer.base.number if writer.base else 0} meanwhile: repeat the append on top of it"
            )
        account.check_kept(self, total, blocks)
        files.flush(self.journal.storage, blocks)
        # A partition of the base that was cut into several blocks is replaced if one of them has new rows.
        grown = {block["base"] for block in blocks if block["rows"]}
        fresh = [block for block in blocks if block["base"] in grown]
        for block in fresh:
            if block["base"] is not None:
                writer.drop(block["base"])
            for row in files.partitions_of(block):
                writer.append(row)
        version = writer.base
        if fresh:
            version = writer.publish(
                note="append", index=index, sources=account.provenance(self.listed, total)
            )
        report = account.report(self, total, blocks, version, writer, started)
        self.clean()
        return report

    def clean(self) -> None:
        """Remove what only the ingest needed."""
        self.pool.everywhere(files.release)  # workers may outlive the ingest, and their locks keep sweeps off
        files.release()
        storage = self.journal.storage
        # At once: work of which half is gone cannot be continued.
        grave = leftovers.bury(storage.path(self.journal.prefix))
        spilled = storage.list(f"staging/{grave.name}/spill")
        groups = [spilled[start :: 2 * self.pool.threads] for start in range(2 * self.pool.threads)]
        self.pool.run(files.remove, [(storage, group) for group in groups if group], lambda _: None)
        leftovers.drop(grave)

    def source_of(self, key: str) -> str:
        """How messages call the source of a spill file (a source itself stays)."""
        if not key.startswith(self.journal.prefix):
            return key
        number = key.rpartition("/")[2].partition("-")[0]
        return readers.source_name(self._pieces[int(number)].source) if number.isdigit() else "the input"

    def tell(self, stage: str, done: int, total: int) -> None:
        """Report progress."""
        if self.progress:
            self.progress(stage, done, total)

    def stage(
        self, name: str, function: Callable[..., Record], todo: dict[str, tuple[Any, ...]], shown: str
    ) -> dict[str, Record]:
        """Run the tasks of a stage that have no record yet; returns the records of all."""
        found = {number: record for number, record in self.journal.read(name).items() if number in todo}
        self.tell(shown, len(found), len(todo))

        # Shards go to the disk while others are made, so that the flush before publishing finds little to do.
        with ThreadPoolExecutor(1) as flusher:

            def done(record: Record) -> None:
                found[str(record["number"])] = record
                flusher.submit(files.flush, self.journal.storage, record.get("blocks", [record]))
                self.tell(shown, len(found), len(todo))

            self.pool.run(function, [task for number, task in todo.items() if number not in found], done)
        # Not as they came: rows that share a stamp stand in the order of the files.
        return {number: found[number] for number in todo}

    # --- plan ---

    def _planned(self) -> Record:
        if self.on_disk:
            made = self.journal.once("plan", self._make_plan)
            made["pieces"] = [plan.piece_of(piece) for piece in made["pieces"]]
        else:
            made = self._make_plan()
        self._pieces = made["pieces"]
        return made

    def _make_plan(self) -> Record:
        request = self.request
        pieces, refused = plan.list_pieces(self.listed, request)
        made: Record = {"refused": refused, "ordered": False}
        if self.base is None:
            sample = plan.take_sample(pieces, request)
            rows = plan.count_rows(pieces, sample)
            made["ordered"] = (
                sample.ordered
                and bool(sample.keys)
                and rows > request.partition_observations
                and np.dtype(sample.dtypes["object"]).kind == "u"
                and not self.journal.storage.path(self.journal.key("objects")).is_dir()
            )
            if made["ordered"]:
                whole = replace(request, ordered=True)
                options = replace(request.options, piece_rows=int(0.85 * request.partition_observations))
                pieces, refused = plan.list_pieces(self.listed, replace(whole, options=options))
            keys = np.concatenate(sample.keys) if sample.keys else np.zeros(0, np.uint64)
            made["borders"] = plan.borders_of(keys, plan.buckets_for(rows, request)).tolist()
            made["dtypes"] = sample.dtypes
            made["objects"] = sample.objects if sample.whole else None
            made["rows"] = rows
        made["pieces"] = [plan.piece_record(piece) if self.on_disk else piece for piece in pieces]
        return made

    def _refuse(self, refused: dict[str, str]) -> None:
        """Stop if the request says so, or if no source can be used at all."""
        if refused and (self.request.rules.on_bad == "raise" or len(refused) >= len(self.listed)):
            raise IngestError(next(iter(refused.values())))

    # --- the short way ---

    def _direct(self, made: Record) -> list[Record]:
        """Partitions straight from ordered pieces; none if the order breaks somewhere."""
        self._declare(made["dtypes"], made["rows"], made["objects"])
        request = replace(self.request, ordered=True)
        groups = _grouped(made["pieces"], request.partition_observations)
        todo = {
            str(number): (request, self.journal, number, group, *_neighbours(groups, number))
            for number, group in enumerate(groups)
        }
        try:
            records = self.stage("direct", gather.direct_pieces, todo, "write")
        except (gather.NotOrdered, IngestError):
            # Also a file that cannot be used: buckets can leave it out.
            self._undo_direct()
            return []
        end, owner = None, 0
        for place, number in enumerate(todo):
            left = records[number]["left"]
            if left is not None and (left != end or place - owner > _REACH):
                # The rows that a task before should have taken are of an object that it has not seen, or
                # stand farther on than it looks.
                self._undo_direct()
                return []
            if records[number]["end"]:
                end, owner = records[number]["end"], place
        ordered = [records[number] for number in todo if records[number]["blocks"]]
        ends = [(record["first"], record["last"]) for record in ordered]
        if any(after[0] <= before[1] for before, after in itertools.pairwise(ends)):
            self._undo_direct()
            return []
        return [records[number] for number in todo]

    def _undo_direct(self) -> None:
        """Forget the partitions that were made directly; an interrupted call is finished by the next."""
        storage = self.journal.storage
        storage.replace(self.journal.key("unordered.json"), b"{}")
        files.release()
        # Without it this is no archive, and the next declaration removes the shards. Reservations stay: a
        # task that is still running on a worker must not write where one of a bucket does.
        storage.delete("zarr.json")
        for name in ("direct", "census"):
            shutil.rmtree(storage.path(self.journal.key(name)), ignore_errors=True)
        for name in ("strays.npz", "strays.json"):
            storage.delete(self.journal.key(name))
        storage.replace(self.journal.key("undone.json"), b"{}")

    def _marked(self, name: str) -> bool:
        return self.journal.storage.exists(self.journal.key(f"{name}.json"))

    # --- the way through buckets ---

    def _through_buckets(self, made: Record) -> tuple[Record, list[Record], list[str]]:
        """Records of the rows and of the blocks, and the id index."""
        pieces: list[Piece] = made["pieces"]
        if self.base is None:
            buckets = Buckets.from_borders(made["borders"])
        else:
            buckets = from_partitions(self.base.version.partitions)
        borders = buckets.borders()
        known = () if self.base is None else self.base.version.index
        todo = {
            str(number): (self.request, self.journal, number, piece, borders, known)
            for number, piece in enumerate(pieces)
        }
        records = self.stage("pieces", scatter.scatter_piece, todo, "read")
        refused = dict(made["refused"])
        for number, record in records.items():
            if "error" in record:
                refused.setdefault(readers.source_name(pieces[int(number)].source), record["error"])
        self._refuse(refused)
        used = [
            records[str(number)]
            for number, piece in enumerate(pieces)
            if readers.source_name(piece.source) not in refused
        ]
        total = account.add(used, refused)
        account.check_rows(total, self.listed)
        if self.base is None:
            dtypes = account.dtypes(used)
            self._declare(dtypes, total["rows"], made["objects"])
        buckets.fill(used)
        self._refine(buckets)
        blocks = self.write("buckets", buckets, list(buckets.filled()), {}, {})
        index = settle_strays(self, buckets, blocks)
        assert index is not None
        return total, blocks, index

    def _refine(self, buckets: Buckets) -> None:
        """Cut buckets that are too large for memory until none is left, or they cannot be cut."""
        most = 2 * self.request.partition_observations
        done: set[str] = set()
        while large := [
            name for name in buckets.filled() if buckets.rows.get(name, 0) > most and name not in done
        ]:
            todo = {
                name: (self.request, self.journal, name, buckets.sources[name], buckets.rows[name])
                for name in large
            }
            for name, record in self.stage("refined", scatter.refine_bucket, todo, "sort").items():
                done.add(name)
                buckets.split(name, record)

    def write(
        self,
        stage: str,
        buckets: Buckets,
        names: Sequence[str],
        moved: dict[str, str],
        extra: dict[str, list[tuple[str, int]]],
    ) -> list[Record]:
        """Write the partitions of some buckets.

        Parameters
        ----------
        stage : str
            Of the journal.
        buckets : Buckets
        names : sequence of str
            Of the buckets.
        moved : dict of str to str
            Bucket to the file with the identifiers whose rows were moved out of it.
        extra : dict of str to list
            Bucket to the spill files with rows that were moved into it.
        """
        version = None if self.base is None else self.base.version.number
        todo: dict[str, tuple[Any, ...]] = {}
        for name in names:
            partition = buckets.base.get(name)
            base = None
            if version is not None and partition is not None:
                base = version, partition, name not in buckets.cut
            todo[name] = (
                self.request,
                self.journal,
                stage,
                name,
                buckets.sources.get(name, []),
                buckets.territory[name],
                base,
                moved.get(name),
                extra.get(name, []),
            )
        records = self.stage(stage, gather.gather_bucket, todo, "write")
        for name in names:
            records[name]["base"] = buckets.base.get(name)
        return [records[name] for name in names]

    # --- the archive ---

    def _declare(self, dtypes: dict[str, str], rows: int, objects: int | None) -> None:
        """Declare the archive, unless an interrupted ingest has done so."""
        storage = self.journal.storage
        if storage.exists("zarr.json"):
            return
        for name in ("objects", "lightcurves"):  # of a declaration that was interrupted
            shutil.rmtree(storage.path(name), ignore_errors=True)
        most = min(rows, self.request.partition_observations)
        fitting = slots_for(objects if objects is not None else most, most)
        kind = np.dtype(dtypes["object"])
        # Room for names that are a little longer, which later nights may bring.
        width = kind.str if kind.kind != "S" else f"S{max(16, -(-kind.itemsize // 8) * 8)}"
        columns = {"objects/object_id": width}
        if "class" in dtypes:
            columns["objects/class"] = dtypes["class"]
        for role in ("value", "error", *OPTIONAL):
            if role in dtypes:
                columns[f"lightcurves/{role}"] = dtypes[role]
        ArchiveWriter.create(
            storage.root,
            survey=self.request.survey.to_dict(),
            light_curves=self.request.light_curves,
            bands=self.request.bands,
            dtypes=columns,
            object_slot=fitting[0],
            observation_slot=fitting[1],
        )

    def _settled(self, total: Record, blocks: list[Record]) -> Record:
        """Root attributes that only the whole input tells."""
        curves = dict(self.request.light_curves)
        notes = total["notes"]
        curves["time"] = curves["time"] | {"origin": "own" if notes.own_origin else "MJD"}
        rounded = total["tally"].rounded
        if self.request.precision:
            curves["rounding"] = {
                name: {"step": step, "max_error": rounded.get(name, 0.0)}
                for name, step in self.request.precision.items()
            }
        if recover := self.request.recover:
            rows, before, after = np.sum(
                [block["recovered"] for block in blocks if "recovered" in block], axis=0
            )
            curves["time"]["recovered"] = {
                "from": recover["position"],
                "resolution": recover["resolution"],
                "max_error": rounded.get("time", 0.0),
                "bytes_before": float(before / rows),
                "bytes_after": float(after / rows),
            }
        counts: Counter[str] = Counter()
        for block in blocks:
            counts["objects"] += block["objects"]
            counts["unplaced"] += block["unplaced"]
        total["unplaced"], total["objects"] = counts["unplaced"], counts["objects"]
        return {
            "light_curves": curves,
            "bands": list(account.band_names(self.request, total)),
            "has_positions": counts["unplaced"] < counts["objects"],
            "ingest": remembered(self.request),
        }


def _neighbours(groups: list[list[Piece]], number: int) -> tuple[Piece | None, list[Piece]]:
    """The piece before a group and some behind it, if they are in other files."""
    before = groups[number - 1][-1] if number else None
    if before is not None and before.source == groups[number][0].source:
        before = None  # the reader of the file knows where objects end
    after = [piece for group in groups[number + 1 : number + 1 + _REACH] for piece in group]
    return before, [piece for piece in after if piece.source != groups[number][-1].source]


def _grouped(pieces: Sequence[Piece], most: int) -> list[list[Piece]]:
    """Runs of neighbouring pieces of about a partition together."""
    groups: list[list[Piece]] = []
    count = 0
    for piece in pieces:
        size = piece.rows if piece.rows is not None else piece.nbytes // 8
        if not groups or count + size > most:
            groups.append([])
            count = 0
        groups[-1].append(piece)
        count += size
    return groups


__all__ = ["Intake"]
