"""Readers of light-curve files: long tables, one row an observation, in chunks.

A reader is one file in this folder with two functions and one entry in :data:`READERS`:

``header(source, options)`` returns a :class:`~skytrawl.catalogs.readers.table.Header`: the names of the
columns, and the units that the source states;
``chunks(piece, kinds, options)`` yields :class:`~skytrawl.catalogs.readers.table.Chunk`: some rows of the
columns in ``kinds``, each as its kind asks (:data:`~skytrawl.catalogs.readers.table.Kinds`).
:func:`~skytrawl.catalogs.readers.table.make_chunk` makes one of columns of text, and
:func:`~skytrawl.catalogs.readers.memory.chunk_of` of arrays, masked ones too.

What cannot be read raises :class:`~skytrawl.errors.IngestError` with file, place and remedy; a row that
cannot be read is a rejected row of its chunk.

Further functions are optional: ``pieces(source, options)`` divides a
large source into several :class:`~skytrawl.catalogs.readers.table.Piece` (otherwise it is one),
``expand(folder, options)`` names the sources that a folder stands for, or None if it is not of this kind,
``takes(source, options)`` claims a source before its extension is looked at.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skytrawl.catalogs.readers import (
    antares,
    arrow_files,
    astropy_tables,
    csv,
    hats,
    lightcurves,
    memory,
    numpy_files,
    parquet,
)
from skytrawl.catalogs.readers.table import Chunk, Header, Options, Reader
from skytrawl.errors import IngestError

__all__ = ["READERS", "Chunk", "Header", "Options", "Reader", "find_reader", "source_name", "sources_of"]

# In the order in which they are asked about folders.
READERS: dict[str, Reader] = {
    "hats": Reader(
        "hats",
        (),
        hats.header,
        hats.chunks,
        hats.pieces,
        expand=hats.expand,
        takes=hats.takes,
        aligned=True,
        sky=hats.sky,
        summary="HATS catalogue or collection: nested light curves, or a flat table",
    ),
    "lightcurves": Reader(
        "lightcurves",
        (),
        lightcurves.header,
        lightcurves.chunks,
        lightcurves.pieces,
        expand=lightcurves.expand,
        takes=lightcurves.takes,
        folders=True,
        summary="text files of one light curve each, and folders of them (OGLE, ASAS-SN, KMTNet)",
    ),
    "csv": Reader(
        "csv",
        (".csv", ".tsv", ".txt", ".dat", ".ecsv"),
        csv.header,
        csv.chunks,
        csv.pieces,
        summary="text table with a header line (CSV, TSV, ECSV), plain or gzip",
    ),
    "parquet": Reader(
        "parquet",
        (".parquet", ".pq"),
        parquet.header,
        parquet.chunks,
        parquet.pieces,
        expand=parquet.expand,
        aligned=True,
        summary="Parquet, by row groups",
    ),
    "arrow": Reader(
        "arrow",
        arrow_files.SUFFIXES,
        arrow_files.header,
        arrow_files.chunks,
        arrow_files.pieces,
        expand=arrow_files.expand,
        summary="Feather and Arrow IPC, by record batches",
    ),
    "astropy": Reader(
        "astropy",
        (*astropy_tables.FITS, *astropy_tables.FORMATS),
        astropy_tables.header,
        astropy_tables.chunks,
        astropy_tables.pieces,
        summary="FITS table by ranges of rows; IPAC, VOTable, CDS and MRT as a whole",
    ),
    "numpy": Reader(
        "numpy",
        (".npy", ".npz"),
        numpy_files.header,
        numpy_files.chunks,
        numpy_files.pieces,
        summary="NumPy: structured array, array of time, value and error, or archive of columns",
    ),
    "antares": Reader(
        "antares",
        (),
        antares.header,
        antares.chunks,
        claims=frozenset({"ant_mjd", "ant_survey", "ant_passband"}),
        summary="alert table of an ANTARES locus, one locus a file",
    ),
    "memory": Reader(
        "memory", (), memory.header, memory.chunks, summary="columns in memory (mapping, data frame, table)"
    ),
}


def find_reader(source: Any, options: Options, name: str | None = None) -> tuple[Reader, Header]:
    """The reader of a source and the header that it found.

    Parameters
    ----------
    source : path or table in memory
    options : Options
    name : str, optional
        Name of a reader; otherwise the extension decides, then the columns (a reader may claim a set of
        names).

    Raises
    ------
    IngestError
        If no reader takes the file.
    """
    if name is not None and name not in READERS:
        raise IngestError(f"no reader {name!r}: take one of {', '.join(READERS)}")
    if not isinstance(source, Path):
        reader = READERS["memory"]
        return reader, reader.header(source, options)
    if name is not None:
        return READERS[name], READERS[name].header(source, options)
    for reader in READERS.values():
        if reader.takes is not None and reader.takes(source, options):
            return reader, reader.header(source, options)
    for reader in READERS.values():
        if _suffix(source) in reader.extensions:
            break
    else:
        known = ", ".join(sorted(suffix for reader in READERS.values() for suffix in reader.extensions))
        raise IngestError(
            f"{source}: no reader knows the extension {_suffix(source) or '(none)'!r} (known: {known}); "
            "name one "
            f"with reader=, such as reader='csv'"
        )
    found = reader.header(source, options)
    for other in READERS.values():
        if other.claims and other.claims <= set(found.names):
            return other, other.header(source, options)
    return reader, found


def _suffix(source: Path) -> str:
    """The extension of a file in lower case, without that of compression."""
    suffixes = [suffix.lower() for suffix in source.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def source_name(source: Any) -> str:
    """How messages call a source: its path, or "table in memory"."""
    return str(source) if isinstance(source, Path) else "table in memory"


def sources_of(sources: Any, options: Options | None = None, name: str | None = None) -> list[Any]:
    """The list of sources that a path, folder, table, or a sequence of these stands for.

    A folder is what a reader says that it is (a catalogue, a dataset, light curves of the survey); otherwise
    it stands for its files with a known extension, by name.

    Parameters
    ----------
    sources : path, table, or sequence of these
    options : Options, optional
    name : str, optional
        Name of a reader, which alone is asked about folders then.

    Raises
    ------
    IngestError
        If there is none, or a path does not exist.
    """
    options = options or Options()
    if isinstance(sources, str | Path):
        path = Path(sources)
        if path.is_dir():
            return list(_sources_in(path, options, name))
        if not path.is_file():
            raise IngestError(f"{path} does not exist: check the path of the light curves")
        return [path]
    if isinstance(sources, Sequence):
        found = [item for source in sources for item in sources_of(source, options, name)]
        if not found:
            raise IngestError("no sources given: name at least one file or table of light curves")
        return found
    return [sources]


def _sources_in(folder: Path, options: Options, name: str | None) -> list[Path]:
    asked = list(READERS.values()) if name is None else [READERS[name]] if name in READERS else []
    for reader in asked:
        if reader.expand is not None and (files := reader.expand(folder, options)) is not None:
            return files
        if name is not None and reader.folders:
            return [folder]
    known = {suffix for reader in READERS.values() for suffix in reader.extensions}
    files = sorted(
        file
        for file in folder.iterdir()
        if file.is_file() and file.name[0] not in "._" and _suffix(file) in known
    )
    if not files:
        raise IngestError(
            f"{folder} holds no file that a reader knows ({', '.join(sorted(known))}): give the folder of "
            "the files, or name a reader with reader="
        )
    return files
