"""Before anything is moved: the pieces, a sample of them, and where to cut the sky."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs import readers
from skytrawl.catalogs.readers.table import Piece
from skytrawl.catalogs.tally import Tally
from skytrawl.errors import IngestError, SkytrawlError
from skytrawl.intake.reading import Notes, open_source, read_rows, sky_keys
from skytrawl.intake.request import Request

# Pieces that are looked into, and rows of each.
SAMPLED, SAMPLE_ROWS = 24, 32_768
# More buckets than this make the stretches of a spill file too short to read fast; what does not fit into
# memory then is cut once more.
MOST_BUCKETS = 512
_TEXT_ROW = 50  # bytes of a row of text, about


@dataclass
class Sample:
    """What the first rows of some pieces told.

    Attributes
    ----------
    keys : list of uint64 arrays
        Places on the curve, for each sampled piece.
    dtypes : dict of str to str
    rows, nbytes : int
        Rows seen, and bytes of the pieces that were seen to their end.
    ordered : bool
        Whether all objects seen stand together and ascend along the sky.
    whole : bool
        Whether every row of the input was seen.
    objects : int
        Different objects seen.
    """

    keys: list[np.ndarray] = field(default_factory=list)
    dtypes: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    ordered: bool = True
    whole: bool = False
    objects: int = 0


def list_pieces(listed: Sequence[Any], request: Request) -> tuple[list[Piece], dict[str, str]]:
    """Pieces of all sources, and the sources that cannot be used at all with the reason."""
    pieces: list[Piece] = []
    refused: dict[str, str] = {}
    for source in listed:
        try:
            opened = open_source(source, request)
            pieces += opened.reader.pieces(source, opened.options)
        except IngestError as error:
            refused[readers.source_name(source)] = str(error)
    return pieces, refused


def take_sample(pieces: Sequence[Piece], request: Request) -> Sample:
    """Look at the first rows of some pieces; what is wrong in them is left to the task that reads them."""
    found = Sample()
    some = sorted({int(place) for place in np.linspace(0, len(pieces) - 1, min(SAMPLED, len(pieces)))})
    ended = 0
    seen: list[np.ndarray] = []
    last_key = -1
    for number in some:
        tally = Tally()
        chunks = read_rows(pieces[number], request, tally, Notes(), chunk_rows=SAMPLE_ROWS)
        try:
            rows = next(chunks, None)
            more = rows is not None and next(chunks, None) is not None
        except SkytrawlError:
            found.ordered = False
            continue
        ended += not more
        if rows is None or not len(rows["row"]):
            continue
        for name, column in rows.items():
            if name == "object" and column.dtype.kind == "S":
                found.dtypes[name] = column.dtype.str
            else:
                old = found.dtypes.get(name, column.dtype.str)
                found.dtypes[name] = np.promote_types(old, column.dtype).str
        keys = sky_keys(rows)
        ids = rows["object"]
        starts = np.flatnonzero(np.append(True, ids[1:] != ids[:-1]))
        per_object = keys[starts]
        together = len(np.unique(ids[starts])) == len(starts)
        ascending = bool((per_object[1:] >= per_object[:-1]).all())
        first, last = int(per_object[0]), int(per_object[-1])
        known = _sky_of(pieces[number], request)
        if known is not None and known[0] <= int(keys.min()) and int(keys.max()) <= known[1]:
            ascending, (first, last) = True, known
        found.ordered &= together and ascending and first >= last_key and "ra" in rows
        last_key = last
        found.keys.append(keys)
        found.rows += len(keys)
        seen.append(ids)
    found.whole = ended == len(pieces)
    if found.whole and seen:
        found.objects = sum(len(np.unique(ids)) for ids in seen)
    return found


def _sky_of(piece: Piece, request: Request) -> tuple[int, int] | None:
    """Range of the curve of a piece that its reader can put into order; None if it cannot."""
    opened = open_source(piece.source, replace(request, ordered=True))
    return None if opened.reader.sky is None else opened.reader.sky(piece, opened.options)


def count_rows(pieces: Sequence[Piece], sample: Sample) -> int:
    """Rows of the input, about."""
    if sample.whole:
        return sample.rows
    return sum(
        piece.rows if piece.rows is not None else max(1, piece.nbytes // _TEXT_ROW) for piece in pieces
    )


def borders_of(keys: np.ndarray, n_buckets: int) -> np.ndarray:
    """First place on the curve of every bucket but the first, so that each holds as much of the sample.

    Parameters
    ----------
    keys : uint64 array
        A sample, in any order.
    n_buckets : int
        Wanted; fewer come back where the sample has fewer places.
    """
    ordered = np.sort(keys)
    if n_buckets < 2 or not len(ordered):
        return np.zeros(0, np.uint64)
    at = np.linspace(0, len(ordered), n_buckets + 1)[1:-1].astype(np.int64)
    borders = np.unique(ordered[at])
    return borders[borders > ordered[0]]


def buckets_for(rows: int, request: Request) -> int:
    """Buckets that hold about nine tenths of a partition each."""
    return int(min(MOST_BUCKETS, max(1, -(-rows // max(1, int(0.9 * request.partition_observations))))))


def piece_record(piece: Piece) -> dict[str, Any]:
    """A piece in JSON types."""
    return {
        "source": str(piece.source),
        "part": list(piece.part),
        "rows": piece.rows,
        "nbytes": piece.nbytes,
        "first_row": piece.first_row,
    }


def piece_of(record: dict[str, Any]) -> Piece:
    """The piece of a record."""
    return Piece(
        Path(record["source"]), tuple(record["part"]), record["rows"], record["nbytes"], record["first_row"]
    )
