"""What a scan of one light curve tells: the records behind `skytrawl.scan_light_curve` and the pictures."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.kernels.curves import Curves
from skytrawl.scan_records import (
    Candidate,
    DataSet,
    LensFit,
    Window,
    WindowModel,
    blank,
    fit_columns,
    one_row,
    plain,
    template_values,
)
from skytrawl.scan_views import seasons

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.figure import Figure

    from skytrawl.kernels.scan.types import ScanGrid


@dataclass(frozen=True, kw_only=True)
class CurveReport:
    """One light curve and the baseline that was subtracted from it.

    Attributes
    ----------
    object_id : str
        Empty for arrays without a name.
    baseline : str
        What was subtracted: "pspl" (or another fitter), "constant", "none" or "given".
    curves : Curves
        The usable rows, one object.
    names : tuple of str
        Name of each data set.
    model : float64[n_rows]
        The baseline at the rows of `curves`.
    fit : LensFit or None
    counts : dict of str to int
        n_points, n_sets, n_not_finite, n_bad_error, and what else was counted.
    flags : tuple of str
        What was wrong with the input or the fit, in words; empty where nothing was.
    parameters : object
        Parameters of the job.
    time_label, flux_unit : str
        What the times are and the unit of the fluxes, for axes.
    smooth : tuple of (float64[m], float64[m])
        Times and magnification on a fine grid, for pictures; empty without a lens.
    """

    object_id: str
    baseline: str
    curves: Curves
    names: tuple[str, ...]
    model: np.ndarray
    fit: LensFit | None
    counts: dict[str, int]
    flags: tuple[str, ...]
    parameters: Any
    time_label: str = "time"
    flux_unit: str = ""
    smooth: tuple[tuple[np.ndarray, np.ndarray], ...] = ()

    @cached_property
    def data_sets(self) -> tuple[DataSet, ...]:
        """The usable rows of each data set."""
        rows = self.curves.rows
        parts = (self.curves.time, self.curves.flux, self.curves.error, self.model, self.curves.source)
        return tuple(
            DataSet(name, *(part[rows[d] : rows[d + 1]] for part in parts))
            for d, name in enumerate(self.names)
        )

    def head(self) -> list[str]:
        """Lines of the summary on the light curve and its baseline."""
        c = self.counts
        sets = f"{c['n_sets']} data set{'s' if c['n_sets'] != 1 else ''}"
        lines = [f"{self.object_id or 'light curve'}: {c['n_points']} points in {sets}"]
        if c["n_not_finite"] + c["n_bad_error"]:
            lines.append(
                f"left out: {c['n_not_finite']} rows not finite, {c['n_bad_error']} with an error <= 0"
            )
        lines.append(self.fit.summary() if self.fit is not None else f"baseline: {self.baseline}")
        return lines

    def plot_fit(
        self, path: str | Path | None = None, *, time_range: tuple[float, float] | None = None
    ) -> Figure:
        """Draw the light curve with its baseline."""
        from skytrawl.figures_scan import fit_figure

        return fit_figure(self, path, time_range=time_range)

    def plot_residuals(
        self, path: str | Path | None = None, *, time_range: tuple[float, float] | None = None
    ) -> Figure:
        """Draw the residuals of the baseline."""
        from skytrawl.figures_scan import residual_figure

        return residual_figure(self, path, time_range=time_range)


@dataclass(frozen=True, kw_only=True, repr=False)
class ScanReport(CurveReport):
    """A template scan of one light curve.

    Attributes
    ----------
    kind : str
        Kind of the score.
    candidates : tuple of Candidate
        That pass the criteria, by dchi2, largest first.
    best_bump, best_dip : Candidate or None
        Largest by dchi2 over the noise of their time scale.
    scores : dict of str to float
        Score of the kind by name; with false-alarm probabilities of the best bump and dip for kind "fap".
    noise : float64[n_teff]
        How much larger than for white noise the typical dchi2 of each teff is.

    Other attributes are those of :class:`CurveReport`; `counts` has n_seasons, n_grid and n_filled as well.
    """

    kind: str
    candidates: tuple[Candidate, ...]
    best_bump: Candidate | None
    best_dip: Candidate | None
    scores: dict[str, float]
    noise: np.ndarray

    def __repr__(self) -> str:
        return f"<ScanReport {self.object_id or 'light curve'}: {len(self.candidates)} candidates>"

    @property
    def score(self) -> float:
        """The score of the kind."""
        return self.scores["score"]

    @property
    def grid(self) -> ScanGrid:
        """The grid of the scan."""
        return self.parameters.grid()

    @property
    def best(self) -> Candidate | None:
        """The candidate with the largest dchi2."""
        return self.candidates[0] if self.candidates else None

    def summary(self) -> str:
        """The scan as text of a few lines."""
        c = self.counts
        lines = self.head()
        lines[0] += f", {c['n_seasons']} seasons; {c['n_filled']} of {c['n_grid']} grid points hold data"
        s = self.scores
        if self.kind == "fap":
            lines.append(
                f"false-alarm probability {s['score']:.2g} (best bump {s['fap_bump']:.2g}, best dip "
                f"{s['fap_dip']:.2g})"
            )
        else:
            lines.append(f"score {self.kind}: {s['score']:.4g}")
        lines += [
            f"{i + 1}. {found.text()}, {found.template}, {found.n_window} rows"
            for i, found in enumerate(self.candidates)
        ]
        if not self.candidates:
            lines.append("no candidates")
        return "\n".join([*lines, *(f"note: {flag}" for flag in self.flags)])

    def to_dict(self) -> dict[str, Any]:
        """Everything but the arrays, in plain types that JSON takes (NaN as None)."""
        return plain(
            {
                "object_id": self.object_id,
                "kind": self.kind,
                "baseline": self.baseline,
                "counts": self.counts,
                "fit": None if self.fit is None else dataclasses.asdict(self.fit),
                "scores": self.scores,
                "best_bump": None if self.best_bump is None else dataclasses.asdict(self.best_bump),
                "best_dip": None if self.best_dip is None else dataclasses.asdict(self.best_dip),
                "candidates": [dataclasses.asdict(found) for found in self.candidates],
                "flags": list(self.flags),
                "parameters": dataclasses.asdict(self.parameters),
            }
        )

    def to_table(self) -> Table:
        """One row: the fit, the best candidate, the best bump and dip, scores and flags, with units.

        Returns
        -------
        astropy.table.Table
        """
        row: dict[str, Any] = {"object_id": self.object_id, **self.counts, "baseline": self.baseline}
        row |= fit_columns(self.fit)
        row |= self.scores
        for prefix, found in (("best", self.best), ("bump", self.best_bump), ("dip", self.best_dip)):
            absent = {f.name: blank(f.type) for f in dataclasses.fields(Candidate)}
            values = absent if found is None else dataclasses.asdict(found)
            row |= {f"{prefix}_{name}": value for name, value in values.items()}
        return one_row(row | {"flags": "; ".join(self.flags)})

    def window_models(self, candidate: int = 0) -> dict[int, WindowModel]:
        """The fitted models of a candidate in each data set that has enough rows in its window, by place.

        A weighted linear fit of each data set: with weights w = 1 / error^2 and template values x, amplitude
        C / V and base (Sy - amplitude Sx) / Sw from the centred sums C = S(xy) - Sx Sy / Sw and
        V = S(xx) - Sx^2 / Sw; dchi2 = C^2 / V.
        """
        found = self.candidates[candidate]
        half = self.parameters.teff_coeff * found.teff
        models = {}
        everything = np.sort(self.curves.time)
        spans = [(everything[a], everything[b - 1]) for a, b in seasons(everything, self.parameters.gap)]
        start, end = next((span for span in spans if span[0] <= found.t0 <= span[1]), (-np.inf, np.inf))
        for place, data in enumerate(self.data_sets):
            inside = (np.abs(data.time - found.t0) < half) & (data.time >= start) & (data.time <= end)
            if inside.sum() < self.grid.min_points:
                continue
            w, y = 1.0 / data.error[inside] ** 2, data.residual[inside]
            x = template_values(found.template, (data.time[inside] - found.t0) / found.teff)
            mean, level = np.average(y, weights=w), np.average(x, weights=w)
            v = float(np.sum(w * (x - level) ** 2))
            c = float(np.sum(w * (x - level) * (y - mean)))
            slope = c / v if v > 0 else 0.0
            models[place] = WindowModel(
                found.t0, found.teff, found.template, slope, mean - slope * level, mean, c * slope
            )
        return models

    def plot(
        self, path: str | Path | None = None, *, time_range: tuple[float, float] | None = None
    ) -> Figure:
        """Draw light curve, residuals and dchi2 over time; see :func:`skytrawl.figures_scan.scan_figure`."""
        from skytrawl.figures_scan import scan_figure

        return scan_figure(self, path, time_range=time_range)

    def plot_window(self, candidate: int = 0, path: str | Path | None = None) -> Figure:
        """Draw the window of a candidate; see :func:`skytrawl.figures_scan.window_figure`."""
        from skytrawl.figures_scan import window_figure

        return window_figure(self, candidate, path)


@dataclass(frozen=True, kw_only=True)
class TemplateFreeReport(CurveReport):
    """A template-free scan of one light curve.

    Attributes
    ----------
    windows : tuple of Window
        Of all data sets, largest chi2 first.

    Other attributes are those of :class:`CurveReport`.
    """

    windows: tuple[Window, ...]

    def __repr__(self) -> str:
        return f"<TemplateFreeReport {self.object_id or 'light curve'}: {len(self.windows)} windows>"

    @property
    def best(self) -> Window | None:
        """The window with the largest chi2."""
        return self.windows[0] if self.windows else None

    def summary(self) -> str:
        """The scan as text of a few lines."""
        lines = self.head()
        lines += [
            f"{i + 1}. {window.dataset}, {window.text()} ({window.reduced_chi2:.1f} a row)"
            for i, window in enumerate(self.windows[:10])
        ]
        if not self.windows:
            lines.append("no window")
        return "\n".join([*lines, *(f"note: {flag}" for flag in self.flags)])

    def to_dict(self) -> dict[str, Any]:
        """Everything but the arrays, in plain types that JSON takes (NaN as None)."""
        return plain(
            {
                "object_id": self.object_id,
                "baseline": self.baseline,
                "counts": self.counts,
                "fit": None if self.fit is None else dataclasses.asdict(self.fit),
                "windows": [window._asdict() for window in self.windows],
                "flags": list(self.flags),
                "parameters": dataclasses.asdict(self.parameters),
            }
        )

    def to_table(self) -> Table:
        """One row: counts, fit and the best window."""
        best = self.best._asdict() if self.best is not None else dict.fromkeys(Window._fields, np.nan)
        if self.best is None:
            best |= {"dataset": "", "kind": "", "n_points": 0}
        row = {"object_id": self.object_id, **self.counts, "baseline": self.baseline}
        row |= fit_columns(self.fit)
        row |= {"n_windows": len(self.windows), **{f"best_{name}": value for name, value in best.items()}}
        return one_row(row | {"flags": "; ".join(self.flags)})

    def plot(
        self, path: str | Path | None = None, *, time_range: tuple[float, float] | None = None
    ) -> Figure:
        """Draw light curve and residuals with the windows."""
        from skytrawl.figures_scan import template_free_figure

        return template_free_figure(self, path, time_range=time_range)
