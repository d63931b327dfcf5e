"""Quantised planes: reading against fpack's files, at the same error and on one thread.

Figures: python -m pytest -q -s -m acceptance tests/benchmarks/test_image_storage.py
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skytrawl.catalogs.images.frame import Frame
from skytrawl.catalogs.images.store import FrameStore

SIDE = 2048
SIGMA = 20.0


def sky_with_stars(seed: int, side: int = SIDE) -> np.ndarray:
    """Noise of 20 on a sky of 400 and a gradient, and stars with Pareto fluxes."""
    generator = np.random.default_rng(seed)
    x = np.arange(side)
    image = 400 + 0.01 * x + generator.normal(0, SIGMA, (side, side))
    box = np.mgrid[-15:16, -15:16]
    stamp = np.exp(-(box**2).sum(axis=0) / 2 / 1.8**2) / (2 * np.pi * 1.8**2)
    for _ in range(side * side // 2500):
        row, column = generator.integers(16, side - 16, 2)
        flux = min(1000 * generator.pareto(1.0), 2e6)
        image[row - 15 : row + 16, column - 15 : column + 16] += flux * stamp
    return image.astype(np.float32)


def write_all(folder: Path, image: np.ndarray) -> dict[str, float]:
    """The same image as fpack's file and in a store, quantised to no larger an error; bytes of both."""
    import fitsio

    packed = folder / "image.fits.fz"
    with fitsio.FITS(packed, "rw") as file:
        file.write(image, compress="RICE", qlevel=4, qmethod="SUBTRACTIVE_DITHER_1")
    error = float(np.std(fitsio.read(packed, ext=1) - image))
    store = FrameStore.create(folder / "store", "exposures")
    fraction = 0.25
    store.write(Frame("probe", {"image": image}), quantise={"image": fraction})
    own = store.plane("probe", "image").attrs["quantisation"]["error_rms"]
    store.write(Frame("quantised", {"image": image}), quantise={"image": fraction * error / own})
    store.write(Frame("lossless", {"image": image}))
    return {
        "fpack error": error,
        "error": store.plane("quantised", "image").attrs["quantisation"]["error_rms"],
        "fpack bytes": packed.stat().st_size,
        "bytes": store.plane("quantised", "image").file.stat().st_size,
        "lossless bytes": store.plane("lossless", "image").file.stat().st_size,
    }


def ways_of(folder: Path) -> dict[str, Callable[[], np.ndarray]]:
    import fitsio
    from astropy.io import fits

    store = FrameStore.open(folder / "store")
    packed = folder / "image.fits.fz"
    return {
        "quantised": lambda: store.read("quantised").arrays["image"],
        "lossless": lambda: store.read("lossless").arrays["image"],
        "fitsio": lambda: fitsio.read(packed, ext=1),
        "astropy": lambda: fits.getdata(packed, 1),
    }


def measure(folder: Path, rounds: int) -> dict[str, float]:
    """Median of the seconds of each way, interleaved, and of its ratio to ours round by round."""
    from numcodecs import blosc

    blosc.use_threads = False
    blosc.set_nthreads(1)
    ways = ways_of(folder)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    ours = np.array(seconds["quantised"][1:])
    found = {name: float(np.median(times[1:])) for name, times in seconds.items()}
    return found | {
        f"{name} ratio": float(np.median(np.array(times[1:]) / ours)) for name, times in seconds.items()
    }


def test_all_ways_read_the_same_image(tmp_path: Path) -> None:
    pytest.importorskip("fitsio")
    image = sky_with_stars(1, side=512)
    figures = write_all(tmp_path, image)
    assert figures["error"] == pytest.approx(figures["fpack error"], rel=0.01)
    for name, way in ways_of(tmp_path).items():
        found = way()
        assert found.shape == image.shape, name
        error = (found - image).std()
        assert error == 0 if name == "lossless" else error == pytest.approx(figures["error"], rel=0.02), name


@pytest.mark.acceptance
def test_reading_quantised_planes(tmp_path: Path) -> None:
    pytest.importorskip("fitsio")
    image = sky_with_stars(2)
    figures = write_all(tmp_path, image)
    ratio = {name: image.nbytes / figures[name] for name in ("fpack bytes", "bytes", "lossless bytes")}
    print(f"\nerror {figures['error'] / SIGMA:.4f} sigma, fpack {figures['fpack error'] / SIGMA:.4f} sigma")
    print("compression: " + ", ".join(f"{name} {value:.2f}" for name, value in ratio.items()))
    code = (
        "import json; from pathlib import Path; from test_image_storage import measure; "
        f"print(json.dumps(measure(Path({str(tmp_path)!r}), 41)))"
    )
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    for name in ("quantised", "lossless", "fitsio", "astropy"):
        speed = image.nbytes / 1e6 / found[name]
        print(f"  {name}: {1e3 * found[name]:.1f} ms, {speed:.0f} MB/s, {found[name + ' ratio']:.2f}")
    assert figures["error"] <= 1.01 * figures["fpack error"]
    assert figures["bytes"] <= figures["fpack bytes"]
    assert found["fitsio ratio"] >= 5
    assert found["astropy ratio"] >= 5
