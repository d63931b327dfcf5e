"""The report on difference images: verdicts, every measure of quality against its gate, the worst frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.image_report_columns import column, median, plain, verdicts, words
from skytrawl.image_report_parts import Drawing, ReportTable
from skytrawl.images.quality import MAD_RANGE, MOST_FOOTPRINT_MEAN, MOST_FOOTPRINT_STD, MOST_STARS_BEYOND

if TYPE_CHECKING:
    from skytrawl.catalogs.images.store import FrameStore

# What the verdict good asks for.
GATES = {
    "mad_scorr": MAD_RANGE,
    "footprint_mean": (0.0, MOST_FOOTPRINT_MEAN),
    "footprint_std": (0.0, MOST_FOOTPRINT_STD),
    "stars_beyond_5": (0.0, MOST_STARS_BEYOND),
}


def differences(store: FrameStore, worst: int) -> tuple[dict[str, Any], list[ReportTable], list[Drawing]]:
    """Facts and tables of difference images: verdicts, every measure of quality, the worst frames."""
    from skytrawl.catalogs.images.quality_columns import COLUMNS

    counts, reasons = verdicts(store)
    names = ("measure", "unit", "frames", "least", "median", "largest", "accepted", "beyond")
    measures: dict[str, list[Any]] = {name: [] for name in (*names, "frame of the largest", "meaning")}
    for name, (unit, meaning) in COLUMNS.items():
        values = column(store, name)
        known = np.flatnonzero(np.isfinite(values))
        if not len(known):
            continue
        numbers = [float(v) for v in np.quantile(values[known], (0, 0.5, 1))]
        at = store.ids[known[np.argmax(values[known])]]
        low, high = GATES.get(name, (None, None))
        beyond = int(((values < low) | (values > high)).sum()) if high is not None else None
        accepted = "" if high is None else (f"{low:g} to {high:g}" if low else f"up to {high:g}")
        cells = [name, unit, len(known), *numbers, accepted, beyond, at, meaning]
        for key, value in zip(measures, cells, strict=True):
            measures[key].append(value)
    attrs = store.attrs.get("parameters", {})
    pixels = column(store, "n_good")
    facts = {
        "difference images": len(store),
        "verdicts": counts,
        "mode": attrs.get("mode"),
        "pixels with a difference": int(np.nansum(pixels)),
        "beyond +5 and −5 sigma": [int(np.nansum(column(store, name))) for name in ("above_5", "below_5")],
        "median noise of the score (S_corr; 1 is right)": median(column(store, "mad_scorr")),
        "median limit (mag, 5 sigma)": median(column(store, "limit")),
    }
    tables = [reasons, ReportTable("Measures of quality", measures), _worst(store, worst)]
    return facts, tables, _difference_drawings(store)


def _worst(store: FrameStore, most: int) -> ReportTable:
    """Frames that were refused, then the poor, then those whose noise is farthest from 1."""
    mad = column(store, "mad_scorr")
    word = words(store, "verdict")
    rank = np.array([{"refused": 0, "poor": 1}.get(each, 2) for each in word], int)
    away = np.where(np.isfinite(mad), np.abs(np.log(np.maximum(mad, 1e-3))), np.inf)
    order = np.lexsort((np.arange(len(mad)), -away, rank))[:most]
    shown = {
        "noise of the score": mad,
        "beyond +5": column(store, "above_5"),
        "beyond -5": column(store, "below_5"),
        "stars beyond 5": column(store, "stars_beyond_5"),
        "left of stars": column(store, "footprint_mean"),
        "masked": column(store, "masked"),
        "limit (mag)": column(store, "limit"),
    }
    table: dict[str, list[Any]] = {"frame": [store.ids[row] for row in order]}
    table["verdict"] = [word[row] for row in order]
    for name, values in shown.items():
        table[name] = [plain(values[row], whole=name.startswith("beyond")) for row in order]
    table["reason"] = [words(store, "reason")[row] for row in order]
    return ReportTable("Worst frames", table)


def _difference_drawings(store: FrameStore) -> list[Drawing]:
    from skytrawl.figures_images import plot_difference
    from skytrawl.figures_noise import plot_noise
    from skytrawl.image_views import first_usable, usable

    names = usable(store)
    if not names:
        return []
    mad = dict(zip(store.ids, np.abs(np.log(np.maximum(column(store, "mad_scorr"), 1e-3))), strict=True))
    worst = max(names, key=lambda name: (np.nan_to_num(mad[name]), name))
    found: list[Drawing] = [("noise.png", lambda path: plot_noise(store.path, None, path))]
    for title, name in (("typical", first_usable(store)), ("worst", worst)):
        found.append((f"{title}.png", lambda path, name=name: plot_difference(store.path, name, path)))  # type: ignore[misc]
    return found
