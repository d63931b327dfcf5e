"""The exposures that come with the package: what they are, and that what is new in them is found."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import skytrawl
from skytrawl.catalogs.samples import decam_exposures
from skytrawl.catalogs.samples.decam import FILES

# File of the package -> file of the origin.
ORIGIN = dict(zip(FILES, ("DEC-OBS18b", "DEC-OBS18a", "DEC-OBS04b", "DEC-OBS04d"), strict=True))


def test_files_are_small_described_and_reproducible() -> None:
    found = decam_exposures()
    folder = found.paths[0].parent
    assert {path.name for path in folder.glob("*.fits.gz")} == {path.name for path in found.paths}
    assert sum(path.stat().st_size for path in found.paths) < 1.0e6
    sources = (folder / "SOURCES.md").read_text()
    assert all(f"`{path.name}`" in sources for path in found.paths)
    for path in found.paths:
        head = path.read_bytes()[:10]
        assert head[4:8] == b"\0\0\0\0"
        assert not head[3] & 8


@pytest.mark.filterwarnings("ignore::astropy.io.fits.verify.VerifyWarning")
def test_pixels_and_cards_are_those_of_the_origin(reference_data: Path) -> None:
    for path in decam_exposures().paths:
        ours = fits.open(path, checksum=True)[0]
        other = reference_data / "images" / "decam_mini" / f"{ORIGIN[path.name]}.mini.fits"
        theirs = fits.open(other)[0]
        assert ours.data.dtype == np.dtype(">f4")
        np.testing.assert_array_equal(ours.data, theirs.data)
        changed = {"BITPIX", "CHECKSUM", "DATASUM"}
        own = [card.image for card in ours.header.cards if card.keyword not in changed]
        assert own == [card.image for card in theirs.header.cards if card.keyword not in changed]


def test_times_are_those_of_the_exposures(tmp_path: Path) -> None:
    """DATE-OBS is that of the grid in all four; the name of the exposure tells when it began."""
    decam = decam_exposures()
    skytrawl.ingest_images(decam.paths, tmp_path / "store", **(decam.options | {"measure": False}))
    table = skytrawl.open_images(tmp_path / "store").table
    assert (table.mjd < decam.between).values.tolist() == [True, True, False, False]
    assert float(table.mjd.sel(frame="decam_i_20160818a")) == pytest.approx(
        57618 + (2 + 3 / 60 + (39 + 165) / 3600) / 24, abs=1e-5
    )
