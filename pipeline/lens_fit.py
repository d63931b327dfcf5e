"""Job lens-fit: a point-source point-lens model for every object, over all its bands at once.

F = fs A(u) + fb in each band, A(u) = (u^2 + 2) / (u sqrt(u^2 + 4)), u^2 = u0^2 + ((t - t0) / tE)^2
(Paczynski 1986, ApJ 304, 1, eq. 6); see :mod:`skytrawl.kernels.lens`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skytrawl.catalogs.schema import Variable
from skytrawl.errors import ParameterError
from skytrawl.job import Arrays, Job, Prepared
from skytrawl.kernels import lens
from skytrawl.lens_models import (
    fit_lens,
    parameter_names,
    positions_needed,
    require_start,
    sky_inputs,
    sky_of,
    sky_payload,
)
from skytrawl.params import option
from skytrawl.scan_common import by_band, curves_of, photometry, rows_needed, rows_of_objects
from skytrawl.scan_params import FITTERS, FitParameters

if TYPE_CHECKING:
    from skytrawl.catalogs.archive import Archive, Block

STATUS = "; ".join(f"{code} {text}" for code, text in lens.STATUS_TEXT.items())


@dataclass(frozen=True, kw_only=True)
class Parameters(FitParameters):
    """Parameters of lens-fit."""

    fitter_kind: str = option("pspl", "lens model; all but pspl need the extra lens", "", FITTERS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fitter_kind not in FITTERS:
            raise ParameterError(f"fitter_kind is {self.fitter_kind!r}: choose one of {', '.join(FITTERS)}")

    @property
    def lens_model(self) -> str:
        """The fitter kind."""
        return self.fitter_kind


def job_needs(parameters: Parameters, archive: Archive) -> tuple[str, ...]:
    """Variables that are read."""
    return (*rows_needed(parameters, archive), *positions_needed(parameters, archive))


def prepare(parameters: Parameters, archive: Archive) -> Prepared:
    """Pin bands and flux system."""
    job_needs(parameters, archive)
    system = photometry(parameters, archive)
    bands = [archive.bands[code] for code in system.codes]
    require_start(parameters, bands)
    unit = f"{system.zero_point:g} mag" if system.magnitudes else archive.attrs["light_curves"]["units"]
    sky = sky_payload(parameters, archive)
    return Prepared({"system": system, "bands": bands, "flux_unit": unit, **sky}, sky_inputs(parameters))


PARAMETERS = {
    "t0": (
        "time of closest approach",
        "d",
        "as the times of the archive; with parallax BJD_TDB less 2400000.5",
    ),
    "tE": ("Einstein time", "d", ""),
    "u0": ("impact parameter", "", "Einstein radii; has a sign with parallax only"),
    "rho": ("radius of the source", "", "Einstein radii"),
    "piEN": ("microlensing parallax, north", "", ""),
    "piEE": ("microlensing parallax, east", "", ""),
}


def fit_variables(lens_model: str) -> tuple[Variable, ...]:
    """Variables of a fit with one value an object; lens-fit and scan give them."""

    def of(name: str, dtype: str, long_name: str, units: str = "", comment: str = "") -> Variable:
        return Variable(name, ("object",), dtype, units, long_name, comment=comment)

    return (
        *(of(name, "float64", *PARAMETERS[name]) for name in parameter_names(lens_model)),
        of("fit_chi2", "float64", "chi-square of the lens fit"),
        of("fit_chi2_dof", "float64", "reduced chi-square", "", "chi2 / max(n - parameters of the lens, 1)"),
        of("fit_status", "int64", "status of the lens fit", "", STATUS),
    )


def fit_columns(fits: lens.Fits) -> Arrays:
    """Values of `fit_variables`."""
    return {
        **{name: fits.params[:, i].copy() for i, name in enumerate(fits.names)},
        "fit_chi2": fits.chi2,
        "fit_chi2_dof": fits.chi2_dof,
        "fit_status": fits.status,
    }


def gives(parameters: Parameters, prepared: Prepared) -> tuple[Variable, ...]:
    """Variables of the results."""

    def of(name: str, dtype: str, long_name: str, units: str = "", *more: str) -> Variable:
        return Variable(name, ("object", *more), dtype, units, long_name)

    flux = prepared.payload.get("flux_unit", "")
    return (
        *fit_variables(parameters.lens_model),
        *(
            of(f"{name}_error", "float64", f"standard error of {name}", PARAMETERS[name][1])
            for name in parameter_names(parameters.lens_model)
        ),
        of("flat_chi2", "float64", "chi-square of a constant in each band"),
        of("dof", "int64", "degrees of freedom"),
        of("iterations", "int64", "iterations of the fit that won"),
        of("source_flux", "float64", "source flux", flux, "band"),
        of("source_flux_error", "float64", "standard error of the source flux", flux, "band"),
        of("blend_flux", "float64", "blend flux", flux, "band"),
        of("blend_flux_error", "float64", "standard error of the blend flux", flux, "band"),
        of("band_chi2", "float64", "chi-square of each band", "", "band"),
        of("n_used", "int64", "observations that were fitted"),
        of("n_cut", "int64", "upper limits, masked rows, rows of other bands, clipped rows"),
        of("n_dropped", "int64", "rows without finite values or with an error <= 0"),
    )


def coords(parameters: Parameters, prepared: Prepared) -> dict[str, list[Any]]:
    """Names of the bands."""
    return {"band": list(prepared.payload["bands"])}


def block(block: Block, parameters: Parameters, prepared: Prepared, backend: str) -> Arrays:
    """Fit the objects of a block."""
    system = prepared.payload["system"]
    curves, dropped, n_cut = curves_of(block, parameters, system)
    fits, _ = fit_lens(curves, parameters, sky_of(block, prepared.payload))
    errors, n_used = fits.errors, rows_of_objects(curves)
    sets = {
        "source_flux": fits.source_flux,
        "source_flux_error": fits.source_error,
        "blend_flux": fits.blend_flux,
        "blend_flux_error": fits.blend_error,
        "band_chi2": fits.chi2_sets,
    }
    return {
        **fit_columns(fits),
        **{f"{name}_error": errors[:, i].copy() for i, name in enumerate(fits.names)},
        "flat_chi2": fits.chi2_flat,
        "dof": fits.dof,
        "iterations": fits.iterations,
        **{name: by_band(values, curves, system.codes) for name, values in sets.items()},
        "n_used": fits.n_points,
        "n_cut": n_cut + n_used - fits.n_points,
        "n_dropped": dropped.not_finite + dropped.bad_error,
    }


def memory(n_objects: int, n_observations: int, parameters: Parameters, prepared: Prepared) -> int:
    """Bytes of work space: fluxes, residuals and weights of all rows, and the tables of the bands."""
    return 150 * n_observations + 80 * n_objects * len(prepared.payload["bands"])


JOB = Job(
    name="lens-fit",
    summary="fit a microlensing event (point source, point lens) to every object",
    parameters=Parameters,
    needs=job_needs,
    gives=gives,
    prepare=prepare,
    block=block,
    memory=memory,
    kernel_version=lens.KERNEL_VERSION,
    backends=("cpu",),
    coords=coords,
)
