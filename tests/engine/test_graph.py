"""The lazy face of a job."""

from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest

from skytrawl.errors import ParameterError
from skytrawl.graph import lazy


def test_lazy_equals_run_and_reads_nothing_before(
    archive_path: Path, undisturbed: dict[str, np.ndarray], monkeypatch: Any
) -> None:
    from skytrawl.catalogs.archive import Archive

    reads: list[int] = []
    real = Archive.read

    def counted(self: Archive, partition: int, *args: Any, **kwargs: Any) -> Any:
        reads.append(partition)
        return real(self, partition, *args, **kwargs)

    monkeypatch.setattr(Archive, "read", counted)
    made = lazy("test-mean", archive_path)
    assert made.sizes == {"object": 400, "end": 2}
    assert made.score.chunks == ((20,) * 20,)
    assert reads == []
    with dask.config.set(scheduler="threads"):
        assert made.score[:20].compute().values.tobytes() == undisturbed["score"][:20].tobytes()
        assert reads == [0]
        loaded = made.compute()
    # One block task a partition, however many variables are taken from it.
    assert sorted(reads[1:]) == list(range(20))
    for name in ("score", "n", "minmax", "object_id", "ra", "dec"):
        assert loaded[name].values.tobytes() == undisturbed[name].tobytes(), name
    assert loaded.score.attrs["units"] == "mag"
    assert list(loaded.end.values) == ["low", "high"]


def test_lazy_on_a_cluster(archive_path: Path, threads: Any, undisturbed: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.ones(2))
    made = lazy("test-mean", archive_path, weight=str(tmp_path / "w.npy"))
    values = threads.compute(made.score.data).result()
    assert values.tobytes() == (undisturbed["score"] * 2).tobytes()


def test_lazy_refuses_reductions_and_huge_graphs(
    archive_path: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    with pytest.raises(ParameterError, match=r"skytrawl\.run"):
        lazy("test-count", archive_path)
    with pytest.raises(ParameterError, match="knows cpu"):
        lazy("test-mean", archive_path, backend="auto")
    monkeypatch.setattr("skytrawl.graph.MOST_PARTITIONS", 19)
    with pytest.raises(ParameterError, match=r"20 partitions.*skytrawl\.run"):
        lazy("test-mean", archive_path)


def test_lazy_of_an_empty_archive(tmp_path: Path) -> None:
    from skytrawl.catalogs.simulate import simulate_archive

    simulate_archive(tmp_path / "a.zarr", 0, partitions=3)
    assert lazy("test-mean", tmp_path / "a.zarr").sizes == {"object": 0, "end": 2}
