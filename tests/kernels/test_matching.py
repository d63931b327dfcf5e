"""Matching kernels: what is put in comes out, and the noise of the difference is as predicted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pairs import Pair, make_pair
from real_pairs import peaks, scatter
from scipy.ndimage import gaussian_filter
from scipy.signal import oaconvolve

from skytrawl.errors import ImageError, ParameterError
from skytrawl.kernels.difference import decorrelate
from skytrawl.kernels.difference.basis import KernelBasis, delta_basis, gaussian_basis
from skytrawl.kernels.difference.classic import classic_difference, gaussian_match
from skytrawl.kernels.difference.matched import matched_difference
from skytrawl.kernels.difference.matching import match_kernel
from skytrawl.kernels.difference.nodes import place_nodes
from skytrawl.kernels.difference.residuals import ModelError, fit_model_error
from skytrawl.kernels.difference.stamps import choose_stamps
from skytrawl.kernels.difference.types import Side


def sides(pair: Pair) -> tuple[Side, Side]:
    return side(pair, "science"), side(pair, "reference")


def side(pair: Pair, which: str, image: np.ndarray | None = None, bad: np.ndarray | None = None) -> Side:
    image = getattr(pair, which) if image is None else image
    psf, sigma = getattr(pair, f"psf_{which}"), getattr(pair, f"sigma_{which}")
    return Side(image, pair.data_variance(which), psf, sigma, bad=bad, gain=1.0)


def field(seed: int = 0, size: int = 256, count: int = 40) -> np.ndarray:
    """Stars on an empty sky, without noise."""
    rng = np.random.default_rng(seed)
    image = np.zeros((size, size))
    y, x = rng.integers(0, size, (2, count))
    image[y, x] = rng.uniform(1e4, 1e5, count)
    return gaussian_filter(image, 1.3, mode="constant").astype(np.float32)


@given(st.integers(0, 6), st.integers(0, 6))
def test_a_delta_basis_covers_every_pixel_once(half: int, core: int) -> None:
    basis = delta_basis(half, core)
    assert np.array_equal(basis.planes.sum(axis=0), np.ones((2 * half + 1, 2 * half + 1)))
    assert basis.is_delta or core < half
    if core < half:
        assert len(basis) <= (2 * half + 1) ** 2
        # The wings lie alike on all sides.
        sizes = (basis.planes * basis.planes.sum(axis=(1, 2))[:, None, None]).sum(axis=0)
        assert np.array_equal(sizes, sizes[::-1, ::-1])


def test_bases_that_are_none() -> None:
    with pytest.raises(ParameterError, match="odd side"):
        KernelBasis(np.ones((3, 4, 4)))
    with pytest.raises(ParameterError, match="half width"):
        delta_basis(-1)
    with pytest.raises(ParameterError, match="one degree for each"):
        gaussian_basis(5, (1.0, 2.0), (1,))
    assert len(gaussian_basis(9)) == 15 + 6 + 6


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_any_kernel_comes_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 0.02, (5, 5)) + 0.3 * np.exp(-np.hypot(*np.mgrid[-2:3, -2:3]))
    reference = field(seed % 1000)
    science = oaconvolve(reference, true.astype(np.float32), mode="same") + np.float32(20)
    noise = np.ones(reference.shape, np.float32), np.full(reference.shape, 1e-6, np.float32)
    none = np.zeros(reference.shape, np.bool_)
    found = match_kernel(science, reference, noise, none, half_width=3, direction="reference", decay=10.0)
    assert found.at(100, 100)[1:-1, 1:-1] == pytest.approx(true, abs=2e-3)
    assert found.scale() == pytest.approx(true.sum(), rel=2e-3)
    assert np.median(found.background_image()) == pytest.approx(20, abs=0.5)


@pytest.mark.parametrize("degree", [1, 2])
def test_a_kernel_that_varies_over_the_field(degree: int) -> None:
    reference = field(3, 512, 300)
    x = np.linspace(-1, 1, 512, dtype=np.float32)[None, :]
    y = x.T
    weight = 0.2 + 0.1 * x + (0.1 * x * y if degree == 2 else 0.05 * y)
    shifted = np.roll(reference, 1, axis=1)
    science = 0.8 * reference + weight.astype(np.float32) * shifted
    noise = np.ones(reference.shape, np.float32), np.full(reference.shape, 1e-6, np.float32)
    none = np.zeros(reference.shape, np.bool_)
    found = match_kernel(science, reference, noise, none, half_width=2, degree=degree, direction="reference")
    for a, b in ((20, 20), (500, 30), (256, 400), (480, 480)):
        assert found.at(a, b)[2, 3] == pytest.approx(weight[b, a], abs=0.01)
        assert found.at(a, b)[2, 2] == pytest.approx(0.8, abs=0.01)
    residual = (science - found.convolve(reference) - found.background_image())[5:-5, 5:-5]
    assert np.abs(residual).max() < 0.01 * reference.max()


def test_noise_of_the_convolved_image_does_not_blur_the_kernel() -> None:
    rng = np.random.default_rng(5)
    truth = field(5, 512, 1500) / 100
    noisy = [truth + rng.normal(0, 5, truth.shape).astype(np.float32) for _ in range(2)]
    plane = np.full(truth.shape, 25, np.float32)
    none = np.zeros(truth.shape, np.bool_)
    found = match_kernel(noisy[0], noisy[1], (plane, plane), none, half_width=3, direction="reference")
    assert found.scale() == pytest.approx(1, abs=0.015)
    star = np.zeros((15, 15))
    star[7, 7] = 1.0
    star = gaussian_filter(star, 1.3)
    assert oaconvolve(star, found.middle, mode="same")[7, 7] == pytest.approx(star[7, 7], rel=0.03)


def test_transients_and_bad_pixels_do_not_enter() -> None:
    reference = field(1)
    science = reference.copy()
    science[100:104, 50:54] += 3e4
    bad = np.zeros(reference.shape, np.bool_)
    bad[150:152, 90:95] = True
    science[bad] = np.nan
    noise = np.ones(reference.shape, np.float32), np.full(reference.shape, 1e-6, np.float32)
    found = match_kernel(science, reference, noise, bad, half_width=3, direction="reference")
    assert found.scale() == pytest.approx(1, abs=2e-3)


def test_nothing_to_match() -> None:
    empty = np.zeros((128, 128), np.float32)
    noise = np.ones_like(empty)
    none = np.zeros(empty.shape, np.bool_)
    with pytest.raises(ImageError, match="no pixel with the light"):
        match_kernel(empty, empty, (noise, noise), none)
    with pytest.raises(ImageError, match="no block"):
        choose_stamps(np.eye(128, dtype=np.bool_) & (np.arange(128) < 5))
    image = field(2, 128)
    with pytest.raises(ParameterError, match=r"\[n, 2\]"):
        match_kernel(image, image, (noise, noise), none, np.zeros(3))
    found = match_kernel(image, image, (noise, noise), none, half_width=2)
    with pytest.raises(ParameterError, match="shape"):
        found.convolve(empty[:64])


@given(st.integers(1, 5), st.integers(20, 60), st.integers(20, 60))
def test_weights_of_nodes_sum_to_one(count: int, ny: int, nx: int) -> None:
    total = np.zeros((ny, nx), np.float32)
    for node in place_nodes((ny, nx), count):
        total[node.rows, node.columns] += node.weight
    assert total == pytest.approx(np.ones((ny, nx)), abs=1e-6)


def test_correlation_of_noise_is_measured_on_a_difference() -> None:
    rng = np.random.default_rng(0)
    blur = np.array([[0.02, 0.1, 0.02], [0.1, 0.6, 0.1], [0.02, 0.1, 0.02]])
    true = decorrelate.convolved(blur, blur)
    correlated = oaconvolve(rng.normal(0, 1, (700, 700)), blur, mode="same").astype(np.float32)
    kernel = np.exp(-0.5 * np.hypot(*np.mgrid[-3:4, -3:4]) ** 2)
    kernel /= kernel.sum()
    other = rng.normal(0, 0.5, correlated.shape).astype(np.float32)
    d = oaconvolve(correlated, kernel.astype(np.float32), mode="same") + other
    plane = np.full(correlated.shape, true[2, 2], np.float32)
    sky = np.ones(correlated.shape, np.bool_)
    rho, amplitude = decorrelate.noise_correlation(d, correlated, plane, sky, kernel, 3)
    assert amplitude == pytest.approx(1, abs=0.05)
    assert rho[1:-1, 1:-1] == pytest.approx(true / true[2, 2], abs=0.06)
    with pytest.raises(ImageError, match="fewer than 1000"):
        decorrelate.noise_correlation(d, correlated, plane, np.zeros_like(sky), kernel)


def test_variance_of_a_weighted_sum_of_correlated_noise() -> None:
    rng = np.random.default_rng(1)
    blur = np.array([[0.05, 0.1, 0.05], [0.1, 0.6, 0.1], [0.05, 0.1, 0.05]])
    rho = decorrelate.convolved(blur, blur)
    norm = rho[2, 2]
    y, x = np.mgrid[:300, :300]
    sigma = 2 + np.sin(x / 20) + 0.5 * np.cos(y / 13)
    noise = oaconvolve(rng.normal(0, 1, (40, 300, 300)), blur[None], mode="same", axes=(1, 2))
    noise *= sigma / np.sqrt(norm)
    weights = np.exp(-0.5 * np.hypot(*np.mgrid[-5:6, -5:6]) ** 2 / 2.25)
    sums = oaconvolve(noise, weights[None], mode="same", axes=(1, 2))
    plane = oaconvolve(sigma**2, decorrelate.variance_kernel(weights, rho / norm)[::-1, ::-1], mode="same")
    ratio = (sums.var(axis=0, ddof=1) / plane)[10:-10, 10:-10]
    assert np.mean(ratio) == pytest.approx(1, abs=0.02)
    # Also where the noise rises and falls.
    for low in range(10, 290, 70):
        assert np.mean(ratio[:, low - 10 : low + 10]) == pytest.approx(1, abs=0.08)


def test_the_error_of_a_model_is_found() -> None:
    rng = np.random.default_rng(2)
    modelled = field(7, 400, 60)
    score = (0.03 * rng.normal(size=(8, 8)).repeat(50, 0).repeat(50, 1) * modelled).astype(np.float32)
    score += rng.normal(0, 1, score.shape).astype(np.float32)
    ones = np.ones(score.shape, np.float32)
    found = fit_model_error(score, ones, (modelled, modelled + score), ones > 0)
    total = ones + found.variance(modelled, modelled + score)
    bright = modelled > 200
    assert np.mean((score**2 / total)[bright]) == pytest.approx(1, abs=0.3)
    assert fit_model_error(score, ones, (0 * modelled, score), ones > 0) == ModelError()


@pytest.mark.parametrize("case", ["A", "B", "C"])
def test_simulated_pairs(case: str) -> None:
    snr = [10, -10] * 20 + [5] * 30
    pair = make_pair(case, 11, size=480, injections=snr)
    found = matched_difference(*sides(pair))
    assert found.kernel.direction == ("science" if case == "B" else "reference")
    x, y = (np.rint(pair.injected[name]).astype(int) for name in ("x", "y"))
    snr_ = pair.injected["snr"]
    away = np.ones(found.scorr.shape, np.bool_)
    for a, b in zip(x, y, strict=True):
        away[max(b - 12, 0) : b + 13, max(a - 12, 0) : a + 13] = False
    quiet = away & ~found.bad
    assert found.scorr[quiet].std() == pytest.approx(1, abs=0.05)
    assert peaks(np.where(away, found.scorr, 0), found.bad) <= 2
    assert found.amplitude_science == pytest.approx(1, abs=0.07)
    assert found.amplitude_reference == pytest.approx(1, abs=0.07)
    got = found.scorr[y, x]
    assert (got[snr_ == 10] > 5).mean() >= 0.95
    assert (got[snr_ == -10] < -5).mean() >= 0.95
    # Reading at whole pixels costs 3 %.
    assert np.mean(got[snr_ == 5]) == pytest.approx(4.9, abs=0.5)
    ratio = found.flux[y, x] / pair.injected["flux"]
    assert np.mean(ratio[np.abs(snr_) == 10]) == pytest.approx(0.98, abs=0.04)


def test_sources_on_whole_pixels_keep_their_flux() -> None:
    rng = np.random.default_rng(3)
    x, y = (plane.ravel() * 60.0 + 50 for plane in np.meshgrid(np.arange(8), np.arange(8)))
    flux = np.where(rng.random(64) < 0.5, 3e3, -3e3)
    pair = make_pair("A", 4, size=520, density=1 / 2500, injections=list(zip(x, y, flux, strict=True)))
    found = matched_difference(*sides(pair))
    near = ((pair.stars["x"][:, None] - x) ** 2 + (pair.stars["y"][:, None] - y) ** 2).min(axis=0) < 15**2
    ratio = (found.flux[y.astype(int), x.astype(int)] / flux)[~near]
    assert np.mean(ratio[flux[~near] > 0]) == pytest.approx(1, abs=0.03)
    # A source of the reference is seen through the kernel, which a hundred stars tell to 2 or 3 %.
    assert np.mean(ratio[flux[~near] < 0]) == pytest.approx(1, abs=0.04)


def test_a_psf_that_varies_needs_a_kernel_that_varies() -> None:
    # The same sky twice; only the PSF of the science image varies over the field.
    common = {"size": 400, "density": 1 / 500, "max_flux": 5e5}
    science = side(make_pair("A", 6, variation=0.5, **common), "science")
    reference = side(make_pair("A", 6, **common), "reference")
    kernels = [match_kernel_of(science, reference, degree) for degree in (0, 1, 2)]
    counts: list[int] = []
    for kernel in kernels:
        found = matched_difference(science, reference, kernel, model_error=False)
        counts.append(peaks(found.scorr, found.bad))
    assert counts[0] > 10, counts
    assert max(counts[1:]) <= 2, counts
    # With a kernel that cannot follow, the error of the model keeps most of it below the threshold.
    found = matched_difference(science, reference, kernels[0])
    assert found.model_error.flux + found.model_error.width > 0.01
    assert peaks(found.scorr, found.bad) <= counts[0] // 4


def match_kernel_of(science: Side, reference: Side, degree: int):
    none = np.zeros(science.image.shape, np.bool_)
    variances = science.variance, reference.variance
    return match_kernel(
        science.image, reference.image, variances, none, half_width=6, degree=degree, direction="reference"
    )


def test_bad_pixels_reach_no_further_than_their_kernel() -> None:
    pair = make_pair("A", 8, size=320)
    science, reference = sides(pair)
    clean = matched_difference(science, reference)
    bad = np.zeros(pair.science.shape, np.bool_)
    bad[200:203, 180:184] = True
    image, other = pair.science.copy(), pair.reference.copy()
    image[bad] = np.nan
    other[np.roll(bad, 60, axis=1)] = 1e30
    there = np.roll(bad, 60, axis=1)
    spoiled = matched_difference(
        side(pair, "science", image, bad), side(pair, "reference", other, there), clean.kernel
    )
    assert spoiled.bad[bad].all()
    assert spoiled.bad.mean() < clean.bad.mean() + 0.002
    far = np.ones(bad.shape, np.bool_)
    far[150:253, 130:300] = False
    assert np.abs(spoiled.scorr - clean.scorr)[far].max() < 0.05
    assert np.isfinite(spoiled.scorr).all()
    assert np.abs(spoiled.scorr[~spoiled.bad]).max() < 6


def test_the_whitened_difference_is_white() -> None:
    pair = make_pair("B", 9, size=400, n_stars=50)
    found = matched_difference(*sides(pair))
    quiet = np.zeros(found.d.shape, np.bool_)
    quiet[40:-40, 40:-40] = True
    quiet &= ~found.bad
    level = decorrelate.cross_correlation(found.d, found.d, quiet, 3)
    assert np.abs(np.delete(level.ravel(), 24)).max() < 0.04 * level[3, 3]


@pytest.mark.parametrize(("case", "least"), [("A", 1.1), ("B", 1.2)])
def test_the_baseline_is_too_sure_of_itself(case: str, least: float) -> None:
    pair = make_pair(case, 2, size=400)
    classic, matched = classic_difference(*sides(pair)), matched_difference(*sides(pair))
    assert scatter(classic.scorr[~classic.bad]) > least
    assert scatter(matched.scorr[~matched.bad]) == pytest.approx(1, abs=0.03)
    assert peaks(classic.scorr, classic.bad) >= peaks(matched.scorr, matched.bad)
    assert np.median(classic.flux_error) > 0


def test_the_width_of_the_gaussian_between_two_psfs() -> None:
    grid = np.hypot(*np.mgrid[-12:13, -12:13])
    sharp, broad = (np.exp(-0.5 * (grid / sigma) ** 2) / (2 * np.pi * sigma**2) for sigma in (1.5, 2.5))
    assert gaussian_match(sharp, broad) == pytest.approx(2.0, abs=0.02)
