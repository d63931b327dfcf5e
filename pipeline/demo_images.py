"""The images of the demonstration: real exposures to difference images, candidates and a figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.errors import ImageError

if TYPE_CHECKING:
    from distributed import Client

_TABLE = ("object", "exposure", "ra", "dec", "scorr", "snr", "mag", "flags")


def subtract_exposures(out: Path, client: Client) -> Path:
    """Ingest bundled exposures, subtract the sky of 2016 from those of 2018, list and draw what is new.

    Parameters
    ----------
    out : Path
        Folder for exposures.zarr, references, differences, candidates and images.png.
    client : distributed.Client

    Returns
    -------
    Path
        The figure.

    Raises
    ------
    ImageError
        If a job fails, or finds nothing.
    """
    from skytrawl.catalogs.images.current import open_frames
    from skytrawl.catalogs.samples import decam_exposures
    from skytrawl.console import progress_bar, say, show_columns, step_bar
    from skytrawl.figures_images import plot_difference
    from skytrawl.image_candidates import find_candidates
    from skytrawl.images.ingest import ingest_images
    from skytrawl.runner import run

    decam = decam_exposures()
    say(f"{len(decam.paths)} images of one field by the Dark Energy Camera, two of 2016 and two of 2018:")
    paths = {name: out / name for name in ("exposures.zarr", "references", "differences", "candidates")}
    exposures, references, differences, candidates = paths.values()
    with step_bar("exposures") as progress:
        say(str(ingest_images(decam.paths, exposures, cluster="inline", progress=progress, **decam.options)))

    def go(job: str, source: Path, target: Path, **words: Any) -> None:
        with progress_bar(job) as update:
            summary = run(job, source, target, client=client, progress=update, **words)
        if summary.failed:
            raise ImageError(f"{job}: {len(summary.failed)} frames failed: {summary.failed[0]}")

    # The reference is of 2016 alone, so that nothing of 2018 is subtracted from itself.
    go("reference", exposures, references, blocks=1, last=decam.between)
    go("difference", exposures, differences, reference=references, window=30.0)
    go("detect", differences, candidates)
    found = find_candidates(candidates)
    if not found:
        raise ImageError(f"{candidates}: no candidate in the exposures of 2018")
    good = found["flags"] == 0
    seen = _exposures_of(found, good)
    title = "new since 2016 (nominal zero point), and what masks of exposure or reference touch"
    show_columns(title, {name: _cells(found)[name] for name in _TABLE}, fit=True)
    best = int(np.flatnonzero(good & (seen == seen[good].max(initial=0)))[0]) if good.any() else 0
    say(
        f"object {found['object'][best]}, a point source beside the centre of a galaxy, is on "
        f"{seen[best]} of {_good_frames(open_frames(differences))} exposures: in the sky, not in the detector"
    )
    figure = out / "images.png"
    plot_difference(differences, found["exposure"][best].decode(), figure, candidates=candidates)
    say(f"figure: {figure}")
    return figure


def _exposures_of(found: dict[str, np.ndarray], good: np.ndarray) -> np.ndarray:
    """Exposures that show the object of each candidate, unflagged."""
    names = [set(found["exposure"][good & (found["object"] == number)]) for number in found["object"]]
    return np.array([len(each) for each in names])


def _good_frames(store: Any) -> int:
    return int((store.table["verdict"] != b"refused").sum())


def _cells(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    from skytrawl.kernels.flags import names_of

    flux = np.abs(found["flux_njy"])
    return {
        **found,
        "ra": _texts("{:.5f}", found["ra"]),
        "dec": _texts("{:+.5f}", found["dec"]),
        "scorr": _texts("{:+.1f}", found["score"]),
        "snr": _texts("{:+.1f}", found["snr"]),
        "mag": _texts("{:.2f}", 31.4 - 2.5 * np.log10(flux)),
        "flags": np.array([", ".join(names_of(int(bits))) or "-" for bits in found["flags"]]),
    }


def _texts(form: str, values: np.ndarray) -> np.ndarray:
    return np.array([form.format(value) for value in values])
