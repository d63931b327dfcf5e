"""Parameters that cannot be meant are refused before anything runs, by their own names."""

import numpy as np
import pytest

from skytrawl import scan, scan_light_curve, scan_template_free
from skytrawl.errors import ParameterError
from skytrawl.kernels.scan.template_free import template_free
from skytrawl.lens_models import require_start
from skytrawl.params import build


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gap", "-1"),
        ("teff_init", "nan"),
        ("overlap_sigma", "0"),
        ("common_ratio", "nan"),
        ("min_pts_in_window", "1"),
        ("sigma", "-3"),
        ("max_piE", "0"),
        ("ra_deg", "270"),
        ("dec_deg", "-30"),
        ("min_cluster_points", "0"),
        ("best_score_trim_percentile", "0"),
        ("best_score_teff_ratio", "0.5"),
        ("best_score_min_reference_clusters", "1"),
        ("best_score_upper_clip_sigma", "0"),
        ("best_score_clip_maxiters", "-1"),
    ],
)
def test_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ParameterError, match=name):
        build(scan.Parameters, {"kind": "dchi2", name: value})


def test_no_place_on_the_sky() -> None:
    with pytest.raises(ParameterError, match="no place on the sky"):
        build(scan.Parameters, kind="dchi2", ra_deg=270.0, dec_deg=-100.0)


def test_starts_of_the_original_are_for_one_band() -> None:
    parameters = build(scan.Parameters, kind="dchi2", start="0.3.2")
    require_start(parameters, ["r"])
    with pytest.raises(ParameterError, match="choose one with bands"):
        require_start(parameters, ["g", "r"])
    require_start(build(scan.Parameters, kind="dchi2", start="0.3.2", baseline="constant"), ["g", "r"])


def test_any_limit_of_windows_fits_the_memory() -> None:
    from skytrawl.kernels.curves import prepare

    n = 30
    curves, _ = prepare(np.arange(n) * 1.0, np.full(n, 4.0), np.ones(n), np.zeros(n, int), np.array([0, n]))
    options = build(scan_template_free.Parameters, max_candidates_per_season=10**9).options()
    assert len(template_free(curves, options).chi2) == 1


def test_cuts_look_at_every_cluster() -> None:
    # Forty rows far off, each a candidate of one row, before the only one of several rows.
    generator = np.random.default_rng(3)
    time = np.arange(2000) * 0.05
    flux = generator.normal(0.0, 1.0, len(time))
    flux[20:1620:40] += 40.0
    flux += 6.0 * np.exp(-0.5 * ((time - 92.0) / 0.5) ** 2)
    found = scan_light_curve(
        time, flux, np.ones(len(time)), baseline="none", kind="dchi2", n_candidates=1, max_peak_frac=0.3,
        teff_grid_n=8,
    )  # fmt: skip
    everything = scan_light_curve(
        time, flux, np.ones(len(time)), baseline="none", kind="dchi2", n_candidates=60, teff_grid_n=8
    )
    best = next(each for each in everything.candidates if each.peak_frac <= 0.3)
    assert everything.candidates.index(best) >= 4
    assert [each.text() for each in found.candidates] == [best.text()]
    assert abs(best.t0 - 92.0) < 1.0


def test_nothing_scanned_has_no_score() -> None:
    for n in (0, 3):
        report = scan_light_curve(np.arange(n), np.ones(n), np.ones(n), baseline="none", kind="dchi2")
        assert np.isnan(report.scores["score"])
