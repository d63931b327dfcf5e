"""Rows into buckets, groups and order: the kernels against plain NumPy, on hostile identifiers and times."""

import time as clock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core import config

from skytrawl.catalogs.sky import healpix_of, positions_of
from skytrawl.errors import SchemaError
from skytrawl.kernels import rows
from skytrawl.kernels.rows import cpu_group, reference

TOP = 2**64 - 1
# Few values, so that objects come back; equal low bits, equal high bits, the ends of the range.
IDS = st.one_of(
    st.sampled_from([0, 1, TOP, TOP - 1, 2**63]),
    st.integers(0, 5).map(lambda k: k << 58),
    st.integers(0, 5).map(lambda k: 2**61 + k),
    st.integers(0, TOP),
)
TIMES = st.one_of(
    st.sampled_from([0.0, -0.0, 58000.0, 5e-324, 1.7e308, -1.7e308, np.inf, -np.inf]),
    st.integers(0, 8).map(float),
    st.floats(allow_nan=False),
)
BANDS = st.one_of(st.integers(0, 2), st.integers(0, 255))
ROWS = st.lists(st.tuples(IDS, BANDS, TIMES), max_size=120)
DTYPES = ["?", "i1", "i2", "f4", "u4", "f8", "i8", "S1", "S8", "S12", "M8[s]", ">f8", "c16", "O"]


def columns_of(table):
    ids, band, time = zip(*table, strict=True) if table else ((), (), ())
    return np.array(ids, np.uint64), np.array(band, np.uint8), np.array(time, np.float64)


def check_group(ids, band, time):
    """Compare with NumPy; None must stand for exactly the order 0, 1, 2..."""
    first, order, offsets = rows.group(ids, band, time)
    expected = reference.group(ids, band, time)
    assert first.dtype == offsets.dtype == np.int64
    np.testing.assert_array_equal(first, expected[0])
    np.testing.assert_array_equal(offsets, expected[2])
    assert (order is None) == np.array_equal(expected[1], np.arange(len(ids)))
    if order is not None:
        np.testing.assert_array_equal(order, expected[1])
    return order


@given(ROWS)
def test_group_is_that_of_numpy(table):
    check_group(*columns_of(table))


@given(ROWS, st.randoms(use_true_random=False))
def test_rows_in_order_are_left_alone(table, random):
    ids, band, time = columns_of(table)
    order = np.lexsort((time, band, ids))
    assert check_group(ids[order], band[order], time[order]) is None
    names = list(np.unique(ids))
    random.shuffle(names)
    order = np.concatenate([np.zeros(0, int), *(order[ids[order] == name] for name in names)])
    assert check_group(ids[order], band[order], time[order]) is None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.integers(0, 1),
            st.one_of(
                st.integers(-40, 40).map(lambda k: 58000 + k * 2.0**-37),  # neighbours as float64
                st.integers(-3, 3).map(lambda k: k * 5e-324),
                st.sampled_from([-0.0, 58001.0, 1.7e308, -np.inf]),
            ),
        ),
        max_size=200,
    ),
    st.sampled_from([0, 254]),
)
def test_times_that_differ_in_their_last_bits_only(table, band):
    """Over such a range, only the leading bits of a time are sorted by at first."""
    ids, bands, time = columns_of(table)
    check_group(ids, bands + np.uint8(band), time)


@pytest.mark.parametrize("far", [0.0, 1e300])
@pytest.mark.parametrize("n_objects", [1, 30, 1000])
def test_times_that_crowd(far, n_objects):
    rng = np.random.default_rng(n_objects)
    n = 20_000
    time = 58000 + rng.integers(0, 40, n) * 2.0 ** -rng.integers(0, 38, n)
    time[::5000] += far
    check_group(rng.integers(0, n_objects, n), rng.integers(0, 2, n).astype(np.uint8) * np.uint8(255), time)


def test_an_object_that_comes_back_is_no_order():
    ids = np.array([5, 5, 3, 5], np.uint64)
    order = check_group(ids, np.zeros(4, np.uint8), np.arange(4.0))
    assert order.tolist() == [0, 1, 3, 2]


@pytest.mark.parametrize(
    "make",
    [
        lambda n, rng: np.full(n, TOP, np.uint64),
        lambda n, rng: np.arange(n, dtype=np.uint64)[::-1],
        lambda n, rng: rng.permutation(n).astype(np.uint64) << np.uint64(40),
        lambda n, rng: rng.integers(0, n // 7, n).astype(np.uint64) << np.uint64(47),
        lambda n, rng: rng.integers(0, n // 7, n).astype(np.uint64) + np.uint64(2**63),
        lambda n, rng: rng.integers(-n, n, n),
        lambda n, rng: rng.integers(0, 40, n).astype(np.int32),
        lambda n, rng: np.repeat(rng.permutation(n // 50), 50),
    ],
    ids=["one", "falling", "singles", "high bits", "low bits", "negative", "short", "runs"],
)
def test_many_rows(make):
    rng = np.random.default_rng(3)
    n = 30_000
    ids = make(n, rng)
    check_group(ids, rng.integers(0, 3, n).astype(np.uint8), np.round(rng.uniform(0, 500, n)))


@pytest.mark.skipif(config.DISABLE_JIT, reason="about the speed of compiled code")
@pytest.mark.parametrize("kind", ["even", "clump", "two nights", "geometric", "equal", "falling", "infinite"])
def test_a_long_object_takes_no_quadratic_time(kind):
    rng = np.random.default_rng(5)
    n = 1_000_000
    time = {
        "even": lambda: rng.uniform(58000, 60000, n),
        "clump": lambda: np.append(rng.uniform(58000, 58000 + 1e-6, n - 1), 1e9),
        "two nights": lambda: 58000 + rng.integers(0, 2, n) + rng.integers(0, 3, n) / 86400,
        "geometric": lambda: np.exp(rng.uniform(-300, 300, n)),
        "equal": lambda: np.where(np.arange(n) % 2 == 0, 7.0, 6.0),
        "falling": lambda: np.arange(n, 0, -1.0),
        "infinite": lambda: np.append(rng.uniform(0, 1, n - 1), np.inf),
    }[kind]()
    ids, band = np.full(n, 9, np.uint64), np.zeros(n, np.uint8)
    rows.group(ids[:3], band[:3], np.array([2.0, 1.0, 3.0]))
    start = clock.perf_counter()
    _, order, _ = rows.group(ids, band, time)
    assert clock.perf_counter() - start < 5
    np.testing.assert_array_equal(order, np.argsort(time, kind="stable"))


def test_one_long_object_among_single_rows():
    rng = np.random.default_rng(6)
    n = 50_000
    ids = np.where(rng.random(n) < 0.5, 1, rng.integers(0, 2**60, n)).astype(np.uint64)
    check_group(ids, rng.integers(0, 256, n).astype(np.uint8), rng.normal(0, 1, n))


def test_times_that_are_not_numbers_only_spoil_their_object():
    time = np.random.default_rng(0).permutation(200.0 + np.arange(100))
    time[::7] = np.nan
    ids = np.repeat(np.array([4, 2], np.uint64), [60, 40])
    _, order, offsets = rows.group(ids, np.zeros(100, np.uint8), time)
    assert offsets.tolist() == [0, 60, 100]
    assert np.array_equal(np.sort(order[:60]), np.arange(60))
    assert np.array_equal(np.sort(order[60:]), np.arange(60, 100))


@given(st.lists(st.binary(max_size=20), max_size=60), st.integers(1, 25))
def test_texts_are_grouped_like_numbers(texts, width):
    ids = np.array(texts, f"S{width}")
    codes = rows.codes(ids)
    assert codes.dtype == np.uint64
    np.testing.assert_array_equal(
        reference.owners(codes)[1] if len(ids) else [], reference.owners(ids)[1] if len(ids) else []
    )
    if len(ids):
        check_group(ids, np.zeros(len(ids), np.uint8), np.arange(len(ids), 0, -1.0))


def test_many_texts():
    rng = np.random.default_rng(2)
    ids = np.char.add(b"ZTF18", rng.integers(0, 9000, 20_000).astype("S8"))
    check_group(ids, np.zeros(20_000, np.uint8), rng.uniform(0, 9, 20_000))


def test_wide_indices(monkeypatch):
    """From 2**31 rows on, indices are int64: the same code compiled again."""
    rng = np.random.default_rng(1)
    ids, band = rng.integers(0, 9, 900).astype(np.uint64), rng.integers(0, 3, 900).astype(np.uint8)
    time = rng.uniform(0, 9, 900)
    narrow = rows.group(ids, band, time)
    monkeypatch.setattr(cpu_group, "index_dtype", lambda n: np.int64)
    wide = rows.group(ids, band, time)
    assert narrow[1].dtype == np.int32
    assert wide[1].dtype == np.int64
    for one, other in zip(narrow, wide, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(rows.take(time, narrow[1]), rows.take(time, wide[1]))


@given(st.lists(IDS, max_size=40), st.lists(IDS, max_size=60))
def test_buckets_are_those_of_searchsorted(borders, keys):
    borders = np.sort(np.array(borders, np.uint64))
    keys = np.concatenate([np.array(keys, np.uint64), borders, borders - np.uint64(borders.size > 0)])
    found = rows.bucket_of(keys, borders)
    assert found.dtype == np.uint32
    np.testing.assert_array_equal(found, reference.bucket_of(keys, borders))


@pytest.mark.parametrize("n_borders", [1, 2, 16, 1000])
def test_borders_of_a_few_fields_and_far_away(n_borders):
    rng = np.random.default_rng(n_borders)
    keys = rng.integers(0, 2**45, 20_000).astype(np.uint64) + (
        rng.choice([0, 3, 2**16, 2**18], 20_000).astype(np.uint64) << np.uint64(45)
    )
    keys[::5] += np.uint64(2**63)
    borders = np.sort(rng.choice(keys, n_borders))
    np.testing.assert_array_equal(rows.bucket_of(keys, borders), reference.bucket_of(keys, borders))


@pytest.mark.parametrize("dtype", DTYPES)
@given(bucket=st.lists(st.integers(0, 6), max_size=80))
@settings(max_examples=15)
def test_columns_move_with_their_rows(dtype, bucket):
    bucket = np.array(bucket, np.uint32)
    column = np.random.default_rng(0).integers(0, 100, 2 * len(bucket)).astype(dtype)[::2]
    order, starts = rows.counting_order(bucket, 9)
    expected = reference.counting_order(bucket, 9)
    np.testing.assert_array_equal(order, expected[0])
    np.testing.assert_array_equal(starts, expected[1])
    moved = rows.scatter(column, bucket, starts)
    assert moved.dtype == column.dtype
    np.testing.assert_array_equal(moved, column[expected[0]])
    np.testing.assert_array_equal(rows.take(column, order[::-1]), column[expected[0][::-1]])


def test_columns_of_vectors_and_without_an_order():
    column = np.arange(12.0).reshape(4, 3)
    bucket = np.array([2, 0, 1, 0], np.uint32)
    order, starts = rows.counting_order(bucket, 3)
    np.testing.assert_array_equal(rows.scatter(column, bucket, starts), column[[1, 3, 2, 0]])
    np.testing.assert_array_equal(rows.take(column, order), column[[1, 3, 2, 0]])
    assert rows.take(column, None) is column


@given(st.lists(st.integers(0, 3), max_size=50))
def test_runs_begin_where_neighbours_differ(values):
    ids = np.array(values, np.uint64)
    expected = [k for k in range(len(values)) if k == 0 or values[k] != values[k - 1]]
    for column in (ids, ids.astype("S3")):
        found = rows.runs(column)
        assert found.dtype == np.int64
        assert found.tolist() == expected


ANGLES = st.one_of(
    st.sampled_from([0.0, 359.9999, 1e-4, 360.0, 180.0, 90.0, np.nan, np.inf, -0.0, 725.0, -400.0]),
    st.floats(0, 360, exclude_max=True),
)
DECS = st.one_of(st.sampled_from([0.0, -0.0, 90.0, -90.0, np.nan, 12.5]), st.floats(-90, 90))


@given(st.lists(st.tuples(st.integers(0, 3), ANGLES, DECS), max_size=60), st.booleans())
def test_positions_are_medians(table, steady):
    owner, ra, dec = (np.array([row[k] for row in table], float) for k in range(3))
    if steady and len(ra):
        ra[np.isfinite(ra)], dec[np.isfinite(dec)] = 359.5, -12.5
    stamps = np.zeros(len(ra), np.uint8), -np.arange(len(ra), dtype=float)
    _, order, offsets, of_row = rows.group(owner.astype(np.int64), *stamps, with_owner=True)
    assert (of_row is None) == (order is None)
    if of_row is not None:
        np.testing.assert_array_equal(of_row, reference.owners(owner)[1])
    expected = reference.median_positions(ra, dec, offsets, order)
    found = rows.median_positions(ra, dec, offsets, order)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[2], expected[2], rtol=1e-14, atol=0)
    if order is not None:
        again = rows.median_positions(ra[order], dec[order], offsets)
        np.testing.assert_array_equal(again, found)
        again = rows.median_positions(ra, dec, offsets, order, of_row)
        np.testing.assert_array_equal(np.array(again).view(np.uint64), np.array(found).view(np.uint64))


def test_an_object_on_the_meridian_of_zero():
    ra, dec, spread = rows.median_positions(
        np.array([359.99, 0.01, 0.03, np.nan]), np.full(4, 60.0), np.array([0, 4, 4])
    )
    assert ra[0] == pytest.approx(0.01)
    assert dec[0] == 60.0
    assert spread[0] == pytest.approx(0.04 * 60 / 2)
    assert np.isnan([ra[1], dec[1], spread[1]]).all()


def test_arrays_that_cannot_be_written_or_lie_unaligned():
    raw = np.zeros(1 + 8 * 50, np.uint8)
    ids = raw[1:].view(np.uint64)
    ids[:] = np.arange(50) % 7
    ids.flags.writeable = False
    check_group(ids, np.zeros(100, np.uint8)[::2], np.arange(50, 0, -1.0))
    assert not ids.flags.aligned


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: rows.group(np.zeros(2), np.zeros(2, np.uint8), np.zeros(2)), "ids are float64"),
        (lambda: rows.group(np.zeros(2, int), np.zeros(2, int), np.zeros(2)), "band is int64, not uint8"),
        (lambda: rows.group(np.zeros(2, int), np.zeros(2, np.uint8), np.zeros(3)), r"time has shape \(3,\)"),
        (lambda: rows.bucket_of(np.zeros(2, np.uint64), np.array([2, 1], np.uint64)), "do not ascend"),
        (lambda: rows.counting_order(np.array([0, 3], np.uint32), 3), "row 1 is in none of 3 buckets"),
        (lambda: rows.scatter(np.zeros(2), np.array([0, 1], np.uint32), np.array([0, 2, 2])), "starts"),
        (lambda: rows.scatter(np.zeros(2), np.array([0, 9], np.uint32), np.array([0, 2, 2])), "starts"),
        (lambda: rows.take(np.zeros(2), np.array([0, 2])), r"outside 0\.\.1"),
        (lambda: rows.take(np.zeros(2), np.array([0, -1], np.int32)), r"outside 0\.\.1"),
        (lambda: rows.take(np.zeros(2, "S3"), np.array([-1])), r"outside 0\.\.1"),
        (lambda: rows.codes(np.zeros(2)), "not a column of bytes"),
        (lambda: rows.median_positions(np.zeros(2), np.zeros(2), np.array([0, 3])), "offsets"),
        (
            lambda: rows.median_positions(np.zeros(2), np.zeros(2), np.array([0, 1]), np.array([5])),
            r"outside 0\.\.1",
        ),
        (
            lambda: rows.median_positions(np.zeros(2), np.zeros(2), np.array([0, 2]), owner=np.array([0, 1])),
            "none of the 1 objects",
        ),
    ],
)
def test_wrong_arrays_are_refused(call, words):
    with pytest.raises(SchemaError, match=words):
        call()


def test_sky_cells_are_those_of_a_healpix_library():
    generator = np.random.default_rng(3)
    n = 200_000
    ra = generator.uniform(0, 360, n)
    dec = np.degrees(np.arcsin(generator.uniform(-1, 1, n)))
    dec[: n // 4] = np.sign(dec[: n // 4]) * (90 - 10 ** generator.uniform(-9, 1, n // 4))  # near the poles
    edges = np.array(
        [(a, d) for a in (0.0, 45.0, 90.0, 180.0, 270.0, 360.0) for d in (-90.0, -30.0, 0.0, 60.0, 90.0)]
    )
    ra[: len(edges)], dec[: len(edges)] = edges.T
    found = rows.sky_cells(ra, dec)
    assert (found < 12 * 4**29).all()
    same = found == healpix_of(ra, dec)
    assert same.mean() > 1 - 1e-4
    other_ra, other_dec = positions_of(found[~same])
    # The centre of a neighbouring cell: within 2 milliarcseconds.
    apart = np.hypot((other_ra - ra[~same] + 180) % 360 - 180, 0) * np.cos(np.radians(dec[~same]))
    assert np.hypot(apart, other_dec - dec[~same]).max(initial=0) < 2 / 3.6e6
    assert rows.sky_cells(np.array([np.nan, 1.0]), np.array([0.0, np.nan])).tolist() == [2**63, 2**63]


@given(table=ROWS)
def test_ordered_is_what_group_finds(table):
    ids, band, time = columns_of(table)
    _, order, offsets = rows.group(ids, band, time)
    order = np.arange(len(ids)) if order is None else order
    assert rows.ordered(offsets, band[order], time[order])
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    expected = all(
        (band[i], time[i]) >= (band[i - 1], time[i - 1])
        for i in range(1, len(ids))
        if owner[i] == owner[i - 1]
    )
    assert rows.ordered(offsets, band, time) == expected


def test_ordered_refuses_offsets_beyond_the_rows():
    with pytest.raises(SchemaError, match="offsets"):
        rows.ordered(np.array([0, 3]), np.zeros(2, np.uint8), np.zeros(2))
