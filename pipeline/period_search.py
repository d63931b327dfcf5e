"""Periods of one object: Lomb-Scargle through nifty-ls, box least squares through astropy.

Both are read as the part of the chi-square about the weighted mean that a periodic model removes, so that
data sets of one object add up: each has its own mean and series (the multi-phase periodogram of VanderPlas &
Ivezić 2015, ApJ 812, 18), or its own box, at a common period. Frequencies in 1/d, times in days.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

# Frequencies a call of nifty-ls: its work space stays below 20 MB at three harmonics, and in the cache.
SLAB = 1 << 16
# Numbers in the design matrices of one round of exact fits.
_CHUNK = 1 << 20


class DataSet(NamedTuple):
    """Rows of one band, ordered by time; times count from the first row of the object.

    `chi2` is the weighted sum of squares about the weighted mean.
    """

    time: Floats
    value: Floats
    error: Floats
    chi2: float


class Peaks(NamedTuple):
    """Peaks of a periodogram, best first: float64[n] each; power is the removed part of the chi-square."""

    frequency: Floats
    power: Floats


def data_set(time: Floats, value: Floats, error: Floats) -> DataSet:
    """Rows of one band with their chi-square about the weighted mean."""
    # The largest weight is 1: no unit of the values can leave the range of the numbers.
    mean = np.average(value, weights=np.square(np.min(error) / error))
    with np.errstate(over="ignore"):
        chi2 = float(np.sum(np.square((value - mean) / error))) if np.ptp(value) > 0 else 0.0
    columns = [np.ascontiguousarray(column, np.float64) for column in (time, value - mean, error)]
    return DataSet(columns[0], columns[1], columns[2], chi2)


def lomb_scargle(sets: Sequence[DataSet], first: float, step: float, count: int, n_terms: int) -> Floats:
    """Part of the chi-square that Fourier series with floating means remove.

    Parameters
    ----------
    sets : sequence of DataSet
    first, step : float, 1/d
        The grid is ``first + step * arange(count)``.
    count : int
    n_terms : int
        Harmonics of the series.

    Returns
    -------
    float64 array of shape (count,)
        In 0 to 1; 0 where the design is singular.
    """
    import nifty_ls

    removed = np.zeros(count)
    for group in _same_times(sets):
        time = group[0].time
        values, errors = (np.stack([getattr(each, name) for each in group]) for name in ("value", "error"))
        errors /= errors.min(axis=1, keepdims=True)
        weights = np.array([each.chi2 for each in group])
        for start in range(0, count, SLAB):
            size = min(SLAB, count - start)
            # nifty-ls needs two frequencies at least.
            length, low = max(size, 2), first + step * start
            power = nifty_ls.lombscargle(
                time,
                values,
                errors,
                fmin=low,
                fmax=low + step * (length - 1),
                Nf=length,
                nterms=n_terms,
                nthreads=1,
                backend="finufft_chi2" if n_terms > 1 else "finufft",
            ).power
            power = np.where((power >= 0) & (power <= 1 + 1e-6), power, 0.0)
            removed[start : start + size] += weights @ np.atleast_2d(power)[:, :size]
    return removed / sum(each.chi2 for each in sets)


def exact_power(sets: Sequence[DataSet], frequency: Floats, n_terms: int) -> Floats:
    """The same at any frequencies, by normal equations: float64 array of the shape of `frequency`."""
    removed = np.zeros(len(frequency))
    for each in sets:
        weight = np.square(each.error.min() / each.error)
        weight /= weight.sum()
        spread = np.sum(weight * each.value**2)
        size = max(1, _CHUNK // (len(each.time) * (2 * n_terms + 1)))
        for start in range(0, len(frequency), size):
            part = slice(start, start + size)
            design = series(each.time, frequency[part], n_terms)
            coefficients, right = solve(design, weight, each.value)
            gain = np.clip((coefficients * right).sum(-1) / spread, 0, 1)
            removed[part] += each.chi2 * gain
    return removed / sum(each.chi2 for each in sets)


def series(time: Floats, frequency: Floats, n_terms: int) -> Floats:
    """Design matrices of Fourier series: float64[n_frequency, n_time, 2 * n_terms + 1], a constant first."""
    phase = 2 * np.pi * (frequency[:, None] * time[None, :])
    harmonics = np.arange(1, n_terms + 1) * phase[..., None]
    return np.concatenate([np.ones((*phase.shape, 1)), np.cos(harmonics), np.sin(harmonics)], axis=-1)


def solve(design: Floats, weight: Floats, value: Floats) -> tuple[Floats, Floats]:
    """Weighted least squares of a stack of designs: coefficients and right-hand sides, [n, terms] each."""
    weighted = np.swapaxes(design * weight[:, None], -1, -2)
    # So small a ridge changes only singular designs, such as whole numbers of cycles between all rows.
    normal = weighted @ design + 1e-10 * np.eye(design.shape[-1])
    right = weighted @ value
    return np.linalg.solve(normal, right[..., None])[..., 0], right


def amplitude(each: DataSet, frequency: float, n_terms: int) -> float:
    """Half of the peak-to-peak range of the fitted series, in units of the values."""
    weight = np.square(each.error.min() / each.error)
    design = series(each.time, np.array([frequency]), n_terms)
    coefficients, _ = solve(design, weight / weight.sum(), each.value)
    phases = np.arange(256) / 256
    curve = series(phases, np.ones(1), n_terms)[0] @ coefficients[0]
    return float(np.ptp(curve) / 2)


def highest(power: Floats, frequency: Floats, width: float, count: int) -> Peaks:
    """The `count` highest local maxima that lie at least `width` (1/d) apart, none of them 0."""
    padded = np.concatenate([[-1.0], power, [-1.0]])
    top = np.flatnonzero((power >= padded[:-2]) & (power > padded[2:]) & (power > 0))
    chosen: list[int] = []
    for index in top[np.argsort(-power[top], kind="stable")]:
        if all(abs(frequency[index] - frequency[other]) >= width for other in chosen):
            chosen.append(int(index))
            if len(chosen) == count:
                break
    return Peaks(frequency[chosen], power[chosen])


def refine(sets: Sequence[DataSet], frequency: Floats, step: float, n_terms: int) -> Peaks:
    """Best frequency within one step of each of the given ones, by exact fits; in the order given."""
    around = step * np.linspace(-1, 1, 8 * n_terms + 1)
    trial = np.abs(frequency[:, None] + around)
    power = exact_power(sets, trial.ravel(), n_terms).reshape(trial.shape)
    best = (np.arange(len(trial)), power.argmax(axis=1))
    return Peaks(trial[best], power[best])


def false_alarm(each: DataSet, power: float, max_frequency: float) -> float:
    """Probability that white noise has so high a peak below `max_frequency`, one harmonic (Baluev 2008).

    MNRAS 385, 1279, equations 5 and 6 and table 1, as astropy has them.
    """
    from astropy.timeseries import LombScargle

    found = LombScargle(each.time, each.value, each.error).false_alarm_probability(
        min(power, 1.0), method="baluev", maximum_frequency=max_frequency
    )
    return float(np.clip(found, 0, 1))


class Boxes(NamedTuple):
    """Box least squares of one object over periods.

    Attributes
    ----------
    power : float64[n_periods], removed part of the chi-square
    depth : float64[n_sets, n_periods], in units of the values; positive
    duration, middle : float64[n_periods], d
        Of the data set with the largest gain; `middle` counts from the first row of the object.
    """

    power: Floats
    depth: Floats
    duration: Floats
    middle: Floats


def boxes(sets: Sequence[DataSet], period: Floats, durations: Sequence[float]) -> Boxes:
    """Part of the chi-square that periodic dips remove, by astropy's BoxLeastSquares (Kovács et al. 2002).

    The squared signal-to-noise ratio of the depth is the gain of the box over the weighted mean.
    """
    from astropy.timeseries import BoxLeastSquares

    gain = np.zeros((len(sets), len(period)))
    depth, duration, middle = np.zeros_like(gain), np.zeros_like(gain), np.zeros_like(gain)
    for row, each in enumerate(sets):
        found = BoxLeastSquares(each.time, each.value, each.error).power(
            period, list(durations), objective="snr"
        )
        good = np.isfinite(found.depth_snr) & (found.depth > 0)
        gain[row] = np.where(good, np.square(found.depth_snr), 0.0)
        depth[row] = np.where(good, found.depth, np.nan)
        duration[row], middle[row] = found.duration, found.transit_time
    best = (gain.argmax(axis=0), np.arange(len(period)))
    power = np.clip(gain.sum(axis=0) / sum(each.chi2 for each in sets), 0, 1)
    return Boxes(power, depth, duration[best], middle[best])


def _same_times(sets: Sequence[DataSet]) -> list[list[DataSet]]:
    """Data sets with the same times together: nifty-ls shares their set-up."""
    groups: list[list[DataSet]] = []
    for each in sets:
        for group in groups:
            if np.array_equal(group[0].time, each.time):
                group.append(each)
                break
        else:
            groups.append([each])
    return groups
