"""`skytrawl ingest-images`: FITS images into a store of exposures."""

from __future__ import annotations

from typing import Any

import click

from skytrawl.cli_query import parse_columns

FAILED_IMAGES = 3


@click.command("ingest-images")
@click.argument("sources", nargs=-1, required=True, type=click.Path())
@click.argument("store", type=click.Path())
@click.option(
    "--survey",
    default="generic",
    show_default=True,
    help="Header map: bass, decam, generic, jwst, lsst, mzls, ps1, ztf, or the path of your own TOML file.",
)
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="ROLE=KEYWORD",
    help="Card of a role, or a number, such as mid=MJD-OBS or zero_point=25.2. Roles: mid start end exptime "
    "exposure detector field band unit gain read_noise saturation fwhm_px fwhm_arcsec zero_point pixel_sr.",
)
@click.option(
    "--checksums",
    type=click.Choice(["refuse", "note"]),
    default="refuse",
    show_default=True,
    help="Images whose data are not what DATASUM says.",
)
@click.option(
    "--positions",
    type=click.Choice(["required", "optional"]),
    default="required",
    show_default=True,
    help="Whether images without a place on the sky are taken.",
)
@click.option("--allow-missing", is_flag=True, help="Take images whose mask or weight file is missing.")
@click.option("--cosmic-rays", is_flag=True, help="Look for cosmic rays in images without a mask.")
@click.option(
    "--measure/--no-measure",
    default=True,
    show_default=True,
    help="Measure sky, stars and PSF, which references and difference images need.",
)
@click.option(
    "--quantise",
    multiple=True,
    metavar="PLANE=STEP",
    help="Store a plane as integers with a step of so many sigma, such as image=0.25.  [default: lossless]",
)
@click.option(
    "--on-bad",
    type=click.Choice(["quarantine", "raise"]),
    default="quarantine",
    show_default=True,
    help="Leave out images that cannot be used, with the reason; or stop at the first.",
)
@click.option("--replace", is_flag=True, help="Replace frames made of other bytes or with other options.")
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Worker processes.  [default: one a core for more than 64 MB, else none]",
)
@click.option("--cluster", help="inline, local, threads or tcp://host:port.  [default: by size]")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def ingest_images(sources: tuple[str, ...], store: str, **words: Any) -> None:
    """Put FITS images into a store of exposures: skytrawl ingest-images PATH... STORE.

    Reads plain, multi-extension, gzipped and fpacked files with their masks, weights and PSF models, checks
    them, and lists each image with time, band, zero point and place on the sky. Images that cannot be used
    are left out with the reason, and the exit code is 3. An ingest that was interrupted goes on when the same
    command is given again, and files that the store holds are passed over.
    """
    from skytrawl.cli import stoppable
    from skytrawl.console import show_json, step_bar
    from skytrawl.images.ingest import ingest_images as take

    as_json = words.pop("as_json")
    words["keys"] = parse_columns(words["keys"])
    words["quantise"] = _steps(words["quantise"])
    with stoppable(), step_bar("reading images") as progress:
        report = take(list(sources), store, progress=progress, **words)
    if as_json:
        show_json(report.to_dict())
    else:
        click.echo(str(report))
    if report.quarantined:
        raise click.exceptions.Exit(FAILED_IMAGES)


def _steps(given: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for word in given:
        plane, _, step = word.partition("=")
        try:
            found[plane] = float(step)
        except ValueError:
            raise click.BadParameter(f"{word!r}: write plane=step, such as image=0.25") from None
    return found
