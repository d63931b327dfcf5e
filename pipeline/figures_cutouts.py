"""The gallery of candidates: triplets of exposure, reference and difference, with what is known of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.errors import ParameterError
from skytrawl.figures import new_figure
from skytrawl.figures_frame import BUMP
from skytrawl.figures_scan import save
from skytrawl.figures_sky import bar, colour_map, common_scale, round_below, symmetric_scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from skytrawl.catalogs.images.store import FrameStore

_ACROSS = 3


def plot_cutouts(
    candidates: str | Path,
    path: str | Path | None = None,
    *,
    rows: Sequence[int] | np.ndarray | None = None,
    top: int = 12,
    across: int = _ACROSS,
) -> Figure:
    """Draw the cutouts of candidates as triplets: exposure, reference, difference.

    Exposure and reference of a triplet have one asinh scale; the difference is linear, zero in the middle,
    and its corner tells what the ends of the scale stand for.

    Parameters
    ----------
    candidates : path
        What `skytrawl run detect` wrote, with cutouts.
    path : path, optional
        Image file; the suffix chooses the format.
    rows : sequence of int, optional
        Rows of the candidates as :func:`skytrawl.open_candidates` has them; by default the `top` with the
        largest |score|.
    top : int
    across : int
        Triplets beside each other.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ParameterError
        If there are no candidates, no such rows, or the run made no cutouts.
    """
    from skytrawl.catalogs.images.candidates import read_catalogue
    from skytrawl.catalogs.images.current import open_frames

    columns = read_catalogue(candidates)["candidates"]
    n = len(columns.get("x", ()))
    if not n:
        raise ParameterError(f"{candidates} holds no candidate: there is nothing to draw")
    if rows is None:
        rows = np.argsort(-np.abs(columns["score"]), kind="stable")[:top]
    chosen = np.asarray(rows, np.int64)
    if not len(chosen) or chosen.min() < 0 or chosen.max() >= n:
        raise ParameterError(f"rows {chosen.tolist()}: {candidates} has candidates 0 to {n - 1}")
    store = open_frames(candidates)
    scales = _pixel_scales(store)
    across = max(1, min(across, len(chosen)))
    down = -(-len(chosen) // across)
    figure = new_figure(4.7 * across, 1.95 * down + 0.5)
    grid = figure.subfigures(down, across, squeeze=False)
    calibrated = True
    for place, row in enumerate(chosen.tolist()):
        frame = columns["exposure"][row].decode()
        stamps, unit = _stamps(store, frame, int(columns["row"][row]))
        calibrated &= unit == "nJy"
        part = grid[place // across, place % across]
        _triplet(part, stamps, unit, scales.get(frame, math.nan), names=place < across)
        part.suptitle(_caption(columns, row, place + 1), fontsize="small", x=0.02, ha="left")
    scale = "one asinh scale for exposure and reference; difference linear, zero white, ends in its corner"
    figure.supxlabel(f"{scale} ({'nJy' if calibrated else 'image units'} / pixel)", fontsize="small")
    return save(figure, path)


def _stamps(store: FrameStore, frame: str, row: int) -> tuple[np.ndarray, str]:
    """Float32[3, size, size], NaN where masked, and the unit."""
    from skytrawl.kernels import flags

    record = store.record(frame)
    if "cutouts" not in record["arrays"]:
        raise ParameterError(f"{store.path} has no cutouts: run detect with --cutout 63 or another size")
    planes = [store.plane(frame, name) for name in ("cutouts", "cutout_mask")]
    windows = [(slice(row, row + 1), *(slice(0, side) for side in plane.shape[1:])) for plane in planes]
    images, bits = (
        store.read_plane(frame, name, plane, window)[0]
        for name, plane, window in zip(("cutouts", "cutout_mask"), planes, windows, strict=True)
    )
    unusable = (bits & flags.UNUSABLE) != 0
    stamps = np.where(unusable & (np.arange(3) == 2)[:, None, None], np.float32(np.nan), images)
    return stamps, "nJy" if record["row"].get("njy_per_unit") else "image units"


def _triplet(part: Any, stamps: np.ndarray, unit: str, pixel_scale: float, *, names: bool) -> None:
    axes = part.subplots(1, 3)
    grey, two_sided = common_scale(stamps[0], stamps[1]), symmetric_scale(stamps[2])
    size = stamps.shape[-1]
    for k, (axis, name) in enumerate(zip(axes, ("exposure", "reference", "difference"), strict=True)):
        colours = colour_map("Greys" if k < 2 else "RdBu_r")
        axis.imshow(stamps[k], origin="lower", norm=grey if k < 2 else two_sided, cmap=colours)
        axis.set_xticks([])
        axis.set_yticks([])
        middle = size // 2
        # A cross with a free centre, so that the source itself stays visible.
        gap, arm = 0.1 * size, 0.2 * size
        for dx, dy in ((1, 0), (0, 1)):
            axis.plot(
                [middle + dx * gap, middle + dx * arm],
                [middle + dy * gap, middle + dy * arm],
                color=BUMP,
                lw=1.0,
            )
        if names:
            axis.set_title(name, fontsize="small", pad=2)
    end = f"±{_number(float(two_sided.vmax or 1.0))}"
    axes[2].text(
        0.96, 0.04, end, transform=axes[2].transAxes, ha="right", va="bottom",
        fontsize="x-small", bbox={"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 1},
    )  # fmt: skip
    if math.isfinite(pixel_scale):
        length = round_below(0.35 * size * pixel_scale)
        bar(axes[0], length / pixel_scale / size, f"{length:g}″")
    else:
        length = round_below(0.35 * size)
        bar(axes[0], length / size, f"{length:g} px")


def _number(value: float) -> str:
    """Three digits without an exponent, thousands apart."""
    digits = max(0, 2 - math.floor(math.log10(value)))
    return f"{round(value, 2 - math.floor(math.log10(value))):,.{digits}f}".replace(",", "\u2009")


def _caption(columns: dict[str, np.ndarray], row: int, rank: int) -> str:
    """Rank, score, flux and time of a candidate."""
    flux, error = (float(columns[name][row]) for name in ("flux_njy", "flux_njy_error"))
    unit = "nJy"
    if not math.isfinite(flux):
        flux, error, unit = float(columns["flux"][row]), float(columns["flux_error"][row]), "units"
    digits = max(0, 1 - math.floor(math.log10(error))) if error > 0 else 0
    parts = (
        f"{rank}: $S_{{corr}}$ {columns['score'][row]:+.1f}",
        f"{flux:+.{digits}f} ± {error:.{digits}f} {unit}".replace("-", "−"),
        f"MJD {columns['mjd'][row]:.4f}"
        + (f" {columns['band'][row].decode()}" if columns["band"][row] else ""),
    )
    return "   ".join(parts).replace("-", "−")


def _pixel_scales(store: FrameStore) -> dict[str, float]:
    """Pixel scale [arcsec] of each frame, from the difference images; empty where these are gone."""
    from skytrawl.catalogs.images.current import open_frames
    from skytrawl.errors import NotAnArchiveError

    try:
        differences = open_frames(store.attrs["source"], int(store.attrs["source_version"]))
    except NotAnArchiveError:
        return {}
    return dict(zip(differences.ids, differences.table["pixel_scale"].tolist(), strict=True))
