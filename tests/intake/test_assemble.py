"""Rows become blocks, against a plain loop over rows."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skytrawl.catalogs.block import Block
from skytrawl.catalogs.sky import order_key
from skytrawl.intake.assemble import DELIVERED, REPEATED, Assembled, assemble, text

STORED = {"time": "f8", "value": "f4", "error": "f4", "band": "u1", "quality": "u4"}
EXTRA = {"ra": "f8", "dec": "f8", "row_id": "u8", "class": "S8"}
PLACES = {0: (10.0, 5.0), 1: (359.999, -5.0), 2: (0.001, 80.0), 3: (10.0, 5.0), 4: (200.0, 0.0)}


class MemoryRows:
    """Rows that are in memory, with the face of :class:`skytrawl.intake.spill.SpilledRows`."""

    def __init__(self, columns: dict[str, np.ndarray]) -> None:
        self.columns = columns
        self.n = len(columns["object"])
        self.names = set(columns)

    @property
    def keys(self) -> list[str]:
        """One nameless place."""
        return [""]

    @property
    def file_of(self) -> np.ndarray:
        """Number of the place of each row, if the rows have it."""
        return self.columns.get("place", np.zeros(self.n, np.int32))

    def objects(self) -> None:
        """Nothing is known of the objects before the rows are grouped."""

    def column(self, name: str, dtype: np.dtype, default: object = None) -> np.ndarray:
        """One column, or the default in every row."""
        if name not in self.columns:
            return np.full(self.n, default, dtype)
        return self.columns[name].astype(dtype, copy=False)


@dataclasses.dataclass
class Thing:
    """An object of the oracle."""

    place: tuple[float, float]
    name: bytes = b""
    rows: list[tuple[Any, ...]] = dataclasses.field(default_factory=list)


def raw(row: Mapping[str, Any], names: Mapping[str, str]) -> tuple[bytes, ...]:
    return tuple(np.array(row[name], dtype).tobytes() for name, dtype in names.items())


def oracle(
    rows: list[dict[str, Any]], base: dict[Any, Thing], drop: bool
) -> tuple[dict[Any, Thing], dict[str, int], int]:
    """Objects, rows left out by reason, and rows that share a stamp, row by row."""
    things = {name: dataclasses.replace(thing, rows=list(thing.rows)) for name, thing in base.items()}
    places: dict[Any, list[tuple[float, float]]] = {}
    before = {(name, row) for name, thing in base.items() for row in thing.rows}
    seen: set[Any] = set()
    stamps = {(name, row[3], row[0]) for name, row in before}
    out = {DELIVERED: 0, REPEATED: 0}
    equal = 0
    for row in rows:
        name, stored = row["object"], raw(row, STORED)
        thing = things.setdefault(name, Thing((np.nan, np.nan)))
        if np.isfinite(row["ra"]):
            places.setdefault(name, []).append((row["ra"], row["dec"]))
        if (name, stored) in before:
            out[DELIVERED] += 1
        elif drop and (name, stored, raw(row, EXTRA)) in seen:
            out[REPEATED] += 1
        else:
            seen.add((name, stored, raw(row, EXTRA)))
            equal += (name, stored[3], stored[0]) in stamps
            stamps.add((name, stored[3], stored[0]))
            thing.rows.append((*stored, row["class"]))
    for name, thing in things.items():
        if name not in base and name in places:
            ra, dec = np.array(places[name]).T
            shift = (ra - ra[0] + 180) % 360 - 180
            thing.place = (ra[0] + np.median(shift)) % 360, np.median(dec)
        ordered = sorted(thing.rows, key=lambda row: (row[3], np.frombuffer(row[0])[0]))
        classes = [row[5] for row in ordered if len(row) > 5 and row[5]]
        thing.name = thing.name or (classes[0] if classes else b"")
        thing.rows = [row[:5] for row in ordered]
    return things, {reason: count for reason, count in out.items() if count}, equal


def block_of(base: dict[Any, Thing], id_dtype: np.dtype) -> Block:
    """Objects of the oracle as the archive holds them."""
    if not base:
        return Block()
    ids = np.array(list(base), id_dtype)
    ra, dec = np.array([thing.place for thing in base.values()]).T
    keys = order_key(ra, dec, ids)
    order = np.lexsort((ids, keys))
    things = [list(base.values())[place] for place in order]
    rows = [row for thing in things for row in thing.rows]
    return Block(
        {
            "object_id": ids[order],
            "ra": ra[order],
            "dec": dec[order],
            "healpix": keys[order],
            "class": np.array([thing.name for thing in things], EXTRA["class"]),
        },
        {
            name: np.frombuffer(b"".join(row[place] for row in rows), dtype)
            for place, (name, dtype) in enumerate(STORED.items())
        },
        np.cumsum([0, *(len(thing.rows) for thing in things)]),
    )


def columns_of(rows: list[dict[str, Any]], id_dtype: np.dtype) -> dict[str, np.ndarray]:
    types = STORED | EXTRA
    found = {name: np.array([row[name] for row in rows], dtype) for name, dtype in types.items()}
    found["object"] = np.array([row["object"] for row in rows], id_dtype)
    found["row"] = np.arange(1, len(rows) + 1)
    return found


def check(made: Assembled, rows: list[dict[str, Any]], base: dict[Any, Thing], drop: bool) -> None:
    things, out, equal = oracle(rows, base, drop)
    block = made.block
    assert made.repeated == out
    assert made.equal_stamps == equal
    assert made.new_rows == len(rows) - sum(out.values())
    names = block.objects["object_id"].tolist()
    assert sorted(names) == sorted(things)
    assert made.known.tolist() == [name in base for name in names]
    order = list(zip(block.objects["healpix"].tolist(), names, strict=True))
    assert order == sorted(order)
    expected = order_key(block.objects["ra"], block.objects["dec"], block.objects["object_id"])
    np.testing.assert_array_equal(block.objects["healpix"], expected)
    for place, name in enumerate(names):
        found = block.select(slice(place, place + 1))
        thing = things[name]
        assert found.objects["class"][0] == thing.name
        here = found.objects["ra"][0], found.objects["dec"][0]
        np.testing.assert_allclose(here, thing.place, rtol=0, atol=1e-9)
        if name in base:
            np.testing.assert_array_equal(here, thing.place)
        stored = [
            tuple(found.observations[column][row].tobytes() for column in STORED)
            for row in range(found.n_observations)
        ]
        assert stored == thing.rows
    for reason, places in made.repeats.items():
        assert len(places) == min(3, out[reason])
        for _, row, shown in places:
            assert shown == text(rows[row - 1]["object"])


@st.composite
def delivered(draw: st.DrawFn, ids: list[Any]) -> dict[str, Any]:
    place = draw(st.integers(0, len(ids) - 1))
    ra, dec = PLACES[place]
    ra, dec = draw(
        st.sampled_from([(ra, dec), (ra, dec), ((ra + 0.002) % 360, dec), (ra, dec + 1e-5), (np.nan,) * 2])
    )
    return {
        "object": ids[place],
        "time": draw(st.sampled_from([58000.0, 58000.5, 58001.0])),
        "value": draw(st.sampled_from([18.0, 18.5, 19.0])),
        "error": draw(st.sampled_from([0.1, np.nan])),
        "band": draw(st.integers(0, 1)),
        "quality": draw(st.integers(0, 1)),
        "ra": ra,
        "dec": dec,
        "row_id": draw(st.sampled_from([0, 0, 0, 5])),
        "class": draw(st.sampled_from([b"", b"", b"RR", b"SN"])),
    }


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.dtype, list[dict[str, Any]], dict[Any, Thing], bool]:
    """Rows of few objects with many ties, on top of a base that shares some of them."""
    numbers = draw(st.booleans())
    ids: list[Any] = [3, 2**64 - 1, 0, 9, 7] if numbers else [b"a", b"ab", b"zz", b"007", b"7"]
    base: dict[Any, Thing] = {}
    if draw(st.booleans()):
        held, _, _ = oracle(draw(st.lists(delivered(ids), max_size=15)), {}, True)
        base = held
        for name in ids:
            if name not in base and draw(st.booleans()):
                base[name] = Thing(draw(st.sampled_from([(np.nan, np.nan), (120.0, 3.0)])), b"SN")
    rows = draw(st.lists(delivered(ids), min_size=1, max_size=30))
    return np.dtype("u8" if numbers else "S4"), rows, base, draw(st.booleans())


ONE = {"object": 7, "time": 58000.0, "value": 18.0, "error": 0.1, "band": 0, "quality": 0} | {
    "ra": 10.0, "dec": 5.0, "row_id": 0, "class": b""
}  # fmt: skip


@settings(max_examples=150)
@given(cases())
@example((np.dtype("u8"), [ONE], {7: Thing((120.0, 3.0), b"SN")}, True))
@example((np.dtype("u8"), [ONE | {"value": 19.0}], {7: Thing((1.0, 2.0), b"", [raw(ONE, STORED)])}, True))
def test_against_a_plain_loop(case: tuple[np.dtype, list[dict[str, Any]], dict[Any, Thing], bool]) -> None:
    id_dtype, rows, base, drop = case
    declared = {name: np.dtype(dtype) for name, dtype in STORED.items()}
    declared |= {"object_id": id_dtype, "class": np.dtype(EXTRA["class"])}
    old = block_of(base, id_dtype)
    made = assemble(
        MemoryRows(columns_of(rows, id_dtype)), declared, drop_duplicates=drop, base=old if base else None
    )
    check(made, rows, base, drop)


def test_scattered_and_mixed_objects_are_told() -> None:
    rows = {
        "object": np.array([b"a", b"a", b"b", b"b"]),
        "time": np.array([1.0, 2.0, 1.0, 2.0]) + 58000,
        "value": np.full(4, 18.0),
        "error": np.full(4, 0.1),
        "band": np.zeros(4, np.uint8),
        "ra": np.array([10.0, 10.1, 20.0, 20.0001]),
        "dec": np.zeros(4),
        "class": np.array([b"", b"SN", b"RR", b"SN"]),
        "row": np.arange(4),
    }
    declared = {name: column.dtype for name, column in rows.items() if name not in ("ra", "dec", "row")}
    declared["object_id"] = declared.pop("object")
    made = assemble(MemoryRows(rows), declared)
    assert (made.n_scattered, made.scattered, made.mixed_classes) == (1, ["a"], 1)
    objects = made.block.objects
    kinds = dict(zip(objects["object_id"].tolist(), objects["class"].tolist(), strict=True))
    assert kinds == {b"a": b"SN", b"b": b"RR"}


@pytest.mark.parametrize("dtype", ["u8", "S3"])
def test_a_base_to_which_nothing_is_added_stays(dtype: str) -> None:
    name: Any = 7 if dtype == "u8" else b"7"
    base = {name: Thing((120.0, 3.0), b"RR", [raw(ONE, STORED)])}
    old = block_of(base, np.dtype(dtype))
    declared = {name: np.dtype(code) for name, code in STORED.items()}
    declared |= {"object_id": np.dtype(dtype), "class": np.dtype("S8")}
    rows = [ONE | {"object": name}] * 5
    made = assemble(MemoryRows(columns_of(rows, np.dtype(dtype))), declared, base=old)
    assert (made.new_rows, made.repeated) == (0, {DELIVERED: 5})
    for column, values in {**old.objects, **old.observations}.items():
        got = made.block.objects if column in old.objects else made.block.observations
        np.testing.assert_array_equal(got[column], values)
