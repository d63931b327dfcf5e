"""Scans of single objects out of a results store: their light curve read again, their report and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.errors import ArchiveMismatchError, ParameterError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from skytrawl.catalogs.archive import Archive
    from skytrawl.scan_report import ScanReport

PANELS = ("scan", "window", "fit", "residuals")
# Backends agree to 1e-6.
SAME = 1e-5


def report_of_object(
    results: str | Path, object_id: int | str | bytes, *, archive: str | Path | Archive | None = None
) -> ScanReport:
    """The scan of one object of a results store, with everything that the store does not keep.

    The light curve is read from the archive and scanned again with the parameters of the run; scores are
    those of the store.

    Parameters
    ----------
    results : str or Path
        Store with a run of the job scan.
    object_id : int, str or bytes
    archive : str, Path or Archive, optional
        Where the archive is now; by default where it was when the run was made.

    Returns
    -------
    ScanReport

    Raises
    ------
    ObjectNotFoundError
        If the run has no such object.
    ArchiveMismatchError
        If the store belongs to another archive, or the light curve has changed since the run.
    """
    from skytrawl.catalogs.archive import Archive
    from skytrawl.catalogs.query import open_query
    from skytrawl.catalogs.results import ResultsStore
    from skytrawl.lens_models import sky_of
    from skytrawl.params import build
    from skytrawl.scan import Parameters, job_needs
    from skytrawl.scan_analysis import scan_payload
    from skytrawl.scan_common import curves_of
    from skytrawl.scan_make import make_report

    store = ResultsStore(results)
    run = store.run("scan")
    row = {name: column[0] for name, column in open_query(results, "scan").object(object_id).items()}
    # A run keeps the fingerprint of its null, not the path; scores are those of the store, nothing reads it.
    parameters = build(Parameters, {"null": "null", **run.attrs["parameters"]})
    if not isinstance(archive, Archive):
        archive = Archive.open(archive or run.attrs["archive_path"], run.attrs["archive_version"])
    store.check_archive(archive)
    block = archive.light_curve(object_id, job_needs(parameters, archive))
    payload = scan_payload(parameters, archive)
    curves, dropped, _ = curves_of(block, parameters, payload["system"])
    facts = archive.attrs["light_curves"]
    origin = facts["time"]["origin"]
    report = make_report(
        curves,
        tuple(archive.bands[code] for code in curves.label),
        dropped,
        parameters,
        kind=parameters.kind,
        baseline=parameters.baseline,
        object_id=_text(row["object_id"]),
        scores={name: float(row[name]) for name in ("score", "fap_bump", "fap_dip") if name in row},
        sky=sky_of(block, payload),
        time_label="MJD" if origin == "MJD" else "time",
        flux_unit=f"of {parameters.zero_point:g} mag"
        if payload["system"].magnitudes
        else str(facts["units"]),
    )
    _compare(report, row, store.path)
    return report


def plot_scan(
    results: str | Path,
    object_id: int | str | bytes,
    *,
    archive: str | Path | Archive | None = None,
    panels: str = "scan",
    candidate: int = 0,
    time_range: tuple[float, float] | None = None,
    path: str | Path | None = None,
) -> Figure:
    """Draw the scan of one object of a results store.

    Parameters
    ----------
    results : str or Path
        Store with a run of the job scan.
    object_id : int, str or bytes
    archive : str, Path or Archive, optional
        Where the archive is now; by default where it was when the run was made.
    panels : {"scan", "window", "fit", "residuals"}
        Light curve, residuals and dchi2 over time; the window of a candidate; the first alone; the second
        alone.
    candidate : int
        Place of the candidate for the window, best first.
    time_range : (float, float), optional
        First and last time [d]; by default everything.
    path : str or Path, optional
        Image file; the suffix chooses the format.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ParameterError
        For other panels, or a candidate that there is not.
    ObjectNotFoundError
        If the run has no such object.
    ArchiveMismatchError
        If the store belongs to another archive, or the light curve has changed since the run.

    Examples
    --------
    >>> import skytrawl
    >>> figure = skytrawl.plot_scan("scan.zarr", "OGLE-2003-BLG-235", path="scan.png")  # doctest: +SKIP
    """
    if panels not in PANELS:
        raise ParameterError(f"panels is {panels!r}: choose one of {', '.join(PANELS)}")
    report = report_of_object(results, object_id, archive=archive)
    if panels == "window":
        return report.plot_window(candidate, path)
    draw = {"scan": report.plot, "fit": report.plot_fit, "residuals": report.plot_residuals}[panels]
    return draw(path, time_range=time_range)


def _compare(report: ScanReport, row: dict[str, Any], where: Path) -> None:
    """Refuse a light curve that gives another best candidate than the run found."""
    then = float(row["candidate_dchi2"][0])
    now = report.best.dchi2 if report.best is not None else np.nan
    if not np.isclose(then, now, rtol=SAME, atol=SAME, equal_nan=True):
        raise ArchiveMismatchError(
            f"{where}: the best candidate of {report.object_id} had dchi2 {then:g} in the run, and has "
            f"{now:g} in the light curve of the archive now. Run the job again"
        )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
