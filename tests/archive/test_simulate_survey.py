"""Simulated surveys: like their description, seeded, streamed, true to their truth table."""

import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.block import Block
from skytrawl.catalogs.simulate import (
    KINDS,
    simulate_survey,
    survey_blocks,
    survey_rows,
    survey_truth,
    truth,
    truth_path,
)
from skytrawl.catalogs.simulate_chunks import noiseless, simulation
from skytrawl.catalogs.simulate_curves import CLASSES, PARAMETERS
from skytrawl.catalogs.simulate_surveys import MODELS
from skytrawl.catalogs.simulate_visits import LSST_VISITS, clear_nights, moon
from skytrawl.catalogs.surveys import load_survey
from skytrawl.catalogs.validate import validate
from skytrawl.cli import main
from skytrawl.errors import NotAnArchiveError, ParameterError

# Objects and years that keep a test small.
SMALL = {"ztf": (300, 1.0), "lsst": (300, 3.0), "roman-bulge": (8, 0.4), "kmt": (12, 0.5)}


@pytest.mark.parametrize("kind", KINDS)
def test_archive_is_sound_and_means_what_the_survey_says(kind: str, tmp_path: Path) -> None:
    count, years = SMALL[kind]
    done = simulate_survey(kind, tmp_path / "a", count, seed=3, years=years, partitions=3)
    report = validate(tmp_path / "a", deep=True)
    assert report.ok, str(report)
    archive = Archive.open(tmp_path / "a")
    assert (archive.n_objects, archive.n_partitions) == (count, 3)
    assert (done.objects, done.observations) == (archive.n_objects, archive.n_observations)
    assert sum(done.classes.values()) == count
    model, survey = MODELS[kind], load_survey(MODELS[kind].survey)
    curves = archive.attrs["light_curves"]
    assert curves["photometry"] == "total"
    assert (curves["quantity"], curves["units"]) == (survey.quantity, survey.units)
    assert curves.get("zero_point") == survey.zero_point
    assert curves["time"]["scale"] == survey.time_scale
    wanted = {"kmt": ("topocenter", "middle")}.get(kind, (survey.reference_position, survey.exposure_point))
    assert (curves["time"]["reference_position"], curves["time"]["exposure_point"]) == wanted
    assert set(archive.bands) <= set(survey.band_names)
    # In order of wavelength, as ingest would have them.
    assert list(archive.bands) == [name for name in survey.band_names if name in archive.bands]
    time = archive.read(0, ["time"]).observations["time"]
    assert time.min() >= model.start - 1
    assert time.max() <= model.start + 365.25 * years + 150


def test_seed_alone_decides(tmp_path: Path) -> None:
    """Neither the number of partitions nor the format changes a value; the seed changes all."""
    one = next(survey_blocks("ztf", 700, 5, partitions=1, years=2))
    many = list(survey_blocks("ztf", 700, 5, partitions=7, years=2))
    assert [block.n_objects for block in many] == [100] * 7
    for name, column in one.objects.items():
        np.testing.assert_array_equal(np.concatenate([b.objects[name] for b in many]), column)
    for name, column in one.observations.items():
        np.testing.assert_array_equal(np.concatenate([b.observations[name] for b in many]), column)
    rows = list(survey_rows("ztf", 700, 5, years=2))
    bands = np.array(["g", "r", "i"], "S")[one.observations["band"]]
    np.testing.assert_array_equal(np.concatenate([piece["band"] for piece in rows]), bands)
    owner = np.repeat(one.objects["object_id"], np.diff(one.offsets))
    np.testing.assert_array_equal(np.concatenate([piece["object"] for piece in rows]), owner)
    np.testing.assert_array_equal(
        np.concatenate([piece["value"] for piece in rows]), one.observations["value"]
    )
    other = next(survey_blocks("ztf", 700, 6, partitions=1, years=2))
    assert not np.isin(other.objects["ra"], one.objects["ra"]).any()

    from pyarrow import csv, parquet

    for format in ("parquet", "csv"):
        done = simulate_survey("ztf", tmp_path / f"t.{format}", 700, seed=5, years=2, format=format)
        assert done.observations == one.n_observations
    table = parquet.read_table(tmp_path / "t.parquet")
    assert table.column_names == ["object_id", "ra", "dec", "mjd", "mag", "magerr", "band"]
    assert table.schema.field("mag").metadata == {b"unit": b"mag"}
    text = csv.read_csv(tmp_path / "t.csv")
    assert text.column_names == table.column_names
    with pytest.raises(ParameterError, match="exists already"):
        simulate_survey("ztf", tmp_path / "t.csv", 1, format="csv")
    for found in (table, text):
        np.testing.assert_array_equal(found["object_id"].to_numpy(), owner)
        np.testing.assert_array_equal(found["mjd"].to_numpy(), one.observations["time"])
        np.testing.assert_array_equal(found["mag"].to_numpy().astype("f4"), one.observations["value"])
        assert found["band"].to_pylist() == [name.decode() for name in bands]


def test_truth_comes_back(tmp_path: Path) -> None:
    simulate_survey("ztf", tmp_path / "a.zarr", 2000, seed=2, years=0.5, partitions=2)
    found = truth(tmp_path / "a.zarr")
    assert truth_path(tmp_path / "a.zarr") == tmp_path / "a.truth.parquet"
    made = list(survey_truth("ztf", 2000, 2, years=0.5))
    assert list(found) == list(made[0])
    for name in found:
        np.testing.assert_array_equal(found[name], np.concatenate([piece[name] for piece in made]), name)
    archive = Archive.open(tmp_path / "a.zarr")
    stored = [archive.read(number, ["object_id", "class", "ra"]).objects for number in range(2)]
    for name in ("object_id", "class", "ra"):
        np.testing.assert_array_equal(np.concatenate([part[name] for part in stored]), found[name])
    # Fractions as asked, and parameters where they apply and nowhere else.
    for name, rate in MODELS["ztf"].rates.items():
        share = np.mean(found["class"] == name.encode())
        assert abs(share - rate) < 4 * np.sqrt(rate / 2000), name
    of = {"period": ("sine", "rrlyrae", "eclipse"), "u0": ("microlensing", "microlensing-planet")}
    for name, classes in of.items():
        np.testing.assert_array_equal(
            np.isfinite(found[name]), np.isin(found["class"], np.array(classes, "S"))
        )
    from pyarrow import parquet

    schema = parquet.read_schema(tmp_path / "a.truth.parquet")
    assert schema.field("period").metadata == {b"unit": b"d"}
    assert set(PARAMETERS) < set(schema.names)
    with pytest.raises(NotAnArchiveError, match=r"b\.truth\.parquet does not exist"):
        truth(tmp_path / "b.zarr")


def test_no_objects(tmp_path: Path) -> None:
    done = simulate_survey("kmt", tmp_path / "a", 0, partitions=2)
    assert done.objects == done.observations == 0
    assert validate(tmp_path / "a").ok
    assert len(truth(tmp_path / "a")["t_e"]) == 0
    assert [block.n_objects for block in survey_blocks("lsst", 0, partitions=3)] == [0, 0, 0]
    assert list(survey_rows("lsst", 0)) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "des"}, "no simulated survey 'des'"),
        ({"rates": {"nova": 0.1}}, "no class 'nova'"),
        ({"rates": {"flare": 0.9, "sine": 0.2}}, "more than 1 in sum"),
        ({"rates": {"flare": -0.1}}, "must not be negative"),
        ({"bad": 1.5}, "bad=1.5"),
        ({"seed": -1}, "seed=-1"),
        ({"years": 0}, "years=0"),
        ({"format": "fits"}, "no format 'fits'"),
        ({"partitions": 0}, "partitions=0"),
    ],
)
def test_wrong_parameters(options: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=said):
        simulate_survey(**{"kind": "ztf", "path": tmp_path / "a", "n_objects": 5} | options)
    assert not list(tmp_path.iterdir())


def of_band(block: Block, row: int, band: int) -> dict[str, np.ndarray]:
    part = block.select(slice(row, row + 1)).observations
    return {name: column[part["band"] == band] for name, column in part.items()}


def visits(kind: str, seed: int = 0, years: float | None = None) -> tuple[np.ndarray, np.ndarray, float]:
    model = MODELS[kind]
    found = model.visits(np.random.default_rng(seed), seed, years or model.years, model.start)
    for band in range(len(model.filters)):
        assert (np.diff(found.time[found.band == band]) >= 0).all()
    return found.time, found.band, model.start


def test_cadence_of_ztf() -> None:
    time, band, _ = visits("ztf")
    g, r, i = (np.unique(np.floor(time[band == number])) for number in range(3))
    assert len(g) == np.count_nonzero(band == 0)  # one visit a night
    np.testing.assert_array_equal(g, r)
    gaps = np.diff(g)
    assert set(gaps[gaps < 4]) == {2, 3}
    assert np.median(gaps) <= 3
    assert 3.9 < np.diff(i).min() < 5.1
    assert 0.6 < len(g) * 2.5 / (5 * 243) < 0.8  # clear nights
    assert np.diff(g).max() > 100  # the gap between seasons
    clear = clear_nights(np.random.default_rng(1), 50_000, 0.7)
    assert abs(clear.mean() - 0.7) < 0.02
    spells = np.diff(np.flatnonzero(np.diff(np.concatenate([[1], clear, [1]]).astype(int))))[::2]
    assert 2.5 < spells.mean() < 3.5


def test_cadence_of_lsst() -> None:
    time, band, _ = visits("lsst")
    np.testing.assert_array_equal(np.bincount(band), LSST_VISITS)
    # Pairs in a night: every u has a g after 22 to 35 minutes.
    wait = [np.min(np.abs(time[band == 1] - stamp - 28.5 / 1440)) for stamp in time[band == 0]]
    assert max(wait) < 6.6 / 1440
    lit = moon(time)
    assert lit[band == 0].mean() < 0.35 < 0.6 < lit[band == 5].mean()
    assert 9 * 365 < np.ptp(time) < 10 * 365.25
    assert np.bincount(visits("lsst", years=5)[1]).sum() == 412


def test_cadence_of_roman() -> None:
    time, band, _ = visits("roman-bulge")
    main, colour = time[band == 1], time[band == 0]
    assert abs(np.median(np.diff(main)) - 12.1 / 1440) < 2e-6
    assert abs(np.median(np.diff(colour)) - 0.25) < 2e-6
    edges = np.flatnonzero(np.diff(main) > 10)
    assert len(edges) == 5
    seasons = np.split(main, edges + 1)
    assert all(71.8 < np.ptp(season) <= 72 for season in seasons)
    assert abs(len(main) / (6 * 72 * 1440 / 12.1) - 0.995) < 0.003
    assert np.ptp(main) < 5 * 365.25


def test_cadence_of_kmt() -> None:
    time, band, start = visits("kmt", years=2)
    main = np.sort(time[band == 1])
    # Three sites with a beat of their own each: mostly 15 minutes, in summer around the clock.
    assert abs(np.count_nonzero(band == 1) / np.count_nonzero(band == 0) - 10) < 1
    hour = np.floor((main % 1) * 24)
    assert len(np.unique(hour)) == 24
    day = (main - start + 1) % 365.25  # midnight in Australia comes before the date of Greenwich
    assert day.max() < 247
    assert np.count_nonzero(np.abs(day - 122) < 30) > 4 * np.count_nonzero(day < 30)
    assert np.mean(np.diff(main) < 15.01 / 1440) > 0.95
    next_one = np.clip(np.searchsorted(main, main + 15 / 1440 - 3e-6), 0, len(main) - 1)
    assert 0.9 < np.mean(np.abs(main[next_one] - main - 15 / 1440) < 3e-6) < 1


def chi2_of(kind: str, **options: float) -> tuple[np.ndarray, np.ndarray]:
    """Residuals of constant objects in sigma, where a sigma is less than 5 %."""
    count = {"ztf": 500, "lsst": 500, "roman-bulge": 16, "kmt": 32}[kind]
    made = simulation(kind, count, 7, years=SMALL[kind][1], rates={}, decimals=None, **{"bad": 0.0} | options)
    pulls, signal = [], []
    for block, rows in made.chunks():
        base = np.stack([rows[f"mag_{name}"] for name in made.bands], 1)
        owner = np.repeat(np.arange(block.n_objects), np.diff(block.offsets))
        value, error = block.observations["value"].astype(float), block.observations["error"].astype(float)
        magnitude = base[owner, block.observations["band"]]
        if made.magnitudes:
            # Back to flux, where the noise is Gaussian.
            measured = 10 ** (-0.4 * (value - made.zero_point))
            error = error * measured * np.log(10) / 2.5
        else:
            measured = value
        true = 10 ** (-0.4 * (magnitude - made.zero_point))
        pulls.append((measured - true) / error)
        signal.append(true / error)
    return np.concatenate(pulls), np.concatenate(signal)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_tell_the_scatter(kind: str) -> None:
    pulls, signal = chi2_of(kind)
    bright = pulls[signal > 20]
    assert len(bright) > 10_000
    assert abs(np.mean(bright**2) - 1) < 0.03
    assert abs(bright.mean()) < 0.02
    assert abs(np.mean(np.abs(bright) < 1) - 0.683) < 0.01
    floor = MODELS[kind].floor
    assert 0.35 / floor < signal.max() < 1.2 / floor


def test_tails_and_bad_points() -> None:
    wide, signal = chi2_of("ztf", heavy_tail=0.1)
    assert abs(np.mean(wide[signal > 20] ** 2) - 1.8) < 0.1  # 0.9 + 0.1 * 9, less rows drawn twice
    off, signal = chi2_of("lsst", bad=0.02)
    assert abs(np.mean(np.abs(off[signal > 20]) > 4.9) - 0.02) < 0.004


def test_depth_is_five_sigma() -> None:
    made = simulation("lsst", 1, 1)
    exposures = made.exposures(0)
    limit = -2.5 * np.log10(exposures.limit) + 31.4
    for code, band in enumerate(MODELS["lsst"].filters):
        here = limit[exposures.visits.band == code]
        # Scatter, clouds and moonlight take some tenths.
        assert band.depth - 0.9 < np.median(here) < band.depth + 0.1
    from skytrawl.catalogs.simulate_chunks import sigma_of

    sigma = sigma_of(exposures.limit[None, :], exposures.limit, 0.039, 0.0)
    np.testing.assert_allclose(exposures.limit / sigma[0], 5, rtol=1e-5)


def test_saturated_and_faint_are_absent() -> None:
    block = next(survey_blocks("ztf", 400, 1, partitions=1, bad=0.0))
    value, error = block.observations["value"], block.observations["error"]
    assert value.min() > 12
    assert (error < 2.5 / np.log(10) / 3 + 1e-3).all()
    assert (np.round(value, 3) == value).all()
    forced = next(survey_blocks("lsst", 400, 1, partitions=1, rates={}))
    assert (forced.observations["value"] < 0).any()


def test_memory_is_flat(tmp_path: Path) -> None:
    """Four times the survey, no more memory: rows, and an archive of partitions of the same size."""
    peaks: dict[str, list[int]] = {"rows": [], "archive": []}
    for count in (2000, 2000, 8000):  # the first warms up
        tracemalloc.start()
        for _ in survey_rows("ztf", count, 1, years=2, rates={}):
            pass
        peaks["rows"].append(tracemalloc.get_traced_memory()[1])
        tracemalloc.reset_peak()
        name = tmp_path / f"{len(peaks['rows'])}.zarr"
        simulate_survey("ztf", name, count, years=2, rates={}, partitions=count // 1000)
        peaks["archive"].append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks["rows"][2] < 1.2 * peaks["rows"][1]
    # The truth table is held for one row group, 65,536 objects.
    assert peaks["archive"][2] < 1.2 * peaks["archive"][1] + 6000 * 8 * 30


def test_every_class_shows() -> None:
    """The light of a class differs from the quiescent flux, and every event lies in the data."""
    for kind in KINDS:
        years = SMALL[kind][1]
        for name in CLASSES:
            made = simulation(kind, 8, 3, years=years, rates={name: 1.0})
            rows = next(made.truths())
            assert set(rows["class"]) == {name.encode()}
            flux = noiseless(made, rows)
            quiet = noiseless(made, rows | {"class": np.full(len(rows["class"]), b"constant", "S20")})
            assert (flux >= 0).all()
            assert np.isfinite(flux).all()
            assert (np.abs(flux / quiet - 1).max(axis=1) > 0.005).all(), (kind, name)


def test_command_line(tmp_path: Path) -> None:
    words = [
        "simulate",
        "lsst",
        str(tmp_path / "a"),
        "--objects",
        "50",
        "--years",
        "1",
        "--rate",
        "flare=0.5",
    ]
    done = CliRunner().invoke(main, [*words, "--json"])
    assert done.exit_code == 0, done.output
    assert '"objects": 50' in done.output
    assert set(truth(tmp_path / "a")["class"]) == {b"constant", b"flare"}
    words[2:] = [str(tmp_path / "t.csv"), "--objects", "5", "--format", "csv", "--years", "1", "--no-truth"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert "5 objects" in done.output
    assert not (tmp_path / "t.truth.parquet").exists()
    done = CliRunner().invoke(main, [*words, "--rate", "flare"])
    assert (done.exit_code, "write CLASS=FRACTION" in done.output) == (1, True)


def test_fields_share_exposures() -> None:
    blocks = list(survey_blocks("roman-bulge", 1040, 1, partitions=104, years=0.1, rates={}, bad=0.0))
    first, last = blocks[0], blocks[-1]
    times = set(first.observations["time"])
    assert set(blocks[5].observations["time"]) <= times | set(blocks[4].observations["time"])
    assert not times & set(last.observations["time"])  # the second field has its own
    healpix = np.concatenate([block.objects["healpix"] for block in blocks])
    assert (np.diff(healpix.astype(np.int64)) >= 0).all()
    assert all(a.n_objects == b.n_objects for a, b in pairwise(blocks))
    assert len(np.unique(np.concatenate([block.objects["object_id"] for block in blocks]))) == 1040
