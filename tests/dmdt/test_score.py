"""The jobs dmdt-score and dmdt-maps: outputs, cuts, refusals."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.catalogs import references
from skytrawl.catalogs.archive import Archive
from skytrawl.dmdt_common import Cuts
from skytrawl.dmdt_maps import export_pairs, object_pairs
from skytrawl.errors import (
    ObjectNotFoundError,
    ParameterError,
    ReferenceMismatchError,
    SchemaError,
    SkytrawlError,
)
from skytrawl.job import get_job
from skytrawl.kernels import dmdt
from skytrawl.params import build, parameters_of

ArchiveOf = Callable[..., Archive]


@pytest.fixture
def scored(archive_of: ArchiveOf, tools: Any, tmp_path: Path) -> tuple[Archive, Path]:
    archive = archive_of(tools.table(20, n_objects=120), "scored")
    references.save(tools.reference(archive), tmp_path / "r")
    return archive, tmp_path / "r"


def test_columns_agree_with_each_other(scored: tuple[Archive, Path], tools: Any) -> None:
    archive, reference = scored
    out = tools.rows("dmdt-score", archive, reference=str(reference), threshold=-0.02)
    has = out["n_pairs"] > 0
    np.testing.assert_array_equal(np.isfinite(out["score"]), has)
    np.testing.assert_allclose(np.nansum(out["part"], axis=1)[has], out["score"][has], rtol=1e-12)
    np.testing.assert_array_equal(out["key_pairs"].sum(1), out["n_pairs"] + out["n_ignored"])
    np.testing.assert_array_equal(out["flagged"], out["score"] < -0.02)
    assert out["flagged"].any()
    assert not out["flagged"].all()
    assert (out["n_penalised"] <= out["n_pairs"]).all()
    assert (out["score"][has] >= -0.5 - 1e-9).all()
    np.testing.assert_allclose(
        out["worst_time_later"] - out["worst_time_earlier"], out["worst_dt"], equal_nan=True
    )
    plain = tools.rows("dmdt-score", archive, reference=str(reference))
    assert not plain["flagged"].any()
    declared = get_job("dmdt-score").gives(
        build(get_job("dmdt-score").parameters, reference=str(reference)),
        get_job("dmdt-score").prepare(
            build(get_job("dmdt-score").parameters, reference=str(reference)), archive
        ),
    )
    for variable in declared:
        assert plain[variable.name].dtype == np.dtype(variable.dtype), variable.name


def test_objects_without_pairs(archive_of: ArchiveOf, tools: Any, scored: tuple[Archive, Path]) -> None:
    one = {
        "object": np.array(["a", "b", "b"]),
        "time": np.array([58000.0, 58000.0, 58001.0]),
        "value": np.array([18.0, 18.0, 18.3]),
        "error": np.array([0.1, 0.1, 0.1]),
        "band": np.array(["g", "g", "g"]),
    }
    for kind in ("mean", "tail"):
        out = tools.rows("dmdt-score", archive_of(one, kind), reference=str(scored[1]), kind=kind)
        lonely = out["object_id"] == b"a"
        assert math.isnan(out["score"][lonely][0])
        assert not out["flagged"][lonely][0]
        assert np.isnan(out["worst_value"][lonely][0])
        assert out["worst_key"][lonely][0] == b""
        assert out["n_pairs"][lonely][0] == 0
        assert np.isfinite(out["score"][~lonely][0])


def test_the_last_edges_are_scored_as_they_are_counted(
    archive_of: ArchiveOf, tools: Any, tmp_path: Path
) -> None:
    table = {
        "object": np.array(["a", "a"]),
        "time": np.array([58000.0, 60000.0]),
        "value": np.array([14.0, 22.0]),
        "error": np.array([0.1, 0.1]),
        "band": np.array(["g", "g"]),
    }
    archive = archive_of(table)
    references.save(tools.reference(archive, grid="scope-ml-26x26"), tmp_path / "r")
    out = tools.rows("dmdt-score", archive, reference=str(tmp_path / "r"))
    assert (out["n_pairs"][0], out["n_ignored"][0], out["n_penalised"][0]) == (1, 0, 0)
    assert out["score"][0] > -0.5


def test_short_times_keep_their_weight(archive_of: ArchiveOf, tools: Any, tmp_path: Path) -> None:
    """The mean over pairs of 0.0012 d alone is that without weights, however steep the weights are."""
    table = tools.table(28, n_objects=40)
    quick = {**table, "time": 58000 + 0.0012 * np.arange(len(table["time"]))}
    both = {name: np.concatenate([table[name], quick[name]]) for name in table}
    both["object"] = np.concatenate([table["object"], np.char.add(quick["object"], "q")])
    archive = archive_of(both)
    references.save(tools.reference(archive, keys="g"), tmp_path / "r")
    words = {"reference": str(tmp_path / "r"), "min_coverage": 0.0}
    steep, even = (tools.rows("dmdt-score", archive, **words, dt_power=power) for power in (2.0, 0.0))
    mine = np.char.endswith(steep["object_id"], b"q") & (steep["n_pairs"] == 1)
    assert mine.any()
    np.testing.assert_allclose(steep["score"][mine], even["score"][mine], rtol=1e-3)


def test_tail_ranks_among_scores_of_the_same_keys(
    archive_of: ArchiveOf, tools: Any, scored: tuple[Archive, Path]
) -> None:
    """An archive without band r: the sample is scored without its pairs in r, too."""
    table = tools.table(20, n_objects=120)
    green = table["band"] == "g"
    archive = archive_of({name: array[green] for name, array in table.items()}, "green", bands=["g"])
    words = {"reference": str(scored[1]), "allow_mismatch": True, "kind": "tail"}
    job = get_job("dmdt-score")
    scorer = job.prepare(build(job.parameters, words), archive).payload["scorers"][""]
    out = tools.rows("dmdt-score", archive, **words)
    have = np.sort(out["n_pairs"][out["n_pairs"] > 0])
    np.testing.assert_array_equal(np.sort(scorer.sample_pairs[scorer.sample_pairs > 0]), have)


def test_fewest_pairs(scored: tuple[Archive, Path], tools: Any) -> None:
    archive, reference = scored
    every = tools.rows("dmdt-score", archive, reference=str(reference))
    some = tools.rows("dmdt-score", archive, reference=str(reference), min_pairs=100)
    enough = every["n_pairs"] >= 100
    assert 0 < enough.sum() < np.isfinite(every["score"]).sum()
    np.testing.assert_array_equal(some["score"][enough], every["score"][enough])
    assert np.isnan(some["score"][~enough]).all()
    np.testing.assert_array_equal(some["n_pairs"], every["n_pairs"])


def test_tail_ranks_the_mean(scored: tuple[Archive, Path], tools: Any) -> None:
    archive, reference = scored
    mean = tools.rows("dmdt-score", archive, reference=str(reference))
    tail = tools.rows("dmdt-score", archive, reference=str(reference), kind="tail", neighbours=30)
    np.testing.assert_array_equal(tail["raw_mean"], mean["score"])
    good = np.isfinite(tail["score"])
    np.testing.assert_allclose(tail["score"][good] * 31, np.round(tail["score"][good] * 31), atol=1e-9)
    assert 0.3 < np.nanmedian(tail["score"]) < 0.9


def test_own_class(archive_of: ArchiveOf, tools: Any, tmp_path: Path) -> None:
    table = tools.table(21, n_objects=90)
    archive = archive_of(table)
    references.save(tools.reference(archive, by_class=True), tmp_path / "by_class")
    references.save(tools.reference(archive, classes="AGN"), tmp_path / "agn")
    out = tools.rows("dmdt-score", archive, reference=str(tmp_path / "by_class"), per_class=True)
    alone = tools.rows("dmdt-score", archive, reference=str(tmp_path / "agn"))
    agn = out["reference_class"] == b"AGN"
    assert agn.sum() == 30
    np.testing.assert_array_equal(out["score"][agn], alone["score"][agn])
    with pytest.raises(ReferenceMismatchError, match="counted without classes"):
        tools.rows("dmdt-score", archive, reference=str(tmp_path / "agn"), per_class=True)
    strange = archive_of({**table, "class": np.full(len(table["class"]), "QSO")}, "strange")
    fallback = tools.rows("dmdt-score", strange, reference=str(tmp_path / "by_class"), per_class=True)
    everything = tools.rows("dmdt-score", strange, reference=str(tmp_path / "by_class"))
    assert (fallback["reference_class"] == b"").all()
    np.testing.assert_array_equal(fallback["score"], everything["score"])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"survey": "sdss"}, "survey is 'ztf' in the reference and 'sdss'"),
        ({"photometry": "total"}, "photometry is 'difference' in the reference and 'total'"),
    ],
)
def test_another_survey_or_photometry_is_refused(
    archive_of: ArchiveOf, tools: Any, scored: tuple[Archive, Path], options: dict, word: str
) -> None:
    other = archive_of(tools.table(22), "other", **options)
    job = get_job("dmdt-score")
    with pytest.raises(ReferenceMismatchError, match=word):
        job.prepare(build(job.parameters, reference=str(scored[1])), other)
    asked = build(job.parameters, reference=str(scored[1]), allow_mismatch=True)
    prepared = job.prepare(asked, other)
    assert any(word in line for line in prepared.attrs["reference_mismatch"])


def test_cuts(archive_of: ArchiveOf, tools: Any, scored: tuple[Archive, Path]) -> None:
    table = tools.table(23, n_objects=5)
    n = len(table["time"])
    generator = np.random.default_rng(1)
    table["rb"] = np.where(generator.random(n) < 0.2, np.nan, generator.random(n))
    table["sign"] = generator.choice([-1, 1], n)
    archive = archive_of(table)
    first = table["object"] == "s23o000"

    def used(**cuts: Any) -> dict[str, int]:
        out = tools.rows("dmdt-score", archive, **{"reference": str(scored[1]), "min_rows": 0, **cuts})
        place = int(np.flatnonzero(out["object_id"] == b"s23o000")[0])
        return {name: int(out[name][place]) for name in ("n_used", "n_negative", "n_dropped")}

    positive = table["sign"] > 0
    assert used() == {
        "n_used": int((first & positive).sum()),
        "n_negative": int((first & ~positive).sum()),
        "n_dropped": 0,
    }
    assert used(sign="any") == {"n_used": int(first.sum()), "n_negative": 0, "n_dropped": 0}
    for cuts, mask in (
        ({"mag_max": 18.0}, table["value"] < 18),
        ({"error_max": 0.1}, table["error"] < 0.1),
        ({"rb_min": 0.5}, table["rb"] >= 0.5),
        ({"preset": "soraisam2020"}, (table["value"] < 22) & (table["error"] < 0.2)),
        ({"preset": "soraisam2020", "error_max": 0.05}, (table["value"] < 22) & (table["error"] < 0.05)),
    ):
        assert used(sign="any", **cuts)["n_used"] == int((first & mask).sum()), cuts
    assert used(min_rows=1000)["n_used"] == 0


def test_negative_subtractions_are_never_paired_by_default(archive_of: ArchiveOf) -> None:
    table = {
        "object": np.full(4, "x"),
        "time": 58000.0 + np.arange(4),
        "value": np.array([18.0, 18.5, 19.0, 18.2]),
        "error": np.full(4, 0.1),
        "band": np.full(4, "g"),
        "sign": np.array([1, -1, 1, -1]),
    }
    archive = archive_of(table)
    assert object_pairs(archive, "x", keys=("g",))["g"]["dm"].tolist() == [1.0]
    assert len(object_pairs(archive, "x", keys=("g",), cuts=Cuts(sign="any"))["g"]["dm"]) == 6
    assert len(object_pairs(archive, "x", keys=("g",), cuts=Cuts(preset="soraisam2020"))["g"]["dm"]) == 1


def test_bad_parameters_are_named() -> None:
    job = get_job("dmdt-score")
    for words, message in (
        ({}, "missing parameter reference"),
        ({"reference": "r", "kind": "median"}, "kind"),
        ({"reference": "r", "floor": 0.5}, "floor"),
        ({"reference": "r", "prior_pairs": 0}, "prior_pairs"),
        ({"reference": "r", "preset": "other"}, "preset"),
        ({"reference": "r", "sign": "negative"}, "sign"),
    ):
        with pytest.raises(ParameterError, match=message):
            build(job.parameters, words)


def test_missing_columns_are_said(archive_of: ArchiveOf, tools: Any, scored: tuple[Archive, Path]) -> None:
    table = tools.table(24)
    del table["class"]
    archive = archive_of(table)
    for words, message in (({"rb_min": 0.5}, "real-bogus"), ({"per_class": True}, "no classes")):
        with pytest.raises(ParameterError, match=message):
            tools.rows("dmdt-score", archive, reference=str(scored[1]), **words)
    with pytest.raises(ParameterError, match="no classes"):
        tools.reference(archive, by_class=True)


def test_fluxes_become_magnitudes_by_their_zero_point(archive_of: ArchiveOf, tools: Any) -> None:
    table = tools.table(25)
    words = {"quantity": "flux", "photometry": "total", "units": "nJy"}
    flux = {**table, "value": 10 ** (-0.4 * (table["value"] - 31.4))}
    flux["error"] = flux["value"] * table["error"] / (2.5 / np.log(10))
    as_flux = archive_of(flux, "flux", **words, zero_point=31.4)
    as_magnitude = archive_of(table, "magnitude", photometry="total")
    name = "s25o003"
    a, b = (object_pairs(archive, name, cuts=Cuts(error_max=0.2)) for archive in (as_flux, as_magnitude))
    assert list(a) == list(b)
    for key in a:
        np.testing.assert_allclose(a[key]["dm"], b[key]["dm"], atol=1e-9)
    refused = archive_of(flux, "difference", **{**words, "photometry": "difference"}, zero_point=31.4)
    with pytest.raises(SchemaError, match="no magnitude"):
        object_pairs(refused, name)


def test_maps_are_those_of_the_kernel(archive_of: ArchiveOf, tools: Any) -> None:
    archive = archive_of(tools.table(26))
    block = archive.read(0, ("time", "value", "error", "band"))
    columns = block.observations
    curves = dmdt.LightCurves(
        columns["time"], columns["value"], columns["error"], columns["band"], block.offsets
    )
    bands = archive.bands
    codes = [(bands.index("g"), bands.index("g")), (bands.index("r"), bands.index("g"))]
    grid = dmdt.preset("scope-ml-26x26")
    expected = dmdt.count_maps(curves, codes, grid, dmdt.PairRules(), backend="cpu")
    found = tools.rows("dmdt-maps", archive, keys="g,r-g", dtype="uint16", min_rows=0)
    assert found["map"].dtype == np.uint16
    np.testing.assert_array_equal(found["map"], expected)
    normed = tools.rows("dmdt-maps", archive, keys="g,r-g", norm="l2", smear=True)
    assert normed["map"].dtype == np.float32
    squares = (normed["map"].astype(float) ** 2).sum((2, 3))
    np.testing.assert_allclose(squares[squares > 0], 1, rtol=1e-5)


def test_smeared_maps_need_errors(archive_of: ArchiveOf, tools: Any) -> None:
    table = tools.table(29, n_objects=8)
    table["error"][::3] = np.nan
    archive = archive_of(table, missing_errors="keep")
    out = tools.rows("dmdt-maps", archive, keys="g,r", smear=True, min_rows=0)
    good = {name: array[np.isfinite(table["error"])] for name, array in table.items()}
    wanted = tools.rows("dmdt-maps", archive_of(good, "good"), keys="g,r", smear=True, min_rows=0)
    assert out["n_dropped"].sum() == np.isnan(table["error"]).sum()
    for name in ("map", "n_pairs", "n_used"):
        np.testing.assert_array_equal(out[name], wanted[name])


def test_every_form_of_keys_reaches_the_jobs(archive_of: ArchiveOf, tools: Any) -> None:
    archive = archive_of(tools.table(31, n_objects=8))
    expected = references.fingerprint(tools.reference(archive, keys="g-r,r-g"))
    for keys in (["g-r", "r-g"], [["g", "r"], ["r", "g"]], '[["g","r"],["r","g"]]', '{"1":"g-r","2":"r-g"}'):
        assert references.fingerprint(tools.reference(archive, keys=keys)) == expected
    assert tools.rows("dmdt-maps", archive, keys='["g", "r"]')["map"].shape[1] == 1
    assert list(object_pairs(archive, "s31o000", keys="g-r")) == ["g-r"]


def test_another_real_bogus_score(archive_of: ArchiveOf, tools: Any, scored: tuple[Archive, Path]) -> None:
    """Alerts of ZTF have rb and drb; which one rb_min cuts is said at ingest."""
    table = tools.table(32, n_objects=10)
    n = len(table["time"])
    table["rb"], table["drb"] = np.full(n, 0.9), np.random.default_rng(2).random(n)
    columns = {name: name for name in table if name != "drb"} | {"rb": "drb"}
    archive = archive_of(table, columns=columns)
    out = tools.rows("dmdt-score", archive, reference=str(scored[1]), rb_min=0.5, min_rows=0)
    assert out["n_used"].sum() == (table["drb"] >= 0.5).sum()
    (info,) = (p for p in parameters_of(get_job("dmdt-score").parameters) if p.name == "rb_min")
    assert "drb" in info.help


def test_pairs_of_an_object(archive_of: ArchiveOf, tools: Any, tmp_path: Path) -> None:
    archive = archive_of(tools.table(27))
    pairs = object_pairs(archive, "s27o002", keys=("g",))
    export_pairs(pairs, tmp_path / "p.json")
    with pytest.raises(SkytrawlError, match="exists"):
        export_pairs(pairs, tmp_path / "p.json")
    with pytest.raises(ObjectNotFoundError, match="no object"):
        object_pairs(archive, "nobody")
