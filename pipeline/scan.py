"""Job scan: templates fitted in every window of a grid, on what a baseline model leaves of each light curve.

Kinds of score:

- ``fap``: the false-alarm probability of the better of the best bump and the best dip (low is anomalous),
  calibrated on a null made by scan-null of the same survey, see :mod:`skytrawl.catalogs.scan_null`.
- ``dchi2``: the gain in chi-square of the best candidate with rescaled errors (high is anomalous).
- ``0.3.2``, ``0.5.2``: the score of jacscanomaly of that version, with its grid rounded as it does and its
  unweighted diagnostics (high is anomalous); objects of one data set only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs import scan_null
from skytrawl.catalogs.schema import Variable
from skytrawl.catalogs.sky import hash_of
from skytrawl.errors import ParameterError
from skytrawl.job import Arrays, Job, Prepared
from skytrawl.kernels import scan
from skytrawl.lens_fit import fit_columns, fit_variables
from skytrawl.lens_models import positions_needed, sky_inputs, sky_of
from skytrawl.params import option
from skytrawl.scan_analysis import Analysis, analyse, null_facts, scan_memory, scan_payload
from skytrawl.scan_common import curves_of, rows_needed, rows_of_objects
from skytrawl.scan_original import original_columns, original_variables
from skytrawl.scan_params import FITTERS, ScanParameters

if TYPE_CHECKING:
    from skytrawl.catalogs.archive import Archive, Block

KINDS = ("fap", "dchi2", "0.3.2", "0.5.2")
ORIGINAL = KINDS[2:]
STATUS = ("scanned", "no usable row", "no window holds enough rows", "several data sets: choose bands")
STATUS_TEXT = "; ".join(f"{code} {text}" for code, text in enumerate(STATUS))


@dataclass(frozen=True, kw_only=True)
class Parameters(ScanParameters):
    """Parameters of scan."""

    kind: str = option("fap", "score", "", KINDS)
    null: Path | None = field(default=None, metadata={"help": "null made by scan-null, for kind fap"})
    allow_mismatch: bool = option(False, "use a null of another survey or other parameters")
    threshold: float = option(float("nan"), "flag objects with a more anomalous score; nan flags none")
    best_score_trim_percentile: float = option(
        95.0, "kind 0.3.2: clusters above are left out of the background"
    )
    min_cluster_points: int = option(3, "kinds 0.3.2, 0.5.2: clusters are taken while so many points remain")
    best_score_teff_ratio: float = option(2.0, "kind 0.5.2: clusters of the background lie within this ratio")
    best_score_min_reference_clusters: int = option(
        8, "kind 0.5.2: least number of clusters of the background"
    )
    best_score_upper_clip_sigma: float = option(5.0, "kind 0.5.2: background above is clipped")
    best_score_clip_maxiters: int = option(3, "kind 0.5.2: rounds of clipping")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in KINDS:
            raise ParameterError(f"kind is {self.kind!r}: choose one of {', '.join(KINDS)}")
        if self.kind == "fap" and self.null is None:
            raise ParameterError(
                "kind fap is calibrated on a null: make one with `skytrawl run scan-null ARCHIVE NULL` "
                "and give its path as null, or choose the kind dchi2"
            )
        # Here as well as in the kernels: a partition that fails comes too late.
        if not 0 < self.best_score_trim_percentile <= 100:
            raise ParameterError("best_score_trim_percentile must be above 0 and at most 100")
        if self.min_cluster_points < 1 or self.best_score_clip_maxiters < 0:
            raise ParameterError("min_cluster_points must be 1 at least, best_score_clip_maxiters 0 at least")
        if not 1 <= self.best_score_teff_ratio < math.inf or self.best_score_min_reference_clusters < 2:
            raise ParameterError(
                "best_score_teff_ratio must be 1 at least, best_score_min_reference_clusters 2 at least"
            )
        if not self.best_score_upper_clip_sigma > 0:
            raise ParameterError("best_score_upper_clip_sigma must be positive")


def job_needs(parameters: Parameters, archive: Archive) -> tuple[str, ...]:
    """Variables that are read."""
    return (*rows_needed(parameters, archive), *positions_needed(parameters, archive), "objects/object_id")


def prepare(parameters: Parameters, archive: Archive) -> Prepared:
    """Pin bands and flux system; load the null and refuse one that does not fit."""
    job_needs(parameters, archive)
    payload = scan_payload(parameters, archive)
    inputs = sky_inputs(parameters)
    attrs: dict[str, Any] = {"templates": list(parameters.templates)}
    if parameters.kind == "fap" and parameters.null is not None:
        null = scan_null.load(parameters.null)
        attrs["null_mismatch"] = scan_null.require_same(
            null, null_facts(parameters, archive), parameters.allow_mismatch
        )
        inputs["null"] = scan_null.fingerprint(null)
        payload["null"] = scan_null.Null.of(null)
    return Prepared(payload, inputs, attrs)


def gives(parameters: Parameters, prepared: Prepared) -> tuple[Variable, ...]:
    """Variables of the results."""
    meaning = {
        "fap": (
            "false-alarm probability",
            "of the better of best bump and best dip; low is anomalous",
            "low",
        ),
        "dchi2": ("gain of the best candidate", "chi-square with rescaled errors; high is anomalous", "high"),
    }.get(parameters.kind, (f"jacscanomaly {parameters.kind} score", "high is anomalous", "high"))

    def of(name: str, dtype: str, long_name: str, comment: str = "", direction: str = "") -> Variable:
        return Variable(name, ("object",), dtype, "", long_name, comment=comment, direction=direction)

    found = [of("score", "float64", meaning[0], meaning[1], direction=meaning[2])]
    if parameters.kind == "fap":
        found += [
            of("fap_bump", "float64", "false-alarm probability of the best bump", direction="low"),
            of("fap_dip", "float64", "false-alarm probability of the best dip", direction="low"),
            of(
                "null_knows",
                "bool",
                "the null has curves like this",
                "else the probabilities are extrapolated",
            ),
        ]
    found += [
        of("flagged", "bool", "score beyond the threshold"),
        of("status", "int64", "status of the scan", STATUS_TEXT),
        of("n_used", "int64", "observations that were scanned"),
        of("n_cut", "int64", "upper limits, masked rows, rows of other bands"),
        of("n_dropped", "int64", "rows without finite values or with an error <= 0"),
        of("n_isolated", "int64", "rows that stand alone, which were left out", "see isolated_sigma"),
        of("n_sets", "int64", "data sets (bands)"),
        of("n_seasons", "int64", "seasons", "runs of data without a gap longer than the parameter gap"),
        of("n_grid", "int64", "points of the grid"),
        of("n_filled", "int64", "points of the grid with enough rows in their window"),
    ]
    if parameters.baseline in FITTERS:
        found += fit_variables(parameters.baseline)
    for sign in ("bump", "dip"):
        found += _candidate_variables(f"{sign}_", ("object",))
    found += _candidate_variables("candidate_", ("object", "candidate"))
    if parameters.kind in ORIGINAL:
        found += original_variables()
    return tuple(found)


def _candidate_variables(prefix: str, dims: tuple[str, ...]) -> list[Variable]:
    """Variables of a candidate: where it lies, how strong it is, and its quality."""

    def of(name: str, dtype: str, long_name: str, comment: str = "", units: str = "") -> Variable:
        return Variable(prefix + name, dims, dtype, units, long_name, comment=comment)

    return [
        of("t0", "float64", "time of the template", "in the times of the archive", "d"),
        of("teff", "float64", "effective time scale of the template", "", "d"),
        of("dchi2", "float64", "gain in chi-square over a constant"),
        of("dchi2_rescaled", "float64", "gain with errors rescaled outside the window"),
        of("template", "int64", "template", "index into the attribute templates"),
        of("sign", "int64", "sign of the amplitude", "+1 bump, -1 dip, 0 no candidate"),
        of("n_window", "int64", "rows in the window"),
        of("n_contrib", "int64", "rows whose own gain exceeds sigma^2"),
        of("n_eff", "float64", "effective number of contributing rows"),
        of("peak_frac", "float64", "part of the largest row in the gain"),
        of("rho1", "float64", "autocorrelation of the gains at lag 1"),
        of("longest_run", "int64", "longest run of contributing rows"),
        of("n_sets", "int64", "data sets with enough rows in the window"),
        of("n_coincident", "int64", "data sets that show it by themselves, with the same sign"),
        of("achromatic_chi2", "float64", "chi-square of equal amplitudes", "n_sets - 1 degrees of freedom"),
    ]


CANDIDATE = tuple(v.name for v in _candidate_variables("", ()))


def coords(parameters: Parameters, prepared: Prepared) -> dict[str, list[Any]]:
    """Rank of the candidates."""
    return {"candidate": list(range(parameters.n_candidates))}


def block(block: Block, parameters: Parameters, prepared: Prepared, backend: str) -> Arrays:
    """Scan the objects of a block."""
    curves, dropped, n_cut = curves_of(block, parameters, prepared.payload["system"])
    sky = sky_of(block, prepared.payload)
    found = analyse(curves, parameters, backend=backend, sky=sky)  # type: ignore[arg-type]
    out = {
        "n_used": rows_of_objects(found.curves),
        "n_isolated": rows_of_objects(curves) - rows_of_objects(found.curves),
        "n_cut": n_cut,
        "n_dropped": dropped.not_finite + dropped.bad_error,
        "n_sets": np.diff(curves.sets),
        "n_seasons": found.result.n_seasons,
        "n_grid": found.result.n_grid,
        "n_filled": found.result.n_filled,
        **candidate_columns(found),
    }
    out["status"] = np.where(out["n_used"] == 0, 1, np.where(out["n_filled"] == 0, 2, 0))
    if found.fits is not None:
        out.update(fit_columns(found.fits))
    if parameters.kind == "fap":
        null: scan_null.Null = prepared.payload["null"]
        fap, out["null_knows"] = null.fap(
            scan_null.statistic(found.result),
            scan_null.features(found.residual, found.result),
            hash_of(block.objects["object_id"]),
        )
        out["fap_bump"], out["fap_dip"] = fap[:, 0].copy(), fap[:, 1].copy()
        out["score"] = scan_null.combined(out["fap_bump"], out["fap_dip"])
    elif parameters.kind == "dchi2":
        # No candidate is the least anomalous outcome; without a window there is no outcome.
        out["score"] = np.where(out["n_filled"] > 0, out["candidate_dchi2_rescaled"][:, 0], np.nan)
    else:
        out.update(original_columns(found.residual, parameters))
        out["status"] = np.where(out["n_sets"] > 1, 3, out["status"])
    low = parameters.kind == "fap"
    out["flagged"] = out["score"] < parameters.threshold if low else out["score"] > parameters.threshold
    return out


def candidate_columns(found: Analysis) -> Arrays:
    """Values of the candidates, and of the best bump and the best dip."""
    columns = {}
    for prefix, candidates, quality, at in (
        ("candidate_", found.result.top, found.quality, slice(None)),
        ("bump_", found.result.extreme, found.extreme_quality, 0),
        ("dip_", found.result.extreme, found.extreme_quality, 1),
    ):
        values = {**candidates._asdict(), **quality._asdict()}
        columns.update({prefix + name: np.ascontiguousarray(values[name][:, at]) for name in CANDIDATE})
    return columns


def memory(n_objects: int, n_observations: int, parameters: Parameters, prepared: Prepared) -> int:
    """Bytes of work space."""
    return scan_memory(n_objects, n_observations, parameters)


JOB = Job(
    name="scan",
    summary="fit templates in every window of a grid, on the residuals of a lens fit",
    parameters=Parameters,
    needs=job_needs,
    gives=gives,
    prepare=prepare,
    block=block,
    memory=memory,
    kernel_version=scan.KERNEL_VERSION,
    backends=("cpu", "cuda"),
    coords=coords,
)
