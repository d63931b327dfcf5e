"""A point spread function whose samples are polynomials of the position on the image."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skytrawl.errors import ParameterError
from skytrawl.kernels.psf.spline import prefilter, resampling

_FINE = 8  # samples per image pixel where a width is read off


def n_terms(degree: int) -> int:
    """Terms of a polynomial of two variables."""
    return (degree + 1) * (degree + 2) // 2


def polynomial_terms(x: ArrayLike, y: ArrayLike, degree: int) -> NDArray[np.float64]:
    """Monomials x^i y^j with i + j <= degree, i fastest: 1, x, x^2, y, xy, y^2 (the order of PSFEx).

    Returns
    -------
    float64[..., n_terms]
    """
    x, y = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))
    return np.stack([x**i * y**j for j in range(degree + 1) for i in range(degree + 1 - j)], axis=-1)


def term_degrees(degree: int) -> NDArray[np.int64]:
    """Degree i + j of each of the `polynomial_terms`; those up to a lower degree are its terms in its order.

    Returns
    -------
    int64[n_terms]
    """
    return np.array([i + j for j in range(degree + 1) for i in range(degree + 1 - j)])


@dataclass(frozen=True, eq=False)
class PsfModel:
    """PSF at any place of an image: ``sum_k basis[k] * term_k((x - x0) / xscale, (y - y0) / yscale)``.

    The samples are those of the *effective* PSF, in which the response of a pixel is contained: the value of
    an image pixel is the flux of the star times the model at the offset of the pixel's centre.

    Parameters
    ----------
    basis : float32[n_terms, ny, nx]
        Sides are odd; the star sits on the centre of sample [ny // 2, nx // 2]. Terms as in
        `polynomial_terms`.
    degree : int
    x0, y0, xscale, yscale : float, image pixels (0-based)
        Beyond x0 +- xscale and y0 +- yscale the PSF is that of the nearest place within: polynomials run
        away where nothing holds them.
    sampling : float
        Image pixels per sample; 0.5 is twice as fine as the image.

    Raises
    ------
    ParameterError
        If sides are even, terms do not fit the degree, or a number is not finite or not positive.
    """

    basis: NDArray[np.float32]
    degree: int = 0
    x0: float = 0.0
    y0: float = 0.0
    xscale: float = 1.0
    yscale: float = 1.0
    sampling: float = 1.0

    def __post_init__(self) -> None:
        basis = np.ascontiguousarray(self.basis, np.float32)
        if basis.ndim != 3 or len(basis) != n_terms(self.degree):
            raise ParameterError(
                f"a PSF of degree {self.degree} needs a basis [{n_terms(self.degree)}, ny, nx], "
                f"not one of shape {basis.shape}"
            )
        if any(side % 2 == 0 for side in basis.shape[1:]):
            raise ParameterError(f"the sides of a PSF must be odd, not {basis.shape[1:]}")
        if not np.isfinite(basis).all():
            raise ParameterError("the samples of a PSF must be finite")
        if not basis[0].sum() > 0:
            raise ParameterError("the constant term of a PSF must have a positive sum")
        if not all(np.isfinite(v) and v > 0 for v in (self.xscale, self.yscale, self.sampling)):
            raise ParameterError("xscale, yscale and sampling of a PSF must be positive")
        object.__setattr__(self, "basis", basis)

    @classmethod
    def constant(cls, stamp: ArrayLike, sampling: float = 1.0) -> "PsfModel":
        """Model that is the same everywhere, from one stamp [ny, nx] with odd sides."""
        stamp = np.asarray(stamp, np.float64)
        if stamp.ndim != 2:
            raise ParameterError(f"a PSF stamp has two dimensions, not {stamp.ndim}")
        return cls((stamp / stamp.sum()).astype(np.float32)[None], sampling=sampling)

    @property
    def shape(self) -> tuple[int, int]:
        """Sides (y, x) in image pixels of the stamps that `at` gives: odd, within the samples."""
        ny, nx = (2 * int((side // 2) * self.sampling + 1e-9) + 1 for side in self.basis.shape[1:])
        return ny, nx

    def terms(self, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
        """Polynomial terms float64[..., n_terms] at positions in image pixels."""
        u = np.clip((np.asarray(x, np.float64) - self.x0) / self.xscale, -1.0, 1.0)
        v = np.clip((np.asarray(y, np.float64) - self.y0) / self.yscale, -1.0, 1.0)
        return polynomial_terms(u, v, self.degree)

    def reaches(self, x: float, y: float) -> bool:
        """Whether a position in image pixels lies in the field."""
        return self.degree == 0 or bool(
            abs(x - self.x0) <= self.xscale + 0.5 and abs(y - self.y0) <= self.yscale + 0.5
        )

    def at(
        self,
        x: ArrayLike = 0.0,
        y: ArrayLike = 0.0,
        *,
        dx: ArrayLike = 0.0,
        dy: ArrayLike = 0.0,
        size: int | None = None,
    ) -> NDArray[np.float32]:
        """PSF at positions of the image, in image pixels, with the sum 1.

        Parameters
        ----------
        x, y : float or arrays of one shape, image pixels
        dx, dy : float, or arrays of the shape of x and y, pixels
            Where the stars sit relative to the centre of the middle pixel. The sum is 1 for (0, 0); a shifted
            star loses what leaves the stamp.
        size : int, odd
            Side of the stamps (zeros outside the samples, cut inside). Default `shape`.

        Returns
        -------
        float32[..., ny, nx]
        """
        ny, nx = self.shape if size is None else (size, size)
        if ny % 2 == 0 or nx % 2 == 0:
            raise ParameterError(f"the side of a PSF stamp must be odd, not {size}")
        terms = self.terms(x, y)
        flat = terms.reshape(-1, terms.shape[-1])
        total = flat @ self._stamps(np.eye(flat.shape[1]), ny, nx, 0.0, 0.0).sum(axis=(-2, -1))
        stamps = self._stamps(flat, ny, nx, dx, dy) / total[:, None, None]
        return stamps.reshape(*terms.shape[:-1], ny, nx).astype(np.float32)

    @cached_property
    def _coefficients(self) -> NDArray[np.float64]:
        """Of the spline through the samples of each term."""
        from skytrawl.kernels.psf.cpu import PAD

        along_y, along_x = (prefilter(side) for side in self.basis.shape[1:])
        coefficients = along_y @ self.basis.astype(np.float64) @ along_x.T
        return np.pad(coefficients, ((0, 0), (PAD, PAD), (PAD, PAD)))

    def _stamps(
        self, terms: NDArray[np.float64], ny: int, nx: int, dx: ArrayLike, dy: ArrayLike
    ) -> NDArray[np.float64]:
        # Numba is loaded only now: models may be read and written without.
        from skytrawl.kernels.psf import cpu

        out = np.empty((len(terms), ny, nx))
        u, v = (np.array(np.broadcast_to(np.ravel(d), len(terms)), np.float64) for d in (dx, dy))
        cpu.stamps(self._coefficients, terms, u, v, 1.0 / self.sampling, out)
        return out

    def fwhm(self, x: ArrayLike = 0.0, y: ArrayLike = 0.0) -> NDArray[np.float64]:
        """Diameter in image pixels of the circle with the area in which the PSF exceeds half its maximum.

        Parameters
        ----------
        x, y : float or arrays of one shape, image pixels

        Returns
        -------
        float64[...]
        """
        terms = self.terms(x, y)
        flat = np.tensordot(terms.reshape(-1, terms.shape[-1]), self.basis.astype(np.float64), 1)
        widths = np.array([_half_width(samples, self.sampling) for samples in flat])
        return widths.reshape(terms.shape[:-1])

    def noise_area(self, x: ArrayLike = 0.0, y: ArrayLike = 0.0) -> NDArray[np.float64]:
        """Pixels that contribute noise to a PSF flux, ``1 / sum(P**2)``; float64[...]."""
        return 1.0 / np.square(self.at(x, y), dtype=np.float64).sum(axis=(-2, -1))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays ``basis`` and ``frame`` (degree, x0, y0, xscale, yscale, sampling) that hold the model."""
        frame = (self.degree, self.x0, self.y0, self.xscale, self.yscale, self.sampling)
        return {"basis": self.basis, "frame": np.array(frame, np.float64)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "PsfModel":
        """Model from what `to_arrays` gave."""
        degree, *rest = (float(value) for value in arrays["frame"])
        return cls(np.asarray(arrays["basis"], np.float32), int(degree), *rest)


def _half_width(samples: NDArray[np.float64], sampling: float) -> float:
    """Width of one set of samples, see `PsfModel.fwhm`."""
    side = 2 * int(min(samples.shape) // 2 * sampling * _FINE) + 1
    step = 1.0 / (sampling * _FINE)
    along_y = resampling(samples.shape[0], side, step, 0.0)
    along_x = resampling(samples.shape[1], side, step, 0.0)
    values = np.sort((along_y @ samples @ along_x.T).ravel())[::-1]
    level = values / values[0]
    begin, end = np.searchsorted(-level, (-0.6, -0.4))
    # The area above a level is a smooth function of the level; single samples are not.
    middle = slice(begin, max(end, begin + 3))
    area = np.polyval(np.polyfit(level[middle] - 0.5, np.arange(len(level))[middle] + 0.5, 2), 0.0)
    return float(2.0 * np.sqrt(area / np.pi) / _FINE)
