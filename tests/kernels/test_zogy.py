"""Proper image subtraction of tiles against its equations in float64, and on every array library."""

from dataclasses import fields, replace
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pairs import make_pair, stamp
from subtracted import read, sides

from skytrawl.errors import ParameterError
from skytrawl.kernels.difference import Difference, Side, cpu_fft, reference
from skytrawl.kernels.difference.fill import fill
from skytrawl.kernels.difference.zogy import filters, prepare, zogy
from skytrawl.kernels.namespace import namespace

PLANES = ("d", "score", "variance", "scorr", "flux", "flux_error", "blank", "psf_d")


@pytest.fixture(scope="module")
def pair():
    """Stars and sources of both signs, with a coma in both PSFs: nothing is symmetric."""
    return make_pair("A", 1, 256, n_stars=40, injections=[5.0, -8.0, 20.0, 40.0], shift=(0.1, 0.05))


def lopsided(psf, dx, dy):
    out = psf + 0.3 * np.roll(psf, (dy, dx), (0, 1))
    return (out / out.sum()).astype(np.float32)


def answer(new, ref, shift_error=(0.0, 0.0)):
    both = (new, ref)
    return reference.subtract(
        *(tuple(np.asarray(getattr(s, name)) for s in both) for name in ("image", "variance", "psf")),
        (new.sigma, ref.sigma),
        (new.scale, ref.scale),
        shift_error,
    )


@pytest.mark.parametrize("case", ["A", "B"])
def test_float32_is_within_1e_3_of_the_equations_in_float64(case):
    new, ref = (replace(s, gain=None) for s in sides(make_pair(case, 1, 512, injections=[5.0, -8.0, 50.0])))
    new, ref = replace(new, psf=lopsided(new.psf, 2, 1)), replace(ref, psf=lopsided(ref.psf, -1, 2))
    want, got = answer(new, ref), zogy(new, ref)
    assert np.abs(got.scorr - want.scorr).max() < 1e-3
    assert np.abs(got.score / np.sqrt(want.variance) - want.score / np.sqrt(want.variance)).max() < 1e-3
    np.testing.assert_allclose(got.variance, want.variance, rtol=1e-4)
    np.testing.assert_allclose(got.d * want.f_d, want.d, atol=1e-3)
    np.testing.assert_allclose(got.f_s, want.f_s, rtol=1e-6)
    half = got.psf_d.shape[0] // 2
    psf_d = np.roll(want.psf_d, (half, half), (0, 1))[: 2 * half + 1, : 2 * half + 1]
    np.testing.assert_allclose(got.psf_d, psf_d, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"shift_error": (0.1, 0.2)}, {"relative_error": 0.02}])
def test_compiled_and_plain_paths_agree(pair, options):
    new, ref = sides(pair)
    new = replace(new, psf=lopsided(new.psf, 2, 1))
    fast, plain = zogy(new, ref, **options), zogy(new, ref, xp=np, **options)
    for name in PLANES:
        a, b = getattr(fast, name), getattr(plain, name)
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max(), rtol=1e-4, err_msg=name)
    assert np.abs(fast.scorr - plain.scorr).max() < 1e-3


def test_the_noise_of_a_shift_is_that_of_the_equations_at_bright_stars(pair):
    new, ref = (replace(s, gain=None) for s in sides(pair))
    want, got = answer(new, ref, (0.2, 0.1)), zogy(new, ref, shift_error=(0.2, 0.1))
    steep = np.abs(want.scorr) < 0.7 * np.abs(answer(new, ref).scorr)  # where that noise rules
    assert steep.sum() > 20
    ratio = (want.scorr / got.scorr)[steep]
    assert 0.8 < np.median(ratio) < 1.25


def test_transforms_are_the_same_where_scipy_writes_no_destination(pair, monkeypatch):
    new, ref = sides(pair)
    want = zogy(new, ref)
    assert cpu_fft.direct() is not None  # else a subtraction takes a sixth longer: see to it
    monkeypatch.setattr(cpu_fft, "direct", lambda: None)
    np.testing.assert_array_equal(zogy(new, ref).scorr, want.scorr)


def moved(side, xp, device):
    arrays = {f.name: getattr(side, f.name) for f in fields(side)}
    for name in ("image", "variance", "psf", "bad"):
        if arrays[name] is not None:
            arrays[name] = xp.asarray(arrays[name], device=device)
    return Side(**arrays)


def bad_pixels(shape, seed=4):
    rng = np.random.default_rng(seed)
    bad = rng.random(shape) < 0.004
    bad[..., 100, :] = bad[..., :, 60:62] = True
    bad[..., 200:206, 30:35] = True
    return bad


def test_strict_arrays_on_a_foreign_device(pair):
    xp = pytest.importorskip("array_api_strict")
    device = xp.Device("device1")
    bad = bad_pixels((256, 256))
    new, ref = sides(pair)
    new = replace(new, image=np.where(bad, np.float32(np.nan), new.image), bad=bad)
    options = {"shift_error": (0.1, 0.05), "relative_error": 0.01}
    fast = zogy(fill(new), fill(ref), **options)
    there = zogy(fill(moved(new, xp, device)), fill(moved(ref, xp, device)), **options)
    for name in (*PLANES, "bad"):
        array = getattr(there, name)
        assert array.device == device
        here = np.asarray(array.to_device(xp.Device("CPU_DEVICE")))
        want = getattr(fast, name)
        np.testing.assert_allclose(here, want, rtol=2e-4, atol=2e-4 * np.abs(want).max(), err_msg=name)


def test_a_library_whose_functions_know_no_device(pair):
    """As CuPy is: NumPy's functions, of which those that make arrays refuse `device`."""
    library = ModuleType("deviceless")
    library.__dict__.update({name: getattr(np, name) for name in dir(np) if not name.startswith("__")})

    def without_device(made):
        return lambda *args, dtype=None: made(*args, dtype=dtype)

    for name in ("arange", "asarray", "empty", "full", "zeros"):
        library.__dict__[name] = without_device(getattr(np, name))
    new, ref = sides(pair)
    new = replace(new, bad=bad_pixels((256, 256)))
    want = zogy(fill(new, xp=np), fill(ref, xp=np), xp=np)
    got = zogy(fill(new, xp=library), fill(ref, xp=library), xp=library)
    np.testing.assert_array_equal(got.scorr, want.scorr)


@pytest.mark.gpu
def test_cupy_arrays(pair):
    import cupy

    new, ref = sides(pair)
    new = replace(new, bad=bad_pixels((256, 256)))
    options = {"shift_error": (0.1, 0.05), "relative_error": 0.01}
    fast = zogy(fill(new), fill(ref), **options)
    put = (fill(moved(s, namespace(None, cupy), None)) for s in (new, ref))
    there = zogy(*put, **options)
    for name in (*PLANES, "bad"):
        want = getattr(fast, name)
        np.testing.assert_allclose(
            cupy.asnumpy(getattr(there, name)), want, rtol=5e-4, atol=5e-4 * np.abs(want).max(), err_msg=name
        )


def stacked(tiles, **whole):
    first = tiles[0]
    arrays = {name: np.stack([getattr(s, name) for s in tiles]) for name in ("image", "variance")}
    return replace(first, **{**arrays, **whole})


@pytest.mark.parametrize("xp", [None, np])
def test_a_batch_is_its_tiles_one_by_one(xp):
    both = [sides(make_pair("A", seed, 128, n_stars=8, injections=[9.0])) for seed in range(3)]
    new = stacked([n for n, _ in both], psf=np.stack([stamp(w, 16) for w in (3.2, 3.6, 4.0)]))
    new = replace(new, sigma=np.array([20.0, 21.0, 22.0]))
    ref = both[0][1]
    batch = zogy(new, ref, shift_error=(np.array([0.1, 0.2, 0.3]), 0.1), xp=xp)
    assert batch.scorr.shape == (3, 128, 128)
    for k in range(3):
        one = replace(
            new, image=new.image[k], variance=new.variance[k], psf=new.psf[k], sigma=float(new.sigma[k])
        )
        single = zogy(one, ref, shift_error=((0.1, 0.2, 0.3)[k], 0.1), xp=xp)
        for name in PLANES:
            want = getattr(single, name)
            got = getattr(batch, name)[k]
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max(), err_msg=name)


@pytest.mark.parametrize("xp", [None, np])
def test_transforms_and_filters_are_used_again(pair, xp):
    new, ref = sides(pair)
    ready = prepare(ref, xp=xp)
    made = filters(new, ref, ready.shape, xp=xp)
    again = zogy(new, ready, filters=made, xp=xp)
    np.testing.assert_array_equal(again.scorr, zogy(new, ref, xp=xp).scorr)


def test_a_reference_prepared_for_another_path_is_refused(pair):
    new, ref = sides(pair)
    with pytest.raises(ParameterError, match="another `xp`"):
        zogy(new, prepare(ref), xp=np)


@pytest.mark.parametrize("side", [300, 10])
def test_a_psf_that_does_not_fit_is_refused(pair, side):
    new, ref = sides(pair)
    with pytest.raises(ParameterError, match=r"larger than the tile|odd"):
        zogy(replace(new, psf=np.full((side + side // 300, side + side // 300), 1e-4, np.float32)), ref)


def test_fluxes_are_unbiased_within_1_percent():
    places = [
        (x + 0.37 * (x % 3), y - 0.21 * (y % 5), 2e4) for x in range(40, 480, 40) for y in range(40, 480, 40)
    ]
    for case in "AB":
        pair = make_pair(case, 5, 512, n_stars=0, injections=places)
        # At a position between pixels the flux map is read by interpolation, as forced photometry does.
        ratio = read(zogy(*sides(pair)).flux, pair.injected) / pair.injected["flux"]
        assert abs(ratio.mean() - 1) < 0.01
    assert abs(ratio.mean() - 1) < 3e-3


@pytest.fixture(scope="module")
def small():
    return [replace(s, gain=None) for s in sides(make_pair("A", 2, 96, n_stars=3, injections=[9.0]))]


@settings(max_examples=15)
@given(scale=st.floats(0.05, 20), unit=st.floats(0.01, 100))
def test_units_and_zero_points_change_no_significance(small, scale, unit):
    new, ref = small
    want = zogy(new, ref)
    other = replace(
        ref,
        image=(ref.image * np.float32(unit)),
        variance=(ref.variance * np.float32(unit**2)),
        sigma=ref.sigma * unit,
        scale=ref.scale * unit,
    )
    got = zogy(replace(new, scale=scale), replace(other, scale=other.scale * scale))
    np.testing.assert_allclose(got.scorr, want.scorr, atol=1e-3)
    np.testing.assert_allclose(got.flux * scale, want.flux, rtol=1e-3, atol=1e-3 * np.abs(want.flux).max())


@pytest.mark.parametrize("depth", [1e-4, 1e4])
def test_a_reference_much_deeper_or_shallower(depth):
    pair = make_pair("A", 3, 256, n_stars=0, sky=(400.0, 400.0 * depth + 1.0), injections=[10.0] * 9)
    found = zogy(*sides(pair))
    assert abs(found.scorr.std() - 1) < 0.3  # nine sources of 10 sigma are in it
    assert isinstance(found, Difference)
    assert np.isfinite(found.scorr).all()
    x, y = (np.rint(pair.injected[name]).astype(int) for name in "xy")
    assert abs(found.scorr[y, x].mean() - 10) < 1.5
