"""Subtraction with PSF, scale and shift measured: false peaks and completeness over many pairs."""

import numpy as np
import pytest
from measured_pairs import EDGE, subtracted
from pairs import make_pair
from scipy.stats import norm
from subtracted import gaussian_peaks, highest, peaks, read


@pytest.mark.acceptance
def test_twenty_pairs_of_each_case_have_few_false_peaks(capsys: pytest.CaptureFixture[str]) -> None:
    total, widths = 0, []
    for case in "AB":
        for seed in range(20):
            difference, misses = subtracted(make_pair(case, seed))
            scorr = difference.scorr
            total += sum(peaks(difference))
            widths.append([np.std(scorr[EDGE:-EDGE, EDGE:-EDGE]), *misses.values()])
    spread = np.array(widths)
    with capsys.disabled():
        print(
            f"\n{total} false 5-sigma peaks over 40 pairs; std of S_corr {spread[:, 0].mean():.3f}", end=" "
        )
        print(f"({spread[:, 0].min():.3f} to {spread[:, 0].max():.3f}); rms errors:", end=" ")
        print(dict(zip(misses, np.sqrt((spread[:, 1:] ** 2).mean(axis=0)).round(4), strict=True)))
    assert np.all(np.abs(spread[:, 0] - 1) < 0.05)
    assert total <= 30


@pytest.mark.acceptance
@pytest.mark.parametrize("case", ["A", "B"])
def test_completeness_is_that_of_normal_noise(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    levels = [4.0, 5.0, 6.0, 8.0, 10.0]
    rows = []
    for seed in range(20):
        pair = make_pair(case, 1000 + seed, injections=levels * 40)
        difference, _ = subtracted(pair)
        where = pair.injected
        rows.append([where["snr"], read(difference.scorr, where), highest(difference.scorr, where)])
    snr, at, peak = np.concatenate(rows, axis=1)
    rng = np.random.default_rng(7)
    for level in levels:
        here = snr == level
        ideal = norm.sf(5 - level), np.mean(gaussian_peaks(difference.psf_d[0, 0], level, 20_000, rng) > 5)
        found = np.mean(at[here] > 5), np.mean(peak[here] > 5)
        with capsys.disabled():
            print(
                f"\ncase {case}, SNR {level:4.1f}: at the position {found[0]:.3f} (normal {ideal[0]:.3f}),"
                f" highest pixel {found[1]:.3f} (Gaussian noise {ideal[1]:.3f}),"
                f" S_corr {at[here].mean():.2f} +- {at[here].std():.2f}",
                end="",
            )
        assert np.abs(np.subtract(found, ideal)).max() < 0.05
