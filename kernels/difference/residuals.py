"""The error of a matched model under sources, measured on what it leaves there.

A fitted kernel is never perfect: where a source has the filtered model M (the score that it would have, were
it not subtracted), an error of its flux leaves a part of M, a wrong position a part of its gradient, a wrong
width a part of its Laplacian. So the score has the extra variance

``V_model = f^2 M^2 + t^2 |grad M|^2 + w^2 (laplace M)^2``

of which ZOGY's astrometric term (Zackay et al. 2016, their section 3.3) is the middle one. Each term is
taken from the image that has less of it: what is new in one of them is not subtracted. f (relative),
t (pixels) and w (pixels^2) come from the scores on the sources of the pair: second moments beyond the noise.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

_BRIGHT = 20.0  # sigma of the filtered model from which on its error is measured
_CLIP = 5.0  # sigma; what is further off is a source of its own
_FEWEST = 30  # pixels


@dataclass(frozen=True)
class ModelError:
    """How far the model of a pair is off, as standard deviations.

    Attributes
    ----------
    flux : float, relative
    shift : float, pixels along each axis
    width : float, pixels^2
    n_pixels : int, on which they were measured
    """

    flux: float = 0.0
    shift: float = 0.0
    width: float = 0.0
    n_pixels: int = 0

    def variance(self, first: Image, second: Image) -> Image:
        """Variance of the score from its two parts, the filtered images; all float32[ny, nx]."""
        total = np.zeros(first.shape, np.float32)
        for factor, square in zip((self.flux, self.shift, self.width), _squares(first, second), strict=True):
            total += np.float32(factor**2) * square
        return total


def _squares(first: Image, second: Image) -> list[Image]:
    return [np.minimum(a, b) for a, b in zip(_terms(first), _terms(second), strict=True)]


def _terms(modelled: Image) -> tuple[Image, Image, Image]:
    padded: Image = np.pad(modelled, 1, mode="edge")
    dx = (padded[1:-1, 2:] - padded[1:-1, :-2]) * np.float32(0.5)
    dy = (padded[2:, 1:-1] - padded[:-2, 1:-1]) * np.float32(0.5)
    laplace = (
        padded[1:-1, 2:] + padded[1:-1, :-2] + padded[2:, 1:-1] + padded[:-2, 1:-1] - np.float32(4) * modelled
    )
    slope: Image = np.square(dx) + np.square(dy)
    return modelled**2, slope, np.square(laplace)


def fit_model_error(
    score: Image,
    variance: Image,
    parts: tuple[Image, Image],
    usable: NDArray[np.bool_],
    *,
    iterations: int = 8,
) -> ModelError:
    """Measure the error of a model on bright sources.

    Parameters
    ----------
    score, variance : float32[ny, nx], of the difference, without error of the model
    parts : two float32[ny, nx]
        The filtered images of which the score is the difference: what the sources would have as score,
        were they not subtracted.
    usable : bool[ny, nx]
    iterations : int, of the clipping and of the weights ``1 / (V + V_model)^2``

    Returns
    -------
    ModelError, zero where there are no bright sources
    """
    from scipy.optimize import nnls

    bright = usable & (np.minimum(np.abs(parts[0]), np.abs(parts[1])) > _BRIGHT * np.sqrt(variance))
    count = int(bright.sum())
    if count < _FEWEST:
        return ModelError(n_pixels=count)
    terms = np.stack([plane[bright].astype(np.float64) for plane in _squares(*parts)], axis=1)
    noise = variance[bright].astype(np.float64)
    square = score[bright].astype(np.float64) ** 2
    # Started too large, so that the first clipping keeps what the errors explain.
    found = np.array([0.03**2, 0.05**2, 0.05**2])
    for _ in range(iterations):
        total = noise + terms @ found
        good = square < _CLIP**2 * total
        weight = good / total
        scale = np.maximum(np.sqrt(np.sum((terms * weight[:, None]) ** 2, axis=0)), 1e-300)
        found = nnls(terms * weight[:, None] / scale, (square - noise) * weight)[0] / scale
    flux, shift, width = np.sqrt(found).tolist()
    return ModelError(flux, shift, width, count)
