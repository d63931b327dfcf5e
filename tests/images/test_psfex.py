"""PSFEx models of the DESI Legacy Surveys, and files in the program's own layout made from them."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from skytrawl.catalogs.images.psfex import read_psfex
from skytrawl.errors import IngestError


@pytest.fixture(scope="module")
def files(reference_data: Path) -> list[Path]:
    return sorted((reference_data / "images" / "legacy").rglob("*-psfex.fits"))


def keys(path: Path) -> dict:
    with fits.open(path) as units:
        row = units[1].data
        return {name.upper(): row[name][0] for name in row.names}


def test_models_have_the_width_that_their_keys_tell(files: list[Path]) -> None:
    assert len(files) == 14
    for path in files:
        model, row = read_psfex(path), keys(path)
        assert model.degree == row["POLDEG1"]
        stamp = model.at(row["POLZERO1"] - 1, row["POLZERO2"] - 1)
        assert abs(stamp.sum() - 1) < 1e-5
        assert stamp.shape[0] >= 8 * model.fwhm(row["POLZERO1"], row["POLZERO2"])
        # PSFEx takes PSF_FWHM from the half-light radii of its stars, which the wings enlarge.
        assert 1.1 < row["PSF_FWHM"] / model.fwhm(row["POLZERO1"], row["POLZERO2"]) < 1.45


def test_the_polynomial_is_that_of_psfex(files: list[Path]) -> None:
    row, model = keys(files[0]), read_psfex(files[0])
    assert model.degree == 2
    x, y = 1000.0, 300.0
    u = (x + 1 - row["POLZERO1"]) / row["POLSCAL1"]
    v = (y + 1 - row["POLZERO2"]) / row["POLSCAL2"]
    samples = np.tensordot([1, u, u * u, v, u * v, v * v], row["PSF_MASK"], 1)
    np.testing.assert_allclose(model.terms(x, y) @ model.basis.reshape(6, -1), samples.ravel(), atol=1e-7)


def own_layout(path: Path, row: dict, **changes: object) -> Path:
    column = fits.Column("PSF_MASK", f"{row['PSF_MASK'].size}E", "(63,63,6)", array=row["PSF_MASK"][None])
    unit = fits.BinTableHDU.from_columns([column], name="PSF_DATA")
    wanted = [key for key in row if key.startswith(("POL", "PSF_", "PSFA", "PSFN"))]
    for key in wanted:
        if key != "PSF_MASK":
            value = row[key]
            unit.header[key] = value.item() if isinstance(value, np.generic) else value
    unit.header.update(changes)
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(path)
    return path


def test_files_of_the_program_itself(files: list[Path], tmp_path: Path) -> None:
    path = own_layout(tmp_path / "own.psf", keys(files[0]))
    np.testing.assert_array_equal(read_psfex(path).at(50, 60), read_psfex(files[0]).at(50, 60))


def test_what_cannot_be_used_is_named(files: list[Path], tmp_path: Path) -> None:
    other = own_layout(tmp_path / "colour.psf", keys(files[0]), POLNAME2="MAG_AUTO")
    with pytest.raises(IngestError, match=r"colour\.psf.*MAG_AUTO"):
        read_psfex(other)
    cut = tmp_path / "cut.psf"
    cut.write_bytes(files[0].read_bytes()[:9000])
    with pytest.raises(IngestError, match=r"cut\.psf"):
        read_psfex(cut)
    image = tmp_path / "image.fits"
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(image)
    with pytest.raises(IngestError, match="0 PSFEx models"):
        read_psfex(image)
    two = tmp_path / "two.fits"
    with fits.open(files[0]) as units:
        table = np.concatenate([units[1].data, units[1].data])
    fits.BinTableHDU(table).writeto(two)
    with pytest.raises(IngestError, match="2 PSFEx models, not one; name the detector, one of N12, N12"):
        read_psfex(two)
