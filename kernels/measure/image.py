"""All that one image tells about itself: sky, stars and PSF, each from an image freed of the others."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ImageError
from skytrawl.kernels.measure.background import background
from skytrawl.kernels.measure.photometry import UNUSABLE, Photometry
from skytrawl.kernels.measure.profile import CONSTANT, Variation, eliminated, fit_moffat, normals
from skytrawl.kernels.measure.psf import refine
from skytrawl.kernels.measure.select import candidates, clean, field_variation
from skytrawl.kernels.measure.shape import Moffat, shape_modes
from skytrawl.kernels.measure.stars import as_wide, find_peaks, first_width
from skytrawl.kernels.measure.types import Background, Measured, Stars

_BRIGHT = 20.0  # sigma: stars that give the first profile
_BOX = 16  # FWHM: a smaller box of the sky is full of a single star
_EXTENDED = 0.12  # relative width of a galaxy or a blend: no PSF varies so much over a detector
_FIRST = 1000  # of these at most
_MAX_SOURCES = 60_000


def measure(
    image: NDArray[np.float32],
    bad: NDArray[np.bool_] | None = None,
    *,
    variance: NDArray[np.float32] | None = None,
    box: int = 64,
    degree: int = 2,
    threshold: float = 5.0,
) -> Measured:
    """Sky, stars and PSF of an image.

    Bright stars give a Moffat profile; with it all stars are fitted and subtracted, the sky is measured again
    on what is left, and the residuals of the good stars correct the profile, until both agree. Galaxies,
    blends and cosmic rays show by their widths and are not used for the PSF.

    Parameters
    ----------
    image : float32[ny, nx], any unit, with its sky or without
    bad : bool[ny, nx], optional
        Pixels that must not be used (saturated ones too). Those that are not finite are left out anyway.
    variance : float32[ny, nx], optional
        Total variance of the pixels, source noise included; by default that of the sky alone as measured.
    box : int, pixels
        Boxes of the sky map; not less than 16 FWHM is used.
    degree : int
        Highest degree of the polynomials in x and y that the PSF may follow; the stars decide how much of it
        is used.
    threshold : float
        Sigma from which peaks are taken for stars.

    Returns
    -------
    Measured

    Raises
    ------
    ImageError
        If there is no usable pixel or no star that could tell the PSF.
    """
    image = np.ascontiguousarray(image, np.float32)
    unusable = ~np.isfinite(image)
    if bad is not None:
        unusable |= bad
    if variance is not None:
        unusable |= ~(np.isfinite(variance) & (variance > 0))
    sky = background(image, unusable, box=box)
    data = np.where(unusable, np.float32(0), image - sky.level)
    sky_variance, slope = _noise(data, variance, sky, unusable)
    fwhm = first_width(data, sky_variance)
    stars = Photometry(data, sky_variance, slope)
    x, y, height, curvature = (found[:_FIRST] for found in find_peaks(data, sky_variance, fwhm, _BRIGHT))
    rows = tuple(
        np.clip(np.rint(p).astype(np.int64), 0, n - 1) for p, n in zip((y, x), data.shape, strict=True)
    )
    alike = as_wide(height, curvature, np.sqrt(sky_variance[rows]), fwhm, fwhm)
    profile = Moffat.of_width(fwhm)
    stars.set_psf(*CONSTANT.planes(profile), 0)
    stars.add_stars(x, y)
    stars.sweep(2, move=False)
    chosen = candidates(stars)
    first = chosen[alike[chosen]]
    if len(first):
        profile, _ = fit_moffat(stars, profile, first)
    # Before the search for more takes galaxies apart into stars.
    value, error, _ = _shapes(stars, chosen)
    wide = value[:, 0] > np.maximum(_EXTENDED, 3 * error[:, 0])
    stars.distrust(stars.x[chosen][wide], stars.y[chosen][wide], 2.5 * profile.fwhm)
    for turn in range(2):
        _find_more(stars, profile.fwhm, threshold if turn else _BRIGHT)
        chosen = candidates(stars)
        if not len(chosen):
            raise ImageError("no star is bright and clean enough for a PSF")
        profile, common = fit_moffat(stars, profile, chosen)
        box = max(box, round(_BOX * profile.fwhm))
        stars.prune(1.0 * profile.fwhm, 2.0)
        sky = _sky_again(image, stars, unusable, box)
        stars.sky_variance, stars.slope = _noise(stars.data, variance, sky, unusable)
    _find_more(stars, profile.fwhm, threshold)
    chosen, variation = _select(stars, degree)
    if variation.degree:
        profile, common = fit_moffat(stars, profile, chosen, variation)
        # The modes are linear in the width, the profile is not.
        chosen, more = _select(stars, variation.degree)
        variation = variation.corrected(more)
        profile, common = fit_moffat(stars, profile, chosen, variation)
    base = stars.samples
    for clip in (np.inf, 6.0, 5.0):
        refine(stars, base, chosen, clip)
        stars.sweep(2)
    used = np.zeros(len(stars.x), bool)
    used[chosen] = True
    sky = _sky_again(image, stars, unusable, box)
    stars.sweep(2)
    return _finish(stars, sky, used, common)


def _noise(
    data: NDArray[np.float32],
    variance: NDArray[np.float32] | None,
    sky: Background,
    unusable: NDArray[np.bool_],
) -> tuple[NDArray[np.float32], float]:
    """Variance of the sky in every pixel, and that of a unit of source counts."""
    if variance is None:
        plane, slope = np.square(sky.sigma), 0.0
    else:
        level, slope = _law(data[~unusable], variance[~unusable], sky.median_sigma)
        plane = np.maximum(variance - np.float32(slope) * data, np.float32(0.3 * level))
    return np.where(unusable, np.float32(UNUSABLE), plane).astype(np.float32), slope


def _law(data: NDArray[np.float32], variance: NDArray[np.float32], sigma: float) -> tuple[float, float]:
    """Variance of the sky, and what a unit of source counts adds to it."""
    bright = data > 10 * sigma
    flat = np.abs(data) < 2 * sigma
    level = float(np.median(variance[flat][::17] if flat.sum() > 1000 else variance))
    if bright.sum() <= 20:
        return level, 0.0
    return level, max(0.0, float(np.median((variance[bright] - level) / data[bright])))


def _find_more(stars: Photometry, fwhm: float, threshold: float) -> None:
    """Add what stands out after subtraction, and fit everything together."""
    found = find_peaks(stars.rest, stars.variance(), fwhm, threshold, stars.total)
    if len(stars.x) + len(found[0]) > _MAX_SOURCES:
        raise ImageError(
            f"more than {_MAX_SOURCES} peaks: this is not an image of stars, or its noise is wrong"
        )
    stars.add_stars(found[0], found[1])
    stars.sweep(1, move=False)
    stars.sort()
    stars.sweep(3)
    stars.prune(1.0 * fwhm, 2.0)


def _sky_again(
    image: NDArray[np.float32], stars: Photometry, unusable: NDArray[np.bool_], box: int
) -> Background:
    """Sky of the image without its stars; the data of `stars` are taken above it."""
    total = stars.total
    bright = total > 0.5 * np.sqrt(np.median(stars.sky_variance[::7, ::7]))
    if bright.mean() > 0.5:
        bright[:] = False
    sky = background(image - total, unusable | bright, box=box, stars=False)
    stars.data = np.where(unusable, np.float32(0), image - sky.level)
    stars.rebuild()
    return sky


def _shapes(
    stars: Photometry, chosen: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Width and stretches of stars against the PSF, with errors, and chi-square over pixels."""
    modes = shape_modes(stars.samples[0], stars.k)
    matrix, right, fit = normals(stars, modes, chosen)
    a, b = eliminated(matrix, right)
    a = a + 1e-12 * np.einsum("nii->n", a)[:, None, None] * np.eye(3) + 1e-300 * np.eye(3)
    inverse = np.linalg.inv(a)
    value = np.einsum("nab,nb->na", inverse, b)
    return value, np.sqrt(np.einsum("naa->na", inverse)), fit[:, 0] / np.maximum(fit[:, 1], 1)


def _select(stars: Photometry, degree: int) -> tuple[NDArray[np.int64], Variation]:
    """Stars for the PSF, and how their shapes vary."""
    chosen = candidates(stars)
    if not len(chosen):
        raise ImageError("no star is bright and clean enough for a PSF")
    value, error, _ = _shapes(stars, chosen)
    return field_variation(stars, chosen, value, error, degree)


def _finish(stars: Photometry, sky: Background, used: NDArray[np.bool_], common: float) -> Measured:
    """The records of what was found."""
    order = np.argsort(-stars.flux, kind="stable")
    stars.keep(order)
    used = used[order]
    everything, chosen = np.arange(len(order)), np.flatnonzero(used)
    value, error, chi2 = _shapes(stars, everything)
    model = stars.model()
    scale = float(stars.samples[0].sum() / stars.k**2)
    ny, nx = stars.data.shape
    record = Stars(
        x=stars.x,
        y=stars.y,
        flux=stars.flux * scale,
        x_error=stars.error[:, 1],
        y_error=stars.error[:, 2],
        flux_error=stars.error[:, 0] * scale,
        width=value[:, 0],
        width_error=error[:, 0],
        clean=clean(stars, 0.1) & stars.trusted(),
        used=used,
    )
    return Measured(
        background=sky,
        psf=model,
        stars=record,
        fwhm=float(model.fwhm((nx - 1) / 2, (ny - 1) / 2)),
        n_used=len(chosen),
        psf_error=float(1 / np.sqrt(np.sum(1 / error[chosen, 0] ** 2))),
        common_error=common,
        chi2=float(np.median(chi2[chosen])),
        gain_slope=stars.slope,
    )
