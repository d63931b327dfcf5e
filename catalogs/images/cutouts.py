"""Stamps of image planes around positions, cut without a loop."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skytrawl.errors import ParameterError, SchemaError
from skytrawl.kernels.flags import DTYPE, NO_DATA

DEFAULT_SIZE = 63
# Median absolute deviation of a normal distribution, in sigmas.
MAD = 0.6744897501960817


class Cutouts(NamedTuple):
    """Stamps of all planes in one unit of flux.

    Attributes
    ----------
    images : float32[n, plane, size, size]
        NaN outside the image.
    mask : uint16[n, size, size]
        Bits of `skytrawl.kernels.flags`; `NO_DATA` outside the image.
    planes : tuple of str
    x, y : int64[n]
        Pixel of the image at ``[size // 2, size // 2]`` of the stamp.
    """

    images: NDArray[np.float32]
    mask: NDArray[np.uint16]
    planes: tuple[str, ...]
    x: NDArray[np.int64]
    y: NDArray[np.int64]

    def normalised(self, plane: str = "difference") -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """All planes of each stamp over one number, the noise of one of its planes.

        Zero stays zero, signs stay, and the planes keep their ratios: a source that is as bright in the
        science image as in the difference still is. Pixels that are NaN become 0.

        Parameters
        ----------
        plane : str
            Its scatter (median absolute deviation about zero, in sigmas of a normal distribution, over the
            finite pixels) divides the stamp.

        Returns
        -------
        images : float32[n, plane, size, size], sigma
        noise : float64[n], the divisor; NaN and an image of zeros where it is 0 or nothing is finite

        Raises
        ------
        ParameterError
            For an unknown plane.
        """
        if plane not in self.planes:
            raise ParameterError(f"there is no plane {plane!r}: choose of {', '.join(self.planes)}")
        n, _, size, _ = self.images.shape
        values = np.abs(self.images[:, self.planes.index(plane)]).reshape(n, size * size).astype(np.float64)
        finite = np.isfinite(values)
        # A sort puts NaN last: the median of the finite ones by their number.
        values = np.sort(np.where(finite, values, np.nan), axis=1)
        count = finite.sum(axis=1)
        rows = np.arange(n)
        last = values.shape[1] - 1
        lower, upper = np.clip((count - 1) // 2, 0, last), np.clip(count // 2, 0, last)
        noise = (values[rows, lower] + values[rows, upper]) / 2.0 / MAD
        noise = np.where((count > 0) & (noise > 0), noise, np.nan)
        scaled = self.images / noise[:, None, None, None].astype(np.float32)
        return np.where(np.isfinite(scaled), scaled, np.float32(0.0)), noise


def cutouts(
    planes: Mapping[str, Any] | Sequence[Any],
    x: ArrayLike,
    y: ArrayLike,
    *,
    size: int = DEFAULT_SIZE,
    mask: Any = None,
    factors: Sequence[float] | None = None,
    offsets: Sequence[Any] | None = None,
) -> Cutouts:
    """Cut stamps around positions.

    Parameters
    ----------
    planes : mapping of name to float[ny, nx], or three such arrays
        Images on one grid; a sequence of three is science, reference and difference.
    x, y : float64[n], px
        A stamp is centred on the pixel that the position lies in.
    size : int, px
        Side of the stamps. An even one has one row more below the centre than above.
    mask : uint16[ny, nx], optional
        Bits of the pixels of all planes.
    factors : sequence of float, optional
        What brings each plane to the common flux scale, such as its nJy per unit; default 1.
    offsets : sequence of float or float[ny, nx], optional
        Taken off each plane before that, such as its sky; default 0.

    Returns
    -------
    Cutouts

    Raises
    ------
    SchemaError
        For planes that differ in shape, or positions that are not finite or lie outside the image.
    ParameterError
        For a size below 1, or factors or offsets that do not match the planes.
    """
    if not isinstance(planes, Mapping):
        if len(planes) != 3:
            raise ParameterError(f"{len(planes)} planes: name them, or give science, reference, difference")
        planes = dict(zip(("science", "reference", "difference"), planes, strict=True))
    names = tuple(str(name) for name in planes)
    arrays = [np.asarray(plane) for plane in planes.values()]
    factors = [1.0] * len(arrays) if factors is None else list(factors)
    offsets = [0.0] * len(arrays) if offsets is None else list(offsets)
    if not arrays or len(factors) != len(arrays) or len(offsets) != len(arrays):
        raise ParameterError(f"{len(arrays)} planes, {len(factors)} factors, {len(offsets)} offsets")
    if size < 1:
        raise ParameterError(f"size is {size}: give 1 px at least")
    shape = arrays[0].shape
    bits = np.zeros(shape, DTYPE) if mask is None else np.asarray(mask, DTYPE)
    for name, plane in zip((*names, "mask"), (*arrays, bits), strict=True):
        if plane.shape != shape or len(shape) != 2:
            raise SchemaError(f"plane {name!r} has shape {plane.shape}, {names[0]!r} has {shape}")
    centre_x, centre_y = _pixels(x, shape[1], "x"), _pixels(y, shape[0], "y")
    if centre_x.shape != centre_y.shape:
        raise SchemaError(f"x and y have shapes {centre_x.shape} and {centre_y.shape}: give two vectors")
    step = np.arange(size) - size // 2
    u, v = centre_x[:, None] + step, centre_y[:, None] + step
    inside = ((v >= 0) & (v < shape[0]))[:, :, None] & ((u >= 0) & (u < shape[1]))[:, None, :]
    row, column = np.clip(v, 0, shape[0] - 1)[:, :, None], np.clip(u, 0, shape[1] - 1)[:, None, :]
    images = np.empty((len(centre_x), len(arrays), size, size), np.float32)
    for k, (plane, factor, offset) in enumerate(zip(arrays, factors, offsets, strict=True)):
        stamp = plane[row, column]
        # In double precision, so that a sky far above the sources costs them no digits.
        level = offset if np.ndim(offset) == 0 else np.asarray(offset)[row, column]
        images[:, k] = np.where(inside, (stamp.astype(np.float64) - level) * factor, np.nan)
    return Cutouts(
        images, np.where(inside, bits[row, column], DTYPE.type(NO_DATA)), names, centre_x, centre_y
    )


def _pixels(position: ArrayLike, length: int, name: str) -> NDArray[np.int64]:
    """Pixels of positions in an image."""
    values = np.asarray(position, np.float64)
    if values.ndim != 1:
        raise SchemaError(f"{name} has shape {values.shape}: give a vector")
    pixels = np.floor(values + 0.5)
    wrong = np.flatnonzero(~((pixels >= 0) & (pixels < length)))
    if wrong.size:
        row = int(wrong[0])
        raise SchemaError(f"{name}[{row}] is {values[row]}: the image has pixels 0 to {length - 1}")
    return pixels.astype(np.int64)
