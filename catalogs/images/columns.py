"""The table of exposures: what each column is, and the values that header cards give it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from skytrawl.catalogs.images.headers import HeaderMap
from skytrawl.errors import IngestError

AB_NANOJANSKY: Final = (
    31.4  # AB magnitude of 1 nJy (Oke and Gunn 1983: -2.5 log10(f / (erg/s/cm2/Hz)) - 48.6)
)
_JANSKYS = {"nJy": 1.0, "uJy": 1e3, "mJy": 1e6, "Jy": 1e9, "kJy": 1e12, "MJy": 1e15}
# Flux of AB magnitude 22.5, by the same zero point.
_JANSKYS["nanomaggy"] = 10 ** (0.4 * (AB_NANOJANSKY - 22.5))

# Column -> unit, meaning. Missing numbers are NaN, missing texts empty.
COLUMNS: Final[Mapping[str, tuple[str, str]]] = {
    "exposure": ("", "name or number of the exposure, which its detectors share"),
    "detector": ("", "name or number of the detector"),
    "field": ("", "name of the field"),
    "band": ("", "filter"),
    "survey": ("", "header map that was used"),
    "mjd": ("d", "middle of the exposure, MJD in UTC"),
    "exptime": ("s", "exposure time"),
    "zero_point": ("mag", "AB magnitude of one image unit"),
    "njy_per_unit": ("nJy", "flux of one image unit"),
    "unit": ("", "of the pixels, as the header says it"),
    "gain": ("", "electrons of one image unit"),
    "read_noise": ("", "electrons"),
    "saturation": ("", "image units"),
    "fwhm": ("pixel", "of stars, as the header or the PSF model says"),
    "sky": ("", "clipped median of usable pixels, image units"),
    "sky_sigma": ("", "clipped 1.4826 MAD of usable pixels, image units"),
    "ra": ("deg", "ICRS, of the centre"),
    "dec": ("deg", "ICRS, of the centre"),
    "healpix": ("", "cell of the centre, nested, order 29; -1 without position"),
    "width": ("pixel", "along x"),
    "height": ("pixel", "along y"),
    "pixel_scale": ("arcsec", "square root of the area of the central pixel"),
    "corners": ("deg", "ra, dec of the outer corners of pixels (0, 0), (nx-1, 0), (nx-1, ny-1), (0, ny-1)"),
    "cover": ("", "HEALPix cells that the image touches, nested, order 10"),
    "usable": ("", "part of the pixels without a bit that makes them unusable"),
    "checksum": ("", "what DATASUM and CHECKSUM of the image say: ok, absent, header changed, failed"),
    "sha256": ("", "of the file with the image"),
    "source": ("", "path of that file"),
    "parameters": ("", "fingerprint of the header map and the options"),
}


class Cards:
    """Values of keywords: of the image's header, then of the primary one.

    Parameters
    ----------
    header, primary : astropy.io.fits.Header
    """

    def __init__(self, header: Any, primary: Any) -> None:
        self.header = header
        self._headers = (header, primary)

    def __call__(self, keyword: str) -> Any:
        """The value, or None where neither header has one. A number stands for itself."""
        for header in self._headers:
            value = header.get(keyword)
            if value is not None and type(value).__name__ != "Undefined":
                return value
        try:
            return float(keyword)
        except ValueError:
            return None

    def text(self, cards: tuple[str, ...]) -> str:
        """The first value that is not empty, as text."""
        for card in cards:
            value = self(card)
            if value is not None and str(value).strip():
                return str(value).strip()
        return ""

    def number(self, cards: tuple[str, ...]) -> float:
        """The first value that is a finite number; NaN without one."""
        for card in cards:
            value = self(card)
            if value is None or isinstance(value, bool):
                continue
            try:
                number = float(value)
            except (TypeError, ValueError):
                continue
            if math.isfinite(number):
                return number
        return math.nan


def names_of(cards: Cards, found: HeaderMap, stem: str, extension: str) -> dict[str, str]:
    """Exposure, detector, field and band of an image."""
    keys = found.keys
    band = ""
    for card in keys.get("band", ()):
        text = cards.text((card,))
        match = re.search(found.band_pattern, text) if found.band_pattern and text else None
        if found.band_pattern:
            text = match[1] if match else ""
        if text:
            band = found.bands.get(text, text)
            break
    return {
        "exposure": cards.text(keys.get("exposure", ())) or stem,
        "detector": cards.text(keys.get("detector", ())) or extension,
        "field": cards.text(keys.get("field", ())),
        "band": band,
        "survey": found.name,
    }


def flux_of(cards: Cards, found: HeaderMap, exptime: float) -> tuple[dict[str, Any], list[str]]:
    """Unit, zero point and nJy of one image unit.

    A surface brightness in MJy/sr is a flux by the pixel area ``pixel_sr``; units of Jansky speak for
    themselves; everything else needs a zero point m: 10^(0.4 (31.4 - m)) nJy.

    Returns
    -------
    values : dict
        unit, zero_point, njy_per_unit; NaN where the header does not tell.
    notes : list of str
    """
    unit = cards.text(found.keys.get("unit", ()))
    notes: list[str] = []
    flux = _of_unit(unit, cards.number(found.keys.get("pixel_sr", ())))
    zero_point = math.nan
    if flux is None:
        zero_point = cards.number(found.keys.get("zero_point", ()))
        if math.isnan(zero_point) and found.zero_point is not None:
            zero_point = found.zero_point
        if found.zero_point_exptime and not math.isnan(zero_point):
            zero_point += found.zero_point_exptime * 2.5 * math.log10(exptime) if exptime > 0 else math.nan
        flux = 10 ** (0.4 * (AB_NANOJANSKY - zero_point))
    elif flux > 0:
        zero_point = AB_NANOJANSKY - 2.5 * math.log10(flux)
    if math.isnan(flux):
        notes.append("no zero point: fluxes stay in image units")
    return {"unit": unit, "zero_point": zero_point, "njy_per_unit": flux}, notes


def noise_of(cards: Cards, found: HeaderMap, exptime: float) -> dict[str, float]:
    """Gain (electrons of one image unit), read noise and saturation."""
    keys = found.keys
    gain = cards.number(keys.get("gain", ()))
    if found.gain_per_second:
        gain *= exptime
    return {
        "gain": gain if gain > 0 else math.nan,
        "read_noise": cards.number(keys.get("read_noise", ())),
        "saturation": cards.number(keys.get("saturation", ())),
    }


def fwhm_of(cards: Cards, found: HeaderMap, pixel_scale: float) -> float:
    """FWHM of stars in pixels, NaN where the header does not tell."""
    fwhm = cards.number(found.keys.get("fwhm_px", ()))
    if not fwhm > 0:
        fwhm = cards.number(found.keys.get("fwhm_arcsec", ())) / pixel_scale
    return fwhm if fwhm > 0 else math.nan


def version_below(text: Any, limit: str) -> bool:
    """Whether a version such as "V3.5.0a" comes before another.

    Raises
    ------
    IngestError
        If the text holds no version.
    """

    def parts(version: str) -> tuple[int, ...]:
        match = re.search(r"\d+(?:\.\d+)*", version)
        if not match:
            raise IngestError(f"{version!r} is no version: the meaning of the mask depends on it")
        return tuple(map(int, match[0].split(".")))

    return parts(str(text)) < parts(limit)


def _of_unit(unit: str, pixel_sr: float) -> float | None:
    """NJy of one unit; None for counts and the like, NaN for a surface brightness without pixel area."""
    text = unit.replace(" ", "").replace("μ", "u").replace("µ", "u")
    per_sr = re.fullmatch(r"(\w+)(?:/sr|\.?sr\*{0,2}\^?-1)", text)
    if per_sr and per_sr[1] in _JANSKYS:
        return _JANSKYS[per_sr[1]] * pixel_sr
    return _JANSKYS.get(text.removesuffix("/pixel").removesuffix("/pix"))
