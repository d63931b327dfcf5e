"""Tables that astropy reads: FITS by ranges of rows; IPAC, VOTable and CDS/MRT as a whole."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.readers import memory
from skytrawl.catalogs.readers.table import Chunk, Header, Kinds, Options, Piece, whole
from skytrawl.errors import IngestError

FITS = (".fits", ".fit", ".fts")
FORMATS = {
    ".tbl": "ascii.ipac",
    ".ipac": "ascii.ipac",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
    ".mrt": "ascii.mrt",
    ".cds": "ascii.cds",
}


def header(source: Path, options: Options) -> Header:
    """Column names and stated units.

    Raises
    ------
    IngestError
        If the file is no table of its kind.
    """
    if not _is_fits(source):
        return memory.header(_read(source), options)
    with _table(source) as hdu:
        columns = hdu.columns
        units = {column.name: column.unit for column in columns if column.unit}
        return Header(tuple(columns.names), units)


def pieces(source: Path, options: Options) -> list[Piece]:
    """Ranges of rows of a FITS table; other tables are one piece.

    A compressed table is one piece, because each reading would unpack all of it.
    """
    if not _is_fits(source) or source.suffix.lower() == ".gz":
        return whole(source, options)
    with _table(source) as hdu:
        rows, width = len(hdu.data), hdu.data.dtype.itemsize
    starts = range(0, rows, options.piece_rows)
    stops = [min(start + options.piece_rows, rows) for start in starts]
    return [
        Piece(source, (start, stop), stop - start, (stop - start) * width, start + 1)
        for start, stop in zip(starts, stops, strict=True)
    ] or [Piece(source, (0, 0), 0)]


def chunks(piece: Piece, kinds: Kinds, options: Options) -> Iterator[Chunk]:
    """Rows in chunks of the columns in `kinds`; floats keep their width.

    Raises
    ------
    IngestError
        If the file is damaged or a column holds arrays.
    """
    source: Path = piece.source
    try:
        if _is_fits(source):
            yield from _fits_chunks(piece, kinds, options)
        else:
            yield from memory.chunks(Piece(_read(source)), kinds, options)
    except IngestError as error:
        raise IngestError(str(error).replace("table in memory", str(source))) from None


def _fits_chunks(piece: Piece, kinds: Kinds, options: Options) -> Iterator[Chunk]:
    with _table(piece.source) as hdu:
        start, stop = map(int, piece.part or (0, len(hdu.data)))
        while start < stop:
            rows = hdu.data[start : min(start + options.chunk_rows, stop)]
            columns = {name: _column(rows, hdu.columns[name], piece.source) for name in kinds}
            yield memory.chunk_of(start + 1, columns, kinds)
            start += len(rows)


def _column(rows: Any, column: Any, source: Path) -> np.ndarray:
    values = np.asarray(rows.field(column.name))
    if values.ndim != 1 or values.dtype.kind == "O":
        raise IngestError(
            f"{source}: the column {column.name!r} holds arrays ({column.format}); a long table with one row "
            "an observation is needed"
        )
    if values.dtype.kind == "U":
        return np.char.encode(values, "utf-8")
    if column.null is not None and values.dtype.kind in "iu":
        return np.ma.MaskedArray(values, values == column.null)
    return values


@contextmanager
def _table(source: Path) -> Iterator[Any]:
    """The first table of a FITS file."""
    from astropy.io import fits

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what astropy warns of is checked here
            with fits.open(source, memmap=source.suffix.lower() != ".gz") as found:
                tables = [hdu for hdu in found if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
                if not tables:
                    raise IngestError(f"{source} holds no table: give the file of the light curves")
                hdu = tables[0]
                if source.suffix.lower() != ".gz":
                    end, size = hdu.fileinfo()["datLoc"] + hdu.size, source.stat().st_size
                    if size < end:
                        raise IngestError(
                            f"{source} is cut off: {size} bytes, and its table ends at {end}: fetch it again"
                        )
                if hdu.data is None:
                    raise IngestError(f"{source} holds an empty table: there is nothing to read")
                yield hdu
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise IngestError(f"{source} is no readable FITS file ({error}): fetch or write it again") from None


def _read(source: Path) -> Any:
    """A table that is read as a whole."""
    from astropy.table import Table

    form = FORMATS[_suffix(source)]
    words = {} if form == "votable" else {"guess": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Table.read(source, format=form, **words)
    # The parsers of astropy have many families of errors.
    except Exception as error:
        raise IngestError(
            f"{source} is no readable {form.removeprefix('ascii.')} table "
            f"({type(error).__name__}: {error}): fetch or write it again"
        ) from None


def _suffix(source: Path) -> str:
    suffixes = [suffix.lower() for suffix in source.suffixes if suffix.lower() != ".gz"]
    return suffixes[-1] if suffixes and suffixes[-1] in FORMATS else ".tbl"


def _is_fits(source: Path) -> bool:
    return any(suffix.lower() in FITS for suffix in source.suffixes[-2:])
