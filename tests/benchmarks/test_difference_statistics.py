"""Noise, completeness, false peaks and fluxes of ZOGY with the true PSFs, over many pairs. By hand:

python -m pytest tests/benchmarks/test_difference_statistics.py -m acceptance -s

The suite (`tests/kernels/test_zogy_statistics.py`) has the same with few pairs.
"""

import numpy as np
import pytest
from pairs import make_pair
from scipy.stats import norm
from subtracted import (
    SHIFTS,
    blank_sky,
    gaussian_peaks,
    ideal_false_peaks,
    injected,
    peaks,
    read,
    subtract_pair,
)


@pytest.mark.acceptance
def test_twenty_pairs_of_each_case():
    total, ideal = np.zeros(2, int), np.zeros(2, int)
    print()
    for case in "AB":
        spread, masked = [], []
        for seed in range(20):
            pair = make_pair(case, seed)
            difference = subtract_pair(pair)
            spread.append(blank_sky(pair, difference).std())
            masked.append(difference.bad.mean())
            total += peaks(difference)
            ideal += ideal_false_peaks(pair)
        print(
            f"case {case}: std on blank sky {np.mean(spread):.4f} ({min(spread):.4f} to {max(spread):.4f})",
            end=", ",
        )
        print(f"{100 * np.mean(masked):.2f} % masked")
        assert all(abs(s - 1) < 0.03 for s in spread)
        assert max(masked) < 0.05
    print(f"false peaks beyond 5 over 40 pairs: {total[0]} on +S_corr, {total[1]} on -S_corr", end="; ")
    print(f"of the same noise with its true variance: {ideal[0]}, {ideal[1]}")
    assert sum(total) <= 15


@pytest.mark.acceptance
@pytest.mark.parametrize("case", ["A", "B"])
def test_completeness(case):
    levels = [4.0] * 60 + [5.0] * 220 + [6.0] * 60
    found = injected(case, range(10), levels)
    rng = np.random.default_rng(2)
    print()
    for level in (4.0, 5.0, 6.0):
        here = found.snr == level
        want = np.mean(gaussian_peaks(found.psf_d, level, 5000, rng) > 5)
        at, peak = np.mean(found.at[here] > 5), np.mean(found.peak[here] > 5)
        print(f"case {case}, SNR {level}: {here.sum()} injected, read at the position {at:.3f}", end=" ")
        print(
            f"(normal {norm.sf(5 - level):.3f}), highest pixel {peak:.3f} (Gaussian noise {want:.3f})",
            end=", ",
        )
        print(f"S_corr {found.at[here].mean():.3f} +- {found.at[here].std():.3f}")
        if level == 5:
            assert here.sum() >= 2000
            assert abs(at - 0.5) < 0.03
            assert abs(peak - want) < 0.03


@pytest.mark.acceptance
def test_shifts_and_densities():
    print()
    worst = 0
    for case in "AB":
        for shift in SHIFTS:
            for density in (1 / 2500, 1 / 400):
                pair = make_pair(case, 7, density=density, shift=shift)
                without = peaks(subtract_pair(pair))
                with_term = peaks(subtract_pair(pair, shift_error=(abs(shift[0]), abs(shift[1]))))
                print(f"case {case}, shift {shift}, 1/{1 / density:.0f}: {without} without, {with_term} with")
                worst = max(worst, sum(with_term))
    assert worst <= 3  # of noise alone there is one in three pairs


@pytest.mark.acceptance
def test_fluxes():
    places = [
        (x + 0.29 * (x % 4), y + 0.17 * (y % 5), 5e3) for x in range(50, 990, 45) for y in range(50, 990, 45)
    ]
    print()
    for case in "AB":
        ratios, pulls = [], []
        for seed in range(5):
            pair = make_pair(case, seed, injections=places, clear=0.0)
            difference = subtract_pair(pair)
            alone = np.hypot(*(pair.stars[n][:, None] - pair.injected[n] for n in "xy")).min(axis=0) > 15
            where = pair.injected[alone]
            flux, error = read(difference.flux, where), read(difference.flux_error, where)
            ratios.append(flux / where["flux"])
            pulls.append((flux - where["flux"]) / error)
        ratio, pull = np.concatenate(ratios), np.concatenate(pulls)
        print(
            f"case {case}: flux ratio {ratio.mean():.4f} +- {ratio.std() / np.sqrt(len(ratio)):.4f}", end=", "
        )
        print(f"pulls {pull.mean():.3f} +- {pull.std():.3f} of {len(pull)} sources")
        assert abs(ratio.mean() - 1) < 0.01
        assert abs(pull.std() - 1) < 0.1
