"""Windows of residuals whose chi-square is too large, without any template (jacscanomaly 0.3.2).

With z = residual / error, per season and in order of time: windows of `fixed_window_points` rows whose sum of
z^2 reaches `hybrid_seed_chi2_threshold` are seeds, the largest first, none overlapping another. Around each
seed, within `hybrid_extension_points` rows on both sides, the stretch with the largest mean of z^2 that
overlaps the seed is a *hybrid* candidate. Windows that reach `fixed_chi2_threshold` are *fixed* candidates
instead of seeds; the *blind* candidate is the stretch with the largest mean of z^2 in the whole season.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError
from skytrawl.kernels.curves import Curves

KINDS = ("fixed", "hybrid", "blind_reduced")


@dataclass(frozen=True)
class TemplateFreeOptions:
    """Options of the scan (the TemplateFreeSearchConfig of jacscanomaly 0.3.2).

    Parameters
    ----------
    gap : float, days
    fixed_window_points : int
        Rows of the windows that are seeds or fixed candidates.
    fixed_chi2_threshold : float
        From here on such a window is a candidate itself and no seed (default: never).
    hybrid_seed_chi2_threshold : float
        From here on it is a seed.
    hybrid_reduced_chi2_threshold : float
        Mean z^2 that a hybrid candidate must reach.
    hybrid_extension_points : int
    reduced_min_points : int
    reduced_max_points : int or None
        Lengths of the stretches of hybrid and blind candidates.
    run_blind_reduced_chi2 : bool
        Look at every stretch of a season: costs the square of its rows unless `reduced_max_points` is set.
    max_candidates_per_season : int
        Limit of the seeds and of the fixed candidates, 1 at least.
    """

    gap: float = 100.0
    fixed_window_points: int = 20
    fixed_chi2_threshold: float = float("inf")
    hybrid_seed_chi2_threshold: float = 70.0
    hybrid_reduced_chi2_threshold: float = 6.0
    hybrid_extension_points: int = 12
    reduced_min_points: int = 5
    reduced_max_points: int | None = None
    run_blind_reduced_chi2: bool = False
    max_candidates_per_season: int = 50

    def __post_init__(self) -> None:
        if self.fixed_window_points < 1:
            raise ParameterError("fixed_window_points must be positive")
        if not self.gap > 0:
            raise ParameterError("gap must be positive")


class Windows(NamedTuple):
    """Candidates of each data set, largest chi2 first, none overlapping a larger one.

    Attributes
    ----------
    offsets : int64[n_sets + 1], windows ``offsets[d]:offsets[d + 1]`` are data set d; the first is the best
    kind : int64[n], index into `KINDS`
    season : int64[n], season of the data set
    start, stop : int64[n], rows ``start:stop`` of the curves
    t_start, t_end : float64[n], times of the first and last row [d]
    chi2, reduced_chi2 : float64[n], sum and mean of z^2
    max_abs_z : float64[n]
    seed_start, seed_stop : int64[n], rows of the seed of a hybrid candidate; else -1
    seed_chi2 : float64[n], else NaN
    """

    offsets: NDArray[np.int64]
    kind: NDArray[np.int64]
    season: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    t_start: NDArray[np.float64]
    t_end: NDArray[np.float64]
    chi2: NDArray[np.float64]
    reduced_chi2: NDArray[np.float64]
    max_abs_z: NDArray[np.float64]
    seed_start: NDArray[np.int64]
    seed_stop: NDArray[np.int64]
    seed_chi2: NDArray[np.float64]


def template_free(curves: Curves, options: TemplateFreeOptions | None = None) -> Windows:
    """Scan every data set, whose fluxes are residuals of a model.

    Parameters
    ----------
    curves : Curves
    options : TemplateFreeOptions, optional
    """
    o = TemplateFreeOptions() if options is None else options
    longest = -1 if o.reduced_max_points is None else max(1, o.reduced_min_points, o.reduced_max_points)
    # here, so that the options are at hand without Numba
    from skytrawl.kernels.scan.cpu_template_free import scan_windows

    offsets, where, seed_chi2, chi2 = scan_windows(
        curves.time, curves.flux, curves.error, curves.rows, o.gap, o.fixed_window_points,
        o.fixed_chi2_threshold, o.hybrid_seed_chi2_threshold, o.hybrid_reduced_chi2_threshold,
        max(0, o.hybrid_extension_points), max(1, o.reduced_min_points), longest, o.run_blind_reduced_chi2,
        max(1, min(o.max_candidates_per_season, len(curves.time))),
    )  # fmt: skip
    kind, season, start, stop, seed_start, seed_stop = (np.ascontiguousarray(column) for column in where.T)
    size = np.array(
        [np.abs(curves.flux[a:b] / curves.error[a:b]).max() for a, b in zip(start, stop, strict=True)]
    )
    return Windows(
        offsets, kind, season, start, stop, curves.time[start], curves.time[stop - 1], chi2,
        chi2 / (stop - start), size.astype(np.float64), seed_start, seed_stop, seed_chi2,
    )  # fmt: skip
