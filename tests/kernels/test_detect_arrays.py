"""Detection and forced photometry by the array API equal those of the CPU, on a foreign device."""

import array_api_strict as xp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter

from skytrawl.kernels.detect import COLUMNS, detect
from skytrawl.kernels.detect.forced import COLUMNS as FORCED
from skytrawl.kernels.detect.forced import forced
from skytrawl.kernels.namespace import namespace

from .conftest import needs_jit
from .detect_scenes import scene

FOREIGN, HERE = xp.Device("device1"), xp.Device("CPU_DEVICE")


def there(array):
    return xp.asarray(array, device=FOREIGN)


def same(got, want, columns):
    assert list(got) == list(want) == list(columns)
    for name, (dtype, _, _) in columns.items():
        assert got[name].device == FOREIGN
        value = np.asarray(xp.asarray(got[name], device=HERE))
        assert value.dtype == want[name].dtype == dtype, name
        if value.dtype.kind in "iub" or name in ("score", "partner_score"):
            assert_array_equal(value, want[name], err_msg=name)
        else:
            assert_allclose(value, want[name], rtol=1e-6, atol=1e-9, err_msg=name)


def noise(rng, shape, coarse):
    """Correlated noise with holes and bits; coarse values have plateaus and ties."""
    score = gaussian_filter(rng.normal(size=shape), rng.uniform(0.4, 2.0))
    score *= rng.uniform(1.0, 8.0) / max(score.std(), 1e-9)
    if coarse:
        score = np.round(score * 2.0) / 2.0
    score[rng.random(shape) < 0.02] = np.nan
    mask = np.where(rng.random(shape) < 0.05, 1 << rng.integers(0, 12, shape), 0).astype(np.uint16)
    error = rng.uniform(1.0, 2.0, shape).astype(np.float32)
    return score.astype(np.float32), (3.0 * score).astype(np.float32), error, mask


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("saddle", [0.0, 0.5, 3.0])
def test_detection_in_noise(coarse, saddle):
    rng = np.random.default_rng(7 + coarse)
    shapes = [(1, 1), (1, 40), (40, 1), *rng.integers(2, 90, (7, 2))]
    for shape in shapes:
        planes = noise(rng, tuple(shape), coarse)
        settings = {
            "fwhm": rng.uniform(1.0, 4.0),
            "threshold": rng.uniform(0.5, 3.0),
            "saddle": saddle,
            "min_pixels": int(rng.integers(1, 3)),
            "max_size": rng.choice([None, 9.0]),
        }
        with np.errstate(all="ignore"):
            want = detect(*planes, blank=planes[0], difference=planes[1], **settings)
        far = [there(p) for p in planes]
        got = detect(*far, blank=far[0], difference=far[1], xp=xp, **settings)
        same(got, want, COLUMNS)


@needs_jit
def test_detection_of_sources():
    rng = np.random.default_rng(8)
    x, y = rng.uniform(-3, 303, 150), rng.uniform(-3, 203, 150)
    x, y = np.clip(x, 0, 299), np.clip(y, 0, 199)
    flux = rng.normal(0.0, 3000.0, len(x))
    score, flux_map, error, _ = scene(rng, (200, 300), x, y, flux)
    mask = np.where(rng.random(score.shape) < 0.01, 4, 0).astype(np.uint16)
    want = detect(score, flux_map, error, mask, fwhm=3.0)
    got = detect(*(there(p) for p in (score, flux_map, error, mask)), fwhm=3.0, xp=xp)
    assert len(want["x"]) > 60
    same(got, want, COLUMNS)
    want = forced(flux_map, error, mask, x, y)
    got = forced(*(there(p) for p in (flux_map, error, mask, x, y)), xp=xp)
    same(got, want, FORCED)


def test_forced_beside_holes_and_edges():
    rng = np.random.default_rng(9)
    _, flux, error, mask = noise(rng, (30, 40), False)
    x, y = rng.uniform(-2.0, 42.0, 500), rng.uniform(-2.0, 32.0, 500)
    x[:100], y[100:200] = np.round(x[:100]), np.round(y[100:200])
    want = forced(flux, error, mask, x, y)
    assert set(want["order"]) == {0, 2, 4, 6, 8}
    same(forced(*(there(p) for p in (flux, error, mask, x, y)), xp=xp), want, FORCED)


class LikeCupy:
    """NumPy with the signatures of CuPy 14 where they differ from the array API."""

    makers = frozenset({"arange", "asarray", "empty", "full", "ones", "zeros", "zeros_like", "full_like"})

    def __getattr__(self, name):
        found = getattr(np, name)
        if name in self.makers:
            return lambda *args, dtype=None: found(*args, dtype=dtype)
        if name in {"argsort", "sort"}:
            return lambda a, axis=-1: found(a, axis, kind="stable")
        return found


def test_detection_with_the_signatures_of_cupy():
    rng = np.random.default_rng(10)
    planes = noise(rng, (60, 70), True)
    with np.errstate(all="ignore"):
        want = detect(*planes, fwhm=2.0, threshold=1.0)
        got = detect(*planes, fwhm=2.0, threshold=1.0, xp=namespace(None, LikeCupy()))
    assert len(want["x"]) > 20
    for name in COLUMNS:
        assert_allclose(got[name], want[name], rtol=1e-6, atol=1e-9, err_msg=name)
