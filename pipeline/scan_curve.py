"""One light curve as arrays: single-lens fits, template scans and template-free scans, without an archive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from skytrawl.errors import ParameterError
from skytrawl.kernels.curves import Curves, Dropped
from skytrawl.scan_records import LensFit
from skytrawl.scan_report import ScanReport, TemplateFreeReport

if TYPE_CHECKING:
    from skytrawl.kernels.backend import Backend
    from skytrawl.kernels.lens import Fits
    from skytrawl.kernels.lens.vbm_scene import Parallax
    from skytrawl.scan_params import FitParameters

DATA_KINDS = ("flux", "mag")
# Longer than any record of photometry: such times are no days.
TOO_LONG = 60_000.0


def fit_light_curve(
    time: ArrayLike,
    flux: ArrayLike,
    flux_err: ArrayLike,
    *,
    dataset: ArrayLike | None = None,
    data_kind: str = "flux",
    kind: str = "pspl",
    start: ArrayLike | str | None = None,
    parallax: Parallax | None = None,
    **options: Any,
) -> LensFit:
    """Fit a single lens to one light curve: F = fs A(t) + fb, with fs and fb of its own for each data set.

    A(u) = (u^2 + 2) / (u sqrt(u^2 + 4)), u^2 = u0^2 + ((t - t0) / tE)^2 (Paczynski 1986, ApJ 304, 1, eq. 6)
    for "pspl"; the other kinds are those of :mod:`skytrawl.kernels.lens.vbm_fit`.

    Parameters
    ----------
    time, flux, flux_err : array_like of shape (n,)
        Days of any zero point (full BJD_TDB for kinds with parallax), flux in any linear unit, standard
        errors.
    dataset : array_like of shape (n,), optional
        Names or numbers of the data sets (bands, telescopes) that the rows belong to.
    data_kind : {"flux", "mag"}
        "mag": `flux` and `flux_err` are magnitudes; see the option ``zero_point``.
    kind : str
        "pspl", "fspl", "pspl_parallax", "fspl_parallax", "pspl_space_parallax", "fspl_space_parallax", ...
    start : array_like of shape (k,) or (m, k), or {"auto", "0.3.2", "0.5.2"}, optional
        One or several starts (t0, tE, u0), or how they are found (:class:`skytrawl.kernels.lens.FitOptions`).
    parallax : Parallax, optional
        Position, ephemerides and conventions, for kinds with parallax. By default made of the options
        ``ra_deg``, ``dec_deg``, ``tref`` and, for a telescope in space, ``satellite_ephemeris_path``.
    **options
        Parameters of the job lens-fit: fields of :class:`skytrawl.kernels.lens.FitOptions`, and more.

    Returns
    -------
    LensFit
        Bad light curves get a status, no exception.

    Raises
    ------
    ParameterError
        For arrays of different shapes, or options that are unknown or cannot be meant.
    """
    from skytrawl.lens_fit import Parameters
    from skytrawl.params import build

    start = _way(start, options)
    parameters = build(Parameters, options, fitter_kind=kind)
    curves, names, _ = one_curve(time, flux, flux_err, dataset, data_kind, parameters.zero_point)
    fits, _ = fit_curve(curves, kind, start, parallax_of(curves, kind, parallax, parameters), parameters)
    return lens_fit(fits, names, kind)


def scan_light_curve(
    time: ArrayLike,
    flux: ArrayLike,
    flux_err: ArrayLike,
    *,
    dataset: ArrayLike | None = None,
    data_kind: str = "flux",
    baseline: str | ArrayLike = "pspl",
    kind: str = "fap",
    null: Any = None,
    start: ArrayLike | str | None = None,
    parallax: Parallax | None = None,
    object_id: str = "",
    backend: Backend = "cpu",
    n_signs: int = 100,
    **options: Any,
) -> ScanReport:
    """Search one light curve for local deviations from a baseline.

    In each window of a grid of times t0 and time scales teff a template, scaled and shifted, is compared with
    a constant; dchi2 is the gain in chi-square, summed over the data sets.

    Parameters
    ----------
    time, flux, flux_err : array_like of shape (n,)
        Days of any zero point, flux in any linear unit, standard errors. Rows that are not finite or have an
        error <= 0 are left out and counted.
    dataset : array_like of shape (n,), optional
        Names or numbers of the data sets (bands, telescopes) that the rows belong to.
    data_kind : {"flux", "mag"}
        "mag": `flux` and `flux_err` are magnitudes; see the option ``zero_point``.
    baseline : str or array_like of shape (n,)
        What is subtracted first: "pspl" or another kind of `fit_light_curve`, "constant" (the weighted mean
        of each data set), "none", or a model of your own at the given times, in fluxes.
    kind : {"fap", "dchi2", "0.3.2", "0.5.2"}
        Score. "fap": false-alarm probabilities of the best bump and the best dip; "dchi2": the largest gain
        with rescaled errors; else the score of jacscanomaly of that version, for one data set.
    null : path, Dataset or Null, optional
        For kind "fap": a null that the job scan-null made of the survey of this light curve. By default the
        residuals themselves make one, see :mod:`skytrawl.kernels.scan.signs`.
    start : array_like or str, optional
        Start of the lens fit, as in `fit_light_curve`.
    parallax : Parallax, optional
        For baselines with parallax, as in `fit_light_curve`.
    object_id : str
        Name for titles and tables.
    backend : {"cpu", "cuda", "auto"}
    n_signs : int
        For kind "fap" without a null: how many copies with random signs are scanned.
    **options
        Parameters of the job scan: grid (``teff_init``, ``teff_grid_n``, ``dt0_coeff``, ...),
        fit, criteria (``min_dchi2``, ...), ``templates``, ``n_candidates``.

    Returns
    -------
    ScanReport
        Light curves that cannot be scanned give a report without candidates, whose `flags` say why.

    Raises
    ------
    ParameterError
        For arrays of different shapes, or options that are unknown or cannot be meant.

    Examples
    --------
    >>> import skytrawl
    >>> from skytrawl.catalogs.samples import microlensing_events
    >>> event = microlensing_events()["OGLE-2003-BLG-235"]
    >>> report = skytrawl.scan_light_curve(*event[:3], dataset=event.dataset, kind="dchi2")
    >>> print(f"{report.best.kind} at {report.best.t0:.0f}")
    bump at 2836
    """
    from skytrawl.scan_make import make_report, scan_parameters

    given = not isinstance(baseline, str)
    what = "given" if given else str(baseline)
    start = _way(start, options)
    parameters = scan_parameters(kind, "none" if given else what, options)
    curves, names, dropped = one_curve(time, flux, flux_err, dataset, data_kind, parameters.zero_point)
    model, fits = None, None
    if given:
        model = _given_model(baseline, time, curves)
    elif what not in ("constant", "none"):
        parallax = parallax_of(curves, what, parallax, parameters)
        fits, model = fit_curve(curves, what, start, parallax, parameters)
    return make_report(
        curves,
        names,
        dropped,
        parameters,
        kind=kind,
        null=null,
        baseline=what,
        model=model,
        fits=fits,
        parallax=parallax,
        object_id=object_id,
        backend=backend,
        n_signs=n_signs,
    )


def scan_template_free_light_curve(
    time: ArrayLike,
    flux: ArrayLike,
    flux_err: ArrayLike,
    *,
    dataset: ArrayLike | None = None,
    data_kind: str = "flux",
    baseline: str | ArrayLike = "pspl",
    start: ArrayLike | str | None = None,
    parallax: Parallax | None = None,
    object_id: str = "",
    **options: Any,
) -> TemplateFreeReport:
    """Search one light curve for stretches of rows whose residuals are too large, whatever their shape.

    See :mod:`skytrawl.kernels.scan.template_free`, the residual chi-square scan of jacscanomaly. Each data
    set is scanned by itself.

    Parameters
    ----------
    time, flux, flux_err, dataset, data_kind, baseline, start, parallax, object_id
        As in `scan_light_curve`.
    **options
        Parameters of the job scan-template-free, such as ``hybrid_seed_chi2_threshold``.

    Returns
    -------
    TemplateFreeReport

    Raises
    ------
    ParameterError
        For arrays of different shapes, or options that are unknown or cannot be meant.
    """
    from skytrawl.params import build
    from skytrawl.scan_make import make_free_report
    from skytrawl.scan_template_free import Parameters

    what = "given" if not isinstance(baseline, str) else baseline
    start = _way(start, options)
    parameters = build(Parameters, options, baseline="none" if what == "given" else what)
    curves, names, dropped = one_curve(time, flux, flux_err, dataset, data_kind, parameters.zero_point)
    model, fits = np.zeros(len(curves.time)), None
    if what == "given":
        model = _given_model(baseline, time, curves)
    elif what == "constant":
        from skytrawl.kernels.lens import constant

        model = constant(curves)
    elif what != "none":
        parallax = parallax_of(curves, what, parallax, parameters)
        fits, model = fit_curve(curves, what, start, parallax, parameters)
    return make_free_report(
        curves,
        names,
        dropped,
        parameters,
        baseline=what,
        model=model,
        fits=fits,
        parallax=parallax,
        object_id=object_id,
    )


def one_curve(
    time: ArrayLike,
    flux: ArrayLike,
    flux_err: ArrayLike,
    dataset: ArrayLike | None,
    data_kind: str,
    zero_point: float,
) -> tuple[Curves, tuple[str, ...], Dropped]:
    """One light curve as the kernels take it.

    Returns
    -------
    Curves
        One object.
    tuple of str
        Names of its data sets.
    Dropped
        Rows that were left out.

    Raises
    ------
    ParameterError
        For arrays that are not one-dimensional numbers of one length, or an unknown `data_kind`.
    """
    from skytrawl.kernels.curves import prepare
    from skytrawl.scan_common import flux_of_magnitudes

    if data_kind not in DATA_KINDS:
        raise ParameterError(f"data_kind is {data_kind!r}: choose one of {', '.join(DATA_KINDS)}")
    columns = [
        _column(name, values) for name, values in (("time", time), ("flux", flux), ("flux_err", flux_err))
    ]
    n = len(columns[0])
    if any(len(column) != n for column in columns):
        raise ParameterError(
            f"time, flux and flux_err have {', '.join(str(len(c)) for c in columns)} values: "
            "give one of each a row"
        )
    labels = np.zeros(n, np.int64) if dataset is None else np.asarray(dataset)
    if labels.shape != (n,):
        raise ParameterError(
            f"dataset has shape {labels.shape}: give one name or number for each of {n} rows"
        )
    known, code = np.unique(labels, return_inverse=True)
    if data_kind == "mag":
        with np.errstate(over="ignore", invalid="ignore"):
            columns[1:] = flux_of_magnitudes(columns[1], columns[2], zero_point)
    days, values, errors = columns
    curves, dropped = prepare(days, values, errors, code.astype(np.int64), np.array([0, n], np.int64))
    names = ["data"] if dataset is None else [_text(label) for label in known]
    return curves, tuple(names[place] for place in curves.label), dropped


def lens_fit(fits: Fits, names: Sequence[str], kind: str) -> LensFit:
    """The fit of the only object of `fits` as a record."""
    from skytrawl.kernels.lens import STATUS_TEXT

    return LensFit(
        kind=kind,
        values=dict(zip(fits.names, fits.params[0].tolist(), strict=True)),
        errors=dict(zip(fits.names, fits.errors[0].tolist(), strict=True)),
        chi2=float(fits.chi2[0]),
        chi2_dof=float(fits.chi2_dof[0]),
        chi2_flat=float(fits.chi2_flat[0]),
        n_points=int(fits.n_points[0]),
        status=STATUS_TEXT[int(fits.status[0])],
        fitted=bool(fits.fitted[0]),
        source_flux=dict(zip(names, fits.source_flux.tolist(), strict=True)),
        blend_flux=dict(zip(names, fits.blend_flux.tolist(), strict=True)),
    )


def fit_curve(
    curves: Curves, kind: str, start: ArrayLike | None, parallax: Parallax | None, parameters: FitParameters
) -> tuple[Fits, np.ndarray]:
    """Fit of a kind to one light curve, and its model at the rows; ParameterError for an impossible start."""
    from skytrawl.kernels import lens

    options = parameters.fit_options()
    try:
        begin = None if start is None else np.atleast_2d(np.asarray(start, np.float64))[None]
        if kind == "pspl":
            fits = lens.fit(curves, begin, options)
            return fits, lens.model(curves, fits)
        from skytrawl.kernels.lens import vbm_fit

        fits = vbm_fit.fit(curves, begin, options, kind=kind, parallax=parallax)
        return fits, vbm_fit.model(curves, fits, kind=kind, parallax=parallax)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"start={start!r} cannot begin a fit of kind {kind!r}: {error}") from error


def _way(start: Any, options: dict[str, Any]) -> Any:
    """Starts as they are; the name of a way to find them goes to the options."""
    if isinstance(start, str):
        options["start"] = start
        return None
    return start


def parallax_of(
    curves: Curves, kind: str, parallax: Parallax | None, parameters: FitParameters
) -> Parallax | None:
    """What a kind with parallax needs, from the parameters unless it is given.

    Raises
    ------
    ParameterError
        Without position, without the satellite's table, or for times that are no full Julian dates.
    """
    if "parallax" not in kind:
        return None
    if len(curves.time) and not (curves.time.min() > 2_400_000.5 and curves.time.max() < 2_600_000):
        raise ParameterError(f"kind {kind!r} needs times as full Julian dates (BJD_TDB), such as 2457564.5")
    if parallax is not None:
        return parallax
    if parameters.ra_deg is None or parameters.dec_deg is None:
        raise ParameterError(f"kind {kind!r} needs a position: give ra_deg and dec_deg, or parallax")
    from skytrawl.catalogs.ephemeris import earth_ephemeris, read_satellite_table
    from skytrawl.kernels.lens.vbm_scene import Parallax as Scene

    satellite = None
    if "space" in kind:
        path = parameters.satellite_ephemeris_path
        if path is None:
            raise ParameterError(f"kind {kind!r} needs satellite_ephemeris_path, or parallax")
        satellite = read_satellite_table(path, "sun" if parameters.convention == "gulls" else "earth")
    first, last = (curves.time.min(), curves.time.max()) if len(curves.time) else (2451545.0, 2451546.0)
    return Scene(
        earth_ephemeris(float(first), float(last)),
        parameters.ra_deg,
        parameters.dec_deg,
        None if parameters.tref is None else parameters.tref + 2_400_000.5,
        satellite,
        parameters.convention,
        parameters.parallax_use_HJD,
        parameters.max_piE,
    )


def _given_model(baseline: Any, time: ArrayLike, curves: Curves) -> np.ndarray:
    """A model of the user's own at the usable rows."""
    model = _column("baseline", baseline)
    if len(model) != len(np.asarray(time)):
        raise ParameterError(f"baseline has {len(model)} values for {len(np.asarray(time))} times")
    model = model[curves.source]
    if not np.isfinite(model).all():
        raise ParameterError("baseline is not finite at every usable row")
    return model


def _column(name: str, values: Any) -> np.ndarray:
    """Values as float64[n]; ParameterError for anything else."""
    try:
        column = np.asarray(np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan))
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{name} holds no numbers: {error}") from error
    if column.ndim != 1:
        raise ParameterError(f"{name} has shape {column.shape}: give a one-dimensional array")
    return column


def _text(label: Any) -> str:
    return label.decode() if isinstance(label, bytes) else str(label)
