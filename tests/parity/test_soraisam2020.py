"""Parity with soraisam2020: its published reference, 750 scores of the program itself, its JSON."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from skytrawl.catalogs import references, soraisam2020
from skytrawl.catalogs.archive import Archive
from skytrawl.dmdt_common import Cuts
from skytrawl.dmdt_maps import export_pairs, object_pairs
from skytrawl.dmdt_score import JOB
from skytrawl.dmdt_soraisam2020 import build_reference
from skytrawl.errors import IngestError, ObjectNotFoundError, ReferenceExistsError, ReferenceMismatchError
from skytrawl.intake.driver import ingest
from skytrawl.kernels import dmdt
from skytrawl.params import build

KEYS = ("g", "R", "g-R", "R-g")
FACTS = {"survey": "ztf", "photometry": "difference", "quantity": "magnitude", "units": "mag"}


@pytest.fixture(scope="module")
def curves(reference_data: Path) -> Path:
    return reference_data / "lightcurves"


@pytest.fixture(scope="module")
def supernovae(curves: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Archive, list[str]]:
    source = curves / "ztf_bts_snia_antares.csv"
    path = tmp_path_factory.mktemp("parity") / "archive"
    ingest(source, path, survey="ztf", duplicates="keep")
    with source.open() as file:
        names = sorted({row["object"] for row in csv.DictReader(file)})
    return Archive.open(path), names


@pytest.fixture(scope="module")
def example(curves: Path, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    path = tmp_path_factory.mktemp("example") / "archive"
    columns = {"object": "{stem}", "time": "mjd", "value": "mag", "error": "magerr", "band": "pb"}
    ingest(curves / "example_lc_48904.csv", path, survey="ztf", columns=columns, duplicates="keep")
    return Archive.open(path)


def same(found: dict, expected: dict) -> None:
    assert set(found) == set(expected)
    np.testing.assert_allclose(found["log_dt_bin_edges"], expected["log_dt_bin_edges"], rtol=1e-12)
    for row in set(expected) - {"log_dt_bin_edges"}:
        for name in ("dm_hist", "dm_bin_edges"):
            np.testing.assert_allclose(
                found[row][name], expected[row][name], rtol=1e-12, atol=1e-12 if name == "dm_bin_edges" else 0
            )


def read_as_the_original(text: str) -> float:
    """Read a number as pandas below version 3 does by default.

    Its parser gathers 17 digits in a double and divides by the power of ten, so that some stamps of the
    example come out one unit in the last place (7e-12 d) from the nearest double; two of them are the
    closest pair.
    """
    whole, _, fraction = text.partition(".")
    digits = (whole + fraction)[:17]
    value = 0.0
    for digit in digits:
        value = value * 10 + int(digit)
    exponent = len(whole + fraction) - len(digits) - len(fraction)
    return value * 10.0**exponent if exponent > 0 else value / 10.0**-exponent


def test_published_reference(curves: Path, tmp_path: Path) -> None:
    with (curves / "example_lc_48904.csv").open() as file:
        rows = list(csv.DictReader(file))
    table: dict = {
        name: np.array([read_as_the_original(row[column]) for row in rows])
        for name, column in (("time", "mjd"), ("value", "mag"), ("error", "magerr"))
    }
    table |= {"band": np.array([row["pb"] for row in rows]), "object": np.full(len(rows), "example")}
    columns = {name: name for name in table}
    ingest(table, tmp_path / "archive", survey="ztf", columns=columns, duplicates="keep")
    made = build_reference(Archive.open(tmp_path / "archive"), keys=("g",))
    same(soraisam2020.distributions_of(made)["g", "g"], json.loads((curves / "g_logdt_dm.json").read_text()))


def test_pair_counts_of_the_example(example: Archive, tmp_path: Path) -> None:
    pairs = object_pairs(example, "example_lc_48904", keys=KEYS, rules=dmdt.SORAISAM2020_RULES)
    counts = {key: len(arrays["dt"]) for key, arrays in pairs.items()}
    assert counts == {"g": 65, "R": 48, "g-R": 1665, "R-g": 1569}
    written = json.loads(export_pairs(pairs, tmp_path / "pairs.json").read_text())
    assert {key: (len(x["log_dt"]), len(x["dmag"])) for key, x in written.items()} == {
        key: (n, n) for key, n in counts.items()
    }
    assert written["g"]["log_dt"] == sorted(written["g"]["log_dt"])


@pytest.mark.parametrize("source", ["imported", "rebuilt"])
def test_scores_of_the_program(
    supernovae: tuple[Archive, list[str]], curves: Path, tmp_path: Path, source: str
) -> None:
    archive, names = supernovae
    expected = json.loads((curves / "soraisam2020" / "scores.json").read_text())["objects"]
    if source == "imported":
        reference = soraisam2020.import_json(curves / "soraisam2020", archive.bands, **FACTS)
    else:
        reference = build_reference(archive, keys=KEYS, objects=names[:750])
    references.save(reference, tmp_path / "reference")
    parameters = build(JOB.parameters, reference=str(tmp_path / "reference"), kind="soraisam2020")
    prepared = JOB.prepare(parameters, archive)
    labels = prepared.payload["labels"]
    checked = 0
    for partition in range(archive.n_partitions):
        block = archive.read(partition, (*JOB.needs(parameters, archive), "objects/object_id"))
        out = JOB.block(block, parameters, prepared, "cpu")
        for row, name in enumerate(block.objects["object_id"].tolist()):
            if name.decode() not in expected:
                continue
            wanted = expected[name.decode()]
            np.testing.assert_allclose(out["score"][row], wanted["score"], rtol=1e-8, err_msg=name.decode())
            found = dict(zip(labels, out["key_pairs"][row].tolist(), strict=True))
            assert found == {label: wanted["pairs"].get(label, 0) for label in labels}, name
            checked += 1
    assert checked == len(expected) == 750


def test_rebuilt_references(supernovae: tuple[Archive, list[str]], curves: Path) -> None:
    archive, names = supernovae
    made = soraisam2020.distributions_of(build_reference(archive, keys=KEYS, objects=names[:750]))
    assert len(made) == 4
    for pair, content in made.items():
        label = references.key_label(pair)
        same(content, json.loads((curves / "soraisam2020" / f"{label}_logdt_dm.json").read_text()))


def test_export_import_round_trip(curves: Path, tmp_path: Path) -> None:
    made = soraisam2020.import_json(curves / "soraisam2020", ["g", "R"], **FACTS)
    written = soraisam2020.export_json(made, tmp_path)
    assert {path.name for path in written} == {f"{key}_logdt_dm.json" for key in KEYS}
    for path in written:
        assert json.loads(path.read_text()) == json.loads((curves / "soraisam2020" / path.name).read_text())
    assert references.fingerprint(soraisam2020.import_json(tmp_path, ["g", "R"], **FACTS)) == (
        references.fingerprint(made)
    )
    with pytest.raises(ReferenceExistsError, match="g_logdt_dm"):
        soraisam2020.export_json(made, tmp_path)


def test_mean_refuses_the_originals_reference(
    supernovae: tuple[Archive, list[str]], curves: Path, tmp_path: Path
) -> None:
    references.save(soraisam2020.import_json(curves / "soraisam2020", ["g", "R"], **FACTS), tmp_path / "r")
    with pytest.raises(ReferenceMismatchError, match="kind=soraisam2020"):
        JOB.prepare(build(JOB.parameters, reference=str(tmp_path / "r")), supernovae[0])


def test_unknown_survey_is_refused_unless_asked_for(
    supernovae: tuple[Archive, list[str]], curves: Path, tmp_path: Path
) -> None:
    references.save(soraisam2020.import_json(curves / "soraisam2020", ["g", "R"]), tmp_path / "r")
    words = {"reference": str(tmp_path / "r"), "kind": "soraisam2020"}
    with pytest.raises(ReferenceMismatchError, match="survey is 'unknown'"):
        JOB.prepare(build(JOB.parameters, **words), supernovae[0])
    prepared = JOB.prepare(build(JOB.parameters, **words, allow_mismatch=True), supernovae[0])
    assert len(prepared.attrs["reference_mismatch"]) == 4


def test_signs_are_ignored_only_when_asked_for(curves: Path, tmp_path: Path) -> None:
    """All 3552 detections of this locus are negative subtractions; the original pairs their magnitudes."""
    ingest(curves / "antares_locus_ANT202037lq.csv", tmp_path / "a", survey="ztf", duplicates="keep")
    archive = Archive.open(tmp_path / "a")
    name = archive.read(0, ["objects/object_id"]).objects["object_id"][0].decode()
    original = object_pairs(
        archive,
        name,
        keys=("g", "R"),
        rules=dmdt.SORAISAM2020_RULES,
        cuts=Cuts(preset="soraisam2020", sign="any"),
    )
    with (curves / "antares_locus_ANT202037lq.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["ant_survey"] == "1"]
    for band in ("g", "R"):
        good = [
            row["ant_mjd"]
            for row in rows
            if row["ant_passband"] == band
            and float(row["ztf_magpsf"]) < 22
            and float(row["ztf_sigmapsf"]) < 0.2
        ]
        once = [stamp for stamp in good if good.count(stamp) == 1]
        assert len(original[band]["dt"]) == len(once) - 1
    assert object_pairs(archive, name, cuts=Cuts(preset="soraisam2020")) == {}


def test_auto_bins_follow_numpy() -> None:
    """The rule of the installed NumPy is one of the two; both agree where the IQR is not small."""
    version = tuple(int(x) for x in np.__version__.split(".")[:2])
    generator = np.random.default_rng(3)
    for values in (generator.normal(size=500), generator.exponential(size=3000), np.array([1.0, 2.0])):
        rule = "numpy-2.4" if version >= (2, 4) else "numpy-1.26"
        if version < (2, 0) or version >= (2, 4):
            np.testing.assert_array_equal(
                soraisam2020.auto_edges(values, rule), np.histogram_bin_edges(values, "auto")
            )
    heavy = np.concatenate([generator.normal(0, 1e-4, 5000), generator.uniform(-3, 3, 50)])
    assert len(soraisam2020.auto_edges(heavy, "numpy-2.4")) - 1 == 143
    assert len(soraisam2020.auto_edges(heavy, "numpy-1.26")) > 100_000
    np.testing.assert_array_equal(soraisam2020.auto_edges(np.full(4, 2.0)), [1.5, 2.5])


def test_joined_bins() -> None:
    edges = np.arange(7.0)
    counts = np.array([150, 60, 30, 20, 100, 5])
    np.testing.assert_array_equal(soraisam2020.joined_edges(edges, counts), [0, 1, 4, 5, 6])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dm_hist": [0.5, -0.1]}, "positive"),
        ({"dm_bin_edges": [0, 1]}, "number one more"),
        ({"dm_bin_edges": [0, 2, 1]}, "ascend"),
        ({"dm_bin_edges": [0, float("nan"), 1]}, "ascend"),
    ],
)
def test_bad_json_is_named(tmp_path: Path, change: dict, message: str) -> None:
    row = {"dm_hist": [0.5, 0.5], "dm_bin_edges": [0, 1, 2], **change}
    (tmp_path / "g_logdt_dm.json").write_text(json.dumps({"log_dt_bin_edges": [0, 1], "1": row}))
    with pytest.raises(IngestError, match=f"key g: row 1: .*{message}"):
        soraisam2020.import_json(tmp_path, ["g"])


def test_rows_and_edges_belong_together(tmp_path: Path) -> None:
    row = {"dm_hist": [0.5, 0.5], "dm_bin_edges": [0, 1, 2]}
    (tmp_path / "g_logdt_dm.json").write_text(json.dumps({"log_dt_bin_edges": [0, 1], "1": row, "2": row}))
    with pytest.raises(IngestError, match="2 rows, and edges of 1"):
        soraisam2020.import_json(tmp_path, ["g"])


def test_objects_that_are_not_there_are_named(supernovae: tuple[Archive, list[str]]) -> None:
    archive, names = supernovae
    with pytest.raises(ObjectNotFoundError, match=r"lacks 1 of the objects, such as .*nobody"):
        build_reference(archive, keys=KEYS, objects=[*names[:2], "nobody"])
