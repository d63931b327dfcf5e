"""Real pairs of images as sides of a subtraction, with sources put in."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, maximum_filter

from skytrawl.kernels.difference.matched import MatchedDifference
from skytrawl.kernels.difference.types import Side
from skytrawl.kernels.measure import background, measure
from skytrawl.kernels.measure.cosmic import cosmic_rays

DECAM = ("04a", "04b", "04c", "04d", "04e")
NIRCAM_SCIENCE, NIRCAM_REFERENCE = "jw01324001001-01324-o001_t001", "jw02561001002-02561-o001_t003"


def plane(path: Path) -> NDArray[np.float32]:
    return np.ascontiguousarray(fits.getdata(path), np.float32)


def scatter(values: NDArray) -> float:
    """Scaled median absolute deviation."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def peaks(scorr: NDArray, bad: NDArray, threshold: float = 5.0) -> int:
    """Local maxima of either sign beyond the threshold, 3 pixels apart."""
    found = 0
    for sign in (1, -1):
        score = np.where(bad, 0, sign * scorr)
        found += int(((score == maximum_filter(score, 7)) & (score > threshold)).sum())
    return found


def add_stars(
    image: NDArray[np.float32], psf: NDArray, x: NDArray, y: NDArray, flux: NDArray
) -> NDArray[np.float32]:
    """Image with PSF stamps centred on whole pixels added."""
    half = psf.shape[0] // 2
    padded = np.pad(image, half)
    for a, b, f in zip(x, y, flux, strict=True):
        padded[b : b + 2 * half + 1, a : a + 2 * half + 1] += np.float32(f) * psf
    return padded[half:-half, half:-half]


def places(good: NDArray[np.bool_], count: int, apart: float, rng: np.random.Generator) -> NDArray:
    """Random good pixels (x, y) a distance apart: int[2, count]."""
    y, x = np.nonzero(good)
    chosen: list[tuple[int, int]] = []
    for k in rng.permutation(len(x)):
        if all((x[k] - a) ** 2 + (y[k] - b) ** 2 > apart**2 for a, b in chosen):
            chosen.append((int(x[k]), int(y[k])))
        if len(chosen) == count:
            return np.array(chosen).T
    raise ValueError(f"no room for {count} sources")


def nircam(folder: Path) -> tuple[Side, Side]:
    """Science and reference with their noise planes and model PSFs; only unmeasured pixels are masked."""
    images, noises, psfs = [], [], []
    for stem in (NIRCAM_SCIENCE, NIRCAM_REFERENCE):
        name = f"{stem}_nircam_clear-f200w_i2d_stamp"
        images.append(plane(folder / f"{name}.fits"))
        noises.append(plane(folder / f"{name}.noise.fits"))
        psf = plane(folder / f"{name}.WebbPSF.fits")[102 - 15 : 102 + 16, 102 - 15 : 102 + 16]
        psfs.append(psf / psf.sum())
    bad = np.zeros(images[0].shape, np.bool_)
    for image, noise in zip(images, noises, strict=True):
        # A handful of pixels has a noise of next to nothing.
        bad |= ~np.isfinite(image) | (noise < 0.2 * np.median(noise))
    sides = [
        Side(image, noise**2, psf, float(np.median(noise)), bad=bad)
        for image, noise, psf in zip(images, noises, psfs, strict=True)
    ]
    return sides[0], sides[1]


def published_nircam(folder: Path) -> NDArray[np.float32]:
    """The significance map that sfft's authors publish for the pair; zero in a border of 11 pixels."""
    name = f"{NIRCAM_REFERENCE}_nircam_clear-f200w_i2d_stamp.crossConvd.sfftdiff.DeCorrelated.SNR.fits"
    return plane(folder / name)


def decam(folder: Path, name: str) -> Side:
    """A DECam stamp: sky, noise, PSF and cosmic rays measured on it; the gain from its header."""
    path = folder / f"DEC-OBS{name}.mini.fits"
    image, header = plane(path), fits.getheader(path)
    gain = float(header["GAIN"])
    hit = cosmic_rays(image, gain=gain, read_noise=header["RDNOISE"], sigma=4.0, contrast=2.0)
    bad = binary_dilation(hit, iterations=2)
    first = background(image, bad)
    counts = np.maximum(image - first.level, 0) / np.float32(gain)
    measured = measure(image, bad, variance=first.sigma**2 + counts)
    image = image - measured.background.level
    variance = measured.background.sigma**2 + np.maximum(image, 0) / np.float32(gain)
    ny, nx = image.shape
    psf = measured.psf.at(nx / 2, ny / 2)
    return Side(image, variance, psf, measured.background.median_sigma, bad=bad, gain=gain)


def with_sources(side: Side, x: NDArray, y: NDArray, flux: NDArray, rng: np.random.Generator) -> Side:
    """The side with point sources of either sign, their Poisson noise, and the variance it brings."""
    clean = np.where(side.bad, np.float32(0), side.image)
    image = add_stars(clean, side.psf, x, y, flux)
    if side.gain is None:
        return replace(side, image=image)
    counts = np.maximum(image - clean, 0)
    image = (
        clean + (image - clean) - counts + (rng.poisson(counts * side.gain) / side.gain).astype(np.float32)
    )
    variance = side.variance + (np.maximum(image, 0) - np.maximum(clean, 0)) / np.float32(side.gain)
    return replace(side, image=image, variance=variance)


def recovered(
    difference: MatchedDifference, x: NDArray, y: NDArray, sign: NDArray, threshold: float = 5.0
) -> NDArray[np.bool_]:
    """Whether a source's sign shows beyond the threshold within 2 pixels."""
    found = []
    for a, b, s in zip(x, y, sign, strict=True):
        box = slice(max(b - 2, 0), b + 3), slice(max(a - 2, 0), a + 3)
        found.append(bool((s * difference.scorr[box] > threshold).any()))
    return np.array(found)
