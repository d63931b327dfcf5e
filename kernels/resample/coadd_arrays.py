"""Mean of a stack of exposures without what is in one of them only, on the array API."""

from typing import Any

from skytrawl.kernels import flags
from skytrawl.kernels.resample.rejection import GROW, GROWN, MEDIAN, SKY, Rejection


def _around(plane: Any, radius: int, xp: Any) -> Any:
    """Largest value within a square window about each pixel of [..., ny, nx]; nothing lies outside."""
    for axis in (-2, -1):
        side = plane.shape[axis]
        best = plane
        for shift in range(1, min(radius, side - 1) + 1):
            for head, tail in (
                (slice(shift, None), slice(None, -shift)),
                (slice(None, -shift), slice(shift, None)),
            ):
                index, source = (
                    (..., part, slice(None)) if axis == -2 else (..., part) for part in (tail, head)
                )
                moved = xp.asarray(plane, copy=True)
                moved[index] = plane[source]
                best = xp.maximum(best, moved)
        plane = best
    return plane


def _outliers(values: Any, spreads: Any, usable: Any, rejection: Rejection, xp: Any) -> Any:
    """Rejected pixels, bool[n, ny, nx]."""
    none = xp.zeros_like(values)
    count = xp.sum(xp.astype(usable, xp.int64), axis=0)
    ordered = xp.sort(xp.where(usable, values, none + float("inf")), axis=0)
    place = xp.reshape(xp.arange(values.shape[0], device=values.device), (-1, 1, 1))
    lower = xp.sum(xp.where(place == xp.maximum(count - 1, count * 0) // 2, ordered, none), axis=0)
    upper = xp.sum(xp.where(place == count // 2, ordered, none), axis=0)
    middle = xp.where(xp.abs(upper) < xp.abs(lower), upper, lower)
    least = xp.min(xp.where(usable, spreads, none + float("inf")), axis=0)
    some, zero = count > 0, xp.zeros_like(middle)
    middle, least = xp.where(some, middle, zero), xp.where(some, least, zero)
    noise = MEDIAN * least / xp.astype(xp.maximum(count, count * 0 + 1), xp.float64)
    level = xp.maximum(middle - SKY * xp.sqrt(noise), zero)
    away = xp.abs(values - middle) - rejection.slack * _around(level, 1, xp)
    sigma = xp.sqrt(spreads + noise)
    first = usable & (away > rejection.clip * sigma)
    near = _around(xp.astype(first, xp.uint8), GROW, xp) > 0
    return near & usable & (away > GROWN * sigma)


def combine(
    values: Any, spreads: Any, masks: Any, weights: Any, rejection: Rejection, xp: Any
) -> tuple[Any, ...]:
    """Image, variance, mask, numbers of exposures used and rejected; see `coadd.Coadd`.

    Parameters
    ----------
    values, spreads, masks : float32, float32, uint16 [n, ny, nx], of the library `xp`
    weights : sequence of n floats
    """
    usable = (masks & flags.UNUSABLE) == 0
    zero = xp.zeros(values.shape, dtype=xp.float64, device=values.device)
    values = xp.where(usable, xp.astype(values, xp.float64), zero)
    spreads = xp.where(usable, xp.astype(spreads, xp.float64), zero)
    rejected = usable & (zero > 0)
    if rejection.clip is not None:
        rejected = _outliers(values, spreads, usable, rejection, xp)
    kept = usable & ~rejected
    total, value, spread = (xp.zeros_like(zero[0, ...]) for _ in range(3))
    good = xp.zeros_like(masks[0, ...])
    bad, nothing = xp.zeros_like(good), xp.zeros_like(good)
    for e, weight in enumerate(weights):
        w = xp.where(kept[e, ...], xp.zeros_like(total) + float(weight), xp.zeros_like(total))
        total, value, spread = total + w, value + w * values[e, ...], spread + w * w * spreads[e, ...]
        good = good | xp.where(kept[e, ...], masks[e, ...], nothing)
        bad = bad | xp.where(usable[e, ...], nothing, masks[e, ...])
    used = xp.sum(xp.astype(kept, xp.int64), axis=0)
    dropped = xp.sum(xp.astype(rejected, xp.int64), axis=0)
    some, nan = used > 0, xp.zeros_like(total) + float("nan")
    total = xp.where(some, total, xp.ones_like(total))
    mask = good | xp.where(dropped > 0, nothing + flags.SUSPECT, nothing)
    return (
        xp.astype(xp.where(some, value / total, nan), xp.float32),
        xp.astype(xp.where(some, spread / (total * total), nan), xp.float32),
        xp.where(some, mask, bad | flags.NO_DATA),
        xp.astype(used, xp.uint16),
        xp.astype(dropped, xp.uint16),
    )
