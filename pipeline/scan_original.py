"""Scores of jacscanomaly 0.3.2 and 0.5.2: all clusters of the grid, unweighted diagnostics, one data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skytrawl.catalogs.schema import Variable
from skytrawl.job import Arrays
from skytrawl.kernels.curves import Curves

if TYPE_CHECKING:
    from skytrawl.kernels.scan.clusters import Clusters
    from skytrawl.kernels.scan.cpu_grid import GridMetrics
    from skytrawl.kernels.scan.scores import Scores
    from skytrawl.scan import Parameters

_QUALITY = ("n_window", "n_contrib", "n_eff", "peak_frac", "rho1", "longest_run")


def original_variables() -> tuple[Variable, ...]:
    """Variables that the kinds 0.3.2 and 0.5.2 add: the best cluster with the original's diagnostics."""

    def of(name: str, dtype: str, long_name: str, units: str = "", comment: str = "") -> Variable:
        return Variable(f"original_{name}", ("object",), dtype, units, long_name, comment=comment)

    unweighted = "not weighted by the errors: depends on the unit of the flux"
    return (
        of("t0", "float64", "time of the best cluster", "d", "in the times of the archive"),
        of("teff", "float64", "effective time scale of the best cluster", "d"),
        of("dchi2", "float64", "gain in chi-square of the best cluster"),
        of("median", "float64", "median of the background of the score"),
        of("scale", "float64", "scale of the background of the score"),
        of("n_clusters", "int64", "clusters of all seasons"),
        of("n_reference", "int64", "clusters in the background of the score"),
        of("n_window", "int64", "rows in the window"),
        of("n_contrib", "int64", "rows whose gain exceeds sigma^2", "", unweighted),
        of("n_eff", "float64", "effective number of contributing rows", "", unweighted),
        of("peak_frac", "float64", "part of the largest row in the gain", "", unweighted),
        of("rho1", "float64", "autocorrelation of the gains at lag 1", "", unweighted),
        of("longest_run", "int64", "longest run of contributing rows", "", unweighted),
    )


def original_scan(residual: Curves, parameters: Parameters) -> tuple[GridMetrics, Clusters, Scores]:
    """Grid, clusters and scores of curves of one data set each, as jacscanomaly of that kind has them."""
    from skytrawl.kernels.scan.clusters import clusters
    from skytrawl.kernels.scan.cpu_grid import grid_metrics
    from skytrawl.kernels.scan.scores import score_032, score_052

    metrics = grid_metrics(
        residual,
        parameters.grid(as_original=True),
        parameters.templates,
        weighted=False,
        sigma=parameters.sigma,
    )
    old = parameters.kind == "0.3.2"
    # 0.3.2 cuts grid points, and with them the background of the score; 0.5.2 cuts clusters.
    keep = parameters.passes(metrics._asdict()) if old and parameters.cuts() else None
    found = clusters(metrics, parameters.overlap_sigma, parameters.min_cluster_points, keep)
    if old:
        return metrics, found, score_032(found, parameters.best_score_trim_percentile)
    columns = {name: getattr(metrics, name)[found.point] for name in ("dchi2", *_QUALITY)}
    scores = score_052(
        found,
        parameters.best_score_teff_ratio,
        parameters.best_score_min_reference_clusters,
        parameters.best_score_upper_clip_sigma,
        parameters.best_score_clip_maxiters,
        parameters.passes(columns) if parameters.cuts() else None,
    )
    return metrics, found, scores


def original_columns(residual: Curves, parameters: Parameters) -> Arrays:
    """Values of `original_variables` and the score; empty for objects without cluster or of several sets."""
    n = residual.n_objects
    out: Arrays = {
        variable.name: np.full(n, np.nan) if variable.dtype == "float64" else np.zeros(n, np.int64)
        for variable in original_variables()
    }
    out["score"] = np.full(n, np.nan)
    # One at a time: the whole grid of an object is larger than its light curve.
    for k in np.flatnonzero(np.diff(residual.sets) == 1):
        metrics, found, scores = original_scan(residual.part(int(k), int(k) + 1), parameters)
        best = int(scores.best[0])
        out["original_n_clusters"][k] = len(found.dchi2)
        if best < 0:
            continue
        out["score"][k] = scores.score[0]
        for name in ("median", "scale", "n_reference"):
            out[f"original_{name}"][k] = getattr(scores, name)[0]
        for name in ("t0", "teff", "dchi2"):
            out[f"original_{name}"][k] = getattr(found, name)[best]
        for name in _QUALITY:
            out[f"original_{name}"][k] = getattr(metrics, name)[found.point[best]]
    return out
