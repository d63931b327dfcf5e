"""Simulated pairs of images with a known answer, on which subtraction, measurement and detection are tested.

Everything is in electrons, sky subtracted. Case A: science FWHM 3.6 px, reference 2.6 px; B: the other
way round; C: as A, with the reference misplaced by (0.15, -0.1) px. Science sky 400 e-, reference sky 150 e-,
read noise 5 e-; a star of 1.3 e- in the science image has 1 e- in the reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FWHM = {"A": (3.6, 2.6), "B": (2.6, 3.6), "C": (3.6, 2.6)}
SHIFT = {"A": (0.0, 0.0), "B": (0.0, 0.0), "C": (0.15, -0.1)}
SKY, READ_NOISE, RATIO, BETA = (400.0, 150.0), 5.0, 1.3, 3.0
STAMP_FWHM = 11.0  # the true PSF ends here; stars are drawn with the same window


@dataclass(frozen=True)
class Pair:
    """A science image, its reference, and all that was put into them.

    Attributes
    ----------
    science, reference : float32[ny, nx], e-, sky subtracted
    science_variance, reference_variance : float32[ny, nx], e-^2
        True ones: sky + read noise^2 + expected sources. See `data_variance` for what an observer has.
    psf_science, psf_reference : float32[n, n], odd, sum 1, at the middle of the field
    sigma_science, sigma_reference : float, e-, noise of the empty sky
    sky_science, sky_reference : float, e-, what was subtracted
    fwhm_science, fwhm_reference : float, px, at the middle of the field
    read_noise : float, e-; the gain is 1
    ratio : float, flux in the science image over flux in the reference of the same star
    shift : (dx, dy), px, position in the reference minus position in the science image
    variation : float, relative change of both FWHM from the left to the right border
    stars : structured array x, y, flux (e- in the science image)
    injected : structured array x, y, flux, snr
        Sources of one image: of the science image for a positive flux, of the reference for a negative one,
        in e- of the science image. `snr` is flux * sqrt(fs), the score against an empty sky.
    fs : float, sum over frequencies of the ZOGY score of a source of 1 e- in the science image
    """

    science: NDArray[np.float32]
    reference: NDArray[np.float32]
    science_variance: NDArray[np.float32]
    reference_variance: NDArray[np.float32]
    psf_science: NDArray[np.float32]
    psf_reference: NDArray[np.float32]
    sigma_science: float
    sigma_reference: float
    sky_science: float
    sky_reference: float
    fwhm_science: float
    fwhm_reference: float
    read_noise: float
    ratio: float
    shift: tuple[float, float]
    variation: float
    stars: NDArray[np.void]
    injected: NDArray[np.void]
    fs: float

    def psf_at(self, which: str, x: float) -> NDArray[np.float32]:
        """The true PSF of "science" or "reference" at column `x`."""
        fwhm = self.fwhm_science if which == "science" else self.fwhm_reference
        there = fwhm * (1 + self.variation * (x / self.science.shape[1] - 0.5))
        return stamp(there, half_width(fwhm))

    def data_variance(self, which: str) -> NDArray[np.float32]:
        """The variance an observer knows: sky and read noise, and the counts of the image itself."""
        image = getattr(self, which)
        sky = getattr(self, f"sky_{which}")
        return np.maximum(image + np.float32(sky), 0) + np.float32(self.read_noise**2)


def half_width(fwhm: float) -> int:
    """Half width of the window in which a star is drawn."""
    return int(np.ceil(STAMP_FWHM * fwhm / 2))


def moffat(fwhm: float, dx: NDArray[np.float64], dy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Circular Moffat profile of integral 1, sampled at offsets from its centre."""
    gamma2 = fwhm**2 / (4 * (2 ** (1 / BETA) - 1))
    return (BETA - 1) / (np.pi * gamma2) * (1 + (dx**2 + dy**2) / gamma2) ** -BETA


def stamp(fwhm: float, half: int) -> NDArray[np.float32]:
    """PSF stamp of sum 1, centred on its middle pixel."""
    grid = np.arange(-half, half + 1.0)
    values = moffat(fwhm, grid[None, :], grid[:, None])
    return (values / values.sum()).astype(np.float32)


def draw(
    image: NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    flux: NDArray[np.float64],
    fwhm: float,
    variation: float = 0.0,
) -> None:
    """Add point sources to an image, in place."""
    half = half_width(fwhm)
    grid = np.arange(-half, half + 1.0)
    ny, nx = image.shape
    for a, b, f in zip(x, y, flux, strict=True):
        there = fwhm * (1 + variation * (a / nx - 0.5))
        norm = 1 / moffat(there, grid[None, :], grid[:, None]).sum() if variation else _norm(fwhm, half)
        i, j = round(float(a)), round(float(b))
        columns, rows = grid + i, grid + j
        c = (columns >= 0) & (columns < nx)
        r = (rows >= 0) & (rows < ny)
        if c.any() and r.any():
            values = moffat(there, (columns[c] - a)[None, :], (rows[r] - b)[:, None])
            image[int(rows[r][0]) : int(rows[r][-1]) + 1, int(columns[c][0]) : int(columns[c][-1]) + 1] += (
                f * norm * values
            )


def _norm(fwhm: float, half: int, known: dict[tuple[float, int], float] = {}) -> float:  # noqa: B006
    if (fwhm, half) not in known:
        grid = np.arange(-half, half + 1.0)
        known[fwhm, half] = 1 / float(moffat(fwhm, grid[None, :], grid[:, None]).sum())
    return known[fwhm, half]


def score_per_flux(
    fwhm: tuple[float, float], sigma: tuple[float, float], ratio: float, size: int = 256
) -> float:
    """F_S of Zackay et al. (2016), science zero point 1: the summed squared signal to noise of 1 e-."""
    spectra = []
    for width in fwhm:
        half = half_width(width)
        plane = np.zeros((size, size))
        plane[: 2 * half + 1, : 2 * half + 1] = stamp(width, half)
        spectra.append(np.abs(np.fft.fft2(plane)) ** 2)
    new, ref = spectra[0], spectra[1] / ratio**2
    return float((new * ref / (sigma[0] ** 2 * ref + sigma[1] ** 2 * new)).mean())


def places(
    rng: np.random.Generator, count: int, size: int, stars: NDArray[np.void], margin: int, clear: float
) -> NDArray[np.float64]:
    """Positions (x, y) in cells of a grid, `clear` px away from every star."""
    cells = int(np.ceil(np.sqrt(count)))
    while True:
        pitch = (size - 2 * margin) / cells
        corner = np.stack(np.meshgrid(np.arange(cells), np.arange(cells)), -1).reshape(-1, 2) * pitch + margin
        found = corner + pitch * rng.uniform(0.25, 0.75, corner.shape)
        if clear > 0 and len(stars):
            distance2 = (found[:, :1] - stars["x"]) ** 2 + (found[:, 1:] - stars["y"]) ** 2
            found = found[distance2.min(axis=1) > clear**2]
        if len(found) >= count:
            return rng.permutation(found)[:count]
        cells += 1


def make_pair(
    case: str = "A",
    seed: int = 0,
    size: int = 1024,
    *,
    n_stars: int | None = None,
    density: float = 1 / 2500,
    max_flux: float = 2e4,
    injections: Sequence[float] | Sequence[tuple[float, float, float]] = (),
    clear: float = 10.0,
    margin: int = 40,
    shift: tuple[float, float] | None = None,
    variation: float = 0.0,
    sky: tuple[float, float] = SKY,
    fwhm: tuple[float, float] | None = None,
) -> Pair:
    """Simulate a pair.

    Parameters
    ----------
    case : {"A", "B", "C"}
    seed : int
    size : int, px, of both sides
    n_stars : int, optional; by default `density` stars a pixel
    density : float, 1/px^2
    max_flux : float, e- in the science image; the fluxes follow a Pareto law from 300 e- with index 1
    injections : sequence of float, or of (x, y, flux)
        Signal to noise ratios against an empty sky, one source each, placed `margin` px from the border and
        `clear` px from the stars; or positions and fluxes. Negative: in the reference alone.
    shift : (dx, dy), px, instead of that of the case
    variation : float, relative change of both FWHM from the left to the right border
    sky : (science, reference), e-
    fwhm : (science, reference), px, instead of those of the case
    """
    rng = np.random.default_rng([ord(case), seed])
    widths = FWHM[case] if fwhm is None else fwhm
    dx, dy = SHIFT[case] if shift is None else shift
    sigma = tuple(float(np.sqrt(level + READ_NOISE**2)) for level in sky)
    count = round(density * size**2) if n_stars is None else n_stars
    stars = np.zeros(count, [("x", "f8"), ("y", "f8"), ("flux", "f8")])
    stars["x"], stars["y"] = rng.uniform(-10, size + 9, (2, count))
    stars["flux"] = 300.0 / (1 - rng.uniform(0, 1 - 300.0 / max_flux, count))
    fs = score_per_flux(widths, (sigma[0], sigma[1]), RATIO)
    injected = np.zeros(len(injections), [("x", "f8"), ("y", "f8"), ("flux", "f8"), ("snr", "f8")])
    if len(injections) and np.ndim(injections[0]) == 0:
        where = places(rng, len(injections), size, stars, margin, clear)
        injected["x"], injected["y"], injected["snr"] = where[:, 0], where[:, 1], injections
        injected["flux"] = injected["snr"] / np.sqrt(fs)
    elif len(injections):
        injected["x"], injected["y"], injected["flux"] = np.array(injections, float).T
        injected["snr"] = injected["flux"] * np.sqrt(fs)
    images, variances = [], []
    for k, scale in enumerate((1.0, 1 / RATIO)):
        expected = np.zeros((size, size))
        only = injected[injected["flux"] > 0] if k == 0 else injected[injected["flux"] < 0]
        for table in (stars, only):
            x, y = table["x"] + k * dx, table["y"] + k * dy
            draw(expected, x, y, np.abs(table["flux"]) * scale, widths[k], variation)
        counts = rng.poisson(expected + sky[k]) + rng.normal(0, READ_NOISE, (size, size))
        images.append((counts - sky[k]).astype(np.float32))
        variances.append((expected + sigma[k] ** 2).astype(np.float32))
    return Pair(
        science=images[0],
        reference=images[1],
        science_variance=variances[0],
        reference_variance=variances[1],
        psf_science=stamp(widths[0], half_width(widths[0])),
        psf_reference=stamp(widths[1], half_width(widths[1])),
        sigma_science=sigma[0],
        sigma_reference=sigma[1],
        sky_science=sky[0],
        sky_reference=sky[1],
        fwhm_science=widths[0],
        fwhm_reference=widths[1],
        read_noise=READ_NOISE,
        ratio=RATIO,
        shift=(dx, dy),
        variation=variation,
        stars=stars,
        injected=injected,
        fs=fs,
    )
