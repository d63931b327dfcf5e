"""What an image says about itself: background, stars, PSF, photometric scale."""

from skytrawl.kernels.measure.background import background
from skytrawl.kernels.measure.cosmic import cosmic_rays
from skytrawl.kernels.measure.image import measure
from skytrawl.kernels.measure.match import match
from skytrawl.kernels.measure.types import Background, Match, Measured, Stars

__all__ = ["Background", "Match", "Measured", "Stars", "background", "cosmic_rays", "match", "measure"]
