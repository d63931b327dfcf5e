"""Rounding of values to a stated precision, so that they pack better, with the error recorded.

Binary numbers pack by their trailing zero bits, so values go to the nearest multiple of a power of two, not
of a decimal step: with a step of 0.001 mag a float32 magnitude keeps 10 bits behind the point and is off by
at most 0.0005. What was done stands in the archive's attributes, ``light_curves["rounding"]``.
"""

from collections.abc import Mapping

import numpy as np

from skytrawl.errors import ParameterError

ROUNDED = ("value", "error")
STEPS = (1e-15, 1e15)

Rounding = Mapping[str, float]


def quantum_of(step: float) -> float:
    """The largest power of two that is not above `step`.

    Raises
    ------
    ParameterError
        If the step is no number from 1e-15 to 1e15.
    """
    if not isinstance(step, int | float) or not STEPS[0] <= step <= STEPS[1]:
        raise ParameterError(
            f"a rounding step of {step!r}: it must be a number from {STEPS[0]} to {STEPS[1]}"
        )
    return float(np.ldexp(0.5, np.frexp(float(step))[1]))


def round_to(values: np.ndarray, step: float) -> tuple[np.ndarray, float]:
    """Values rounded to the nearest multiple of the largest power of two up to `step`.

    NaN, infinities and zeros stay as they are, and so does what would become zero: a standard error of zero
    means something else than a small one.

    Parameters
    ----------
    values : float32 or float64 array
    step : float
        In the unit of the values.

    Returns
    -------
    rounded : array of the same dtype and shape
        Within step / 2 of the values.
    max_error : float
        Largest absolute difference, exact; 0 without finite values.

    Raises
    ------
    ParameterError
        For another dtype or a step out of range.
    """
    if values.dtype.kind != "f" or values.dtype.itemsize not in (4, 8):
        raise ParameterError(f"only float32 and float64 can be rounded, not {values.dtype}")
    kind = values.dtype.type
    quantum = kind(quantum_of(step))
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.multiply(values, kind(1) / quantum)
        np.rint(rounded, out=rounded)
        # Beyond this every float is a multiple of the quantum; also false for NaN and infinities.
        keep = ~(np.abs(rounded) < 2.0 ** (np.finfo(kind).nmant + 1))
        keep |= rounded == 0
        np.multiply(rounded, quantum, out=rounded)
        np.copyto(rounded, values, where=keep)
        # Both are multiples of the value's last bit and nearer than it has bits: the difference is exact.
        error = np.abs(rounded - values)
    return rounded, float(np.fmax.reduce(error, initial=0.0, axis=None))


def check_rounding(rounding: Rounding) -> None:
    """Raise ParameterError unless this names columns that may be rounded, with sound steps."""
    for column, step in rounding.items():
        if column not in ROUNDED:
            raise ParameterError(
                f"precision of {column!r}: only {' and '.join(ROUNDED)} can be rounded, such as value=0.001"
            )
        quantum_of(step)
