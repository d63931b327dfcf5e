"""Light curves into an archive: read, check, sort, cut, write; published only if all of it succeeds.

The steps are functions of their own (readers, :func:`skytrawl.catalogs.rows.normalise`,
:func:`skytrawl.catalogs.partition.group` and :func:`~skytrawl.catalogs.partition.blocks`,
``ArchiveWriter.write``); :func:`ingest` runs them over tables that fit into memory.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs import partition, readers, schema
from skytrawl.catalogs.band_names import band_codes, band_names
from skytrawl.catalogs.block import Block
from skytrawl.catalogs.gather import Gathered, apply_objects, joined
from skytrawl.catalogs.identifiers import as_texts
from skytrawl.catalogs.readers.table import Options
from skytrawl.catalogs.report import IngestReport
from skytrawl.catalogs.rows import Rules
from skytrawl.catalogs.surveys import Survey, load_survey
from skytrawl.catalogs.surveys.description import EXPOSURE_POINTS
from skytrawl.catalogs.tally import EXAMPLES
from skytrawl.catalogs.writer import PARTITION_OBSERVATIONS, ArchiveWriter, slots_for
from skytrawl.errors import ArchiveError, IngestError, ParameterError

__all__ = ["IngestReport", "Progress", "ingest", "write_blocks"]

# Called with the stage ("read", "write"), what is done and what there is to do (files, partitions).
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
    partition_observations: int = PARTITION_OBSERVATIONS,
    encoding: str = "utf-8",
    delimiter: str | None = None,
    use_pyarrow: bool | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Make an archive from long tables of light curves (one row an observation).

    Parameters
    ----------
    sources : path, table, or sequence of these
        Files (CSV, TSV, ECSV, Parquet, ANTARES loci; text may be gzip), folders of such files, or tables in
        memory (mapping of arrays, data frame, astropy table).
    archive_path : str or Path
        New folder.
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
        curves.
    duplicates : {"drop", "keep"}
        Rows that repeat another row in every column. Rows that share object, band and time but differ
        otherwise are always kept, and counted.
    missing_errors : {"drop", "keep"}
        Rows whose error is missing (NaN) or zero. Upper limits need no error.
    on_bad : {"drop", "raise"}
        Leave bad rows out and count them by reason, or stop at the first.
    partition_observations : int
        Most observations of a partition (a longer object gets one of its own).
    encoding, delimiter : str, optional
        Of text files.
    use_pyarrow : bool, optional
        Read text files with pyarrow; by default where it is installed. The archive is the same.
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
    """
    started = time.monotonic()
    described = load_survey(survey)
    path = Path(archive_path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise IngestError(f"{path} exists already: choose another path, or remove it first")
    curves = _light_curves(described, quantity, photometry, units, zero_point)
    times: dict[str, Any] = {
        "scale": time_scale or described.time_scale,
        "reference_position": reference_position or described.reference_position,
        "exposure_point": exposure_point or described.exposure_point,
        "offset": 0.0,
    }
    _choices(
        duplicates=(duplicates, ("drop", "keep")),
        missing_errors=(missing_errors, ("drop", "keep")),
        on_bad=(on_bad, ("drop", "raise")),
        quantity=(curves["quantity"], schema.QUANTITIES),
        photometry=(curves["photometry"], schema.PHOTOMETRY),
        time_scale=(times["scale"], schema.SCALES),
        reference_position=(times["reference_position"], schema.REFERENCE_POSITIONS),
        exposure_point=(times["exposure_point"], EXPOSURE_POINTS),
    )
    if partition_observations < 1:
        raise ParameterError(f"partition_observations={partition_observations} must be at least 1")
    for name in bands or ():
        if described.band(name) is None:
            known = ", ".join(described.band_names)
            raise ParameterError(
                f"bands: {described.name} has no band {name!r} (it has {known}); a survey file of your own "
                "can add it"
            )
    rules = Rules(
        described,
        curves["quantity"],
        curves["units"],
        time_format or "",
        tuple(bands) if bands is not None else None,
        on_bad,
        missing_errors,
    )
    options = Options(
        encoding=encoding,
        delimiter=delimiter,
        use_pyarrow=use_pyarrow,
        files=described.files,
        time_format=time_format or "",
    )
    listed = readers.sources_of(sources, options, reader)
    read = Gathered(rules, options, dict(columns or {}), reader)
    for number, source in enumerate(listed):
        if progress:
            progress("read", number, len(listed))
        read.source(source)
    if progress:
        progress("read", len(listed), len(listed))
    rows = joined(read)
    archive_bands = band_names(described, read.tally.spellings, bands, read.warnings)
    rows["band"] = band_codes(described, archive_bands)[rows["band"]]
    if objects is not None:
        apply_objects(rows, objects, read)
    delivered = rows["object"]
    grouped = partition.group(rows, drop_duplicates=duplicates == "drop")
    _count_duplicates(grouped, rows, delivered, read)
    block = grouped.block
    placed = np.isfinite(block.objects["ra"])
    if placed.any() and not placed.all():
        read.warnings.append(
            f"{int((~placed).sum())} of {block.n_objects} objects have no position: cones never find them"
        )
    _warn_of_names(curves, times, read)
    pieces = partition.cut(block.offsets, block.objects["healpix"], partition_observations)
    survey_dict = described.to_dict()
    curves["time"] = times | {"origin": "own" if read.own_origin else "MJD"}
    try:
        slots = slots_for(
            max(piece.stop - piece.start for piece in pieces),
            max(int(block.offsets[piece.stop] - block.offsets[piece.start]) for piece in pieces),
        )
        writer = ArchiveWriter.create(
            path,
            survey=survey_dict,
            light_curves=curves,
            bands=archive_bands,
            dtypes=_dtypes(block),
            has_positions=bool(placed.any()),
            object_slot=slots[0],
            observation_slot=slots[1],
        )
        count = write_blocks(writer, (block.select(piece) for piece in pieces), len(pieces), progress)
        per_band = np.bincount(block.observations["band"], minlength=len(archive_bands))
        limits = block.observations.get("upper_limit")
        report = IngestReport(
            archive=str(path),
            survey=described.name,
            sources=tuple(readers.source_name(source) for source in listed),
            rows_read=read.tally.read,
            rows_kept=block.n_observations,
            dropped=read.tally.dropped,
            examples=read.tally.examples,
            objects=block.n_objects,
            partitions=count,
            bands=archive_bands,
            rows_by_band={name: int(per_band[code]) for code, name in enumerate(archive_bands)},
            upper_limits=0 if limits is None else int(limits.sum()),
            equal_stamps=grouped.equal_stamps,
            lost_objects=read.lost,
            guessed=read.guessed,
            warnings=tuple(read.warnings),
            seconds=round(time.monotonic() - started, 3),
        )
        writer.publish()
    except (ArchiveError, FileExistsError) as error:
        # Since the check above another process has made an archive here: it is not ours to remove.
        raise IngestError(f"{path} was made by another process meanwhile: choose another path") from error
    except BaseException:
        # The folder was absent or empty: what is in it is ours, and nobody can have read it.
        shutil.rmtree(path, ignore_errors=True)
        raise
    return report


def write_blocks(
    writer: ArchiveWriter, blocks: Iterable[Block], total: int = 0, progress: Progress | None = None
) -> int:
    """Write partitions one by one; returns their number. Nothing is published."""
    count = 0
    for block in blocks:
        writer.write(block)
        count += 1
        if progress:
            progress("write", count, total)
    return count


def _light_curves(
    survey: Survey,
    quantity: str | None,
    photometry: str | None,
    units: str | None,
    zero_point: float | None,
) -> dict[str, Any]:
    """The archive's description of its values; without the times."""
    same = quantity in (None, survey.quantity)
    chosen = quantity or survey.quantity
    if units is None and not same:
        if chosen == "flux":
            raise ParameterError(
                f"quantity='flux' differs from the usual one of {survey.name}: pass units= too, such as "
                "units='nJy' "
                "with zero_point=31.4"
            )
        units = "mag"
    found: dict[str, Any] = {
        "quantity": chosen,
        "photometry": photometry or survey.photometry,
        "units": units or survey.units,
        "magnitude_system": survey.magnitude_system,
    }
    if zero_point is None and same and (units is None or units == survey.units):
        zero_point = survey.zero_point
    if zero_point is not None:
        if not np.isfinite(zero_point):
            raise ParameterError(f"zero_point={zero_point!r}: give the magnitude of one unit of flux")
        found["zero_point"] = float(zero_point)
    _check_unit(found["units"], chosen)
    return found


def _check_unit(units: str, quantity: str) -> None:
    """Refuse a unit that the quantity cannot have; counts and other instrumental fluxes pass."""
    from astropy.units import Unit

    try:
        physical = str(Unit(units).physical_type)
    except ValueError as error:
        raise ParameterError(f"units={units!r} is no unit that astropy knows: {error}") from error
    if (quantity == "magnitude") != (units == "mag") or physical in ("length", "time", "angle", "mass"):
        example = "mag" if quantity == "magnitude" else "nJy"
        raise ParameterError(f"units={units!r} is no unit of a {quantity}: write one such as {example!r}")


def _choices(**given: tuple[str, tuple[str, ...]]) -> None:
    for name, (value, options) in given.items():
        if value not in options:
            raise ParameterError(f"{name}={value!r} is unknown: take one of {', '.join(options)}")


def _count_duplicates(
    grouped: partition.Grouped, rows: Mapping[str, np.ndarray], delivered: np.ndarray, read: Gathered
) -> None:
    if grouped.duplicates.size:
        first = np.sort(grouped.duplicates)[:EXAMPLES]
        places = [
            f"{read.names[rows['file'][index]]}, row {rows['row'][index]}: {name.decode(errors='replace')!r}"
            for index, name in zip(first, as_texts(delivered[first]).tolist(), strict=True)
        ]
        reason = "repeats another row in every column"
        if read.rules.on_bad == "raise":
            raise IngestError(
                f"{places[0]}: {reason}. Remove it, or pass duplicates='keep', or on_bad='drop' to leave "
                "such rows out"
            )
        read.tally.drop(reason, len(grouped.duplicates), places)
    if grouped.equal_stamps:
        read.warnings.append(
            f"{grouped.equal_stamps} rows share object, band and time with another row and differ "
            "otherwise: kept"
        )
    if grouped.scattered.size:
        name = grouped.block.objects["object_id"][grouped.scattered[0]]
        shown = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        read.warnings.append(
            f"{grouped.scattered.size} objects have rows more than an arc minute apart (such as {shown}): "
            "check that "
            "an identifier names one object"
        )
    if grouped.mixed_classes:
        read.warnings.append(f"{grouped.mixed_classes} objects have several classes: the first is kept")


def _warn_of_names(curves: Mapping[str, Any], times: Mapping[str, Any], read: Gathered) -> None:
    """Warn where names of columns speak against what the archive will say."""
    for column in sorted(read.time_columns):
        lower = column.lower()
        said = times["reference_position"]
        for prefix, meant in (("hjd", "heliocenter"), ("bjd", "barycenter")):
            if lower.startswith(prefix) and said != meant:
                read.warnings.append(
                    f"times come from the column {column!r}, but the archive says reference position "
                    f"{said}: pass "
                    f"reference_position='{meant}' if the column's name is right"
                )
    guessed = {column.lower() for columns in read.guessed.values() for column in columns.values()}
    release = sorted(guessed & {"oid", "filtercode", "catflags"})
    if read.rules.survey.name == "ztf" and curves["photometry"] == "difference" and release:
        read.warnings.append(
            f"the column {release[0]!r} is one of ZTF data releases, which hold total magnitudes, but the "
            "archive says difference: pass photometry='total' (--photometry total) if so"
        )
    if curves["photometry"] == "mixed":
        read.warnings.append(
            "total and difference photometry are mixed on purpose: scores compare unlike values"
        )


def _dtypes(block: Block) -> dict[str, np.dtype]:
    found = {}
    for name, column in block.objects.items():
        found[f"objects/{name}"] = column.dtype
    for name, column in block.observations.items():
        found[f"lightcurves/{name}"] = column.dtype
    return found
