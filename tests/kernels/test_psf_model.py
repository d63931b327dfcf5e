"""PSF models: evaluation, interpolation, widths, storage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytrawl.errors import ParameterError
from skytrawl.kernels.psf import PsfModel, n_terms, polynomial_terms


def moffat(size: int, fwhm: float, beta: float = 3.5, dx: float = 0.0, dy: float = 0.0, step: float = 1.0):
    y, x = (np.mgrid[:size, :size] - size // 2) * step
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    return (1 + ((x - dx) ** 2 + (y - dy) ** 2) / alpha**2) ** -beta


def test_terms_stand_in_the_order_of_psfex() -> None:
    terms = polynomial_terms(2.0, 3.0, 2)
    np.testing.assert_array_equal(terms, [1, 2, 4, 3, 6, 9])
    assert [n_terms(degree) for degree in range(4)] == [1, 3, 6, 10]


@given(st.floats(2.0, 6.0), st.floats(2.5, 5.0), st.sampled_from([0.5, 0.7, 1.0]))
def test_width_is_that_of_the_profile(fwhm: float, beta: float, sampling: float) -> None:
    size = 2 * int(12 * fwhm / sampling / 2) + 1
    model = PsfModel.constant(moffat(size, fwhm, beta, step=sampling), sampling)
    assert abs(model.fwhm() / fwhm - 1) < (0.01 if fwhm / sampling > 3 else 0.03)


# What a cubic spline through samples so far apart leaves of a Moffat profile.
@pytest.mark.parametrize(("sampling", "bound"), [(0.5, 5e-4), (0.8, 3e-3), (1.0, 6e-3)])
def test_shifted_stamp_is_that_of_a_shifted_star(sampling: float, bound: float) -> None:
    fine = moffat(2 * int(30 / sampling) + 1, 3.6, step=sampling)
    model = PsfModel.constant(fine, sampling)
    stamp = model.at(dx=0.3, dy=-0.45)
    truth = moffat(model.shape[0], 3.6, dx=0.3, dy=-0.45)
    scale = moffat(model.shape[0], 3.6).sum()
    assert np.abs(stamp - truth / scale).max() < bound * stamp.max()
    assert abs(model.at().sum() - 1) < 1e-6
    assert model.at().argmax() == model.at().size // 2


def test_field_variation_follows_the_polynomial() -> None:
    narrow, wide = (moffat(31, width) / moffat(31, width).sum() for width in (3.0, 4.0))
    model = PsfModel(
        np.float32([(narrow + wide) / 2, (wide - narrow) / 2, 0 * narrow]), 1, 500, 500, 500, 500
    )
    stamps = model.at([0, 500, 1000], [10, 20, 30])
    np.testing.assert_allclose(stamps[0], narrow, atol=1e-7)
    np.testing.assert_allclose(stamps[2], wide, atol=1e-7)
    assert np.all(np.diff(model.fwhm([0, 500, 1000], [1, 2, 3])) > 0)
    again = PsfModel.from_arrays(model.to_arrays())
    np.testing.assert_array_equal(again.at(100, 200), model.at(100, 200))


def test_each_star_has_its_own_shift() -> None:
    basis = np.float32([moffat(41, 6.0, step=1.0), 0.01 * moffat(41, 9.0), 0.01 * moffat(41, 4.0)])
    model = PsfModel(basis, 1, 50, 50, 50, 50, 0.5)
    rng = np.random.default_rng(8)
    x, y = rng.uniform(0, 100, (2, 20))
    dx, dy = x - np.rint(x), y - np.rint(y)
    together = model.at(x, y, dx=dx, dy=dy)
    single = [model.at(u, v, dx=float(du), dy=float(dv)) for u, v, du, dv in zip(x, y, dx, dy, strict=True)]
    np.testing.assert_allclose(together, single, rtol=1e-6, atol=1e-9)


def test_beyond_its_field_the_psf_is_that_of_the_edge() -> None:
    narrow, wide = (moffat(31, width) / moffat(31, width).sum() for width in (3.0, 4.0))
    model = PsfModel(np.float32([(narrow + wide) / 2, (wide - narrow) / 2, 0 * narrow]), 1, 50, 50, 50, 50)
    np.testing.assert_array_equal(model.at(1e6, -1e6), model.at(100, 0))
    assert model.fwhm(-300.0, 20.0) == model.fwhm(0.0, 20.0)


def test_size_cuts_and_pads() -> None:
    model = PsfModel.constant(moffat(21, 3.0))
    assert model.at(size=41).shape == (41, 41)
    assert model.at(size=41)[0, 0] == 0
    assert abs(model.at(size=11).sum() - 1) < 1e-6
    assert model.at([[1, 2], [3, 4]], 0).shape == (2, 2, 21, 21)


@pytest.mark.parametrize(
    ("basis", "degree"),
    [
        (np.ones((1, 4, 5)), 0),
        (np.ones((2, 5, 5)), 1),
        (np.full((1, 5, 5), np.nan), 0),
        (np.zeros((1, 5, 5)), 0),
    ],
)
def test_what_is_no_psf_is_refused(basis: np.ndarray, degree: int) -> None:
    with pytest.raises(ParameterError, match="PSF"):
        PsfModel(np.float32(basis), degree)
