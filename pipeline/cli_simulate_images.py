"""`skytrawl simulate-images`: exposures that are made up, as a survey would deliver them, with the truth."""

from __future__ import annotations

from typing import Any

import click


@click.command("simulate-images")
@click.argument("kind", metavar="KIND")
@click.argument("path", type=click.Path())
@click.option("--exposures", type=click.IntRange(1), default=30, show_default=True, help="Of one field.")
@click.option(
    "--size",
    type=click.IntRange(64, 16384),
    default=2048,
    show_default=True,
    help="Rows and columns, pixels.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Same seed, same values.")
@click.option("--band", default="r", show_default=True, help="One of the survey's bands.")
@click.option(
    "--centre", type=(float, float), metavar="RA DEC", help="Of the field, degrees.  [default: of the survey]"
)
@click.option(
    "--days", type=float, help="From the first exposure to the last.  [default: the survey's cadence]"
)
@click.option("--start", type=float, help="MJD of the first night.")
@click.option(
    "--seeing",
    type=(float, float),
    metavar="LEAST LARGEST",
    help="FWHM in pixels, uniform between these.  [default: the survey's distribution]",
)
@click.option(
    "--dither",
    type=click.FloatRange(0, 1),
    default=0.03,
    show_default=True,
    help="Largest displacement, share of the side.",
)
@click.option(
    "--rotation", type=click.FloatRange(0, 180), help="Largest turn, degrees.  [default: of the survey]"
)
@click.option(
    "--density",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Factor on the number of stars and galaxies.",
)
@click.option("--variables", type=click.IntRange(0), default=40, show_default=True, help="Variable stars.")
@click.option("--supernovae", type=click.IntRange(0), default=20, show_default=True, help="In galaxies.")
@click.option("--novae", type=click.IntRange(0), default=5, show_default=True)
@click.option("--moving", type=click.IntRange(0), default=5, show_default=True, help="Asteroids.")
@click.option("--cosmic-rays", type=float, help="Mean number an exposure.  [default: of the detector]")
@click.option(
    "--flagged",
    type=click.FloatRange(0, 1),
    default=0.95,
    show_default=True,
    help="Share of the cosmic rays that the mask shows.",
)
@click.option(
    "--astrometry-error",
    type=click.FloatRange(0),
    default=0.05,
    show_default=True,
    help="Of the headers' coordinates, pixels.",
)
@click.option(
    "--zero-point-error",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Of the headers' zero points, mag.",
)
@click.option("--truth-format", type=click.Choice(["parquet", "csv"]), default="parquet", show_default=True)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Threads.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def simulate_images(kind: str, path: str, as_json: bool, **words: Any) -> None:
    """Make up exposures: skytrawl simulate-images ztf-like|lsst-like|decam-like PATH.

    PATH becomes a folder of FITS files with the header cards, masks and weights of the survey, ready for
    `skytrawl ingest-images`. What is on them stands in the tables of PATH/truth: sources, exposures, and
    truth, with a row for everything that changes or moves on every exposure.
    """
    from skytrawl.catalogs.simulate_images import simulate_exposures
    from skytrawl.console import show_json, step_bar

    with step_bar("exposures") as progress:
        done = simulate_exposures(kind, path, progress=progress, **words)
    if as_json:
        show_json(done.to_dict())
    else:
        click.echo(str(done))
