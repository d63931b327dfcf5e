"""The registry of variables: names, dims, dtypes, units and meanings, declared once.

It feeds default names, the attributes on disk and in xarray, the checks that list every fault at once, and
the reference page of the documentation.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from skytrawl.errors import SchemaError


@dataclass(frozen=True)
class Variable:
    """One variable of an archive or of a job's results.

    Attributes
    ----------
    name : str
        Path in the archive ("lightcurves/time"), or the plain name of a result.
    dims : tuple of str
        Dimensions; the first is the ragged axis (object or observation).
    dtype : str
        Default NumPy dtype; "S" stands for fixed-width bytes of any width.
    units : str
        Unit string, "" for numbers without unit, "archive" where the archive's light_curves attribute says
        it.
    long_name : str
        What a plot's axis would say.
    codec : str
        Name of the pipeline in :mod:`skytrawl.catalogs.codecs`.
    fill : object
        Value of rows that no partition holds; None chooses it by dtype (NaN, 0, "").
    comment : str
        Definition, one or two sentences.
    optional : bool
        Whether an archive may lack it.
    direction : {"", "low", "high"}
        For ranked scores: which end is anomalous.
    allowed : tuple of str
        Further dtypes that are stored as delivered.
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    units: str
    long_name: str
    codec: str = "default"
    fill: object = None
    comment: str = ""
    optional: bool = False
    direction: str = ""
    allowed: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """Name without its group."""
        return self.name.rpartition("/")[2]

    def accepts(self, dtype: np.dtype | str) -> bool:
        """Whether a column of this dtype may be stored under this name."""
        dtype = np.dtype(dtype)
        return any(
            dtype.kind == "S" if option == "S" else dtype == np.dtype(option)
            for option in (self.dtype, *self.allowed)
        )


@dataclass(frozen=True)
class Issue:
    """One fault of a store or of arrays: where, what, found and expected."""

    path: str
    message: str
    found: str = ""
    expected: str = ""

    def __str__(self) -> str:
        text = f"{self.path}: {self.message}"
        if self.found or self.expected:
            text += f" (found {self.found or 'nothing'}, expected {self.expected or 'nothing'})"
        return text


def _object(name: str, dtype: str, units: str, long_name: str, comment: str, **more: Any) -> Variable:
    return Variable(f"objects/{name}", ("object",), dtype, units, long_name, comment=comment, **more)


def _row(name: str, dtype: str, units: str, long_name: str, comment: str, **more: Any) -> Variable:
    return Variable(f"lightcurves/{name}", ("observation",), dtype, units, long_name, comment=comment, **more)


_ID = "uint64 where every id of the survey is a plain non-negative integer, else fixed-width bytes"
_POSITION = "ICRS, as delivered; NaN where there is no position"

VARIABLES: dict[str, Variable] = {
    variable.name: variable
    for variable in (
        _object("object_id", "uint64", "", "object identifier", _ID, codec="id", allowed=("S",)),
        _object("ra", "float64", "deg", "right ascension", _POSITION),
        _object("dec", "float64", "deg", "declination", _POSITION),
        _object(
            "healpix",
            "uint64",
            "",
            "HEALPix cell, nested, order 29",
            "orders the objects along the sky; 2**63 and more: a hash of the identifier, without position",
        ),
        _object(
            "first_observation",
            "int64",
            "",
            "first observation of the object",
            "row relative to the partition on disk, absolute in the compact view",
        ),
        _object("n_observations", "int64", "", "number of observations", "rows that the object owns"),
        _object(
            "class",
            "S32",
            "",
            "catalogued class",
            "empty where unknown",
            codec="text",
            optional=True,
            allowed=("S",),
        ),
        _row("time", "float64", "d", "time of observation", "plus the archive's time offset", codec="time"),
        _row(
            "value",
            "float32",
            "archive",
            "brightness",
            "as delivered; quantity and photometry kind stand in the archive's light_curves attribute",
            codec="measure",
            allowed=("float64",),
        ),
        _row(
            "error",
            "float32",
            "archive",
            "standard error of the brightness",
            "as delivered, in the unit of the value",
            codec="measure",
            allowed=("float64",),
        ),
        _row("band", "uint8", "", "band code", "position in the archive's list of bands", codec="code"),
        _row(
            "sign",
            "int8",
            "",
            "sign of the subtraction",
            "+1 brighter than the template, -1 fainter, 0 unknown; the magnitude of a -1 is no brightness",
            codec="code",
            optional=True,
        ),
        _row(
            "upper_limit",
            "bool",
            "",
            "upper limit flag",
            "the value is a limit, not a detection",
            codec="code",
            optional=True,
            allowed=("uint8",),
        ),
        _row(
            "quality",
            "uint32",
            "",
            "quality bits",
            "0 is good; bits as the survey defines them",
            optional=True,
        ),
        _row("rb", "float32", "", "real-bogus score", "0 bogus to 1 real", codec="float", optional=True),
        _row("exposure", "int64", "", "exposure identifier", "of the survey", codec="time", optional=True),
    )
}

REQUIRED = tuple(name for name, variable in VARIABLES.items() if not variable.optional)
_BY_SHORT = {variable.short: name for name, variable in VARIABLES.items()}

QUANTITIES = ("magnitude", "flux")
PHOTOMETRY = ("total", "difference", "forced difference", "mixed")
SCALES = ("utc", "tai", "tt", "tdb")
REFERENCE_POSITIONS = ("geocenter", "heliocenter", "barycenter", "topocenter", "unknown")


def full_name(name: str) -> str:
    """Registered path of a variable given by its path or by its short name.

    Raises
    ------
    SchemaError
        If no variable has this name.
    """
    if name in VARIABLES:
        return name
    if name in _BY_SHORT:
        return _BY_SHORT[name]
    raise SchemaError(f"no variable {name!r} in the schema; it knows {', '.join(VARIABLES)}")


def attributes(name: str, light_curves: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Attributes (units, long_name, comment) of a registered variable.

    Parameters
    ----------
    name : str
        Path or short name.
    light_curves : mapping, optional
        The archive's description of values and times; fills in the unit of values and the frame of times.
    """
    variable = VARIABLES[full_name(name)]
    attrs: dict[str, Any] = {"units": variable.units, "long_name": variable.long_name}
    if variable.units == "archive":
        attrs["units"] = str((light_curves or {}).get("units", ""))
        for key in ("quantity", "photometry", "zero_point"):
            if light_curves and light_curves.get(key) not in (None, ""):
                attrs[key] = light_curves[key]
    if variable.short == "time" and light_curves:
        attrs.update(light_curves.get("time", {}))
    if variable.comment:
        attrs["comment"] = variable.comment
    return attrs


def codec_of(name: str, light_curves: Mapping[str, Any] | None = None) -> str:
    """Name of the codec pipeline of a registered variable.

    Times that were corrected for the way of the light to another place than the Earth differ from object to
    object even where the exposure is shared: they have their leading digits in common at most.

    Parameters
    ----------
    name : str
        Path or short name.
    light_curves : mapping, optional
        The archive's description of values and times.
    """
    variable = VARIABLES[full_name(name)]
    place = (light_curves or {}).get("time", {}).get("reference_position")
    if variable.short == "time" and place in ("heliocenter", "barycenter"):
        return "own time"
    return variable.codec


def check_dtypes(dtypes: Mapping[str, np.dtype | str]) -> list[Issue]:
    """Every fault of a set of columns: missing, unknown, of a dtype that the schema does not store."""
    issues = [Issue(name, "required variable is missing") for name in REQUIRED if name not in dtypes]
    for name, dtype in dtypes.items():
        if name not in VARIABLES:
            issues.append(Issue(name, "variable is not in the schema", name, ", ".join(VARIABLES)))
        elif not VARIABLES[name].accepts(dtype):
            variable = VARIABLES[name]
            wanted = " or ".join((variable.dtype, *variable.allowed))
            issues.append(Issue(name, "wrong dtype", str(np.dtype(dtype)), wanted))
    return issues


def check_light_curves(light_curves: Mapping[str, Any], bands: Iterable[str]) -> list[Issue]:
    """Every fault of the description of values and times, and of the list of bands."""
    issues = []
    time = light_curves.get("time", {})
    for key, found, wanted in (
        ("quantity", light_curves.get("quantity"), QUANTITIES),
        ("photometry", light_curves.get("photometry"), PHOTOMETRY),
        ("time/scale", time.get("scale"), SCALES),
        ("time/reference_position", time.get("reference_position"), REFERENCE_POSITIONS),
    ):
        if found not in wanted:
            issues.append(Issue(f"light_curves/{key}", "unknown value", repr(found), " or ".join(wanted)))
    if not light_curves.get("units"):
        issues.append(
            Issue("light_curves/units", "the unit of the values is missing", "", "such as mag or nJy")
        )
    bands = list(bands)
    if not 0 < len(bands) <= 256 or len(set(bands)) != len(bands) or not all(bands):
        issues.append(Issue("bands", "need 1 to 256 different names", repr(bands)))
    return issues


def check(
    dtypes: Mapping[str, np.dtype | str], light_curves: Mapping[str, Any], bands: Iterable[str]
) -> list[Issue]:
    """Every fault of an archive's declaration."""
    return check_dtypes(dtypes) + check_light_curves(light_curves, bands)


def raise_issues(what: str, issues: list[Issue]) -> None:
    """Raise one SchemaError that lists all issues; nothing if there are none."""
    if issues:
        lines = "\n".join(f"  {issue}" for issue in issues)
        raise SchemaError(f"{what} does not match the schema, {len(issues)} faults:\n{lines}")
