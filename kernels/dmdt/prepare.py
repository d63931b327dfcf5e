"""From light curves to rows that can be paired: finite, sorted, without duplicates, by band.

Every backend starts from the same prepared block, so that their pairs are the same.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skytrawl.errors import ParameterError, SchemaError
from skytrawl.kernels.dmdt.types import Key, LightCurves, PairableBlock, PairRules, Selection
from skytrawl.kernels.jit import njit

_DUPLICATES = {"keep": 0, "first": 1, "drop_all": 2}


def checked(lightcurves: LightCurves) -> LightCurves:
    """Return the block with contiguous arrays of the documented dtypes, or raise with every fault."""
    time = np.ascontiguousarray(lightcurves.time)
    faults = []
    if time.dtype != np.float64:
        faults.append(f"time is {time.dtype}, not float64: absolute times do not fit into anything shorter")
    value = np.ascontiguousarray(lightcurves.value)
    if value.dtype not in (np.float32, np.float64):
        faults.append(f"value is {value.dtype}, not float32 or float64")
    error = None if lightcurves.error is None else np.ascontiguousarray(lightcurves.error)
    if error is not None and error.dtype not in (np.float32, np.float64):
        faults.append(f"error is {error.dtype}, not float32 or float64")
    band = np.ascontiguousarray(lightcurves.band)
    if band.dtype != np.uint8:
        faults.append(f"band is {band.dtype}, not uint8")
    offsets = np.ascontiguousarray(lightcurves.offsets, dtype=np.int64)
    if offsets.ndim != 1 or len(offsets) < 1:
        faults.append("offsets must have one entry more than there are objects")
    elif np.any(np.diff(offsets) < 0) or offsets[0] < 0 or offsets[-1] > len(time):
        faults.append(f"offsets must ascend inside 0..{len(time)}, the number of observations")
    for name, array in (("time", time), ("value", value), ("error", error), ("band", band)):
        if array is not None and array.shape != (len(time),):
            faults.append(f"{name} has shape {array.shape}, not ({len(time)},)")
    if faults:
        raise SchemaError("light curves cannot be paired: " + "; ".join(faults))
    return LightCurves(time, value, error, band, offsets)


def take_rows(lightcurves: LightCurves, rows: NDArray[np.int64], offsets: NDArray[np.int64]) -> LightCurves:
    """Return the block made of these rows."""
    error = lightcurves.error
    return LightCurves(
        lightcurves.time[rows],
        lightcurves.value[rows],
        None if error is None else error[rows],
        lightcurves.band[rows],
        offsets,
    )


def select(lightcurves: LightCurves, keep: NDArray[np.bool_] | None = None) -> Selection:
    """Keep the rows that pass the cuts and have finite time and value; see `skytrawl.kernels.dmdt.select`."""
    lightcurves = checked(lightcurves)
    first, last = int(lightcurves.offsets[0]), int(lightcurves.offsets[-1])
    inside = np.zeros(len(lightcurves.time), dtype=bool)
    inside[first:last] = True
    if keep is None:
        kept = inside
    else:
        keep = np.asarray(keep)
        if keep.dtype != np.bool_ or keep.shape != inside.shape:
            raise SchemaError(f"keep must be bool{inside.shape}, not {keep.dtype}{keep.shape}")
        kept = inside & keep
    finite = kept & np.isfinite(lightcurves.time) & np.isfinite(lightcurves.value)
    rows = np.flatnonzero(finite)
    n_kept = int(np.count_nonzero(kept))
    offsets = np.searchsorted(rows, lightcurves.offsets).astype(np.int64)
    return Selection(take_rows(lightcurves, rows, offsets), rows, last - first - n_kept, n_kept - len(rows))


def sort_rows(lightcurves: LightCurves) -> tuple[LightCurves, NDArray[np.int64]]:
    """Sort each object by band, then time (stable), and return the block and the row each came from."""
    lightcurves = checked(lightcurves)
    offsets = lightcurves.offsets
    inside = slice(int(offsets[0]), int(offsets[-1]))
    objects = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    rows = np.lexsort((lightcurves.time[inside], lightcurves.band[inside], objects)) + inside.start
    return take_rows(lightcurves, rows, offsets - inside.start), rows


def checked_keys(keys: Sequence[Key]) -> list[Key]:
    """Return the keys as pairs of band codes, or raise."""
    pairs = [(int(a), int(b)) for a, b in keys]
    if not pairs or any(not 0 <= code <= 255 for pair in pairs for code in pair):
        raise ParameterError(f"keys must be one or more pairs of band codes 0..255, not {list(keys)!r}")
    return pairs


@njit()
def _compact(  # type: ignore[no-untyped-def]
    time,
    value,
    error,
    with_error,
    band,
    offsets,
    slot_of,
    n_slots,
    duplicates,
    out_time,
    out_value,
    out_variance,
    out_row,
    bounds,
):
    """Fill the prepared arrays; return (rows written, first unsorted object or -1)."""
    pos = 0
    for k in range(len(offsets) - 1):
        slot = 0
        bounds[k, 0] = pos
        last_band = -1
        last_time = -np.inf
        run = 0  # rows of the current time stamp that are in the output
        for row in range(offsets[k], offsets[k + 1]):
            t = time[row]
            v = value[row]
            if not (np.isfinite(t) and np.isfinite(v)):
                continue
            if with_error and not (np.isfinite(error[row]) and error[row] >= 0.0):
                continue
            b = int(band[row])
            if b < last_band or (b == last_band and t < last_time):
                return pos, k
            repeated = b == last_band and t == last_time
            last_band = b
            last_time = t
            s = slot_of[b]
            if s < 0:
                continue
            while slot < s:
                slot += 1
                bounds[k, slot] = pos
            if repeated and duplicates > 0:
                if duplicates == 2 and run == 1:
                    pos -= 1
                    run = 0
                continue
            run = 1
            out_time[pos] = t
            out_value[pos] = v
            if with_error:
                out_variance[pos] = float(error[row]) * float(error[row])
            out_row[pos] = row
            pos += 1
        while slot < n_slots:
            slot += 1
            bounds[k, slot] = pos
    return pos, -1


def prepare(
    lightcurves: LightCurves,
    keys: Sequence[Key],
    rules: PairRules,
    *,
    with_error: bool = False,
    sort: bool = False,
) -> PairableBlock:
    """Prepare a block for the kernels.

    Rows with a NaN or infinite time or value (and, where errors are used, error) or a negative error are
    dropped, then duplicates by the rule, then bands that no key names.

    Raises
    ------
    SchemaError
        For wrong dtypes or shapes, and where an object is not ordered by band and time and `sort` is False.
    """
    pairs = checked_keys(keys)
    original_rows = None
    if sort:
        lightcurves, original_rows = sort_rows(lightcurves)
    else:
        lightcurves = checked(lightcurves)
    if with_error and lightcurves.error is None:
        raise SchemaError("errors are needed for smeared maps, and the light curves have none")
    codes = sorted({code for pair in pairs for code in pair})
    slot_of = np.full(256, -1, dtype=np.int64)
    slot_of[codes] = np.arange(len(codes))
    n_rows = len(lightcurves.time)
    time, values = np.empty(n_rows), np.empty(n_rows)
    variance = np.empty(n_rows if with_error else 0)
    row = np.empty(n_rows, dtype=np.int64)
    bounds = np.empty((lightcurves.n_objects, len(codes) + 1), dtype=np.int64)
    error = lightcurves.error if with_error else np.empty(0)
    n, unsorted = _compact(
        lightcurves.time, lightcurves.value, error, with_error, lightcurves.band, lightcurves.offsets,
        slot_of, len(codes), _DUPLICATES[rules.duplicates], time, values, variance, row, bounds,
    )  # fmt: skip
    if unsorted >= 0:
        raise SchemaError(
            f"object {unsorted} of the block is not ordered by band and time: sort the light curves at "
            "ingest, or ask for sort=True"
        )
    rows = row[:n] if original_rows is None else original_rows[row[:n]]
    return PairableBlock(
        time[:n], values[:n], variance[:n], rows, bounds, slot_of[[a for a, _ in pairs]],
        slot_of[[b for _, b in pairs]], rules.consecutive, rules.zero_within, rules.zero_cross,
    )  # fmt: skip
