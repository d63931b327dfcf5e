"""What detection is asked for, and what it returns."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError, SchemaError
from skytrawl.kernels.flags import UNUSABLE

# Column: (dtype, unit, meaning). Image units are those of the flux map.
COLUMNS: Final = {
    "x": ("float64", "px", "sub-pixel position, centre of the first pixel = 0"),
    "y": ("float64", "px", "sub-pixel position, centre of the first pixel = 0"),
    "x_error": ("float64", "px", "standard error of x; NaN where the flux map has no maximum"),
    "y_error": ("float64", "px", "standard error of y; NaN where the flux map has no maximum"),
    "peak_x": ("int64", "px", "pixel of the peak"),
    "peak_y": ("int64", "px", "pixel of the peak"),
    "sign": ("int8", "", "+1 brighter, -1 fainter than the reference"),
    "score": ("float32", "sigma", "S_corr at the peak, with its sign"),
    "blank_score": ("float32", "sigma", "score without the noise of sources, at the peak; NaN if not given"),
    "flux": ("float64", "image", "PSF flux at (x, y), signed"),
    "flux_error": ("float64", "image", "its standard error"),
    "snr": ("float64", "", "flux / flux_error"),
    "order": ("int8", "", "pixels a side that flux was interpolated from: 8, 6, 4 or 2; 1: the peak's own"),
    "n_pixels": ("int64", "", "pixels beyond the threshold"),
    "width": ("int64", "px", "larger side of the box around them"),
    "a": ("float64", "px", "rms along the major axis of the pixels beyond the threshold"),
    "b": ("float64", "px", "rms along the minor axis"),
    "theta": ("float64", "rad", "angle of the major axis from +x towards +y, in (-pi/2, pi/2]"),
    "elongation": ("float64", "", "a / b"),
    "size": ("float64", "px", "FWHM of the flux map's peak over sqrt(2): for a point source near the PSF's"),
    "n_negative": ("int64", "", "usable pixels of the opposite sign in the box around the peak"),
    "n_bad": ("int64", "", "unusable pixels in that box, pixels outside the image among them"),
    "partner_distance": ("float64", "px", "from the peak to the partner; NaN if none"),
    "partner_score": ("float32", "sigma", "strongest S_corr of the opposite sign nearby; 0 if none"),
    "flux_ratio": ("float64", "", "minus the flux of the partner over the flux at the peak; 0 if none"),
    "is_dipole": ("bool", "", "the partner is as strong as the dipole test asks for"),
    "flags": ("uint16", "", "bits of kernels.flags of its pixels and of the box around the peak"),
    "edge_distance": ("float64", "px", "from (x, y) to the outermost row or column"),
}  # fmt: skip


@dataclass(frozen=True)
class Detection:
    """How candidates are found in a map of significances.

    Parameters
    ----------
    fwhm : float, px
        FWHM of the PSF of the difference image; it sets the boxes below.
    threshold : float, sigma
        Pixels with ``abs(score) > threshold`` belong to candidates.
    saddle : float, sigma
        An island splits at a saddle that lies so far below the lower of its two peaks.
    min_pixels : int
    max_size : float, px, optional
        Candidates whose bounding box is wider or higher are left out.
    exclude : int
        Pixels with any of these mask bits are left out. Non-finite scores always are.
    box : int, px, optional
        Half side of the box in which flags, bad and negative pixels are counted; default ceil(fwhm), 2 at
        least.
    dipole_radius : float, px, optional
        How far from a peak its partner is looked for; default 2.5 fwhm. The two poles of a star that is
        off by much less than a FWHM lie 1.2 fwhm apart.
    dipole_sigma, dipole_ratio : float
        A candidate is a dipole if ``abs(partner)`` is at least dipole_sigma and dipole_ratio times its peak.
    """

    fwhm: float
    threshold: float = 5.0
    saddle: float = 3.0
    min_pixels: int = 1
    max_size: float | None = None
    exclude: int = UNUSABLE
    box: int | None = None
    dipole_radius: float | None = None
    dipole_sigma: float = 4.0
    dipole_ratio: float = 0.4

    def __post_init__(self) -> None:
        named = {"fwhm": self.fwhm, "threshold": self.threshold, "dipole_radius": self.radius}
        for name, value in named.items():
            if not (np.isfinite(value) and value > 0):
                raise ParameterError(f"{name} is {value}: give a positive number")
        if not self.saddle >= 0 or not self.dipole_sigma >= 0 or not self.dipole_ratio >= 0:
            raise ParameterError("saddle, dipole_sigma and dipole_ratio must not be negative")
        if self.min_pixels < 1 or self.half < 0 or (self.max_size is not None and not self.max_size >= 1):
            raise ParameterError("min_pixels and max_size are 1 at least, box is 0 at least")
        if not 0 <= self.exclude < 1 << 16:
            raise ParameterError(f"exclude is {self.exclude}: give bits of a uint16 mask")

    @property
    def half(self) -> int:
        """Half side of the box of flags and counts, px."""
        return max(2, int(np.ceil(self.fwhm))) if self.box is None else self.box

    @property
    def radius(self) -> float:
        """Radius of the dipole test, px."""
        return 2.5 * self.fwhm if self.dipole_radius is None else self.dipole_radius


def check_planes(shape: tuple[int, ...], planes: dict[str, Any]) -> None:
    """Refuse planes that are not two-dimensional or differ in shape.

    Raises
    ------
    SchemaError
        Names the plane and both shapes.
    """
    if len(shape) != 2 or 0 in shape:
        raise SchemaError(f"the score has shape {shape}: give a two-dimensional image of 1 pixel at least")
    for name, plane in planes.items():
        if plane is not None and tuple(plane.shape) != shape:
            raise SchemaError(f"{name} has shape {tuple(plane.shape)}, the score {shape}")


def as_plane(image: Any) -> NDArray[np.float32]:
    """A C-contiguous float32 image."""
    return np.ascontiguousarray(image, np.float32)
