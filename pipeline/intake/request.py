"""What an ingest was asked for: checked once on the driver, carried to every task."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs import readers, schema
from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.band_names import band_codes
from skytrawl.catalogs.checks import Rules
from skytrawl.catalogs.heliocentric import POSITIONS
from skytrawl.catalogs.readers.table import Options
from skytrawl.catalogs.rounding import check_rounding
from skytrawl.catalogs.surveys import Survey, load_survey
from skytrawl.catalogs.surveys.description import EXPOSURE_POINTS
from skytrawl.errors import ParameterError


@dataclass(frozen=True)
class Request:
    """Everything that a task must know about the ingest it belongs to.

    Attributes
    ----------
    rules, options, columns, reader
        How rows are read and checked.
    light_curves : dict
        The archive's description of values and times.
    duplicates : {"drop", "keep"}
    partition_observations : int
    bands : tuple of str
        Canonical names of the archive's bands, by code.
    declared : dict of str to str
        For an append: dtypes of the archive's columns by short name; empty for a first ingest.
    precision : dict of str to float
        Column to the step to which it may be rounded.
    recover : dict
        position, scale and resolution of times that are brought back from the Sun to the exposures; empty
        where they are stored as delivered.
    placed : bool
        For an append: whether the archive has positions.
    ordered : bool
        Read pieces of whole objects, because the input stands in the order of the sky.
    """

    rules: Rules
    options: Options
    columns: dict[str, Any]
    reader: str | None
    light_curves: dict[str, Any]
    duplicates: str
    partition_observations: int
    bands: tuple[str, ...]
    declared: dict[str, str] = field(default_factory=dict)
    precision: dict[str, float] = field(default_factory=dict)
    recover: dict[str, Any] = field(default_factory=dict)
    placed: bool = True
    ordered: bool = False

    @property
    def survey(self) -> Survey:
        """The survey's description."""
        return self.rules.survey

    def band_map(self) -> np.ndarray | None:
        """Code in the archive of each band of the survey (uint8); None if they are equal."""
        return None if self.bands == self.survey.band_names else band_codes(self.survey, self.bands)

    def fingerprint(self, sources: Sequence[Any], objects: Any) -> str:
        """16 hex digits of the parameters, the files (path, size, time of change) and tables (values)."""
        described = [_identity(source) for source in sources]
        words = {
            "sources": described,
            "objects": [] if objects is None else [_identity(one) for one in readers.sources_of(objects)],
            "columns": {role: str(value) for role, value in self.columns.items()},
            "reader": self.reader,
            "rules": [
                self.survey.to_dict(),
                self.rules.bands,
                self.rules.on_bad,
                self.rules.missing_errors,
                self.rules.time_format,
            ],
            "options": [self.options.encoding, self.options.delimiter, self.options.nested],
            "light_curves": self.light_curves,
            "duplicates": self.duplicates,
            "partition_observations": self.partition_observations,
            "declared": self.declared,
            "precision": self.precision,
            "recover": self.recover,
        }
        return hashlib.sha256(json.dumps(words, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _identity(source: Any) -> list[Any]:
    """Path, size and time of change of a file, or of all files of a folder together; values of a table."""
    if not isinstance(source, Path):
        return [type(source).__name__, _content(source)]
    path = source
    if not path.is_dir():
        state = path.stat()
        return [str(path.absolute()), state.st_size, state.st_mtime_ns]
    digest = hashlib.sha256()
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            try:
                state = os.stat(os.path.join(folder, name))
            except FileNotFoundError:  # a link to nowhere: its reader will name it
                state = os.lstat(os.path.join(folder, name))
            digest.update(f"{folder}/{name}|{state.st_size}|{state.st_mtime_ns}\n".encode())
    return [str(path.absolute()), digest.hexdigest()]


def _content(table: Any) -> str:
    """Hash of names, units, types and values of a table in memory; its address may be another's tomorrow."""
    _, header = readers.find_reader(table, Options())
    digest = hashlib.sha256(repr(sorted(header.units.items())).encode())
    for name in header.names:
        column = table[name]
        values = np.asarray(column)
        digest.update(f"{name}|{values.dtype}|{values.shape}\n".encode())
        for start in range(0, len(values), 1_000_000):
            part = values[start : start + 1_000_000]
            digest.update(repr(part.tolist()).encode() if part.dtype.hasobject else part.tobytes())
        if isinstance(column, np.ma.MaskedArray):
            digest.update(np.ma.getmaskarray(column).tobytes())
    return digest.hexdigest()


def new_request(
    survey: str | Path | Survey,
    *,
    columns: Mapping[str, Any] | None,
    reader: str | None,
    quantity: str | None,
    photometry: str | None,
    units: str | None,
    zero_point: float | None,
    time_format: str | None,
    time_scale: str | None,
    reference_position: str | None,
    exposure_point: str | None,
    bands: Sequence[str] | None,
    duplicates: str,
    missing_errors: str,
    on_bad: str,
    partition_observations: int,
    precision: Mapping[str, float] | None,
    options: Options,
) -> Request:
    """Check the words of a first ingest.

    Raises
    ------
    ParameterError
        For a parameter out of its choices.
    """
    described = load_survey(survey)
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
    check_rounding(precision or {})
    curves["time"] = times
    recover: dict[str, Any] = {}
    if described.recover_exposure and times["reference_position"] in POSITIONS:
        recover = {
            "position": times["reference_position"],
            "scale": times["scale"],
            "resolution": described.resolution,
        }
        times["reference_position"] = "geocenter"
    names = described.band_names
    if bands is not None:
        names = _asked_bands(described, bands)
    rules = Rules(
        described,
        curves["quantity"],
        curves["units"],
        time_format or "",
        tuple(bands) if bands is not None else None,
        on_bad,
        missing_errors,
    )
    return Request(
        rules,
        replace(options, files=described.files, time_format=rules.time_format),
        dict(columns or {}),
        reader,
        curves,
        duplicates,
        partition_observations,
        names,
        precision=dict(precision or {}),
        recover=recover,
    )


def append_request(
    archive: Archive,
    *,
    columns: Mapping[str, Any] | None,
    reader: str | None,
    time_format: str | None,
    duplicates: str,
    on_bad: str,
    options: Options,
) -> Request:
    """What an append was asked for; what values and times mean is the archive's.

    Parameters
    ----------
    archive : Archive
        The version that the append goes on top of.
    columns, reader, time_format, duplicates, on_bad, options
        As for a first ingest; columns, reader and time_format default to those of the first ingest.
    """
    _choices(duplicates=(duplicates, ("drop", "keep")), on_bad=(on_bad, ("drop", "raise")))
    made = archive.attrs.get("ingest", {})
    survey = Survey.from_dict(archive.attrs["survey"])
    curves = archive.attrs["light_curves"]
    bands = tuple(made.get("bands") or _asked_bands(survey, archive.bands))
    subset = bands != survey.band_names
    rules = Rules(
        survey,
        curves["quantity"],
        curves["units"],
        time_format if time_format is not None else made.get("time_format", ""),
        bands if subset else None,
        on_bad,
        made.get("missing_errors", "drop"),
    )
    options = replace(options, **made.get("options", {}))
    declared = {name.rpartition("/")[2]: archive.array(name).dtype.str for name in archive.variables}
    return Request(
        rules,
        replace(options, files=survey.files, time_format=rules.time_format),
        dict(made.get("columns", {})) | dict(columns or {}),
        reader if reader is not None else made.get("reader"),
        curves,
        duplicates,
        made.get("partition_observations", 4_000_000),
        bands,
        declared,
        made.get("precision", {}),
        made.get("recover", {}),
        archive.has_positions,
    )


def remembered(request: Request) -> dict[str, Any]:
    """What the archive keeps of a first ingest, so that an append needs no words."""
    return {
        "columns": request.columns,
        "reader": request.reader,
        "time_format": request.rules.time_format,
        "missing_errors": request.rules.missing_errors,
        "partition_observations": request.partition_observations,
        "bands": list(request.bands),
        "precision": request.precision,
        "recover": request.recover,
        "options": {
            "encoding": request.options.encoding,
            "delimiter": request.options.delimiter,
            "nested": request.options.nested,
        },
    }


def _asked_bands(survey: Survey, bands: Sequence[str]) -> tuple[str, ...]:
    """Canonical names of bands in the order asked for."""
    found = []
    for name in bands:
        band = survey.band(name)
        if band is None:
            known = ", ".join(survey.band_names)
            raise ParameterError(
                f"bands: {survey.name} has no band {name!r} (it has {known}); a survey file of your own "
                "can add it"
            )
        found.append(band.name)
    if len(set(found)) < len(found):
        raise ParameterError(f"bands={list(bands)} names one filter of {survey.name} twice")
    return tuple(found)


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
                "units='nJy' with zero_point=31.4"
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
