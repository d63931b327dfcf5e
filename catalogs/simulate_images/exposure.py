"""One simulated exposure: conditions, expected electrons, pixels, mask, truth."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs.images.wcs import sky_to_pixel, wcs_of
from skytrawl.catalogs.simulate_images.sky import TYPE, Columns, Sky, offset
from skytrawl.catalogs.simulate_images.surveys import NJY, ImageModel
from skytrawl.catalogs.simulate_images.wcs import jacobians
from skytrawl.kernels import flags
from skytrawl.kernels.render.detector import cosmic_rays, expose
from skytrawl.kernels.render.galaxies import add_galaxies
from skytrawl.kernels.render.moffat import MoffatField
from skytrawl.kernels.render.stamps import weigh

if TYPE_CHECKING:
    from astropy.io.fits import Header

# Sources are drawn to where they fall below this share of the noise of the sky, within these widths.
_LEVEL = 0.01
_LEAST, _MOST = 5.0, 60.0
_STAMP = 5.0  # half width of the stamps that weigh truth, in FWHM
_TRAIL = 0.25  # distance of the points of a trail, in FWHM
_FLAGGED = 0.3  # charge of a cosmic ray, in sigma of the pixel, from which a pixel of it is flagged


@dataclass(frozen=True)
class Conditions:
    """All that is particular to one exposure.

    Attributes
    ----------
    number : int
    mjd : float
        Middle of the exposure, UTC.
    exposure_time : float
        Seconds.
    unit : float
        Electrons per image unit.
    electrons : float
        Electrons that a source of 1 nJy gives.
    sky : float64 array of shape (6,)
        Electrons a pixel: coefficients of 1, u, v, u^2, u v, v^2, which run from -1 to 1 over the image.
    psf : MoffatField
    true, delivered : Header
        Cards of the coordinates as they are, and as they were measured.
    tracks : float
        Mean number of cosmic rays.
    flagged : float
        Share of these that the mask shows.
    seed : numpy.random.SeedSequence
    """

    number: int
    mjd: float
    exposure_time: float
    unit: float
    electrons: float
    sky: np.ndarray
    psf: MoffatField
    true: "Header"
    delivered: "Header"
    tracks: float
    flagged: float
    seed: np.random.SeedSequence

    @property
    def zero_point(self) -> float:
        """AB magnitude of one image unit."""
        return NJY - 2.5 * np.log10(self.unit / self.electrons)

    @cached_property
    def fwhm(self) -> float:
        """FWHM of stars in the middle of the image as they appear on the pixels, pixels."""
        from skytrawl.kernels.psf import PsfModel

        middle = 0.5 * (self.psf.shape[0] - 1)
        return float(PsfModel.constant(self.psf.at(middle, middle)).fwhm())


@dataclass(frozen=True)
class Exposure:
    """Pixels and truth.

    Attributes
    ----------
    image : float32 array of shape (ny, nx)
        Image units, sky included.
    variance : float32 array of shape (ny, nx)
        As it can be told from the pixels: sky, sources and read noise, image units squared.
    mask : uint16 array of shape (ny, nx)
        Bits of `skytrawl.kernels.flags`.
    detected : bool array of shape (ny, nx)
        Where sources stand out of the noise.
    truth : dict of arrays
        One row for everything that changes or moves and lies on the image.
    """

    image: np.ndarray
    variance: np.ndarray
    mask: np.ndarray
    detected: np.ndarray
    truth: Columns


def sky_plane(coefficients: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The sky of an exposure: float32 array of the shape."""
    ny, nx = shape
    v, u = np.linspace(-1, 1, ny, dtype=np.float32)[:, None], np.linspace(-1, 1, nx, dtype=np.float32)[None]
    c = coefficients.astype(np.float32)
    return np.asarray(c[0] + (c[1] + c[3] * u) * u + (c[2] + c[5] * v) * v + c[4] * u * v, np.float32)


def bad_pixels(seed: np.random.SeedSequence, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Defects of a detector: rows and columns of its bad pixels, the same in all exposures."""
    generator = np.random.default_rng(seed)
    bad = np.zeros((size, size), bool)
    for column in generator.integers(0, size, max(1, size // 500)):
        begin = int(generator.integers(0, size))
        bad[begin:, column] = True
    spots = generator.integers(0, size, (2, int(2e-4 * size * size)))
    bad[spots[0], spots[1]] = True
    return tuple(np.nonzero(bad))  # type: ignore[return-value]


def make_exposure(
    model: ImageModel, sky: Sky, conditions: Conditions, defects: tuple[np.ndarray, np.ndarray]
) -> Exposure:
    """Draw, expose and read out.

    Parameters
    ----------
    model : ImageModel
    sky : Sky
    conditions : Conditions
    defects : tuple of int64 arrays
        Rows and columns of bad pixels.
    """
    shape = conditions.psf.shape
    generator = np.random.default_rng(conditions.seed)
    wcs = wcs_of(conditions.true.tostring())
    background = sky_plane(conditions.sky, shape)
    expected = background.copy()
    noise = float(np.sqrt(conditions.sky[0] + model.read_noise**2))
    _draw_still(expected, sky, conditions, wcs, noise)
    rows = _draw_changing(expected, sky, conditions, wcs, noise)
    detector = model.detector(conditions.unit)
    count = int(generator.poisson(conditions.tracks))
    shown = int(generator.binomial(count, conditions.flagged))
    flagged = cosmic_rays(generator, shape, shown, detector)
    charge = flagged + cosmic_rays(generator, shape, count - shown, detector)
    image, mask = expose(generator, expected, detector, charge)
    mask[flagged > _FLAGGED * noise] |= flags.COSMIC_RAY
    # Dead and hot pixels have lost what they measured.
    image[defects] = generator.uniform(0.0, 3.0, len(defects[0])) * conditions.sky[0] / conditions.unit
    mask[defects] = flags.BAD
    floor = (model.read_noise / conditions.unit) ** 2
    variance = np.maximum(image, 0.0) / np.float32(conditions.unit) + np.float32(floor)
    usable = (mask & flags.UNUSABLE) == 0
    truth = _truth(rows, expected, usable, conditions, model.read_noise)
    detected = expected - background > 3.0 * noise
    return Exposure(image, variance, mask, detected, truth)


def _visible(columns: Columns, wcs: Any, shape: tuple[int, int], margin: float) -> tuple[np.ndarray, ...]:
    x, y = sky_to_pixel(wcs, columns["ra"], columns["dec"])
    near = (x > -margin) & (x < shape[1] + margin) & (y > -margin) & (y < shape[0] + margin)
    rows = np.flatnonzero(near)
    return rows, x[rows], y[rows]


def _reach(psf: MoffatField, flux: np.ndarray, noise: float) -> np.ndarray:
    width = float(psf.width[0])
    return np.clip(psf.reach(flux, _LEVEL * noise), _LEAST * width, _MOST * width)


def _draw_still(expected: np.ndarray, sky: Sky, now: Conditions, wcs: Any, noise: float) -> None:
    psf, margin = now.psf, _MOST * float(now.psf.width[0])
    rows, x, y = _visible(sky.stars, wcs, psf.shape, margin)
    flux = sky.stars["flux"][rows] * now.electrons
    psf.add(expected, x, y, flux, _reach(psf, flux, noise))
    rows, x, y = _visible(sky.galaxies, wcs, psf.shape, margin)
    part = {name: values[rows] for name, values in sky.galaxies.items()}
    angle = np.radians(part["angle"])
    # Columns: the major and the minor axis as (east, north), arcsec.
    major = part["half_light"] * np.array([np.sin(angle), np.cos(angle)])
    minor = part["half_light"] * part["axis_ratio"] * np.array([np.cos(angle), -np.sin(angle)])
    axes = jacobians(wcs, part["ra"], part["dec"], x, y) @ np.moveaxis(
        np.array([major, minor]), -1, 0
    ).swapaxes(1, 2)
    whole = axes @ axes.swapaxes(1, 2)
    add_galaxies(
        expected, x, y, part["flux"] * now.electrons,
        np.stack([whole[:, 0, 0], whole[:, 0, 1], whole[:, 1, 1]], axis=1), part["index"],
        psf.covariances(x, y), psf.beta, float(psf.width[0]),
    )  # fmt: skip


def _draw_changing(expected: np.ndarray, sky: Sky, now: Conditions, wcs: Any, noise: float) -> Columns:
    """Draw what changes and moves; returns the rows of what is on the image."""
    psf, margin = now.psf, _MOST * float(now.psf.width[0])
    rows, x, y = _visible(sky.changing, wcs, psf.shape, margin)
    light = sky.light[rows, now.number]
    psf.add(expected, x, y, light * now.electrons, _reach(psf, light * now.electrons, noise))
    found = [{name: sky.changing[name][rows] for name in ("id", "type", "ra", "dec")}]
    found[0] |= {"x": x, "y": y, "flux": light, "quiescent": sky.changing["flux"][rows]}
    found[0]["psf_share"] = np.ones(len(rows))
    hours = (now.mjd - sky.moving["epoch"]) * 24.0
    half = now.exposure_time / 7200.0
    ends = []
    for lag in (hours - half, hours, hours + half):
        place = offset(
            sky.moving["ra"], sky.moving["dec"], sky.moving["speed_ra"] * lag / 3600.0,
            sky.moving["speed_dec"] * lag / 3600.0,
        )  # fmt: skip
        ends.append((*place, *sky_to_pixel(wcs, *place)))
    _, _, x0, y0 = ends[0]
    ra, dec, x, y = ends[1]
    _, _, x1, y1 = ends[2]
    width = float(psf.width[0])
    for row in np.flatnonzero((np.abs(x) < 1e5) & (np.abs(y) < 1e5)):
        points = 1 + int(np.ceil(np.hypot(x1[row] - x0[row], y1[row] - y0[row]) / (_TRAIL * width)))
        # Middles of equal pieces of the trail.
        along = (np.arange(points) + 0.5) / points
        share = np.full(points, sky.moving["flux"][row] * now.electrons / points)
        psf.add(
            expected, x0[row] + along * (x1[row] - x0[row]), y0[row] + along * (y1[row] - y0[row]), share,
            _reach(psf, share, noise),
        )  # fmt: skip
    found.append({"id": sky.moving["id"], "type": sky.moving["type"], "ra": ra, "dec": dec, "x": x, "y": y})
    found[1] |= {"flux": sky.moving["flux"], "quiescent": np.zeros(len(ra))}
    found[1]["psf_share"] = _seen(np.hypot(x1 - x0, y1 - y0), now.fwhm)
    joined = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    ny, nx = psf.shape
    x, y = joined["x"], joined["y"]
    inside = (x >= -0.5) & (x < nx - 0.5) & (y >= -0.5) & (y < ny - 0.5)
    return {name: values[inside] for name, values in joined.items()}


def _seen(length: np.ndarray, fwhm: float) -> np.ndarray:
    """Share of the light of a trail that PSF photometry sees, sum P S / sum P^2 of a Gaussian PSF."""
    from scipy.special import erf

    reach = np.maximum(length, 1e-3) * np.sqrt(8 * np.log(2)) / (4 * fwhm)
    return np.asarray(0.5 * np.sqrt(np.pi) * erf(reach) / reach)


def _truth(
    rows: Columns, expected: np.ndarray, usable: np.ndarray, now: Conditions, read_noise: float
) -> Columns:
    size = 2 * int(np.ceil(_STAMP * now.psf.width[0])) + 1
    flux = rows["flux"] * now.electrons
    stamps = now.psf.stamps(rows["x"], rows["y"], size)
    snr, share = weigh(expected + np.float32(read_noise**2), ~usable, stamps, rows["x"], rows["y"], flux)
    return {
        "id": rows["id"],
        "type": rows["type"].astype(TYPE),
        "ra": rows["ra"],
        "dec": rows["dec"],
        "x": rows["x"],
        "y": rows["y"],
        "mjd": np.full(len(flux), now.mjd),
        "flux": rows["flux"],
        "flux_image": flux / now.unit,
        "quiescent": rows["quiescent"],
        "snr": snr,
        "confidence": share,
        "psf_share": rows["psf_share"],
    }
