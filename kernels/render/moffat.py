"""A PSF that varies over the field: an elliptical Moffat profile with polynomials for width and shape."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MoffatField:
    """Elliptical Moffat profiles, (1 + r Q r)^-beta, whose width and shape are polynomials of the position.

    Moffat 1969, A&A 3, 455. Q = C^-1 with C = a^2 [[1 + e1, e2], [e2, 1 - e1]] / sqrt(1 - e1^2 - e2^2), of
    which the area does not depend on the ellipticity, and a = FWHM / (2 sqrt(2^(1/beta) - 1)).

    Attributes
    ----------
    width, e1, e2 : float64 array of shape (6,)
        Coefficients of 1, u, v, u^2, u v, v^2; u and v run from -1 to 1 over the image. ``width`` is the FWHM
        in pixels, before pixels blur it; e1, e2 below 1.
    beta : float
        Slope of the wings, above 1; the same everywhere.
    shape : tuple of int
        Rows and columns of the image.
    """

    width: Floats
    e1: Floats
    e2: Floats
    beta: float
    shape: tuple[int, int]

    @classmethod
    def constant(cls, fwhm: float, beta: float, shape: tuple[int, int]) -> "MoffatField":
        """Round and the same everywhere."""
        first = np.array([1.0, 0, 0, 0, 0, 0])
        return cls(fwhm * first, 0.0 * first, 0.0 * first, beta, shape)

    def _terms(self, x: Floats, y: Floats) -> Floats:
        ny, nx = self.shape
        u = 2.0 * np.asarray(x, np.float64) / max(nx - 1, 1) - 1.0
        v = 2.0 * np.asarray(y, np.float64) / max(ny - 1, 1) - 1.0
        # A source outside the image has the PSF of the edge: polynomials run away there.
        u, v = np.clip(u, -1.0, 1.0), np.clip(v, -1.0, 1.0)
        return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=-1)

    def fwhm(self, x: Any, y: Any) -> Floats:
        """Full width at half maximum at positions, pixels, before pixels blur it."""
        return self._terms(x, y) @ self.width

    def covariances(self, x: Floats, y: Floats) -> Floats:
        """C at positions: float64 array of shape (n, 3) with xx, xy, yy, in pixels squared."""
        terms = self._terms(x, y)
        scale = (terms @ self.width) ** 2 / (4.0 * (2.0 ** (1.0 / self.beta) - 1.0))
        e1, e2 = terms @ self.e1, terms @ self.e2
        scale = scale / np.sqrt(1.0 - e1 * e1 - e2 * e2)
        return np.stack([scale * (1.0 + e1), scale * e2, scale * (1.0 - e1)], axis=-1)

    def quadratics(self, x: Floats, y: Floats) -> Floats:
        """Q at positions: float64 array of shape (n, 3) with xx, xy, yy, in 1 / pixels squared."""
        c = self.covariances(x, y)
        determinant = c[..., 0] * c[..., 2] - c[..., 1] ** 2
        return np.stack([c[..., 2], -c[..., 1], c[..., 0]], axis=-1) / determinant[..., None]

    def reach(self, flux: Floats, level: float) -> Floats:
        """Distance at which the surface brightness of sources in the middle falls to a level, pixels.

        Parameters
        ----------
        flux : float64 array of shape (n,)
        level : float
            Flux per pixel.
        """
        width = float(self.width[0])
        a2 = width**2 / (4.0 * (2.0 ** (1.0 / self.beta) - 1.0))
        peak = np.abs(np.asarray(flux, np.float64)) * (self.beta - 1.0) / (np.pi * a2)
        ratio = np.maximum(peak / level, 1.0) ** (1.0 / self.beta)
        return np.sqrt(a2 * (ratio - 1.0))

    def add(
        self, image: NDArray[np.floating], x: Floats, y: Floats, flux: Floats, radius: Floats | float
    ) -> None:
        """Add point sources to an image in place, integrated over each pixel.

        Parameters
        ----------
        image : float32 or float64 array of shape (ny, nx)
        x, y : float64 array of shape (n,)
            Positions, 0-based.
        flux : float64 array of shape (n,)
        radius : float64 array of shape (n,) or float
            Pixels whose centre is farther than this get nothing. The light beyond is lost, which is
            (1 + r^2 / a^2)^(1 - beta) of a round source.
        """
        from skytrawl.kernels.render.cpu_points import add_moffats

        x, y, flux = (np.ascontiguousarray(v, np.float64) for v in (x, y, flux))
        add_moffats(
            image,
            x,
            y,
            flux,
            self.quadratics(x, y),
            self.beta,
            np.broadcast_to(radius, x.shape).astype(float),
        )

    def stamps(self, x: Floats, y: Floats, size: int) -> NDArray[np.float32]:
        """Images of sources of flux 1 where they lie on the pixels.

        Parameters
        ----------
        x, y : float64 array of shape (n,)
        size : int
            Odd side.

        Returns
        -------
        float32 array of shape (n, size, size)
            The middle pixel is the one that holds the source, (rint(y), rint(x)). Not normalised: the sum is
            the share of the light that falls on the stamp.
        """
        from skytrawl.kernels.render.cpu_points import moffat_stamps

        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        stamps = np.empty((len(x), size, size), np.float32)
        moffat_stamps(stamps, x - np.rint(x), y - np.rint(y), self.quadratics(x, y), self.beta)
        return stamps

    def at(
        self, x: Any, y: Any, *, dx: Any = 0.0, dy: Any = 0.0, size: int | None = None
    ) -> NDArray[np.float32]:
        """PSF stamps at positions, as `skytrawl.kernels.psf.PsfModel.at` gives them.

        Parameters
        ----------
        x, y : float or float64 array of shape (n,)
        dx, dy : float, or float64 array of shape (n,)
            Where the stars sit relative to the centre of the middle pixel.
        size : int, optional
            Odd side; by default ten widths.

        Returns
        -------
        float32 array of shape (size, size) or (n, size, size)
            Sum 1 for dx = dy = 0.
        """
        from skytrawl.kernels.render.cpu_points import moffat_stamps

        u, v = np.atleast_1d(np.asarray(x, np.float64)), np.atleast_1d(np.asarray(y, np.float64))
        side = size or 2 * int(np.ceil(5.0 * self.width[0])) + 1
        stamps = np.empty((len(u), side, side), np.float32)
        quadratics, none = self.quadratics(u, v), np.zeros_like(u)
        moffat_stamps(stamps, none, none, quadratics, self.beta)
        total = stamps.sum(axis=(1, 2), dtype=np.float64, keepdims=True)
        if np.any(dx) or np.any(dy):
            moffat_stamps(stamps, none + dx, none + dy, quadratics, self.beta)
        result = (stamps / total).astype(np.float32)
        return result[0] if np.ndim(x) == 0 else result
