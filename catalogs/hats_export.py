"""Archives and results as HATS catalogues, which `lsdb` opens: one Parquet file a HEALPix pixel.

The files are written here, pixel by pixel along the sky; properties, partition list, maps and the metadata of
the whole catalogue come from the `hats` package, so that they are what it expects.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.export_arrow import SPATIAL_INDEX, Exported, Progress, cut, identifier_type, pyarrow
from skytrawl.catalogs.hats_pixels import SkyHistogram, pixel_range
from skytrawl.catalogs.sky import UNPLACED
from skytrawl.errors import BackendUnavailableError, NoPositionsError, ParameterError

# Bytes in memory of the rows of a pixel file, and rows (observations) of its row groups.
PIXEL_BYTES = 250_000_000
GROUP_ROWS = 1_000_000
HIGHEST_ORDER = 10
_ROW_BYTES, _OBJECT_BYTES = 20, 64
_MAP_ORDER = 8
# The level 15 of `hats` takes ten times as long, and level 3 with exposure times as a dictionary is smaller.
_ZSTD_LEVEL = 3
# Values looked at, and bytes that a dictionary on disk may have.
_SAMPLE, _DICTIONARY_BYTES = 262_144, 131_072


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
    counted = _count(source, max(highest_order, _MAP_ORDER), unplaced, progress)
    pixels = counted.histogram.pixels(pixel_bytes, highest_order)
    temporary = target.with_name(f".{target.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        largest = _write(source, temporary, pixels, counted.integer, progress)
        _describe(source, temporary, name or target.name, pixels, counted, largest)
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
        found.histogram.add(healpix[placed], counts[placed] * _ROW_BYTES + _OBJECT_BYTES)
    found.histogram.finish()
    if not found.objects:
        what = "no object has a position" if found.left_out else "there are no objects"
        raise NoPositionsError(
            f"{source.name}: {what}, so there is nothing for a HATS catalogue: export to Parquet instead"
        )
    if found.left_out and unplaced == "refuse":
        raise NoPositionsError(
            f"{source.name}: {found.left_out} of {found.left_out + found.objects} objects have no position, "
            "so no place in a HATS catalogue: pass unplaced='drop' to leave them out, or export to Parquet"
        )
    return found


def _write(
    source: Exported,
    folder: Path,
    pixels: list[tuple[int, int]],
    integer: str,
    progress: Progress | None,
) -> int:
    """Write the files of all pixels; returns the objects of the largest."""
    from hats.io.paths import new_pixel_catalog_file
    from hats.pixel_math.healpix_pixel import HealpixPixel

    objects = lru_cache(maxsize=2)(source.objects)
    along = _Along(source)
    largest = 0
    for number, (order, pixel) in enumerate(pixels):
        if progress:
            progress("write", number, len(pixels))
        file = new_pixel_catalog_file(folder, HealpixPixel(order, pixel))
        tables = along.tables(order, pixel, objects, integer)
        largest = max(largest, _write_pixel(Path(str(file)), tables))
    if progress:
        progress("write", len(pixels), len(pixels))
    return largest


class _Along:
    """The filled partitions in the order of the curve."""

    def __init__(self, source: Exported) -> None:
        self.source = source
        filled = np.flatnonzero(source.present & (source.partitions["n_objects"] > 0))
        first = source.partitions["healpix_min"][filled]
        self.order = filled[np.argsort(first, kind="stable")]
        self.first = source.partitions["healpix_min"][self.order]
        self.last = source.partitions["healpix_max"][self.order]
        self.reach = np.maximum.accumulate(self.last)

    def tables(self, order: int, pixel: int, objects: Callable[[int], Any], integer: str) -> Iterator[Any]:
        """Tables of the objects of a pixel, along the curve."""
        low, high = map(np.uint64, pixel_range(order, pixel))
        start, stop = np.searchsorted(self.reach, low), np.searchsorted(self.first, high)
        chosen = np.arange(start, stop)[self.last[start:stop] >= low]
        pieces = (
            piece for place in chosen for piece in self._pieces(int(self.order[place]), low, high, objects)
        )
        tables = (self.source.table(partition, piece, integer) for partition, piece in pieces)
        if (self.last[chosen][:-1] <= self.first[chosen][1:]).all():
            yield from tables
            return
        # Partitions that reach into each other: this pixel is sorted in memory.
        joined = pyarrow().concat_tables(list(tables))
        yield joined.take(np.argsort(joined[SPATIAL_INDEX].to_numpy(), kind="stable"))

    @staticmethod
    def _pieces(
        partition: int, low: np.uint64, high: np.uint64, objects: Callable[[int], Any]
    ) -> Iterator[tuple[int, slice]]:
        _, healpix, counts = objects(partition)
        start, stop = map(int, np.searchsorted(healpix, np.array([low, high])))
        for piece in cut(counts[start:stop], GROUP_ROWS):
            yield partition, slice(start + piece.start, start + piece.stop)


def _write_pixel(file: Path, tables: Iterator[Any]) -> int:
    """Write one file of row groups; returns its objects."""
    import pyarrow as pa
    from hats.io.file_io.file_io import get_parquet_write_table_kwargs
    from pyarrow import parquet

    writer = None
    objects, waiting, nbytes = 0, [], 0
    try:
        for table in tables:
            if writer is None:
                own = {"compression_level": _ZSTD_LEVEL, "use_dictionary": _repeating(table)}
                words = get_parquet_write_table_kwargs(table.schema, write_table_kwargs=own)
                del words["row_group_size"]  # of a writer it is said with each table
                writer = parquet.ParquetWriter(file, table.schema, **words)
            waiting.append(table)
            nbytes += table.nbytes
            objects += table.num_rows
            if nbytes >= GROUP_ROWS * _ROW_BYTES // 2:
                writer.write_table(pa.concat_tables(waiting), row_group_size=objects)
                waiting, nbytes = [], 0
        if waiting and writer is not None:
            writer.write_table(pa.concat_tables(waiting), row_group_size=objects)
    finally:
        if writer is not None:
            writer.close()
    return objects


def _repeating(table: Any) -> list[str]:
    """Columns on disk whose values repeat: texts, integers, and numbers such as shared exposure times."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = []
    for field in table.schema:
        column = table[field.name].combine_chunks()
        nested = pa.types.is_struct(field.type)
        for child in field.type if nested else [field]:
            values = column.field(child.name).flatten() if nested else column
            path = f"{field.name}.{child.name}.list.element" if nested else field.name
            some = values.slice(0, _SAMPLE)
            if not pa.types.is_floating(values.type) or (
                0 < 2 * len(pc.unique(some)) < min(len(some), _DICTIONARY_BYTES // values.type.byte_width)
            ):
                found.append(path)
    return [path for path in found if path != SPATIAL_INDEX]


def _describe(
    source: Exported,
    folder: Path,
    name: str,
    pixels: list[tuple[int, int]],
    counted: _Counted,
    largest: int,
) -> None:
    """Write what stands beside the data files, by means of `hats`."""
    from hats.catalog import PartitionInfo, TableProperties
    from hats.io import paths
    from hats.io.file_io import write_fits_image
    from hats.io.parquet_metadata import write_parquet_metadata
    from hats.io.skymap import write_skymap
    from hats.pixel_math.healpix_pixel import HealpixPixel

    import skytrawl

    write_parquet_metadata(folder, create_per_partition_stats=True)
    info = PartitionInfo([HealpixPixel(order, pixel) for order, pixel in pixels])
    info.write_to_file(catalog_path=folder)
    order = max(_MAP_ORDER, info.get_highest_order())
    filled = counted.histogram.map(order)
    write_skymap(filled, folder)
    write_fits_image(filled, paths.get_point_map_file_pointer(folder))
    properties = TableProperties(
        catalog_name=name,
        catalog_type="object",
        total_rows=counted.objects,
        ra_column="ra",
        dec_column="dec",
        healpix_column=SPATIAL_INDEX,
        healpix_order=29,
        skymap_order=order,
        hats_max_rows=largest,
        hats_order=info.get_highest_order(),
        moc_sky_fraction=float(f"{info.calculate_fractional_coverage():.5g}"),
        **{f"skytrawl_{key}": value for key, value in source.notes.items()},
        **TableProperties.new_provenance_dict(folder, builder=f"skytrawl v{skytrawl.__version__}"),
    )
    properties.to_properties_file(folder)


def _require_hats() -> None:
    pyarrow()
    try:
        import hats  # noqa: F401
    except ImportError as error:
        raise BackendUnavailableError(
            "writing HATS needs the package hats, which is not installed: pip install 'skytrawl[hats]'"
        ) from error
