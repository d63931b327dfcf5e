"""Subtraction with PSF, scale and shift measured from the images themselves, nothing told."""

import numpy as np
import pytest
from measured_pairs import EDGE, around, subtracted
from pairs import make_pair
from subtracted import read


@pytest.mark.parametrize("case", ["A", "B"])
def test_what_is_measured_serves_the_subtraction(case: str) -> None:
    pair = make_pair(case, 3, injections=[10.0] * 30)
    difference, misses = subtracted(pair)
    scorr = difference.scorr
    assert abs(misses["science width"]) < 0.02
    assert abs(misses["reference width"]) < 0.02
    assert abs(misses["scale"]) < 0.04
    assert abs(misses["scale pull"]) < 4
    assert misses["shift"] < 0.03
    assert abs(np.std(scorr[EDGE:-EDGE, EDGE:-EDGE][~around(pair)]) - 1) < 0.05
    assert np.mean(read(scorr, pair.injected) > 5) > 0.95
