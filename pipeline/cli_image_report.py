"""`skytrawl image-report`: how good and how complete the images of a store are."""

from __future__ import annotations

import click


@click.command("image-report")
@click.argument("store", type=click.Path())
@click.option("--version", type=int, help="Version of the store.  [default: the latest]")
@click.option(
    "--out",
    type=click.Path(file_okay=False),
    help="Folder for report.md with its figures, and report.json.",
)
@click.option("--worst", type=click.IntRange(1), default=10, show_default=True, help="Worst frames to list.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def image_report(store: str, version: int | None, out: str | None, worst: int, as_json: bool) -> None:
    """Report on exposures, references, difference images, candidates or forced photometry.

    Exposures: which metadata they have, the ranges of seeing, sky and depth, and what was left out and why.
    Difference images: verdicts with their reasons, every measure of quality, the worst frames.
    """
    from skytrawl.console import say, show_json
    from skytrawl.image_reports import image_report as make

    report = make(store, version, worst=worst)
    if as_json:
        show_json(report.to_dict())
    else:
        report.show()
    if out is not None:
        say(f"report: {report.write(out)}")
