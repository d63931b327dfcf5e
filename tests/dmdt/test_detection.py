"""Detection power on real light curves: 750 supernovae as reference, the other 750 against altered ones."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.catalogs import references
from skytrawl.catalogs.archive import Archive
from skytrawl.intake.driver import ingest
from skytrawl.kernels import dmdt

CODES = {"g": 0, "R": 1}
KEYS = [(0, 0), (1, 1), (0, 1), (1, 0)]
Curve = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def read_curves(path: Path, rename: dict[str, str]) -> dict[str, Curve]:
    rows: dict[str, list[tuple[float, float, float, str]]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            band = rename.get(row["band"], row["band"])
            if band in CODES:
                point = (float(row["time"]), float(row["mag"]), float(row["magerr"]), band)
                rows.setdefault(row["object"], []).append(point)
    return {
        name: tuple(np.array(column) for column in zip(*points, strict=True))  # type: ignore[misc]
        for name, points in sorted(rows.items())
    }


def archive_from(path: Path, curves: list[Curve]) -> Archive:
    names = np.repeat([f"o{i:04d}" for i in range(len(curves))], [len(curve[0]) for curve in curves])
    columns = [np.concatenate([curve[i] for curve in curves]) for i in range(4)]
    table = dict(zip(("object", "time", "value", "error", "band"), (names, *columns), strict=True))
    ingest(table, path, survey="ztf", columns={name: name for name in table}, duplicates="keep")
    return Archive.open(path)


def original_pairs(archive: Archive) -> np.ndarray:
    """Pairs as soraisam2020 counts them: consecutive inside a band, all between bands."""
    counts = []
    for partition in range(archive.n_partitions):
        block = archive.read(partition, ("time", "value", "band"))
        o = block.observations
        curves = dmdt.LightCurves(o["time"], o["value"], None, o["band"], block.offsets)
        codes = [(archive.bands.index("g"), archive.bands.index("R"))[k] for k in (0, 1)]
        keys = [(codes[a], codes[b]) for a, b in KEYS]
        counts.append(dmdt.pair_counts(curves, keys, dmdt.SORAISAM2020_RULES).sum(1))
    return np.concatenate(counts)


def area(normal: np.ndarray, odd: np.ndarray) -> float:
    """Area under the curve: chance that an odd object scores lower than a normal one, ties half."""
    ordered = np.sort(normal)
    below = np.searchsorted(ordered, odd, "left") + np.searchsorted(ordered, odd, "right")
    return float(1 - below.mean() / 2 / len(ordered))


@pytest.fixture(scope="module")
def sets(reference_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Archive]]:
    folder = tmp_path_factory.mktemp("detection")
    source = reference_data / "lightcurves"
    supernovae = list(read_curves(source / "ztf_bts_snia_antares.csv", {}).values())
    known, held = supernovae[:750], supernovae[750:]
    stars = list(read_curves(source / "sdss_s82_rrlyrae.csv", {"r": "R"}).values())
    generator = np.random.default_rng(1)
    thinned = []
    for star in stars * 3:
        pattern = held[generator.integers(len(held))][3]
        rows: list[int] = []
        for band in CODES:
            mine = np.flatnonzero(star[3] == band)
            number = min(len(mine), int((pattern == band).sum()))
            rows += generator.choice(mine, number, replace=False).tolist()
        rows.sort()
        if rows:
            thinned.append(tuple(column[rows] for column in star))
    made = {
        "known": known,
        "held": held,
        "reversed": [(t.max() + t.min() - t, *rest) for t, *rest in held],
        "mirrored": [(t, m.max() + m.min() - m, *rest) for t, m, *rest in held],
        "stars": thinned,
    }
    return folder, {name: archive_from(folder / name, curves) for name, curves in made.items()}


def scores(
    tools: Any, sets: tuple[Path, dict[str, Archive]], kind: str, names: tuple[str, ...]
) -> dict[str, tuple[np.ndarray, ...]]:
    folder, archives = sets
    path = folder / "reference"
    if not path.exists():
        references.save(tools.reference(archives["known"], keys="g,R,g-R,R-g"), path)
    result = {}
    for name in names:
        archive = archives[name]
        out = tools.rows("dmdt-score", archive, reference=str(path), kind=kind)
        order = np.argsort(out["object_id"])
        row = out["score"][order], original_pairs(archive)[order], out["n_pairs"][order]
        result[name] = row
    return result


def test_default_score_finds_what_is_odd(tools: Any, sets: tuple[Path, dict[str, Archive]]) -> None:
    found = scores(tools, sets, "mean", ("held", "reversed", "mirrored", "stars"))
    # An object that could not be scored is never flagged: it counts as the least odd of all.
    plain = {name: np.where(np.isnan(score), np.inf, score) for name, (score, _, _) in found.items()}
    enough = {name: pairs >= 10 for name, (_, pairs, _) in found.items()}
    normal = plain["held"][enough["held"]]
    assert len(normal) > 700
    assert area(normal, plain["reversed"][enough["reversed"]]) >= 0.97
    assert area(normal, plain["mirrored"][enough["mirrored"]]) >= 0.975
    # Total magnitudes of stars against difference magnitudes of supernovae: mixed on purpose.
    assert area(normal, plain["stars"][enough["stars"]]) >= 0.965
    candidates = np.flatnonzero(enough["held"])
    hits = []
    for seed in range(20):
        hidden = np.random.default_rng(seed).choice(candidates, 20, replace=False)
        rest = np.setdiff1d(candidates, hidden)
        together = np.concatenate([plain["held"][rest], plain["reversed"][hidden]])
        hits.append(int((np.argsort(together, kind="stable")[:20] >= len(rest)).sum()))
    assert np.mean(hits) >= 14


def test_tail_is_calibrated(tools: Any, sets: tuple[Path, dict[str, Archive]]) -> None:
    from scipy.stats import binom, spearmanr

    score, _, n_pairs = scores(tools, sets, "tail", ("held",))["held"]
    good = np.isfinite(score)
    score, n_pairs = score[good], n_pairs[good]
    assert abs(spearmanr(score, n_pairs).statistic) <= 0.1
    thirds = np.array_split(np.argsort(n_pairs, kind="stable"), 3)
    for third in thirds:
        for level in (0.01, 0.05, 0.1):
            low, high = binom.interval(0.99, len(third), level)
            assert low <= (score[third] < level).sum() <= high, (level, n_pairs[third].min())
