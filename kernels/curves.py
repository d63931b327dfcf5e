"""Ragged blocks of light curves made of data sets, as the grid scans and the lens fits take them.

A data set is what shares one source and blend flux: the rows of one band, or of one telescope in one band.
Data sets belong to objects; both levels are ragged.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Curves(NamedTuple):
    """Objects own data sets, data sets own rows that are finite and ordered by time.

    Attributes
    ----------
    time : float64[n_rows], days, any offset
    flux : float64[n_rows], any linear unit; negative values are fine
    error : float64[n_rows], standard errors > 0 in the same unit
    rows : int64[n_sets + 1], rows ``rows[d]:rows[d + 1]`` are data set d
    sets : int64[n_objects + 1], data sets ``sets[k]:sets[k + 1]`` are object k
    label : int64[n_sets], band code of each data set, ascending inside an object
    source : int64[n_rows], row of the input that each row was
    """

    time: NDArray[np.float64]
    flux: NDArray[np.float64]
    error: NDArray[np.float64]
    rows: NDArray[np.int64]
    sets: NDArray[np.int64]
    label: NDArray[np.int64]
    source: NDArray[np.int64]

    @property
    def n_objects(self) -> int:
        """Number of objects."""
        return len(self.sets) - 1

    @property
    def n_sets(self) -> int:
        """Number of data sets."""
        return len(self.rows) - 1

    def with_flux(self, flux: NDArray[np.float64]) -> "Curves":
        """The same rows with other fluxes, such as the residuals of a fit."""
        return self._replace(flux=np.ascontiguousarray(flux, dtype=np.float64))

    def part(self, first: int, stop: int) -> "Curves":
        """Objects ``first:stop`` alone; the arrays of rows are views."""
        sets = self.sets[first : stop + 1]
        rows = self.rows[sets[0] : sets[-1] + 1]
        at = slice(int(rows[0]), int(rows[-1]))
        return Curves(
            self.time[at],
            self.flux[at],
            self.error[at],
            rows - rows[0],
            sets - sets[0],
            self.label[sets[0] : sets[-1]],
            self.source[at],
        )


class Dropped(NamedTuple):
    """Rows of each object that were left out: int64[n_objects] each."""

    not_finite: NDArray[np.int64]
    bad_error: NDArray[np.int64]


def prepare(
    time: NDArray[np.float64],
    flux: NDArray[np.floating],
    error: NDArray[np.floating],
    band: NDArray[np.integer],
    offsets: NDArray[np.int64],
) -> tuple[Curves, Dropped]:
    """Make data sets of the bands of a ragged block, without the rows that cannot be fitted.

    Parameters
    ----------
    time, flux, error : float[n], in any order inside an object
    band : int[n], codes of the data sets
    offsets : int64[n_objects + 1]

    Returns
    -------
    Curves
        Data sets in order of their code, rows in order of time (stable); data sets without a usable row
        are absent.
    Dropped
        How many rows had a time, flux or error that is NaN or infinite, and how many an error <= 0.

    Raises
    ------
    ValueError
        If the lengths do not agree.
    """
    n = len(time)
    if not len(flux) == len(error) == len(band) == n or len(offsets) < 1 or offsets[-1] != n:
        raise ValueError(
            f"time, flux, error and band have {n}, {len(flux)}, {len(error)}, {len(band)} rows, "
            f"offsets end at {offsets[-1] if len(offsets) else None}"
        )
    n_objects = len(offsets) - 1
    owner = np.repeat(np.arange(n_objects), np.diff(offsets))
    finite = np.isfinite(time) & np.isfinite(flux) & np.isfinite(error)
    # An error whose square has no finite, non-zero inverse weighs nothing or everything.
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        weight = 1.0 / np.square(error.astype(np.float64))
    good = finite & (error > 0) & np.isfinite(weight) & (weight > 0)
    kept = np.flatnonzero(good)
    codes = band[kept].astype(np.int64)
    order = np.lexsort((time[kept], codes, owner[kept]))
    if not np.array_equal(order, np.arange(len(order))):
        kept, codes = kept[order], codes[order]
    owners = owner[kept]
    first = np.ones(len(kept), bool)
    first[1:] = (owners[1:] != owners[:-1]) | (codes[1:] != codes[:-1])
    starts = np.flatnonzero(first)
    curves = Curves(
        np.ascontiguousarray(time[kept], dtype=np.float64),
        np.ascontiguousarray(flux[kept], dtype=np.float64),
        np.ascontiguousarray(error[kept], dtype=np.float64),
        np.append(starts, len(kept)).astype(np.int64),
        np.searchsorted(owners[starts], np.arange(n_objects + 1)).astype(np.int64),
        codes[starts],
        kept.astype(np.int64),
    )

    def count(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(owner[mask], minlength=n_objects).astype(np.int64)

    return curves, Dropped(count(~finite), count(finite & ~good))
