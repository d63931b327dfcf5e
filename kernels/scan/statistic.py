"""The number by which the best bump and the best dip of a curve are held against those of noise."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.scan.types import ScanResult


def statistic(result: ScanResult) -> NDArray[np.float64]:
    """Statistic of the best bump and the best dip: dchi2 over the root of the noise of its time scale.

    An anomaly raises the noise of its own time scale. Divided by the whole noise, strong broad anomalies of
    one season hide behind themselves; not divided at all, correlated noise of long time scales hides short
    anomalies. The root lies between; features account for the rest.

    Returns
    -------
    float64[n_objects, 2]
        0 where there is no bump or no dip, NaN for objects without a filled grid point.
    """
    extreme = result.extreme
    noise = np.take_along_axis(result.noise, np.maximum(extreme.scale, 0), axis=1)
    found = np.where(extreme.season >= 0, extreme.dchi2 / np.sqrt(noise), 0.0)
    return np.where(result.n_filled[:, None] > 0, found, np.nan)
