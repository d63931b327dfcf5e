"""One template scan from fluxes to candidates: the same steps for the jobs and for a single light curve."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from skytrawl.dmdt_common import survey_name
from skytrawl.kernels import lens, scan
from skytrawl.kernels.backend import Backend
from skytrawl.kernels.curves import Curves
from skytrawl.kernels.scan import diagnose
from skytrawl.kernels.scan.isolated import isolated, without
from skytrawl.lens_models import Sky, fit_lens, require_start, sky_payload
from skytrawl.params import plain
from skytrawl.scan_common import photometry
from skytrawl.scan_params import BaselineParameters, CandidateParameters, ScanParameters

if TYPE_CHECKING:
    from skytrawl.catalogs.archive import Archive

# Cuts remove clusters: so many times the wanted candidates are looked at, and so many times more of an object
# in which too few of them pass.
SPARE = 4
# Parameters that change neither the grid nor what is scanned.
JUDGEMENT = ("n_candidates", *(f.name for f in dataclasses.fields(CandidateParameters)))


class Analysis(NamedTuple):
    """What a scan finds.

    Attributes
    ----------
    fits : Fits or None
        The lens fit that was subtracted.
    curves, residual : Curves
        The rows that were scanned, before and after the baseline was subtracted.
    result : ScanResult
        `top` holds the candidates that pass the cuts, best first.
    quality, extreme_quality : Diagnostics
        Of ``result.top`` and ``result.extreme``.
    """

    fits: lens.Fits | None
    curves: Curves
    residual: Curves
    result: scan.ScanResult
    quality: scan.Diagnostics
    extreme_quality: scan.Diagnostics


def scan_payload(parameters: BaselineParameters, archive: Archive) -> dict[str, Any]:
    """What every block of a scan needs of the archive, pinned before the first task."""
    system = photometry(parameters, archive)
    require_start(parameters, [archive.bands[code] for code in system.codes])
    return {"system": system, **sky_payload(parameters, archive)}


def null_facts(parameters: ScanParameters, archive: Archive) -> dict[str, Any]:
    """What a null and the scan that uses it must share: the kind of photometry and how it is scanned."""
    own = {f.name: getattr(parameters, f.name) for f in dataclasses.fields(ScanParameters)}
    curves = archive.attrs["light_curves"]
    return {
        "survey": survey_name(archive),
        "quantity": curves["quantity"],
        "photometry": curves["photometry"],
        "units": curves["units"],
        "bands": list(archive.bands),
        "scan": {name: plain(value) for name, value in own.items() if name not in JUDGEMENT},
    }


def scan_memory(n_objects: int, n_observations: int, parameters: ScanParameters) -> int:
    """Bytes of work space of a scan: fluxes of all rows, and the grid of the largest object.

    How large that is is not known before; an object of 100,000 rows, or of eight times the mean, is allowed
    for, in seasons of ten years together.
    """
    largest = min(n_observations, max(100_000, 8 * n_observations // max(n_objects, 1)))
    work = scan.workspace_bytes(largest, parameters.grid(), 3653.0, len(parameters.templates))
    return 120 * n_observations + work


def subtract_baseline(
    curves: Curves, parameters: BaselineParameters, sky: Sky | None = None
) -> tuple[lens.Fits | None, Curves]:
    """Light curves less their baseline model, and the fit where it is one."""
    if parameters.baseline == "none":
        return None, curves
    if parameters.baseline == "constant":
        return None, curves.with_flux(lens.residual(curves))
    fits, model = fit_lens(curves, parameters, sky)
    return fits, curves.with_flux(lens.residual(curves, baseline=model))


def analyse(
    curves: Curves,
    parameters: ScanParameters,
    *,
    backend: Backend = "cpu",
    sky: Sky | None = None,
    model: np.ndarray | None = None,
    fits: lens.Fits | None = None,
) -> Analysis:
    """Subtract the baseline, scan what is left, judge the candidates.

    Parameters
    ----------
    curves : Curves
    parameters : ScanParameters
    backend : {"cpu", "cuda", "auto"}
    sky : Sky, optional
        Needed by baselines with parallax.
    model : float64 array of shape (n_rows,), optional
        A baseline of the user's own, in the rows of `curves`; takes the place of ``parameters.baseline``.
    fits : Fits, optional
        The fit that `model` is of.

    Returns
    -------
    Analysis
    """
    if model is None:
        fits, residual = subtract_baseline(curves, parameters, sky)
    else:
        residual = curves.with_flux(lens.residual(curves, baseline=model))
    if parameters.isolated_sigma > 0:
        alone = isolated(residual, parameters.isolated_sigma)
        curves, residual = without(curves, alone), without(residual, alone)
    grid, bank = parameters.grid(), parameters.templates
    wanted, spare = parameters.n_candidates, SPARE if parameters.cuts() else 1
    result = scan.scan(residual, grid, bank, k=wanted * spare, backend=backend)
    source_flux = fits.source_flux if fits is not None else None

    def judge(candidates: scan.Candidates) -> scan.Diagnostics:
        return diagnose(residual, grid, candidates, bank, sigma=parameters.sigma, source_flux=source_flux)

    quality = judge(result.top)
    if parameters.cuts():
        top, quality, short = _cut(result.top, quality, parameters)
        for o in np.flatnonzero(short).tolist():
            own = slice(residual.sets[o], residual.sets[o + 1])
            source = None if source_flux is None else source_flux[own]
            found = _search_on(residual.part(o, o + 1), parameters, backend, source)
            for record, values in zip((top, quality), found, strict=True):
                for column, value in zip(record, values, strict=True):
                    column[o] = value[0]
        result = result._replace(top=top)
    return Analysis(fits, curves, residual, result, quality, judge(result.extreme))


def _cut(
    top: scan.Candidates, quality: scan.Diagnostics, parameters: ScanParameters
) -> tuple[scan.Candidates, scan.Diagnostics, np.ndarray]:
    """The wanted number of candidates that pass, and the objects where weaker ones may pass as well."""
    good = parameters.passes({**top._asdict(), **quality._asdict()})
    wanted = parameters.n_candidates
    short = (good.sum(axis=1) < wanted) & (top.season[:, -1] >= 0)
    if parameters.min_dchi2 is not None:
        short &= top.dchi2[:, -1] >= parameters.min_dchi2
    order = np.argsort(~good, axis=1, kind="stable")[:, :wanted]
    cleared = ~np.take_along_axis(good, order, axis=1)
    return _pick(top, order, cleared), _pick(quality, order, cleared), short


def _search_on(
    one: Curves, parameters: ScanParameters, backend: Backend, source_flux: np.ndarray | None
) -> tuple[scan.Candidates, scan.Diagnostics]:
    """Candidates of one object that pass the cuts, however many stronger ones do not."""
    grid, bank = parameters.grid(), parameters.templates
    k, short = SPARE * parameters.n_candidates, np.ones(1, bool)
    while short.any():
        k *= SPARE
        top = scan.scan(one, grid, bank, k=k, backend=backend).top
        quality = diagnose(one, grid, top, bank, sigma=parameters.sigma, source_flux=source_flux)
        kept, judged, short = _cut(top, quality, parameters)
    return kept, judged


def _pick(record, order: np.ndarray, cleared: np.ndarray):  # type: ignore[no-untyped-def]
    """Reorder the candidates of each object and empty those that are cleared."""
    columns = {}
    for name, values in record._asdict().items():
        empty = -1 if name == "season" else np.nan if values.dtype.kind == "f" else 0
        columns[name] = np.where(cleared, empty, np.take_along_axis(values, order, axis=1)).astype(
            values.dtype
        )
    return type(record)(**columns)
