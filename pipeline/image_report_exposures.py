"""The report on exposures: which metadata they have, the ranges of what was measured, what was left out."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.figures import new_figure
from skytrawl.figures_frame import DATA_SETS
from skytrawl.image_report_columns import column, median, ranges, words
from skytrawl.image_report_parts import Drawing, ReportTable

if TYPE_CHECKING:
    from skytrawl.catalogs.images.store import FrameStore


def exposures(store: FrameStore, worst: int) -> tuple[dict[str, Any], list[ReportTable], list[Drawing]]:
    """Facts, tables and figures of a store of exposures."""
    from skytrawl.console import human_bytes
    from skytrawl.images.ingest import quarantined

    mjd = column(store, "mjd")
    timed = mjd[np.isfinite(mjd)]
    left_out = quarantined(store.path)
    measures = measured(store)
    facts = {
        "images": len(store),
        "exposures": len(set(words(store, "exposure")) - {""}),
        "header maps": dict(Counter(words(store, "survey"))),
        "fields": len(set(words(store, "field")) - {""}),
        "bands": dict(sorted(Counter(words(store, "band")).items())),
        "first and last (MJD, d)": [float(timed.min()), float(timed.max())] if len(timed) else None,
        "nights": len(np.unique(np.floor(timed))),
        "pixels": int(np.nansum(column(store, "width") * column(store, "height"))),
        "size": human_bytes(float(np.nansum(column(store, "nbytes")))),
        "left out": len(left_out),
    }
    notes: Counter[str] = Counter()
    present, doubtful = _completeness(store, notes)
    tables = [
        present,
        ranges("Ranges", measures),
        _by_band(store, measures),
        doubtful,
        ReportTable(
            "Left out", {"file or image": list(left_out), "reason": [left_out[name] for name in left_out]}
        ),
    ]
    drawings: list[Drawing] = []
    if any(np.isfinite(values).any() for values in measures.values()):
        drawings.append(("exposures.png", lambda path: _draw(store, measures, path)))
    return facts, tables, drawings


def measured(store: FrameStore) -> dict[str, np.ndarray]:
    """Seeing, sky, depth and the like of each exposure, float64; NaN where not known.

    The depth is that of 5 sigma of a Gaussian PSF on the sky alone, whose flux has the error
    sky_sigma sqrt(4 pi) FWHM / 2.3548 (the noise area of a Gaussian, King 1983, PASP 95, 163).
    """
    fwhm, sigma, njy = (column(store, name) for name in ("fwhm", "sky_sigma", "njy_per_unit"))
    error = sigma * math.sqrt(4 * math.pi) * fwhm / 2.3548 * njy
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.where(error > 0, 31.4 - 2.5 * np.log10(5 * error), np.nan)
    return {
        "FWHM (px)": fwhm,
        "FWHM (arcsec)": fwhm * column(store, "pixel_scale"),
        "sky (image units)": column(store, "sky"),
        "noise of the sky (image units)": sigma,
        "noise of the sky (nJy)": sigma * njy,
        "depth (mag, 5 sigma)": depth,
        "zero point (mag)": column(store, "zero_point"),
        "exposure time (s)": column(store, "exptime"),
        "pixel scale (arcsec)": column(store, "pixel_scale"),
        "usable pixels (share)": column(store, "usable"),
        "stars": column(store, "n_stars"),
        "stars of the PSF": column(store, "n_psf_stars"),
        "error of the PSF (share)": column(store, "psf_error"),
    }


def _completeness(store: FrameStore, notes: Counter[str]) -> tuple[ReportTable, ReportTable]:
    """How many images have each piece of metadata, and the notes that were made on them."""
    n = len(store)
    have = {
        "time (MJD)": int(np.isfinite(column(store, "mjd")).sum()),
        "exposure time": int((column(store, "exptime") > 0).sum()),
        "band": sum(map(bool, words(store, "band"))),
        "field": sum(map(bool, words(store, "field"))),
        "zero point": int(np.isfinite(column(store, "njy_per_unit")).sum()),
        "gain": int(np.isfinite(column(store, "gain")).sum()),
        "read noise": int(np.isfinite(column(store, "read_noise")).sum()),
        "saturation": int(np.isfinite(column(store, "saturation")).sum()),
        "WCS": int(np.isfinite(column(store, "ra")).sum()),
        "stars measured": int((column(store, "n_stars") > 0).sum()),
        "checksum verified": sum(word == "ok" for word in words(store, "checksum")),
    }
    from_frames: Counter[str] = Counter()
    for name in store.ids:
        record = store.record(name)
        attrs, arrays = record["attrs"], record["arrays"]
        from_frames["PSF"] += "psf_basis" in arrays
        from_frames["mask delivered or made"] += bool(attrs.get("mask_from"))
        from_frames["variance"] += "variance" in arrays
        for note in set(attrs.get("notes", [])):
            notes[note] += 1
    have |= {name: from_frames[name] for name in ("PSF", "mask delivered or made", "variance")}
    table: dict[str, list[Any]] = {
        "metadata": list(have),
        "images with it": list(have.values()),
        "without": [n - count for count in have.values()],
        "share (%)": [100.0 * count / n if n else None for count in have.values()],
    }
    order = sorted(notes, key=lambda note: (-notes[note], note))
    doubtful = ReportTable("Notes", {"images": [notes[note] for note in order], "note": order})
    return ReportTable("Completeness of metadata", table), doubtful


def _by_band(store: FrameStore, measures: dict[str, np.ndarray]) -> ReportTable:
    """Number, times and median quality of the images of each band."""
    bands = np.array(words(store, "band"))
    mjd = column(store, "mjd")
    shown = ("FWHM (arcsec)", "noise of the sky (nJy)", "depth (mag, 5 sigma)")
    names = ("band", "images", "first (MJD)", "last (MJD)", *shown)
    table: dict[str, list[Any]] = {name: [] for name in names}
    for band in sorted(set(bands.tolist())):
        rows = bands == band
        times = mjd[rows & np.isfinite(mjd)]
        first, last = (float(times.min()), float(times.max())) if len(times) else (None, None)
        medians = [median(measures[name][rows]) for name in shown]
        for key, value in zip(table, [band, int(rows.sum()), first, last, *medians], strict=True):
            table[key].append(value)
    return ReportTable("By band (medians)", table)


def _draw(store: FrameStore, measures: dict[str, np.ndarray], path: Path) -> None:
    """Seeing, sky and depth over time, a colour a band."""
    from skytrawl.figures import BAND_COLOURS

    noise = [name for name in measures if name.startswith("noise") and np.isfinite(measures[name]).any()]
    # In nJy where zero points are known.
    wanted = ("FWHM (arcsec)", *noise[-1:], "depth (mag, 5 sigma)")
    names = [name for name in wanted if np.isfinite(measures[name]).any()] or ["FWHM (px)"]
    mjd, bands = column(store, "mjd"), np.array(words(store, "band"))
    timed = np.isfinite(mjd).any()
    x = mjd if timed else np.arange(len(store), dtype=float)
    figure = new_figure(8.0, 2.1 * len(names) + 0.6)
    axes: Any = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for axis, name in zip(axes, names, strict=True):
        for place, band in enumerate(sorted(set(bands.tolist()))):
            rows = bands == band
            colour = BAND_COLOURS.get(band, DATA_SETS[place % len(DATA_SETS)])
            label = f"{band or 'no band'} ({rows.sum()})"
            axis.plot(x[rows], measures[name][rows], "o", ms=4, color=colour, label=label)
        axis.set_ylabel(name.replace(" (", "\n("), fontsize="small")
        axis.grid(alpha=0.25, lw=0.6)
        axis.ticklabel_format(useOffset=False)
        if name.startswith("depth"):
            axis.invert_yaxis()
    axes[0].legend(fontsize="small", ncols=6, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    axes[-1].set_xlabel("MJD (d)" if timed else "image")
    figure.savefig(path)
