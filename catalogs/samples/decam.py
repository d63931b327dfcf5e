"""Four exposures of one field by the Dark Energy Camera, two nights two years apart."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

# Magnitude of one count of the whole exposure (330 s in i), a round figure: the files state none.
ZERO_POINT = 31.5
FILES = (
    "decam_i_20160818a.fits.gz",
    "decam_i_20160818b.fits.gz",
    "decam_i_20180804a.fits.gz",
    "decam_i_20180804b.fits.gz",
)


@dataclass(frozen=True)
class Exposures:
    """The bundled exposures.

    Attributes
    ----------
    paths : tuple of Path
        FITS files of 256 by 256 pixels, by time.
    options : dict
        Keyword arguments of :func:`skytrawl.ingest_images`.
    between : float, MJD
        A day between the two nights.
    """

    paths: tuple[Path, ...]
    options: dict[str, Any]
    between: float


def decam_exposures() -> Exposures:
    """Two exposures of 2016 and two of 2018 in i, sky subtracted and on one grid of pixels.

    Fluxes rest on a nominal zero point, `ZERO_POINT`. In the middle of the field a point source that was not
    there in 2016 shines beside the centre of a galaxy. SOURCES.md names origin and licence.

    Returns
    -------
    Exposures

    Examples
    --------
    >>> import skytrawl
    >>> decam = decam_exposures()
    >>> report = skytrawl.ingest_images(decam.paths, "decam.zarr", **decam.options)  # doctest: +SKIP
    """
    folder = Path(str(resources.files("skytrawl.catalogs.samples")))
    options = {"survey": "decam", "keys": {"zero_point": ZERO_POINT}, "cosmic_rays": True}
    return Exposures(tuple(folder / name for name in FILES), options, between=57800.0)
