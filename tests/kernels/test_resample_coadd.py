"""Coadds of simulated dithered exposures."""

from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
from pairs import draw, half_width, stamp

from skytrawl.errors import ImageError, ParameterError
from skytrawl.kernels import flags
from skytrawl.kernels.psf import PsfModel
from skytrawl.kernels.resample import CoordinateGrid, Planes, Resampled, resample
from skytrawl.kernels.resample.coadd import Coadd, Coadded
from skytrawl.kernels.resample.coadd_psf import Part, coadd_psf

SIDE = 300
SKY, READ = 300.0, 5.0


class Exposure:
    """A dithered and turned exposure of the stars of a field, with scale, seeing and sky of its own."""

    def __init__(self, seed: int, stars: np.ndarray, *, noisy: bool = True, sky: float = SKY) -> None:
        rng = np.random.default_rng(seed)
        self.fwhm, self.gain = rng.uniform(2.8, 3.6), rng.uniform(0.7, 1.4)
        a = np.radians(rng.uniform(-3, 3))
        matrix = rng.uniform(0.98, 1.02) * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
        middle = (SIDE - 1) / 2
        shift = middle - matrix @ [middle, middle] + rng.uniform(-6, 6, 2)
        self.grid = CoordinateGrid.affine((SIDE, SIDE), matrix, (float(shift[0]), float(shift[1])))
        x, y = matrix @ stars[:2] + shift[:, None]
        image = np.zeros((SIDE, SIDE))
        draw(image, x, y, stars[2] * self.gain, self.fwhm)
        variance = image + sky + READ**2
        if noisy:
            image = rng.poisson(image + sky) - sky + rng.normal(0, READ, image.shape)
        self.planes = Planes(np.float32(image), np.float32(variance), np.zeros(image.shape, np.uint16))
        self.psf = PsfModel.constant(stamp(self.fwhm, half_width(self.fwhm)))

    def resampled(self) -> Resampled:
        return resample(self.planes, self.grid, (SIDE, SIDE))

    def into(self, coadd: Coadd, found: Resampled | None = None) -> bool:
        return coadd.add(found or self.resampled(), scale=1 / self.gain, psf=self.psf, grid=self.grid)


def field(seed: int = 0, count: int = 60, brightest: float = 2e4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    flux = np.minimum(500 * rng.pareto(0.9, count) + 500, brightest)
    return np.stack([*rng.uniform(25, SIDE - 26, (2, count)), flux])


def coadd_of(exposures: list[Exposure], *, psf: bool = False, **options: Any) -> Coadded:
    coadd = Coadd((SIDE, SIDE))
    for exposure in exposures:
        if psf:
            assert exposure.into(coadd)
        else:
            assert coadd.add(exposure.resampled(), scale=1 / exposure.gain)
    return coadd.finish(**options)


def rejected_in_the_middle(found: Coadded) -> np.ndarray:
    return found.n_rejected[20:-20, 20:-20]


def test_flux_is_conserved_and_no_star_is_clipped() -> None:
    stars = field()
    exposures = [Exposure(seed, stars) for seed in range(8)]
    found = coadd_of(exposures)
    assert found.planes.image.dtype == np.float32
    inner = np.s_[10:-10, 10:-10]
    total = np.nansum(found.planes.image[inner], dtype=np.float64)
    error = np.sqrt(np.nansum(found.planes.variance[inner], dtype=np.float64) * found.noise_correlation)
    assert abs(total - stars[2].sum()) < 4 * error
    assert error < 0.01 * stars[2].sum()
    # Rejection may not touch stars of different seeing: noise alone gives less than one pixel.
    assert rejected_in_the_middle(found).sum() <= 2
    noiseless = coadd_of([Exposure(seed, stars, noisy=False) for seed in range(8)])
    assert np.nansum(noiseless.planes.image[inner], dtype=np.float64) == pytest.approx(
        stars[2].sum(), rel=1e-3
    )
    assert rejected_in_the_middle(noiseless).sum() == 0


def test_the_variance_is_that_of_the_scatter() -> None:
    stars = field(1, brightest=3000)
    scatter, variances = [], []
    truth = coadd_of([Exposure(seed, stars, noisy=False) for seed in range(5)], clip=None)
    for trial in range(12):
        exposures = [Exposure(seed, stars, noisy=False) for seed in range(5)]
        for seed, exposure in enumerate(exposures):
            rng = np.random.default_rng(1000 * trial + seed)
            image, variance, _ = exposure.planes
            exposure.planes = exposure.planes._replace(
                image=np.float32(image + rng.normal(size=image.shape) * np.sqrt(variance))
            )
        found = coadd_of(exposures)
        scatter.append((found.planes.image - truth.planes.image)[25:-25, 25:-25])
        variances.append(found.planes.variance[25:-25, 25:-25])
    pulls = np.array(scatter) / np.sqrt(variances)
    assert np.std(pulls) == pytest.approx(1.0, abs=0.01)
    bright = truth.planes.image[25:-25, 25:-25] > 100
    assert np.std(pulls[:, bright]) == pytest.approx(1.0, abs=0.05)
    # Sums of blocks see the correlation that is recorded.
    n = 25
    blocks = np.array(scatter)[:, : n * 10, : n * 10].reshape(-1, 10, n, 10, n).sum(axis=(2, 4))
    expected = np.array(variances)[:, : n * 10, : n * 10].reshape(-1, 10, n, 10, n).sum(axis=(2, 4))
    power = np.mean(blocks**2 / expected)
    assert power == pytest.approx(found.noise_correlation, rel=4 * np.sqrt(2 / blocks.size) + 0.06)


def test_psf_seeing_and_depth() -> None:
    stars = np.array([[150.0], [140.0], [1e6]])
    exposures = [Exposure(seed, stars, noisy=False, sky=100.0) for seed in range(6)]
    found = coadd_of(exposures, psf=True)
    assert found.psf is not None
    psf = found.psf.at(150, 140)
    half = psf.shape[0] // 2
    cut = found.planes.image[140 - half : 141 + half, 150 - half : 151 + half] / 1e6
    assert np.abs(cut - psf).max() < 0.01 * psf.max()
    assert found.fwhm == pytest.approx(float(found.psf.fwhm(150, 140)), rel=1e-3)
    gaussian = sum(e.fwhm for e in exposures) / len(exposures)
    assert found.fwhm == pytest.approx(gaussian, rel=0.05)
    # Five sigma of a matched filter on the empty coadd.
    rng = np.random.default_rng(3)
    blank = np.array([[150.0], [150.0], [0.0]])
    noisy = [Exposure(seed, blank, noisy=True) for seed in rng.integers(0, 1 << 30, 6)]
    empty = coadd_of(noisy, psf=True)
    assert empty.psf is not None
    kernel = empty.psf.at(150, 150).astype(np.float64)
    from scipy.signal import fftconvolve

    flux = (
        fftconvolve(empty.planes.image[10:-10, 10:-10], kernel[::-1, ::-1], mode="valid") / (kernel**2).sum()
    )
    assert 5 * np.std(flux) == pytest.approx(empty.depth, rel=0.1)


@pytest.mark.parametrize("angle", [0.0, 20.0, 45.0])
@pytest.mark.parametrize("degree", [1, 2])
def test_psf_where_a_turned_exposure_covers_a_part(angle: float, degree: int) -> None:
    a, large, middle = np.radians(angle), 800, (SIDE - 1) / 2
    matrix = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    shift = middle - matrix @ [large / 2, large / 2]
    grid = CoordinateGrid.affine((large, large), matrix, (float(shift[0]), float(shift[1])))
    narrow, wide = (stamp(fwhm, half_width(4.5)) for fwhm in (3.5, 4.2))
    change, nothing = wide - narrow, np.zeros_like(wide)
    terms = {1: [narrow, change / 2, nothing], 2: [narrow, nothing, change / 2, nothing, nothing, change / 2]}
    psf = PsfModel(np.float32(terms[degree]), degree, middle, middle, middle, middle)
    y, x = np.mgrid[20:large:40, 20:large:40]
    u, v = (matrix @ [x.ravel(), y.ravel()]) + shift[:, None]
    covered = (np.abs(u - middle) < middle) & (np.abs(v - middle) < middle)
    x, y, u, v = x.ravel()[covered], y.ravel()[covered], u[covered], v[covered]
    window = (int(y.min()) - 20, int(y.max()) + 20, int(x.min()) - 20, int(x.max()) + 20)
    found = coadd_psf([Part(psf, grid, 1.0, window)]).at(x, y).astype(np.float64)
    true = psf.at(u, v, size=found.shape[-1]).astype(np.float64)
    flux = (found * true).sum(axis=(1, 2)) / np.square(true).sum(axis=(1, 2))
    assert len(flux) > 30
    np.testing.assert_allclose(flux, 1.0, atol=0.005)


@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_what_is_in_one_exposure_is_left_out(count: int) -> None:
    stars = field(2)
    exposures = [Exposure(seed, stars) for seed in range(count)]
    before = coadd_of(exposures)
    rng = np.random.default_rng(7)
    image = exposures[0].planes.image.copy()
    hits = rng.integers(30, SIDE - 30, (2, 60))
    image[hits[0], hits[1]] += 3000
    for step in range(40, 260):  # a trail
        image[step, step // 2 + 40 : step // 2 + 43] += 400
    transient = np.zeros(image.shape)
    draw(transient, np.array([200.3]), np.array([60.6]), np.array([2e4]), exposures[0].fwhm)
    exposures[0].planes = exposures[0].planes._replace(image=image + np.float32(transient))
    after = coadd_of(exposures)
    change = np.abs(after.planes.image - before.planes.image)[15:-15, 15:-15]
    noise = np.sqrt(after.planes.variance)[15:-15, 15:-15]
    # What is left of them is within the threshold of one exposure, but for what sits on a star.
    light = before.planes.image[15:-15, 15:-15]
    faint = light < 30
    assert (change[faint] < 8 * noise[faint]).mean() > 0.9999
    unclipped = coadd_of(exposures, clip=None)
    harm = np.abs(unclipped.planes.image - before.planes.image)[15:-15, 15:-15]
    assert change[faint].sum() < 0.1 * harm[faint].sum()
    assert (after.planes.mask[after.n_rejected > 0] & flags.SUSPECT).all()
    assert (after.n_used + after.n_rejected).max() == count


def test_masked_pixels_are_filled_by_the_others() -> None:
    stars = field(3)
    exposures = [Exposure(seed, stars) for seed in range(4)]
    mask = exposures[0].planes.mask.copy()
    mask[100:110] = flags.BAD
    image = np.where(mask, np.nan, exposures[0].planes.image)
    exposures[0].planes = exposures[0].planes._replace(image=image, mask=mask)
    for exposure in exposures:
        bits = exposure.planes.mask.copy()
        bits[200:240] |= flags.SATURATED
        exposure.planes = exposure.planes._replace(mask=bits)
    found = coadd_of(exposures)
    assert found.n_used[105, 150] == 3
    assert np.isfinite(found.planes.image[105, 150])
    assert found.n_used[220, 150] == 0
    assert np.isnan(found.planes.image[220, 150])
    assert found.planes.mask[220, 150] == flags.SATURATED | flags.NO_DATA
    assert np.isfinite(found.planes.variance[found.n_used > 0]).all()


def test_stripes_allocation_and_the_array_api_change_nothing(tmp_path: Any) -> None:
    stars = field(4)
    exposures = [Exposure(seed, stars) for seed in range(5)]
    rng = np.random.default_rng(8)
    for exposure in exposures:
        image, mask = exposure.planes.image.copy(), exposure.planes.mask.copy()
        image[rng.random(image.shape) < 0.003] += 2000
        mask[rng.random(image.shape) < 0.01] = flags.BAD
        mask[rng.random(image.shape) < 0.01] = flags.SUSPECT
        exposure.planes = exposure.planes._replace(image=image, mask=mask)
    whole = coadd_of(exposures, psf=True)
    assert whole.n_rejected.any()
    stripes = coadd_of(exposures, memory=1)
    files = iter(range(100))

    def allocate(shape: tuple[int, ...], dtype: Any) -> Any:
        return np.memmap(tmp_path / f"{next(files)}", dtype=dtype, mode="w+", shape=shape)

    mapped = Coadd((SIDE, SIDE), allocate=allocate)
    for exposure in exposures:
        exposure.into(mapped)
    for other in (stripes, mapped.finish()):
        for a, b in zip((*whole.planes, *whole[1:3]), (*other.planes, *other[1:3]), strict=True):
            np.testing.assert_array_equal(a, b)
    device, host = strict.Device("device1"), strict.Device("CPU_DEVICE")
    foreign = Coadd((SIDE, SIDE), xp=strict)
    for exposure in exposures:
        found = exposure.resampled()
        exposure.into(foreign, Resampled(*(strict.asarray(p, device=device) for p in found[:4]), found[4]))
    result = foreign.finish(memory=1 << 22)
    assert result.planes.image.device == device
    image, variance, mask, used, rejected = (
        np.asarray(strict.asarray(plane, device=host)) for plane in (*result.planes, *result[1:3])
    )
    np.testing.assert_array_equal(used, whole.n_used)
    np.testing.assert_array_equal(rejected, whole.n_rejected)
    np.testing.assert_array_equal(mask, whole.planes.mask)
    np.testing.assert_allclose(image, whole.planes.image, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(variance, whole.planes.variance, rtol=1e-5)
    assert result.sigma == pytest.approx(whole.sigma, rel=1e-5)
    assert result.depth == pytest.approx(whole.depth, rel=1e-4)


def test_nothing_to_add() -> None:
    exposure = Exposure(0, field())
    coadd = Coadd((SIDE, SIDE))
    away = CoordinateGrid.affine((SIDE, SIDE), np.eye(2), (9999.0, 0.0))
    assert not exposure.into(coadd, resample(exposure.planes, away, (SIDE, SIDE)))
    assert len(coadd) == 0
    with pytest.raises(ImageError, match="none of 1 exposures"):
        coadd.finish()
    found = exposure.resampled()
    with pytest.raises(ParameterError, match="scale"):
        coadd.add(found, scale=0.0)
    with pytest.raises(ParameterError, match="weight"):
        coadd.add(found, weight=-1.0)
    with pytest.raises(ParameterError, match="needs its grid"):
        coadd.add(found, psf=exposure.psf)
    with pytest.raises(ParameterError, match="shape"):
        Coadd((10, 10)).add(found)
    assert coadd.add(found, weight=1.0)
    with pytest.raises(ParameterError, match="clipped"):
        coadd.finish(clip=1.0)
    single = coadd.finish()
    assert single.psf is None
    assert np.isnan(single.depth)
    used = single.n_used > 0
    assert used.mean() > 0.9
    np.testing.assert_array_equal(single.planes.image[used], found.image[used])
