"""Archives and results as HATS catalogues, which `lsdb` opens: one Parquet file a HEALPix pixel.

The files are written here, pixel by pixel along the sky; properties, partition list, maps and the metadata of
the whole catalogue come from the `hats` package, so that they are what it expects.
"""

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.export_arrow import Exported, Progress, identifier_type, pyarrow
from skytrawl.catalogs.hats_files import ROW_BYTES, write_files
from skytrawl.catalogs.hats_metadata import MAP_ORDER, describe
from skytrawl.catalogs.hats_pixels import SkyHistogram
from skytrawl.catalogs.sky import UNPLACED
from skytrawl.errors import BackendUnavailableError, NoPositionsError, ParameterError

# Bytes in memory of the rows of a pixel file.
PIXEL_BYTES = 250_000_000
HIGHEST_ORDER = 10
_OBJECT_BYTES = 64


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote.

    Attributes
    ----------
    path : str
    objects, rows : int
        Objects, and observations (an object of a job's results is one row).
    left_out : int
        Objects without position, where they were allowed to be left out.
    missing_partitions : int
        Partitions of the results that are not done yet; their objects are missing.
    files, nbytes : int
        Data files, and bytes on disk of the whole.
    seconds : float
    """

    path: str
    objects: int
    rows: int
    left_out: int = 0
    missing_partitions: int = 0
    files: int = 1
    nbytes: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON types."""
        return asdict(self)

    def facts(self) -> dict[str, str]:
        """Lines for a terminal."""
        found = {
            "objects": f"{self.objects:,}",
            "rows": f"{self.rows:,}",
            "files": f"{self.files:,}, {self.nbytes / 1e6:,.1f} MB",
            "seconds": f"{self.seconds:,.1f}",
        }
        if self.left_out:
            found["left out"] = f"{self.left_out:,} objects without a position"
        if self.missing_partitions:
            found["missing"] = f"the objects of {self.missing_partitions:,} partitions that are not done yet"
        return found

    def __str__(self) -> str:
        return "\n".join([self.path, *(f"  {name}: {text}" for name, text in self.facts().items())])


def write_hats(
    source: Exported,
    path: str | Path,
    *,
    name: str | None = None,
    unplaced: str = "refuse",
    pixel_bytes: int = PIXEL_BYTES,
    highest_order: int = HIGHEST_ORDER,
    progress: Progress | None = None,
) -> ExportReport:
    """Write a HATS catalogue.

    Memory: one row group of about a million rows, and 24 bytes for each filled cell of `highest_order`.

    Parameters
    ----------
    source : ArchiveTables or RunTables
    path : str or Path
        New folder; it appears when everything is written.
    name : str, optional
        Of the catalogue; that of the folder by default.
    unplaced : {"refuse", "drop"}
        What becomes of objects without a position, which have no place in a HATS catalogue.
    pixel_bytes : int
        Most bytes in memory of a pixel file; a pixel of the highest order may hold more.
    highest_order : int
        Of the pixels.
    progress : callable, optional
        Called with the stage ("count", "write"), partitions or pixels done, and their number.

    Raises
    ------
    NoPositionsError
        If objects have no position and may not be left out, or if none has one.
    ParameterError
        If the path exists, or a parameter is out of range.
    BackendUnavailableError
        If the package `hats` is not installed.
    """
    started = time.monotonic()
    target = Path(path)
    if target.exists():
        raise ParameterError(f"{target} exists already: choose another path, or remove it first")
    if unplaced not in ("refuse", "drop"):
        raise ParameterError(f"unplaced={unplaced!r} is unknown: take refuse or drop")
    if not 0 <= highest_order <= 20 or pixel_bytes < 1:
        raise ParameterError(
            f"highest_order={highest_order}, pixel_bytes={pixel_bytes}: need 0 to 20, and at least 1"
        )
    _require_hats()
    counted = _count(source, max(highest_order, MAP_ORDER), unplaced, progress)
    pixels = counted.histogram.pixels(pixel_bytes, highest_order)
    temporary = target.with_name(f".{target.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        largest = write_files(source, temporary, pixels, counted.integer, progress)
        describe(
            temporary,
            name or target.name,
            pixels,
            counted.histogram,
            largest,
            {f"skytrawl_{key}": value for key, value in source.notes.items()},
        )
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    filled = source.partitions["n_objects"] > 0
    return ExportReport(
        str(target),
        counted.objects,
        counted.rows,
        counted.left_out,
        int((filled & ~source.present).sum()),
        len(pixels),
        sum(file.stat().st_size for file in target.rglob("*") if file.is_file()),
        round(time.monotonic() - started, 3),
    )


@dataclass
class _Counted:
    """What a first look at all objects tells."""

    histogram: SkyHistogram
    objects: int = 0
    rows: int = 0
    left_out: int = 0
    integer: str = "int64"


def _count(source: Exported, order: int, unplaced: str, progress: Progress | None) -> _Counted:
    found = _Counted(SkyHistogram(order))
    filled = np.flatnonzero(source.present & (source.partitions["n_objects"] > 0)).tolist()
    for number, partition in enumerate(filled):
        if progress:
            progress("count", number, len(filled))
        ids, healpix, counts = source.objects(partition)
        placed = healpix < UNPLACED
        found.left_out += int((~placed).sum())
        found.objects += int(placed.sum())
        found.rows += int(counts[placed].sum())
        found.integer = identifier_type(ids, found.integer)
        found.histogram.add(healpix[placed], counts[placed] * ROW_BYTES + _OBJECT_BYTES)
    found.histogram.finish()
    if not found.objects:
        what = "no object has a position" if found.left_out else "there are no objects"
        raise NoPositionsError(
            f"{source.name}: {what}, so there is nothing for a HATS catalogue: export to Parquet instead"
        )
    if found.left_out and unplaced == "refuse":
        raise NoPositionsError(
            f"{source.name}: {found.left_out} of {found.left_out + found.objects} objects have no position, "
            "so no place in a HATS catalogue: pass unplaced='drop' (--drop-unplaced) to leave them out, "
            "or export to Parquet"
        )
    return found


def _require_hats() -> None:
    pyarrow()
    try:
        import hats  # noqa: F401
    except ImportError as error:
        raise BackendUnavailableError(
            "writing HATS needs the package hats, which is not installed: pip install 'skytrawl[hats]'"
        ) from error
