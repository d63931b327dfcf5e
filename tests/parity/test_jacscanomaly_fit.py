"""PSPL fits against those of jacscanomaly 0.3.2 and 0.5.2: 14 public events and 24 simulated curves.

Both versions and the fits here find the same optimum in all 38. Where values differ:

- rt_event001_a: 0.3.2 stops 11.27 and 0.5.2 3.20 in chi-square above the optimum, in a valley of tE and u0
  that is flat against a chi-square of 1.16 million (a binary lens): its differences over fixed steps are too
  coarse.
  tE is 0.4 % and u0 0.6 % from those of 0.5.2.
- sim_21: tE and u0 are about 0.1 % from those of 0.3.2, at a chi-square that is lower by less than 1e-4: the
  original stops once a step gains less than 1e-3. The error of tE is 25 %.
"""

import json

import numpy as np
import pytest

from skytrawl.kernels.curves import prepare
from skytrawl.kernels.lens import FitOptions, fit
from skytrawl.kernels.lens.types import OK

# chi-square lower than that of either version by more than 1e-9 of itself and 1e-3
LOWER = {"rt_event001_a": {"0.3.2": 11.274, "0.5.2": 3.195}}


@pytest.fixture(scope="module")
def events(reference_data):
    folder = reference_data / "microlensing"
    expected = json.loads((folder / "reference_jacscanomaly.json").read_text())["versions"]
    simulated = np.load(folder / "sim_season72d.npz")
    out = {}
    for name in expected["0.3.2"]:
        if name.startswith("sim_"):
            row = int(name[4:])
            data = [simulated["time"], simulated["flux"][row], simulated["ferr"][row]]
        else:
            data = np.load(folder / f"{name}.npy").T
        fits = {version: expected[version][name]["pspl"] for version in expected}
        out[name] = (*(np.asarray(x, np.float64) for x in data), fits)
    return out


def curves_of(events, names, offset=0.0):
    parts = [events[name] for name in names]
    counts = [len(p[0]) for p in parts]
    time, flux, error = (np.concatenate([p[k] for p in parts]) for k in range(3))
    bounds = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    return prepare(time + offset, flux, error, np.zeros(len(time), np.int64), bounds)[0]


def check(events, names, fits):
    for k, name in enumerate(names):
        both = events[name][3]
        for version, found in both.items():
            lower = LOWER.get(name, {}).get(version, 0.0)
            assert fits.chi2[k] <= found["chi2"] * (1 + 1e-9), (name, version)
            assert fits.chi2[k] == pytest.approx(found["chi2"] - lower, abs=1e-3, rel=1e-9), (name, version)
        best = min(both.values(), key=lambda found: found["chi2"])
        close = 1e-2 if name in LOWER else 2e-3 if name == "sim_21" else 1e-3
        assert fits.status[k] == OK, name
        assert fits.t0[k] == pytest.approx(best["t0"], rel=0, abs=1e-3), name
        assert fits.tE[k] == pytest.approx(best["tE"], rel=close), name
        assert fits.u0[k] == pytest.approx(abs(best["u0"]), rel=close), name
        assert fits.source_flux[k] == pytest.approx(best["fs"], rel=2 * close), name
        total = best["fs"] + best["fb"]
        assert fits.source_flux[k] + fits.blend_flux[k] == pytest.approx(total, rel=close), name


@pytest.mark.parametrize("start", ["auto", "0.3.2"])
def test_same_optimum(events, start):
    names = list(events)
    check(events, names, fit(curves_of(events, names), options=FitOptions(start=start)))


def test_full_julian_dates(events):
    names = list(events)
    offset = 2_450_000.0
    fits = fit(curves_of(events, names, offset))
    check(events, names, fits._replace(params=fits.params - [offset, 0, 0]))


def test_starts_of_052(events):
    # one dense and one with few cells; its Fourier transforms take seconds for the others
    names = ["sim_00", "sim_21"]
    check(events, names, fit(curves_of(events, names), options=FitOptions(start="0.5.2")))


@pytest.mark.acceptance
def test_starts_of_052_on_all_events(events):
    names = list(events)
    check(events, names, fit(curves_of(events, names), options=FitOptions(start="0.5.2")))


def test_two_telescopes_of_one_event(events):
    """OGLE-2016-BLG-1195 from Chile and South Africa: the joint fit lies between, with smaller errors."""
    single = fit(curves_of(events, ["ob161195_kct01", "ob161195_ksa01"]))
    parts = [events["ob161195_kct01"], events["ob161195_ksa01"]]
    time, flux, error = (np.concatenate([p[k] for p in parts]) for k in range(3))
    band = np.repeat([0, 1], [len(p[0]) for p in parts])
    joint = fit(prepare(time, flux, error, band, np.array([0, len(time)], np.int64))[0])
    assert joint.status[0] == OK
    assert (joint.errors[0] < single.errors.min(axis=0)).all()
    assert joint.chi2[0] >= single.chi2.sum()
    assert joint.tE[0] == pytest.approx(10.0, abs=0.6)
