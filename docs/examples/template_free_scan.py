"""A deviation without a template: stretches of a light curve whose residuals are too large.

Run it anywhere: ``python template_free_scan.py``. The light curve is that of OGLE-2003-BLG-235, whose planet
makes the source brighter, then fainter than a single lens would, within a week.
"""

import skytrawl
from skytrawl.catalogs.samples import microlensing_events

event = microlensing_events()["OGLE-2003-BLG-235"]
found = skytrawl.scan_template_free_light_curve(
    event.time, event.flux, event.flux_err, dataset=event.dataset, object_id="OGLE-2003-BLG-235"
)
print(found.summary())
for window in found.windows[:3]:
    print(f"{window.dataset}: {window.n_points} points from {window.start:.1f}, chi2 = {window.chi2:.0f}")
found.plot("template-free.png")
found.plot("template-free-event.png", time_range=(2780, 2920))
