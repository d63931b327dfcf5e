"""The command line as users meet it, on real data."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from skytrawl.catalogs.samples import sample_path
from skytrawl.cli import main


def skytrawl(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archive, reference and scores of the ZTF alert histories, made by the commands of the README."""
    folder = tmp_path_factory.mktemp("cli")
    archive = folder / "archive.zarr"
    made = skytrawl(
        "ingest", sample_path("ztf_alert_histories"), archive, "--survey", "ztf",
        "--partition-observations", 300,
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    assert "1366 rows read, 1366 kept" in made.output
    reference = skytrawl(
        "run", "dmdt-reference", archive, folder / "reference.zarr", "--keys", "g,r,g-r,r-g",
        "--cluster", "threads",
    )  # fmt: skip
    assert reference.exit_code == 0, reference.output
    scores = skytrawl(
        "run", "dmdt-score", archive, folder / "scores.zarr", "--reference", folder / "reference.zarr",
        "--threshold", -0.05, "--cluster", "threads", "--json",
    )  # fmt: skip
    assert scores.exit_code == 0, scores.output
    return folder


def test_info_tells_what_each_store_is(stores: Path) -> None:
    archive = json.loads(skytrawl("info", stores / "archive.zarr", "--json").stdout)
    assert (archive["objects"], archive["observations"], archive["bands"]) == (209, 1366, ["g", "r", "i"])
    assert archive["partitions"] > 1
    results = json.loads(skytrawl("info", stores / "scores.zarr", "--json").stdout)
    assert results["dmdt-score"]["partitions missing"] == 0
    reference = json.loads(skytrawl("info", stores / "reference.zarr", "--json").stdout)
    assert reference["keys"] == [["g", "g"], ["r", "r"], ["g", "r"], ["r", "g"]]


def test_validate(stores: Path) -> None:
    found = skytrawl("info", stores / "archive.zarr", "--validate", "--deep")
    assert found.exit_code == 0
    assert "no fault" in found.output
    for option in ("--validate", "--sizes"):
        results = skytrawl("info", stores / "scores.zarr", option)
        assert (results.exit_code, "is no archive" in results.output) == (1, True)


def test_top_is_sorted_and_one_object_is_found(stores: Path) -> None:
    columns = json.loads(skytrawl("query", stores / "scores.zarr", "--top", 7, "--json").stdout)["columns"]
    assert len(columns["score"]) == 7
    assert columns["score"] == sorted(columns["score"])
    name = columns["object_id"][0]
    one = json.loads(skytrawl("query", stores / "scores.zarr", "--object", name, "--json").stdout)["columns"]
    assert one["score"][0] == columns["score"][0]
    assert name in skytrawl("query", stores / "scores.zarr", "--object", name).output


def test_cone_finds_by_position(stores: Path) -> None:
    answer = skytrawl("query", stores / "scores.zarr", "--cone", 68.5780669, 49.0870812, 0.01, "--json")
    columns = json.loads(answer.stdout)["columns"]
    assert columns["object_id"] == ["ZTF17aaaaaas"]
    assert columns["separation"][0] < 1e-6
    assert (
        " deg"
        in skytrawl(
            "query", stores / "scores.zarr", "--cone", 68.5780669, 49.0870812, 0.01, "--columns", "separation"
        ).output.split("separation")[1]
    )


def test_hits_in_the_form_of_soraisam2020(stores: Path, tmp_path: Path) -> None:
    path = tmp_path / "hits.csv"
    assert skytrawl("query", stores / "scores.zarr", "--flagged", "--csv", path).exit_code == 0
    rows = [line.split(",") for line in path.read_text().splitlines()]
    assert rows
    assert {len(row) for row in rows} == {3}
    assert {row[1].strip() for row in rows} == {"ztf"}
    assert all(float(row[2]) < -0.05 for row in rows)


def test_plan_shows_memory_and_changes_nothing(stores: Path) -> None:
    found = skytrawl("plan", "dmdt-score", stores / "archive.zarr", "--reference", stores / "reference.zarr")
    assert found.exit_code == 0
    assert "memory of a task" in found.output


def test_finished_run_is_skipped_and_changed_parameters_are_named(stores: Path) -> None:
    words = ["run", "dmdt-score", stores / "archive.zarr", stores / "scores.zarr", "--cluster", "threads"]
    words += ["--reference", stores / "reference.zarr"]
    again = skytrawl(*words, "--threshold", -0.05, "--json")
    assert json.loads(again.stdout)["done"] == 0
    moved = stores / "elsewhere.zarr"
    shutil.copytree(stores / "reference.zarr", moved)
    same = skytrawl(*words[:-1], moved, "--threshold", -0.05, "--json")  # the content counts, not the path
    assert json.loads(same.stdout)["done"] == 0
    changed = skytrawl(*words, "--threshold", -0.2)
    assert changed.exit_code == 1
    assert "threshold: -0.05 -> -0.2" in changed.output


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["query", "nowhere.zarr"], 1, "nowhere.zarr"),
        (["info", "."], 1, "is no skytrawl archive"),
        (["run", "dmdt-scor", "a", "b"], 1, "did you mean 'dmdt-score'"),
        (["ingest", "absent.csv", "x.zarr", "--survey", "ztf"], 1, "absent.csv"),
        (["ingest", "absent.csv", "x.zarr", "--survey", "zft"], 1, "ztf"),
        (["ingest", "absent.csv", "x.zarr", "--survey", "ztf", "--column", "time"], 1, "time=mjd"),
        (["query", "x", "--top", "3", "--object", "1"], 2, "one question"),
        (["query", "x", "--top", "0"], 2, "x>=1"),
        (["run", "dmdt-score", "a", "b", "--workers", "0"], 2, "x>=1"),
        (["demo", "--out", "table.csv"], 1, "table.csv exists"),
        (["ingest", "table.csv", "table.csv/x.zarr", "--survey", "ztf"], 1, "table.csv"),
        (["nonsense"], 2, "No such command"),
        (["run", "dmdt-score", "a", "b"], 2, "needs --reference"),
    ],
)
def test_mistakes_get_one_clear_message(
    words: list[str], code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text("object,mjd,mag,magerr,band\na,58001,18,0.1,g\n")
    answer = skytrawl(*words)
    assert answer.exit_code == code
    assert says in answer.output
    assert "Traceback" not in answer.output


def test_a_run_without_threshold_says_why_nothing_is_flagged(stores: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.zarr"
    words = ["run", "dmdt-score", stores / "archive.zarr", out, "--cluster", "threads"]
    assert skytrawl(*words, "--reference", stores / "reference.zarr").exit_code == 0
    answer = skytrawl("query", out, "--flagged", "--csv")
    assert answer.stdout == ""
    assert "no object is flagged" in answer.stderr
    everything = skytrawl("query", out, "--flagged", "--threshold", 1e9, "--csv")
    assert len(everything.stdout.splitlines()) > 10
    assert "no object" not in everything.stderr


def test_stores_given_in_the_wrong_place(stores: Path) -> None:
    assert "not a skytrawl results store" in skytrawl("query", stores / "archive.zarr").output
    answer = skytrawl(
        "run", "dmdt-reference", stores / "scores.zarr", stores / "x.zarr", "--cluster", "threads"
    )  # fmt: skip
    assert answer.exit_code == 1
    assert not (stores / "x.zarr").exists()


def test_damaged_shard_fails_its_partition_alone(stores: Path, tmp_path: Path) -> None:
    """One flipped byte: exit code 3, the partition is named, the other objects are scored."""
    archive = shutil.copytree(stores / "archive.zarr", tmp_path / "archive.zarr")
    shard = sorted((archive / "lightcurves" / "value" / "c").iterdir())[0]
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 1
    shard.write_bytes(data)
    done = skytrawl(
        "run", "dmdt-score", archive, tmp_path / "scores.zarr", "--reference", stores / "reference.zarr",
        "--cluster", "threads", "--retries", 0,
    )  # fmt: skip
    assert done.exit_code == 3
    assert "lightcurves/value" in done.output
    whole = json.loads(skytrawl("query", stores / "scores.zarr", "--top", 300, "--json").stdout)["columns"]
    rest = json.loads(skytrawl("query", tmp_path / "scores.zarr", "--top", 300, "--json").stdout)
    assert rest["partitions_missing"] == 1
    scores = dict(zip(whole["object_id"], whole["score"], strict=True))
    found = dict(zip(rest["columns"]["object_id"], rest["columns"]["score"], strict=True))
    assert 0 < len(found) < len(scores)
    assert all(scores[name] == score for name, score in found.items())


def test_query_as_a_process_is_fast(stores: Path) -> None:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "skytrawl.cli", "query", str(stores / "scores.zarr"), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert time.perf_counter() - started < 5.0  # 0.2 s on a quiet machine
    assert np.isfinite(json.loads(done.stdout)["columns"]["score"]).all()


def test_demo(tmp_path: Path) -> None:
    """The main job of the README, from bundled data to table and figure."""
    answer = skytrawl("demo", "--out", tmp_path / "demo", "--workers", 1)
    assert answer.exit_code == 0, answer.output
    first = next(line for line in answer.output.splitlines() if line.startswith("   1  "))
    assert "AT2017gfo" in first  # the kilonova of GW170817 is unlike any type Ia supernova
    figure = tmp_path / "demo" / "anomaly.png"
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert figure.stat().st_size > 20_000
    assert (tmp_path / "demo" / "events.png").stat().st_size > 20_000
    assert next(line for line in answer.output.splitlines() if line.startswith("OGLE-2003-BLG-235"))
    assert (tmp_path / "demo" / "images.png").stat().st_size > 20_000
    assert "is on 2 of 2 exposures" in answer.output
    again = skytrawl("demo", "--out", tmp_path / "demo")
    assert again.exit_code == 1
    assert "not empty" in again.output
