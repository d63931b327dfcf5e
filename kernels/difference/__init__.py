"""Image subtraction: proper (ZOGY) with known PSFs, and with a kernel fitted to the images."""

from skytrawl.kernels.difference.tiles import Layout, TiledSide, fitting_tile, layout, subtract, tile_side
from skytrawl.kernels.difference.types import Difference, Filters, Prepared, Side

__all__ = [
    "Difference",
    "Filters",
    "Layout",
    "Prepared",
    "Side",
    "TiledSide",
    "fitting_tile",
    "layout",
    "subtract",
    "tile_side",
]
