"""The stored null: its sample, its law, its file, and what is refused."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from skytrawl.catalogs import scan_null
from skytrawl.catalogs.scan_null import FEATURES, SAMPLE, Null
from skytrawl.errors import NotAnArchiveError, ReferenceExistsError, ReferenceMismatchError
from skytrawl.kernels import scan
from skytrawl.kernels.curves import prepare
from skytrawl.kernels.scan import gumbel

FACTS = {
    "survey": "kmt",
    "quantity": "magnitude",
    "photometry": "total",
    "units": "mag",
    "bands": ["I"],
    "scan": {"gap": 100.0, "templates": ["pspl0", "pspl1"]},
}


def sample(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Maxima with Gumbel's law, whose mu and beta follow one of the features."""
    generator = np.random.default_rng(seed)
    given = np.zeros((n, len(FEATURES)))
    given[:, :2] = generator.normal(size=(n, 2))
    beta = np.exp(0.3 * given[:, :1])
    maxima = 15 + 2 * given[:, :1] + beta * generator.gumbel(size=(n, 2))
    hashes = generator.integers(0, 1 << 63, n).astype(np.uint64)
    return scan_null.sample_of(hashes, maxima, given, n)


def test_probabilities_follow_the_features() -> None:
    null, fresh = Null.from_sample(sample(6000)), sample(2000, 1)
    found, known = null.fap(fresh["sample_statistic"], fresh["sample_features"])
    assert known.mean() > 0.98
    # Where the feature is low, high and in between: binomial scatter, and that of 300 neighbours.
    part = np.digitize(fresh["sample_features"][:, 0], [-0.5, 0.5])
    for nominal, k in itertools.product((0.01, 0.05, 0.2), range(3)):
        rate = (found[part == k] < nominal).mean(axis=0)
        scatter = np.sqrt(nominal / (part == k).sum())
        assert (np.abs(rate - nominal) < 4 * scatter + 0.35 * nominal).all(), (nominal, k, rate)


def test_small_probabilities_do_not_saturate() -> None:
    null = Null.from_sample(sample(1000))
    steps = np.stack([np.linspace(20, 400, 50)] * 2, axis=1)
    found, _ = null.fap(steps, np.zeros((50, len(FEATURES))))
    assert (np.diff(found[:, 0]) < 0).all()
    assert 0 < found[-1, 0] < 1e-100


def test_contamination_of_a_percent_changes_little() -> None:
    clean = sample(3000)
    spoilt = {name: array.copy() for name, array in clean.items()}
    spoilt["sample_statistic"][::150] = 1e4
    query = np.full((1, 2), 21.0), np.zeros((1, len(FEATURES)))
    a, b = (Null.from_sample(each).fap(*query)[0][0, 0] for each in (clean, spoilt))
    assert 0.5 < b / a < 2.0


def test_an_object_does_not_count_for_itself() -> None:
    given = sample(400)
    null = Null.from_sample(given)
    words = given["sample_statistic"], given["sample_features"]
    with_itself, _ = null.fap(*words)
    without, _ = null.fap(*words, given["sample_hash"])
    # Values below the fitted ranks may come and go.
    assert (with_itself != without).any(axis=1).mean() > 0.3
    others = given["sample_hash"] + np.uint64(1)
    assert np.array_equal(null.fap(*words, others)[0], with_itself)


def test_blocks_do_not_matter() -> None:
    given, null = sample(500, 2), Null.from_sample(sample(2000))
    words = given["sample_statistic"], given["sample_features"]
    whole, _ = null.fap(*words)
    pieces = [null.fap(*(w[i : i + 37] for w in words))[0] for i in range(0, 500, 37)]
    assert np.array_equal(whole, np.concatenate(pieces))


def test_samples_join_in_any_order() -> None:
    parts = [sample(40, seed) for seed in range(4)]
    results = []
    for order in itertools.permutations(range(4)):
        state = parts[order[0]]
        for k in order[1:]:
            state = scan_null.join(state, parts[k], 60)
        results.append(state)
    assert len(results[0]["sample_hash"]) == 60
    for other in results[1:]:
        assert all(np.array_equal(results[0][name], other[name]) for name in SAMPLE)


def test_stored_and_read(tmp_path: Path) -> None:
    null = scan_null.build(sample(100), FACTS | {"sources": [{"archive_id": "a"}]})
    scan_null.save(null, tmp_path / "null")
    back = scan_null.load(tmp_path / "null")
    assert all(np.array_equal(back[name], null[name]) for name in SAMPLE)
    assert back.attrs["skytrawl"]["sources"] == [{"archive_id": "a"}]
    assert scan_null.fingerprint(back) == scan_null.fingerprint(null)
    with pytest.raises(ReferenceExistsError, match="exists"):
        scan_null.save(null, tmp_path / "null")
    scan_null.save(scan_null.build(sample(120), FACTS), tmp_path / "null", replace=True)
    assert scan_null.load(tmp_path / "null").sizes["object"] == 120


def test_foreign_and_damaged_stores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAnArchiveError, match="does not exist"):
        scan_null.load(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotAnArchiveError, match="is not a null"):
        scan_null.load(tmp_path / "empty")
    path = tmp_path / "null"
    scan_null.save(scan_null.build(sample(100), FACTS), path)
    header = json.loads((path / "zarr.json").read_text())
    for change in ({"kind": "counts"}, {"format": 99}, {"survey": "ogle"}):
        other = json.loads(json.dumps(header))
        other["attributes"]["skytrawl"] |= change
        (path / "zarr.json").write_text(json.dumps(other))
        with pytest.raises(NotAnArchiveError, match=r"not a null|damaged"):
            scan_null.load(path)
    (path / "zarr.json").write_text(json.dumps(header))
    chunk = max((path / "sample_statistic").rglob("*"), key=lambda file: file.is_file() * file.stat().st_size)
    chunk.write_bytes(chunk.read_bytes()[:-9])
    with pytest.raises(NotAnArchiveError, match="damaged"):
        scan_null.load(path)


def test_another_scan_is_refused() -> None:
    null = scan_null.build(sample(100), FACTS)
    assert scan_null.require_same(null, FACTS) == []
    other = FACTS | {"scan": {"gap": 50.0, "templates": ["pspl0", "pspl1"]}}
    with pytest.raises(ReferenceMismatchError, match=r"scan\.gap \(100\.0 in the null, 50\.0 here\)"):
        scan_null.require_same(null, other)
    assert len(scan_null.require_same(null, other, allow_mismatch=True)) == 1


def test_too_few_objects_are_refused() -> None:
    with pytest.raises(ReferenceMismatchError, match="needs 50 objects"):
        scan_null.build(sample(49), FACTS)


def test_features_of_curves() -> None:
    generator = np.random.default_rng(5)
    time = np.tile(np.sort(generator.uniform(0, 30, 400)), 3)
    walk = np.convolve(generator.normal(size=409), np.ones(10) / np.sqrt(10), "valid")
    flux = np.concatenate([generator.normal(size=400), 2 * generator.normal(size=400), walk])
    offsets = np.array([0, 400, 800, 1200, 1200])
    curves, _ = prepare(time, flux, np.ones(1200), np.zeros(1200, int), offsets)
    result = scan.scan(curves, scan.ScanGrid(), k=1, backend="cpu")
    found = dict(zip(FEATURES, scan_null.features(curves, result).T, strict=True))
    assert np.allclose(found["log_points"], np.log1p([400, 400, 400, 0]))
    assert np.allclose(found["scatter"][:2], np.log([1, 2]), atol=0.12)
    assert np.abs(found["autocorrelation"][:2]).max() < 0.2
    assert 0.75 < found["autocorrelation"][2] < 1
    assert found["noise_middle"][2] > found["noise_middle"][0] + 0.5
    statistic = scan_null.statistic(result)
    assert np.isfinite(statistic[:3]).all()
    assert np.isnan(statistic[3]).all()
    # Multiplied or shifted curves are the same curves.
    moved, _ = prepare(time + 2_450_000, flux * 1e11, np.full(1200, 1e11), np.zeros(1200, int), offsets)
    again = scan_null.features(moved, scan.scan(moved, scan.ScanGrid(), k=1, backend="cpu"))
    assert np.allclose(again, np.stack(list(found.values()), axis=1), rtol=1e-6, atol=1e-9)


def test_combined() -> None:
    assert np.allclose(scan_null.combined(np.array([0.5, 1e-20]), np.array([0.1, 1.0])), [0.19, 2e-20])


def test_weights_give_back_the_law() -> None:
    generator = np.random.default_rng(3)
    mu, beta = gumbel.fit(7 + 2 * generator.gumbel(size=(200, 300)), 0.7, 0.99)
    assert abs(mu.mean() - 7) < 0.2
    assert abs(beta.mean() - 2) < 0.1
