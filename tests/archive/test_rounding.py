"""Rounding to a stated precision: within half a step, and nothing else changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skytrawl.catalogs.rounding import (
    check_rounding,
    described,
    merge_errors,
    quantum_of,
    round_columns,
    round_to,
)
from skytrawl.errors import ParameterError

STEP = st.floats(1e-15, 1e15)


def anything(width: int) -> st.SearchStrategy[np.ndarray]:
    dtype = {32: np.float32, 64: np.float64}[width]
    return hnp.arrays(dtype, st.integers(0, 40), elements=st.floats(width=width))


@given(values=st.one_of(anything(32), anything(64)), step=STEP)
def test_any_value_stays_within_half_a_step(values: np.ndarray, step: float) -> None:
    rounded, error = round_to(values, step)
    assert rounded.dtype == values.dtype
    finite = np.isfinite(values)
    assert rounded[~finite].tobytes() == values[~finite].tobytes()
    assert np.isfinite(rounded[finite]).all()
    off = np.abs(rounded[finite].astype(np.longdouble) - values[finite].astype(np.longdouble))
    assert (off <= step / 2).all()
    assert error == float(off.max(initial=0))
    assert not ((rounded == 0) & (values != 0)).any()
    again, more = round_to(rounded, step)
    np.testing.assert_array_equal(again, rounded)
    assert more == 0


@given(values=hnp.arrays(np.float32, 30, elements=st.floats(-30, 30, width=32)), exponent=st.integers(-12, 0))
def test_what_is_rounded_is_a_multiple(values: np.ndarray, exponent: int) -> None:
    quantum = 2.0**exponent
    rounded, _ = round_to(values, quantum)
    large = np.abs(values) > quantum / 2
    np.testing.assert_array_equal(rounded[large] % quantum, 0)
    np.testing.assert_array_equal(rounded[large], np.rint(values[large] / quantum) * quantum)


def test_step_is_never_exceeded() -> None:
    assert quantum_of(0.001) == 2.0**-10
    assert quantum_of(0.25) == 0.25
    assert quantum_of(1e-5) == 2.0**-17
    for wrong in (0, -1, np.nan, np.inf, 1e-16, "0.1"):
        with pytest.raises(ParameterError, match="step"):
            round_to(np.zeros(1), wrong)
    with pytest.raises(ParameterError, match="int64"):
        round_to(np.zeros(1, np.int64), 0.1)


def test_columns_and_what_is_recorded() -> None:
    delivered = np.array([18.12345, 19.5], np.float32)
    columns = {"value": delivered, "error": np.array([1e-4, 0.02], np.float32), "band": np.zeros(2, "u1")}
    rounding = {"value": 0.001, "error": 0.0005}
    check_rounding(rounding)
    errors = round_columns(columns, rounding)
    assert delivered[0] == np.float32(18.12345)  # the array of the caller is untouched
    assert columns["error"][0] == np.float32(1e-4)  # would have become zero
    record = described(rounding, merge_errors(errors, {"value": 4.5e-4}))
    assert record["value"] == {"step": 0.001, "max_error": 4.5e-4}
    assert 0 < record["error"]["max_error"] <= 0.00025
    with pytest.raises(ParameterError, match="'time'"):
        check_rounding({"time": 1.0})
