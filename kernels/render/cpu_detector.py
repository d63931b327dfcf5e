"""What a CCD does to its electrons: full wells spill along the columns."""

import numpy as np

from skytrawl.kernels.jit import njit


@njit()
def _push(electrons, spilt, column, row, step, charge, full):  # type: ignore[no-untyped-def]
    """Fill the room of the pixels from `row` on in one direction; returns what leaves the detector."""
    j = row
    while charge > 0.0 and 0 <= j < electrons.shape[0]:
        room = full - electrons[j, column]
        if room > 0.0:
            moved = min(room, charge)
            electrons[j, column] += moved
            charge -= moved
            spilt[j, column] = True
        j += step
    return charge


@njit()
def bleed(electrons, spilt, full):  # type: ignore[no-untyped-def]
    """Move the charge above the full well, half of it each way along the column (axis 0).

    Charge is conserved up to what leaves at the ends. ``spilt`` becomes true where some arrived.
    """
    ny, nx = electrons.shape
    for i in range(nx):
        for j in range(ny):
            excess = np.float64(electrons[j, i]) - full
            # Pixels that were filled up to the brim by rounding do not spill again.
            if excess > 1e-6 * full:
                electrons[j, i] = full
                _push(electrons, spilt, i, j - 1, -1, 0.5 * excess, full)
                _push(electrons, spilt, i, j + 1, 1, 0.5 * excess, full)
