"""Least squares of one object: fluxes by variable projection, the lens by Levenberg-Marquardt steps.

The source and blend flux of each data set follow from a weighted straight line through (magnification, flux);
the derivatives of what remains are those of Kaufman (1975, BIT 15, 49). Steps are damped in proportion to the
curvature of each parameter (Marquardt 1963), so that no unit and no zero point of the times matters.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.lens.types import AT_BOUND, NOT_CONVERGED, OK, FitOptions
from skytrawl.kernels.lens.vbm_model import LOG_RHO, Model

_MOST_DAMPING = 1e12
# A fit that cannot be bettered has converged if its linear model promises less; the table of finite sources
# has kinks, at which chi-square is rough.
_NEGLIGIBLE, _ROUGH = 1e-4, 0.1


class Rows(NamedTuple):
    """Rows of one object: flux and weight float64[n], first row and number of each data set int64[n_sets]."""

    flux: NDArray[np.float64]
    weight: NDArray[np.float64]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums over the rows of each data set, along the last axis."""
        return np.add.reduceat(values, self.starts, axis=-1)

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values of the data sets to their rows."""
        return np.repeat(values, self.counts, axis=-1)


class Lines(NamedTuple):
    """Straight lines through (magnification, flux) of each data set.

    Attributes
    ----------
    source, blend : float64[n_sets]
    residual : float64[n], over the errors
    chi2 : float64[n_sets]
    centred : float64[n], magnification less its weighted mean
    mean, curvature, total : float64[n_sets], mean of the magnification, sum of w centred^2, sum of w
    """

    source: NDArray[np.float64]
    blend: NDArray[np.float64]
    residual: NDArray[np.float64]
    chi2: NDArray[np.float64]
    centred: NDArray[np.float64]
    mean: NDArray[np.float64]
    curvature: NDArray[np.float64]
    total: NDArray[np.float64]


class Solution(NamedTuple):
    """A minimum of chi-square: parameters of the steps, derivatives there, and how it ended."""

    x: NDArray[np.float64]
    chi2: float
    jacobian: NDArray[np.float64]
    by_source: NDArray[np.float64]
    by_blend: NDArray[np.float64]
    lines: Lines
    weight: NDArray[np.float64]
    status: int
    iterations: int


def draw_lines(rows: Rows, magnification: NDArray[np.float64]) -> Lines:
    """Best source and blend flux of each data set; no source flux where the magnification does not vary."""
    w = rows.weight
    total = rows.sums(w)
    safe = np.where(total > 0, total, 1.0)
    mean = rows.sums(w * magnification) / safe
    middle = rows.sums(w * rows.flux) / safe
    centred = magnification - rows.spread(mean)
    flux = rows.flux - rows.spread(middle)
    curvature = rows.sums(w * centred * centred)
    varies = curvature > 1e-24 * total * np.maximum(mean * mean, 1.0)
    curvature = np.where(varies, curvature, np.inf)
    source = rows.sums(w * centred * flux) / curvature
    residual = np.sqrt(w) * (flux - rows.spread(source) * centred)
    chi2 = rows.sums(residual * residual)
    return Lines(source, middle - source * mean, residual, chi2, centred, mean, curvature, total)


def _derivatives(
    rows: Rows, lines: Lines, by: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Derivatives of the residuals [n_params, n], and of source and blend fluxes [n_params, n_sets]."""
    w = rows.weight
    safe = np.where(lines.total > 0, lines.total, 1.0)
    means = rows.sums(w * by) / safe
    slopes = rows.sums(w * lines.centred * by) / lines.curvature
    left = by - rows.spread(means) - rows.spread(slopes) * lines.centred
    jacobian = -np.sqrt(w) * rows.spread(lines.source) * left
    by_source = -lines.source * slopes
    return jacobian, by_source, -lines.source * means - lines.mean * by_source


class Limits(NamedTuple):
    """Ranges of the parameters of the steps: float64[n_params] each; u0 by its absolute value."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    least_u0: float

    def clip(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bring parameters into the ranges, u0 with its sign."""
        x = np.clip(x, self.low, self.high)
        x[2] = np.copysign(max(abs(x[2]), self.least_u0), x[2])
        return x

    def touched(self, x: NDArray[np.float64]) -> bool:
        """Whether a parameter is at an end of its range."""
        ends = (x <= self.low) | (x >= self.high)
        return bool(ends.any() or (self.least_u0 > 0 and abs(x[2]) <= self.least_u0))


def limits(model: Model, options: FitOptions, max_piE: float) -> Limits:
    """Ranges for a model; the floor of u0 is for point sources, which magnify infinitely at 0."""
    low, high = np.full(model.n_params, -np.inf), np.full(model.n_params, np.inf)
    low[1], high[1] = np.log(options.tE_min), np.log(options.tE_max)
    if model.kind.source:
        low[3], high[3] = LOG_RHO
    if model.kind.parallax:
        low[-2:], high[-2:] = -max_piE, max_piE
    return Limits(low, high, 0.0 if model.kind.source else options.pspl_fit_u0_min)


def _supported(model: Model, x: NDArray[np.float64], options: FitOptions) -> bool:
    """Whether enough rows lie near the peak."""
    reach = options.pspl_fit_t0_support_tE_coeff * float(np.exp(x[1]))
    if reach <= 0 or options.pspl_fit_min_t0_support_points <= 0:
        return True
    near = np.count_nonzero(np.abs(model.days - x[0]) <= reach)
    return int(near) >= options.pspl_fit_min_t0_support_points


def solve(
    model: Model, rows: Rows, x: NDArray[np.float64], limits: Limits, options: FitOptions
) -> Solution | None:
    """Step from `x` to a minimum of chi-square.

    Parameters
    ----------
    model : Model
    rows : Rows
    x : float64[n_params], see `Model`
    limits : Limits
    options : FitOptions

    Returns
    -------
    Solution or None
        None if chi-square is not finite at the start, or too few rows lie near its peak.
    """
    x = limits.clip(np.array(x, np.float64))
    if not np.isfinite(x).all() or not _supported(model, x, options):
        return None
    value, by = model.derivatives(x)
    lines = draw_lines(rows, value)
    chi2 = float(lines.chi2.sum())
    if not np.isfinite(chi2):
        return None
    damping, status, iteration = 1e-3, NOT_CONVERGED, 0
    jacobian, by_source, by_blend = _derivatives(rows, lines, by)
    while iteration < options.max_iterations:
        iteration += 1
        # Not BLAS: its threads cost more than they save on a few thousand numbers, and compete with workers.
        hessian = np.einsum("in,jn->ij", jacobian, jacobian)
        gradient = np.einsum("in,n->i", jacobian, lines.residual)
        # A parameter that changes nothing stays where it is.
        diagonal = np.where(np.diag(hessian) > 0, np.diag(hessian), 1.0)
        lower = None
        while lower is None and damping < _MOST_DAMPING:
            step = np.linalg.solve(hessian + damping * np.diag(diagonal), -gradient)
            # Half of ln tE or ln rho in one step leaves the range in which a straight line means anything.
            step[[1, 3] if model.kind.source else [1]] = np.clip(
                step[[1, 3] if model.kind.source else [1]], -1.0, 1.0
            )
            tried = limits.clip(x + step)
            if _supported(model, tried, options):
                found = draw_lines(rows, model.magnification(tried))
                if float(found.chi2.sum()) < chi2:
                    lower = found
                    break
            damping *= 8.0
        if lower is None:
            promised = -float(gradient @ np.linalg.lstsq(hessian, -gradient, rcond=1e-12)[0])
            near = promised < (_ROUGH if model.kind.source else _NEGLIGIBLE)
            status = OK if near or limits.touched(x) else NOT_CONVERGED
            break
        gain = chi2 - float(lower.chi2.sum())
        x, lines, chi2 = tried, lower, chi2 - gain
        jacobian, by_source, by_blend = _derivatives(rows, lines, model.derivatives(x)[1])
        damping = max(damping / 8.0, 1e-12)
        if gain < options.tolerance:
            status = OK
            break
    if status == OK and limits.touched(x):
        status = AT_BOUND
    return Solution(x, chi2, jacobian, by_source, by_blend, lines, rows.weight, status, iteration)


def covariance(solution: Solution) -> NDArray[np.float64]:
    """Inverse of the curvature: float64[n_params, n_params], of the parameters of the steps.

    Infinite variances where chi-square does not depend on a parameter.
    """
    hessian = np.einsum("in,jn->ij", solution.jacobian, solution.jacobian)
    n = len(hessian)
    scale = np.sqrt(np.diag(hessian))
    known = np.flatnonzero(scale > 0)
    result = np.zeros((n, n))
    result[np.diag_indices(n)] = np.inf
    part = np.ix_(known, known)
    outer = np.outer(scale[known], scale[known])
    try:
        result[part] = np.linalg.inv(hessian[part] / outer) / outer
    except np.linalg.LinAlgError:
        return result
    broken = known[~(np.diag(result)[known] > 0)]
    result[broken] = result[:, broken] = 0.0
    result[broken, broken] = np.inf
    return result
