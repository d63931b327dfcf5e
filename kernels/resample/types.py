"""The records that go in and out of the resampling and the coaddition."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError


class HasPlanes(Protocol):
    """Anything with the three planes of an exposure."""

    @property
    def image(self) -> Any:
        """Image [ny, nx]."""

    @property
    def variance(self) -> Any:
        """Variance [ny, nx]."""

    @property
    def mask(self) -> Any:
        """Mask [ny, nx]."""


class Planes(NamedTuple):
    """Planes of an exposure on one pixel grid.

    Attributes
    ----------
    image : float32[ny, nx], image units
    variance : float32[ny, nx], (image unit)^2
    mask : uint16[ny, nx], bits of `skytrawl.kernels.flags`
    """

    image: Any
    variance: Any
    mask: Any


class Resampled(NamedTuple):
    """Planes on another pixel grid.

    Attributes
    ----------
    image, variance : float32[ny, nx]
        NaN where there is no coverage.
    mask : uint16[ny, nx]
    coverage : bool[ny, nx]
        Whether the kernel lay mostly on usable pixels, so that there is a value.
    noise_correlation : float
        Power of the noise at low frequencies over the variance of a pixel, for an input of white noise; NaN
        without coverage.
    """

    image: Any
    variance: Any
    mask: Any
    coverage: Any
    noise_correlation: float


# Image, variance, mask and coverage, with the sums that make the noise correlation.
Sums = tuple[tuple[Any, Any, Any, Any], float, float]


@dataclass(frozen=True, eq=False)
class CoordinateGrid:
    """Where the pixels of an output image lie on an input image, at the nodes of a regular grid.

    Between the nodes, positions are interpolated by cubics through the nearest 4 x 4 nodes; around a node
    that is not finite there are no positions.

    Parameters
    ----------
    x, y : float64[my, mx], input pixels (0-based, centre of the first pixel 0)
        Four nodes along each axis at least; NaN where the place has no position.
    origin : (y, x) of the first node, output pixels
    step : (y, x) from node to node, output pixels
    error : float, input pixels
        Largest error of the interpolated positions where it was measured; NaN if it was not.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    origin: tuple[float, float] = (0.0, 0.0)
    step: tuple[float, float] = (1.0, 1.0)
    error: float = float("nan")

    def __post_init__(self) -> None:
        x, y = (np.ascontiguousarray(nodes, np.float64) for nodes in (self.x, self.y))
        if x.ndim != 2 or x.shape != y.shape or min(x.shape) < 4:
            raise ParameterError(f"a coordinate grid needs 4 x 4 nodes at least, not {x.shape} and {y.shape}")
        if not all(step > 0 for step in self.step):
            raise ParameterError(f"the step of a coordinate grid must be positive, not {self.step}")
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "y", y)

    @classmethod
    def affine(
        cls, shape: tuple[int, int], matrix: NDArray[np.float64], shift: tuple[float, float] = (0.0, 0.0)
    ) -> "CoordinateGrid":
        """Grid of an affine map: input (x, y) = matrix @ output (x, y) + shift.

        Parameters
        ----------
        shape : (ny, nx) of the output
        matrix : float64[2, 2]
        shift : (x, y), input pixels
        """
        step = (max(shape[0] - 1, 1) / 3, max(shape[1] - 1, 1) / 3)
        down, along = np.meshgrid(np.arange(4) * step[0], np.arange(4) * step[1], indexing="ij")
        x = matrix[0][0] * along + matrix[0][1] * down + shift[0]
        y = matrix[1][0] * along + matrix[1][1] * down + shift[1]
        return cls(x, y, (0.0, 0.0), step, 0.0)

    def window(self, y: float, x: float = 0.0) -> "CoordinateGrid":
        """The same places for an output image whose first pixel is pixel (y, x) of this one."""
        return replace(self, origin=(self.origin[0] - y, self.origin[1] - x))
