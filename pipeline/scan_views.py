"""Data sets of one scan brought together for pictures: on one scale, and dchi2 over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from skytrawl.scan_report import CurveReport, ScanReport


class Aligned(NamedTuple):
    """Data sets on a common scale.

    Attributes
    ----------
    flux, residual, error : list of float64[n]
        One array a data set.
    smooth : list of (float64[m], float64[m])
        Times and baseline of the lines to draw.
    label, residual_label : str
        What the values are; "" for fluxes in the unit of the input.
    """

    flux: list[np.ndarray]
    residual: list[np.ndarray]
    error: list[np.ndarray]
    smooth: list[tuple[np.ndarray, np.ndarray]]
    label: str
    residual_label: str


def aligned(report: CurveReport) -> Aligned:
    """Bring the data sets of a scan on one scale.

    A single data set stays as it is. Several ones with a lens become magnifications, (flux - fb) / fs, with
    residuals in units of fs; several ones without a lens, or with a source flux that is not positive, become
    (flux - mean) / (median error) of each.
    """
    sets = report.data_sets
    if not sets:
        nothing = [np.zeros(0)]
        return Aligned(nothing, nothing, nothing, [], "", "")
    if len(sets) == 1:
        data = sets[0]
        if report.smooth and report.fit is not None:
            source, blend = report.fit.source_flux[data.name], report.fit.blend_flux[data.name]
            lines = [(time, source * magnified + blend) for time, magnified in report.smooth]
        else:
            lines = [(data.time[a:b], data.model[a:b]) for a, b in seasons(data.time, report.parameters.gap)]
        return Aligned([data.flux], [data.residual], [data.error], lines, "", "")
    fit = report.fit
    if fit is not None and fit.fitted and all(fit.source_flux[data.name] > 0 for data in sets):
        parts = [(data, fit.source_flux[data.name], fit.blend_flux[data.name]) for data in sets]
        return Aligned(
            [(data.flux - blend) / source for data, source, blend in parts],
            [data.residual / source for data, source, _ in parts],
            [data.error / source for data, source, _ in parts],
            list(report.smooth)
            or [
                (data.time[a:b], (data.model[a:b] - blend) / source)
                for data, source, blend in parts
                for a, b in seasons(data.time, report.parameters.gap)
            ],
            "magnification",
            "residual (source fluxes)",
        )
    scale = [float(np.median(data.error)) for data in sets]
    mean = [float(np.average(data.flux, weights=data.error**-2.0)) for data in sets]
    lines = []
    for data, m, s in zip(sets, mean, scale, strict=True):
        for a, b in seasons(data.time, report.parameters.gap):
            lines.append((data.time[a:b], (data.model[a:b] - m) / s))
    return Aligned(
        [(data.flux - m) / s for data, m, s in zip(sets, mean, scale, strict=True)],
        [data.residual / s for data, s in zip(sets, scale, strict=True)],
        [data.error / s for data, s in zip(sets, scale, strict=True)],
        lines,
        "flux above mean (median errors)",
        "residual (median errors)",
    )


def seasons(time: np.ndarray, gap: float) -> list[tuple[int, int]]:
    """Rows of the stretches without a longer gap, of ascending times."""
    if not len(time):
        return []
    breaks = np.flatnonzero(np.diff(time) > gap) + 1
    return list(zip([0, *breaks.tolist()], [*breaks.tolist(), len(time)], strict=True))


def profile(report: ScanReport) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The largest dchi2 over all time scales along time.

    Returns
    -------
    time : float64[n], days
    bump, dip : float64[n]
        Of positive and negative amplitudes; 0 where there are none, NaN at the ends of seasons.
    """
    from skytrawl.kernels.scan.profile import profile as compute

    residual = report.curves.with_flux(report.curves.flux - report.model)
    found = compute(residual, report.grid, report.parameters.templates)

    def joined(values: np.ndarray, last: np.ndarray) -> np.ndarray:
        return np.column_stack([values, last]).ravel()

    nothing = np.full(len(found.time), np.nan)
    return joined(found.time, found.time[:, -1]), joined(found.bump, nothing), joined(found.dip, nothing)
