"""Light of what changes: variable stars, supernovae, novae, at any times."""

import numpy as np

from skytrawl.catalogs.simulate_curves import CLASSES, PARAMETERS, Sight, Values

# Units and meanings of the parameters that truth tables hold beside those of light-curve simulations.
NOVA = {"t2": ("d", "time in which a nova fades by 2 mag")}
UNITS = {name: unit for name, (unit, _) in (PARAMETERS | NOVA).items()}
VARIABLES = ("sine", "rrlyrae", "eclipse", "flare")
TRANSIENTS = ("supernova", "nova")
# Share of each class among variable stars.
_SHARES = (0.45, 0.2, 0.25, 0.1)
# F ~ (1 + t / tau)^-1.75: the law of decline of novae, Hachisu and Kato 2006, ApJS 167, 59, equation 44.
_DECLINE = 1.75
_TWO_MAGNITUDES = 10.0 ** (0.8 / _DECLINE) - 1.0


def draw_nova(generator: np.random.Generator, count: int, sight: Sight) -> Values:
    """Rise of 0.5 to 3 d, 2 mag of decline in 5 to 60 d."""
    return {
        "t0": sight.moments(generator, count, 20.0),
        "rise": generator.uniform(0.5, 3.0, count),
        "t2": np.exp(generator.uniform(np.log(5.0), np.log(60.0), count)),
        "peak": generator.uniform(sight.bright, sight.faint, count),
    }


def nova(flux: np.ndarray, sight: Sight, values: Values) -> np.ndarray:
    """A linear rise in flux to the maximum, then the universal decline of free-free emission."""
    age = sight.time - values["t0"][:, None]
    rising = np.clip(1.0 + age / values["rise"][:, None], 0.0, 1.0)
    falling = (1.0 + np.maximum(age, 0.0) * _TWO_MAGNITUDES / values["t2"][:, None]) ** -_DECLINE
    peak = 10 ** (-0.4 * (values["peak"][:, None] - sight.zero_point))
    return np.asarray(flux + peak * rising * falling)


ALL = CLASSES | {"nova": (draw_nova, nova)}


def variable_classes(generator: np.random.Generator, count: int) -> list[str]:
    """Classes of variable stars, in the usual shares."""
    return list(generator.choice(VARIABLES, count, p=_SHARES))


def curves(
    generator: np.random.Generator, classes: list[str], quiescent: np.ndarray, sight: Sight
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Fluxes of objects at the times of a sight, with random parameters.

    Parameters
    ----------
    generator : numpy.random.Generator
    classes : list of str
        Class of each object, a key of ALL.
    quiescent : float64 array of shape (n,)
        Flux without the change, nJy; 0 for transients.
    sight : Sight
        With the zero point of 1 nJy.

    Returns
    -------
    flux : float64 array of shape (n, times)
        nJy.
    parameters : dict of float64 arrays of shape (n,)
        NaN where a class lacks one.
    """
    flux = np.empty((len(classes), len(sight.time)))
    found: dict[str, np.ndarray] = {}
    kinds = np.array(classes, dtype=object)
    for name in ALL:
        rows = np.flatnonzero(kinds == name)
        if not len(rows):
            continue
        draw, light = ALL[name]
        values = draw(generator, len(rows), sight)
        still = np.broadcast_to(quiescent[rows, None], (len(rows), len(sight.time)))
        flux[rows] = light(still, sight, values)
        for key, value in values.items():
            found.setdefault(key, np.full(len(classes), np.nan))[rows] = value
    return flux, found
