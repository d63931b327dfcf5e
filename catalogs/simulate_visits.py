"""When a simulated survey looks at a field: seasons, nights, weather, visits."""

from dataclasses import dataclass

import numpy as np

YEAR = 365.25
# Visits of a field in ten years, in u g r i z y: Ivezic et al. 2019, ApJ 873, 111, table 1.
LSST_VISITS = (56, 80, 184, 184, 160, 160)
# The same in pairs of one night: bands of the two visits, and how many pairs.
_PAIRS = ((0, 1, 56), (1, 2, 24), (2, 3, 160), (3, 4, 24), (4, 5, 136), (5, 5, 12))
# How much rather a pair is taken with the moon below (positive) or up (negative).
_DARK = (3.0, 1.0, 0.5, -0.5, -2.0, -2.0)

ROMAN_CADENCE, ROMAN_SEASON, ROMAN_COLOUR = 12.1 / 1440, 72.0, 0.25
# Number of the half year, from autumn 2027: three seasons early and three late in five years.
_ROMAN_SEASONS = (0, 1, 2, 7, 8, 9)

KMT_CADENCE, KMT_SEASON, KMT_COLOUR = 15 / 1440, 245, 10
# Longitude east in degrees and fraction of clear nights at CTIO, SAAO and SSO.
KMT_SITES = ((-70.8, 0.75), (20.8, 0.6), (149.1, 0.55))


@dataclass(frozen=True)
class Visits:
    """Exposures of a field, ordered by band, then time.

    Attributes
    ----------
    time : float64 array of shape (n,)
        MJD, to a millionth of a day.
    band : uint8 array of shape (n,)
    """

    time: np.ndarray
    band: np.ndarray


def visits_of(time: np.ndarray, band: np.ndarray) -> Visits:
    """Exposures in any order, put in order."""
    time, band = np.round(time, 6), band.astype(np.uint8)
    order = np.lexsort((time, band))
    return Visits(time[order], band[order])


def moon(time: np.ndarray) -> np.ndarray:
    """Lit part of the moon at times in MJD: 0 new, 1 full (mean lunation; new on 6 January 2000)."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * (time - 51_549.76) / 29.530_588)


def clear_nights(generator: np.random.Generator, nights: int, share: float, spell: float = 3.0) -> np.ndarray:
    """Which nights are clear: bad weather comes in spells of `spell` nights in the mean, shape (nights,)."""
    good = spell * share / (1 - share)
    lengths = np.stack(
        [generator.geometric(1 / max(1.0, good), nights), generator.geometric(1 / spell, nights)], 1
    )
    first = int(generator.random() >= share)
    flat = lengths.ravel()[first : first + nights + 1]
    return np.repeat((np.arange(len(flat)) + first) % 2 == 0, flat)[:nights]


def _nights(generator: np.random.Generator, years: float, length: int, share: float) -> np.ndarray:
    """Clear nights of all seasons, in days from the start."""
    season, day = np.divmod(np.arange(int(np.ceil(years)) * length), length)
    night = np.ceil(season * YEAR) + day
    return night[clear_nights(generator, len(night), share) & (night < years * YEAR)]


def random_nights(
    generator: np.random.Generator, field: int, years: float, start: float, counts: tuple[int, ...]
) -> Visits:
    """So many exposures a band, on random nights of seasons of 8 months."""
    times = []
    for count in counts:
        season, day = np.divmod(generator.integers(0, max(1, int(years * 243)), count), 243)
        times.append(start + season * YEAR + day + generator.uniform(0.15, 0.5, count))
    return visits_of(np.concatenate(times), np.repeat(np.arange(len(counts)), counts))


def ztf(generator: np.random.Generator, field: int, years: float, start: float) -> Visits:
    """Every 2 or 3 nights g and r, every 4 or 5 i; seasons of 8 months, 70 % of the nights clear.

    The public surveys have had 3 and then 2 nights (Bellm et al. 2019, PASP 131, 068003; ZTF pages).
    """
    # A season begins at another date in another part of the sky.
    start = start + int(generator.integers(0, 120))
    clear = _nights(generator, years, 243, 0.7)
    last = int(years * YEAR) + 1
    times, bands = [], []
    for gaps, group in (((2, 4), (0, 1)), ((4, 6), (2,))):
        due = np.cumsum(generator.integers(*gaps, last))
        night = clear[np.isin(clear, due[due < last])]
        first = start + night + generator.uniform(0.12, 0.38, len(night))
        for number, band in enumerate(group):
            times.append(first + number * generator.uniform(0.02, 0.12, len(night)))
            bands.append(np.full(len(night), band))
    return visits_of(np.concatenate(times), np.concatenate(bands))


def lsst(generator: np.random.Generator, field: int, years: float, start: float) -> Visits:
    """Pairs of visits half an hour apart in neighbouring bands, 824 visits in ten years, 7 months a season.

    u and g rather in dark nights, z and y in bright ones. Approximate: real pairs and seasons vary, and the
    rolling cadence is left out.
    """
    start = start + int(generator.integers(0, 150))
    clear = _nights(generator, years, 213, 0.75)
    dark = 1 - 2 * moon(start + clear)
    times, bands = [], []
    for first, second, pairs in _PAIRS:
        count = min(len(clear), max(1, round(pairs * years / 10)))
        weight = np.exp(_DARK[first] * dark)
        night = generator.choice(clear, count, replace=False, p=weight / weight.sum())
        begin = start + night + generator.uniform(0.0, 0.33, count)
        times += [begin, begin + generator.uniform(22, 35, count) / 1440]
        bands += [np.full(count, first), np.full(count, second)]
    return visits_of(np.concatenate(times), np.concatenate(bands))


def roman(generator: np.random.Generator, field: int, years: float, start: float) -> Visits:
    """F146 every 12.1 minutes through six seasons of 72 days, F087 every 6 hours; one in 200 is lost."""
    # Six fields take turns within the 12.1 minutes.
    begin = start + (field % 6) * ROMAN_CADENCE / 6
    times, bands = [], []
    for season in _ROMAN_SEASONS:
        if season * YEAR / 2 >= years * YEAR:
            continue
        for step, shift, code in ((ROMAN_CADENCE, 0.0, 1), (ROMAN_COLOUR, 0.004, 0)):
            times.append(begin + season * YEAR / 2 + shift + np.arange(0, ROMAN_SEASON, step))
            bands.append(np.full(len(times[-1]), code))
    time, band = np.concatenate(times), np.concatenate(bands)
    kept = generator.random(len(time)) >= 0.005
    return visits_of(time[kept], band[kept])


def kmt(generator: np.random.Generator, field: int, years: float, start: float) -> Visits:
    """Three sites, I every 15 minutes and V after every tenth, 20 February to 22 October.

    A site observes while the bulge (which crosses the meridian at midnight in the middle of the season) is
    within 4.5 hours of the meridian, and within 5 hours of midnight.
    """
    times, bands = [], []
    for longitude, share in KMT_SITES:
        night = _nights(generator, years, KMT_SEASON, share)
        transit = -(night % YEAR - KMT_SEASON / 2) / YEAR  # days after midnight
        begin = np.maximum(-5.0 / 24, transit - 4.5 / 24)
        end = np.minimum(5.0 / 24, transit + 4.5 / 24)
        midnight = start + night - longitude / 360
        slot = np.arange(int(10 / 24 / KMT_CADENCE) + 1)
        lag = begin[:, None] + (slot + generator.random((len(night), 1))) * KMT_CADENCE
        seen = lag < end[:, None]
        times.append((midnight[:, None] + lag)[seen])
        bands.append(np.ones(len(times[-1])))
        colour = seen & (slot % KMT_COLOUR == 5)
        times.append((midnight[:, None] + lag + KMT_CADENCE / 5)[colour])
        bands.append(np.zeros(len(times[-1])))
    return visits_of(np.concatenate(times), np.concatenate(bands))
