"""Gumbel's law of the largest of many values, fitted to sorted samples."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@lru_cache(maxsize=64)
def weights(n: int, low: float, high: float) -> tuple[Floats, Floats]:
    """Weights of n ascending values that sum to mu and beta of Gumbel's law.

    The line through (-ln(-ln p), value) at the ranks with p = (rank - 0.44) / (n + 0.12), after Gringorten
    (1963, J. Geophys. Res. 68, 813), each weighted by the inverse of its variance, (p ln p)^2 / (p (1 - p)).

    Parameters
    ----------
    n : int
    low, high : float
        Range of p that is used, so that neither the body of the values nor outliers count.

    Returns
    -------
    float64[n], float64[n]
    """
    p = (np.arange(1, n + 1) - 0.44) / (n + 0.12)
    x = -np.log(-np.log(p))
    weight = np.where((p > low) & (p < high), (p * np.log(p)) ** 2 / (p * (1 - p)), 0.0)
    weight /= weight.sum()
    mean = (weight * x).sum()
    slope = weight * (x - mean) / (weight * (x - mean) ** 2).sum()
    return weight - mean * slope, slope


def fit(values: Floats, low: float = 0.0, high: float = 1.0) -> tuple[Floats, Floats]:
    """Mu and beta of each row of ``float64[m, n]``; beta is 1e-6 at least."""
    to_mu, to_beta = weights(values.shape[1], low, high)
    values = np.sort(values, axis=1)
    return (values * to_mu).sum(axis=1), np.maximum((values * to_beta).sum(axis=1), 1e-6)


def survival(value: Floats, mu: Floats, beta: Floats) -> Floats:
    """Chance of more than `value`: ``1 - exp(-exp(-(value - mu) / beta))``, exact far out."""
    with np.errstate(over="ignore"):
        return np.asarray(-np.expm1(-np.exp(-(value - mu) / beta)))
