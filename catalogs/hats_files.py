"""The data files of a HATS catalogue: one a pixel, objects along the curve, light curves nested."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from skytrawl.catalogs.export_arrow import SPATIAL_INDEX, Exported, Progress, cut, pyarrow
from skytrawl.catalogs.hats_pixels import pixel_range

# Rows (observations) of a row group, and bytes of a row, about.
GROUP_ROWS, ROW_BYTES = 1_000_000, 20
# The level 15 of `hats` takes ten times as long, and level 3 with exposure times as a dictionary is smaller.
_ZSTD_LEVEL = 3
# Values looked at, and bytes that a dictionary on disk may have.
_SAMPLE, _DICTIONARY_BYTES = 262_144, 131_072


def write_files(
    source: Exported,
    folder: Path,
    pixels: Sequence[tuple[int, int]],
    integer: str,
    progress: Progress | None,
) -> int:
    """Write the files of all pixels, one after the other.

    Parameters
    ----------
    source : Exported
    folder : Path
        Of the catalogue.
    pixels : sequence of (order, number)
        Along the curve.
    integer : str
        Type of integer identifiers.
    progress : callable, optional

    Returns
    -------
    int
        Objects of the largest pixel.
    """
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
            if nbytes >= GROUP_ROWS * ROW_BYTES // 2:
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
