"""Drawing of sources on pixels: point sources, galaxies, trails, stamps, and what a CCD does with charge."""

from skytrawl.kernels.render.galaxies import add_galaxies
from skytrawl.kernels.render.moffat import MoffatField

__all__ = ["MoffatField", "add_galaxies"]
