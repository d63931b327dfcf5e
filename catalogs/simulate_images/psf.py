"""The PSF of simulated exposures: seeing of the night, and a pattern over the field that the optics make."""

import numpy as np

from skytrawl.catalogs.simulate_images.surveys import ImageModel
from skytrawl.kernels.render.moffat import MoffatField

# Spread of the coefficients of u, v, u^2, uv, v^2: of the width (share of it) and the ellipticity.
_WIDTH = np.array([0.0, 0.01, 0.01, 0.015, 0.005, 0.015])
_SHAPE = np.array([0.02, 0.015, 0.015, 0.01, 0.01, 0.01])
_OWN = 0.3  # share of these that changes from exposure to exposure


def seeing_of(generator: np.random.Generator, model: ImageModel) -> float:
    """FWHM of an exposure in pixels, after the survey's distribution."""
    median, spread, least, most = model.seeing
    width = median * np.exp(spread * generator.standard_normal())
    return float(np.clip(width, least, most)) / model.pixel_scale


def optics(generator: np.random.Generator) -> np.ndarray:
    """The pattern of a camera: coefficients of width, e1, e2; float64 array of shape (3, 6)."""
    return generator.standard_normal((3, 6)) * np.stack([_WIDTH, _SHAPE, _SHAPE])


def psf_of(
    generator: np.random.Generator,
    model: ImageModel,
    pattern: np.ndarray,
    fwhm: float,
    size: int,
    variation: float = 1.0,
) -> MoffatField:
    """The PSF of one exposure.

    Parameters
    ----------
    generator : numpy.random.Generator
    model : ImageModel
    pattern : float64 array of shape (3, 6)
        Of the camera, see `optics`.
    fwhm : float
        In the middle of the field, pixels.
    size : int
        Rows and columns of the image.
    variation : float
        Factor on all deviations from a round PSF that is the same everywhere.
    """
    terms = variation * (pattern + _OWN * optics(generator))
    width = fwhm * (terms[0] + np.array([1.0, 0, 0, 0, 0, 0]))
    return MoffatField(width, terms[1], terms[2], float(generator.uniform(*model.beta)), (size, size))
