"""Tables of the Earth and of satellites for parallax, and times as barycentric dates."""

import importlib.util
import warnings
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from skytrawl.catalogs.heliocentric import SCALES, to_geocentric, to_heliocentric
from skytrawl.catalogs.times import MJD_ZERO
from skytrawl.errors import BackendUnavailableError, ParameterError

if TYPE_CHECKING:
    from skytrawl.kernels.lens.parallax import Ephemeris

# Straight lines between places that are so far apart in time are wrong by 1.5e-7 au; a day apart, by 4e-5 au.
_STEP = 1.0 / 16.0


def earth_ephemeris(first: float, last: float) -> "Ephemeris":
    """The Earth from the Sun, from astropy's built-in ephemeris (erfa epv00; no download).

    Parameters
    ----------
    first, last : float
        Julian dates (TDB) that must be covered, reference times included; within the years 1900 to 2100.

    Returns
    -------
    Ephemeris
        Every 1/16 day: within 2e-7 au.

    Raises
    ------
    ParameterError
        For other years, such as come from Julian dates without their leading digits.
    """
    if not 2_415_020.0 < first <= last < 2_488_070.0:
        raise ParameterError(
            f"Julian dates {first} to {last} lie outside of the years 1900 to 2100: give full dates (BJD_TDB)"
        )
    return _earth(int(first // 64) * 64 - 64, int(last // 64) * 64 + 128)


@lru_cache(maxsize=8)
def _earth(first: int, last: int) -> "Ephemeris":
    from erfa import epv00

    from skytrawl.kernels.lens.parallax import Ephemeris  # its package loads Numba

    days = np.arange((last - first) / _STEP + 1) * _STEP
    place = epv00(float(first), days)[0]["p"]
    return Ephemeris(first + days, np.ascontiguousarray(place))


@lru_cache(maxsize=1)
def vbm_earth_ephemeris() -> "Ephemeris":
    """The Earth from the Sun as VBMicrolensing has it: its daily table, 1990 to 2050.

    With straight lines between the days it departs from the Earth's way by up to 4e-5 au, and its dates are
    UT: take it for comparisons with light curves of VBMicrolensing, and `earth_ephemeris` else.

    Raises
    ------
    BackendUnavailableError
        Without VBMicrolensing.
    """
    from skytrawl.kernels.lens.parallax import Ephemeris

    package = importlib.util.find_spec("VBMicrolensing")
    if package is None or package.origin is None:
        raise BackendUnavailableError(
            "the table of the Earth is part of VBMicrolensing: pip install 'skytrawl[lens]'"
        )
    sun = _read_table(Path(package.origin).parent / "data" / "SunEphemeris.txt")
    return Ephemeris(sun[:, 0], -_places(sun))


def read_satellite_table(path: str | Path, center: Literal["earth", "sun"] = "earth") -> "Ephemeris":
    """Read where a satellite is: lines of Julian date, right ascension, declination and distance.

    The columns are separated by blanks or commas, in degrees (ICRS) and au; further columns are ignored.
    Where the file has marks ``$$SOE`` and ``$$EOE``, as JPL Horizons writes them, only what stands between
    them is read. Lines that begin with ``#`` or ``*`` are skipped.

    Parameters
    ----------
    path : path
    center : {"earth", "sun"}
        What directions and distances are counted from. The tables of VBMicrolensing and RTModel count from
        the Earth.

    Returns
    -------
    Ephemeris

    Raises
    ------
    ParameterError
        For a file that cannot be read, a line without four numbers, dates that do not ascend or are no full
        Julian dates; names the line.
    """
    from skytrawl.kernels.lens.parallax import Ephemeris

    path = Path(path)
    table = _read_table(path)
    ephemeris = Ephemeris(table[:, 0], _places(table), center)
    ephemeris.check(str(path))
    return ephemeris


def _read_table(path: Path) -> NDArray[np.float64]:
    """Julian date, right ascension, declination, distance: float64[n, 4]."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ParameterError(f"the ephemeris {path} cannot be read: {error.strerror}") from error
    marks = [n for n, line in enumerate(lines) if line.startswith("$$SOE")]
    ends = [n for n, line in enumerate(lines) if line.startswith("$$EOE")]
    first, last = (marks[0] + 1 if marks else 0), (ends[0] if ends else len(lines))
    found = []
    for number, line in enumerate(lines[first:last], first + 1):
        if not line.strip() or line.lstrip()[0] in "#*":
            continue
        try:
            date, ra, dec, distance = (float(word) for word in line.replace(",", " ").split()[:4])
        except ValueError as error:
            raise ParameterError(
                f"{path}, line {number}: {line.strip()[:60]!r} is not Julian date, right ascension and "
                "declination (deg), distance (au)"
            ) from error
        if not (date > 2_400_000.0 and -90.0 <= dec <= 90.0 and distance >= 0.0):
            raise ParameterError(
                f"{path}, line {number}: Julian date {date}, declination {dec}, distance {distance}: it "
                "must be a full date, the declination in degrees, the distance positive"
            )
        found.append((date, ra, dec, distance))
    if not found:
        raise ParameterError(f"{path} holds no line of an ephemeris")
    return np.array(found)


def _places(table: NDArray[np.float64]) -> NDArray[np.float64]:
    ra, dec, distance = np.radians(table[:, 1]), np.radians(table[:, 2]), table[:, 3]
    axes = (np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec))
    return np.stack([distance * axis for axis in axes], axis=-1)


def to_bjd_tdb(
    time: NDArray[np.float64],
    ra: NDArray[np.float64] | float,
    dec: NDArray[np.float64] | float,
    *,
    scale: str,
    reference_position: str,
) -> NDArray[np.float64]:
    """Barycentric Julian dates, time scale TDB (Eastman, Siverd & Gaudi 2010, PASP 122, 935).

    Parameters
    ----------
    time : float64[n]
        Modified Julian dates, as an archive holds them.
    ra, dec : float64[n] or float
        Direction of the object, deg, ICRS.
    scale : {"utc", "tai", "tt", "tdb"}
    reference_position : {"barycenter", "heliocenter", "geocenter", "topocenter"}
        Where the times hold. For a place on the Earth its centre is taken, which is 21 ms away at most.

    Returns
    -------
    float64[n]
        Within 1 ms, rounded to the 40 microseconds of a float64; NaN where an input is NaN.

    Raises
    ------
    ParameterError
        If scale or place are not known: nothing is guessed, for the places lie 8 minutes apart.
    """
    if scale not in SCALES:
        raise ParameterError(
            f"times of scale {scale!r} cannot become barycentric dates: state the scale of the survey's "
            f"times, one of {', '.join(SCALES)}"
        )
    if reference_position not in ("barycenter", "heliocenter", "geocenter", "topocenter"):
        raise ParameterError(
            f"times whose reference position is {reference_position!r} cannot become barycentric dates: "
            "state the reference_position of the times: barycenter, heliocenter, geocenter or topocenter"
        )
    time = np.asarray(time, np.float64)
    along, across = np.broadcast_to(ra, time.shape), np.broadcast_to(dec, time.shape)
    if reference_position == "heliocenter":
        time = to_geocentric(time, along, across, scale=scale, position="heliocenter")
    if reference_position != "barycenter":
        time = to_heliocentric(time, along, across, scale=scale, position="barycenter")
    if scale == "tdb":
        return time + MJD_ZERO
    from astropy.time import Time
    from erfa import ErfaWarning

    result = np.full(time.shape, np.nan)
    finite = np.isfinite(time)
    with warnings.catch_warnings():
        # UTC of years whose leap seconds are not known yet: a second moves the Earth by 2e-7 au.
        warnings.simplefilter("ignore", ErfaWarning)
        moments = Time(np.full(int(finite.sum()), MJD_ZERO), time[finite], format="jd", scale=scale).tdb
    result[finite] = moments.jd
    return result
