"""The ratio of the fluxes of constant stars, among others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytrawl.kernels.measure.ratio import flux_ratio

RATIO = 1.7


def field(rng: np.random.Generator, constant: int, others: int = 0, scatter: float = 0.0):
    """Fluxes and errors in two images: constant stars first, then what is anything else."""
    n = constant + others
    true = 10 ** rng.uniform(1.2, 3.5, n)
    factor = np.ones(n)
    factor[constant:] = np.exp(rng.normal(-0.3, 0.5, others))
    factor[:constant] *= 1 + scatter * rng.normal(size=constant)
    ef, eg = np.sqrt(1 + 0.05 * true), 0.4 * np.sqrt(1 + 0.05 * true)
    f = RATIO * true * factor + ef * rng.normal(size=n)
    g = true + eg * rng.normal(size=n)
    good = (f > 5 * ef) & (g > 5 * eg)
    return f[good], ef[good], g[good], eg[good], np.flatnonzero(good) < constant


@pytest.mark.parametrize(("constant", "others", "scatter"), [(40, 0, 0.0), (40, 60, 0.0), (60, 60, 0.01)])
def test_errors_are_those_stated(constant: int, others: int, scatter: float) -> None:
    rng = np.random.default_rng(1)
    pulls = []
    for _ in range(150):
        *data, _ = field(rng, constant, others, scatter)
        ratio, error, _, _ = flux_ratio(*data)
        pulls.append((ratio - RATIO) / error)
    assert abs(np.mean(pulls)) < 0.35
    assert 0.8 < np.std(pulls) < 1.35


def test_stars_that_vary_are_told_from_constant_ones() -> None:
    f, ef, g, eg, true = field(np.random.default_rng(2), 50, 50, 0.005)
    _, _, scatter, constant = flux_ratio(f, ef, g, eg)
    assert 0.002 < scatter < 0.01
    sure = np.abs(np.log(f / g / RATIO)) > 4 * np.hypot(ef / f, eg / g) + 0.05
    assert not (constant & sure).any()
    assert constant[true].mean() > 0.95


def test_three_stars_of_which_one_is_a_nova() -> None:
    f, g = np.array([1000.0, 505.0, 9000.0]), np.array([500.0, 250.0, 30.0])
    ratio, error, _, constant = flux_ratio(f, np.full(3, 10.0), g, np.full(3, 5.0))
    assert abs(ratio - 2) < 3 * error < 0.15
    assert constant.tolist() == [True, True, False]


@given(st.integers(1, 12), st.integers(0, 1000), st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_units_do_not_matter(n: int, seed: int, a: float, b: float) -> None:
    f, ef, g, eg, _ = field(np.random.default_rng(seed), 20, n)
    plain, other = flux_ratio(f, ef, g, eg), flux_ratio(a * f, a * ef, b * g, b * eg)
    np.testing.assert_allclose(other[0] * b / a, plain[0], rtol=1e-6)
    np.testing.assert_allclose(other[1] * b / a, plain[1], rtol=1e-4)
    assert (other[3] == plain[3]).all()
