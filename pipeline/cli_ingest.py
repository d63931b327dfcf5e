"""`skytrawl ingest` and `skytrawl append`: light curves into an archive, and more of them later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from skytrawl.cli_query import parse_columns

FAILED_SOURCES = 3
_STAGES = {"read": "reading", "sort": "sorting", "write": "writing partitions"}


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that a first ingest and an append have in common."""
    options = [
        click.option(
            "--column",
            "columns",
            multiple=True,
            metavar="ROLE=COLUMN",
            help="Which column is what, such as time=mjd or band=r (a constant). Roles: object time value "
            "error band ra dec sign upper_limit quality rb exposure class row_id.  [default: usual names]",
        ),
        click.option("--reader", help="Name of a reader, where the extension does not tell."),
        click.option("--time-format", help="mjd, jd, jd-2450000 or days.  [default: by column name]"),
        click.option(
            "--objects", type=click.Path(), help="Table with one row an object: ra, dec [deg], class."
        ),
        click.option("--nested", help="Nested column of light curves, where a HATS catalogue has several."),
        click.option(
            "--duplicates",
            type=click.Choice(["drop", "keep"]),
            default="drop",
            show_default=True,
            help="Rows that repeat another row in every column.",
        ),
        click.option(
            "--on-bad",
            type=click.Choice(["drop", "raise"]),
            default="drop",
            show_default=True,
            help="Leave out bad rows and files that cannot be used, and count them; or stop at the first.",
        ),
        click.option("--encoding", default="utf-8", show_default=True, help="Of text files."),
        click.option("--delimiter", help="Of text files.  [default: by the header line]"),
        click.option(
            "--workers",
            type=click.IntRange(1),
            help="Worker processes.  [default: one a core for more than 64 MB, else none]",
        ),
        click.option("--cluster", help="inline, local, threads or tcp://host:port.  [default: by size]"),
        click.option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path())
@click.argument("archive", type=click.Path())
@_shared
@click.option(
    "--survey",
    required=True,
    help="asassn, kmt, lsst, ogle, roman, sdss, ztf, or the path of your own TOML file.",
)
@click.option("--quantity", help="magnitude or flux.  [default: the survey's]")
@click.option(
    "--photometry", help="total, difference, 'forced difference' or mixed.  [default: the survey's]"
)
@click.option("--units", help="Unit of values and errors.  [default: the survey's]")
@click.option(
    "--zero-point", type=float, help="Magnitude of one unit of flux. [mag]  [default: the survey's]"
)
@click.option("--time-scale", help="utc, tai, tt or tdb.  [default: the survey's]")
@click.option(
    "--reference-position", help="topocenter, geocenter, heliocenter or barycenter.  [default: the survey's]"
)
@click.option("--exposure-point", help="start or middle.  [default: the survey's]")
@click.option("--bands", help="Bands of the archive, with commas.  [default: the survey's]")
@click.option(
    "--missing-errors",
    type=click.Choice(["drop", "keep"]),
    default="drop",
    show_default=True,
    help="Rows whose error is missing or zero.",
)
@click.option(
    "--partition-observations",
    type=click.IntRange(1),
    default=4_000_000,
    show_default=True,
    help="Most observations of a partition, the unit of work.",
)
@click.option(
    "--precision",
    multiple=True,
    metavar="COLUMN=STEP",
    help="Round value or error to no worse than half a step [unit of the values], such as value=0.001.",
)
@click.option("--restart", is_flag=True, help="Forget an interrupted ingest at this path and begin anew.")
def ingest(sources: tuple[str, ...], archive: str, **words: Any) -> None:
    """Make an archive from light curves of any size and order: skytrawl ingest SOURCE... ARCHIVE.

    Reads HATS catalogues, Parquet, Arrow, CSV, ECSV, IPAC, VOTable, FITS and NumPy tables, folders with a
    file for each light curve, and ANTARES loci. Rows that are left out are counted by reason, with file and
    row of the first ones; files that cannot be used are listed, and the exit code is 3. An ingest that was
    interrupted goes on when the same command is given again.
    """
    from skytrawl.intake.driver import ingest as make_archive

    words["bands"] = [band.strip() for band in words["bands"].split(",")] if words["bands"] else None
    words["precision"] = _steps(words["precision"])
    _run(make_archive, sources, archive, words)


@click.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path())
@click.argument("archive", type=click.Path())
@_shared
def append(sources: tuple[str, ...], archive: str, **words: Any) -> None:
    """Add observations to an archive as its next version: skytrawl append SOURCE... ARCHIVE.

    Columns and meaning are those of the first ingest. Rows that the archive has already are left out, so that
    the same night delivered twice changes nothing. Readers of the version below are not disturbed.
    """
    from skytrawl.intake.driver import append as add

    _run(add, sources, archive, words)


def _run(function: Callable[..., Any], sources: tuple[str, ...], archive: str, words: dict[str, Any]) -> None:
    from skytrawl.cli import stoppable
    from skytrawl.console import show_json, stage_bar

    as_json = words.pop("as_json")
    words["columns"] = parse_columns(words["columns"])
    with stoppable(), stage_bar(_STAGES) as progress:
        report = function(list(sources), archive, progress=progress, **words)
    if as_json:
        show_json(report.to_dict())
    else:
        click.echo(str(report))
    if report.quarantined:
        raise click.exceptions.Exit(FAILED_SOURCES)


def _steps(given: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for word in given:
        column, _, step = word.partition("=")
        try:
            found[column] = float(step)
        except ValueError:
            raise click.BadParameter(f"{word!r}: write column=step, such as value=0.001") from None
    return found
