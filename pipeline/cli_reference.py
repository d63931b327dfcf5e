"""`skytrawl reference`: merge, subtract and compare references, and exchange them with soraisam2020."""

from __future__ import annotations

import click


@click.group()
def reference() -> None:
    """Work with dm-dt references; `skytrawl run dmdt-reference` makes one."""


_REPLACE = click.option("--replace", is_flag=True, help="Overwrite an existing reference.")


def _two(operation: str, first: str, second: str, out: str, replace: bool) -> None:
    from skytrawl.catalogs import references

    made = getattr(references, operation)(references.load(first), references.load(second))
    references.save(made, out, replace)
    click.echo(f"{out}: {references.fingerprint(made)}")


@reference.command()
@click.argument("first", type=click.Path())
@click.argument("second", type=click.Path())
@click.argument("out", type=click.Path())
@_REPLACE
def merge(first: str, second: str, out: str, replace: bool) -> None:
    """Add two references of different objects: FIRST + SECOND → OUT."""
    _two("merge", first, second, out, replace)


@reference.command()
@click.argument("first", type=click.Path())
@click.argument("second", type=click.Path())
@click.argument("out", type=click.Path())
@_REPLACE
def subtract(first: str, second: str, out: str, replace: bool) -> None:
    """Take the objects of SECOND out of FIRST → OUT."""
    _two("subtract", first, second, out, replace)


@reference.command()
@click.argument("first", type=click.Path())
@click.argument("second", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def compare(first: str, second: str, as_json: bool) -> None:
    """Tell how far two references have drifted apart, key by key."""
    from skytrawl.catalogs.reference_views import compare as drift_of
    from skytrawl.catalogs.references import load
    from skytrawl.console import show_columns, show_json

    drift = drift_of(load(first), load(second))
    columns = {str(name): drift[name].values for name in [*drift.coords, *drift.data_vars]}
    if as_json:
        show_json(columns)
    else:
        show_columns(f"{first} against {second}", columns)


@reference.command(name="import")
@click.argument("sources", nargs=-1, required=True, type=click.Path())
@click.argument("out", type=click.Path())
@click.option("--bands", required=True, help="Bands that the names of the files are made of, with commas.")
@click.option("--survey", help="Survey of the light curves behind the files.")
@click.option("--photometry", help="Their photometry: total, difference, ...")
@_REPLACE
def import_json(
    sources: tuple[str, ...], out: str, bands: str, survey: str | None, photometry: str | None, replace: bool
) -> None:
    """Make a reference from a folder, or files, of soraisam2020: SOURCE... OUT."""
    from skytrawl.catalogs import references, soraisam2020

    facts = {name: value for name, value in (("survey", survey), ("photometry", photometry)) if value}
    if photometry:
        facts |= {"quantity": "magnitude", "units": "mag"}
    found = soraisam2020.import_json(
        sources[0] if len(sources) == 1 else sources, [band.strip() for band in bands.split(",")], **facts
    )
    references.save(found, out, replace)
    click.echo(f"{out}: {references.fingerprint(found)}")


@reference.command(name="export")
@click.argument("source", type=click.Path())
@click.argument("folder", type=click.Path())
@_REPLACE
def export_json(source: str, folder: str, replace: bool) -> None:
    """Write a reference of kind soraisam2020 as the original's JSON files into FOLDER."""
    from skytrawl.catalogs import references, soraisam2020

    for path in soraisam2020.export_json(references.load(source), folder, replace):
        click.echo(str(path))


@reference.command()
@click.argument("archive", type=click.Path())
@click.argument("object_id")
@click.argument("out", type=click.Path())
@click.option("--keys", default="", help="Bands and colour keys, with commas.  [default: all]")
@click.option("--preset", default="none", show_default=True, help="Quality cuts: none or soraisam2020.")
@click.option(
    "--sign",
    default="positive",
    show_default=True,
    help="positive, or any: pair negative subtractions too, as the original does.",
)
@_REPLACE
def pairs(archive: str, object_id: str, out: str, keys: str, preset: str, sign: str, replace: bool) -> None:
    """Write the pairs of one object as soraisam2020 does, by its rules and in its JSON."""
    from skytrawl.catalogs.archive import Archive
    from skytrawl.dmdt_common import Cuts
    from skytrawl.dmdt_maps import export_pairs, object_pairs
    from skytrawl.kernels.dmdt import SORAISAM2020_RULES

    found = object_pairs(
        Archive.open(archive),
        object_id,
        keys=keys,
        rules=SORAISAM2020_RULES,
        cuts=Cuts(preset=preset, sign=sign),
    )
    click.echo(str(export_pairs(found, out, replace)))
