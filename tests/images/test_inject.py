"""Injection: the light that was asked for, with its noise, and nothing else; completeness and purity."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytrawl.catalogs.images.exposure import read_exposures
from skytrawl.catalogs.images.frame import checked
from skytrawl.catalogs.simulate_images import (
    InjectionPlan,
    completeness,
    flux_at_snr,
    inject,
    inject_frame,
    simulate_exposures,
)
from skytrawl.catalogs.simulate_images.completeness import match, wilson
from skytrawl.catalogs.simulate_images.inject import gain_of
from skytrawl.errors import ParameterError
from skytrawl.kernels import flags
from skytrawl.kernels.psf import PsfModel
from skytrawl.kernels.render import MoffatField

GAIN = 4.0


def blank(size: int = 201, level: float = 100.0) -> dict[str, np.ndarray]:
    return {
        "image": np.full((size, size), level, np.float32),
        "variance": np.full((size, size), level / GAIN + 4.0, np.float32),
        "mask": np.zeros((size, size), flags.DTYPE),
    }


def model(fwhm: float = 3.0, size: int = 41) -> PsfModel:
    return PsfModel.constant(MoffatField.constant(fwhm, 3.5, (201, 201)).at(100.0, 100.0, size=size))


def test_a_point_source_has_its_flux_its_place_and_photon_noise() -> None:
    arrays, psf = blank(160), model()
    sources = {"x": [40.3, 120.0], "y": [50.8, 100.4], "flux": [9000.0, -1500.0], "id": [7, 8]}
    still, truth = inject(arrays, psf, sources, 1, gain=GAIN, njy_per_unit=3.0, mjd=58000.5, noise=False)
    light = still["image"].astype(float) - 100.0
    v, u = np.indices(light.shape)
    for row, half in ((0, np.s_[:, :80]), (1, np.s_[:, 80:])):
        part = light[half]
        assert part.sum() == pytest.approx(sources["flux"][row] / 3.0, rel=2e-3)
        assert (part * u[half]).sum() / part.sum() == pytest.approx(sources["x"][row], abs=0.01)
        assert (part * v[half]).sum() / part.sum() == pytest.approx(sources["y"][row], abs=0.01)
    assert (arrays["image"] == 100).all()
    assert (still["variance"] == arrays["variance"]).all()
    assert truth["id"].tolist() == [7, 8]
    assert truth["type"].tolist() == [b"point", b"point"]
    assert truth["flux_image"] == pytest.approx([3000.0, -500.0])
    assert truth["mjd"].tolist() == [58000.5] * 2
    # The noise is Poisson in electrons, and the variance grows by as much.
    noisy = [inject(arrays, psf, sources, seed, gain=GAIN, njy_per_unit=3.0)[0] for seed in range(250)]
    images = np.stack([each["image"] for each in noisy]).astype(float)
    at = (slice(47, 55), slice(37, 44))
    expected = light[at] / GAIN
    assert images[:, *at].var(axis=0).sum() == pytest.approx(expected.sum(), rel=0.06)
    assert images.mean(axis=0)[at].sum() == pytest.approx((100 + light[at]).sum(), rel=1e-3)
    added = noisy[0]["variance"] - arrays["variance"]
    assert added == pytest.approx(np.abs(light) / GAIN, abs=2e-3)
    again = inject(arrays, psf, sources, 3, gain=GAIN, njy_per_unit=3.0)[0]["image"]
    assert np.array_equal(again, noisy[3]["image"])


def test_snr_of_the_truth_is_what_optimal_photometry_scatters_by() -> None:
    arrays, psf = blank(), model()
    x, y, flux = np.array([100.4]), np.array([99.7]), np.array([400.0])
    stamp = psf.at(100.4, 99.7, dx=0.4, dy=-0.3)
    at = (slice(80, 121), slice(80, 121))
    generator, found = np.random.default_rng(0), []
    for seed in range(600):
        seen, truth = inject(arrays, psf, {"x": x, "y": y, "flux": flux}, seed, gain=GAIN)
        noisy = seen["image"][at] - 100 + np.sqrt(29.0) * generator.standard_normal((41, 41))
        weight = stamp / (29.0 + flux * np.maximum(stamp, 0) / GAIN)
        found.append((weight * noisy).sum() / (weight * stamp).sum())
    assert np.std(found) == pytest.approx(flux[0] / truth["snr"][0], rel=0.09)
    assert np.mean(found) == pytest.approx(400.0, abs=4 * flux[0] / truth["snr"][0] / np.sqrt(600))
    asked = np.array([5.0])
    again = flux_at_snr(arrays, psf, x, y, asked, GAIN)
    assert inject(arrays, psf, {"x": x, "y": y, "flux": again}, 0, gain=GAIN)[1]["snr"] == pytest.approx(
        asked
    )


def test_extended_and_moving_sources_have_their_size_way_and_flux() -> None:
    psf, v_u = model(), np.indices((201, 201))
    point = (
        inject(blank(), psf, {"x": 100, "y": 100, "flux": 1e4}, 0, gain=GAIN, noise=False)[0]["image"] - 100.0
    )
    wide = {
        "x": 100.2,
        "y": 100.0,
        "flux": 1e4,
        "half_light": 4.0,
        "axis_ratio": 0.5,
        "angle": 90.0,
        "index": 0.5,
    }
    moved = {"x": 90.0, "y": 100.0, "flux": 1e4, "dx": 24.0, "dy": 0.0}
    (galaxy, shown), (trail, way) = (
        inject(blank(), psf, s, 0, gain=GAIN, noise=False) for s in (wide, moved)
    )

    def moments(image: np.ndarray) -> tuple[float, ...]:
        v, u = v_u
        total = image.sum()
        x, y = (image * u).sum() / total, (image * v).sum() / total
        return total, x, y, (image * (u - x) ** 2).sum() / total, (image * (v - y) ** 2).sum() / total

    total, _, _, xx, yy = moments(point.astype(float))
    large, x, _, uu, vv = moments(galaxy["image"].astype(float) - 100)
    # A Gaussian of half-light radius 4 has sigma 4 / 1.1774; along y, half of that along x.
    sigma = 4.0 / np.sqrt(2 * np.log(2))
    assert large == pytest.approx(total, rel=3e-3)
    assert x == pytest.approx(100.2, abs=0.02)
    assert vv - yy == pytest.approx(sigma**2, rel=0.03)
    assert uu - xx == pytest.approx(sigma**2 / 4, rel=0.05)
    long, x, y, uu, vv = moments(trail["image"].astype(float) - 100)
    assert long == pytest.approx(total, rel=3e-3)
    assert (x, y) == pytest.approx((90.0, 100.0), abs=0.02)
    assert uu - xx == pytest.approx(24.0**2 / 12, rel=0.01)
    assert vv == pytest.approx(yy, rel=0.01)
    assert shown["type"].tolist() == [b"extended"]
    assert way["type"].tolist() == [b"moving"]
    # Spread light is measured less well.
    one = inject(blank(), psf, {"x": 100, "y": 100, "flux": 1e4}, 0, gain=GAIN)[1]
    assert shown["snr"][0] < one["snr"][0]
    assert way["snr"][0] < one["snr"][0]


def test_masked_saturated_and_outside() -> None:
    arrays, psf = blank(), model()
    arrays["mask"][:, 50] = flags.BAD
    arrays["mask"][120:140, 120:140] = flags.COSMIC_RAY
    arrays["image"][:, 60] = np.nan
    arrays["mask"][:, 60] = flags.NO_DATA
    sources = {
        "x": [50.0, 130.0, 100.0, -300.0],
        "y": [80.0, 130.0, 60.0, 10.0],
        "flux": [1e5, 1e3, 1e6, 1e6],
    }
    seen, truth = inject(arrays, psf, sources, 0, gain=GAIN, saturation=5e4)
    assert (seen["image"][:, 50] == 100).all()
    assert np.isnan(seen["image"][:, 60]).all()
    assert seen["image"][~np.isnan(seen["image"])].max() == 5e4
    assert seen["mask"][60, 100] == flags.SATURATED
    assert not (arrays["mask"] & flags.SATURATED).any()
    assert 0.5 < truth["confidence"][0] < 0.9
    assert truth["confidence"][1] < 0.01
    assert truth["confidence"][2] > 0.9999
    assert truth["confidence"][3] == 0
    assert truth["snr"][3] == 0


def test_a_gain_that_no_header_tells_follows_from_the_variance() -> None:
    generator = np.random.default_rng(5)
    arrays = blank(301)
    field = MoffatField.constant(3.0, 3.5, (301, 301))
    x, y = generator.uniform(0, 301, (2, 60))
    field.add(arrays["image"], x, y, 10 ** generator.uniform(3, 5, 60), 40.0)
    arrays["variance"] = (arrays["image"] / GAIN + 4).astype(np.float32)
    assert gain_of(arrays["image"], arrays["variance"], arrays["mask"]) == pytest.approx(GAIN, rel=0.02)
    arrays["variance"][:] = 29.0
    with pytest.raises(ParameterError, match="give gain="):
        inject(arrays, model(), {"x": 5, "y": 5, "flux": 1}, 0)


@pytest.mark.parametrize(
    ("sources", "say"),
    [
        ({"x": 1, "y": 2}, "lack flux"),
        ({"x": [1, np.nan], "y": [1, 2], "flux": [1, 1]}, "x of row 1"),
        ({"x": 1, "y": 2, "flux": 1, "axis_ratio": 2.0}, "axis_ratio of row 0"),
        ({"x": 1, "y": 2, "flux": 1, "half_light": -1.0}, "half_light"),
    ],
)
def test_sources_that_cannot_be_drawn_are_refused(sources: dict, say: str) -> None:
    with pytest.raises(ParameterError, match=say):
        inject(blank(21), model(), sources, 0, gain=GAIN)


def test_a_plan_puts_the_same_objects_into_all_exposures(tmp_path: Path) -> None:
    simulate_exposures("decam-like", tmp_path, 4, size=192, seed=2, density=0.2, dither=0.05)
    frames = [next(read_exposures(path, "decam")) for path in sorted(tmp_path.glob("*_ooi_*"))]
    mjd = [frame.row["mjd"] for frame in frames]
    corners = np.stack([frame.row["corners"].reshape(4, 2) for frame in frames])
    counts = {"supernova": 4, "nova": 3, "sine": 3, "point": 5, "extended": 3, "moving": 2}
    plan = InjectionPlan.random(9, counts, mjd, corners, (19.0, 22.0), first_id=1000)
    again = InjectionPlan.random(9, counts, mjd, corners, (19.0, 22.0), first_id=1000)
    assert all(
        np.array_equal(again.objects[k], v, equal_nan=v.dtype.kind == "f") for k, v in plan.objects.items()
    )
    psf = model(4.0)
    found = [inject_frame(frame, plan, psf) for frame in frames]
    seen: dict[int, list[float]] = {}
    for (after, truth), before in zip(found, frames, strict=True):
        checked(after)
        assert set(truth) >= {"exposure", "snr", "confidence", "quiescent"}
        assert after.id == before.id
        assert after.attrs["injected"] == {"seed": 9, "sources": len(truth["id"])}
        assert truth["flux_image"] * before.row["njy_per_unit"] == pytest.approx(truth["flux"])
        good = (after.arrays["mask"] & flags.UNUSABLE) == 0
        put = (after.arrays["image"].astype(float) - before.arrays["image"])[good].sum()
        inside = truth["confidence"] > 0.99
        assert put == pytest.approx(truth["flux_image"][inside].sum(), rel=0.3)
        for number, kind, flux in zip(truth["id"], truth["type"], truth["flux"], strict=True):
            if kind == b"point":
                seen.setdefault(number, []).append(flux)
    assert seen
    assert all(np.ptp(fluxes) == 0 for fluxes in seen.values())
    # Another process that does one exposure alone does the same.
    alone, truth = inject_frame(frames[3], again, psf)
    assert np.array_equal(alone.arrays["image"], found[3][0].arrays["image"])
    assert all(np.array_equal(values, found[3][1][name]) for name, values in truth.items())
    with pytest.raises(ParameterError, match="nothing called unicorn"):
        InjectionPlan.random(0, {"unicorn": 1}, mjd, corners, (19.0, 22.0))


def test_light_curves_of_a_plan_follow_time() -> None:
    corners = np.array([[[359.9, 10.0], [0.1, 10.0], [0.1, 10.2], [359.9, 10.2]]])
    times = np.arange(58000.0, 58100.0, 5.0)
    plan = InjectionPlan.random(1, {"supernova": 20, "rrlyrae": 20}, times, corners, (18.0, 20.0))
    assert ((plan.objects["ra"] > 359.8) | (plan.objects["ra"] < 0.2)).all()
    assert ((plan.objects["dec"] > 9.99) & (plan.objects["dec"] < 10.21)).all()
    light = np.stack([plan.light(t) for t in times])
    supernova = plan.objects["type"] == b"supernova"
    peak = np.array(
        [
            plan.light(t)[row]
            for row, t in zip(np.flatnonzero(supernova), plan.objects["t0"][supernova], strict=True)
        ]
    )
    assert peak == pytest.approx(10 ** (-0.4 * (plan.objects["peak"][supernova] - 31.4)))
    assert (light[:, supernova] <= peak * (1 + 1e-9)).all()
    assert (np.ptp(light[:, ~supernova], axis=0) > 0).all()
    assert (light[:, ~supernova] / plan.objects["flux"][~supernova] > 0.3).all()


def test_completeness_and_purity_are_shares_with_binomial_errors() -> None:
    truth = {"x": np.arange(10.0) * 20, "y": np.zeros(10), "snr": np.array([4.5] * 4 + [9.0] * 6)}
    candidates = {
        "x": np.array([0.5, 20.0, 80.0, 100.3, 101.0, 120.0, 140.0, 160.0, 777.0]),
        "y": np.zeros(9),
        "snr": np.array([5.2, 6.0, 8.5, 9.5, 5.1, 9.1, 9.9, 8.8, 5.3]),
    }
    table = completeness(truth, candidates, 2.0, edges=[0, 5, 7, np.inf])
    assert table["injected"].tolist() == [4, 0, 6]
    assert table["recovered"].tolist() == [2, 0, 5]
    assert table["completeness"][[0, 2]] == pytest.approx([0.5, 5 / 6])
    assert np.isnan(table["completeness"][1])
    assert table["candidates"].tolist() == [0, 4, 5]
    # Two of those between 5 and 7 are false: one beside a source that is taken, one far away.
    assert table["true"].tolist() == [0, 2, 5]
    for name in ("completeness", "purity"):
        full = np.isfinite(table[name])
        assert (table[f"{name}_low"][full] <= table[name][full]).all()
        assert (table[f"{name}_high"][full] >= table[name][full]).all()
    # Sources without confidence, and what is found on them, are left out.
    truth["confidence"] = np.where(np.arange(10) == 5, 0.0, 1.0)
    table = completeness(truth, candidates, 2.0, edges=[0, 5, 7, np.inf], least_confidence=0.5)
    assert table["injected"].tolist() == [4, 0, 5]
    assert table["recovered"].tolist() == [2, 0, 4]
    assert table["candidates"].tolist() == [0, 4, 4]


def test_completeness_asks_for_what_it_needs() -> None:
    place = {"x": np.zeros(1), "y": np.zeros(1)}
    with pytest.raises(ParameterError, match="'snr'"):
        completeness(place, place | {"snr": np.ones(1)})
    with pytest.raises(ParameterError, match="ra and dec both"):
        match(place, {"ra": np.zeros(1), "dec": np.zeros(1)}, 1.0)
    with pytest.raises(ParameterError, match="rise"):
        completeness(place, place, edges=[1.0, 1.0])


def test_matches_are_of_one_exposure_and_may_cross_right_ascension_zero() -> None:
    truth = {"ra": np.array([0.0001, 10.0]), "dec": np.array([60.0, 0.0]), "exposure": np.array([b"a", b"b"])}
    found = {
        "ra": np.array([359.9999, 10.0]),
        "dec": np.array([60.0, 0.0]),
        "exposure": np.array([b"a", b"a"]),
    }
    assert match(truth, found, 1.0).tolist() == [0, -1]
    assert match(truth, found, 0.3).tolist() == [-1, -1]


@given(st.integers(0, 400), st.integers(0, 400))
def test_wilson_intervals_hold_the_share(found: int, missed: int) -> None:
    total = found + missed
    low, high = wilson(np.array([found]), np.array([total]))
    assert 0 <= low[0] < high[0] <= 1
    if total:
        assert low[0] - 1e-12 <= found / total <= high[0] + 1e-12
