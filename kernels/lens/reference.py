"""The PSPL fit in plain NumPy: slow, and as the formulas are written."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.curves import Curves

Array = NDArray[np.float64]


def magnification(time: Array, t0: float, tE: float, u0: float) -> Array:
    """Magnification of a point source by a point lens (Paczynski 1986, ApJ 304, 1).

    Parameters
    ----------
    time : float64[n], days
    t0, tE : float, days
    u0 : float, Einstein radii

    Returns
    -------
    float64[n]
        (u^2 + 2) / (u sqrt(u^2 + 4)) with u^2 = u0^2 + ((t - t0) / tE)^2.
    """
    u = np.maximum(np.hypot(u0, (time - t0) / tE), 1e-12)
    return np.asarray((u * u + 2) / (u * np.sqrt(u * u + 4)))


def derivatives(time: Array, t0: float, tE: float, u0: float) -> Array:
    """Derivatives of the magnification by t0, ln tE and u0: float64[n, 3]."""
    tau = (time - t0) / tE
    u = np.hypot(u0, tau)
    by_u = -8.0 / (u * u * (u * u + 4.0) ** 1.5)
    return by_u[:, None] * np.stack([-tau / (u * tE), -tau * tau / u, u0 / u], axis=1)


def projected(
    curves: Curves, lens: tuple[float, float, float], jacobian: str = "full"
) -> tuple[Array, Array]:
    """Weighted residual of the first object for its best fluxes, and the Jacobian of that residual.

    Parameters
    ----------
    curves : Curves
    lens : (t0, tE, u0)
    jacobian : {"full", "kaufman"}
        With both terms of Golub & Pereyra (1973, SIAM J. Numer. Anal. 10, 413, eq. 4.2), or the first alone.

    Returns
    -------
    residual : float64[n], (flux - model) / error
    jacobian : float64[n, 3], by (t0, ln tE, u0)
    """
    t0, tE, u0 = lens
    residuals, slopes = [], []
    for d in range(curves.sets[0], curves.sets[1]):
        rows = slice(curves.rows[d], curves.rows[d + 1])
        time, error = curves.time[rows], curves.error[rows]
        basis = np.stack([magnification(time, t0, tE, u0), np.ones(len(time))], axis=1) / error[:, None]
        inverse = np.linalg.pinv(basis)
        fluxes = inverse @ (curves.flux[rows] / error)
        residual = curves.flux[rows] / error - basis @ fluxes
        change = derivatives(time, t0, tE, u0) / error[:, None]
        slope = -fluxes[0] * (change - basis @ (inverse @ change))
        if jacobian == "full":
            slope -= inverse[0][:, None] * (change.T @ residual)[None, :]
        residuals.append(residual)
        slopes.append(slope)
    return np.concatenate(residuals), np.concatenate(slopes)


def fit(curves: Curves, lens: tuple[float, float, float], rounds: int = 100) -> tuple[Array, float, Array]:
    """Fit the first object from a start by damped Gauss-Newton steps.

    Returns
    -------
    lens : float64[3], t0, tE, abs(u0)
    chi2 : float
    covariance : float64[3, 3], by (t0, tE, u0)
    """
    at = np.array([lens[0], np.log(lens[1]), lens[2]])

    def evaluate(q: Array) -> tuple[float, Array, Array]:
        residual, jacobian = projected(curves, (q[0], float(np.exp(q[1])), q[2]), "kaufman")
        return float(residual @ residual), residual, jacobian

    chi2, residual, jacobian = evaluate(at)
    damping = 1e-3
    for _ in range(rounds):
        square = jacobian.T @ jacobian
        step = np.linalg.solve(square + damping * np.diag(np.diag(square)), -jacobian.T @ residual)
        found = evaluate(at + step)
        if found[0] < chi2:
            gained = chi2 - found[0]
            at, (chi2, residual, jacobian), damping = at + step, found, 0.1 * damping
            if gained < 1e-10:
                break
        else:
            damping *= 10
            if damping > 1e12:
                break
    scale = np.diag([1.0, np.exp(at[1]), 1.0])
    covariance = scale @ np.linalg.inv(jacobian.T @ jacobian) @ scale
    return np.array([at[0], np.exp(at[1]), abs(at[2])]), chi2, covariance
