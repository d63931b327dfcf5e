"""The account of an ingest: what became of every row, and what users should know."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs import id_index, readers
from skytrawl.catalogs.band_names import band_names as names_of_bands
from skytrawl.catalogs.identifiers import as_texts, plain_integers, unnamed
from skytrawl.catalogs.report import IngestReport
from skytrawl.catalogs.tally import Tally
from skytrawl.catalogs.versions import Version
from skytrawl.catalogs.writer import ArchiveWriter
from skytrawl.errors import IngestError
from skytrawl.intake import files
from skytrawl.intake.assemble import REPEATED, text
from skytrawl.intake.reading import Notes
from skytrawl.intake.request import Request
from skytrawl.intake.scatter import common_id

if TYPE_CHECKING:
    from skytrawl.intake.stages import Intake

Record = dict[str, Any]


def add(records: Sequence[Record], refused: dict[str, str]) -> Record:
    """Sum up the records of the pieces of all sources that are used."""
    tally, notes = Tally(), Notes()
    for record in records:
        tally.merge(Tally.from_dict(record["tally"]))
        notes.merge(Notes(**record["notes"]))
    return {
        "tally": tally,
        "notes": notes,
        "refused": refused,
        "rows": tally.read - sum(tally.dropped.values()),
    }


def check_rows(total: Record, listed: Sequence[Any]) -> None:
    """Refuse input of which no row can be used."""
    tally: Tally = total["tally"]
    if not tally.read:
        names = [readers.source_name(source) for source in listed]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise IngestError(f"no rows in {shown}: there is nothing to put into an archive")
    if not total["rows"]:
        reasons = "\n".join(
            f"  {count} rows: {reason} ({'; '.join(tally.examples[reason][:1])})"
            for reason, count in tally.dropped.items()
        )
        raise IngestError(f"none of {tally.read} rows can be used:\n{reasons}")


def check_kept(intake: Intake, total: Record, blocks: Sequence[Record]) -> None:
    """Every row that was checked must be in a partition, or counted as a repeat; none may be one if so asked.

    Raises
    ------
    IngestError
        For repeated rows with on_bad="raise".
    """
    if intake.request.rules.on_bad == "raise":
        for block in blocks:
            if REPEATED in block["dropped"]:
                place = _place(intake, block["repeats"][REPEATED][0])
                raise IngestError(
                    f"{place}: {REPEATED}. Remove it, or pass duplicates='keep', or on_bad='drop' to leave "
                    "such rows out"
                )
    kept = sum(block["rows"] + sum(block["dropped"].values()) for block in blocks)
    if kept != total["rows"]:
        raise RuntimeError(
            f"{total['rows']} rows passed the checks, {kept} arrived in partitions: this is a fault of "
            "skytrawl, please report it with the input; nothing is published"
        )


def dtypes(records: Sequence[Record]) -> dict[str, str]:
    """The type that holds a column of every piece."""
    found: dict[str, np.dtype] = {}
    for record in records:
        for name, code in record["dtypes"].items():
            dtype = np.dtype(code)
            old = found.get(name, dtype)
            found[name] = common_id(old, dtype) if name == "object" else np.promote_types(old, dtype)
    return {name: dtype.str for name, dtype in found.items()}


def band_names(request: Request, total: Record) -> tuple[str, ...]:
    """Names of the archive's bands by code, spelled as delivered."""
    return names_of_bands(
        request.survey, total["tally"].spellings, request.rules.bands, total["notes"].warnings
    )


def provenance(listed: Sequence[Any], total: Record) -> Record:
    """Where the rows of a version came from, in few words."""
    names = [readers.source_name(source) for source in listed]
    return {"count": len(names), "first": names[:3], "rows": total["rows"]}


def report(
    intake: Intake,
    total: Record,
    blocks: list[Record],
    version: Version,
    writer: ArchiveWriter,
    started: float,
) -> IngestReport:
    """The report for the user; its counts must add up."""
    tally: Tally = total["tally"]
    notes: Notes = total["notes"]
    request = intake.request
    warnings = list(notes.warnings)
    for block in blocks:
        for reason, count in block["dropped"].items():
            tally.drop(reason, count, [_place(intake, place) for place in block["repeats"][reason]])
    lost = _lost(intake, tally, version)
    warnings += _warnings(intake, total, blocks, lost)
    bands = tuple(writer.attrs["bands"])
    by_band = np.sum([block["bands"] for block in blocks], axis=0) if blocks else np.zeros(len(bands), int)
    return IngestReport(
        archive=str(writer.path),
        survey=request.survey.name,
        sources=tuple(readers.source_name(source) for source in intake.listed),
        rows_read=tally.read,
        rows_kept=sum(block["rows"] for block in blocks),
        dropped=tally.dropped,
        examples=tally.examples,
        objects=int(version.object_starts[-1]),
        new_objects=sum(block["new_objects"] for block in blocks),
        partitions=len(version.partitions),
        written=sum(len(files.partitions_of(block)) for block in blocks),
        bands=bands,
        rows_by_band={name: int(by_band[code]) for code, name in enumerate(bands)},
        upper_limits=sum(block["upper_limits"] for block in blocks),
        equal_stamps=sum(block["equal_stamps"] for block in blocks),
        lost_objects=len(lost),
        quarantined=total["refused"],
        guessed=notes.guessed,
        warnings=tuple(warnings),
        version=version.number,
        seconds=round(time.monotonic() - started, 3),
    )


def _place(intake: Intake, place: Sequence[Any]) -> str:
    """File and row of an example."""
    key, row, name = place
    where = intake.source_of(key)
    return f"{where}, row {row}: {name!r}" if row else f"{where}: {name!r}"


def _lost(intake: Intake, tally: Tally, version: Version) -> list[str]:
    """Objects that lost rows and of which none is left in the archive."""
    losers = tally.losers
    losers = losers[~unnamed(losers)]
    if not len(losers):
        return []
    declared = files.declared_columns(intake.journal.storage)["object_id"]
    if declared.kind == "u":
        ids, possible = plain_integers(as_texts(losers))
    else:
        ids, possible = as_texts(losers), np.ones(len(losers), bool)
    found, _ = id_index.lookup(intake.journal.storage, list(version.index), ids)
    return [text(name) for name in losers[~(found & possible)].tolist()]


def _warnings(intake: Intake, total: Record, blocks: list[Record], lost: list[str]) -> list[str]:
    tally: Tally = total["tally"]
    found = []
    if lost:
        shown = ", ".join(lost[:3]) + (", ..." if len(lost) > 3 else "")
        found.append(f"{len(lost)} objects lost all their rows ({shown})")
    found += [f"{words} ({count} rows)" if count else words for words, count in tally.notes.items()]
    found += [
        f"{count} rows dropped: {reason}; add it to a survey file of your own if it is meant"
        for reason, count in tally.dropped.items()
        if reason.startswith("unknown band")
    ]
    found += [f"{name} is left out: {reason}" for name, reason in total["refused"].items()]
    equal = sum(block["equal_stamps"] for block in blocks)
    if equal:
        found.append(f"{equal} rows share object, band and time with another row and differ otherwise: kept")
    wide = sum(block["scattered"][0] for block in blocks)
    if wide:
        name = next(block["scattered"][1][0] for block in blocks if block["scattered"][0])
        found.append(
            f"{wide} objects have rows more than an arc minute apart (such as {name}): check that "
            "an identifier names one object"
        )
    if mixed := sum(block["mixed_classes"] for block in blocks):
        found.append(f"{mixed} objects have several classes: the first is kept")
    found += _table_warnings(intake, blocks)
    if 0 < total.get("unplaced", 0) < total.get("objects", 0):
        found.append(
            f"{total['unplaced']} of {total['objects']} objects have no position: cones never find them"
        )
    return found + _name_warnings(intake.request, total["notes"])


def _table_warnings(intake: Intake, blocks: list[Record]) -> list[str]:
    journal = intake.journal
    if not journal.storage.exists(journal.key("object_table.json")):
        return []
    table = journal.once("object_table", dict)
    outside = sum(block.get("untabled", 0) for block in blocks)
    unused = table["objects"] - sum(block["new_objects"] for block in blocks) + outside
    found = list(table["warnings"])
    if unused > 0 and intake.base is None:
        found.append(f"{unused} objects of {table['where']} have no observations and are left out")
    if outside:
        found.append(f"{outside} objects are not in {table['where']}")
    return found


def _name_warnings(request: Request, notes: Notes) -> list[str]:
    """Warnings where names of columns speak against what the archive says."""
    found = []
    curves = request.light_curves
    for column in sorted(notes.time_columns):
        lower = column.lower()
        said = request.recover.get("position", curves["time"]["reference_position"])
        for prefix, meant in (("hjd", "heliocenter"), ("bjd", "barycenter")):
            if lower.startswith(prefix) and said != meant:
                found.append(
                    f"times come from the column {column!r}, but the archive says reference position "
                    f"{said}: pass reference_position='{meant}' if the column's name is right"
                )
    guessed = {column.lower() for columns in notes.guessed.values() for column in columns.values()}
    release = sorted(guessed & {"oid", "filtercode", "catflags"})
    if request.survey.name == "ztf" and curves["photometry"] == "difference" and release:
        found.append(
            f"the column {release[0]!r} is one of ZTF data releases, which hold total magnitudes, but the "
            "archive says difference: pass photometry='total' (--photometry total) if so"
        )
    if curves["photometry"] == "mixed":
        found.append("total and difference photometry are mixed on purpose: scores compare unlike values")
    return found
