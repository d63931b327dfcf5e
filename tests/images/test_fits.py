"""Reading of FITS files: pixels as astropy decodes them, sums, and what is wrong with damaged ones."""

import bz2
import gzip
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from fits_files import sky_image, tan_header, write
from hypothesis import given
from hypothesis import strategies as st

from skytrawl.catalogs.images.fits import BLOCK, ones_complement, open_fits
from skytrawl.errors import IngestError

# astropy, with which files are made and compared, remarks on what it mends.
pytestmark = pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")

RNG = np.random.default_rng(5)
WHOLE = np.round(RNG.normal(1000, 300, (40, 56)))


def raw(path: Path, values: np.ndarray, **cards: Any) -> Path:
    """A file whose pixels are stored just so, with cards that scale them."""
    unit = fits.PrimaryHDU(values)
    unit.header.update(tan_header())
    unit.writeto(path)
    with fits.open(path, mode="update", do_not_scale_image_data=True) as units:
        units[0].header.update(cards)
    return path


def decoded(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The last image of a file as read here and by astropy."""
    with open_fits(path) as file, fits.open(path) as units:
        return file.image(file.units[-1]), np.asarray(units[-1].data)


def same(path: Path, dtype: str) -> None:
    ours, theirs = decoded(path)
    assert ours.dtype == np.dtype(dtype)
    assert ours.dtype == theirs.dtype.newbyteorder("=")
    assert ours.tobytes() == theirs.astype(ours.dtype).tobytes()
    assert ours.flags.c_contiguous


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "float32", "float64"])
def test_plain_pixels(tmp_path: Path, dtype: str) -> None:
    same(write(tmp_path / "a.fits", (WHOLE / 8).astype(dtype)), dtype)


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64", "int8"])
def test_offsets_make_integers_unsigned(tmp_path: Path, dtype: str) -> None:
    same(write(tmp_path / "a.fits", (WHOLE / 16).astype(dtype)), dtype)


@pytest.mark.parametrize(
    ("stored", "cards", "dtype"),
    [
        ("int16", {"BSCALE": 0.25, "BZERO": 100.0}, "float32"),
        ("int32", {"BSCALE": 0.001, "BZERO": -3.5}, "float64"),
        ("int16", {"BSCALE": 0.5, "BZERO": 7.0, "BLANK": -32768}, "float32"),
        ("int32", {"BLANK": -999}, "float64"),
        ("uint8", {"BSCALE": 2.0, "BLANK": 255}, "float32"),
        ("float32", {"BSCALE": 2.0, "BZERO": 1.0}, "float32"),
        ("float64", {"BLANK": -32768}, "float64"),
    ],
)
def test_scaled_and_blank_pixels(tmp_path: Path, stored: str, cards: dict, dtype: str) -> None:
    values = (WHOLE / 16).astype(stored)
    if "BLANK" in cards and np.dtype(stored).kind in "iu":
        values[3, 4:9] = cards["BLANK"]
    path = raw(tmp_path / "a.fits", values, **cards)
    same(path, dtype)
    with open_fits(path) as file:
        blank = np.isnan(file.image(file.units[0]))
    assert blank.sum() == (5 if "BLANK" in cards and np.dtype(stored).kind in "iu" else 0)


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        ("float32", {"compression_type": "RICE_1", "quantize_method": 1, "dither_seed": 7}),
        ("float32", {"compression_type": "RICE_1", "quantize_method": 2, "dither_seed": 9}),
        (
            "float64",
            {"compression_type": "RICE_1", "quantize_method": 1, "quantize_level": 16, "dither_seed": 7},
        ),
        ("float32", {"compression_type": "RICE_1", "quantize_method": -1}),
        ("float32", {"compression_type": "GZIP_1", "quantize_level": 0}),
        ("float64", {"compression_type": "GZIP_2", "quantize_level": 0}),
        ("float32", {"compression_type": "GZIP_2", "quantize_method": 1, "dither_seed": 3}),
        ("int16", {"compression_type": "RICE_1"}),
        ("int32", {"compression_type": "GZIP_1"}),
        ("uint16", {"compression_type": "RICE_1"}),
        ("int32", {"compression_type": "HCOMPRESS_1"}),
        ("int16", {"compression_type": "PLIO_1"}),
    ],
)
def test_fpacked_pixels(tmp_path: Path, dtype: str, words: dict) -> None:
    values = np.abs(WHOLE) / 8 + (RNG.normal(0, 1, WHOLE.shape) if dtype.startswith("f") else 0)
    values = values.astype(dtype)
    if dtype.startswith("f"):
        values[5, 5] = np.nan
    unit = fits.CompImageHDU(values, tan_header(), name="CCD1", **words)
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(tmp_path / "a.fits.fz")
    same(tmp_path / "a.fits.fz", dtype)
    with open_fits(tmp_path / "a.fits.fz") as file:
        assert (file.units[1].kind, file.units[1].shape, file.units[1].name) == (
            "compressed",
            values.shape,
            "CCD1",
        )
        assert file.header(file.units[1])["NAXIS1"] == values.shape[1]


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_packed_files(tmp_path: Path, ending: str, pack: Any) -> None:
    plain = write(tmp_path / "a.fits")
    path = tmp_path / f"a.fits{ending}"
    path.write_bytes(pack(plain.read_bytes()))
    same(path, "float32")
    with open_fits(path) as file:
        assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_real_files_are_read_as_astropy_reads_them(reference_data: Path) -> None:
    count = 0
    for path in sorted((reference_data / "images").rglob("*.fits")):
        with open_fits(path) as file, fits.open(path) as units:
            assert len(file.units) == len(units)
            for unit, other in zip(file.units, units, strict=True):
                assert unit.cards.startswith(
                    other.header.tostring(endcard=False, padding=False)[:80].split("=")[0]
                )
                if unit.is_image and unit.shape:
                    ours = file.image(unit)
                    assert ours.tobytes() == np.asarray(other.data).astype(ours.dtype).tobytes()
                    count += 1
    assert count > 90


def test_cards_are_kept_exactly(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits")
    with open_fits(path) as file:
        cards = file.units[0].cards
    assert cards.encode() == path.read_bytes()[: len(cards)]
    assert cards.endswith("END".ljust(80))


def test_sums_agree_with_astropy(tmp_path: Path) -> None:
    for number, unit in enumerate(
        [fits.ImageHDU(sky_image()), fits.CompImageHDU(sky_image(), compression_type="RICE_1")]
    ):
        path = tmp_path / f"{number}.fits"
        fits.HDUList([fits.PrimaryHDU(), unit]).writeto(path, checksum=True)
        with open_fits(path) as file:
            assert [file.verify(unit) for unit in file.units] == ["ok", "ok"]


def test_sums_find_what_has_changed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits", checksum=True)
    whole = bytearray(path.read_bytes())
    with open_fits(path) as file:
        start = file.units[0].data
        at = whole.index(b"EXPTIME")
    data = tmp_path / "data.fits"
    data.write_bytes(bytes([*whole[: start + 100], whole[start + 100] ^ 4, *whole[start + 101 :]]))
    header = tmp_path / "header.fits"
    header.write_bytes(whole[:at] + b"EXPTIMF" + whole[at + 7 :])
    only = tmp_path / "only.fits"
    only.write_bytes(bytes(whole).replace(b"CHECKSUM", b"CHECKSUN"))
    for path, verdict in (
        (data, "failed"),
        (header, "header changed"),
        (only, "ok"),
        (write(tmp_path / "b.fits"), "absent"),
    ):
        with open_fits(path) as file:
            assert file.verify(file.units[0]) == verdict


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=300), st.integers(0, 300))
def test_the_sum_is_that_of_words_with_carry(words: list[int], cut: int) -> None:
    content = np.array(words, ">u4").tobytes()
    total = 0
    for word in words:
        total += word
        total = (total & 0xFFFFFFFF) + (total >> 32)
    assert ones_complement(content, 0, len(content)) == total
    half = 4 * min(cut, len(words))
    both = ones_complement(content, half, len(content), ones_complement(content, 0, half))
    assert both % 0xFFFFFFFF == total % 0xFFFFFFFF


def faulty(tmp_path: Path, change: Any) -> Path:
    path = tmp_path / "faulty.fits"
    path.write_bytes(change(write(tmp_path / "good.fits").read_bytes()))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: b"", "is empty"),
        (lambda content: b"\x89PNG" + content, "not a FITS file"),
        (lambda content: content[:1000], "no END card"),
        (lambda content: content[: BLOCK + 5000], r"cut short: \d+ bytes are missing"),
        (
            lambda content: content.replace(b"-32 / array", b"-16 / array"),
            r"BITPIX=-16; the FITS standard knows 8",
        ),
        (
            lambda content: content.replace(b"  -32 / array", b"'xx' / array "),
            "BITPIX='xx' where a whole number",
        ),
        (lambda content: content.replace(b"BITPIX  =", b"BITPOX  ="), "no BITPIX"),
        (
            lambda content: content.replace(
                b"NAXIS1  =                   64", b"NAXIS1  =                  -64"
            ),
            "negative",
        ),
        (
            lambda content: content.replace(
                b"NAXIS1  =                   64", b"NAXIS1  =                  640"
            ),
            "cut short",
        ),
        (lambda content: content + b"garbage" * 500, "that are no extension"),
        (lambda content: gzip.compress(content)[:-500], "cut short inside its gzip compression"),
    ],
)
def test_damage_is_named(tmp_path: Path, change: Any, message: str) -> None:
    path = faulty(tmp_path, change)
    with pytest.raises(IngestError, match=message) as caught, open_fits(path):
        pass
    assert str(path) in str(caught.value)


def test_places_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="is a folder"), open_fits(tmp_path):
        pass
    with pytest.raises(IngestError, match="No such file"), open_fits(tmp_path / "none.fits"):
        pass


def test_padding_may_be_missing_or_too_much(tmp_path: Path) -> None:
    whole = write(tmp_path / "good.fits").read_bytes()
    for name, content in (("short.fits", whole[: BLOCK + 48 * 64 * 4]), ("long.fits", whole + bytes(BLOCK))):
        (tmp_path / name).write_bytes(content)
        with open_fits(tmp_path / name) as file:
            assert np.array_equal(file.image(file.units[0]), sky_image())


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    fits.HDUList([fits.PrimaryHDU(np.zeros((3, 4, 5)))]).writeto(tmp_path / "cube.fits")
    fits.HDUList([fits.PrimaryHDU(np.zeros((1, 4, 5), np.float32))]).writeto(tmp_path / "flat.fits")
    fits.HDUList([fits.PrimaryHDU()]).writeto(tmp_path / "none.fits")
    for name, message in (("cube.fits", "only images of two axes"), ("none.fits", "has no data")):
        with open_fits(tmp_path / name) as file, pytest.raises(IngestError, match=message):
            file.image(file.units[0])
    with open_fits(tmp_path / "flat.fits") as file:
        assert file.image(file.units[0]).shape == (4, 5)
