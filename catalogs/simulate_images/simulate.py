"""Simulated exposures of one field of a survey, written as that survey would deliver them."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.simulate_images.deliver import deliver
from skytrawl.catalogs.simulate_images.exposure import Conditions, bad_pixels, make_exposure
from skytrawl.catalogs.simulate_images.psf import optics, psf_of, seeing_of
from skytrawl.catalogs.simulate_images.sky import Columns, Field, Sky, make_sky, offset
from skytrawl.catalogs.simulate_images.surveys import NJY, ImageBand, ImageModel, image_model
from skytrawl.catalogs.simulate_images.truth import EXPOSURE_UNITS, write_truth
from skytrawl.catalogs.simulate_images.wcs import cards
from skytrawl.errors import ParameterError

Progress = Callable[[int, int], None]
_LARGEST = 16_384


@dataclass
class SimulatedImages:
    """What :func:`simulate_exposures` has written.

    Attributes
    ----------
    path : Path
        Folder of the FITS files; the tables lie in its folder ``truth``.
    kind, band : str
    exposures : int
    files : list of Path
        Images, in the order of time; masks and weights lie beside them.
    sources : dict of str to int
        How many of each type the field holds.
    """

    path: Path
    kind: str
    band: str
    exposures: int = 0
    files: list[Path] = field(default_factory=list)
    sources: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "path": str(self.path),
            "truth": str(self.path / "truth"),
            "kind": self.kind,
            "band": self.band,
            "exposures": self.exposures,
            "sources": self.sources,
        }

    def __str__(self) -> str:
        held = ", ".join(f"{count:,} {name}" for name, count in self.sources.items())
        return (
            f"{self.path}: {self.exposures:,} exposures ({self.kind}, {self.band})\n  {held}\n"
            f"  truth: {self.path / 'truth'}"
        )


def simulate_exposures(
    kind: str | ImageModel,
    path: str | Path,
    exposures: int = 30,
    *,
    size: int = 2048,
    seed: int = 0,
    band: str = "r",
    centre: tuple[float, float] | None = None,
    days: float | None = None,
    start: float | None = None,
    seeing: Sequence[float] | None = None,
    dither: float = 0.03,
    rotation: float | None = None,
    density: float = 1.0,
    variables: int = 40,
    supernovae: int = 20,
    novae: int = 5,
    moving: int = 5,
    cosmic_rays: float | None = None,
    flagged: float = 0.95,
    psf_variation: float = 1.0,
    astrometry_error: float = 0.05,
    zero_point_error: float = 0.0,
    exposure_time: float | None = None,
    truth_format: str = "parquet",
    workers: int = 1,
    progress: Progress | None = None,
) -> SimulatedImages:
    """Write exposures of one field of a survey, and the tables of what is on them.

    Light is integrated over pixels and arrives in whole photons (Poisson, sky and sources), full wells spill
    along columns and are clipped, amplifiers add noise. Masks, weights and header cards are those of the
    survey. The sky is the same in all exposures; seeing, PSF, sky level and its gradients, transparency,
    pointing and rotation change.

    Parameters
    ----------
    kind : {"ztf-like", "lsst-like", "decam-like"} or ImageModel
    path : str or Path
        Folder to write into; it must not hold FITS files.
    exposures : int
    size : int
        Rows and columns of an exposure, pixels.
    seed : int
        Same seed, same values, whatever the number of workers.
    band : str
    centre : tuple of float, optional
        Right ascension and declination of the field, degrees.
    days : float, optional
        Time from the first exposure to the last; by default the survey's cadence.
    start : float, optional
        MJD of the first night.
    seeing : sequence of two floats, optional
        Least and largest FWHM in pixels, before pixels blur it, between which it is uniform; by default the
        survey's distribution.
    dither : float
        Largest displacement of an exposure, share of its side.
    rotation : float, optional
        Largest turn either way, degrees; by default that of the survey.
    density : float
        Factor on the number of stars and galaxies.
    variables, supernovae, novae, moving : int
        How many of each the field holds.
    cosmic_rays : float, optional
        Mean number of tracks an exposure; by default what the detector's area collects.
    flagged : float
        Share of the cosmic rays that the mask shows.
    psf_variation : float
        Factor on the ellipticity and the variation of the PSF over the field; 0 is round and constant.
    astrometry_error : float
        Spread of the error of the header's coordinates, pixels.
    zero_point_error : float
        Spread of the error of the header's zero point, mag.
    exposure_time : float, optional
        Seconds; by default that of the survey.
    truth_format : {"parquet", "csv"}
    workers : int
        Threads; each holds one exposure.
    progress : callable, optional
        Called with exposures done and exposures in all.

    Returns
    -------
    SimulatedImages

    Raises
    ------
    ParameterError
        For a parameter out of its range, or if the folder holds FITS files.
    BackendUnavailableError
        If tables are to be Parquet and pyarrow is missing, before anything is written.
    """
    model = image_model(kind)
    folder = Path(path)
    if band not in model.bands:
        raise ParameterError(f"{model.kind} has no band {band!r}: take one of {', '.join(model.bands)}")
    _check(
        ("exposures", exposures, 1, 1e6), ("size", size, 64, _LARGEST), ("seed", seed, 0, np.inf),
        ("dither", dither, 0, 1), ("density", density, 0, 1000), ("flagged", flagged, 0, 1),
        ("psf_variation", psf_variation, 0, 5), ("astrometry_error", astrometry_error, 0, 10),
        ("zero_point_error", zero_point_error, 0, 1), ("workers", workers, 1, 1024),
        *((name, n, 0, 1e6) for name, n in (("variables", variables), ("supernovae", supernovae),
                                              ("novae", novae), ("moving", moving))),
        *((name, v, least, most) for name, v, least, most in (
            ("days", days, 1e-3, 1e5), ("rotation", rotation, 0, 180), ("cosmic_rays", cosmic_rays, 0, 1e6),
            ("exposure_time", exposure_time, 0.1, 1e5)) if v is not None),
    )  # fmt: skip
    if seeing is not None and not (len(seeing) == 2 and 1.0 <= seeing[0] <= seeing[1] <= 50.0):
        raise ParameterError(f"seeing={tuple(seeing)}: give the least and the largest FWHM, 1 to 50 pixels")
    if folder.is_dir() and next(folder.glob("*.fits*"), None) is not None:
        raise ParameterError(f"{folder} holds FITS files already: choose another folder, or remove them")
    write_truth(None, folder, truth_format, {})
    seconds = exposure_time or model.exposure_time
    turn = model.rotation if rotation is None else rotation
    plan = _Plan(
        model, model.bands[band], exposures, size, seed, centre or model.field, days, start, seeing, dither,
        turn, density, cosmic_rays, flagged, psf_variation, astrometry_error, seconds,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    sky = plan.sky(variables=variables, supernovae=supernovae, novae=novae, moving=moving)
    defects = bad_pixels(plan.seeds[2], size)
    done = SimulatedImages(folder, model.kind, band)
    for part in (sky.stars, sky.galaxies, sky.changing, sky.moving):
        names, counts = np.unique(part["type"], return_counts=True)
        done.sources |= {name.decode(): int(n) for name, n in zip(names, counts, strict=True)}
    zero_points = np.random.default_rng(plan.seeds[3]).normal(0.0, zero_point_error, exposures)

    def make(number: int) -> tuple[str, tuple[Path, ...], Columns, dict[str, Any]]:
        now = plan.conditions(number)
        made = make_exposure(model, sky, now, defects)
        shown = now.zero_point + float(zero_points[number])
        name, files = deliver(folder, model, plan.band, now, made, shown)
        return name, files, made.truth, plan.row(now, name, shown)

    truths: list[Columns] = []
    rows: list[dict[str, Any]] = []
    for name, files, truth, row in _in_order(make, exposures, workers):
        done.files.append(files[0])
        truths.append(truth | {"exposure": np.full(len(truth["id"]), name.encode())})
        rows.append(row)
        done.exposures += 1
        if progress is not None:
            progress(done.exposures, exposures)
    tables = {
        "truth": {key: np.concatenate([part[key] for part in truths]) for key in truths[0]},
        "sources": sources_table(sky),
        "exposures": {key: np.array([row[key] for row in rows]) for key in rows[0]},
    }
    write_truth(tables, folder, truth_format, EXPOSURE_UNITS)
    return done


def sources_table(sky: Sky) -> Columns:
    """One row for every source of a field: all columns, NaN (or -1) where they do not apply."""
    parts = [sky.stars, sky.galaxies, sky.changing, sky.moving]
    names = list(dict.fromkeys(name for part in parts for name in part))
    table: Columns = {}
    for name in names:
        empty: Any = -1 if name == "host" else np.nan
        table[name] = np.concatenate([part.get(name, np.full(len(part["id"]), empty)) for part in parts])
    return table


@dataclass(frozen=True)
class _Plan:
    """When and how the exposures are taken; each follows from the seed and its number alone."""

    model: ImageModel
    band: ImageBand
    exposures: int
    size: int
    seed: int
    centre: tuple[float, float]
    days: float | None
    start: float | None
    seeing: Sequence[float] | None
    dither: float
    turn: float
    density: float
    cosmic_rays: float | None
    flagged: float
    variation: float
    astrometry_error: float
    seconds: float

    @property
    def seeds(self) -> list[np.random.SeedSequence]:
        """Independent seeds: times, sky, detector, zero points, optics."""
        return np.random.SeedSequence(self.seed).spawn(5)

    @property
    def mjd(self) -> np.ndarray:
        generator = np.random.default_rng(self.seeds[0])
        length = self.days or max(self.model.cadence * (self.exposures - 1), 1.0)
        nights = np.sort(generator.uniform(0.0, length, self.exposures))
        # By night, several hours either way of local midnight; at least two minutes apart.
        first = (self.start or self.model.start) - self.model.site[0] / 360.0
        times = np.sort(first + np.floor(nights) + generator.uniform(-0.17, 0.17, self.exposures))
        step = max(120.0, self.seconds + 30.0) / 86400.0
        spread = step * np.arange(self.exposures)
        return np.maximum.accumulate(times - spread) + spread

    def sky(self, **counts: int) -> Sky:
        """What lies on the field."""
        side = self.size * self.model.pixel_scale / 3600.0
        # The corners of a turned image reach farther.
        wider = np.cos(np.radians(min(self.turn, 45.0))) + np.sin(np.radians(min(self.turn, 45.0)))
        where = Field(self.centre, 0.5 * side * wider + self.dither * side, self.mjd)
        generator = np.random.default_rng(self.seeds[1])
        return make_sky(generator, self.model, self.band, where, density=self.density, **counts)

    def conditions(self, number: int) -> Conditions:
        """Draw the conditions of one exposure."""
        model, band, size = self.model, self.band, self.size
        own, pixels = np.random.SeedSequence((self.seed, 1 + number)).spawn(2)
        generator = np.random.default_rng(own)
        side = size * model.pixel_scale / 3600.0
        shift = generator.uniform(-self.dither, self.dither, 2) * side
        ra, dec = offset(*self.centre, shift[:1], shift[1:])
        turn = generator.uniform(-self.turn, self.turn)
        true = cards(model, size, (float(ra[0]), float(dec[0])), turn)
        delivered = true.copy()
        error = generator.normal(0.0, self.astrometry_error, 2) * model.pixel_scale / 3600.0
        delivered["CRVAL1"] += error[0] / np.cos(np.radians(dec[0]))
        delivered["CRVAL2"] += error[1]
        fwhm = seeing_of(generator, model)
        if self.seeing is not None:
            fwhm = float(generator.uniform(self.seeing[0], self.seeing[1]))
        pattern = optics(np.random.default_rng(self.seeds[4]))
        psf = psf_of(generator, model, pattern, fwhm, size, self.variation)
        clear = band.zero_point + 2.5 * np.log10(self.seconds / model.exposure_time)
        # Extinction of the night; clouds take more from one exposure in five.
        lost = generator.uniform(0.0, 0.15) + (
            generator.exponential(0.2) if generator.random() < 0.2 else 0.0
        )
        electrons = 10 ** (-0.4 * (NJY - clear + lost))
        level = band.sky - model.moon * generator.random()
        sky = 10 ** (-0.4 * (level - clear)) * model.pixel_scale**2
        shape = generator.normal(0.0, [0.0, 0.02, 0.02, 0.01, 0.005, 0.01])
        shape[0] = 1.0
        tracks = self.cosmic_rays
        if tracks is None:
            tracks = model.tracks(size, self.seconds)
        return Conditions(
            number, float(self.mjd[number]), self.seconds, electrons if model.calibrated else model.gain,
            electrons, sky * shape, psf, true, delivered, tracks, self.flagged, pixels,
        )  # fmt: skip

    def row(self, now: Conditions, name: str, shown: float) -> dict[str, Any]:
        """The row of the table of exposures."""
        shift_x = (now.delivered["CRVAL1"] - now.true["CRVAL1"]) * np.cos(np.radians(now.true["CRVAL2"]))
        shift_y = now.delivered["CRVAL2"] - now.true["CRVAL2"]
        return {
            "exposure": name.encode(),
            "mjd": now.mjd,
            "exposure_time": now.exposure_time,
            "fwhm": now.fwhm,
            "fwhm_optics": float(now.psf.width[0]),
            "beta": now.psf.beta,
            "e1": float(now.psf.e1[0]),
            "e2": float(now.psf.e2[0]),
            "sky": float(now.sky[0]) / now.unit,
            "gain": now.unit,
            "zero_point": now.zero_point,
            "zero_point_header": shown,
            "njy_per_unit": now.unit / now.electrons,
            "offset_east": shift_x * 3600.0,
            "offset_north": shift_y * 3600.0,
        }


def _in_order(make: Callable[[int], Any], count: int, workers: int) -> Iterator[Any]:
    """Results in order, with one more task than workers under way, so that memory stays flat."""
    if workers == 1:
        yield from map(make, range(count))
        return
    with ThreadPoolExecutor(workers) as pool:
        running: dict[int, Future[Any]] = {}
        asked = 0
        for number in range(count):
            while asked < count and asked <= number + workers:
                running[asked] = pool.submit(make, asked)
                asked += 1
            mine = running.pop(number)
            wait([mine], return_when=FIRST_COMPLETED)
            yield mine.result()


def _check(*given: tuple[str, float, float, float]) -> None:
    for name, value, least, most in given:
        if not least <= value <= most:
            raise ParameterError(f"{name}={value} is out of range: take {least:g} to {most:g}")
