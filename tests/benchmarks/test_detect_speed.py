"""Speed of detection on one thread against sep.extract, in turn in one process; pulls of photometry. By hand:

python -m pytest tests/benchmarks/test_detect_speed.py -m acceptance -s
"""

import statistics
import time

import numpy as np
import pytest
import sep
from pairs import make_pair
from scipy.spatial import cKDTree

from skytrawl.kernels.detect import detect
from skytrawl.kernels.detect.forced import forced
from skytrawl.kernels.detect.link import link
from skytrawl.kernels.difference.types import Side
from skytrawl.kernels.difference.zogy import zogy

SIZE, STARS, THRESHOLD = 2048, 1677, 5.0
ALONE = 12.0  # px to the next source of sep


def in_turn(repeats, *functions):
    """Median seconds of the processor for each function, run in turn; others may keep the machine busy."""
    seconds = [[] for _ in functions]
    for function in functions:
        function()
    for _ in range(repeats):
        for function, one in zip(functions, seconds, strict=True):
            start = time.thread_time()
            function()
            one.append(time.thread_time() - start)
    return [statistics.median(one) for one in seconds]


@pytest.fixture(scope="module")
def maps():
    """The exposure over its noise, and the score of its difference, each with flux, error and FWHM."""
    pair = make_pair(
        "A", 1, SIZE, n_stars=STARS, injections=list(np.repeat([5, 6, 8, 10, 15, 30, -10, -20], 25))
    )
    error = np.sqrt(pair.science_variance)
    score = (pair.science / pair.sigma_science).astype(np.float32)
    difference = zogy(
        Side(pair.science, pair.science_variance, pair.psf_science, pair.sigma_science, pair.ratio),
        Side(pair.reference, pair.reference_variance, pair.psf_reference, pair.sigma_reference, 1.0),
    )
    return {
        "exposure": (score, pair.science, error, pair.fwhm_science),
        "difference": (difference.scorr, difference.flux, difference.flux_error, pair.fwhm_science),
    }


@pytest.mark.acceptance
@pytest.mark.parametrize("name", ["exposure", "difference"])
def test_detection_is_three_times_as_fast_as_sep(maps, name):
    score, flux, error, fwhm = (np.ascontiguousarray(v, np.float32) if np.ndim(v) else v for v in maps[name])
    mask = np.zeros(score.shape, np.uint16)

    def ours():
        return detect(score, flux, error, mask, fwhm=fwhm, threshold=THRESHOLD)

    def theirs():
        return sep.extract(score, THRESHOLD)

    def plain():
        return sep.extract(score, THRESHOLD, filter_kernel=None)

    seconds, default, unfiltered = in_turn(15, ours, theirs, plain)
    got, mpix = ours(), SIZE**2 / 1e6
    print(f"\n{name}: {len(got['x'])} candidates, {mpix / seconds:.0f} Mpix/s")
    mine = cKDTree(np.stack([got["x"], got["y"]], axis=1)[got["sign"] > 0])
    for label, extract, took in (("default", theirs, default), ("no filter", plain, unfiltered)):
        objects = extract()
        places = np.stack([objects["x"], objects["y"]], axis=1)
        apart = cKDTree(places).query(places, k=2)[0][:, 1]
        alone = (apart > ALONE) & (objects["flag"] == 0)
        peaks = np.stack([objects["xpeak"], objects["ypeak"]], axis=1)[alone]
        recovered = (mine.query(peaks)[0] < 2.0).mean()
        print(
            f"  sep {label}: {len(objects)} objects, {mpix / took:.0f} Mpix/s, {took / seconds:.1f} times "
            f"our time; {100 * recovered:.1f} % of its {alone.sum()} isolated ones found"
        )
        assert recovered >= 0.99
        assert took >= 3.0 * seconds


@pytest.mark.acceptance
def test_rates_of_photometry_and_links(maps):
    _, flux, error, _ = maps["difference"]
    flux, error = np.ascontiguousarray(flux, np.float32), np.ascontiguousarray(error, np.float32)
    rng = np.random.default_rng(1)
    x, y = rng.uniform(10, SIZE - 11, (2, 100_000))
    mask = np.zeros(flux.shape, np.uint16)
    n, k = 10_000, 50
    ra = np.repeat(rng.uniform(0.0, 0.5, n), k) + rng.normal(0, 0.1 / 3600, n * k)
    dec = np.repeat(rng.uniform(-0.3, 0.3, n), k) + rng.normal(0, 0.1 / 3600, n * k)
    mjd = np.tile(np.arange(float(k)), n)
    photometry, links = in_turn(3, lambda: forced(flux, error, mask, x, y), lambda: link(ra, dec, mjd, 1.0))
    print(f"\n{len(x) / photometry:.3g} positions/s, {n * k / links:.3g} candidates/s linked")


@pytest.mark.acceptance
@pytest.mark.parametrize("case", ["A", "B"])
def test_pulls_on_subtracted_images(case):
    """Sources between the pixels of simulated pairs, through the subtraction, and empty places."""
    pulls = {}
    for seed in range(5):
        pair = make_pair(case, seed, 1024, injections=np.repeat([4.0, 6.0, 10.0, 30.0, 100.0, -10.0], 60))
        difference = zogy(
            Side(pair.science, pair.science_variance, pair.psf_science, pair.sigma_science, pair.ratio),
            Side(pair.reference, pair.reference_variance, pair.psf_reference, pair.sigma_reference),
        )
        injected, mask = pair.injected, np.zeros(pair.science.shape, np.uint16)
        got = forced(difference.flux, difference.flux_error, mask, injected["x"], injected["y"])
        pull = (got["flux"] - injected["flux"] / pair.ratio) / got["flux_error"]
        for snr in np.unique(np.round(injected["snr"])):
            pulls.setdefault(snr, []).append(pull[np.abs(injected["snr"] - snr) < 0.5])
        x, y = np.random.default_rng(seed).uniform(30, 990, (2, 400))
        all_x, all_y = (np.r_[injected[axis], pair.stars[axis]] for axis in "xy")
        empty = np.hypot(x[:, None] - all_x, y[:, None] - all_y).min(axis=1) > 12
        got = forced(difference.flux, difference.flux_error, mask, x[empty], y[empty])
        pulls.setdefault(0.0, []).append(got["snr"])
    for snr, found in sorted(pulls.items()):
        pull = np.concatenate(found)
        print(f"{case} SNR {snr:5.0f}: {len(pull)} pulls, mean {pull.mean():+.3f}, width {pull.std():.3f}")
    pull = np.concatenate([np.concatenate(found) for found in pulls.values()])
    print(f"{case} all: {len(pull)} pulls, mean {pull.mean():+.3f}, width {pull.std():.3f}")
    assert abs(pull.mean()) < 0.1
    assert abs(pull.std() - 1.0) < 0.1
