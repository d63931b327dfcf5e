"""Frames of exposures from FITS files: pixels, mask, variance, PSF, exact cards and the row of the table."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.images import columns, cover, times
from skytrawl.catalogs.images.columns import Cards
from skytrawl.catalogs.images.companions import Companions, to_flags, to_variance, unstretched
from skytrawl.catalogs.images.fits import FitsFile, Unit, label, open_fits
from skytrawl.catalogs.images.frame import Frame
from skytrawl.catalogs.images.headers import HeaderMap, load_header_map
from skytrawl.catalogs.images.wcs import require_sky, wcs_of
from skytrawl.catalogs.sidecars import separation
from skytrawl.errors import ImageError, IngestError, ParameterError, SkytrawlError
from skytrawl.kernels import flags, versions

# Grows when the same file would give other values than before.
READER = 1
_SAMPLE = 250_000  # pixels from which sky and noise are taken: within 0.3 % of sigma
_AREA_TOLERANCE = 0.02  # between the stated pixel area and that of the WCS


@dataclass(frozen=True)
class ReadOptions:
    """How files are read; all of it counts for the fingerprint of an ingest.

    Attributes
    ----------
    keys : dict of str to str or number
        Keywords of your own for roles of the header map, or values.
    checksums : {"refuse", "note"}
        What a wrong data sum leads to; "note" is for files that a program has changed without correcting it.
    positions : {"required", "optional"}
        Whether images without a place on the sky of the stars are taken.
    allow_missing : bool
        Take images whose mask or weight file, which the survey delivers, is not there.
    cosmic_rays : bool
        Look for cosmic rays in images without a mask.
    measure : bool
        Measure sky, stars and PSF, see :func:`skytrawl.catalogs.images.measured.measure_frame`.
    """

    keys: Mapping[str, str | float] = field(default_factory=dict)
    checksums: str = "refuse"
    positions: str = "required"
    allow_missing: bool = False
    cosmic_rays: bool = False
    measure: bool = True

    def __post_init__(self) -> None:
        for name, allowed in (("checksums", ("refuse", "note")), ("positions", ("required", "optional"))):
            if getattr(self, name) not in allowed:
                raise ParameterError(f"{name}={getattr(self, name)!r}: take {' or '.join(allowed)}")


@dataclass(frozen=True)
class Fault:
    """An image that cannot be used: its name, such as ``file.fits[S9]``, and why."""

    source: str
    reason: str


def fingerprint_of(found: HeaderMap, options: ReadOptions) -> str:
    """16 hex digits of everything but the file that decides what a frame holds."""
    version = [READER, versions.MEASURE] if options.measure else READER
    text = json.dumps([version, asdict(found), asdict(options)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_exposures(
    path: str | Path, survey: str | Path | HeaderMap = "generic", options: ReadOptions | None = None
) -> Iterator[Frame]:
    """The images of a FITS file as frames, one after the other.

    Parameters
    ----------
    path : str or Path
    survey : str, Path or HeaderMap
        Name of a header map, or path of a TOML file of your own.
    options : ReadOptions, optional

    Yields
    ------
    Frame
        ``image`` (as delivered), ``mask`` (uint16, bits of :mod:`skytrawl.kernels.flags`), ``variance``
        (float32, NaN where unknown), and ``psf_basis`` and ``psf_frame`` where the survey has models (see
        :class:`skytrawl.kernels.psf.PsfModel`); row as in
        :data:`~skytrawl.catalogs.images.columns.COLUMNS`.

    Raises
    ------
    IngestError
        For the first image that cannot be used; :func:`scan` goes on with the others.
    """
    for found in scan(path, survey, options):
        if isinstance(found, Fault):
            raise IngestError(
                f"{found.source}: {found.reason}" if found.source not in found.reason else found.reason
            )
        yield found


def scan(
    path: str | Path, survey: str | Path | HeaderMap = "generic", options: ReadOptions | None = None
) -> Iterator[Frame | Fault]:
    """Frames and faults of a FITS file, one for each image; one fault for a file that cannot be read at all.

    The parameters are those of :func:`read_exposures`.
    """
    path, options = Path(path), options or ReadOptions()
    found = load_header_map(survey).with_keys(options.keys)
    try:
        with open_fits(path) as file:
            units = images_of(file, found)
            ids = frame_ids(path, units)
            with Companions(
                file, found, optional=options.allow_missing, checksums=options.checksums
            ) as beside:
                for unit, frame_id in zip(units, ids, strict=True):
                    where = label(path, unit) if len(units) > 1 else str(path)
                    try:
                        frame = _frame(file, unit, frame_id, found, options, beside)
                        frame.attrs["file_frames"] = ids
                    except (OSError, MemoryError):
                        raise
                    except Exception as error:
                        yield Fault(where, reason_of(error))
                        continue
                    yield frame
    except SkytrawlError as error:
        yield Fault(str(path), str(error))


def wcs_of_frame(frame: Frame) -> Any:
    """World coordinates (astropy) of a frame with attribute ``cards``, distortion tables included."""
    texts = frame.attrs.get("wcs_tables", [])
    tables = [(text, frame.arrays[f"wcs_table_{number}"]) for number, text in enumerate(texts)]
    return wcs_of(frame.attrs["cards"], tables)


def wcs_arrays(frame_attrs: Mapping[str, Any]) -> list[str]:
    """Names of the arrays with distortion tables that `wcs_of_frame` needs beside the attributes."""
    return [f"wcs_table_{number}" for number in range(len(frame_attrs.get("wcs_tables", [])))]


def images_of(file: FitsFile, found: HeaderMap) -> list[Unit]:
    """The units of a file that are exposures by the header map.

    Raises
    ------
    IngestError
        If there is none; says what the file holds.
    """

    def wanted(unit: Unit) -> bool:
        if not unit.is_image or len(unit.plane) != 2:
            return False
        if found.extensions:
            return re.fullmatch(found.extensions, unit.name) is not None
        return not (found.not_extensions and unit.name and re.fullmatch(found.not_extensions, unit.name))

    units = [unit for unit in file.units if wanted(unit)]
    if not units and found.extensions:
        # The only image of a file needs no name.
        units = [unit for unit in file.units if unit.is_image and len(unit.plane) == 2 and not unit.name]
        units = units if len(units) == 1 else []
    if not units:
        held = ", ".join(f"{unit.name or unit.index} {unit.kind} {list(unit.shape)}" for unit in file.units)
        asked = f" called {found.extensions}" if found.extensions else ""
        raise IngestError(f"{file.path} holds no image of two axes{asked}: its units are {held}")
    return units


def frame_ids(path: Path, units: list[Unit]) -> list[str]:
    """Ids of the frames of a file: its name without ending, with the extension where it holds several."""
    stem = stem_of(path)
    if len(units) == 1:
        return [stem]
    names = [unit.name or str(unit.index) for unit in units]
    twice = {name for name in names if names.count(name) > 1}
    return [
        f"{stem}.{name}.{unit.index}" if name in twice else f"{stem}.{name}"
        for name, unit in zip(names, units, strict=True)
    ]


def stem_of(path: Path) -> str:
    """Name of a file without the endings of FITS and of compression."""
    name = path.name
    for ending in (".gz", ".fz", ".bz2", ".xz"):
        name = name.removesuffix(ending)
    return name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in (".fits", ".fit", ".fts") else name


def _frame(
    file: FitsFile, unit: Unit, frame_id: str, found: HeaderMap, options: ReadOptions, beside: Companions
) -> Frame:
    checksum = file.verify(unit)
    if checksum == "failed" and options.checksums == "refuse":
        raise IngestError(
            "the data are not what DATASUM says: fetch the file again, or let checksums be noted only if a "
            "program has changed the file"
        )
    header, primary = file.header(unit), file.header(file.units[0])
    cards = Cards(header, primary)
    notes = [f"checksum: {checksum}"] if checksum in ("failed", "header changed") else []
    image = file.image(unit)
    if found.stretch == "asinh":
        image = unstretched(image, cards)
    mask, mask_from = _mask(image, unit, cards, found, beside)
    tables = _tables(file, header)
    wcs = wcs_of(header.tostring(), tables)
    place, position_notes = _place(wcs, image.shape, cards, found, options)
    mjd, exptime, time_notes = times.mid_exposure(cards, dict(found.keys), found.time_scale)
    flux, flux_notes = columns.flux_of(cards, found, exptime)
    noise = columns.noise_of(cards, found, exptime)
    if not mask_from:
        if noise["saturation"] > 0:
            with np.errstate(invalid="ignore"):
                mask[image >= noise["saturation"]] |= flags.SATURATED
        if options.cosmic_rays:
            mask_from = _cosmic_rays(image, mask, noise)
    sky, sky_sigma = _sky(image, mask)
    variance, variance_from, noise_notes = _variance(image, mask, unit, cards, beside, noise, sky, sky_sigma)
    arrays = {"image": image, "mask": mask, "variance": variance}
    attrs: dict[str, Any] = {
        "cards": header.tostring(),
        "primary_cards": file.units[0].cards if unit.index else "",
        "mask_from": mask_from,
        "variance_from": variance_from,
        "companions": {str(path): other.sha256 for path, other in beside.opened.items()},
    }
    if tables:
        attrs["wcs_tables"] = [text for text, _ in tables]
        arrays |= {f"wcs_table_{number}": values for number, (_, values) in enumerate(tables)}
    fwhm = columns.fwhm_of(cards, found, place.pixel_scale if place else math.nan)
    model = beside.psf(unit, cards)
    if model:
        psf, attrs["psf_from"] = model
        arrays |= {f"psf_{name}": values for name, values in psf.to_arrays().items()}
        fwhm = float(psf.fwhm((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2))
    row = {
        **columns.names_of(cards, found, stem_of(file.path), unit.name),
        "mjd": mjd,
        "exptime": exptime,
        **flux,
        **noise,
        "fwhm": fwhm,
        "sky": sky,
        "sky_sigma": sky_sigma,
        "ra": place.ra if place else math.nan,
        "dec": place.dec if place else math.nan,
        "healpix": place.healpix if place else -1,
        "width": image.shape[1],
        "height": image.shape[0],
        "pixel_scale": place.pixel_scale if place else math.nan,
        "corners": place.corners.ravel() if place else np.zeros(0),
        "cover": place.cover.astype(np.int64) if place else np.zeros(0, np.int64),
        "usable": float(np.mean((mask & flags.UNUSABLE) == 0)),
        "checksum": checksum,
        "sha256": file.sha256,
        "source": str(file.path),
        "parameters": fingerprint_of(found, options),
    }
    notes += time_notes + flux_notes + noise_notes + position_notes
    area = cards.number(found.keys.get("pixel_sr", ()))
    if place and flux["unit"].endswith("/sr") and area > 0:
        true = math.radians(place.pixel_scale / 3600) ** 2
        if abs(true / area - 1) > _AREA_TOLERANCE:
            notes.append(f"pixel area: the header says {area:.4g} sr, the WCS {true:.4g} sr")
    attrs["notes"] = notes
    return Frame(frame_id, arrays, attrs, row, {})


def _mask(
    image: np.ndarray, unit: Unit, cards: Cards, found: HeaderMap, beside: Companions
) -> tuple[np.ndarray, str]:
    plane = beside.plane(("mask",), unit, cards)
    mask, where = np.zeros(image.shape, flags.DTYPE), ""
    if plane:
        _, values, header, where = plane
        mask = to_flags(values, header, found.masks, where)
    if image.dtype.kind == "f":
        mask[~np.isfinite(image)] |= flags.NO_DATA
    if not (mask & flags.UNUSABLE == 0).any():
        reason = "every pixel is NaN" if not np.isfinite(image).any() else f"the mask {where} leaves no pixel"
        raise IngestError(f"{reason}: nothing was measured")
    return mask, where


def _place(
    wcs: Any, shape: tuple[int, ...], cards: Cards, found: HeaderMap, options: ReadOptions
) -> tuple[cover.Place | None, list[str]]:
    try:
        require_sky(wcs)
    except ImageError as error:
        if options.positions == "required":
            raise
        return None, [str(error)]
    place = cover.place_of(wcs, (shape[0], shape[1]))
    ra = cover.parse_angle(cards.text(found.keys.get("pointing_ra", ())), hours=True)
    dec = cover.parse_angle(cards.text(found.keys.get("pointing_dec", ())), hours=False)
    if found.pointing_radius and math.isfinite(ra) and math.isfinite(dec):
        away = float(separation(np.array([place.ra]), np.array([place.dec]), ra, dec)[0])
        if away > found.pointing_radius:
            raise IngestError(
                f"the WCS is wrong: the image lies {away:.2f} degrees from where the telescope pointed, "
                f"{ra:.4f} {dec:+.4f}, and the field of view ends at {found.pointing_radius}"
            )
    return place, []


def _tables(file: FitsFile, header: Any) -> list[tuple[str, np.ndarray]]:
    """Extensions with the distortion tables of a header, as their cards and values."""
    if not any(key in header for key in ("CPDIS1", "CPDIS2", "D2IMDIS1", "D2IMDIS2")):
        return []
    units = [unit for unit in file.units if unit.name in ("WCSDVARR", "D2IMARR") and unit.is_image]
    return [(file.header(unit).tostring(), file.image(unit)) for unit in units]


def _variance(
    image: np.ndarray,
    mask: np.ndarray,
    unit: Unit,
    cards: Cards,
    beside: Companions,
    noise: Mapping[str, float],
    sky: float,
    sky_sigma: float,
) -> tuple[np.ndarray, str, list[str]]:
    plane = beside.plane(("variance", "weight", "noise"), unit, cards)
    if plane:
        entry, values, header, where = plane
        if beside.found.stretch == "asinh":
            values = unstretched(values, header)
        variance = to_variance(entry.kind, values)
        mask[np.isnan(variance) & (mask & flags.UNUSABLE == 0)] |= flags.NO_DATA
        if not (mask & flags.UNUSABLE == 0).any():
            raise IngestError(f"{where} gives no pixel a variance: nothing was measured")
        if entry.source_noise:
            return variance, where, []
    else:
        where = "clipped noise of the image"
        variance = np.full(image.shape, sky_sigma**2, np.float32)
    if math.isnan(noise["gain"]):
        return variance, where, ["variance without the noise of sources: the header gives no gain"]
    with np.errstate(invalid="ignore"):
        variance += np.fmax(image - sky, 0).astype(np.float32) / np.float32(noise["gain"])
    return variance, f"{where}, with the noise of sources", []


def _sky(image: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Clipped median and 1.4826 MAD of usable pixels (5 rounds at 3 sigma)."""
    step = max(1, math.isqrt(image.size // _SAMPLE))
    part = image[::step, ::step]
    values = part[mask[::step, ::step] & flags.UNUSABLE == 0].astype(np.float64)
    if not values.size:
        values = image[mask & flags.UNUSABLE == 0].astype(np.float64)
    for _ in range(5):
        median = float(np.median(values))
        sigma = 1.4826 * float(np.median(np.abs(values - median)))
        kept = values[np.abs(values - median) <= 3 * sigma] if sigma > 0 else values
        if len(kept) == len(values):
            break
        values = kept
    return median, sigma


def _cosmic_rays(image: np.ndarray, mask: np.ndarray, noise: Mapping[str, float]) -> str:
    """Set the bit of pixels that a cosmic ray hit."""
    from skytrawl.kernels.measure import cosmic_rays

    gain, read_noise = (None if math.isnan(noise[name]) else noise[name] for name in ("gain", "read_noise"))
    bad = mask & flags.UNUSABLE != 0
    found = cosmic_rays(image.astype(np.float32), bad, gain=gain, read_noise=read_noise)
    mask[found] |= flags.COSMIC_RAY
    return "cosmic rays found here"


def reason_of(error: Exception) -> str:
    """What is said of an image that cannot be used."""
    if isinstance(error, SkytrawlError):
        return str(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
