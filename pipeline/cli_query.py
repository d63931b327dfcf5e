"""`skytrawl query`: ranked, nearby, single or flagged objects of a results store, without loading it."""

from __future__ import annotations

from typing import Any

import click

from skytrawl.errors import ParameterError

# Columns that come first in a table on the terminal, where nobody named any; as many are shown as fit.
FIRST = (
    "separation",
    "class",
    "ra",
    "dec",
    "n_pairs",
    "worst_key",
    "worst_dt",
    "worst_dm",
    "bump_t0",
    "bump_teff",
    "bump_dchi2",
    "dip_t0",
    "dip_teff",
    "dip_dchi2",
    "t0",
    "tE",
    "u0",
    "fit_chi2_dof",
)


@click.command(name="query")
@click.argument("results", type=click.Path())
@click.option("--job", help="Job to ask, where the store holds several.")
@click.option("--top", type=click.IntRange(1), help="The N most interesting objects.  [default: 20]")
@click.option("--by", help="Score to rank or flag by.  [default: the job's only one, or score]")
@click.option(
    "--cone",
    type=(float, float, float),
    metavar="RA DEC RADIUS",
    help="Objects within RADIUS of a position, nearest first. [deg]",
)
@click.option("--object", "object_id", help="One object by its id.")
@click.option("--flagged", is_flag=True, help="All flagged objects.")
@click.option(
    "--threshold", type=float, help="With --flagged: flag beyond this value, whatever the run used."
)
@click.option("--columns", help="Columns to show, with commas.  [default: all]")
@click.option(
    "--csv",
    "csv_path",
    type=click.Path(dir_okay=False, allow_dash=True),
    is_flag=False,
    flag_value="-",
    help="Write CSV to a file or, without a name, to standard output. With --flagged: the three columns "
    "'object id, topic, score' without a header, as soraisam2020 writes its hits.",
)
@click.option("--topic", help="With --flagged --csv: the second column.  [default: the survey's name]")
@click.option(
    "--table",
    type=click.Path(dir_okay=False),
    help="Write a table: .parquet, .vot or .xml (VOTable), .ecsv or .csv.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False),
    help="With --object: draw what the job scan found in it to an image file.",
)
@click.option(
    "--panels",
    type=click.Choice(["scan", "window", "fit", "residuals"]),
    default="scan",
    show_default=True,
    help="With --plot: three panels, the window of the best candidate, or one panel alone.",
)
def query(results: str, **words: Any) -> None:
    """Ask a results store for ranked, nearby, single or flagged objects.

    Without a question: the 20 most interesting objects.
    """
    questions = [name for name in ("top", "cone", "object_id", "flagged") if words[name] not in (None, False)]
    if len(questions) > 1:
        raise click.UsageError("ask one question: --top, --cone, --object or --flagged")
    if words["threshold"] is not None and not words["flagged"]:
        raise click.UsageError("--threshold goes with --flagged")
    if words["plot"] and words["object_id"] is None:
        raise click.UsageError("--plot goes with --object")
    from skytrawl.catalogs.query import open_query
    from skytrawl.catalogs.sidecars import main_score

    opened = open_query(results, words["job"])
    if words["plot"] and opened.run.job != "scan":
        raise ParameterError(f"--plot draws results of the job scan, and these are of {opened.run.job}")
    names = [name.strip() for name in words["columns"].split(",")] if words["columns"] else None
    if words["flagged"]:
        limit = words["threshold"]
        title = "flagged" if limit is None else f"flagged beyond {limit:g}"
        columns = _flagged(opened, words, names)
    elif words["cone"]:
        ra, dec, radius = words["cone"]
        title = f"within {radius} deg of {ra} {dec}"
        columns = opened.cone(ra, dec, radius, columns=names)
    elif words["object_id"] is not None:
        title, columns = f"object {words['object_id']}", opened.object(words["object_id"], columns=names)
    else:
        by = words["by"] or main_score(opened.scores(), results)
        title = f"top {words['top'] or 20} by {by}"
        columns = opened.top(words["top"] or 20, by, columns=names)
    _deliver(title, columns, opened, words)
    if words["plot"]:
        from skytrawl.console import say
        from skytrawl.scan_store import plot_scan

        plot_scan(results, words["object_id"], panels=words["panels"], path=words["plot"])
        say(f"figure: {words['plot']}")
    if not len(next(iter(columns.values()))):
        from skytrawl.console import say

        by_run = words["flagged"] and words["threshold"] is None
        advice = "is flagged by the threshold of the run; give another one with --threshold"
        say(f"no object {advice if by_run else title}")


def _flagged(opened: Any, words: dict[str, Any], names: list[str] | None) -> dict[str, Any]:
    import numpy as np

    parts = list(opened.flagged(words["threshold"], words["by"], columns=names))
    if not parts:
        return {name: opened.run.read(0, (name,), slice(0, 0))[name] for name in names or opened.names}
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _deliver(title: str, columns: dict[str, Any], opened: Any, words: dict[str, Any]) -> None:
    if words["csv_path"] and words["flagged"]:
        from skytrawl.catalogs.export import write_flagged_csv

        write_flagged_csv(columns, words["csv_path"], run=opened.run, topic=words["topic"], by=words["by"])
    elif words["csv_path"] or words["table"]:
        from skytrawl.catalogs.export import write_table

        path = words["table"] or words["csv_path"]
        write_table(
            columns,
            path,
            units=opened.units(),
            coords=opened.labels(),
            format="csv" if words["csv_path"] else None,
        )
    elif words["as_json"]:
        from skytrawl.console import show_json

        show_json({"columns": columns, "units": opened.units(), "partitions_missing": opened.missing})
    else:
        _show(title, columns, opened, not words["columns"])


def _show(title: str, columns: dict[str, Any], opened: Any, choose: bool) -> None:
    """Print a table; a single row stands upright, and of many columns those that fit are shown."""
    from skytrawl.console import cell, say, show_columns, show_facts

    rows = len(next(iter(columns.values()))) if columns else 0
    if rows == 1:
        units = {name: f" {unit}" if unit else "" for name, unit in opened.units().items()}
        units["separation"] = " deg"
        facts = {name: cell(column[0]) + units.get(name, "") for name, column in columns.items()}
        for column, labels in opened.labels().items():
            if column in columns:
                parts = zip(labels, columns[column][0], strict=True)
                facts[column] = ", ".join(f"{label} {cell(part)}" for label, part in parts)
        show_facts(title, facts)
    elif rows and not choose:
        show_columns(title, columns)
    elif rows:
        scalar = [n for n, c in columns.items() if c.ndim == 1 and n not in ("healpix", "flagged")]
        first = [n for n in ("object_id", *opened.scores(), *FIRST) if n in scalar]
        order = [*first, *(n for n in scalar if n not in first)]
        missing = set(show_columns(title, {name: columns[name] for name in order}, fit=True))
        left = [name for name in columns if name in missing or name not in order]
        if left:
            say(f"more columns, with --columns, --csv, --table or --json: {', '.join(left)}")
    if opened.missing:
        say(f"{opened.missing} partitions are not done yet: their objects are missing here")


def parse_columns(pairs: tuple[str, ...]) -> dict[str, str]:
    """Options such as ``time=mjd`` as a mapping; ParameterError for anything else."""
    found = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not equals or not name or not column:
            raise ParameterError(f"--column {pair!r}: write NAME=COLUMN, such as --column time=mjd")
        found[name] = column
    return found
