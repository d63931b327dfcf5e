"""Grid scans: a bank of templates fitted in every window of a grid of times and time scales."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError
from skytrawl.kernels.backend import Backend, resolve
from skytrawl.kernels.curves import Curves
from skytrawl.kernels.scan.templates import BELLS, Template
from skytrawl.kernels.scan.types import Candidates, Diagnostics, ScanGrid, ScanResult, teff_series

__all__ = [
    "BELLS",
    "KERNEL_VERSION",
    "Candidates",
    "Diagnostics",
    "ScanGrid",
    "ScanResult",
    "diagnose",
    "outside_scale",
    "scan",
    "teff_series",
    "workspace_bytes",
]

# Enters the fingerprint of every run: raise it when a kernel gives other numbers.
KERNEL_VERSION = "1"


def scan(
    curves: Curves,
    grid: ScanGrid,
    bank: Sequence[str | Template] = BELLS,
    k: int = 10,
    backend: Backend = "auto",
) -> ScanResult:
    """Fit a bank of templates at every grid point of each object, and keep the best clusters.

    At a grid point every data set with `grid.min_points` rows in the window is fitted on its own with a line
    ``a x + b`` in the template x, weighted by 1 / error^2::

        dchi2 = sum over the data sets of C^2 / V,  C = Sxy - Sx Sy / Sw,  V = Sxx - Sx^2 / Sw

    which is the gain in chi-square over a constant. The template with the largest sum counts, the later one
    of equal ones. Clusters are taken greedily in each season: the largest dchi2 (the first of equal ones in
    the order teff, t0), without what lies nearer than 3 (teff + teff_max), until fewer than 3 grid points are
    left. Values that agree to 1e-11 are equal, and below 1e-12 is nothing.

    On the CPU most points are computed with polynomials in place of the template, and whatever could be the
    largest within their error is fitted anew, so that what is returned is exact and no candidate is missed.

    Parameters
    ----------
    curves : Curves
        Seasons and grid of an object come from the times of all its data sets.
    grid : ScanGrid
    bank : sequence of str or Template
    k : int, clusters that are kept for each object
    backend : {"auto", "cpu", "cuda"}

    Returns
    -------
    ScanResult
        Objects without rows, of one time or of constant flux have no candidates.

    Raises
    ------
    ParameterError
        For an unknown template, an empty bank or k < 1.
    BackendUnavailableError
        For "cuda" where it is not usable.
    """
    if k < 1:
        raise ParameterError(f"k is {k}: keep 1 cluster at least")
    if resolve(backend) == "cuda":
        from skytrawl.kernels.scan import cuda

        return cuda.scan(curves, grid, bank, k)
    from skytrawl.kernels.scan import fused

    return fused.scan(curves, grid, bank, k)


def diagnose(
    curves: Curves,
    grid: ScanGrid,
    candidates: Candidates,
    bank: Sequence[str | Template] = BELLS,
    sigma: float = 3.0,
    source_flux: NDArray[np.float64] | None = None,
) -> Diagnostics:
    """Quality of candidates, from the rows in their windows.

    Parameters
    ----------
    curves, grid, bank
        As scanned.
    candidates : Candidates[n_objects, K], such as ``scan(...).top``
    sigma : float
        Rows with a gain above sigma^2 contribute; data sets with a rescaled dchi2 above sigma^2 coincide.
    source_flux : float64[n_sets], optional
        Source flux of each data set, in the unit of its flux, in which amplitudes are compared; data sets
        with NaN or 0 are left out of that comparison.

    Returns
    -------
    Diagnostics
        0 where there is no candidate, NaN for `achromatic_chi2`. Pairs and runs do not go from one data set
        to the next. Always computed on the CPU.

    Raises
    ------
    ParameterError
        If candidates, bank or source_flux do not belong to the curves and the grid.
    """
    from skytrawl.kernels.scan.quality import diagnose as run

    return run(curves, grid, candidates, bank, sigma, source_flux)


def outside_scale(curves: Curves, grid: ScanGrid, candidates: Candidates) -> NDArray[np.float64]:
    """Chi-square per degree of freedom of each data set outside the window of each candidate.

    ``k^2 = sum w (y - mean)^2 / (n - 1)`` over the n rows of all seasons that are not in the window, mean
    their weighted mean, ``w = 1 / error^2``; 1 with fewer than 10 such rows, and where they are all equal.
    Errors times k describe the scatter that the data set really has.

    Parameters
    ----------
    curves, grid
        As scanned.
    candidates : Candidates[n_objects, K]

    Returns
    -------
    float64[n_sets, K]
        No unit; NaN where there is no candidate.

    Raises
    ------
    ParameterError
        If the candidates do not belong to the curves and the grid.
    """
    from skytrawl.kernels.scan.quality import outside_scale as run

    return run(curves, grid, candidates)


def workspace_bytes(n_rows: int, grid: ScanGrid, days: float | None = None, n_templates: int = 2) -> int:
    """Most memory that a scan on the CPU takes beside its input and its result.

    It is bounded by the largest object, whatever its times: a filled grid point holds `min_points` rows, and
    a row lies in ``2 teff_coeff / dt0_coeff`` windows of a teff.

    Parameters
    ----------
    n_rows : int, rows of the largest object
    grid : ScanGrid
    days : float, optional
        Days from the first to the last time of the largest object, which bounds the grid as well.
    n_templates : int

    Returns
    -------
    int, bytes
    """
    longest = int(2 * grid.teff_coeff / grid.dt0_coeff) + 3
    points = runs = 0
    for teff in grid.teff:
        filled = n_rows * longest // grid.min_points
        if days is not None:
            # Each season may end within a step.
            filled = min(filled, int(days / (grid.dt0_coeff * teff)) + int(days / grid.gap) + 2)
        points += filled + 64
        runs += min(filled, n_rows)
    tables = 400_000 + 3 * 8 * 4096 * n_templates
    # Rows: times, weights, fluxes, bounds and sums; every row its own season at worst.
    return points * 13 + runs * 40 + n_rows * (200 + 40 * len(grid.teff)) + tables
