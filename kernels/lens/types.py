"""The records that go in and out of the single-lens fits."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError

OK, AT_BOUND, NOT_CONVERGED, FEW_POINTS, FLAT, NO_START, OUTSIDE = range(7)

#: What each status of a fit means. From `FEW_POINTS` on there is no lens in the model: its parameters are
#: NaN, and the model of each data set is its weighted mean.
STATUS_TEXT: dict[int, str] = {
    OK: "converged",
    AT_BOUND: "converged with u0 at its floor, or tE or another parameter at its limit",
    NOT_CONVERGED: "stopped at the largest number of iterations, or where no step lowers chi-square",
    FEW_POINTS: "fewer usable rows than parameters",
    FLAT: "no data set varies",
    NO_START: "no start with a finite chi-square and enough rows near the peak",
    OUTSIDE: "no position, or times or tref outside of the ephemeris (both are full Julian dates, BJD_TDB)",
}

STARTS = ("auto", "0.3.2", "0.5.2")


@dataclass(frozen=True)
class FitOptions:
    """How single-lens models are fitted. Names that begin with pspl_fit or auto_init are jacscanomaly's.

    Parameters
    ----------
    pspl_fit_u0_min : float
        Floor of abs(u0), in Einstein radii.
    pspl_fit_min_t0_support_points : int
        A lens needs so many rows near its t0; 0 switches the guard off.
    pspl_fit_t0_support_tE_coeff : float
        Near t0 is what lies within so many tE of it; 0 switches the guard off.
    tE_min, tE_max : float, days
        Limits of tE, in days.
    max_iterations : int
        Most steps of one fit.
    tolerance : float
        A fit has converged once a step lowers chi-square by less.
    start : str
        How starts are found where none is given: "auto", or as jacscanomaly "0.3.2" or "0.5.2" does.
    positive_source : bool
        Prefer starts and fits with a positive source flux; a dip is fitted only where there is nothing else.
        "0.3.2" does not look at the sign.
    auto_init_teff_min, auto_init_teff_max : float or None, days
        Range of effective time scales of the search, in days. None: 1 to 1000 for "0.3.2", 0.03 to 100 for
        "0.5.2", what the times allow for "auto".
    auto_init_teff_grid_n : int or None
        Number of scales; None: 25 for "0.3.2", 24 for "0.5.2". "auto" takes every factor of 2.
    auto_init_dt0_coeff : float
        Step of t0 over the scale ("0.3.2").
    auto_init_max_clusters : int or None
        Peaks that are followed; None: 1 for "0.3.2", 4 for "auto".
    auto_init_min_n_eff : float
        Effective number of rows that a peak must rest on ("auto", "0.3.2").
    auto_init_u0_min, auto_init_u0_max : float
        Range of u0 of the starts, in Einstein radii.
    auto_init_u0_grid_n : int
        Number of u0 ("0.5.2").
    auto_init_tE_min, auto_init_tE_max : float, days
        Range of tE of the starts, in days ("0.3.2").
    auto_init_tE_grid_n : int
        Number of tE ("0.3.2").
    auto_init_fft_grid_dt : float, days
        Step of the even grid of times of the matched filter, in days ("0.5.2").
    auto_init_fft_max_grid_points : int
        Most points of that grid: of longer light curves the step is larger ("0.5.2").
    auto_init_fft_top_k : int
        Cells of the matched filter, and templates whose best peak is followed ("0.5.2").
    auto_init_logrho : float
        Start of ln rho, for models with a finite source.
    clip_sigma : float
        Robust mode: rows farther from the model than so many errors are left out and the fit repeated; errors
        are enlarged where the median distance says that they are too small. 0: off.
    clip_rounds : int
        Most rounds of clipping.

    Raises
    ------
    ParameterError
        For values that cannot be meant.
    """

    pspl_fit_u0_min: float = 1e-4
    pspl_fit_min_t0_support_points: int = 3
    pspl_fit_t0_support_tE_coeff: float = 3.0
    tE_min: float = 1e-6
    tE_max: float = 1e8
    max_iterations: int = 200
    tolerance: float = 1e-8
    start: str = "auto"
    positive_source: bool = True
    auto_init_teff_min: float | None = None
    auto_init_teff_max: float | None = None
    auto_init_teff_grid_n: int | None = None
    auto_init_dt0_coeff: float = 0.25
    auto_init_max_clusters: int | None = None
    auto_init_min_n_eff: float = 2.0
    auto_init_u0_min: float = 1e-4
    auto_init_u0_max: float = 1.0
    auto_init_u0_grid_n: int = 8
    auto_init_tE_min: float = 1.0
    auto_init_tE_max: float = 1000.0
    auto_init_tE_grid_n: int = 4
    auto_init_fft_grid_dt: float = 0.02
    auto_init_fft_max_grid_points: int = 500_000
    auto_init_fft_top_k: int = 4
    auto_init_logrho: float = -7.0
    clip_sigma: float = 0.0
    clip_rounds: int = 3

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise ParameterError(f"start is {self.start!r}; it must be one of {', '.join(STARTS)}")
        for low, high in (
            ("tE_min", "tE_max"),
            ("auto_init_teff_min", "auto_init_teff_max"),
            ("auto_init_u0_min", "auto_init_u0_max"),
            ("auto_init_tE_min", "auto_init_tE_max"),
        ):
            ends = [getattr(self, name) for name in (low, high)]
            given = [x for x in ends if x is not None]
            if not all(np.isfinite(x) and x > 0 for x in given) or sorted(given) != given:
                raise ParameterError(f"{low} and {high} are {ends}; both must be positive, and ascend")
        for name in (
            "max_iterations",
            "auto_init_teff_grid_n",
            "auto_init_max_clusters",
            "auto_init_u0_grid_n",
            "auto_init_tE_grid_n",
            "auto_init_fft_max_grid_points",
            "auto_init_fft_top_k",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ParameterError(f"{name} is {value}; it must be 1 at least")
        for name in ("pspl_fit_u0_min", "tolerance", "auto_init_dt0_coeff", "auto_init_fft_grid_dt"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ParameterError(f"{name} is {getattr(self, name)}; it must be a positive number")
        if not self.clip_sigma >= 0:
            raise ParameterError(f"clip_sigma is {self.clip_sigma}; it must be 0 (off) or positive")


class Fits(NamedTuple):
    """Fitted single lenses: F = fs A(t) + fb in each data set.

    Errors follow from the curvature of chi-square with the errors of the data as given.

    Attributes
    ----------
    names : tuple of str
        Parameters of the lens, the first three "t0", "tE", "u0" (days, days, Einstein radii; u0 >= 0 where
        its sign means nothing).
    params : float64[n_objects, n_params], NaN where no lens was fitted
    covariance : float64[n_objects, n_params, n_params], source and blend fluxes marginalised
    chi2 : float64[n_objects]
    chi2_flat : float64[n_objects], of a constant in each data set
    n_points : int64[n_objects], rows that were fitted (without clipped ones)
    dof : int64[n_objects]
        Rows less all parameters: those of the lens, and a source and a blend flux a data set (one of them for
        a data set of one row).
    status : int64[n_objects], see `STATUS_TEXT`
    iterations : int64[n_objects], of the fit that won
    sets : int64[n_objects + 1], data sets of each object in the arrays below
    source_flux, blend_flux : float64[n_sets], fs and fb in the unit of the data
    source_error, blend_error : float64[n_sets], NaN where the data set does not determine them
    chi2_sets : float64[n_sets]
    """

    names: tuple[str, ...]
    params: NDArray[np.float64]
    covariance: NDArray[np.float64]
    chi2: NDArray[np.float64]
    chi2_flat: NDArray[np.float64]
    n_points: NDArray[np.int64]
    dof: NDArray[np.int64]
    status: NDArray[np.int64]
    iterations: NDArray[np.int64]
    sets: NDArray[np.int64]
    source_flux: NDArray[np.float64]
    blend_flux: NDArray[np.float64]
    source_error: NDArray[np.float64]
    blend_error: NDArray[np.float64]
    chi2_sets: NDArray[np.float64]

    @property
    def t0(self) -> NDArray[np.float64]:
        """Times of closest approach, days of the input."""
        return self.params[:, 0]

    @property
    def tE(self) -> NDArray[np.float64]:
        """Einstein times, days."""
        return self.params[:, 1]

    @property
    def u0(self) -> NDArray[np.float64]:
        """Impact parameters, Einstein radii."""
        return self.params[:, 2]

    @property
    def errors(self) -> NDArray[np.float64]:
        """Standard errors of `params`, of the same shape."""
        return np.sqrt(np.einsum("kii->ki", self.covariance))

    @property
    def fitted(self) -> NDArray[np.bool_]:
        """Objects with a lens."""
        return self.status < FEW_POINTS

    @property
    def chi2_dof(self) -> NDArray[np.float64]:
        """chi2 / max(n - n_params, 1), as jacscanomaly has it: the fluxes are not counted."""
        return self.chi2 / np.maximum(self.n_points - len(self.names), 1)
