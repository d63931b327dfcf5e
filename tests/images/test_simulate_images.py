"""Simulated exposures: right light in the right pixels, right noise, read by the ingest as real ones."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner

from skytrawl.catalogs.images.exposure import read_exposures, wcs_of_frame
from skytrawl.catalogs.images.wcs import sky_to_pixel
from skytrawl.catalogs.simulate_images import read_truth, simulate_exposures
from skytrawl.catalogs.simulate_images.light import nova
from skytrawl.catalogs.simulate_images.sky import flux_of
from skytrawl.catalogs.simulate_images.surveys import MODELS
from skytrawl.cli import main
from skytrawl.errors import ParameterError
from skytrawl.kernels import flags
from skytrawl.kernels.render import MoffatField

SURVEYS = {
    "ztf-like": ("ztf", "*_sciimg.fits"),
    "decam-like": ("decam", "*_ooi_*"),
    "lsst-like": ("lsst", "*"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for kind in SURVEYS:
        found[kind] = tmp_path_factory.mktemp(kind)
        simulate_exposures(kind, found[kind], 2, size=256, seed=3, moving=2, cosmic_rays=8, workers=2)
    return found


def frames(folders: dict[str, Path], kind: str) -> list:
    survey, pattern = SURVEYS[kind]
    return [frame for path in sorted(folders[kind].glob(pattern)) if path.is_file()
            for frame in read_exposures(path, survey)]  # fmt: skip


@pytest.mark.parametrize("kind", SURVEYS)
def test_the_ingest_reads_them_as_real_ones(folders: dict[str, Path], kind: str) -> None:
    found, truth = frames(folders, kind), read_truth(folders[kind], "exposures")
    assert [frame.id for frame in found] == [name.decode() for name in truth["exposure"]]
    model = MODELS[kind]
    for number, frame in enumerate(found):
        row, arrays = frame.row, frame.arrays
        assert row["mjd"] == pytest.approx(truth["mjd"][number], abs=1e-6)
        assert row["band"] == "r"
        assert row["checksum"] == "ok"
        assert row["survey"] == model.survey
        assert row["njy_per_unit"] == pytest.approx(truth["njy_per_unit"][number], rel=1e-4)
        assert row["fwhm"] == pytest.approx(truth["fwhm"][number], rel=0.01)
        assert row["pixel_scale"] == pytest.approx(model.pixel_scale, rel=0.01)
        assert row["exptime"] == pytest.approx(model.exposure_time, abs=1e-4)
        if not model.calibrated:
            assert row["gain"] == model.gain
            assert row["read_noise"] == model.read_noise
        mask = arrays["mask"]
        assert (mask & flags.BAD != 0).any()
        assert (mask & flags.COSMIC_RAY != 0).any()
        assert 0.9 < row["usable"] < 1
        assert frame.attrs["mask_from"]
        assert frame.attrs["variance_from"]


@pytest.mark.parametrize("kind", SURVEYS)
def test_blank_sky_has_the_noise_that_gain_and_variance_say(tmp_path: Path, kind: str) -> None:
    simulate_exposures(kind, tmp_path, 2, size=512, seed=7, density=0, variables=0, cosmic_rays=0)
    rows, model = read_truth(tmp_path, "exposures"), MODELS[kind]
    for number, frame in enumerate(frames({kind: tmp_path}, kind)):
        # From neighbours, so that slopes do not matter.
        spread = float(np.median(np.diff(frame.arrays["image"], axis=1) ** 2)) / 2 / 0.4549
        gain = rows["gain"][number]
        assert spread == pytest.approx(rows["sky"][number] / gain + (model.read_noise / gain) ** 2, rel=0.03)
        if kind != "ztf-like":  # which delivers no noise
            assert spread == pytest.approx(np.nanmedian(frame.arrays["variance"]), rel=0.03)


@pytest.mark.parametrize("kind", SURVEYS)
def test_stars_stand_where_the_header_says_with_their_flux(tmp_path: Path, kind: str) -> None:
    model = MODELS[kind]
    side = 700 * model.pixel_scale / 3600
    # About ten stars, none of them faint, and nothing else.
    bright = replace(model.bands["r"], depth=model.bands["r"].depth - 4)
    alone = replace(
        model, bands={"r": bright}, galaxies=(0.0, 0.3, 17.0), stars=(8.0 / side**2, 0.2, bright.depth - 2)
    )
    nothing = {"variables": 0, "supernovae": 0, "novae": 0, "moving": 0}
    simulate_exposures(alone, tmp_path, 1, size=700, seed=4, cosmic_rays=0, astrometry_error=0, **nothing)
    sources, exposures = read_truth(tmp_path, "sources"), read_truth(tmp_path, "exposures")
    (frame,) = frames({kind: tmp_path}, kind)
    x, y = sky_to_pixel(wcs_of_frame(frame), sources["ra"], sources["dec"])
    image, mask = frame.arrays["image"].astype(float), frame.arrays["mask"]
    reach = 3 * frame.row["fwhm"]
    v, u = np.indices(image.shape)
    pulls, ratios, errors = [], [], []
    for row in range(len(x)):
        away = np.hypot(u - x[row], v - y[row])
        disc, ring = away < reach, (away > 1.5 * reach) & (away < 2 * reach)
        alone_there = (np.hypot(x - x[row], y - y[row]) < 3 * reach).sum() == 1
        inside = reach < x[row] < 699 - reach and reach < y[row] < 699 - reach
        if not (alone_there and inside) or (mask[disc] & flags.UNUSABLE).any():
            continue
        light = np.where(disc, image - np.mean(image[ring & ((mask & flags.UNUSABLE) == 0)]), 0.0)
        total, noise = light.sum(), np.sqrt(frame.arrays["variance"][disc].sum())
        ratios.append(total / (sources["flux"][row] / exposures["njy_per_unit"][0]))
        # Errors of the centroid grow with the noise of far pixels.
        error = np.sqrt((frame.arrays["variance"] * (u - x[row]) ** 2)[disc].sum()) / total
        pulls += [((light * u).sum() / total - x[row]) / error, ((light * v).sum() / total - y[row]) / error]
        errors.append(1.25 * noise / total)
    assert len(ratios) >= 4
    # What falls into the disc of a round PSF, less what the ring takes from it.
    core = exposures["fwhm_optics"][0] / (2 * np.sqrt(2 ** (1 / exposures["beta"][0]) - 1))
    first, second, third = (
        1 - (1 + (k * reach / core) ** 2) ** (1 - exposures["beta"][0]) for k in (1, 1.5, 2)
    )
    expected = first - (third - second) / 1.75
    assert np.abs((np.array(ratios) / expected - 1) / np.hypot(errors, 0.003)).max() < 5
    assert np.abs(pulls).max() < 5


@pytest.mark.parametrize("kind", SURVEYS)
def test_fluxes_fitted_with_the_true_psf_are_those_of_the_truth(tmp_path: Path, kind: str) -> None:
    counts = {"variables": 15, "supernovae": 30, "novae": 15, "moving": 0}
    simulate_exposures(kind, tmp_path, 3, size=700, seed=8, density=0, psf_variation=0, dither=0, **counts)
    truth, rows = read_truth(tmp_path), read_truth(tmp_path, "exposures")
    pulls, ratios, below = [], [], 0
    for number, frame in enumerate(frames({kind: tmp_path}, kind)):
        psf = MoffatField.constant(rows["fwhm_optics"][number], rows["beta"][number], (700, 700))
        gain, noise = rows["gain"][number], MODELS[kind].read_noise
        mine = np.flatnonzero(truth["exposure"] == rows["exposure"][number])
        for row in mine:
            x, y = truth["x"][row], truth["y"][row]
            near = np.hypot(truth["x"][mine] - x, truth["y"][mine] - y) < 40
            i, j = round(x), round(y)
            if near.sum() > 1 or not (20 <= i < 680 and 20 <= j < 680) or truth["confidence"][row] < 0.999:
                continue
            at = (slice(j - 15, j + 16), slice(i - 15, i + 16))
            light = psf.stamps(np.array([x]), np.array([y]), 31)[0].astype(float).ravel()
            v, u = (part.ravel() - 15.0 for part in np.indices((31, 31)))
            variance = (rows["sky"][number] + truth["flux_image"][row] * light) / gain + (noise / gain) ** 2
            # Source and a sloping sky; cosmic rays and neighbours are masked.
            usable = (frame.arrays["mask"][at] & flags.UNUSABLE).ravel() == 0
            base = np.stack([light, np.ones(961), u, v], axis=1)[usable]
            weight = 1 / variance[usable]
            normal = np.linalg.inv((base.T * weight) @ base)
            flux = (normal @ (base.T * weight) @ frame.arrays["image"][at].astype(float).ravel()[usable])[0]
            pulls.append((flux - truth["flux_image"][row]) / np.sqrt(normal[0, 0]))
            below += truth["snr"][row] < 3
            if truth["snr"][row] > 20:
                ratios.append(truth["flux_image"][row] / np.sqrt(normal[0, 0]) / truth["snr"][row])
    count = len(pulls)
    assert count > 40
    assert below > 10
    assert np.mean(pulls) == pytest.approx(0, abs=3.5 / np.sqrt(count))
    assert np.std(pulls) == pytest.approx(1, abs=3.5 / np.sqrt(2 * count))
    # The expected signal-to-noise is that of a known sky; fitting it costs a little.
    assert 0.8 < np.median(ratios) < 1.0


def test_truth_has_a_row_for_what_changes_on_every_exposure(folders: dict[str, Path]) -> None:
    truth = read_truth(folders["ztf-like"])
    assert set(truth) >= {
        "id",
        "type",
        "ra",
        "dec",
        "x",
        "y",
        "mjd",
        "flux",
        "flux_image",
        "snr",
        "confidence",
    }
    assert set(np.unique(truth["type"])) & {b"supernova", b"sine"}
    exposures = read_truth(folders["ztf-like"], "exposures")
    unit = dict(zip(exposures["exposure"], exposures["njy_per_unit"], strict=True))
    assert np.allclose(truth["flux_image"] * [unit[name] for name in truth["exposure"]], truth["flux"])
    assert (truth["quiescent"][truth["type"] == b"supernova"] == 0).all()
    assert ((truth["confidence"] >= 0) & (truth["confidence"] <= 1)).all()
    assert truth["confidence"].max() > 0.99
    dark = truth["flux"] == 0
    assert (truth["snr"][dark] == 0).all()
    assert (truth["snr"][~dark] > 0).all()


def test_a_seed_gives_the_same_files_whatever_the_number_of_workers(tmp_path: Path) -> None:
    for name, workers, seed in (("a", 1, 5), ("b", 3, 5), ("c", 1, 6)):
        simulate_exposures(
            "decam-like", tmp_path / name, 3, size=96, seed=seed, workers=workers, truth_format="csv"
        )
    first, second, other = (
        [path.read_bytes() for path in sorted((tmp_path / name).rglob("*")) if path.is_file()]
        for name in "abc"
    )

    def pixels(folder: str) -> list[np.ndarray]:
        return [fits.getdata(path, 1) for path in sorted((tmp_path / folder).glob("*.fits"))]

    assert len(first) == len(second) == len(other) == 12
    assert all(np.array_equal(a, b) for a, b in zip(pixels("a"), pixels("b"), strict=True))
    assert first[-3:] == second[-3:]
    assert not all(np.array_equal(a, b) for a, b in zip(pixels("a"), pixels("c"), strict=True))
    # The tables in CSV hold what those in Parquet do.
    assert set(np.unique(read_truth(tmp_path / "a")["exposure"])) <= {
        path.stem.encode() for path in (tmp_path / "a").glob("*_ooi_*")
    }


def test_exposures_differ_in_seeing_sky_and_place_within_the_bounds(tmp_path: Path) -> None:
    simulate_exposures("ztf-like", tmp_path, 8, size=64, seeing=(2.2, 4.0), dither=0.2, density=0, seed=1)
    rows = read_truth(tmp_path, "exposures")
    assert rows["fwhm_optics"].min() >= 2.2
    assert rows["fwhm_optics"].max() <= 4.0
    assert np.ptp(rows["fwhm_optics"]) > 0.5
    # Pixels blur by about the width of their box.
    blur = np.sqrt(rows["fwhm"] ** 2 - rows["fwhm_optics"] ** 2)
    assert ((blur > 0.5) & (blur < 1.0)).all()
    assert np.ptp(rows["sky"]) > 20
    assert (np.diff(rows["mjd"]) > 0).all()
    assert np.ptp(rows["zero_point"]) > 0.02
    assert (rows["zero_point"] == rows["zero_point_header"]).all()


def test_a_nova_rises_fades_by_two_magnitudes_in_t2_and_goes_on() -> None:
    from skytrawl.catalogs.simulate_curves import Sight

    sight = Sight(np.array([-5.0, -1.0, 0.0, 20.0, 200.0]), np.ones(5), 15, 20, 31.4)
    values = {"t0": np.zeros(1), "rise": np.full(1, 2.0), "t2": np.full(1, 20.0), "peak": np.full(1, 18.0)}
    flux = nova(np.zeros((1, 5)), sight, values)[0] / flux_of(np.array(18.0))
    assert flux[:3].tolist() == [0.0, 0.5, 1.0]
    assert -2.5 * np.log10(flux[3]) == pytest.approx(2.0)
    assert flux[4] / flux[3] == pytest.approx(((1 + 10 * 1.865) / (1 + 1.865)) ** -1.75, rel=1e-3)


@pytest.mark.parametrize(
    ("words", "say"),
    [
        ({"kind": "hst-like"}, "no simulated image survey"),
        ({"band": "q"}, "no band 'q'"),
        ({"size": 10}, "size=10"),
        ({"seeing": (4, 2)}, "seeing"),
        ({"exposures": 0}, "exposures=0"),
        ({"truth_format": "xlsx"}, "no truth format"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_is_written(
    tmp_path: Path, words: dict, say: str
) -> None:
    target = tmp_path / "new"
    with pytest.raises(ParameterError, match=say):
        simulate_exposures(**({"kind": "ztf-like", "path": target, "exposures": 1, "size": 64} | words))
    assert not target.exists()


def test_the_command_writes_and_does_not_write_twice(tmp_path: Path) -> None:
    words = [
        "simulate-images",
        "lsst-like",
        str(tmp_path / "x"),
        "--exposures",
        "1",
        "--size",
        "64",
        "--json",
    ]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["exposures"] == 1
    assert said["sources"]["supernova"] == 20
    assert len(list((tmp_path / "x").glob("*.fits"))) == 1
    again = CliRunner().invoke(main, words)
    assert again.exit_code == 1
    assert "holds FITS files already" in again.output
