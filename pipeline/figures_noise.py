"""Pictures of statistics: the distribution of S_corr against a unit Gaussian, completeness against SNR."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.errors import ParameterError
from skytrawl.figures import new_figure
from skytrawl.figures_frame import BUMP, DATA_SETS, DIP
from skytrawl.figures_scan import save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEP, REACH = 0.2, 12.0
EDGES = np.round(np.arange(-REACH, REACH + STEP / 2, STEP), 6)
_MANY = 8


def plot_noise(
    differences: str | Path, frames: str | list[str] | None = None, path: str | Path | None = None
) -> Figure:
    """Draw the distribution of S_corr over the usable pixels of difference images.

    Above the histogram with a logarithmic axis and the Gaussian of width 1 that perfect noise would follow,
    below the ratio of the two; for several frames also the scatter of S_corr of each.

    Parameters
    ----------
    differences : path
        What `skytrawl run difference` wrote.
    frames : str or list of str, optional
        Ids; by default all that were not refused.
    path : path, optional
        Image file; the suffix chooses the format.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from skytrawl.catalogs.images.table import row_of
    from skytrawl.image_views import first_usable, good_scores, open_differences, usable

    store = open_differences(differences)
    first_usable(store)  # raises where all were refused
    names = [frames] if isinstance(frames, str) else list(frames or usable(store))
    # Counts alone are kept, so that the number of frames does not matter.
    counts = {name: _counts(good_scores(store, name)) for name in names}
    several = len(names) > 1
    figure = new_figure(10.5 if several else 6.2, 5.4)
    grid = figure.add_gridspec(
        2, 2 if several else 1, height_ratios=(3, 1), width_ratios=(1.6, 1) if several else None
    )
    above = figure.add_subplot(grid[0, 0])
    below = figure.add_subplot(grid[1, 0], sharex=above)
    _draw_counts(above, counts)
    above.tick_params(labelbottom=False)
    above.set_title(names[0] if not several else f"{len(names)} difference images", fontsize="medium")
    _ratio(below, _summed(counts))
    below.set_xlabel("$S_{corr}$ (sigma)")
    if several:
        rows = [row_of(store.table, store.row_number(name)) for name in names]
        _by_frame(figure.add_subplot(grid[:, 1]), rows)
    return save(figure, path)


def draw_noise(axis: Axes, scores: Mapping[str, np.ndarray], *, label_x: bool = True) -> None:
    """Draw histograms of S_corr with a logarithmic axis, and the Gaussian of width 1.

    Parameters
    ----------
    axis : matplotlib Axes
    scores : mapping of name to float array, sigma
    label_x : bool
    """
    _draw_counts(axis, {name: _counts(values) for name, values in scores.items()})
    if label_x:
        axis.set_xlabel("$S_{corr}$ (sigma)")


def plot_completeness(
    tables: Mapping[str, np.ndarray] | Mapping[str, Mapping[str, np.ndarray]],
    path: str | Path | None = None,
    *,
    threshold: float = 5.0,
    purity: bool = True,
) -> Figure:
    """Draw completeness, and purity, against signal-to-noise.

    Parameters
    ----------
    tables : mapping
        What :func:`skytrawl.catalogs.simulate_images.completeness.completeness` gives, or several by name.
    path : path, optional
        Image file; the suffix chooses the format.
    threshold : float, sigma
        Of the detection. A source of signal-to-noise s has a measured one of s with an error of 1, so that
        it is expected to pass with the probability Phi(s - threshold), the dashed line.
    purity : bool
        Whether a panel of purity is drawn.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ParameterError
        If a table lacks its columns.
    """
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    named: Mapping[str, Any] = {"": tables} if "completeness" in tables else tables
    for name, table in named.items():
        lacking = [c for c in ("low", "high", "injected", "completeness", "purity") if c not in table]
        if lacking:
            raise ParameterError(f"table {name!r} lacks {', '.join(lacking)}: make it with completeness()")
    quantities = ("completeness", "purity") if purity else ("completeness",)
    figure = new_figure(6.2, 3.6 * len(quantities) + 0.4)
    axes: Any = figure.subplots(len(quantities), 1, sharex=True, squeeze=False)[:, 0]
    for axis, quantity in zip(axes, quantities, strict=True):
        total = "injected" if quantity == "completeness" else "candidates"
        for place, (name, table) in enumerate(named.items()):
            colour = DIP if len(named) == 1 else (DIP, BUMP, *DATA_SETS)[place % (2 + len(DATA_SETS))]
            text = f"{name or 'measured'} ({int(np.sum(table[total]))} {total})"
            _shares(axis, table, quantity, total, colour, text)
        axis.set_ylim(-0.04, 1.04)
        axis.set_ylabel(quantity)
        axis.grid(alpha=0.25, lw=0.6)
    low, high = _range(named)
    snr = np.geomspace(low, high, 400)
    axes[0].plot(snr, _phi(snr - threshold), "k--", lw=1.1, label="Gaussian noise of width 1")
    for axis in axes:
        axis.axvline(threshold, color="0.4", lw=0.8, ls=":", label=f"threshold, {threshold:g} sigma")
        axis.legend(loc="lower right", fontsize="small")
    axes[-1].set_xscale("log")
    axes[-1].set_xlim(low, high)
    axes[-1].xaxis.set_major_formatter(ScalarFormatter())
    axes[-1].xaxis.set_minor_formatter(NullFormatter())
    axes[-1].set_xticks([t for t in (1, 2, 3, 5, 7, 10, 20, 50, 100) if low <= t <= high])
    axes[-1].set_xlabel(
        "signal-to-noise" + (" (of completeness true, of purity measured)" if purity else ", true")
    )
    return save(figure, path)


def _counts(scores: np.ndarray) -> tuple[np.ndarray, int, int, float]:
    """Pixels in bins (the outermost hold all beyond), beyond +5 and -5, and the scaled MAD."""
    found = np.histogram(np.clip(scores, -REACH + STEP / 2, REACH - STEP / 2), EDGES)[0]
    middle = float(np.median(scores)) if len(scores) else math.nan
    mad = 1.4826 * float(np.median(np.abs(scores - middle))) if len(scores) else math.nan
    return found, int((scores > 5).sum()), int((scores < -5).sum()), mad


def _summed(counts: Mapping[str, tuple[np.ndarray, int, int, float]]) -> np.ndarray:
    total: np.ndarray = np.sum([each[0] for each in counts.values()], axis=0)
    return total


def _draw_counts(axis: Axes, counts: Mapping[str, tuple[np.ndarray, int, int, float]]) -> None:
    total = _summed(counts)
    n = int(total.sum())
    if len(counts) > 1:
        for place, (found, *_) in enumerate(counts.values()):
            name = "single frames" if place == 0 else None
            axis.stairs(found, EDGES, color="0.65", lw=0.6, label=name)
    axis.stairs(total, EDGES, color=DIP, lw=1.4, fill=False, label=f"{n:,} pixels".replace(",", "\u2009"))
    x = np.linspace(-REACH, REACH, 600)
    axis.plot(
        x, n * STEP * np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi), "k--", lw=1.1, label="Gaussian, width 1"
    )
    for at in (-5, 5):
        axis.axvline(at, color="0.4", lw=0.8, ls=":")
    above, below = (sum(each[k] for each in counts.values()) for k in (1, 2))
    mad = float(np.median([each[3] for each in counts.values()]))
    text = f"scatter {mad:.3f}\nabove +5: {above}\nbelow −5: {below}"
    axis.text(0.02, 0.97, text, transform=axis.transAxes, va="top", fontsize="small")
    axis.set_yscale("log")
    axis.set_ylim(0.5, max(n * STEP, 10) * 6)
    axis.set_xlim(-REACH, REACH)
    axis.set_ylabel(f"pixels per {STEP:g} sigma")
    axis.legend(loc="upper right", fontsize="small", frameon=False)


def _ratio(axis: Axes, total: np.ndarray) -> None:
    """Observed over expected counts where 20 are expected at least."""
    expected = total.sum() * np.diff(_phi(EDGES))
    centre = (EDGES[1:] + EDGES[:-1]) / 2
    some = expected >= 20
    if some.any():
        axis.plot(centre[some], total[some] / expected[some], "o", ms=2.5, color=DIP)
    axis.axhline(1.0, color="k", lw=0.9, ls="--")
    axis.set_ylim(0, 2)
    axis.set_ylabel("ratio")


def _by_frame(axis: Axes, rows: list[dict[str, Any]]) -> None:
    """Scatter of S_corr of each frame over time, or by number where times are missing."""
    from skytrawl.images.quality import MAD_RANGE

    mad = np.array([row["mad_scorr"] for row in rows], float)
    mjd = np.array([row.get("mjd", math.nan) for row in rows], float)
    timed = np.isfinite(mjd).all()
    x = mjd if timed else np.arange(len(rows))
    good = np.array([row["verdict"] == "good" for row in rows])
    axis.axhspan(*MAD_RANGE, color="0.92", zorder=0, label="accepted")
    axis.axhline(1.0, color="k", lw=0.9, ls="--")
    for which, colour, shape, name in ((good, DIP, "o", "good"), (~good, BUMP, "X", "poor")):
        if which.any():
            axis.plot(x[which], mad[which], shape, ms=5, color=colour, label=f"{name} ({which.sum()})")
    top = float(np.nanmax(mad, initial=MAD_RANGE[1]))
    axis.set_ylim(min(0.6, float(np.nanmin(mad, initial=1.0)) - 0.05), top * 1.08)
    axis.set_ylabel("scatter of $S_{corr}$ (1.4826 MAD)")
    axis.set_xlabel("MJD (d)" if timed else "frame")
    axis.ticklabel_format(axis="x", useOffset=False)
    axis.locator_params(axis="x", nbins=4)
    axis.set_title("by difference image", fontsize="medium")
    axis.legend(fontsize="small")


def _phi(x: np.ndarray) -> np.ndarray:
    """The normal distribution function."""
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in np.ravel(x)]).reshape(np.shape(x))


def _sides(table: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Borders of the bins, those at 0 and infinity a factor of 2 from the other one."""
    low, high = np.asarray(table["low"], float), np.asarray(table["high"], float)
    return np.where(low > 0, low, high / 2), np.where(np.isfinite(high), high, low * 2)


def _range(tables: Mapping[str, Mapping[str, np.ndarray]]) -> tuple[float, float]:
    """Signal-to-noise from the lowest to the highest bin that holds anything."""
    lows, highs = [], []
    for table in tables.values():
        some = (np.asarray(table["injected"]) > 0) | (np.asarray(table["candidates"]) > 0)
        low, high = _sides(table)
        lows.append(low[some].min(initial=4.0))
        highs.append(high[some].max(initial=8.0))
    return float(min(lows)), float(max(highs))


def _shares(
    axis: Axes, table: Mapping[str, np.ndarray], quantity: str, total: str, colour: str, label: str
) -> None:
    """Shares of the bins that hold anything, with their binomial errors."""
    some = np.asarray(table[total]) > 0
    low, high = (side[some] for side in _sides(table))
    share = np.asarray(table[quantity])[some]
    errors = np.stack([share - table[f"{quantity}_low"][some], table[f"{quantity}_high"][some] - share])
    middle = np.sqrt(low * high)
    axis.errorbar(
        middle, share, yerr=np.maximum(errors, 0), xerr=(middle - low, high - middle), fmt="o", ms=4, lw=1,
        color=colour, label=label, capsize=2,
    )  # fmt: skip
