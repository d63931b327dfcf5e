"""False-alarm rates of 18,000 curves without anomaly, and planets found among 200 events; minutes.

python -m pytest -q -s -m acceptance tests/benchmarks/test_scan_calibration.py
"""

import numpy as np
import pytest
import scan_figure
import scan_study as study
from scan_figure import METHODS, Study

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def done() -> Study:
    found = scan_figure.run()
    print("\n" + scan_figure.tables(found))
    return found


def test_false_alarm_rates(done: Study) -> None:
    assert all(len(faps) == scan_figure.NULLS for faps in done.faps)
    rates = done.rates()
    assert ((rates >= 0.033) & (rates <= 0.075)).all(), rates


def test_planets_found_at_the_same_rate(done: Study) -> None:
    assert sum(len(planets.dchi2) for planets in done.planets) == scan_figure.BINARIES
    found = [int(done.found(method, done.rate).sum()) for method in range(len(METHODS))]
    assert found[0] >= max(found[1:]), dict(zip(METHODS, found, strict=True))


def test_single_curves() -> None:
    """Nested signs, on curves of three cells."""
    for cadence, noise, count in (("kmt", "white", 100), ("kmt", "ou", 100), ("ztf", "ou", 200)):
        faps = np.array(
            study.in_parts(study.sign_part, [(cadence, noise, count // 4, k) for k in range(4)], 2)
        )
        few = (faps.reshape(-1) < 0.05).mean()
        print(f"{cadence}, {noise}: {100 * few:.1f} % at nominal 5 %")
        assert few < 0.05 + 4 * np.sqrt(0.05 / (2 * count)), (cadence, noise, few)
