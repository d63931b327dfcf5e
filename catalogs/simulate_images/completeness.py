"""How much of what was put in is found, and how much of what is found was put in."""

from collections.abc import Mapping, Sequence

import numpy as np

from skytrawl.catalogs.simulate_images.sky import Columns
from skytrawl.errors import ParameterError

EDGES = (0.0, 3.0, 4.0, 4.5, 5.0, 5.5, 6.0, 7.0, 8.0, 10.0, 15.0, 25.0, 50.0, np.inf)
_ONE = 1.0  # normal deviate of the intervals: 68 %


def wilson(found: np.ndarray, total: np.ndarray, z: float = _ONE) -> tuple[np.ndarray, np.ndarray]:
    """Interval of a binomial share, Wilson 1927, JASA 22, 209.

    Parameters
    ----------
    found, total : int64 array of shape (n,)
    z : float
        Normal deviate; 1 is 68 %.

    Returns
    -------
    low, high : float64 array of shape (n,)
        0 and 1 where the total is 0.
    """
    n = np.maximum(np.asarray(total, np.float64), 1e-30)
    share = np.asarray(found, np.float64) / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    none = np.asarray(total) == 0
    return np.where(none, 0.0, np.clip(middle - half, 0, 1)), np.where(
        none, 1.0, np.clip(middle + half, 0, 1)
    )


def match(truth: Mapping[str, np.ndarray], candidates: Mapping[str, np.ndarray], radius: float) -> np.ndarray:
    """Nearest candidate of each true source on the same exposure, each candidate at most once.

    Parameters
    ----------
    truth, candidates : mapping of arrays
        ``x``, ``y`` (pixels) and, if both have it, ``exposure``; or ``ra``, ``dec`` (degrees) without x, y.
    radius : float
        Pixels, or arcsec for ra and dec.

    Returns
    -------
    int64 array of shape (true sources,)
        Rows of the candidates, -1 where none lies within the radius.
    """
    pixels = all(name in table for table in (truth, candidates) for name in ("x", "y"))
    if not pixels and not all(name in table for table in (truth, candidates) for name in ("ra", "dec")):
        raise ParameterError("truth and candidates need x and y both, or ra and dec both")
    first, second = _places(truth, pixels), _places(candidates, pixels)
    frames = ("exposure" in truth) and ("exposure" in candidates)
    result = np.full(len(first), -1, np.int64)
    if not len(first) or not len(second):
        return result
    names = np.unique(truth["exposure"]) if frames else [None]
    for name in names:
        rows = np.flatnonzero(truth["exposure"] == name) if frames else np.arange(len(first))
        others = np.flatnonzero(candidates["exposure"] == name) if frames else np.arange(len(second))
        if len(others):
            _pair(first[rows], second[others], radius if pixels else _chord(radius), rows, others, result)
    return result


def completeness(
    truth: Mapping[str, np.ndarray],
    candidates: Mapping[str, np.ndarray],
    radius: float = 3.0,
    *,
    edges: Sequence[float] = EDGES,
    by: str = "snr",
    least_confidence: float = 0.0,
) -> Columns:
    """Completeness and purity in bins of signal-to-noise.

    Parameters
    ----------
    truth : mapping of arrays
        Places as for `match`, ``snr`` (expected), and ``confidence`` if asked for.
    candidates : mapping of arrays
        Places, and ``snr`` (measured).
    radius : float
        Pixels, or arcsec where only ra and dec are given.
    edges : sequence of float
        Of the bins; absolute values of ``snr`` are put into them.
    by : str
        Column in place of ``snr``.
    least_confidence : float
        True sources with less do not count, and candidates on them neither.

    Returns
    -------
    dict of arrays of shape (bins,)
        low, high; injected, recovered, completeness with completeness_low and completeness_high; candidates,
        true, purity with purity_low and purity_high. Shares are NaN in empty bins; the intervals hold 68 %
        (binomial, Wilson).

    Raises
    ------
    ParameterError
        If columns are missing or edges do not rise.
    """
    bins = np.asarray(edges, np.float64)
    if len(bins) < 2 or not (np.diff(bins) > 0).all():
        raise ParameterError("edges must rise, and there must be two at least")
    for name, table in (("truth", truth), ("candidates", candidates)):
        if by not in table:
            raise ParameterError(f"{name} lacks the column {by!r}")
    partner = match(truth, candidates, radius)
    counted = np.ones(len(partner), bool)
    if least_confidence > 0:
        counted = np.asarray(truth["confidence"]) >= least_confidence
    size = len(np.asarray(candidates[by]))
    real, left_out = np.zeros(size, bool), np.zeros(size, bool)
    real[partner[counted & (partner >= 0)]] = True
    left_out[partner[~counted & (partner >= 0)]] = True
    put, got = np.abs(truth[by])[counted], np.abs(truth[by])[counted & (partner >= 0)]
    all_of, true_of = np.abs(candidates[by])[~left_out], np.abs(candidates[by])[real]
    counts = [np.histogram(values, bins)[0].astype(np.int64) for values in (put, got, all_of, true_of)]
    result: Columns = {"low": bins[:-1], "high": bins[1:]}
    for names, total, found in (
        (("injected", "recovered", "completeness"), counts[0], counts[1]),
        (("candidates", "true", "purity"), counts[2], counts[3]),
    ):
        low, high = wilson(found, total)
        result |= {names[0]: total, names[1]: found}
        result[names[2]] = np.where(total > 0, found / np.maximum(total, 1), np.nan)
        result |= {f"{names[2]}_low": low, f"{names[2]}_high": high}
    return result


def _places(table: Mapping[str, np.ndarray], pixels: bool) -> np.ndarray:
    if pixels:
        return np.stack([np.asarray(table["x"], float), np.asarray(table["y"], float)], axis=1)
    a, d = np.radians(np.asarray(table["ra"], float)), np.radians(np.asarray(table["dec"], float))
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=1)


def _chord(arcsec: float) -> float:
    return float(2.0 * np.sin(np.radians(arcsec / 3600.0) / 2.0))


def _pair(
    first: np.ndarray,
    second: np.ndarray,
    radius: float,
    rows: np.ndarray,
    others: np.ndarray,
    result: np.ndarray,
) -> None:
    """Take pairs in the order of their distance; ties by row, so that the answer does not vary."""
    from scipy.spatial import cKDTree

    near = cKDTree(first).sparse_distance_matrix(cKDTree(second), radius, output_type="ndarray")
    order = np.lexsort((near["j"], near["i"], near["v"]))
    taken, used = np.zeros(len(first), bool), np.zeros(len(second), bool)
    for i, j in zip(near["i"][order].tolist(), near["j"][order].tolist(), strict=True):
        if not taken[i] and not used[j]:
            taken[i] = used[j] = True
            result[rows[i]] = others[j]
