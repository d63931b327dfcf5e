"""`skytrawl candidates`: what a detection run found, ranked, near a place, of an object or an exposure."""

from __future__ import annotations

from typing import Any

import click

from skytrawl.errors import ParameterError

# Column -> (heading, format) in the order of the table on the terminal; those that fit are shown.
_SHOWN = {
    "separation": ("separation (arcsec)", "{:.2f}"),
    "object": ("object", "{}"),
    "exposure": ("exposure", "{}"),
    "band": ("band", "{}"),
    "mjd": ("mjd (d)", "{:.5f}"),
    "ra": ("ra (deg)", "{:.6f}"),
    "dec": ("dec (deg)", "{:+.6f}"),
    "score": ("score (sigma)", "{:+.2f}"),
    "snr": ("snr", "{:+.2f}"),
    "flux_njy": ("flux (nJy)", "{:+.5g}"),
    "flux_njy_error": ("error (nJy)", "{:.3g}"),
    "size": ("size (px)", "{:.2f}"),
    "flags": ("flags", "{}"),
}


@click.command("candidates")
@click.argument("run", type=click.Path())
@click.option("--top", type=click.IntRange(1), help="The N first.  [default: 20; all of an object]")
@click.option(
    "--cone",
    type=(float, float, float),
    metavar="RA DEC RADIUS",
    help="Candidates within RADIUS of a position, nearest first. [deg]",
)
@click.option("--object", "object_number", type=int, help="Detections of one object by its number, in time.")
@click.option("--exposure", help="Candidates of one exposure by its name.")
@click.option("--sign", type=click.Choice(["+", "-"]), help="Brighter or fainter than the reference.")
@click.option("--min-snr", type=click.FloatRange(0), default=0.0, help="Least |flux| over its error.")
@click.option("--json", "as_json", is_flag=True, help="Print all columns as JSON for machines.")
@click.option("--plot", type=click.Path(dir_okay=False), help="Draw them to an image file.")
@click.option(
    "--panels",
    type=click.Choice(["cutouts", "frame"]),
    default="cutouts",
    show_default=True,
    help="With --plot: the cutouts of each, or all on exposure, reference, difference and S_corr of the "
    "exposure that --exposure names.",
)
def candidates(run: str, **words: Any) -> None:
    """Show candidates of a run of detect: skytrawl candidates RUN.

    Conditions add up. The largest |S_corr| comes first, in a cone the nearest, of an object the earliest.
    """
    if words["panels"] == "frame" and not (words["plot"] and words["exposure"]):
        raise click.UsageError("--panels frame goes with --plot and --exposure")
    from skytrawl.console import say
    from skytrawl.image_candidates import find_candidates

    top = words["top"] or (None if words["object_number"] is not None else 20)
    names = ("cone", "object_number", "exposure", "sign", "min_snr")
    asked = {name: words[name] for name in names}
    everything = find_candidates(run, **asked)
    found = {name: values[:top] for name, values in everything.items()}
    count, shown = (len(columns.get("x", ())) for columns in (everything, found))
    if words["as_json"]:
        _json(run, found)
    elif shown:
        order = "by time" if words["object_number"] is not None else "by |S_corr|"
        order = "by distance" if words["cone"] else order
        _table(f"{shown} of {count} candidates {order}", found)
    else:
        say("no candidate meets the conditions")
    if words["plot"] and shown:
        _plot(run, found, words)
        say(f"figure: {words['plot']}")


def _table(title: str, columns: dict[str, Any]) -> None:
    """Print the rows with their units; what does not fit is named."""
    import numpy as np

    from skytrawl.console import say, show_columns
    from skytrawl.kernels.flags import names_of

    cells: dict[str, Any] = {}
    for name, (heading, form) in _SHOWN.items():
        if name not in columns:
            continue
        values = columns[name]
        if name in ("flux_njy", "flux_njy_error") and not np.isfinite(values).any():
            # Without a zero point fluxes are shown in the units of the image.
            values, heading = columns[name.replace("_njy", "")], heading.replace("nJy", "image")
        if name == "separation":
            values = values * 3600
        if name == "flags":
            texts = [",".join(names_of(int(bits))) or "-" for bits in values]
        else:
            texts = [form.format(v.decode() if isinstance(v, bytes) else v) for v in values.tolist()]
        width = max(map(len, texts))
        numbers = values.dtype.kind in "fiu" and name != "flags"
        cells[heading] = np.array([text.rjust(width) if numbers else text for text in texts])
    left = show_columns(title, cells, fit=True)
    if left:
        say(f"more columns on a wider terminal or with --json: {', '.join(left)}")


def _json(run: str, columns: dict[str, Any]) -> None:
    from skytrawl.catalogs.images.candidates import COLUMNS
    from skytrawl.console import show_json
    from skytrawl.kernels.detect.types import COLUMNS as DETECTED

    units = {name: unit for name, (_, unit, _) in DETECTED.items()}
    units |= {name: unit for name, (unit, _) in COLUMNS.items()} | {"separation": "deg"}
    show_json({"run": run, "columns": columns, "units": {n: units[n] for n in columns if units.get(n)}})


def _plot(run: str, found: dict[str, Any], words: dict[str, Any]) -> None:
    if words["panels"] == "cutouts":
        from skytrawl.figures_cutouts import plot_cutouts

        plot_cutouts(run, words["plot"], rows=found["catalogue_row"])
        return
    from pathlib import Path

    from skytrawl.catalogs.images.current import open_frames
    from skytrawl.figures_images import panels
    from skytrawl.figures_scan import save
    from skytrawl.image_views import read_view

    source = open_frames(run).attrs.get("source")
    if not source or not Path(source).exists():
        raise ParameterError(f"the difference images of {run} are not at {source}: draw its cutouts")
    view = read_view(source, words["exposure"])
    view.candidates.update(found)
    save(panels(view), words["plot"])
