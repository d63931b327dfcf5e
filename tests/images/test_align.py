"""A reference carried onto an exposure that is turned, flipped and of another scale."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.wcs import WCS
from pairs import draw
from scipy.ndimage import uniform_filter

from skytrawl.catalogs.images.frame import Frame
from skytrawl.catalogs.images.measured import Exposure, exposure_of, measure_frame
from skytrawl.catalogs.images.wcs import cards_of
from skytrawl.images.align import align
from skytrawl.images.difference import Parameters
from skytrawl.images.modes import subtract
from skytrawl.kernels.psf import PsfModel

SIZE, PIXEL = 384, 0.26  # arcsec
DX, DY = 1.2, -0.7  # px of the exposure: its WCS puts the reference so far from where it is
RATIO = 1.7


def exposure(
    name: str,
    matrix: np.ndarray,
    pixel: float,
    offset: tuple[float, float] = (0.0, 0.0),
    gain: float = 1.0,
    shift: float = 0.0,
    scatter: float = 0.0,
) -> Exposure:
    """Stars at the same sky, on pixels turned by `matrix` and moved by `shift` along x.

    Its WCS is `offset` pixels wrong; fluxes scatter by a share of `scatter`.
    """
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [150.0, 2.0]
    wcs.wcs.crpix, wcs.wcs.cd = [SIZE / 2 + shift, SIZE / 2], matrix * pixel / 3600
    rng = np.random.default_rng(3)
    sky = rng.uniform(-50, 50, (2, 90)) / 3600
    x, y = wcs.all_world2pix(150.0 + sky[0], 2.0 + sky[1], 0)
    flux = gain * 10 ** rng.uniform(3, 5, 90) * (1 + scatter * rng.normal(size=90))
    image = np.zeros((SIZE, SIZE))
    draw(image, x, y, flux, 0.9 / pixel)
    image += np.random.default_rng(len(name)).normal(0, 5.0 * gain, image.shape)
    wcs.wcs.crpix += offset
    planes = {
        "image": image.astype(np.float32),
        "variance": np.full(image.shape, (5.0 * gain) ** 2, np.float32),
        "mask": np.zeros(image.shape, np.uint16),
    }
    frame = Frame(name, planes, {"cards": cards_of(wcs, image.shape)}, {"pixel_scale": pixel}, {})
    return exposure_of(measure_frame(frame))


@pytest.mark.parametrize(
    ("matrix", "pixel"),
    [
        (np.array([[-1.0, 0.0], [0.0, 1.0]]), PIXEL),
        (np.array([[0.0, 1.0], [1.0, 0.0]]), PIXEL),
        (np.array([[1.0, 0.0], [0.0, 1.0]]), PIXEL),
        (np.array([[-0.8, 0.6], [0.6, 0.8]]), 1.3 * PIXEL),
    ],
    ids=["alike", "turned", "flipped", "turned and coarser"],
)
def test_shift_and_scale_are_those_of_the_exposure(matrix: np.ndarray, pixel: float) -> None:
    science = exposure("science", np.array([[-1.0, 0.0], [0.0, 1.0]]), PIXEL, (DX, DY), RATIO)
    reference = exposure("reference", matrix, pixel)
    found = align(science, reference)
    # The WCS of the exposure says that a star lies (DX, DY) farther on than it does.
    assert found.match.dx == pytest.approx(DX, abs=0.03)
    assert found.match.dy == pytest.approx(DY, abs=0.03)
    assert found.match.scale == pytest.approx(RATIO, rel=0.01)
    assert 0 < found.match.dx_error < 0.02
    left = science.planes.image - RATIO * found.planes.image
    bright = science.stars.snr > 100
    y, x = (np.rint(v[bright]).astype(int) for v in (science.stars.y, science.stars.x))
    # In the middle the same light; a coarser reference is broader.
    peak = science.planes.image[y, x]
    covered = found.planes.mask[y, x] == 0
    assert np.median(np.abs(left[y, x] / peak)[covered]) < (0.03 if pixel == PIXEL else 0.2)
    assert found.fwhm == pytest.approx(science.psf.fwhm(SIZE / 2, SIZE / 2), rel=0.12)
    # As strong over many pixels as in the reference.
    noise = found.sky_sigma[150:230, 150:230] * np.sqrt(found.noise_correlation)
    assert np.median(noise) == pytest.approx(5.0 * PIXEL / pixel, rel=0.1)


def test_stars_that_scatter_do_not_stand_out() -> None:
    matrix = np.array([[-1.0, 0.0], [0.0, 1.0]])
    science, reference = (
        exposure("science", matrix, PIXEL, scatter=0.02),
        exposure("reference", matrix, PIXEL),
    )
    found = align(science, reference)
    assert found.match.scale_scatter == pytest.approx(0.02, rel=0.3)
    done = subtract(science, found, Parameters(reference=Path("references")), "cpu")
    bright = science.stars.snr > 500
    y, x = (np.rint(v[bright]).astype(int) for v in (science.stars.y, science.stars.x))
    assert bright.sum() > 20
    significance = done.planes["scorr"][y, x]
    assert 0.5 < np.nanstd(significance) < 1.5


def test_psf_of_a_reference_that_covers_a_part() -> None:
    matrix = np.array([[-1.0, 0.0], [0.0, 1.0]])
    science, reference = exposure("science", matrix, PIXEL), exposure("reference", matrix, PIXEL, shift=280)
    # Steep: continued over the exposure, it would be negative.
    samples = reference.psf.at(size=31).astype(np.float64)
    wide = uniform_filter(samples, 5)
    half = SIZE / 2
    psf = PsfModel(
        np.float32([(samples + wide) / 2, (wide - samples) / 2, 0 * wide]), 1, half, half, half, half
    )
    found = align(science, replace(reference, psf=psf))
    assert 0.2 < found.overlap < 0.3
    for x in (8, 50, 90):
        middle = found.psf.at(x, 200)[15, 15]
        assert middle == pytest.approx(psf.at(x + 280, 200)[15, 15], rel=0.01)
    assert found.psf.fwhm(SIZE, 200) == pytest.approx(found.psf.fwhm(104, 200), rel=0.01)
