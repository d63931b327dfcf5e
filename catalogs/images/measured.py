"""What an image says about itself, kept in its frame: PSF, stars, and the sky at the nodes of a grid."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from skytrawl.catalogs.images.frame import Frame
from skytrawl.errors import ImageError
from skytrawl.kernels import flags
from skytrawl.kernels.psf import PsfModel

if TYPE_CHECKING:
    from skytrawl.catalogs.images.store import FrameStore
    from skytrawl.kernels.measure import Measured, Stars
    from skytrawl.kernels.resample import Planes

# Pixels between the nodes at which the sky is kept; it is smooth over boxes of 64.
STEP = 16
# From so many stars on, a PSF measured on the image is preferred to one that came with it.
TRUSTED_STARS = 10
_STARS = ("x", "y", "flux", "x_error", "y_error", "flux_error", "width", "width_error", "clean", "used")


@dataclass(frozen=True)
class Exposure:
    """An image ready for subtraction: its sky is gone, and what cannot be used is marked.

    Attributes
    ----------
    id : str
    row, attrs : dict
        Of the frame.
    planes : Planes
        Image without its sky (float32), variance (float32, everywhere positive), mask (uint16).
    sky_sigma : float32[ny, nx], image units
        Noise of a pixel that holds nothing but sky.
    psf : PsfModel
    stars : Stars
    wcs : astropy.wcs.WCS
    wcs_tables : dict of arrays
        Distortion tables of the WCS, as the frame has them.
    """

    id: str
    row: dict[str, Any]
    attrs: dict[str, Any]
    planes: Planes
    sky_sigma: np.ndarray
    psf: PsfModel
    stars: Stars
    wcs: Any
    wcs_tables: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def bad(self) -> np.ndarray:
        """Pixels that cannot be used, bool[ny, nx]."""
        return (self.planes.mask & flags.UNUSABLE) != 0


def measure_frame(frame: Frame, **options: Any) -> Frame:
    """Add what the image says about itself to a frame of an exposure.

    Arrays that are added: ``stars`` (float64[n, 10], columns in the attribute star_columns), ``sky_nodes``
    (float32[2, my, mx]: level and noise every 16 pixels), ``psf_basis`` and ``psf_frame`` unless the frame
    has a PSF and the image shows fewer than ten good stars. The row gets fwhm [px], sky, sky_sigma, n_stars,
    n_psf_stars, psf_error. Where nothing can be measured, n_stars is 0 and the attribute notes says why.

    Parameters
    ----------
    frame : Frame
        With image, variance and mask; changed in place.
    **options
        Of :func:`skytrawl.kernels.measure.measure`.
    """
    from skytrawl.kernels.measure import measure

    image, bad, variance = _usable(frame)
    try:
        found = measure(image, bad, variance=variance, **options)
    except ImageError as error:
        frame.row.update(n_stars=0, n_psf_stars=0, psf_error=math.nan)
        frame.attrs.setdefault("notes", []).append(f"not measured: {error}")
        return frame
    return keep(frame, found)


def keep(frame: Frame, found: Measured) -> Frame:
    """Put a measurement into a frame, as :func:`measure_frame` says."""
    stars = found.stars
    frame.arrays["stars"] = np.stack(
        [np.asarray(getattr(stars, name), np.float64) for name in _STARS], axis=1
    )
    frame.dims["stars"] = ("star", "star_column")
    frame.attrs["star_columns"] = list(_STARS)
    level, sigma = found.background.level, found.background.sigma
    frame.arrays["sky_nodes"] = np.stack([at_nodes(level), at_nodes(sigma)])
    frame.dims["sky_nodes"] = ("sky_plane", "sky_y", "sky_x")
    if "psf_basis" not in frame.arrays or found.n_used >= TRUSTED_STARS:
        frame.arrays |= {f"psf_{name}": values for name, values in found.psf.to_arrays().items()}
        frame.attrs["psf_from"] = f"measured on {found.n_used} stars"
        frame.row["fwhm"] = found.fwhm
    frame.row.update(
        sky=found.background.median,
        sky_sigma=found.background.median_sigma,
        n_stars=len(stars),
        n_psf_stars=found.n_used,
        psf_error=found.psf_error,
    )
    return frame


def read_exposure(store: FrameStore, frame_id: str) -> Exposure:
    """Read a measured frame as an exposure.

    Raises
    ------
    ImageError
        If it was never measured or has no WCS.
    """
    return exposure_of(store.read(frame_id))


def exposure_of(frame: Frame) -> Exposure:
    """The exposure of a measured frame.

    Raises
    ------
    ImageError
        If it was never measured or has no WCS.
    """
    from skytrawl.catalogs.images.exposure import wcs_of_frame
    from skytrawl.catalogs.images.wcs import require_sky
    from skytrawl.kernels.resample import Planes

    if "psf_basis" not in frame.arrays or "sky_nodes" not in frame.arrays:
        notes = [note for note in frame.attrs.get("notes", []) if note.startswith("not measured")]
        raise ImageError(
            f"{frame.id} has no PSF: {notes[0] if notes else 'it was ingested without measuring'}"
        )
    wcs = wcs_of_frame(frame)
    require_sky(wcs)
    image, bad, variance = _usable(frame)
    level, sigma = (from_nodes(nodes, image.shape) for nodes in frame.arrays["sky_nodes"])
    mask = np.array(frame.arrays["mask"], flags.DTYPE)
    mask[bad & ((mask & flags.UNUSABLE) == 0)] |= flags.NO_DATA
    data = np.where(bad, np.float32(0), image - level)
    noise = np.square(sigma)
    if variance is None:
        # Without a variance plane: the sky as measured, and the photons of the sources.
        gain = float(frame.row.get("gain") or math.nan)
        noise = noise + np.maximum(data, 0) / np.float32(gain) if gain > 0 else noise
        variance = noise
    variance = np.where(np.isfinite(variance) & (variance > 0), variance, noise).astype(np.float32)
    columns = dict(zip(frame.attrs["star_columns"], frame.arrays["stars"].T, strict=True))
    return Exposure(
        frame.id,
        frame.row,
        frame.attrs,
        Planes(np.ascontiguousarray(data, np.float32), variance, mask),
        sigma,
        PsfModel.from_arrays({name: frame.arrays[f"psf_{name}"] for name in ("basis", "frame")}),
        stars_of(columns),
        wcs,
        {name: values for name, values in frame.arrays.items() if name.startswith("wcs_table_")},
    )


def stars_of(columns: dict[str, np.ndarray]) -> Stars:
    """Stars from columns of float64."""
    from skytrawl.kernels.measure import Stars

    flags_ = ("clean", "used")
    values = {f.name: np.ascontiguousarray(columns[f.name]) for f in fields(Stars)}
    return Stars(
        **{name: column.astype(bool) if name in flags_ else column for name, column in values.items()}
    )


def at_nodes(plane: np.ndarray) -> np.ndarray:
    """Values of a smooth map every 16 pixels, borders included; float32[my, mx]."""
    rows, columns = (_nodes(side) for side in plane.shape)
    return np.ascontiguousarray(plane[np.ix_(rows, columns)], np.float32)


def from_nodes(nodes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The map again, float32[ny, nx], by bicubic interpolation."""
    from scipy.interpolate import make_interp_spline

    result = np.asarray(nodes, np.float64)
    for axis, side in enumerate(shape):
        at = _nodes(side)
        spline = make_interp_spline(at, result, k=min(3, len(at) - 1), axis=axis)
        result = spline(np.arange(side))
    return np.ascontiguousarray(result, np.float32)


def _nodes(side: int) -> np.ndarray:
    return np.unique(np.append(np.arange(0, side, STEP), side - 1))


def _usable(frame: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Image in float32, pixels that cannot be used, and the variance if there is one."""
    image = np.ascontiguousarray(frame.arrays["image"], np.float32)
    bad = ~np.isfinite(image) | ((frame.arrays["mask"] & flags.UNUSABLE) != 0)
    variance = frame.arrays.get("variance")
    if variance is None or not np.isfinite(variance[~bad]).any():
        return image, bad, None
    variance = np.ascontiguousarray(variance, np.float32)
    return image, bad | ~(np.isfinite(variance) & (variance > 0)), variance
