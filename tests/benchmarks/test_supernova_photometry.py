"""Fluxes of supernovae on galaxies, from FITS files through every job, against the truth. By hand:

python -m pytest tests/benchmarks/test_supernova_photometry.py -m acceptance -s
"""

from pathlib import Path

import numpy as np
import pytest

from skytrawl.catalogs.images.current import open_frames
from skytrawl.catalogs.images.wcs_sky import vectors
from skytrawl.catalogs.simulate_images import read_truth, simulate_exposures
from skytrawl.deploy.local import connect
from skytrawl.images.ingest import ingest_images
from skytrawl.runner import run

EXPOSURES, EARLY = 45, 15  # those of the reference come first
APART = 4.0  # arcsec (over 3 FWHM) to whatever else changes: two sources in one PSF have no flux each
DARK = 10.0  # nJy on all early exposures, a thirtieth of the error of a flux


def dark_and_alone(raw: Path, last: float) -> list[tuple[int, float, float]]:
    """Number, ra and dec of supernovae that explode after the reference, with no other change beside them."""
    sources, light = read_truth(raw, "sources"), read_truth(raw)
    changing = ~np.isin(sources["type"], [b"star", b"galaxy"])
    at = vectors(sources["ra"], sources["dec"])
    early = light["mjd"] <= last
    chosen = []
    for k in np.flatnonzero(sources["type"] == b"supernova"):
        beside = np.degrees(np.linalg.norm(at[changing] - at[k], axis=1)) * 3600 < APART
        before = light["flux"][early & (light["id"] == sources["id"][k])]
        if beside.sum() == 1 and not (before > DARK).any():
            chosen.append((int(sources["id"][k]), float(sources["ra"][k]), float(sources["dec"][k])))
    return chosen


def statistics(pulls: np.ndarray) -> str:
    spread = 1.4826 * np.median(np.abs(pulls - np.median(pulls)))
    return f"{len(pulls)} fluxes, mean {pulls.mean():+.3f}, width {pulls.std():.3f} (scaled MAD {spread:.3f})"


@pytest.mark.acceptance
@pytest.mark.timeout(3600)
def test_pulls_of_supernovae_on_galaxies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw"
    simulate_exposures(
        "decam-like", raw, EXPOSURES, size=1024, seed=11, days=120.0, supernovae=100, seeing=(2.5, 4.5)
    )
    ingest_images(raw, tmp_path / "exposures", survey="decam", cluster="inline")
    last = float(np.sort(read_truth(raw, "exposures")["mjd"])[EARLY - 1]) + 0.01
    chosen = dark_and_alone(raw, last)
    places = tmp_path / "places.csv"
    places.write_text("object,ra,dec\n" + "".join(f"{k},{ra!r},{dec!r}\n" for k, ra, dec in chosen))
    with connect("threads", workers=1, threads=2) as client:
        for job, source, out, words in (
            ("reference", "exposures", "reference", {"blocks": 1, "last": last}),
            ("difference", "exposures", "differences", {"reference": tmp_path / "reference"}),
            (
                "forced-photometry",
                "differences",
                "forced",
                {"positions": places, "light_curves": tmp_path / "curves"},
            ),
        ):
            assert not run(job, tmp_path / source, tmp_path / out, client=client, **words).failed, job
    light = read_truth(raw)
    truth = {
        (one.decode(), int(k)): flux
        for one, k, flux in zip(light["exposure"], light["id"], light["flux"], strict=True)
    }
    store, rows = open_frames(tmp_path / "forced"), []
    for name in store.ids:
        frame = store.read(name)
        if frame.row["verdict"] == "refused" or frame.row["mjd"] <= last:
            continue
        a = frame.arrays
        for k in np.flatnonzero(a["usable"]):
            number = chosen[a["position"][k]][0]
            rows.append((truth.get((name, number), 0.0), a["flux"][k], a["flux_error"][k], number))
    flux, measured, error, number = np.array(rows).T
    pull, snr = (measured - flux) / error, flux / error
    with capsys.disabled():
        print(f"\n{len(np.unique(number))} supernovae: {statistics(pull)}")
        for low, high in ((-np.inf, 1.0), (1.0, 5.0), (5.0, 20.0), (20.0, np.inf)):
            some = (snr >= low) & (snr < high)
            print(f"  SNR {low:g} to {high:g}: {statistics(pull[some])}")
        worst = sorted(
            (float(np.mean(pull[number == k])), float(np.std(pull[number == k])), int(k))
            for k in np.unique(number)
        )
        print("  single supernovae, mean and width:", [tuple(np.round(w, 2)) for w in worst[:3] + worst[-3:]])
        bright = snr > 20
        print(
            f"  bright, median of measured over true flux: {np.median(measured[bright] / flux[bright]):.4f}"
        )
    assert len(np.unique(number)) >= 20
    assert np.median(np.unique(number, return_counts=True)[1]) >= 25
    assert abs(pull.mean()) < 0.1
    assert abs(pull.std() - 1) < 0.1
