"""The alert table of an ANTARES locus: one locus a file, detections and upper limits of ZTF.

Fields: ant_survey 1 is a detection, 2 an upper limit; ant_mjd is the jd of the ZTF alert less 2400000.5;
ztf_magpsf and ztf_sigmapsf are the magnitude of the difference flux and its error, ztf_isdiffpos its sign;
ant_maglim is the limit.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.readers import csv, parquet
from skytrawl.catalogs.readers.table import Chunk, Coded, Header, Kinds, Options, Piece
from skytrawl.errors import IngestError

DETECTION, UPPER_LIMIT = 1, 2
_NEEDED = {
    "ant_mjd": "decimal",
    "ant_survey": "number",
    "ant_passband": "coded",
    "ant_maglim": "number",
    "ztf_magpsf": "number",
    "ztf_sigmapsf": "number",
    "ztf_isdiffpos": "coded",
}
_WELCOME = {
    "ztf_rb": "number",
    "alert_id": "id",
    "locus_id": "id",
    "locus_ra": "number",
    "locus_dec": "number",
}
_LOCUS = re.compile(r"ANT\d{4}[a-z0-9]+")


def header(source: Path, options: Options) -> Header:
    """The roles that the table gives: its fields are turned into the columns of a long table.

    Raises
    ------
    IngestError
        If fields are missing; names them all.
    """
    names = _module(source).header(source, options).names
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise IngestError(
            f"{source}: an ANTARES locus needs the fields {', '.join(_NEEDED)}; {', '.join(missing)} "
            "missing. Export "
            "the whole timeseries of the locus, or read it as a plain table with reader='csv'"
        )
    roles = ["time", "value", "error", "band", "sign", "upper_limit"]
    if "locus_id" in names or _LOCUS.search(source.name):
        roles.append("object")
    roles += list(_optional(names))
    return Header(tuple(roles), {"time": "d", "value": "mag", "error": "mag"})


def chunks(piece: Piece, kinds: Kinds, options: Options) -> Iterator[Chunk]:
    """Rows in chunks; columns are named by their roles."""
    source = piece.source
    module = _module(source)
    names = module.header(source, options).names
    wanted = _NEEDED | {name: kind for name, kind in _WELCOME.items() if name in names}
    wanted["ant_mjd"] = "number"
    for chunk in module.chunks(piece, wanted, options):
        yield Chunk(chunk.first_row, _roles(source, chunk, names, kinds), _rejected(chunk))


def _roles(source: Path, chunk: Chunk, names: tuple[str, ...], kinds: Kinds) -> dict[str, Any]:
    fields = chunk.columns
    limit = fields["ant_survey"] == UPPER_LIMIT
    columns = {
        "time": fields["ant_mjd"],
        "value": np.where(limit, fields["ant_maglim"], fields["ztf_magpsf"]),
        "error": fields["ztf_sigmapsf"],
        "band": fields["ant_passband"],
        "sign": _signs(fields["ztf_isdiffpos"]),
        "upper_limit": limit.astype(np.float64),
    }
    columns |= {role: fields[field] for role, field in _optional(names).items()}
    if "locus_id" in names:
        columns["object"] = fields["locus_id"]
    else:
        match = _LOCUS.search(source.name)
        columns["object"] = np.full(len(chunk), match.group().encode() if match else b"")
    return {name: columns[name] for name in kinds}


def _signs(flags: Coded) -> Coded:
    """The flag of the subtraction as the texts +1, -1 and empty."""
    lower = [name.lower() for name in flags.names]
    meant = {b"t": b"+1", b"1": b"+1", b"true": b"+1", b"f": b"-1", b"0": b"-1", b"false": b"-1"}
    return Coded(flags.codes, [meant.get(name, b"") for name in lower])


def _rejected(chunk: Chunk) -> list[tuple[str, np.ndarray, list[str]]]:
    survey = chunk.columns["ant_survey"]
    other = np.flatnonzero((survey != DETECTION) & (survey != UPPER_LIMIT))
    found = list(chunk.rejected)
    if other.size:
        found.append(("ant_survey is neither 1 nor 2", other, [str(survey[index]) for index in other]))
    return found


def _optional(names: tuple[str, ...]) -> Mapping[str, str]:
    fields = {"rb": "ztf_rb", "row_id": "alert_id", "ra": "locus_ra", "dec": "locus_dec"}
    return {role: field for role, field in fields.items() if field in names}


def _module(source: Path) -> Any:
    return parquet if source.suffix.lower() in (".parquet", ".pq") else csv
