"""The records that measurements of an image give."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.psf import PsfModel


@dataclass(frozen=True)
class Background:
    """Sky level and its noise.

    Attributes
    ----------
    level, sigma : float32[ny, nx], image units
        Sky, and standard deviation of a pixel that holds nothing but sky.
    median, median_sigma : float, medians of the two maps
    """

    level: NDArray[np.float32]
    sigma: NDArray[np.float32]
    median: float
    median_sigma: float


@dataclass(frozen=True)
class Stars:
    """Point-like sources with PSF fluxes, brightest first.

    Attributes
    ----------
    x, y : float64[n], pixels
    flux : float64[n], image units
    x_error, y_error, flux_error : float64[n]
        One standard deviation from the pixels' variance; neighbours are held fixed.
    width : float64[n]
        Relative width against the PSF (0 is a star, galaxies lie above, cosmic rays below); NaN where not
        measured.
    width_error : float64[n]
    clean : bool[n]
        No unusable pixel within a FWHM, no neighbour that matters, and no galaxy that it may be a part of.
    used : bool[n]
        The PSF was made from these.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    x_error: NDArray[np.float64]
    y_error: NDArray[np.float64]
    flux_error: NDArray[np.float64]
    width: NDArray[np.float64]
    width_error: NDArray[np.float64]
    clean: NDArray[np.bool_]
    used: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.x)

    @property
    def snr(self) -> NDArray[np.float64]:
        """Signal to noise ratio of the fluxes."""
        return self.flux / self.flux_error


@dataclass(frozen=True)
class Measured:
    """What `measure` finds on an image.

    Attributes
    ----------
    background : Background
    psf : PsfModel
    stars : Stars
    fwhm : float, pixels, at the middle of the image
    n_used : int, stars that made the PSF
    psf_error : float
        Error of the PSF's width, relative, from the noise of those stars.
    common_error : float
        Relative error that the fluxes of all stars share, because the wings of the PSF are known only
        so well. It cancels where a flux is multiplied by the PSF, as in a subtraction.
    chi2 : float
        Median over those stars of the reduced chi-square within a FWHM.
    gain_slope : float
        Variance per image unit of source flux that `variance` shows; 0 without one.
    """

    background: Background
    psf: PsfModel
    stars: Stars
    fwhm: float
    n_used: int
    psf_error: float
    common_error: float
    chi2: float
    gain_slope: float


@dataclass(frozen=True)
class Match:
    """Photometric scale and shift of two images, from the stars that both show.

    Attributes
    ----------
    scale, scale_error : float, flux in the science image over flux in the reference
        The error holds for PSFs taken as they are; see `Measured.common_error` for what these add.
    dx, dy, dx_error, dy_error : float, pixels, position in the reference minus position in the science image
    n_stars : int, stars that entered
    scale_scatter : float, relative scatter of the ratios beyond their errors
    shift_scatter : float, pixels, scatter of the shifts along one axis beyond their errors
    science, reference : int64[n_stars], rows of the stars in the two lists
    """

    scale: float
    scale_error: float
    dx: float
    dy: float
    dx_error: float
    dy_error: float
    n_stars: int
    scale_scatter: float
    shift_scatter: float
    science: NDArray[np.int64]
    reference: NDArray[np.int64]
