"""The table of a store of frames: one row a frame, columns as 1-D arrays."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from skytrawl.catalogs.versions import content_hash
from skytrawl.errors import SchemaError

OFFSETS = "_offsets"
FIXED = ("id", "content", "nbytes")
# What stands for none in columns of integers that no float64 holds: frames that were refused have no place.
NONE = {"healpix": -1}


def table_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Columns of rows, in the order of their ids.

    Parameters
    ----------
    rows : sequence of mapping
        `id`, `content`, `nbytes` and the values of each frame: bool, int, float, str, lists of numbers, or
        None where there is none.

    Returns
    -------
    dict of str to array
        bool, int64, float64 or fixed-width bytes. What is missing is NaN (in a column of integers or bool
        too, which then is float64), -1 in healpix, empty text or an empty list. A column of lists is its
        values one after another, and ``<name>_offsets`` (int64, one more than there are rows) tells where
        each row begins.

    Raises
    ------
    SchemaError
        Naming frame and column, if an id comes twice or a column mixes kinds.
    """
    rows = sorted(rows, key=lambda row: row["id"])
    ids = [row["id"] for row in rows]
    twice = next((b for a, b in pairwise(ids) if a == b), None)
    if twice is not None:
        raise SchemaError(f"frame {twice} has two rows in the table: publish each frame once")
    names = list(dict.fromkeys([*FIXED, *(name for row in rows for name in row)]))
    table: dict[str, np.ndarray] = {}
    for name in names:
        values = [NONE.get(name) if row.get(name) is None else row[name] for row in rows]
        if name.endswith(OFFSETS):
            raise SchemaError(f"column {name}: names that end in {OFFSETS} are taken by ragged columns")
        if any(isinstance(value, list) for value in values):
            table |= _ragged(name, values, ids)
        else:
            table[name] = _column(name, values, ids)
    return table


def _column(name: str, values: Sequence[Any], ids: Sequence[str]) -> np.ndarray:
    kinds = {type(value) for value in values} - {type(None)}
    holes = any(value is None for value in values)
    if name in ("id", "content") or kinds == {str}:
        texts = [(value or "").encode() for value in values]
        return np.array(texts, f"S{max([1, *map(len, texts)])}")
    if kinds == {bool} and not holes:
        return np.array(values, np.bool_)
    if (kinds == {int} or name == "nbytes") and not holes:
        return np.array(values, np.int64)
    if kinds <= {bool} or kinds <= {int, float}:
        return np.array([_float(name, key, value) for key, value in zip(ids, values, strict=True)])
    usual = next(value for value in values if value is not None)
    odd = next(
        number for number, value in enumerate(values) if value is not None and type(value) is not type(usual)
    )
    raise SchemaError(
        f"column {name}: frame {ids[odd]} has {values[odd]!r} where others have {usual!r}: "
        "give all frames the same kind"
    )


def _float(name: str, frame_id: str, value: Any) -> float:
    if isinstance(value, int) and abs(value) > 2**53:
        raise SchemaError(
            f"column {name}: frame {frame_id} has {value}, and others have none or a fraction: as float64 it "
            "would not be exact. Give all frames an integer"
        )
    return np.nan if value is None else float(value)


def _ragged(name: str, values: Sequence[Any], ids: Sequence[str]) -> dict[str, np.ndarray]:
    parts = []
    for key, value in zip(ids, values, strict=True):
        if value is not None and not isinstance(value, list):
            raise SchemaError(f"column {name}: frame {key} has {value!r} where others have a list of numbers")
        part = np.array([np.nan if item is None else item for item in _flat(value or [])])
        if part.dtype.kind not in "iuf":
            raise SchemaError(f"column {name}: frame {key} has no list of numbers: {value!r:.80}")
        parts.append(part.astype(np.int64 if part.dtype.kind in "iu" else np.float64))
    # An empty list says nothing of the kind.
    whole = all(part.dtype.kind == "i" for part in parts if part.size)
    flat = np.concatenate([part.astype(np.int64 if whole else np.float64) for part in parts])
    offsets = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([part.size for part in parts], out=offsets[1:])
    return {name: flat, name + OFFSETS: offsets}


def _flat(values: Iterable[Any]) -> list[Any]:
    """Items of nested lists, row by row."""
    return [part for item in values for part in (_flat(item) if isinstance(item, list) else [item])]


def ragged_names(table: Mapping[str, np.ndarray]) -> list[str]:
    """Columns whose rows are lists."""
    return [name for name in table if name + OFFSETS in table]


def row_of(table: Mapping[str, np.ndarray], number: int) -> dict[str, Any]:
    """One row as plain values, ragged ones as arrays."""
    row: dict[str, Any] = {}
    ragged = set(ragged_names(table))
    for name, column in table.items():
        if name in ragged:
            offsets = table[name + OFFSETS]
            row[name] = column[offsets[number] : offsets[number + 1]]
        elif not (name.endswith(OFFSETS) and name[: -len(OFFSETS)] in ragged):
            value = column[number].item()
            row[name] = value.decode() if isinstance(value, bytes) else value
    return row


def taken(table: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """The table of some rows, in their order."""
    found: dict[str, np.ndarray] = {}
    ragged = ragged_names(table)
    for name, column in table.items():
        if name in ragged:
            offsets = table[name + OFFSETS]
            lengths = np.diff(offsets)[rows]
            ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
            items = np.arange(ends[-1]) + np.repeat(offsets[:-1][rows] - ends[:-1], lengths)
            found |= {name: column[items], name + OFFSETS: ends}
        elif name not in found:
            found[name] = column[rows]
    return found


def fingerprint_of(kind: str, table: Mapping[str, np.ndarray]) -> str:
    """32 hex digits that change when a value of any frame or of the table changes."""
    digest = hashlib.sha256(kind.encode())
    digest.update(content_hash(dict(table)).encode())
    return digest.hexdigest()[:32]


def decoded(values: Iterable[bytes]) -> list[str]:
    """Text of a column of fixed-width bytes."""
    return [value.decode() for value in values]
