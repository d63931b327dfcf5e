"""Magnifications out of VBMicrolensing (Bozza 2010, MNRAS 408, 2188; Bozza et al. 2018, MNRAS 479, 5157)."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import BackendUnavailableError, ParameterError

# Beyond, the table of VBMicrolensing ends, and its code would read behind it.
LARGEST_RHO = 100.0


@lru_cache(maxsize=8)
def _engine(tolerance: float, relative: float) -> Any:
    """A VBMicrolensing object of one accuracy; its calls hold the GIL and keep nothing in between."""
    try:
        from VBMicrolensing import VBMicrolensing
    except ImportError as error:
        raise BackendUnavailableError(
            f"VBMicrolensing cannot be imported ({error}), and finite sources, parallax and binary lenses "
            "need it: pip install 'skytrawl[lens]'"
        ) from error
    engine = VBMicrolensing()
    engine.Tol, engine.RelTol = tolerance, relative
    return engine


def require() -> None:
    """Raise BackendUnavailableError, which names the remedy, where VBMicrolensing cannot be imported."""
    _engine(1e-2, 0.0)


def finite_source(u: NDArray[np.float64], rho: float) -> NDArray[np.float64]:
    """Magnification of a uniform disc by one point lens: ESPLMag2 of VBMicrolensing.

    Far from the lens the quadrupole term is added to the point source; where it exceeds 1e-3, the value is
    read from the package's table, linearly in u / rho and log rho, as its own light curves do.

    Parameters
    ----------
    u : float64[n]
        Distances of lens and centre of the source, Einstein radii; the sign is ignored.
    rho : float
        Radius of the source, Einstein radii, 0 < rho <= 100.

    Returns
    -------
    float64[n]
        NaN where u is not finite.

    Raises
    ------
    ParameterError
        For rho out of range.
    BackendUnavailableError
        Without VBMicrolensing.
    """
    if not 0.0 < rho <= LARGEST_RHO:
        raise ParameterError(f"rho={rho!r}: a source radius must be from 0 (excluded) to {LARGEST_RHO:g}")
    u = np.asarray(u, np.float64)
    finite = np.isfinite(u)
    if not finite.all():
        # VBMicrolensing would look such values up at an address of chance.
        result = np.full(u.shape, np.nan)
        result[finite] = finite_source(u[finite], rho)
        return result
    # A straight track through the lens (u0 = exp(-inf), t0 = 0, tE = 1 d) is at distance u at time u: one
    # call for all points, while ESPLMag2 itself takes one.
    track = [-np.inf, 0.0, 0.0, float(np.log(rho))]
    return np.array(_engine(1e-2, 0.0).ESPLLightCurve(track, u)[0])


def binary_magnification(
    time: NDArray[np.float64],
    s: float,
    q: float,
    u0: float,
    alpha: float,
    rho: float,
    tE: float,
    t0: float,
    *,
    tolerance: float = 1e-3,
) -> NDArray[np.float64]:
    """Magnification of a uniform disc by two point lenses at rest: BinaryLightCurve of VBMicrolensing.

    With tau = (t - t0) / tE the source is at y1 = u0 sin(alpha) - tau cos(alpha), y2 = -u0 cos(alpha) - tau
    sin(alpha); the origin is the centre of mass, the second lens stands on the side of positive y1.

    Parameters
    ----------
    time : float64[n], days
    s : float
        Separation in Einstein radii of the total mass.
    q : float
        Mass ratio of the second and the first lens.
    u0 : float
        Smallest distance from the centre of mass, Einstein radii.
    alpha : float
        Angle of the track, radians.
    rho : float
        Radius of the source, Einstein radii.
    tE : float
        Einstein time, days.
    t0 : float
        Time of smallest distance, in the days of `time`.
    tolerance : float
        Accuracy aimed at, absolute or relative, whichever is reached first.

    Returns
    -------
    float64[n]

    Raises
    ------
    ParameterError
        If s, q, rho or tE is not positive, or a parameter is not finite.
    BackendUnavailableError
        Without VBMicrolensing.
    """
    given = {"s": s, "q": q, "rho": rho, "tE": tE, "u0": u0, "alpha": alpha, "t0": t0}
    wrong = [n for n, x in given.items() if not np.isfinite(x) or (n in ("s", "q", "rho", "tE") and x <= 0)]
    if wrong:
        raise ParameterError(f"{', '.join(wrong)}: s, q, rho and tE must be positive, all must be finite")
    track = [np.log(s), np.log(q), u0, alpha, np.log(rho), np.log(tE), 0.0]
    times = np.asarray(time, np.float64) - t0
    return np.array(_engine(tolerance, tolerance).BinaryLightCurve([float(x) for x in track], times)[0])
