"""A Moffat profile that is common to the stars of an image, and which stars share it."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.measure import cpu
from skytrawl.kernels.measure.photometry import Photometry
from skytrawl.kernels.measure.shape import Moffat, coefficients, half_width, oversampling, shape_modes
from skytrawl.kernels.measure.stars import locus
from skytrawl.kernels.psf import term_degrees

FLOOR = 0.01  # part of a star by which no PSF is trusted: one bright star shall not be the PSF
_TURNS = 16
_KNOWN = 0.15
_WIDEST = 1.6  # how far the width may go from where the fit began
# Error of a width that tells a star from a galaxy, how many stars are enough, and the share of galaxies that
# makes the difference.
_TELLING, _ENOUGH, _GALAXIES = 0.05, 15, 0.15
# Longest step of log alpha, e1, e2, log beta, and what need not be improved.
_LONGEST = np.array([0.2, 0.1, 0.1, 0.4])
_AGREES = np.array([1e-3, 1e-3, 1e-3, 1e-2])


@dataclass(frozen=True)
class Variation:
    """How width and stretches of the PSF (the rows) follow the polynomial's terms (the columns).

    Attributes
    ----------
    degree : int
    amplitude : float64[3, n_terms]
        Of the modes of `shape.shape_modes`; the constant term is part of the profile and 0 here.
    """

    degree: int = 0
    amplitude: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, 1)))

    def planes(self, profile: Moffat) -> tuple[NDArray[np.float64], int]:
        """Samples [n_terms, n, n] of a profile that varies so, and how many of them there are a pixel."""
        half, k = half_width(profile.fwhm), oversampling(profile.fwhm)
        middle, *modes = shape_modes(profile.samples(half, k), k)
        planes = np.tensordot(self.amplitude.T, np.stack(modes), 1)
        planes[0] = middle
        return planes, k

    def corrected(self, by: "Variation") -> "Variation":
        """Sum with a variation of the same or a lower degree, as measured on what this one leaves."""
        amplitude = self.amplitude.copy()
        amplitude[:, term_degrees(self.degree) <= by.degree] += by.amplitude
        return Variation(self.degree, amplitude)


CONSTANT = Variation()


def fit_moffat(
    stars: Photometry, guess: Moffat, chosen: NDArray[np.int64], variation: Variation = CONSTANT
) -> tuple[Moffat, float]:
    """Moffat profile common to the chosen stars by weighted least squares (Gauss-Newton).

    Flux and position of each star are eliminated from its normal equations (Schur complement), so that the
    profile does not creep. `stars` is left with the new profile as its PSF, `variation` added to it.

    Returns
    -------
    Moffat
    float
        Relative error that all fluxes have in common: how far the wings, which the profile follows on beyond
        what the stars show, are known.
    """
    profile = guess
    for turn in range(_TURNS):
        planes, k = variation.planes(profile)
        stars.set_psf(planes, k, variation.degree)
        stars.sweep(2 if turn < 2 else 1, move=turn > 0)
        matrix, right, _ = normals(stars, profile.modes(half_width(profile.fwhm), k), chosen)
        step, which, common_error = _common(matrix, right, profile, stars.flux[chosen])
        if turn:
            chosen = chosen[which]
        new = profile.moved(np.clip(step, -_LONGEST, _LONGEST))
        # Below 1.5 the light is nearly infinite; a Gaussian is as good as beta = 30.
        log_beta = float(np.clip(new.log_beta, np.log(1.5), np.log(30.0)))
        step = np.array([*step[:3], log_beta - profile.log_beta])
        profile = replace(new, log_beta=log_beta)
        # Where the fit runs away, the stars are not stars.
        excess = np.log(np.clip(profile.fwhm / guess.fwhm, 1 / _WIDEST, _WIDEST) * guess.fwhm / profile.fwhm)
        profile = replace(profile, log_alpha=profile.log_alpha + float(excess))
        if turn > 1 and (np.abs(step) < _AGREES).all():
            break
    planes, k = variation.planes(profile)
    stars.set_psf(planes, k, variation.degree)
    return profile, common_error


def normals(
    stars: Photometry, modes: NDArray[np.float64], chosen: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Normal equations of the chosen stars, see `cpu.normals`."""
    n, p = len(chosen), len(modes) + 2
    matrix, right, fit = np.zeros((n, p, p)), np.zeros((n, p)), np.zeros((n, 2))
    half = int(min(stars.full, max(3, stars.full // 2)))
    cpu.normals(
        stars.rest, *stars.noise, coefficients(modes, stars.k)[None], stars.x[chosen],
        stars.y[chosen], stars.flux[chosen], half, FLOOR, matrix, right, fit,
    )  # fmt: skip
    return matrix, right, fit


def eliminated(
    matrix: NDArray[np.float64], right: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Normal equations of the shapes alone, flux and position of each star solved for."""
    own = matrix[:, :3, :3] + 1e-12 * np.einsum("nii->n", matrix[:, :3, :3])[:, None, None] * np.eye(3)
    cross = matrix[:, :3, 3:]
    solved = np.linalg.solve(own, np.concatenate([cross, right[:, :3, None]], axis=2))
    rest = matrix[:, 3:, 3:] - np.einsum("nia,nib->nab", cross, solved[:, :, :-1])
    return rest, right[:, 3:] - np.einsum("nia,ni->na", cross, solved[:, :, -1])


def _common(
    matrix: NDArray[np.float64], right: NDArray[np.float64], profile: Moffat, flux: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], float]:
    """Step of the common profile, the stars whose own width agrees with it, and the error of all fluxes."""
    a, b = eliminated(matrix, right)
    weight = np.maximum(a[:, 0, 0], 1e-300)
    which = agreeing(b[:, 0] / weight, 1 / np.sqrt(weight), 0.025)
    # Where stars are too faint to tell, they are round and have the wings of turbulence (beta 3, within a
    # factor 1.6).
    prior = np.diag([0.0, 100.0, 100.0, 4.0])
    pull = np.array([0.0, -profile.e1, -profile.e2, np.log(3.0) - profile.log_beta])
    information = a[which].sum(axis=0) + prior
    step = np.linalg.solve(information, b[which].sum(axis=0) + prior @ pull)
    # A change of the profile changes all fluxes by what each star's own normal equations answer to it.
    own = matrix[which, :3, :3] + 1e-12 * np.einsum("nii->n", matrix[which, :3, :3])[:, None, None] * np.eye(
        3
    )
    answer = np.linalg.solve(own, matrix[which][:, :3, 3:])[:, 0] / flux[which, None]
    mean = np.average(answer, axis=0, weights=weight[which])
    return step, which, float(np.sqrt(mean @ np.linalg.solve(information, mean)))


def agreeing(
    value: NDArray[np.float64], error: NDArray[np.float64], intrinsic: float, clip: float = 3.0
) -> NDArray[np.bool_]:
    """Relative widths within `clip` standard deviations of the `locus` of the stars.

    The width is known to a seventh or so already; the locus is looked for there, if anything is there.
    Of faint objects nobody can tell whether they are galaxies. Where there are galaxies among the bright, the
    faint are left out, and what is wider than the locus is distrusted earlier.
    """
    telling = error <= max(_TELLING, np.sort(error)[min(len(error), _ENOUGH) - 1])
    total = np.hypot(error, intrinsic)
    near = telling & (np.abs(value) < np.hypot(_KNOWN, total))
    near = near if near.any() else telling
    centre = locus(value[near], total[near])
    pure = bool(np.mean((value - centre)[telling] > 4 * np.hypot(error, 0.02)[telling]) < _GALAXIES)
    if pure:
        telling[:] = True
    else:
        total = np.hypot(error, 0.5 * intrinsic)
    # The value of one star is not the centre; that of those around it is.
    near = telling & (np.abs(value - centre) < (2 if pure else 1) * total)
    centre = np.sum((value / total**2)[near]) / np.sum((1 / total**2)[near])
    above = clip if pure else 0.5 * clip
    return np.asarray(telling & (value - centre > -clip * total) & (value - centre < above * total), np.bool_)
