"""Simulated archives of any size, with the cadence and noise of a ground-based survey.

The light curves are seeded and made partition by partition, so memory does not grow with the archive.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from skytrawl.catalogs.block import Block
from skytrawl.catalogs.sky import N_CELLS, healpix_of, positions_of
from skytrawl.catalogs.versions import Version
from skytrawl.catalogs.writer import ArchiveWriter, slots_for

CLASSES = ("constant", "sine", "supernova")
FRACTIONS = (0.7, 0.2, 0.1)

_FIRST_NIGHT = 58_200.0


def simulate_archive(
    path: str | Path,
    n_objects: int,
    observations_per_object: float = 300.0,
    *,
    seed: int = 0,
    partitions: int | None = None,
    bands: Sequence[str] = ("g", "r"),
    years: float = 5.0,
    object_slot: int | None = None,
    observation_slot: int | None = None,
    flush: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Version:
    """Write an archive of simulated light curves and publish it.

    Objects lie uniformly on the sky; all objects of a partition share one list of exposures, of which each
    object has its own random part (as at the edge of a detector or in bad seeing). Magnitudes have three
    decimals and Gaussian noise that grows with magnitude. 70 % of the objects are constant, 20 % are sines,
    10 % supernova-like.

    Parameters
    ----------
    path : str or Path
        Folder to create.
    n_objects : int
        Objects in all; 0 makes only empty partitions.
    observations_per_object : float
        Mean over all bands together.
    seed : int
        Same seed, same values.
    partitions : int, optional
        Number of partitions; by default about 4 million observations each.
    bands : sequence of str
        Names of the bands.
    years : float
        Length of the survey.
    object_slot, observation_slot : int, optional
        Rows of a slot; by default the smallest that hold a partition.
    flush : bool
        Wait for the disk after every shard.
    progress : callable, optional
        Called with partitions done and partitions in all.

    Returns
    -------
    Version
        The published version.
    """
    if partitions is None:
        partitions = max(1, round(n_objects * observations_per_object / 4_000_000))
    bounds = np.linspace(0, n_objects, partitions + 1).astype(np.int64)
    most = int(np.diff(bounds).max(initial=0))
    fitting = slots_for(most, int(1.1 * most * observations_per_object))
    writer = ArchiveWriter.create(
        path,
        survey={"name": "simulated", "bands": list(bands), "seed": int(seed)},
        light_curves={
            "quantity": "magnitude",
            "photometry": "total",
            "units": "mag",
            "zero_point": None,
            "time": {
                "scale": "utc",
                "reference_position": "geocenter",
                "offset": 0.0,
                "exposure_point": "middle",
            },
        },
        bands=bands,
        dtypes={"objects/class": "S16"},
        object_slot=object_slot or fitting[0],
        observation_slot=observation_slot or fitting[1],
    )
    for number in range(partitions):
        first, last = int(bounds[number]), int(bounds[number + 1])
        block = Block()
        if last > first:
            # One generator a partition: the values of a partition do not depend on the ones before it.
            generator = np.random.default_rng([seed, number])
            block = _simulate_block(
                generator, first, last, (number, partitions), observations_per_object, len(bands), years
            )
        writer.write(block, flush=flush)
        if progress is not None:
            progress(number + 1, partitions)
    return writer.publish()


def _simulate_block(
    generator: np.random.Generator,
    first: int,
    last: int,
    place: tuple[int, int],
    mean: float,
    n_bands: int,
    years: float,
) -> Block:
    count = last - first
    low, high = (N_CELLS * part // place[1] for part in (place[0], place[0] + 1))
    ra, dec = positions_of(np.sort(generator.integers(low, high, count, dtype=np.uint64)))
    healpix = healpix_of(ra, dec)
    order = np.argsort(healpix, kind="stable")
    kinds = generator.choice(len(CLASSES), count, p=FRACTIONS)
    objects = {
        "object_id": _identifiers(np.arange(first, last, dtype=np.uint64)),
        "ra": ra[order],
        "dec": dec[order],
        "healpix": healpix[order],
        "class": np.array(CLASSES, "S16")[kinds],
    }

    # Part of the exposures that an object has; the mean of the beta distribution is 0.8.
    exposures = [_exposures(generator, mean / n_bands / 0.8, years) for _ in range(n_bands)]
    times = np.concatenate(exposures)
    band_of = np.repeat(np.arange(n_bands, dtype=np.uint8), [len(stamps) for stamps in exposures])
    part = generator.beta(8.0, 2.0, count).astype(np.float32)
    chosen = generator.random((count, len(times)), dtype=np.float32) < part[:, None]
    owner, exposure = np.nonzero(chosen)
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum(np.count_nonzero(chosen, axis=1), out=offsets[1:])

    time, band = times[exposure], band_of[exposure]
    magnitude = generator.uniform(15.5, 20.5, (count, n_bands))[owner, band]
    _add_sines(generator, magnitude, time, owner, kinds == 1)
    _add_supernovae(generator, magnitude, time, owner, kinds == 2, years)
    error = np.hypot(0.01, 0.02 * 10 ** (0.3 * (magnitude - 18.0))).astype(np.float32)
    noise = generator.standard_normal(len(time), dtype=np.float32) * error
    observations = {
        "time": time,
        "value": np.round(magnitude + noise, 3).astype(np.float32),
        "error": np.round(error, 4),
        "band": band,
    }
    return Block(objects, observations, offsets)


def _identifiers(numbers: np.ndarray) -> np.ndarray:
    # An odd factor is a bijection modulo 2**48: identifiers are unique and not in the order of the sky.
    return (numbers * np.uint64(0x5DEECE66D)) & np.uint64(2**48 - 1)


def _exposures(generator: np.random.Generator, count: float, years: float) -> np.ndarray:
    """Sorted exposure times of one band: seasons of 8 months, some nights with two visits."""
    wanted = max(1, round(count))
    night = np.sort(generator.integers(0, max(1, int(years * 243)), wanted))
    season, day = np.divmod(night, 243)
    stamps = _FIRST_NIGHT + season * 365.25 + day + generator.uniform(0.15, 0.5, wanted)
    return np.sort(np.round(stamps, 6))


def _add_sines(
    generator: np.random.Generator,
    magnitude: np.ndarray,
    time: np.ndarray,
    owner: np.ndarray,
    members: np.ndarray,
) -> None:
    count = len(members)
    frequency = 1 / 10 ** generator.uniform(-0.7, 2.0, count)
    amplitude, phase = generator.uniform(0.05, 0.6, count), generator.uniform(0, 1, count)
    rows = np.flatnonzero(members[owner])
    who = owner[rows]
    turns = (time[rows] - _FIRST_NIGHT) * frequency[who] + phase[who]
    magnitude[rows] += amplitude[who] * np.sin(2 * np.pi * turns)


def _add_supernovae(
    generator: np.random.Generator,
    magnitude: np.ndarray,
    time: np.ndarray,
    owner: np.ndarray,
    members: np.ndarray,
    years: float,
) -> None:
    """In flux, a linear rise of 15 days and an exponential decline of 40 days, over a constant host."""
    count = len(members)
    start = _FIRST_NIGHT + generator.uniform(0, 365.25 * years, count)
    contrast = generator.uniform(1.0, 20.0, count)
    rows = np.flatnonzero(members[owner])
    age = time[rows] - start[owner[rows]]
    shape = np.where(age < 15, np.clip(age / 15, 0, None), np.exp(-np.clip(age - 15, 0, None) / 40))
    magnitude[rows] -= 2.5 * np.log10(1 + contrast[owner[rows]] * shape)
