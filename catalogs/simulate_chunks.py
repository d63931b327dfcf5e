"""The engine of simulated surveys: objects and light curves, some hundred thousand observations at a time."""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from skytrawl.catalogs.block import Block
from skytrawl.catalogs.simulate_curves import CLASSES, PARAMETERS, Sight, Values
from skytrawl.catalogs.simulate_surveys import SurveyModel, model_of
from skytrawl.catalogs.simulate_visits import Visits, moon
from skytrawl.catalogs.sky import ORDER, positions_of
from skytrawl.catalogs.surveys import Survey, load_survey
from skytrawl.errors import ParameterError

CLASS_DTYPE = "S20"
_CHUNK = 250_000  # observations; the temporaries of a chunk stay near the processor
_MAGNITUDE = 2.5 / np.log(10)
_LEAST = 3.0  # sigma; fainter measurements are absent from catalogues of magnitudes
_OUTLIER = (5.0, 50.0)  # sigma of a bad point
_WIDE = 3.0  # how much wider the noise of the tail is


@dataclass(frozen=True)
class Exposures:
    """The exposures of a field: times and bands, and the flux of 5 sigma and of saturation at each."""

    visits: Visits
    limit: np.ndarray
    saturation: np.ndarray

    def __len__(self) -> int:
        return len(self.visits.time)


@dataclass(frozen=True)
class Simulation:
    """A simulated survey that can be made piece by piece.

    The objects are numbered along the sky and come in chunks of a fixed size. A chunk has its own random
    generators, so that its values depend on seed, survey and number of objects alone, not on the chunks that
    were made before or on partitions.

    Attributes
    ----------
    model : SurveyModel
    n_objects : int
    seed : int
    years : float
        Length of the survey.
    rates : mapping
        Class -> fraction of the objects; the rest is constant.
    heavy_tail : float
        Fraction of the observations whose noise is three times as wide as their error says.
    bad : float
        Fraction of the observations that are off by 5 to 50 sigma.
    """

    model: SurveyModel
    n_objects: int
    seed: int
    years: float
    rates: Mapping[str, float]
    heavy_tail: float = 0.0
    bad: float = 0.0
    _fields: dict[int, Exposures] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def survey(self) -> Survey:
        """The description that units, times and bands follow."""
        return load_survey(self.model.survey)

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the band codes."""
        return tuple(band.name for band in self.model.filters)

    @property
    def class_dtype(self) -> str:
        """Of the column of classes in an archive: wide enough for those that there can be."""
        return f"S{max([16, *map(len, self.rates)])}"

    @property
    def magnitudes(self) -> bool:
        """Whether values are magnitudes, else fluxes."""
        return self.survey.quantity == "magnitude"

    @property
    def zero_point(self) -> float:
        """Magnitude of a flux of 1."""
        return 25.0 if self.survey.zero_point is None else self.survey.zero_point

    @cached_property
    def mean_observations(self) -> float:
        """Observations of an object in the mean, roughly (faint and saturated ones are not taken off)."""
        a, b = self.model.part
        visits = self.model.visits(np.random.default_rng(0), 0, self.years, self.model.start)
        return len(visits.time) * a / (a + b)

    @cached_property
    def chunk_objects(self) -> int:
        """Objects of a chunk, a power of two."""
        return 1 << max(0, int(np.log2(max(1.0, _CHUNK / max(1.0, self.mean_observations)))))

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        return -(-self.n_objects // self.chunk_objects)

    @cached_property
    def columns(self) -> dict[str, str]:
        """Columns of the truth table and their units."""
        names = {"object_id": "", "ra": "deg", "dec": "deg", "class": "", "field": "", "part": ""}
        names |= {f"mag_{band}": "mag" for band in self.bands}
        return names | {name: unit for name, (unit, _) in PARAMETERS.items()}

    def provenance(self) -> dict[str, Any]:
        """What the simulation was asked for, in JSON types."""
        return {
            "simulated": self.model.kind,
            "objects": self.n_objects,
            "seed": self.seed,
            "years": self.years,
            "rates": dict(self.rates),
            "heavy_tail": self.heavy_tail,
            "bad": self.bad,
        }

    def no_truth(self) -> Values:
        """The truth table of no objects."""
        dtypes = {"object_id": "u8", "class": CLASS_DTYPE, "field": "i8"}
        return {name: np.zeros(0, dtypes.get(name, "f8")) for name in self.columns}

    def chunks(self) -> Iterator[tuple[Block, Values]]:
        """Objects with light curves, and their rows of the truth table, along the sky."""
        for number in range(self.n_chunks):
            generator, truth, healpix = self._objects(number)
            yield self._light_curves(generator, truth, healpix), truth

    def truths(self) -> Iterator[Values]:
        """The truth table alone, chunk by chunk."""
        for number in range(self.n_chunks):
            yield self._objects(number)[1]

    def exposures(self, number: int) -> Exposures:
        """The exposures of a field."""
        if number not in self._fields:
            model = self.model
            generator = self._generator(0, number)
            visits = model.visits(generator, number, self.years, model.start)
            time, count = visits.time, len(visits.time)
            depth, loss, bright = (
                np.array([getattr(band, name) for band in model.filters])[visits.band]
                for name in ("depth", "moon", "saturation")
            )
            cloudy = generator.random(count) < 0.1
            clouds = np.where(cloudy, generator.exponential(model.scatter, count), 0.0)
            depth = depth - loss * moon(time) + model.scatter * generator.standard_normal(count) - clouds
            found = Exposures(visits, self._flux(depth), self._flux(bright))
            self._fields.clear()  # chunks run along the sky: a field that is done does not come back
            self._fields[number] = found
        return self._fields[number]

    def _flux(self, magnitude: np.ndarray) -> np.ndarray:
        return (10 ** (-0.4 * (magnitude - self.zero_point))).astype(np.float32)

    def _generator(self, *place: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(self.model.kind.encode()), *place])

    def _field_of(self, number: int) -> int:
        return number * self.chunk_objects // max(self.model.field_objects, self.chunk_objects)

    @cached_property
    def _footprint(self) -> tuple[int, np.ndarray]:
        return self.model.footprint()

    def _sight(self, exposures: Exposures) -> Sight:
        redness = np.array([self.survey.band(name).wavelength / 550 for name in self.bands])  # type: ignore[union-attr]
        bright, faint, _ = self.model.magnitudes
        visits = exposures.visits
        return Sight(visits.time, redness[visits.band], bright + 1, faint, self.zero_point)

    def _objects(self, number: int) -> tuple[np.random.Generator, Values, np.ndarray]:
        """Generator of a chunk, after it has drawn what the objects are; truth table; HEALPix cells."""
        generator = self._generator(1, number)
        first = number * self.chunk_objects
        count = min(self.chunk_objects, self.n_objects - first)
        order, cells = self._footprint
        inner = 4 ** (ORDER - order)
        low, high = (len(cells) * inner * part // self.n_chunks for part in (number, number + 1))
        place = np.sort(generator.integers(low, high, count, dtype=np.uint64))
        healpix = cells[place // np.uint64(inner)] * np.uint64(inner) + place % np.uint64(inner)
        ra, dec = positions_of(healpix)

        names = np.array(["constant", *CLASSES], CLASS_DTYPE)
        edges = np.cumsum([self.rates.get(name, 0.0) for name in CLASSES])
        kinds = (np.searchsorted(edges, generator.random(count), side="right") + 1) % len(names)
        bright, faint, slope = self.model.magnitudes
        share = generator.random(count)
        if slope:
            share = np.log10(1 + share * (10 ** (slope * (faint - bright)) - 1)) / (slope * (faint - bright))
        reference, colour = bright + share * (faint - bright), generator.standard_normal(count)
        truth: Values = {
            "object_id": _identifiers(np.arange(first + 1, first + count + 1, dtype=np.uint64)),
            "ra": ra,
            "dec": dec,
            "class": names[kinds],
            "field": np.full(count, self._field_of(number), np.int64),
            "part": generator.beta(*self.model.part, count),
        }
        truth |= {f"mag_{b.name}": reference + b.colour + b.slope * colour for b in self.model.filters}
        truth |= {name: np.full(count, np.nan) for name in PARAMETERS}
        sight = self._sight(self.exposures(self._field_of(number)))
        for kind, (draw, _) in enumerate(CLASSES.values(), 1):
            members = np.flatnonzero(kinds == kind)
            if members.size and len(sight.time):
                for name, values in draw(generator, members.size, sight).items():
                    truth[name][members] = values
        return generator, truth, healpix

    def _light_curves(self, generator: np.random.Generator, truth: Values, healpix: np.ndarray) -> Block:
        exposures = self.exposures(int(truth["field"][0]))
        visits = exposures.visits
        flux = noiseless(self, truth)
        sigma = sigma_of(flux, exposures.limit, self.model.sky, self.model.floor)
        noise = generator.standard_normal(flux.shape, dtype=np.float32)
        for share, change in ((self.heavy_tail, "tail"), (self.bad, "bad")):
            count = generator.binomial(flux.size, share) if share else 0
            rows = generator.integers(0, max(1, flux.size), count)
            if change == "tail":
                noise.ravel()[rows] *= _WIDE
            else:
                sign = generator.choice(np.array([-1, 1], np.float32), count)
                noise.ravel()[rows] = sign * generator.uniform(*_OUTLIER, count)
        kept = generator.random(flux.shape, dtype=np.float32) < truth["part"][:, None].astype(np.float32)
        kept &= flux < exposures.saturation
        noise *= sigma
        noise += flux
        if self.magnitudes:
            kept &= noise > _LEAST * sigma
        value, error = noise[kept], sigma[kept]
        if self.magnitudes:
            error *= np.float32(_MAGNITUDE)
            error /= value
            np.log10(value, out=value)
            value *= np.float32(-2.5)
            value += np.float32(self.zero_point)
        if self.model.decimals is not None:
            value, error = (np.round(v, d) for v, d in zip((value, error), self.model.decimals, strict=True))
        offsets = np.zeros(len(kept) + 1, np.int64)
        np.cumsum(np.count_nonzero(kept, axis=1), out=offsets[1:])
        objects = {name: truth[name] for name in ("object_id", "ra", "dec", "class")} | {"healpix": healpix}
        observations = {
            "time": np.broadcast_to(visits.time, kept.shape)[kept],
            "value": value,
            "error": error,
            "band": np.broadcast_to(visits.band, kept.shape)[kept],
        }
        return Block(objects, observations, offsets)


def noiseless(simulation: Simulation, truth: Values) -> np.ndarray:
    """Flux of objects at every exposure of their field, without noise.

    Parameters
    ----------
    simulation : Simulation
    truth : dict of arrays
        Rows of the truth table that share a field.

    Returns
    -------
    float32 array of shape (n_objects, n_exposures)
        In the survey's unit of flux, or with the zero point `simulation.zero_point`.
    """
    exposures = simulation.exposures(int(truth["field"][0]))
    base = simulation._flux(np.stack([truth[f"mag_{name}"] for name in simulation.bands], 1))
    flux = np.take(base, exposures.visits.band, axis=1)
    sight = simulation._sight(exposures)
    for name, (_, light) in CLASSES.items():
        members = np.flatnonzero(truth["class"] == name.encode())
        if members.size:
            values = {column: truth[column][members] for column in PARAMETERS}
            flux[members] = light(flux[members], sight, values)
    return flux


def sigma_of(flux: np.ndarray, limit: np.ndarray, sky: float, floor: float) -> np.ndarray:
    """Standard error of a flux: sky and source photons, and a systematic part that grows with the flux.

    The model of Ivezic et al. 2019, equations 4 and 5, in flux: sigma squared is gamma f5**2 + (0.04 - gamma)
    f5 f + floor**2 f**2, so that a flux f = f5 has 5 sigma.

    Parameters
    ----------
    flux : float32 array of shape (n, m)
    limit : float32 array of shape (m,)
        Flux of 5 sigma, f5.
    sky : float
        Gamma; 0.04 where the sky is all.
    floor : float
        Systematic relative error.

    Returns
    -------
    float32 array of shape (n, m)
    """
    sigma = flux * np.float32(floor**2)
    sigma += np.float32(0.04 - sky) * limit
    sigma *= flux
    sigma += np.float32(sky) * limit**2
    return np.sqrt(sigma, out=sigma)


def simulation(
    kind: str | SurveyModel,
    n_objects: int,
    seed: int = 0,
    *,
    years: float | None = None,
    rates: Mapping[str, float] | None = None,
    heavy_tail: float = 0.0,
    bad: float = 0.001,
    decimals: Any = "survey",
) -> Simulation:
    """A checked Simulation; the parameters are those of `simulate.simulate_survey`.

    Raises
    ------
    ParameterError
        For a parameter out of its range; names it.
    """
    model = model_of(kind)
    years = model.years if years is None else float(years)
    rates = model.rates if rates is None else dict(rates)
    unknown = sorted(set(rates) - set(CLASSES))
    if unknown:
        raise ParameterError(f"rates: no class {unknown[0]!r}; there are {', '.join(CLASSES)}")
    if min(rates.values(), default=0) < 0 or sum(rates.values()) > 1 + 1e-9:
        raise ParameterError(f"rates must not be negative, nor more than 1 in sum: {dict(rates)}")
    for name, value, most in (("heavy_tail", heavy_tail, 1.0), ("bad", bad, 1.0)):
        if not 0 <= value <= most:
            raise ParameterError(f"{name}={value} must be between 0 and {most:g}")
    if n_objects < 0 or seed < 0 or not 0 < years <= 100:
        raise ParameterError(
            f"n_objects={n_objects} and seed={seed} must not be negative, years={years} be within 0 to 100"
        )
    if decimals != "survey":
        model = replace(model, decimals=decimals)
    return Simulation(model, int(n_objects), int(seed), years, rates, heavy_tail, bad)


def _identifiers(numbers: np.ndarray) -> np.ndarray:
    # An odd factor is a bijection modulo 2**48: identifiers are unique and not in the order of the sky.
    return (numbers * np.uint64(0x5DEECE66D)) & np.uint64(2**48 - 1)
