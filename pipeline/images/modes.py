"""The three ways of subtracting a reference that lies on the pixels of an exposure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.kernels import flags

if TYPE_CHECKING:
    from skytrawl.catalogs.images.measured import Exposure
    from skytrawl.images.align import Aligned
    from skytrawl.images.difference import Parameters
    from skytrawl.kernels.difference.types import Difference

# FWHM on each side of a tile; what a source spreads beyond is below the noise.
_BORDER_FWHM = 8.0
_LEAST_BORDER = 32
# Pixels of a box in which the zero of a difference is measured: many PSFs, so that it adds no noise.
_LEVEL_BOX = 128


@dataclass(frozen=True)
class Subtracted:
    """A difference image as it is stored.

    Attributes
    ----------
    planes : dict
        ``difference`` and ``reference`` (float32[ny, nx], image units of the exposure), ``scorr`` (sigma),
        ``flux`` and ``flux_error`` (PSF flux of a new source at each pixel, image units; the error holds its
        own photons), ``mask`` (uint16). NaN where nothing is known.
    fwhm : float, pixels, of the PSF of the difference
    borders : (rows, columns) at which tiles begin
    attrs : dict
    """

    planes: dict[str, np.ndarray]
    fwhm: float
    borders: tuple[list[int], list[int]] = ((), ())  # type: ignore[assignment]
    attrs: dict[str, Any] = field(default_factory=dict)


def subtract(science: Exposure, aligned: Aligned, parameters: Parameters, backend: str) -> Subtracted:
    """Subtract by the mode that is asked for.

    Parameters
    ----------
    science : Exposure
    aligned : Aligned
    parameters : Parameters
        Of the job difference.
    backend : {"cpu", "cuda"}
    """
    if parameters.mode == "zogy":
        return _zogy(science, aligned, parameters, backend)
    sides = _side(science), _reference_side(science, aligned)
    if parameters.mode == "matching":
        from skytrawl.kernels.difference.matched import matched_difference

        done = matched_difference(
            *sides, psf=science.psf, half_width=parameters.half_width, degree=parameters.degree
        )
        attrs = {
            "kernel_sum": done.kernel.scale(),
            "kernel_chi2": done.kernel.chi2,
            "kernel_residual": done.kernel.residual,
            "kernel_stamps": done.kernel.n_stamps,
            "noise_amplitude": [float(done.amplitude_science), float(done.amplitude_reference)],
        }
        return _stored(science, aligned, done, done.d, attrs=attrs)
    from skytrawl.kernels.difference.classic import classic_difference

    classic = classic_difference(*sides)
    return _stored(science, aligned, classic, classic.d)


def errors(science: Exposure, aligned: Aligned) -> tuple[tuple[float, float], float]:
    """Uncertainty of the registration (x, y; pixels), and relative uncertainty of the flux of a star.

    The error of the shift that was taken out and its scatter over the field add up; so do the error of the
    scale, the scatter of constant stars about it, and the errors of the two PSFs, of which a width wrong by a
    fraction f leaves 2 f of the flux of a star's core.
    """
    match = aligned.match
    shift = math.hypot(match.dx_error, match.shift_scatter), math.hypot(match.dy_error, match.shift_scatter)
    known = (float(science.row.get("psf_error") or 0.0), aligned.psf_error)
    psf = 2.0 * np.array([error if math.isfinite(error) else 0.0 for error in known])
    relative = math.hypot(match.scale_error / match.scale, match.scale_scatter, *psf.tolist())
    return shift, relative


def _zogy(science: Exposure, aligned: Aligned, parameters: Parameters, backend: str) -> Subtracted:
    from skytrawl.kernels.difference.tiles import fitting_tile, layout
    from skytrawl.kernels.difference.tiles import subtract as tiled
    from skytrawl.kernels.resample import Planes

    shape = science.planes.image.shape
    fwhm = max(science.row["fwhm"], aligned.fwhm)
    border = max(_LEAST_BORDER, math.ceil(_BORDER_FWHM * fwhm))
    tile = fitting_tile(shape, (science.psf, aligned.psf), max(parameters.tile, 3 * border), border)
    shift, relative = errors(science, aligned)
    planes = [science.planes, aligned.planes]
    sigmas = [science.sky_sigma, aligned.sky_sigma]
    xp = None
    if backend == "cuda":
        from skytrawl.kernels.namespace import device_namespace

        xp = device_namespace()
        planes = [Planes(*(xp.asarray(plane) for plane in three)) for three in planes]
        sigmas = [xp.asarray(sigma) for sigma in sigmas]
    correlation = aligned.noise_correlation * aligned.reference_correlation
    done = tiled(
        planes[0],
        planes[1],
        science.psf,
        aligned.psf,
        sigma_science=sigmas[0],
        sigma_reference=sigmas[1],
        scale=aligned.match.scale,
        shift_error=shift,
        relative_error=relative,
        gain_science=_gain(science.row),
        noise_correlation=(float(science.row.get("noise_correlation") or 1.0), correlation),
        tile=tile,
        border=border,
        xp=xp,
    )
    cut = layout((shape[0], shape[1]), tile, border)
    return _stored(
        science,
        aligned,
        done,
        done.d,
        borders=(list(cut.y[1:-1]), list(cut.x[1:-1])),
        attrs={"shift_error": list(shift), "relative_error": relative},
        level_box=_LEVEL_BOX,
    )


def _stored(
    science: Exposure,
    aligned: Aligned,
    done: Difference,
    difference: np.ndarray,
    *,
    borders: tuple[list[int], list[int]] = ((), ()),  # type: ignore[assignment]
    attrs: dict[str, Any] | None = None,
    level_box: int = 0,
) -> Subtracted:
    bad = _host(done.bad) | science.bad | ((aligned.planes.mask & flags.UNUSABLE) != 0)
    mask = science.planes.mask | aligned.planes.mask
    mask = np.where(bad & ((mask & flags.UNUSABLE) == 0), mask | flags.NO_DATA, mask)
    scale = np.float32(aligned.match.scale)

    def plane(values: Any) -> np.ndarray:
        return np.where(bad, np.float32(np.nan), np.asarray(_host(values), np.float32))

    flux, scorr, difference = _host(done.flux), _host(done.scorr), _host(difference)
    if level_box:
        flux, scorr, difference = _levelled(flux, scorr, difference, _host(done.flux_error), bad, level_box)
    covered = (aligned.planes.mask & flags.REFERENCE) == 0
    reference = aligned.planes.image * scale
    return Subtracted(
        {
            "difference": plane(difference),
            "scorr": plane(scorr),
            "flux": plane(flux),
            "flux_error": plane(done.flux_error),
            "reference": np.where(covered, reference, np.float32(np.nan)).astype(np.float32),
            "mask": mask.astype(flags.DTYPE),
        },
        _fwhm(_host(done.psf_d)),
        borders,
        attrs or {},
    )


def _levelled(
    flux: np.ndarray,
    scorr: np.ndarray,
    difference: np.ndarray,
    error: np.ndarray,
    bad: np.ndarray,
    box: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flux, S_corr and difference about their local zero.

    The skies of the two images are each biased by the faint sources in them, which blur differently; these
    cancel in the difference, so that its own level is the better one.
    """
    from skytrawl.kernels.measure import background

    # What one unit of flux is in S_corr.
    per_flux = np.divide(scorr, flux, out=1 / error, where=(np.abs(flux) > 0) & ~bad)
    level = background(np.where(bad, np.float32(0), flux), bad, box=box).level
    own = background(np.where(bad, np.float32(0), difference), bad, box=box).level
    return flux - level, scorr - level * per_flux, difference - own


def _fwhm(psf: np.ndarray) -> float:
    """FWHM of a stamp, or of the middle one of several."""
    from skytrawl.kernels.psf import PsfModel

    while psf.ndim > 2:
        psf = psf[len(psf) // 2]
    return float(PsfModel.constant(psf).fwhm())


def _side(science: Exposure) -> Any:
    from skytrawl.kernels.difference.types import Side

    ny, nx = science.planes.image.shape
    return Side(
        image=science.planes.image,
        variance=science.planes.variance,
        psf=science.psf.at((nx - 1) / 2, (ny - 1) / 2),
        sigma=float(np.median(science.sky_sigma)),
        bad=science.bad,
        gain=_gain(science.row),
    )


def _reference_side(science: Exposure, aligned: Aligned) -> Any:
    from skytrawl.kernels.difference.types import Side

    ny, nx = science.planes.image.shape
    planes = aligned.planes
    return Side(
        image=planes.image,
        variance=planes.variance,
        psf=aligned.psf.at((nx - 1) / 2, (ny - 1) / 2),
        sigma=float(np.median(aligned.sky_sigma)),
        scale=1.0 / aligned.match.scale,
        bad=(aligned.planes.mask & flags.UNUSABLE) != 0,
    )


def _gain(row: dict[str, Any]) -> float | None:
    gain = float(row.get("gain") or math.nan)
    return gain if gain > 0 else None


def _host(values: Any) -> np.ndarray:
    return np.asarray(values.get() if hasattr(values, "get") else values)
