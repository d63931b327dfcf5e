"""PSF photometry of all stars of an image at once."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.measure import cpu
from skytrawl.kernels.measure.shape import coefficients
from skytrawl.kernels.psf import PsfModel, polynomial_terms

UNUSABLE = 1e31  # variance of a pixel that must not count
PSF_SNR = 15.0  # signal to noise ratio from which a star may tell the PSF


class Photometry:
    """Stars on an image, and what the image shows beside them.

    Fluxes and positions are found by weighted least squares, one star after the other on the image from which
    all others are subtracted, brightest first, until nothing moves (the scheme of DAOPHOT's ALLSTAR, Stetson
    1987, one star at a time). Weights come from the model's own counts rather than those of the pixels, whose
    noise would bias the fluxes.

    Parameters
    ----------
    data : float32[ny, nx]
        Sky subtracted, 0 where unusable.
    variance : float32[ny, nx]
        Of the sky alone; `UNUSABLE` where a pixel must not count.
    slope : float
        Variance per unit of source counts.
    """

    def __init__(self, data: NDArray[np.float32], variance: NDArray[np.float32], slope: float) -> None:
        self.data, self.sky_variance, self.slope = data, variance, slope
        self.unusable = variance >= UNUSABLE / 2
        self.rest = data.copy()
        self.x, self.y, self.flux = (np.empty(0, np.float64) for _ in range(3))
        self.x0, self.y0 = self.x, self.y
        self.error = np.empty((0, 3))
        self.half = np.empty(0, np.int64)
        self.extended, self.extended_radius = np.empty((0, 2)), 0.0

    def set_psf(self, samples: NDArray[np.floating], k: int, degree: int) -> None:
        """Use a PSF: samples [n_terms, n, n], `k` an image pixel; the polynomial's variables run -1 to 1."""
        self.samples, self.k, self.degree = np.asarray(samples, np.float64), k, degree
        self.basis = coefficients(self.samples, k)
        self.full = self.samples.shape[-1] // 2 // k
        middle, n = self.samples[0], self.samples.shape[-1]
        line = (np.arange(n) - n // 2) / k
        ring = np.rint(np.hypot(line[None, :], line[:, None])).astype(np.int64)
        highest = np.full(ring.max() + 1, 0.0)
        np.maximum.at(highest, ring.ravel(), np.abs(middle).ravel())
        # Never rising outwards, so that a search finds the radius.
        self.profile = np.maximum.accumulate(highest[::-1])[::-1]
        self.rebuild()

    def add_stars(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        """More stars, of flux 0 for now."""
        self.x, self.y = np.r_[self.x, x], np.r_[self.y, y]
        self.x0, self.y0 = np.r_[self.x0, x], np.r_[self.y0, y]
        self.flux = np.r_[self.flux, np.zeros(len(x))]
        self.error = np.concatenate([self.error, np.full((len(x), 3), np.inf)])
        self.rebuild()

    def distrust(self, x: NDArray[np.float64], y: NDArray[np.float64], radius: float) -> None:
        """Places of extended sources: what is found within `radius` pixels of one may be a part of it."""
        self.extended, self.extended_radius = np.c_[x, y], radius

    def trusted(self) -> NDArray[np.bool_]:
        """Stars that are not part of an extended source."""
        from scipy.spatial import cKDTree

        if not len(self.extended) or not len(self.x):
            return np.ones(len(self.x), bool)
        distance, _ = cKDTree(self.extended).query(np.c_[self.x, self.y])
        return np.asarray(distance > self.extended_radius, np.bool_)

    def keep(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> None:
        """Choose or reorder the stars."""
        self.x, self.y, self.flux, self.error = (
            values[which] for values in (self.x, self.y, self.flux, self.error)
        )
        self.x0, self.y0 = self.x0[which], self.y0[which]
        self.rebuild()

    def rebuild(self) -> None:
        """Subtract all stars from the image afresh, each as far out as it matters."""
        self.rest = self.data.copy()
        if not hasattr(self, "basis"):
            return
        noise = np.sqrt(np.median(self.sky_variance[::7, ::7]))
        matters = np.searchsorted(
            -self.profile, -0.05 * noise / np.maximum(self.flux, 1e-30 * noise), side="right"
        )
        least = max(3, int(self.full / 3.5))
        self.half = np.clip(matters, least, self.full).astype(np.int64)
        # What stars of the PSF leave is looked at out to its edge.
        self.half[self.flux > PSF_SNR * self.error[:, 0]] = self.full
        if len(self.x):
            cpu.model_image(
                self.rest,
                self.basis,
                self.terms,
                self.x,
                self.y,
                -self.flux,
                self.half,
            )

    @property
    def terms(self) -> NDArray[np.float64]:
        """Polynomial terms float64[n_stars, n_terms] at the stars."""
        return self.terms_at(self.x, self.y)

    def terms_at(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Polynomial terms float64[n, n_terms] at positions in pixels."""
        return polynomial_terms(*self.unit(x, y), self.degree)

    def unit(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Positions in pixels as variables of the polynomial, -1 to 1 over the image."""
        ny, nx = self.data.shape
        return 2 * x / max(nx - 1, 1) - 1, 2 * y / max(ny - 1, 1) - 1

    def model(self) -> PsfModel:
        """The PSF in use."""
        ny, nx = self.data.shape
        x, y = max(nx - 1, 1) / 2, max(ny - 1, 1) / 2
        total = self.samples[0].sum() / self.k**2
        return PsfModel((self.samples / total).astype(np.float32), self.degree, x, y, x, y, 1.0 / self.k)

    @property
    def total(self) -> NDArray[np.float32]:
        """Sum of the models of all stars."""
        return self.data - self.rest

    @property
    def noise(self) -> tuple[NDArray[np.float32], NDArray[np.float32], np.float32]:
        """What the kernels take the variance of a pixel from."""
        return self.data, self.sky_variance, np.float32(self.slope)

    def variance(self) -> NDArray[np.float32]:
        """Variance of sky and stars as the models tell it."""
        if self.slope == 0:
            return self.sky_variance
        light = np.maximum(self.total, 0)
        return np.asarray(self.sky_variance + np.float32(self.slope) * light, np.float32)

    def sweep(self, times: int = 1, *, move: bool = True) -> None:
        """Improve all stars `times` times."""
        if not len(self.x):
            return
        terms = self.terms
        for _ in range(times):
            cpu.sweep(
                self.rest, *self.noise, self.basis, terms, self.x, self.y, self.flux, self.half, self.error,
                move,
            )  # fmt: skip

    def sort(self) -> None:
        """Brightest first."""
        self.keep(np.argsort(-self.flux, kind="stable"))

    def prune(self, radius: float, snr: float) -> None:
        """Give up stars that faded, wandered off or ran into a brighter one; brightest first."""
        self.sort()
        ny, nx = self.data.shape
        good = (self.flux > snr * self.error[:, 0]) & np.isfinite(self.error).all(axis=1)
        good &= np.hypot(self.x - self.x0, self.y - self.y0) < radius
        good &= (self.x > -0.5) & (self.y > -0.5) & (self.x < nx - 0.5) & (self.y < ny - 0.5)
        if len(self.x) > 1:
            from scipy.spatial import cKDTree

            pairs = cKDTree(np.c_[self.x, self.y]).query_pairs(0.5 * radius, output_type="ndarray")
            good[pairs.max(axis=1)] = False
        if not good.all():
            self.keep(good)
