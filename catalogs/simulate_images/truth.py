"""Truth tables of simulated and injected sources."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from skytrawl.catalogs import export
from skytrawl.catalogs.images.current import run_folder
from skytrawl.catalogs.simulate_images.light import UNITS
from skytrawl.catalogs.simulate_images.sky import Columns
from skytrawl.catalogs.simulate_tables import require_pyarrow
from skytrawl.errors import NotAnArchiveError, ParameterError

# Column of a truth table -> unit, meaning: one row for a source on an exposure.
TRUTH: dict[str, tuple[str, str]] = {
    "id": ("", "number of the source, the same on all exposures"),
    "type": ("", "star, galaxy, moving, or the class of the light curve"),
    "ra": ("deg", "right ascension in the middle of the exposure"),
    "dec": ("deg", "declination"),
    "x": ("pixel", "column where the light falls, 0-based"),
    "y": ("pixel", "row"),
    "mjd": ("d", "middle of the exposure, UTC"),
    "flux": ("nJy", "total flux at that time"),
    "flux_image": ("", "the same in units of the image"),
    "quiescent": ("nJy", "flux of the source when nothing happens"),
    "snr": ("", "expected signal-to-noise of optimal PSF photometry on this exposure"),
    "confidence": ("", "share of the PSF's weight on pixels that are inside and not masked"),
    "psf_share": (
        "",
        "share of the flux that PSF photometry sees; below 1 where the light is spread",
    ),
    "exposure": ("", "name of the exposure"),
}
EXPOSURE_UNITS = {
    "mjd": "d",
    "exposure_time": "s",
    "fwhm": "pixel",
    "fwhm_optics": "pixel",
    "zero_point": "mag",
    "zero_point_header": "mag",
    "offset_east": "arcsec",
    "offset_north": "arcsec",
    "ra": "deg",
    "dec": "deg",
    "half_light": "arcsec",
    "angle": "deg",
    "epoch": "d",
    "speed_ra": "arcsec/h",
    "speed_dec": "arcsec/h",
}
FORMATS = ("parquet", "csv")


def write_truth(
    tables: Mapping[str, Columns] | None, folder: Path, format: str, units: Mapping[str, str]
) -> None:
    """Write tables into the folder ``truth``; without tables only look whether that can be done.

    Raises
    ------
    ParameterError
        For an unknown format.
    BackendUnavailableError
        If pyarrow is missing and Parquet is asked for.
    """
    if format not in FORMATS:
        raise ParameterError(f"no truth format {format!r}: take one of {', '.join(FORMATS)}")
    if format == "parquet":
        require_pyarrow("The truth table")
    if tables is None:
        return
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    known = {name: unit for name, (unit, _) in TRUTH.items()} | UNITS | dict(units)
    for name, columns in tables.items():
        export.write_table(columns, folder / "truth" / f"{name}.{format}", units=known)


def read_truth(path: str | Path, table: str = "truth") -> Columns:
    """Read a table of a simulation.

    Parameters
    ----------
    path : str or Path
        Folder of the simulated exposures, or what `skytrawl run inject` wrote.
    table : {"truth", "sources", "exposures"}
        Sources on exposures (what changes or moves), all sources of the field, the exposures.

    Returns
    -------
    dict of arrays
        Text as fixed-width bytes.

    Raises
    ------
    NotAnArchiveError
        If there is no such table.
    """
    folder = run_folder(path) / "truth"
    file = next(
        (folder / f"{table}.{form}" for form in FORMATS if (folder / f"{table}.{form}").is_file()), None
    )
    if file is None:
        raise NotAnArchiveError(
            f"{folder} holds no table {table!r}: `skytrawl simulate-images` and `run inject` write it"
        )
    if file.suffix == ".csv":
        import csv

        with open(file, newline="") as stream:
            rows = list(csv.reader(stream))
        return {name: _typed(np.array([row[i] for row in rows[1:]])) for i, name in enumerate(rows[0])}
    require_pyarrow("The truth table")
    from pyarrow import parquet

    found = parquet.read_table(file)
    columns = {name: found[name].to_numpy(zero_copy_only=False) for name in found.column_names}
    return {
        name: values.astype("S") if values.dtype == object else values for name, values in columns.items()
    }


def _typed(values: np.ndarray) -> np.ndarray:
    for kind, empty in ((np.int64, ""), (np.float64, "nan")):
        try:
            return np.where(values == "", empty, values).astype(kind)
        except ValueError:
            continue
    return values.astype("S")
