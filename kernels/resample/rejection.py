"""What is taken out of a coadd: pixels of one exposure that the others do not show."""

from dataclasses import dataclass
from typing import Final

from skytrawl.errors import ParameterError

# Variance of a median of n normal values times n, for large n (pi / 2).
MEDIAN: Final = 1.571
# A median counts as light of a source above so many of its standard deviations.
SKY: Final = 3.0
# Around a rejected pixel, so many pixels along each axis are rejected from so many sigma on.
GROW: Final = 2
GROWN: Final = 2.0


@dataclass(frozen=True)
class Rejection:
    """Which pixels of an exposure are left out of a coadd.

    A pixel is rejected if it differs from the median of the exposures by more than ``clip`` standard
    deviations (its own and that of the median) plus ``slack`` times the largest median around it: near a star
    exposures of different seeing differ by a part of its light, and no star must lose its core to that. Of an
    even number of values the median is the middle one nearer to zero: of two exposures the one that
    shows less is believed.

    Parameters
    ----------
    clip : float or None, sigma
        None rejects nothing.
    slack : float
    """

    clip: float | None = 5.0
    slack: float = 1.0

    def __post_init__(self) -> None:
        if self.clip is not None and not self.clip >= GROWN:
            raise ParameterError(f"pixels are clipped at {GROWN} sigma at least, not {self.clip}")
        if not self.slack >= 0:
            raise ParameterError(f"slack must not be negative, not {self.slack}")
