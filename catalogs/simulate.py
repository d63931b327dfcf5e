"""Simulated surveys of any size with a truth table: archives, long tables, blocks.

Light curves are seeded and made some hundred thousand observations at a time, so that memory does not grow
with the survey. What the surveys are like stands in :mod:`skytrawl.catalogs.simulate_surveys`, the classes of
objects in :mod:`skytrawl.catalogs.simulate_curves`, noise in :mod:`skytrawl.catalogs.simulate_chunks`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs import export
from skytrawl.catalogs.block import Block
from skytrawl.catalogs.simulate_chunks import CLASS_DTYPE, simulation
from skytrawl.catalogs.simulate_output import (
    Progress,
    Simulated,
    bounds,
    gathered,
    into_archive,
    into_table,
    regrouped,
)
from skytrawl.catalogs.simulate_surveys import MODELS, Filter, SurveyModel, whole_sky
from skytrawl.catalogs.simulate_tables import TABLES, require_pyarrow, rows_of
from skytrawl.catalogs.simulate_visits import random_nights
from skytrawl.catalogs.surveys.description import Band, Survey
from skytrawl.catalogs.versions import Version
from skytrawl.errors import NotAnArchiveError, ParameterError

__all__ = [
    "KINDS",
    "Simulated",
    "simulate_archive",
    "simulate_survey",
    "survey_blocks",
    "survey_rows",
    "survey_truth",
    "truth",
    "truth_path",
]

KINDS = tuple(MODELS)
FORMATS = ("archive", *TABLES)


def simulate_survey(
    kind: str | SurveyModel,
    path: str | Path,
    n_objects: int,
    *,
    seed: int = 0,
    format: str = "archive",
    partitions: int | None = None,
    years: float | None = None,
    rates: Mapping[str, float] | None = None,
    heavy_tail: float = 0.0,
    bad: float = 0.001,
    decimals: Any = "survey",
    with_truth: bool = True,
    object_slot: int | None = None,
    observation_slot: int | None = None,
    flush: bool = False,
    progress: Progress | None = None,
) -> Simulated:
    """Write a simulated survey, and beside it the table of what each object really is.

    Parameters
    ----------
    kind : {"ztf", "lsst", "roman-bulge", "kmt"} or SurveyModel
        Which survey: cadence, depth, noise, units.
    path : str or Path
        New archive, or table file (which is replaced).
    n_objects : int
        Objects in all, along the sky.
    seed : int
        Same seed, same values, whatever the format and the number of partitions.
    format : {"archive", "parquet", "csv"}
        An archive, or a long table with the columns object_id, ra, dec, mjd, mag or flux, magerr or flux_err,
        band.
    partitions : int, optional
        Of an archive; by default about 4 million observations each.
    years : float, optional
        Length of the survey; by default that of the real one, 5 for ZTF and Roman, 10 for LSST, 3 for KMT.
    rates : mapping, optional
        Class (sine, rrlyrae, eclipse, supernova, microlensing, microlensing-planet, flare) to fraction of the
        objects; the rest is constant. By default far above nature: a third of the objects vary.
    heavy_tail : float
        Fraction of the observations whose noise is three times as wide as their error says.
    bad : float
        Fraction of the observations that are off by 5 to 50 sigma, of either sign.
    decimals : tuple of int or None
        Decimals of values and errors, None for every digit of float32; by default (3, 4) for ZTF, (4, 4) for
        KMT, None for fluxes.
    with_truth : bool
        Write the truth table, which needs pyarrow; :func:`truth` reads it.
    object_slot, observation_slot : int, optional
        Rows of a slot of an archive; by default the smallest that hold a partition.
    flush : bool
        Wait for the disk after every shard.
    progress : callable, optional
        Called with objects done and objects in all.

    Returns
    -------
    Simulated
        Counts and paths; ``print`` it.

    Raises
    ------
    ParameterError
        For a parameter out of its range, or if a table is asked for and the file exists.
    ArchiveError
        If an archive is asked for and the folder is not empty.
    BackendUnavailableError
        If the truth table or a table is asked for and pyarrow is missing.

    Notes
    -----
    Times are those of the camera (not corrected to the Sun). Magnitudes are those of the total flux, and
    measurements below 3 sigma are absent, as in catalogues; fluxes are total, and present at every exposure.
    Objects of a field share the times of its exposures.
    """
    if format not in FORMATS:
        raise ParameterError(f"no format {format!r}: take one of {', '.join(FORMATS)}")
    planned = simulation(
        kind, n_objects, seed, years=years, rates=rates, heavy_tail=heavy_tail, bad=bad, decimals=decimals
    )
    target = Path(path)
    if format != "archive" and target.exists():
        raise ParameterError(f"{target} exists already: choose another path, or remove it first")
    done = Simulated(target, truth_path(target) if with_truth else None, planned.model.kind, format)
    if with_truth or format != "archive":
        require_pyarrow("A simulated table" if format != "archive" else "The truth table")
    make: Callable[[], Iterator[dict[str, np.ndarray]]]
    if format == "archive":
        slots = (object_slot, observation_slot)
        make = partial(into_archive, planned, done, partitions, slots, flush, progress)
    else:
        make = partial(into_table, planned, done, progress)
    if done.truth is not None:
        export.write_table(gathered(make(), planned), done.truth, units=planned.columns)
    else:
        for _ in make():
            pass
    return done


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
    progress: Progress | None = None,
) -> Version:
    """Write an archive of simulated light curves of a plain, made-up survey and publish it.

    Objects lie uniformly on the sky; neighbours share one list of exposures, of which each object has its own
    random part (as at the edge of a detector or in bad seeing). Magnitudes have three decimals and Gaussian
    noise that grows with magnitude. 70 % of the objects are constant, 20 % are sines, 10 % supernovae. For
    the likeness of a real survey, more classes and a truth table see :func:`simulate_survey`.

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
    per_band = max(1, round(observations_per_object / 0.8 / len(bands)))
    survey = Survey(
        name="simulated",
        title="a simulated survey",
        citation="",
        object_id="integer",
        bands=tuple(Band(name, 450.0 + 150.0 * number) for number, name in enumerate(bands)),
        quantity="magnitude",
        photometry="total",
        units="mag",
        magnitude_system="AB",
        zero_point=None,
        time_format="mjd",
        time_scale="utc",
        reference_position="geocenter",
        exposure_point="middle",
    )
    model = SurveyModel(
        kind="plain",
        survey=survey,
        filters=tuple(Filter(name, 22.5, 8.0) for name in bands),
        start=58_200.0,
        years=years,
        visits=partial(random_nights, counts=(per_band,) * len(bands)),
        footprint=whole_sky,
        magnitudes=(15.5, 20.5, 0.0),
        floor=0.01,
        sky=0.039,
        rates={"sine": 0.2, "supernova": 0.1},
        decimals=(3, 4),
    )
    planned = simulation(model, n_objects, seed, bad=0.0)
    done = Simulated(Path(path), None, model.kind, "archive")
    for _ in into_archive(
        planned, done, partitions, (object_slot, observation_slot), flush, progress, per_partition=True
    ):
        pass
    assert done.version is not None
    return done.version


def survey_blocks(
    kind: str | SurveyModel, n_objects: int, seed: int = 0, *, partitions: int | None = None, **options: Any
) -> Iterator[Block]:
    """The partitions of a simulated survey, one after the other.

    Parameters
    ----------
    kind, n_objects, seed
        As for :func:`simulate_survey`.
    partitions : int, optional
        Number of blocks; by default about 4 million observations each.
    **options
        years, rates, heavy_tail, bad, decimals.

    Yields
    ------
    Block
        Objects along the sky with object_id, ra, dec, class, healpix; observations with time, value, error,
        band (position in the survey model's filters).
    """
    planned = simulation(kind, n_objects, seed, **options)
    yield from regrouped((block for block, _ in planned.chunks()), bounds(planned, partitions))


def survey_rows(
    kind: str | SurveyModel, n_objects: int, seed: int = 0, **options: Any
) -> Iterator[dict[str, np.ndarray]]:
    """A simulated survey as a long table, some hundred thousand rows at a time.

    Parameters
    ----------
    kind, n_objects, seed
        As for :func:`simulate_survey`.
    **options
        years, rates, heavy_tail, bad, decimals.

    Yields
    ------
    dict of arrays of shape (n,)
        object (uint64), ra, dec (float64), time (float64, MJD), value, error (float32), band (fixed-width
        bytes); whole objects along the sky, each by band, then time.
    """
    planned = simulation(kind, n_objects, seed, **options)
    names = np.array(planned.bands, "S")
    for block, _ in planned.chunks():
        rows = rows_of(block)
        yield rows | {"band": names[rows["band"]]}


def survey_truth(
    kind: str | SurveyModel, n_objects: int, seed: int = 0, **options: Any
) -> Iterator[dict[str, np.ndarray]]:
    """The truth table alone, without making the light curves; parameters as for :func:`survey_rows`."""
    planned = simulation(kind, n_objects, seed, **options)
    return planned.truths()


def truth_path(path: str | Path) -> Path:
    """Where the truth table of an archive or table lies: beside it, with the suffix .truth.parquet."""
    return Path(path).with_suffix(".truth.parquet")


def truth(path: str | Path) -> dict[str, np.ndarray]:
    """Read the truth table of a simulated survey.

    Parameters
    ----------
    path : str or Path
        Archive or table, or the truth table itself.

    Returns
    -------
    dict of arrays of shape (n_objects,)
        object_id (uint64), ra, dec, class (fixed-width bytes), field (objects of one field share their
        exposures), part (share of these that the object has, before cuts), mag_<band> (quiescent), and the
        parameters of the classes, `simulate_curves.PARAMETERS`: NaN where they do not apply. Units stand in
        the metadata of the Parquet fields.

    Raises
    ------
    NotAnArchiveError
        If there is none.
    """
    found = Path(path) if str(path).endswith(".truth.parquet") else truth_path(path)
    if not found.is_file():
        raise NotAnArchiveError(
            f"{found} does not exist: only `skytrawl simulate` and simulate_survey write a truth table"
        )
    require_pyarrow("The truth table")
    from pyarrow import parquet

    table = parquet.read_table(found)
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    return columns | {"class": columns["class"].astype(CLASS_DTYPE)}
