import numpy as np
import pytest

from skytrawl.errors import ParameterError
from skytrawl.kernels.curves import Curves, prepare
from skytrawl.kernels.scan.isolated import isolated, without


def curves_of(flux: list[float], error: float = 1.0, band: list[int] | None = None) -> Curves:
    n = len(flux)
    bands = np.array(band if band is not None else [0] * n, np.uint8)
    return prepare(np.arange(n) * 1.0, np.array(flux), np.full(n, error), bands, np.array([0, n]))[0]


def test_a_spike_is_found_and_a_pair_a_slope_and_an_edge_of_a_step_are_not() -> None:
    quiet = [0.1, -0.2, 0.0, 0.2, -0.1]
    found = isolated(curves_of([*quiet, 30.0, *quiet, -25.0, *quiet]), 5.0)
    assert np.flatnonzero(found).tolist() == [5, 11]
    assert not isolated(curves_of([*quiet, 30.0, 29.0, *quiet]), 5.0).any()
    assert not isolated(curves_of([10.0 * k for k in range(12)]), 5.0).any()
    assert not isolated(curves_of([*quiet, 50.0, 50.1, 49.9, 50.2, 49.8]), 5.0).any()


def test_first_and_last_row_are_held_against_two_rows() -> None:
    found = isolated(curves_of([40.0, 0.1, -0.2, 0.0, 0.2, -0.1, 0.3, 0.0, -40.0]), 5.0)
    assert np.flatnonzero(found).tolist() == [0, 8]


def test_scatter_beyond_the_errors_raises_the_bar() -> None:
    noise = np.random.default_rng(1).standard_normal(2000)
    spiked = noise.copy()
    spiked[1000] += 15.0
    assert isolated(curves_of(spiked.tolist()), 6.0).sum() == 1
    # The same rows with errors understated by 10: still one.
    assert isolated(curves_of(spiked.tolist(), 0.1), 6.0).sum() == 1


def test_neither_epoch_nor_unit_matters_and_data_sets_are_apart() -> None:
    flux = [0.1, -0.2, 30.0, 0.2, -0.1, 0.3, 0.0, 0.1] * 2
    one = curves_of(flux, band=[0] * 8 + [1] * 8)
    assert np.flatnonzero(isolated(one, 5.0)).tolist() == [2, 10]
    other = one._replace(time=one.time + 2_450_000.0, flux=one.flux * 1e11, error=one.error * 1e11)
    assert np.array_equal(isolated(one, 5.0), isolated(other, 5.0))


def test_without_keeps_sets_and_objects() -> None:
    n = 10
    offsets = np.array([0, 5, 5, 10])
    curves, _ = prepare(np.arange(n) * 1.0, np.arange(n) * 1.0, np.ones(n), np.zeros(n, np.uint8), offsets)
    rows = np.zeros(n, bool)
    rows[[1, 9]] = True
    left = without(curves, rows)
    assert left.rows.tolist() == [0, 4, 8]
    assert left.sets.tolist() == curves.sets.tolist()
    assert left.source.tolist() == [0, 2, 3, 4, 5, 6, 7, 8]


def test_few_rows_none_at_all_and_a_senseless_sigma() -> None:
    assert not isolated(curves_of([0.0, 99.0, 0.0, 0.0]), 5.0).any()
    assert isolated(curves_of([]), 5.0).shape == (0,)
    with pytest.raises(ParameterError, match="positive"):
        isolated(curves_of([0.0]), 0.0)
