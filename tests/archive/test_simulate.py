"""Simulated archives are sound, seeded and like a survey."""

from pathlib import Path

import numpy as np
import pytest

from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.simulate import simulate_archive
from skytrawl.catalogs.sky import N_CELLS, hash_of, healpix_of, positions_of
from skytrawl.catalogs.validate import validate


def test_sound_and_as_asked(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    version = simulate_archive(
        tmp_path / "a",
        500,
        60,
        seed=1,
        partitions=4,
        bands=("g", "r", "i"),
        progress=lambda *c: calls.append(c),
    )
    assert version.number == 1
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    archive = Archive.open(tmp_path / "a")
    assert (archive.n_objects, archive.n_partitions, archive.bands) == (500, 4, ("g", "r", "i"))
    assert 0.9 < archive.n_observations / (500 * 60) < 1.1
    report = validate(tmp_path / "a", deep=True)
    assert report.ok, str(report)
    table = archive.version.partitions
    assert (table["healpix_max"][:-1] < table["healpix_min"][1:]).all()
    block = archive.read(1, ["time", "value", "error", "class"])
    assert set(block.objects["class"]) == {b"constant", b"sine", b"supernova"}
    assert len(np.unique(block.observations["time"])) < block.n_observations / 20
    value = block.observations["value"]
    np.testing.assert_array_equal(np.round(value, 3), value)
    assert (block.observations["error"] > 0).all()


def test_seeded_by_partition(tmp_path: Path) -> None:
    first = simulate_archive(tmp_path / "a", 100, 20, seed=5, partitions=3)
    again = simulate_archive(tmp_path / "b", 100, 20, seed=5, partitions=3)
    other = simulate_archive(tmp_path / "c", 100, 20, seed=6, partitions=3)
    np.testing.assert_array_equal(first.partitions["content"], again.partitions["content"])
    assert not (first.partitions["content"] == other.partitions["content"]).any()


def test_empty_partitions_are_cheap(tmp_path: Path) -> None:
    version = simulate_archive(tmp_path / "a", 0, partitions=3000)
    assert len(version.partitions) == 3000
    assert len(np.unique(version.partitions["object_slot"])) == 3000
    files = [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) < 40
    assert Archive.open(tmp_path / "a").read(2999, ["time", "ra"]).n_objects == 0


def test_more_partitions_than_objects(tmp_path: Path) -> None:
    version = simulate_archive(tmp_path / "a", 2, 30, partitions=5)
    assert version.partitions["n_objects"].sum() == 2
    assert validate(tmp_path / "a").ok


def test_cells_and_positions() -> None:
    generator = np.random.default_rng(0)
    cells = generator.integers(0, N_CELLS, 1000, dtype=np.uint64)
    ra, dec = positions_of(cells)
    np.testing.assert_array_equal(healpix_of(ra, dec), cells)
    np.testing.assert_array_equal(healpix_of(ra - 360, dec), cells)
    assert healpix_of(np.array([0.0, 90.0]), np.array([90.0, -90.0])).shape == (2,)
    assert healpix_of(np.zeros(0), np.zeros(0)).size == 0
    assert positions_of(np.zeros(0, np.uint64))[0].size == 0
    for bad in ((np.nan, 0.0), (0.0, 90.1), (np.inf, 0.0)):
        with pytest.raises(ValueError, match="row 1 has no position"):
            healpix_of(np.array([0.0, bad[0]]), np.array([0.0, bad[1]]))


def test_hash_is_uniform_and_fixed() -> None:
    numbers = hash_of(np.arange(100_000))
    assert len(np.unique(numbers)) == 100_000
    assert abs(np.mean(numbers / 2.0**64) - 0.5) < 0.005
    text = np.array([b"ZTF18aaa", b"ZTF18aab"], "S8")
    np.testing.assert_array_equal(hash_of(text), hash_of(text.astype("S20")))
    # Archives on disk rely on these values.
    assert hash_of(np.array([1, 2])).tolist() == [6238072747940578789, 15839785061582574730]
    assert hash_of(text)[0] != hash_of(text)[1]
