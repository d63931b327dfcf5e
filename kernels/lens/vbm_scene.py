"""What fits with parallax must know beyond the light curves."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError
from skytrawl.kernels.curves import Curves
from skytrawl.kernels.lens.parallax import Convention, Displacement, Ephemeris, displace
from skytrawl.kernels.lens.vbm_model import Kind


@dataclass(frozen=True)
class Parallax:
    """Coordinates, tables and conventions; the times of the light curves are full Julian dates (BJD_TDB).

    Parameters
    ----------
    earth : Ephemeris
        The Earth from the Sun, such as `skytrawl.catalogs.ephemeris.earth_ephemeris` gives.
    ra_deg, dec_deg : float or float64[n_objects], degrees, ICRS
        An object whose position is not finite gets the status `OUTSIDE`.
    tref : float or float64[n_objects], Julian date, optional
        When the frame of t0, tE and u0 has the observer's velocity; by default each object's median time.
    satellite : Ephemeris, or mapping of labels to Ephemeris, optional
        Table of the telescope in space: of all data sets, or of those with these labels, the others being on
        the Earth. Kinds without "space" in their name do not look at it.
    space_parallax_convention : {"vbm", "gulls"}
        See `skytrawl.kernels.lens.parallax`; kinds with "gulls" in their name take that.
    parallax_use_HJD : bool
        False for times at the Earth (JD_TDB): light travel times are added. Not regarded with "gulls".
    max_piE : float
        Limit of each component of the parallax.
    seeds : tuple of (float, float)
        (piEN, piEE) of the starts, each with both signs of u0.

    Raises
    ------
    ParameterError
        For values that cannot be meant.
    """

    earth: Ephemeris
    ra_deg: float | NDArray[np.float64]
    dec_deg: float | NDArray[np.float64]
    tref: float | NDArray[np.float64] | None = None
    satellite: Ephemeris | Mapping[int, Ephemeris] | None = None
    space_parallax_convention: Convention = "vbm"
    parallax_use_HJD: bool = True
    max_piE: float = 10.0
    seeds: tuple[tuple[float, float], ...] = ((0.0, 0.0), (0.3, 0.0), (-0.3, 0.0), (0.0, 0.3), (0.0, -0.3))

    def __post_init__(self) -> None:
        if self.space_parallax_convention not in ("vbm", "gulls"):
            raise ParameterError(
                f"space_parallax_convention is {self.space_parallax_convention!r}; choose 'vbm' or 'gulls'"
            )
        if not (np.isfinite(self.max_piE) and self.max_piE > 0) or not self.seeds:
            raise ParameterError("max_piE must be a positive number, and seeds must not be empty")
        self.earth.check("earth")
        if self.earth.center != "sun":
            raise ParameterError("earth: its places must be counted from the Sun")
        if isinstance(self.satellite, Ephemeris):
            self.satellite.check("satellite")
        elif self.satellite is not None:
            for label, table in self.satellite.items():
                table.check(f"satellite of data set {label}")

    def telescopes(self, labels: NDArray[np.int64]) -> list[Ephemeris | None]:
        """Table of the telescope of each data set, None on the Earth."""
        if self.satellite is None or isinstance(self.satellite, Ephemeris):
            return [self.satellite] * len(labels)
        return [self.satellite.get(int(label)) for label in labels]


def check(kind: Kind, name: str, parallax: Parallax | None, n_objects: int) -> None:
    """Raise ParameterError where a kind of model lacks what it needs."""
    if not kind.parallax:
        return
    if parallax is None:
        raise ParameterError(f"kind {name!r} needs ra_deg, dec_deg and the Earth's ephemeris: give parallax=")
    if kind.space and not parallax.satellite:
        raise ParameterError(f"kind {name!r} needs the table of a telescope in space: give satellite=")
    for word in ("ra_deg", "dec_deg", "tref"):
        size = np.size(getattr(parallax, word))
        if size not in (1, n_objects):
            raise ParameterError(f"{word} has {size} values for {n_objects} objects")


def displacement_of(
    curves: Curves, k: int, kind: Kind, parallax: Parallax
) -> tuple[Displacement, NDArray[np.bool_]] | None:
    """Displacements of the rows of an object, and which of them a telescope in space has taken.

    Returns
    -------
    (Displacement, bool[n]) or None
        None without a position, or where the ephemerides do not cover the times.
    """
    d0, d1 = curves.sets[k], curves.sets[k + 1]
    rows = curves.rows[d0 : d1 + 1]
    time = curves.time[rows[0] : rows[-1]]
    ra, dec = (_of(value, k) for value in (parallax.ra_deg, parallax.dec_deg))
    tref = float(np.median(time)) if parallax.tref is None else _of(parallax.tref, k)
    if not (np.isfinite([ra, dec, tref]).all() and abs(dec) <= 90.0):
        return None
    labels = curves.label[d0:d1]
    telescopes = parallax.telescopes(labels) if kind.space else [None] * len(labels)
    found = displace(
        time,
        rows - rows[0],
        telescopes,
        parallax.earth,
        ra,
        dec,
        tref,
        "gulls" if kind.gulls else parallax.space_parallax_convention if kind.space else "vbm",
        parallax.parallax_use_HJD,
    )
    if not found.inside:
        return None
    return found, np.repeat([table is not None for table in telescopes], np.diff(rows))


def _of(value: float | NDArray[np.float64], k: int) -> float:
    """The value of an object out of one for all or one each."""
    values = np.ravel(np.asarray(value, np.float64))
    return float(values[k if len(values) > 1 else 0])
