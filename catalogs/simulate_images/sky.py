"""The sky over a simulated field: stars, galaxies, what varies, explodes or moves."""

from dataclasses import dataclass

import numpy as np

from skytrawl.catalogs.simulate_curves import Sight
from skytrawl.catalogs.simulate_images.light import TRANSIENTS, curves, variable_classes
from skytrawl.catalogs.simulate_images.surveys import NJY, ImageBand, ImageModel

Columns = dict[str, np.ndarray]
TYPE = "S16"
# Magnitudes beyond the depth that are still drawn.
_DEEPER = 1.0
# Main-belt asteroids near opposition, arcsec an hour.
_SPEED = (20.0, 60.0)


@dataclass(frozen=True)
class Sky:
    """Everything that a simulated field holds.

    Attributes
    ----------
    stars : dict of arrays of shape (n,)
        id, type, ra, dec (degrees), flux (nJy).
    galaxies : dict of arrays of shape (n,)
        The same, and half_light (arcsec, semi-major axis), axis_ratio, angle (degrees, north through east),
        index (Sersic).
    changing : dict of arrays of shape (n,)
        Variable stars, supernovae and novae: id, type, ra, dec, flux (quiescent), host (id of a galaxy, -1
        without), and the parameters of their light curves.
    moving : dict of arrays of shape (n,)
        id, type, ra, dec (at `epoch`, MJD), flux, speed_ra, speed_dec (arcsec an hour on the sky).
    light : float64 array of shape (changing, exposures)
        nJy.
    """

    stars: Columns
    galaxies: Columns
    changing: Columns
    moving: Columns
    light: np.ndarray


@dataclass(frozen=True)
class Field:
    """Where and when is looked.

    Attributes
    ----------
    centre : tuple of float
        Right ascension, declination, degrees.
    radius : float
        Half the side of the square that may be seen, degrees.
    mjd : float64 array of shape (exposures,)
        Middle of each exposure.
    """

    centre: tuple[float, float]
    radius: float
    mjd: np.ndarray


def magnitudes(
    generator: np.random.Generator, count: int, slope: float, bright: float, faint: float
) -> np.ndarray:
    """Magnitudes whose counts grow as 10^(slope m)."""
    low, high = 10 ** (slope * bright), 10 ** (slope * faint)
    return np.asarray(np.log10(generator.uniform(low, high, count)) / slope)


def flux_of(magnitude: np.ndarray) -> np.ndarray:
    """NJy of AB magnitudes."""
    return np.asarray(10 ** (-0.4 * (magnitude - NJY)))


def scattered(generator: np.random.Generator, count: int, where: Field) -> tuple[np.ndarray, np.ndarray]:
    """Positions uniform over the field, degrees."""
    ra, dec = where.centre
    y = generator.uniform(-where.radius, where.radius, count)
    x = generator.uniform(-where.radius, where.radius, count)
    return offset(ra, dec, x, y)


def offset(
    ra: np.ndarray | float, dec: np.ndarray | float, east: np.ndarray, north: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positions at distances (degrees) in the tangent plane; gnomonic."""
    a, d = np.radians(ra), np.radians(dec)
    x, y = np.radians(east), np.radians(north)
    denominator = np.cos(d) - y * np.sin(d)
    right = a + np.arctan2(x, denominator)
    declination = np.arctan2(np.sin(d) + y * np.cos(d), np.hypot(x, denominator))
    return np.degrees(right) % 360.0, np.degrees(declination)


def make_sky(
    generator: np.random.Generator,
    model: ImageModel,
    band: ImageBand,
    where: Field,
    *,
    density: float = 1.0,
    variables: int = 40,
    supernovae: int = 20,
    novae: int = 5,
    moving: int = 5,
) -> Sky:
    """Fill a field.

    Parameters
    ----------
    generator : numpy.random.Generator
    model, band
        Of the survey.
    where : Field
    density : float
        Factor on the densities of stars and galaxies.
    variables, supernovae, novae, moving : int
        How many of each, within the field.

    Returns
    -------
    Sky
    """
    area = (2 * where.radius) ** 2 * density
    faint = band.depth + _DEEPER
    stars = _stars(generator, model, where, area, faint)
    galaxies = _galaxies(generator, model, where, area, faint)
    changing = _changing(generator, band, where, galaxies, (variables, supernovae, novae))
    # Flux 0 at the quiet of a transient; a variable star is a star that is drawn apart.
    middle = band.depth - 1.5
    sight = Sight(
        where.mjd, np.full(len(where.mjd), band.wavelength / 550.0), middle - 2.0, middle + 1.5, NJY
    )
    light, parameters = curves(
        generator, [kind.decode() for kind in changing["type"]], changing["flux"], sight
    )
    crossing = _moving(generator, band, where, moving)
    numbers = np.cumsum([0, *(len(part["type"]) for part in (stars, galaxies, changing))])
    for part, first in zip((stars, galaxies, changing, crossing), numbers, strict=True):
        part["id"] = np.arange(first, first + len(part["type"]), dtype=np.int64)
    changing["host"] = np.where(changing["host"] >= 0, changing["host"] + numbers[1], -1)
    return Sky(stars, galaxies, changing | parameters, crossing, light)


def _count(generator: np.random.Generator, given: tuple[float, float, float], area: float) -> int:
    """How many there are down to the faintest that are drawn."""
    density, slope, _ = given
    return int(generator.poisson(density * 10 ** (slope * _DEEPER) * area))


def _stars(
    generator: np.random.Generator, model: ImageModel, where: Field, area: float, faint: float
) -> Columns:
    _, slope, bright = model.stars
    count = _count(generator, model.stars, area)
    ra, dec = scattered(generator, count, where)
    flux = flux_of(magnitudes(generator, count, slope, bright, faint))
    return {"type": np.full(count, b"star", TYPE), "ra": ra, "dec": dec, "flux": flux}


def _galaxies(
    generator: np.random.Generator, model: ImageModel, where: Field, area: float, faint: float
) -> Columns:
    _, slope, bright = model.galaxies
    count = _count(generator, model.galaxies, area)
    ra, dec = scattered(generator, count, where)
    magnitude = magnitudes(generator, count, slope, bright, faint)
    # Sizes fall with magnitude as in deep fields: about 2 arcsec at 19, 0.5 at 23; scatter of 0.5 in log.
    size = 2.0 * 10 ** (-0.15 * (magnitude - 19.0)) * np.exp(0.5 * generator.standard_normal(count))
    return {
        "type": np.full(count, b"galaxy", TYPE),
        "ra": ra,
        "dec": dec,
        "flux": flux_of(magnitude),
        "half_light": np.clip(size, 0.1, 12.0),
        "axis_ratio": generator.uniform(0.25, 1.0, count),
        "angle": generator.uniform(0.0, 180.0, count),
        "index": np.where(generator.random(count) < 0.7, 1.0, 4.0),
    }


def _changing(
    generator: np.random.Generator,
    band: ImageBand,
    where: Field,
    galaxies: Columns,
    counts: tuple[int, int, int],
) -> Columns:
    variables, supernovae, novae = counts
    names = variable_classes(generator, variables)
    ra, dec = scattered(generator, variables + supernovae + novae, where)
    flux = np.zeros(len(ra))
    flux[:variables] = flux_of(magnitudes(generator, variables, 0.2, band.depth - 6.0, band.depth - 1.0))
    host = np.full(len(ra), -1, np.int64)
    first, last = variables, variables + supernovae
    if len(galaxies["ra"]):
        # Supernovae follow the light of exponential discs of their hosts.
        chosen = generator.integers(0, len(galaxies["ra"]), supernovae)
        radius = galaxies["half_light"][chosen] / 1.678 * generator.gamma(2.0, 1.0, supernovae)
        turn, angle = generator.uniform(0, 2 * np.pi, supernovae), np.radians(galaxies["angle"][chosen])
        major, minor = radius * np.cos(turn), radius * np.sin(turn) * galaxies["axis_ratio"][chosen]
        east = (major * np.sin(angle) + minor * np.cos(angle)) / 3600.0
        north = (major * np.cos(angle) - minor * np.sin(angle)) / 3600.0
        near = offset(galaxies["ra"][chosen], galaxies["dec"][chosen], east, north)
        ra[first:last], dec[first:last] = near
        host[first:last] = chosen
    kinds = [*names, *[TRANSIENTS[0]] * supernovae, *[TRANSIENTS[1]] * novae]
    return {"type": np.array(kinds, TYPE), "ra": ra, "dec": dec, "flux": flux, "host": host}


def _moving(generator: np.random.Generator, band: ImageBand, where: Field, count: int) -> Columns:
    ra, dec = scattered(generator, count, where)
    speed, angle = generator.uniform(*_SPEED, count), generator.uniform(0, 2 * np.pi, count)
    return {
        "type": np.full(count, b"moving", TYPE),
        # Where each is in the middle of one exposure, so that it is seen at least once.
        "epoch": generator.choice(where.mjd, count) if count else np.empty(0),
        "ra": ra,
        "dec": dec,
        "flux": flux_of(generator.uniform(band.depth - 4.0, band.depth, count)),
        "speed_ra": speed * np.sin(angle),
        "speed_dec": speed * np.cos(angle),
    }
