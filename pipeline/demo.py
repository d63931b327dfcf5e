"""The demonstration: real light curves and images to tables and figures, as in a survey."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from skytrawl.errors import ArchiveError

if TYPE_CHECKING:
    from skytrawl.catalogs.query import Query

# Fewer pairs make an extreme mean likely by chance.
MIN_PAIRS = 10
KEYS = ("g", "r", "g-r", "r-g")
PRESET = "soraisam2020"  # its quality cuts: brighter than 22 mag, errors below 0.2 mag
_TABLE = ("object_id", "class", "score", "n_pairs", "worst_key", "worst_dt", "worst_dm", "worst_value")


def run_demo(out: Path, *, workers: int | None = None, top: int = 20) -> Path:
    """Score bundled light curves by dm-dt, scan microlensing events, subtract images; print and draw the top.

    Parameters
    ----------
    out : Path
        New folder for archive.zarr, reference.zarr, scores.zarr and anomaly.png, for events.zarr,
        event-scan.zarr and events.png, and for exposures.zarr, references, differences, candidates and
        images.png.
    workers : int, optional
        Worker processes; default one a core.
    top : int
        Rows of the table.

    Returns
    -------
    Path
        The figure of the object that dm-dt ranks first.

    Raises
    ------
    ArchiveError
        If the folder exists and is not empty.
    """
    from skytrawl.catalogs.query import open_query
    from skytrawl.catalogs.samples import demo_sources
    from skytrawl.console import progress_bar, say, show_columns
    from skytrawl.demo_images import subtract_exposures
    from skytrawl.demo_scan import scan_events
    from skytrawl.deploy.local import connect
    from skytrawl.intake.driver import ingest
    from skytrawl.runner import run

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ArchiveError(f"{out} exists and is not empty: remove it, or choose another folder with --out")
    started = time.perf_counter()
    demo = demo_sources()
    say("real light curves, kinds of photometry mixed on purpose:")
    for name, text in demo.provenance.items():
        say(f"  {name}: {text}")
    archive = out / "archive.zarr"
    say(str(ingest(demo.table, archive, partition_observations=12_000, **demo.options)))

    # Half of the supernovae say what is normal; the others are as new to the reference as anything else.
    chosen = demo.supernovae[: len(demo.supernovae) // 2]
    listed = out / "reference-objects.txt"
    listed.write_text("\n".join(chosen) + "\n")
    with connect("local", workers=workers) as client:
        with progress_bar("reference") as progress:
            run(
                "dmdt-reference",
                archive,
                out / "reference.zarr",
                client=client,
                progress=progress,
                announce=say,
                objects=listed,
                keys=KEYS,
                preset=PRESET,
            )
        with progress_bar("scores") as progress:
            summary = run(
                "dmdt-score",
                archive,
                out / "scores.zarr",
                client=client,
                progress=progress,
                reference=out / "reference.zarr",
                preset=PRESET,
                min_pairs=MIN_PAIRS,
            )
        if summary.failed:
            raise ArchiveError(f"{len(summary.failed)} partitions failed: {summary.failed[0]}")
        opened = open_query(out / "scores.zarr")
        best = _ranked(opened, set(chosen), top)
        outside = int(opened.partitions["n_objects"].sum()) - len(chosen)
        title = (
            f"most anomalous of {outside:,} objects outside the reference "
            f"(>= {MIN_PAIRS} pairs; lower is odder)"
        )
        show_columns(
            title, {"rank": np.arange(1, len(best["score"]) + 1)} | {n: best[n] for n in _TABLE}, fit=True
        )
        figure = draw(out, best["object_id"][0], float(best["score"][0]))
        say(f"figure: {figure}")
        scan_events(out, client)
        subtract_exposures(out, client)
    say(f"ask for more: skytrawl query {out / 'scores.zarr'} --top 50")
    say(f"done in {time.perf_counter() - started:.0f} s")
    return figure


def _ranked(opened: Query, reference: set[str], top: int) -> dict[str, np.ndarray]:
    """The best rows; objects of the reference itself are left out."""
    best = opened.top(top + len(reference))
    rows = [row for row, name in enumerate(best["object_id"]) if name.decode() not in reference][:top]
    return {name: column[rows] for name, column in best.items()}


def draw(out: Path, object_id: bytes, score: float) -> Path:
    """Draw one object of the demonstration: P(dm|dt) with its pairs, and its light curve."""
    from skytrawl.catalogs import references
    from skytrawl.catalogs.archive import Archive
    from skytrawl.catalogs.query import open_query
    from skytrawl.catalogs.reference_views import probability
    from skytrawl.dmdt_common import Cuts, needs
    from skytrawl.dmdt_maps import find_object, object_pairs
    from skytrawl.figures import anomaly_figure

    archive, name = Archive.open(out / "archive.zarr"), object_id.decode()
    rows = find_object(archive, name, needs(Cuts(), archive)).observations
    pairs = object_pairs(archive, name, keys=KEYS, cuts=Cuts(preset=PRESET))
    views = probability(references.load(out / "reference.zarr"), min_pairs=0)
    panels = [
        {
            **{key: views[label][key] for key in ("probability", "dt_edges", "dm_edges")},
            "dt": pairs[label]["dt"],
            "dm": pairs[label]["dm"],
            "title": f"P(dm|dt) of type Ia supernovae and pairs in {label}",
        }
        for label in archive.bands
        if label in pairs
    ]
    bands = {
        band: {key: column[rows["band"] == code] for key, column in rows.items()}
        for code, band in enumerate(archive.bands)
        if (rows["band"] == code).any()
    }
    facts = archive.attrs["light_curves"]
    found = open_query(out / "scores.zarr").object(object_id)["class"][0].decode()
    return anomaly_figure(
        out / "anomaly.png",
        panels=panels,
        light_curve=bands,
        label=f"{facts['quantity']} ({facts['units']})",
        title=f"{name}{', ' + found if found else ''}: dm-dt score {score:.3f}",
    )
