"""From the integers that the kernels of every backend return to the arrays that users see."""

import numpy as np
from numpy.typing import NDArray

from skytrawl.kernels.dmdt.compiled import FRACTION_BITS, unpack
from skytrawl.kernels.dmdt.types import PairableBlock, ScoreResult


def score_result(block: PairableBlock, sums: NDArray[np.int64], worst: NDArray[np.int64]) -> ScoreResult:
    """Turn fixed-point sums into float64, rounding once."""
    low = sums[..., 1] - sums[..., 3]  # every penalised pair has added its flag, 1
    high = sums[..., 0] + (low >> FRACTION_BITS)
    low &= (1 << FRACTION_BITS) - 1
    total = high.astype(np.float64) + np.ldexp(low.astype(np.float64), -FRACTION_BITS)
    found = worst[:, 1] >= 0
    rows = np.full((len(worst), 2), -1, dtype=np.int64)
    rows[found] = block.row[worst[found, 2:]]
    lowest = np.where(found, unpack(worst[:, 0]), np.nan)
    return ScoreResult(total, sums[..., 2], sums[..., 3], sums[..., 4], lowest, worst[:, 1].copy(), rows)


def normalised(
    maps: NDArray[np.integer], totals: NDArray[np.integer], norm: tuple[str, ...], scale: float = 1.0
) -> NDArray[np.float32]:
    """Scale and normalise maps[..., n_dt, n_dm] to float32.

    ``"dt"`` divides each dt row by its number of pairs, those outside the dm range included; ``"max"``
    divides by the largest cell; ``"l2"`` by the root of the sum of squares. Always in this order
    (light-curve: dt, then max; scope-ml: l2). Rows and maps without pairs stay zero.
    """
    if not norm:
        # straight into float32: large temporaries cost more than the kernel at a few dozen points
        plain = np.empty(maps.shape, np.float32)
        np.multiply(maps, scale, out=plain, casting="unsafe")
        return plain
    out = maps * scale
    if "dt" in norm:
        out /= np.maximum(totals, 1)[..., np.newaxis]
    for name in ("max", "l2"):
        if name in norm and out.size:
            if name == "max":
                size = out.max(axis=(-2, -1), keepdims=True)
            else:
                size = np.sqrt(np.sum(out * out, axis=(-2, -1), keepdims=True))
            out /= np.where(size > 0, size, 1.0)
    return out.astype(np.float32)
