"""The sample of a reference: of each class, the objects whose ids have the smallest hashes.

It is a random sample, whatever was merged and subtracted, because it always holds every object whose hash
lies below some limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

SAMPLE = ("sample_class", "sample_hash", "sample_cells", "sample_cell", "sample_count")


def smallest_hashes(sample: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """The `size` sample objects of each class with the smallest hashes, ordered by class and hash.

    Whatever the order in which parts are joined, the result is the same.
    """
    classes, hashes = sample["sample_class"], sample["sample_hash"]
    order = np.lexsort((hashes, classes))
    first = np.searchsorted(classes[order], classes[order], "left")
    chosen = order[np.arange(len(order)) - first < size]
    starts = np.concatenate(([0], np.cumsum(sample["sample_cells"])))
    lengths = sample["sample_cells"][chosen]
    # Entry numbers of the chosen objects: each start repeated, plus a running number inside the object.
    inside = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    entries = np.repeat(starts[chosen], lengths) + inside
    result = {name: sample[name][chosen] for name in ("sample_class", "sample_hash", "sample_cells")}
    return result | {name: sample[name][entries] for name in ("sample_cell", "sample_count")}


def names_of(reference: xr.Dataset) -> dict[tuple[int, int], int]:
    """Place of each sample object by its class and hash, in order."""
    classes, hashes = (reference[name].values.tolist() for name in ("sample_class", "sample_hash"))
    return {name: place for place, name in enumerate(zip(classes, hashes, strict=True))}


def shared(left: xr.Dataset, right: xr.Dataset) -> int:
    """Number of sample objects that both references counted."""
    a, b = names_of(left), names_of(right)
    both = sorted(a.keys() & b.keys())
    archives = [
        {source["archive_id"] for source in reference.attrs["skytrawl"]["sources"] if "archive_id" in source}
        for reference in (left, right)
    ]
    if archives[0] & archives[1]:
        return len(both)

    def own(reference: xr.Dataset, place: int) -> tuple[bytes, bytes]:
        found = sampled(reference, np.arange(len(reference["sample_cells"])) == place)
        return found["sample_cell"].tobytes(), found["sample_count"].tobytes()

    return sum(own(left, a[name]) == own(right, b[name]) for name in both)


def sampled(reference: xr.Dataset, keep: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of the chosen sample objects."""
    entries = np.repeat(keep, reference["sample_cells"].values)
    return {
        name: reference[name].values[entries if reference[name].dims == ("entry",) else keep]
        for name in SAMPLE
    }


def limits_of(left: xr.Dataset, right: xr.Dataset) -> list[int]:
    """Largest hash of each class up to which both samples hold every object that has pairs.

    A full sample knows nothing beyond its last hash. That a sample is no longer full after a subtraction
    does not tell, therefore the limit is kept in the attribute ``sample_limits``.
    """
    found = []
    for number in range(len(left.attrs["skytrawl"]["classes"])):
        limit = np.iinfo(np.uint64).max
        for reference in (left, right):
            facts = reference.attrs["skytrawl"]
            hashes = reference["sample_hash"].values[reference["sample_class"].values == number]
            if len(hashes) >= facts["sample_size"]:
                limit = min(limit, int(hashes.max(initial=0)))
            limit = min([limit, *facts.get("sample_limits", [])[number : number + 1]])
        found.append(int(limit))
    return found


def within(reference: xr.Dataset, limits: list[int]) -> np.ndarray:
    """Which sample objects lie within the limits of their class."""
    limit = np.array(limits, np.uint64)[reference["sample_class"].values]
    return np.asarray(reference["sample_hash"].values <= limit)
