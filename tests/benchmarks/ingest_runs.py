"""Ingests with their memory and time, beside the programs that read the same files.

python tests/benchmarks/ingest_runs.py memory KIND OBSERVATIONS
python tests/benchmarks/ingest_runs.py rates KIND OBSERVATIONS
python tests/benchmarks/ingest_runs.py curve KIND OBSERVATIONS OBSERVATIONS ...

KIND is sorted, random, hats, hats-single or ogle. Inputs are made in the folder that SKYTRAWL_BENCHMARK_DATA
names, where they stay, or in a temporary one; those of a curve are removed one by one.
"""

import argparse
import gc
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ingest_cases import Case, prepare, remove, workplace
from ingest_check import differences, totals
from ingest_data import Sky
from memory import Memory, watch

ROUNDS = 3
MEANS = {"hats": 45.0, "hats-single": 135.0, "ogle": 500.0}  # observations of an object; 250 elsewhere
# Bytes of disk an observation at the worst moment: input, and spilled rows or the maker's buckets.
ROOM = {"random": 100, "sorted": 25, "hats": 25, "hats-single": 40, "ogle": 80}


def sky_of(kind: str, observations: float, seed: int = 1) -> Sky:
    """The sky of a benchmark of so many observations."""
    mean = MEANS.get(kind, 250.0)
    return Sky(max(1, round(observations / mean)), mean, seed)


def ingest_watched(case: Case, archive: Path) -> tuple[dict[str, Any], Memory]:
    """An ingest with two workers, in processes of its own: the report, and their memory."""
    shutil.rmtree(archive, ignore_errors=True)
    code = (
        "import json, sys; from skytrawl import ingest; "
        "source, archive, options = sys.argv[1:]; "
        "report = ingest(source, archive, workers=2, **json.loads(options)); "
        "print(json.dumps(report.to_dict()))"
    )
    words = [str(case.path), str(archive), json.dumps(case.options)]
    found = watch([sys.executable, "-c", code, *words], cwd=archive.parent)
    assert found.returncode == 0, found.output
    return json.loads(found.output.splitlines()[-1]), found


def checked(case: Case, archive: Path, report: dict[str, Any]) -> dict[str, int]:
    """Assert that the archive holds the input bit for bit and that the report accounts for every row."""
    differing, content = differences(case.rows, archive)
    assert not differing, differing
    wanted = totals(content)
    assert report["rows_read"] == report["rows_kept"] == wanted["rows"], (report, wanted)
    assert report["objects"] == wanted["objects"], (report, wanted)
    assert not report["dropped"], report
    return wanted


def warm(case: Case) -> None:
    """Bring the input into the page cache and let the disk finish what waits."""
    for file in case.path.rglob("*"):
        if file.is_file():
            with open(file, "rb", 0) as opened:
                while opened.read(1 << 22):
                    pass
    os.sync()


def _processor_time(client: Any) -> float:
    """Seconds of this process and of the workers."""
    return time.process_time() + sum(client.run(time.process_time).values())


def read_pyarrow(case: Case, client: Any) -> None:
    """The whole dataset into memory with two threads."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pa.set_cpu_count(2)
    pa.set_io_thread_count(2)
    assert pq.read_table(case.path).num_rows > 0


def read_lsdb(case: Case, client: Any) -> None:
    """The whole catalogue into memory with the two workers of the client."""
    import lsdb

    with client.as_current():
        assert len(lsdb.open_catalog(case.path).compute(progress_bar=False)) > 0


def rates(case: Case, small: Case, folder: Path) -> dict[str, Any]:
    """Medians of alternating rounds: seconds of an ingest and of the peer, on two warm workers both.

    `ratio` is the rate of skytrawl over that of the peer, `cpu_ratio` the same of the processor time of all
    processes, which other work on the machine disturbs less; `cold` the seconds of `workers=2`, which starts
    and stops the workers as well.
    """
    from skytrawl import ingest
    from skytrawl.deploy.local import connect

    peer = read_lsdb if case.kind.startswith("hats") else read_pyarrow
    archive = folder / "rates.zarr"
    seconds: dict[str, list[float]] = {"ours": [], "peer": [], "ours_cpu": [], "peer_cpu": []}
    reports = []

    def ours(source: Case, **words: Any) -> None:
        shutil.rmtree(archive, ignore_errors=True)
        reports.append(ingest(source.path, archive, **source.options, **words))

    with connect("local", workers=2, threads=1) as client:

        def timed(name: str, function: Callable[..., None], *arguments: Any, **words: Any) -> None:
            shutil.rmtree(archive, ignore_errors=True)
            gc.collect()
            os.sync()
            processors, began = _processor_time(client), time.perf_counter()
            function(*arguments, **words)
            seconds[name].append(time.perf_counter() - began)
            seconds[f"{name}_cpu"].append(_processor_time(client) - processors)

        address = client.scheduler.address
        ours(small, cluster=address)
        peer(small, client)
        warm(case)
        for _ in range(ROUNDS):
            timed("ours", ours, case, cluster=address)
            timed("peer", peer, case, client)
    began = time.perf_counter()
    ours(case, workers=2)
    cold = time.perf_counter() - began
    shutil.rmtree(archive)
    rows = reports[-1].rows_kept
    assert all(report.rows_kept == rows for report in reports[1:])
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "rows": rows,
        "ratio": median["peer"] / median["ours"],
        "cpu_ratio": median["peer_cpu"] / median["ours_cpu"],
        "ours_Mrows_s": rows / median["ours"] / 1e6,
        "peer_Mrows_s": rows / median["peer"] / 1e6,
        "cold": cold,
        **seconds,
    }


def point(kind: str, observations: float, folder: Path, check: bool = True) -> dict[str, Any]:
    """One point of the curve: an input is made, ingested under watch, compared, and removed."""
    free = shutil.disk_usage(folder).free
    if free < ROOM[kind] * observations + 5e9:
        raise SystemExit(
            f"{observations:.0e} observations need {ROOM[kind] * observations / 1e9:.0f} GB free"
        )
    case = prepare(kind, sky_of(kind, observations), folder)
    archive = folder / f"curve-{kind}.zarr"
    warm(case)
    report, memory = ingest_watched(case, archive)
    if check:
        checked(case, archive, report)
    found = {
        "rows": report["rows_kept"],
        "objects": report["objects"],
        "partitions": report["partitions"],
        "seconds": round(memory.seconds, 1),
        "ns_a_row": round(memory.seconds / report["rows_kept"] * 1e9, 1),
        "peak_MB": round(memory.peak / 1e6),
        "sum_of_peaks_MB": round(memory.sum_of_peaks / 1e6),
        "proportional_MB": round(memory.peak_pss / 1e6),
        "input_bytes_a_row": round(case.nbytes / report["rows_kept"], 2),
        "archive_bytes_a_row": round(_bytes(archive) / report["rows_kept"], 2),
    }
    shutil.rmtree(archive)
    remove(case)
    return found


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["memory", "rates", "curve"])
    parser.add_argument("kind", choices=sorted(ROOM))
    parser.add_argument("observations", type=float, nargs="+")
    parser.add_argument("--no-check", action="store_true", help="do not compare the archive with the input")
    given = parser.parse_args()
    with workplace() as folder:
        for observations in given.observations:
            if given.what == "curve":
                print(point(given.kind, observations, folder, not given.no_check), flush=True)
                continue
            case = prepare(given.kind, sky_of(given.kind, observations), folder)
            if given.what == "rates":
                small = prepare(given.kind, sky_of(given.kind, 1e5, seed=2), folder)
                print(rates(case, small, folder), flush=True)
                continue
            archive = folder / "memory.zarr"
            report, memory = ingest_watched(case, archive)
            print(memory, flush=True)
            if not given.no_check:
                print("equal bit for bit:", checked(case, archive, report), flush=True)
            shutil.rmtree(archive)


if __name__ == "__main__":
    main()
