"""Heliocentric times of a survey that says so become exposure times that objects share again."""

from pathlib import Path

import numpy as np
import pytest

import skytrawl
from skytrawl.catalogs import surveys
from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.heliocentric import to_heliocentric
from skytrawl.errors import IngestError


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    text = (Path(surveys.__file__).parent / "ogle.toml").read_text()
    text = text.replace("# recover_exposure", "recover_exposure").replace("# resolution", "resolution")
    path = tmp_path / "own.toml"
    path.write_text(text.replace('name = "ogle"', 'name = "own"', 1))
    return path


def observed() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Dates of five decimals, as delivered, of objects that were exposed together; the exposures."""
    generator = np.random.default_rng(1)
    exposures = np.sort(np.round(generator.uniform(57_000, 58_500, 200), 5))
    ra, dec = generator.uniform(265, 275, 40), generator.uniform(-32, -28, 40)
    seen = generator.random((40, 200)) < 0.8
    owner, number = np.nonzero(seen)
    times = to_heliocentric(exposures[number], ra[owner], dec[owner])
    return {
        "object": np.array([f"BLG{index}" for index in owner]),
        "hjd": np.round(times + 2_400_000.5, 5),
        "mag": np.round(generator.normal(17, 1, len(owner)), 3),
        "err": np.full(len(owner), 0.01),
        "band": np.full(len(owner), "I"),
        "ra": ra[owner],
        "dec": dec[owner],
    }, exposures


def test_exposures_are_shared_again(survey: Path, tmp_path: Path) -> None:
    table, exposures = observed()
    path = tmp_path / "a.zarr"
    report = skytrawl.ingest(table, path, survey=survey, partition_observations=2_000)
    archive = Archive.open(path)
    times = np.concatenate(
        [archive.read(number, ["time"]).observations["time"] for number in range(archive.n_partitions)]
    )
    # Half a digit as delivered, half a digit of the grid.
    assert np.abs(np.unique(times)[:, None] - exposures).min(axis=1).max() <= 1.01e-5
    assert len(np.unique(times)) <= 2 * len(exposures) < len(np.unique(table["hjd"])) / 4
    said = archive.attrs["light_curves"]["time"]
    assert said["reference_position"] == "geocenter"
    assert said["recovered"]["from"] == "heliocenter"
    assert 0 < said["recovered"]["max_error"] <= 0.5e-5 + 1e-11
    assert said["recovered"]["bytes_after"] < said["recovered"]["bytes_before"]
    again = skytrawl.append(table, path)
    assert (again.rows_kept, again.version) == (0, report.version)


def test_rows_without_position_are_counted_or_refused(survey: Path, tmp_path: Path) -> None:
    table, _ = observed()
    table["ra"][:3] = np.nan
    report = skytrawl.ingest(table, tmp_path / "a.zarr", survey=survey)
    assert sum(report.dropped.values()) == 3
    del table["ra"], table["dec"]
    with pytest.raises(IngestError, match="needs the position of every row: pass a table of objects"):
        skytrawl.ingest(table, tmp_path / "b.zarr", survey=survey)
