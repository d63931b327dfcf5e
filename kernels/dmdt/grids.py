"""Grids over (dt, dm): axes with exact edges, and the named, versioned presets.

An axis is nothing but its edges: the cell of x is ``searchsorted(edges, x, side="right") - 1``, in every
backend. Programs that compute the cell with a formula (light-curve: ``floor((log10(x) - lg_start) / cell)``)
are met by edges at the smallest double for which their formula enters the next cell.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skytrawl.errors import ParameterError
from skytrawl.kernels.dmdt.guides import BitGuide, LinearGuide, bit_guide, checked_edges, linear_guide

AxisKind = Literal["log", "linear", "edges"]


def first_reaching(function: Callable[[float], float], target: float, guess: float) -> float:
    """Return the smallest double x near `guess` with ``function(x) >= target``; the function must ascend.

    The search runs over the doubles themselves, so that the result is exact.
    """
    step = 64.0 * math.ulp(guess)
    low, high = guess - step, guess + step
    while function(low) >= target:
        step *= 2.0
        low -= step
    while function(high) < target:
        step *= 2.0
        high += step
    while True:
        middle = low + (high - low) / 2.0
        if not low < middle < high:
            return high
        if function(middle) >= target:
            high = middle
        else:
            low = middle


def log_edge(value: float) -> float:
    """Return the smallest time difference whose ``numpy.log10`` reaches `value`.

    soraisam2020 compares log10(dt) with edges in log10(dt); comparing dt with this edge is the same.
    """
    if not -300.0 <= value <= 300.0:
        raise ParameterError(f"an edge at log10(dt) = {value} is no time difference in days")
    return first_reaching(lambda x: float(np.log10(x)), value, 10.0**value)


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of a grid.

    Parameters
    ----------
    edges : float64[n + 1], ascending; days for dt (not its logarithm), the unit of the values for dm
    kind : {"log", "linear", "edges"}, how the edges were made
    closed_last : whether a number equal to the last edge belongs to the last cell
    """

    edges: NDArray[np.float64]
    kind: AxisKind = "edges"
    closed_last: bool = False

    def __post_init__(self) -> None:
        edges = checked_edges(self.edges).copy()
        edges.setflags(write=False)
        object.__setattr__(self, "edges", edges)

    def __len__(self) -> int:
        return len(self.edges) - 1

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Axis):
            return NotImplemented
        return self.closed_last == other.closed_last and np.array_equal(self.edges, other.edges)

    def __hash__(self) -> int:
        return hash((self.edges.tobytes(), self.closed_last))

    @property
    def half_open(self) -> NDArray[np.float64]:
        """The edges such that every cell is [left, right): a closed last edge is moved up by one double."""
        edges = self.edges.copy()
        if self.closed_last:
            edges[-1] = np.nextafter(edges[-1], np.inf)
        return edges

    @classmethod
    def linear(cls, start: float, stop: float, n: int, closed_last: bool = False) -> "Axis":
        """Make n equal cells; edges where light-curve's linear grid changes cell."""
        if not (math.isfinite(start) and math.isfinite(stop) and start < stop and n >= 1):
            raise ParameterError(f"a linear axis needs start < stop and n >= 1, not {start}, {stop}, {n}")
        width = (stop - start) / n
        inner = [
            first_reaching(lambda x: (x - start) / width, float(k), start + k * width) for k in range(1, n)
        ]
        return cls(np.array([start, *inner, stop]), "linear", closed_last)

    @classmethod
    def log(cls, start: float, stop: float, n: int, closed_last: bool = False) -> "Axis":
        """Make n cells equal in log10 from start to stop (not logarithms), as light-curve's log grid."""
        if not (0.0 < start < stop < math.inf and n >= 1):
            raise ParameterError(f"a log axis needs 0 < start < stop and n >= 1, not {start}, {stop}, {n}")
        low = math.log10(start)
        width = (math.log10(stop) - low) / n
        inner = [
            first_reaching(lambda x: (math.log10(x) - low) / width, float(k), 10.0 ** (low + k * width))
            for k in range(1, n)
        ]
        return cls(np.array([start, *inner, stop]), "log", closed_last)

    @classmethod
    def from_edges(cls, edges: ArrayLike, closed_last: bool = False) -> "Axis":
        """Make an axis with any ascending edges."""
        return cls(np.asarray(edges, dtype=np.float64), "edges", closed_last)


@dataclass(frozen=True)
class Grid:
    """A dt axis (days) and a dm axis, with a name and a version that results record."""

    dt: Axis
    dm: Axis
    name: str = "custom"
    version: int = 1

    def __post_init__(self) -> None:
        if self.dt.edges[0] < 0:
            raise ParameterError("the edges of a dt axis must not be negative")

    @property
    def shape(self) -> tuple[int, int]:
        """Cells along dt and dm."""
        return len(self.dt), len(self.dm)

    def guides(self) -> tuple[BitGuide, LinearGuide]:
        """Look-up tables of both axes, shared by all backends."""
        return bit_guide(self.dt.half_open), linear_guide(self.dm.half_open)


def light_curve_grid(
    min_lgdt: float, max_lgdt: float, max_abs_dm: float, lgdt_size: int, dm_size: int
) -> Grid:
    """Make the grid of ``light_curve.DmDt.from_borders`` with the same arguments."""
    dt = Axis.log(math.pow(10.0, min_lgdt), math.pow(10.0, max_lgdt), lgdt_size)
    return Grid(dt, Axis.linear(-max_abs_dm, max_abs_dm, dm_size), "light-curve")


def _scope_ml() -> Grid:
    # scope-ml 0.9.5; edges as numpy.histogram2d takes them: the last one closed
    dt = [0, 0.02759, 0.04, 0.08, 0.12, 0.3, 0.75, 1, 1.5, 2.5, 3.5, 4.5, 5.5, 7, 10, 20, 30, 45, 60, 90, 120]
    dt += [180, 240, 360, 500, 650, 2000]
    half = [0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.25, 1.5, 2, 2.5, 3, 4.5, 8]
    dm = [-x for x in reversed(half)] + [0.0] + half
    return Grid(Axis.from_edges(dt, True), Axis.from_edges(dm, True), "scope-ml-26x26")


def _skytrawl_1() -> Grid:
    dt = Axis.log(1e-3, 1e4, 140)
    return Grid(dt, Axis.linear(-8.0, 8.0, 320), "skytrawl-1")


PRESETS: dict[str, Callable[[], Grid]] = {
    "light-curve": lambda: light_curve_grid(0.0, 3.0, 2.0, 32, 32),
    "scope-ml-26x26": _scope_ml,
    "skytrawl-1": _skytrawl_1,
}


def preset(name: str) -> Grid:
    """Return the grid with this name.

    Parameters
    ----------
    name : str
        ``"skytrawl-1"``: 140 log10 dt rows from 1e-3 to 1e4 d (20 a decade) and 320 dm cells of 0.05 mag in
        +-8 mag. ``"scope-ml-26x26"``: the image of scope-ml, last edges closed; its own norm is ``"l2"``.
        ``"light-curve"``: 32 log10 dt rows from 1 to 1000 d, 32 dm cells in +-2 mag, as light-curve cuts
        them.

    Raises
    ------
    ParameterError
        For an unknown name.
    """
    if name not in PRESETS:
        raise ParameterError(f"grid {name!r} is unknown: choose one of {sorted(PRESETS)}")
    return PRESETS[name]()
