"""Quality of candidates against the definitions, written out in NumPy."""

import numpy as np
import pytest

import skytrawl.kernels.scan as package
from skytrawl.errors import ParameterError
from skytrawl.kernels.curves import prepare
from skytrawl.kernels.scan import BELLS, ScanGrid, diagnose, outside_scale, scan
from skytrawl.kernels.scan.calls import values
from skytrawl.kernels.scan.reference_scan import fit
from skytrawl.kernels.scan.templates import bank as templates_of

from .conftest import needs_jit

GRID = ScanGrid(teff=(0.3, 1.0, 3.0))


def event(rng, n_sets=3, n=200, units=(1.0, 5.0, 0.2), amplitude=8.0):
    """One object with a bump at day 20, seen by telescopes with flux units of their own."""
    t = rng.uniform(0, 40, n_sets * n)
    band = np.repeat(np.arange(n_sets), n)
    scale = np.array(units)[band]
    e = rng.uniform(0.5, 1.5, len(t)) * scale
    f = amplitude * scale / np.sqrt(1 + ((t - 20) / 1.0) ** 2) + 100 * scale + rng.normal(0, e)
    return prepare(t, f, e, band, np.array([0, len(t)]))[0]


def by_hand(curves, grid, top, c, sigma, source):
    """Diagnostics of candidate c of object 0."""
    t0, teff = top.t0[0, c], top.teff[0, c]
    template = templates_of(BELLS)[top.template[0, c]]
    d_all, u_runs, pairs, rescaled, n_sets, coincident, amplitudes, errors = [], [], [], 0.0, 0, 0, [], []
    for d in range(curves.n_sets):
        rows = slice(*curves.rows[d : d + 2])
        t, f, w = curves.time[rows], curves.flux[rows], curves.error[rows] ** -2.0
        inside = np.abs(t - t0) < grid.teff_coeff * teff
        if inside.sum() < grid.min_points:
            continue
        x = values(template, (t[inside] - t0) / teff)
        y, wi = f[inside], w[inside]
        dchi2, a = fit(x, y, wi)
        b = np.average(y - a * x, weights=wi)
        gain = wi * ((y - np.average(y, weights=wi)) ** 2 - (y - a * x - b) ** 2)
        assert dchi2 == pytest.approx(gain.sum(), rel=1e-6, abs=1e-6)
        d_all.append(gain)
        out = f[~inside]
        k2 = 1.0
        if len(out) >= 10:
            k2 = np.sum(w[~inside] * (out - np.average(out, weights=w[~inside])) ** 2) / (len(out) - 1)
        rescaled += dchi2 / k2
        n_sets += 1
        coincident += dchi2 / k2 > sigma**2 and a * top.sign[0, c] > 0
        variance = np.sum(wi * (x - np.average(x, weights=wi)) ** 2)
        amplitudes.append(a / source[d])
        errors.append(np.sqrt(k2 / variance) / source[d])
    whole = np.concatenate(d_all)
    u = np.maximum(whole, 0)
    for gain in d_all:
        text = "".join("x" if v > sigma**2 else " " for v in np.maximum(gain, 0))
        u_runs.append(max(map(len, text.split(" "))))
        pairs.extend((gain[:-1] - whole.mean()) * (gain[1:] - whole.mean()))
    weights = np.array(errors) ** -2.0
    mean = np.average(amplitudes, weights=weights)
    return {
        "n_window": len(whole), "n_contrib": (u > sigma**2).sum(), "n_eff": u.sum() ** 2 / (u**2).sum(),
        "peak_frac": u.max() / u.sum(), "rho1": np.mean(pairs) / whole.var(), "longest_run": max(u_runs),
        "dchi2_rescaled": rescaled, "n_sets": n_sets, "n_coincident": coincident,
        "achromatic_chi2": np.sum(weights * (amplitudes - mean) ** 2) if n_sets > 1 else np.nan,
    }  # fmt: skip


@pytest.mark.parametrize("n_sets", [1, 3])
@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_as_defined(n_sets, sigma):
    curves = event(np.random.default_rng(1), n_sets)
    top = scan(curves, GRID, k=5, backend="cpu").top
    source = np.array([1.0, 5.0, 0.2])[:n_sets]
    found = diagnose(curves, GRID, top, sigma=sigma, source_flux=source)
    for c in range(5):
        expected = by_hand(curves, GRID, top, c, sigma, source)
        for name, value in expected.items():
            np.testing.assert_allclose(getattr(found, name)[0, c], value, rtol=1e-7, err_msg=f"{name} of {c}")
    np.testing.assert_array_equal(found.n_window, top.n_window)


def test_achromatic_in_units_of_the_source():
    curves = event(np.random.default_rng(2))
    top = scan(curves, GRID, k=1, backend="cpu").top
    source = np.array([1.0, 5.0, 0.2])
    same = diagnose(curves, GRID, top, source_flux=source)
    assert same.n_sets[0, 0] == same.n_coincident[0, 0] == 3
    assert same.achromatic_chi2[0, 0] < 15
    assert diagnose(curves, GRID, top).achromatic_chi2[0, 0] > 100
    two = diagnose(curves, GRID, top, source_flux=np.array([1.0, np.nan, 0.0]))
    assert np.isnan(two.achromatic_chi2[0, 0])


def test_understated_errors_are_told_outside_the_window():
    curves = event(np.random.default_rng(3), n_sets=1)
    small = curves._replace(error=curves.error / 1.3)
    top = scan(small, GRID, k=1, backend="cpu").top
    k2 = outside_scale(small, GRID, top)
    assert k2.shape == (1, 1)
    assert k2[0, 0] == pytest.approx(1.69, rel=0.25)
    found = diagnose(small, GRID, top)
    assert found.dchi2_rescaled[0, 0] == pytest.approx(top.dchi2[0, 0] / k2[0, 0], rel=1e-9)


@needs_jit
@pytest.mark.parametrize("as_original", [False, True])
def test_offset_and_units_change_nothing(reference_data, as_original):
    t, f, e = np.load(reference_data / "microlensing" / "roman_sim_0000.npy").T[:, :8000]
    band, ends = np.zeros(len(t), int), np.array([0, len(t)])
    grid = ScanGrid(as_original=as_original)
    first_curves = prepare(t, f, e, band, ends)[0]
    top = scan(first_curves, grid, backend="cpu").top
    first = diagnose(first_curves, grid, top)
    bright = prepare(t, f * 1e11, e * 1e11, band, ends)[0]
    others = [diagnose(bright, grid, scan(bright, grid, backend="cpu").top)]
    if not as_original:
        late = prepare(t + 2_450_000, f, e, band, ends)[0]
        others.append(diagnose(late, grid, scan(late, grid, backend="cpu").top))
    for other in others:
        for name in first._fields:
            np.testing.assert_allclose(getattr(other, name), getattr(first, name), rtol=1e-6, err_msg=name)


def test_absent_candidates_and_empty_objects():
    rng = np.random.default_rng(4)
    t = rng.uniform(0, 40, 50)
    curves = prepare(t, np.ones(50), np.ones(50), np.zeros(50, int), np.array([0, 0, 50, 50]))[0]
    top = scan(curves, GRID, k=2, backend="cpu").top
    found = diagnose(curves, GRID, top)
    assert np.isnan(found.achromatic_chi2).all()
    for name in set(found._fields) - {"achromatic_chi2"}:
        np.testing.assert_array_equal(getattr(found, name), 0)
    assert np.isnan(outside_scale(curves, GRID, top)).all()


def test_foreign_candidates_are_refused():
    curves = event(np.random.default_rng(5), n_sets=1)
    top = scan(curves, GRID, k=2, backend="cpu").top
    with pytest.raises(ParameterError, match="objects"):
        diagnose(curves._replace(sets=np.array([0, 0, 1])), GRID, top)
    with pytest.raises(ParameterError, match="teff"):
        diagnose(curves, ScanGrid(teff=(0.1,)), top._replace(scale=top.scale + 2))
    with pytest.raises(ParameterError, match="bank"):
        diagnose(curves, GRID, top._replace(template=top.template + 2))
    with pytest.raises(ParameterError, match="source_flux"):
        diagnose(curves, GRID, top, source_flux=np.ones(4))


def test_names_of_the_package_stay_functions():
    curves = event(np.random.default_rng(6), n_sets=1)
    for _ in range(2):
        top = package.scan(curves, GRID, k=2, backend="cpu").top
        assert package.diagnose(curves, GRID, top).n_sets[0, 0] == 1
        assert package.outside_scale(curves, GRID, top).shape == (1, 2)
