"""Criteria of candidates, as jacscanomaly has them."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from skytrawl.kernels.scan.cpu_grid import GridMetrics


@dataclass(frozen=True)
class CandidateCriteria:
    """What a candidate must reach; None asks for nothing (the CandidateCriteria of jacscanomaly).

    Version 0.3.2 applies them to grid points before clusters are made (``clusters(keep=...)``), which alters
    the background of the score; version 0.5.2 applies them to clusters (``score_052(accept=...)``).

    Parameters
    ----------
    min_dchi2 : float or None
        Least dchi2 of a candidate.
    min_n_eff : float or None
        Least effective number of contributing rows.
    min_n_contrib : int or None
        Least number of rows that contribute more than sigma^2.
    min_n_window : int or None
        Least number of rows in the window.
    min_longest_run : int or None
        Least run of contributing rows.
    max_peak_frac : float or None
        Largest part of one row in the whole gain.
    """

    min_dchi2: float | None = None
    min_n_eff: float | None = None
    min_n_contrib: int | None = None
    min_n_window: int | None = None
    min_longest_run: int | None = None
    max_peak_frac: float | None = None

    def cuts(self) -> dict[str, float]:
        """The cuts that are set, by name."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(CandidateCriteria)}
        return {name: value for name, value in found.items() if value is not None}

    def satisfied(self, columns: Mapping[str, Any]) -> Any:
        """Whether each candidate satisfies every criterion: bool array of the shape of the columns."""
        good: Any = np.ones(np.shape(columns["dchi2"]), bool)
        for name, limit in self.cuts().items():
            bound, _, column = name.partition("_")
            good = good & (columns[column] >= limit if bound == "min" else columns[column] <= limit)
        return good

    def accept(self, metrics: "GridMetrics", points: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
        """Which points satisfy every criterion: bool[n], of all points or of those given by index."""
        good = self.satisfied(metrics._asdict())
        return np.asarray(good if points is None else good[points])
