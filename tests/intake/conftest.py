"""Tables of light curves, and archives read back object by object."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.validate import validate

Table = dict[str, np.ndarray]
Objects = dict[Any, tuple[Any, ...]]


def make_table(
    seed: int = 0, n_objects: int = 60, mean: int = 12, scatter: float = 0.0, text: bool = False
) -> Table:
    """Rows of some objects in random order, with ties, repeats, and a long object."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(1, 2 * mean, n_objects)
    counts[3] = 15 * mean
    owner = generator.permutation(np.repeat(np.arange(n_objects), counts))
    n = len(owner)
    ids = 10**9 + generator.permutation(n_objects).astype(np.uint64) * np.uint64(7)
    table = {
        "object": np.array([f"ZTF{name}" for name in ids])[owner] if text else ids[owner],
        "mjd": 58000.0 + generator.integers(0, 40, n) / 4,
        "mag": generator.integers(60, 80, n).astype(np.float32) / 4,
        "magerr": np.full(n, 0.125, np.float32),
        "band": np.array(["g", "r", "i"])[generator.integers(0, 3, n)],
        "ra": generator.uniform(0, 360, n_objects)[owner] + scatter * generator.normal(size=n),
        "dec": np.degrees(np.arcsin(generator.uniform(-0.9, 0.9, n_objects)))[owner],
        "quality": generator.integers(0, 2, n).astype(np.uint32),
    }
    table["ra"] %= 360.0
    again = generator.integers(0, n, n // 20)
    return {name: np.concatenate([column, column[again]]) for name, column in table.items()}


def picked(table: Table, rows: Any) -> Table:
    """Some rows of a table."""
    return {name: column[rows] for name, column in table.items()}


def save(table: Table, path: Path, **options: Any) -> Path:
    """A table as Parquet or CSV, by extension."""
    import pandas as pd

    frame = pd.DataFrame(table)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False, **options)
    return path


def read_objects(path: Path, version: int | None = None) -> Objects:
    """Position, class and rows of every object; rows that share a stamp in the order of their values."""
    archive = Archive.open(path, version)
    names = [name for name in archive.variables if not name.endswith(("first_observation", "n_observations"))]
    found: Objects = {}
    for partition in range(archive.n_partitions):
        block = archive.read(partition, names)
        bands = np.array(archive.bands)[block.observations["band"]]
        others = [column.tolist() for name, column in sorted(block.observations.items()) if name != "band"]
        rows = list(zip(bands.tolist(), block.observations["time"].tolist(), *others, strict=True))
        for place, name in enumerate(block.objects["object_id"].tolist()):
            assert name not in found, f"{name} stands twice"
            here = block.objects["ra"][place], block.objects["dec"][place]
            kind = block.objects["class"][place] if "class" in block.objects else b""
            found[name] = (*here, kind, sorted(rows[block.offsets[place] : block.offsets[place + 1]]))
    return found


def check_sound(path: Path) -> Archive:
    """The archive has no fault, its index finds every object, and nothing of the ingest is left."""
    report = validate(path, deep=True)
    assert report.ok, str(report)
    archive = Archive.open(path)
    assert archive.version.index
    for partition in range(archive.n_partitions):
        ids = archive.read(partition, ["object_id"]).objects["object_id"]
        for row in {0, len(ids) // 2, len(ids) - 1}:
            assert archive.find(ids[row].item()) == (partition, row)
    assert not (path / "staging").exists()
    return archive


def check_same(one: Objects, other: Objects, positions: bool = True) -> None:
    """The same objects; positions to a nano-degree, everything else to the bit."""
    assert one.keys() == other.keys()
    for name, (*here, kind, rows) in one.items():
        assert (kind, rows) == other[name][2:], name
        if positions:
            np.testing.assert_allclose(here, other[name][:2], rtol=0, atol=1e-9)


@pytest.fixture(scope="session")
def kit() -> Any:
    """The functions above."""

    class Kit:
        table = staticmethod(make_table)
        picked = staticmethod(picked)
        save = staticmethod(save)
        objects = staticmethod(read_objects)
        sound = staticmethod(check_sound)
        same = staticmethod(check_same)

    return Kit


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Pieces of so few rows from here on."""
    from skytrawl.catalogs.readers.table import Options
    from skytrawl.intake import driver

    def _set(rows: int) -> None:
        def options(**words: Any) -> Options:
            return Options(piece_rows=rows, chunk_rows=max(1, rows // 3), **words)

        monkeypatch.setattr(driver, "Options", options)

    return _set
