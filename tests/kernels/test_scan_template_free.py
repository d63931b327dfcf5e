"""The scan without templates against plain NumPy, and on faulty curves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skytrawl.errors import ParameterError
from skytrawl.kernels.curves import prepare
from skytrawl.kernels.scan import reference
from skytrawl.kernels.scan.template_free import KINDS, TemplateFreeOptions, template_free

from .conftest import examples


def bumpy(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two seasons of noise with patches of too large residuals."""
    rng = np.random.default_rng(seed)
    time = np.sort(rng.uniform(0, 50, n) + 200.0 * rng.integers(0, 2, n))
    error = rng.uniform(0.5, 2.0, n)
    z = rng.normal(size=n) * (1.0 + 4.0 * (rng.random(n) < 0.2) * (np.sin(time / 3.0) > 0.5))
    return time, z * error, error


OPTIONS = st.builds(
    TemplateFreeOptions,
    fixed_window_points=st.integers(1, 25),
    fixed_chi2_threshold=st.sampled_from([float("inf"), 60.0, 120.0]),
    hybrid_seed_chi2_threshold=st.sampled_from([5.0, 30.0, 70.0]),
    hybrid_reduced_chi2_threshold=st.sampled_from([1.0, 3.0, 6.0]),
    hybrid_extension_points=st.integers(0, 15),
    reduced_min_points=st.integers(1, 8),
    reduced_max_points=st.sampled_from([None, 3, 12]),
    run_blind_reduced_chi2=st.booleans(),
    max_candidates_per_season=st.integers(1, 4),
)


@given(options=OPTIONS, sizes=st.lists(st.integers(0, 70), min_size=1, max_size=3), seed=st.integers(0, 100))
@settings(max_examples=examples(40))
def test_against_numpy(options: TemplateFreeOptions, sizes: list[int], seed: int) -> None:
    objects = [bumpy(n, seed + k) for k, n in enumerate(sizes)]
    time, flux, error = (np.concatenate(column) for column in zip(*objects, strict=True))
    offsets = np.cumsum([0, *sizes])
    curves = prepare(time, flux, error, np.zeros(len(time), int), offsets)[0]
    found = template_free(curves, options)
    expected = []
    for d in range(curves.n_sets):
        rows = slice(curves.rows[d], curves.rows[d + 1])
        z = curves.flux[rows] / curves.error[rows]
        expected.append(reference.template_free(curves.time[rows], z, options))
        here = slice(found.offsets[d], found.offsets[d + 1])
        assert len(found.kind[here]) == len(expected[-1])
        for k, (chi2, start, stop, kind, season) in enumerate(expected[-1], found.offsets[d]):
            assert KINDS[found.kind[k]] == kind
            assert found.season[k] == season
            assert (found.start[k] - rows.start, found.stop[k] - rows.start) == (start, stop)
            assert found.chi2[k] == chi2
            assert found.reduced_chi2[k] == chi2 / (stop - start)
            assert found.max_abs_z[k] == np.abs(z[start:stop]).max()
            assert found.t_start[k] == curves.time[found.start[k]]
            assert found.t_end[k] == curves.time[found.stop[k] - 1]
            if kind == "hybrid":
                assert found.seed_chi2[k] >= options.hybrid_seed_chi2_threshold
                assert found.seed_stop[k] - found.seed_start[k] == options.fixed_window_points
                assert found.start[k] < found.seed_stop[k]
                assert found.seed_start[k] < found.stop[k]
            else:
                assert np.isnan(found.seed_chi2[k])
                assert found.seed_start[k] == -1


def test_units_and_days_change_nothing() -> None:
    time, flux, error = bumpy(400, 7)
    band, offsets = np.zeros(400, int), np.array([0, 400])
    one = template_free(prepare(time, flux, error, band, offsets)[0])
    other = template_free(prepare(time + 2450000.0, flux * 2.0**40, error * 2.0**40, band, offsets)[0])
    assert len(one.kind) > 0
    for name in ("start", "stop", "kind", "chi2", "seed_start"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_constant_flux_and_few_rows() -> None:
    for n in (0, 1, 3, 19, 50):
        curves = prepare(np.arange(n) * 1.0, np.zeros(n), np.ones(n), np.zeros(n, int), np.array([0, n]))[0]
        assert len(template_free(curves).kind) == 0


def test_wrong_options() -> None:
    with pytest.raises(ParameterError, match="fixed_window_points"):
        TemplateFreeOptions(fixed_window_points=0)
    with pytest.raises(ParameterError, match="gap"):
        TemplateFreeOptions(gap=0.0)
