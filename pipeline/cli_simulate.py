"""`skytrawl simulate`: a survey that is made up, with the truth about every object."""

from __future__ import annotations

from typing import Any

import click

from skytrawl.errors import ParameterError


@click.command()
@click.argument("kind", metavar="KIND")
@click.argument("path", type=click.Path())
@click.option("--objects", type=click.IntRange(0), required=True, help="Objects in all.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Same seed, same values.")
@click.option(
    "--format",
    type=click.Choice(["archive", "parquet", "csv"]),
    default="archive",
    show_default=True,
    help="An archive, or a table with one row an observation.",
)
@click.option(
    "--partitions", type=click.IntRange(1), help="Of an archive.  [default: 4 million observations each]"
)
@click.option("--years", type=float, help="Length of the survey.  [default: of the real one]")
@click.option(
    "--rate",
    "rates",
    multiple=True,
    metavar="CLASS=FRACTION",
    help="Fraction of the objects in a class: sine rrlyrae eclipse supernova microlensing "
    "microlensing-planet flare; the rest is constant.  [default: a third of the objects vary]",
)
@click.option(
    "--heavy-tail",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Fraction of the observations with noise three times as wide as their error.",
)
@click.option(
    "--bad",
    type=click.FloatRange(0, 1),
    default=0.001,
    show_default=True,
    help="Fraction of the observations that are off by 5 to 50 sigma.",
)
@click.option("--truth/--no-truth", default=True, show_default=True, help="Write the truth table.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def simulate(kind: str, path: str, objects: int, rates: tuple[str, ...], **words: Any) -> None:
    """Make up a survey: skytrawl simulate ztf|lsst|roman-bulge|kmt PATH --objects N.

    Cadence, depth and noise are like those of the survey. What each object really is stands in a Parquet
    table beside PATH, with the suffix .truth.parquet.
    """
    from skytrawl.catalogs.simulate import simulate_survey
    from skytrawl.console import show_json, step_bar

    as_json = words.pop("as_json")
    words["with_truth"] = words.pop("truth")
    with step_bar("objects") as progress:
        done = simulate_survey(kind, path, objects, rates=_rates(rates), progress=progress, **words)
    if as_json:
        show_json(done.to_dict())
    else:
        click.echo(str(done))


def _rates(given: tuple[str, ...]) -> dict[str, float] | None:
    """The options CLASS=FRACTION; None if there are none."""
    found: dict[str, float] = {}
    for text in given:
        name, _, number = text.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            raise ParameterError(f"--rate {text!r}: write CLASS=FRACTION, such as flare=0.1") from None
    return found or None
