"""Ratio of the fluxes of constant stars in two images, found among stars that vary and galaxies."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

# Half the width of the distribution (Cauchy's) of the logarithm of the ratios of all that are not constant.
_OTHERS = 0.2
_SHARE = 0.7
# Relative scatter of constant stars before any is seen, and the largest that they may have.
_EXPECTED, MOST_SCATTER = 0.01, 0.05
_STARTS = 50
_TURNS = 200


def flux_ratio(f: Values, ef: Values, g: Values, eg: Values) -> tuple[float, float, float, NDArray[np.bool_]]:
    """Ratio f / g of the constant stars, with its error.

    The sources are taken for a mixture (Hogg, Bovy & Lang 2010, section 3) of constant stars, whose ratios
    scatter little beyond their errors, and others, whose ratios may be anything: stars that vary, and
    galaxies, whose PSF flux depends on the seeing. Expectation and maximization find the ratio, the scatter
    and the share of the constant ones, from the most likely of the ratios that single sources show.

    Parameters
    ----------
    f, ef, g, eg : float64[n], positive fluxes and their errors, each image in a unit of its own

    Returns
    -------
    ratio, error, scatter : float
        The scatter is that of constant stars, relative, beyond their errors, 5 % at most; the error holds it.
    constant : bool[n]
        Sources that are rather constant stars.
    """
    best = np.argsort(np.hypot(ef / f, eg / g), kind="stable")[:_STARTS]
    trials = (f / g)[best]
    ratio = float(max(trials, key=lambda trial: _Mixture(f, ef, g, eg, trial, _EXPECTED, _SHARE).likelihood))
    now = _Mixture(f, ef, g, eg, ratio, _EXPECTED, _SHARE)
    for _ in range(_TURNS):
        before, now = now, now.improved()
        if abs(now.ratio / before.ratio - 1) < 1e-8:
            break
    return now.ratio, float(1 / np.sqrt(np.sum(now.weight * g**2))), now.scatter, now.constant > 0.5


class _Mixture:
    """Probabilities `constant` of the sources for given parameters; `weight` is expected inverse variance."""

    def __init__(
        self, f: Values, ef: Values, g: Values, eg: Values, ratio: float, scatter: float, share: float
    ) -> None:
        self.data, self.ratio, self.scatter = (f, ef, g, eg), ratio, scatter
        self.noise = ef**2 + (ratio * eg) ** 2
        variance = self.noise + (scatter * ratio * g) ** 2
        residual = f - ratio * g
        normal = -0.5 * (residual**2 / variance + np.log(2 * np.pi * variance))
        # A density of the logarithm of f, as that of the others is.
        one = np.log(share) + np.log(f) + normal
        distance = np.log(f / (ratio * g)) / _OTHERS
        every = np.logaddexp(one, np.log((1 - share) / (np.pi * _OTHERS * (1 + distance**2))))
        self.likelihood = float(every.sum())
        self.constant = np.exp(one - every)
        self.weight = self.constant / variance

    def improved(self) -> "_Mixture":
        """The mixture with the parameters that its probabilities ask for."""
        f, ef, g, eg = self.data
        # The true flux lies between both measurements (York 1966).
        true = (g * ef**2 + self.ratio * f * eg**2) / self.noise
        ratio = float(np.sum(self.weight * true * f) / np.sum(self.weight * true * g))
        scatter = extra_scatter(f - ratio * g, self.noise, (ratio * g) ** 2, self.constant)
        # As if one source of each kind had been seen before: no kind is ever empty.
        share = (float(self.constant.sum()) + 1) / (len(f) + 2)
        return _Mixture(f, ef, g, eg, ratio, min(scatter, MOST_SCATTER), share)


def extra_scatter(residual: Values, variance: Values, leverage: Values, weight: Any) -> float:
    """Most likely scatter s of normal residuals of variance + s^2 leverage; 0 if the variance explains them.

    Parameters
    ----------
    residual, variance, leverage : float64[n]
    weight : float64[n] or bool[n]
        How much of each is meant, 0 to 1; one of them is spent on the mean.
    """
    seen = float(np.sum(weight))
    square = residual**2 * seen / max(seen - 1, 1.0)
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        total = variance + middle**2 * leverage
        if np.sum(weight * leverage * (square - total) / total**2) > 0:
            low = middle
        else:
            high = middle
    return low if low > 1e-9 else 0.0
