"""From FITS files to candidates and light curves: all jobs over images, one after the other."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner

from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.images.candidates import read_catalogue
from skytrawl.catalogs.images.current import open_frames
from skytrawl.catalogs.images.positions import read_positions
from skytrawl.catalogs.images.store import FrameStore
from skytrawl.catalogs.simulate_images import read_truth, simulate_exposures
from skytrawl.catalogs.simulate_images.surveys import MODELS
from skytrawl.cli import main
from skytrawl.errors import ArchiveMismatchError, ParameterError, ParametersChangedError
from skytrawl.images.completeness import (
    Completeness,
    expected_differences,
    measure_completeness,
    read_truths,
)
from skytrawl.images.ingest import ingest_images
from skytrawl.images.light_curves import write_light_curves
from skytrawl.kernels.detect.forced import forced
from skytrawl.runner import RunSummary, run

GOOD = 6  # exposures of one field, the second half with injected sources
INJECTED = {"point": 12, "variable": 8, "extended": 2, "moving": 1, "supernova": 16}
# What an exposure is that cannot be used, and a part of the reason that its difference image gives.
ODD = {
    "starless": "c4d_181101_000001_ooi_r_ls9",
    "elsewhere": "c4d_181102_000001_ooi_r_ls9",
    "other band": "c4d_181103_000001_ooi_g_ls9",
    "masked": "c4d_181104_000001_ooi_r_ls9",
}


@dataclass
class Survey:
    """Where everything lies; `summaries` are those of the first runs."""

    home: Path
    first: float  # MJD of the first exposure with injected sources
    client: Any
    summaries: dict[str, RunSummary] = field(default_factory=dict)

    def __getattr__(self, name: str) -> FrameStore:
        return open_frames(self.home / name)

    def run(self, job: str, source: str, out: str, **words: Any) -> RunSummary:
        done = run(job, self.home / source, self.home / out, client=self.client, **words)
        assert not done.failed, done.failed[0].traceback
        return done


def odd_exposures(raw: Path) -> None:
    """Copies of the first exposure with something wrong, as files of the same survey."""
    image = min(raw.glob("*_ooi_*.fits"))
    for number, (what, stem) in enumerate(ODD.items()):
        for kind in ("ooi", "ood", "oow"):
            with fits.open(image.with_name(image.name.replace("_ooi_", f"_{kind}_"))) as hdus:
                primary, plane = hdus[0], hdus[1]
                # Before all others, so that nothing is injected into them.
                primary.header["MJD-OBS"] -= 10.0 - number
                primary.header["MJD-END"] -= 10.0 - number
                del primary.header["DATE-OBS"]
                primary.header["EXPNUM"] += 1000 + number
                if what == "starless" and kind == "ooi":
                    level, noise = plane.header["AVSKY"], plane.header["AVSIG"]
                    drawn = np.random.default_rng(1).normal(level, noise, plane.data.shape)
                    plane.data = drawn.astype(np.float32)
                elif what == "elsewhere":
                    plane.header["CRVAL2"] += 1.0
                elif what == "other band":
                    primary.header["FILTER"] = "g DECam SDSS c0001 4720.0 1520.0"
                    primary.header["BAND"] = "g"
                elif what == "masked" and kind == "ood":
                    plane.data[:, 16:] = 1
                hdus.writeto(raw / f"{stem.replace('_ooi_', f'_{kind}_')}.fits", checksum=True)


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Survey]:
    """Simulated, ingested, injected, subtracted, searched and measured."""
    from skytrawl.deploy.local import connect

    home = tmp_path_factory.mktemp("survey")
    model = MODELS["decam-like"]
    # Stars enough for a PSF on so small an image, and no crowd.
    model = replace(model, stars=(2e5, 0.25, 16.0), galaxies=(0.0, *model.galaxies[1:]))
    nothing = {"variables": 0, "supernovae": 0, "novae": 0, "moving": 0, "cosmic_rays": 0}
    simulate_exposures(
        model, home / "raw", GOOD, size=256, seed=5, seeing=(2.2, 3.0), rotation=0.3, dither=0.02, **nothing
    )
    odd_exposures(home / "raw")
    report = ingest_images(home / "raw", home / "exposures", survey="decam", cluster="inline")
    assert (report.frames, report.quarantined) == (GOOD + len(ODD), {})
    mjd = np.sort(FrameStore.open(home / "exposures").table["mjd"])[len(ODD) :]
    with connect("threads", workers=1, threads=2) as client:
        made = Survey(home, float(mjd[GOOD // 2]), client)
        words: dict[str, Any] = {**INJECTED, "snr": "5,60", "edge": 16.0, "first": made.first - 1e-3}
        steps: list[tuple[str, str, str, dict[str, Any]]] = [
            ("inject", "exposures", "injected", {"seed": 4, **words}),
            ("reference", "injected", "references", {"blocks": 2}),
            ("difference", "injected", "differences", {"reference": home / "references"}),
            ("detect", "differences", "candidates", {}),
        ]
        for job, source, out, parameters in steps:
            made.summaries[job] = made.run(job, source, out, **parameters)
        positions(made)
        for photometry in ("difference", "total"):
            where = {"positions": home / "places.csv", "light_curves": home / f"{photometry}.zarr"}
            made.run(
                "forced-photometry", "differences", f"forced {photometry}", photometry=photometry, **where
            )
        yield made


def positions(survey: Survey) -> None:
    """True places of what stands still, as a table of one's own."""
    truth = read_truth(survey.home / "injected", "sources")
    still = ~np.isin(truth["type"], [b"moving", b"extended"])
    lines = [
        f"{name},{ra:.8f},{dec:.8f}"
        for name, ra, dec in zip(truth["id"][still], truth["ra"][still], truth["dec"][still], strict=True)
    ]
    (survey.home / "places.csv").write_text("\n".join(["object,ra,dec", *lines]) + "\n")


@pytest.fixture(scope="module")
def found(survey: Survey) -> Completeness:
    return measure_completeness(survey.home / "candidates", survey.home / "injected")


def verdicts(store: FrameStore) -> dict[str, tuple[str, str]]:
    table = store.table
    rows = zip(store.ids, table["verdict"].tolist(), table["reason"].tolist(), strict=True)
    return {name: (verdict.decode(), reason.decode()) for name, verdict, reason in rows}


def contents(store: FrameStore) -> dict[str, bytes]:
    return dict(zip(store.ids, store.table["content"].tolist(), strict=True))


def curves(path: Path) -> dict[str, dict[float, tuple[float, float]]]:
    """Value and error by object and time."""
    archive = Archive.open(path)
    names = ["objects/object_id", "lightcurves/time", "lightcurves/value", "lightcurves/error"]
    result: dict[str, dict[float, tuple[float, float]]] = {}
    for partition in range(archive.n_partitions):
        block = archive.read(partition, names)
        columns = [block.observations[name.split("/")[1]] for name in names[1:]]
        for row, name in enumerate(block.objects["object_id"].tolist()):
            part = slice(block.offsets[row], block.offsets[row + 1])
            result[name.decode() if isinstance(name, bytes) else str(name)] = {
                t: (v, e) for t, v, e in zip(*(column[part].tolist() for column in columns), strict=True)
            }
    return result


def test_injection_adds_its_truth_and_nothing_else(survey: Survey) -> None:
    truth = read_truth(survey.home / "injected")
    before, after = survey.exposures, survey.injected
    assert after.kind == "exposures"
    assert after.ids == before.ids
    for name, mjd in zip(before.ids, before.table["mjd"], strict=True):
        old, new = before.read(name), after.read(name)
        changed = {key for key in old.arrays if not np.array_equal(old.arrays[key], new.arrays[key], True)}
        rows = truth["exposure"] == name.encode()
        if name in (ODD["starless"], ODD["masked"]):
            assert not changed
            assert not rows.any()
            assert new.attrs["notes"][-1].startswith("nothing injected")
            continue
        assert changed == ({"image", "variance"} if (truth["flux"][rows] != 0).any() else set())
        assert (truth["flux"][rows] != 0).any() == (mjd >= survey.first)
        # The truth lies in the frame as in the table.
        for column in ("id", "flux", "snr", "x"):
            np.testing.assert_array_equal(new.arrays[f"truth_{column}"], truth[column][rows])
        assert {key: new.row[key] for key in old.row} == old.row
    kinds = read_truth(survey.home / "injected", "sources")["type"]
    assert len(kinds) == sum(INJECTED.values())
    assert [(kinds == kind.encode()).sum() for kind in ("point", "moving", "supernova")] == [12, 1, 16]


def test_each_exposure_has_a_verdict_and_its_reason(survey: Survey) -> None:
    given = verdicts(survey.differences)
    expected = {
        "starless": ("refused", "has no PSF: not measured"),
        "elsewhere": ("refused", "no reference"),
        "other band": ("refused", "no reference"),
        "masked": ("refused", "has no PSF"),
    }
    for what, (verdict, part) in expected.items():
        assert given[ODD[what]][0] == verdict, what
        assert part in given[ODD[what]][1], what
    good = [name for name in given if name not in ODD.values()]
    assert [given[name] for name in good] == [("good", "")] * GOOD
    # What was refused stays refused, for the same reason, with whatever follows.
    searched = verdicts(survey.candidates)
    assert {name for name, (verdict, _) in searched.items() if verdict == "refused"} == set(ODD.values())
    assert given[ODD["starless"]][1] in searched[ODD["starless"]][1]
    table = survey.differences.table
    rows = [survey.differences.row_number(name) for name in good]
    assert (np.abs(table["mad_scorr"][rows] - 1) < 0.25).all()
    assert (table["n_match"][rows] >= 10).all()


def test_nothing_is_subtracted_from_itself(survey: Survey) -> None:
    references, days = survey.references, {}
    assert len(references) == 2
    for name in references.ids:
        record = references.record(name)
        days[name] = record["row"]["input_mjd"]
        assert len(record["attrs"]["inputs"]) == len(days[name]) == len(record["row"]["input_weight"])
        assert sum(record["row"]["input_weight"]) == pytest.approx(1)
        assert not set(record["attrs"]["inputs"]) & set(ODD.values())
    differences = survey.differences
    for name in differences.ids:
        if name in ODD.values():
            continue
        record = differences.record(name)
        inputs = references.record(record["attrs"]["reference"])["attrs"]["inputs"]
        assert name not in inputs
        assert record["row"]["mjd"] not in days[record["attrs"]["reference"]]


def test_bright_sources_are_found_with_their_sign(survey: Survey, found: Completeness) -> None:
    whole = found.tables["all"]
    assert (found.frames, found.left_out, found.threshold) == (GOOD, len(ODD), 5.0)
    bright = whole["low"] >= 8
    assert whole["injected"][bright].sum() >= 60
    assert whole["recovered"][bright].sum() >= 0.93 * whole["injected"][bright].sum()
    assert whole["true"][bright].sum() >= 0.93 * whole["candidates"][bright].sum()
    faint = whole["high"] <= 3
    assert whole["recovered"][faint].sum() <= 0.1 * whole["injected"][faint].sum()
    # Sources shine in the second half: there they stand out, and the references of the first are too bright.
    catalogue = read_catalogue(survey.home / "candidates")["candidates"]
    late = catalogue["mjd"] > survey.first - 1e-3
    assert (catalogue["sign"][late & (catalogue["snr"] > 8)] > 0).all()
    assert (catalogue["sign"][~late] < 0).mean() > 0.9
    number, median, width = found.pulls["all"]
    assert number > 150
    assert abs(median) < 0.2
    assert 0.75 < width < 1.35


def test_completeness_counts_only_what_it_knows(survey: Survey, tmp_path: Path) -> None:
    run_, truth = survey.home / "candidates", survey.home / "injected"
    out = tmp_path / "curve.png"
    words = ["completeness", str(run_), str(truth), "--json", "--plot", str(out)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (
        told["tables"]["all"]["injected"]
        == measure_completeness(run_, truth).tables["all"]["injected"].tolist()
    )
    assert out.stat().st_size > 5000
    text = CliRunner().invoke(main, ["completeness", str(run_), str(truth)])
    assert "supernova: pull" in text.output
    with pytest.raises(ArchiveMismatchError, match="holds differences"):
        measure_completeness(survey.home / "differences", truth)
    elsewhere = {name: values[:0] for name, values in read_truth(truth).items()}
    with pytest.raises(ParameterError, match="knows none of the frames"):
        expected_differences(survey.candidates, [elsewhere])
    # A source that does not change is none that a difference could show.
    still = read_truths(truth)[0]
    still = {name: values[still["type"] == b"point"] for name, values in still.items()}
    still["flux"] = np.full(len(still["id"]), 1000.0)
    still["psf_share"] = np.ones(len(still["id"]))
    with pytest.raises(ParameterError, match="nothing of the truth changes"):
        expected_differences(survey.candidates, [still])


def test_light_curves_have_the_true_fluxes(survey: Survey) -> None:
    truth = read_truth(survey.home / "injected")
    change = expected_differences(survey.candidates, read_truths(survey.home / "injected"))
    expected = {
        (str(i), name): value
        for i, name, value in zip(change["id"], change["exposure"], change["expected"], strict=True)
    }
    total, difference = (curves(survey.home / f"{name}.zarr") for name in ("total", "difference"))
    assert set(difference) == set(total)
    pulls: dict[str, list[float]] = {"total": [], "difference": []}
    for name, mjd, flux, exposure, sure in zip(
        truth["id"], truth["mjd"], truth["flux"], truth["exposure"], truth["confidence"], strict=True
    ):
        point = difference.get(str(name), {}).get(mjd)
        if point is None or sure < 0.9:
            continue
        if (str(name), exposure) in expected:
            pulls["difference"].append((point[0] - expected[str(name), exposure]) / point[1])
        value, error = total[str(name)][mjd]
        pulls["total"].append((value - flux) / error)
    for kind, limit in (("difference", 1.35), ("total", 1.6)):
        values = np.array(pulls[kind])
        assert len(values) > 150
        assert abs(np.median(values)) < 0.3, kind
        width = 1.4826 * np.median(np.abs(values - np.median(values)))
        assert 0.7 < width < limit, kind
    # Non-detections are there as well: every object at every time, but for masked pixels.
    lengths = [len(curve) for curve in difference.values()]
    assert np.median(lengths) == GOOD


def test_jobs_over_light_curves_take_them(survey: Survey, tmp_path: Path) -> None:
    total, home = survey.home / "total.zarr", survey.home
    done = run("dmdt-reference", total, tmp_path / "dmdt", client=survey.client, keys="r")
    assert not done.failed
    words: dict[str, Any] = {"reference": str(tmp_path / "dmdt"), "client": survey.client}
    scored = run("dmdt-score", total, tmp_path / "scores", **words)
    scanned = run(
        "scan", home / "difference.zarr", tmp_path / "scan", client=survey.client, kind="dchi2",
        teff_init=1.0, teff_grid_n=6, min_pts_in_window=2,
    )  # fmt: skip
    assert not scored.failed
    assert not scanned.failed
    from skytrawl.catalogs.results import open_results

    scores = open_results(tmp_path / "scores")["dmdt-score"].to_dataset()["score"].values
    assert np.isfinite(scores).mean() > 0.8
    assert "scan" in open_results(tmp_path / "scan")


def test_errors_of_fluxes_hold_the_scatter_of_constant_stars(survey: Survey) -> None:
    made, source, relative = open_frames(survey.home / "forced difference"), survey.differences, []
    for name in made.ids:
        frame = made.read(name)
        if frame.row["verdict"] == "refused":
            continue
        row, a = source.record(name)["row"], frame.arrays
        planes = source.read(name, ["flux", "flux_error", "mask"]).arrays
        plain = forced(planes["flux"], planes["flux_error"], planes["mask"], a["x"], a["y"])
        scatter = row["scale_scatter"] * (a["flux"] + a["reference_flux"])
        expected = np.hypot(scatter, row["scale_error"] / row["scale"] * a["reference_flux"])
        extra = np.sqrt(a["flux_error"] ** 2 - (row["njy_per_unit"] * plain["flux_error"]) ** 2)
        use = a["usable"] & (expected > 0.1 * a["flux_error"])
        np.testing.assert_allclose(extra[use], expected[use], rtol=1e-3)
        relative.append(int(use.sum()))
    assert max(relative) > 0


def test_no_flux_is_delivered_twice(survey: Survey, tmp_path: Path) -> None:
    made = open_frames(survey.home / "forced difference")
    frames = [made.read(name) for name in made.ids]
    names, ra, dec = read_positions(survey.home / "places.csv")
    positions = {"names": names, "ra": ra, "dec": dec}
    path, store = tmp_path / "curves.zarr", FrameStore.create(tmp_path / "run", made.kind)

    def deliver(run: Path = store.path) -> int:
        write_light_curves(FrameStore.open(run), path, positions, "difference")
        return int(Archive.open(path).version.partitions["n_observations"].sum())

    counts = []
    for some in (frames[: GOOD // 2 + 2], frames):
        for frame in some:
            store.write(frame)
        store.publish()
        counts.append(deliver())
        assert deliver() == counts[-1]
    usable = sum(int(f.arrays["usable"].sum()) for f in frames if f.row["verdict"] != "refused")
    assert 0 < counts[0] < counts[1] == usable
    # Killed after the archive was published and before the run took note of it.
    note = store.storage.path("light_curves.json")
    noted = json.loads(note.read_text())
    noted[str(path)]["archive"] = ""
    note.write_text(json.dumps(noted))
    assert deliver() == usable
    assert json.loads(note.read_text())[str(path)]["archive"] == Archive.open(path).fingerprint
    # Another run, and the same with other fluxes.
    with pytest.raises(ArchiveMismatchError, match="has not written"):
        deliver(made.path)
    last = next(f for f in reversed(frames) if f.row["verdict"] != "refused")
    last.arrays["flux"] = last.arrays["flux"] + 1.0
    store.write(last)
    store.publish()
    with pytest.raises(
        ArchiveMismatchError, match=f"1 images that have been measured anew since, such as {last.id}"
    ):
        deliver()
    assert int(Archive.open(path).version.partitions["n_observations"].sum()) == usable


@pytest.mark.parametrize("mode", ["matching", "classic"])
def test_other_modes_of_subtraction(survey: Survey, mode: str, tmp_path: Path) -> None:
    few = FrameStore.create(tmp_path / "few", "exposures")
    names = [name for name in survey.injected.ids if name not in ODD.values()][-1:]
    for name in names:
        few.write(survey.injected.read(name))
    few.publish()
    words: dict[str, Any] = {"client": survey.client, "reference": survey.home / "references"}
    assert not run("difference", few.path, tmp_path / "out", mode=mode, **words).failed
    assert not run("detect", tmp_path / "out", tmp_path / "found", client=survey.client, poor=True).failed
    store = open_frames(tmp_path / "out")
    assert [store.record(name)["attrs"]["mode"] for name in names] == [mode]
    seen = measure_completeness(tmp_path / "found", survey.home / "injected").tables["all"]
    bright = seen["low"] >= 10
    assert seen["recovered"][bright].sum() >= 0.85 * seen["injected"][bright].sum()


def test_a_run_again_does_nothing_and_other_parameters_are_refused(survey: Survey) -> None:
    home = survey.home
    before = {name: contents(open_frames(home / name)) for name in ("injected", "references", "differences")}
    forced = {"positions": home / "places.csv", "light_curves": home / "difference.zarr"}
    version = Archive.open(home / "difference.zarr").fingerprint
    again: list[tuple[str, str, str, dict[str, Any]]] = [
        ("reference", "injected", "references", {"blocks": 2}),
        ("difference", "injected", "differences", {"reference": home / "references"}),
        ("detect", "differences", "candidates", {}),
        ("forced-photometry", "differences", "forced difference", {"photometry": "difference", **forced}),
    ]
    for job, source, out, words in again:
        done = survey.run(job, source, out, **words)
        assert done.done == 0, job
        assert done.skipped == len(open_frames(home / out)), job
    assert {name: contents(open_frames(home / name)) for name in before} == before
    assert Archive.open(home / "difference.zarr").fingerprint == version
    changed: list[tuple[str, str, str, dict[str, Any], str]] = [
        ("inject", "exposures", "injected", {"seed": 5}, "seed: 4 before, now 5\n"),
        ("reference", "injected", "references", {"blocks": 3}, "blocks: 2 before, now 3"),
        (
            "difference", "injected", "differences", {"reference": home / "references", "mode": "classic"},
            "mode: 'zogy' before, now 'classic'",
        ),
        ("detect", "differences", "candidates", {"threshold": 6.0}, "threshold: 5.0 before, now 6.0"),
    ]  # fmt: skip
    for job, source, out, words, told in changed:
        with pytest.raises(ParametersChangedError, match=told):
            survey.run(job, source, out, **words)


def test_a_killed_run_goes_on_to_the_same_results(survey: Survey, tmp_path: Path) -> None:
    from skytrawl.frames.product import FrameRun

    home, out = survey.home, tmp_path / "differences"
    script = Path(__file__).with_name("kill_images.py")
    command = [sys.executable, str(script), str(home / "injected"), str(out), str(home / "references")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline().strip().isdigit()
        os.kill(driver.pid, signal.SIGKILL)
    folder = next((out / "runs").iterdir())
    finished = len(FrameRun(FrameStore.open(folder).storage).ledger.keys())
    assert 1 <= finished < GOOD + len(ODD), "the run had ended before it was killed"
    done = survey.run("difference", "injected", str(out), reference=home / "references")
    assert (done.done, done.skipped) == (GOOD + len(ODD) - finished, finished)
    assert contents(open_frames(out)) == contents(survey.differences)
    # What follows is the same to the last bit, too.
    survey.run("detect", str(out), str(tmp_path / "candidates"))
    again, first = (read_catalogue(path / "candidates")["candidates"] for path in (tmp_path, home))
    for name, values in first.items():
        assert again[name].tobytes() == values.tobytes(), name


def test_what_cannot_be_injected_is_said(survey: Survey, tmp_path: Path) -> None:
    def inject(**words: Any) -> Callable[[], RunSummary]:
        return run("inject", survey.home / "exposures", tmp_path / "out", client=survey.client, **words)

    for words, told in (
        ({"point": 0, "supernova": 0}, "nothing to inject"),
        ({"snr": "9,3"}, "least and the largest"),
        ({"magnitudes": "20,18"}, "brightest first"),
        ({"first": 70000.0}, "no exposure to inject into"),
        ({"edge": 200.0}, "leaves nothing"),
        ({"truth_format": "fits"}, "choose one of"),
    ):
        with pytest.raises(ParameterError, match=told):
            inject(**words)
    assert not (tmp_path / "out").exists() or not shutil.rmtree(tmp_path / "out")
