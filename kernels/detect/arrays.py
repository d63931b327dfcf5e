"""Detection with the array API: the plain statement of `cpu`, and what runs on a GPU.

No loop over pixels or candidates: neighbours are found by searching the sorted indices, basins by doubling
pointers, saddles by rounds in which every basin joins a higher one across its highest saddle, and sums over
the pixels of a candidate as differences of running sums.
"""

from typing import Any

from skytrawl.kernels.detect.arrays_label import split
from skytrawl.kernels.detect.interpolate import sample_array
from skytrawl.kernels.detect.shapes import centroid, finish
from skytrawl.kernels.detect.types import Detection

BITS = 16


def _footprints(
    index: Any, height: Any, peak_of: Any, mask: Any, columns: int, xp: Any
) -> tuple[Any, Any, Any, Any, Any]:
    """Peaks in raster order, and number, width, sums and bits of the pixels of each, see `cpu`."""
    n = index.shape[0]
    place = xp.arange(n, dtype=xp.int64, device=index.device)
    peaks = xp.nonzero(peak_of == place)[0]
    # Pixels by candidate, in raster order inside.
    order = xp.argsort(peak_of, stable=True)
    owner = xp.take(peak_of, order)
    first = xp.searchsorted(owner, peaks, side="left")
    last = xp.searchsorted(owner, peaks, side="right")
    at, top = xp.take(index, order), xp.take(index, owner)
    x, y = at % columns, at // columns
    dx = xp.astype(x - top % columns, xp.float64)
    dy = xp.astype(y - top // columns, xp.float64)
    w = xp.astype(xp.take(height, order), xp.float64)

    def total(values: Any) -> Any:
        running = xp.cumulative_sum(values, include_initial=True)
        return xp.take(running, last) - xp.take(running, first)

    sums = xp.stack([total(v) for v in (w, w * dx, w * dy, w * dx * dx, w * dy * dy, w * dx * dy)], axis=1)
    high = xp.take(y, last - 1) - xp.take(y, first)
    by_x = xp.argsort(peak_of * columns + index % columns, stable=True)
    across = xp.take(index, by_x) % columns
    wide = xp.take(across, last - 1) - xp.take(across, first)
    bits = xp.take(xp.reshape(mask, (-1,)), at)
    flags = xp.zeros_like(peaks, dtype=xp.uint16)
    for bit in range(BITS):
        one = xp.asarray(1 << bit, dtype=xp.uint16, device=index.device)
        any_set = total(xp.astype((bits & one) != 0, xp.int64)) > 0
        flags = flags | xp.where(any_set, one, xp.zeros_like(one))
    return peaks, last - first, 1 + xp.maximum(high, wide), sums, flags


def _around(
    score: Any,
    flux: Any,
    mask: Any,
    difference: Any,
    peak_x: Any,
    peak_y: Any,
    sign: Any,
    flags: Any,
    options: Detection,
    xp: Any,
) -> tuple[Any, Any, Any, Any, Any, Any]:
    """As `dipoles.surroundings`, one row of the box and of the circle at a time."""
    rows, columns = score.shape
    flat_score, flat_mask = xp.reshape(score, (-1,)), xp.reshape(mask, (-1,))
    flat_difference = xp.reshape(difference, (-1,))
    exclude = xp.asarray(options.exclude, dtype=xp.uint16, device=score.device)
    zero = xp.zeros_like(peak_x)
    sides = xp.astype(sign, xp.float32)

    def look(j: int, reach: int) -> tuple[Any, Any, Any]:
        """Flat index, whether inside, and bits, of the pixels [n, 2 reach + 1] of a row."""
        step = xp.arange(-reach, reach + 1, dtype=xp.int64, device=score.device)[None, :]
        u, v = peak_x[:, None] + step, (peak_y + j)[:, None]
        inside = (u >= 0) & (u < columns) & (v >= 0) & (v < rows)
        place = xp.where(inside, v * columns + u, xp.zeros_like(u))
        bits = of(flat_mask, place)
        return place, inside, xp.where(inside, bits, xp.zeros_like(bits))

    def of(flat: Any, place: Any) -> Any:
        return xp.reshape(xp.take(flat, xp.reshape(place, (-1,))), place.shape)

    n_negative, n_bad = zero, zero
    half = options.half
    for j in range(-half, half + 1):
        place, inside, bits = look(j, half)
        value = of(flat_difference, place)
        usable = inside & ((bits & exclude) == 0) & xp.isfinite(value)
        n_bad = n_bad + xp.sum(xp.astype(~usable, xp.int64), axis=1)
        n_negative = n_negative + xp.sum(xp.astype(usable & (sides[:, None] * value < 0), xp.int64), axis=1)
        for i in range(2 * half + 1):
            flags = flags | bits[:, i]
    depth = xp.zeros_like(sides)
    best, squared = zero, zero - 1
    reach, limit = int(options.radius), int(options.radius * options.radius)
    apart = xp.arange(-reach, reach + 1, dtype=xp.int64, device=score.device) ** 2
    for j in range(-reach, reach + 1):
        place, inside, bits = look(j, reach)
        deep = -sides[:, None] * of(flat_score, place)
        near = (apart + j * j <= limit)[None, :]
        usable = inside & near & ((bits & exclude) == 0) & xp.isfinite(deep)
        deep = xp.where(usable, deep, xp.zeros_like(deep))
        column = xp.argmax(deep, axis=1)
        deepest = xp.take_along_axis(deep, column[:, None], axis=1)[:, 0]
        better = deepest > depth
        depth = xp.where(better, deepest, depth)
        best = xp.where(better, xp.take_along_axis(place, column[:, None], axis=1)[:, 0], best)
        squared = xp.where(better, xp.take(apart, column) + j * j, squared)
    flat_flux = xp.reshape(flux, (-1,))
    ratio = -xp.astype(xp.take(flat_flux, best), xp.float64)
    ratio = ratio / xp.astype(xp.take(flat_flux, peak_y * columns + peak_x), xp.float64)
    ratio = xp.where(squared < 0, xp.zeros_like(ratio), ratio)
    return flags, n_negative, n_bad, -sides * depth, squared, ratio


def _nine(plane: Any, peak_x: Any, peak_y: Any, sign: Any, xp: Any) -> Any:
    """Values times sign of the 3 x 3 pixels around each peak; NaN outside."""
    rows, columns = plane.shape
    flat = xp.reshape(plane, (-1,))
    values = []
    for j in (-1, 0, 1):
        for i in (-1, 0, 1):
            u, v = peak_x + i, peak_y + j
            inside = (u >= 0) & (u < columns) & (v >= 0) & (v < rows)
            value = xp.astype(xp.take(flat, xp.where(inside, v * columns + u, xp.zeros_like(u))), xp.float64)
            values.append(xp.where(inside, value * xp.astype(sign, xp.float64), xp.full_like(value, xp.nan)))
    return xp.stack(values, axis=1)


def detect(
    score: Any,
    flux: Any,
    flux_error: Any,
    mask: Any,
    difference: Any,
    blank: Any,
    options: Detection,
    xp: Any,
) -> dict[str, Any]:
    """As `skytrawl.kernels.detect.detect`, for checked arrays of `xp`."""
    score, flux = xp.astype(score, xp.float32), xp.astype(flux, xp.float32)
    flux_error, mask = xp.astype(flux_error, xp.float32), xp.astype(mask, xp.uint16)
    difference = score if difference is None else xp.astype(difference, xp.float32)
    rows, columns = score.shape
    device = score.device
    flat = xp.reshape(score, (-1,))
    exclude = xp.asarray(options.exclude, dtype=xp.uint16, device=device)
    threshold = xp.asarray(options.threshold, dtype=xp.float32, device=device)
    usable = (xp.reshape(mask, (-1,)) & exclude) == 0
    index = xp.nonzero((xp.abs(flat) > threshold) & xp.isfinite(flat) & usable)[0]
    value = xp.take(flat, index)
    height = xp.abs(value)
    peak_of = split(index, value, columns, options.saddle, xp)
    peaks, pixels, width, sums, flags = _footprints(index, height, peak_of, mask, columns, xp)
    keep = pixels >= options.min_pixels
    if options.max_size is not None:
        keep = keep & (xp.astype(width, xp.float64) <= options.max_size)
    peaks, pixels, width, flags = peaks[keep], pixels[keep], width[keep], flags[keep]
    sums = xp.take(sums, xp.nonzero(keep)[0], axis=0)
    top, peak = xp.take(index, peaks), xp.take(value, peaks)
    peak_x, peak_y = top % columns, top // columns
    sign = xp.astype(xp.sign(peak), xp.int8)
    x, y, x_error, y_error, size = centroid(
        _nine(flux, peak_x, peak_y, sign, xp), peak_x, peak_y, xp.astype(xp.abs(peak), xp.float64), xp
    )
    fluxes, orders = sample_array(flux, x, y, xp)
    errors, _ = sample_array(flux_error, x, y, xp, squared=True)
    at_peak = ~(xp.isfinite(fluxes) & xp.isfinite(errors))
    here = xp.astype(xp.take(xp.reshape(flux, (-1,)), top), xp.float64)
    fluxes = xp.where(at_peak, here, fluxes)
    here = xp.astype(xp.take(xp.reshape(flux_error, (-1,)), top), xp.float64)
    errors = xp.where(at_peak, here, errors)
    orders = xp.where(at_peak, xp.ones_like(orders), orders)
    if blank is None:
        blank_score = xp.full_like(peak, xp.nan)
    else:
        blank_score = xp.take(xp.reshape(xp.astype(blank, xp.float32), (-1,)), top)
    around = _around(score, flux, mask, difference, peak_x, peak_y, sign, flags, options, xp)
    measured = {
        "x": x, "y": y, "x_error": x_error, "y_error": y_error, "peak_x": peak_x, "peak_y": peak_y,
        "sign": sign, "score": peak, "blank_score": blank_score, "flux": fluxes, "flux_error": errors,
        "order": orders, "n_pixels": pixels, "width": width, "size": size,
    }  # fmt: skip
    return finish(measured, sums, around, (rows, columns), options, xp)
