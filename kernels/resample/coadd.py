"""Coadds: many exposures of a field as one image with its noise, PSF and depth."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from skytrawl.errors import ImageError, ParameterError
from skytrawl.kernels import flags
from skytrawl.kernels.psf import PsfModel
from skytrawl.kernels.resample.rejection import GROW, Rejection
from skytrawl.kernels.resample.types import CoordinateGrid, Planes, Resampled

# Bytes of a pixel of the stack while it is combined: planes, copies in float64 of the array version aside.
_BYTES = 11
# The median of a neighbour's neighbours decides, as far as rejection grows.
_HALO = GROW + 1


class Coadded(NamedTuple):
    """A coadd.

    Attributes
    ----------
    planes : Planes
        NaN and NO_DATA where no exposure counts, with the bits that keep them out; SUSPECT where a pixel of
        an exposure was rejected, for there the PSF is not that of the coadd.
    n_used, n_rejected : uint16[ny, nx]
        Exposures that count at a pixel, and those that were rejected there.
    psf : PsfModel or None
        None if an exposure came without one.
    sigma : float, image units
        Noise of a pixel, the median over the coadd.
    noise_correlation : float
        As for `Resampled`.
    fwhm : float, pixels
        Seeing at the middle; NaN without a PSF.
    depth : float, image units
        Flux of a point source of five sigma on empty sky; NaN without a PSF.
    """

    planes: Planes
    n_used: Any
    n_rejected: Any
    psf: PsfModel | None
    sigma: float
    noise_correlation: float
    fwhm: float
    depth: float


class _Entry(NamedTuple):
    window: tuple[int, int, int, int]
    planes: Planes
    weight: float
    noise: float
    correlation: float
    psf: PsfModel | None
    grid: CoordinateGrid | None


class Coadd:
    """Weighted mean of exposures that were resampled onto one grid.

    Of each exposure the rectangle that it covers is kept: 10 bytes a pixel, in arrays from `allocate`, so
    that memory-mapped ones can be given. They are combined by stripes of rows.

    The weights are one number an exposure, never a pixel's own variance: with that bright stars would weigh
    less in sharp exposures than faint ones, and the PSF would depend on the flux.

    Parameters
    ----------
    shape : (ny, nx)
    allocate : callable (shape, dtype) -> array, optional
        Default: ordinary memory.
    xp : module, optional
        Array API namespace of what is added. Default: NumPy arrays, in Numba.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        allocate: Callable[[tuple[int, ...], Any], Any] | None = None,
        xp: Any = None,
    ) -> None:
        self.shape = shape
        self._allocate = allocate
        self._xp = xp
        self._entries: list[_Entry] = []
        self._added = 0

    def __len__(self) -> int:
        """Exposures that cover a part of the grid."""
        return len(self._entries)

    @property
    def weights(self) -> list[float]:
        """Weights of the exposures that cover a part of the grid, in the order of their coming."""
        return [entry.weight for entry in self._entries]

    def add(
        self,
        resampled: Resampled,
        *,
        weight: float | None = None,
        scale: float = 1.0,
        psf: PsfModel | None = None,
        grid: CoordinateGrid | None = None,
    ) -> bool:
        """Take an exposure in.

        Parameters
        ----------
        resampled : Resampled
            Background subtracted, on the coadd's grid.
        weight : float, optional
            Default: the inverse of the noise power of its sky, after the scale.
        scale : float
            Factor from its image units to those of the coadd.
        psf : PsfModel, optional
            On the pixels of the exposure.
        grid : CoordinateGrid, optional
            With which it was resampled; needed with a PSF.

        Returns
        -------
        bool
            False if it covers nothing: then it does not count.

        Raises
        ------
        ParameterError
            If the shape is another one, or scale or weight is not positive.
        """
        xp = self._xp or np
        if tuple(resampled.image.shape) != tuple(self.shape):
            raise ParameterError(f"the exposure has shape {resampled.image.shape}, the coadd {self.shape}")
        if not (scale > 0 and math.isfinite(scale)):
            raise ParameterError(f"the scale of an exposure must be positive, not {scale}")
        if psf is not None and grid is None:
            raise ParameterError("the PSF of an exposure needs its grid")
        self._added += 1
        usable = resampled.coverage & ((resampled.mask & flags.UNUSABLE) == 0)
        if not bool(xp.any(usable)):
            return False
        noise = _middle(resampled.variance[usable], xp) * scale * scale
        power = noise * resampled.noise_correlation
        if weight is None:
            if not power > 0:
                raise ParameterError("an exposure without noise needs a weight")
            weight = 1.0 / power
        if not (weight > 0 and math.isfinite(weight)):
            raise ParameterError(f"the weight of an exposure must be positive, not {weight}")
        top, bottom = _ends(xp.any(resampled.coverage, axis=1), xp)
        left, right = _ends(xp.any(resampled.coverage, axis=0), xp)
        part = (slice(top, bottom), slice(left, right))
        mask, covered = resampled.mask[part], resampled.coverage[part]
        planes = Planes(
            self._keep(resampled.image[part] * float(scale)),
            self._keep(resampled.variance[part] * float(scale * scale)),
            # What has no value must not count, whatever its bits.
            self._keep(xp.where(covered, mask, mask | flags.NO_DATA)),
        )
        window = (top, bottom, left, right)
        self._entries.append(_Entry(window, planes, weight, noise, resampled.noise_correlation, psf, grid))
        return True

    def _keep(self, array: Any) -> Any:
        if self._allocate is None:
            return array
        kept = self._allocate(tuple(array.shape), array.dtype)
        kept[...] = array
        return kept

    def finish(
        self,
        *,
        clip: float | None = 5.0,
        slack: float = 1.0,
        memory: int = 256 << 20,
    ) -> Coadded:
        """Combine what was added.

        Parameters
        ----------
        clip, slack : float
            See `Rejection`.
        memory : int, bytes
            For the stack of a stripe of rows.

        Returns
        -------
        Coadded

        Raises
        ------
        ImageError
            If no exposure covers any of the grid.
        """
        rejection = Rejection(clip, slack)
        if not self._entries:
            raise ImageError(f"none of {self._added} exposures covers any of the coadd: they do not overlap")
        ny, nx = self.shape
        rows = max(int(memory / (_BYTES * nx * len(self._entries))) - 2 * _HALO, 16)
        parts = []
        for begin in range(0, ny, rows):
            end = min(begin + rows, ny)
            # Rows beyond the stripe decide about rejection in it, so that seams do not show.
            first, last = max(begin - _HALO, 0), min(end + _HALO, ny)
            inner = slice(begin - first, end - first)
            parts.append([plane[inner, :] for plane in self._stripe(first, last, rejection)])
        xp = self._xp or np
        join = np.concatenate if self._xp is None else self._xp.concat
        image, variance, mask, used, rejected = (join(planes) for planes in zip(*parts, strict=True))
        sigma = math.sqrt(_middle(variance[used > 0], xp))
        power = [entry.weight**2 * entry.noise for entry in self._entries]
        pairs = zip(power, (entry.correlation for entry in self._entries), strict=True)
        total = sum(power)
        correlation = sum(p * c for p, c in pairs) / total if total > 0 else math.nan
        psf = self._psf()
        fwhm, depth = math.nan, math.nan
        if psf is not None:
            middle = ((nx - 1) / 2, (ny - 1) / 2)
            fwhm = float(psf.fwhm(*middle))
            depth = 5.0 * sigma * math.sqrt(correlation * float(psf.noise_area(*middle)))
        return Coadded(Planes(image, variance, mask), used, rejected, psf, sigma, correlation, fwhm, depth)

    def _stripe(self, first: int, last: int, rejection: Rejection) -> tuple[Any, ...]:
        """Combine rows first to last."""
        xp = self._xp or np
        like = self._entries[0].planes.image
        device = {} if self._xp is None else {"device": like.device}
        shape = (len(self._entries), last - first, self.shape[1])
        values, spreads = (xp.zeros(shape, dtype=xp.float32, **device) for _ in range(2))
        masks = xp.zeros(shape, dtype=xp.uint16, **device) + xp.asarray(
            flags.NO_DATA, dtype=xp.uint16, **device
        )
        for e, entry in enumerate(self._entries):
            top, bottom, left, right = entry.window
            a, b = max(top, first), min(bottom, last)
            if a >= b:
                continue
            target = (e, slice(a - first, b - first), slice(left, right))
            for stack, plane in zip((values, spreads, masks), entry.planes, strict=True):
                stack[target] = plane[a - top : b - top, :]
        weights = np.array([entry.weight for entry in self._entries])
        if self._xp is None:
            from skytrawl.kernels.resample.coadd_cpu import combine

            return combine(values, spreads, masks, weights, rejection)
        from skytrawl.kernels.resample import coadd_arrays

        return coadd_arrays.combine(values, spreads, masks, weights, rejection, self._xp)

    def _psf(self) -> PsfModel | None:
        from skytrawl.kernels.resample.coadd_psf import Part, coadd_psf

        parts = [
            Part(entry.psf, entry.grid, entry.weight, entry.window)
            for entry in self._entries
            if entry.psf is not None and entry.grid is not None
        ]
        return coadd_psf(parts) if len(parts) == len(self._entries) else None


def _middle(values: Any, xp: Any) -> float:
    """Lower median of numbers."""
    place = (values.shape[0] - 1) // 2
    if xp is np:
        return float(np.partition(values, place)[place])
    return float(xp.sort(values)[place])


def _ends(any_: Any, xp: Any) -> tuple[int, int]:
    """First and one past the last true element."""
    found = xp.nonzero(any_)[0]
    return int(found[0]), int(found[-1]) + 1
