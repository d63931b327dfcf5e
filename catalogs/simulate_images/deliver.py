"""Files of simulated exposures as the surveys deliver theirs: names, header cards, masks, weights.

The keywords and what they mean are those of real headers: ZTF science images (Masci et al. 2020, ZTF Science
Data System Explanatory Supplement), DECam Community Pipeline 4.8 (InstCal), LSST visit images.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs.simulate_images.exposure import Conditions, Exposure
from skytrawl.catalogs.simulate_images.surveys import ImageBand, ImageModel
from skytrawl.kernels import flags

if TYPE_CHECKING:
    from astropy.io.fits import Header

# Bit of `flags` to bit number. ZTF: Explanatory Supplement, section 10.3.
_ZTF_BITS = {flags.BAD: 4, flags.COSMIC_RAY: 7, flags.SATURATED: 8, flags.BLEED: 8, flags.NO_DATA: 10}
_ZTF_DETECTED = 1
# DECam: one code a pixel, the first that holds; NOIRLab data handbook, Community Pipeline since 3.5.
_DECAM_CODES = {
    flags.BAD: 1,
    flags.NO_DATA: 2,
    flags.SATURATED: 3,
    flags.BLEED: 4,
    flags.COSMIC_RAY: 5,
}
# LSST: planes as the mask's header numbers them.
_LSST_PLANES = {
    "BAD": 0,
    "SAT": 1,
    "INTRP": 2,
    "CR": 3,
    "EDGE": 4,
    "DETECTED": 5,
    "DETECTED_NEGATIVE": 6,
    "SUSPECT": 7,
    "NO_DATA": 8,
    "CROSSTALK": 9,
    "NOT_DEBLENDED": 10,
    "UNMASKEDNAN": 11,
}
_LSST_BITS = {flags.BAD: 0, flags.SATURATED: 1, flags.BLEED: 1, flags.COSMIC_RAY: 3, flags.NO_DATA: 8}

Written = tuple[Path, ...]


def deliver(
    folder: Path,
    model: ImageModel,
    band: ImageBand,
    now: Conditions,
    exposure: Exposure,
    zero_point: float,
) -> tuple[str, Written]:
    """Write the files of one exposure.

    Parameters
    ----------
    folder : Path
        Exists.
    model, band
        Of the survey.
    now : Conditions
    exposure : Exposure
    zero_point : float
        What the header says; AB magnitude of one image unit.

    Returns
    -------
    name : str
        Of the exposure: the file's name without suffix.
    files : tuple of Path
        The image first.
    """
    return _SURVEYS[model.survey](folder, model, band, now, exposure, zero_point)


def bits(mask: np.ndarray, table: dict[int, int], dtype: Any) -> np.ndarray:
    """A mask with the bits of a survey."""
    result = np.zeros(mask.shape, dtype)
    for ours, theirs in table.items():
        result[(mask & ours) != 0] |= 1 << theirs
    return result


def codes(mask: np.ndarray, table: dict[int, int]) -> np.ndarray:
    """A mask with one code a pixel, the first of the table that holds."""
    result = np.zeros(mask.shape, np.int32)
    for ours, code in table.items():
        result[(result == 0) & ((mask & ours) != 0)] = code
    return result


def _times(now: Conditions) -> tuple[Any, Any]:
    from astropy.time import Time

    half = now.exposure_time / 2 / 86400
    return Time(now.mjd - half, format="mjd", scale="utc"), Time(now.mjd + half, format="mjd", scale="utc")


def _header(now: Conditions, cards: dict[str, Any]) -> "Header":
    from astropy.io.fits import Header

    header = Header(list(cards.items()))
    for card in now.delivered.cards:
        if not card.keyword.startswith("NAXIS"):
            header.append(card)
    return header


def _write(path: Path, hdus: list[Any]) -> Path:
    from astropy.io import fits

    # Complete or absent: a reader that looks meanwhile sees no half of a file.
    part = path.with_name(f".{path.name}.part")
    fits.HDUList(hdus).writeto(part, checksum=True, overwrite=True)
    part.replace(path)
    return path


def _ztf(
    folder: Path, model: ImageModel, band: ImageBand, now: Conditions, exposure: Exposure, zero_point: float
) -> tuple[str, Written]:
    from astropy.io import fits

    begin, end = _times(now)
    stamp = begin.strftime("%Y%m%d") + f"{begin.mjd % 1:.6f}"[2:]
    name = f"ztf_{stamp}_000535_z{band.name}_c11_o_q3_sciimg"
    cards = {
        "ORIGIN": "Zwicky Transient Facility (simulated)",
        "TELESCOP": "P48",
        "INSTRUME": "ZTF/MOSAIC",
        "OBSERVAT": "Palomar",
        "IMGTYPE": "object",
        "FIELDID": 535,
        "CCDID": 11,
        "CCD_ID": 11,
        "QID": 3,
        "RCID": 42,
        "EXPID": int(begin.mjd * 1e5),
        "FILTER": band.filter,
        "FILTERID": "gri".index(band.name) + 1,
        "EXPTIME": now.exposure_time,
        "EXPOSURE": now.exposure_time,
        "DATE-OBS": begin.isot,
        "SHUTOPEN": begin.isot,
        "SHUTCLSD": end.isot,
        "OBSMJD": round(float(begin.mjd), 7),
        "OBSJD": round(float(begin.jd), 7),
        "TIMESYS": "UTC",
        "GAIN": now.unit,
        "READNOI": model.read_noise,
        "SATURATE": model.full_well / now.unit,
        "PIXSCALE": model.pixel_scale,
        "SEEING": now.fwhm * model.pixel_scale,
        "MEDFWHM": now.fwhm,
        "MAGZP": zero_point,
        "MAGZPUNC": 1e-5,
        "MAGZPRMS": 0.02,
        "MAGLIM": band.depth,
        "GLOBMED": float(np.median(exposure.image)),
        "BUNIT": "DN",
        "TELRAD": float(now.true["CRVAL1"]),
        "TELDECD": float(now.true["CRVAL2"]),
        "INFOBITS": 0,
    }
    mask = bits(exposure.mask, _ZTF_BITS, np.int16)
    mask[exposure.detected] |= 1 << _ZTF_DETECTED
    image = _write(folder / f"{name}.fits", [fits.PrimaryHDU(exposure.image, _header(now, cards))])
    other = fits.PrimaryHDU(mask, _header(now, {**cards, "BUNIT": "bits"}))
    return name, (image, _write(folder / f"{name.replace('sciimg', 'mskimg')}.fits", [other]))


def _decam(
    folder: Path, model: ImageModel, band: ImageBand, now: Conditions, exposure: Exposure, zero_point: float
) -> tuple[str, Written]:
    from astropy.io import fits

    begin, end = _times(now)
    # Names have whole seconds; two exposures never begin within one.
    stamp = begin.strftime("%y%m%d_%H%M%S")
    level = float(np.median(exposure.image))
    primary = {
        "OBJECT": "simulated",
        "PROCTYPE": "InstCal",
        "TELESCOP": "CTIO 4.0-m telescope",
        "OBSERVAT": "CTIO",
        "INSTRUME": "DECam",
        "PIXSCAL1": model.pixel_scale,
        "PIXSCAL2": model.pixel_scale,
        "EXPTIME": now.exposure_time,
        "DARKTIME": now.exposure_time + 1.0,
        "OBSID": f"ct4m{begin.strftime('%Y%m%dt%H%M%S')}",
        "EXPNUM": int((begin.mjd - 55_800) * 1000),
        "DATE-OBS": begin.isot,
        "MJD-OBS": float(begin.mjd),
        "MJD-END": float(end.mjd),
        "TIMESYS": "UTC",
        "OBSTYPE": "object",
        "FILTER": band.filter,
        "BAND": band.name,
        "TELRA": _sexagesimal(float(now.true["CRVAL1"]) / 15.0),
        "TELDEC": _sexagesimal(float(now.true["CRVAL2"])),
        "MAGZERO": zero_point,
        "PLVER": "V4.8.2a",
    }
    extension = {
        "EXTNAME": "S4",
        "INHERIT": True,
        "DETPOS": "S4",
        "CCDNUM": 28,
        "DETECTOR": "S3-214_124750-21-3",
        "GAINA": now.unit,
        "GAINB": now.unit,
        "ARAWGAIN": now.unit,
        "RDNOISEA": model.read_noise,
        "RDNOISEB": model.read_noise,
        "SATURATE": model.full_well / now.unit,
        "FWHM": now.fwhm,
        "AVSKY": level,
        "AVSIG": float(np.sqrt(np.median(exposure.variance))),
    }
    weight = np.where(exposure.mask & (flags.BAD | flags.NO_DATA), 0, 1 / exposure.variance).astype(
        np.float32
    )
    planes = {
        "ooi": ("image", exposure.image),
        "ood": ("dqmask", codes(exposure.mask, _DECAM_CODES)),
        "oow": ("wtmap", weight),
    }
    files = []
    for kind, (product, plane) in planes.items():
        first = fits.PrimaryHDU(header=fits.Header(list({**primary, "PRODTYPE": product}.items())))
        second = fits.ImageHDU(plane, _header(now, extension))
        files.append(_write(folder / f"c4d_{stamp}_{kind}_{band.name}_ls9.fits", [first, second]))
    return files[0].stem, tuple(files)


def _lsst(
    folder: Path, model: ImageModel, band: ImageBand, now: Conditions, exposure: Exposure, zero_point: float
) -> tuple[str, Written]:
    from astropy.io import fits

    from skytrawl.catalogs.simulate_images.exposure import sky_plane

    begin, end = _times(now)
    day = begin.strftime("%Y%m%d")
    visit = int(day) * 100_000 + round(float(begin.mjd % 1) * 86400) % 100_000
    name = f"visit_image_LSSTCam_{band.name}_{band.filter}_{visit}_R22_S11"
    primary = {
        "TELESCOP": "Simonyi Survey Telescope",
        "INSTRUME": "LSSTCam",
        "EXPID": visit,
        "VISIT": visit,
        "FILTER": band.filter,
        "BAND": band.name,
        "DETECTOR": 94,
        "EXPTIME": now.exposure_time,
        "DATE-BEG": begin.tai.isot,
        "DATE-END": end.tai.isot,
        "MJD-BEG": float(begin.tai.mjd),
        "MJD-END": float(end.tai.mjd),
        "TIMESYS": "TAI",
        "OBJECT": "simulated",
        "BUNIT": "nJy",
        "SEEING": now.fwhm * model.pixel_scale,
        "SATURATE": model.full_well / now.unit,
    }
    image = exposure.image - sky_plane(now.sky, exposure.image.shape) / np.float32(now.unit)
    mask = bits(exposure.mask, _LSST_BITS, np.int32)
    mask[exposure.detected] |= 1 << _LSST_PLANES["DETECTED"]
    planes = fits.ImageHDU(mask, _header(now, {"EXTNAME": "MASK"}))
    for plane, number in _LSST_PLANES.items():
        planes.header[f"MP_{plane}" if len(plane) <= 5 else f"HIERARCH MP_{plane}"] = number
    hdus = [
        fits.PrimaryHDU(header=fits.Header(list(primary.items()))),
        fits.ImageHDU(image, _header(now, {"EXTNAME": "IMAGE", "BUNIT": "nJy"})),
        planes,
        fits.ImageHDU(exposure.variance, _header(now, {"EXTNAME": "VARIANCE", "BUNIT": "nJy2"})),
    ]
    return name, (_write(folder / f"{name}.fits", hdus),)


def _sexagesimal(value: float) -> str:
    tenths = round(abs(value) * 3600 * 1000)
    whole, milli = divmod(tenths, 1000)
    sign = "-" if value < 0 else ""
    return f"{sign}{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}.{milli:03d}"


_SURVEYS: dict[str, Callable[..., tuple[str, Written]]] = {"ztf": _ztf, "decam": _decam, "lsst": _lsst}
