"""Shapes of PSFs on a grid: an elliptical Moffat profile to start from, and modes in which stars differ."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.measure.cpu import PAD
from skytrawl.kernels.psf.spline import prefilter

FWHM_PER_PIXEL = 5.0  # samples across a FWHM that a cubic spline needs to be right to a part in a thousand


@dataclass(frozen=True)
class Moffat:
    """Elliptical Moffat profile ``(1 + |A r|^2)^-beta``, ``A = [[1 + e1, e2], [e2, 1 - e1]] / alpha``."""

    log_alpha: float
    e1: float = 0.0
    e2: float = 0.0
    log_beta: float = float(np.log(3.0))

    @classmethod
    def of_width(cls, fwhm: float) -> "Moffat":
        """Round profile with beta = 3, `fwhm` in pixels."""
        return cls(float(np.log(fwhm / 2 / np.sqrt(2 ** (1 / 3.0) - 1))))

    @property
    def fwhm(self) -> float:
        """Pixels."""
        return float(2 * np.exp(self.log_alpha) * np.sqrt(2 ** np.exp(-self.log_beta) - 1))

    def moved(self, step: NDArray[np.float64]) -> "Moffat":
        """Profile with the parameters (log_alpha, e1, e2, log_beta) changed by `step`."""
        return Moffat(*(np.array([self.log_alpha, self.e1, self.e2, self.log_beta]) + step).tolist())

    def samples(self, half: int, k: int) -> NDArray[np.float64]:
        """Values at `k` samples a pixel to `half` pixels from the centre; the sum over pixels is 1."""
        line = np.arange(-half * k, half * k + 1) / k
        x, y = line[None, :], line[:, None]
        u = (1 + self.e1) * x + self.e2 * y
        v = self.e2 * x + (1 - self.e1) * y
        values: NDArray[np.float64] = (1 + (u * u + v * v) / np.exp(2 * self.log_alpha)) ** -np.exp(
            self.log_beta
        )
        return values / values[half * k % k :: k, half * k % k :: k].sum()

    def modes(self, half: int, k: int) -> NDArray[np.float64]:
        """The samples, and their derivatives in the four parameters; float64[5, n, n]."""
        delta = 1e-3
        planes = [self.samples(half, k)]
        for axis in np.eye(4):
            difference = self.moved(delta * axis).samples(half, k) - self.moved(-delta * axis).samples(
                half, k
            )
            planes.append(difference / (2 * delta))
        return np.stack(planes)


def oversampling(fwhm: float) -> int:
    """Samples a pixel for a PSF of this width."""
    return int(np.clip(np.ceil(FWHM_PER_PIXEL / fwhm), 1, 4))


def half_width(fwhm: float) -> int:
    """Pixels from the centre of a PSF to the edge of its stamp: 5.5 FWHM."""
    return int(np.ceil(5.5 * fwhm))


def coefficients(samples: NDArray[np.floating], k: int) -> NDArray[np.float32]:
    """Spline coefficients float32[..., side, k, columns] of samples [..., n, n], padded for `cpu.render`."""
    side = PAD * k + 2
    padded = np.pad(samples, [(0, 0)] * (samples.ndim - 2) + [(side, side)] * 2)
    filtered = prefilter(padded.shape[-1])
    plane = np.asarray(filtered @ padded @ filtered.T, np.float32)
    plane = np.pad(plane, [(0, 0)] * (plane.ndim - 1) + [(0, -plane.shape[-1] % k)])
    return np.ascontiguousarray(plane.reshape(*plane.shape[:-1], -1, k).swapaxes(-1, -2))


def shape_modes(samples: NDArray[np.floating], k: int) -> NDArray[np.float64]:
    """The PSF, and how it changes with a relative width, with stretch along x and with stretch along x = y.

    Returns
    -------
    float64[4, n, n]
    """
    samples = np.asarray(samples, np.float64)
    along_y, along_x = np.gradient(samples, 1.0 / k)
    n = len(samples)
    line = (np.arange(n) - n // 2) / k
    x, y = line[None, :], line[:, None]
    width = -2 * samples - x * along_x - y * along_y
    stretch = -x * along_x + y * along_y
    diagonal = -y * along_x - x * along_y
    return np.stack([samples, width, stretch, diagonal])
