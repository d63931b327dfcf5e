"""Pictures of difference images: exposure, reference, difference and S_corr; one mode against another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.errors import ParameterError
from skytrawl.figures import new_figure
from skytrawl.figures_noise import draw_noise
from skytrawl.figures_scan import save
from skytrawl.figures_sky import (
    MASKED,
    SCORE_RANGE,
    asinh_ticks,
    common_scale,
    compass,
    mark,
    show,
    sky_axes,
    symmetric_scale,
)
from skytrawl.image_views import View, around, first_usable, good_scores, open_differences, read_view

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# More marks than these hide what they mark.
MOST_MARKS = 100
_NAMES = {"zogy": "ZOGY", "matching": "kernel matching", "classic": "classic"}


def plot_difference(
    differences: str | Path,
    frame_id: str | None = None,
    path: str | Path | None = None,
    *,
    candidates: str | Path | None = None,
    window: tuple[int, int, int, int] | None = None,
    at: tuple[float, float] | None = None,
    size: int = 128,
    exposures: str | Path | None = None,
    most: int = MOST_MARKS,
) -> Figure:
    """Draw exposure, reference, difference and S_corr of one frame, with its candidates marked.

    Exposure and reference share one asinh scale; difference and S_corr are linear with zero in the middle.

    Parameters
    ----------
    differences : path
        What `skytrawl run difference` wrote.
    frame_id : str, optional
        By default the first good one.
    path : path, optional
        Image file; the suffix chooses the format.
    candidates : path, optional
        What `skytrawl run detect` wrote.
    window : (int, int, int, int), optional
        y0, y1, x0, x1 in pixels; the whole frame by default.
    at : (float, float), optional
        x and y of the middle of a window of `size` pixels instead.
    size : int, pixels
    exposures : path, optional
        Store of the exposures; by default where the run of difference found it.
    most : int
        Candidates that are marked at most, those with the largest |score|.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if at is not None:
        window = around(*at, size)
    view = read_view(differences, frame_id, candidates=candidates, window=window, exposures=exposures)
    return save(panels(view, most), path)


def panels(view: View, most: int = MOST_MARKS) -> Figure:
    """The four panels of `plot_difference` for planes that are at hand."""
    height, width = view.planes["scorr"].shape
    figure = new_figure(9.4, float(np.clip(7.9 * height / width, 4.5, 11.0)) + 0.7)
    figure.get_layout_engine().set(w_pad=0.09)  # type: ignore[union-attr,call-arg]
    grid = figure.add_gridspec(2, 2)
    grey = common_scale(view.planes["science"], view.planes["reference"])
    two_sided = symmetric_scale(view.planes["difference"])
    from matplotlib.colors import Normalize

    score = Normalize(-SCORE_RANGE, SCORE_RANGE)
    unit = f"{view.unit} / pixel"
    mode = _NAMES.get(view.mode, view.mode)
    layout = (
        ("science", "exposure", grey, "Greys", f"flux ({unit})"),
        ("reference", "reference", grey, "Greys", f"flux ({unit})"),
        (
            "difference",
            f"difference ({mode})",
            two_sided,
            "RdBu_r",
            f"flux ({unit})",
        ),
        ("scorr", "$S_{corr}$", score, "RdBu_r", "significance (sigma)"),
    )
    drawn: list[Any] = []
    for number, (plane, name, norm, colours, label) in enumerate(layout):
        axis = sky_axes(figure, grid[number // 2, number % 2], view, left=number % 2 == 0, bottom=number > 1)
        image = show(axis, view, plane, norm, colours)
        ends = "max" if plane in ("science", "reference") else "both"
        how: dict[str, Any] = {"ticks": asinh_ticks(norm), "format": "%g"} if norm is grey else {}
        drawn_bar = figure.colorbar(image, ax=axis, label=label, extend=ends, shrink=0.9, pad=0.02, **how)
        drawn_bar.minorticks_off()
        axis.set_title(name, fontsize="medium")
        drawn = mark(axis, view, most)
        if plane == "science":
            compass(axis, view)
    _legend(figure, drawn, any(np.isnan(view.planes["difference"]).ravel()))
    figure.suptitle(view.title, fontsize="medium")
    return figure


def plot_modes(
    differences: Sequence[str | Path] | Mapping[str, str | Path],
    frame_id: str | None = None,
    path: str | Path | None = None,
    *,
    window: tuple[int, int, int, int] | None = None,
    at: tuple[float, float] | None = None,
    size: int = 256,
) -> Figure:
    """Draw the same exposure as several runs of difference saw it, such as ZOGY against classic.

    A row a run: difference (one scale for all), S_corr, and the distribution of S_corr of the whole frame
    against a unit Gaussian.

    Parameters
    ----------
    differences : sequence of path, or mapping of name to path
        What `skytrawl run difference` wrote, once a mode. Names are those of the modes by default.
    frame_id, path, window, at, size
        As in :func:`plot_difference`.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ParameterError
        If there are fewer than two runs.
    """
    from matplotlib.colors import Normalize

    named = isinstance(differences, Mapping)
    paths = list(differences.values()) if isinstance(differences, Mapping) else list(differences)
    if len(paths) < 2:
        raise ParameterError("give two runs of difference at least, made with different modes")
    if at is not None:
        window = around(*at, size)
    stores = [open_differences(each) for each in paths]
    frame_id = frame_id or first_usable(stores[0])
    views = [read_view(each, frame_id, window=window, science=False) for each in paths]
    names = list(differences) if named else [_NAMES.get(view.mode, view.mode) for view in views]
    two_sided = symmetric_scale(*(view.planes["difference"] for view in views))
    figure = new_figure(12.4, 3.7 * len(views) + 0.7)
    figure.get_layout_engine().set(w_pad=0.09)  # type: ignore[union-attr,call-arg]
    grid = figure.add_gridspec(len(views), 3, width_ratios=(1, 1, 0.85))
    for row, (view, store, name) in enumerate(zip(views, stores, names, strict=True)):
        last = row == len(views) - 1
        for column, (plane, norm, label) in enumerate(
            (
                ("difference", two_sided, f"flux ({view.unit} / pixel)"),
                ("scorr", Normalize(-SCORE_RANGE, SCORE_RANGE), "significance (sigma)"),
            )
        ):
            axis = sky_axes(figure, grid[row, column], view, left=column == 0, bottom=last)
            image = show(axis, view, plane, norm, "RdBu_r")
            figure.colorbar(image, ax=axis, label=label, extend="both", shrink=0.9, pad=0.02)
            axis.set_title(f"{name}: {'difference' if column == 0 else '$S_{corr}$'}", fontsize="medium")
            if row == column == 0:
                compass(axis, view)
        axis = figure.add_subplot(grid[row, 2])
        draw_noise(axis, {"": good_scores(store, frame_id)}, label_x=last)
        axis.set_title(f"{name}: whole frame", fontsize="medium")
    figure.suptitle(views[0].title, fontsize="medium")
    return save(figure, path)


def _legend(figure: Figure, drawn: list[Any], masked: bool) -> None:
    from matplotlib.patches import Patch

    handles: list[Any] = list(drawn)
    if masked:
        handles.append(Patch(facecolor=MASKED, edgecolor="0.6", label="masked"))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize="small", frameon=False)
