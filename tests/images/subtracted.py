"""Pairs subtracted with their true PSFs, and what is counted on the result."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pairs import Pair, make_pair
from scipy.ndimage import map_coordinates, maximum_filter

from skytrawl.kernels.difference import Difference, Side, subtract
from skytrawl.kernels.difference.zogy import zogy
from skytrawl.kernels.psf import PsfModel
from skytrawl.kernels.resample.types import Planes

# Misplacements in px that the noise of a shift must cover.
SHIFTS = [(0.1, 0.0), (0.15, -0.1), (0.2, 0.2), (0.3, 0.0), (0.0, -0.3), (0.21, 0.21)]


def sides(pair: Pair, dtype: Any = np.float32) -> tuple[Side, Side]:
    """Both images with the variances that an observer knows."""
    new, ref = (
        Side(
            image=getattr(pair, name).astype(dtype),
            variance=pair.data_variance(name).astype(dtype),
            psf=getattr(pair, f"psf_{name}"),
            sigma=getattr(pair, f"sigma_{name}"),
            scale=scale,
            gain=1.0,
        )
        for name, scale in (("science", 1.0), ("reference", 1 / pair.ratio))
    )
    return new, ref


def planes(pair: Pair, name: str, mask: NDArray[np.uint16] | None = None) -> Planes:
    image = getattr(pair, name)
    return Planes(image, pair.data_variance(name), np.zeros(image.shape, np.uint16) if mask is None else mask)


def subtract_pair(
    pair: Pair,
    masks: tuple[NDArray[np.uint16] | None, NDArray[np.uint16] | None] = (None, None),
    **options: Any,
) -> Difference:
    """Subtract with the true PSFs, noises and ratio."""
    return subtract(
        planes(pair, "science", masks[0]),
        planes(pair, "reference", masks[1]),
        PsfModel.constant(pair.psf_science),
        PsfModel.constant(pair.psf_reference),
        sigma_science=pair.sigma_science,
        sigma_reference=pair.sigma_reference,
        scale=pair.ratio,
        gain_science=1.0,
        gain_reference=1.0,
        **options,
    )


def peaks(difference: Difference, threshold: float = 5.0) -> tuple[int, int]:
    """Local maxima of +S_corr and of -S_corr above a threshold, at usable pixels."""
    score = np.where(difference.bad, 0, difference.scorr)
    return tuple(
        int(((maximum_filter(s * score, 7) == s * score) & (s * score > threshold)).sum()) for s in (1, -1)
    )  # type: ignore[return-value]


def read(plane: NDArray[np.float32], where: NDArray[np.void]) -> NDArray[np.float64]:
    """Values at sub-pixel positions."""
    return map_coordinates(plane, [where["y"], where["x"]], order=3)


def highest(plane: NDArray[np.float32], where: NDArray[np.void], reach: int = 2) -> NDArray[np.float64]:
    """Largest value within some pixels of positions."""
    x, y = (np.rint(where[name]).astype(int) for name in "xy")
    near = range(-reach, reach + 1)
    return np.max([plane[y + i, x + j] for i in near for j in near], axis=0)


def gaussian_peaks(
    psf_d: NDArray[np.float32], snr: float, count: int, rng: np.random.Generator, size: int = 1024
) -> NDArray[np.float64]:
    """What `highest` finds at sources of one signal to noise ratio in filtered Gaussian noise."""
    half = psf_d.shape[0] // 2
    plane = np.zeros((size, size))
    plane[: 2 * half + 1, : 2 * half + 1] = psf_d / np.sqrt(np.square(psf_d, dtype=float).sum())
    spectrum = np.fft.rfft2(np.roll(plane, (-half, -half), (0, 1)))
    ky, kx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    grid = np.stack(np.meshgrid(*[np.arange(30, size - 30, 40)] * 2), -1).reshape(-1, 2)
    found: list[NDArray[np.float64]] = []
    while sum(map(len, found)) < count:
        # One offset within the pixel for the sources of one image: their comb is one transform.
        dx, dy = rng.uniform(-0.5, 0.5, 2)
        comb = np.zeros((size, size))
        comb[grid[:, 1], grid[:, 0]] = snr
        sources = np.fft.rfft2(comb) * np.exp(-2j * np.pi * (kx * dx + ky * dy)) * np.abs(spectrum) ** 2
        noise = np.fft.rfft2(rng.normal(size=(size, size))) * np.conj(spectrum)
        where = np.zeros(len(grid), [("x", "f8"), ("y", "f8")])
        where["x"], where["y"] = (grid + np.array([dx, dy])).T
        found.append(highest(np.fft.irfft2(sources + noise), where))
    return np.concatenate(found)[:count]


class Found(NamedTuple):
    """S_corr of injected sources: at their positions, and highest about them."""

    snr: NDArray[np.float64]
    at: NDArray[np.float64]
    peak: NDArray[np.float64]
    psf_d: NDArray[np.float32]


def blank_sky(pair: Pair, difference: Difference) -> NDArray[np.float32]:
    """S_corr where no star adds 2 % to the variance of either image."""
    empty = ~difference.bad
    for name in ("science", "reference"):
        empty &= getattr(pair, f"{name}_variance") < 1.02 * getattr(pair, f"sigma_{name}") ** 2
    return difference.scorr[empty]


def injected(case: str, seeds: Iterable[int], levels: list[float], size: int = 1024) -> Found:
    """S_corr read at the injected positions, and the highest pixel about them."""
    parts = []
    for seed in seeds:
        pair = make_pair(case, 100 + seed, size, injections=levels)
        difference = subtract_pair(pair)
        where = pair.injected
        parts.append((where["snr"], read(difference.scorr, where), highest(difference.scorr, where)))
    return Found(*(np.concatenate(column) for column in zip(*parts, strict=True)), difference.psf_d[0, 0])


def ideal_false_peaks(pair: Pair) -> tuple[int, int]:
    """Peaks beyond 5 (both signs) of the same noise with variances that nobody has: the true ones."""
    new, ref = sides(pair)
    new = replace(new, variance=pair.science_variance, gain=None)
    ref = replace(ref, variance=pair.reference_variance, gain=None)
    difference = zogy(new, ref)
    difference.bad[:3] = difference.bad[-3:] = difference.bad[:, :3] = difference.bad[:, -3:] = True
    return peaks(difference)
