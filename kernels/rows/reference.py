"""The same in plain NumPy, for tests: what each kernel must give, written as shortly as possible."""

from typing import Any

import numpy as np


def bucket_of(keys: Any, borders: Any) -> Any:
    """As `skytrawl.kernels.rows.bucket_of`."""
    return np.searchsorted(borders, keys, side="right").astype(np.uint32)


def counting_order(bucket: Any, n_buckets: int) -> Any:
    """As `skytrawl.kernels.rows.counting_order`."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(bucket, minlength=n_buckets))])
    return np.argsort(bucket, kind="stable"), starts


def scatter(column: Any, bucket: Any, starts: Any) -> Any:
    """As `skytrawl.kernels.rows.scatter`."""
    return column[np.argsort(bucket, kind="stable")]


def owners(ids: Any) -> Any:
    """Number objects by first appearance; return (first row of each object, object of each row)."""
    _, first, owner = np.unique(ids, return_index=True, return_inverse=True)
    return np.sort(first), np.argsort(np.argsort(first))[owner]


def group(ids: Any, band: Any, time: Any) -> Any:
    """As `skytrawl.kernels.rows.group`, with an order always."""
    first, owner = owners(ids)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(first)))])
    return first, np.lexsort((time, band, owner)), offsets


def median_positions(ra: Any, dec: Any, offsets: Any, order: Any = None) -> Any:
    """As `skytrawl.kernels.rows.median_positions`."""
    order = np.arange(len(ra)) if order is None else order
    out = np.full((3, len(offsets) - 1), np.nan)
    for k in range(len(offsets) - 1):
        rows = order[offsets[k] : offsets[k + 1]]
        a, d = (column[rows][np.isfinite(ra[rows]) & np.isfinite(dec[rows])] for column in (ra, dec))
        if not len(a):
            continue
        out[:, k] = a[0], d[0], 0.0
        if np.ptp(a) > 0 or np.ptp(d) > 0:
            shift = (a - a[0] + 180.0) % 360.0 - 180.0
            middle = np.median(d)
            apart = max(np.ptp(shift) * np.cos(np.radians(middle)), np.ptp(d))
            out[:, k] = (a[0] + np.median(shift)) % 360.0, middle, 60.0 * apart
    return tuple(out)
