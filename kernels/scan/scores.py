"""Criteria and scores of jacscanomaly, versions 0.3.2 and 0.5.2, for clusters of one light curve each."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError
from skytrawl.kernels.scan.clusters import Clusters
from skytrawl.kernels.scan.criteria import CandidateCriteria

__all__ = ["CandidateCriteria", "Scores", "score_032", "score_052"]


class Scores(NamedTuple):
    """Score of the best cluster of each object: ``(dchi2 - median) / scale`` of a background of clusters.

    Attributes
    ----------
    best : int64[n_objects], index of the cluster; -1 without one
    score, median, scale : float64[n_objects], NaN where there is no background (or, score, a scale of 0)
    n_reference : int64[n_objects], clusters in the background
    """

    best: NDArray[np.int64]
    score: NDArray[np.float64]
    median: NDArray[np.float64]
    scale: NDArray[np.float64]
    n_reference: NDArray[np.int64]


def score_032(clusters: Clusters, trim_percentile: float = 95.0) -> Scores:
    """Score the best clusters as version 0.3.2 does.

    The background is all other clusters of the light curve up to their `trim_percentile`; its scale is the
    population standard deviation.

    Raises
    ------
    ParameterError
        If `trim_percentile` is not above 0 and at most 100.
    """
    if not 0.0 < trim_percentile <= 100.0:
        raise ParameterError("trim_percentile must be above 0 and at most 100")
    scores = _empty(len(clusters.offsets) - 1)
    for o, (begin, stop) in enumerate(zip(clusters.offsets[:-1], clusters.offsets[1:], strict=True)):
        if begin == stop:
            continue
        dchi2 = clusters.dchi2[begin:stop]
        best = int(np.argmax(dchi2))
        others = np.delete(dchi2, best)
        scores.best[o] = begin + best
        if len(others) < 2:
            continue
        if trim_percentile < 100.0:
            trimmed = others[others <= np.percentile(others, trim_percentile)]
            others = trimmed if len(trimmed) >= 2 else others
        _write(scores, o, dchi2[best], others, float(np.std(others)))
    return scores


def score_052(
    clusters: Clusters,
    teff_ratio: float = 2.0,
    min_reference_clusters: int = 8,
    upper_clip_sigma: float = 5.0,
    clip_maxiters: int = 3,
    accept: NDArray[np.bool_] | None = None,
) -> Scores:
    """Score the best clusters as version 0.5.2 does.

    The background is the other clusters of the season of the best whose teff is within a factor `teff_ratio`;
    if these are fewer than `min_reference_clusters`, that many nearest in ln teff. Values above the median by
    `upper_clip_sigma` scales are dropped, at most `clip_maxiters` times. The scale is the first above 0 of
    1.4826 times the median absolute deviation, the interquartile range over 1.349 and the standard deviation.

    Parameters
    ----------
    accept : bool[n_clusters], optional
        Which clusters may be the best (`CandidateCriteria.accept` at ``clusters.point``).

    Raises
    ------
    ParameterError
        If a parameter is out of its range.
    """
    if not (np.isfinite(teff_ratio) and teff_ratio >= 1.0) or min_reference_clusters < 2:
        raise ParameterError("teff_ratio must be 1 at least, min_reference_clusters 2 at least")
    if not upper_clip_sigma > 0.0 or clip_maxiters < 0:
        raise ParameterError("upper_clip_sigma must be positive, clip_maxiters not negative")
    scores = _empty(len(clusters.offsets) - 1)
    for o, (begin, stop) in enumerate(zip(clusters.offsets[:-1], clusters.offsets[1:], strict=True)):
        may = np.arange(begin, stop) if accept is None else begin + np.flatnonzero(accept[begin:stop])
        if len(may) == 0:
            continue
        best = int(may[np.argmax(clusters.dchi2[may])])
        scores.best[o] = best
        others = np.delete(np.arange(begin, stop), best - begin)
        others = others[clusters.season[others] == clusters.season[best]]
        distance = np.abs(np.log(clusters.teff[others] / clusters.teff[best]))
        near = others[distance <= np.log(teff_ratio) + 1e-12]
        if len(near) < min_reference_clusters and len(near) < len(others):
            near = others[np.argsort(distance, kind="stable")[:min_reference_clusters]]
        values = _clip(clusters.dchi2[near], upper_clip_sigma, clip_maxiters)
        scores.n_reference[o] = len(values)
        if len(values) >= 2:
            _write(scores, o, clusters.dchi2[best], values, _robust_scale(values))
    return scores


def _empty(n: int) -> Scores:
    score, median, scale = np.full((3, n), np.nan)
    return Scores(np.full(n, -1, np.int64), score, median, scale, np.zeros(n, np.int64))


def _write(scores: Scores, o: int, dchi2: float, values: NDArray[np.float64], scale: float) -> None:
    median = float(np.median(values))
    scores.median[o], scores.scale[o], scores.n_reference[o] = median, scale, len(values)
    if scale > 0.0:
        scores.score[o] = (dchi2 - median) / scale


def _clip(values: NDArray[np.float64], sigma: float, rounds: int) -> NDArray[np.float64]:
    """Drop values above the median by `sigma` scales, again while some are."""
    if not np.isfinite(sigma):
        return values
    for _ in range(rounds):
        scale = _robust_scale(values) if len(values) >= 3 else 0.0
        kept = values <= np.median(values) + sigma * scale if scale > 0.0 else np.ones(len(values), bool)
        if kept.all() or kept.sum() < 2:
            break
        values = values[kept]
    return values


def _robust_scale(values: NDArray[np.float64]) -> float:
    """Spread of two values or more."""
    scale = 1.482602218505602 * float(np.median(np.abs(values - np.median(values))))
    if not scale > 0.0:
        low, high = np.percentile(values, [25.0, 75.0])
        scale = float(high - low) / 1.3489795003921634
    return scale if scale > 0.0 else float(np.std(values))
