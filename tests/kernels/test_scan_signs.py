"""Profiles along time, copies with random signs and Gumbel's law against plain NumPy, on small curves."""

import numpy as np
import pytest

from skytrawl.errors import ParameterError
from skytrawl.kernels.curves import Curves, prepare
from skytrawl.kernels.scan import BELLS, ScanGrid, gumbel, scan
from skytrawl.kernels.scan.profile import profile
from skytrawl.kernels.scan.reference import grid_of
from skytrawl.kernels.scan.reference_scan import fit
from skytrawl.kernels.scan.seasons import EDGE
from skytrawl.kernels.scan.signs import nested_signs, sign_null
from skytrawl.kernels.scan.templates import bank

from .conftest import needs_jit


def small(seed: int, n: int = 40, height: float = 0.0, n_sets: int = 1, span: float = 20.0) -> Curves:
    """One object with a bump at day 8."""
    rng = np.random.default_rng(seed)
    time = np.sort(rng.uniform(0, span, n))
    error = rng.uniform(0.5, 1.5, n)
    flux = rng.normal(0, error) + height * np.exp(-0.5 * (time - 8.0) ** 2)
    return prepare(time, flux, error, rng.integers(0, n_sets, n), np.array([0, n]))[0]


@pytest.mark.parametrize("as_original", [False, True])
def test_profile_of_two_data_sets_and_seasons(as_original: bool) -> None:
    grid, bins = ScanGrid(teff=(0.8, 2.0), gap=30.0, as_original=as_original), 25
    one = small(1, 50, 8.0, 2)
    late = one.time > 12.0
    curves = one._replace(time=np.where(late, one.time + 100.0, one.time))
    found = profile(curves, grid, BELLS, bins)
    times = np.sort(curves.time)
    seasons = [times[times < 60.0], times[times > 60.0]]
    assert found.bump.shape == found.dip.shape == (2, bins)
    for s, time in enumerate(seasons):
        width = (time[-1] - time[0]) / bins
        np.testing.assert_allclose(found.time[s], time[0] + width * (np.arange(bins) + 0.5), rtol=1e-12)
        expected = np.zeros((2, bins))
        for teff in grid.teff:
            tau, t0 = grid_of(time, grid, teff)
            half = grid.teff_coeff * teff - (0.0 if as_original else EDGE)
            for centre in t0 + (time[0] - tau[0]):
                best = (-1.0, 0.0)
                for template in bank(BELLS):
                    gain = signed = 0.0
                    for a, b in zip(curves.rows[:-1], curves.rows[1:], strict=True):
                        inside = a + np.flatnonzero(np.abs(curves.time[a:b] - centre) < half)
                        if len(inside) >= grid.min_points:
                            x = [template.function(v) for v in (curves.time[inside] - centre) / teff]
                            w = curves.error[inside] ** -2.0
                            dchi2, amplitude = fit(np.array(x), curves.flux[inside], w)
                            gain, signed = gain + dchi2, signed + np.copysign(dchi2, amplitude)
                    best = max(best, (gain, signed))
                reach = 0.5 * grid.dt0_coeff * teff
                low, high = ((centre - time[0] + side * reach) / width for side in (-1, 1))
                bin_ = slice(max(0, int(low)), int(high) + 1)
                side = 0 if best[1] > 0 else 1
                expected[side, bin_] = np.maximum(expected[side, bin_], best[0])
        np.testing.assert_allclose([found.bump[s], found.dip[s]], expected, rtol=1e-7, atol=1e-9)
    assert abs(found.time.flat[found.bump.argmax()] - 8.0) < 1.5


def test_profile_of_nothing() -> None:
    curves = small(2, 1)
    assert not profile(curves, ScanGrid(teff=(1.0,)), BELLS, 10).bump.any()
    two = prepare(np.arange(4.0), np.ones(4), np.ones(4), np.zeros(4, int), np.array([0, 2, 4]))[0]
    with pytest.raises(ParameterError, match="of one object"):
        profile(two, ScanGrid(teff=(1.0,)), BELLS, 10)


@pytest.mark.parametrize("n", [1, 2, 3, 37, 128])
def test_nested_signs_are_those_of_the_recursion(n: int) -> None:
    rng = np.random.default_rng(n)
    z, cut, sign = rng.normal(size=n), rng.random(n - 1), rng.choice((-1.0, 1.0), n - 1)
    expected, numbers = np.empty(n), iter(zip(cut, sign, strict=True))

    def split(a: int, b: int, mean: float) -> None:
        if b - a == 1:
            expected[a] = mean
            return
        share, turn = next(numbers)
        c = min(max(a + round((b - a) * (0.35 + 0.3 * share)), a + 1), b - 1)
        split(c, b, mean + turn * (z[c:b].mean() - z[a:b].mean()))
        split(a, c, mean + turn * (z[a:c].mean() - z[a:b].mean()))

    split(0, n, 0.0)
    out = np.empty(n)
    nested_signs(z, cut, sign, out)
    np.testing.assert_allclose(out, expected, rtol=1e-9, atol=1e-12)
    # an orthogonal transformation, but for the mean
    assert out @ out == pytest.approx(((z - z.mean()) ** 2).sum(), rel=1e-9, abs=1e-12)


def scanned(curves: Curves, grid: ScanGrid):
    return scan(curves, grid, ("pspl1",), 1, "cpu")


def test_signs_of_a_small_curve() -> None:
    grid = ScanGrid(teff=(1.5,), dt0_coeff=0.5)
    event = small(3, 90, 12.0, 2, span=80.0)
    found = sign_null(event, grid, scanned, 20, 5)
    assert found.draws.shape == (20, 2)
    assert found.lowered > 0
    assert found.fap[0] < 1e-4
    assert found.statistic[0] > found.statistic[1]
    turned = sign_null(event.with_flux(-event.flux), grid, scanned, 20, 5)
    np.testing.assert_allclose(turned.statistic, found.statistic[::-1], rtol=1e-9)
    assert turned.fap[1] < 1e-4
    noise = sign_null(small(6, 90, 0.0, 2, span=80.0), grid, scanned, 20, 5)
    assert noise.fap.min() > 0.01
    with pytest.raises(ParameterError, match="n_signs"):
        sign_null(event, grid, scanned, 19)
    assert np.isnan(sign_null(small(4, 3), grid, scanned).fap).all()


def test_gumbel_of_its_own_quantiles() -> None:
    p = (np.arange(1, 201) - 0.44) / 200.12
    values = np.stack([7.0 - 2.0 * np.log(-np.log(p)), np.full(200, 3.0)])
    mu, beta = gumbel.fit(values[:, ::-1], 0.5, 0.99)
    np.testing.assert_allclose(mu, [7.0, 3.0], rtol=1e-4)
    np.testing.assert_allclose(beta, [2.0, 1e-6], rtol=1e-9)
    far = gumbel.survival(np.array([7.0, 107.0, -1e6]), *(np.full(3, x) for x in (7.0, 2.0)))
    np.testing.assert_allclose(far, [1 - np.exp(-1), np.exp(-50), 1.0], rtol=1e-9)


@needs_jit
@pytest.mark.parametrize("n", [5, 8, 15])
def test_a_few_points_of_noise_are_not_improbable(n: int) -> None:
    grid = ScanGrid(teff=(0.3, 0.8, 2.0), gap=30.0)
    found = [sign_null(small(seed, n, span=n / 4), grid, scan, n_signs=50).fap for seed in range(20)]
    assert np.nanmin(found) > 1e-4
    assert 0.05 < np.nanmedian(found) < 0.95
