"""Two telescopes tell more than one: OGLE-2016-BLG-1195, whose planet neither of these two saw directly."""

import numpy as np

import skytrawl
from skytrawl.catalogs.samples import microlensing_events
from skytrawl.kernels.scan.profile import profile

# The planet's bump: less than 3 hours, about 8.5 hours after the peak (Bond et al. 2017, MNRAS 469, 2434),
# when it was day in Chile and in South Africa. HJD - 2450000.
ANOMALY = 7568.77 + 8.5 / 24


def test_joint_gain_at_the_planets_time_exceeds_that_of_each_telescope() -> None:
    event = microlensing_events()["OGLE-2016-BLG-1195"]
    gains, reports = {}, {}
    for name in ("KMTC_I", "KMTS_I", "both"):
        rows = (event.dataset == name) | (name == "both")
        report = skytrawl.scan_light_curve(
            *(column[rows] for column in event[:3]),
            dataset=event.dataset[rows],
            kind="dchi2",
            n_candidates=40,
        )
        residual = report.curves.with_flux(report.curves.flux - report.model)
        found = profile(residual, report.parameters.grid(), report.parameters.templates, 20_000)
        at = int(np.argmin(np.abs(found.time[0] - ANOMALY)))
        gains[name], reports[name] = max(found.bump[0, at], found.dip[0, at]), report
    assert gains["both"] > max(gains["KMTC_I"], gains["KMTS_I"]) > 0
    # What is left of the anomaly in the nights beside is the second best candidate of both telescopes.
    near = [i for i, c in enumerate(reports["both"].candidates) if abs(c.t0 - ANOMALY) < 0.5]
    assert near[0] == 1
    best = reports["both"].candidates[near[0]]
    assert best.n_sets == 2
    assert best.dchi2 > max(
        c.dchi2
        for name in ("KMTC_I", "KMTS_I")
        for c in reports[name].candidates
        if abs(c.t0 - ANOMALY) < 0.5
    )
