"""The table of the normal distribution that both backends share."""

import math

import numpy as np
from numpy.typing import NDArray

# Fixed-point unit of smeared maps: sums are exact, and a cell holds 2^33 pairs before int64 is full.
UNIT = float(1 << 30)

# Beyond 5 sigma the distribution is taken as 0 or 1 (error 2.9e-7). Linear interpolation errs by at most
# step^2 / 8 * max |phi'| = 1.8e-7 at 4096 steps. Positions in the table have 16 bits of fraction.
REACH = 5.0
N_STEPS = 4096
POSITION_BITS = 16
HALF = N_STEPS / 2.0 * (1 << POSITION_BITS)


def normal_table() -> NDArray[np.int64]:
    """Return UNIT * Phi at N_STEPS + 1 nodes from -REACH to REACH, and the step to the next node.

    Returns
    -------
    int64[N_STEPS + 1, 2]
        The ends are exactly 0 and UNIT, so that a pair well inside the grid adds up to 1. A position p in
        [0, 2 HALF] has ``node = p >> POSITION_BITS`` and the value
        ``table[node, 0] + (table[node, 1] * (p & (2^POSITION_BITS - 1)) >> POSITION_BITS)``.
    """
    x = np.linspace(-REACH, REACH, N_STEPS + 1)
    values = np.rint(np.array([0.5 * math.erfc(-v / math.sqrt(2.0)) for v in x]) * UNIT).astype(np.int64)
    values[0], values[-1] = 0, int(UNIT)
    return np.stack([values, np.diff(values, append=values[-1])], axis=1)
