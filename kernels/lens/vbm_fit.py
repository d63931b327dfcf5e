"""Fits of single lenses with a finite source, annual parallax or space parallax, through VBMicrolensing."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.curves import Curves
from skytrawl.kernels.lens.types import FEW_POINTS, FLAT, NO_START, OUTSIDE, FitOptions, Fits
from skytrawl.kernels.lens.vbm import require
from skytrawl.kernels.lens.vbm_model import Kind, Model, kind_of
from skytrawl.kernels.lens.vbm_object import Task, minima
from skytrawl.kernels.lens.vbm_scene import Parallax, check, displacement_of
from skytrawl.kernels.lens.vbm_solve import Rows, Solution, covariance, draw_lines


class Solutions(NamedTuple):
    """Distinct minima of each object, lowest chi-square first; NaN where there are no more.

    Attributes
    ----------
    params : float64[n_objects, count, n_params], as `Fits.params`
    covariance : float64[n_objects, count, n_params, n_params]
    chi2 : float64[n_objects, count]
    """

    params: NDArray[np.float64]
    covariance: NDArray[np.float64]
    chi2: NDArray[np.float64]


def fit(
    curves: Curves,
    start: NDArray[np.float64] | None = None,
    options: FitOptions | None = None,
    *,
    kind: str,
    parallax: Parallax | None = None,
) -> Fits:
    """Fit a single lens with a finite source, parallax or both to every object; the first of `solutions`."""
    return solutions(curves, start, options, kind=kind, parallax=parallax, count=1)[0]


def solutions(
    curves: Curves,
    start: NDArray[np.float64] | None = None,
    options: FitOptions | None = None,
    *,
    kind: str,
    parallax: Parallax | None = None,
    count: int = 4,
) -> tuple[Fits, Solutions]:
    """Fit from several starts, and tell the minima apart.

    With parallax u0 has a sign, and a minimum of one sign has a partner of the other that may fit as well.
    From the Earth and from space together there are four.

    Parameters
    ----------
    curves : Curves
        For kinds with parallax, times are full Julian dates (BJD_TDB).
    start : float64[n_objects, k] or float64[n_objects, m, k], optional
        One or several starts an object: with k = 3 point lenses (t0, tE, u0) in place of the fit of
        `skytrawl.kernels.lens.fit`; with all parameters of the kind, just where to begin. Rows with NaN do
        not count.
    options : FitOptions, optional
    kind : str
        One of `skytrawl.kernels.lens.vbm_model.KINDS`.
    parallax : Parallax
        Required by kinds with parallax.
    count : int
        Most minima that are returned.

    Returns
    -------
    Fits, Solutions
        `Fits` holds the lowest minimum (with ``positive_source`` the lowest whose source fluxes add up to
        more than nothing, if there is one). Variances are infinite where chi-square does not depend on a
        parameter, such as on rho of a source that is too small. Bad objects have a status and raise nothing.

    Raises
    ------
    ParameterError
        For an unknown kind, or one that lacks its coordinates, ephemeris or satellite.
    BackendUnavailableError
        Without VBMicrolensing.
    ValueError
        If `start` has another shape.
    """
    require()
    options = FitOptions() if options is None else options
    what = kind_of(kind)
    n, size = curves.n_objects, len(what.names)
    check(what, kind, parallax, n)
    given, full, status = _given(curves, start, options, size)
    params, errors = np.full((n, size), np.nan), np.full((n, size, size), np.nan)
    numbers = np.zeros((n, 5))  # chi-square, that of a constant, rows, degrees of freedom, iterations
    of_sets = np.full((curves.n_sets, 5), np.nan)
    found = Solutions(
        np.full((n, count, size), np.nan),
        np.full((n, count, size, size), np.nan),
        np.full((n, count), np.nan),
    )
    for k in range(n):
        sets = of_sets[curves.sets[k] : curves.sets[k + 1]]
        task = _task(curves, k, what, options, parallax)
        if not len(sets) or len(task.rows.flux) <= size + _n_fluxes(task.rows):
            status[k] = FEW_POINTS
        elif status[k] < FEW_POINTS and what.parallax and task.model.displacement is None:
            status[k] = OUTSIDE
        best: list[Solution] = []
        if status[k] < FEW_POINTS:
            lenses = [_inward(task, x) for x in given[k] if np.isfinite(x).all() and x[1] > 0]
            places = [] if full else _places(curves, k, task, options)
            best = minima(task, lenses, places, full)
            status[k] = best[0].status if best else NO_START
        _constant(task.rows, numbers[k], sets)
        for number, solution in enumerate(best[:count]):
            found.params[k, number], found.covariance[k, number] = _outward(task, solution)
            found.chi2[k, number] = solution.chi2
        if best:
            params[k], errors[k] = _outward(task, best[0])
            _fill(task, best[0], errors[k], numbers[k], sets)
    chi2, flat = numbers[:, 0].copy(), numbers[:, 1].copy()
    n_points, dof, iterations = (numbers[:, c].astype(np.int64) for c in (2, 3, 4))
    fluxes = (of_sets[:, c].copy() for c in range(5))
    return (
        Fits(what.names, params, errors, chi2, flat, n_points, dof, status, iterations, curves.sets, *fluxes),
        found,
    )


def model(curves: Curves, fits: Fits, *, kind: str, parallax: Parallax | None = None) -> NDArray[np.float64]:
    """Model flux of such fits at every row, float64[n_rows]: fs A + fb, or the weighted mean without a lens.

    Raises
    ------
    ValueError
        If the fits are of other data sets or of another kind.
    """
    what = kind_of(kind)
    check(what, kind, parallax, curves.n_objects)
    if fits.names != what.names or len(fits.source_flux) != curves.n_sets:
        raise ValueError(
            f"fits of {', '.join(fits.names)} to {len(fits.source_flux)} data sets; kind {kind!r} has "
            f"{', '.join(what.names)}, the curves {curves.n_sets} data sets"
        )
    result = np.repeat(fits.blend_flux, np.diff(curves.rows))
    for k in np.flatnonzero(fits.fitted):
        task = _task(curves, int(k), what, FitOptions(), parallax)
        sets = slice(curves.sets[k], curves.sets[k + 1])
        rows = slice(curves.rows[sets.start], curves.rows[sets.stop])
        result[rows] += task.rows.spread(fits.source_flux[sets]) * task.model.magnification(
            _inward(task, fits.params[k])
        )
    return result


def _given(
    curves: Curves, start: NDArray[np.float64] | None, options: FitOptions, size: int
) -> tuple[NDArray[np.float64], bool, NDArray[np.int64]]:
    """Starts float64[n_objects, m, k], whether they have all parameters, and a status of each object."""
    n = curves.n_objects
    if start is not None:
        given = np.asarray(start, np.float64)
        given = given[:, None] if given.ndim == 2 else given
        if given.ndim != 3 or given.shape[0] != n or given.shape[2] not in (3, size):
            raise ValueError(
                f"start has shape {np.shape(start)}; it must be ({n}, k) or ({n}, m, k), k = 3 or {size}"
            )
        return given, given.shape[2] != 3, np.zeros(n, np.int64)
    from skytrawl.kernels.lens import fit as fit_point

    points = fit_point(curves, None, options)
    return (
        points.params[:, None],
        False,
        np.where(points.status == FLAT, FLAT, np.where(points.fitted, 0, points.status)),
    )


def _task(curves: Curves, k: int, kind: Kind, options: FitOptions, parallax: Parallax | None) -> Task:
    """An object, ready to be fitted; without displacement where it has no position or ephemeris."""
    bounds = curves.rows[curves.sets[k] : curves.sets[k + 1] + 1]
    part = slice(int(bounds[0]), int(bounds[-1]))
    time = curves.time[part]
    rows = Rows(curves.flux[part], curves.error[part] ** -2.0, bounds[:-1] - bounds[0], np.diff(bounds))
    place = None
    if kind.parallax and parallax is not None and len(time):
        place = displacement_of(curves, k, kind, parallax)
    reference = float(np.median(time)) if len(time) else 0.0
    if place is not None:
        reference = place[0].tref
    model = Model(kind, time - reference, None if place is None else place[0])
    space = np.zeros(len(time), bool) if place is None else place[1]
    if parallax is None:
        return Task(model, rows, reference, space, options, 0.0, ())
    return Task(model, rows, reference, space, options, parallax.max_piE, parallax.seeds)


def _places(curves: Curves, k: int, task: Task, options: FitOptions) -> list[NDArray[np.float64]]:
    """Point lenses of the rows on the Earth alone and of those in space alone, where there are both."""
    if task.space.all() or not task.space.any():
        return []
    from skytrawl.kernels.lens import fit as fit_point

    first = int(curves.rows[curves.sets[k]])
    found = []
    for rows in (~task.space, task.space):
        kept = [d for d in range(len(task.rows.starts)) if rows[task.rows.starts[d]]]
        at = first + np.flatnonzero(rows)
        alone = Curves(
            curves.time[at],
            curves.flux[at],
            curves.error[at],
            np.append(0, np.cumsum(task.rows.counts[kept])),
            np.array([0, len(kept)]),
            np.arange(len(kept)),
            at,
        )
        lens = fit_point(alone, None, options).params[0]
        if not np.isfinite(lens).all():
            return []
        found.append(_inward(task, lens))
    return found


def _n_fluxes(rows: Rows) -> int:
    """Source and blend flux of each data set, one of them where it has one row."""
    return int(np.minimum(rows.counts, 2).sum())


def _inward(task: Task, params: NDArray[np.float64]) -> NDArray[np.float64]:
    """Parameters as a fit steps in them, of those that users see."""
    x = np.array(params, np.float64)
    x[0] -= task.reference
    x[1] = np.log(x[1])
    if task.model.kind.source and len(x) > 3:
        x[3] = np.log(x[3])
    return x


def _outward(task: Task, solution: Solution) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Parameters as users see them, and their covariance."""
    x, by = solution.x.copy(), np.ones(len(solution.x))
    x[0] += task.reference
    logs = [1, 3] if task.model.kind.source else [1]
    x[logs] = by[logs] = np.exp(x[logs])
    if not task.model.kind.parallax and x[2] < 0:
        x[2], by[2] = -x[2], -1.0
    return x, covariance(solution) * np.outer(by, by)


def _constant(rows: Rows, numbers: NDArray[np.float64], sets: NDArray[np.float64]) -> None:
    """Fill in the weighted means of the data sets."""
    if not len(sets):
        return
    lines = draw_lines(rows, np.ones(len(rows.flux)))
    chi2 = float(lines.chi2.sum())
    numbers[:] = chi2, chi2, len(rows.flux), len(rows.flux) - len(sets), 0
    sets[:, 0], sets[:, 1], sets[:, 4] = 0.0, lines.blend, lines.chi2


def _fill(
    task: Task,
    solution: Solution,
    errors: NDArray[np.float64],
    numbers: NDArray[np.float64],
    sets: NDArray[np.float64],
) -> None:
    """Fill in the fluxes of a fitted lens with their errors, the lens marginalised."""
    lines, used = solution.lines, np.count_nonzero(solution.weight)
    numbers[0], numbers[2:] = (
        solution.chi2,
        (used, used - len(errors) - _n_fluxes(task.rows), solution.iterations),
    )
    sets[:, 0], sets[:, 1], sets[:, 4] = lines.source, lines.blend, lines.chi2
    inner = covariance(solution)
    known = np.isfinite(np.diag(inner))
    inner = np.where(np.outer(known, known), inner, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        source = (
            np.einsum("kd,kl,ld->d", solution.by_source, inner, solution.by_source) + 1.0 / lines.curvature
        )
        blend = np.einsum("kd,kl,ld->d", solution.by_blend, inner, solution.by_blend)
        blend += 1.0 / lines.total + lines.mean**2 / lines.curvature
        undetermined = ~np.isfinite(lines.curvature)
        sets[:, 2] = np.where(undetermined, np.nan, np.sqrt(source))
        sets[:, 3] = np.where(undetermined, np.nan, np.sqrt(blend))
