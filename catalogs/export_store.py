"""An archive, or the results of a job, as files for other programs."""

import time
from collections.abc import Sequence
from pathlib import Path

from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.export import new_file
from skytrawl.catalogs.export_arrow import ArchiveTables, Progress, RunTables, pyarrow
from skytrawl.catalogs.hats_export import PIXEL_BYTES, ExportReport, write_hats
from skytrawl.catalogs.query import open_query
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.stores import store_attrs
from skytrawl.errors import ParameterError

__all__ = ["FORMATS", "ExportReport", "export"]

FORMATS = ("hats", "parquet")

_ROWS = 1_000_000


def export(
    store: str | Path | Archive,
    path: str | Path,
    format: str = "hats",
    *,
    job: str | None = None,
    columns: Sequence[str] | None = None,
    version: int | None = None,
    name: str | None = None,
    unplaced: str = "refuse",
    pixel_bytes: int = PIXEL_BYTES,
    progress: Progress | None = None,
) -> ExportReport:
    """Write a store as a HATS catalogue or as a Parquet file, piece by piece.

    Parameters
    ----------
    store : str, Path or Archive
        An archive, or a results store.
    path : str or Path
        For HATS a new folder; for Parquet a file, which is replaced.
    format : {"hats", "parquet"}
        HATS holds one row an object: of an archive with the light curve in the nested column ``lightcurve``
        (mjd, mag or flux, magerr or fluxerr, band, ...). Parquet holds one row an observation of an archive,
        or one row an object of results.
    job : str, optional
        Of a results store that holds several.
    columns : sequence of str, optional
        Of results, beside the identity; all by default.
    version : int, optional
        Of an archive; the latest by default.
    name : str, optional
        Of the catalogue; that of the folder by default.
    unplaced : {"refuse", "drop"}
        What becomes of objects without a position in HATS; Parquet holds them all.
    pixel_bytes : int
        Most bytes in memory of a HATS pixel.
    progress : callable, optional
        Called with stage ("count", "write"), done and total.

    Returns
    -------
    ExportReport

    Raises
    ------
    NotAnArchiveError
        If the store is none.
    NoPositionsError
        If objects have no position and may not be left out.
    ParameterError
        For a parameter that does not fit the store, or a HATS folder that exists.
    BackendUnavailableError
        If pyarrow or hats is not installed.
    """
    if format not in FORMATS:
        raise ParameterError(f"format={format!r} is unknown: take one of {', '.join(FORMATS)}")
    kind = "archive" if isinstance(store, Archive) else store_attrs(Storage(store))["kind"]
    source: ArchiveTables | RunTables
    if kind == "archive":
        if job is not None or columns is not None:
            raise ParameterError(f"{store} is an archive: job and columns are for results")
        source = ArchiveTables(store if isinstance(store, Archive) else Archive.open(store, version))
    else:
        if version is not None:
            raise ParameterError(f"{store} holds results: version is for archives")
        source = RunTables(open_query(str(store), job).run, columns)
    if format == "hats":
        return write_hats(
            source, path, name=name, unplaced=unplaced, pixel_bytes=pixel_bytes, progress=progress
        )
    return _write_parquet(source, path, progress)


def _write_parquet(
    source: ArchiveTables | RunTables, path: str | Path, progress: Progress | None
) -> ExportReport:
    started = time.monotonic()
    pyarrow()
    from pyarrow import parquet

    target = Path(path)
    if target.is_dir():
        raise ParameterError(f"{target} is a folder: give the name of a Parquet file")
    filled = source.partitions["n_objects"] > 0
    rows = 0
    with new_file(target) as temporary:
        writer = None
        try:
            for table in source.long_tables(_ROWS, progress):
                if writer is None:
                    writer = parquet.ParquetWriter(temporary, table.schema, compression="zstd")
                writer.write_table(table, row_group_size=max(1, table.num_rows))
                rows += table.num_rows
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            raise ParameterError(f"{source.name} holds no objects: there is nothing to write to {target}")
    return ExportReport(
        str(target),
        int(source.partitions["n_objects"][source.present].sum()),
        rows,
        missing_partitions=int((filled & ~source.present).sum()),
        nbytes=target.stat().st_size,
        seconds=round(time.monotonic() - started, 3),
    )
