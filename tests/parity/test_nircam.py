"""The NIRCam pair against the significance map that sfft's authors publish for it."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from real_pairs import nircam, places, published_nircam, recovered, scatter, with_sources

from skytrawl.kernels.difference.matched import MatchedDifference, matched_difference
from skytrawl.kernels.difference.types import Side

# Pixels beyond +5 and -5 of the published map that must not be exceeded by more than 20 %.
PUBLISHED = (121, 164)


@pytest.fixture(scope="module")
def folder(reference_data: Path) -> Path:
    return reference_data / "images" / "nircam"


@pytest.fixture(scope="module")
def sides(folder: Path) -> tuple[Side, Side]:
    return nircam(folder)


@pytest.fixture(scope="module")
def difference(sides: tuple[Side, Side]) -> MatchedDifference:
    return matched_difference(*sides)


def test_the_published_map_measures_as_stated(folder: Path) -> None:
    published = published_nircam(folder)
    assert scatter(published[published != 0]) == pytest.approx(1.18, abs=0.005)


def check(difference: MatchedDifference) -> None:
    good = ~difference.bad
    assert difference.bad.mean() < 0.05
    assert scatter(difference.scorr[good]) <= 1.2
    assert (difference.scorr[good] > 5).sum() <= 1.2 * PUBLISHED[0]
    assert (difference.scorr[good] < -5).sum() <= 1.2 * PUBLISHED[1]


def test_noise_is_as_predicted(difference: MatchedDifference) -> None:
    check(difference)
    # The variance planes hold, and drizzling has correlated neighbours by a third.
    assert difference.amplitude_science == pytest.approx(1, abs=0.1)
    assert 0.25 < difference.correlation_science[3, 4] < 0.45
    # The error of the model matters under bright sources, not elsewhere.
    assert (difference.variance > 2 * difference.blank_variance).mean() < 0.05


def test_injected_sources(sides: tuple[Side, Side], difference: MatchedDifference) -> None:
    rng = np.random.default_rng(1)
    x, y = places(~difference.bad, 200, 25.0, rng)
    sign = np.where(np.arange(200) % 2, -1, 1)
    flux = 10 * np.median(difference.flux_error[~difference.bad]) * sign
    new = with_sources(sides[0], x, y, flux, rng)
    found = recovered(matched_difference(new, sides[1]), x, y, sign)
    assert found[sign > 0].mean() >= 0.95
    assert found[sign < 0].mean() >= 0.95


@pytest.mark.acceptance
def test_modes(sides: tuple[Side, Side]) -> None:
    counts = []
    for half_width, degree in product((5, 7, 9), (0, 1, 2)):
        found = matched_difference(*sides, degree=degree, half_width=half_width)
        good = ~found.bad
        beyond = int((found.scorr[good] > 5).sum()), int((found.scorr[good] < -5).sum())
        print(  # noqa: T201
            f"degree {degree}, half width {half_width}, {found.kernel.direction} convolved: "
            f"MAD {scatter(found.scorr[good]):.3f}, {beyond[0]} / {beyond[1]} pixels beyond +-5, "
            f"masked {found.bad.mean():.2%}, {found.model_error}"
        )
        assert scatter(found.scorr[good]) <= 1.2
        counts.append((sum(beyond), found))
    check(min(counts, key=lambda pair: pair[0])[1])
