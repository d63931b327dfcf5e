"""Runs: products, resume, appends, changed parameters, batches, ranges, reductions."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skytrawl.errors import (
    ArchiveMismatchError,
    BackendUnavailableError,
    ParameterError,
    ParametersChangedError,
    PlanRefusedError,
    ReferenceExistsError,
)
from skytrawl.runner import Progress, run


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert set(left) == set(right)
    for name in left:
        assert left[name].dtype == right[name].dtype
        assert left[name].tobytes() == right[name].tobytes(), name


def test_values_are_those_of_a_plain_loop(archive_path: Path, undisturbed: dict[str, np.ndarray]) -> None:
    from engine_jobs import MeanParameters, mean_block

    from skytrawl.catalogs.archive import Archive
    from skytrawl.job import Prepared

    archive = Archive.open(archive_path)
    names = ["objects/object_id", "lightcurves/value"]
    blocks = [archive.read(p, names) for p in range(archive.n_partitions)]
    score = [mean_block(block, MeanParameters(), Prepared(), "cpu")["score"] for block in blocks]
    assert_array_equal(undisturbed["score"], np.concatenate(score))
    assert_array_equal(undisturbed["object_id"], np.concatenate([b.objects["object_id"] for b in blocks]))
    assert len(undisturbed["score"]) == 400


def test_processes_and_batches_give_the_same_bits(
    archive_path: Path, tmp_path: Path, processes: Any, decoded: Any, undisturbed: Any
) -> None:
    events: list[Progress] = []
    done = run("test-mean", archive_path, tmp_path / "out.zarr", client=processes, progress=events.append)
    assert (done.done, done.skipped, done.failed) == (20, 0, [])
    assert events[-1].done == events[-1].total == 20
    assert events[-1].observations == done.observations > 0
    same(decoded(tmp_path / "out.zarr"), undisturbed)


def test_ranges_of_objects_give_the_same_bits(
    archive_path: Path, tmp_path: Path, threads: Any, decoded: Any, undisturbed: Any, monkeypatch: Any
) -> None:
    import engine_jobs

    slow = replace(engine_jobs.MEAN, seconds=lambda n, m, parameters, prepared: 100.0)
    monkeypatch.setattr(engine_jobs, "MEAN", slow)
    from skytrawl.batching import Batcher

    pieces = []
    real = Batcher.cut

    def counted(self: Batcher, partition: int, isolated: bool = False) -> Any:
        batch = real(self, partition, isolated)
        pieces.append(len(batch.ranges))
        return batch

    monkeypatch.setattr(Batcher, "cut", counted)
    out = tmp_path / "out.zarr"
    assert run("test-mean", archive_path, out, client=threads, split_seconds=60.0).done == 20
    assert pieces.count(4) == 20
    same(decoded(out), undisturbed)
    assert (
        run("test-count", archive_path, tmp_path / "ref.zarr", client=threads, split_seconds=1e-9).done == 20
    )


def test_second_run_skips_what_is_done(archive_path: Path, tmp_path: Path, threads: Any) -> None:
    out = tmp_path / "out.zarr"
    first = run("test-mean", archive_path, out, client=threads)
    files = {path: path.stat().st_mtime_ns for path in out.rglob("c/*") if path.is_file()}
    assert files
    second = run("test-mean", archive_path, out, client=threads)
    assert (second.done, second.skipped) == (0, first.done)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("c/*") if path.is_file()} == files
    assert second.fingerprint == first.fingerprint


def test_append_does_only_what_is_new(tmp_path: Path, threads: Any, decoded: Any) -> None:
    from skytrawl.catalogs.archive import Archive, ArchiveWriter
    from skytrawl.catalogs.simulate import simulate_archive

    simulate_archive(tmp_path / "a.zarr", 60, 20, partitions=3, seed=1)
    simulate_archive(tmp_path / "b.zarr", 20, 20, partitions=1, seed=2)
    out = tmp_path / "out.zarr"
    assert run("test-mean", tmp_path / "a.zarr", out, client=threads).done == 3
    before = decoded(out)
    other = Archive.open(tmp_path / "b.zarr")
    block = other.read(
        0, [name for name in other.variables if not name.endswith(("first_observation", "n_observations"))]
    )
    with ArchiveWriter(tmp_path / "a.zarr") as writer:
        writer.write(block)
        writer.publish()
    again = run("test-mean", tmp_path / "a.zarr", out, client=threads)
    assert (again.done, again.skipped) == (1, 3)
    after = decoded(out)
    assert len(after["score"]) == 80
    # The new partition stands in its place along the sky, not at the end.
    kept = np.isin(after["score"], before["score"])
    assert_array_equal(after["score"][kept], before["score"])


def test_changed_parameters_are_named(archive_path: Path, tmp_path: Path, threads: Any, decoded: Any) -> None:
    out = tmp_path / "out.zarr"
    run("test-mean", archive_path, out, client=threads)
    with pytest.raises(ParametersChangedError, match=r"scale.*1\.0.*2\.0"):
        run("test-mean", archive_path, out, client=threads, scale=2.0)
    assert run("test-mean", archive_path, out, client=threads, scale=2.0, replace=True).done == 20
    kept = run("test-mean", archive_path, out, client=threads, scale=2.0)
    assert kept.skipped == 20


def test_prepared_payload_reaches_the_workers(
    archive_path: Path, tmp_path: Path, threads: Any, decoded: Any, undisturbed: Any
) -> None:
    np.save(tmp_path / "w.npy", np.ones(4))
    out = tmp_path / "out.zarr"
    done = run("test-mean", archive_path, out, client=threads, weight=str(tmp_path / "w.npy"))
    assert_array_equal(decoded(out)["score"], undisturbed["score"] * 4)
    from skytrawl.catalogs.results import ResultsStore

    attrs = ResultsStore(out).run("test-mean").attrs
    assert attrs["inputs"] == {"weight": "4.0"}
    assert attrs["weights"] == 4
    assert attrs["backend"] == "cpu"
    assert attrs["versions"]["numpy"] == np.__version__
    assert attrs["host"]
    assert attrs["command"]
    assert attrs["fingerprint"] == done.fingerprint
    # Another input is another run, although no parameter changed.
    np.save(tmp_path / "w.npy", np.ones(5))
    with pytest.raises(ParametersChangedError, match="weight"):
        run("test-mean", archive_path, out, client=threads, weight=str(tmp_path / "w.npy"))


def test_wrong_questions_are_refused(archive_path: Path, tmp_path: Path, threads: Any) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(ParameterError, match="did you mean 'test-mean'"):
        run("test-maen", archive_path, out, client=threads)
    with pytest.raises(ParameterError, match="did you mean 'scale'"):
        run("test-mean", archive_path, out, client=threads, scal=1)
    with pytest.raises(ParameterError, match="backend 'cuda'"):
        run("test-mean", archive_path, out, client=threads, backend="cuda")
    with pytest.raises(PlanRefusedError, match=r"1e\+06|PB|TB"):
        run("test-hungry", archive_path, out, client=threads, gigabytes=1e4)
    assert not out.exists() or not any(out.iterdir())


def test_gpu_without_gpu_is_refused(archive_path: Path, tmp_path: Path, threads: Any) -> None:
    from skytrawl.kernels.backend import cuda_problem

    if cuda_problem() is None:
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackendUnavailableError, match="none of 1 workers has a GPU"):
        run("test-hungry", archive_path, tmp_path / "o", client=threads, backend="cuda", gigabytes=0)


def test_store_of_another_archive_is_refused(archive_path: Path, tmp_path: Path, threads: Any) -> None:
    from skytrawl.catalogs.simulate import simulate_archive

    simulate_archive(tmp_path / "other.zarr", 10, 5, partitions=1)
    run("test-mean", tmp_path / "other.zarr", tmp_path / "out.zarr", client=threads)
    with pytest.raises(ArchiveMismatchError):
        run("test-mean", archive_path, tmp_path / "out.zarr", client=threads)


def test_reduction_and_its_rules(archive_path: Path, tmp_path: Path, threads: Any, undisturbed: Any) -> None:
    import xarray as xr

    out = tmp_path / "ref.zarr"
    done = run("test-count", archive_path, out, client=threads)
    assert done.done == 20
    with xr.open_zarr(out, consolidated=False) as made:
        assert int(made.objects) == 400
        assert int(made.histogram.sum()) == undisturbed["n"].sum()
        assert made.attrs["complete"] == 1
    assert not out.with_name("ref.zarr.work").exists()
    with pytest.raises(ReferenceExistsError):
        run("test-count", archive_path, out, client=threads)
    assert run("test-count", archive_path, out, client=threads, replace=True).done == 20


def test_reduction_continues_from_its_checkpoint(
    archive_path: Path, tmp_path: Path, threads: Any, first_ids: list[int]
) -> None:
    import xarray as xr

    trouble = tmp_path / "trouble"
    trouble.mkdir()
    (trouble / f"{first_ids[7]}.error").touch()
    out = tmp_path / "ref.zarr"
    first = run("test-count", archive_path, out, client=threads, trouble=str(trouble), retries=0)
    assert [failure.partition for failure in first.failed] == [7]
    with xr.open_zarr(out, consolidated=False) as made:
        assert int(made.objects) == 380
        assert made.attrs["missing"] == [7]
    with pytest.raises(ParametersChangedError, match="step"):
        run(
            "test-count",
            archive_path,
            tmp_path / "ref.zarr",
            client=threads,
            step=0.25,
            trouble=str(trouble),
            replace=False,
        )
    (trouble / f"{first_ids[7]}.error").unlink()
    second = run("test-count", archive_path, out, client=threads, trouble=str(trouble), retry_failed=True)
    assert (second.done, second.skipped) == (1, 19)
    with xr.open_zarr(out, consolidated=False) as made:
        assert int(made.objects) == 400


def test_empty_archive_partitions(tmp_path: Path, threads: Any) -> None:
    from skytrawl.catalogs.simulate import simulate_archive

    simulate_archive(tmp_path / "empty.zarr", 0, partitions=300)
    out = tmp_path / "out.zarr"
    done = run("test-mean", tmp_path / "empty.zarr", out, client=threads)
    assert (done.done, done.failed) == (300, [])
    assert run("test-mean", tmp_path / "empty.zarr", out, client=threads).skipped == 300
    assert run("test-count", tmp_path / "empty.zarr", tmp_path / "r.zarr", client=threads).done == 300
