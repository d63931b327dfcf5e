"""Pictures: a reference P(dm|dt) with the pairs of one object on it, and the object's light curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.errors import SkytrawlError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Blue to red in order of wavelength; bands that are not named here take the next free colour.
BAND_COLOURS = {
    "u": "#56B4E9",
    "g": "#009E73",
    "r": "#D55E00",
    "R": "#D55E00",
    "i": "#8B1A1A",
    "z": "#5B3A29",
    "y": "#222222",
}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that needs no screen; SkytrawlError without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SkytrawlError("figures need matplotlib: pip install 'skytrawl[plot]'") from error
    figure = Figure(figsize=(width, height), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    return figure


def draw_reference(
    axes: Axes,
    probability: np.ndarray,
    dt_edges: np.ndarray,
    dm_edges: np.ndarray,
    dt: np.ndarray,
    dm: np.ndarray,
    *,
    title: str = "",
) -> None:
    """Draw P(dm|dt) as an image over log10 dt, and pairs as points on it.

    Parameters
    ----------
    axes : matplotlib Axes
    probability : ndarray, shape (n_dt, n_dm), 1/mag
        Rows without counts are NaN and stay white.
    dt_edges : ndarray, shape (n_dt + 1,), days
    dm_edges : ndarray, shape (n_dm + 1,), mag
    dt, dm : ndarray, shape (n_pairs,), days and mag
    title : str
    """
    from matplotlib.colors import LogNorm

    edges = np.array(dt_edges, dtype=float)
    if edges[0] <= 0:  # a first row that starts at dt = 0 has no place on a logarithmic axis
        edges[0] = edges[1] / 10
    filled = np.ma.masked_where(~(probability > 0), probability)
    top = float(filled.max()) if filled.count() else 1.0
    mesh = axes.pcolormesh(
        edges, dm_edges, filled.T, norm=LogNorm(top / 1e3, top), cmap="Greys", rasterized=True
    )
    axes.scatter(dt, dm, s=9, c="#D55E00", linewidths=0, alpha=0.8, label=f"{len(dt)} pairs", zorder=3)
    axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
    reach = max(1.0, 1.1 * float(np.abs(dm).max(initial=0.0)))
    axes.set_ylim(max(-reach, dm_edges[0]), min(reach, dm_edges[-1]))
    axes.set_xlabel("dt (d)")
    axes.set_ylabel("dm (mag), fading is positive")
    axes.set_title(title, fontsize="medium")
    axes.legend(loc="upper left", fontsize="small", framealpha=0.9)
    axes.figure.colorbar(mesh, ax=axes, label="P(dm|dt) (1/mag)", pad=0.01)


def draw_light_curve(
    axes: Axes, bands: Mapping[str, Mapping[str, np.ndarray]], *, label: str = "magnitude", title: str = ""
) -> None:
    """Draw one light curve, a colour a band; magnitudes grow downwards.

    Parameters
    ----------
    axes : matplotlib Axes
    bands : mapping
        Band name -> {"time": days (MJD), "value", "error"}, each of shape (n,).
    label, title : str
    """
    spare = iter(["#0072B2", "#CC79A7", "#E69F00", "#777777"])
    for name, rows in bands.items():
        colour = BAND_COLOURS.get(name) or next(spare, "#000000")
        axes.errorbar(
            rows["time"],
            rows["value"],
            yerr=rows["error"],
            fmt="o",
            ms=4,
            lw=1,
            color=colour,
            label=f"{name} ({len(rows['time'])})",
        )
    if label.startswith("magnitude"):
        axes.invert_yaxis()
    axes.set_xlabel("time (MJD, d)")
    axes.set_ylabel(label)
    axes.set_title(title, fontsize="medium")
    axes.legend(fontsize="small")


def anomaly_figure(
    path: str | Path,
    *,
    panels: Sequence[Mapping[str, Any]],
    light_curve: Mapping[str, Mapping[str, np.ndarray]],
    label: str,
    title: str,
) -> Path:
    """Write the figure of one object: a panel of P(dm|dt) per key with its pairs, and its light curve.

    Parameters
    ----------
    path : str or Path
        Image file; the suffix chooses the format.
    panels : sequence of mapping
        Keyword arguments of `draw_reference`, one mapping a panel.
    light_curve : mapping
        As in `draw_light_curve`.
    label : str
        What the values of the light curve are, with unit.
    title : str

    Returns
    -------
    Path
        The file written.
    """
    figure = new_figure(6.2 * max(len(panels), 1), 7.2)
    grid = figure.add_gridspec(2, max(len(panels), 1), height_ratios=[3, 2])
    for column, panel in enumerate(panels):
        draw_reference(figure.add_subplot(grid[0, column]), **panel)
    draw_light_curve(figure.add_subplot(grid[1, :]), light_curve, label=label)
    figure.suptitle(title, fontsize="large")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
