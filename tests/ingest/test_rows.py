"""Identifiers, tallies, names of bands, and checked rows, against plain loops."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytrawl.catalogs.band_names import NO_CODE, band_codes, band_names
from skytrawl.catalogs.checks import recode
from skytrawl.catalogs.identifiers import NO_NAME, NO_ROW_ID, alike, numbers_of, plain_integers, unnamed
from skytrawl.catalogs.readers.columns import Mapped
from skytrawl.catalogs.readers.table import Chunk, Coded
from skytrawl.catalogs.rows import Rules, Tally, normalise
from skytrawl.catalogs.surveys import load_survey
from skytrawl.catalogs.times import MJD_ZERO, to_mjd
from skytrawl.errors import ParameterError

ZTF = load_survey("ztf")
RULES = Rules(ZTF, "magnitude", "mag", "mjd")
MAPPED = Mapped({role: role for role in ("object", "time", "value", "error", "band")})
TEXT = st.one_of(
    st.integers(-5, 2**64 + 5).map(str),
    st.sampled_from(["", "0", "00", "7a", "12 3", "+4", "٣", "18446744073709551615", "18446744073709551616"]),
    st.text(max_size=25),
)


@given(st.lists(TEXT, min_size=1, max_size=20))
def test_plain_integers_against_a_loop(texts: list[str]) -> None:
    names = np.array([text.encode() for text in texts], "S")
    values, plain = plain_integers(names)
    for name, value, is_plain in zip(names.tolist(), values.tolist(), plain.tolist(), strict=True):
        digits = len(name) > 0 and all(48 <= letter <= 57 for letter in name)
        expected = digits and (name == b"0" or name[:1] != b"0") and int(name) < 2**64
        assert is_plain == expected
        assert value == (int(name) if expected else 0)


def test_measurements_have_one_number_in_every_kind_of_file() -> None:
    texts = np.array([b"5", b"abc", b"", b"nan", b"05", b"18446744073709551615"])
    found = numbers_of(texts)
    assert found[0] == numbers_of(np.array([5]))[0] == 5
    assert found[2] == found[3] == NO_ROW_ID
    assert len(set(found.tolist())) == 5
    assert found[5] == 2**64 - 1
    assert numbers_of(texts.astype("S40")).tolist() == found.tolist()
    for width in range(len(texts)):
        assert numbers_of(texts[width : width + 1])[0] == found[width]


def test_names_that_stand_for_no_name() -> None:
    names = np.array([*NO_NAME, b"nano", b"N", b"0"])
    assert unnamed(names).tolist() == [True] * len(NO_NAME) + [False] * 3
    assert not unnamed(np.array([0, 1])).any()
    mixed = alike([np.array([7], np.uint64), np.array([b"x"]), np.array([-7])])
    assert np.concatenate(mixed).tolist() == [b"7", b"x", b"-7"]


@given(st.lists(st.integers(0, 255), max_size=300), st.integers(1, 300), st.data())
def test_codes_of_codes(codes: list[int], length: int, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from([np.uint8, np.int16, np.int32, np.int64]))
    given = np.array(codes, dtype) % length if length < 256 else np.array(codes, dtype)
    table = np.array(data.draw(st.lists(st.integers(0, 255), min_size=length, max_size=length)), np.uint8)
    assert recode(given.astype(dtype), table).tolist() == table[given].tolist()
    assert recode(given.astype(dtype), np.arange(256, dtype=np.uint8)).tolist() == given.tolist()


def test_tallies_add_up_and_travel_as_json() -> None:
    one, two, whole = Tally(), Tally(), Tally()
    for number, tally in enumerate((one, two)):
        for into in (tally, whole):
            into.read += 10
            into.drop("odd", 2, [f"file {number}, row 1", f"file {number}, row 2"])
            into.note("look", 3)
            into.spellings.setdefault("r", set()).add("rR"[number])
            into.lose(np.array([4, 2**63 + number, 4], np.uint64))
    one.rounded["value"] = two.rounded["value"] = whole.rounded["value"] = 0.5
    one.merge(Tally.from_dict(json.loads(json.dumps(two.to_dict()))))
    assert one.to_dict() == whole.to_dict()
    assert one.losers.tolist() == [4, 2**63, 2**63 + 1]
    assert len(one.examples["odd"]) == 3
    one.lose(np.array([b"name"]))
    assert one.losers.tolist() == [b"4", b"9223372036854775808", b"9223372036854775809", b"name"]
    assert Tally.from_dict(one.to_dict()).losers.dtype.kind == "S"
    for _ in range(100):
        one.lose(np.arange(1000))
    assert sum(map(len, one._losers)) < 5000


def test_names_and_codes_of_bands() -> None:
    warnings: list[str] = []
    assert band_names(ZTF, {"r": {"R", "2"}}, None, warnings) == ("g", "R", "i")
    assert not warnings
    assert band_names(ZTF, {"r": {"R", "r"}}, None, warnings) == ("g", "r", "i")
    assert "R and r are one filter" in warnings[0]
    assert band_names(ZTF, {}, ["R", "zg"], warnings) == ("R", "zg")
    assert band_codes(ZTF, ("R", "zg")).tolist() == [1, 0, NO_CODE]
    with pytest.raises(ParameterError, match="twice"):
        band_names(ZTF, {}, ["R", "r"], warnings)


def _chunk(**columns: object) -> Chunk:
    plain = {
        "object": np.array([3, 3, 4, 5]),
        "time": np.array([58000.0, 58001.0, 58002.0, 58003.0]),
        "value": np.array([18.0, 18.5, 19.0, 19.5], np.float32),
        "error": np.full(4, 0.1, np.float32),
        "band": Coded(np.array([1, 0, 1, 1], np.int8), [b"zr", b"g", b"V"]),
    }
    return Chunk(11, plain | columns)


def test_clean_rows_are_not_copied() -> None:
    chunk, tally = _chunk(), Tally()
    rows = normalise(chunk, MAPPED, RULES, "here", tally)
    for role in ("object", "time", "value", "error"):
        assert np.shares_memory(rows[role], chunk.columns[role])
    assert rows["object"].dtype == np.uint64
    assert rows["band"].dtype == np.uint8
    assert rows["band"].tolist() == [0, 1, 0, 0]
    assert rows["row"].tolist() == [11, 12, 13, 14]
    # V stands in the table of names, but in no row.
    assert tally.to_dict() == Tally(4, spellings={"r": {"zr"}, "g": {"g"}}).to_dict()


def test_objects_that_lost_rows() -> None:
    chunk, tally = _chunk(value=np.array([np.nan, 18, np.nan, 19])), Tally()
    chunk.rejected.append(("object has no identifier", np.array([3]), [""]))
    rows = normalise(chunk, MAPPED, RULES, "here", tally)
    assert rows["row"].tolist() == [12]
    assert tally.dropped == {"the object identifier is empty": 1, "value is missing or not finite": 2}
    assert tally.examples["value is missing or not finite"] == ["here, row 11: 'nan'", "here, row 13: 'nan'"]
    assert tally.losers.tolist() == [4]
    assert tally.spellings == {"r": {"zr"}}


def test_negative_identifiers_stay_negative() -> None:
    rows = normalise(_chunk(object=np.array([-1, 2, 3, 4])), MAPPED, RULES, "here", Tally())
    assert rows["object"].dtype == np.int64
    assert rows["object"].tolist() == [-1, 2, 3, 4]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "+", " "]), st.integers(0, 10**17), st.text("0123456789", max_size=19)
        ),
        min_size=1,
        max_size=20,
    )
)
def test_dates_of_many_digits_are_rounded_once(parts: list[tuple[str, int, str]]) -> None:
    texts = np.array([f"{sign}{whole}.{digits}".encode() for sign, whole, digits in parts])
    found, bad = to_mjd(texts, "jd-2450000")
    assert not bad
    offset = MJD_ZERO - 2450000
    expected = [(float(whole) - offset) + float(f"0.{digits or 0}") for _, whole, digits in parts]
    assert found.tolist() == expected
    odd = np.array([b"2457000.5", b"", b"noon", b"1e3", b"-3.5", b"1.2.3"])
    times, bad = to_mjd(odd, "jd")
    assert bad == [2, 5]
    assert np.array_equal(
        times, [56999.5 + 0.5, np.nan, np.nan, 1000 - MJD_ZERO, -3.5 - MJD_ZERO, np.nan], equal_nan=True
    )
