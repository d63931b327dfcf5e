"""Ingest at the size of surveys: memory, rates beside lsdb and pyarrow, growth; small versions always run.

The large ones: python -m pytest -q -s -m acceptance tests/benchmarks/test_ingest.py, and the curve by
tests/benchmarks/ingest_runs.py.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ingest_cases import Case, prepare, workplace
from ingest_check import Content, content_of, parquet_rows, row_hashes, simulated_rows, totals
from ingest_data import BANDS, Sky, batches, write_random
from ingest_runs import checked, ingest_watched, point, rates, sky_of
from memory import watch

LIMIT = 1.5e9  # bytes, all processes together
SMALL = {
    "sorted": Sky(400, 250.0, 3),
    "random": Sky(400, 250.0, 3),
    "hats": Sky(2200, 45.0, 3),
    "hats-single": Sky(1000, 100.0, 3),
    "ogle": Sky(40, 250.0, 3),
}
LARGE = {"hats": 90e6, "ogle": 2.5e6, "random": 75e6}  # 2 million objects; 5,000 files; 3.06 GB
FLOORS = {"hats": 2.5, "sorted": 0.35, "random": 0.15}  # rate over that of lsdb, pyarrow, pyarrow

quiet_lsdb = pytest.mark.filterwarnings("ignore")  # of lsdb, hats and what these import


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with workplace() as folder:
        yield folder


def made(kind: str, sky: Sky, folder: Path) -> Case:
    if kind.startswith("hats"):
        pytest.importorskip("lsdb")
    return prepare(kind, sky, folder)


@quiet_lsdb
@pytest.mark.parametrize("kind", sorted(SMALL))
def test_every_value_arrives(kind: str, tmp_path: Path) -> None:
    from skytrawl import ingest

    case = made(kind, SMALL[kind], tmp_path)
    report = ingest(case.path, tmp_path / "archive.zarr", **case.options)
    checked(case, tmp_path / "archive.zarr", report.to_dict())


def test_two_workers_and_rows_that_scatter_over_borders(tmp_path: Path) -> None:
    sky = Sky(400, 250.0, 3, jitter=20.0)
    case = prepare("random", sky, tmp_path)
    report, memory = ingest_watched(case, tmp_path / "archive.zarr")
    checked(case, tmp_path / "archive.zarr", report)
    assert len(memory.processes) >= 3, memory
    made_again = content_of(simulated_rows(batches(sky), BANDS))
    assert totals(made_again) == {"objects": report["objects"], "rows": report["rows_kept"]}


def test_the_comparison_sees_a_flipped_bit_a_swapped_band_and_a_lost_row() -> None:
    sky = Sky(50, 50.0, 4)

    def content(change: str = "") -> Content:
        found = Content()
        for batch in batches(sky, rows=500):
            batch = {name: column.copy() for name, column in batch.items()}
            if change == "bit":
                batch["mjd"].view(np.uint64)[7] ^= 1
            if change == "band":
                batch["band"][7] ^= 1
            if change == "row":
                batch = {name: column[1:] for name, column in batch.items()}
            for ids, *columns in simulated_rows(iter([batch]), BANDS):
                found.add(ids, row_hashes(*columns))
        return found.merge()

    assert not content().differences(content())
    for change in ("bit", "band", "row"):
        assert content().differences(content(change)), change


def test_random_order_is_a_permutation_of_what_is_simulated(tmp_path: Path) -> None:
    sky = Sky(300, 100.0, 5)
    rows = write_random(sky, tmp_path / "random", files=2)
    read = content_of(parquet_rows(tmp_path / "random"))
    assert totals(read)["rows"] == rows
    assert not content_of(simulated_rows(batches(sky), BANDS)).differences(read)
    ids = np.concatenate([batch[0] for batch in parquet_rows(tmp_path / "random")])
    assert (ids[1:] == ids[:-1]).mean() < 0.02  # 1/300 by chance


def test_memory_of_a_command_counts_its_children() -> None:
    hold = "import time; x = bytearray(b'1') * 60_000_000; time.sleep(0.7)"
    code = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {hold!r}]); {hold}; p.wait()"
    began = time.monotonic()
    found = watch([sys.executable, "-c", code])
    assert found.returncode == 0
    assert len(found.processes) == 2
    assert 120e6 < found.peak < 220e6, found
    assert found.peak <= found.sum_of_peaks
    assert 0 < found.peak_pss <= found.peak
    assert found.seconds <= time.monotonic() - began


@quiet_lsdb
@pytest.mark.acceptance
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", sorted(LARGE))
def test_memory_and_values(kind: str, place: Path) -> None:
    case = made(kind, sky_of(kind, LARGE[kind]), place)
    archive = place / "memory.zarr"
    report, memory = ingest_watched(case, archive)
    wanted = checked(case, archive, report)
    print(kind, f"{case.nbytes / 1e9:.2f} GB", wanted, memory, sep="\n")
    assert memory.peak <= LIMIT, memory


@quiet_lsdb
@pytest.mark.acceptance
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", sorted(FLOORS))
def test_rates(kind: str, place: Path) -> None:
    observations = LARGE.get(kind, 75e6)
    case = made(kind, sky_of(kind, observations), place)
    found = rates(case, made(kind, sky_of(kind, 1e5, seed=2), place), place)
    print(kind, found)
    assert found["ratio"] >= FLOORS[kind], found


@pytest.mark.acceptance
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["sorted", "random"])
def test_time_grows_with_the_input_and_memory_does_not(kind: str, place: Path) -> None:
    found = [point(kind, observations, place) for observations in (1e7, 3e7, 1e8)]
    print(kind, *found, sep="\n")
    assert found[-1]["ns_a_row"] <= 1.2 * found[1]["ns_a_row"], found
    assert found[-1]["peak_MB"] <= 1.2 * found[1]["peak_MB"], found
    assert found[-1]["peak_MB"] <= LIMIT / 1e6, found
