"""False alarms come as often as they say: the null of a survey, and that of a single curve.

Small versions of tests/benchmarks/test_scan_calibration.py; bounds are those of the binomial law at four
standard deviations, widened by that of a law fitted to few neighbours.
"""

import numpy as np
import pytest
import scan_study as study

from skytrawl.errors import ParameterError
from skytrawl.kernels import scan
from skytrawl.kernels.curves import Curves, prepare
from skytrawl.kernels.scan import signs

GRID = scan.ScanGrid()


def scanned(curves: Curves, grid: scan.ScanGrid) -> scan.ScanResult:
    return scan.scan(curves, grid, k=1, backend="cpu")


def objects(curves: Curves) -> list[Curves]:
    result = []
    for a, b in zip(curves.rows[:-1], curves.rows[1:], strict=True):
        bands, offsets = np.zeros(b - a, int), np.array([0, b - a])
        columns = (curves.time[a:b], curves.flux[a:b], curves.error[a:b])
        result.append(prepare(*columns, bands, offsets)[0])
    return result


def test_survey_null() -> None:
    cells = [("ztf", noise, 150) for noise in study.NOISES] + [("kmt", "white", 30), ("kmt", "ou", 30)]
    measured = [study.measure(study.null_curves(*cell, 3)[0]) for cell in cells]
    found = study.leave_one_out(measured)
    for (_, _, count), faps in zip(cells, found, strict=True):
        few = (faps < 0.05).sum(axis=0)
        assert (few <= 0.05 * count + 4 * np.sqrt(0.05 * count) + 0.03 * count).all(), few
    rate = (np.concatenate(found) < 0.05).mean()
    assert 0.025 < rate < 0.09
    assert 0.13 < (np.concatenate(found) < 0.2).mean() < 0.27


def test_planets_are_found() -> None:
    null = study.null_of([study.measure(study.null_curves("ztf", "white", 200, 3)[0])])
    curves, strength = study.binary_curves("ztf", "white", 12, 5)
    measured = study.measure(curves)
    faps, _ = null.fap(measured.statistic, measured.features)
    assert (faps.min(axis=1)[strength > 150] < 0.01).all()
    assert (strength > 150).sum() >= 3


def test_nested_signs_keep_the_power() -> None:
    generator = np.random.default_rng(0)
    for n in (1, 2, 3, 7, 1000):
        z = generator.normal(size=n)
        out = np.full(n, np.nan)
        signs.nested_signs(z, generator.random(n - 1), generator.choice((-1.0, 1.0), n - 1), out)
        assert np.isclose((out**2).sum(), ((z - z.mean()) ** 2).sum(), rtol=1e-9, atol=1e-12)
    kept = np.full(n, np.nan)
    signs.nested_signs(z, generator.random(n - 1), np.ones(n - 1), kept)
    assert np.allclose(kept, z - z.mean())


def test_single_curves_without_anomaly() -> None:
    found = [
        signs.sign_null(curve, GRID, scanned, 25, seed).fap
        for seed, curve in enumerate(objects(study.residuals(study.null_curves("ztf", "ou", 60, 11)[0])))
    ]
    faps = np.array(found)
    assert (faps < 0.05).mean() < 0.05 + 4 * np.sqrt(0.05 / 120) + 0.02
    assert 0.07 < (faps < 0.2).mean() < 0.36
    assert 0.35 < (faps < 0.5).mean() < 0.68


@pytest.mark.parametrize(("teff", "height"), [(1.0, 60.0), (8.0, 60.0), (8.0, 2000.0), (8.0, -400.0)])
def test_anomalies_of_single_curves(teff: float, height: float) -> None:
    """Neither a strong nor a long anomaly hides in its own copies."""
    generator = np.random.default_rng(1)
    time = np.sort(generator.uniform(0, 240, 900))
    bell = 1 / np.sqrt(1 + ((time - 100) / teff) ** 2)
    near = np.abs(time - 100) < 3 * teff
    scale = np.sqrt(((bell - bell[near].mean())[near] ** 2).sum())
    flux = generator.normal(size=900) + np.sign(height) * np.sqrt(abs(height)) / scale * bell
    curve, _ = prepare(time, flux, np.ones(900), np.zeros(900, int), np.array([0, 900]))
    found = signs.sign_null(curve, GRID, scanned, 25, 3)
    side, other = (0, 1) if height > 0 else (1, 0)
    assert found.fap[side] < 1e-3
    assert found.lowered > 0
    again = signs.sign_null(curve, GRID, scanned, 25, 3)
    assert np.array_equal(again.draws, found.draws)
    turned = signs.sign_null(curve.with_flux(-curve.flux), GRID, scanned, 25, 3)
    assert np.isclose(turned.statistic[other], found.statistic[side])
    assert turned.fap[other] < 1e-3


def test_what_cannot_be_asked() -> None:
    curves = study.null_curves("ztf", "white", 2, 1)[0]
    with pytest.raises(ParameterError, match="one object"):
        signs.sign_null(curves, GRID, scanned)
    one = objects(curves)[0]
    with pytest.raises(ParameterError, match="n_signs=5"):
        signs.sign_null(one, GRID, scanned, 5)
    nothing, _ = prepare(*(np.arange(3.0) + 1,) * 3, np.zeros(3, int), np.array([0, 3]))
    assert np.isnan(signs.sign_null(nothing, GRID, scanned).fap).all()
