"""Readers of light-curve files: long tables, one row an observation, in chunks.

A reader is one file in this folder with two functions and one entry in :data:`READERS`:

``header(source, options)`` returns a :class:`~skytrawl.catalogs.readers.table.Header`,
``chunks(piece, kinds, options)`` yields :class:`~skytrawl.catalogs.readers.table.Chunk`.

Further functions are optional: ``pieces(source, options)`` divides a large source into several
:class:`~skytrawl.catalogs.readers.table.Piece` (otherwise it is one), ``expand(folder)`` names the sources
that a folder stands for, or None if it is not of this kind.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skytrawl.catalogs.readers import antares, csv, hats, memory, parquet
from skytrawl.catalogs.readers.table import Chunk, Header, Options, Reader
from skytrawl.errors import IngestError

__all__ = ["READERS", "Chunk", "Header", "Options", "Reader", "find_reader", "source_name", "sources_of"]

READERS: dict[str, Reader] = {
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
        aligned=True,
        summary="Parquet, by row groups",
    ),
    "hats": Reader(
        "hats",
        (),
        hats.header,
        hats.chunks,
        hats.pieces,
        expand=hats.expand,
        takes=hats.takes,
        aligned=True,
        summary="HATS catalogue or collection: nested light curves, or a flat table",
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
        if reader.takes is not None and reader.takes(source):
            return reader, reader.header(source, options)
    suffixes = [suffix.lower() for suffix in source.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    for reader in READERS.values():
        if suffixes and suffixes[-1] in reader.extensions:
            break
    else:
        known = ", ".join(sorted(suffix for reader in READERS.values() for suffix in reader.extensions))
        raise IngestError(
            f"{source}: no reader knows the extension {(suffixes or ['(none)'])[-1]!r} (known: {known}); "
            "name one "
            f"with reader=, such as reader='csv'"
        )
    found = reader.header(source, options)
    for other in READERS.values():
        if other.claims and other.claims <= set(found.names):
            return other, other.header(source, options)
    return reader, found


def source_name(source: Any) -> str:
    """How messages call a source: its path, or "table in memory"."""
    return str(source) if isinstance(source, Path) else "table in memory"


def sources_of(sources: Any) -> list[Any]:
    """The list of sources that a path, folder, table, or a sequence of these stands for.

    A folder stands for its files with a known extension, by name.

    Raises
    ------
    IngestError
        If there is none, or a path does not exist.
    """
    if isinstance(sources, str | Path):
        path = Path(sources)
        if path.is_dir():
            for reader in READERS.values():
                if reader.expand is not None and (files := reader.expand(path)) is not None:
                    return list(files)
            known = {suffix for reader in READERS.values() for suffix in reader.extensions}
            files = sorted(
                file
                for file in path.iterdir()
                if file.is_file() and known & {suffix.lower() for suffix in file.suffixes}
            )
            if not files:
                raise IngestError(f"{path} holds no file that a reader knows ({', '.join(sorted(known))})")
            return list(files)
        if not path.is_file():
            raise IngestError(f"{path} does not exist: check the path of the light curves")
        return [path]
    if isinstance(sources, Sequence):
        found = [item for source in sources for item in sources_of(source)]
        if not found:
            raise IngestError("no sources given: name at least one file or table of light curves")
        return found
    return [sources]
