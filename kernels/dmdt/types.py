"""The records that go in and out of the dm-dt kernels."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError

Key = tuple[int, int]

# The original stores a pair of simultaneous observations of two bands at log10(dt) = -7; 1e-7 d is the
# double whose logarithm is exactly that.
SORAISAM2020_ZERO_DT = 1e-7


class LightCurves(NamedTuple):
    """One ragged block of light curves, ordered by band and then time inside each object.

    Attributes
    ----------
    time : float64[n_observations], days
    value : float32 or float64[n_observations], magnitude or any other quantity whose difference is wanted
    error : same as value, or None
    band : uint8[n_observations], band codes
    offsets : int64[n_objects + 1], rows ``offsets[k]:offsets[k + 1]`` are object k
    """

    time: NDArray[np.float64]
    value: NDArray[np.floating[Any]]
    error: NDArray[np.floating[Any]] | None
    band: NDArray[np.uint8]
    offsets: NDArray[np.int64]

    @property
    def n_objects(self) -> int:
        """Number of objects in the block."""
        return len(self.offsets) - 1


@dataclass(frozen=True)
class PairRules:
    """Which observations make a pair.

    Parameters
    ----------
    within : {"all", "consecutive"}
        Pairs inside a band: every i < j, or neighbours in time only (soraisam2020).
    cross : {"ordered"}
        Pairs between bands A and B: all n_A n_B combinations with t_A >= t_B, dt = t_A - t_B, dm = m_A - m_B.
    duplicates : {"drop_all", "first", "keep"}
        Rows of one band with equal time stamps: drop every copy (soraisam2020), keep the first, keep all.
    zero_dt : {"skip", "keep", "soraisam2020"}
        Pairs with dt = 0: never paired; paired with dt = 0, which only a grid that starts at 0 can hold; or
        as soraisam2020 has it: between bands they count as dt = 1e-7 d (log10 dt = -7), inside a band never.
    """

    within: Literal["all", "consecutive"] = "all"
    cross: Literal["ordered"] = "ordered"
    duplicates: Literal["drop_all", "first", "keep"] = "drop_all"
    zero_dt: Literal["skip", "keep", "soraisam2020"] = "skip"

    def __post_init__(self) -> None:
        choices = {
            "within": ("all", "consecutive"),
            "cross": ("ordered",),
            "duplicates": ("drop_all", "first", "keep"),
            "zero_dt": ("skip", "keep", "soraisam2020"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ParameterError(f"PairRules.{name} is {getattr(self, name)!r}: choose one of {allowed}")

    @property
    def consecutive(self) -> bool:
        """Whether pairs inside a band are neighbours only."""
        return self.within == "consecutive"

    @property
    def zero_within(self) -> float:
        """Time difference that stands for 0 inside a band; negative where such pairs are skipped."""
        return 0.0 if self.zero_dt == "keep" else -1.0

    @property
    def zero_cross(self) -> float:
        """Time difference that stands for 0 between bands; negative where such pairs are skipped."""
        return {"skip": -1.0, "keep": 0.0, "soraisam2020": SORAISAM2020_ZERO_DT}[self.zero_dt]


SORAISAM2020_RULES = PairRules(within="consecutive", duplicates="drop_all", zero_dt="soraisam2020")
LIGHT_CURVE_RULES = PairRules(within="all", duplicates="keep", zero_dt="skip")


class Selection(NamedTuple):
    """What `select` returns: the kept rows, where they came from and how many were dropped why."""

    lightcurves: LightCurves
    rows: NDArray[np.int64]
    n_cut: int
    n_not_finite: int


class PairableBlock(NamedTuple):
    """Rows that can be paired: finite, sorted, without duplicates, only the bands that the keys name.

    `bounds[k, s]:bounds[k, s + 1]` are the rows of object k in the s-th band of the keys; `row` is the row
    number in the light curves that were given. Both backends start from this.
    """

    time: NDArray[np.float64]
    value: NDArray[np.float64]
    variance: NDArray[np.float64]
    row: NDArray[np.int64]
    bounds: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    consecutive: bool
    zero_within: float
    zero_cross: float


class ScoreResult(NamedTuple):
    """Scores of one block against a compiled reference.

    Attributes
    ----------
    total : float64[n_objects, n_keys], sum over pairs of the compiled values (log10 ratios), dimensionless
    n_pairs : int64[n_objects, n_keys], pairs that entered the sum
    n_penalised : int64[n_objects, n_keys], of them those outside the dm range of their row or in a cell
        that was marked
    n_ignored : int64[n_objects, n_keys], pairs outside the dt range, which do not enter
    worst : float64[n_objects], the lowest value of one pair; NaN without pairs
    worst_key : int64[n_objects], index of its key; -1 without pairs
    worst_rows : int64[n_objects, 2], rows of the later and of the earlier observation in the light curves
    that
        were given; -1 without pairs. Ties go to the first key, then to the earliest row of the earlier
        observation, then of the later one.
    """

    total: NDArray[np.float64]
    n_pairs: NDArray[np.int64]
    n_penalised: NDArray[np.int64]
    n_ignored: NDArray[np.int64]
    worst: NDArray[np.float64]
    worst_key: NDArray[np.int64]
    worst_rows: NDArray[np.int64]


class OwnCells(NamedTuple):
    """Sparse counts per object: cells ``cell[start[k]:start[k + 1]]`` hold ``count`` pairs of object k."""

    start: NDArray[np.int64]
    cell: NDArray[np.int64]
    count: NDArray[np.int64]  # type: ignore[assignment]  # tuple has a method of this name
