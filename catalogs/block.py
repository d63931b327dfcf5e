"""The arrays of one partition, or of a range of its objects."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from skytrawl.catalogs.schema import Issue


@dataclass
class Block:
    """Objects and the observations that belong to them.

    Attributes
    ----------
    objects : dict of str to array of shape (n_objects,)
        Columns of the objects by short name ("object_id", "ra", ...).
    observations : dict of str to array of shape (n_observations,)
        Columns of the observations by short name ("time", "value", ...).
    offsets : int64 array of shape (n_objects + 1,)
        Object i owns the observations offsets[i] to offsets[i + 1].
    """

    objects: dict[str, np.ndarray] = field(default_factory=dict)
    observations: dict[str, np.ndarray] = field(default_factory=dict)
    offsets: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))

    @property
    def n_objects(self) -> int:
        """Number of objects."""
        return len(self.offsets) - 1

    @property
    def n_observations(self) -> int:
        """Number of observations."""
        return int(self.offsets[-1])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        columns = [*self.objects.values(), *self.observations.values(), self.offsets]
        return sum(column.nbytes for column in columns)

    def select(self, objects: slice) -> "Block":
        """A range of the objects with their observations; the arrays are views."""
        start, stop, step = objects.indices(self.n_objects)
        if step != 1:
            raise ValueError("a block is cut by a slice without step")
        stop = max(start, stop)
        first, last = self.offsets[start], self.offsets[stop]
        return Block(
            {name: column[start:stop] for name, column in self.objects.items()},
            {name: column[first:last] for name, column in self.observations.items()},
            self.offsets[start : stop + 1] - first,
        )


def sort_rows(block: Block) -> Block:
    """The block with the observations of each object ordered by band, then time (stable).

    NaN times come last within their band. Arrays are copied only where the order changes.
    """
    owner = np.repeat(np.arange(block.n_objects), np.diff(block.offsets))
    order = np.lexsort((block.observations["time"], block.observations["band"], owner))
    if np.array_equal(order, np.arange(len(order))):
        return block
    return Block(
        dict(block.objects),
        {name: column[order] for name, column in block.observations.items()},
        block.offsets,
    )


def structure_issues(
    offsets: np.ndarray,
    n_observations: int,
    healpix: np.ndarray | None,
    rows: Mapping[str, np.ndarray],
    n_bands: int,
    where: str,
) -> list[Issue]:
    """Every fault of offsets, order along the sky, order of rows, times and band codes.

    Parameters
    ----------
    offsets : int64 array of shape (n_objects + 1,)
    n_observations : int
        Rows that the offsets must span.
    healpix : uint64 array or None
        Must ascend.
    rows : mapping
        May hold "time" and "band".
    n_bands : int
        Band codes must be below it.
    where : str
        Place for the messages, such as "partition 3".
    """
    issues = []
    counts = np.diff(offsets)
    if len(offsets) < 1 or offsets[0] != 0 or (counts < 0).any() or offsets[-1] != n_observations:
        found = f"{offsets[0]} to {offsets[-1]}" if len(offsets) else "none"
        issues.append(
            Issue(
                f"objects/first_observation, {where}",
                "offsets do not span the rows",
                found,
                f"0 to {n_observations}",
            )
        )
        return issues
    if healpix is not None and (wrong := np.flatnonzero(healpix[1:] < healpix[:-1])).size:
        issues.append(Issue(f"objects/healpix, {where}", f"object {wrong[0] + 1} is not in ascending order"))
    band, time = rows.get("band"), rows.get("time")
    if band is not None and (wrong := np.flatnonzero(band >= n_bands)).size:
        found = f"code {band[wrong[0]]} in row {wrong[0]}"
        issues.append(
            Issue(f"lightcurves/band, {where}", "band code is not in the list", found, f"below {n_bands}")
        )
    if time is not None and (wrong := np.flatnonzero(~np.isfinite(time))).size:
        message = f"{wrong.size} times are not finite, the first in row {wrong[0]}"
        issues.append(Issue(f"lightcurves/time, {where}", message))
    if band is not None and time is not None and n_observations > 1:
        inside = np.ones(n_observations - 1, bool)
        # The step from one object to the next may go anywhere.
        borders = offsets[1:-1]
        inside[borders[(borders > 0) & (borders < n_observations)] - 1] = False
        back = (band[1:] < band[:-1]) | ((band[1:] == band[:-1]) & (time[1:] < time[:-1]))
        if (wrong := np.flatnonzero(back & inside)).size:
            owner = int(np.searchsorted(offsets, wrong[0] + 1, side="right")) - 1
            message = f"rows of object {owner} are not ordered by band, then time (row {wrong[0] + 1})"
            issues.append(Issue(f"lightcurves/time, {where}", message))
    return issues
