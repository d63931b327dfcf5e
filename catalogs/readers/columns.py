"""Which column plays which role: given by the user, else guessed from usual names, and reported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from skytrawl.catalogs.readers.table import Header
from skytrawl.catalogs.surveys.description import ROLES, Survey
from skytrawl.errors import IngestError

# Usual names in lower case, the likelier first.
USUAL: dict[str, tuple[str, ...]] = {
    "object": (
        *(
            "object",
            "object_id",
            "objectid",
            "objid",
            "obj_id",
            "oid",
            "ztf_object_id",
            "diaobjectid",
            "locus_id",
        ),
        *("source_id", "sourceid", "star_id", "starid", "lc_id", "name", "id", "num"),
    ),
    "time": (
        *(
            "mjd",
            "time",
            "midpointmjdtai",
            "midpointtai",
            "expmidptmjd",
            "obsmjd",
            "mjd_obs",
            "mjd-obs",
            "ant_mjd",
        ),
        *("jd", "hjd", "bjd", "bjd_tdb", "date", "t"),
    ),
    "band": (
        "band",
        "filter",
        "passband",
        "pb",
        "filtercode",
        "filtername",
        "filt",
        "flt",
        "fid",
        "filterid",
        "ant_passband",
    ),
    "ra": ("ra", "raj2000", "ra_deg", "ra_icrs", "meanra", "ra_j2000", "objra"),
    "dec": (
        "dec",
        "decj2000",
        "dej2000",
        "dec_deg",
        "de_icrs",
        "decl",
        "meandec",
        "dec_j2000",
        "de",
        "objdec",
    ),
    "sign": ("sign", "isdiffpos", "ztf_isdiffpos"),
    "upper_limit": ("upper_limit", "upperlimit", "is_upper_limit", "limit_flag"),
    "quality": ("quality", "catflags"),
    "rb": ("rb", "drb", "ztf_rb", "reliability"),
    "exposure": ("exposure_id", "expid", "visit", "visit_id", "obsid"),
    "class": ("class", "classification", "label", "sn_type", "vartype"),
    "row_id": ("row_id", "candid", "alert_id", "diasourceid", "diaforcedsourceid", "measurement_id"),
}
VALUES: dict[str, tuple[str, ...]] = {
    "magnitude": ("value", "mag", "magnitude", "magpsf", "psfmag", "psf_mag", "mag_psf", "ant_mag", "m"),
    "flux": (
        "value",
        "psfflux",
        "flux",
        "psf_flux",
        "flux_psf",
        "forcediffimflux",
        "fluxcal",
        "totalflux",
        "f",
    ),
}
ERRORS: dict[str, tuple[str, ...]] = {
    "magnitude": (
        *(
            "error",
            "magerr",
            "mag_err",
            "mag_error",
            "magerror",
            "sigmapsf",
            "psfmagerr",
            "e_mag",
            "emag",
            "ant_magerr",
        ),
        *("sigma", "err"),
    ),
    "flux": (
        *(
            "error",
            "psffluxerr",
            "fluxerr",
            "flux_err",
            "flux_error",
            "psf_flux_err",
            "e_flux",
            "forcediffimfluxunc",
        ),
        *("fluxcalerr", "totalfluxerr", "sigma", "err"),
    ),
}
REQUIRED = ("object", "time", "value", "error", "band")
# Roles that a text may be given for directly: band="r" for a file of one filter.
_CONSTANT_TEXT = ("object", "band", "class")
STEM = "{stem}"


@dataclass
class Mapped:
    """Role to column, role to constant, and which of the columns were guessed."""

    columns: dict[str, str] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    guessed: dict[str, str] = field(default_factory=dict)


def map_columns(
    header: Header,
    given: Mapping[str, Any],
    survey: Survey,
    quantity: str,
    where: str,
    stem: str = "",
) -> Mapped:
    """Find the column of every role.

    Parameters
    ----------
    header : Header
    given : mapping
        Role to column name, or to a constant (a number; a text for object, band and class that is no column;
        "{stem}" for the file's name without extension; None to leave a role out).
    survey : Survey
        Its own column names are tried first.
    quantity : {"magnitude", "flux"}
        Decides which names stand for value and error.
    where : str
        Name of the source, for messages.
    stem : str
        What "{stem}" stands for.

    Raises
    ------
    IngestError
        Lists every fault: unknown roles, named columns that are absent, required roles without a column.
    """
    faults = [
        f"there is no role {role!r}: roles are {', '.join(ROLES)}" for role in given if role not in ROLES
    ]
    found = Mapped()
    for role in ROLES:
        if role in given:
            fault = _given(found, role, given[role], header, stem)
        else:
            fault = _guess(found, role, header, survey, quantity)
        if fault:
            faults.append(fault)
    if ("ra" in found.columns) != ("dec" in found.columns) and not {"ra", "dec"} & set(found.constants):
        lone = "ra" if "ra" in found.columns else "dec"
        if lone in given:
            faults.append(f"{lone} without its partner: give both ra= and dec=")
        else:
            del found.columns[lone], found.guessed[lone]
    if faults:
        lines = "\n".join(f"  {fault}" for fault in faults)
        raise IngestError(
            f"{where}: the columns cannot be used:\n{lines}\n  columns: {', '.join(header.names)}"
        )
    return found


def _given(found: Mapped, role: str, value: Any, header: Header, stem: str) -> str:
    if value is None:
        return f"{role} is required and cannot be left out" if role in REQUIRED else ""
    if isinstance(value, str) and value in header.names:
        found.columns[role] = value
    elif isinstance(value, str) and value == STEM and role in _CONSTANT_TEXT:
        found.constants[role] = stem
    elif isinstance(value, str) and role not in _CONSTANT_TEXT:
        return f"{role}={value!r} names no column"
    else:
        found.constants[role] = value
    return ""


def _guess(found: Mapped, role: str, header: Header, survey: Survey, quantity: str) -> str:
    if role == "value":
        usual: Sequence[str] = VALUES[quantity]
    elif role == "error":
        usual = ERRORS[quantity]
    else:
        usual = USUAL[role]
    own = (
        survey.columns.get(role, ()) if role not in ("value", "error") or quantity == survey.quantity else ()
    )
    if role in survey.columns and not survey.columns[role] and role not in REQUIRED:
        return ""
    by_lower = {name.lower(): name for name in reversed(header.names)}
    for name in (*(name.lower() for name in own), *usual):
        if name in by_lower:
            found.columns[role] = found.guessed[role] = by_lower[name]
            return ""
    if role not in REQUIRED:
        return ""
    hint = f"name it with {role}=<column> (--column {role}=<column>)"
    if role == "band":
        hint += ", or give the one band of the file, such as band='r'"
    elif role == "object":
        hint += ", or object='{stem}' to take the file's name"
    elif role in ("value", "error"):
        other = "flux" if quantity == "magnitude" else "magnitude"
        names = (VALUES if role == "value" else ERRORS)[other]
        twin = next((by_lower[name] for name in names if name in by_lower), None)
        if twin is not None:
            hint += (
                f"; if {twin!r} is meant, these are no {quantity} values: pass quantity='{other}' "
                f"(--quantity {other}) when the archive is made"
            )
    what = f"{role} ({quantity})" if role in ("value", "error") else role
    return f"no column found for {what}: {hint}"
