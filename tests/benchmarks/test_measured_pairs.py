"""Subtraction with PSF, scale and shift measured: false peaks and completeness over many pairs."""

import numpy as np
import pytest
from measured_pairs import EDGE, at_injections, expected_peaks, false_peaks, peaks_found, subtracted
from pairs import make_pair
from scipy.stats import norm


@pytest.mark.acceptance
def test_twenty_pairs_of_each_case_have_few_false_peaks(capsys: pytest.CaptureFixture[str]) -> None:
    total, widths = 0, []
    for case in "AB":
        for seed in range(20):
            scorr, misses = subtracted(make_pair(case, seed))
            total += false_peaks(scorr)
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
    snr = np.repeat([4.0, 5.0, 6.0, 8.0, 10.0], 40)
    values, found, levels = [], [], []
    for seed in range(10):
        pair = make_pair(case, 1000 + seed, injections=snr.tolist())
        scorr, _ = subtracted(pair)
        values.append(at_injections(scorr, pair))
        found.append(peaks_found(scorr, pair.injected["x"], pair.injected["y"]))
        levels.append(pair.injected["snr"])
    value, peak, level = (np.concatenate(parts) for parts in (values, found, levels))
    expected = expected_peaks(case, np.unique(level))
    with capsys.disabled():
        print()
        for k, s in enumerate(np.unique(level)):
            here = level == s
            at, ideal = np.mean(value[here] > 5), norm.cdf(s - 5)
            print(f"case {case}, SNR {s:4.1f}: at the position {at:.3f} (normal {ideal:.3f}),", end=" ")
            print(f"peaks {np.mean(peak[here]):.3f} (normal noise {expected[k]:.3f}),", end=" ")
            print(f"mean {value[here].mean():.2f}, std {value[here].std():.2f}")
    for k, s in enumerate(np.unique(level)):
        here = level == s
        assert abs(np.mean(value[here] > 5) - norm.cdf(s - 5)) < 0.05
        assert abs(np.mean(peak[here]) - expected[k]) < 0.05
