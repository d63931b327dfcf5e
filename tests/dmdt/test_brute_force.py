"""Every column of dmdt-score against plain loops over the table, for archives with all that can go wrong."""

import itertools
import json
import math
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.catalogs import references, soraisam2020
from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.reference_model import ScoreModel

ArchiveOf = Callable[..., Archive]
BANDS = ("g", "lsst-u", "F146")
KEYS = [[a] if a == b else [a, b] for a, b in itertools.product(BANDS, BANDS)]


def survey_file(folder: Path) -> Path:
    """A survey whose bands have names of several letters, and a dash."""
    pattern = resources.files("skytrawl.catalogs.surveys").joinpath("ztf.toml").read_text()
    start, stop = pattern.index("[[bands]]"), pattern.index("[columns]")
    bands = "".join(f'[[bands]]\nname = "{name}"\nwavelength = 500.0\n' for name in BANDS)
    (folder / "own.toml").write_text(pattern[:start] + bands + pattern[stop:])
    return folder / "own.toml"


def messy_table(seed: int, n_objects: int = 25) -> dict[str, np.ndarray]:
    """Few nights, so that stamps repeat inside bands and between them; limits, signs, missing errors."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 22, n_objects)
    n = int(lengths.sum())
    value = 18 + generator.normal(0, 1.5, n).round(2)
    error = generator.choice([0.05, 0.1999, 0.2, 0.3, np.nan], n)
    return {
        "object": np.repeat([f"m{i:03d}" for i in range(n_objects)], lengths),
        "time": 58000 + generator.choice([0.25, 0.5], n) + generator.integers(0, 30, n),
        "value": np.where(generator.random(n) < 0.1, 22.0, value),
        "error": error,
        "band": generator.choice(BANDS, n),
        "sign": generator.choice([1, 1, -1], n),
        "upper_limit": generator.random(n) < 0.1,
        "rb": generator.choice([0.2, 0.6, 0.9], n),
    }


def kept(table: dict[str, np.ndarray], name: str, cuts: dict[str, Any]) -> tuple[list, int, int]:
    """Observations (time, value, band) of one object that pass, how many were negative, how many are lost."""
    mine = [i for i in range(len(table["time"])) if table["object"][i] == name]
    rows = [i for i in mine if not table["upper_limit"][i]]
    negative = [i for i in rows if table["sign"][i] < 0 and cuts.get("sign") != "any"]
    rows = [i for i in rows if i not in negative]
    if len(rows) < cuts.get("min_rows", 2):
        rows = []
    for limit, column in (("mag_max", "value"), ("error_max", "error")):
        if limit in cuts:
            rows = [i for i in rows if table[column][i] < cuts[limit]]
    if "rb_min" in cuts:
        rows = [i for i in rows if table["rb"][i] >= cuts["rb_min"]]
    points = [(float(table["time"][i]), float(table["value"][i]), str(table["band"][i])) for i in rows]
    return points, len(negative), len(mine) - len(negative) - len(rows)


def listed(points: list, a: str, b: str, consecutive: bool, simultaneous: bool) -> list[tuple]:
    """Pairs (dt, dm, later time, earlier time) of one key."""
    series = []
    for band in (a, b):
        mine = [p for p in points if p[2] == band]
        stamps = [p[0] for p in mine]
        series.append(sorted(p for p in mine if stamps.count(p[0]) == 1))
    later, earlier = series
    if a == b and consecutive:
        both = [(later[i + 1], later[i]) for i in range(len(later) - 1)]
    else:
        both = [(p, q) for q in earlier for p in later]
    pairs = []
    for p, q in both:
        dt = p[0] - q[0]
        if dt > 0 or (dt == 0 and simultaneous and a != b):
            pairs.append((dt if dt > 0 else 1e-7, p[1] - q[1], p[0], q[0]))
    return pairs


def check(out: dict[str, np.ndarray], row: int, found: dict[str, list], mean: bool) -> None:
    """`found`: key label -> (value or None when ignored, weight, penalised, pair) of each pair."""
    entered = [
        (w * v, k, v, w, bad, pair)
        for k, key in enumerate(found)
        for v, w, bad, pair in found[key]
        if v is not None
    ]
    total = sum(e[0] for e in entered)
    norm = sum(e[3] for e in entered)
    assert out["n_pairs"][row] == len(entered)
    assert out["n_penalised"][row] == sum(e[4] for e in entered)
    assert out["n_ignored"][row] == sum(len(x) for x in found.values()) - len(entered)
    assert out["key_pairs"][row].tolist() == [len(x) for x in found.values()]
    if not entered:
        assert (math.isnan(out["score"][row]) and np.isnan(out["part"][row]).all()) or (
            not mean and out["score"][row] == 0 and (out["part"][row] == 0).all()
        )
        assert out["worst_key"][row] == b""
        assert np.isnan([out[f"worst_{name}"][row] for name in ("value", "dt", "dm")]).all()
        return
    scale = norm if mean else 1.0
    np.testing.assert_allclose(out["score"][row], total / scale, rtol=1e-9, atol=1e-9)
    for k in range(len(found)):
        part = sum(e[0] for e in entered if e[1] == k) / scale
        np.testing.assert_allclose(out["part"][row, k], part, rtol=1e-9, atol=1e-9)
    worst = min(e[0] for e in entered)
    label = list(found).index(out["worst_key"][row].decode())
    times = (out["worst_time_later"][row], out["worst_time_earlier"][row])
    # Several pairs may be equally bad up to rounding: the one that is named must be one of them.
    named = [e for e in entered if e[1] == label and e[5][2:] == times]
    assert len(named) == 1
    assert named[0][0] == pytest.approx(worst, rel=1e-9, abs=1e-9)
    assert out["worst_value"][row] == pytest.approx(named[0][2], rel=1e-6, abs=1e-9)
    assert out["worst_dt"][row] == times[0] - times[1]
    assert out["worst_dm"][row] == pytest.approx(named[0][5][1], abs=1e-12)


CUTS: list[dict[str, Any]] = [
    {},
    {"sign": "any", "rb_min": 0.5},
    {"preset": "soraisam2020", "sign": "any", "mag_max": 22.0, "error_max": 0.2},
    {"min_rows": 0, "error_max": 0.25},
]


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize(("grid", "coverage"), [("scope-ml-26x26", 0.6), ("skytrawl-1", 0.1)])
def test_mean(
    archive_of: ArchiveOf, tools: Any, tmp_path: Path, cuts: dict, grid: str, coverage: float
) -> None:
    table = messy_table(5)
    words = {"survey": survey_file(tmp_path), "bands": BANDS}
    archive = archive_of(table, duplicates="keep", missing_errors="keep", **words)
    # Two objects alone: most rows are not covered, some keys not at all.
    ids = tmp_path / "ids"
    ids.write_text("m001\nm002\nm004\n")
    keys = tuple(tuple(key) for key in KEYS if key != ["g", "g"])
    references.save(tools.reference(archive, keys=keys, grid=grid, objects=str(ids)), tmp_path / "r")
    reference = references.load(tmp_path / "r")
    words = {**cuts, "reference": str(tmp_path / "r")}
    out = tools.rows("dmdt-score", archive, **words, min_coverage=coverage, dt_power=2.0, floor=-1.0)
    model = ScoreModel(min_coverage=coverage, dt_power=2.0, floor=-1.0)
    ratio, weight, ranges, edges = model_by_hand(reference, model)
    assert (out["key_pairs"].sum(0) > 0).all()
    for row, name in enumerate(out["object_id"].tolist()):
        points, n_negative, n_dropped = kept(table, name.decode(), cuts)
        assert (out["n_used"][row], out["n_negative"][row], out["n_dropped"][row]) == (
            len(points),
            n_negative,
            n_dropped,
        )
        found: dict[str, list] = {}
        for k, (a, b) in enumerate(reference.attrs["skytrawl"]["keys"]):
            mine = found.setdefault(references.key_label((a, b)), [])
            for pair in listed(points, a, b, False, False):
                r, c = (int(np.searchsorted(e, x, "right")) - 1 for e, x in zip(edges, pair, strict=False))
                if not ranges[k][0] <= r < ranges[k][1]:
                    mine.append((None, 0.0, False, pair))
                    continue
                inside = 0 <= c < ratio.shape[-1]
                value = max(float(ratio[k, r, c]), model.floor) if inside else model.floor
                mine.append((value, weight[k, r], value <= model.floor, pair))
        check(out, row, found, mean=True)


def model_by_hand(reference: Any, model: ScoreModel) -> tuple:
    """Log ratio, weights and covered rows by the words of `reference_model`, with dense matrices."""

    def blur(n: int, sigma: float) -> np.ndarray:
        offset = np.subtract.outer(np.arange(n), np.arange(n))
        reach = math.ceil(4 * sigma)
        kernel = np.where(abs(offset) <= reach, np.exp(-0.5 * (offset / sigma) ** 2), 0)
        return kernel / np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).sum()

    counts = reference["counts"].values.sum(0).astype(float)
    n_dt, n_dm = counts.shape[1:]
    soft = blur(n_dt, model.smooth_dt) @ counts @ blur(n_dm, model.smooth_dm)
    wide = soft.sum(1) @ blur(n_dm, 3 * model.smooth_dm + 1)
    total = wide.sum(-1, keepdims=True)
    share = np.divide(wide, total, out=np.full_like(wide, 1 / n_dm), where=total > 0)
    prior = (0.9 * share + 0.1 / n_dm)[:, None]
    p = (soft + model.prior_pairs * prior) / (soft.sum(-1, keepdims=True) + model.prior_pairs)
    ratio = np.log10(p) - np.log10((p**2).sum(-1, keepdims=True))
    edges = [reference[name].values.copy() for name in ("dt_edges", "dm_edges")]
    low, high = edges[0][:-1], edges[0][1:]
    middle = np.where(low > 0, np.sqrt(low * high), high / 2)
    cross = np.array([a != b for a, b in reference.attrs["skytrawl"]["keys"]])
    weight = np.where(cross[:, None], model.cross_weight, 1) * middle**model.dt_power
    ranges = []
    for objects in reference["objects"].values.sum(0):
        rows = np.flatnonzero(objects >= max(1, model.min_coverage * int(reference["n_objects"].sum())))
        ranges.append((rows[0], rows[-1] + 1) if len(rows) else (0, 0))
    for axis, closed in enumerate(reference.attrs["skytrawl"]["grid"]["closed_last"]):
        if closed:
            edges[axis][-1] = np.nextafter(edges[axis][-1], np.inf)
    return ratio, weight, ranges, edges


@pytest.mark.parametrize("cuts", CUTS)
def test_soraisam2020(archive_of: ArchiveOf, tools: Any, tmp_path: Path, cuts: dict) -> None:
    table = messy_table(6)
    words = {"survey": survey_file(tmp_path), "bands": BANDS}
    archive = archive_of(table, duplicates="keep", missing_errors="keep", **words)
    # Rows that end at 10 d and beyond, an empty cell, a range that leaves out short and long times.
    generator = np.random.default_rng(3)
    labels = [references.key_label((key[0], key[-1])) for key in KEYS]
    contents = {}
    for label in labels:
        log_dt = [-7.0 if label == "g-F146" else -0.2, 0.3, 1.0, 1.2]
        content: dict[str, Any] = {"log_dt_bin_edges": log_dt}
        for k in "123":
            hist = [0.0, *generator.uniform(0.1, 1, 3)]
            content[k] = {"dm_hist": [max(h, 1e-30) for h in hist], "dm_bin_edges": [-1.5, -1, 0, 0.75, 2]}
        contents[label] = content
        (tmp_path / f"{label}_logdt_dm.json").write_text(json.dumps(content))
    facts = {"survey": "ztf", "photometry": "difference", "quantity": "magnitude", "units": "mag"}
    made = soraisam2020.import_json(tmp_path, BANDS, **facts)
    references.save(made, tmp_path / "r")
    words = {"reference": str(tmp_path / "r"), "kind": "soraisam2020"}
    out = tools.rows("dmdt-score", archive, **cuts, **words)
    assert (out["n_ignored"] > 0).any()
    for row, name in enumerate(out["object_id"].tolist()):
        points, _, _ = kept(table, name.decode(), cuts)
        found: dict[str, list] = {}
        for a, b in made.attrs["skytrawl"]["keys"]:
            label = references.key_label((a, b))
            edges, mine = contents[label]["log_dt_bin_edges"], found.setdefault(label, [])
            for pair in listed(points, a, b, True, True):
                r = int(np.digitize(math.log10(pair[0]), edges))
                if not 0 < r < len(edges):
                    mine.append((None, 0.0, False, pair))
                    continue
                content = contents[label][str(r)]
                h, e = np.array(content["dm_hist"]), np.array(content["dm_bin_edges"])
                c = int(np.digitize(pair[1], e))
                inside = 0 < c < len(e)
                log_h = math.log10(h[c - 1]) if inside else (-2000 if edges[r] < 1.0 else -30)
                value = log_h - math.log10(np.sum(h**2 * np.diff(e)))
                mine.append((value, 1.0, not inside or h[c - 1] == 1e-30, pair))
        check(out, row, found, mean=False)
