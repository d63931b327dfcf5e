"""Pairs subtracted with PSF, scale and shift measured from the images themselves."""

from types import SimpleNamespace

import numpy as np
from pairs import Pair, make_pair
from scipy.ndimage import map_coordinates, maximum_filter

from skytrawl.kernels.difference import subtract
from skytrawl.kernels.measure import match, measure
from skytrawl.kernels.psf import PsfModel

EDGE = 20  # pixels: PSFs of stars there are cut


def subtracted(pair: Pair) -> tuple[np.ndarray, dict[str, float]]:
    """S_corr of a pair, and by how much the measurements miss the truth."""
    found = {}
    planes = {}
    for which in ("science", "reference"):
        image, variance = getattr(pair, which), pair.data_variance(which)
        found[which] = measure(image, variance=variance)
        planes[which] = SimpleNamespace(
            image=image - found[which].background.level,
            variance=variance,
            mask=np.zeros(image.shape, np.uint16),
        )
    both = match(found["science"].stars, found["reference"].stars)
    difference = subtract(
        planes["science"],
        planes["reference"],
        found["science"].psf,
        found["reference"].psf,
        sigma_science=found["science"].background.sigma,
        sigma_reference=found["reference"].background.sigma,
        scale=both.scale,
        shift_error=(np.hypot(both.dx, both.dx_error), np.hypot(both.dy, both.dy_error)),
        gain_science=1.0,
        gain_reference=1.0,
    )
    misses = {
        "science width": found["science"].fwhm / pair.fwhm_science - 1,
        "reference width": found["reference"].fwhm / pair.fwhm_reference - 1,
        "scale": both.scale / pair.ratio - 1,
        "shift": float(np.hypot(both.dx - pair.shift[0], both.dy - pair.shift[1])),
    }
    wings = [both.scale_error / both.scale, *(one.common_error for one in found.values())]
    return np.asarray(difference.scorr), misses | {"scale pull": misses["scale"] / np.linalg.norm(wings)}


def false_peaks(scorr: np.ndarray) -> int:
    inner = scorr[EDGE:-EDGE, EDGE:-EDGE]
    return sum(int(np.sum((s == maximum_filter(s, 5)) & (s > 5))) for s in (inner, -inner))


def at_injections(scorr: np.ndarray, pair: Pair) -> np.ndarray:
    return map_coordinates(scorr.astype(np.float64), [pair.injected["y"], pair.injected["x"]], order=3)


def peaks_found(scorr: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether a 5-sigma peak lies within 2 pixels of each position."""
    rows, columns = np.nonzero((scorr == maximum_filter(scorr, 5)) & (scorr > 5))
    near = np.hypot(rows[:, None] - y, columns[:, None] - x) < 2
    return near.any(axis=0)


def around(pair: Pair) -> np.ndarray:
    """Inner pixels within 10 px of an injected source."""
    ny, nx = pair.science.shape
    y, x = np.mgrid[EDGE : ny - EDGE, EDGE : nx - EDGE]
    near = np.zeros(y.shape, bool)
    for source in pair.injected:
        near |= np.hypot(x - source["x"], y - source["y"]) < 10
    return near


def expected_peaks(case: str, snr: np.ndarray) -> np.ndarray:
    """Completeness of 5-sigma peaks in pure normal noise with the same correlation as the score."""
    rng = np.random.default_rng(7)
    pair = make_pair(case, 0, n_stars=0, size=512)
    blank = SimpleNamespace(image=np.zeros((512, 512), np.float32), mask=np.zeros((512, 512), np.uint16))
    psfs = [PsfModel.constant(pair.psf_science), PsfModel.constant(pair.psf_reference)]
    y, x = np.mgrid[40:480:24, 40:480:24].reshape(2, -1) + rng.uniform(-0.5, 0.5, (2, 361))
    flux = np.repeat(snr, len(x) // len(snr) + 1)[: len(x)] / np.sqrt(pair.fs)
    done = np.zeros((2, len(snr)))
    for _ in range(6):
        sides = []
        for k, sigma in enumerate((pair.sigma_science, pair.sigma_reference)):
            noise = rng.normal(0, sigma, blank.image.shape)
            if k == 0:
                for a, b, f in zip(x, y, flux, strict=True):
                    i, j = round(a), round(b)
                    stamp = psfs[0].at(dx=a - i, dy=b - j)
                    h = stamp.shape[0] // 2
                    noise[j - h : j + h + 1, i - h : i + h + 1] += f * stamp
            sides.append(
                SimpleNamespace(
                    image=noise.astype(np.float32),
                    variance=np.full(noise.shape, sigma**2, np.float32),
                    mask=blank.mask,
                )
            )
        score = subtract(
            *sides, *psfs, sigma_science=pair.sigma_science, sigma_reference=pair.sigma_reference,
            scale=pair.ratio,
        )  # fmt: skip
        good = peaks_found(np.asarray(score.scorr), x, y)
        for k, s in enumerate(snr):
            here = np.isclose(flux * np.sqrt(pair.fs), s)
            done[:, k] += good[here].sum(), here.sum()
    return done[0] / done[1]
