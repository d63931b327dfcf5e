"""The store on disk: runs, parameters, archives, attributes, plain Zarr."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from conftest_results import COORDS, PARAMETERS, PROVENANCE, TAILS, VARIABLES, Filled, fill, make_archive

from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.results import ResultsStore, open_results
from skytrawl.catalogs.runs import Run, inner_rows, missing_value, values_hash
from skytrawl.catalogs.schema import Variable
from skytrawl.errors import (
    ArchiveError,
    ArchiveMismatchError,
    CorruptShardError,
    NotAnArchiveError,
    ParameterError,
    ParametersChangedError,
)


def start(
    store: ResultsStore,
    archive: Archive,
    fingerprint: str = "0123456789abcdef",
    parameters: dict | None = None,
    provenance: dict | None = None,
    **more: object,
) -> Run:
    words = {"variables": VARIABLES, "tails": TAILS, "coords": COORDS, **more}
    variables = words.pop("variables")
    return store.start_run(
        "dmdt-score", fingerprint, parameters or PARAMETERS, provenance or PROVENANCE, variables,
        archive.version, archive=archive, **words,
    )  # fmt: skip


def test_written_values_are_read_back_and_hashed(filled: Filled) -> None:
    run = Run(filled.run.path)
    entries = run.ledger.read()
    for partition, key in ((0, 0), (1, 1), (5, 5)):
        back = run.read(partition)
        inside = filled.columns["partition"] == partition
        for name, values in back.items():
            np.testing.assert_array_equal(values, filled.columns[name][inside])
        slot = (int(run.partitions["object_slot"][key]), bytes(run.partitions["content"][key]))
        assert entries[slot].values == run.verify(partition) == values_hash(back)
    part = run.read(2, ["score"], slice(3, 9))["score"]
    np.testing.assert_array_equal(part, run.read(2)["score"][3:9])


def test_hash_sees_every_value_name_type_and_shape() -> None:
    arrays = {"a": np.arange(6.0), "b": np.arange(3)}
    base = values_hash(arrays)
    assert values_hash(dict(reversed(arrays.items()))) == base
    others = [
        {**arrays, "a": np.arange(6.0).reshape(2, 3)},
        {**arrays, "b": np.arange(3, dtype=np.int32)},
        {"a": arrays["a"], "c": arrays["b"]},
        {**arrays, "a": np.array([0, 1, 2, 3, 4, np.nextafter(5, 6)])},
    ]
    assert len({base, *map(values_hash, others)}) == 5


def test_a_run_travels_by_its_path(filled: Filled) -> None:
    again = pickle.loads(pickle.dumps(filled.run))
    assert again.path == filled.run.path
    assert len(pickle.dumps(filled.run)) < 400
    np.testing.assert_array_equal(again.present(), [True, True, True, True, False, True, True])


def test_results_stand_alone(filled: Filled) -> None:
    import shutil

    shutil.rmtree(filled.archive.path)
    run = ResultsStore(filled.store.path).run()
    assert run.identity == ("object_id", "ra", "dec", "healpix", "class")
    assert run.version.fingerprint == filled.archive.version.fingerprint
    assert len(open_results(filled.store.path)["dmdt-score"]["ra"].values) == 125


def test_wrong_arrays_are_refused(filled: Filled) -> None:
    arrays = filled.run.read(0)
    with pytest.raises(ValueError, match=r"columns missing \['ra'\]"):
        filled.run.write(0, {name: values for name, values in arrays.items() if name != "ra"})
    with pytest.raises(ValueError, match=r"not declared \['more'\]"):
        filled.run.write(0, {**arrays, "more": arrays["ra"]})
    with pytest.raises(ValueError, match="dmdt-score/score, partition 0: got float32"):
        filled.run.write(0, {**arrays, "score": arrays["score"].astype(np.float32)})
    with pytest.raises(ValueError, match=r"instead of float32\[20, 3\]"):
        filled.run.write(0, {**arrays, "part": arrays["part"][:, :2]})


def test_a_changed_parameter_is_named_with_the_remedy(filled: Filled) -> None:
    changed = {**PARAMETERS, "floor": -5.0, "cuts": {"mag": [None, 21.0]}, "extra": True}
    with pytest.raises(ParametersChangedError) as caught:
        start(filled.store, filled.archive, "f" * 16, changed)
    message = str(caught.value)
    assert "floor: -3.0 -> -5.0" in message
    assert "cuts.mag: [None, 22.0] -> [None, 21.0]" in message
    assert "extra: '(not set)' -> True" in message
    assert "kind" not in message
    assert "another output path" in message
    assert "--replace" in message
    assert filled.store.run().fingerprint == "0123456789abcdef"


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("kernel_version", "2", "kernel_version: '1' -> '2'"),
        ("backend", "cuda", "backend: 'cpu' -> 'cuda'"),
        ("inputs", {"reference": "cd"}, "inputs.reference: 'abababababababab' -> 'cd'"),
    ],
)
def test_a_changed_input_is_named(filled: Filled, name: str, value: object, shown: str) -> None:
    with pytest.raises(ParametersChangedError, match=shown):
        start(filled.store, filled.archive, "f" * 16, provenance={**PROVENANCE, name: value})


def test_replace_makes_the_new_run_current_and_sweep_removes_the_old(filled: Filled) -> None:
    other = start(filled.store, filled.archive, "f" * 16, {**PARAMETERS, "floor": -5.0}, replace=True)
    assert filled.store.run().path == other.path
    assert not other.present().any()
    # Going back finds the finished partitions of before.
    back = start(filled.store, filled.archive, replace=True)
    assert back.present().sum() == 6
    assert filled.store.sweep() == ["dmdt-score/" + "f" * 16]
    assert filled.store.run().present().sum() == 6
    assert not other.path.exists()


def test_continuing_takes_a_later_version(tmp_path: Path) -> None:
    from conftest_results import entry

    from skytrawl.catalogs.archive import ArchiveWriter, Block

    archive = make_archive(tmp_path / "a", [10, 12])
    made = fill(archive, tmp_path / "r")
    old = archive.read(0, archive.variables)
    keep = {name: old.objects[name] for name in ("object_id", "ra", "dec", "healpix", "class")}
    keep["object_id"] = keep["object_id"] + np.uint64(10**6)
    with ArchiveWriter(archive.path) as writer:
        writer.write(Block(keep, old.observations, old.offsets))
    later = Archive.open(archive.path)
    run = start(ResultsStore.create_or_open(tmp_path / "r", later), later)
    assert run.path == made.run.path
    np.testing.assert_array_equal(run.present(), [True, False, True])
    with pytest.warns(UserWarning, match="no current sidecars"):
        assert len(open_results(tmp_path / "r").skytrawl.top(50, "n_pairs")["n_pairs"]) == 22
    arrays = {**run.read(0), "object_id": keep["object_id"]}
    run.ledger.record([entry(run, 1, run.write(1, arrays))])
    assert run.present().all()


def test_a_changed_declaration_under_the_same_fingerprint_is_refused(filled: Filled) -> None:
    other = (Variable("score", ("object",), "float32", "", ""), *VARIABLES[1:])
    with pytest.raises(ArchiveError, match=r"exists as float64.*kernel version"):
        start(filled.store, filled.archive, variables=other)


@pytest.mark.parametrize("name", ["ra", "ledger", "sidecars"])
def test_reserved_names_are_no_outputs(filled: Filled, name: str) -> None:
    bad = (Variable(name, ("object",), "float32", "", ""),)
    with pytest.raises(ValueError, match="cannot be an output"):
        start(filled.store, filled.archive, "e" * 16, variables=bad, replace=True)


def test_results_of_another_archive_are_refused(filled: Filled, tmp_path: Path) -> None:
    other = make_archive(tmp_path / "other", [20, 16, 33, 40, 5, 11, 0], object_slot=32)
    for attempt in (
        lambda: ResultsStore.create_or_open(filled.store.path, other),
        lambda: open_results(filled.store.path, archive=other),
    ):
        with pytest.raises(ArchiveMismatchError, match="another output path") as caught:
            attempt()
        assert filled.archive.archive_id in str(caught.value)
        assert other.archive_id in str(caught.value)


def test_other_folders_are_no_results(filled: Filled, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with pytest.raises(NotAnArchiveError, match="skytrawl run"):
        open_results(tmp_path / "letters")
    with pytest.raises(NotAnArchiveError, match="or, to write, a new path"):
        ResultsStore.create_or_open(tmp_path / "letters", filled.archive)
    with pytest.raises(NotAnArchiveError, match="is a skytrawl archive, not a skytrawl results store"):
        open_results(filled.archive.path)
    group = filled.store.path / "zarr.json"
    meta = json.loads(group.read_text())
    meta["attributes"]["skytrawl"]["format"] = 99
    group.write_text(json.dumps(meta))
    with pytest.raises(NotAnArchiveError, match="upgrade"):
        open_results(filled.store.path)


def test_the_job_must_be_known(filled: Filled) -> None:
    with pytest.raises(ParameterError, match="did you mean 'dmdt-score'"):
        filled.store.run("dmdt-scor")
    empty = ResultsStore.create_or_open(filled.store.path.parent / "empty", filled.archive)
    with pytest.raises(ParameterError, match="none yet"):
        empty.run()


def test_attributes_say_what_the_numbers_are(filled: Filled) -> None:
    dataset = open_results(filled.store.path)["dmdt-score"]
    for name, variable in dataset.variables.items():
        if name != "key":
            assert {"units", "long_name"} <= set(variable.attrs), name
    assert dataset["score"].attrs["direction"] == "low"
    assert dataset["power"].attrs["units"] == "mag2"
    assert dataset["ra"].attrs["units"] == "deg"
    assert dataset["n_pairs"].attrs["missing"] == -1
    attrs = dataset.attrs
    assert attrs["parameters"] == json.loads(json.dumps(PARAMETERS))
    assert attrs["backend"] == "cpu"
    assert attrs["archive_fingerprint"] == filled.archive.version.fingerprint
    assert attrs["archive_version"] == 1
    assert attrs["survey"] == "ztf"
    assert (attrs["partitions"], attrs["missing_partitions"]) == (7, 1)


def test_missing_partitions_read_as_missing(filled: Filled) -> None:
    for chunks in (None, {}):
        dataset = open_results(filled.store.path, chunks=chunks)["dmdt-score"]
        starts = filled.archive.version.object_starts
        gone = slice(int(starts[4]), int(starts[5]))
        part = dataset.isel(object=gone).to_dataset()
        assert np.isnan(part["score"].values).all()
        assert (part["n_pairs"].values == -1).all()
        assert (part["class"].values == b"").all()
        assert not part["flagged"].values.any()
        assert np.isnan(part["map"].values).all()
        rest = np.delete(np.arange(125), np.arange(125)[gone])
        for name in filled.run.names:
            np.testing.assert_array_equal(dataset[name].values[rest], filled.columns[name])


def test_missing_values_by_type() -> None:
    assert np.isnan(missing_value(np.dtype("f4")))
    assert missing_value(np.dtype("u2")) == 65535
    assert missing_value(np.dtype("i1")) == -1
    assert missing_value(np.dtype("f8"), "NaN") != 0
    assert missing_value(np.dtype("i8"), 7) == 7
    assert missing_value(np.dtype("S4"), "") == b""


def test_dask_chunks_are_the_partitions_with_objects(filled: Filled) -> None:
    dataset = open_results(filled.store.path, chunks={})["dmdt-score"]
    assert dataset["score"].chunks == ((20, 16, 33, 40, 5, 11),)
    # What travels to a worker is the name of the store.
    assert len(pickle.dumps(open_results(filled.store.path)["dmdt-score"]["score"].variable._data)) < 4000


def test_damage_surfaces_in_xarray(filled: Filled) -> None:
    slot = int(filled.run.partitions["object_slot"][3])
    (filled.run.path / "score" / "c" / str(slot)).unlink()
    dataset = open_results(filled.store.path)["dmdt-score"]
    with pytest.raises(CorruptShardError, match=f"score, partition 3, slot {slot}: the shard is missing"):
        dataset["score"].values  # noqa: B018
    assert dataset["power"].values.shape == (125,)


def test_plain_zarr_reads_the_arrays(filled: Filled) -> None:
    array = zarr.open_array(filled.run.path / "part", mode="r")
    slot = int(filled.run.partitions["object_slot"][2])
    values = array[slot * 32 : slot * 32 + 33]
    np.testing.assert_array_equal(values, filled.columns["part"][filled.columns["partition"] == 2])
    assert array.metadata.dimension_names == ("object", "key")
    dataset = xr.open_zarr(filled.run.path, chunks=None)
    assert set(dataset.variables) == set(filled.run.names)
    shown = dataset["score"].isel(object=slice(slot * 32, slot * 32 + 33)).values
    np.testing.assert_array_equal(shown, filled.columns["score"][filled.columns["partition"] == 2])


def test_inner_chunks_divide_the_slot_and_stay_small() -> None:
    assert inner_rows(65536, 8) == 8192
    assert inner_rows(65536, 4 * 26 * 26 * 4) == 16
    assert inner_rows(5000, 8) == 5000
    assert inner_rows(9000, 8) == 4500
    assert inner_rows(16, 10**9) == 1
