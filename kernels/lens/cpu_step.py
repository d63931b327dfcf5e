"""Levenberg-Marquardt steps on the projected residual of a PSPL, in Numba.

Steps are taken in (t0, ln tE, u0 tE). Where no baseline is seen, chi-square has a long valley of constant
u0 tE, which is straight in these and bent in (t0, ln tE, u0).
"""

import math

import numpy as np

from skytrawl.kernels.jit import njit
from skytrawl.kernels.lens.cpu_sums import N_SUMS, normal, solve
from skytrawl.kernels.lens.types import AT_BOUND, NO_START, NOT_CONVERGED, OK

ATTEMPTS = 12
FIRST_DAMPING, LEAST_DAMPING = 1e-4, 1e-10
# Once less damped than this, a step that gains nothing means that nothing is left to gain.
FREE = 1e-2
# Longest step: of ln tE, of t0 in units of tE, of u0 beyond itself.
LONGEST_TE, LONGEST_T0, LONGEST_U0 = 1.5, 3.0, 1.0
# What rounding leaves of a chi-square, relative to that of the data about their means.
ROUNDING = 1e-12


@njit()
def supported(time, rows, t0, half, least):  # type: ignore[no-untyped-def]
    """Whether `least` rows lie within `half` of t0."""
    count = 0
    for d in range(len(rows) - 1):
        part = time[rows[d] : rows[d + 1]]
        count += np.searchsorted(part, t0 + half, side="right") - np.searchsorted(part, t0 - half)
        if count >= least:
            return True
    return count >= least


@njit()
def _to_scale(matrix, slope, u0, out, down):  # type: ignore[no-untyped-def]
    """Normal equations by (t0, ln tE, u0 tE / tE of now) from those by (t0, ln tE, u0).

    At constant u0 tE, u0 falls by u0 for each e-fold of tE.
    """
    out[:, :], down[:] = matrix, slope
    down[1] -= u0 * slope[2]
    for k in range(3):
        out[1, k] -= u0 * matrix[2, k]
    for k in range(3):
        out[k, 1] -= u0 * out[k, 2]


@njit()
def descend(  # type: ignore[no-untyped-def]
    time, flux, weight, rows, total, square, guard_time, guard_rows, lens, limits, guard, rounds, tolerance,
    sets, matrix,
):  # fmt: skip
    """Lower chi-square from a start until a step gains less than the tolerance.

    Parameters
    ----------
    time, flux, weight, rows, total, square
        As `cpu_sums.normal` takes them; may be bins.
    guard_time, guard_rows
        Times of the single rows, on which the support of t0 is counted.
    lens : float64[3]
        t0, ln tE, u0: the start, and on return the result.
    limits : (float, float, float)
        Floor of u0, least and greatest ln tE.
    guard : (float, int)
        Half width over tE of the stretch around t0 that must hold so many rows.
    rounds : int
        Most steps.
    tolerance : float
    sets : float64[n_sets, 4], filled as `cpu_sums.normal` does
    matrix : float64[3, 3], J^T J at the result

    Returns
    -------
    chi2 : float, infinite without a usable start
    gain : float
        What sources brought over constants, those with negative flux counted negative.
    status : int
    taken : int
        Steps that lowered chi-square.
    """
    floor, low, high = limits
    n_sets = len(rows) - 1
    shift, sums = np.zeros(n_sets), np.zeros((n_sets, N_SUMS))
    slope, step, next_slope, down = np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3)
    next_matrix, next_sets, free = np.zeros((3, 3)), np.zeros((n_sets, 4)), np.zeros((3, 3))
    lens[1] = min(max(lens[1], low), high)
    lens[2] = max(abs(lens[2]), floor)
    tE = math.exp(lens[1])
    if not supported(guard_time, guard_rows, lens[0], guard[0] * tE, guard[1]):
        return np.inf, 0.0, NO_START, 0
    chi2 = normal(
        time, flux, weight, rows, total, square, lens[0], tE, lens[2], shift, sums, sets, matrix, slope
    )
    if not np.isfinite(chi2):
        return np.inf, 0.0, NO_START, 0
    noise = ROUNDING * square.sum()
    damping, taken, status = FIRST_DAMPING, 0, NOT_CONVERGED
    while taken < rounds:
        # What stands at a limit and would go beyond stands still.
        held = (
            False,
            (lens[1] <= low and slope[1] < 0.0) or (lens[1] >= high and slope[1] > 0.0),
            lens[2] <= floor and slope[2] < 0.0,
        )
        bend = 0.0 if held[2] else lens[2]
        _to_scale(matrix, slope, bend, free, down)
        for k in range(3):
            if held[k]:
                free[k, :] = 0.0
                free[:, k] = 0.0
                down[k] = 0.0
        accepted = False
        promised = np.inf
        for _ in range(ATTEMPTS):
            if not solve(free, down, damping, step):
                damping *= 10.0
                continue
            promised = 0.0
            for k in range(3):
                promised += down[k] * step[k]
            longest = max(
                abs(step[1]) / LONGEST_TE,
                abs(step[0]) / (LONGEST_T0 * tE),
                abs(step[2]) / (LONGEST_U0 + lens[2]),
            )
            if longest > 1.0:
                step /= longest
            t0 = lens[0] + step[0]
            log_tE = min(max(lens[1] + step[1], low), high)
            next_tE = math.exp(log_tE)
            ratio = 1.0 if held[2] else tE / next_tE
            u0 = max(abs((lens[2] + step[2]) * ratio), floor)
            if supported(guard_time, guard_rows, t0, guard[0] * next_tE, guard[1]):
                found = normal(
                    time, flux, weight, rows, total, square, t0, next_tE, u0, shift, sums, next_sets,
                    next_matrix, next_slope,
                )  # fmt: skip
                if found < chi2:
                    accepted = True
                    break
            if promised < tolerance + noise:
                break
            damping *= 10.0
        if not accepted:
            if promised < 100.0 * (tolerance + noise):
                status = OK
            break
        gained = chi2 - found
        chi2, tE = found, next_tE
        lens[0], lens[1], lens[2] = t0, log_tE, u0
        matrix[:, :], slope[:], sets[:, :] = next_matrix, next_slope, next_sets
        taken += 1
        free_step = damping <= FREE
        damping = max(0.1 * damping, LEAST_DAMPING)
        if gained < tolerance + noise and free_step:
            status = OK
            break
    if status == OK and (lens[2] <= floor or lens[1] <= low or lens[1] >= high):
        status = AT_BOUND
    gain = 0.0
    for d in range(n_sets):
        gain += sets[d, 0] * abs(sets[d, 0]) * sets[d, 1]
    return chi2, gain, status, taken
