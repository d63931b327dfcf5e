"""Single-lens fits: batched PSPL by variable projection, and finite source and parallax on demand."""

import math

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.curves import Curves
from skytrawl.kernels.lens.types import STARTS, STATUS_TEXT, FitOptions, Fits

__all__ = ["KERNEL_VERSION", "STATUS_TEXT", "FitOptions", "Fits", "constant", "fit", "model", "residual"]

# Enters the fingerprint of every run: raise it when a fit gives other numbers.
KERNEL_VERSION = "1"
NAMES = ("t0", "tE", "u0")


def fit(curves: Curves, start: NDArray[np.float64] | None = None, options: FitOptions | None = None) -> Fits:
    """Fit a single point lens to every object, with a source and a blend flux for each data set.

    Parameters
    ----------
    curves : Curves
    start : float64[n_objects, 3] or float64[n_objects, m, 3], optional
        t0 [days of the input], tE [days], u0, one or several starts an object, of which the best result is
        kept; rows with NaN do not count. By default starts are found as ``options.start`` says.
    options : FitOptions, optional

    Returns
    -------
    Fits
        Times are taken from the middle of each object, so that no offset of the times changes the answer.

    Raises
    ------
    ValueError
        If `start` has another shape.
    """
    from skytrawl.kernels.lens.cpu import fit_all

    options = FitOptions() if options is None else options
    n = curves.n_objects
    if start is not None:
        given = np.asarray(start, np.float64)
        if given.ndim not in (2, 3) or given.shape[0] != n or given.shape[-1] != 3:
            raise ValueError(f"start has shape {given.shape}; it must be ({n}, 3) or ({n}, m, 3)")
        each = 1 if given.ndim == 2 else given.shape[1]
        starts, first = given.reshape(-1, 3), np.arange(n + 1) * each
    elif options.start != STARTS[0]:
        from skytrawl.kernels.lens.starts import original_starts

        starts, first = original_starts(curves, options)
    else:
        starts, first = np.empty((0, 3)), np.zeros(n + 1, np.int64)
    out, covariance = np.empty((n, 8)), np.empty((n, 3, 3))
    out_sets, status = np.empty((curves.n_sets, 5)), np.empty(n, np.int64)
    most = options.auto_init_max_clusters
    fit_all(
        curves.time, curves.flux, curves.error, curves.rows, curves.sets, np.ascontiguousarray(starts), first,
        start is None and options.start == STARTS[0],
        (options.pspl_fit_u0_min, math.log(options.tE_min), math.log(options.tE_max)),
        (float(options.pspl_fit_t0_support_tE_coeff), _guard_rows(options)),
        options.max_iterations, options.tolerance,
        (options.auto_init_teff_min or 0.0, options.auto_init_teff_max or 0.0,
         float(options.auto_init_min_n_eff), 4 if most is None else most),
        (options.auto_init_u0_min, options.auto_init_u0_max),
        options.positive_source and options.start != "0.3.2",
        float(options.clip_sigma), options.clip_rounds, out, covariance, out_sets, status,
    )  # fmt: skip
    return Fits(
        NAMES, np.ascontiguousarray(out[:, :3]), covariance, out[:, 3].copy(), out[:, 4].copy(),
        out[:, 5].astype(np.int64), out[:, 6].astype(np.int64), status, out[:, 7].astype(np.int64),
        curves.sets,
        *(out_sets[:, k].copy() for k in range(5)),
    )  # fmt: skip


def _guard_rows(options: FitOptions) -> int:
    """Rows that must support t0, 0 where the guard is off."""
    return options.pspl_fit_min_t0_support_points if options.pspl_fit_t0_support_tE_coeff > 0 else 0


def model(curves: Curves, fits: Fits) -> NDArray[np.float64]:
    """Model flux of PSPL fits at every row.

    Returns
    -------
    float64[n_rows]
        fs A(t) + fb; the weighted mean of the data set for objects without a lens.

    Raises
    ------
    ValueError
        If the fits are of other data sets, or of another kind of lens.
    """
    if fits.names[:3] != ("t0", "tE", "u0") or len(fits.names) > 3:
        raise ValueError(f"the fits are of a lens with {', '.join(fits.names)}; a PSPL has t0, tE, u0")
    if len(fits.source_flux) != curves.n_sets or not np.array_equal(fits.sets, curves.sets):
        raise ValueError(f"fits of {len(fits.source_flux)} data sets, curves of {curves.n_sets}")
    from skytrawl.kernels.lens.cpu_result import model_flux

    out = np.empty(len(curves.time))
    model_flux(curves.time, curves.rows, curves.sets, fits.params, fits.source_flux, fits.blend_flux, out)
    return out


def constant(curves: Curves) -> NDArray[np.float64]:
    """Weighted mean flux of the data set of every row, float64[n_rows]."""
    from skytrawl.kernels.lens.cpu_result import weighted_means

    out = np.empty(len(curves.time))
    weighted_means(curves.flux, curves.error, curves.rows, out)
    return out


def residual(
    curves: Curves, fits: Fits | None = None, baseline: NDArray[np.floating] | None = None
) -> NDArray[np.float64]:
    """Flux less a model, row by row.

    Parameters
    ----------
    curves : Curves
    fits : Fits, optional
        PSPL fits, whose model is taken off.
    baseline : float[n_rows], optional
        A model of the user's own, in the flux unit and order of rows of `curves`. With neither, the weighted
        mean of each data set is taken off.

    Returns
    -------
    float64[n_rows]

    Raises
    ------
    ValueError
        With fits and baseline, with a baseline of another length, or with values that are not finite.
    """
    if fits is not None and baseline is not None:
        raise ValueError("give either fits or a baseline")
    if baseline is not None:
        values = np.asarray(baseline, np.float64)
        if values.shape != curves.flux.shape:
            raise ValueError(f"baseline has shape {values.shape}, the curves {curves.flux.shape}")
        if not np.all(np.isfinite(values)):
            raise ValueError("the baseline is not finite everywhere")
        return curves.flux - values
    return curves.flux - (constant(curves) if fits is None else model(curves, fits))
