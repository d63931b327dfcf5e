"""Pictures of grid scans: fit, residuals and dchi2 over time; one window; the template-free scan.

Colours keep apart for colour-blind eyes (Okabe and Ito): bumps vermilion with triangles that point up,
dips blue with triangles that point down, models black, data sets in the other colours.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from skytrawl.errors import ParameterError
from skytrawl.figures import new_figure
from skytrawl.figures_frame import (
    BUMP,
    DIP,
    MODEL,
    Frame,
    binned,
    data_colour,
    draw_points,
    flux_label,
    label_shift,
    legend_above,
    make_room,
    set_limits,
    set_ticks,
    time_label,
)
from skytrawl.scan_views import aligned, profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from skytrawl.scan_report import CurveReport, ScanReport, TemplateFreeReport

# In a window with more rows than these, means of stretches are drawn as well.
CROWDED, BINS = 120, 30


def save(figure: Figure, path: str | Path | None) -> Figure:
    """Write the figure if a path is given; returns the figure."""
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    return figure


def scan_figure(
    report: ScanReport, path: str | Path | None = None, *, time_range: tuple[float, float] | None = None
) -> Figure:
    """Draw the three panels: light curve with its baseline, residuals, dchi2 over time with the candidates.

    Parameters
    ----------
    report : ScanReport
    path : str or Path, optional
        Image file; the suffix chooses the format.
    time_range : (float, float), optional
        First and last time [d]; by default everything, long gaps cut out of the axis.

    Returns
    -------
    matplotlib.figure.Figure
    """
    frame = Frame(report, 3, (9.5, 8.0), time_range, heights=(3, 2, 2.4))
    _flux_panel(frame, 0, report)
    _residual_panel(frame, 1, report)
    _profile_panel(frame, 2, report)
    frame.mark(report.best)
    frame.finish(": ".join(filter(None, (report.object_id, report.best.text() if report.best else ""))))
    return save(frame.figure, path)


def fit_figure(
    report: CurveReport, path: str | Path | None = None, *, time_range: tuple[float, float] | None = None
) -> Figure:
    """Draw the light curve with its baseline alone; parameters as in `scan_figure`."""
    frame = Frame(report, 1, (9.5, 4.2), time_range)
    _flux_panel(frame, 0, report)
    frame.finish(report.object_id)
    return save(frame.figure, path)


def residual_figure(
    report: CurveReport, path: str | Path | None = None, *, time_range: tuple[float, float] | None = None
) -> Figure:
    """Draw the residuals of the baseline alone; parameters as in `scan_figure`."""
    frame = Frame(report, 1, (9.5, 3.6), time_range)
    _residual_panel(frame, 0, report)
    frame.finish(report.object_id)
    return save(frame.figure, path)


def window_figure(report: ScanReport, candidate: int = 0, path: str | Path | None = None) -> Figure:
    """Draw the window of a candidate: residuals, the fitted template and the flat model, a panel a data set.

    Parameters
    ----------
    report : ScanReport
    candidate : int
        Its place in ``report.candidates``.
    path : str or Path, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ParameterError
        If there is no such candidate.
    """
    if not 0 <= candidate < len(report.candidates):
        raise ParameterError(f"candidate {candidate}: there are {len(report.candidates)}, counted from 0")
    found = report.candidates[candidate]
    half = report.parameters.teff_coeff * found.teff
    models = report.window_models(candidate)
    figure = new_figure(7.5, 1.6 + 2.6 * len(models))
    colour = BUMP if found.sign > 0 else DIP
    shift = label_shift(found.t0)
    reach = 1.5 * half
    axes: list[Axes] = []
    for row, (place, model) in enumerate(models.items()):
        data = report.data_sets[place]
        axis = figure.add_subplot(len(models), 1, row + 1, sharex=axes[0] if axes else None)
        axes.append(axis)
        near = np.abs(data.time - found.t0) < reach
        scale, label = flux_label("residual flux", [data.residual[near]], report.flux_unit)
        times, values, errors = data.time[near] - shift, data.residual[near] / scale, data.error[near] / scale
        crowded = len(times) > CROWDED
        draw_points(axis, times, values, errors, data_colour(place), faint=crowded)
        if crowded:
            middle, mean, spread = binned(times, values, errors, BINS)
            axis.errorbar(
                middle, mean, yerr=spread, fmt="s", ms=4, lw=1.2, color=data_colour(place), mec="k",
                ecolor="k", zorder=4, label="means",
            )  # fmt: skip
        inside = np.linspace(found.t0 - half, found.t0 + half, 801)
        axis.plot(
            inside - shift,
            model.at(inside) / scale,
            color=colour,
            lw=2,
            zorder=6,
            label=f"template {found.template}",
        )
        ends = np.array([found.t0 - half, found.t0 + half]) - shift
        axis.plot(ends, [model.mean / scale] * 2, color=MODEL, lw=1.5, ls="--", zorder=5, label="flat")
        axis.axvspan(*ends, color="#000000", alpha=0.05, lw=0)
        axis.set_ylabel(label)
        axis.set_title(f"{data.name}: Δχ² = {model.dchi2:.1f}", fontsize="small", loc="left")
        make_room(axis, values, errors, model.at(inside) / scale)
        if row == 0:
            axis.legend(fontsize="small", loc="upper right")
    for axis in axes[:-1]:
        axis.tick_params(labelbottom=False)
    set_ticks(axes[-1], 7.0)
    axes[-1].set_xlim(found.t0 - reach - shift, found.t0 + reach - shift)
    axes[-1].set_xlabel(time_label(report.time_label, shift))
    figure.suptitle(": ".join(filter(None, (report.object_id, found.text()))), fontsize="medium")
    return save(figure, path)


def template_free_figure(
    report: TemplateFreeReport,
    path: str | Path | None = None,
    *,
    time_range: tuple[float, float] | None = None,
) -> Figure:
    """Draw residuals in units of their errors, with the stretches that the template-free scan found.

    Parameters
    ----------
    report : TemplateFreeReport
    path, time_range
        As in `scan_figure`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    frame = Frame(report, 2, (9.5, 6.0), time_range, heights=(3, 2))
    _flux_panel(frame, 0, report)
    for place, data in enumerate(report.data_sets):
        one = np.ones(len(data.time))
        frame.points(1, data.time, data.residual / data.error, one, place, [one] * len(report.data_sets))
    for rank, window in enumerate(report.windows):
        lead = rank == 0
        middle = 0.5 * (window.start + window.end)
        for axis, lo, hi in frame.axes(1):
            if window.end < lo or window.start > hi:
                continue
            axis.axvspan(
                window.start - frame.shift,
                window.end - frame.shift,
                color=BUMP,
                alpha=0.35 if lead else 0.15,
                lw=0.8,
            )
            if lead and lo <= middle <= hi:
                axis.plot(
                    middle - frame.shift,
                    1,
                    "v",
                    color=BUMP,
                    transform=axis.get_xaxis_transform(),
                    clip_on=False,
                )
    for axis, _, _ in frame.axes(1):
        axis.axhline(0, color=MODEL, lw=1)
    frame.label(1, "residual (errors)")
    frame.finish(": ".join(filter(None, (report.object_id, report.best.text() if report.best else ""))))
    return save(frame.figure, path)


def _flux_panel(frame: Frame, row: int, report: CurveReport) -> None:
    value = aligned(report)
    scale, label = (1.0, value.label) if value.label else flux_label("flux", value.flux, report.flux_unit)
    for place, data in enumerate(report.data_sets):
        name = f"{data.name} ({len(data.time)})"
        frame.points(
            row, data.time, value.flux[place] / scale, value.error[place] / scale, place, value.error, name
        )
    for time, model in value.smooth:
        frame.line(row, time, model / scale, color=MODEL, lw=1.4, zorder=5)
    frame.label(row, label)
    legend_above(frame, row)
    models = [model for _, model in value.smooth] or [np.zeros(1)]
    set_limits(frame, row, np.concatenate(value.flux) / scale, np.concatenate(models) / scale)


def _residual_panel(frame: Frame, row: int, report: CurveReport) -> None:
    value = aligned(report)
    scale, label = 1.0, value.residual_label
    if not label:
        scale, label = flux_label("residual flux", value.residual, report.flux_unit)
    for place, data in enumerate(report.data_sets):
        frame.points(
            row, data.time, value.residual[place] / scale, value.error[place] / scale, place, value.error
        )
    for axis, _, _ in frame.axes(row):
        axis.axhline(0, color=MODEL, lw=1, zorder=5)
    set_limits(frame, row, np.concatenate(value.residual) / scale, np.zeros(1))
    frame.label(row, label)


def _profile_panel(frame: Frame, row: int, report: ScanReport) -> None:
    """Bumps upwards, dips downwards, candidates as triangles."""
    from matplotlib.ticker import FuncFormatter

    time, bump, dip = profile(report)
    up, down = (max(float(np.nanmax(values, initial=0.0)), 10.0) for values in (bump, dip))
    for values, colour, name, side in ((bump, BUMP, "bumps", 1), (dip, DIP, "dips", -1)):
        frame.line(row, time, side * np.where(values == 0, np.nan, values), label=name, color=colour, lw=0.8)
    for rank, found in enumerate(report.candidates[:5]):
        colour, marker = (BUMP, "^") if found.sign > 0 else (DIP, "v")
        for axis, lo, hi in frame.axes(row):
            if lo <= found.t0 <= hi:
                axis.plot(
                    found.t0 - frame.shift, found.sign * found.dchi2, marker, color=colour,
                    ms=8 if rank == 0 else 5, mec="k", mew=0.8, zorder=6, clip_on=False,
                )  # fmt: skip
    first = frame.grid[row][0]
    if max(up, down) > 1000:
        first.set_yscale("symlog", linthresh=10)
        first.set_ylim(-4 * down, 4 * up)
    else:
        pad = 0.12 * (up + down)
        first.set_ylim(-down - pad, up + pad)
    first.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):g}"))
    for axis, _, _ in frame.axes(row):
        axis.axhline(0, color=MODEL, lw=0.6)
    frame.label(row, "Δχ², largest over teff")
    legend_above(frame, row)
