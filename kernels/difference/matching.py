"""The kernel that turns the stars of one image into those of another, solved on stamps.

``target ~ K (x) other + background``, with K a sum of basis kernels whose coefficients are polynomials of the
position (Alard & Lupton 1998; Alard 2000; delta functions as basis: Miller, Pennypacker & White 2008).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from skytrawl.errors import ImageError, ParameterError
from skytrawl.kernels.difference.basis import KernelBasis, delta_basis
from skytrawl.kernels.difference.kernel import MatchingKernel, scaled_terms
from skytrawl.kernels.difference.stamps import Stamps, choose_stamps, grown, light
from skytrawl.kernels.psf import n_terms

Image = NDArray[np.float32]
Direction = Literal["reference", "science"]

_TOGETHER = 32  # stamps whose normal matrices are added at once
_CLIP = 5.0  # pixels that fail by more sigmas are left out of the next iteration
_REACH = 5  # pixels around a transient that are left out too
# Most of the fraction by which the model is allowed to fail in the weights. With more, stars weigh no more
# than the cores of galaxies, which say nothing of the fine structure of the kernel: the kernel gets too
# smooth, and the fraction grows further.
_MOST = 0.01


def match_kernel(
    science: Image,
    reference: Image,
    variance: tuple[Image, Image],
    bad: NDArray[np.bool_],
    stamps: NDArray[np.float64] | NDArray[np.bool_] | None = None,
    *,
    half_width: int = 7,
    degree: int = 0,
    background_degree: int = 0,
    direction: Literal["reference", "science", "auto"] = "auto",
    basis: KernelBasis | None = None,
    radius: float = 12.0,
    block: int = 48,
    max_pixels: int = 60_000,
    iterations: int = 4,
    decay: float | None = None,
) -> MatchingKernel:
    """Solve the kernel between two images on one grid.

    Least squares with weights ``1 / (V_target + sum(K^2) V_other + (f M)^2)``, M the model and f the fraction
    by which it fails on the stamps, measured in each iteration and at most 1 %; without f a few bright stars
    would decide alone.
    Sums are kept in float64. Pixels and whole stamps that do not fit (variables, transients, cosmic rays) are
    left out.

    Parameters
    ----------
    science, reference : float32[ny, nx], background subtracted; bad pixels may hold anything
    variance : (science, reference), float32[ny, nx]
    bad : bool[ny, nx], unusable in either image
    stamps : float64[n, 2] or bool[ny, nx], optional
        Positions (x, y) of stars, of which pixels within `radius` are used, or the pixels themselves. By
        default all pixels that show light in both images.
    half_width : int, pixels, of a delta basis
    degree, background_degree : int, of the polynomials of kernel and background
    direction : {"reference", "science", "auto"}
        The image that is convolved; "auto" takes the sharper one, for which the noise gain
        sum(K^2) / sum(K)^2 is smaller; where both gains are alike, the direction that fits better.
    basis : KernelBasis, optional, instead of a delta basis
    radius : float, pixels
    block, max_pixels : see `choose_stamps`
    iterations : int
    decay : float, pixels
        Expected fall of the kernel: a term at distance r from the middle has the prior standard deviation
        ``0.3 exp(-r / decay)`` times the flux ratio (per order of the polynomials, 0.3 times less). It
        matters where the stamps say nothing: noise of wings is degenerate with the background. Default: a
        third of the half width, at least 1.5.

    Raises
    ------
    ImageError
        If no usable pixel shows sources, or the system cannot be solved.
    """
    basis = delta_basis(half_width) if basis is None else basis
    decay = max(basis.half_width / 3, 1.5) if decay is None else decay
    images = [np.where(bad, np.float32(0), image) for image in (science, reference)]
    planes = [np.where(bad, np.float32(0), plane) for plane in variance]
    bright = [light(image, plane, grow=0) for image, plane in zip(images, planes, strict=True)]
    usable = _usable(bad, basis.half_width)
    select = _selected(bright[0] & bright[1], usable, stamps, radius, basis.half_width)
    lit = grown(bright[0] | bright[1], 3)

    def solved(way: Direction, pixels: int, turns: int) -> MatchingKernel:
        order = (0, 1) if way == "reference" else (1, 0)
        target, other = (images[k] for k in order)
        noise_target, noise_other = (planes[k] for k in order)
        chosen = choose_stamps(select, block=block, max_pixels=pixels)
        system = _System(
            target, other, noise_target, noise_other, lit, chosen, basis, degree, background_degree, decay
        )
        for turn in range(turns):
            system.iterate(last=turn == turns - 1)
        return system.kernel(way)

    if direction == "auto":
        ways: tuple[Direction, Direction] = ("reference", "science")
        fits = [solved(way, max_pixels // 4, 2) for way in ways]
        gains = [float(np.sum(fit.middle**2)) / fit.scale() ** 2 for fit in fits]
        alike = max(gains) < 1.5 * min(gains)
        cost = [(max(fit.chi2, 1.0) if alike else 1.0, gain) for fit, gain in zip(fits, gains, strict=True)]
        direction = fits[cost.index(min(cost))].direction
    return solved(direction, max_pixels, iterations)


def _usable(bad: NDArray[np.bool_], half: int) -> NDArray[np.bool_]:
    """Pixels whose whole kernel window is free of bad pixels and inside."""
    from scipy.ndimage import maximum_filter

    return ~np.asarray(maximum_filter(bad, 2 * half + 1, mode="constant", cval=1), np.bool_)


def _selected(
    both: NDArray[np.bool_],
    usable: NDArray[np.bool_],
    stamps: NDArray[np.float64] | NDArray[np.bool_] | None,
    radius: float,
    grow: int,
) -> NDArray[np.bool_]:
    if stamps is None:
        return grown(both, grow) & usable
    if stamps.dtype == np.bool_:
        chosen: NDArray[np.bool_] = stamps.astype(np.bool_)
        if stamps.shape != usable.shape:
            raise ParameterError(f"the pixels of stamps have the shape {stamps.shape}, not {usable.shape}")
        return chosen & usable
    if stamps.ndim != 2 or stamps.shape[1] != 2:
        raise ParameterError(f"positions of stamps are [n, 2], not {stamps.shape}")
    ny, nx = usable.shape
    select = np.zeros(usable.shape, np.bool_)
    for x, y in stamps:
        left, low = max(int(x - radius), 0), max(int(y - radius), 0)
        right, high = min(int(x + radius) + 2, nx), min(int(y + radius) + 2, ny)
        if left < right and low < high:
            dy, dx = np.ogrid[low - y : high - y, left - x : right - x]
            select[low:high, left:right] |= (dx**2 + dy**2 <= radius**2)[: high - low, : right - left]
    return select & usable


@dataclass(eq=False)
class _System:
    """The least squares problem and the state of its iterations."""

    target: Image
    other: Image
    variance_target: Image
    noise_other: Image
    lit_pixels: NDArray[np.bool_]
    stamps: Stamps
    basis: KernelBasis
    degree: int
    background_degree: int
    decay: float

    def __post_init__(self) -> None:
        # Where neither image shows light the convolved one holds only noise, which would blur the kernel.
        self.other = np.where(self.lit_pixels, self.other, np.float32(0))
        self.variance_other = np.where(self.lit_pixels, self.noise_other, np.float32(0))
        s, shape = self.stamps, self.target.shape
        self.terms = scaled_terms(s.centre_x, s.centre_y, shape, self.degree)
        self.background_terms = scaled_terms(s.centre_x, s.centre_y, shape, self.background_degree)
        self.values = self.target[s.y, s.x].astype(np.float64)
        other = self.other[s.y, s.x].astype(np.float64)
        self.ratio = float(np.sqrt(max(np.sum(self.values**2), 1e-300) / max(np.sum(other**2), 1e-300)))
        self.lit = self.variance_other[s.y, s.x] > 0
        self.noise = (
            self.variance_target[s.y, s.x].astype(np.float64),
            self.noise_other[s.y, s.x].astype(np.float64),
        )
        self.model = np.abs(self.values)
        self.gain, self.fraction, self.residual = 0.3, _MOST, _MOST
        self.good = np.ones(len(s.y), np.bool_)
        self.kept = np.ones(len(s), np.bool_)
        self.chi2 = float("nan")
        order = np.array([i + j for j in range(self.degree + 1) for i in range(self.degree + 1 - j)])
        spread = 0.3 * self.ratio * np.exp(-self.basis.radius / self.decay)
        self.prior = np.concatenate([1 / (spread * 0.3**k) ** 2 for k in order])
        flat = self.basis.planes.reshape(len(self.basis), -1)
        self.flat = None if self.basis.is_delta else flat.T

    def windows(self, image: Image, part: slice) -> NDArray[np.float32]:
        """What a kernel sees of an image from each pixel of a stamp, float32[n_pixels, side * side]."""
        s, half = self.stamps, self.basis.half_width
        ny, nx = image.shape
        views = sliding_window_view(image[::-1, ::-1], (2 * half + 1, 2 * half + 1))
        # The image is read backwards: the window then runs with the offset of a convolution.
        rows: NDArray[np.float32] = views[ny - 1 - s.y[part] - half, nx - 1 - s.x[part] - half]
        return rows.reshape(rows.shape[0], -1)

    def blocks(self) -> Iterator[tuple[int, slice, NDArray[np.float64]]]:
        """Number, pixels and design matrix [n_pixels, n_terms] of each stamp."""
        s = self.stamps
        for b in range(len(s)):
            part = slice(int(s.begin[b]), int(s.begin[b + 1]))
            design = self.windows(self.other, part).astype(np.float64)
            yield b, part, design if self.flat is None else design @ self.flat

    def noise_of(self, part: slice, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Summed weighted variance of the convolved image at each offset of the kernel, for one stamp."""
        summed: NDArray[np.float64] = weight @ self.windows(self.variance_other, part)
        return summed

    def spread(self, noise: NDArray[np.float64], q: int) -> NDArray[np.float64]:
        """What the noise of the convolved image is expected to add to the normal matrix."""
        flat = self.flat
        each = [np.diag(row) if flat is None else (flat.T * row) @ flat for row in noise]
        return np.block([[each[i * q + j] for j in range(q)] for i in range(q)])

    def weights(self) -> NDArray[np.float64]:
        total = self.noise[0] + self.gain * self.noise[1] + (self.fraction * self.model) ** 2
        return np.where(self.good, 1.0 / total, 0.0)

    def iterate(self, last: bool) -> None:
        """Solve with the present weights, then measure what does not fit."""
        n, q, m = len(self.basis), n_terms(self.degree), n_terms(self.background_degree)
        weight = self.weights()
        blocks, noise = np.zeros((q * q, n * n)), np.zeros((q * q, (2 * self.basis.half_width + 1) ** 2))
        grams: list[NDArray[np.float64]] = []
        places: list[NDArray[np.float64]] = []
        cross, sky = np.zeros((q * n, m)), np.zeros((m, m))
        side, side_sky = np.zeros(q * n), np.zeros(m)
        for b, part, design in self.blocks():
            if not self.kept[b]:
                continue
            p, pb = self.terms[b], self.background_terms[b]
            weighted: NDArray[np.float64] = design * weight[part, None]
            grams.append((weighted.T @ design).ravel())
            places.append(np.outer(p, p).ravel())
            if len(grams) == _TOGETHER:
                blocks += np.stack(places, axis=1) @ np.stack(grams)
                grams, places = [], []
            noise += np.outer(p, p).ravel()[:, None] * self.noise_of(part, weight[part])
            cross += (p[:, None, None] * weighted.sum(axis=0)[:, None] * pb).reshape(q * n, m)
            sky += np.outer(pb, pb) * weight[part].sum()
            side += (p[:, None] * (weighted.T @ self.values[part])).ravel()
            side_sky += pb * (weight[part] @ self.values[part])
        if grams:
            blocks += np.stack(places, axis=1) @ np.stack(grams)
        matrix = blocks.reshape(q, q, n, n).transpose(0, 2, 1, 3).reshape(q * n, q * n)
        # The background is eliminated first: it has no part in the noise of the convolved image.
        lever = np.linalg.solve(sky, cross.T)
        matrix[np.diag_indices(q * n)] += self.prior
        kernel = self._solve(
            matrix - cross @ lever, self.spread(noise, q), side - side_sky @ lever, exactly=last
        )
        self.solution = np.concatenate([kernel, np.linalg.solve(sky, side_sky - cross.T @ kernel)])
        self._judge(n, q)

    def _solve(
        self,
        matrix: NDArray[np.float64],
        noise: NDArray[np.floating],
        side: NDArray[np.float64],
        exactly: bool,
    ) -> NDArray[np.float64]:
        """Least squares with noise in the convolved image.

        Its expected contribution N to the normal matrix M draws the kernel towards zero. With M v = s N v the
        solution without it is ``sum v (v . side) / (s - 1)``; directions without signal, in which s - 1 is
        only the scatter of N, are damped: ``(s - 1) / ((s - 1)^2 + t^2)``, t the largest s - 1 that n terms
        show by chance on P pixels, 2 sqrt(n / P) + n / P (Marchenko & Pastur 1967). Not `exactly` is
        ``1 / (s - 1 + t)``, which is enough to find what does not fit and needs no eigenvectors.
        """
        from scipy.linalg import LinAlgError, eigh, solve

        n_pixels = int((self.good & self.lit & np.repeat(self.kept, np.diff(self.stamps.begin))).sum())
        share = len(side) / max(n_pixels, 1)
        chance = 2 * np.sqrt(share) + share
        try:
            if not exactly:
                rough: NDArray[np.float64] = solve(
                    matrix - (1 - min(chance, 1)) * noise, side, assume_a="sym"
                )
                return rough
            # A term that sees no light at all has no noise either, and no signal.
            noise = noise + 1e-9 * np.trace(noise) / len(noise) * np.eye(len(noise))
            signal, vectors = eigh(matrix, noise)
        except LinAlgError as error:
            raise ImageError(
                f"the {len(side)} terms of the kernel cannot be solved on {int(self.kept.sum())} stamps with "
                f"{n_pixels} pixels; lower the degree or the half width"
            ) from error
        excess = np.maximum(signal - 1, 0)
        solution: NDArray[np.float64] = vectors @ (vectors.T @ side * excess / (excess**2 + chance**2))
        return solution

    def _judge(self, n: int, q: int) -> None:
        coefficients = self.solution[: q * n].reshape(q, n)
        per_stamp = self.terms @ coefficients
        sky = self.background_terms @ self.solution[q * n :]
        self.model = np.empty(len(self.values))
        residual = np.empty(len(self.values))
        for b, part, design in self.blocks():
            self.model[part] = design @ per_stamp[b]
            residual[part] = self.values[part] - self.model[part] - sky[b]
        middle = np.tensordot(coefficients[0], self.basis.planes, 1)
        self.gain = float(np.sum(middle**2))
        noise = self.noise[0] + self.gain * self.noise[1]
        bright = self.good & (np.abs(self.model) > 10 * np.sqrt(noise))
        if bright.sum() >= 50:
            ratio = np.abs(residual[bright] / self.model[bright])
            excess = (1.4826 * np.median(ratio)) ** 2 - np.median(noise[bright] / self.model[bright] ** 2)
            self.residual = float(np.sqrt(max(excess, 1e-8)))
            self.fraction = min(self.residual, _MOST)
        total = noise + (self.fraction * self.model) ** 2
        square = residual**2 / total
        self.good = square < _CLIP**2
        # Most of a transient lies below the clipping; a poor fit of a bright star must not be taken for one.
        level = np.maximum(np.abs(self.model), np.abs(self.values))
        self.good &= ~self._near(~self.good & (np.abs(residual) > 0.5 * level))
        count = np.add.reduceat(self.good.astype(np.float64), self.stamps.begin[:-1])
        each = np.add.reduceat(np.where(self.good, square, 0.0), self.stamps.begin[:-1]) / np.maximum(
            count, 1
        )
        typical = np.median(each)
        spread = 1.4826 * np.median(np.abs(each - typical))
        size = np.diff(self.stamps.begin)
        self.kept = (each <= typical + 5 * max(spread, 0.2 * typical)) & (count > 0.5 * size)
        inside = self.good & np.repeat(self.kept, size)
        self.chi2 = float(square[inside].mean()) if inside.any() else float("nan")

    def _near(self, which: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Pixels of stamps within `_REACH` pixels of some of them."""
        from scipy.ndimage import binary_dilation

        plane = np.zeros(self.target.shape, np.bool_)
        plane[self.stamps.y[which], self.stamps.x[which]] = True
        grown: NDArray[np.bool_] = binary_dilation(plane, iterations=_REACH)
        return grown[self.stamps.y, self.stamps.x]

    def kernel(self, direction: Direction) -> MatchingKernel:
        """The record of the last solution."""
        n, q = len(self.basis), n_terms(self.degree)
        ny, nx = self.target.shape
        size = np.diff(self.stamps.begin)
        return MatchingKernel(
            basis=self.basis,
            coefficients=self.solution[: q * n].reshape(q, n),
            background=self.solution[q * n :],
            degree=self.degree,
            background_degree=self.background_degree,
            shape=(ny, nx),
            direction=direction,
            n_stamps=int(self.kept.sum()),
            n_pixels=int((self.good & np.repeat(self.kept, size)).sum()),
            n_clipped=int((~self.kept).sum()),
            chi2=self.chi2,
            residual=self.residual,
        )
