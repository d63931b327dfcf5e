"""References add up, subtract, survive the disk and refuse what does not fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skytrawl.catalogs import reference_views, references
from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.reference_model import (
    ScoreModel,
    own_scores,
    smooth,
    tables,
    tail_probability,
)
from skytrawl.errors import NotAnArchiveError, ParameterError, ReferenceExistsError, ReferenceMismatchError

ArchiveOf = Callable[..., Archive]


def test_parts_add_up_to_the_whole(archive_of: ArchiveOf, tools: Any) -> None:
    archive = archive_of(tools.table(1))
    whole = tools.reference(archive, sample_size=12)
    parts = tools.reference(archive, pieces=7, sample_size=12)
    assert references.fingerprint(parts) == references.fingerprint(whole)
    assert int(whole["n_objects"].sum()) == archive.n_objects
    assert len(whole["sample_hash"]) == 12


def test_counts_are_all_pairs_of_the_light_curves(archive_of: ArchiveOf, tools: Any) -> None:
    """Against plain loops over the table."""
    table = tools.table(2, n_objects=6)
    reference = tools.reference(archive_of(table), keys="g,r-g")
    expected = {"g": [], "r-g": []}
    rows_seen = {"g": set(), "r-g": set()}
    for name in np.unique(table["object"]):
        mine = table["object"] == name
        points = list(zip(table["time"][mine], table["value"][mine], table["band"][mine], strict=True))
        for t1, m1, b1 in points:
            for t2, m2, b2 in points:
                key = {("g", "g"): "g", ("r", "g"): "r-g"}.get((str(b1), str(b2)))
                if key and t1 > t2:
                    expected[key].append((t1 - t2, m1 - m2))
                    row = np.searchsorted(reference["dt_edges"].values, t1 - t2, "right") - 1
                    rows_seen[key].add((name, int(row)))
    for key, pairs in expected.items():
        dt, dm = np.array(pairs).T
        edges = (reference["dt_edges"].values, reference["dm_edges"].values)
        found = reference["counts"].sel(key=key).values[0]
        np.testing.assert_array_equal(found, np.histogram2d(dt, dm, edges)[0])
        assert int(reference["objects"].sel(key=key).sum()) == len(rows_seen[key])


def test_merge_and_subtract_are_inverse(archive_of: ArchiveOf, tools: Any, tmp_path: Path) -> None:
    first = tools.reference(archive_of(tools.table(3), "first"))
    second = tools.reference(archive_of(tools.table(4), "second"))
    both = references.merge(first, second)
    assert references.fingerprint(both) == references.fingerprint(references.merge(second, first))
    assert references.fingerprint(references.subtract(both, second)) == references.fingerprint(first)
    assert int(both["counts"].sum()) == int(first["counts"].sum()) + int(second["counts"].sum())
    assert [source["archive_id"] for source in both.attrs["skytrawl"]["sources"]] == [
        reference.attrs["skytrawl"]["sources"][0]["archive_id"] for reference in (first, second)
    ]
    references.save(both, tmp_path / "both")
    assert references.fingerprint(references.load(tmp_path / "both")) == references.fingerprint(both)
    with pytest.raises(ReferenceMismatchError, match="not a part"):
        references.subtract(first, second)


def test_objects_in_both_are_not_added(archive_of: ArchiveOf, tools: Any, tmp_path: Path) -> None:
    archive = archive_of(tools.table(3), "first")
    (tmp_path / "ids").write_text("s3o001\n s3o002\n\ns3o005")
    whole, some = tools.reference(archive), tools.reference(archive, objects=str(tmp_path / "ids"))
    with pytest.raises(ReferenceMismatchError, match="3 objects"):
        references.merge(whole, some)
    rest = references.subtract(whole, some)
    assert references.fingerprint(references.merge(rest, some)) == references.fingerprint(whole)
    # The same light curves in another archive, and other objects that have the same names there.
    with pytest.raises(ReferenceMismatchError, match="30 objects"):
        references.merge(whole, tools.reference(archive_of(tools.table(3), "copy")))
    other = {**tools.table(33), "object": np.char.replace(tools.table(33)["object"], "s33", "s3")}
    both = references.merge(whole, tools.reference(archive_of(other, "other")))
    assert int(both["n_objects"].sum()) == 60


def test_samples_stay_random_when_references_go_and_come(archive_of: ArchiveOf, tools: Any) -> None:
    """After any merges and subtractions the sample is that of the smallest hashes up to some hash."""
    archives = [archive_of(tools.table(seed, n_objects=90), str(seed)) for seed in range(40, 44)]
    sizes = [12, 12, 12, 9]
    parts = [
        tools.reference(archive, sample_size=size, by_class=True)
        for archive, size in zip(archives, sizes, strict=True)
    ]
    full = [tools.reference(archive, by_class=True) for archive in archives]
    first = references.merge(references.merge(parts[0], parts[1]), parts[3])
    for remaining, made in (
        ([0, 1], references.subtract(first, parts[3])),
        ([0, 1, 2], references.merge(references.subtract(first, parts[3]), parts[2])),
        ([1, 3], references.subtract(first, parts[0])),
        ([1, 2, 3], references.merge(parts[2], references.subtract(first, parts[0]))),
    ):
        assert len(made["sample_hash"]) > 3
        for number in range(3):
            mine = made["sample_hash"].values[made["sample_class"].values == number]
            every = np.concatenate(
                [full[i]["sample_hash"].values[full[i]["sample_class"].values == number] for i in remaining]
            )
            np.testing.assert_array_equal(np.sort(mine), np.sort(every)[: len(mine)])


def test_what_does_not_fit_is_not_added(archive_of: ArchiveOf, tools: Any) -> None:
    archive = archive_of(tools.table(5))
    plain = tools.reference(archive)
    for other, word in (
        (tools.reference(archive, mag_max=20.0), "cuts"),
        (tools.reference(archive, keys="g"), "keys"),
        (tools.reference(archive, within="consecutive"), "rules"),
        (tools.reference(archive, grid="light-curve"), "grid"),
        (tools.reference(archive, by_class=True), "classes"),
    ):
        with pytest.raises(ReferenceMismatchError, match=word):
            references.merge(plain, other)


def test_never_overwritten_silently(archive_of: ArchiveOf, tools: Any, tmp_path: Path) -> None:
    reference = tools.reference(archive_of(tools.table(6)))
    other = tools.reference(archive_of(tools.table(7), "b"))
    references.save(reference, tmp_path / "r")
    with pytest.raises(ReferenceExistsError, match="never overwritten"):
        references.save(other, tmp_path / "r")
    assert references.fingerprint(references.load(tmp_path / "r")) == references.fingerprint(reference)
    references.save(other, tmp_path / "r", replace=True)
    assert references.fingerprint(references.load(tmp_path / "r")) == references.fingerprint(other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "r"]


def test_what_is_no_reference_is_said(archive_of: ArchiveOf, tools: Any, tmp_path: Path) -> None:
    archive = archive_of(tools.table(8))
    for path in (tmp_path / "nothing", archive.path):
        with pytest.raises(NotAnArchiveError, match="reference"):
            references.load(path)
    references.save(tools.reference(archive), tmp_path / "r")
    shard = tmp_path / "r" / "n_objects" / "c" / "0"
    assert shard.is_file()
    shard.unlink()
    with pytest.raises(NotAnArchiveError, match="damaged"):
        references.load(tmp_path / "r")


def test_classes_add_up(archive_of: ArchiveOf, tools: Any) -> None:
    archive = archive_of(tools.table(9))
    apart, together = tools.reference(archive, by_class=True), tools.reference(archive)
    assert apart.attrs["skytrawl"]["classes"] == ["AGN", "RR Lyrae", "SN Ia"]
    np.testing.assert_array_equal(apart["counts"].sum("class").values, together["counts"].values[0])
    one = tools.reference(archive, classes="AGN")
    np.testing.assert_array_equal(apart["counts"].sel({"class": "AGN"}).values, one["counts"].values[0])
    with pytest.raises(ReferenceMismatchError, match="no class 'QSO'"):
        references.counts_of(apart, "QSO")
    with pytest.raises(ParameterError, match="no object of class QSO; it has AGN, RR Lyrae, SN Ia"):
        tools.reference(archive, classes="AGN,QSO")
    fixed = tools.reference(archive, classes="AGN,QSO", by_class=True)
    assert fixed["n_objects"].values.tolist() == [10, 0]


def test_listed_objects(archive_of: ArchiveOf, tools: Any, tmp_path: Path) -> None:
    table = tools.table(10)
    archive = archive_of(table)
    (tmp_path / "ids").write_text("s10o001\ns10o004\nabsent\n")
    some = tools.reference(archive, objects=str(tmp_path / "ids"))
    assert int(some["n_objects"].sum()) == 2
    selection = some.attrs["skytrawl"]["sources"][0]["selection"]
    assert (selection["objects_listed"], selection["objects_counted"]) == (3, 2)
    keep = np.isin(table["object"], ["s10o001", "s10o004"])
    alone = tools.reference(archive_of({name: array[keep] for name, array in table.items()}, "b"))
    assert references.fingerprint(some) == references.fingerprint(alone)
    with pytest.raises(ParameterError, match="one id a line"):
        tools.reference(archive, objects=str(tmp_path / "missing"))
    numbered = archive_of({**table, "object": np.char.replace(table["object"], "s10o", "1")}, "numbered")
    for text in ("-1", "1e3", "99999999999999999999"):
        (tmp_path / "ids").write_text(text)
        with pytest.raises(ParameterError, match="ids of this archive are numbers"):
            tools.reference(numbered, objects=str(tmp_path / "ids"))


def test_drift(archive_of: ArchiveOf, tools: Any) -> None:
    table = tools.table(11, n_objects=400)
    old = tools.reference(archive_of(table, "old"), keys="g,r,g-r")
    same = references.compare(old, old)
    assert same.attrs["divergence"] == 0
    assert (same["new_pairs"].values == 0).all()
    alike = references.compare(
        old, tools.reference(archive_of(tools.table(12, n_objects=400), "alike"), keys="g,r,g-r")
    )
    moved = {**table, "value": 18 + 2 * (table["value"] - 18)}
    drift = references.compare(old, tools.reference(archive_of(moved, "moved"), keys="g,r,g-r"))
    assert drift.attrs["divergence"] > 1.2 * alike.attrs["divergence"]
    assert (drift["p"].values < 1e-6).all()
    assert list(drift["key"].values) == list(old["key"].values)


def test_probability_integrates_to_one(archive_of: ArchiveOf, tools: Any) -> None:
    reference = tools.reference(archive_of(tools.table(13, n_objects=100)))
    for smooth_it in (False, True):
        views = reference_views.probability(reference, smooth=smooth_it)
        for view in views.values():
            filled = view["pairs"] > 0
            total = (view["probability"][filled] * np.diff(view["dm_edges"])).sum(-1)
            np.testing.assert_allclose(total, 1, rtol=1e-12)
            if not smooth_it:
                assert (view["pairs"][:-1] >= 100).all()
                assert len(view["dt_edges"]) == len(view["pairs"]) + 1


def test_smoothing_is_a_gaussian() -> None:
    spike = np.zeros(41)
    spike[20] = 1
    found = smooth(spike, 2.0, 0)
    x = np.arange(41) - 20
    np.testing.assert_allclose(found, np.exp(-(x**2) / 8) / np.sqrt(8 * np.pi), atol=3e-5)
    assert found.sum() == pytest.approx(1)
    np.testing.assert_array_equal(smooth(spike, 0, 0), spike)


def test_own_scores_are_those_of_a_reference_without_the_object(archive_of: ArchiveOf, tools: Any) -> None:
    """Take the counts of one object out of the tensor, for every object, and score through the tables."""
    table = tools.table(14, n_objects=12)
    archive = archive_of(table)
    model = ScoreModel(min_coverage=0.0)
    whole = tools.reference(archive)
    score, n_pairs = own_scores(references.counts_of(whole), *references.sample_of(whole), model)
    starts, cells, own = references.sample_of(whole)
    for i in range(len(score)):
        counts = references.counts_of(whole)
        flat = counts.counts.reshape(-1)
        mine = slice(starts[i], starts[i + 1])
        np.subtract.at(flat, cells[mine], own[mine])
        keys, values, weights = tables(counts, model)
        above = below = 0.0
        n_dt, wide = counts.counts.shape[1:]
        for cell, number in zip(cells[mine], own[mine], strict=True):
            key, rest = divmod(int(cell), n_dt * wide)
            row, column = divmod(rest, wide)
            place = keys.index(key)
            first = int(np.searchsorted(counts.dt_edges, values[place].dt_edges[0]))
            value = values[place].values[row - first][column - 1]
            above += number * value
            below += number * weights[place].values[row - first][0]
        assert n_pairs[i] == own[mine].sum()
        assert score[i] == pytest.approx(above / below, rel=1e-9)


@given(st.integers(1, 300), st.integers(1, 60), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_tail_is_a_rank(n: int, k: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    values, numbers = generator.normal(size=n), generator.integers(1, 50, n)
    values[generator.random(n) < 0.1] = np.nan
    score, pairs = np.append(generator.normal(size=20), np.nan), generator.integers(0, 80, 21)
    tail = tail_probability(score, pairs, values, numbers, k)
    sample = sorted(
        ((number, place, value) for place, (number, value) in enumerate(zip(numbers, values, strict=True))
         if not np.isnan(value))
    )  # fmt: skip
    k = min(len(sample), k)
    for x, number, found in zip(score, pairs, tail, strict=True):
        if np.isnan(x) or not sample:
            assert np.isnan(found)
            continue
        below = sum(entry[0] < number for entry in sample)
        equal = sum(entry[0] == number for entry in sample)
        first = min(max(below + equal // 2 - k // 2, 0), len(sample) - k)
        near = [entry[2] for entry in sample[first : first + k]]
        assert abs(found - (1 + sum(value <= x for value in near)) / (1 + k)) < 1e-12


def test_tail_is_uniform_when_the_score_depends_on_the_number_of_pairs() -> None:
    generator = np.random.default_rng(0)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        pairs = generator.lognormal(4, 1, n).astype(np.int64)
        return generator.normal(-0.3 * np.log1p(pairs), 5 / np.sqrt(pairs + 1)), pairs

    score, pairs = draw(20_000)
    sample, sample_pairs = draw(20_000)
    tail = tail_probability(score, pairs, sample, sample_pairs, 100)
    for limit in (0.02, 0.1, 0.5):
        for low, high in ((0, 33), (33, 66), (66, 100)):
            edge = np.percentile(pairs, [low, high])
            mine = (pairs >= edge[0]) & (pairs <= edge[1])
            assert (tail[mine] < limit).mean() == pytest.approx(limit, abs=0.012 + 0.03 * limit)
