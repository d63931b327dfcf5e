"""Simulated exposures: right light in the right pixels, right noise, read by the ingest as real ones."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner
from scipy import integrate

from skytrawl.catalogs.images.exposure import read_exposures, wcs_of_frame
from skytrawl.catalogs.images.wcs import sky_to_pixel
from skytrawl.catalogs.simulate_images import read_truth, simulate_exposures
from skytrawl.catalogs.simulate_images.light import nova
from skytrawl.catalogs.simulate_images.sky import flux_of
from skytrawl.catalogs.simulate_images.surveys import MODELS
from skytrawl.cli import main
from skytrawl.errors import ParameterError
from skytrawl.kernels import flags
from skytrawl.kernels.render import MoffatField, add_galaxies
from skytrawl.kernels.render.detector import Detector, cosmic_rays, expose
from skytrawl.kernels.render.galaxies import sersic_mixture
from skytrawl.kernels.render.stamps import blurred, weigh

SURVEYS = {
    "ztf-like": ("ztf", "*_sciimg.fits"),
    "decam-like": ("decam", "*_ooi_*"),
    "lsst-like": ("lsst", "*"),
}


def field(fwhm: float, size: int = 101, e1: float = 0.1, e2: float = -0.05) -> MoffatField:
    one = np.array([1.0, 0, 0, 0, 0, 0])
    return MoffatField(fwhm * one, e1 * one, e2 * one, 3.5, (size, size))


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


@pytest.mark.parametrize("fwhm", [2.2, 4.0])
def test_a_point_source_is_integrated_over_each_pixel(fwhm: float) -> None:
    psf, x, y = field(fwhm), 50.3, 49.6
    image = np.zeros((101, 101))
    psf.add(image, np.array([x]), np.array([y]), np.array([1.0]), 200.0)
    xx, xy, yy = psf.quadratics(np.array([x]), np.array([y]))[0]
    norm = (psf.beta - 1) / np.pi * np.sqrt(xx * yy - xy**2)

    def light(v: float, u: float) -> float:
        return float(norm * (1 + xx * u * u + 2 * xy * u * v + yy * v * v) ** -psf.beta)

    for j, i in ((50, 50), (49, 50), (47, 53), (40, 55), (20, 20)):
        truth, _ = integrate.dblquad(light, i - 0.5 - x, i + 0.5 - x, j - 0.5 - y, j + 0.5 - y, epsabs=1e-14)
        assert image[j, i] == pytest.approx(truth, rel=1e-4)
    assert image.sum() == pytest.approx(1.0, abs=1e-5)
    # The half of the flux above half maximum, without pixels, lies within the stated width.
    covariance = psf.covariances(np.array([x]), np.array([y]))[0]
    area = np.sqrt(covariance[0] * covariance[2] - covariance[1] ** 2) * 4 * (2 ** (1 / psf.beta) - 1)
    assert np.sqrt(area) == pytest.approx(fwhm, rel=1e-6)


@pytest.mark.parametrize("fwhm", [2.2, 3.5])
def test_a_galaxy_without_size_is_a_point_and_one_with_size_is_its_convolution(fwhm: float) -> None:
    psf, x, y = field(fwhm, 141), np.array([70.3]), np.array([69.6])
    point, drawn = np.zeros((141, 141)), np.zeros((141, 141))
    psf.add(point, x, y, np.ones(1), 200.0)
    covariance = psf.covariances(x, y)
    add_galaxies(drawn, x, y, np.ones(1), np.full((1, 3), 1e-12), np.ones(1), covariance, 3.5, fwhm)
    assert np.abs(drawn - point).max() < 1e-4 * point.max()

    # Against a sum over many points of the galaxy itself, here its Gaussians sampled by quadrature.
    axes = np.array([[2.0, 0.3], [0.0, 1.2]])
    whole = axes @ axes.T
    shape = np.array([[whole[0, 0], whole[0, 1], whole[1, 1]]])
    galaxy = np.zeros((141, 141))
    add_galaxies(galaxy, x, y, np.ones(1), shape, np.array([0.5]), covariance, 3.5, fwhm)
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    _, (sigma,) = sersic_mixture(0.5)
    u, v = (sigma * part.ravel() for part in np.meshgrid(nodes, nodes))
    share = np.outer(weights, weights).ravel() / (2 * np.pi)
    places = axes @ np.stack([u, v])
    summed = np.zeros((141, 141))
    psf.add(summed, x[0] + places[0], y[0] + places[1], share, 200.0)
    assert galaxy.sum() == pytest.approx(1.0, abs=1e-4)
    assert np.abs(galaxy - summed).max() < 3e-4 * summed.max()

    # And a stamp of the PSF convolved with it, as injection does it.
    at = psf.at(70.3, 69.6, dx=float(x[0] - 70), dy=float(y[0] - 70), size=61)
    stamp = blurred(at[None], shape, np.array([0.5]))[0]
    half = stamp.shape[0] // 2
    assert np.abs(stamp - galaxy[70 - half : 71 + half, 70 - half : 71 + half]).max() < 2e-3 * galaxy.max()


@pytest.mark.parametrize("index", [0.5, 1.0, 2.0, 4.0])
def test_the_gaussians_of_a_sersic_profile(index: float) -> None:
    weight, sigma = sersic_mixture(index)
    inside = 1 - weight @ np.exp(-0.5 / sigma**2)
    assert inside == pytest.approx(0.5, abs=1e-9)
    assert weight.sum() == pytest.approx(1.0)
    assert (weight > 0).all()
    if index == 1.0:
        r = np.linspace(0.1, 2.5, 50)
        profile = np.exp(-0.5 * (r[:, None] / sigma) ** 2) @ (weight / sigma**2)
        exact = np.exp(-1.678 * r)
        assert np.abs(profile / profile[10] / (exact / exact[10]) - 1).max() < 0.03


def test_noise_is_that_of_photons_and_amplifier() -> None:
    detector = Detector(gain=2.5, read_noise=6.0, saturation=1e6)
    generator = np.random.default_rng(1)
    for level in (0.0, 3.0, 400.0, 20_000.0):
        image, mask = expose(generator, np.full((500, 500), level, np.float32), detector)
        sigma = np.sqrt(level + 36.0)
        assert image.mean() * 2.5 == pytest.approx(level, abs=4 * sigma / 500)
        assert image.var() * 6.25 == pytest.approx(level + 36.0, rel=4 * np.sqrt(2) / 500)
        assert not mask.any()


def test_full_wells_spill_along_columns_and_keep_their_charge() -> None:
    expected = np.full((300, 60), 50.0, np.float32)
    field(3.0, 300, 0, 0).add(expected, np.array([30.0]), np.array([150.0]), np.array([6e6]), 40.0)
    detector = Detector(gain=2.0, read_noise=0.0, saturation=40_000.0)
    image, mask = expose(np.random.default_rng(2), expected, detector)
    total = float(expected.sum(dtype=float))
    assert image.sum(dtype=float) * 2 == pytest.approx(total, abs=6 * np.sqrt(total))
    full = (mask & flags.SATURATED) != 0
    assert image.max() == 40_000.0
    assert (image[full] == 40_000.0).all()
    assert full[150, 30]
    rows = np.flatnonzero(full[:, 30])
    assert len(rows) > 3 * np.flatnonzero(full[150]).size
    assert abs(rows.mean() - 150) < 2
    assert ((mask & flags.BLEED) != 0).any(axis=0)[27:34].any()


def test_cosmic_rays_leave_the_charge_of_their_path() -> None:
    detector = Detector(4.0, 10.0, 44_000.0, thickness=250 / 15, pixel=15.0)
    charge = cosmic_rays(np.random.default_rng(0), (2048, 2048), 400, detector)
    # The mean path of the cos^2 law is 4/3 of the depth; a few leave at the edge, the longest are cut.
    assert charge.sum() / 400 == pytest.approx(80 * 250 * 4 / 3, rel=0.15)
    assert 400 * 5 < (charge > 0).sum() < 400 * 120


def test_signal_to_noise_is_that_of_optimal_weights() -> None:
    psf = field(3.0)
    stamp = psf.stamps(np.array([50.2]), np.array([49.7]), 31)
    variance = np.full((101, 101), 9.0, np.float32)
    snr, share = weigh(variance, np.zeros((101, 101), bool), stamp, *np.array([[50.2], [49.7], [300.0]]))
    assert snr[0] == pytest.approx(300 * np.sqrt(np.square(stamp, dtype=float).sum() / 9), rel=1e-6)
    assert share[0] == pytest.approx(1.0)
    half = np.zeros((101, 101), bool)
    half[:, :50] = True
    assert 0.2 < weigh(variance, half, stamp, *np.array([[50.2], [49.7], [300.0]]))[1][0] < 0.8


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
