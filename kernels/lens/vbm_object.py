"""All minima of one object."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.lens.types import FitOptions
from skytrawl.kernels.lens.vbm_model import KINDS, Model
from skytrawl.kernels.lens.vbm_solve import Limits, Rows, Solution, covariance, limits, solve
from skytrawl.kernels.lens.vbm_starts import mirrored, of_both_places, of_parallax, of_source, usual

# Minima are one if they differ by less than this part of their errors and of chi-square.
_SAME = 0.3


class Task(NamedTuple):
    """One object and what is fitted to it.

    Attributes
    ----------
    model : Model
    rows : Rows
    reference : float
        Time that the model counts from, in the days of the input.
    space : bool[n], rows of a telescope in space
    options : FitOptions
    max_piE : float
    seeds : tuple of (float, float)
    """

    model: Model
    rows: Rows
    reference: float
    space: NDArray[np.bool_]
    options: FitOptions
    max_piE: float
    seeds: tuple[tuple[float, float], ...]

    @property
    def limits(self) -> Limits:
        """Ranges of the parameters."""
        return limits(self.model, self.options, self.max_piE)


def minima(
    task: Task, lenses: list[NDArray[np.float64]], places: list[NDArray[np.float64]], full: bool
) -> list[Solution]:
    """Distinct minima, lowest chi-square first; with `positive_source`, dips after all others.

    Parameters
    ----------
    task : Task
    lenses : list of float64
        Point lenses (t0 from the reference, ln tE, u0), or with `full` starts of all parameters.
    places : list of float64[3]
        Two point lenses, as the rows on the Earth and those in space alone have them, or none.
    full : bool
    """
    found: list[Solution] = []
    for start in lenses if full else _starts(task, lenses, places):
        _add(found, solve(task.model, task.rows, start, task.limits, task.options))
    found = _ordered(task, found)
    displacement = task.model.displacement
    if found and displacement is not None and not full:
        start = mirrored(found[0].x, displacement)
        _add(found, solve(task.model, task.rows, start, task.limits, task.options))
    return _clipped(task, _ordered(task, found))


def _starts(
    task: Task, lenses: list[NDArray[np.float64]], places: list[NDArray[np.float64]]
) -> list[NDArray[np.float64]]:
    kind, displacement = task.model.kind, task.model.displacement
    log_rho = task.options.auto_init_logrho
    if displacement is None:
        return [start for lens in lenses for start in of_source(lens, log_rho)]
    bases = [base for lens in lenses for base in usual(lens, task.options.pspl_fit_u0_min)]
    if kind.source:
        # The size of the source without parallax first: the peak tells it, the wings the parallax.
        still = task._replace(model=Model(KINDS["fspl"], task.model.days, None))
        found = minima(still, lenses, [], False)
        bases = [found[0].x] if found else [np.append(lens, log_rho) for lens in lenses]
    starts = [start for base in bases for start in of_parallax(base, task.seeds)]
    if len(places) == 2:
        sizes = {float(base[3]) for base in bases} | {log_rho} if kind.source else {None}
        for size in sizes:
            starts += of_both_places(places[0], places[1], displacement, task.space, size)
    return starts


def _add(found: list[Solution], new: Solution | None) -> None:
    """Keep a solution unless it is there already; of two that are one, the lower."""
    if new is None or not np.isfinite(new.chi2):
        return
    for number, old in enumerate(found):
        if abs(old.chi2 - new.chi2) > _SAME:
            continue
        error = np.sqrt(np.diag(covariance(old)))
        if (np.abs(old.x - new.x) <= _SAME * np.where(np.isfinite(error), error, np.inf)).all():
            if new.chi2 < old.chi2:
                found[number] = new
            return
    found.append(new)


def _ordered(task: Task, found: list[Solution]) -> list[Solution]:
    def key(solution: Solution) -> tuple[bool, float]:
        dip = task.options.positive_source and float(solution.lines.source.sum()) <= 0
        return dip, solution.chi2

    return sorted(found, key=key)


def _clipped(task: Task, found: list[Solution]) -> list[Solution]:
    """Solutions without the rows that are farther from the lowest of them than the options allow."""
    sigma, rows = task.options.clip_sigma, task.rows
    for _ in range(task.options.clip_rounds if sigma > 0 and found else 0):
        best = found[0]
        dof = max(int(np.count_nonzero(rows.weight)) - len(best.x) - 2 * len(rows.starts), 1)
        far = np.abs(best.lines.residual) > sigma * np.sqrt(max(best.chi2 / dof, 1.0))
        if not far.any():
            break
        rows = rows._replace(weight=np.where(far, 0.0, rows.weight))
        again: list[Solution] = []
        for solution in found:
            _add(again, solve(task.model, rows, solution.x, task.limits, task.options))
        if not again:
            break
        found = _ordered(task, again)
    return found
