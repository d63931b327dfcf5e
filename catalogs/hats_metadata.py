"""What stands beside the data files of a HATS catalogue, written by the package `hats`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skytrawl import __version__
from skytrawl.catalogs.export_arrow import SPATIAL_INDEX
from skytrawl.catalogs.hats_pixels import SkyHistogram

# Least order of the map of objects on the sky, as lsdb has it.
MAP_ORDER = 8


def describe(
    folder: Path,
    name: str,
    pixels: Sequence[tuple[int, int]],
    histogram: SkyHistogram,
    largest: int,
    notes: Mapping[str, str],
) -> None:
    """Write the properties, the list of pixels, the maps, and the metadata of all data files together.

    Parameters
    ----------
    folder : Path
        Of the catalogue; it holds the data files of the pixels.
    name : str
        Of the catalogue.
    pixels : sequence of (order, number)
    histogram : SkyHistogram
        Of the objects; of at least the order of the maps.
    largest : int
        Objects of the largest pixel.
    notes : mapping of str to str
        Further properties.
    """
    from hats.catalog import PartitionInfo, TableProperties
    from hats.io import paths
    from hats.io.file_io import write_fits_image
    from hats.io.parquet_metadata import write_parquet_metadata
    from hats.io.skymap import write_skymap
    from hats.pixel_math.healpix_pixel import HealpixPixel

    write_parquet_metadata(folder, create_per_partition_stats=True)
    info = PartitionInfo([HealpixPixel(order, pixel) for order, pixel in pixels])
    info.write_to_file(catalog_path=folder)
    highest = int(info.get_highest_order())
    objects = histogram.map(max(MAP_ORDER, highest))
    write_skymap(objects, folder)
    write_fits_image(objects, paths.get_point_map_file_pointer(folder))
    words: dict[str, Any] = {
        "catalog_name": name,
        "catalog_type": "object",
        "total_rows": int(histogram.rows.sum()),
        "ra_column": "ra",
        "dec_column": "dec",
        "healpix_column": SPATIAL_INDEX,
        "healpix_order": 29,
        "skymap_order": max(MAP_ORDER, highest),
        "hats_max_rows": largest,
        "hats_order": highest,
        "moc_sky_fraction": float(f"{info.calculate_fractional_coverage():.5g}"),
    }
    words |= notes
    words |= TableProperties.new_provenance_dict(folder, builder=f"skytrawl v{__version__}")
    TableProperties(**words).to_properties_file(folder)
