"""A frame: what is kept of one image, or of anything else that comes one group at a time."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xxhash

from skytrawl.errors import SchemaError

PLANE = ("y", "x")
CHECK = "checksum"
_WRONG = re.compile(r"[/\\\x00-\x1f\x7f]")
_LONGEST = 200  # bytes; file systems allow 255, and temporary names are longer


@dataclass
class Frame:
    """Named arrays, attributes and one row of a table.

    Attributes
    ----------
    id : str
        Name within the store, which is also that of its folder: up to 200 bytes without slashes and control
        characters, not beginning with a dot.
    arrays : dict of str to array
        At least one axis each; floats, integers, bool or fixed-width bytes.
    attrs : dict
        What JSON can hold; NaN becomes null.
    row : dict
        Values of the table: bool, int, float, str, or a list or 1-D array of numbers (a ragged column).
    dims : dict of str to tuple of str
        Names of the axes of arrays. Left out, a 2-D array with the shape of the first one is ("y", "x"), and
        the axes of others are named after the array.
    """

    id: str
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)
    row: dict[str, Any] = field(default_factory=dict)
    dims: dict[str, tuple[str, ...]] = field(default_factory=dict)


def check_id(frame_id: str) -> str:
    """The id itself, if it can name a frame.

    Raises
    ------
    SchemaError
        If it is empty, too long, begins with a dot or holds a slash or a control character.
    """
    wrong = not frame_id or frame_id.startswith(".") or _WRONG.search(frame_id) or frame_id == "zarr.json"
    if wrong or len(frame_id.encode()) > _LONGEST:
        raise SchemaError(
            f"{frame_id!r} cannot name a frame: use up to {_LONGEST} bytes without slashes and control "
            "characters that do not begin with a dot"
        )
    return frame_id


def checked(frame: Frame) -> Frame:
    """The frame with contiguous little-endian arrays, all dims and plain values.

    Raises
    ------
    SchemaError
        Listing every fault.
    """
    check_id(frame.id)
    faults: list[str] = []
    arrays: dict[str, np.ndarray] = {}
    for name, values in frame.arrays.items():
        array = np.asarray(values)
        if _WRONG.search(name) or not name or name.startswith("."):
            faults.append(f"{name!r} cannot name an array")
        elif array.ndim == 0 or array.dtype.kind not in "fiubS" or array.dtype.itemsize == 0:
            faults.append(
                f"array {name} is {array.dtype} with {array.ndim} axes: floats, integers, bool and bytes "
                "(S) with an axis at least can be stored; a single number belongs into attrs"
            )
        else:
            arrays[name] = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
    dims = _all_dims(arrays, frame.dims, faults)
    try:
        attrs, row = plain(frame.attrs), plain(frame.row)
    except (TypeError, ValueError) as error:
        attrs, row = {}, {}
        faults.append(f"attrs or row: {error}")
    if faults:
        raise SchemaError(f"frame {frame.id}: " + "; ".join(faults))
    return Frame(frame.id, arrays, attrs, row, dims)


def plain(value: Any) -> Any:
    """Values as JSON has them: NumPy scalars and arrays become Python's, NaN and infinities None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(f"{value!r} is neither a number nor text nor a list of these")


def canonical(value: Any) -> str:
    """JSON text that is the same for equal values."""
    return json.dumps(value, sort_keys=True, allow_nan=False)


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with a checksum of its own, so that no altered digit of it is taken for a value."""
    return {**record, CHECK: checksum(record)}


def unsealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record inside; ValueError if its checksum is missing or another."""
    inside = {key: value for key, value in record.items() if key != CHECK}
    if record.get(CHECK) != checksum(inside):
        raise ValueError("its checksum does not match")
    return inside


def checksum(record: Mapping[str, Any]) -> str:
    """16 hex digits of a record."""
    return xxhash.xxh3_64(canonical(record).encode()).hexdigest()


def _all_dims(
    arrays: Mapping[str, np.ndarray], given: Mapping[str, tuple[str, ...]], faults: list[str]
) -> dict[str, tuple[str, ...]]:
    image = next((array.shape for array in arrays.values() if array.ndim == 2), None)
    dims: dict[str, tuple[str, ...]] = {}
    sizes: dict[str, tuple[int, str]] = {}
    for name, array in arrays.items():
        if name in given:
            dims[name] = tuple(given[name])
        elif array.ndim == 2 and array.shape == image:
            dims[name] = PLANE
        else:
            dims[name] = tuple(f"{name}_{axis}" for axis in range(array.ndim))
        if len(set(dims[name])) != array.ndim:
            faults.append(f"array {name} has {array.ndim} axes and dims {dims[name]}")
            continue
        for dim, size in zip(dims[name], array.shape, strict=True):
            known, first = sizes.setdefault(dim, (size, name))
            if known != size:
                faults.append(f"{dim} is {size} long in {name} and {known} in {first}")
    for name in set(given) - set(arrays):
        faults.append(f"dims name {name}, which is no array of the frame")
    return dims
