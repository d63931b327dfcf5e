"""Speed of D + S + S_corr on one thread against hotpants and PyZOGY's transforms, in turn. By hand:

    SKYTRAWL_HOTPANTS=.../hotpants SKYTRAWL_PYZOGY=.../PyZOGY \
        OMP_NUM_THREADS=1 python -m pytest tests/benchmarks/test_difference_speed.py -m acceptance -s

hotpants (github.com/acbecker/hotpants) is built with ``make COPTS="-O3 -std=c99 -fcommon -D_GNU_SOURCE"
LIBS="-lm -lcfitsio"`` and libcfitsio-dev; PyZOGY (github.com/dguevel/PyZOGY) is a checkout.
"""

import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from pairs import make_pair
from scipy.fft import irfft2, rfft2
from subtracted import sides, subtract_pair

from skytrawl.kernels.difference.zogy import filters, prepare, zogy

SIZE, ROUNDS = 1024, 7
FASTER, FFT_SHARE = 30.0, 0.65


def processor(function):
    """Seconds of the processor in this thread: others may keep the machine busy."""
    start = time.thread_time()
    function()
    return time.thread_time() - start


def child(command):
    """Seconds of the processor that a program takes."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return usage.ru_utime + usage.ru_stime


@pytest.fixture(scope="module")
def pair():
    return make_pair("A", 1, SIZE, injections=[5.0, 8.0, -10.0] * 50)


@pytest.fixture(scope="module")
def ours(pair):
    new, ref = sides(pair)
    ready = prepare(ref)
    made = filters(new, ref, ready.shape)
    zogy(new, ready, filters=made)
    return lambda **options: zogy(new, ready, filters=made, **options)


def transforms(pair):
    """The transforms of one subtraction alone: image and variance forth, D, S and the variance back."""
    image, variance = pair.science, pair.data_variance("science")
    hat = rfft2(image, workers=1)
    size = image.shape

    def run():
        for plane in (image, variance):
            rfft2(plane, workers=1)
        for _ in range(3):
            irfft2(hat, s=size, workers=1)

    return run


def report(name, seconds, unit):
    print(f"  {name:34s} {1e3 * seconds:9.1f} ms  {seconds / unit:7.2f}")


@pytest.mark.acceptance
def test_transforms_are_most_of_the_time(pair, ours):
    bare = transforms(pair)
    bare()
    with_shift = {"shift_error": (0.1, 0.1), "relative_error": 0.01}
    new, ref = sides(pair)
    cases = {
        "D, S, S_corr": ours,
        "bare transforms": bare,
        "with a shift's noise": lambda: ours(**with_shift),
        "filters of a PSF pair": lambda: filters(new, ref, (SIZE, SIZE)),
        "reference prepared": lambda: prepare(ref),
        "whole image from planes": lambda: subtract_pair(pair),
    }
    for function in cases.values():
        function()
    taken = {name: [] for name in cases}
    for _ in range(ROUNDS):
        for name, function in cases.items():
            taken[name].append(processor(function))
    median = {name: statistics.median(values) for name, values in taken.items()}
    print(f"\n{SIZE}^2, one thread, median of {ROUNDS} in turn; ratio to D, S, S_corr")
    for name, seconds in median.items():
        report(name, seconds, median["D, S, S_corr"])
    share = statistics.median(
        b / o for b, o in zip(taken["bare transforms"], taken["D, S, S_corr"], strict=True)
    )
    print(f"  bare transforms are {100 * share:.0f} % of the time")
    assert share >= FFT_SHARE


@pytest.mark.acceptance
def test_thirty_times_as_fast_as_hotpants(pair, ours, tmp_path):
    binary = os.environ.get("SKYTRAWL_HOTPANTS")
    if not binary:
        pytest.skip("SKYTRAWL_HOTPANTS does not name the hotpants program")
    from astropy.io import fits

    for name in ("science", "reference"):
        fits.writeto(tmp_path / f"{name}.fits", getattr(pair, name))
    command = [binary, "-inim", "science.fits", "-tmplim", "reference.fits", "-outim", "out.fits"]
    command = [str(tmp_path / c) if c.endswith(".fits") else c for c in command]
    command += ["-il", "-1000", "-tl", "-1000", "-n", "t", "-v", "0", "-oni", str(tmp_path / "noise.fits")]
    mine, theirs = [], []
    for _ in range(5):
        theirs.append(child(command))
        mine.append(statistics.median(processor(ours) for _ in range(ROUNDS)))
    assert np.isfinite(fits.getdata(tmp_path / "out.fits")).all()
    ratio = statistics.median(t / m for t, m in zip(theirs, mine, strict=True))
    print(
        f"\nhotpants {statistics.median(theirs):.2f} s, ours {1e3 * statistics.median(mine):.1f} ms:",
        f"x{ratio:.0f}",
    )
    assert ratio >= FASTER


@pytest.mark.acceptance
def test_thirty_times_as_fast_as_the_core_of_pyzogy(pair, ours):
    folder = os.environ.get("SKYTRAWL_PYZOGY")
    if not folder:
        pytest.skip("SKYTRAWL_PYZOGY does not name a checkout of PyZOGY")
    sys.path.insert(0, str(Path(folder)))
    try:
        from PyZOGY import subtract as peer
        from PyZOGY.image_class import ImageClass
    except ImportError as error:
        pytest.skip(f"PyZOGY cannot be imported: {error}")
    finally:
        sys.path.pop(0)

    def image(name, zero_point):
        # Its own loading fits a background and fills bad pixels, which takes three times as long again.
        loaded = np.asarray(getattr(pair, name), dtype=float).view(ImageClass)
        psf = np.zeros((SIZE, SIZE))
        stamp = getattr(pair, f"psf_{name}")
        psf[: stamp.shape[0], : stamp.shape[1]] = stamp
        loaded.psf = np.roll(psf, (-(stamp.shape[0] // 2), -(stamp.shape[1] // 2)), (0, 1))
        loaded.background_std, loaded.zero_point = getattr(pair, f"sigma_{name}"), zero_point
        loaded.raw_image, loaded.variance = np.asarray(loaded), pair.data_variance(name).astype(float)
        loaded.read_noise, loaded.registration_noise = 0.0, (0.0, 0.0)
        return loaded

    new, ref = image("science", pair.ratio), image("reference", 1.0)

    def core():
        d = peer.calculate_difference_image(new, ref, gain_ratio=pair.ratio)
        zero = peer.calculate_difference_image_zero_point(new, ref)
        score = peer.calculate_matched_filter_image(d, peer.calculate_difference_psf(new, ref, zero), zero)
        return d, score / np.sqrt(peer.correct_matched_filter_image(new, ref))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine, theirs = [], []
        for _ in range(5):
            theirs.append(processor(core))
            mine.append(statistics.median(processor(ours) for _ in range(ROUNDS)))
        d, scorr = core()
    found = ours()
    print(f"\nS_corr of PyZOGY: std {np.real(scorr).std():.3f}, ours {found.scorr.std():.3f}")
    ratio = statistics.median(t / m for t, m in zip(theirs, mine, strict=True))
    print(
        f"PyZOGY {statistics.median(theirs):.2f} s, ours {1e3 * statistics.median(mine):.1f} ms: x{ratio:.0f}"
    )
    assert np.corrcoef(np.real(d).ravel(), found.d.ravel())[0, 1] > 0.999
    assert ratio >= FASTER
