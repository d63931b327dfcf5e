"""What a simulated survey is like: bands, depth, where it looks and when.

The constants are those of the publications named with each survey, where these give them; the rest (weather,
spread of the depth, share of an object's exposures that are kept, counts of stars) is of the usual size but
approximate, and so is the schedule: nothing here models slews, airmass or the single fields on the sky.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from skytrawl.catalogs.simulate_visits import Visits, kmt, lsst, roman, ztf
from skytrawl.catalogs.sky import ORDER, healpix_of, positions_of
from skytrawl.catalogs.surveys import Survey
from skytrawl.errors import ParameterError

# Fractions of the objects; the rest is constant. Far above nature, so that a small archive has all classes.
RATES = {
    "sine": 0.08,
    "rrlyrae": 0.05,
    "eclipse": 0.06,
    "supernova": 0.05,
    "microlensing": 0.05,
    "microlensing-planet": 0.01,
    "flare": 0.05,
}
_BULGE = RATES | {"supernova": 0.0, "microlensing": 0.08, "microlensing-planet": 0.03}


@dataclass(frozen=True)
class Filter:
    """A band of a simulated survey.

    Attributes
    ----------
    name : str
        As in the survey's description.
    depth : float
        Magnitude of 5 sigma on a dark, clear night.
    saturation : float
        Magnitude; brighter measurements are absent.
    moon : float
        Loss of depth at full moon, mag.
    colour, slope : float
        Mean magnitude relative to the reference band, and its change with the object's colour index.
    """

    name: str
    depth: float
    saturation: float
    moon: float = 0.0
    colour: float = 0.0
    slope: float = 0.0


@dataclass(frozen=True)
class SurveyModel:
    """A survey to be simulated.

    Attributes
    ----------
    kind : str
        What it is called here.
    survey : str or Survey
        Description whose units, times and bands the archive takes over.
    filters : tuple of Filter
        In order of wavelength.
    start, years : float
        First day (MJD) and usual length.
    visits : callable
        (generator, field, years, start) -> Visits of a field.
    footprint : callable
        () -> order and sorted cells (HEALPix, nested) that the survey covers.
    magnitudes : tuple of float
        Brightest and faintest mean magnitude in the reference band, and the slope of log10 of the counts.
    floor, sky : float
        Systematic relative error, and gamma of the error model (see `simulate_chunks.sigma_of`).
    scatter : float
        Spread of the depth from exposure to exposure, mag.
    part : tuple of float
        Parameters a, b of the beta distribution of the share of its field's exposures that an object has.
    field_objects : int
        Objects that share one list of exposures, a power of two.
    rates : mapping
        Class -> fraction of the objects.
    decimals : tuple of int, optional
        Of values and errors; None keeps every digit of float32.
    time : mapping
        What differs from the survey's description of times.
    """

    kind: str
    survey: str | Survey
    filters: tuple[Filter, ...]
    start: float
    years: float
    visits: Callable[[np.random.Generator, int, float, float], Visits]
    footprint: Callable[[], tuple[int, np.ndarray]]
    magnitudes: tuple[float, float, float]
    floor: float
    sky: float
    scatter: float = 0.0
    part: tuple[float, float] = (8.0, 2.0)
    field_objects: int = 8192
    rates: Mapping[str, float] = field(default_factory=lambda: RATES)
    decimals: tuple[int, int] | None = None
    time: Mapping[str, str] = field(default_factory=dict)


def whole_sky() -> tuple[int, np.ndarray]:
    """Order and cells of the whole sky."""
    return 0, np.arange(12, dtype=np.uint64)


def declinations(low: float, high: float) -> tuple[int, np.ndarray]:
    """Order and cells whose centres have a declination in this range, degrees."""
    order = 5
    cells = np.arange(12 * 4**order, dtype=np.uint64)
    shift = np.uint64(2 * (ORDER - order))
    # The path 0, 3, 3, ... of children ends at the centre of a cell.
    _, dec = positions_of((cells << shift) + ((np.uint64(1) << (shift - np.uint64(2))) - np.uint64(1)))
    return order, cells[(dec >= low) & (dec <= high)]


def disc(ra: float, dec: float, radius: float) -> tuple[int, np.ndarray]:
    """Order and cells (7 arcmin wide) that a disc reaches; all in degrees, not near a pole."""
    order, step = 9, 0.03
    offset = np.arange(-radius, radius + step, step)
    x, y = (axis.ravel() for axis in np.meshgrid(offset, offset))
    x, y = x[np.hypot(x, y) <= radius], y[np.hypot(x, y) <= radius]
    cells = healpix_of(ra + x / np.cos(np.radians(dec)), dec + y) >> np.uint64(2 * (ORDER - order))
    return order, np.unique(cells)


ZTF = SurveyModel(
    # Depths, 30 s exposures: Bellm et al. 2019, PASP 131, 018002 (medians of 20.8, 20.6, 19.9). Light curves
    # as in the data releases: magnitudes of the total flux, detections alone. Approximate: all else.
    kind="ztf",
    survey="ztf",
    filters=(
        Filter("g", 20.8, 12.5, 0.9, 0.6, 0.3),
        Filter("r", 20.6, 12.5, 0.6, 0.0, 0.0),
        Filter("i", 19.9, 12.0, 0.4, -0.2, -0.15),
    ),
    start=58_194.0,  # 17 March 2018, begin of the survey
    years=5.0,
    visits=ztf,
    footprint=partial(declinations, -30.0, 90.0),
    magnitudes=(13.5, 19.3, 0.2),
    floor=0.012,
    sky=0.039,
    scatter=0.25,
    decimals=(3, 4),
)

LSST = SurveyModel(
    # Depths of a visit, gamma, floor and number of visits: Ivezic et al. 2019, ApJ 873, 111, tables 1 and 2,
    # equations 4 and 5 (gamma 0.037 to 0.039). Saturation: LSST Science Book (2009), for 15 s.
    # Total fluxes at every visit, also below the noise, as forced photometry gives them.
    kind="lsst",
    survey="lsst",
    filters=(
        Filter("u", 23.9, 14.7, 1.0, 1.6, 0.6),
        Filter("g", 25.0, 15.7, 0.9, 0.5, 0.3),
        Filter("r", 24.7, 15.8, 0.6, 0.0, 0.0),
        Filter("i", 24.0, 15.8, 0.4, -0.2, -0.15),
        Filter("z", 23.3, 15.3, 0.2, -0.3, -0.2),
        Filter("y", 22.1, 13.9, 0.1, -0.35, -0.25),
    ),
    start=60_980.0,  # November 2025
    years=10.0,
    visits=lsst,
    footprint=partial(declinations, -65.0, 5.0),
    magnitudes=(16.5, 24.0, 0.2),
    floor=0.005,
    sky=0.039,
    scatter=0.2,
    part=(40.0, 2.0),
)

ROMAN_BULGE = SurveyModel(
    # Error model: the table of https://roman.ipac.caltech.edu/sims/MABuLS_sim.html (0.01 mag at 21.15 in
    # F146, floor 1 mmag, saturation 14.8 and 13.9; zero points 27.615 and 26.387, exposures of 46.8 and
    # 286 s), from which 5 sigma at 25.1 and about 25.6 follow. Six seasons of 72 days: Penny et al. 2019,
    # ApJS 241, 3; 12.1 minutes: light curves of the Roman microlensing data challenge of 2026. F087 every 6
    # hours is approximate. Fluxes in nJy as in the survey's description.
    kind="roman-bulge",
    survey="roman",
    filters=(
        Filter("F087", 25.6, 13.9, 0.0, 1.0, 0.3),
        Filter("F146", 25.1, 14.8, 0.0, 0.0, 0.0),
    ),
    start=61_631.0,  # 19 August 2027
    years=5.0,
    visits=roman,
    footprint=partial(disc, 268.2, -28.9, 0.73),  # 1.7 square degrees at l 1, b -1.5
    magnitudes=(15.5, 23.5, 0.25),
    floor=0.001,
    sky=0.038,
    scatter=0.02,
    part=(200.0, 1.0),
    field_objects=1024,
    rates=_BULGE,
)

KMT = SurveyModel(
    # Three sites: Kim et al. 2016, JKAS 49, 37; 20 February to 22 October: KMTNet pages, "Programs"; 15
    # minutes: fields of the highest cadence, Kim et al. 2018, AJ 155, 76. V after every tenth exposure,
    # depth, saturation and weather are approximate. Public light curves have heliocentric dates; here they
    # are those of the camera.
    kind="kmt",
    survey="kmt",
    filters=(Filter("V", 21.5, 13.5, 0.7, 1.8, 0.4), Filter("I", 20.8, 12.5, 0.4, 0.0, 0.0)),
    start=57_438.0,  # 20 February 2016
    years=3.0,
    visits=kmt,
    footprint=partial(disc, 268.6, -29.2, 2.26),  # 16 square degrees
    magnitudes=(13.5, 19.3, 0.25),
    floor=0.006,
    sky=0.039,
    scatter=0.25,
    part=(30.0, 2.0),
    field_objects=1024,
    rates=_BULGE,
    decimals=(4, 4),
    time={"reference_position": "topocenter", "exposure_point": "middle"},
)

MODELS = {model.kind: model for model in (ZTF, LSST, ROMAN_BULGE, KMT)}


def model_of(kind: str | SurveyModel) -> SurveyModel:
    """A survey by name; a SurveyModel is returned as it is.

    Raises
    ------
    ParameterError
        If there is no such survey.
    """
    if isinstance(kind, SurveyModel):
        return kind
    if kind not in MODELS:
        raise ParameterError(f"no simulated survey {kind!r}: take one of {', '.join(MODELS)}")
    return MODELS[kind]
