"""Whole images: seams, edges, masks, fields of varying PSF, and what cannot be subtracted."""

from dataclasses import replace

import numpy as np
import pytest
from pairs import half_width, make_pair, stamp
from scipy.ndimage import binary_dilation
from subtracted import peaks, planes, sides, subtract_pair

from skytrawl.errors import ParameterError
from skytrawl.kernels import flags
from skytrawl.kernels.difference import Side, fitting_tile, layout, subtract, tile_side
from skytrawl.kernels.difference.fill import fill
from skytrawl.kernels.difference.zogy import zogy
from skytrawl.kernels.psf import PsfModel
from skytrawl.kernels.resample.types import Planes


@pytest.fixture(scope="module")
def pair():
    return make_pair("B", 2, 480, max_flux=2e5, density=1 / 800, injections=[5.0, 8.0, 20.0, -10.0] * 4)


@pytest.fixture(scope="module")
def whole(pair):
    return subtract_pair(pair)


def test_tiles_equal_the_full_frame(pair, whole):
    tiled = subtract_pair(pair, tile=220, border=40)
    assert tiled.psf_d.shape[:2] == (3, 3)
    assert np.abs(tiled.scorr - whole.scorr).max() < 1e-3
    np.testing.assert_array_equal(tiled.bad, whole.bad)
    np.testing.assert_allclose(tiled.d, whole.d, atol=1e-2 * whole.d[200:280, 200:280].std())


def test_the_inside_does_not_know_of_the_edges(pair, whole):
    periodic = zogy(*sides(pair))
    assert np.abs(periodic.scorr - whole.scorr)[60:-60, 60:-60].max() < 1e-3


def test_edges_are_as_quiet_as_the_inside():
    rows = []
    for seed in range(3):
        found = subtract_pair(make_pair("B", seed, 480, density=1 / 400, max_flux=2e5))
        assert found.bad.mean() < 0.02
        assert sum(peaks(found)) <= 2
        rows.append(np.concatenate([found.scorr[2:6].ravel(), found.scorr[:, -6:-2].ravel()]))
    assert 0.8 < np.concatenate(rows).std() < 1.1


def cosmic_rays(shape, seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, np.uint16)
    for _ in range(60):
        y, x = rng.integers(10, np.array(shape) - 20)
        n = rng.integers(1, 9)
        angle = rng.uniform(0, np.pi)
        rows, columns = (
            np.rint(c + np.arange(n) * f(angle)).astype(int) for c, f in ((y, np.sin), (x, np.cos))
        )
        mask[rows, columns] = flags.COSMIC_RAY
    mask[:, 100] = mask[:, 300:302] = flags.BAD
    return mask


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e9, 1e7])
def test_what_stands_in_masked_pixels_does_not_matter(pair, value):
    mask = cosmic_rays((480, 480), 1)
    spoilt = planes(pair, "science", mask)
    spoilt = spoilt._replace(image=np.where(mask > 0, np.float32(value), spoilt.image))
    options = {
        "sigma_science": pair.sigma_science,
        "sigma_reference": pair.sigma_reference,
        "scale": pair.ratio,
    }
    psfs = PsfModel.constant(pair.psf_science), PsfModel.constant(pair.psf_reference)
    want = subtract(planes(pair, "science", mask), planes(pair, "reference"), *psfs, **options)
    got = subtract(spoilt, planes(pair, "reference"), *psfs, **options)
    assert np.isfinite(got.scorr).all()
    np.testing.assert_array_equal(got.scorr, want.scorr)


def test_masks_do_not_reach_beyond_the_psf(pair, whole):
    mask = cosmic_rays((480, 480), 2)
    mask[200:209, 200:209] = flags.SATURATED
    found = subtract_pair(pair, (mask, None))
    reach = max(half_width(w) for w in (pair.fwhm_science, pair.fwhm_reference))
    far = ~binary_dilation(mask > 0, np.ones((3, 3)), iterations=reach)
    far[:4] = far[-4:] = far[:, :4] = far[:, -4:] = (
        False  # filled from beyond the edge, by steps common to all
    )
    assert 0.01 < far.mean() < 0.9
    assert np.abs(found.scorr - whole.scorr)[far].max() < 0.01
    # And no more is called bad than rests on bad pixels.
    near = binary_dilation(mask > 0, np.ones((3, 3)), iterations=3)
    assert not (found.bad & ~near & ~whole.bad).any()


@pytest.mark.parametrize("case", ["A", "B"])
def test_masked_pixels_make_no_candidates(case):
    found, quiet = 0, []
    for seed in range(3):
        pair = make_pair(case, seed, 480)
        mask = cosmic_rays((480, 480), seed)
        pair.science[mask > 0] = 1e5
        difference = subtract_pair(pair, (mask, None))
        assert difference.bad.mean() < 0.05
        found += sum(peaks(difference))
        near = binary_dilation(mask > 0, iterations=5) & ~difference.bad
        quiet.append(difference.scorr[near])
    assert found <= 3
    assert abs(np.concatenate(quiet).std() - 1) < 0.05


def test_saturated_stars_make_few_candidates():
    total = 0
    for seed in range(3):
        pair = make_pair("A", seed, 480, max_flux=1e6)
        masks = []
        for name in ("science", "reference"):
            image = getattr(pair, name)
            core = binary_dilation(image > 5000, iterations=1)
            image[core] = 5000
            masks.append(np.where(core, flags.SATURATED, 0).astype(np.uint16))
        total += sum(peaks(subtract_pair(pair, (masks[0], masks[1]))))
    assert total <= 3


def test_holes_in_stars_are_filled_from_around_them():
    image = np.zeros((64, 64))
    profile = stamp(3.6, 20)
    image[12:53, 12:53] += 1e4 * profile
    bad = np.zeros(image.shape, bool)
    bad[32, 32] = bad[20, 33:35] = True
    side = Side(image.astype(np.float32), np.ones((64, 64), np.float32), profile, 1.0, bad=bad)
    for xp in (None, np):
        out = fill(side, xp=xp)
        assert np.abs(out.image - image)[bad].max() < 0.15 * image.max()
        np.testing.assert_array_equal(out.image[~bad], side.image[~bad])
        assert (out.variance[bad] > 1).all()
    assert fill(replace(side, bad=np.zeros_like(bad))).image is side.image


def test_a_field_of_varying_psf_has_no_seams():
    pair = make_pair("A", 4, 480, variation=0.3, density=1 / 300, max_flux=3e4)

    def model(name):
        # Linear in x between stamps 40 px from the borders.
        a, b = (pair.psf_at(name, x).astype(np.float64) for x in (40.0, 440.0))
        basis = np.stack([(a + b) / 2, (b - a) / 2, 0 * a])
        return PsfModel(np.float32(basis), 1, 240.0, 240.0, 200.0, 200.0)

    options = {
        "sigma_science": pair.sigma_science,
        "sigma_reference": pair.sigma_reference,
        "scale": pair.ratio,
        "gain_science": 1.0,
        "gain_reference": 1.0,
    }
    args = planes(pair, "science"), planes(pair, "reference"), model("science"), model("reference")
    fine = subtract(*args, tile=200, border=40, **options)
    one = subtract(*args, **options)
    assert sum(peaks(fine)) <= 2
    assert np.abs(one.scorr - fine.scorr).max() > 0.1
    # The blank-sky error has no stars in it: it follows the PSF in small steps.
    error = np.sqrt(fine.blank_variance) / fine.f_s
    assert 0 < np.abs(np.diff(error, axis=1)).max() < 0.03 * np.median(error)
    assert abs(fine.scorr[~fine.bad].std() - 1) < 0.04


def gaussian(sigma):
    line = np.arange(-15, 16)
    return np.exp(-0.5 * (line**2 + line[:, None] ** 2) / sigma**2) / (2 * np.pi * sigma**2)


@pytest.mark.parametrize("change", [0.0, 0.02, 0.1])
def test_tiles_fit_the_variation_of_the_psf(change):
    """Fluxes in the corners are right to 1 % where that does not take too small tiles."""
    flat = np.zeros((31, 31))
    model = PsfModel(
        np.float32([gaussian(1.5), flat, gaussian(1.5 * (1 + change)) - gaussian(1.5), flat, flat, flat]),
        2, 300.0, 300.0, 300.0, 300.0,
    )  # fmt: skip
    tile = fitting_tile((600, 600), (PsfModel.constant(gaussian(1.5)), model), 700, 20)
    assert tile == 700 if change == 0 else 120 <= tile < 700
    source = model.at(575.0, 300.0, size=31)
    image = np.zeros((600, 600), np.float32)
    image[285:316, 560:591] = 1000 * source
    side = Planes(image, np.ones_like(image), np.zeros(image.shape, np.uint16))
    empty = side._replace(image=np.zeros_like(image))
    words = {"sigma_science": 1.0, "sigma_reference": 0.1, "border": 20}
    flux = subtract(side, empty, model, PsfModel.constant(gaussian(1.2)), tile=tile, **words).flux[300, 575]
    assert abs(flux / 1000 - 1) < (0.01 if change < 0.1 else 0.03)
    if change:
        one = subtract(side, empty, model, PsfModel.constant(gaussian(1.2)), tile=700, **words)
        assert abs(one.flux[300, 575] / 1000 - 1) > max(2 * abs(flux / 1000 - 1), 0.01)


def test_a_prepared_reference_serves_many_images(pair, whole):
    cut = layout((480, 480))
    reference = tile_side(
        planes(pair, "reference"),
        PsfModel.constant(pair.psf_reference),
        cut,
        sigma=pair.sigma_reference,
        gain=1.0,
        keep=True,
    )
    for factor in (1.0, 2.0):
        image, variance, mask = planes(pair, "science")
        again = subtract(
            Planes(image * np.float32(factor), variance * np.float32(factor**2), mask),
            reference,
            PsfModel.constant(pair.psf_science),
            sigma_science=np.full((480, 480), pair.sigma_science * factor, np.float32),
            scale=pair.ratio * factor,
            gain_science=1.0 / factor,
        )
        assert np.abs(again.scorr - whole.scorr).max() < 1e-3
        np.testing.assert_allclose(again.flux_error, whole.flux_error * factor, rtol=1e-4)


def test_correlated_noise_is_allowed_for():
    pair = make_pair("A", 6, 480, n_stars=0)
    smooth = (pair.science + np.roll(pair.science, 1, 1)) / np.sqrt(2)  # pixel variance 1, power 2 at low k
    spoilt = planes(pair, "science")._replace(image=smooth)
    args = spoilt, planes(pair, "reference"), PsfModel.constant(pair.psf_science)
    options = {
        "psf_reference": PsfModel.constant(pair.psf_reference),
        "sigma_science": pair.sigma_science,
        "sigma_reference": pair.sigma_reference,
        "scale": pair.ratio,
    }
    plain = subtract(*args, **options)
    aware = subtract(*args, noise_correlation=(2.0, 1.0), **options)
    assert plain.scorr.std() > 1.1
    assert abs(aware.scorr.std() - 1) < 0.06


def test_an_image_of_nothing_is_bad_everywhere(pair):
    blank = np.full((480, 480), np.nan, np.float32)
    found = subtract(
        Planes(blank, blank, np.zeros((480, 480), np.uint16)),
        planes(pair, "reference"),
        PsfModel.constant(pair.psf_science),
        PsfModel.constant(pair.psf_reference),
        sigma_science=np.full((480, 480), np.nan, np.float32),
        sigma_reference=pair.sigma_reference,
    )
    assert found.bad.all()
    assert np.isfinite(found.scorr).all()


def test_images_of_another_shape_are_refused(pair):
    psf = PsfModel.constant(pair.psf_science)
    small = planes(make_pair("A", 0, 64), "reference")
    with pytest.raises(ParameterError, match=r"shape \(64, 64\), not \(480, 480\)"):
        subtract(planes(pair, "science"), small, psf, psf, sigma_science=20.0, sigma_reference=10.0)
    with pytest.raises(ParameterError, match="psf_reference"):
        subtract(planes(pair, "science"), small, psf, sigma_science=20.0)
    with pytest.raises(ParameterError, match="border"):
        layout((480, 480), 100, 40)


@pytest.mark.parametrize("shape", [(480, 480), (31, 700), (2048, 4096), (1, 1), (1025, 999)])
def test_tiles_cover_the_image(shape):
    cut = layout(shape, 512, 40)
    assert cut.y[0] == cut.x[0] == 0
    assert (cut.y[-1], cut.x[-1]) == shape
    for edges, side in ((cut.y, cut.tile[0]), (cut.x, cut.tile[1])):
        assert max(np.diff(edges)) + 2 * cut.border <= side < 1.3 * 512
