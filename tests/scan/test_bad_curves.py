"""Bad light curves among good ones: an answer or a flag, neighbours that do not notice; no unit matters."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skytrawl
from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.block import Block
from skytrawl.intake.driver import ingest
from skytrawl.job import get_job
from skytrawl.kernels import lens, scan
from skytrawl.kernels.curves import Curves, prepare
from skytrawl.params import build

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
JOBS: dict[str, dict[str, Any]] = {
    "scan": {"kind": "dchi2"},
    "scan constant": {"kind": "dchi2", "baseline": "constant"},
    "scan none": {"kind": "dchi2", "baseline": "none"},
    "lens-fit": {},
    "scan-template-free": {},
    "periods": {"n_terms": 1, "max_frequency": 2.0},
}


def good(seed: int, n: int = 240, bands: int = 2, bump: float = 30.0) -> Columns:
    """Two seasons in some bands: a lens, and a short bump after its peak."""
    generator = np.random.default_rng(seed)
    time = np.sort(np.concatenate([generator.uniform(0, 70, n // 2), generator.uniform(250, 320, n // 2)]))
    error = generator.uniform(0.5, 1.5, n)
    u2 = 0.3**2 + np.square((time - 30) / 15)
    flux = 50 + 10 * (u2 + 2) / np.sqrt(u2 * (u2 + 4)) + bump / np.sqrt(1 + np.square((time - 45) / 0.5))
    band = np.arange(n) % bands
    order = np.lexsort((time, band))
    return time[order], (flux + generator.normal(0, error))[order], error[order], band[order]


def bad() -> dict[str, Columns]:
    """Every kind of light curve that is no light curve, or is a strange one."""
    time, flux, error, band = good(7)
    n = len(time)
    odd = np.arange(n) % 2 == 1
    spikes = np.where(np.arange(n) % 40 == 3, 1e6, flux)
    return {
        "empty": (time[:0], flux[:0], error[:0], band[:0]),
        "one row": (time[:1], flux[:1], error[:1], band[:1]),
        "two rows": (time[:2], flux[:2], error[:2], band[:2]),
        "five rows": (time[:5], flux[:5], error[:5], band[:5]),
        "all NaN": (time, np.full(n, np.nan), error, band),
        "half NaN": (time, np.where(odd, np.nan, flux), error, band),
        "NaN times": (np.where(odd, np.nan, time), flux, error, band),
        "infinite": (time, np.where(odd, np.inf, flux), error, band),
        "zero errors": (time, flux, np.zeros(n), band),
        "negative errors": (time, flux, -error, band),
        "some bad errors": (time, flux, np.where(odd, -error, np.where(band == 0, 0, error)), band),
        "NaN errors": (time, flux, np.full(n, np.nan), band),
        "tiny errors": (time, flux, np.full(n, 1e-120), band),
        "unequal errors": (time, flux, np.where(odd, 1e-9, 1e9), band),
        "duplicate times": (np.repeat(time[::2], 2), flux, error, band),
        "one time": (np.full(n, 12.5), flux, error, band),
        "one season": (time / 8, flux, error, band),
        "constant": (time, np.full(n, 17.0), error, band),
        "constant in one band": (time, np.where(band == 0, 3.0, flux), error, band),
        "zero flux": (time, np.zeros(n), error, band),
        "saturated": (time, spikes, error, band),
        "clipped": (time, np.minimum(flux, 62.0), error, band),
        "full dates": (time + 2_450_000.5, flux, error, band),
        "seconds": ((time + 2_450_000.5) * 86400, flux, error, band),
        "negative flux": (time, flux - 1000.0, error, band),
        "huge": (time, flux * 1e150, error * 1e150, band),
        "minute": (time, flux * 1e-150, error * 1e-150, band),
        "not in order": (time[::-1], flux[::-1], error[::-1], band[::-1]),
    }


def block_of(curves: list[Columns]) -> Block:
    """Light curves as the arrays of a partition, without the checks of ingest."""
    offsets = np.concatenate([[0], np.cumsum([len(curve[0]) for curve in curves])]).astype(np.int64)
    time, flux, error, band = (np.concatenate([curve[i] for curve in curves]) for i in range(4))
    rows = {"time": time, "value": flux, "error": error, "band": band.astype(np.uint8)}
    return Block({"object_id": np.arange(len(curves)).astype(np.uint64)}, rows, offsets)


def kernel_curves(curves: list[Columns]) -> Curves:
    block = block_of(curves)
    return prepare(*(block.observations[n] for n in ("time", "value", "error", "band")), block.offsets)[0]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """An archive of fluxes in two bands, by which the jobs prepare themselves."""
    time, flux, error, band = good(1)
    table = {"object": np.full(len(time), "a"), "time": 58000 + time, "flux": flux, "fluxerr": error}
    path = tmp_path_factory.mktemp("flux") / "archive"
    facts = {"quantity": "flux", "photometry": "total", "units": "uJy", "zero_point": 23.9}
    columns = {"value": "flux", "error": "fluxerr", "time": "time", "object": "object", "band": "band"}
    ingest({**table, "band": np.array(["g", "r"])[band]}, path, survey="ztf", columns=columns, **facts)
    return Archive.open(path)


def run_block(name: str, archive: Archive, curves: list[Columns], **more: Any) -> dict[str, np.ndarray]:
    job = get_job(name.split()[0])
    parameters = build(job.parameters, JOBS[name] | more)
    return job.block(block_of(curves), parameters, job.prepare(parameters, archive), "cpu")


@pytest.mark.parametrize("name", JOBS)
def test_good_neighbours_of_bad_curves_keep_every_bit(name: str, archive: Archive) -> None:
    fine = [good(seed) for seed in (1, 2, 3)]
    spoiled = list(bad().values())
    mixed = [*spoiled[:9], fine[0], *spoiled[9:20], fine[1], fine[2], *spoiled[20:]]
    found, alone = run_block(name, archive, mixed), run_block(name, archive, fine)
    for column, values in alone.items():
        assert len(found[column]) == len(mixed)
        np.testing.assert_array_equal(found[column][[9, 21, 22]], values, err_msg=column)


def test_bad_curves_say_why(archive: Archive) -> None:
    curves = bad()
    names = list(curves)
    found = run_block("scan", archive, list(curves.values()))
    status = dict(zip(names, found["status"].tolist(), strict=True))
    nothing = ("empty", "all NaN", "zero errors", "negative errors", "NaN errors")
    thin = ("one row", "two rows", "one time", "seconds")
    assert [name for name in names if status[name] == 1] == list(nothing)
    assert {name for name in names if status[name] == 2} == set(thin)
    dchi2 = dict(zip(names, found["candidate_dchi2"][:, 0].tolist(), strict=True))
    for name in (*nothing, *thin, "constant", "zero flux"):
        assert np.isnan(dchi2[name]), name
    for name in (
        "half NaN",
        "some bad errors",
        "duplicate times",
        "full dates",
        "negative flux",
        "saturated",
    ):
        assert dchi2[name] > 0, name
    rows = dict(zip(names, (found["n_used"] + found["n_dropped"] + found["n_cut"]).tolist(), strict=True))
    assert rows == {name: len(curve[0]) for name, curve in curves.items()}
    fits = run_block("lens-fit", archive, list(curves.values()))
    why = dict(zip(names, fits["fit_status"].tolist(), strict=True))
    for name in (*nothing, "one row", "two rows"):
        assert why[name] == lens.types.FEW_POINTS, name
    for name in ("constant", "zero flux"):
        assert why[name] == lens.types.FLAT, name
    assert set(why.values()) <= set(lens.STATUS_TEXT)
    lensless = np.isin(fits["fit_status"], [lens.types.FEW_POINTS, lens.types.FLAT, lens.types.NO_START])
    assert np.array_equal(np.isnan(fits["t0"]), lensless)


@pytest.mark.parametrize("name", bad())
def test_one_bad_curve_gets_a_report(name: str) -> None:
    time, flux, error, band = bad()[name]
    report = skytrawl.scan_light_curve(time, flux, error, dataset=band, kind="dchi2")
    assert report.summary_text() if hasattr(report, "summary_text") else str(report)
    if not report.candidates:
        assert report.flags


def test_bad_curves_through_ingest_and_engine(tmp_path: Path) -> None:
    curves = {"good one": good(1), **bad(), "good two": good(2)}
    for name in ("full dates", "seconds", "huge", "not in order"):
        del curves[name]
    parts = [
        (np.full(len(c[0]), name), 58000 + c[0], *c[1:3], np.array(["g", "r"])[c[3]])
        for name, c in curves.items()
    ]
    names = ("object", "time", "flux", "fluxerr", "band")
    table = {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}
    columns = {"value": "flux", "error": "fluxerr", "time": "time", "object": "object", "band": "band"}
    facts = {"quantity": "flux", "photometry": "total", "units": "uJy", "zero_point": 23.9}
    options = {"survey": "ztf", "columns": columns, "missing_errors": "keep", "duplicates": "keep"}
    ingest(table, tmp_path / "a", **options, **facts)
    for job in ("scan", "lens-fit", "scan-template-free", "periods"):
        out = tmp_path / job
        done = skytrawl.run(job, tmp_path / "a", out, cluster="threads", **JOBS[job])
        assert not done.failed, done.failed
        found = skytrawl.open_results(out)[job].to_dataset()
        assert found.sizes["object"] == Archive.open(tmp_path / "a").n_objects


def moved(columns: Columns) -> Columns:
    return columns[0] + 2_450_000, *columns[1:]


def scaled(columns: Columns) -> Columns:
    return columns[0], columns[1] * 1e11, columns[2] * 1e11, columns[3]


@pytest.mark.parametrize("change", [moved, scaled])
def test_kernels_know_neither_epoch_nor_unit(change: Any) -> None:
    curves = [good(seed, n=300, bands=bands) for seed, bands in ((1, 1), (2, 2), (3, 1), (4, 2))]
    grid = scan.ScanGrid()
    answers = []
    for each in (kernel_curves(curves), kernel_curves([change(curve) for curve in curves])):
        found = scan.scan(each, grid, k=8, backend="cpu")
        answers.append((found, scan.diagnose(each, grid, found.top)))
    (one, quality), (other, other_quality) = answers
    for name in ("season", "scale", "step", "template", "sign", "n_window", "teff", "dchi2"):
        for record in ("top", "extreme"):
            mine, theirs = (getattr(getattr(each, record), name) for each in (one, other))
            np.testing.assert_allclose(theirs, mine, rtol=1e-6, atol=1e-6, err_msg=f"{record} {name}")
    np.testing.assert_allclose(other.noise, one.noise, rtol=1e-6)
    for name in scan.Diagnostics._fields:
        if name == "achromatic_chi2":
            continue
        mine, theirs = getattr(quality, name), getattr(other_quality, name)
        np.testing.assert_allclose(theirs, mine, rtol=1e-6, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(
        other_quality.achromatic_chi2, quality.achromatic_chi2, rtol=1e-6, atol=1e-6, equal_nan=True
    )


@pytest.mark.parametrize("change", [moved, scaled])
@pytest.mark.parametrize("name", ["scan", "scan constant"])
def test_jobs_know_neither_epoch_nor_unit(name: str, change: Any, archive: Archive) -> None:
    curves = [good(seed, n=300, bands=bands) for seed, bands in ((1, 1), (2, 2), (3, 2))]
    found = run_block(name, archive, curves)
    other = run_block(name, archive, [change(curve) for curve in curves])
    epoch = 2_450_000 if change is moved else 0
    for column, values in found.items():
        if column.endswith("_t0"):
            np.testing.assert_allclose(other[column] - epoch, values, rtol=0, atol=1e-6, err_msg=column)
        elif column not in ("t0", "tE", "u0"):  # of the lens fit, see below
            np.testing.assert_allclose(other[column], values, rtol=1e-6, atol=1e-6, err_msg=column)


@pytest.mark.parametrize("change", [moved, scaled])
def test_lens_fits_know_neither_epoch_nor_unit(change: Any, archive: Archive) -> None:
    curves = [good(seed, n=300, bands=bands, bump=0) for seed, bands in ((1, 1), (2, 2), (3, 2))]
    found = run_block("lens-fit", archive, curves)
    other = run_block("lens-fit", archive, [change(curve) for curve in curves])
    assert (found["fit_status"] == lens.types.OK).all()
    np.testing.assert_array_equal(other["fit_status"], found["fit_status"])
    for name in ("fit_chi2", "flat_chi2", "band_chi2"):
        np.testing.assert_allclose(other[name], found[name], rtol=1e-6, err_msg=name)
    epoch = 2_450_000 if change is moved else 0
    for name in ("t0", "tE", "u0"):
        away = np.abs(other[name] - (epoch if name == "t0" else 0) - found[name])
        # The fit stops where no step lowers chi-square by its tolerance of 1e-8, hence at 1e-4 sigma.
        assert (away < 1e-3 * found[f"{name}_error"]).all(), (name, away)
        np.testing.assert_allclose(other[f"{name}_error"], found[f"{name}_error"], rtol=1e-3, err_msg=name)
