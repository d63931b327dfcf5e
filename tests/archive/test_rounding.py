"""Rounding to a stated precision: within half a step, and nothing else changes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skytrawl.catalogs.rounding import check_rounding, quantum_of, round_to
from skytrawl.errors import ParameterError
from skytrawl.intake.driver import ingest

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


def test_small_values_and_the_array_of_the_caller_stay() -> None:
    delivered = np.array([18.12345, 1e-4], np.float32)
    rounded, error = round_to(delivered, 0.001)
    assert delivered[0] == np.float32(18.12345) != rounded[0]
    assert rounded[1] == np.float32(1e-4)  # would have become zero
    assert 0 < error <= 0.0005


@pytest.mark.parametrize("rounding", [{"time": 1.0}, {"value": 1e-20}, {"error": np.nan}])
def test_what_cannot_be_rounded_is_refused_before_anything_is_made(tmp_path: Path, rounding: dict) -> None:
    with pytest.raises(ParameterError, match="round"):
        check_rounding(rounding)
    with pytest.raises(ParameterError, match="round"):
        ingest({"object": [1]}, tmp_path / "a.zarr", survey="ztf", precision=rounding)
    assert not list(tmp_path.iterdir())
