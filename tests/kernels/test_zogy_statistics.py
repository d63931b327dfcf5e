"""What S_corr says of noise, sources and misplaced stars, with the true PSFs and variances from the counts.

Nothing is rescaled. `tests/benchmarks/test_difference_statistics.py` has the full counts.
"""

import numpy as np
import pytest
from pairs import make_pair
from subtracted import SHIFTS, blank_sky, gaussian_peaks, injected, peaks, subtract_pair


@pytest.mark.parametrize("case", ["A", "B"])
def test_empty_sky_has_unit_variance(case):
    spread, false = [], 0
    for seed in range(2):
        pair = make_pair(case, seed, 512)
        difference = subtract_pair(pair)
        spread.append(blank_sky(pair, difference).std())
        false += sum(peaks(difference))
        assert difference.bad.mean() < 0.05
    assert abs(np.mean(spread) - 1) < 0.03
    assert false <= 3


@pytest.mark.parametrize("case", ["A", "B"])
def test_half_of_the_sources_at_the_threshold_are_found(case):
    found = injected(case, range(3), [5.0] * 160, 640)
    # Three binomial standard errors of 480 sources about one half.
    assert abs(np.mean(found.at > 5) - 0.5) < 0.07
    assert abs(found.at.mean() - 5) < 0.15
    want = np.mean(gaussian_peaks(found.psf_d, 5.0, 576, np.random.default_rng(1)) > 5)
    assert abs(np.mean(found.peak > 5) - want) < 0.1


@pytest.mark.parametrize("shift", SHIFTS[3:5])
@pytest.mark.parametrize("case", ["A", "B"])
def test_misplaced_stars_make_no_dipoles(case, shift):
    pair = make_pair(case, 7, 512, density=1 / 400, shift=shift)
    errors = (abs(shift[0]), abs(shift[1]))
    assert sum(peaks(subtract_pair(pair))) >= 1
    difference = subtract_pair(pair, shift_error=errors)
    assert sum(peaks(difference)) <= 1
    assert abs(blank_sky(pair, difference).std() - 1) < 0.03
