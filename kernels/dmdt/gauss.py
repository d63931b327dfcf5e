"""The table of the normal distribution that both backends share."""

import math

import numpy as np
from numpy.typing import NDArray

# Fixed-point unit of smeared maps: sums are exact, and a cell holds 2^33 pairs before int64 is full.
UNIT = float(1 << 30)

# Beyond 6 sigma the distribution is 0 or 1 to 1e-9. Linear interpolation errs by at most
# step^2 / 8 * max |phi'| = 6.5e-8 at 8192 steps.
REACH = 6.0
N_STEPS = 8192


def normal_table() -> NDArray[np.float64]:
    """Return UNIT * Phi at N_STEPS + 2 nodes from -REACH in steps of 2 REACH / N_STEPS.

    The ends are exactly 0 and UNIT, so that a pair well inside the grid adds up to 1; the last node is
    repeated so that interpolation may read one beyond the end.
    """
    x = np.linspace(-REACH, REACH, N_STEPS + 1)
    table = np.array([0.5 * math.erfc(-v / math.sqrt(2.0)) for v in x]) * UNIT
    table[0], table[-1] = 0.0, UNIT
    return np.append(table, table[-1])
