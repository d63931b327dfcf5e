"""`skytrawl.ingest` and `skytrawl.append`: from any input to a published version of an archive.

An ingest goes through stages, each a set of tasks that leave records in a journal below ``staging/``:

1. plan: list the pieces of the input, look at a sample, cut the sky into buckets of about a partition;
2. pieces: read each piece, check its rows, spill them by bucket;
3. buckets: group the rows of each bucket into objects, write partitions into fresh slots;
4. census: every identifier lies in one bucket, or its rows are moved to one (alerts scatter over a border);
5. publish.

Input that stands in the order of the sky already goes from pieces to partitions directly. An append is the
same with the partitions of the version below as buckets. A killed ingest goes on where it was.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from skytrawl.catalogs import readers
from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.readers.table import Options
from skytrawl.catalogs.report import IngestReport
from skytrawl.catalogs.storage import Storage
from skytrawl.catalogs.surveys import Survey
from skytrawl.catalogs.versions import list_versions
from skytrawl.catalogs.writer import PARTITION_OBSERVATIONS
from skytrawl.errors import IngestError, VersionConflictError
from skytrawl.intake import leftovers
from skytrawl.intake.journal import Journal
from skytrawl.intake.object_table import prepare
from skytrawl.intake.pool import open_pool
from skytrawl.intake.request import append_request, new_request
from skytrawl.intake.stages import Intake
from skytrawl.lock import only_driver

# Called with the stage ("read", "write"), what is done and what there is to do (pieces, buckets).
Progress = Callable[[str, int, int], None]


def ingest(
    sources: Any,
    archive_path: str | Path,
    *,
    survey: str | Path | Survey,
    columns: Mapping[str, Any] | None = None,
    reader: str | None = None,
    quantity: str | None = None,
    photometry: str | None = None,
    units: str | None = None,
    zero_point: float | None = None,
    time_format: str | None = None,
    time_scale: str | None = None,
    reference_position: str | None = None,
    exposure_point: str | None = None,
    bands: Sequence[str] | None = None,
    objects: Any = None,
    duplicates: str = "drop",
    missing_errors: str = "drop",
    on_bad: str = "drop",
    precision: Mapping[str, float] | None = None,
    partition_observations: int = PARTITION_OBSERVATIONS,
    encoding: str = "utf-8",
    delimiter: str | None = None,
    nested: str | None = None,
    use_pyarrow: bool | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    restart: bool = False,
    progress: Progress | None = None,
) -> IngestReport:
    """Make an archive from light curves in any order and of any size, in bounded memory.

    Parameters
    ----------
    sources : path, table, or sequence of these
        Files, folders and catalogues that a reader knows (see :data:`skytrawl.catalogs.readers.READERS`), or
        tables in memory (mapping of arrays, data frame, astropy table).
    archive_path : str or Path
        New folder, or the folder of an ingest of the same input that was interrupted: it goes on.
    survey : str, Path or Survey
        Name of a survey description or path of one: bands, units, what values and times mean.
    columns : mapping of str to str or number, optional
        Role to column name. Roles: object, time, value, error, band; ra, dec, sign, upper_limit, quality, rb,
        exposure, class, row_id (identifier of a measurement: rows with different ones are never duplicates).
        A text that is no column is a constant for object, band and class (``{"band": "r"}``), "{stem}" is
        the file's name, a number is a constant, None leaves a role out. Roles not given are guessed from
        usual names; the report lists the guesses.
    reader : str, optional
        Name of a reader, where extension and columns do not tell.
    quantity : {"magnitude", "flux"}, optional
        Of the values; the survey's by default.
    photometry : {"total", "difference", "forced difference", "mixed"}, optional
        Of the values; the survey's by default. "mixed" says that kinds are mixed on purpose.
    units : str, optional
        Unit of values and errors; the survey's by default. Values are stored as delivered.
    zero_point : float, optional
        Magnitude of one unit of flux; the survey's by default.
    time_format : str, optional
        "mjd", "jd", "jd-<number>" (such as jd-2450000), "mjd-<number>", or "days" for times of an own zero
        point. By default "jd" where the time column is called jd, hjd or bjd, "mjd" where it is called mjd,
        else the survey's. Archives hold MJD in float64.
    time_scale, reference_position, exposure_point : str, optional
        Of the times; the survey's by default.
    bands : sequence of str, optional
        Bands of the archive in this order; rows of other ones are dropped and counted. By default all bands
        of the survey in order of wavelength, spelled as delivered.
    objects : path or table, optional
        Table with one row an object: object and any of ra, dec, class. Its values replace those of the light
        curves. It is sorted in memory (about 60 bytes an object).
    duplicates : {"drop", "keep"}
        Rows that repeat another row in every column. Rows that share object, band and time but differ
        otherwise are always kept, and counted.
    missing_errors : {"drop", "keep"}
        Rows whose error is missing (NaN) or zero. Upper limits need no error.
    on_bad : {"drop", "raise"}
        Leave bad rows out and count them by reason, and leave out whole files that cannot be used (the report
        lists them with the reason); or stop at the first fault.
    precision : mapping of str to float, optional
        Round value or error to no worse than half a step, such as ``{"value": 0.001}``, which compresses
        better; the largest error is recorded in the archive. By default nothing is rounded.
    partition_observations : int
        Most observations of a partition (a longer object gets one of its own).
    encoding, delimiter : str, optional
        Of text files.
    nested : str, optional
        Name of the nested column of light curves in a HATS catalogue that has several.
    use_pyarrow : bool, optional
        Read text files with pyarrow; by default where it is installed. The archive is the same.
    workers : int, optional
        Worker processes; by default one a core if the input is larger than 64 MB, else none.
    cluster : str, optional
        "inline", "local", "threads" or the address of a Dask scheduler.
    restart : bool
        Forget an interrupted ingest at this path and begin anew.
    progress : callable, optional
        Called with stage ("read", "write"), done and total.

    Returns
    -------
    IngestReport
        Rows read = rows kept + rows dropped by reason.

    Raises
    ------
    IngestError
        For input that cannot be used; names file, row and what to do. Nothing is published then, and the
        folder of the archive is removed again.
    ParameterError
        For a parameter out of its choices.

    Notes
    -----
    Position of an object: median of its rows. An archive may hold objects with and without positions: those
    without have NaN, come after all others and are never found by a cone.

    Memory does not grow with the input: a task holds one piece (about 2 million rows) or one partition. The
    disk takes, until the end, about 50 bytes a row more under ``staging/`` in the archive.
    """
    started = time.monotonic()
    options = Options(encoding=encoding, delimiter=delimiter, use_pyarrow=use_pyarrow, nested=nested)
    request = new_request(
        survey,
        columns=columns,
        reader=reader,
        quantity=quantity,
        photometry=photometry,
        units=units,
        zero_point=zero_point,
        time_format=time_format,
        time_scale=time_scale,
        reference_position=reference_position,
        exposure_point=exposure_point,
        bands=bands,
        duplicates=duplicates,
        missing_errors=missing_errors,
        on_bad=on_bad,
        partition_observations=partition_observations,
        precision=precision,
        options=options,
    )
    listed = readers.sources_of(sources, request.options, request.reader)
    path = Path(archive_path)
    prefix = f"staging/{request.fingerprint(listed, objects)}"
    leftovers.check_place(path, prefix, restart)
    journal = Journal(Storage(path), prefix)
    nbytes = sum(_size(source) for source in listed)
    with only_driver(path / prefix):
        leftovers.refuse_company(path, prefix)
        try:
            if objects is not None and not (path / prefix / "objects").is_dir():
                _prepare_objects(objects, request, journal)
            with open_pool(cluster, workers, nbytes) as pool:
                intake = Intake(request, journal, pool, listed, progress)
                report = intake.first(started)
        except IngestError:
            # Bad input: nobody can have read what was made from it.
            if not list_versions(journal.storage):
                leftovers.forget(path)
            raise
    return report


def append(
    sources: Any,
    archive_path: str | Path,
    *,
    columns: Mapping[str, Any] | None = None,
    reader: str | None = None,
    time_format: str | None = None,
    objects: Any = None,
    duplicates: str = "drop",
    on_bad: str = "drop",
    encoding: str = "utf-8",
    delimiter: str | None = None,
    nested: str | None = None,
    use_pyarrow: bool | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Add observations to an archive as its next version: a night, a batch of nights, a data release.

    Observations of known objects join them, new objects are added. Only the partitions that the new rows fall
    into are written again; readers of the version below are not disturbed, and a job that is run again takes
    the changed partitions alone. Rows that the archive holds already are left out, so that delivering the
    same night twice changes nothing.

    Parameters
    ----------
    sources : path, table, or sequence of these
    archive_path : str or Path
        An archive that :func:`ingest` made.
    columns, reader, time_format
        By default as given to the first ingest. What values and times mean is the archive's.
    objects, duplicates, on_bad, encoding, delimiter, nested, use_pyarrow, workers, cluster, progress
        As for :func:`ingest`. A known object keeps its position and its class.

    Returns
    -------
    IngestReport
        `version` is the one published, or that of before if nothing was new.

    Raises
    ------
    IngestError
        For input that cannot be used; the archive stays as it is.
    VersionConflictError
        If another writer published meanwhile.
    """
    started = time.monotonic()
    archive = Archive.open(archive_path)
    options = Options(encoding=encoding, delimiter=delimiter, use_pyarrow=use_pyarrow, nested=nested)
    request = append_request(
        archive,
        columns=columns,
        reader=reader,
        time_format=time_format,
        duplicates=duplicates,
        on_bad=on_bad,
        options=options,
    )
    listed = readers.sources_of(sources, request.options, request.reader)
    fingerprint = request.fingerprint(listed, objects)
    prefix = f"staging/{fingerprint}-on-{archive.version.number}"
    journal = Journal(archive.storage, prefix)
    nbytes = sum(_size(source) for source in listed)
    with only_driver(archive.path / prefix):
        try:
            if objects is not None and not (archive.path / prefix / "objects").is_dir():
                _prepare_objects(objects, request, journal)
            with open_pool(cluster, workers, nbytes) as pool:
                intake = Intake(request, journal, pool, listed, progress, archive)
                report = intake.further(started)
        except (IngestError, VersionConflictError):
            leftovers.drop(leftovers.bury(archive.path / prefix))
            raise
    leftovers.drop_older(archive.path, fingerprint)
    return report


def _prepare_objects(objects: Any, request: Any, journal: Journal) -> None:
    """Sort the table of objects into its files; the folder appears when all of it is there."""
    warnings: list[str] = []
    folder = journal.storage.path(journal.key("objects"))
    made = folder.with_name("objects.making")
    shutil.rmtree(made, ignore_errors=True)
    count = prepare(objects, request, made, warnings)
    journal.once("object_table", lambda: {"objects": count, "warnings": warnings, "where": _shown(objects)})
    made.rename(folder)


def _shown(objects: Any) -> str:
    return str(objects) if isinstance(objects, str | Path) else "the table of objects"


def _size(source: Any) -> int:
    if not isinstance(source, Path):
        return 0
    if source.is_dir():
        return sum(file.stat().st_size for file in source.rglob("*") if file.is_file())
    return source.stat().st_size


__all__ = ["IngestReport", "Progress", "append", "ingest"]
