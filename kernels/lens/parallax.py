"""Where the source is as seen by a moving observer: microlens parallax (Gould 2004, ApJ 606, 319).

In the frame that moves evenly, with the place and velocity of a reference observer at `tref`, lens and
source pass each other on a straight line with (t0, tE, u0). The observer is displaced from the frame by
d(t) = E(t) - E(tref) - E'(tref) (t - tref), in au; with its components to north and east on the sky

    tau  = (t - t0) / tE - piEN dN - piEE dE
    beta = u0 + piEE dN - piEN dE

as VBMicrolensing has it (parallaxsystem 1). There are two conventions for a telescope in space, and in both
its table may count from the Earth or from the Sun:

- ``"vbm"``: the frame is the Earth's. E is the place of the Earth, and the place of the telescope as seen
  from the Earth is added to d.
- ``"gulls"``: the frame is the telescope's own. E is its place as seen from the Sun; times are taken as
  they are.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError

Convention = Literal["vbm", "gulls"]

AU_LIGHT_DAYS = 0.005775518331436995


class Ephemeris(NamedTuple):
    """Places of a body at ascending times, with straight lines in between.

    Attributes
    ----------
    time : float64[n], Julian dates (TDB)
    position : float64[n, 3], au, equatorial axes of the ICRS
    center : {"sun", "earth"}, what the places are counted from
    """

    time: NDArray[np.float64]
    position: NDArray[np.float64]
    center: Literal["sun", "earth"] = "sun"

    def at(self, time: NDArray[np.float64]) -> NDArray[np.float64]:
        """Places at some times: float64[n, 3], au; NaN outside of the table."""
        axes = [np.interp(time, self.time, axis, left=np.nan, right=np.nan) for axis in self.position.T]
        return np.stack(axes, axis=-1)

    def speed(self, time: float) -> NDArray[np.float64]:
        """Velocity at a time, au/d: float64[3]; slopes of the steps, linear between their middles."""
        middles = 0.5 * (self.time[1:] + self.time[:-1])
        first = int(np.clip(np.searchsorted(middles, time) - 1, 0, len(middles) - 2))
        rows = slice(first, first + 3)
        slopes = np.diff(self.position[rows], axis=0) / np.diff(self.time[rows])[:, None]
        part = np.clip((time - middles[first]) / (middles[first + 1] - middles[first]), 0.0, 1.0)
        return slopes[0] * (1.0 - part) + slopes[1] * part

    def check(self, name: str) -> None:
        """Raise ParameterError where the table cannot be used; `name` says whose it is."""
        n = len(self.time)
        if n < 3 or np.shape(self.position) != (n, 3):
            raise ParameterError(
                f"{name}: {n} times, places of shape {np.shape(self.position)}; give 3 rows at least, 3 axes"
            )
        if not (np.isfinite(self.time).all() and np.isfinite(self.position).all()):
            raise ParameterError(f"{name}: a time or place is not finite")
        if not (np.diff(self.time) > 0).all():
            raise ParameterError(f"{name}: times must ascend without repeats")
        if self.center not in ("sun", "earth"):
            raise ParameterError(f"{name}: center is {self.center!r}; it must be 'sun' or 'earth'")


class Displacement(NamedTuple):
    """What the motion of the observers does to the rows of one object, whatever the lens.

    Attributes
    ----------
    time : float64[n], days after `tref`
        Of times at the observer, with the light travel time to the Sun added.
    north, east : float64[n], au; NaN outside of the ephemeris
    tref : float, Julian date
    delays : (float64[m], float64[m]) or None
        Of times at the observer: a table of light travel times, days, over Julian dates.
    """

    time: NDArray[np.float64]
    north: NDArray[np.float64]
    east: NDArray[np.float64]
    tref: float
    delays: tuple[NDArray[np.float64], NDArray[np.float64]] | None

    @property
    def inside(self) -> bool:
        """Whether the ephemerides cover all rows and `tref`."""
        return bool(np.isfinite(self.north).all())

    def moment(self, t0: float) -> float:
        """A time, given in days after `tref` as observed, on the axis of `time`."""
        if self.delays is None:
            return t0
        return t0 + float(np.interp(self.tref + t0, *self.delays))

    def track(
        self, t0: float, tE: float, u0: float, piEN: float, piEE: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Components tau and beta of the source, float64[n] each; t0 in days after `tref`."""
        tau = (self.time - self.moment(t0)) / tE - piEN * self.north - piEE * self.east
        return tau, u0 + piEE * self.north - piEN * self.east


def sky(
    ra_deg: float, dec_deg: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors towards a place on the sky, and to the north and the east of it: float64[3] each."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    toward = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    north = np.array([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    return toward, north, np.array([-np.sin(ra), np.cos(ra), 0.0])


def displace(
    time: NDArray[np.float64],
    rows: NDArray[np.int64],
    telescopes: Sequence[Ephemeris | None],
    earth: Ephemeris,
    ra_deg: float,
    dec_deg: float,
    tref: float,
    convention: Convention = "vbm",
    at_sun: bool = True,
) -> Displacement:
    """Displacements of the observers of one object.

    Parameters
    ----------
    time : float64[n], Julian dates (TDB)
    rows : int64[n_sets + 1]
        Rows ``rows[d]:rows[d + 1]`` belong to data set d.
    telescopes : sequence of n_sets
        Table of the telescope of each data set; None on Earth.
    earth : Ephemeris, center "sun"
    ra_deg, dec_deg : float, degrees, ICRS
    tref : float, Julian date
    convention : {"vbm", "gulls"}
        With "gulls" the first telescope in space gives the frame for all data sets.
    at_sun : bool
        Times are corrected to the Sun or the barycentre (5 s apart at most: the Earth moves 1e-6 au):
        the Earth's place is taken at the moment when the light passed it. False: times at the Earth; the
        light travel time is added to them, and t0 is such a time too. Not regarded with "gulls".

    Returns
    -------
    Displacement
    """
    toward, north, east = sky(ra_deg, dec_deg)
    delays = None
    if convention == "gulls":
        orbit = next((telescope for telescope in telescopes if telescope is not None), None)
        start = _place(orbit, earth, np.array([tref]))[0]
        speed = _speed(orbit, earth, tref)
        places = _by_set(time, rows, telescopes, lambda table, t: _place(table, earth, t))
        days = time - tref
    else:
        moments = _passing(np.append(time, tref), earth, toward) if at_sun else np.append(time, tref)
        start, speed = earth.at(moments[-1:])[0], earth.speed(float(moments[-1]))
        places = earth.at(moments[:-1])
        days = time - tref
        if not at_sun:
            delays = (earth.time, earth.position @ toward * AU_LIGHT_DAYS)
            first = float(np.interp(tref, *delays))
            days = days + places @ toward * AU_LIGHT_DAYS
            start = start - speed * first  # the frame has moved on when the light of tref comes to the Sun
        places = places + _by_set(time, rows, telescopes, lambda table, t: _from_earth(table, earth, t))
    d = places - start - speed * days[:, None]
    return Displacement(days, d @ north, d @ east, tref, delays)


def _by_set(
    time: NDArray[np.float64],
    rows: NDArray[np.int64],
    telescopes: Sequence[Ephemeris | None],
    place: Callable[[Ephemeris | None, NDArray[np.float64]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Places of the rows, each from the telescope of its data set: float64[n, 3]."""
    parts = [place(telescope, time[rows[d] : rows[d + 1]]) for d, telescope in enumerate(telescopes)]
    return np.concatenate([np.zeros((0, 3)), *parts])


def _place(table: Ephemeris | None, earth: Ephemeris, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where a telescope is, from the Sun."""
    if table is None:
        return earth.at(time)
    return table.at(time) if table.center == "sun" else earth.at(time) + table.at(time)


def _speed(table: Ephemeris | None, earth: Ephemeris, time: float) -> NDArray[np.float64]:
    if table is None:
        return earth.speed(time)
    return table.speed(time) if table.center == "sun" else earth.speed(time) + table.speed(time)


def _from_earth(table: Ephemeris | None, earth: Ephemeris, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where a telescope is, from the Earth."""
    if table is None:
        return np.zeros((len(time), 3))
    return table.at(time) if table.center == "earth" else table.at(time) - earth.at(time)


def _passing(time: NDArray[np.float64], earth: Ephemeris, toward: NDArray[np.float64]) -> NDArray[np.float64]:
    """When light that reaches the Sun at `time` passes the Earth, to 1e-9 d: each round gains four digits."""
    moments = time
    for _ in range(3):
        moments = time - earth.at(moments) @ toward * AU_LIGHT_DAYS
    return moments
