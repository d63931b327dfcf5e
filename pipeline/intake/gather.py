"""Tasks that write partitions: from the spill files of a bucket, or straight from ordered pieces."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.block import Block
from skytrawl.catalogs.codecs import encoded_size
from skytrawl.catalogs.heliocentric import snap, to_heliocentric
from skytrawl.catalogs.partition import cut
from skytrawl.catalogs.readers import source_name
from skytrawl.catalogs.readers.table import Piece
from skytrawl.catalogs.tally import Tally
from skytrawl.catalogs.writer import ArchiveWriter
from skytrawl.intake.assemble import Assembled, assemble, text
from skytrawl.intake.collect import release
from skytrawl.intake.files import declared_columns, load_array, save_arrays, writer_of
from skytrawl.intake.journal import Journal
from skytrawl.intake.object_table import ObjectTable
from skytrawl.intake.reading import Notes, open_source, read_rows
from skytrawl.intake.request import Request
from skytrawl.intake.runs import RunRows
from skytrawl.intake.scatter import conform, recover_times
from skytrawl.intake.spill import SpilledRows

# The whole curve, both ends included.
EVERYWHERE = (0, 2**64 - 1)
_SAMPLE = 262_144  # rows of a block that are packed to learn what the recovery of times is worth


class NotOrdered(Exception):
    """The input does not stand in the order of the sky after all: it has to go through buckets."""


def gather_bucket(
    request: Request,
    journal: Journal,
    stage: str,
    number: str,
    sources: list[tuple[str, int]],
    territory: tuple[int, int],
    base: tuple[int, int, bool] | None,
    moved: str | None,
    extra: list[tuple[str, int]],
) -> dict[str, Any]:
    """Make the partitions of one bucket and write them into fresh slots.

    Parameters
    ----------
    stage : str
        Of the journal.
    number : str
        Of the bucket.
    sources : list of (key, bucket)
        Spill files that have rows of it.
    territory : (int, int)
        Its stretch of the curve, both ends included.
    base : (version, partition, bool) or None
        The partition that an append replaces, and whether it lies in this bucket as a whole.
    moved : str or None
        File with the identifiers whose rows have been moved to another bucket: they are left out of
        `sources`.
    extra : list of (key, bucket)
        Spill files with the rows that were moved here.
    """
    release()
    storage = journal.storage
    writer = writer_of(storage)
    declared = declared_columns(storage)
    old = None
    if base is not None:
        old = Archive.cached(str(storage.root), base[0]).read(base[1], list(writer.dtypes))
        if not base[2]:
            cells = old.objects["healpix"]
            first = np.searchsorted(cells, np.uint64(territory[0]))
            old = old.select(
                slice(int(first), int(np.searchsorted(cells, np.uint64(territory[1]), side="right")))
            )
    rows = SpilledRows(storage, [*sources, *extra])
    if moved is not None:
        n_extra = SpilledRows(storage, extra).n
        away = np.isin(rows.column("object", declared["object_id"]), load_array(storage, moved))
        if n_extra:
            away[-n_extra:] = False
        rows.keep(~away)
    made = assemble(rows, declared, drop_duplicates=request.duplicates == "drop", base=old)
    whole = base is not None and base[2]
    record = write_block(request, journal, writer, number, made, territory, old, skip=whole)
    record["repeats"] = {
        reason: [(rows.keys[file], row, name) for file, row, name in places]
        for reason, places in made.repeats.items()
    }
    return journal.write(stage, number, record)


def direct_pieces(
    request: Request,
    journal: Journal,
    number: int,
    pieces: list[Piece],
    before: Piece | None,
    after: list[Piece],
) -> dict[str, Any]:
    """Turn pieces that stand in the order of the sky into partitions, without a detour over spill files.

    Parameters
    ----------
    number : int
        Of the task.
    pieces : list of Piece
        Neighbours.
    before, after : Piece or None, list of Piece
        What stands in front of and behind them in other files: an object may go on there.

    Raises
    ------
    NotOrdered
        If they do not.
    """
    writer = writer_of(journal.storage)
    declared = declared_columns(journal.storage)
    tally, notes = Tally(), Notes()
    records: list[dict[str, Any]] = []
    first = last = -1
    # Identifiers of the object that was left to the task before, and of the one that it had last.
    ends: dict[str, str | None] = {"left": None, "end": None}

    reading = _without_sorting(pieces, request)

    def chunks() -> Iterator[dict[str, np.ndarray]]:
        taken = None if before is None else _last_object(before, request)
        end = None
        for place, piece in enumerate(pieces):
            for rows in read_rows(piece, reading, tally, notes):
                if taken is not None:
                    own = rows["object"] != taken
                    if not own.all():
                        ends["left"] = text(taken)
                    if not own.any():
                        continue
                    taken = None
                    rows = {name: column[np.argmax(own) :] for name, column in rows.items()}
                conform(rows, request, tally)
                rows = recover_times(rows, request, tally)
                if len(rows["object"]):
                    end = rows["object"][-1]
                    yield rows | {"place": np.full(len(rows["object"]), place, np.int16)}
        ends["end"] = None if end is None else text(end)
        for place, rows in _rest_of_object(after, request, end):
            conform(rows, request, Tally())
            rows = recover_times(rows, request, Tally())
            yield rows | {"place": np.full(len(rows["object"]), len(pieces) + place, np.int16)}

    for rows in _whole_objects(chunks(), request.partition_observations):
        for name, dtype in rows.dtypes().items():
            wanted = declared.get("object_id" if name == "object" else name)
            if wanted is not None and np.promote_types(dtype, wanted) != wanted:
                raise NotOrdered(f"{name} is {dtype}, not {wanted} as in the first rows")
            if wanted is None and name not in ("row", "row_id", "place"):
                raise NotOrdered(f"{name} was not in the first rows")
        made = assemble(rows, declared, drop_duplicates=request.duplicates == "drop")
        keys = made.block.objects["healpix"]
        if int(keys[0]) <= last:
            raise NotOrdered("the objects do not ascend along the sky")
        first, last = (int(keys[0]) if first < 0 else first), int(keys[-1])
        part = write_block(request, journal, writer, f"{number}-{len(records)}", made, EVERYWHERE)
        part["repeats"] = {
            reason: [(source_name([*pieces, *after][place].source), row, name) for place, row, name in places]
            for reason, places in made.repeats.items()
        }
        records.append(part)
    record = {
        "number": number,
        "blocks": records,
        "first": first,
        "last": last,
        **ends,
        "tally": tally.to_dict(),
        "notes": asdict(notes),
    }
    return journal.write("direct", number, record)


def _without_sorting(pieces: list[Piece], request: Request) -> Request:
    """The request by which to read: pieces that fit into one block need no reader that sorts them."""
    rows = [piece.rows for piece in pieces]
    opened = open_source(pieces[0].source, request)
    known = sum(count for count in rows if count is not None)
    sorts = opened.reader.sky is not None and all(
        opened.reader.sky(piece, opened.options) is not None for piece in pieces
    )
    if not sorts or None in rows or known > request.partition_observations:
        return request
    return replace(request, ordered=False)


def _last_object(piece: Piece, request: Request) -> Any:
    """Identifier in the last row of a piece."""
    opened = open_source(piece.source, request)
    column = opened.mapped.columns.get("object")
    if column is None:
        raise NotOrdered(f"{opened.where} is one object: its order says nothing")
    last = None
    for chunk in opened.reader.chunks(piece, {column: "id"}, replace(opened.options, align_on=None)):
        last = chunk.columns[column][-1]
    return last


def _rest_of_object(
    after: list[Piece], request: Request, end: Any
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Rows of the last object that stand in the next files; their own tasks account for them."""
    for place, piece in enumerate(after if end is not None else ()):
        for rows in read_rows(piece, request, Tally(), Notes()):
            other = np.flatnonzero(rows["object"] != end)
            stop = int(other[0]) if len(other) else len(rows["object"])
            if stop:
                yield place, {name: column[:stop] for name, column in rows.items()}
            if len(other):
                return


def _whole_objects(chunks: Iterable[dict[str, np.ndarray]], most: int) -> Iterator[RunRows]:
    """Chunks joined to at most `most` rows that end where an object ends; valid until the next.

    An object longer than that comes whole.
    """
    waiting = RunRows(most + most // 8)
    for rows in chunks:
        ids = rows["object"]
        if waiting.n + len(ids) > most:
            borders = np.flatnonzero(ids[1:] != ids[:-1]) + 1
            if waiting.n and waiting.last != ids[0]:
                borders = np.append(0, borders)
            if len(borders):
                fitting = int(np.searchsorted(borders, most - waiting.n, side="right"))
                end = int(borders[max(0, fitting - 1)])
                waiting.add({name: column[:end] for name, column in rows.items()})
                yield waiting
                waiting.clear()
                rows = {name: column[end:] for name, column in rows.items()}
        waiting.add(rows)
    if waiting.n:
        yield waiting


def write_block(
    request: Request,
    journal: Journal,
    writer: ArchiveWriter,
    name: str,
    made: Assembled,
    territory: tuple[int, int],
    old: Block | None = None,
    skip: bool = False,
) -> dict[str, Any]:
    """Cut a block into partitions, write them, and note its identifiers for the census.

    With `skip` a block to which nothing was added is not written: the partition of the version below stays.
    """
    block = made.block
    keys = block.objects["healpix"]
    low, high = territory
    fresh = ~made.known
    strays = fresh & ((keys < np.uint64(low)) | (keys > np.uint64(high)))
    record: dict[str, Any] = {
        "number": name,
        "rows": made.new_rows,
        "objects": block.n_objects,
        "new_objects": int(fresh.sum()),
        "dropped": made.repeated,
        "equal_stamps": made.equal_stamps,
        "scattered": [made.n_scattered, made.scattered],
        "mixed_classes": made.mixed_classes,
        "unplaced": int(np.isnan(block.objects["ra"]).sum()),
        "unchanged": skip and made.new_rows == 0,
        "strays": int(strays.sum()),
    }
    counts = _counts(block, len(request.bands))
    if old is not None:
        counts -= _counts(old, len(request.bands))
    record["bands"], record["upper_limits"] = counts[:-1].tolist(), int(counts[-1])
    table = ObjectTable.of(journal)
    if table is not None:
        record["untabled"] = int((~table.contains(block.objects["object_id"][fresh])).sum())
    census = {"ids": block.objects["object_id"][fresh], "keys": keys[fresh], "strays": strays[fresh]}
    save_arrays(journal.storage, journal.key(f"census/{name}.npz"), **census)
    if record["unchanged"] or not block.n_objects:
        record["partitions"] = ""
        return record
    table_rows = []
    for piece in cut(block.offsets, keys, request.partition_observations):
        part = block.select(piece)
        slots = writer.reserve(part.n_objects, part.n_observations)
        table_rows.append(writer.write_into(part, *slots, flush=False, in_order=True))
    if request.recover:
        record["recovered"] = _recovered(request, block)
    record["partitions"] = base64.b64encode(np.stack(table_rows).tobytes()).decode()
    return record


def _recovered(request: Request, block: Block) -> list[int]:
    """Rows of a sample, and the bytes of their times with the correction to the Sun and without."""
    stop = min(block.n_observations, _SAMPLE)
    counts = np.minimum(block.offsets[1:], stop) - np.minimum(block.offsets[:-1], stop)
    times = block.observations["time"][:stop]
    corrected = to_heliocentric(
        times,
        block.objects["ra"],
        block.objects["dec"],
        scale=request.recover["scale"],
        position=request.recover["position"],
        counts=counts,
    )
    corrected, _ = snap(corrected, request.recover["resolution"])
    return [stop, encoded_size(corrected, "own time"), encoded_size(times, "time")]


def _counts(block: Block, n_bands: int) -> np.ndarray:
    """Rows of each band, and rows that are limits."""
    limits = block.observations.get("upper_limit", np.zeros(0, bool))
    band = block.observations.get("band", np.zeros(0, np.uint8))
    per_band = [np.count_nonzero(band == code) for code in range(n_bands)]
    return np.array([*per_band, np.count_nonzero(limits)])
