"""Ingest of FITS images: real surveys, resuming, duplicates, the command."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner
from fits_files import sky_image, tan_header, write

import skytrawl
from skytrawl.catalogs.images.columns import COLUMNS
from skytrawl.catalogs.images.headers import load_header_map
from skytrawl.catalogs.images.store import FrameStore
from skytrawl.cli import main
from skytrawl.errors import IngestError, ParameterError
from skytrawl.images import ingest
from skytrawl.images.ingest import list_files, quarantined

# Measuring stars and PSF has its own tests, and takes longer than all of this.
ingest_images = partial(ingest.ingest_images, measure=False)

REAL: list[tuple[str, str, dict, int, int]] = [
    ("decam", "legacy/testcase6", {}, 6, 18),
    ("decam", "legacy/testcase3", {}, 8, 24),
    ("mzls", "legacy/mzlsbass3/images/mosaic", {}, 2, 4),
    ("bass", "legacy/mzlsbass3/images/90prime", {}, 6, 12),
    ("decam", "decam_mini", {"checksums": "note"}, 7, 5),
    ("jwst", "nircam", {"keys": {"mid": "MJD-OBS"}}, 2, 6),
    ("generic", "wcs", {"positions": "optional"}, 3, 0),
]


def test_real_surveys_in_one_store(reference_data: Path, tmp_path: Path) -> None:
    images = reference_data / "images"
    for survey, folder, words, frames, passed_over in REAL:
        report = ingest_images(images / folder, tmp_path / "store", survey=survey, **words)
        assert (report.frames, report.passed_over, report.quarantined) == (frames, passed_over, {}), folder
    version = report.version
    for survey, folder, words, frames, _ in REAL:
        again = ingest_images(images / folder, tmp_path / "store", survey=survey, **words)
        assert (again.frames, again.kept, again.version) == (0, frames, version)
    found = skytrawl.open_images(tmp_path / "store")
    table = found.table
    assert table.sizes["frame"] == 34
    assert set(COLUMNS) <= set(table.data_vars)
    decam = table.where(table.survey == "decam", drop=True)
    assert set(decam.band.values) == {"g", "r", "z", "i"}
    # Two epochs of one sky are found by position, and every frame touches the HEALPix cell of its centre.
    assert len(found.cone(110.312, 23.9199, 0.001)) >= 6
    offsets, cover, centres = (table[name].values for name in ("cover_offsets", "cover", "healpix"))
    for row, cell in enumerate(centres):
        held = cover[offsets[row] : offsets[row + 1]]
        assert (cell >> 2 * 19 in held) if cell >= 0 else not len(held)
    # What was ingested is the file, bit for bit.
    store = FrameStore.open(tmp_path / "store")
    for name in ("DEC-OBS04a.mini", "c4d_181214_050844_ooi_g_ls9.S9"):
        frame = store.read(name)
        unit = 0 if name.startswith("DEC") else 1
        pixels = fits.getdata(frame.row["source"], unit)
        assert frame.arrays["image"].tobytes() == pixels.astype(frame.arrays["image"].dtype).tobytes()
        header = fits.getheader(frame.row["source"], unit)
        assert frame.attrs["cards"] == header.tostring()


def make_files(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        header = tan_header(150 + number * 0.01, 2.0)
        header["EXPNUM"] = number
        write(folder / f"x{number:03d}.fits", sky_image(number), header)
    return folder


def test_a_killed_ingest_goes_on(tmp_path: Path) -> None:
    source = make_files(tmp_path / "in", 40)
    whole = ingest_images(source, tmp_path / "whole")
    assert whole.frames == 40
    code = "import sys; from skytrawl.images.ingest import *; ingest_images(*sys.argv[1:], measure=False)"
    process = subprocess.Popen([sys.executable, "-c", code, str(source), str(tmp_path / "cut")])
    frames = tmp_path / "cut" / "frames"
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if frames.is_dir() and len(os.listdir(frames)) > 5:
            break
        time.sleep(0.002)
    assert process.poll() is None, "it was through before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert FrameStore.open(tmp_path / "cut").version == 0
    rest = ingest_images(source, tmp_path / "cut")
    assert rest.kept >= 4
    assert rest.kept + rest.frames == 40
    one, two = FrameStore.open(tmp_path / "whole"), FrameStore.open(tmp_path / "cut")
    assert one.fingerprint == two.fingerprint
    assert np.array_equal(one.table["content"], two.table["content"])


def test_workers_give_the_same_store(tmp_path: Path) -> None:
    source = make_files(tmp_path / "in", 12)
    (source / "bad.fits").write_bytes(b"nonsense")
    seen: list[tuple[int, int]] = []
    one = ingest_images(source, tmp_path / "one")
    two = ingest_images(source, tmp_path / "two", cluster="threads", progress=lambda *at: seen.append(at))
    assert FrameStore.open(tmp_path / "one").fingerprint == FrameStore.open(tmp_path / "two").fingerprint
    assert one.quarantined == two.quarantined
    assert seen[-1] == (13, 13)


def test_more_files_make_the_next_version(tmp_path: Path) -> None:
    source = make_files(tmp_path / "in", 3)
    assert ingest_images(source, tmp_path / "store").version == 1
    header = tan_header()
    write(source / "new.fits", sky_image(9), header)
    report = ingest_images(source, tmp_path / "store")
    assert (report.version, report.frames, report.kept) == (2, 1, 3)
    assert len(FrameStore.open(tmp_path / "store", 1)) == 3


def test_copies_and_equal_names(tmp_path: Path) -> None:
    source = make_files(tmp_path / "in", 3)
    (source / "copy.fits").write_bytes((source / "x001.fits").read_bytes())
    (source / "sub").mkdir()
    (source / "sub" / "x000.fits").write_bytes((source / "x000.fits").read_bytes())
    write(source / "sub" / "x002.fits", sky_image(77))
    report = ingest_images(source, tmp_path / "store")
    ids = FrameStore.open(tmp_path / "store").ids
    assert ids == ["copy", "x000", "x002"] or ids == ["x000", "x001", "x002"]
    assert len(report.quarantined) == 3
    text = "\n".join(report.quarantined.values())
    assert text.count("is a copy of") == 2
    assert "would have the name of" in text
    again = ingest_images(source, tmp_path / "store")
    assert (again.quarantined, again.version, again.kept) == (report.quarantined, report.version, 3)


def test_other_bytes_or_options_do_not_replace_unasked(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits")
    ingest_images(path, tmp_path / "store")
    other = ingest_images(path, tmp_path / "store", keys={"zero_point": 20})
    assert "made with other options" in next(iter(other.quarantined.values()))
    write(path, sky_image(3))
    report = ingest_images(path, tmp_path / "store")
    assert "of other bytes" in next(iter(report.quarantined.values()))
    report = ingest_images(path, tmp_path / "store", replace=True)
    assert (report.frames, report.version, report.quarantined) == (1, 2, {})
    assert quarantined(tmp_path / "store") == {}


def test_a_changed_mask_is_another_input(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits")
    fits.PrimaryHDU(np.zeros((48, 64), np.uint8)).writeto(tmp_path / "a.mask.fits")
    assert ingest_images(path, tmp_path / "store").frames == 1
    fits.PrimaryHDU(np.eye(48, 64, dtype=np.uint8)).writeto(tmp_path / "a.mask.fits", overwrite=True)
    report = ingest_images(path, tmp_path / "store", replace=True)
    assert (report.frames, report.kept) == (1, 0)
    assert FrameStore.open(tmp_path / "store").read("a").arrays["mask"].sum() == 48


def test_quantised_planes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits", sky_image(1, (256, 256)))
    ingest_images(path, tmp_path / "whole")
    ingest_images(path, tmp_path / "small", quantise={"image": 0.25})
    small = FrameStore.open(tmp_path / "small").read("a").arrays["image"]
    whole = FrameStore.open(tmp_path / "whole").read("a").arrays["image"]
    assert 0 < np.abs(small - whole).max() <= 5 * 0.25 * 0.7
    folders = [tmp_path / name / "frames" / "a" / "image" for name in ("small", "whole")]
    sizes = [sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) for folder in folders]
    assert sizes[0] < 0.4 * sizes[1]


def test_the_command(tmp_path: Path) -> None:
    source = make_files(tmp_path / "in", 2)
    words = ["ingest-images", str(source), str(tmp_path / "store"), "--no-measure"]
    words += ["--key", "band=FILTER", "--key", "zero_point=25"]
    good = CliRunner().invoke(main, words)
    assert (good.exit_code, good.exception) == (0, None), good.output
    assert "2 images written of 2 files" in good.output
    (source / "bad.fits").write_bytes(b"nonsense")
    bad = CliRunner().invoke(main, [*words, "--json"])
    assert bad.exit_code == 3
    report = json.loads(bad.output)
    assert report["kept"] == 2
    assert "not a FITS file" in report["quarantined"][str(source / "bad.fits")]
    stop = CliRunner().invoke(main, [*words, "--on-bad", "raise"])
    assert stop.exit_code == 1
    wrong = CliRunner().invoke(main, [*words, "--quantise", "image"])
    assert wrong.exit_code == 2


def test_inputs_that_cannot_be_meant(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(IngestError, match="no FITS images of generic"):
        ingest_images(tmp_path / "empty", tmp_path / "store")
    path = write(tmp_path / "a.fits")
    for words in ({"on_bad": "x"}, {"checksums": "x"}, {"positions": "x"}, {"keys": {"shoe": "SIZE"}}):
        with pytest.raises(ParameterError):
            ingest_images(path, tmp_path / "store", **words)
    assert list_files([path, tmp_path], load_header_map("generic"))[0] == [path]
