"""`skytrawl export-images`: exposures, difference images and candidates as FITS, HDF5 or NumPy files."""

from __future__ import annotations

from typing import Any

import click


def _names(text: str | None) -> list[str] | None:
    return [name.strip() for name in text.split(",") if name.strip()] if text else None


@click.command("export-images")
@click.argument("store", type=click.Path())
@click.argument("path", type=click.Path())
@click.option(
    "--format",
    type=click.Choice(["fits", "hdf5", "npz", "tables"]),
    default="fits",
    show_default=True,
    help="fits: a file a frame, with header cards, WCS and provenance; hdf5: images.h5; npz: a file a frame, "
    "or candidates.npz; tables: no pixels.",
)
@click.option("--frames", help="Ids of frames or patterns such as 'ztf_*', with commas.  [default: all]")
@click.option(
    "--planes", help="Planes of images, with commas, such as science,scorr,mask.  [default: all there are]"
)
@click.option(
    "--cutouts/--no-cutouts", default=True, show_default=True, help="Cutouts of candidates, or columns alone."
)
@click.option(
    "--truth",
    type=click.Path(),
    help="Folder of simulated exposures: type, flux and confidence of true sources go with candidates.",
)
@click.option(
    "--radius",
    type=click.FloatRange(0, min_open=True),
    default=3.0,
    show_default=True,
    help="Farthest that a candidate lies from the source whose label it gets. [pixel]",
)
@click.option(
    "--tables",
    default="csv",
    show_default=True,
    help="Formats of tables, with commas: csv, json, parquet.",
)
@click.option(
    "--origin",
    type=click.Path(),
    help="Store that the job of this one ran over.  [default: where the job found it]",
)
@click.option("--version", type=int, help="Version of the store.  [default: the latest]")
@click.option("--replace", is_flag=True, help="Put the export in the place of an older one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def export_images(store: str, path: str, format: str, as_json: bool, **words: Any) -> None:
    """Take images or candidates elsewhere: skytrawl export-images STORE PATH.

    STORE is what ingest-images or the jobs reference, difference and detect wrote; PATH becomes a folder.
    """
    from skytrawl.catalogs.images.export import export_images as write
    from skytrawl.cli import stoppable
    from skytrawl.console import show_facts, show_json, step_bar

    words["frames"], words["planes"] = _names(words["frames"]), _names(words["planes"])
    words["tables"] = _names(words["tables"]) or []
    with stoppable(), step_bar("frames written") as progress:
        report = write(store, path, format, progress=progress, **words)
    if as_json:
        show_json(report.to_dict())
    else:
        show_facts(f"{store} → {path}", report.facts())
