"""Data-quality reports over exposures, references, difference images, candidates and forced photometry."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.errors import ParameterError
from skytrawl.image_report_columns import column, median, plain, ranges, verdicts, words
from skytrawl.image_report_parts import Drawing, QualityReport, ReportTable

if TYPE_CHECKING:
    from skytrawl.catalogs.images.store import FrameStore

Parts = tuple[dict[str, Any], list[ReportTable], list[Drawing]]


def image_report(path: str | Path, version: int | None = None, *, worst: int = 10) -> QualityReport:
    """Report on the frames of a store.

    Parameters
    ----------
    path : path
        What `ingest-images` or a job over images wrote.
    version : int, optional
        Default the latest.
    worst : int
        Worst frames that are listed.

    Returns
    -------
    QualityReport
        ``facts`` and ``tables``; ``show()`` prints them, ``write(folder)`` adds figures.

    Raises
    ------
    ParameterError
        For a store of other frames, or worst below 1.
    """
    from skytrawl.catalogs.images.current import open_frames
    from skytrawl.image_report_differences import differences
    from skytrawl.image_report_exposures import exposures

    if worst < 1:
        raise ParameterError(f"worst is {worst}: give 1 at least")
    makers: dict[str, Callable[[FrameStore, int], Parts]] = {
        "exposures": exposures,
        "references": references,
        "differences": differences,
        "candidates": candidates,
        "forced photometry": forced,
    }
    store = open_frames(path, version)
    if store.kind not in makers:
        raise ParameterError(f"{path} holds {store.kind}: there are reports on {', '.join(makers)}")
    facts, tables, drawings = makers[store.kind](store, worst)
    for name in ("job", "fingerprint", "date", "source"):
        if name in store.attrs:
            facts[name] = store.attrs[name]
    return QualityReport(str(path), store.kind, store.version, facts, tables, drawings)


def references(store: FrameStore, worst: int) -> Parts:
    """Facts and tables of references, deepest last."""
    counts, reasons = verdicts(store)
    order = np.argsort(column(store, "depth"), kind="stable")
    scale = column(store, "pixel_scale")
    shown = {
        "field": words(store, "field"),
        "band": words(store, "band"),
        "exposures": column(store, "n_inputs"),
        "time (s)": column(store, "exptime"),
        "depth (mag, 5 sigma)": column(store, "depth"),
        "FWHM (px)": column(store, "fwhm"),
        "FWHM (arcsec)": column(store, "fwhm") * scale,
        "stars": column(store, "n_stars"),
        "error of the PSF": column(store, "psf_error"),
        "noise correlation": column(store, "noise_correlation"),
        "verdict": words(store, "verdict"),
    }
    table: dict[str, list[Any]] = {"reference": [store.ids[row] for row in order]}
    whole = ("exposures", "stars")
    for name, values in shown.items():
        table[name] = [plain(values[row], whole=name in whole) for row in order]
    facts = {"references": len(store), "verdicts": counts, "fields": len(set(words(store, "field")) - {""})}
    notes: dict[str, list[Any]] = {"reference": [], "note": []}
    for name in store.ids:
        for note in store.record(name)["attrs"].get("notes", []):
            notes["reference"].append(name)
            notes["note"].append(note)
    return facts, [ReportTable("References", table), reasons, ReportTable("Notes", notes)], []


def candidates(store: FrameStore, worst: int) -> Parts:
    """Facts and tables of candidates: how many of each sign, by frame, score and mask bit; objects."""
    from skytrawl.catalogs.images.candidates import read_catalogue
    from skytrawl.figures_cutouts import plot_cutouts
    from skytrawl.kernels.flags import NAMES

    tables = read_catalogue(store.path)
    columns, objects = tables["candidates"], tables["objects"]
    counts, reasons = verdicts(store)
    n = column(store, "n_candidates")
    facts: dict[str, Any] = {
        "images": len(store),
        "verdicts": counts,
        "candidates": int(np.nansum(n)),
        "brighter": int(np.nansum(column(store, "n_positive"))),
        "fainter": int(np.nansum(column(store, "n_negative"))),
        "dipoles": int(np.nansum(column(store, "n_dipoles"))),
        "candidates of an image (median, most)": [median(n), float(np.nanmax(n, initial=0))],
        "objects": len(objects.get("ra", ())),
        "objects seen at several times": int(np.sum(objects.get("n_epochs", np.zeros(0)) > 1)),
    }
    found = [reasons]
    drawings: list[Drawing] = []
    if columns:
        edges = np.array([0, 5, 5.5, 6, 7, 10, 20, 50, np.inf])
        size = np.abs(columns["score"].astype(float))
        sides = [np.histogram(size[columns["sign"] == sign], edges)[0].tolist() for sign in (1, -1)]
        names = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
        found.append(
            ReportTable("|S_corr| (sigma)", {"|S_corr|": names, "brighter": sides[0], "fainter": sides[1]})
        )
        bits = {name: int(((columns["flags"] & bit) != 0).sum()) for name, bit in NAMES.items()}
        bits = {name: count for name, count in bits.items() if count}
        found.append(
            ReportTable("Mask bits near candidates", {"bit": list(bits), "candidates": list(bits.values())})
        )
        if any("cutouts" in store.record(name)["arrays"] for name in store.ids[:1]):
            drawings.append(("cutouts.png", lambda path: plot_cutouts(store.path, path)))
    order = np.argsort(-np.nan_to_num(n, nan=-1), kind="stable")[:worst]
    by_frame: dict[str, list[Any]] = {"frame": [store.ids[row] for row in order]}
    for name, key in (
        ("candidates", "n_candidates"), ("brighter", "n_positive"), ("fainter", "n_negative"),
        ("dipoles", "n_dipoles"),
    ):  # fmt: skip
        by_frame[name] = [plain(column(store, key)[row], whole=True) for row in order]
    found.append(ReportTable("Frames with most candidates", by_frame))
    return facts, found, drawings


def forced(store: FrameStore, worst: int) -> Parts:
    """Facts and tables of forced photometry."""
    counts, reasons = verdicts(store)
    n, used = column(store, "n_positions"), column(store, "n_usable")
    facts = {
        "images": len(store),
        "verdicts": counts,
        "fluxes": int(np.nansum(n)),
        "usable fluxes": int(np.nansum(used)),
    }
    return facts, [reasons, ranges("Fluxes of an image", {"positions": n, "usable": used})], []
