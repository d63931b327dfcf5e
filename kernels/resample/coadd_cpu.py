"""Mean of a stack of exposures without what is in one of them only, in Numba."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels import flags
from skytrawl.kernels.jit import njit
from skytrawl.kernels.resample.rejection import GROW, GROWN, MEDIAN, SKY, Rejection

UNUSABLE = np.uint16(flags.UNUSABLE)
NO_DATA = np.uint16(flags.NO_DATA)
SUSPECT = np.uint16(flags.SUSPECT)


@njit()
def _middles(values, spreads, masks, middle, level, noise):  # type: ignore[no-untyped-def]
    """Write medians, the part of them above the noise, and the variance that they have at least."""
    n, ny, nx = values.shape
    found = np.empty(n)
    for i in range(ny):
        for j in range(nx):
            count, least = 0, np.inf
            for e in range(n):
                if masks[e, i, j] & UNUSABLE == 0:
                    value, k = float(values[e, i, j]), count
                    while k > 0 and found[k - 1] > value:
                        found[k] = found[k - 1]
                        k -= 1
                    found[k] = value
                    count += 1
                    least = min(least, float(spreads[e, i, j]))
            if count == 0:
                middle[i, j], level[i, j], noise[i, j] = np.nan, 0.0, 0.0
                continue
            m, other = found[(count - 1) // 2], found[count // 2]
            if abs(other) < abs(m):
                m = other
            noise[i, j] = MEDIAN * least / count
            middle[i, j] = m
            level[i, j] = max(0.0, m - SKY * np.sqrt(noise[i, j]))


@njit()
def _outliers(values, spreads, masks, middle, level, noise, clip, slack, first, rejected):  # type: ignore[no-untyped-def]
    """Mark pixels off the median, and their neighbours that are less so."""
    n, ny, nx = values.shape
    excess = np.zeros((ny, nx))
    for i in range(ny):
        for j in range(nx):
            most = 0.0
            for k in range(max(i - 1, 0), min(i + 2, ny)):
                for m in range(max(j - 1, 0), min(j + 2, nx)):
                    most = max(most, level[k, m])
            excess[i, j] = slack * most
    for e in range(n):
        some = False
        for i in range(ny):
            for j in range(nx):
                first[i, j] = 0
                if masks[e, i, j] & UNUSABLE == 0:
                    away = abs(values[e, i, j] - middle[i, j]) - excess[i, j]
                    sigma = np.sqrt(spreads[e, i, j] + noise[i, j])
                    if away > clip * sigma:
                        first[i, j], some = 2, True
                    elif away > GROWN * sigma:
                        first[i, j] = 1
        if not some:
            continue
        for i in range(ny):
            for j in range(nx):
                if first[i, j] != 2:
                    continue
                for k in range(max(i - GROW, 0), min(i + GROW + 1, ny)):
                    for m in range(max(j - GROW, 0), min(j + GROW + 1, nx)):
                        if first[k, m] != 0:
                            rejected[e, k, m] = True


@njit()
def _mean(values, spreads, masks, weights, rejected, image, variance, mask, used, dropped):  # type: ignore[no-untyped-def]
    n, ny, nx = values.shape
    for i in range(ny):
        for j in range(nx):
            total, value, spread = 0.0, 0.0, 0.0
            count, lost = 0, 0
            good, bad = np.uint16(0), np.uint16(0)
            for e in range(n):
                bit = masks[e, i, j]
                if bit & UNUSABLE:
                    bad |= bit
                elif rejected[e, i, j]:
                    lost += 1
                else:
                    w = weights[e]
                    total += w
                    value += w * values[e, i, j]
                    spread += w * w * spreads[e, i, j]
                    good |= bit
                    count += 1
            used[i, j], dropped[i, j] = count, lost
            if count == 0:
                image[i, j], variance[i, j], mask[i, j] = np.nan, np.nan, bad | NO_DATA
                continue
            image[i, j], variance[i, j] = value / total, spread / (total * total)
            mask[i, j] = good | SUSPECT if lost else good


def combine(
    values: NDArray[np.float32],
    spreads: NDArray[np.float32],
    masks: NDArray[np.uint16],
    weights: NDArray[np.float64],
    rejection: Rejection,
) -> tuple[NDArray[Any], ...]:
    """Image, variance, mask, numbers of exposures used and rejected; see `coadd.Coadd`."""
    shape = values.shape[1:]
    middle, level, noise = (np.empty(shape) for _ in range(3))
    rejected = np.zeros(values.shape, np.bool_)
    if rejection.clip is not None:
        _middles(values, spreads, masks, middle, level, noise)
        scratch = np.zeros(shape, np.uint8)
        _outliers(
            values, spreads, masks, middle, level, noise, rejection.clip, rejection.slack, scratch, rejected
        )
    out = (
        np.empty(shape, np.float32),
        np.empty(shape, np.float32),
        np.empty(shape, np.uint16),
        np.empty(shape, np.uint16),
        np.empty(shape, np.uint16),
    )
    _mean(values, spreads, masks, weights, rejected, *out)
    return out
