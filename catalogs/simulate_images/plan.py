"""Injections over a set of exposures: the same objects in all of them, with their light curves."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skytrawl.catalogs.images.exposure import wcs_of_frame
from skytrawl.catalogs.images.frame import Frame
from skytrawl.catalogs.images.wcs import sky_to_pixel
from skytrawl.catalogs.simulate_curves import Sight
from skytrawl.catalogs.simulate_images.inject import Psf, inject
from skytrawl.catalogs.simulate_images.light import ALL
from skytrawl.catalogs.simulate_images.sky import TYPE, Columns, flux_of, offset
from skytrawl.catalogs.simulate_images.surveys import NJY
from skytrawl.catalogs.simulate_images.wcs import jacobians
from skytrawl.errors import ParameterError

# Classes that a plan can hold: a source that stays as it is, an extended one, one that moves, light curves.
KINDS = ("point", "extended", "moving", *ALL)
_WAVELENGTH = 622.0  # nm; amplitudes of variable stars depend on it
_MARGIN = 64.0  # pixels outside an image from which sources still reach in


@dataclass(frozen=True)
class InjectionPlan:
    """Objects to be injected into exposures; each follows from the plan alone, so that any worker can do it.

    Attributes
    ----------
    objects : dict of arrays of shape (n,)
        id, type (one of KINDS), ra, dec (degrees; of moving ones at `epoch`), flux (nJy; quiescent, 0 for
        transients), epoch (MJD), speed_ra, speed_dec (arcsec/h), half_light (arcsec), axis_ratio, angle
        (degrees, north through east), index, and the parameters of light curves.
    seed : int
        Of the photon noise.
    first, last : float
        MJD of the exposures that get their light; on others they are dark.
    """

    objects: Columns
    seed: int
    first: float = -np.inf
    last: float = np.inf

    def __len__(self) -> int:
        return len(self.objects["id"])

    @classmethod
    def random(
        cls,
        seed: int,
        counts: Mapping[str, int],
        mjd: Sequence[float] | np.ndarray,
        corners: np.ndarray,
        magnitudes: tuple[float, float],
        *,
        first_id: int = 0,
    ) -> "InjectionPlan":
        """Objects at random places, uniform over the area of the exposures.

        Parameters
        ----------
        seed : int
        counts : mapping of str to int
            How many of each kind of `KINDS`.
        mjd : sequence of float
            Times of the exposures: transients rise and peak about them, moving objects are there at one.
        corners : float64 array of shape (exposures, 4, 2)
            Right ascension and declination of the corners of each exposure, degrees.
        magnitudes : tuple of float
            Brightest and faintest AB magnitude: of transients at maximum, of others when quiet.
        first_id : int
            Number of the first object.

        Raises
        ------
        ParameterError
            For a kind that does not exist or magnitudes in the wrong order.
        """
        unknown = sorted(set(counts) - set(KINDS))
        if unknown:
            raise ParameterError(
                f"nothing called {', '.join(unknown)} can be injected: take {', '.join(KINDS)}"
            )
        if not magnitudes[0] <= magnitudes[1]:
            raise ParameterError(f"magnitudes={magnitudes}: give the brightest first")
        generator = np.random.default_rng(seed)
        kinds = np.repeat(list(counts), list(counts.values())).astype(TYPE)
        count, times = len(kinds), np.asarray(mjd, np.float64)
        ra, dec = _within(generator, count, np.asarray(corners, np.float64).reshape(-1, 4, 2))
        level = generator.uniform(*magnitudes, count)
        sight = Sight(times, np.full(len(times), _WAVELENGTH / 550.0), *magnitudes, NJY)
        transient = np.isin(kinds, [b"supernova", b"nova"])
        speed, way = generator.uniform(5.0, 60.0, count), generator.uniform(0, 2 * np.pi, count)
        moving, extended = kinds == b"moving", kinds == b"extended"
        objects: Columns = {
            "id": np.arange(first_id, first_id + count, dtype=np.int64),
            "type": kinds,
            "ra": ra,
            "dec": dec,
            "flux": np.where(transient, 0.0, flux_of(level)),
            "epoch": generator.choice(times, count),
            "speed_ra": np.where(moving, speed * np.sin(way), 0.0),
            "speed_dec": np.where(moving, speed * np.cos(way), 0.0),
            "half_light": np.where(extended, np.exp(generator.uniform(np.log(0.3), np.log(3.0), count)), 0.0),
            "axis_ratio": generator.uniform(0.3, 1.0, count),
            "angle": generator.uniform(0.0, 180.0, count),
            "index": np.where(generator.random(count) < 0.7, 1.0, 4.0),
        }
        for name, (draw, _) in ALL.items():
            rows = np.flatnonzero(kinds == name.encode())
            if len(rows):
                for key, values in draw(generator, len(rows), sight).items():
                    objects.setdefault(key, np.full(count, np.nan))[rows] = values
        return cls(objects, seed)

    def light(self, mjd: float) -> np.ndarray:
        """Total fluxes at a time: float64 array of shape (n,), nJy; 0 before `first` and after `last`."""
        flux = self.objects["flux"].copy()
        if not self.first <= mjd <= self.last:
            return np.zeros_like(flux)
        sight = Sight(np.array([mjd]), np.array([_WAVELENGTH / 550.0]), 0.0, 0.0, NJY)
        for name, (_, change) in ALL.items():
            rows = np.flatnonzero(self.objects["type"] == name.encode())
            if len(rows):
                values = {key: column[rows] for key, column in self.objects.items()}
                flux[rows] = change(flux[rows, None], sight, values)[:, 0]
        return flux

    def sources(self, wcs: Any, shape: tuple[int, int], mjd: float, exposure_time: float) -> Columns:
        """What lies on an exposure, in its pixels.

        Parameters
        ----------
        wcs : astropy.wcs.WCS
        shape : tuple of int
        mjd : float
            Middle of the exposure.
        exposure_time : float
            Seconds; NaN is read as 0.

        Returns
        -------
        dict of arrays
            As `inject` takes them.
        """
        here, hours = self.objects, (mjd - self.objects["epoch"]) * 24.0
        east, north = here["speed_ra"] * hours / 3600.0, here["speed_dec"] * hours / 3600.0
        ra, dec = offset(here["ra"], here["dec"], east, north)
        x, y = sky_to_pixel(wcs, ra, dec)
        with np.errstate(invalid="ignore"):
            near = (x > -_MARGIN) & (x < shape[1] + _MARGIN) & (y > -_MARGIN) & (y < shape[0] + _MARGIN)
        rows = np.flatnonzero(near)
        ra, dec, x, y = ra[rows], dec[rows], x[rows], y[rows]
        found = {name: here[name][rows] for name in ("id", "type", "axis_ratio", "index")}
        local = jacobians(wcs, ra, dec, x, y)
        way = np.stack([here["speed_ra"][rows], here["speed_dec"][rows]], axis=1)
        way = np.einsum("nij,nj->ni", local, way) * np.nan_to_num(exposure_time) / 3600.0
        angle = np.radians(here["angle"][rows])
        major = np.einsum("nij,jn->ni", local, np.array([np.sin(angle), np.cos(angle)]))
        found |= {"ra": ra, "dec": dec, "x": x, "y": y, "dx": way[:, 0], "dy": way[:, 1]}
        found["half_light"] = here["half_light"][rows] * np.hypot(major[:, 0], major[:, 1])
        found["angle"] = np.degrees(np.arctan2(major[:, 1], major[:, 0]))
        found["flux"], found["quiescent"] = self.light(mjd)[rows], here["flux"][rows]
        return found


def inject_frame(
    frame: Frame, plan: InjectionPlan, psf: Psf, *, gain: float | None = None, noise: bool = True
) -> tuple[Frame, Columns]:
    """Put the objects of a plan into an exposure of a store.

    Parameters
    ----------
    frame : Frame
        With the arrays and the row that `skytrawl ingest-images` writes.
    plan : InjectionPlan
    psf : PsfModel
        Of this frame.
    gain : float, optional
        Electrons per image unit; by default that of the row, or what the variance shows.
    noise : bool
        Whether light comes with its Poisson noise.

    Returns
    -------
    Frame
        The same with the sources; attribute ``injected`` tells the seed and how many.
    truth : dict of arrays
        Columns of `truth.TRUTH`.

    Raises
    ------
    ParameterError
        If the frame has no zero point, or no gain and none that the variance shows.
    """
    row, shape = frame.row, frame.arrays["image"].shape
    sources = plan.sources(wcs_of_frame(frame), (shape[0], shape[1]), row["mjd"], row["exptime"])
    known = row["gain"] if gain is None else gain
    saturation = row["saturation"]
    arrays, truth = inject(
        frame.arrays,
        psf,
        sources,
        np.random.SeedSequence((plan.seed, zlib.crc32(frame.id.encode()))),
        gain=None if known is None else known,
        njy_per_unit=np.nan if row["njy_per_unit"] is None else row["njy_per_unit"],
        saturation=saturation if saturation is not None and saturation > 0 else np.inf,
        mjd=row["mjd"],
        noise=noise,
    )
    truth["exposure"] = np.full(len(truth["id"]), frame.id.encode())
    attrs = {**frame.attrs, "injected": {"seed": plan.seed, "sources": len(truth["id"])}}
    return Frame(frame.id, arrays, attrs, dict(row), frame.dims), truth


def _within(generator: np.random.Generator, count: int, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions uniform within the quadrilaterals of exposures, each as often as the others."""
    chosen = corners[generator.integers(0, len(corners), count)]
    centre = chosen.mean(axis=1)
    # Right ascensions across 0 belong together.
    turn = (chosen[:, :, 0] - chosen[:, :1, 0] + 180.0) % 360.0 - 180.0
    ra = chosen[:, 0, 0] + turn.mean(axis=1)
    east = (turn - turn.mean(axis=1)[:, None]) * np.cos(np.radians(centre[:, 1]))[:, None]
    north = chosen[:, :, 1] - centre[:, 1][:, None]
    u, v = generator.random(count), generator.random(count)
    weights = np.stack([(1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v], axis=1)
    return offset(ra, centre[:, 1], (weights * east).sum(axis=1), (weights * north).sum(axis=1))
