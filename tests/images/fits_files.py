"""FITS files for tests: every kind of pixels and of WCS header."""

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

SHAPE = (48, 64)


def sky_image(seed: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Sky of 100 +- 5 with a star of 20,000 in the middle, float32."""
    random = np.random.default_rng(seed)
    y, x = np.indices(shape)
    star = np.exp(-((x - shape[1] / 2) ** 2 + (y - shape[0] / 2) ** 2) / 2 / 1.5**2)
    return (random.normal(100, 5, shape) + 20_000 * star / star.sum()).astype(np.float32)


def tan_header(ra: float = 150.0, dec: float = 2.0, scale: float = 0.26) -> fits.Header:
    """TAN with a CD matrix, and the common keywords."""
    header = fits.Header()
    header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": dec})
    header.update(
        {"CRPIX1": SHAPE[1] / 2 + 0.5, "CRPIX2": SHAPE[0] / 2 + 0.5, "CUNIT1": "deg", "CUNIT2": "deg"}
    )
    header.update({"CD1_1": -scale / 3600, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": scale / 3600})
    header.update({"MJD-OBS": 58000.25, "EXPTIME": 60.0, "FILTER": "r", "MAGZERO": 27.5, "GAIN": 2.0})
    return header


def write(path: Path, image: Any = None, header: fits.Header | None = None, **words: Any) -> Path:
    """Write one image."""
    image = sky_image() if image is None else image
    fits.PrimaryHDU(image, tan_header() if header is None else header).writeto(path, overwrite=True, **words)
    return path


def wcs_headers() -> dict[str, fits.Header]:
    """Headers of many kinds by name; all describe a field of some arc minutes."""
    found = {"TAN, CD": tan_header()}
    for name in ("SIN", "ZPN", "ARC", "STG", "ZEA"):
        header = tan_header(200.0, -45.0)
        header["CTYPE1"], header["CTYPE2"] = f"RA---{name}", f"DEC--{name}"
        if name == "ZPN":
            header.update({"PV2_1": 1.0, "PV2_3": 42.0})
        found[name] = header
    header = tan_header(10.0, 80.0)
    for key in ("CD1_1", "CD1_2", "CD2_1", "CD2_2"):
        del header[key]
    header.update({"CDELT1": -7e-5, "CDELT2": 7e-5, "PC1_1": 0.8, "PC1_2": -0.6, "PC2_1": 0.6, "PC2_2": 0.8})
    found["PC and CDELT"] = header
    header = header.copy()
    for key in ("PC1_1", "PC1_2", "PC2_1", "PC2_2"):
        del header[key]
    header["CROTA2"] = 37.0
    found["CROTA2"] = header
    header = tan_header(0.001, -0.5)
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    header.update({"A_ORDER": 3, "B_ORDER": 2, "A_2_0": 2e-5, "A_0_3": -3e-7, "B_1_1": 1e-5, "B_0_2": -2e-5})
    found["SIP"] = header
    header = tan_header(110.0, 23.0)
    header["CTYPE1"], header["CTYPE2"] = "RA---TPV", "DEC--TPV"
    header.update({"PV1_0": 1e-4, "PV1_1": 1.001, "PV1_2": 2e-4, "PV1_4": 3e-3, "PV1_7": -2e-3})
    header.update({"PV2_0": -1e-4, "PV2_1": 0.999, "PV2_2": -1e-4, "PV2_5": 2e-3, "PV2_10": 1e-3})
    found["TPV"] = header
    header = tan_header(120.0, 40.0)
    header["CTYPE1"], header["CTYPE2"] = "GLON-TAN", "GLAT-TAN"
    found["galactic"] = header
    header = tan_header(150.0, 2.0)
    header.update({"RADESYS": "FK4", "EQUINOX": 1950.0})
    found["FK4"] = header
    return found
