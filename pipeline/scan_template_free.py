"""Job scan-template-free: stretches of rows whose residuals are too large, whatever their shape.

The residual chi-square scan of jacscanomaly, see :mod:`skytrawl.kernels.scan.template_free`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs.schema import Variable
from skytrawl.errors import ParameterError
from skytrawl.job import Arrays, Job, Prepared
from skytrawl.kernels.scan import KERNEL_VERSION
from skytrawl.kernels.scan.template_free import KINDS, TemplateFreeOptions, template_free
from skytrawl.lens_fit import fit_columns, fit_variables
from skytrawl.lens_models import positions_needed, sky_inputs, sky_of
from skytrawl.params import option
from skytrawl.scan_analysis import scan_payload, subtract_baseline
from skytrawl.scan_common import curves_of, rows_needed, rows_of_objects
from skytrawl.scan_params import FITTERS, BaselineParameters

if TYPE_CHECKING:
    from skytrawl.catalogs.archive import Archive, Block


@dataclass(frozen=True, kw_only=True)
class Parameters(BaselineParameters, TemplateFreeOptions):
    """Parameters of scan-template-free."""

    n_candidates: int = option(10, "windows kept of each object")

    def __post_init__(self) -> None:
        BaselineParameters.__post_init__(self)
        TemplateFreeOptions.__post_init__(self)
        if self.n_candidates < 1:
            raise ParameterError("n_candidates must be 1 at least")

    def options(self) -> TemplateFreeOptions:
        """The options as the kernel takes them."""
        names = [f.name for f in dataclasses.fields(TemplateFreeOptions)]
        return TemplateFreeOptions(**{name: getattr(self, name) for name in names})


def job_needs(parameters: Parameters, archive: Archive) -> tuple[str, ...]:
    """Variables that are read."""
    return (*rows_needed(parameters, archive), *positions_needed(parameters, archive))


def prepare(parameters: Parameters, archive: Archive) -> Prepared:
    """Pin bands and flux system."""
    job_needs(parameters, archive)
    return Prepared(scan_payload(parameters, archive), sky_inputs(parameters))


WINDOW = (
    (
        "kind",
        "int64",
        "kind of window",
        "",
        "; ".join(f"{i} {name}" for i, name in enumerate(KINDS)) + "; -1 none",
    ),
    ("band", "int64", "band code", "", "in the archive's list of bands; -1 none"),
    ("t_start", "float64", "time of the first row", "d", "in the times of the archive"),
    ("t_end", "float64", "time of the last row", "d", "in the times of the archive"),
    ("n_rows", "int64", "rows of the window", "", ""),
    ("chi2", "float64", "sum of squared normalised residuals", "", ""),
    ("reduced_chi2", "float64", "mean of squared normalised residuals", "", ""),
    ("max_abs_z", "float64", "largest normalised residual", "", ""),
)


def gives(parameters: Parameters, prepared: Prepared) -> tuple[Variable, ...]:
    """Variables of the results."""

    def of(name: str, dtype: str, long_name: str, direction: str = "") -> Variable:
        return Variable(name, ("object",), dtype, "", long_name, direction=direction)

    found = [
        of("score", "float64", "chi-square of the best window (0 without one); high is anomalous", "high"),
        of("n_windows", "int64", "windows that were found"),
        of("n_used", "int64", "observations that were scanned"),
        of("n_cut", "int64", "upper limits, masked rows, rows of other bands"),
        of("n_dropped", "int64", "rows without finite values or with an error <= 0"),
    ]
    if parameters.baseline in FITTERS:
        found += fit_variables(parameters.baseline)
    dims = ("object", "candidate")
    found += [
        Variable(f"candidate_{name}", dims, dtype, units, long_name, comment=comment)
        for name, dtype, long_name, units, comment in WINDOW
    ]
    return tuple(found)


def coords(parameters: Parameters, prepared: Prepared) -> dict[str, list[Any]]:
    """Rank of the windows."""
    return {"candidate": list(range(parameters.n_candidates))}


def block(block: Block, parameters: Parameters, prepared: Prepared, backend: str) -> Arrays:
    """Scan the objects of a block."""
    curves, dropped, n_cut = curves_of(block, parameters, prepared.payload["system"])
    fits, residual = subtract_baseline(curves, parameters, sky_of(block, prepared.payload))
    found = template_free(residual, parameters.options())
    n, width = curves.n_objects, parameters.n_candidates
    of_set = np.repeat(np.arange(curves.n_sets), np.diff(found.offsets))
    of_object = np.repeat(np.arange(n), np.diff(curves.sets))[of_set]
    order = np.lexsort((-found.chi2, of_object))
    owner = of_object[order]
    rank = np.arange(len(order)) - np.searchsorted(owner, owner)
    order, owner, rank = order[rank < width], owner[rank < width], rank[rank < width]
    values = {**found._asdict(), "band": curves.label[of_set], "n_rows": found.stop - found.start}
    out: Arrays = {
        "n_windows": np.bincount(of_object, minlength=n).astype(np.int64),
        "n_used": rows_of_objects(curves),
        "n_cut": n_cut,
        "n_dropped": dropped.not_finite + dropped.bad_error,
    }
    for name, dtype, *_ in WINDOW:
        absent = np.nan if dtype == "float64" else -1 if name in ("kind", "band") else 0
        column = np.full((n, width), absent, dtype)
        column[owner, rank] = values[name][order]
        out[f"candidate_{name}"] = column
    # Nothing found is the least anomalous outcome; without rows there is no outcome.
    best = np.nan_to_num(out["candidate_chi2"][:, 0])
    out["score"] = np.where(out["n_used"] > 0, best, np.nan)
    if fits is not None:
        out.update(fit_columns(fits))
    return out


def memory(n_objects: int, n_observations: int, parameters: Parameters, prepared: Prepared) -> int:
    """Bytes of work space: fluxes, residuals and weights of all rows."""
    return 200 * n_observations


JOB = Job(
    name="scan-template-free",
    summary="find stretches of rows with large residuals, without a template",
    parameters=Parameters,
    needs=job_needs,
    gives=gives,
    prepare=prepare,
    block=block,
    memory=memory,
    kernel_version=KERNEL_VERSION,
    backends=("cpu",),
    coords=coords,
)
