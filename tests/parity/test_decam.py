"""DECam exposures of one night against each other: nothing is new in them."""

from functools import cache
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from real_pairs import DECAM, decam, peaks, places, recovered, scatter, with_sources

from skytrawl.kernels.difference.matched import MatchedDifference, matched_difference
from skytrawl.kernels.difference.types import Side

PAIRS = [*permutations(DECAM, 2), ("18a", "18b"), ("18b", "18a")]
SOME = [("04e", "04c"), ("18a", "18b")]


@cache
def load(folder: Path, name: str) -> Side:
    return decam(folder, name)


@pytest.fixture(scope="module")
def folder(reference_data: Path) -> Path:
    return reference_data / "images" / "decam_mini"


def subtract(science: Side, reference: Side) -> MatchedDifference:
    return matched_difference(science, reference, half_width=9)


def check(found: MatchedDifference) -> None:
    assert found.bad.mean() <= 0.10
    assert peaks(found.scorr, found.bad) <= 2
    assert scatter(found.scorr[~found.bad]) == pytest.approx(1, abs=0.1)


def share_recovered(science: Side, reference: Side, found: MatchedDifference, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x, y = places(~found.bad, 24, 25.0, rng)
    sign = np.where(np.arange(24) % 2, -1, 1)
    flux = 10 * np.median(found.flux_error[~found.bad]) * sign
    return recovered(subtract(with_sources(science, x, y, flux, rng), reference), x, y, sign)


@pytest.mark.parametrize(("science", "reference"), SOME)
def test_nothing_is_new(folder: Path, science: str, reference: str) -> None:
    sides = load(folder, science), load(folder, reference)
    found = subtract(*sides)
    check(found)
    assert share_recovered(*sides, found, 1).mean() >= 0.9  # of 24; all pairs together below


@pytest.mark.acceptance
def test_all_pairs(folder: Path) -> None:
    shares = []
    for k, (science, reference) in enumerate(PAIRS):
        sides = load(folder, science), load(folder, reference)
        found = subtract(*sides)
        got = share_recovered(*sides, found, k)
        shares.append(got)
        print(  # noqa: T201
            f"{science} - {reference}: {found.kernel.direction} convolved, "
            f"MAD {scatter(found.scorr[~found.bad]):.3f}, masked {found.bad.mean():.1%}, "
            f"{peaks(found.scorr, found.bad)} peaks beyond 5, {got.sum()} of {len(got)} recovered, "
            f"{found.model_error}"
        )
        check(found)
    every = np.array(shares)
    print(f"+10: {every[:, ::2].mean():.3f}, -10: {every[:, 1::2].mean():.3f}")  # noqa: T201
    assert every[:, ::2].mean() >= 0.95
    assert every[:, 1::2].mean() >= 0.95
