"""The periods job: RR Lyrae of Stripe 82, eclipses, bad light curves, false alarms against simulation."""

import csv
import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skytrawl
from skytrawl import periods
from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.block import Block
from skytrawl.catalogs.samples import sample
from skytrawl.errors import ParameterError
from skytrawl.intake.driver import ingest
from skytrawl.job import Prepared
from skytrawl.params import build
from skytrawl.scan_common import Photometry

RRLYRAE = sample("sdss_s82_rrlyrae")
Curve = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def counts(frequency: np.ndarray, true: np.ndarray, span: np.ndarray) -> dict[str, int]:
    """How many frequencies are right, or one-day aliases |f +- 1| of the true one, within 1 / span."""
    exact = np.abs(frequency - true) < 1 / span
    solar = (
        exact | (np.abs(frequency - true - 1) < 1 / span) | (np.abs(frequency - np.abs(true - 1)) < 1 / span)
    )
    day = periods.DAYS[1]
    sidereal = np.abs(frequency - true - day) < 1 / span
    sidereal |= np.abs(frequency - np.abs(true - day)) < 1 / span
    return {"exact": int(exact.sum()), "solar": int(solar.sum()), "any": int((solar | sidereal).sum())}


def search_archive(path: Path, published: dict[str, float], first: int | None = None, **words: Any) -> Any:
    """Run the block function over an archive; counts as above, number of objects, results."""
    archive = Archive.open(path)
    parameters = build(periods.Parameters, words)
    prepared = periods.prepare(parameters, archive)
    names = (*periods.JOB.needs(parameters, archive), "objects/object_id")
    found, true, span = [], [], []
    for partition in range(archive.n_partitions):
        block = archive.read(partition, names)
        block = block if first is None else block.select(slice(0, first))
        found.append(periods.block(block, parameters, prepared, "cpu"))
        true += [1 / published[str(int(name))] for name in block.objects["object_id"]]
        ends = zip(block.offsets[:-1], block.offsets[1:], strict=True)
        span += [np.ptp(block.observations["time"][start:stop]) for start, stop in ends]
    columns = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    return counts(1 / columns["period"], np.array(true), np.array(span)), len(true), columns


def block_of(curves: Iterable[Curve]) -> Block:
    """Light curves (time, value, error, band) as the arrays of a partition."""
    parts = list(curves)
    offsets = np.concatenate([[0], np.cumsum([len(part[0]) for part in parts])]).astype(np.int64)
    columns = [np.concatenate([part[i] for part in parts]) for i in range(4)]
    names = ("time", "value", "error", "band")
    return Block({}, dict(zip(names, columns, strict=True)), offsets)


def search(curves: Iterable[Curve], dips: float = 1.0, bands: int = 2, **words: Any) -> dict[str, np.ndarray]:
    """Search light curves in fluxes; `dips` is -1 for magnitudes."""
    system = Photometry(False, 22.0, tuple(range(bands)))
    labels = [str(code) for code in range(bands)]
    prepared = Prepared({"system": system, "labels": labels, "unit": "", "dips": dips})
    return periods.block(block_of(curves), build(periods.Parameters, words), prepared, "cpu")


def sine(seed: int, period: float = 0.7, n: int = 60, band: int = 0, noise: float = 0.1) -> Curve:
    generator = np.random.default_rng(seed)
    time = np.sort(generator.uniform(0, 100, n))
    value = np.sin(2 * np.pi * time / period) + generator.normal(0, noise, n)
    return time, value, np.full(n, noise), np.full(n, band)


def test_rr_lyrae_through_the_engine(tmp_path: Path) -> None:
    with gzip.open(RRLYRAE.path, "rt") as file:
        rows = list(csv.DictReader(file))
    chosen = sorted({row["object"] for row in rows})[:8]
    rows = [row for row in rows if row["object"] in chosen and row["band"] in "gr"]
    table = {
        name: np.array([row[name] for row in rows], float if name in ("time", "mag", "magerr") else None)
        for name in rows[0]
    }
    ingest(table, tmp_path / "a", survey="sdss")
    summary = skytrawl.run(
        "periods", tmp_path / "a", tmp_path / "out", cluster="threads", max_frequency=5.0, min_frequency=0.2
    )
    assert not summary.failed
    found = skytrawl.open_results(tmp_path / "out")["periods"].to_dataset()
    with gzip.open(RRLYRAE.ingest_options()["objects"], "rt") as file:
        published = {row["object"]: float(row["period"]) for row in csv.DictReader(file)}
    names = [str(int(name)) for name in found["object_id"].values]
    span = [np.ptp([float(row["time"]) for row in rows if row["object"] == name]) for name in names]
    true = np.array([1 / published[name] for name in names])
    assert counts(1 / found["period"].values, true, np.array(span))["exact"] == 8
    amplitude = found["amplitude"].sel(band=["g", "r"]).values
    assert (amplitude[:, 0] > amplitude[:, 1]).all()  # RR Lyrae vary more in the blue
    assert (amplitude[:, 0] > 0.1).all()
    assert (amplitude[:, 0] < 1).all()
    assert (found["power"].values > found["power_second"].values).all()


@pytest.mark.acceptance
def test_all_rr_lyrae_of_the_reference_set(reference_data: Path, tmp_path: Path) -> None:
    folder = reference_data / "lightcurves"
    ingest(folder / "sdss_s82_rrlyrae.csv", tmp_path / "a", survey="sdss")
    with (folder / "sdss_s82_rrlyrae_periods.csv").open() as file:
        published = {row["Num"]: float(row["Per"]) for row in csv.DictReader(file)}
    found, n, _ = search_archive(tmp_path / "a", published)
    assert n == 150
    assert found["solar"] >= 0.95 * n, found
    assert found["exact"] >= 0.9 * n, found


def test_bands_share_one_period_and_flags_give_the_reason() -> None:
    rng = np.random.default_rng(5)
    time, value, error, band = sine(1)
    other = sine(2, band=1)
    both = tuple(np.concatenate([x, y]) for x, y in zip((time, value, error, band), other, strict=True))
    few = tuple(column[:6] for column in sine(3))
    nothing = tuple(column[:0] for column in sine(3))
    spoiled = (time, np.where(np.arange(60) < 55, np.nan, value), error, band)
    constant = (time, np.full(60, 3.3), error, band)
    burst = (time * 1e-4, value, error, band)
    once = (np.full(60, 5.0), value, error, band)
    seconds = (time * 86400 + 2.46e6 * 86400, value, error, band)
    zero = (time, value, np.zeros(60), band)
    noise = (time, rng.normal(0, 1, 60), error, band)
    curves = [both, few, nothing, spoiled, constant, burst, once, seconds, zero, noise, sine(4)]
    found = search(curves, n_terms=1)
    reasons = [periods.REASONS.index(text) for text in periods.REASONS]
    ok, low, flat, short, large, _ = reasons
    assert found["flag"].tolist() == [ok, low, low, low, flat, short, low, large, low, ok, ok]
    np.testing.assert_allclose(found["period"][[0, 10]], 0.7, rtol=1e-3)
    np.testing.assert_allclose(found["amplitude"][0], 1.0, atol=0.1)
    assert np.isnan(found["amplitude"][10, 1])
    assert np.isnan(found["period"][[1, 2, 3, 4, 5, 6, 7, 8]]).all()
    assert found["n_used"].tolist() == [120, 0, 0, 0, 60, 60, 0, 60, 0, 60, 60]
    # Every object by itself gives the same bits.
    for k in (0, 9, 10):
        alone = search([curves[k]], n_terms=1)
        for name, column in alone.items():
            np.testing.assert_array_equal(column[0], found[name][k], err_msg=name)


def test_neither_offset_nor_unit_matters() -> None:
    time, value, error, band = sine(6, period=1.37)
    base = search([(time, value, error, band)], n_terms=2)
    moved = search([(time + 2_450_000, value, error, band)], n_terms=2)
    scaled = search([(time, value * 1e-11, error * 1e-11, band)], n_terms=2)
    large = search([(time, value * 1e100, error * 1e100, band)], n_terms=2)
    for other in (moved, scaled, large):
        for name in ("period", "power", "period_second", "power_second"):
            np.testing.assert_allclose(other[name], base[name], rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(scaled["amplitude"] * 1e11, base["amplitude"], rtol=1e-6)


def test_harmonics_are_preferred_to_subharmonics_and_aliases_are_flagged() -> None:
    rng = np.random.default_rng(8)
    # Three harmonics fit a sine at a half and a third of its frequency as well.
    curves = [sine(seed, period=0.31, n=80) for seed in range(5)]
    found = search(curves, n_terms=3)
    np.testing.assert_allclose(found["period"], 0.31, rtol=1e-3)
    # One visit each night at the same hour: f and f + 1 cannot be told apart.
    nights = np.sort(rng.choice(400, 90, replace=False)) + rng.normal(0, 0.003, 90)
    nightly = (nights, np.sin(2 * np.pi * nights * 1.3), np.full(90, 0.1), np.zeros(90, int))
    anytime = (nights + rng.uniform(0, 1, 90), *nightly[1:])
    anytime = (anytime[0], np.sin(2 * np.pi * anytime[0] * 1.3), *nightly[2:])
    found = search([nightly, anytime], n_terms=1, max_frequency=3.0)
    assert found["alias"].tolist() == [1, 0]


def test_false_alarm_probability_is_that_of_noise() -> None:
    curves = [(t, np.random.default_rng(k).normal(0, 0.1, 60), e, b) for k, (t, _, e, b) in
              enumerate(sine(100 + k) for k in range(150))]  # fmt: skip
    found = search(curves, n_terms=1, max_frequency=2.0, oversampling=5.0)
    # Baluev's formula is an upper limit that is close where it is small.
    assert 0.0 <= (found["false_alarm"] < 0.1).mean() <= 0.18
    assert (found["false_alarm"] < 0.5).mean() > 0.15
    assert search([sine(1)], n_terms=1)["false_alarm"][0] < 1e-10
    assert np.isnan(search([sine(1)], n_terms=2)["false_alarm"][0])


def test_boxes_find_eclipses_in_fluxes_and_magnitudes() -> None:
    rng = np.random.default_rng(9)
    time = np.sort(rng.uniform(0, 200, 400))
    inside = np.abs((time - 1.3 + 1.7) % 3.4 - 1.7) < 0.15
    flux = 1 - 0.2 * inside + rng.normal(0, 0.01, 400)
    error, band = np.full(400, 0.01), np.zeros(400, int)
    words = {"method": "bls", "durations": (0.2, 0.3), "min_frequency": 0.1, "max_frequency": 1.0}
    curves = [(time, flux, error, band), (time, np.full(400, 2.0), error, band)]
    found = search(curves, **words)
    assert found["flag"].tolist() == [0, periods.CONSTANT]
    assert abs(1 / found["period"][0] - 1 / 3.4) < 0.15 / 3.4 / 200
    assert abs(found["amplitude"][0, 0] - 0.2) < 0.02
    assert found["duration"][0] == 0.3
    assert abs((found["epoch"][0] - 1.3 + 1.7) % 3.4 - 1.7) < 0.1
    magnitudes = search([(time, -2.5 * np.log10(flux), error, band)], dips=-1.0, **words)
    assert abs(1 / magnitudes["period"][0] - 1 / 3.4) < 0.15 / 3.4 / 200
    assert magnitudes["amplitude"][0, 0] > 0.2


@pytest.mark.parametrize(
    "words",
    [
        {"method": "dft"},
        {"min_frequency": 2.0, "max_frequency": 1.0},
        {"n_terms": 0},
        {"method": "bls", "durations": (1.0,)},
        {"durations": ()},
        {"alias_tolerance": -1.0},
        {"oversampling": 0.0},
    ],
)
def test_parameters_that_cannot_be_meant(words: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        build(periods.Parameters, words)
