"""`skytrawl export`: an archive or results as a HATS catalogue or a Parquet file."""

from __future__ import annotations

from typing import Any

import click


@click.command()
@click.argument("store", type=click.Path())
@click.argument("path", type=click.Path())
@click.option(
    "--format",
    type=click.Choice(["hats", "parquet"]),
    default="hats",
    show_default=True,
    help="HATS: a new folder that lsdb opens, one row an object, light curves nested. "
    "Parquet: a file, one row an observation of an archive, or an object of results.",
)
@click.option("--job", help="Job whose results to take, where the store holds several.")
@click.option("--columns", help="Columns of results, with commas.  [default: all]")
@click.option("--version", type=int, help="Version of the archive.  [default: the latest]")
@click.option("--name", help="Name of the catalogue.  [default: that of the folder]")
@click.option(
    "--drop-unplaced",
    is_flag=True,
    help="Leave objects without a position out of HATS, where they have no place, and count them.",
)
@click.option(
    "--pixel-megabytes",
    type=click.FloatRange(0, min_open=True),
    default=250.0,
    show_default=True,
    help="Most memory that a HATS pixel takes when it is read. [MB]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def export(store: str, path: str, as_json: bool, **words: Any) -> None:
    """Take an archive or results elsewhere: skytrawl export STORE PATH."""
    from skytrawl.catalogs.export_store import export as write
    from skytrawl.console import show_facts, show_json, stage_bar

    columns = words["columns"]
    with stage_bar({"count": "partitions counted", "write": "written"}) as progress:
        report = write(
            store,
            path,
            words["format"],
            job=words["job"],
            columns=[name.strip() for name in columns.split(",")] if columns else None,
            version=words["version"],
            name=words["name"],
            unplaced="drop" if words["drop_unplaced"] else "refuse",
            pixel_bytes=int(words["pixel_megabytes"] * 1e6) or 1,
            progress=progress,
        )
    if as_json:
        show_json(report.to_dict())
    else:
        show_facts(f"{store} → {path}", report.facts())
