"""Answers against brute force over all rows in memory."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from conftest_results import Filled, fill, make_archive
from hypothesis import given, settings
from hypothesis import strategies as st

from skytrawl.catalogs.query import SidecarWarning, open_query
from skytrawl.catalogs.sidecars import cap_around, finalise, main_score, refresh, unit_vectors
from skytrawl.errors import CorruptShardError, NoPositionsError, ObjectNotFoundError, ParameterError


def brute_top(columns: dict[str, np.ndarray], by: str, n: int, direction: str) -> np.ndarray:
    """Row numbers of the first n: python's own sort of (score, partition, row), NaN left out."""
    sign = 1 if direction == "low" else -1
    rows = [i for i, value in enumerate(columns[by].tolist()) if value == value]
    rows.sort(key=lambda i: (sign * columns[by][i].item(), columns["partition"][i], columns["row"][i]))
    return np.array(rows[:n], np.int64)


def brute_separation(columns: dict[str, np.ndarray], ra: float, dec: float) -> np.ndarray:
    """Angles from the arc tangent of cross and dot products: not the formula under test."""

    def vector(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        lon, lat = np.radians(lon), np.radians(lat)
        return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], -1)

    one, two = vector(columns["ra"], columns["dec"]), vector(np.array(ra), np.array(dec))
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(one, two), axis=-1), one @ two))


def assert_rows(answer: dict[str, np.ndarray], columns: dict[str, np.ndarray], rows: np.ndarray) -> None:
    for name, values in answer.items():
        if name != "separation":
            np.testing.assert_array_equal(values, columns[name][rows], err_msg=name)


sizes = st.lists(st.integers(0, 60), min_size=1, max_size=7)


@settings(max_examples=25)
@given(sizes=sizes, seed=st.integers(0, 999), data=st.data())
def test_top_object_and_flagged_equal_brute_force(sizes: list[int], seed: int, data: st.DataObject) -> None:
    missing = data.draw(st.sets(st.integers(0, len(sizes) - 1), max_size=2))
    text_ids = data.draw(st.booleans())
    with tempfile.TemporaryDirectory() as folder:
        archive = make_archive(Path(folder) / "a", sizes, seed=seed, text_ids=text_ids)
        made = fill(archive, Path(folder) / "r", missing=missing, seed=seed)
        query = open_query(Path(folder) / "r")
        assert query.missing == sum(archive.version.partitions["n_objects"][i] > 0 for i in missing)
        columns = made.columns
        if not columns:
            assert len(query.top(3, "score")["score"]) == 0
            return
        for by, direction in (("score", "low"), ("power", "high"), ("n_pairs", "high")):
            for n in (1, 7, 128, 129, 500):
                answer = query.top(n, by)
                assert_rows(answer, columns, brute_top(columns, by, n, direction))
        other = query.top(9, "score", direction="high", columns=["object_id", "part"])
        assert list(other) == ["object_id", "part"]
        assert_rows(other, columns, brute_top(columns, "score", 9, "high"))
        for row in range(0, len(columns["object_id"]), 11):
            assert_rows(query.object(columns["object_id"][row].item()), columns, np.array([row]))
        flags = [piece["object_id"] for piece in query.flagged()]
        found = np.concatenate(flags) if flags else np.empty(0, columns["object_id"].dtype)
        np.testing.assert_array_equal(found, columns["object_id"][columns["flagged"]])
        beyond = list(query.flagged(1.0, "power"))
        count = sum(len(piece["power"]) for piece in beyond)
        assert count == np.count_nonzero(columns["power"] > 1.0)


@settings(max_examples=25)
@given(seed=st.integers(0, 999), place=st.sampled_from(["sky", "north", "south", "wrap"]), data=st.data())
def test_cone_equals_brute_force(seed: int, place: str, data: st.DataObject) -> None:
    generator = np.random.default_rng(seed)
    sizes = [30, 0, 50, 21, 1]
    total = sum(sizes)
    ra = generator.uniform(0, 360, total)
    dec = np.degrees(np.arcsin(generator.uniform(-1, 1, total)))
    if place == "north":
        dec = 90 - generator.exponential(1.0, total).clip(0, 20)
    elif place == "south":
        dec = -90 + generator.exponential(1.0, total).clip(0, 20)
        dec[:3] = -90.0
    elif place == "wrap":
        ra, dec = generator.uniform(-1, 1, total) % 360, generator.uniform(-1, 1, total)
    with tempfile.TemporaryDirectory() as folder:
        archive = make_archive(Path(folder) / "a", sizes, positions=(ra, dec), object_slot=8)
        columns = fill(archive, Path(folder) / "r").columns
        query = open_query(Path(folder) / "r")
        centres = [(0.0, 90.0), (123.0, -90.0), (0.0, 0.0), (360.0, 0.0), (359.999, 0.1)]
        own = data.draw(st.integers(0, total - 1))
        centres.append((columns["ra"][own].item(), columns["dec"][own].item()))
        centres.append((data.draw(st.floats(-720, 720)), data.draw(st.floats(-90, 90))))
        for lon, lat in centres:
            away = brute_separation(columns, lon, lat)
            for radius in (0.01, 0.7, 5.0, 90.0, 100.0, 179.0, 180.0, 400.0):
                answer = query.cone(lon, lat, radius)
                assert (np.diff(answer["separation"]) >= 0).all()
                found = dict(zip(answer["object_id"].tolist(), answer["separation"].tolist(), strict=True))
                assert len(found) == len(answer["object_id"])
                for name, distance in zip(columns["object_id"].tolist(), away.tolist(), strict=True):
                    if abs(distance - radius) > 1e-9:
                        assert (name in found) == (distance < radius)
                    if name in found:
                        assert found[name] == pytest.approx(distance, abs=1e-8)
        # Radius 0 finds an object at its own position, also by another name of the same meridian.
        row = np.array([own])
        for turn in (0, 360):
            same = query.cone(columns["ra"][own] + turn, columns["dec"][own], 0.0 if turn == 0 else 1e-9)
            assert columns["object_id"][row][0] in same["object_id"]


def test_answers_without_sidecars_are_the_same(filled: Filled) -> None:
    quick = open_query(filled.store.path)
    for path in (filled.run.path / "sidecars").iterdir():
        path.unlink()
    with pytest.warns(SidecarWarning, match="no current sidecars"):
        slow = open_query(filled.store.path)
    name = filled.columns["object_id"][17].item()
    for ask in (
        lambda q: q.top(20, "score"),
        lambda q: q.cone(10.0, 20.0, 50.0),
        lambda q: q.object(name),
    ):
        one, two = ask(quick), ask(slow)
        assert list(one) == list(two)
        for column in one:
            np.testing.assert_array_equal(one[column], two[column])
    assert len(slow.cone(10.0, 20.0, 50.0)["ra"]) > 3


def test_sidecars_are_stale_after_more_results_and_rebuilt(filled: Filled) -> None:
    from conftest_results import entry

    run = filled.run
    block = filled.archive.read(4, [f"objects/{name}" for name in run.identity])
    size = block.n_objects
    row = {
        "score": np.full(size, -99.0),
        "power": np.ones(size, np.float32),
        "n_pairs": np.ones(size, np.int64),
        "part": np.ones((size, 3), np.float32),
        "map": np.ones((size, 3, 60), np.float32),
        "flagged": np.ones(size, bool),
    }
    values = run.write(4, {**block.objects, **row})
    assert run.verify(4) == values
    run.ledger.record([entry(run, 4, values)])
    with pytest.warns(SidecarWarning):
        assert (open_query(run.path).top(7, "score")["score"] == -99).sum() == 5
    files = {path.name for path in (run.path / "sidecars").iterdir()}
    assert finalise(run) == {"partitions": 7, "missing": 0, "objects": 125}
    assert not refresh(run)
    query = open_query(run.path)
    assert query.missing == 0
    assert (query.top(7, "score")["score"] == -99).sum() == 5
    kept = {path.name for path in (run.path / "sidecars").iterdir()}
    assert len(kept) == len(files), "the files of the earlier sidecars are removed"
    assert kept & files == {"index.json"}


def test_caps_hold_their_objects() -> None:
    generator = np.random.default_rng(5)
    for spread in (1e-7, 0.1, 30.0, 360.0):
        vectors = unit_vectors(
            generator.normal(0, spread, 200), generator.uniform(-1, 1, 200) * min(spread, 90)
        )
        cap = cap_around(np.append(vectors, [[np.nan] * 3], axis=0))
        angles = np.arctan2(np.linalg.norm(np.cross(vectors, cap[:3]), axis=1), vectors @ cap[:3])
        assert angles.max() <= cap[3] + 1e-9
        assert angles.max() >= cap[3] - 1e-7, "the cap is no larger than needed"
    assert cap_around(np.full((2, 3), np.nan))[3] == -1
    opposite = cap_around(unit_vectors([0, 180, 90, 270], [0, 0, 0, 0]))
    assert opposite[3] >= np.pi / 2


def test_ids_in_several_segments(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    from skytrawl.catalogs import sidecars

    monkeypatch.setattr(sidecars, "SEGMENT_IDS", 30)
    finalise(filled.run)
    query = open_query(filled.run.path)
    assert query.sidecars is not None
    assert len(query.sidecars.index["segments"]) == 5
    for row in range(0, 120, 7):
        answer = query.object(filled.columns["object_id"][row].item())
        assert_rows(answer, filled.columns, np.array([row]))


def test_a_reader_outlives_a_rebuild(filled: Filled) -> None:
    query = open_query(filled.run.path)
    before = query.top(20, "score")
    finalise(filled.run)
    np.testing.assert_array_equal(query.top(20, "score")["object_id"], before["object_id"])
    assert query.object(int(before["object_id"][0]))["score"][0] == before["score"][0]
    assert len(query.cone(0, 0, 180)["ra"]) == 120


def test_few_rows_from_many_partitions(tmp_path: Path) -> None:
    columns = fill(make_archive(tmp_path / "a", [3] * 40, object_slot=4), tmp_path / "r").columns
    query = open_query(tmp_path / "r")
    for by, direction in (("score", "low"), ("power", "high"), ("n_pairs", "high")):
        for n in (1, 2, 5, 39):
            assert_rows(query.top(n, by), columns, brute_top(columns, by, n, direction))


def test_labels_and_units(filled: Filled) -> None:
    query = open_query(filled.store.path)
    assert query.labels() == {"part": ["g", "R", "g-R"], "map": ["g", "R", "g-R"]}
    assert query.units()["ra"] == "deg"
    assert query.units()["power"] == "mag2"


def test_unknown_object_names_the_nearest(filled: Filled) -> None:
    query = open_query(filled.store.path)
    near = int(filled.columns["object_id"].min())
    with pytest.raises(ObjectNotFoundError, match=f"nearest id is {near}"):
        query.object(near - 2)
    with pytest.raises(ObjectNotFoundError, match="1 partitions are not done"):
        query.object(near - 2)
    with pytest.raises(ObjectNotFoundError, match="non-negative integers"):
        query.object("ZTF18abc")
    assert query.object(str(near))["object_id"].tolist() == [near]


def test_unknown_text_id_names_the_nearest(tmp_path: Path) -> None:
    made = fill(make_archive(tmp_path / "a", [30, 30], text_ids=True), tmp_path / "r")
    query = open_query(tmp_path / "r")
    name = sorted(made.columns["object_id"].tolist())[10].decode()
    with pytest.raises(ObjectNotFoundError, match=name):
        query.object(name + "x")
    with pytest.raises(ObjectNotFoundError, match="at most 12"):
        query.object("x" * 13)


def test_an_id_that_was_ingested_twice_gives_both_rows(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a", [10, 10], seed=3)
    first = archive.read(0, ["objects/object_id"]).objects["object_id"]
    array = archive.array("objects/object_id")
    array.write(int(archive.version.partitions["object_slot"][1]), first)
    made = fill(archive, tmp_path / "r")
    answer = open_query(tmp_path / "r").object(int(first[4]))
    np.testing.assert_array_equal(answer["score"], made.columns["score"][[4, 14]])


def test_store_without_positions(tmp_path: Path) -> None:
    fill(make_archive(tmp_path / "a", [10, 4], has_positions=False), tmp_path / "r")
    query = open_query(tmp_path / "r")
    assert "ra" not in query.names
    with pytest.raises(NoPositionsError, match="no sky positions"):
        query.cone(1, 2, 3)
    assert len(query.top(3, "power")["object_id"]) == 3


def test_the_separation_may_be_named(filled: Filled) -> None:
    query = open_query(filled.store.path)
    assert list(query.cone(0, 0, 180, columns=["separation", "object_id"])) == ["object_id", "separation"]


@pytest.mark.parametrize("cone", [(0, 91, 1), (0, 0, -1), (np.nan, 0, 1), (0, 0, np.inf)])
def test_impossible_cones_are_refused(filled: Filled, cone: tuple[float, float, float]) -> None:
    with pytest.raises(ParameterError, match="finite degrees"):
        open_query(filled.store.path).cone(*cone)


def test_rankings_that_make_no_sense_are_refused(filled: Filled) -> None:
    query = open_query(filled.store.path)
    with pytest.raises(ParameterError, match="did you mean 'score'"):
        query.top(3, "scor")
    np.testing.assert_array_equal(query.top(3)["object_id"], query.top(3, "score")["object_id"])
    with pytest.raises(ParameterError, match="power, n_pairs"):
        main_score(["power", "n_pairs"], "there")
    with pytest.raises(ParameterError, match="no direction"):
        query.top(3, "ra")
    with pytest.raises(ParameterError, match="not one number"):
        query.top(3, "part")
    with pytest.raises(ParameterError, match="at least one row"):
        query.top(0, "score")
    with pytest.raises(ParameterError, match="no column 'nothing'"):
        query.top(3, "score", columns=["nothing"])


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove"])
def test_damage_is_an_error_that_names_the_place(filled: Filled, damage: str) -> None:
    query = open_query(filled.store.path)
    partition = 2
    slot = int(filled.run.partitions["object_slot"][partition])
    shard = filled.run.path / "power" / "c" / str(slot)
    data = bytearray(shard.read_bytes())
    if damage == "remove":
        shard.unlink()
    elif damage == "flip":
        data[5] ^= 1
        shard.write_bytes(data)
    else:
        shard.write_bytes(b"" if damage == "empty" else data[: len(data) // 2])
    hit = filled.columns["object_id"][filled.columns["partition"] == partition][0].item()
    fine = filled.columns["object_id"][filled.columns["partition"] == 0][0].item()
    with pytest.raises(CorruptShardError, match=f"power, partition {partition}, slot {slot}"):
        query.object(hit)
    assert query.object(fine)["object_id"].tolist() == [fine]
    with pytest.raises(CorruptShardError, match="power"):
        finalise(filled.run)
    # The sidecars of before are still there.
    assert len(open_query(filled.store.path).top(100, "power")["power"]) > 50
