"""Sets of small kernels whose weighted sum turns one point spread function into another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError


@dataclass(frozen=True, eq=False)
class KernelBasis:
    """Kernels of one size that span the matching kernels.

    Parameters
    ----------
    planes : float64[n_terms, side, side], side odd
        Values at offsets from the middle pixel: a convolution, so that plane [half, half + 1] moves light by
        one pixel towards larger x.

    Raises
    ------
    ParameterError
        If the sides are not odd and equal.
    """

    planes: NDArray[np.float64]

    def __post_init__(self) -> None:
        planes = np.ascontiguousarray(self.planes, np.float64)
        if planes.ndim != 3 or planes.shape[1] != planes.shape[2] or planes.shape[1] % 2 == 0:
            raise ParameterError(f"a kernel basis is [n_terms, side, side] with an odd side: {planes.shape}")
        object.__setattr__(self, "planes", planes)

    def __len__(self) -> int:
        return len(self.planes)

    @property
    def half_width(self) -> int:
        """Pixels from the middle to the border."""
        return int(self.planes.shape[1]) // 2

    @property
    def is_delta(self) -> bool:
        """Whether every pixel is a term of its own, in order."""
        flat = self.planes.reshape(len(self), -1)
        return flat.shape[0] == flat.shape[1] and bool(np.array_equal(flat, np.eye(len(flat))))

    @property
    def radius(self) -> NDArray[np.float64]:
        """Mean distance of each term from the middle, by absolute value; float64[n_terms], pixels."""
        offset = np.arange(-self.half_width, self.half_width + 1.0)
        weight = np.abs(self.planes)
        distance = np.hypot(offset[:, None], offset[None, :])
        mean: NDArray[np.float64] = (weight * distance).sum(axis=(1, 2)) / weight.sum(axis=(1, 2))
        return mean


def delta_basis(half_width: int, core: int | None = None) -> KernelBasis:
    """One term per pixel; beyond `core`, one per block of 3 x 3 pixels.

    Parameters
    ----------
    half_width : int, pixels
    core : int, optional, pixels
        Half width of the square in which every pixel is free. Wings of a kernel are smooth, and fewer terms
        are solved faster and with less noise. Default: all pixels are free.

    Returns
    -------
    KernelBasis
        (2 half_width + 1)^2 terms without `core` (Miller, Pennypacker & White 2008; Hu et al. 2022).
    """
    if half_width < 0:
        raise ParameterError(f"the half width of a kernel cannot be {half_width}")
    side = 2 * half_width + 1
    core = half_width if core is None else min(core, half_width)
    offset = np.arange(-half_width, half_width + 1)
    distance = np.abs(offset)
    # Blocks are counted from the border of the core, so that they lie alike on both sides.
    block = np.where(
        distance > core, np.sign(offset) * (side + (distance - core + 2) // 3), np.round(offset / 3)
    ).astype(np.int64)
    outer = (distance[:, None] > core) | (distance[None, :] > core)
    pair = (block[:, None] + 3 * side) * 7 * side + block[None, :] + 3 * side
    # Free pixels come first, in the order of the image: without wings the planes are the identity.
    label = np.where(outer, side * side + pair, np.arange(side * side).reshape(side, side))
    values, index = np.unique(label, return_inverse=True)
    planes = np.zeros((len(values), side * side))
    planes[index.ravel(), np.arange(side * side)] = 1.0
    return KernelBasis(planes.reshape(-1, side, side))


def gaussian_basis(
    half_width: int, sigmas: Sequence[float] = (0.7, 1.5, 3.0), degrees: Sequence[int] = (4, 2, 2)
) -> KernelBasis:
    """Gaussians times polynomials of the offset (Alard & Lupton 1998, their equation 3).

    Parameters
    ----------
    half_width : int, pixels
    sigmas : sequence of float, pixels
    degrees : sequence of int, one per Gaussian

    Returns
    -------
    KernelBasis
        Each term is scaled to a unit sum of squares.
    """
    if len(sigmas) != len(degrees) or not all(sigma > 0 for sigma in sigmas):
        raise ParameterError("a Gaussian basis needs positive sigmas and one degree for each")
    grid = np.arange(-half_width, half_width + 1.0)
    planes = []
    for sigma, degree in zip(sigmas, degrees, strict=True):
        profile = np.exp(-0.5 * (grid / sigma) ** 2)
        for j in range(degree + 1):
            for i in range(degree + 1 - j):
                plane = np.outer((grid / sigma) ** j * profile, (grid / sigma) ** i * profile)
                planes.append(plane / np.sqrt(np.sum(plane**2)))
    return KernelBasis(np.array(planes))
