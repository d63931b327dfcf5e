"""The records that go in and out of the grid scans."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError


def teff_series(first: float = 0.03, ratio: float = 4.0 / 3.0, count: int = 24) -> tuple[float, ...]:
    """Effective time scales of a scan, ``first * ratio**k`` in days (default: 0.03 to 22.42 d)."""
    # NumPy's power, as jacscanomaly has it: Python's differs in the last place.
    return tuple((first * np.power(ratio, np.arange(count))).tolist())


@dataclass(frozen=True)
class ScanGrid:
    """Where templates are fitted: every (t0, teff) of a grid, in windows of the light curve.

    In each season (data without a gap longer than `gap`) and for each teff, t0 runs from the first time in
    steps of ``dt0_coeff * teff`` to the last time (excluded). A window holds the rows with
    ``|t - t0| < teff_coeff * teff``; with fewer than `min_points` rows it is empty and costs nothing.

    Parameters
    ----------
    gap : float, days
    teff : tuple of float, days, ascending
    dt0_coeff, teff_coeff : float
    min_points : int
    overlap : float
        A chosen point removes the points with ``|dt0| < overlap * (teff + teff of the chosen one)``.
    as_original : bool
        Grid points and window edges rounded bit for bit as jacscanomaly has them (``numpy.arange`` on the
        given times). By default times are taken from the start of their season, so that no offset of the
        times changes anything, and a row closer than 3e-7 d to the edge of a window is outside.
    """

    gap: float = 100.0
    teff: tuple[float, ...] = field(default_factory=teff_series)
    dt0_coeff: float = 0.17
    teff_coeff: float = 3.0
    min_points: int = 4
    overlap: float = 3.0
    as_original: bool = False

    def __post_init__(self) -> None:
        positive = (self.gap, self.dt0_coeff, self.teff_coeff, self.overlap, *self.teff)
        if not self.teff or not all(np.isfinite(x) and x > 0 for x in positive):
            raise ParameterError("gap, dt0_coeff, teff_coeff, overlap and every teff must be positive")
        if list(self.teff) != sorted(set(self.teff)):
            raise ParameterError("teff must ascend")
        if self.min_points < 2:
            raise ParameterError("min_points must be 2 at least: two parameters are fitted")


class Candidates(NamedTuple):
    """Grid points of each object, best first; absent ones have season -1, NaN and 0.

    `t0` is in the days of the input. With several data sets `dchi2` is the sum over those whose window holds
    min_points rows, each with its own amplitude and base, and `n_window` counts their rows.

    Attributes
    ----------
    season, scale, step : int64[n_objects, K]
        Season, index into the teff series, index of t0 in its row of the grid.
    t0, teff, dchi2 : float64[n_objects, K]; days, days, no unit
    template : int64[n_objects, K], index into the bank
    sign : int64[n_objects, K], +1 bump, -1 dip (0 absent): sign of the amplitudes, weighted by their dchi2
    n_window : int64[n_objects, K]
    """

    season: NDArray[np.int64]
    scale: NDArray[np.int64]
    step: NDArray[np.int64]
    t0: NDArray[np.float64]
    teff: NDArray[np.float64]
    dchi2: NDArray[np.float64]
    template: NDArray[np.int64]
    sign: NDArray[np.int64]
    n_window: NDArray[np.int64]


class ScanResult(NamedTuple):
    """What leaves the fused scan.

    Attributes
    ----------
    top : Candidates[n_objects, K], the K best clusters over all seasons
    extreme : Candidates[n_objects, 2]
        The best bump and the best dip by ``dchi2 / noise[scale]``.
    noise : float64[n_objects, n_teff]
        How much larger than for white noise the typical dchi2 of each teff is: median over the grid points
        of positive dchi2 over that of chi-square with one degree of freedom (0.4549), never below 1, drawn
        towards 1 where few independent windows (n) tell it: (n m + 10) / (n + 10). 1 where there is no point.
    n_seasons, n_grid, n_filled : int64[n_objects]
        Seasons, points of the whole grid, points whose window holds min_points rows.
    """

    top: Candidates
    extreme: Candidates
    noise: NDArray[np.float64]
    n_seasons: NDArray[np.int64]
    n_grid: NDArray[np.int64]
    n_filled: NDArray[np.int64]


class Diagnostics(NamedTuple):
    """Quality of candidates, weighted by the errors.

    With d_i = w_i (r_flat^2 - r_template^2) and u_i = max(d_i, 0), over all data sets of the window, in order
    of time inside each data set; all arrays are [n_objects, K].

    Attributes
    ----------
    n_window, n_contrib : int64, rows in the window, rows with u_i > sigma^2
    n_eff : float64, (sum u)^2 / sum u^2
    peak_frac : float64, max u / sum u
    rho1 : float64, autocovariance of d at lag 1 (mean over the n - 1 pairs) over its population variance
    longest_run : int64, longest run of consecutive rows with u_i > sigma^2
    dchi2_rescaled : float64
        Sum over the data sets of dchi2 / k^2, k^2 the chi-square per degree of freedom of the data set's
        residuals outside the window about their weighted mean (1 where fewer than 10 rows lie outside), see
        `outside_scale`.
    n_sets : int64, data sets with min_points rows in the window
    n_coincident : int64, those of them with dchi2 / k^2 > sigma^2 and an amplitude of the candidate's sign
    achromatic_chi2 : float64
        Chi-square about their weighted mean of the amplitudes in units of the source flux (if given, else of
        the given flux unit) over the data sets of n_sets, with errors times k; n_sets - 1 degrees of freedom;
        NaN with fewer than 2.
    """

    n_window: NDArray[np.int64]
    n_contrib: NDArray[np.int64]
    n_eff: NDArray[np.float64]
    peak_frac: NDArray[np.float64]
    rho1: NDArray[np.float64]
    longest_run: NDArray[np.int64]
    dchi2_rescaled: NDArray[np.float64]
    n_sets: NDArray[np.int64]
    n_coincident: NDArray[np.int64]
    achromatic_chi2: NDArray[np.float64]
