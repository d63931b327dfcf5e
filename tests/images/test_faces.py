"""Figures, tables and reports of images, on small stores with known contents."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from astropy.wcs import WCS
from click.testing import CliRunner
from matplotlib.figure import Figure

import skytrawl
from skytrawl.catalogs.images.candidates import gather, write_catalogue
from skytrawl.catalogs.images.frame import Frame
from skytrawl.catalogs.images.measured import at_nodes
from skytrawl.catalogs.images.store import FrameStore
from skytrawl.catalogs.images.wcs import cards_of
from skytrawl.catalogs.simulate_images.completeness import completeness
from skytrawl.cli import main
from skytrawl.errors import ImageError, ObjectNotFoundError, ParameterError
from skytrawl.figures_sky import asinh_ticks, common_scale, directions, round_below, symmetric_scale
from skytrawl.frames.job import Unit
from skytrawl.image_views import read_view
from skytrawl.images.detect import JOB, Parameters, make, prepare
from skytrawl.images.ingest import QUARANTINE
from skytrawl.images.quality import statistics, verdict
from skytrawl.kernels.flags import BAD
from skytrawl.kernels.psf import PsfModel

SHAPE = (120, 150)
NJY = 2.0
# x, y, PSF flux in image units, where the error of a flux is 1.
SOURCES = ((40, 30, 30.0), (100, 80, -20.0), (75, 100, 9.0))


def star(x: float, y: float, sigma: float = 1.7) -> np.ndarray:
    """A Gaussian whose peak is 1."""
    v, u = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * sigma**2))


def sky(angle: float) -> WCS:
    """0.3 arcsec a pixel, north `angle` degrees from +y towards +x."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [150.0, 20.0], [75.5, 60.5]
    a, scale = np.radians(angle), 0.3 / 3600
    wcs.wcs.cd = scale * np.array([[-np.cos(a), np.sin(a)], [np.sin(a), np.cos(a)]])
    return wcs


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two exposures (the second rotated by 90 degrees and without zero point), one refused difference."""
    folder = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(5)
    exposures = FrameStore.create(folder / "exp", "exposures")
    differences = FrameStore.create(
        folder / "diff", "differences", {"source": str(exposures.path), "source_version": 1}
    )
    classic = FrameStore.create(
        folder / "classic", "differences", {"source": str(exposures.path), "source_version": 1}
    )
    stamp = star(75, 60)[45:76, 60:91].astype(np.float32)
    psf = {f"psf_{k}": v for k, v in PsfModel.constant(stamp / stamp.sum()).to_arrays().items()}
    names = ["x", "y", "flux", "x_error", "y_error", "flux_error", "width", "width_error", "clean", "used"]
    for number, (angle, njy) in enumerate(((0.0, NJY), (90.0, None), (0.0, NJY))):
        name = f"e{number}"
        noise = rng.normal(0, 1, SHAPE)
        image = noise + 100 + sum(300 * star(*at) for at in ((40, 90), (110, 30)))
        mask = np.zeros(SHAPE, np.uint16)
        mask[:, 20:22] = BAD
        row = {"exposure": name, "field": "f", "band": "r", "survey": "test", "mjd": 59000.25 + number,
               "exptime": 30.0, "njy_per_unit": njy, "zero_point": 30.6 if njy else None, "gain": 2.0,
               "ra": 150.0, "dec": 20.0, "healpix": 0, "width": SHAPE[1], "height": SHAPE[0],
               "pixel_scale": 0.3}  # fmt: skip
        own = {"fwhm": 4.0, "sky": 100.0, "sky_sigma": 1.0, "n_stars": 2, "checksum": "ok"}
        wcs = {"cards": cards_of(sky(angle), SHAPE)}
        stars = np.array(
            [[40, 90, 5e3, 0.1, 0.1, 10, 1.7, 0.1, 1, 1], [110, 30, 5e3, 0.1, 0.1, 10, 1.7, 0.1, 1, 1]]
        )
        arrays = {
            "image": image.astype(np.float32),
            "mask": mask,
            "variance": np.ones(SHAPE, np.float32),
            "stars": stars.astype(np.float64),
            "sky_nodes": np.stack([at_nodes(np.full(SHAPE, 100.0)), at_nodes(np.ones(SHAPE))]),
            **psf,
        }
        dims = {"stars": ("star", "star_column"), "sky_nodes": ("sky_plane", "sky_y", "sky_x")}
        attrs = {
            **wcs,
            "star_columns": names,
            "mask_from": "there" if number else "",
            "notes": ["odd"] * number,
        }
        exposures.write(Frame(name, arrays, attrs, row | own, dims))
        if number == 2:
            refused = Frame(name, {}, {}, {"verdict": "refused", "reason": "no reference: none covers it"})
            differences.write(refused)
            continue
        for store, mode, width in ((differences, "zogy", 1.0), (classic, "classic", 1.5)):
            flux = sum(f * star(x, y) for x, y, f in SOURCES) + 0.2 * width * noise
            scorr = (sum(f * star(x, y) for x, y, f in SOURCES) + width * rng.normal(0, 1, SHAPE)).astype(
                "f4"
            )
            bad = mask != 0
            scorr[bad] = np.nan
            planes = {"difference": noise / 10, "scorr": scorr, "flux": flux,
                      "flux_error": np.ones(SHAPE), "reference": noise + 1}  # fmt: skip
            planes = {k: np.where(bad, np.nan, v).astype(np.float32) for k, v in planes.items()}
            measured = statistics(scorr[~bad]) | {"n_good": int((~bad).sum()), "n_bad": int(bad.sum())}
            measured |= {"footprint_mean": 0.05, "footprint_std": 0.1, "stars_beyond_5": 0.0, "limit": 23.0}
            measured["scale_scatter"] = 0.01
            measured["verdict"], measured["reason"] = verdict(measured)
            store.write(
                Frame(name, {**planes, "mask": mask}, {**wcs, "mode": mode}, {**row, "fwhm": 4.0, **measured})
            )
    (exposures.path / QUARANTINE).write_text(json.dumps({"bad.fits": "truncated"}))
    for store in (exposures, differences, classic):
        store.publish(store.written())
    found = FrameStore.create(
        folder / "cand", "candidates", {"source": str(differences.path), "source_version": 1}
    )
    source = FrameStore.open(differences.path)
    parameters = Parameters(cutout=21)
    prepared = prepare(parameters, source)
    for name in ("e0", "e1"):
        frame = make(source, Unit(name, (name,), "", 0), parameters, prepared, "cpu")
        kept = {key: value for key, value in source.record(name)["row"].items() if key in JOB.keeps}
        frame.row = {**kept, "verdict": "good", "reason": "", **frame.row}
        found.write(frame)
    found.publish(found.written())
    opened = FrameStore.open(found.path)
    write_catalogue(opened, gather(opened, 1.0))
    paths = {store.path.name: str(store.path) for store in (exposures, differences, classic, found)}
    return SimpleNamespace(**paths)


def written(draw: Callable[[Path], Figure], path: Path) -> Figure:
    """The figure, which must have been written and hold more than white."""
    from matplotlib.image import imread

    figure = draw(path)
    pixels = imread(path)[..., :3]
    assert min(pixels.shape[:2]) > 300
    assert (pixels.min(axis=-1) < 0.9).mean() > 0.02
    return figure


def test_verdict_names_all_that_is_wrong() -> None:
    good: dict[str, Any] = {
        "n_good": 9, "mad_scorr": 1.0, "scale_scatter": 0.049, "footprint_mean": 0.1, "footprint_std": 0.1,
        "stars_beyond_5": 0.1,
    }  # fmt: skip
    assert verdict(good) == ("good", "")
    word, reason = verdict({**good, "scale_scatter": 0.05, "mad_scorr": 2.0})
    assert word == "poor"
    assert reason == "the noise of S_corr is 2.00 instead of 1; constant stars scatter by 5 % or more"


def test_panels(stores: SimpleNamespace, tmp_path: Path) -> None:
    figure = written(
        lambda path: skytrawl.plot_difference(stores.diff, "e0", path, candidates=stores.cand),
        tmp_path / "a.png",
    )
    shown = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in shown] == [
        "exposure",
        "reference",
        "difference (ZOGY)",
        "$S_{corr}$",
    ]
    science, reference, difference, score = (axis.images[0].norm for axis in shown)
    assert science is reference
    assert difference.vmin == -difference.vmax
    assert (score.vmin, score.vmax) == (-10, 10)
    labels = [axis.get_ylabel() for axis in figure.axes]
    assert labels.count("flux (nJy / pixel)") == 3
    assert "significance (sigma)" in labels
    assert "brighter than the reference (2)" in [t.get_text() for t in figure.legends[0].get_texts()]
    assert {"N", "E"} <= {t.get_text() for t in shown[0].texts}
    assert shown[2].get_xlabel() == "RA (deg)"
    assert shown[2].get_ylabel() == "Dec (deg)"
    marked = {tuple(np.rint(point).tolist()) for c in shown[3].collections for point in c.get_offsets()}
    assert marked == {(float(x), float(y)) for x, y, _ in SOURCES}


def test_turned_frame_and_window(stores: SimpleNamespace, tmp_path: Path) -> None:
    view = read_view(stores.diff, "e1", window=(10, 60, -5, 50), candidates=stores.cand)
    assert view.window == (10, 60, 0, 50)
    assert view.unit == "image units"
    assert view.planes["scorr"].shape == (50, 50)
    assert view.candidates["x"].round().tolist() == [40]
    east, north = directions(view)
    np.testing.assert_allclose(north, [1, 0], atol=1e-3)
    np.testing.assert_allclose(east, [0, 1], atol=1e-3)
    figure = written(
        lambda path: skytrawl.plot_difference(stores.diff, "e1", path, at=(40, 30), size=50),
        tmp_path / "b.png",
    )
    lower = next(axis for axis in figure.axes if axis.get_title().startswith("difference"))
    assert (lower.get_xlabel(), lower.get_ylabel()) == ("Dec (deg)", "RA (deg)")
    with pytest.raises(ParameterError, match="lies outside e1, which has 150 x 120"):
        read_view(stores.diff, "e1", window=(500, 600, 0, 10))
    with pytest.raises(ImageError, match="e2 has no difference image: no reference"):
        read_view(stores.diff, "e2")
    with pytest.raises(ParameterError, match="holds exposures"):
        read_view(stores.exp)


def test_ticks_are_where_the_sky_says(stores: SimpleNamespace) -> None:
    figure = skytrawl.plot_difference(stores.diff, "e0")
    axis = next(axis for axis in figure.axes if axis.get_title().startswith("difference"))
    for tick, label in zip(axis.get_xticks(), axis.get_xticklabels(), strict=True):
        ra, _ = sky(0.0).wcs_pix2world(tick, -0.5, 0)
        assert float(label.get_text()) == pytest.approx(float(ra), abs=1e-5)


def test_cutouts(stores: SimpleNamespace, tmp_path: Path) -> None:
    figure = written(lambda path: skytrawl.plot_cutouts(stores.cand, path, top=4), tmp_path / "c.png")
    parts = [part for part in figure.subfigs for part in part.subfigs] or figure.subfigs
    captions = [part._suptitle.get_text() for part in parts if part._suptitle]
    assert len(captions) == 4
    assert "MJD 5900" in captions[0]
    flux = next(caption for caption in captions if "nJy" in caption).split("   ")[1]
    assert float(flux.split()[0]) == pytest.approx(SOURCES[0][2] * NJY, abs=5)
    with pytest.raises(ParameterError, match="candidates 0 to"):
        skytrawl.plot_cutouts(stores.cand, rows=[99])


def test_noise_and_modes(stores: SimpleNamespace, tmp_path: Path) -> None:
    figure = written(lambda path: skytrawl.plot_noise(stores.diff, None, path), tmp_path / "n.png")
    assert figure.axes[0].get_yscale() == "log"
    assert "2 difference images" in figure.axes[0].get_title()
    values = skytrawl.open_images(stores.diff).row("e0")
    note = skytrawl.plot_noise(stores.diff, "e0").axes[0].texts[0].get_text()
    assert f"scatter {values['mad_scorr']:.3f}" in note
    assert f"above +5: {int(values['above_5'])}\n" in note
    both = written(
        lambda path: skytrawl.plot_modes([stores.diff, stores.classic], "e0", path), tmp_path / "m.png"
    )
    assert [a.get_title() for a in both.axes if a.get_title().endswith("frame")] == [
        "ZOGY: whole frame",
        "classic: whole frame",
    ]
    with pytest.raises(ParameterError, match="two runs"):
        skytrawl.plot_modes([stores.diff])


def test_completeness(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    n = 600
    truth = {"x": rng.uniform(0, 2e4, n), "y": rng.uniform(0, 2e4, n), "snr": rng.uniform(2, 12, n)}
    measured = truth["snr"] + rng.normal(0, 1, n)
    seen = {name: values[measured > 5] for name, values in truth.items()}
    table = completeness(truth, seen | {"snr": measured[measured > 5]}, 3.0)
    figure = written(lambda path: skytrawl.plot_completeness(table, path, threshold=5.0), tmp_path / "p.png")
    axis = figure.axes[0]
    line = next(each for each in axis.lines if each.get_label().startswith("Gaussian"))
    assert np.interp(5.0, line.get_xdata(), line.get_ydata()) == pytest.approx(0.5, abs=0.01)
    assert axis.get_ylabel() == "completeness"
    several = skytrawl.plot_completeness({"a": table, "b": table}, purity=False)
    assert len(several.axes) == 1
    with pytest.raises(ParameterError, match="lacks"):
        skytrawl.plot_completeness({"x": {"low": table["low"]}})


def test_scales() -> None:
    noise = np.random.default_rng(0).normal(0, 2, (100, 100))
    norm = common_scale(noise, noise + np.where(noise > 7, 1e4, 0))
    assert norm.vmin == pytest.approx(-6, rel=0.1)
    ticks = asinh_ticks(norm)
    assert ticks[0] == 0
    assert all(0 < tick <= norm.vmax for tick in ticks[1:])
    assert 2 < len(ticks) < 8
    assert symmetric_scale(np.full((3, 3), np.nan)).vmax > 0
    assert [round_below(v) for v in (0.7, 9.99, 10, 59, 130, 400)] == [0.5, 5, 10, 50, 120, 300]


def test_find_candidates(stores: SimpleNamespace) -> None:
    every = skytrawl.find_candidates(stores.cand)
    assert len(every["x"]) == 6
    assert (np.diff(np.abs(every["score"])) <= 0).all()
    rows = skytrawl.open_candidates(stores.cand)["candidates"]
    np.testing.assert_array_equal(rows.score.values[every["catalogue_row"]], every["score"])
    assert len(skytrawl.find_candidates(stores.cand, sign="-")["x"]) == 2
    assert len(skytrawl.find_candidates(stores.cand, exposure="e0", min_snr=15)["x"]) == 2
    one = {name: values[0] for name, values in every.items()}
    near = skytrawl.find_candidates(stores.cand, cone=(one["ra"], one["dec"], 0.001))
    assert near["catalogue_row"][0] == one["catalogue_row"]
    assert near["separation"][0] == pytest.approx(0, abs=1e-9)
    mine = skytrawl.find_candidates(stores.cand, object_number=int(one["object"]))
    assert (mine["object"] == one["object"]).all()
    assert (np.diff(mine["mjd"]) >= 0).all()
    with pytest.raises(ObjectNotFoundError, match="no object 99"):
        skytrawl.find_candidates(stores.cand, object_number=99)
    with pytest.raises(ObjectNotFoundError, match="no exposure 'zz'"):
        skytrawl.find_candidates(stores.cand, exposure="zz")
    with pytest.raises(ParameterError, match="cone"):
        skytrawl.find_candidates(stores.cand, cone=(0.0, 95.0, 1.0))


def test_candidates_command(stores: SimpleNamespace, tmp_path: Path) -> None:
    runner = CliRunner()
    shown = runner.invoke(main, ["candidates", stores.cand, "--top", "3"])
    assert shown.exit_code == 0, shown.output
    assert "3 of 6 candidates by |S_corr|" in shown.output
    assert all(word in shown.output for word in ("ra (deg)", "flux (nJy)", "score"))
    found = json.loads(runner.invoke(main, ["candidates", stores.cand, "--sign", "-", "--json"]).stdout)
    assert found["columns"]["sign"] == [-1, -1]
    assert found["units"]["flux_njy"] == "nJy"
    for extra in ([], ["--exposure", "e0", "--panels", "frame"]):
        path = tmp_path / f"{len(extra)}.png"
        done = runner.invoke(main, ["candidates", stores.cand, "--plot", str(path), *extra])
        assert done.exit_code == 0, done.output
        assert path.stat().st_size > 20_000
    none = runner.invoke(main, ["candidates", stores.cand, "--min-snr", "1e9"])
    assert none.exit_code == 0
    assert "no candidate meets" in none.output
    assert runner.invoke(main, ["candidates", stores.cand, "--panels", "frame"]).exit_code == 2


def test_report_on_exposures(stores: SimpleNamespace, tmp_path: Path) -> None:
    report = skytrawl.image_report(stores.exp)
    have = report.table("Completeness of metadata")
    counts = dict(zip(have["metadata"], have["images with it"], strict=True))
    assert (counts["time (MJD)"], counts["zero point"], counts["read noise"]) == (3, 2, 0)
    assert (counts["PSF"], counts["WCS"], counts["mask delivered or made"], counts["variance"]) == (
        3,
        3,
        2,
        3,
    )
    spread = report.table("Ranges")
    fwhm = spread["measure"].index("FWHM (arcsec)")
    assert spread["median"][fwhm] == pytest.approx(1.2)
    depth = spread["median"][spread["measure"].index("depth (mag, 5 sigma)")]
    # A Gaussian of FWHM 4 pixels covers 4 pi sigma^2 = 36.3 pixels of noise.
    assert depth == pytest.approx(31.4 - 2.5 * np.log10(5 * np.sqrt(4 * np.pi) * 4 / 2.3548 * NJY), abs=1e-6)
    assert report.table("Left out") == {"file or image": ["bad.fits"], "reason": ["truncated"]}
    assert report.table("Notes") == {"images": [2], "note": ["odd"]}
    path = report.write(tmp_path / "r")
    text = path.read_text()
    assert "## Completeness of metadata" in text
    assert "![exposures](exposures.png)" in text
    assert (path.parent / "exposures.png").stat().st_size > 10_000


def test_report_on_differences(stores: SimpleNamespace, tmp_path: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(main, ["image-report", stores.diff, "--out", str(tmp_path / "r")])
    assert done.exit_code == 0, done.output
    assert "good 2, refused 1" in done.output
    names = {path.name for path in (tmp_path / "r").iterdir()}
    assert names == {"report.md", "report.json", "noise.png", "typical.png", "worst.png"}
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert report["facts"]["verdicts"] == {"good": 2, "refused": 1}
    reasons = report["tables"]["Reasons"]
    assert reasons["first frame"] == ["e2"]
    measures = report["tables"]["Measures of quality"]
    at = measures["measure"].index("footprint_mean")
    assert (measures["accepted"][at], measures["beyond"][at]) == ("up to 0.2", 0)
    assert report["tables"]["Worst frames"]["frame"][0] == "e2"
    poor = skytrawl.image_report(stores.classic)
    assert poor.facts["verdicts"] == {"poor": 2}
    both = poor.table("Reasons")
    # Reasons that differ in their numbers alone are one.
    assert both["frames"] == [2]
    assert "the noise of S_corr is" in both["reason (of the first)"][0]


def test_report_on_candidates(stores: SimpleNamespace) -> None:
    done = CliRunner().invoke(main, ["image-report", stores.cand, "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    facts = report["facts"]
    assert (facts["candidates"], facts["brighter"], facts["fainter"]) == (6, 4, 2)
    assert sum(report["tables"]["|S_corr| (sigma)"]["brighter"]) == 4
    assert skytrawl.image_report(stores.cand).drawings[0][0] == "cutouts.png"


def test_reports_on_what_is_empty(tmp_path: Path) -> None:
    for kind in ("exposures", "references", "differences", "forced photometry"):
        FrameStore.create(tmp_path / kind, kind).publish([])
        report = skytrawl.image_report(tmp_path / kind)
        assert report.markdown().startswith(f"# {kind} of ")
        assert report.drawings == []
    FrameStore.create(tmp_path / "other", "other").publish([])
    with pytest.raises(ParameterError, match="holds other"):
        skytrawl.image_report(tmp_path / "other")
    with pytest.raises(ImageError, match="no difference image"):
        skytrawl.plot_noise(tmp_path / "differences")
