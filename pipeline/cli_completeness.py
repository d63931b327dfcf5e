"""`skytrawl completeness`: how much of what was injected a detection run has found."""

from __future__ import annotations

import click

# Types of fewer sources are in the table but not in the plot.
_DRAWN = 20


@click.command("completeness")
@click.argument("run", type=click.Path())
@click.argument("truth", type=click.Path(), nargs=-1, required=True)
@click.option(
    "--radius",
    type=click.FloatRange(0, min_open=True),
    default=3.0,
    show_default=True,
    help="A source is found if a candidate of its sign lies within. [pixel]",
)
@click.option(
    "--least-confidence",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Least share of the weight of a source on usable pixels.",
)
@click.option("--plot", type=click.Path(), help="Image file for the curves; the suffix chooses the format.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def completeness(
    run: str, truth: tuple[str, ...], radius: float, least_confidence: float, plot: str | None, as_json: bool
) -> None:
    """Completeness and purity against signal-to-noise: skytrawl completeness RUN TRUTH...

    RUN is what `skytrawl run detect` wrote; TRUTH is what `skytrawl run inject` or `skytrawl simulate-images`
    wrote, or several of these. The signal is the change against the reference that the difference image
    should show, the noise its error there. Candidates that no truth explains count against purity.
    """
    from skytrawl.console import show_json
    from skytrawl.images.completeness import measure_completeness

    found = measure_completeness(run, truth, radius=radius, least_confidence=least_confidence)
    if plot:
        from skytrawl.figures_noise import plot_completeness

        many = {name for name, table in found.tables.items() if table["injected"].sum() >= _DRAWN}
        tables = {name: table for name, table in found.tables.items() if name == "all" or name in many}
        plot_completeness(tables, plot, threshold=found.threshold)
    if as_json:
        show_json(found.to_dict())
    else:
        click.echo(str(found))
