"""Bits of image masks: why a pixel should not be believed."""

from typing import Final

import numpy as np

DTYPE: Final = np.dtype(np.uint16)

BAD: Final = 1  # dead, hot or otherwise wrong by the detector
COSMIC_RAY: Final = 2
SATURATED: Final = 4
BLEED: Final = 8  # connected to saturated pixels
STREAK: Final = 16  # trail of a satellite or an aircraft
EDGE: Final = 32  # too near the border of the detector
CROSSTALK: Final = 64
SPIKE: Final = 128  # diffraction spike or ghost of a bright star
NO_DATA: Final = 256  # nothing was measured here
INTERPOLATED: Final = 512  # partly made from neighbours; usable
SUSPECT: Final = 1024  # usable, with care
REFERENCE: Final = 2048  # unusable in the reference image

NAMES: Final = {
    "bad": BAD,
    "cosmic_ray": COSMIC_RAY,
    "saturated": SATURATED,
    "bleed": BLEED,
    "streak": STREAK,
    "edge": EDGE,
    "crosstalk": CROSSTALK,
    "spike": SPIKE,
    "no_data": NO_DATA,
    "interpolated": INTERPOLATED,
    "suspect": SUSPECT,
    "reference": REFERENCE,
}

# Pixels with any of these carry no flux that may be compared.
UNUSABLE: Final = (
    BAD | COSMIC_RAY | SATURATED | BLEED | STREAK | EDGE | CROSSTALK | SPIKE | NO_DATA | REFERENCE
)


def names_of(bits: int) -> tuple[str, ...]:
    """Names of the bits that are set, in the order of their values."""
    return tuple(name for name, bit in NAMES.items() if bits & bit)
