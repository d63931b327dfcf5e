"""Speed of resampling against reproject, one thread, same run. By hand:

    OMP_NUM_THREADS=1 python -m pytest tests/benchmarks/test_resample_speed.py -m acceptance -s

The coordinates from WCS to WCS are within the time of both.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from pairs import draw

from skytrawl.catalogs.images.wcs import coordinate_grid, pixel_to_sky, sky_to_pixel, wcs_of
from skytrawl.kernels.resample import Planes, Resampled, resample
from skytrawl.kernels.resample.spline import positions

SIDE, AT_LEAST = 2048, 5.0


def tan(degrees: float, scale: float) -> WCS:
    """A gnomonic WCS with pixels of 0.26 arcsec times a scale."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    step = 0.26 / 3600 * scale
    cards = {
        "NAXIS": 2, "NAXIS1": SIDE, "NAXIS2": SIDE, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN",
        "CRPIX1": SIDE / 2, "CRPIX2": SIDE / 2, "CRVAL1": 150.0, "CRVAL2": 2.0, "CD1_1": -step * c,
        "CD1_2": step * s, "CD2_1": step * s, "CD2_2": step * c,
    }  # fmt: skip
    return wcs_of(fits.Header(cards).tostring())


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def scene() -> tuple[WCS, WCS, Planes, int]:
    """Stars on a lattice, at all phases of a pixel; 1 % of the pixels are bad."""
    given, out = tan(0.0, 1.0), tan(1.5, 1.02)
    lattice = np.arange(60.0, SIDE - 60, 32)
    rng = np.random.default_rng(1)
    x, y = (v.ravel() + rng.uniform(-0.5, 0.5, v.size) for v in np.meshgrid(lattice, lattice))
    x_in, y_in = sky_to_pixel(given, *pixel_to_sky(out, x, y))
    inside = (x_in > 40) & (x_in < SIDE - 40) & (y_in > 40) & (y_in < SIDE - 40)
    image = np.zeros((SIDE, SIDE), np.float32)
    draw(image, x_in[inside], y_in[inside], np.full(int(inside.sum()), 1e4), 3.0)
    planes = Planes(image, image + np.float32(100), np.zeros(image.shape, np.uint16))
    return out, given, planes, int(inside.sum())


@pytest.mark.acceptance
def test_speed_and_flux_against_reproject() -> None:
    from reproject import reproject_interp

    out, given, planes, n_stars = scene()
    shape = (SIDE, SIDE)

    def ours(some: Planes) -> Resampled:
        return resample(some, coordinate_grid(out, given, shape, shape_in=shape), shape)

    def theirs(**options: Any) -> Any:
        return reproject_interp(
            (planes.image, given), out, shape_out=shape, return_footprint=False, **options
        )

    mask = np.zeros(shape, np.uint16)
    mask[np.random.default_rng(2).random(shape) < 0.01] = 1
    calls = {
        "image, variance, mask": lambda: ours(planes),
        "the same, 1 % of the pixels bad": lambda: ours(planes._replace(mask=mask)),
        "reproject_interp, bilinear": theirs,
        "reproject_interp, bicubic": lambda: theirs(order="bicubic"),
        "reproject_interp, bicubic, no check of coordinates": lambda: theirs(
            order="bicubic", roundtrip_coords=False
        ),
    }
    found = calls["image, variance, mask"]()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(5):
        for name, call in calls.items():
            times[name].append(seconds(call))
    base = median(times["image, variance, mask"])
    print()
    for name, values in times.items():
        speed = SIDE * SIDE / median(values) / 1e6
        print(f"{name}: {speed:.2f} Mpix/s, {median(values) / base:.1f} times our time")
    flux = float(np.nansum(found.image, dtype=np.float64)) / (1e4 * n_stars)
    print(f"mean flux ratio {flux:.6f} over {n_stars} stars")
    ratio = median(times["reproject_interp, bilinear"]) / base
    assert ratio >= AT_LEAST
    assert abs(flux - 1) <= 1e-4


def test_the_scene_is_the_right_way_round() -> None:
    out, given, _, _ = scene()
    grid = coordinate_grid(out, given, (SIDE, SIDE), shape_in=(SIDE, SIDE))
    x, y = positions(grid, np.array([100.0, 1900.0]), np.array([200.0, 1800.0]))
    exact = sky_to_pixel(given, *pixel_to_sky(out, [[200.0, 1800.0]] * 2, [[100.0] * 2, [1900.0] * 2]))
    np.testing.assert_allclose((x, y), exact, atol=1e-6)
