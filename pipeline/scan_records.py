"""Records that the reports on single light curves are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from astropy.table import Table


class DataSet(NamedTuple):
    """Usable rows of one data set (band or telescope) in order of time.

    Attributes
    ----------
    name : str
    time : float64[n], days
    flux, error : float64[n], in the unit of the input (fluxes of magnitudes: 1 at the zero point)
    model : float64[n], the baseline that was subtracted
    row : int64[n], row of the input
    """

    name: str
    time: np.ndarray
    flux: np.ndarray
    error: np.ndarray
    model: np.ndarray
    row: np.ndarray

    @property
    def residual(self) -> np.ndarray:
        """Flux - model."""
        return self.flux - self.model


@dataclass(frozen=True)
class LensFit:
    """A single lens fitted to one light curve: F = fs A(t) + fb in each data set.

    Attributes
    ----------
    kind : str
        Fitter, such as "pspl".
    values, errors : dict of str to float
        t0 and tE in days, u0 in Einstein radii, and what else the fitter has.
    chi2, chi2_dof, chi2_flat : float
        Of the fit; chi2 / max(n - n_params, 1), fluxes not counted; of a constant in each data set.
    n_points : int
    status : str
        Whether the fit converged, or why there is none.
    fitted : bool
    source_flux, blend_flux : dict of str to float
        fs and fb of each data set, in the unit of the data.
    """

    kind: str
    values: dict[str, float]
    errors: dict[str, float]
    chi2: float
    chi2_dof: float
    chi2_flat: float
    n_points: int
    status: str
    fitted: bool
    source_flux: dict[str, float]
    blend_flux: dict[str, float]

    def summary(self) -> str:
        """The fit in a few lines."""
        if not self.fitted:
            return f"no {self.kind} fit: {self.status}"
        units = {"t0": " d", "tE": " d"}
        parts = [
            f"{name} = {number(value, self.errors[name])}{units.get(name, '')}"
            for name, value in self.values.items()
        ]
        lines = [f"{self.kind} fit ({self.status}): {', '.join(parts)}"]
        lines.append(
            f"  chi2 = {self.chi2:.1f}, chi2/dof = {self.chi2_dof:.3f}, of a constant {self.chi2_flat:.1f}"
        )
        for name, source in self.source_flux.items():
            lines.append(f"  {name}: source flux {source:.5g}, blend flux {self.blend_flux[name]:.5g}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Candidate:
    """A grid point that stands out; see :class:`skytrawl.kernels.scan.types.Diagnostics` for the quality."""

    t0: float
    teff: float
    dchi2: float
    template: str
    sign: int
    n_window: int
    n_contrib: int
    n_eff: float
    peak_frac: float
    rho1: float
    longest_run: int
    dchi2_rescaled: float
    n_sets: int
    n_coincident: int
    achromatic_chi2: float
    season: int

    @property
    def kind(self) -> str:
        """Bump or dip."""
        return "bump" if self.sign > 0 else "dip"

    def text(self) -> str:
        """One line: kind, place, scale, gain."""
        return f"{self.kind} at t0 = {self.t0:.3f}, teff = {self.teff:.3g} d, Δχ² = {self.dchi2:.1f}"


class WindowModel(NamedTuple):
    """The two models of one data set in a window: mean, and amplitude * template((t - t0) / teff) + base."""

    t0: float
    teff: float
    template: str
    amplitude: float
    base: float
    mean: float
    dchi2: float

    def at(self, time: np.ndarray) -> np.ndarray:
        """The template model at times [d]."""
        return self.amplitude * template_values(self.template, (time - self.t0) / self.teff) + self.base


def number(value: float, error: float) -> str:
    """Value ± error with two digits of the error; the value alone where the error is unknown.

    Of a value smaller than its error three digits are kept: a time scale reads 0.0834 ± 1.1e+02, not 0.
    """
    if not np.isfinite(error) or error <= 0:
        return f"{value:.6g}"
    if abs(value) < error:
        return f"{value:.3g} ± {error:.2g}"
    digits = max(0, 1 - int(np.floor(np.log10(error))))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


class Window(NamedTuple):
    """A stretch of rows whose residuals are too large.

    Attributes
    ----------
    dataset, kind : str
        Data set and how the stretch was found ("fixed", "hybrid", "blind_reduced").
    start, end : float, times of its first and last row [d]
    n_points : int
    chi2, reduced_chi2, max_abs_z : float
        Sum and mean of the squared residuals in units of their errors, and the largest of them.
    """

    dataset: str
    kind: str
    start: float
    end: float
    n_points: int
    chi2: float
    reduced_chi2: float
    max_abs_z: float

    def text(self) -> str:
        """One line: place, rows, chi-square."""
        return f"{self.start:.3f} to {self.end:.3f}, {self.n_points} rows, χ² = {self.chi2:.1f}"


def fit_columns(fit: LensFit | None) -> dict[str, Any]:
    """Columns of a fit in a table of one row."""
    if fit is None:
        return {}
    row: dict[str, Any] = {}
    for name in fit.values:
        row |= {f"fit_{name}": fit.values[name], f"fit_{name}_error": fit.errors[name]}
    return row | {"fit_chi2": fit.chi2, "fit_chi2_dof": fit.chi2_dof, "fit_status": fit.status}


def template_values(name: str, x: np.ndarray) -> np.ndarray:
    """Values of a template of the bank at x = (t - t0) / teff."""
    from skytrawl.kernels.scan.templates import bank

    function = bank((name,))[0].function
    return np.array([function(each) for each in x.tolist()])


def one_row(row: Mapping[str, Any]) -> Table:
    """A table of one row, times with the unit day."""
    from astropy.table import Table
    from astropy.units import day

    table = Table({name: [value] for name, value in row.items()})
    for name in table.colnames:
        if name.rpartition("_")[2] in ("t0", "teff", "tE", "start", "end") or name.endswith(
            ("t0_error", "tE_error")
        ):
            table[name].unit = day
    return table


def plain(value: Any) -> Any:
    """The value in types that JSON takes; NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def blank(kind: Any) -> Any:
    """The absent value of a field of a record."""
    return {"float": np.nan, "int": 0}.get(str(kind), "")
