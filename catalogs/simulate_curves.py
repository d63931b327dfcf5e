"""Classes of simulated objects: what their parameters are, how they are drawn, and their light.

A class is two functions. ``draw`` chooses parameters for some objects; the truth table keeps them. ``light``
turns the quiescent flux into that of the class at every exposure. Rates and distributions are chosen so that
every class can be seen in the survey; none is meant as a measurement of nature.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from skytrawl.catalogs.simulate_lens import paczynski, planetary

# Column of the truth table -> unit, meaning.
PARAMETERS: dict[str, tuple[str, str]] = {
    "t0": (
        "d",
        "MJD of phase 0 (sine), of maximum (rrlyrae, supernova, flare), mid-eclipse, closest approach",
    ),
    "period": ("d", "period of sine, rrlyrae, eclipse"),
    "amplitude": ("mag", "half (sine) or whole (rrlyrae) range at 550 nm; falls as wavelength**-0.5"),
    "depth": ("", "share of the flux lost in the middle of the primary eclipse"),
    "depth2": ("", "the same for the secondary eclipse"),
    "width": ("", "length of an eclipse, share of the period"),
    "rise": ("d", "time scale of the rise of a supernova"),
    "fall": ("d", "time scale of its decline"),
    "peak": ("mag", "magnitude of a supernova alone at maximum, in every band"),
    "t_e": ("d", "Einstein time"),
    "u0": ("", "closest approach in Einstein radii, to the centre of mass"),
    "blend": ("", "share of the quiescent flux that is lensed"),
    "s": ("", "separation of planet and star in Einstein radii"),
    "q": ("", "mass ratio of planet and star"),
    "alpha": ("rad", "direction of the source's motion against the axis from star to planet"),
    "fwhm": ("d", "full width of a flare at half maximum"),
    "flare": ("", "excess of a flare at maximum at 550 nm, in quiescent fluxes; falls as wavelength**-3"),
}
_RISE_SHARE = 0.15  # of the period of an RR Lyrae star
_INGRESS = 0.4  # of half an eclipse
# Davenport et al. 2014, ApJ 797, 122, table 1: polynomial of the rise, two exponentials of the decay.
_FLARE_RISE = (1.0, 1.941, -0.175, -2.246, -1.125)
_FLARE_DECAY = ((0.6890, 1.600), (0.3030, 0.2783))

Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class Sight:
    """What a class needs to know of the exposures of a field.

    Attributes
    ----------
    time : float64 array of shape (n,)
        MJD.
    redness : float64 array of shape (n,)
        Wavelength over 550 nm.
    bright, faint : float
        Magnitudes between which a transient peaks.
    zero_point : float
        Magnitude of a flux of 1.
    """

    time: np.ndarray
    redness: np.ndarray
    bright: float
    faint: float
    zero_point: float

    def moments(self, generator: np.random.Generator, count: int, spread: float) -> np.ndarray:
        """Times within `spread` days of some exposure: uniform over the seasons, never in the gaps."""
        near = self.time[generator.integers(0, len(self.time), count)]
        return near + generator.uniform(-spread, spread, count)


Draw = Callable[[np.random.Generator, int, Sight], Values]
Light = Callable[[np.ndarray, Sight, Values], np.ndarray]


def _column(values: Values, name: str) -> np.ndarray:
    return values[name][:, None]


def _phase(sight: Sight, values: Values) -> np.ndarray:
    turns = (sight.time - _column(values, "t0")) / _column(values, "period")
    return turns - np.floor(turns)


def draw_sine(generator: np.random.Generator, count: int, sight: Sight) -> Values:
    """Periods from 0.2 to 100 d, amplitudes from 0.05 to 0.6 mag."""
    period = 10 ** generator.uniform(-0.7, 2.0, count)
    return {
        "period": period,
        "t0": sight.time[0] + period * generator.random(count),
        "amplitude": generator.uniform(0.05, 0.6, count),
    }


def sine(flux: np.ndarray, sight: Sight, values: Values) -> np.ndarray:
    """Magnitude plus amplitude times the sine of the phase."""
    wave = np.sin(2 * np.pi * _phase(sight, values)) * _column(values, "amplitude")
    return flux * 10 ** (-0.4 * wave / np.sqrt(sight.redness))


def draw_rrlyrae(generator: np.random.Generator, count: int, sight: Sight) -> Values:
    """Periods of 0.57 d with a spread of 15 %, amplitudes from 0.4 to 1.1 mag."""
    period = 0.57 * np.exp(0.15 * generator.standard_normal(count))
    return {
        "period": period,
        "t0": sight.time[0] + period * generator.random(count),
        "amplitude": generator.uniform(0.4, 1.1, count),
    }


def rrlyrae(flux: np.ndarray, sight: Sight, values: Values) -> np.ndarray:
    """A sawtooth in magnitude, brightest at phase 0, 15 % of the period in rising."""
    phase = _phase(sight, values)
    tooth = np.minimum(phase / (1 - _RISE_SHARE), (1 - phase) / _RISE_SHARE) - 0.5
    return flux * 10 ** (-0.4 * tooth * _column(values, "amplitude") / np.sqrt(sight.redness))


def draw_eclipse(generator: np.random.Generator, count: int, sight: Sight) -> Values:
    """Periods around 2 d, depths from 0.1 to 0.6, the secondary eclipse shallower."""
    period = 2 * np.exp(0.8 * generator.standard_normal(count))
    depth = generator.uniform(0.1, 0.6, count)
    return {
        "period": period,
        "t0": sight.time[0] + period * generator.random(count),
        "depth": depth,
        "depth2": depth * generator.uniform(0.05, 0.9, count),
        "width": generator.uniform(0.04, 0.16, count),
    }


def eclipse(flux: np.ndarray, sight: Sight, values: Values) -> np.ndarray:
    """Two trapezoids a period, the secondary at phase 0.5, the same in all bands."""
    phase = _phase(sight, values)
    half = _column(values, "width") / 2
    lost = np.zeros_like(phase)
    for centre, depth in ((0.0, "depth"), (0.5, "depth2")):
        away = np.abs(phase - centre)
        away = np.minimum(away, 1 - away)
        lost += _column(values, depth) * np.clip((half - away) / (_INGRESS * half), 0, 1)
    return flux * (1 - lost)


def draw_supernova(generator: np.random.Generator, count: int, sight: Sight) -> Values:
    """Rise of 3 to 6 d, decline of 15 to 40 d."""
    return {
        "t0": sight.moments(generator, count, 20.0),
        "rise": generator.uniform(3, 6, count),
        "fall": generator.uniform(15, 40, count),
        "peak": generator.uniform(sight.bright, sight.faint, count),
    }


def supernova(flux: np.ndarray, sight: Sight, values: Values) -> np.ndarray:
    """The shape of Bazin et al. 2009, A&A 499, 653, added to the host, the same in all bands."""
    rise, fall = _column(values, "rise"), _column(values, "fall")
    top = rise * np.log(fall / rise - 1)
    age = sight.time - _column(values, "t0") + top
    shape = np.exp(np.logaddexp(0, -top / rise) - np.logaddexp(0, -age / rise) + (top - age) / fall)
    return flux + 10 ** (-0.4 * (_column(values, "peak") - sight.zero_point)) * shape


def draw_microlensing(generator: np.random.Generator, count: int, sight: Sight) -> Values:
    """Einstein times around 20 d, u0 up to 1, blends of 0.2 to 1."""
    return {
        "t0": sight.moments(generator, count, 5.0),
        "t_e": 20 * np.exp(0.8 * generator.standard_normal(count)),
        "u0": generator.uniform(0.0, 1.0, count),
        "blend": generator.uniform(0.2, 1.0, count),
    }


def microlensing(flux: np.ndarray, sight: Sight, values: Values) -> np.ndarray:
    """A point source behind a single lens, blended alike in all bands."""
    tau = (sight.time - _column(values, "t0")) / _column(values, "t_e")
    return flux * (1 + _column(values, "blend") * (paczynski(np.hypot(tau, _column(values, "u0"))) - 1))


def draw_planet(generator: np.random.Generator, count: int, sight: Sight) -> Values:
    """As microlensing with u0 below 0.7; s of 0.6 to 1.7, q of 1e-4 to 1e-2, both uniform in log.

    In a random direction most planets leave no trace. The source therefore aims at a point within one
    Einstein radius of the planet (sqrt(q)) of the planetary caustic at s - 1/s, or, where its path at u0
    cannot get there, comes as near as it can.
    """
    values = draw_microlensing(generator, count, sight)
    values["u0"] = generator.uniform(0.0, 0.7, count)
    s = 10 ** generator.uniform(np.log10(0.6), np.log10(1.7), count)
    q = 10 ** generator.uniform(-4, -2, count)
    # From the centre of mass to the caustic, and how far from it the source passes.
    caustic = s - 1 / s - s * q / (1 + q)
    missed = generator.uniform(-1, 1, count) * np.sqrt(q)
    with np.errstate(divide="ignore", invalid="ignore"):
        sine_of = np.nan_to_num(np.clip((missed - values["u0"]) / caustic, -1, 1), nan=1.0)
    alpha = np.arcsin(sine_of)
    back = generator.random(count) < 0.5
    return values | {"s": s, "q": q, "alpha": np.where(back, np.pi - alpha, alpha)}


def planet(flux: np.ndarray, sight: Sight, values: Values) -> np.ndarray:
    """A point source behind a star and its planet, see `simulate_lens.planetary`; no orbital motion."""
    tau = (sight.time - _column(values, "t0")) / _column(values, "t_e")
    result = np.empty_like(tau)
    for row, (s, q, alpha, u0) in enumerate(
        zip(values["s"], values["q"], values["alpha"], values["u0"], strict=True)
    ):
        y1 = tau[row] * np.cos(alpha) - u0 * np.sin(alpha)
        y2 = tau[row] * np.sin(alpha) + u0 * np.cos(alpha)
        result[row] = planetary(y1, y2, s, q)
    return flux * (1 + _column(values, "blend") * (result - 1))


def draw_flare(generator: np.random.Generator, count: int, sight: Sight) -> Values:
    """One flare a star, that some exposure catches in its first width; 5 minutes to 3 hours wide."""
    fwhm = np.exp(generator.uniform(np.log(5 / 1440), np.log(3 / 24), count))
    caught = sight.time[generator.integers(0, len(sight.time), count)]
    return {
        "t0": caught - fwhm * generator.random(count),
        "fwhm": fwhm,
        "flare": np.exp(generator.uniform(np.log(0.5), np.log(10.0), count)),
    }


def flare(flux: np.ndarray, sight: Sight, values: Values) -> np.ndarray:
    """The template of Davenport et al. 2014, bluer than the star."""
    age = (sight.time - _column(values, "t0")) / _column(values, "fwhm")
    shape = np.zeros_like(age)
    rising, falling = (age > -1) & (age <= 0), age > 0
    # The polynomial ends a little off zero at age -1.
    shape[rising] = np.maximum(np.polynomial.polynomial.polyval(age[rising], _FLARE_RISE), 0)
    shape[falling] = sum(share * np.exp(-rate * age[falling]) for share, rate in _FLARE_DECAY)
    return flux * (1 + _column(values, "flare") * shape * sight.redness**-3)


# Order and names never change: the values of a seed depend on them.
CLASSES: dict[str, tuple[Draw, Light]] = {
    "sine": (draw_sine, sine),
    "rrlyrae": (draw_rrlyrae, rrlyrae),
    "eclipse": (draw_eclipse, eclipse),
    "supernova": (draw_supernova, supernova),
    "microlensing": (draw_microlensing, microlensing),
    "microlensing-planet": (draw_planet, planet),
    "flare": (draw_flare, flare),
}
