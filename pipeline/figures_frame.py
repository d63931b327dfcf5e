"""What pictures of light curves share: rows of panels over one axis of time, points, limits and labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from skytrawl.scan_records import Candidate
    from skytrawl.scan_report import CurveReport

BUMP, DIP, MODEL = "#D55E00", "#0072B2", "#000000"
DATA_SETS = ("#7A7A7A", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#B8A800")
# Above so many points in a panel error bars are a grey area: points alone are drawn.
MANY = 1500
SPANS = 8


class Frame:
    """Rows of panels over one axis of time, cut into spans where long gaps would take most of the width."""

    def __init__(
        self,
        report: CurveReport,
        rows: int,
        size: tuple[float, float],
        time_range: tuple[float, float] | None,
        heights: Sequence[float] | None = None,
    ) -> None:
        self.spans = [time_range] if time_range else spans_of(report)
        self.shift = label_shift(self.spans[0][0])
        self.time_label = time_label(report.time_label, self.shift)
        shown = [
            np.count_nonzero((data.time >= lo) & (data.time <= hi))
            for data in report.data_sets
            for lo, hi in self.spans
        ]
        self.many = sum(shown) > MANY
        self.figure = new_figure(*size)
        if len(self.spans) > 1:
            self.figure.get_layout_engine().set(w_pad=0.02, wspace=0.0)  # type: ignore[union-attr,call-arg]
        total = sum(hi - lo for lo, hi in self.spans)
        widths = [max(hi - lo, 0.06 * total) for lo, hi in self.spans]
        grid = self.figure.add_gridspec(rows, len(self.spans), width_ratios=widths, height_ratios=heights)
        self.grid: list[list[Axes]] = []
        for row in range(rows):
            line: list[Axes] = []
            for column, (lo, hi) in enumerate(self.spans):
                axis = self.figure.add_subplot(
                    grid[row, column],
                    sharex=self.grid[0][column] if row else None,
                    sharey=line[0] if column else None,
                )
                axis.set_xlim(lo - self.shift, hi - self.shift)
                axis.tick_params(labelbottom=row == rows - 1, labelleft=column == 0, left=column == 0)
                axis.spines["left"].set_visible(column == 0)
                axis.spines["right"].set_visible(column == len(self.spans) - 1)
                set_ticks(axis, widths[column] / sum(widths) * size[0])
                line.append(axis)
            self.grid.append(line)

    def axes(self, row: int) -> list[tuple[Axes, float, float]]:
        """Axes of a row with the times that they show."""
        return [(axis, lo, hi) for axis, (lo, hi) in zip(self.grid[row], self.spans, strict=True)]

    def points(
        self,
        row: int,
        time: np.ndarray,
        value: np.ndarray,
        error: np.ndarray,
        place: int,
        errors: Sequence[np.ndarray],
        label: str = "",
    ) -> None:
        """Draw the points of a data set into the spans of a row; the more precise lie above."""
        typical = [float(np.median(each)) if len(each) else 0.0 for each in errors]
        above = 2 + sum(other > typical[place] for other in typical) / (1 + len(typical))
        for column, (axis, lo, hi) in enumerate(self.axes(row)):
            here = (time >= lo) & (time <= hi)
            bars = None if self.many else error[here]
            name = label if column == 0 else ""
            draw_points(axis, time[here] - self.shift, value[here], bars, data_colour(place), name, above)

    def line(self, row: int, time: np.ndarray, value: np.ndarray, label: str = "", **style: Any) -> None:
        """Draw a line into the spans of a row."""
        for column, (axis, lo, hi) in enumerate(self.axes(row)):
            here = (time >= lo) & (time <= hi)
            name = label if column == 0 and label else None
            axis.plot(time[here] - self.shift, value[here], label=name, **style)

    def mark(self, found: Candidate | None) -> None:
        """Mark the time of a candidate in every row."""
        if found is not None:
            for row in range(len(self.grid)):
                for axis, lo, hi in self.axes(row):
                    if lo <= found.t0 <= hi:
                        colour = BUMP if found.sign > 0 else DIP
                        axis.axvline(found.t0 - self.shift, color=colour, lw=0.8, ls=":", zorder=1)

    def label(self, row: int, text: str) -> None:
        """Name the values of a row."""
        self.grid[row][0].set_ylabel(text)

    def finish(self, title: str) -> None:
        """Title, label of the times, marks where the axis is cut."""
        self.figure.suptitle(title, fontsize="medium")
        for line in self.grid:
            line[0].figure.align_ylabels([row[0] for row in self.grid])
            for left, right in pairwise(line):
                style: dict[str, Any] = {
                    "marker": [(-0.5, -1), (0.5, 1)],
                    "ms": 7,
                    "ls": "none",
                    "color": "k",
                    "clip_on": False,
                }
                left.plot([1, 1], [0, 1], transform=left.transAxes, **style)
                right.plot([0, 0], [0, 1], transform=right.transAxes, **style)
        if len(self.spans) == 1:
            self.grid[-1][0].set_xlabel(self.time_label)
        else:
            self.figure.supxlabel(self.time_label, fontsize="medium")


def draw_points(
    axis: Axes,
    time: np.ndarray,
    value: np.ndarray,
    error: np.ndarray | None,
    colour: str,
    label: str = "",
    above: float = 2.0,
    *,
    faint: bool = False,
) -> None:
    """Points with their error bars, or faint ones; without errors small points alone."""
    if error is not None:
        axis.errorbar(
            time, value, yerr=error, fmt="o", ms=2.5 if faint else 3.5, lw=0.6 if faint else 0.8,
            color=colour, label=label or None, zorder=above, alpha=0.35 if faint else 0.8,
        )  # fmt: skip
    else:
        size = 1.5 if len(time) > MANY else 2.5
        axis.plot(
            time, value, "o", ms=size, mew=0, color=colour, alpha=0.6, label=label or None, rasterized=True,
            zorder=above,
        )  # fmt: skip


def binned(
    time: np.ndarray, value: np.ndarray, error: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted means of equal stretches of time that hold rows: time, value, error of each."""
    edges = np.linspace(time.min(), time.max(), bins + 1)
    place = np.clip(np.searchsorted(edges, time, side="right") - 1, 0, bins - 1)
    w = 1.0 / np.square(error)
    total = np.bincount(place, w, bins)
    some = total > 0
    middle, mean = (np.bincount(place, w * each, bins)[some] / total[some] for each in (time, value))
    return middle, mean, 1.0 / np.sqrt(total[some])


def set_limits(frame: Frame, row: int, value: np.ndarray, model: np.ndarray) -> None:
    """A range that holds the model and all points but the wildest of a thousand."""
    if not len(value):
        return
    low, high = np.quantile(value, (0.001, 0.999))
    low, high = min(low, float(model.min())), max(high, float(model.max()))
    inside = value[(value >= low) & (value <= high)]
    pad = 0.1 * (high - low) or 1.0
    # Where nearly everything lies inside, the rest may as well be seen.
    if value.max() < high + 3 * pad:
        high = max(high, float(value.max()))
    if value.min() > low - 3 * pad:
        low = min(low, float(value.min()))
    if len(inside):
        frame.grid[row][0].set_ylim(low - pad, high + pad)


def make_room(axis: Axes, value: np.ndarray, error: np.ndarray, model: np.ndarray) -> None:
    """Limits that hold points (of many, nearly all), the model, and error bars that are not long."""
    if len(value):
        low, high = np.quantile(value, (0.005, 0.995)) if len(value) > 200 else (value.min(), value.max())
        low, high = min(float(low), float(model.min())), max(float(high), float(model.max()))
        most = 0.4 * (high - low) or float(error.max())
        bars = max(low - most, float((value - error).min())), min(high + most, float((value + error).max()))
        pad = 0.04 * (high - low)
        axis.set_ylim(min(low, bars[0]) - pad, max(high, bars[1]) + pad)


def legend_above(frame: Frame, row: int) -> None:
    """A legend that covers no data: in a line above the panel."""
    shown, names = frame.grid[row][0].get_legend_handles_labels()
    if names:
        legend = frame.grid[row][0].legend(
            shown, names, fontsize="small", ncols=len(names), loc="lower left", bbox_to_anchor=(0, 1.0),
            borderaxespad=0.1, frameon=False, handletextpad=0.3, columnspacing=1.2,
        )  # fmt: skip
        handles: list[Any] = list(legend.legend_handles)
        for handle in handles:
            if hasattr(handle, "set_markersize"):
                handle.set_markersize(4)
                handle.set_alpha(1)
            if hasattr(handle, "set_linewidth"):
                handle.set_linewidth(1.5)


def data_colour(place: int) -> str:
    """Colour of a data set by its place."""
    return DATA_SETS[place % len(DATA_SETS)]


def flux_label(what: str, flux: Sequence[np.ndarray], unit: str) -> tuple[float, str]:
    """A power of ten that makes the numbers readable, and a label with it and the unit."""
    size = float(np.quantile(np.abs(np.concatenate(flux)), 0.99)) if len(flux) and len(flux[0]) else 1.0
    unit = unit or "input units"
    if size == 0 or 1e-2 <= size < 1e4:
        return 1.0, f"{what}\n({unit})"
    power = int(np.floor(np.log10(size)))
    return 10.0**power, f"{what}\n(10$^{{{power}}}$ {unit})"


def label_shift(time: float) -> float:
    """What is taken off full Julian dates, so that the labels are short."""
    return float(np.floor(time / 1000) * 1000) if abs(time) >= 1e5 else 0.0


def time_label(label: str, shift: float) -> str:
    """Label of an axis of times."""
    return f"{label} − {shift:.0f} (d)" if shift else f"{label} (d)"


def set_ticks(axis: Axes, inches: float) -> None:
    """Few round ticks, without an offset."""
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    axis.xaxis.set_major_locator(
        MaxNLocator(nbins=max(2, int(inches / 0.75)), steps=[1, 2, 5, 10], min_n_ticks=1)
    )
    formatter = ScalarFormatter(useOffset=False)
    formatter.set_scientific(False)
    axis.xaxis.set_major_formatter(formatter)


def spans_of(report: CurveReport) -> list[tuple[float, float]]:
    """Stretches of time to show: the seasons where gaps take a third of it and these are few, else one."""
    time = np.sort(report.curves.time)
    if not len(time):
        return [(0.0, 1.0)]
    breaks = np.flatnonzero(np.diff(time) > report.parameters.gap)
    starts, ends = time[np.append(0, breaks + 1)], time[np.append(breaks, len(time) - 1)]
    whole = float(time[-1] - time[0])
    if 1 < len(starts) <= SPANS and np.sum(starts[1:] - ends[:-1]) > whole / 3:
        pad = 0.03 * float(np.max(ends - starts))
        return [(float(a) - pad, float(b) + pad) for a, b in zip(starts, ends, strict=True)]
    pad = 0.02 * whole or 1.0
    return [(float(time[0]) - pad, float(time[-1]) + pad)]
