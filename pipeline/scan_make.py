"""Makes the report of one light curve out of its scan; the same for arrays and for objects of an archive."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs import scan_null
from skytrawl.kernels import lens, scan
from skytrawl.kernels.backend import Backend
from skytrawl.kernels.curves import Curves, Dropped
from skytrawl.kernels.scan.signs import sign_null
from skytrawl.kernels.scan.template_free import KINDS, template_free
from skytrawl.params import build
from skytrawl.params import plain as plain_parameter
from skytrawl.scan import ORIGINAL, Parameters
from skytrawl.scan_analysis import Analysis, analyse
from skytrawl.scan_curve import TOO_LONG, lens_fit
from skytrawl.scan_original import original_columns
from skytrawl.scan_records import Candidate, LensFit, Window
from skytrawl.scan_report import ScanReport, TemplateFreeReport
from skytrawl.scan_template_free import Parameters as FreeParameters

if TYPE_CHECKING:
    from skytrawl.kernels.lens.vbm_scene import Parallax
    from skytrawl.lens_models import Sky

# Points of the smooth model: over everything, and more where the lens acts.
SMOOTH, FINE = 4000, 1500


def scan_parameters(kind: str, baseline: str, options: Mapping[str, Any]) -> Parameters:
    """Parameters of the job scan from the words of `skytrawl.scan_light_curve`.

    Raises
    ------
    ParameterError
        For unknown names and values that cannot be meant.
    """
    # A light curve may be its own null, which the job over an archive has no use for.
    return build(Parameters, options, kind="dchi2" if kind == "fap" else kind, baseline=baseline)


def make_report(
    curves: Curves,
    names: tuple[str, ...],
    dropped: Dropped,
    parameters: Parameters,
    *,
    kind: str,
    null: Any = None,
    baseline: str = "pspl",
    model: np.ndarray | None = None,
    fits: lens.Fits | None = None,
    parallax: Parallax | None = None,
    object_id: str = "",
    backend: Backend = "cpu",
    n_signs: int = 100,
    scores: Mapping[str, float] | None = None,
    sky: Sky | None = None,
    time_label: str = "time",
    flux_unit: str = "",
) -> ScanReport:
    """Scan one light curve and tell what was found.

    Parameters
    ----------
    curves : Curves
        One object.
    names : tuple of str
        Of its data sets.
    dropped : Dropped
    parameters : Parameters
        Of the job scan.
    kind : str
        Score.
    null : path or Null, optional
    baseline : str
        What `model` is, for the report.
    model : float64[n_rows], optional
        Baseline to subtract; by default the one that `parameters` name.
    fits : Fits, optional
        The fit that `model` comes from.
    parallax : Parallax, optional
    object_id, time_label, flux_unit : str
    backend : {"cpu", "cuda", "auto"}
    n_signs : int
        Copies with random signs that make the null where none is given.
    scores : mapping, optional
        Scores that are known already; by default they are computed.
    sky : Sky, optional
        For baselines with parallax of objects of an archive.

    Returns
    -------
    ScanReport
    """
    found = analyse(curves, parameters, backend=backend, sky=sky, model=model, fits=fits)
    fits = found.fits
    fit = None if fits is None else lens_fit(fits, names, baseline)
    top = candidates(found.result.top, found.quality, parameters.templates)
    extreme = candidates(found.result.extreme, found.extreme_quality, parameters.templates)
    if scores is None:
        scores, notes = score(found, parameters, kind, null, backend, n_signs)
    else:
        notes = []
    return ScanReport(
        object_id=object_id,
        kind=kind,
        baseline=baseline,
        curves=found.curves,
        names=names,
        model=found.curves.flux - found.residual.flux,
        fit=fit,
        candidates=tuple(each for each in top if each is not None),
        best_bump=extreme[0],
        best_dip=extreme[1],
        scores=dict(scores),
        noise=found.result.noise[0],
        counts=_counts(curves, dropped)
        | {
            "n_isolated": len(curves.time) - len(found.curves.time),
            "n_seasons": int(found.result.n_seasons[0]),
            "n_grid": int(found.result.n_grid[0]),
            "n_filled": int(found.result.n_filled[0]),
        },
        flags=(*_flags(curves, fit), *_scan_flags(curves, found, kind), *notes),
        parameters=parameters,
        time_label=time_label,
        flux_unit=flux_unit,
        smooth=() if sky is not None else _smooth(curves, fits, baseline, parallax, parameters.gap),
    )


def make_free_report(
    curves: Curves,
    names: tuple[str, ...],
    dropped: Dropped,
    parameters: FreeParameters,
    *,
    baseline: str,
    model: np.ndarray,
    fits: lens.Fits | None = None,
    parallax: Parallax | None = None,
    object_id: str = "",
) -> TemplateFreeReport:
    """Scan the residuals of one light curve without a template; parameters as of `make_report`."""
    found = template_free(curves.with_flux(curves.flux - model), parameters.options())
    of_set = np.repeat(np.arange(curves.n_sets), np.diff(found.offsets))
    windows = tuple(
        Window(
            names[of_set[i]],
            KINDS[found.kind[i]],
            float(found.t_start[i]),
            float(found.t_end[i]),
            int(found.stop[i] - found.start[i]),
            float(found.chi2[i]),
            float(found.reduced_chi2[i]),
            float(found.max_abs_z[i]),
        )
        for i in np.argsort(-found.chi2, kind="stable")
    )
    fit = None if fits is None else lens_fit(fits, names, baseline)
    return TemplateFreeReport(
        object_id=object_id,
        baseline=baseline,
        curves=curves,
        names=names,
        model=model,
        fit=fit,
        counts=_counts(curves, dropped),
        flags=tuple(_flags(curves, fit)),
        parameters=parameters,
        smooth=_smooth(curves, fits, baseline, parallax, parameters.gap),
        windows=windows,
    )


def _counts(curves: Curves, dropped: Dropped) -> dict[str, int]:
    return {
        "n_points": len(curves.time),
        "n_sets": curves.n_sets,
        "n_not_finite": int(dropped.not_finite[0]),
        "n_bad_error": int(dropped.bad_error[0]),
    }


def candidates(
    record: scan.Candidates, quality: scan.Diagnostics, templates: tuple[str, ...]
) -> list[Candidate | None]:
    """The candidates of the only object; None where there is none."""
    columns = {**record._asdict(), **quality._asdict()}
    found: list[Candidate | None] = []
    for place in range(record.dchi2.shape[1]):
        values = {name: column[0, place].item() for name, column in columns.items()}
        if values["season"] < 0:
            found.append(None)
            continue
        values["template"] = templates[values["template"]]
        wanted = {field.name for field in dataclasses.fields(Candidate)}
        found.append(Candidate(**{name: value for name, value in values.items() if name in wanted}))
    return found


def score(
    found: Analysis, parameters: Parameters, kind: str, null: Any, backend: Backend, n_signs: int
) -> tuple[dict[str, float], list[str]]:
    """Scores of a kind by name, and what is to be said about them."""
    if kind == "dchi2":
        scanned = found.result.n_filled[0] > 0
        return {"score": float(found.quality.dchi2_rescaled[0, 0]) if scanned else np.nan}, []
    if kind != "fap":
        columns = original_columns(found.residual, parameters)
        return {name: float(values[0]) for name, values in columns.items() if values.ndim == 1}, []
    notes: list[str] = []
    if null is None:
        grid, bank = parameters.grid(), parameters.templates

        def again(curves: Curves, grid: scan.ScanGrid) -> scan.ScanResult:
            return scan.scan(curves, grid, bank, k=1, backend=backend)

        fap = sign_null(found.residual, grid, again, n_signs).fap
    else:
        both, known = load_null(null, parameters).fap(
            scan_null.statistic(found.result), scan_null.features(found.residual, found.result)
        )
        fap = both[0]
        if np.isfinite(fap).all() and not known[0]:
            notes.append("the null holds no light curves like this one: its probabilities are a guess")
    bump, dip = float(fap[0]), float(fap[1])
    combined = float(scan_null.combined(fap[:1], fap[1:])[0])
    return {"score": combined, "fap_bump": bump, "fap_dip": dip}, notes


def load_null(null: Any, parameters: Parameters) -> scan_null.Null:
    """A null from a path, its dataset, or as it is; ReferenceMismatchError if it was scanned otherwise."""
    if isinstance(null, scan_null.Null):
        return null
    data = scan_null.load(null) if isinstance(null, str | Path) else null
    facts = data.attrs["skytrawl"]
    own = {name: plain_parameter(getattr(parameters, name, None)) for name in facts["scan"]}
    scan_null.require_same(data, {**facts, "scan": own}, parameters.allow_mismatch)
    return scan_null.Null.of(data)


def _flags(curves: Curves, fit: LensFit | None) -> list[str]:
    """What a reader must know of the light curve and its fit, in words."""
    if not len(curves.time):
        return ["no usable row: times, fluxes and errors must be finite, errors positive"]
    flags = []
    if float(np.ptp(curves.time)) > TOO_LONG:
        flags.append(f"the times span {np.ptp(curves.time):.3g} d: give days, not seconds")
    for d in range(curves.n_sets):
        own = slice(curves.rows[d], curves.rows[d + 1])
        if curves.rows[d + 1] - curves.rows[d] > 1 and not np.ptp(curves.flux[own]):
            flags.append("a data set is constant")
        if (np.diff(curves.time[own]) == 0).any():
            flags.append("some times of a data set are equal")
    if fit is not None and fit.status != lens.STATUS_TEXT[0]:
        flags.append(f"lens fit: {fit.status}")
    return flags


def _scan_flags(curves: Curves, found: Analysis, kind: str) -> list[str]:
    """What a reader must know of the scan, in words."""
    flags = []
    if len(curves.time) and not found.result.n_filled[0]:
        flags.append("no window holds enough rows: nothing was scanned")
    if kind in ORIGINAL and curves.n_sets > 1:
        flags.append("several data sets: scores of jacscanomaly are for one")
    return flags


def _smooth(
    curves: Curves, fits: lens.Fits | None, kind: str, parallax: Parallax | None, gap: float
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Magnification on a fine grid of times, a stretch a season; nothing with space parallax."""
    if fits is None or not fits.fitted[0] or "space" in kind:
        return ()
    merged = np.sort(curves.time)
    t0, tE, u0 = fits.params[0, :3]
    half = max(0.02, min(abs(u0), 1.0)) * tE
    lines = []
    cuts = np.flatnonzero(np.diff(merged) > gap)
    for start, end in zip(
        merged[np.append(0, cuts + 1)], merged[np.append(cuts, len(merged) - 1)], strict=True
    ):
        even = np.linspace(start, end, SMOOTH)
        fine = t0 + half * np.sinh(np.linspace(-6, 6, FINE))
        time = np.unique(np.concatenate([even, fine[(fine > start) & (fine < end)]]))
        lines.append((time, _magnification(time, fits, kind, parallax, int(curves.label[0]))))
    return tuple(lines)


def _magnification(
    time: np.ndarray, fits: lens.Fits, kind: str, parallax: Parallax | None, label: int
) -> np.ndarray:
    """Magnification of a fit at any times."""
    n = len(time)
    one = Curves(
        time,
        np.zeros(n),
        np.ones(n),
        np.array([0, n]),
        np.array([0, 1]),
        np.array([label]),
        np.arange(n),
    )
    unit = fits._replace(sets=one.sets, source_flux=np.ones(1), blend_flux=np.zeros(1))
    if kind == "pspl":
        return lens.model(one, unit)
    from skytrawl.kernels.lens import vbm_fit

    return vbm_fit.model(one, unit, kind=kind, parallax=parallax)
