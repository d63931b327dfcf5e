"""Parameters that the lens and scan jobs share: which rows, the grid, the fit, the cuts on candidates.

Names and defaults are those of jacscanomaly 0.3.2's FinderConfig where it has the field.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skytrawl.errors import ParameterError
from skytrawl.kernels.lens.types import FitOptions
from skytrawl.kernels.lens.vbm_model import KINDS
from skytrawl.kernels.scan.criteria import CandidateCriteria
from skytrawl.kernels.scan.templates import BELLS, bank
from skytrawl.kernels.scan.types import ScanGrid, teff_series
from skytrawl.params import option

FITTERS = ("pspl", *KINDS)
BASELINES = (*FITTERS, "constant", "none")


@dataclass(frozen=True, kw_only=True)
class RowParameters:
    """Which observations enter, and how magnitudes become fluxes."""

    bands: tuple[str, ...] = option((), "bands (data sets) to use; none = all of the archive")
    zero_point: float = option(22.0, "magnitudes become fluxes 10**(-0.4 (m - zero_point))", "mag")
    quality_mask: int = option(0, "leave out rows with any of these bits in the archive's quality column")

    def __post_init__(self) -> None:
        if isinstance(self.bands, str):
            raise ParameterError(f"bands is {self.bands!r}: give a list of names")
        if self.quality_mask < 0:
            raise ParameterError("quality_mask must not be negative")


@dataclass(frozen=True, kw_only=True)
class GridParameters:
    """The grid of the template scan."""

    templates: tuple[str, ...] = option(BELLS, "bank of templates that are fitted in each window")
    gap: float = option(100.0, "longest gap inside a season", "d")
    teff_init: float = option(0.03, "shortest effective time scale", "d")
    common_ratio: float = option(4.0 / 3.0, "ratio of neighbouring effective time scales")
    teff_grid_n: int = option(24, "number of effective time scales")
    dt0_coeff: float = option(0.17, "step of t0 in units of teff")
    teff_coeff: float = option(3.0, "half width of a window in units of teff")
    min_pts_in_window: int = option(4, "windows with fewer rows of a data set are empty")
    overlap_sigma: float = option(
        3.0, "a candidate removes grid points within this times the sum of both teff"
    )

    def __post_init__(self) -> None:
        bank(self.templates)
        for name in ("gap", "teff_init", "dt0_coeff", "teff_coeff", "overlap_sigma"):
            if not 0 < getattr(self, name) < math.inf:
                raise ParameterError(f"{name} is {getattr(self, name)}: it must be a positive number")
        if self.teff_grid_n < 1 or not self.common_ratio > 1:
            raise ParameterError("teff_grid_n must be 1 at least and common_ratio larger than 1")
        if self.min_pts_in_window < 2:
            raise ParameterError("min_pts_in_window must be 2 at least: two parameters are fitted")
        self.grid()

    def grid(self, *, as_original: bool = False) -> ScanGrid:
        """The grid as the kernels take it."""
        return ScanGrid(
            gap=self.gap,
            teff=teff_series(self.teff_init, self.common_ratio, self.teff_grid_n),
            dt0_coeff=self.dt0_coeff,
            teff_coeff=self.teff_coeff,
            min_points=self.min_pts_in_window,
            overlap=self.overlap_sigma,
            as_original=as_original,
        )


@dataclass(frozen=True, kw_only=True)
class CandidateParameters(CandidateCriteria):
    """Cuts on candidates, applied after clustering; none cuts nothing.

    The best bump and the best dip, of which false-alarm probabilities are given, are not cut.
    """

    sigma: float = option(3.0, "a row contributes where its gain exceeds sigma^2")

    def passes(self, columns: dict[str, Any]) -> Any:
        """Whether there is a candidate that passes every cut: a boolean array of the shape of the columns."""
        return (columns["dchi2"] > 0) & self.satisfied(columns)


@dataclass(frozen=True, kw_only=True)
class FitParameters(RowParameters, FitOptions, ABC):
    """Which rows enter a lens fit, and how it is done; each job names its lens model in its own way."""

    ra_deg: float | None = option(None, "right ascension for parallax; none = of each object", "deg")
    dec_deg: float | None = option(None, "declination for parallax; none = of each object", "deg")
    tref: float | None = option(
        None,
        "BJD_TDB less 2400000.5 when the frame of t0, tE, u0 moves with the observer; none = median time",
        "d",
    )
    satellite_ephemeris_path: Path | None = field(
        default=None, metadata={"help": "table of JD, RA, Dec and distance in AU of the telescope in space"}
    )
    satellite_bands: tuple[str, ...] = option((), "bands that were taken from space; none = all")
    space_parallax_convention: str = option(
        "vbm", "places of the satellite from the Earth (vbm) or the Sun (gulls)", "", ("vbm", "gulls")
    )
    parallax_use_HJD: bool = option(True, "times are of the Sun's place; false adds the way of the light")
    max_piE: float = option(10.0, "limit of each component of the parallax")

    def __post_init__(self) -> None:
        RowParameters.__post_init__(self)
        FitOptions.__post_init__(self)
        if (self.ra_deg is None) != (self.dec_deg is None):
            raise ParameterError("give both ra_deg and dec_deg, or none for the positions of the archive")
        if self.dec_deg is not None and not (abs(self.dec_deg) <= 90 and math.isfinite(self.ra_deg or 0.0)):
            raise ParameterError(f"ra_deg {self.ra_deg}, dec_deg {self.dec_deg} is no place on the sky")
        if not self.max_piE > 0:
            raise ParameterError(f"max_piE is {self.max_piE}: it must be positive")

    @property
    @abstractmethod
    def lens_model(self) -> str:
        """The fitter kind."""

    @property
    def convention(self) -> Any:
        """Convention of the satellite's places: "vbm" or "gulls"."""
        return "gulls" if "gulls" in self.lens_model else self.space_parallax_convention

    def fit_options(self) -> FitOptions:
        """The options as the kernels take them."""
        return FitOptions(**{f.name: getattr(self, f.name) for f in dataclasses.fields(FitOptions)})


@dataclass(frozen=True, kw_only=True)
class BaselineParameters(FitParameters):
    """Which rows enter a scan, and what is subtracted before."""

    baseline: str = option(
        "pspl",
        "what is subtracted before the scan: a lens fit of this kind, a constant a band, or nothing (to find "
        "events in raw flux)",
        "",
        BASELINES,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.baseline not in BASELINES:
            raise ParameterError(f"baseline is {self.baseline!r}: choose one of {', '.join(BASELINES)}")

    @property
    def lens_model(self) -> str:
        """The baseline, where it is a lens."""
        return self.baseline


@dataclass(frozen=True, kw_only=True)
class ScanParameters(BaselineParameters, GridParameters, CandidateParameters):
    """Everything a template scan is told, from the rows to the candidates."""

    n_candidates: int = option(10, "candidates kept of each object")
    isolated_sigma: float = option(
        0.0,
        "leave out single rows that lie so many times the scatter above both neighbours, or below; 0 is off",
    )

    def __post_init__(self) -> None:
        BaselineParameters.__post_init__(self)
        GridParameters.__post_init__(self)
        if not self.sigma > 0:
            raise ParameterError(f"sigma is {self.sigma}: it must be positive")
        if not self.isolated_sigma >= 0:
            raise ParameterError("isolated_sigma must be 0 (off) or positive")
        if self.n_candidates < 1:
            raise ParameterError("n_candidates must be 1 at least")
