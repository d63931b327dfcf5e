"""A planet in one light curve: fit a single lens, scan what is left, look at the candidates.

Run it anywhere: ``python template_scan.py``. Pictures go to the current folder. The light curve is that of
OGLE-2003-BLG-235, in which the first planet was found by microlensing, seen by two telescopes.
"""

import skytrawl
from skytrawl.catalogs.samples import microlensing_events

event = microlensing_events()["OGLE-2003-BLG-235"]

# One telescope, as arrays: times in days, fluxes in any unit, standard errors.
moa = event.dataset == "MOA_R"
single = skytrawl.scan_light_curve(event.time[moa], event.flux[moa], event.flux_err[moa])
print(single.summary(), end="\n\n")

# Both telescopes together: one lens, a source and a blend flux for each telescope, the gains added up.
joint = skytrawl.scan_light_curve(
    event.time, event.flux, event.flux_err, dataset=event.dataset, object_id="OGLE-2003-BLG-235"
)
print(joint.summary(), end="\n\n")
best = joint.best
print(f"the planet: {best.kind} at {best.t0:.2f}, seen by {best.n_coincident} of {best.n_sets} telescopes")

# Pictures: everything, the season of the event, the window of the best candidate.
joint.plot("scan.png")
joint.plot("scan-event.png", time_range=(2780, 2920))
joint.plot_window(0, "window.png")

# The same as numbers: a dictionary for JSON, or one row of an astropy table.
print(joint.to_table()["fit_t0", "fit_tE", "fit_u0", "best_t0", "best_teff", "best_dchi2"])
