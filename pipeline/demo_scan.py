"""The scan of the demonstration: bundled microlensing events to ranked candidates and a figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from skytrawl.errors import ArchiveError

if TYPE_CHECKING:
    from distributed import Client

# The first planet found by microlensing: the figure shows it.
SHOWN = "OGLE-2003-BLG-235"
_TABLE = ("object_id", "score", "t0", "tE", "u0", "t0_found", "teff", "kind", "dchi2")


def scan_events(out: Path, client: Client) -> Path:
    """Ingest the bundled events, scan what single lenses leave, print the best candidates, draw one event.

    Parameters
    ----------
    out : Path
        Folder for events.zarr, event-scan.zarr and events.png.
    client : distributed.Client

    Returns
    -------
    Path
        The figure.

    Raises
    ------
    ArchiveError
        If the scan fails.
    """
    from skytrawl.catalogs.query import open_query
    from skytrawl.catalogs.samples import microlensing_events
    from skytrawl.console import progress_bar, say, show_columns
    from skytrawl.intake.driver import ingest
    from skytrawl.runner import run
    from skytrawl.scan_store import plot_scan

    events = microlensing_events()
    say("microlensing events, each telescope a data set of its own:")
    for name, text in events.events.items():
        say(f"  {name}: {text}")
    archive, results = out / "events.zarr", out / "event-scan.zarr"
    say(str(ingest(events.table, archive, **events.options)))
    with progress_bar("scan") as progress:
        # Seven events are too few for a null of their own.
        summary = run("scan", archive, results, client=client, progress=progress, kind="dchi2")
    if summary.failed:
        raise ArchiveError(f"{len(summary.failed)} partitions failed: {summary.failed[0]}")
    best = open_query(results, "scan").top(len(events.events))
    # Signs +1 and -1; 0 is no candidate.
    words = np.array(["", "bump", "dip"])
    table = {
        **{name: best[name] for name in ("object_id", "score", "t0", "tE", "u0")},
        "t0_found": best["candidate_t0"][:, 0],
        "teff": best["candidate_teff"][:, 0],
        "kind": words[best["candidate_sign"][:, 0]],
        "dchi2": best["candidate_dchi2"][:, 0],
    }
    title = (
        "what a single lens does not explain: best candidate of each event (score: dchi2, errors rescaled)"
    )
    show_columns(title, {name: table[name] for name in _TABLE}, fit=True)
    figure = out / "events.png"
    plot_scan(results, SHOWN, path=figure)
    say(f"figure: {figure}")
    return figure
