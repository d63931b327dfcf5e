"""Whether rows stand in order inside their objects, in Numba."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.jit import njit


@njit()
def _ordered(offsets, band, time):  # type: ignore[no-untyped-def]
    for k in range(len(offsets) - 1):
        for i in range(offsets[k] + 1, offsets[k + 1]):
            if band[i] < band[i - 1] or (band[i] == band[i - 1] and time[i] < time[i - 1]):
                return False
    return True


def ordered(offsets: NDArray[np.int64], band: NDArray[np.uint8], time: NDArray[np.float64]) -> bool:
    """Tell whether rows are in order; see `skytrawl.kernels.rows.ordered`."""
    return bool(_ordered(offsets, band, time))
