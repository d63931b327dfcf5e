"""Where the fits with a finite source and with parallax begin: from fitted point lenses."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.lens.parallax import Displacement

# Radii of the source over u0 of the point lens, each with the u0 (over that of the point lens) that goes with
# it: a source larger than u0 flattens the peak, and the point lens answers with a larger u0.
_RADII = ((1.0, 0.8), (1.7, 0.3), (0.4, 1.0))


def of_source(lens: NDArray[np.float64], log_rho: float) -> list[NDArray[np.float64]]:
    """Starts (t0, ln tE, u0, ln rho) from a point lens (t0, ln tE, u0), with small and large radii."""
    size = max(abs(float(lens[2])), 1e-6)
    starts = [np.append(lens, log_rho)]
    for radius, u0 in _RADII:
        start = np.append(lens, np.log(radius * size))
        start[2] = u0 * size
        starts.append(start)
    return starts


def usual(lens: NDArray[np.float64], least_u0: float) -> list[NDArray[np.float64]]:
    """A point lens, and where its u0 is above 1 or at its floor, lenses with usual u0 of the same width.

    That is how a point lens answers to a light curve that is none: bent by parallax, or flat at the top.
    """
    u0 = abs(float(lens[2]))
    if 2.0 * least_u0 < u0 <= 1.0:
        return [lens]
    width = lens[1] + np.log(max(u0, 0.3))
    others = [(width + np.log(factor), size) for size in (0.1, 0.5) for factor in (1.0, 3.0)]
    return [lens, *(np.array([lens[0], log_tE, size, *lens[3:]]) for log_tE, size in others)]


def of_parallax(
    lens: NDArray[np.float64], seeds: tuple[tuple[float, float], ...]
) -> list[NDArray[np.float64]]:
    """Starts with (piEN, piEE) appended, for both signs of u0."""
    starts = []
    for seed in seeds:
        for sign in (1.0, -1.0):
            start = np.append(lens, seed)
            start[2] *= sign
            starts.append(start)
    return starts


def of_both_places(
    ground: NDArray[np.float64],
    space: NDArray[np.float64],
    displacement: Displacement,
    rows: NDArray[np.bool_],
    source: float | None,
) -> list[NDArray[np.float64]]:
    """Starts from one point lens as seen from the Earth and one as seen from a telescope in space.

    Their differences of t0 / tE and u0 over the distance of the observers are the parallax; the signs of
    both u0 are unknown, which makes four (Refsdal 1966, MNRAS 134, 315; Gould 1994, ApJ 421, L75).

    Parameters
    ----------
    ground, space : float64[3]
        t0 (days after the reference time), ln tE, u0.
    displacement : Displacement
    rows : bool[n], those of the telescope in space
    source : float or None
        ln rho, if the model has it.

    Returns
    -------
    list of float64[n_params]
    """
    where = np.flatnonzero(rows)
    days, order = displacement.time[where], np.argsort(displacement.time[where])
    north, east = (
        float(np.interp(displacement.moment(float(space[0])), days[order], axis[where][order]))
        for axis in (displacement.north, displacement.east)
    )
    if np.hypot(north, east) < 1e-4:
        return []
    tE = float(np.exp(ground[1]))
    along = (float(space[0]) - float(ground[0])) / tE
    starts = []
    for u0 in (float(ground[2]), -float(ground[2])):
        for seen in (float(space[2]), -float(space[2])):
            across = seen - u0
            # tau = 0 and beta = seen at the peak in space, solved for the parallax.
            pi = np.array([along * north - across * east, along * east + across * north])
            pi /= north**2 + east**2
            lens = [ground[0], ground[1], u0, *([] if source is None else [source]), *pi]
            starts.append(np.array(lens, np.float64))
    return starts


def mirrored(x: NDArray[np.float64], displacement: Displacement) -> NDArray[np.float64]:
    """The other side of the lens: u0 and the parallax across the observer's acceleration change sign.

    Exact for an observer who is accelerated along a line (Smith, Mao & Paczynski 2003, MNRAS 339, 925; for
    stars near the ecliptic Skowron et al. 2011, ApJ 738, 87). The line is the main axis of displacements.
    """
    spread = np.array([displacement.north, displacement.east])
    spread = spread[:, np.isfinite(spread).all(axis=0)]
    axis = np.linalg.eigh(spread @ spread.T)[1][:, -1]
    other = x.copy()
    other[2] = -x[2]
    other[-2:] = 2.0 * axis * (axis @ x[-2:]) - x[-2:]
    return other
