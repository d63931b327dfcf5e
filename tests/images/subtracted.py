"""Pairs subtracted with their true PSFs, and what is counted on the result."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pairs import Pair
from scipy.ndimage import map_coordinates, maximum_filter

from skytrawl.kernels.difference import Difference, Side, subtract
from skytrawl.kernels.psf import PsfModel
from skytrawl.kernels.resample.types import Planes


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
