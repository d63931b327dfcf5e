"""The accessor: opened datasets from the store, derived ones from their own arrays, both the same."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from conftest_results import Filled, fill, make_archive

from skytrawl.catalogs.query import open_query
from skytrawl.catalogs.results import open_results
from skytrawl.errors import ArchiveMismatchError, NoPositionsError, ObjectNotFoundError, ParameterError


def opened(filled: Filled, chunks: object = None) -> xr.Dataset:
    return open_results(filled.store.path, chunks=chunks)["dmdt-score"].to_dataset()


ASK = {
    "top": lambda accessor, ident: accessor.top(12, "score"),
    "deep": lambda accessor, ident: accessor.top(500, "power"),
    "cone": lambda accessor, ident: accessor.cone(100.0, 10.0, 60.0),
    "object": lambda accessor, ident: accessor.object(ident),
    "flagged": lambda accessor, ident: accessor.flagged(),
    "threshold": lambda accessor, ident: accessor.flagged(0.5, "score", direction="high"),
    "nothing": lambda accessor, ident: accessor.flagged(-1e9, "score"),
}


@pytest.mark.parametrize("question", sorted(ASK))
def test_every_way_gives_the_same_rows(filled: Filled, question: str) -> None:
    ident = int(filled.columns["object_id"][30])
    plain, chunked = opened(filled), opened(filled, {})
    ways = {
        "tree": open_results(filled.store.path).skytrawl,
        "opened": plain.skytrawl,
        "chunked": chunked.skytrawl,
        "loaded": plain.load().skytrawl,
        "derived": chunked.assign(more=chunked["score"] * 2).skytrawl,
    }
    answers = {name: ASK[question](way, ident).compute() for name, way in ways.items()}
    answers["derived"] = answers["derived"].drop_vars("more")
    first = answers["tree"]
    assert first.sizes["object"] > 0 or question == "nothing"
    for name, answer in answers.items():
        xr.testing.assert_identical(first, answer.drop_attrs(deep=False).assign_attrs(first.attrs))
        assert answer["score"].attrs["direction"] == "low", name


def test_opened_results_are_not_loaded_to_answer(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    from skytrawl.catalogs.compact import SlotArray

    def refuse(self: object, key: object) -> None:
        raise AssertionError("a column was read through xarray")

    monkeypatch.setattr(SlotArray, "rows", refuse)
    for chunks in (None, {}):
        accessor = opened(filled, chunks).skytrawl
        assert accessor.top(5, "score").sizes["object"] == 5
        assert accessor.cone(0, 0, 90).sizes["object"] > 5


def test_selections_are_never_answered_from_the_whole_store(filled: Filled) -> None:
    whole = opened(filled)
    first = whole.isel(object=slice(0, 20))
    assert set(first.skytrawl.top(50, "power")["object_id"].values) <= set(first["object_id"].values)
    masked = whole.where(whole["n_pairs"] > 25)
    assert (masked.skytrawl.top(50, "score")["n_pairs"] > 25).all()
    doubled = whole.assign(score=-whole["score"])
    np.testing.assert_array_equal(
        doubled.skytrawl.top(3, "score", direction="low")["score"],
        -open_query(filled.run.path).top(3, "score", direction="high")["score"],
    )
    elsewhere = filled.columns["object_id"][-1].item()
    with pytest.raises(ObjectNotFoundError, match="among the 20"):
        first.skytrawl.object(elsewhere)


def test_a_looked_at_column_is_still_the_stores(filled: Filled) -> None:
    dataset = opened(filled)
    assert dataset["score"].values.shape == (125,)
    assert dataset.skytrawl._query() is not None


def test_columns_are_chosen(filled: Filled) -> None:
    for dataset in (opened(filled), opened(filled).load()):
        found = dataset.skytrawl.top(4, "score", columns=["object_id", "score"])
        assert set(found.variables) == {"object_id", "score"}
        with pytest.raises(ParameterError, match="did you mean 'score'"):
            dataset.skytrawl.top(4, "score", columns=["scores"])


def test_any_dataset_with_a_direction_can_be_ranked() -> None:
    score = xr.Variable("object", np.array([3.0, np.nan, 9.0, 1.0]), {"direction": "high"})
    dataset = xr.Dataset({"score": score, "name": ("object", ["a", "b", "c", "d"])})
    import skytrawl.catalogs.accessor  # noqa: F401

    assert dataset.skytrawl.top(9)["name"].values.tolist() == ["c", "a", "d"]
    assert dataset.chunk(object=2).skytrawl.top(2)["name"].values.tolist() == ["c", "a"]
    with pytest.raises(NoPositionsError, match="ra and dec"):
        dataset.skytrawl.cone(0, 0, 1)
    with pytest.raises(ParameterError, match="object_id"):
        dataset.skytrawl.object(3)
    with pytest.raises(ParameterError, match="dim 'object'"):
        xr.Dataset({"a": 1}).skytrawl.top()
    with pytest.raises(ParameterError, match="not one number"):
        dataset.skytrawl.top(by="name")
    with pytest.raises(ParameterError, match="flagged"):
        dataset.skytrawl.flagged()


def test_the_tree_asks_for_the_job(filled: Filled) -> None:
    tree = open_results(filled.store.path)
    with pytest.raises(ParameterError, match="no job 'scan'"):
        tree.skytrawl.top(job="scan")
    both = xr.DataTree.from_dict({"/a": opened(filled), "/b": opened(filled)})
    with pytest.raises(ParameterError, match="name the job: a, b"):
        both.skytrawl.top(3, "score")
    assert both.skytrawl.top(3, "score", job="b").sizes["object"] == 3
    assert both["a"].skytrawl.object(int(filled.columns["object_id"][0])).sizes["object"] == 1


def table(filled: Filled, rows: list[int]) -> dict[str, np.ndarray]:
    ids = np.append(filled.columns["object_id"][rows], np.uint64(5))
    return {"object_id": ids, "redshift": np.arange(len(ids)) / 10, "score": np.arange(len(ids))}


@pytest.mark.parametrize("kind", ["mapping", "pandas", "astropy", "dataset"])
def test_join_with_a_table(filled: Filled, kind: str) -> None:
    rows = [40, 3, 77]
    other = table(filled, rows)
    if kind == "pandas":
        import pandas

        other = pandas.DataFrame(other)
    elif kind == "astropy":
        from astropy.table import Table

        other = Table(other)
    elif kind == "dataset":
        other = xr.Dataset({name: ("object", values) for name, values in other.items()})
    joined = opened(filled).skytrawl.join(other)
    np.testing.assert_array_equal(joined["object_id"], filled.columns["object_id"][sorted(rows)])
    np.testing.assert_array_equal(joined["redshift"], [0.1, 0.0, 0.2])
    np.testing.assert_array_equal(joined["score"], filled.columns["score"][sorted(rows)])
    np.testing.assert_array_equal(joined["score_other"], [1, 0, 2])
    left = opened(filled).skytrawl.join(other, how="left")
    assert left.sizes["object"] == 125
    assert np.isfinite(left["redshift"]).sum() == 3
    assert (left["score_other"] == -1).sum() == 122


def test_join_with_another_job_and_with_another_archive(filled: Filled, tmp_path: Path) -> None:
    dataset = opened(filled)
    joined = dataset.skytrawl.join(opened(filled, {}).drop_vars("map"), suffix="_2")
    assert joined.sizes["object"] == 120, "objects of the missing partition have no id"
    np.testing.assert_array_equal(joined["n_pairs"], joined["n_pairs_2"])
    assert joined["part_2"].dims == ("object", "key")
    assert "ra_2" not in joined.variables
    other = fill(make_archive(tmp_path / "b", [20, 9], seed=8), tmp_path / "rb")
    with pytest.raises(ArchiveMismatchError, match="Match by position"):
        dataset.skytrawl.join(opened(other))
    with pytest.raises(ArchiveMismatchError):
        dataset.skytrawl.join(open_results(tmp_path / "rb")["dmdt-score"])


def test_join_by_text_ids(tmp_path: Path) -> None:
    import pandas

    made = fill(make_archive(tmp_path / "a", [20, 9], text_ids=True), tmp_path / "r")
    names = made.columns["object_id"][[3, 25]]
    for ids in (names, np.char.decode(names), pandas.Series(np.char.decode(names))):
        joined = opened(made).skytrawl.join({"object_id": ids, "note": np.array(["a", "b"])}, how="inner")
        np.testing.assert_array_equal(joined["object_id"], names)
        assert joined["note"].values.tolist() == ["a", "b"]
    left = opened(made).skytrawl.join({"object_id": names, "note": np.array(["a", "b"])}, how="left")
    assert sorted(set(left["note"].values.tolist())) == ["", "a", "b"]


def test_impossible_questions_to_loaded_datasets(filled: Filled) -> None:
    accessor = opened(filled).load().skytrawl
    with pytest.raises(ParameterError, match="finite degrees"):
        accessor.cone(0, 100, 1)
    with pytest.raises(ParameterError, match="at least one row"):
        accessor.top(0, "score")
    with pytest.raises(ParameterError, match="declares no direction"):
        accessor.top(3, "ra")
    np.testing.assert_array_equal(accessor.top(3)["score"], accessor.top(3, "score")["score"])
    with pytest.raises(ParameterError, match="no variable 'scor'"):
        accessor.top(3, "scor")
    with pytest.raises(ObjectNotFoundError, match="non-negative integers"):
        accessor.object("ZTF1")


def test_joins_that_make_no_sense_are_refused(filled: Filled) -> None:
    accessor = opened(filled).skytrawl
    with pytest.raises(ParameterError, match="more than once"):
        accessor.join({"object_id": np.array([7, 7]), "z": np.zeros(2)})
    with pytest.raises(ParameterError, match="did you mean 'object'"):
        accessor.join({"object": np.array([7])})
    with pytest.raises(ParameterError, match="ids are <U1"):
        accessor.join({"object_id": np.array(["a"])})
    with pytest.raises(ParameterError, match="negative"):
        accessor.join({"object_id": np.array([-7])})
    with pytest.raises(ParameterError, match="inner"):
        accessor.join({"object_id": np.array([7])}, how="outer")
    assert accessor.join({"object_id": np.array([], np.uint64)}).sizes["object"] == 0
