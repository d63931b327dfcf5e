"""Models of a single lens with a finite source, parallax or both: magnification and its derivatives."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError
from skytrawl.kernels.lens.parallax import Displacement
from skytrawl.kernels.lens.vbm import finite_source

# The table of VBMicrolensing is of no use beyond; below, no light curve tells the source from a point.
LOG_RHO = (-16.0, float(np.log(10.0)))
# A point source magnifies infinitely at 0.
_LEAST_U = 1e-9
# From so many source radii on, the derivative by u is that of a point source: 3 % off at most.
_FAR = 8.0
# Of the middles of 64 arcs of half the limb; the other half is its mirror image.
_COSINES = np.cos((np.arange(64) + 0.5) * np.pi / 64)


@dataclass(frozen=True)
class Kind:
    """What a model has: a finite source, parallax, a telescope in space."""

    source: bool
    parallax: bool
    space: bool
    gulls: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its parameters, in order."""
        return ("t0", "tE", "u0", *("rho",) * self.source, *("piEN", "piEE") * self.parallax)


_FSPL = Kind(True, False, False)
KINDS = {
    "fspl": _FSPL,
    "fspl_vbm_fd": _FSPL,
    "pspl_parallax": Kind(False, True, False),
    "fspl_parallax": Kind(True, True, False),
    "pspl_space_parallax": Kind(False, True, True),
    "fspl_space_parallax": Kind(True, True, True),
    "fspl_space_parallax_gulls_vbm_fd": Kind(True, True, True, gulls=True),
}


def kind_of(name: str) -> Kind:
    """What the model of a name has.

    Raises
    ------
    ParameterError
        For a name that is none of `KINDS`.
    """
    try:
        return KINDS[name]
    except KeyError:
        raise ParameterError(f"fitter kind {name!r} is unknown: choose one of {', '.join(KINDS)}") from None


class Model:
    """Magnification of the rows of one object under parameters that a fit steps in.

    These are t0 (days after the reference time), ln tE, u0, and, where the kind has them, ln rho, piEN, piEE.

    Parameters
    ----------
    kind : Kind
    days : float64[n]
        Times after the reference time; not regarded with a displacement, which has its own.
    displacement : Displacement or None
        None without parallax.
    """

    def __init__(self, kind: Kind, days: NDArray[np.float64], displacement: Displacement | None) -> None:
        self.kind = kind
        self.days = days
        self.displacement = displacement
        self.n_params = len(kind.names)
        self._parallax = slice(4, 6) if kind.source else slice(3, 5)

    def track(self, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Components of the source's place: tau and beta, float64[n] each."""
        tE = float(np.exp(x[1]))
        if self.displacement is None:
            return (self.days - x[0]) / tE, np.full(len(self.days), x[2])
        piEN, piEE = x[self._parallax] if self.kind.parallax else (0.0, 0.0)
        return self.displacement.track(float(x[0]), tE, float(x[2]), float(piEN), float(piEE))

    def magnification(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Magnifications at the rows: float64[n]."""
        u = np.maximum(np.hypot(*self.track(x)), _LEAST_U)
        return finite_source(u, float(np.exp(x[3]))) if self.kind.source else _point(u)

    def derivatives(self, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Magnifications float64[n] and their derivatives by the parameters float64[n_params, n]."""
        tau, beta = self.track(x)
        u = np.maximum(np.hypot(tau, beta), _LEAST_U)
        jacobian = np.empty((self.n_params, len(u)))
        slope = -8.0 / (u * u * (u * u + 4.0) ** 1.5)
        if self.kind.source:
            rho = float(np.exp(x[3]))
            value, slope, jacobian[3] = _finite(u, rho, slope)
        else:
            value = _point(u)
        by_tau, by_beta = slope * tau / u, slope * beta / u
        # Light that travels to the Sun arrives up to 1e-4 d later or earlier per day: as one here.
        jacobian[0] = -by_tau * float(np.exp(-x[1]))
        jacobian[1] = -by_tau * self._along(tau, x)
        jacobian[2] = by_beta
        if self.kind.parallax and self.displacement is not None:
            north, east = self.displacement.north, self.displacement.east
            jacobian[self._parallax.start] = -by_tau * north - by_beta * east
            jacobian[self._parallax.start + 1] = -by_tau * east + by_beta * north
        return value, jacobian

    def _along(self, tau: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """(t - t0) / tE, which is tau without parallax."""
        if not self.kind.parallax or self.displacement is None:
            return tau
        piEN, piEE = x[self._parallax]
        return tau + piEN * self.displacement.north + piEE * self.displacement.east


def _point(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Magnification of a point source (Paczynski 1986, ApJ 304, 1)."""
    return (u * u + 2.0) / (u * np.sqrt(u * u + 4.0))


def _finite(
    u: NDArray[np.float64], rho: float, slope: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Magnification of a finite source and its derivatives by u and ln rho: float64[n] each.

    Moving or widening the disc sweeps its limb over the magnification A of a point source (theorem of Gauss):
    the derivatives are 2 / rho <A cos(phi)> and 2 (<A> - value), with means over the limb, whose squared
    distances to the lens are u^2 + rho^2 + 2 u rho cos(phi). They are smooth, while VBMicrolensing's table
    has a kink at each of its nodes, where fits would stop and errors come out too small. `slope` is the
    derivative of a point source, which serves far away.
    """
    value = finite_source(u, rho)
    near = np.flatnonzero(u < _FAR * rho)
    slope = slope.copy()
    # The quadrupole term goes with rho squared.
    by_rho = 8.0 * (u * u + 1.0) * rho**2 / (u**3 * (u * u + 4.0) ** 2.5)
    across = u[near, None]
    limb = _point(np.sqrt(np.maximum(across**2 + rho**2 + 2.0 * across * rho * _COSINES, (1e-3 * rho) ** 2)))
    slope[near] = 2.0 / rho * (limb @ _COSINES) / len(_COSINES)
    by_rho[near] = 2.0 * (limb.mean(axis=1) - value[near])
    return value, slope, by_rho
