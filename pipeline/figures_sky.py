"""Panels of images on the sky: grey and two-sided scales, ticks in RA and Dec, compass, marks of candidates.

Colours keep apart for colour-blind eyes: brighter than the reference vermilion and round, fainter blue and
square, masked pixels sand.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.figures_frame import BUMP, DIP
from skytrawl.image_views import View, by_sign

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure, SubFigure

MASKED = "#E8D9B5"
SCORE_RANGE = 10.0
_SIGMA = 1.4826


def scatter(values: np.ndarray) -> float:
    """Scaled median absolute deviation of the finite values; 1 where there is none."""
    values = values[np.isfinite(values)]
    if not len(values):
        return 1.0
    found = _SIGMA * float(np.median(np.abs(values - np.median(values))))
    return found if found > 0 else float(np.abs(values).max()) or 1.0


def common_scale(*images: np.ndarray) -> Normalize:
    """One asinh scale for several images of the same unit: linear over the noise, logarithmic above."""
    from matplotlib.colors import AsinhNorm

    noise = max(scatter(image) for image in images)
    finite = [image[np.isfinite(image)] for image in images]
    top = max((float(np.quantile(values, 0.9995)) for values in finite if len(values)), default=1.0)
    return AsinhNorm(linear_width=2 * noise, vmin=-3 * noise, vmax=max(top, 20 * noise))


def asinh_ticks(norm: Any) -> list[float]:
    """Zero, and 1, 3, 10, ... from where the scale is no longer linear."""
    powers = [m * 10.0**k for k in range(-12, 16) for m in (1, 3)]
    found = [t for t in powers if 1.5 * norm.linear_width <= t <= norm.vmax]
    return [0.0, *(found if len(found) < 7 else [t for t in found if f"{t:e}".startswith("1")])]


def symmetric_scale(*images: np.ndarray, least: float = 6.0) -> Normalize:
    """A linear scale with zero in the middle, of `least` sigma at least, for one or several images."""
    from matplotlib.colors import Normalize

    reach = 0.0
    for image in images:
        values = np.abs(image[np.isfinite(image)])
        tail = float(np.quantile(values, 0.998)) if len(values) else 0.0
        reach = max(reach, least * scatter(image), tail)
    return Normalize(-reach, reach)


def colour_map(name: str) -> Any:
    """A colour map in which NaN has the colour of masked pixels."""
    from matplotlib import colormaps

    return colormaps[name].with_extremes(bad=MASKED)


def sky_axes(figure: Figure | SubFigure, place: Any, view: View, *, left: bool, bottom: bool) -> Axes:
    """Axes in pixels of the frame with ticks in RA and Dec; labels only where asked for.

    The ticks of an edge are where it crosses round values of the coordinate that varies more along it.
    """
    axis: Axes = figure.add_subplot(place)
    x0, x1, y0, y1 = view.extent
    axis.set_xlim(x0, x1)
    axis.set_ylim(y0, y1)
    across, up = np.linspace(x0, x1, 65), np.linspace(y0, y1, 65)
    north = directions(view)[1]
    upright = abs(north[1]) >= abs(north[0])
    for vertical, (x, y), wanted in (
        (False, (across, np.full_like(across, y0)), bottom),
        (True, (np.full_like(up, x0), up), left),
    ):
        at, labels, name = _edge(
            view, x, y, up if vertical else across, "RA" if vertical != upright else "Dec"
        )
        one = axis.yaxis if vertical else axis.xaxis
        one.set_ticks(at, labels=labels if wanted else [""] * len(at), fontsize="small")
        if wanted:
            one.set_label_text(f"{name} (deg)", fontsize="small")
    axis.tick_params(direction="in", length=4, top=False, right=False)
    return axis


def _edge(
    view: View, x: np.ndarray, y: np.ndarray, along: np.ndarray, name: str
) -> tuple[list[float], list[str], str]:
    """Round values of RA or Dec along an edge: where they lie, and their labels."""
    from matplotlib.ticker import MaxNLocator

    from skytrawl.catalogs.images.wcs import pixel_to_sky

    ra, dec = pixel_to_sky(view.wcs, x, y)
    values = np.unwrap(ra, period=360) if name == "RA" else dec
    if not np.isfinite(values).all() or not (np.all(np.diff(values) > 0) or np.all(np.diff(values) < 0)):
        return [], [], name  # as around a pole
    low, high = float(values.min()), float(values.max())
    ticks = np.asarray(MaxNLocator(4, steps=[1, 2, 5, 10], min_n_ticks=2).tick_values(low, high))
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    ticks = ticks[(ticks >= low) & (ticks <= high)]
    order = np.argsort(values)
    at = np.interp(ticks, values[order], along[order])
    texts = [f"{tick % 360 if name == 'RA' else tick:.{decimals}f}".replace("-", "−") for tick in ticks]
    return at.tolist(), texts, name


def directions(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (x, y) in pixels that point east and north in the middle of the window."""
    from skytrawl.catalogs.images.wcs import pixel_to_sky, sky_to_pixel

    y0, y1, x0, x1 = view.window
    x, y = np.array([(x0 + x1 - 1) / 2]), np.array([(y0 + y1 - 1) / 2])
    ra, dec = pixel_to_sky(view.wcs, x, y)
    step = float(view.row.get("pixel_scale") or 1.0) / 3600
    # Towards the equator, so that the poles are no obstacle.
    sign = -1.0 if dec[0] > 0 else 1.0
    moved = (
        sky_to_pixel(view.wcs, ra + step / max(math.cos(math.radians(dec[0])), 1e-6), dec),
        sky_to_pixel(view.wcs, ra, dec + sign * step),
    )
    east, north = (np.array([float(a[0] - x[0]), float(b[0] - y[0])]) for a, b in moved)
    north = sign * north
    return east / np.hypot(*east), north / np.hypot(*north)


def show(axis: Axes, view: View, plane: str, norm: Normalize, colours: str) -> Any:
    """Draw a plane of a view into its axes."""
    left, right, low, high = view.extent
    return axis.imshow(
        view.planes[plane], origin="lower", extent=(left, right, low, high), norm=norm,
        cmap=colour_map(colours), interpolation="antialiased",
    )  # fmt: skip


def mark(axis: Axes, view: View, most: int) -> list[Any]:
    """Mark the first candidates, brighter ones with circles, fainter with squares; returns what was drawn."""
    drawn = []
    totals = [len(rows) for rows in by_sign(view.candidates)]
    columns = {name: values[:most] for name, values in view.candidates.items()}
    n = len(columns.get("x", ()))
    size = float(np.clip(150 - 0.4 * n, 40, 130))
    for rows, total, colour, shape, name in zip(
        by_sign(columns), totals, (BUMP, DIP), ("o", "s"), ("brighter", "fainter"), strict=True
    ):
        count = f"{total}" if len(rows) == total else f"{len(rows)} strongest of {total}"
        if len(rows):
            drawn.append(
                axis.scatter(
                    columns["x"][rows],
                    columns["y"][rows],
                    s=size,
                    marker=shape,
                    facecolors="none",
                    edgecolors=colour,
                    linewidths=1.1,
                    label=f"{name} than the reference ({count})",
                    zorder=5,
                )
            )
    return drawn


def compass(axis: Axes, view: View) -> None:
    """Arrows to north and east, and a bar of round length, inside the panel."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.5, foreground="white")]
    east, north = directions(view)
    centre = np.array([0.87, 0.83]) - 0.05 * (east + north)
    for direction, name in ((north, "N"), (east, "E")):
        tip = centre + 0.09 * direction
        arrow = axis.annotate(
            "", tip, centre, xycoords="axes fraction",
            arrowprops={"arrowstyle": "-|>", "lw": 1.2, "color": "k", "shrinkA": 0, "shrinkB": 0},
        )  # fmt: skip
        if arrow.arrow_patch is not None:
            arrow.arrow_patch.set_path_effects([*halo])
        at = centre + 0.125 * direction
        axis.text(
            float(at[0]),
            float(at[1]),
            name,
            transform=axis.transAxes,
            ha="center",
            va="center",
            fontsize="small",
            path_effects=halo,
        )
    scale = float(view.row.get("pixel_scale") or math.nan)
    width = view.window[3] - view.window[2]
    if math.isfinite(scale):
        length = round_below(0.28 * width * scale)
        text = f"{length / 60:g}′" if length >= 60 else f"{length:g}″"
        bar(axis, length / scale / width, text)


def bar(axis: Axes, share: float, text: str) -> None:
    """A bar that takes a share of the width, with its length written above, in the lower left corner."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=3, foreground="white")]
    axis.plot(
        [0.06, 0.06 + share], [0.05, 0.05], color="k", lw=1.8, transform=axis.transAxes, path_effects=halo,
        solid_capstyle="butt",
    )  # fmt: skip
    axis.text(
        0.06 + share / 2, 0.065, text, transform=axis.transAxes, ha="center", va="bottom", fontsize="small",
        path_effects=halo,
    )  # fmt: skip


def round_below(value: float) -> float:
    """The largest of 1, 2, 5 times a power of ten (of 60 for minutes of arc) that is not above."""
    if value >= 60:
        return 60 * round_below(value / 60)
    power = 10.0 ** math.floor(math.log10(value))
    return max(step * power for step in (1, 2, 5) if step * power <= value * (1 + 1e-9))
