"""Pictures of scans: of one light curve, and of objects out of a results store."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import skytrawl
from skytrawl.catalogs.samples import microlensing_events
from skytrawl.cli import main
from skytrawl.errors import ArchiveMismatchError, ObjectNotFoundError, ParameterError
from skytrawl.scan_report import ScanReport

EVENTS = microlensing_events()
NAME = "OGLE-2003-BLG-235"


def scan(name: str, **options: object) -> ScanReport:
    event = EVENTS[name]
    words = {"kind": "dchi2", "object_id": name, **options}
    return skytrawl.scan_light_curve(*event[:3], dataset=event.dataset, **words)


def is_picture(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 15_000


def test_every_picture(tmp_path: Path) -> None:
    report = scan("roman_sim_0000")
    figure = report.plot(tmp_path / "scan.png")
    labels = {axis.get_ylabel() for axis in figure.axes} - {""}
    assert len(labels) == 3
    assert any("Δχ²" in label for label in labels)
    # Six seasons are six pieces of the axis, and the largest value of the last panel is the best dchi2.
    assert len(figure.axes) == 18
    drawn = [line for axis in figure.axes[12:] for line in axis.lines if len(line.get_xdata()) > 100]
    highest = max(np.nanmax(np.asarray(line.get_ydata(), float)) for line in drawn)
    assert report.best is not None
    assert highest == pytest.approx(report.best.dchi2, rel=1e-9)
    report.plot_window(1, tmp_path / "window.png")
    report.plot_fit(tmp_path / "fit.png", time_range=(report.best.t0 - 20, report.best.t0 + 20))
    report.plot_residuals(tmp_path / "deeper" / "residuals.png")
    for file in ("scan.png", "window.png", "fit.png", "deeper/residuals.png"):
        assert is_picture(tmp_path / file)
    with pytest.raises(ParameterError, match="candidate 99"):
        report.plot_window(99)


def test_pictures_of_light_curves_that_have_little(tmp_path: Path) -> None:
    for time, flux in (([], []), ([1.0], [1.0]), ([1.0, 2.0, 3.0, 9.0, 11.0], [5.0, 5.0, 5.0, 5.0, 5.0])):
        report = skytrawl.scan_light_curve(time, flux, np.ones(len(time)), kind="dchi2")
        report.plot(tmp_path / "scan.png")
        skytrawl.scan_template_free_light_curve(time, flux, np.ones(len(time))).plot(tmp_path / "free.png")


def test_dips_full_dates_and_template_free(tmp_path: Path) -> None:
    event = EVENTS["OGLE-2005-BLG-086"]
    report = skytrawl.scan_light_curve(event.time + 2_450_000, *event[1:3], kind="dchi2")
    assert report.best is not None
    assert report.best.kind == "dip"
    figure = report.plot_window(0, tmp_path / "window.png")
    assert "2453000" in figure.axes[-1].get_xlabel()
    free = skytrawl.scan_template_free_light_curve(*EVENTS[NAME][:3], dataset=EVENTS[NAME].dataset)
    free.plot(tmp_path / "free.png")
    assert is_picture(tmp_path / "free.png")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    skytrawl.ingest(EVENTS.table, folder / "events.zarr", **EVENTS.options)
    summary = skytrawl.run(
        "scan", folder / "events.zarr", folder / "scan.zarr", kind="dchi2", cluster="threads"
    )
    assert not summary.failed
    return folder


def test_any_object_of_a_store(store: Path, tmp_path: Path) -> None:
    report = skytrawl.report_of_object(store / "scan.zarr", NAME)
    alone = scan(NAME)
    assert report.names == alone.names
    # An archive holds MJD.
    assert report.best.t0 + 0.5 - 50_000 == pytest.approx(alone.best.t0, abs=1e-5)
    assert report.best.dchi2 == pytest.approx(alone.best.dchi2, rel=1e-6)
    assert report.scores["score"] == pytest.approx(alone.scores["score"], rel=1e-6)
    for panels in ("scan", "window", "fit", "residuals"):
        path = tmp_path / f"{panels}.png"
        figure = skytrawl.plot_scan(store / "scan.zarr", NAME, panels=panels, path=path)
        assert is_picture(path)
    assert "MJD" in figure.axes[-1].get_xlabel()
    moved = skytrawl.report_of_object(store / "scan.zarr", NAME, archive=store / "events.zarr")
    assert moved.to_dict() == report.to_dict()


def test_wrong_questions_to_a_store(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFoundError):
        skytrawl.plot_scan(store / "scan.zarr", "OGLE-1999-BLG-001")
    with pytest.raises(ParameterError, match="panels"):
        skytrawl.plot_scan(store / "scan.zarr", NAME, panels="all")
    other = {name: column[EVENTS.table["object"] == NAME] for name, column in EVENTS.table.items()}
    skytrawl.ingest(other, tmp_path / "other.zarr", **EVENTS.options)
    with pytest.raises(ArchiveMismatchError):
        skytrawl.plot_scan(store / "scan.zarr", NAME, archive=tmp_path / "other.zarr")


def test_from_the_command_line(store: Path, tmp_path: Path) -> None:
    words = ["query", str(store / "scan.zarr"), "--object", NAME, "--plot", str(tmp_path / "window.png")]
    answer = CliRunner().invoke(main, [*words, "--panels", "window"])
    assert answer.exit_code == 0, answer.output
    assert is_picture(tmp_path / "window.png")
    assert CliRunner().invoke(main, ["query", str(store / "scan.zarr"), "--plot", "x.png"]).exit_code == 2
