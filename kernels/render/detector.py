"""From expected electrons to the pixels of an exposure: Poisson noise, spilling, cosmic rays, read noise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels import flags

# A relativistic muon frees about 80 electron-hole pairs per micrometre of silicon (Janesick 2001,
# Scientific Charge-Coupled Devices, chapter 8); straggling widens that.
_PAIRS = 80.0
_STRAGGLING = 0.3
# Diffusion on the way to the gates, pixels; longest track that is drawn.
_DIFFUSION = 0.3
_LONGEST = 200.0
_STEPS = 8  # pieces of charge a pixel of track


@dataclass(frozen=True)
class Detector:
    """What turns electrons into pixels.

    Attributes
    ----------
    gain : float
        Electrons per image unit.
    read_noise : float
        Electrons.
    saturation : float
        Image units above sky-inclusive zero at which a well is full.
    thickness : float
        Depth of the silicon in pixels, which sets how long cosmic-ray tracks are.
    pixel : float
        Side of a pixel, micrometres.
    """

    gain: float
    read_noise: float
    saturation: float
    thickness: float = 1.0
    pixel: float = 15.0


def cosmic_rays(
    generator: np.random.Generator, shape: tuple[int, int], count: int, detector: Detector
) -> NDArray[np.float32]:
    """Electrons that straight muon tracks leave.

    Zenith angles follow the cos^2 law of muons through a horizontal surface (density of cos theta ~
    cos^3 theta); charge is proportional to the path in the silicon and straggles.

    Parameters
    ----------
    generator : numpy.random.Generator
    shape : tuple of int
    count : int
        Tracks.
    detector : Detector

    Returns
    -------
    float32 array of shape `shape`
    """
    charge = np.zeros(shape, np.float32)
    ny, nx = shape
    for _ in range(count):
        start_x, start_y = generator.uniform(-0.5, nx - 0.5), generator.uniform(-0.5, ny - 0.5)
        upright = max(generator.random() ** 0.25, 1e-3)
        across = min(detector.thickness * np.sqrt(1.0 - upright**2) / upright, _LONGEST)
        direction = generator.uniform(0.0, 2.0 * np.pi)
        pieces = max(16, int(_STEPS * across))
        path = np.hypot(detector.thickness, across) * detector.pixel
        piece = _PAIRS * path / pieces * generator.lognormal(0.0, _STRAGGLING, pieces)
        along = np.linspace(0.0, across, pieces)
        x = start_x + along * np.cos(direction) + _DIFFUSION * generator.standard_normal(pieces)
        y = start_y + along * np.sin(direction) + _DIFFUSION * generator.standard_normal(pieces)
        i, j = np.rint(x).astype(np.int64), np.rint(y).astype(np.int64)
        inside = (i >= 0) & (i < nx) & (j >= 0) & (j < ny)
        np.add.at(charge, (j[inside], i[inside]), piece[inside])
    return charge


def expose(
    generator: np.random.Generator,
    expected: NDArray[np.floating],
    detector: Detector,
    cosmics: NDArray[np.floating] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """One realisation of an exposure.

    Photons arrive (Poisson), full wells spill along the columns (axis 0), cosmic rays add their charge, the
    amplifier adds Gaussian noise, and what exceeds the range is clipped. Values are not rounded, as in
    flat-fielded images.

    Parameters
    ----------
    generator : numpy.random.Generator
    expected : array of shape (ny, nx)
        Expected electrons of sky and sources.
    detector : Detector
    cosmics : array of shape (ny, nx), optional
        Electrons of cosmic rays.

    Returns
    -------
    image : float32 array of shape (ny, nx)
        Image units, sky included.
    mask : uint16 array of shape (ny, nx)
        SATURATED where the delivered value reaches saturation, BLEED where spilt charge lies otherwise.
    """
    from skytrawl.kernels.render.cpu_detector import bleed

    electrons = generator.poisson(expected).astype(np.float32)
    if cosmics is not None:
        electrons += cosmics
    full = detector.saturation * detector.gain
    spilt = np.zeros(electrons.shape, bool)
    if electrons.max(initial=0.0) > full:
        bleed(electrons, spilt, full)
    # A well that is full is recognised before the noise of the amplifier hides it.
    brim = electrons >= full * (1.0 - 1e-5)
    image = generator.standard_normal(electrons.shape, np.float32)
    image *= np.float32(detector.read_noise)
    image += electrons
    image /= np.float32(detector.gain)
    saturated = brim | (image >= detector.saturation)
    np.copyto(image, np.float32(detector.saturation), where=saturated)
    mask = np.zeros(image.shape, flags.DTYPE)
    mask[spilt] |= flags.BLEED
    mask[saturated] |= flags.SATURATED
    return image, mask
