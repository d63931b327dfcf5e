"""The record of a survey, read from its TOML file and checked."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from skytrawl.catalogs.schema import PHOTOMETRY, QUANTITIES, REFERENCE_POSITIONS, SCALES, Issue
from skytrawl.catalogs.surveys.files import Files, files_issues
from skytrawl.errors import SchemaError

EXPOSURE_POINTS = ("start", "middle", "end", "unknown")
MAGNITUDE_SYSTEMS = ("AB", "Vega")
OBJECT_IDS = ("integer", "name")
ROLES = (
    *("object", "time", "value", "error", "band", "ra", "dec"),
    *("sign", "upper_limit", "quality", "rb", "exposure", "class", "row_id"),
)
_TOP = {"name", "title", "citation", "object_id", "light_curves", "time", "bands", "columns", "files"}
_BAND = {"name", "wavelength", "spellings", "codes", "zero_point_jy"}
_LIGHT_CURVES = {"quantity", "photometry", "units", "magnitude_system", "zero_point"}
_TIME = {"format", "scale", "reference_position", "exposure_point", "recover_exposure", "resolution"}


@dataclass(frozen=True)
class Band:
    """A filter of a survey.

    Attributes
    ----------
    name : str
    wavelength : float
        Effective wavelength, nm.
    spellings : tuple of str
        Other names of the same filter; data that use one keep it.
    codes : tuple of str
        Other marks of the filter; data that use one are stored under `name`.
    zero_point_jy : float or None
        Flux density of magnitude 0 in Jy; None for AB (3631 Jy).
    """

    name: str
    wavelength: float
    spellings: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    zero_point_jy: float | None = None


@dataclass(frozen=True)
class Survey:
    """What bands, values and times of a survey mean; :mod:`skytrawl.catalogs.surveys` lists the keys."""

    name: str
    title: str
    citation: str
    object_id: str
    bands: tuple[Band, ...]
    quantity: str
    photometry: str
    units: str
    magnitude_system: str
    zero_point: float | None
    time_format: str
    time_scale: str
    reference_position: str
    exposure_point: str
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    recover_exposure: bool = False
    resolution: float | None = None
    files: tuple[Files, ...] = ()

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names in order of wavelength."""
        return tuple(band.name for band in self.bands)

    def band(self, name: str) -> Band | None:
        """The filter that a name, spelling or code stands for; None if there is none."""
        for band in self.bands:
            if name == band.name or name in band.spellings or name in band.codes:
                return band
        return None

    def to_dict(self) -> dict[str, Any]:
        """All keys in JSON types, for the archive's attributes."""
        found: dict[str, Any] = asdict(self)
        found["bands"] = [
            {key: value for key, value in asdict(band).items() if value not in ((), None)}
            for band in self.bands
        ]
        found["columns"] = {role: list(names) for role, names in self.columns.items()}
        found["files"] = [files.to_dict() for files in self.files]
        return found

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Survey":
        """The survey that :meth:`to_dict` described; keys of other releases are passed over."""
        known = {key: value for key, value in found.items() if key in cls.__dataclass_fields__}
        bands: list[dict[str, Any]] = [
            {key: tuple(value) if isinstance(value, list) else value for key, value in band.items()}
            for band in found["bands"]
        ]
        known["bands"] = tuple(Band(**band) for band in bands)
        known["columns"] = {role: tuple(names) for role, names in found.get("columns", {}).items()}
        known["files"] = tuple(map(Files.from_dict, found.get("files", ())))
        return cls(**known)


def list_surveys() -> list[str]:
    """Names of the surveys that come with the package."""
    folder = resources.files("skytrawl.catalogs.surveys")
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def load_survey(name_or_path: "str | Path | Survey") -> Survey:
    """Read and check a survey description.

    Parameters
    ----------
    name_or_path : str, Path or Survey
        A name of :func:`list_surveys`, or the path of a TOML file of the same form. A Survey is returned as
        it is.

    Returns
    -------
    Survey

    Raises
    ------
    SchemaError
        If there is no such survey, or the file is no TOML, or it has faults: all are listed.
    """
    if isinstance(name_or_path, Survey):
        return name_or_path
    text = str(name_or_path)
    if text in list_surveys():
        source = resources.files("skytrawl.catalogs.surveys").joinpath(f"{text}.toml")
        return _build(tomllib.loads(source.read_text(encoding="utf-8")), f"{text}.toml")
    path = Path(name_or_path)
    if not path.is_file():
        raise SchemaError(
            f"no survey {text!r}: take one of {', '.join(list_surveys())}, or give the path of a TOML file "
            "of your "
            "own (copy one of these and change it)"
        )
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SchemaError(f"{path} is no valid TOML: {error}") from None
    return _build(found, str(path))


def _build(found: Mapping[str, Any], where: str) -> Survey:
    issues = _issues(found)
    if issues:
        lines = "\n".join(f"  {issue}" for issue in issues)
        raise SchemaError(f"{where} is no valid survey description, {len(issues)} faults:\n{lines}")
    curves, time = found["light_curves"], found["time"]
    zero_point = curves.get("zero_point")
    return Survey(
        name=found["name"],
        title=found.get("title", found["name"]),
        citation=found.get("citation", ""),
        object_id=found.get("object_id", "name"),
        bands=tuple(
            Band(
                band["name"],
                float(band["wavelength"]),
                tuple(band.get("spellings", ())),
                tuple(band.get("codes", ())),
                band.get("zero_point_jy"),
            )
            for band in found["bands"]
        ),
        quantity=curves["quantity"],
        photometry=curves["photometry"],
        units=curves["units"],
        magnitude_system=curves.get("magnitude_system", "AB"),
        zero_point=None if zero_point is None else float(zero_point),
        time_format=time.get("format", "mjd"),
        time_scale=time["scale"],
        reference_position=time["reference_position"],
        exposure_point=time.get("exposure_point", "unknown"),
        columns={role: tuple(names) for role, names in found.get("columns", {}).items()},
        recover_exposure=time.get("recover_exposure", False),
        resolution=time.get("resolution"),
        files=tuple(map(Files.from_dict, found.get("files", ()))),
    )


def _issues(found: Mapping[str, Any]) -> list[Issue]:
    """Every fault of a parsed description."""
    issues = _unknown(found, _TOP, "")
    if not isinstance(found.get("name"), str) or not found.get("name"):
        issues.append(Issue("name", "is missing", "", "a text"))
    if found.get("object_id", "name") not in OBJECT_IDS:
        issues.append(_choice("object_id", found["object_id"], OBJECT_IDS))
    tables = {}
    for key in ("light_curves", "time", "columns"):
        value = found.get(key, {})
        if not isinstance(value, Mapping):
            issues.append(Issue(key, "is no table", repr(value), f"[{key}]"))
            value = {}
        tables[key] = value
    curves, time = tables["light_curves"], tables["time"]
    issues += _unknown(curves, _LIGHT_CURVES, "light_curves/") + _unknown(time, _TIME, "time/")
    for path, value, options in (
        ("light_curves/quantity", curves.get("quantity"), QUANTITIES),
        ("light_curves/photometry", curves.get("photometry"), PHOTOMETRY),
        ("light_curves/magnitude_system", curves.get("magnitude_system", "AB"), MAGNITUDE_SYSTEMS),
        ("time/scale", time.get("scale"), SCALES),
        ("time/reference_position", time.get("reference_position"), REFERENCE_POSITIONS),
        ("time/exposure_point", time.get("exposure_point", "unknown"), EXPOSURE_POINTS),
    ):
        if value not in options:
            issues.append(_choice(path, value, options))
    issues += _recovery_issues(time)
    if not isinstance(curves.get("units"), str) or not curves.get("units"):
        issues.append(Issue("light_curves/units", "is missing", "", "such as mag or nJy"))
    if not isinstance(curves.get("zero_point", 0.0), int | float):
        issues.append(Issue("light_curves/zero_point", "is no number", repr(curves["zero_point"])))
    for role, names in tables["columns"].items():
        if role not in ROLES:
            issues.append(_choice(f"columns/{role}", role, ROLES))
        if not _texts(names):
            issues.append(Issue(f"columns/{role}", "is no list of column names", repr(names)))
    return issues + _band_issues(found.get("bands")) + files_issues(found.get("files", []))


def _recovery_issues(time: Mapping[str, Any]) -> list[Issue]:
    wanted, resolution = time.get("recover_exposure", False), time.get("resolution")
    if not isinstance(wanted, bool):
        return [Issue("time/recover_exposure", "is neither true nor false", repr(wanted))]
    issues = []
    sound = isinstance(resolution, int | float) and 1e-8 <= resolution <= 0.1
    if not sound and (wanted or resolution is not None):
        issues.append(Issue("time/resolution", "is no step of times", repr(resolution), "1e-8 to 0.1 days"))
    if wanted and time.get("reference_position") not in ("heliocenter", "barycenter"):
        issues.append(
            Issue(
                "time/recover_exposure",
                "these times were not moved away from the Earth",
                repr(time.get("reference_position")),
                "reference_position of heliocenter or barycenter",
            )
        )
    return issues


def _band_issues(bands: Any) -> list[Issue]:
    if not isinstance(bands, list) or not bands:
        return [Issue("bands", "are missing", "", "one [[bands]] table a filter")]
    issues: list[Issue] = []
    seen: dict[str, str] = {}
    last = 0.0
    for number, band in enumerate(bands):
        where = f"bands[{number}]"
        if not isinstance(band, Mapping) or not isinstance(band.get("name"), str) or not band["name"]:
            issues.append(Issue(f"{where}/name", "is missing", "", "a text"))
            continue
        issues += _unknown(band, _BAND, f"{where}/")
        wavelength = band.get("wavelength")
        if not isinstance(wavelength, int | float) or not 10 < wavelength < 1e6:
            issues.append(Issue(f"{where}/wavelength", "is no wavelength", repr(wavelength), "nm"))
        elif wavelength < last:
            issues.append(
                Issue(
                    f"{where}/wavelength",
                    "bands must ascend",
                    f"{wavelength} after {last}",
                    "order of wavelength",
                )
            )
        else:
            last = float(wavelength)
        names = [band["name"]]
        for key in ("spellings", "codes"):
            value = band.get(key, [])
            if _texts(value):
                names += value
            else:
                issues.append(Issue(f"{where}/{key}", "is no list of names", repr(value)))
        for name in names:
            if name in seen:
                issues.append(
                    Issue(where, f"the name {name!r} is taken", f"also in {seen[name]}", "unique names")
                )
            seen[name] = where
    return issues


def _unknown(found: Mapping[str, Any], known: set[str], prefix: str) -> list[Issue]:
    return [
        Issue(f"{prefix}{key}", "unknown key", key, ", ".join(sorted(known)))
        for key in found
        if key not in known
    ]


def _choice(path: str, value: Any, options: tuple[str, ...]) -> Issue:
    return Issue(
        path, "unknown value" if value is not None else "is missing", repr(value), " or ".join(options)
    )


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)
