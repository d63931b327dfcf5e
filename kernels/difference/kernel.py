"""A matching kernel that varies over the field."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError
from skytrawl.kernels.difference.basis import KernelBasis
from skytrawl.kernels.psf import polynomial_terms


@dataclass(frozen=True, eq=False)
class MatchingKernel:
    """A kernel that varies over the field, and how well it fits.

    Parameters
    ----------
    basis : KernelBasis
    coefficients : float64[n_terms(degree), len(basis)]
        Of polynomials of (x, y) scaled to [-1, 1] over the image, terms as in `polynomial_terms`.
    background : float64[n_terms(background_degree)], image units of the target
    degree, background_degree : int
    shape : (ny, nx) of the images
    direction : {"reference", "science"}
        Which image the kernel is for; the other is its target.
    n_stamps, n_pixels : int, used in the last iteration
    n_clipped : int, stamps that were left out because they do not fit
    chi2 : float, chi-square per pixel of the last iteration, with the error of the model in the weights
    residual : float
        Fraction of the model by which it fails beyond the noise, root mean square over the stamps.
    """

    basis: KernelBasis
    coefficients: NDArray[np.float64]
    background: NDArray[np.float64]
    degree: int
    background_degree: int
    shape: tuple[int, int]
    direction: Literal["reference", "science"]
    n_stamps: int = 0
    n_pixels: int = 0
    n_clipped: int = 0
    chi2: float = float("nan")
    residual: float = 0.0

    def at(self, x: float, y: float) -> NDArray[np.float64]:
        """Kernel [side, side] at a position in pixels."""
        terms = scaled_terms(x, y, self.shape, self.degree)
        planes: NDArray[np.float64] = np.tensordot(terms @ self.coefficients, self.basis.planes, 1)
        return planes

    @property
    def middle(self) -> NDArray[np.float64]:
        """Kernel [side, side] at the middle of the image."""
        ny, nx = self.shape
        return self.at((nx - 1) / 2, (ny - 1) / 2)

    def scale(self, x: float | None = None, y: float | None = None) -> float:
        """Sum of the kernel (flux in the target over flux in the convolved image); default: at the middle."""
        ny, nx = self.shape
        return float(self.at((nx - 1) / 2 if x is None else x, (ny - 1) / 2 if y is None else y).sum())

    def background_image(self) -> NDArray[np.float32]:
        """The fitted difference of the backgrounds, float32[ny, nx]."""
        return _polynomial_image(self.background, self.background_degree, self.shape)

    def convolve(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convolve an image [ny, nx] (zero outside, without NaN) with the kernel of each place."""
        from scipy.signal import oaconvolve

        if image.shape != self.shape:
            raise ParameterError(f"this kernel is for images of shape {self.shape}, not {image.shape}")
        total = np.zeros(self.shape, np.float32)
        for k, row in enumerate(self.coefficients):
            plane = np.tensordot(row, self.basis.planes, 1).astype(np.float32)
            weight = np.zeros(len(self.coefficients))
            weight[k] = 1.0
            part = oaconvolve(image, plane, mode="same")
            total += part if k == 0 else part * _polynomial_image(weight, self.degree, self.shape)
        return total


def scaled_terms(
    x: float | NDArray[np.float64], y: float | NDArray[np.float64], shape: tuple[int, int], degree: int
) -> NDArray[np.float64]:
    """Polynomial terms of positions in pixels, with both axes of the image scaled to [-1, 1]."""
    ny, nx = shape
    return polynomial_terms(2 * (np.asarray(x) + 0.5) / nx - 1, 2 * (np.asarray(y) + 0.5) / ny - 1, degree)


def _polynomial_image(
    coefficients: NDArray[np.float64], degree: int, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Sum of the polynomial terms at every pixel, row by row of the powers: no plane per term is made."""
    ny, nx = shape
    x, y = 2 * (np.arange(nx) + 0.5) / nx - 1, 2 * (np.arange(ny) + 0.5) / ny - 1
    total = np.zeros(shape, np.float32)
    k = 0
    for j in range(degree + 1):
        part = np.zeros(nx)
        for i in range(degree + 1 - j):
            part += coefficients[k] * x**i
            k += 1
        total += np.outer(y**j, part).astype(np.float32)
    return total
