"""Planes as integers at a fraction of their noise, and back."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from skytrawl.errors import SchemaError

ATTR = "quantisation"
_MARGIN = 256 + 8  # integers that are kept free for the choice of zero, the dither and NaN


@dataclass(frozen=True)
class Quantised:
    """How integers k stand for values: ``zero + step * (k - dither)``.

    The dither, uniform in [-0.5, 0.5), is a hash of the index of the pixel in the plane and of `seed`. The
    lowest integer of the type stands for NaN.
    """

    step: float
    zero: float
    seed: int
    dtype: np.dtype

    def decode(
        self,
        numbers: np.ndarray,
        part: tuple[slice, ...],
        out: np.ndarray,
        target: tuple[slice, ...],
        first: tuple[int, ...],
        width: int,
    ) -> None:
        """Values of a part of a chunk into their place.

        Parameters
        ----------
        numbers : int16 or int32 array of shape (rows, columns)
        part : (slice, slice)
            What of them is wanted.
        out : array
        target : (slice, slice)
            Where in `out` the values go.
        first : (int, int)
            Row and column in the plane of the first number of the part.
        width : int
            Columns of the plane.
        """
        from skytrawl.kernels.quantise import dequantise

        dequantise(
            numbers,
            self.step,
            self.zero,
            self.seed,
            first=(first[0], first[1]),
            width=width,
            out=out,
            part=(part[0], part[1]),
            at=(target[0].start, target[1].start),
        )


def quantised_of(attrs: dict[str, Any]) -> Quantised | None:
    """What the attributes of an array say of it; None if its numbers are the values."""
    record = attrs.get(ATTR)
    if not record or "step" not in record:
        return None
    return Quantised(record["step"], record["zero"], record["seed"], np.dtype(record["dtype"]))


def quantise_plane(values: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Integers of a plane and the attributes that go with them.

    Parameters
    ----------
    values : float array of shape (rows, columns)
    fraction : float
        Step in units of the noise, such as 0.25. The noise is measured from pixel to pixel.
    seed : int
        Of the dither.

    Returns
    -------
    array
        int16, or int32 where the range asks for it; the values themselves where there is no noise to measure
        (a constant plane, or none but NaN).
    dict
        Attributes: scale_factor, add_offset and _FillValue by the CF conventions (they give the values
        without dither, up to one step off), and the record of what was done with its error in units of the
        values.

    Raises
    ------
    SchemaError
        If the plane cannot be quantised.
    """
    from skytrawl.kernels.quantise import dequantise, noise, quantise, range_of

    if values.ndim != 2 or values.dtype.kind != "f" or not 0 < fraction <= 4:
        raise SchemaError(
            f"{values.dtype} of {values.ndim} axes at {fraction} sigma: planes of two axes and floats are "
            "quantised, at a step above 0 and up to 4 sigma"
        )
    sigma = noise(values)
    if not sigma > 0:
        return values, {ATTR: {"fraction": fraction, "kept": "no noise to measure: values as delivered"}}
    step = fraction * sigma
    low, high = range_of(values)
    if not np.isfinite(low) or not np.isfinite(high):
        raise SchemaError(
            "infinite pixels cannot be quantised: mask them as NaN, or store the plane as it is"
        )
    steps = (high - low) / step
    if steps >= 2**32 - _MARGIN:
        raise SchemaError(
            f"values from {low:g} to {high:g} at steps of {step:g} do not fit 32 bits: store the plane as "
            "it is"
        )
    kind = np.dtype("<i2" if steps < 2**16 - _MARGIN else "<i4")
    lowest = int(np.iinfo(kind).min)
    # The sky amid the range of the low byte: its noise leaves the other bytes alone, which compress away.
    begin = 2 if steps < np.iinfo(kind).max - _MARGIN else lowest + 2
    begin += (128 - round((np.nanmedian(values[::4]) - low) / step) - begin) % 256
    zero = low - step * begin
    numbers = quantise(values, step, zero, seed, kind)
    back = dequantise(numbers, step, zero, seed, first=(0, 0), width=values.shape[1], dtype=values.dtype)
    error = np.abs(back.astype(np.float64) - values)
    record = {
        "method": "subtractive dither, fmix32 of the pixel index",
        "fraction": fraction,
        "sigma": sigma,
        "step": step,
        "zero": zero,
        "seed": seed,
        "dtype": values.dtype.name,
        "error_rms": float(np.sqrt(np.nanmean(error**2))),
        "error_max": float(np.nanmax(error)),
    }
    return numbers, {"scale_factor": step, "add_offset": zero, "_FillValue": lowest, ATTR: record}
