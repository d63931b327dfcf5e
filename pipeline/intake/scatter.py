"""Tasks that move rows: pieces of the input into spill files, and spill files into smaller ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from skytrawl.catalogs import id_index, readers
from skytrawl.catalogs.heliocentric import snap, to_geocentric
from skytrawl.catalogs.identifiers import as_texts, plain_integers
from skytrawl.catalogs.readers.table import Piece
from skytrawl.catalogs.rounding import round_to
from skytrawl.catalogs.sky import UNPLACED
from skytrawl.catalogs.tally import Tally
from skytrawl.errors import IngestError
from skytrawl.intake.collect import of_thread
from skytrawl.intake.files import load_array
from skytrawl.intake.journal import Journal
from skytrawl.intake.object_table import ObjectTable
from skytrawl.intake.plan import borders_of, buckets_for
from skytrawl.intake.reading import DEFAULTS, OPTIONAL, Notes, read_rows, sky_keys
from skytrawl.intake.request import Request
from skytrawl.intake.spill import SpilledRows, open_spill, write_spill
from skytrawl.kernels.rows import bucket_of


def scatter_piece(
    request: Request,
    journal: Journal,
    number: int,
    piece: Piece,
    borders: np.ndarray,
    known: Sequence[str] = (),
) -> dict[str, Any]:
    """Read a piece and write its rows, by bucket, into spill files.

    Parameters
    ----------
    request : Request
    journal : Journal
    number : int
        Of the piece.
    piece : Piece
    borders : uint64 array of shape (n_buckets - 1,)
        First place on the curve of every bucket but the first.
    known : sequence of str
        Generations of the id index of the version that an append goes on top of.

    Returns
    -------
    dict
        The record: parts (key, buckets, counts), dtypes, tally, notes; or the error that makes the source
        unusable.
    """
    tally, notes = Tally(), Notes()
    table = ObjectTable.of(journal)
    parts: list[dict[str, Any]] = []
    dtypes: dict[str, str] = {}
    try:
        for rows in gathered(read_rows(piece, request, tally, notes), request.options.piece_rows):
            conform(rows, request, tally)
            if table is not None:
                table.apply(rows)
            if request.declared:
                check_fit(rows, request, tally, readers.source_name(piece.source))
            rows = recover_times(rows, request, tally)
            if not request.placed and "ra" in rows:
                tally.note("the archive has no positions: those of new rows are left out", len(rows["row"]))
                del rows["ra"], rows["dec"]
            key = journal.key(f"spill/{number:08d}-{len(parts):04d}")
            keys = sky_keys(rows)
            if known and request.placed:
                _bring_home(keys, rows["object"], request, journal, known)
            bucket = bucket_of(keys, borders)
            buckets, counts = write_spill(journal.storage, key, rows, bucket, len(borders) + 1)
            parts.append({"key": key, "buckets": buckets.tolist(), "counts": counts.tolist()})
            for name, column in rows.items():
                old = np.dtype(dtypes.get(name, column.dtype))
                join = common_id if name == "object" else np.promote_types
                dtypes[name] = join(old, column.dtype).str
    except IngestError as error:
        for part in parts:
            journal.storage.delete(part["key"])
        return journal.write("pieces", number, {"number": number, "error": str(error)})
    record = {
        "number": number,
        "parts": parts,
        "dtypes": dtypes,
        "tally": tally.to_dict(),
        "notes": asdict(notes),
    }
    return journal.write("pieces", number, record)


def _bring_home(
    keys: np.ndarray, ids: np.ndarray, request: Request, journal: Journal, known: Sequence[str]
) -> None:
    """Give rows without position the place of their object, if the archive holds it."""
    lost = np.flatnonzero(keys >= UNPLACED)
    if not len(lost):
        return
    names, owner = np.unique(ids[lost], return_inverse=True)
    if np.dtype(request.declared["object_id"]).kind == "S":
        names = as_texts(names)
    found, places = id_index.lookup(journal.storage, known, names)
    held = found[owner]
    keys[lost[held]] = places[owner[held]]


def common_id(one: np.dtype, other: np.dtype) -> np.dtype:
    """The type that holds identifiers of two types: numbers become text beside text."""
    if one == other:
        return one
    return np.dtype(f"S{max(20 if dtype.kind == 'u' else dtype.itemsize for dtype in (one, other))}")


def gathered(chunks: Iterable[dict[str, np.ndarray]], most: int) -> Iterator[dict[str, np.ndarray]]:
    """Chunks joined to about `most` rows; what comes out is valid until the next."""
    waiting = of_thread()
    waiting.reserve(most + most // 8)
    for rows in chunks:
        waiting.add(rows)
        if waiting.n >= most:
            yield waiting.view()
            waiting.clear()
    if waiting.n:
        yield waiting.view()


def conform(rows: dict[str, np.ndarray], request: Request, tally: Tally) -> None:
    """Identifiers as numbers where all are, values rounded as asked, an append in the archive's types."""
    if rows["object"].dtype.kind == "S":
        numbers, plain = plain_integers(rows["object"])
        if plain.all():
            rows["object"] = numbers
    for name, step in request.precision.items():
        rows[name], error = round_to(rows[name], step)
        tally.rounded[name] = max(tally.rounded.get(name, 0.0), error)
    for name in ("value", "error"):
        if name in request.declared:
            wanted = np.dtype(request.declared[name])
            if rows[name].dtype != wanted and wanted.itemsize < rows[name].dtype.itemsize:
                tally.note(f"{name}s are stored as {wanted.name}, as the archive has them", len(rows[name]))
            rows[name] = rows[name].astype(wanted, copy=False)


def check_fit(rows: dict[str, np.ndarray], request: Request, tally: Tally, where: str) -> None:
    """Refuse texts that the columns of an archive cannot hold; note columns that it does not have.

    Raises
    ------
    IngestError
        If an identifier is no number where the archive has numbers, or a text is longer than its column.
    """
    for role, name in (("object", "object_id"), ("class", "class")):
        if role not in rows or name not in request.declared:
            continue
        wanted = np.dtype(request.declared[name])
        if rows[role].dtype.kind == "S" or wanted.kind == "S":
            texts = as_texts(rows[role])
            if wanted.kind == "S":
                letters = np.ascontiguousarray(texts).view(np.uint8).reshape(len(texts), -1)
                wrong = letters[:, wanted.itemsize :].any(axis=1)
                limit = f"texts of at most {wanted.itemsize} bytes"
            else:
                wrong = ~plain_integers(texts)[1]
                limit = "integers without leading zeros"
            if wrong.any():
                at = int(np.argmax(wrong))
                raise IngestError(
                    f"{where}, row {rows['row'][at]}: the {role} {texts[at].decode(errors='replace')!r} does "
                    f"not fit into the archive, which holds {limit}: ingest everything into a new archive"
                )
    for name in OPTIONAL:
        if name in rows and name not in request.declared:
            tally.note(f"the archive has no column {name}: it is left out", len(rows["row"]))


def recover_times(rows: dict[str, np.ndarray], request: Request, tally: Tally) -> dict[str, np.ndarray]:
    """Exposure times of rows whose times were corrected to the Sun, where the survey says so."""
    if not request.recover:
        return rows
    if not {"ra", "dec"} <= rows.keys():
        raise IngestError(
            f"{request.survey.name} says recover_exposure, which needs the position of every row: pass a "
            "table of objects (objects=, --objects) with ra and dec, or a survey file without it"
        )
    placed = np.isfinite(rows["ra"]) & np.isfinite(rows["dec"])
    if not placed.all():
        tally.drop("has no position, by which its exposure time could be recovered", int((~placed).sum()), [])
        tally.lose(rows["object"][~placed])
        rows = {name: column[placed] for name, column in rows.items()}
    exact = to_geocentric(
        rows["time"],
        rows["ra"],
        rows["dec"],
        scale=request.recover["scale"],
        position=request.recover["position"],
    )
    rows["time"], error = snap(exact, request.recover["resolution"])
    tally.rounded["time"] = max(tally.rounded.get("time", 0.0), error)
    return rows


def extract_rows(journal: Journal, number: str, sources: list[tuple[str, int]], moved: str) -> dict[str, Any]:
    """Copy the rows of some objects out of a bucket into a spill file of their own."""
    storage = journal.storage
    names = load_array(storage, moved)
    rows = SpilledRows(storage, sources)
    ids = rows.column("object", names.dtype)
    rows.keep(np.isin(ids, names))
    types: dict[str, np.dtype] = {}
    for key, _ in sources:
        for name, (dtype, _) in open_spill(storage, key).columns.items():
            types[name] = np.promote_types(types.get(name, dtype), dtype) if name != "object" else names.dtype
    columns = {name: rows.column(name, dtype, DEFAULTS.get(name)) for name, dtype in types.items()}
    key = journal.key(f"spill/moved-from-{number}")
    write_spill(storage, key, columns, np.zeros(rows.n, np.uint32), 1)
    return journal.write("extracted", number, {"number": number, "key": key, "rows": rows.n})


def refine_bucket(
    request: Request, journal: Journal, number: str, sources: list[tuple[str, int]], rows: int
) -> dict[str, Any]:
    """Cut a bucket that is too large for memory into smaller ones.

    Returns
    -------
    dict
        The record: borders between the new buckets, and parts as of :func:`scatter_piece`.
    """
    storage = journal.storage

    def columns_of(source: tuple[str, int]) -> dict[str, np.ndarray]:
        segment = SpilledRows(storage, [source])
        file = open_spill(storage, source[0])
        return {name: segment.column(name, dtype) for name, (dtype, _) in file.columns.items()}

    sample = []
    for source in sources:
        found = columns_of(source)
        step = max(1, len(found["object"]) * len(sources) // 1_000_000)
        sample.append(
            sky_keys({name: found[name][::step] for name in ("object", "ra", "dec") if name in found})
        )
    borders = borders_of(np.concatenate(sample), buckets_for(rows, request))
    parts = []
    for source in sources if len(borders) else ():
        found = columns_of(source)
        # The name begins with the number of the piece, by which messages find the file of a row.
        key = journal.key(f"spill/{source[0].rpartition('/')[2]}.{number}")
        buckets, counts = write_spill(
            storage, key, found, bucket_of(sky_keys(found), borders), len(borders) + 1
        )
        parts.append({"key": key, "buckets": buckets.tolist(), "counts": counts.tolist()})
    return journal.write("refined", number, {"number": number, "borders": borders.tolist(), "parts": parts})
