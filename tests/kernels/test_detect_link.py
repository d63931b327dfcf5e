"""Links of candidates across exposures."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_allclose, assert_array_equal

from skytrawl.errors import ParameterError, SchemaError
from skytrawl.kernels.detect.link import link

from .conftest import examples


def around(rng, ra, dec, n, sigma):
    """n positions about (ra, dec), sigma in arcsec, on the tangent plane."""
    a, d = np.radians(ra), np.radians(dec)
    centre = np.array([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])
    east = np.array([-np.sin(a), np.cos(a), 0.0])
    north = np.cross(centre, east)
    step = rng.normal(0.0, np.radians(sigma / 3600.0), (n, 2))
    p = centre + step[:, :1] * east + step[:, 1:] * north
    return np.degrees(np.arctan2(p[:, 1], p[:, 0])), np.degrees(
        np.arctan2(p[:, 2], np.hypot(p[:, 0], p[:, 1]))
    )


@pytest.mark.parametrize(
    ("ra", "dec"),
    [(10.0, 20.0), (0.0, 0.0), (359.99999, -5.0), (123.0, 90.0), (7.0, -90.0), (180.0, 89.9999)],
)
def test_one_object_anywhere_on_the_sky(ra, dec):
    rng = np.random.default_rng(1)
    a, d = around(rng, ra, dec, 60, 0.2)
    mjd = np.repeat(np.arange(20.0), 3)
    got = link(a, d, mjd, 2.0)
    assert (got.object == 0).all()
    assert (got.n, got.n_epochs, got.first, got.last) == (60, 20, 0.0, 19.0)
    off = np.hypot((got.ra - ra + 180) % 360 - 180, 0) * np.cos(np.radians(dec)), got.dec - dec
    assert np.hypot(*off) * 3600 < 0.15
    assert 0.2 < got.scatter < 0.36


def test_neighbours_stay_two_objects_and_chains_do_not_grow():
    rng = np.random.default_rng(2)
    # Six objects in a row, 1.6 arcsec apart: friends of friends would make them one.
    parts = [around(rng, 40.0, 10.0 + k * 1.6 / 3600, 50, 0.12) for k in range(6)]
    ra, dec = (np.concatenate(v) for v in zip(*parts, strict=True))
    got = link(ra, dec, np.tile(np.arange(50.0), 6), 1.0)
    assert len(got.ra) == 6
    assert_array_equal(got.n, 50)
    assert_array_equal(got.object, np.repeat(np.arange(6), 50))
    assert_allclose(got.dec, 10.0 + np.arange(6) * 1.6 / 3600, atol=0.06 / 3600)


def test_fringe_of_a_group_is_no_object():
    """A candidate beyond the radius of the centre that was taken, but not of the mean."""
    dec = np.array([0.0, 0.8, 0.8, 0.0, 1.15]) / 3600
    got = link(np.full(5, 5.0), dec, np.arange(5.0), 1.0)
    assert_array_equal(got.object, 0)


@given(st.data())
@settings(max_examples=examples(60))
def test_order_of_exposures_does_not_matter(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    n = data.draw(st.integers(0, 80))
    spread = data.draw(st.sampled_from([0.5, 3.0, 20.0]))
    ra, dec = around(rng, data.draw(st.sampled_from([0.0, 200.0])), rng.choice([0.0, 90.0, -45.0]), n, spread)
    if data.draw(st.booleans()):
        ra, dec = np.round(ra, 4), np.round(dec, 4)
    ra[rng.random(n) < 0.05] = np.nan
    mjd = rng.integers(0, 5, n).astype(float)
    want = link(ra, dec, mjd, 2.0)
    order = rng.permutation(n)
    got = link(ra[order] % 360.0, dec[order], mjd[order], 2.0)
    for a, b in zip(got[1:], want[1:], strict=True):
        assert_array_equal(a, b)
    assert_array_equal(got.object, want.object[order])
    known = np.isfinite(ra)
    assert_array_equal(want.object >= 0, known)
    assert_array_equal(np.bincount(want.object[known], minlength=len(want.ra)), want.n)
    assert (want.n > 0).all()
    assert_array_equal(np.lexsort((want.ra, want.dec)), np.arange(len(want.ra)))


def test_many_exposures():
    rng = np.random.default_rng(3)
    m, k = 500, 200
    ra = np.repeat(rng.uniform(359.9, 360.1, m), k) + rng.normal(0.0, 0.1 / 3600, m * k)
    dec = np.repeat(rng.uniform(-0.1, 0.1, m), k) + rng.normal(0.0, 0.1 / 3600, m * k)
    got = link(ra % 360.0, dec, np.tile(np.arange(float(k)), m), 0.6)
    assert abs(len(got.ra) - m) < 5
    assert (got.n_epochs == k).mean() > 0.95


def test_input():
    none = link([], [], [], 1.0)
    assert [len(v) for v in none] == [0] * 8
    assert_array_equal(link([np.nan, np.inf], [0.0, 0.0], [1.0, 2.0], 1.0).object, -1)
    with pytest.raises(SchemaError, match="shapes"):
        link([1.0], [1.0, 2.0], [1.0], 1.0)
    for radius in (0.0, -1.0, np.nan, 601.0):
        with pytest.raises(ParameterError, match="radius"):
            link([1.0], [1.0], [1.0], radius)
