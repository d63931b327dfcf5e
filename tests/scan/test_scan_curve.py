"""One light curve from Python: the reports of fits and scans, and what bad input gives."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skytrawl
from skytrawl.catalogs.samples import microlensing_events
from skytrawl.errors import ParameterError

EVENTS = microlensing_events()
# Upstream's name in the reference values, and the data set.
NAMES = {
    "OGLE-2003-BLG-235": ("ob03235_ogle", "OGLE_I"),
    "OGLE-2005-BLG-086": ("ob05086_ogle", "OGLE_I"),
    "OGLE-2008-BLG-092": ("ob08092_o4", "OGLE_I"),
    "OGLE-2014-BLG-0939": ("ob140939_ogle", "OGLE_I"),
    "roman_sim_0000": ("roman_sim_0000", "Roman"),
}


def single(name: str, dataset: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    event = EVENTS[name]
    mine = event.dataset == dataset
    return event.time[mine], event.flux[mine], event.flux_err[mine]


@pytest.mark.parametrize("name", NAMES)
def test_best_candidate_and_score_of_the_original(name: str, reference_data: Path) -> None:
    file, dataset = NAMES[name]
    text = (reference_data / "microlensing" / "reference_jacscanomaly.json").read_text()
    wanted = json.loads(text)["versions"]["0.5.2"][file]
    report = skytrawl.scan_light_curve(*single(name, dataset), kind="0.5.2")
    best = wanted["best"]
    assert report.best is not None
    # Files are rounded to 1e-6 d, and the fit is another program's.
    assert report.best.t0 == pytest.approx(best["t0"], abs=2e-5)
    assert report.best.teff == pytest.approx(best["teff"], rel=1e-9)
    assert report.best.dchi2 == pytest.approx(best["dchi2"], rel=1e-3)
    assert report.scores["score"] == pytest.approx(best["score"], rel=5e-3)
    assert report.fit is not None
    assert report.fit.chi2 == pytest.approx(wanted["pspl"]["chi2"], rel=1e-4)
    assert not report.flags


def test_old_version_with_its_own_starts() -> None:
    event = EVENTS["roman_sim_0000"]
    report = skytrawl.scan_light_curve(*event[:3], kind="0.3.2", start="0.3.2")
    assert report.score == pytest.approx(39.29, abs=0.01)


def test_report_as_text_dict_and_table() -> None:
    event = EVENTS["OGLE-2003-BLG-235"]
    report = skytrawl.scan_light_curve(
        *event[:3], dataset=event.dataset, object_id="OGLE-2003-BLG-235", n_signs=20
    )
    assert report.best is not None
    assert report.best.kind == "bump"
    assert 2835 < report.best.t0 < 2843  # the planet's caustic (Bond et al. 2004)
    assert report.scores["score"] < 1e-3
    assert report.names == ("MOA_R", "OGLE_I")
    text = report.summary()
    assert "1535 points in 2 data sets" in text
    assert "false-alarm probability" in text
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["candidates"][0]["dchi2"] == pytest.approx(report.best.dchi2)
    table = report.to_table()
    assert len(table) == 1
    assert table["best_dchi2"][0] == report.best.dchi2
    assert str(table["best_t0"].unit) == str(table["fit_tE_error"].unit) == "d"
    second = dataclasses.asdict(report.candidates[1])  # seen by both: compared in source fluxes
    assert (second["n_sets"], second["achromatic_chi2"]) == (2, pytest.approx(1.57, abs=0.02))
    # The window's fit, done anew in NumPy, is the kernel's.
    gains = [model.dchi2 for model in report.window_models(0).values()]
    assert sum(gains) == pytest.approx(report.best.dchi2, rel=1e-9)
    residual = np.concatenate([data.residual for data in report.data_sets])
    np.testing.assert_array_equal(residual, report.curves.flux - report.model)


def test_magnitudes_are_fluxes_of_their_zero_point() -> None:
    time, flux, error = single("OGLE-2008-BLG-092", "OGLE_I")
    magnitude = 22 - 2.5 * np.log10(flux)
    spread = error / flux * 2.5 / np.log(10)
    wanted = skytrawl.scan_light_curve(time, flux, error, kind="dchi2")
    found = skytrawl.scan_light_curve(time, magnitude, spread, data_kind="mag", kind="dchi2")
    assert found.best is not None
    assert wanted.best is not None
    assert found.best.dchi2 == pytest.approx(wanted.best.dchi2, rel=1e-9)


def test_baselines() -> None:
    time, flux, error = single("OGLE-2003-BLG-235", "OGLE_I")
    fitted = skytrawl.scan_light_curve(time, flux, error, kind="dchi2")
    given = skytrawl.scan_light_curve(time, flux, error, kind="dchi2", baseline=fitted.model)
    assert (given.baseline, given.fit) == ("given", None)
    assert [each.dchi2 for each in given.candidates] == [each.dchi2 for each in fitted.candidates]
    raw = skytrawl.scan_light_curve(time, flux, error, kind="dchi2", baseline="none")
    flat = skytrawl.scan_light_curve(time, flux, error, kind="dchi2", baseline="constant")
    assert raw.best is not None
    assert flat.best is not None
    assert raw.best.dchi2 == pytest.approx(flat.best.dchi2, rel=1e-9)
    assert abs(raw.best.t0 - 2847) < 10  # the event itself
    start = skytrawl.scan_light_curve(time, flux, error, kind="dchi2", start=(2848, 50, 0.2))
    assert start.fit is not None
    assert start.fit.chi2 == pytest.approx(fitted.fit.chi2, rel=1e-6)  # type: ignore[union-attr]


def test_criteria_and_templates() -> None:
    time, flux, error = single("OGLE-2003-BLG-235", "MOA_R")
    report = skytrawl.scan_light_curve(time, flux, error, kind="dchi2", min_dchi2=20, n_candidates=5)
    assert 0 < len(report.candidates) < 5
    assert min(each.dchi2 for each in report.candidates) >= 20
    box = skytrawl.scan_light_curve(time, flux, error, kind="dchi2", templates=("box", "step"))
    assert {each.template for each in box.candidates} <= {"box", "step"}


def test_fit_light_curve() -> None:
    event = EVENTS["OGLE-2016-BLG-1195"]
    fit = skytrawl.fit_light_curve(*event[:3], dataset=event.dataset)
    assert fit.fitted
    assert fit.values["t0"] == pytest.approx(7568.77, abs=0.02)  # Shvartzvald et al. 2017
    assert set(fit.source_flux) == {"KMTC_I", "KMTS_I"}
    assert "pspl fit (converged)" in fit.summary()
    bad = skytrawl.fit_light_curve([1, 2, 3], [1, 2, 3], [1, 1, 1])
    assert not bad.fitted
    assert "usable rows than parameters" in bad.summary()


def test_template_free() -> None:
    event = EVENTS["OGLE-2003-BLG-235"]
    report = skytrawl.scan_template_free_light_curve(*event[:3], dataset=event.dataset)
    assert [window.dataset for window in report.windows[:2]] == ["MOA_R", "OGLE_I"]
    best = report.best
    assert best is not None
    rows = next(data for data in report.data_sets if data.name == best.dataset)
    inside = (rows.time >= best.start) & (rows.time <= best.end)
    assert best.chi2 == pytest.approx(np.sum((rows.residual / rows.error)[inside] ** 2))
    assert report.to_table()["best_chi2"][0] == best.chi2
    json.dumps(report.to_dict(), allow_nan=False)
    quiet = skytrawl.scan_template_free_light_curve([1.0, 2.0], [1.0, 1.0], [1.0, 1.0])
    assert "no window" in quiet.summary()
    assert len(quiet.to_table()) == 1


TIME = np.linspace(0, 30, 40)
NOISE = np.random.default_rng(1).normal(10, 1, 40)


@pytest.mark.parametrize(
    ("time", "flux", "error", "flag"),
    [
        ([], [], [], "no usable row"),
        (TIME, np.full(40, np.nan), np.ones(40), "no usable row"),
        (TIME, NOISE, -np.ones(40), "no usable row"),
        (TIME[:3], NOISE[:3], np.ones(3), "no window holds enough rows"),
        (TIME[:5] * 100, NOISE[:5], np.ones(5), "no window holds enough rows"),
        (TIME, np.full(40, 3.0), np.ones(40), "a data set is constant"),
        (np.ones(40), NOISE, np.ones(40), "equal"),
        (TIME * 86400, NOISE, np.ones(40), "not seconds"),
        (np.repeat(TIME[:20], 2), NOISE, np.ones(40), "some times of a data set are equal"),
    ],
)
def test_bad_light_curves_get_a_reason(time: Any, flux: Any, error: Any, flag: str) -> None:
    report = skytrawl.scan_light_curve(time, flux, error, n_signs=20)
    assert any(flag in each for each in report.flags), report.flags
    assert flag in report.summary()
    assert len(report.to_table()) == 1
    json.dumps(report.to_dict(), allow_nan=False)


def test_bad_rows_are_counted() -> None:
    flux, error = NOISE.copy(), np.ones(40)
    flux[3], error[5], error[6] = np.nan, 0, -1
    report = skytrawl.scan_light_curve(TIME, flux, error, kind="dchi2")
    assert (report.counts["n_points"], report.counts["n_not_finite"]) == (37, 1)
    assert report.counts["n_bad_error"] == 2
    assert "left out" in report.summary()
    masked = np.ma.masked_invalid(flux)
    again = skytrawl.scan_light_curve(TIME, masked, error, kind="dchi2")
    assert again.counts == report.counts


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"flux": NOISE[:-1]}, "40, 39, 40 values"),
        ({"time": TIME.reshape(2, 20)}, "one-dimensional"),
        ({"time": ["a"] * 40}, "time holds no numbers"),
        ({"dataset": [1, 2]}, "dataset has shape"),
        ({"data_kind": "magnitude"}, "data_kind"),
        ({"baseline": np.ones(3)}, "baseline has 3 values"),
        ({"baseline": np.full(40, np.nan)}, "baseline is not finite"),
        ({"baseline": "spline"}, "baseline"),
        ({"kind": "0.4"}, "kind"),
        ({"teff_int": 3}, "teff_int"),
        ({"templates": ("bell",)}, "bell"),
        ({"start": (1, 2)}, "start"),
        ({"baseline": "pspl_parallax"}, "full Julian dates"),
    ],
)
def test_what_cannot_be_meant_is_refused(changed: dict[str, Any], message: str) -> None:
    words: dict[str, Any] = {"time": TIME, "flux": NOISE, "flux_err": np.ones(40), "kind": "dchi2"}
    with pytest.raises(ParameterError, match=message):
        skytrawl.scan_light_curve(**(words | changed))
