"""Detection: islands and saddles, positions, shapes, flags and dipoles."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays as planes
from scipy.spatial import cKDTree

from skytrawl.errors import ParameterError, SchemaError
from skytrawl.kernels import flags
from skytrawl.kernels.detect import COLUMNS, Detection, detect
from skytrawl.kernels.detect.label import find, neighbours, split

from .conftest import examples, needs_jit
from .detect_scenes import islands, scene


def found(score, mask=None, flux=None, error=None, fwhm=3.0, **settings):
    score = np.asarray(score, np.float32)
    mask = np.zeros(score.shape, np.uint16) if mask is None else mask
    flux = score if flux is None else flux
    error = np.ones_like(score) if error is None else error
    return detect(score, flux, error, mask, fwhm=fwhm, **settings)


def grid(n, step, rng):
    """Sub-pixel positions that do not disturb each other, in an image of n by n cells."""
    v, u = np.mgrid[0:n, 0:n] * step + step / 2.0
    return u.ravel() + rng.uniform(-0.5, 0.5, n * n), v.ravel() + rng.uniform(-0.5, 0.5, n * n)


SCORES = planes(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.sampled_from([0.0, 1.0, -1.0, 2.0, -2.0, 3.0, 3.5, -4.0, 6.0, 7.0, 9.0, np.nan, np.inf]),
    fill=st.nothing(),
)


@given(score=SCORES, saddle=st.sampled_from([0.0, 0.5, 1.0, 3.0]), data=st.data())
@settings(max_examples=examples(100))
def test_islands_are_those_of_plain_python(score, saddle, data):
    bad = data.draw(planes(np.bool_, score.shape, fill=st.just(False)))
    mask = np.where(bad, np.uint16(flags.SATURATED), np.uint16(flags.SUSPECT))
    usable = np.isfinite(score) & ~bad
    want = islands(score, usable, 0.75, saddle)
    index = find(score.ravel(), mask.ravel(), np.uint16(flags.UNUSABLE), np.float32(0.75))
    value = score.ravel()[index]
    peak_of = index[split(np.abs(value), neighbours(index, value, score.shape[1]), saddle)]
    got = {}
    for pixel, peak in zip(index.tolist(), peak_of.tolist(), strict=True):
        got.setdefault(peak, []).append(pixel)
    assert got == want
    with np.errstate(all="ignore"):
        table = found(score, mask, threshold=0.75, saddle=saddle)
    peaks = table["peak_y"] * score.shape[1] + table["peak_x"]
    assert peaks.tolist() == sorted(want)
    assert table["n_pixels"].tolist() == [len(want[p]) for p in sorted(want)]
    assert (np.sign(table["score"]) == table["sign"]).all()
    for name, (dtype, _, _) in COLUMNS.items():
        assert table[name].dtype == dtype
        assert table[name].shape == (len(want),)


@pytest.mark.parametrize("fill", [0.0, np.nan, np.inf, -np.inf])
def test_nothing_to_find(fill):
    table = found(np.full((7, 5), fill))
    assert list(table) == list(COLUMNS)
    assert all(len(column) == 0 for column in table.values())


@pytest.mark.parametrize(("y", "x"), [(0, 0), (0, 8), (6, 0), (6, 8), (0, 4), (3, 4)])
def test_single_pixel(y, x):
    score = np.zeros((7, 9))
    score[y, x] = -8.0
    table = found(score)
    assert (table["peak_x"], table["peak_y"]) == (x, y)
    assert (table["x"], table["y"]) == (x, y)
    assert (table["n_pixels"], table["width"], table["sign"]) == (1, 1, -1)
    assert table["flux"] == -8.0
    assert table["edge_distance"] == min(x, y, 8 - x, 6 - y)
    # A uniform pixel.
    np.testing.assert_allclose([table["a"][0], table["b"][0]], 1.0 / np.sqrt(12.0))
    assert np.isnan(table["size"])
    assert table["n_bad"] == 49 - len(range(max(x - 3, 0), min(x + 4, 9))) * len(
        range(max(y - 3, 0), min(y + 4, 7))
    )


def test_plateau_is_one_source():
    score = np.zeros((20, 20))
    score[5:9, 4:12] = 7.0
    table = found(score)
    assert (table["n_pixels"], table["peak_x"], table["peak_y"], table["width"]) == (32, 4, 5, 8)
    np.testing.assert_allclose(table["elongation"], 2.0)
    assert table["theta"] == 0.0


def test_everything_above_the_threshold():
    score = np.full((300, 200), 6.0, np.float32)
    table = found(score)
    assert table["n_pixels"].tolist() == [60000]
    rng = np.random.default_rng(1)
    table = found(score + rng.normal(0.0, 0.1, score.shape))
    assert table["n_pixels"].tolist() == [60000]


def test_threshold_is_left_out_and_signs_stay_apart():
    score = np.zeros((9, 9))
    score[4, 2:7] = [5.0, 5.1, 9.0, -9.0, -5.1]
    table = found(score)
    assert table["sign"].tolist() == [1, -1]
    assert table["n_pixels"].tolist() == [2, 2]


def test_rows_do_not_join_across_the_border():
    score = np.zeros((4, 6))
    score[1, 5] = score[2, 0] = 8.0
    assert found(score)["n_pixels"].tolist() == [1, 1]


@pytest.mark.parametrize(("valley", "count"), [(6.9, 1), (7.1, 1), (6.8, 1), (5.9, 2)])
def test_saddle_must_be_three_sigma_deep(valley, count):
    score = np.zeros((9, 9))
    score[4, 2:7] = [8.0, 9.0, valley, 10.0, 8.0]
    assert len(found(score)["x"]) == count


def test_sizes_that_are_asked_for():
    score = np.zeros((30, 30))
    score[3, 3] = 9.0
    score[10:12, 3:6] = 9.0
    score[20, 2:28] = 9.0
    assert found(score)["n_pixels"].tolist() == [1, 6, 26]
    assert found(score, min_pixels=2)["n_pixels"].tolist() == [6, 26]
    assert found(score, min_pixels=2, max_size=10)["n_pixels"].tolist() == [6]


def test_flags_of_footprint_and_box():
    score = np.zeros((40, 60))
    score[20, 10:40] = np.linspace(9.0, 6.0, 30)
    mask = np.zeros(score.shape, np.uint16)
    mask[20, 38] = flags.SUSPECT  # in the footprint, far from the peak
    mask[22, 11] = flags.COSMIC_RAY  # beside the peak
    mask[30, 10] = flags.BLEED
    table = found(score, mask)
    assert table["flags"] == flags.SUSPECT | flags.COSMIC_RAY
    assert table["n_bad"] == 1
    mask[20, 10] = flags.SATURATED
    table = found(score, mask)
    assert table["peak_x"] == 11
    assert len(found(score, mask, exclude=0)["x"]) == 1
    assert found(score, mask, exclude=0)["peak_x"] == 10


@needs_jit
@pytest.mark.parametrize("source_noise", [False, True])
def test_positions_and_fluxes_of_sources(source_noise):
    rng = np.random.default_rng(2)
    x, y = grid(25, 40, rng)
    flux = rng.choice([-1.0, 1.0], len(x)) * 10 ** rng.uniform(2.9, 4.5, len(x))
    score, flux_map, error, image = scene(rng, (1000, 1000), x, y, flux, source_noise=source_noise)
    mask = np.zeros(score.shape, np.uint16)
    table = detect(score, flux_map, error, mask, fwhm=3.0, difference=image, blank=flux_map / error.min())
    distance, match = cKDTree(np.c_[x, y]).query(np.c_[table["x"], table["y"]])
    real = distance < 2.0
    assert (~real).sum() <= 1
    assert len(np.unique(match[real])) == real.sum()
    strong = real & (np.abs(table["score"]) > 8.0)
    assert strong.sum() > 500
    assert (table["sign"][strong] == np.sign(flux[match[strong]])).all()
    for name, truth in (("x", x), ("y", y)):
        off = table[name][strong] - truth[match[strong]]
        pull = off / table[f"{name}_error"][strong]
        assert abs(pull.mean()) < 0.15
        # The errors are those of a source in the noise of the sky, and a little large where its own counts.
        assert 0.9 - 0.1 * source_noise < pull.std() < 1.1
        bright = np.abs(table["score"][strong]) > 60.0
        assert bright.sum() > 50
        assert abs(off[bright].mean()) < 0.005
        assert off[bright].std() < 0.03
    pull = (table["flux"] - flux[match])[strong] / table["flux_error"][strong]
    # A maximum is a little above the value at the true position: by half a variance an axis.
    assert abs((pull * table["sign"][strong]).mean()) < 0.2
    assert 0.85 < pull.std() < 1.15
    # The peak of a Moffat profile of exponent 3 is wider than that of a Gaussian of its FWHM.
    np.testing.assert_allclose(np.median(table["size"][strong]), 3.42, rtol=0.02)
    assert not table["is_dipole"][strong].any()
    assert (np.abs(table["blank_score"]) >= np.abs(table["score"]) * 0.99).all()


@needs_jit
def test_dipoles_of_displaced_stars():
    rng = np.random.default_rng(3)
    x, y = grid(15, 40, rng)
    flux = np.full(len(x), 2e4)
    score, flux_map, error, _ = scene(
        rng, (600, 600), np.r_[x, x + 0.2], np.r_[y, y - 0.1], np.r_[flux, -flux * 1.01], sigma=8.0
    )
    table = detect(score, flux_map, error, np.zeros(score.shape, np.uint16), fwhm=3.0)
    assert len(table["x"]) > 200
    assert table["is_dipole"].mean() > 0.95
    pair = table[  # what a dipole looks like
        "partner_distance"
    ][table["is_dipole"]]
    assert 2.0 < np.median(pair) < 6.0
    assert (table["flux_ratio"][table["is_dipole"]] > 0.2).all()


def test_partner_is_not_taken_from_bad_pixels():
    score = np.zeros((30, 30))
    score[10, 10], score[10, 13], score[12, 10] = 9.0, -8.0, -6.0
    table = found(score, min_pixels=1)
    assert table["is_dipole"].all()
    assert table["partner_distance"][0] == 3.0
    mask = np.zeros(score.shape, np.uint16)
    mask[10, 13] = flags.BAD
    table = found(score, mask)
    assert table["partner_distance"][0] == 2.0
    assert table["partner_score"][0] == -6.0
    np.testing.assert_allclose(table["flux_ratio"][0], 6.0 / 9.0)


def test_other_dtypes_and_layouts():
    score = np.zeros((12, 14), ">f8")
    score[5, 6] = 7.0
    want = found(score)
    got = detect(score.T.copy().T, score, np.ones((12, 14)), np.zeros((12, 14), np.uint8), fwhm=3.0)
    for name in COLUMNS:
        np.testing.assert_array_equal(got[name], want[name])


def test_bad_input():
    plane = np.zeros((4, 4), np.float32)
    mask = np.zeros((4, 4), np.uint16)
    with pytest.raises(SchemaError, match=r"flux_error has shape \(4, 5\)"):
        detect(plane, plane, np.zeros((4, 5)), mask, fwhm=3.0)
    with pytest.raises(SchemaError, match="two-dimensional"):
        detect(plane[0], plane[0], plane[0], mask[0], fwhm=3.0)
    with pytest.raises(ParameterError, match="fwhm"):
        detect(plane, plane, plane, mask)
    with pytest.raises(ParameterError, match="either options"):
        detect(plane, plane, plane, mask, fwhm=3.0, options=Detection(3.0))
    for wrong in (
        {"fwhm": 0.0},
        {"threshold": np.nan},
        {"min_pixels": 0},
        {"saddle": -1},
        {"exclude": 1 << 16},
    ):
        with pytest.raises(ParameterError):
            Detection(**{"fwhm": 3.0} | wrong)
