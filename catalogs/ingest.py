"""Light curves into an archive: read, check, sort, cut, write; published only if all of it succeeds.

The steps are functions of their own (readers, :func:`skytrawl.catalogs.rows.normalise`,
:func:`skytrawl.catalogs.partition.group` and :func:`~skytrawl.catalogs.partition.blocks`,
``ArchiveWriter.write``); :func:`ingest` runs them over tables that fit into memory.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from skytrawl.catalogs import partition, readers, schema
from skytrawl.catalogs.block import Block
from skytrawl.catalogs.readers.columns import map_columns
from skytrawl.catalogs.readers.table import Options
from skytrawl.catalogs.report import IngestReport
from skytrawl.catalogs.rows import EXAMPLES, KINDS, Rules, Tally, check_units, normalise, parse_time_format
from skytrawl.catalogs.surveys import Survey, load_survey
from skytrawl.catalogs.writer import PARTITION_OBSERVATIONS, ArchiveWriter, slots_for
from skytrawl.errors import IngestError, ParameterError

__all__ = ["IngestReport", "Progress", "ingest", "write_blocks"]

# Called with the stage ("read", "write"), what is done and what there is to do (files, partitions).
Progress = Callable[[str, int, int], None]

_DEFAULTS: dict[str, Any] = {
    "ra": np.nan,
    "dec": np.nan,
    "sign": np.int8(0),
    "upper_limit": False,
    "quality": np.uint32(0),
    "rb": np.float32(np.nan),
    "exposure": np.int64(-1),
    "class": b"",
    "row_id": b"",
}


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
    times = {
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
    options = Options(encoding=encoding, delimiter=delimiter, use_pyarrow=use_pyarrow)
    listed = readers.sources_of(sources)
    read = _Read(rules, options, dict(columns or {}), reader)
    for number, source in enumerate(listed):
        if progress:
            progress("read", number, len(listed))
        read.source(source)
    if progress:
        progress("read", len(listed), len(listed))
    rows = _together(read)
    archive_bands, rows["band"] = _band_codes(rows["band"], described, bands, read.warnings)
    if objects is not None:
        _apply_objects(rows, objects, read)
    delivered = rows["object"]
    rows["object"] = partition.identifiers(delivered)
    grouped = partition.group(rows, drop_duplicates=duplicates == "drop")
    _count_duplicates(grouped, rows, delivered, read)
    block = grouped.block
    placed = np.isfinite(block.objects["ra"])
    if placed.any() and not placed.all():
        read.warnings.append(
            f"{int((~placed).sum())} of {block.n_objects} objects have no position: cones never find them"
        )
    _warn_of_names(curves, times, read, described)
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


@dataclass
class _Read:
    """The rows of all sources, and what was found on the way."""

    rules: Rules
    options: Options
    columns: dict[str, Any]
    reader: str | None
    tally: Tally = field(default_factory=Tally)
    chunks: list[dict[str, np.ndarray]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    guessed: dict[str, dict[str, str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    time_columns: set[str] = field(default_factory=set)
    own_origin: bool = False
    lost: int = 0

    def source(self, source: Any) -> None:
        """Read and check one source."""
        where = readers.source_name(source)
        found, header = readers.find_reader(source, self.options, self.reader)
        rules = self.rules
        stem = source.name.split(".")[0] if isinstance(source, Path) else "table"
        mapped = map_columns(header, self.columns, rules.survey, rules.quantity, where, stem)
        check_units(header, mapped, rules, where)
        rules = Rules(**{**vars(rules), "time_format": rules.time_format or _time_format(mapped, rules)})
        origin, offset = parse_time_format(rules.time_format)
        self.own_origin |= origin == "days"
        self.time_columns.add(mapped.columns.get("time", ""))
        kinds = {name: KINDS[role] for role, name in mapped.columns.items()}
        if offset and "time" in mapped.columns:
            kinds[mapped.columns["time"]] = "decimal"
        if found.name != "antares" and mapped.guessed:
            self.guessed[where] = mapped.guessed
        before = self.tally.read
        for chunk in found.chunks(source, kinds, self.options):
            rows = normalise(chunk, mapped, rules, where, self.tally)
            rows["file"] = np.full(len(rows["row"]), len(self.names), np.int32)
            self.chunks.append(rows)
        self.names.append(where)
        if self.tally.read == before:
            self.warnings.append(f"{where} has a header line but no rows")


def _time_format(mapped: Any, rules: Rules) -> str:
    name = mapped.columns.get("time", "").lower()
    for prefix, meant in (("mjd", "mjd"), ("jd", "jd"), ("hjd", "jd"), ("bjd", "jd")):
        if name == prefix or name.startswith(prefix + "_"):
            # The survey may know a truncated form of the same kind of date.
            return rules.survey.time_format if rules.survey.time_format.startswith(meant) else meant
    return rules.survey.time_format


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
    found = {
        "quantity": chosen,
        "photometry": photometry or survey.photometry,
        "units": units or survey.units,
        "magnitude_system": survey.magnitude_system,
    }
    if zero_point is None and same and (units is None or units == survey.units):
        zero_point = survey.zero_point
    if zero_point is not None:
        found["zero_point"] = float(zero_point)
    return found


def _choices(**given: tuple[str, tuple[str, ...]]) -> None:
    for name, (value, options) in given.items():
        if value not in options:
            raise ParameterError(f"{name}={value!r} is unknown: take one of {', '.join(options)}")


def _together(read: _Read) -> dict[str, np.ndarray]:
    """All kept rows as one set of columns."""
    kept = sum(len(chunk["row"]) for chunk in read.chunks)
    if not read.tally.read:
        raise IngestError(f"no rows in {', '.join(read.names)}: there is nothing to put into an archive")
    if not kept:
        reasons = "\n".join(
            f"  {count} rows: {reason} ({'; '.join(read.tally.examples[reason][:1])})"
            for reason, count in read.tally.dropped.items()
        )
        raise IngestError(f"none of {read.tally.read} rows can be used:\n{reasons}")
    roles = {role for chunk in read.chunks for role in chunk}
    rows = {}
    for role in sorted(roles):
        parts = [
            chunk[role] if role in chunk else np.full(len(chunk["row"]), _DEFAULTS[role])
            for chunk in read.chunks
        ]
        rows[role] = np.concatenate(parts)
    read.chunks.clear()
    present = set(np.unique(rows["object"]).tolist())
    lost = sorted(read.tally.losers - present - {b""})
    read.lost = len(lost)
    if lost:
        shown = ", ".join(name.decode(errors="replace") for name in lost[:EXAMPLES])
        read.warnings.append(
            f"{len(lost)} objects lost all their rows ({shown}{', ...' if len(lost) > 3 else ''})"
        )
    read.warnings += [f"{text} ({count} rows)" for text, count in read.tally.notes.items()]
    read.warnings += [
        f"{count} rows dropped: {reason}; add it to a survey file of your own if it is meant"
        for reason, count in read.tally.dropped.items()
        if reason.startswith("unknown band")
    ]
    return rows


def _band_codes(
    names: np.ndarray, survey: Survey, asked: Sequence[str] | None, warnings: list[str]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the archive's bands, and the code of every row."""
    unique, inverse = np.unique(names, return_inverse=True)
    found = [survey.band(name.decode()) for name in unique]
    if asked is not None:
        bands = tuple(asked)
        canonical = [band.name for band in map(survey.band, bands) if band is not None]
        codes_of = {name: code for code, name in enumerate(canonical)}
        if len(codes_of) < len(bands):
            raise ParameterError(f"bands={list(bands)} names one filter of {survey.name} twice")
    else:
        chosen = []
        for band in survey.bands:
            delivered = [name.decode() for name, of in zip(unique, found, strict=True) if of is band]
            spelled = [name for name in delivered if name not in band.codes]
            if len(spelled) > 1:
                warnings.append(
                    f"{' and '.join(spelled)} are one filter of {survey.name}: stored as {band.name}"
                )
            chosen.append(spelled[0] if len(spelled) == 1 and len(delivered) == 1 else band.name)
        bands = tuple(chosen)
        codes_of = {band.name: code for code, band in enumerate(survey.bands)}
    codes = np.array([codes_of[band.name] for band in found if band is not None], np.uint8)
    return bands, codes[inverse]


def _apply_objects(rows: dict[str, np.ndarray], objects: Any, read: _Read) -> None:
    """Positions and classes from a table of objects."""
    (source,) = readers.sources_of(objects)
    where = readers.source_name(source)
    found, header = readers.find_reader(source, read.options)
    lower = {name.lower(): name for name in reversed(header.names)}
    from skytrawl.catalogs.readers.columns import USUAL

    mapped = {
        role: next((lower[name] for name in (role, *USUAL[role]) if name in lower), "")
        for role in ("object", "ra", "dec", "class")
    }
    if not mapped["object"] or not any(mapped[role] for role in ("ra", "class")):
        raise IngestError(
            f"{where}: a table of objects needs a column object and any of ra, dec, class; it has "
            f"{', '.join(header.names)}"
        )
    kinds = {name: KINDS[role] for role, name in mapped.items() if name}
    chunks = list(found.chunks(source, kinds, read.options))
    if not chunks:
        raise IngestError(f"{where} has no rows")
    table = {
        role: np.concatenate([chunk.columns[name] for chunk in chunks])
        for role, name in mapped.items()
        if name
    }
    unique, inverse = np.unique(rows["object"], return_inverse=True)
    named, first = np.unique(table["object"], return_index=True)
    place = np.minimum(np.searchsorted(named, unique), len(named) - 1)
    known = named[place] == unique
    for role in ("ra", "dec", "class"):
        if role not in table:
            continue
        old = rows.get(role)
        if old is None:
            old = np.full(len(inverse), _DEFAULTS[role])
        new = table[role][first[place]]
        rows[role] = np.where(known[inverse], new[inverse], old)
    unused = len(named) - int(known.sum())
    if unused:
        read.warnings.append(f"{unused} objects of {where} have no observations and are left out")
    if not known.all():
        read.warnings.append(f"{int((~known).sum())} objects are not in {where}")


def _count_duplicates(
    grouped: partition.Grouped, rows: Mapping[str, np.ndarray], delivered: np.ndarray, read: _Read
) -> None:
    if grouped.duplicates.size:
        first = np.sort(grouped.duplicates)[:EXAMPLES]
        places = [
            f"{read.names[rows['file'][index]]}, row {rows['row'][index]}: "
            f"{delivered[index].decode(errors='replace')!r}"
            for index in first
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


def _warn_of_names(curves: Mapping[str, Any], times: Mapping[str, Any], read: _Read, survey: Survey) -> None:
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
