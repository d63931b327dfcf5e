"""From counts to scores: P(dm|dt), its expectation, the value of a pair, and scores without the own counts.

The counts of a reference are smoothed by a Gaussian along dt and dm; every row then gets `prior_pairs`
pseudo-pairs that follow the pairs of the key at all dt (smoothed more widely, with a tenth spread evenly), so
that a row with few pairs falls back on its key instead of trusting them. With p the probability of a cell
in its row, a pair is worth ``log10 p - log10(sum of p^2)``: the original's log ratio to the expectation of p
(Soraisam et al. 2020, ApJ 892, 112), which does not depend on the width of the cells. It is bounded below by
`floor`, so that a few wrong points cannot decide alone.

The score of an object is the mean over its pairs, weighted with dt^`dt_power` (pairs of minutes or hours hold
noise, not the shape of the light curve) and, between bands, with `cross_weight` (colours scatter with
reddening, magnitude differences inside a band do not). Rows that fewer than `min_coverage` of the objects
reach are outside the range of the reference.

Defaults were chosen on halves of the first 750 supernovae of the ZTF sample, and, between floors of -0.3 and
-0.5 and smoothings of 1 and 2 cells (0.1 mag, about the error of a difference), by the calibration of `tail`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError
from skytrawl.kernels.dmdt import KeyTable
from skytrawl.kernels.dmdt.compiled import LARGEST_VALUE

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class ScoreModel:
    """Constants of the `mean` and `tail` scores.

    Attributes
    ----------
    smooth_dt, smooth_dm : float
        Standard deviation of the smoothing, in cells.
    prior_pairs : float
        Pseudo-pairs of each row.
    floor : float
        Lowest value of a pair, log10.
    dt_power, cross_weight : float
        Weight of a pair: dt^dt_power, times cross_weight between bands.
    min_coverage : float
        Fraction of the reference objects that a dt row must hold pairs of.
    """

    smooth_dt: float = 1.0
    smooth_dm: float = 2.0
    prior_pairs: float = 30.0
    floor: float = -0.5
    dt_power: float = 1.0
    cross_weight: float = 0.5
    min_coverage: float = 0.02

    def __post_init__(self) -> None:
        if self.smooth_dt < 0 or self.smooth_dm < 0 or self.prior_pairs <= 0 or self.cross_weight < 0:
            raise ParameterError("smoothing and weights must not be negative, prior_pairs must be positive")
        if not (-100.0 <= self.floor < 0.0 and 0.0 <= self.min_coverage <= 1.0 and 0 <= self.dt_power <= 2):
            raise ParameterError("floor must lie in [-100, 0), min_coverage in [0, 1], dt_power in [0, 2]")


@dataclass(frozen=True, eq=False)
class Counts:
    """Counts of one class of a reference, as plain arrays.

    Attributes
    ----------
    counts : int64[n_keys, n_dt, n_dm + 2], with the pairs below and above the dm range at the ends
    objects : int64[n_keys, n_dt], objects with a pair in the row
    n_objects : int
    cross : bool[n_keys], whether the key is between bands
    dt_edges, dm_edges : float64, days and magnitudes
    """

    counts: Integers
    objects: Integers
    n_objects: int
    cross: NDArray[np.bool_]
    dt_edges: Floats
    dm_edges: Floats


def smooth(array: NDArray[np.generic], sigma: float, axis: int) -> Floats:
    """Convolve with a Gaussian cut at 4 sigma along one axis; nothing lies beyond the ends."""
    result = np.asarray(array, dtype=np.float64)
    if sigma == 0:
        return result
    reach = int(np.ceil(4 * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps /= taps.sum()
    source = np.moveaxis(result, axis, 0)
    out = np.zeros_like(source)
    n = len(source)
    for shift, tap in zip(range(-reach, reach + 1), taps, strict=True):
        if abs(shift) < n:
            out[max(shift, 0) : n + min(shift, 0)] += tap * source[max(-shift, 0) : n + min(-shift, 0)]
    return np.moveaxis(out, 0, axis)


def smoothed(counts: NDArray[np.generic], model: ScoreModel) -> Floats:
    """Counts [..., n_dt, n_dm] smoothed along both axes."""
    return smooth(smooth(counts, model.smooth_dt, -2), model.smooth_dm, -1)


def prior_of(pairs_at_all_dt: Floats, model: ScoreModel) -> Floats:
    """Probability of the cells [..., n_dm] that the pseudo-pairs follow."""
    wide = smooth(pairs_at_all_dt, 3 * model.smooth_dm + 1, -1)
    total = wide.sum(-1, keepdims=True)
    share = np.divide(wide, total, out=np.full_like(wide, 1 / wide.shape[-1]), where=total > 0)
    return 0.9 * share + 0.1 / wide.shape[-1]


def cell_probability(smooth_counts: Floats, prior: Floats, model: ScoreModel) -> Floats:
    """Probability of each cell in its row: [..., n_dt, n_dm]."""
    total = smooth_counts.sum(-1, keepdims=True)
    return (smooth_counts + model.prior_pairs * prior) / (total + model.prior_pairs)


def log_ratio(probability: Floats) -> Floats:
    """log10 p - log10 E with E the expectation of p under itself."""
    expectation = np.square(probability).sum(-1, keepdims=True)
    return np.log10(probability) - np.log10(expectation)


def row_weights(reference: Counts, model: ScoreModel) -> Floats:
    """Weight of a pair by key and row, [n_keys, n_dt]; 1 at the last edge of the grid inside a band."""
    low, high = reference.dt_edges[:-1], reference.dt_edges[1:]
    middle = np.where(low > 0, np.sqrt(low * high), high / 2)
    weight = (middle / reference.dt_edges[-1]) ** model.dt_power
    return np.where(reference.cross[:, None], model.cross_weight, 1.0) * weight


def covered(reference: Counts, model: ScoreModel) -> list[tuple[int, int] | None]:
    """Rows [first, last) of each key from the first to the last that enough objects reach; None without."""
    least = max(1.0, model.min_coverage * reference.n_objects)
    ranges: list[tuple[int, int] | None] = []
    for objects in reference.objects:
        rows = np.flatnonzero(objects >= least)
        ranges.append((int(rows[0]), int(rows[-1]) + 1) if len(rows) else None)
    return ranges


def tables(reference: Counts, model: ScoreModel) -> tuple[list[int], list[KeyTable], list[KeyTable]]:
    """Tables that the kernels score with.

    Returns
    -------
    keys : list of int
        Indices of the keys that have rows.
    values : list of KeyTable
        Weight times value of a pair in each cell; a value at or below the floor is marked.
    weights : list of KeyTable
        The weight alone, whatever dm. All weights are scaled by one power of two, so that those of short
        time differences keep their digits in the fixed-point numbers of the kernels.
    """
    inside = reference.counts[..., 1:-1]
    smooth_counts = smoothed(inside, model)
    prior = prior_of(smooth_counts.sum(-2), model)
    ratio = log_ratio(cell_probability(smooth_counts, prior[:, None, :], model))
    weight = row_weights(reference, model)
    everywhere = np.array([-1e6, 1e6])
    ranges = {key: rows for key, rows in enumerate(covered(reference, model)) if rows and weight[key].any()}
    largest = [
        (weight[key, slice(*rows)] * max(1.0, -model.floor, ratio[key, slice(*rows)].max())).max()
        for key, rows in ranges.items()
    ]
    weight *= 2.0 ** np.floor(np.log2(LARGEST_VALUE / max(largest, default=1.0)))
    keys, values, weights = [], [], []
    for key, rows in ranges.items():
        part = slice(*rows)
        edges = reference.dt_edges[rows[0] : rows[1] + 1]
        n, w = rows[1] - rows[0], weight[key, part]
        marked = ratio[key, part] <= model.floor
        bounded = np.maximum(ratio[key, part], model.floor) * w[:, None]
        keys.append(key)
        values.append(KeyTable(edges, [reference.dm_edges] * n, list(bounded), w * model.floor, list(marked)))
        weights.append(KeyTable(edges, [everywhere] * n, [np.array([x]) for x in w], w))
    return keys, values, weights


def own_scores(
    reference: Counts, starts: Integers, cells: Integers, own: Integers, model: ScoreModel
) -> tuple[Floats, Integers]:
    """Score reference objects without their own counts.

    Smoothing is linear, so that the smoothed own counts are subtracted from the smoothed counts: exact up to
    rounding, except that the range of covered rows stays that of the whole reference.

    Parameters
    ----------
    reference : Counts
    starts : int64[n + 1]
        Object i owns the entries ``starts[i]:starts[i + 1]``.
    cells, own : int64[n_entries]
        Flat index into `reference.counts` and number of pairs.
    model : ScoreModel

    Returns
    -------
    score : float64[n]
        Weighted mean, NaN without pairs in the covered rows.
    n_pairs : int64[n]
        Pairs in the covered rows.
    """
    _, n_dt, wide = reference.counts.shape
    n_dm = wide - 2
    total = smoothed(reference.counts[..., 1:-1], model)
    at_all_dt = total.sum(-2)
    weight = row_weights(reference, model)
    ranges = covered(reference, model)
    reach = int(np.ceil(4 * model.smooth_dt))
    score, n_pairs = np.full(len(starts) - 1, np.nan), np.zeros(len(starts) - 1, np.int64)
    key_of, rest = np.divmod(cells, n_dt * wide)
    row_of, column_of = np.divmod(rest, wide)
    for i in range(len(starts) - 1):
        mine = slice(starts[i], starts[i + 1])
        above = below = 0.0
        for key in np.unique(key_of[mine]):
            chosen = np.flatnonzero(key_of[mine] == key) + starts[i]
            row, column, number = row_of[chosen], column_of[chosen], own[chosen]
            low, high = max(row.min() - reach, 0), min(row.max() + reach + 1, n_dt)
            counts = np.zeros((high - low, wide))
            counts[row - low, column] = number
            mine_smooth = smoothed(counts[:, 1:-1], model)
            prior = prior_of(np.maximum(at_all_dt[key] - mine_smooth.sum(0), 0.0), model)
            needed, place = np.unique(row, return_inverse=True)
            without = np.maximum(total[key, needed] - mine_smooth[needed - low], 0.0)
            ratio = np.maximum(log_ratio(cell_probability(without, prior, model)), model.floor)
            inside = (column > 0) & (column <= n_dm)
            value = np.where(inside, ratio[place, np.clip(column - 1, 0, n_dm - 1)], model.floor)
            rows = ranges[key]
            used = (row >= rows[0]) & (row < rows[1]) if rows else np.zeros(len(row), bool)
            w = weight[key, row] * number * used
            above += float(np.sum(w * value))
            below += float(np.sum(w))
            n_pairs[i] += int(np.sum(number * used)) if weight[key].any() else 0
        if below > 0:
            score[i] = above / below
    return score, n_pairs


def tail_probability(
    score: Floats, n_pairs: Integers, sample_score: Floats, sample_pairs: Integers, neighbours: int
) -> Floats:
    """Rank of a score among the sample objects of similar number of pairs.

    ``(1 + number of neighbours with a score <= this one) / (1 + number of neighbours)``: in (0, 1], low is
    anomalous, uniform for members of the reference population. The neighbours are the `neighbours` sample
    objects around the same place in the order of n_pairs.

    Parameters
    ----------
    score, n_pairs : arrays of n objects
    sample_score, sample_pairs : arrays of the sample, NaN scores are left out
    neighbours : int, at most the size of the sample is used

    Returns
    -------
    float64[n], NaN where the score is NaN
    """
    good = np.isfinite(sample_score)
    if not good.any():
        return np.full(len(score), np.nan)
    # Objects with equal numbers of pairs stay in the order of the sample, which knows nothing of the scores.
    order = np.argsort(sample_pairs[good], kind="stable")
    values, numbers = sample_score[good][order], sample_pairs[good][order]
    k = min(neighbours, len(values))
    middle = (np.searchsorted(numbers, n_pairs, "left") + np.searchsorted(numbers, n_pairs, "right")) // 2
    first = np.clip(middle - k // 2, 0, len(values) - k)
    result = np.full(len(score), np.nan)
    for start in np.unique(first):
        here = (first == start) & np.isfinite(score)
        window = np.sort(values[start : start + k])
        result[here] = (1 + np.searchsorted(window, score[here], "right")) / (1 + k)
    return result
