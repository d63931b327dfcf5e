"""The samples: what ships, that it is what the sources say, and that it ingests as it is."""

import csv
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytrawl.catalogs.archive import Archive
from skytrawl.catalogs.samples import (
    demo_sources,
    list_samples,
    microlensing_events,
    sample,
    sample_path,
)
from skytrawl.catalogs.validate import validate
from skytrawl.errors import ParameterError
from skytrawl.intake.driver import ingest

Take = Callable[..., Any]
# objects, rows read, rows kept
COUNTS = {
    "ztf_bts_snia": (1500, 29600, 29600),
    "sdss_s82_rrlyrae": (150, 43799, 43770),
    "ztf_alert_histories": (209, 1366, 1366),
    "snad_rare_events": (6, 1002, 1002),
    "ogle_lmc_cep_0227": (1, 207, 207),
    "ztf_dr_640202200001881": (1, 107, 107),
    "ztf_dr_742201400001054": (1, 100, 100),
    "antares_locus_ANT202037lq": (1, 3959, 3959),
    "microlensing_magnitudes": (6, 25490, 25490),
    "microlensing_fluxes": (2, 41790, 41790),
}


def test_list_is_complete() -> None:
    assert sorted(list_samples()) == sorted(COUNTS)
    folder = sample_path("ztf_bts_snia").parent
    used = {sample(name).file for name in list_samples()} | {sample(name).objects for name in list_samples()}
    assert {path.name for path in folder.glob("*.csv.gz")} == used - {""}
    sources = (folder / "SOURCES.md").read_text()
    assert all(f"`{path.name}`" in sources for path in folder.glob("*.csv.gz"))
    assert sum(path.stat().st_size for path in folder.glob("*.csv.gz")) < 2.5e6
    with pytest.raises(ParameterError, match="no sample"):
        sample("gaia")


def test_compression_is_reproducible() -> None:
    for name in list_samples():
        head = sample_path(name).read_bytes()[:10]
        assert head[4:8] == b"\0\0\0\0", f"{name} carries a modification time"
        assert not head[3] & 8, f"{name} carries a file name"


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_samples_ingest_as_they_are(take: Take, name: str) -> None:
    chosen = sample(name)
    report, _ = take(chosen.path, **chosen.ingest_options())
    assert (report.objects, report.rows_read, report.rows_kept) == COUNTS[name]


@pytest.mark.parametrize("name", ["ztf_bts_snia", "sdss_s82_rrlyrae"])
def test_values_are_those_of_the_file(take: Take, name: str) -> None:
    chosen = sample(name)
    with gzip.open(chosen.path, "rt") as file:
        rows = [
            (row["object"], row["band"], float(row["time"]), float(row["mag"]), float(row["magerr"]))
            for row in csv.DictReader(file)
        ]
    _, found = take(chosen.path, **chosen.ingest_options())
    names = [item.decode() if isinstance(item, bytes) else str(item) for item in found["object"].tolist()]
    stored = zip(names, *(found[key].tolist() for key in ("band", "time", "value", "error")), strict=True)
    assert sorted(stored) == sorted(row for row in rows if row[3] < 40)


def test_classes_of_the_stars(take: Take) -> None:
    chosen = sample("sdss_s82_rrlyrae")
    _, found = take(chosen.path, **chosen.ingest_options())
    assert set(found["class"].tolist()) == {b"RRab", b"RRc"}


def test_demo_table(tmp_path: Path) -> None:
    demo = demo_sources()
    report = ingest(demo.table, tmp_path / "demo.zarr", partition_observations=20_000, **demo.options)
    assert (report.objects, report.rows_kept, report.bands) == (1864, 58413, ("g", "r", "i"))
    assert any("mixed on purpose" in warning for warning in report.warnings)
    archive = Archive.open(tmp_path / "demo.zarr")
    assert archive.attrs["light_curves"]["photometry"] == "mixed"
    assert archive.has_positions
    first = archive.read(0, ["object_id", "ra", "class"])
    assert first.n_objects == 208
    assert np.isfinite(first.objects["ra"]).all()
    last = archive.read(archive.n_partitions - 1, ["ra", "class"])
    assert np.isnan(last.objects["ra"]).all()
    sound = validate(tmp_path / "demo.zarr", deep=True)
    assert sound.ok, str(sound)
    assert len(demo.supernovae) == 1500
    assert demo.supernovae == sorted(demo.supernovae)
    assert set(demo.provenance) <= set(list_samples())


def test_microlensing_events(take: Take, reference_data: Path) -> None:
    events = microlensing_events()
    report, found = take(events.table, **events.options)
    assert (report.objects, report.rows_kept) == (len(events.events), len(events.table["time"]))
    assert set(np.unique(found["object"]).tolist()) == {name.encode() for name in events.events}
    for name, file, dataset, digits in (
        ("OGLE-2003-BLG-235", "ob03235_ogle", "OGLE_I", 1e-9),
        ("OGLE-2005-BLG-086", "ob05086_ogle", "OGLE_I", 1e-9),
        ("OGLE-2008-BLG-092", "ob08092_o4", "OGLE_I", 1e-9),
        ("OGLE-2014-BLG-0939", "ob140939_ogle", "OGLE_I", 1e-9),
        ("OGLE-2016-BLG-1195", "ob161195_kct01", "KMTC_I", 1e-9),
        ("OGLE-2016-BLG-1195", "ob161195_ksa01", "KMTS_I", 1e-9),
        # Simulations come with far more digits than their errors have meaning: these two are rounded.
        ("WFIRST_1827", "wfirst_1827", "Roman", 1e-3),
        ("roman_sim_0000", "roman_sim_0000", "Roman", 3e-6),
    ):
        upstream = np.load(reference_data / "microlensing" / f"{file}.npy")
        event = events[name]
        mine = event.dataset == dataset
        np.testing.assert_allclose(event.time[mine], upstream[:, 0], rtol=0, atol=6e-7)
        np.testing.assert_allclose(event.flux[mine], upstream[:, 1], rtol=min(digits, 1e-4))
        np.testing.assert_allclose(event.flux_err[mine], upstream[:, 2], rtol=digits)
    with pytest.raises(ParameterError, match="no bundled event"):
        events["OB03235"]


def test_upstream_files_are_the_same(reference_data: Path) -> None:
    folder = reference_data / "lightcurves"
    for name, file in (
        ("ztf_bts_snia", "ztf_bts_snia_antares.csv"),
        ("sdss_s82_rrlyrae", "sdss_s82_rrlyrae.csv"),
        ("ztf_alert_histories", "ztf_alert_histories.csv"),
        ("antares_locus_ANT202037lq", "antares_locus_ANT202037lq.csv"),
    ):
        assert gzip.decompress(sample_path(name).read_bytes()) == (folder / file).read_bytes()
