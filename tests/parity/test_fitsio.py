"""Pixels against cfitsio, which shares no code with astropy."""

from pathlib import Path

import numpy as np
import pytest

from skytrawl.catalogs.images.fits import open_fits

fitsio = pytest.importorskip("fitsio")
NOISE = np.random.default_rng(3).normal(1000, 20, (200, 300))


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        ("f4", {"compress": "RICE", "qlevel": 4, "qmethod": "SUBTRACTIVE_DITHER_1", "dither_seed": 5}),
        ("f4", {"compress": "RICE", "qlevel": 16, "qmethod": "SUBTRACTIVE_DITHER_2", "dither_seed": 8}),
        ("f8", {"compress": "GZIP_2", "qlevel": 0}),
        ("f4", {"compress": "GZIP", "qlevel": 0}),
        ("i2", {"compress": "RICE"}),
        ("i4", {"compress": "GZIP_2"}),
        ("u2", {"compress": "RICE"}),
        ("f4", {}),
        ("i4", {}),
    ],
)
def test_files_of_cfitsio_bit_for_bit(tmp_path: Path, dtype: str, words: dict) -> None:
    path = tmp_path / "a.fits.fz"
    with fitsio.FITS(str(path), "rw") as file:
        file.write(NOISE.astype(dtype), extname="CCD", **words)
        file[-1].write_checksum()
    with fitsio.FITS(str(path)) as file:
        theirs = file["CCD"].read()
    with open_fits(path) as file:
        unit = file.units[-1]
        ours = file.image(unit)
        assert file.verify(unit) == "ok"
    assert ours.dtype == np.dtype(dtype)
    assert ours.tobytes() == theirs.astype(ours.dtype).tobytes()
