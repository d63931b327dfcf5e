"""The inputs of the ingest benchmarks: how each is made, named to skytrawl, and read without it."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ingest_check as check
import ingest_data as data
from ingest_data import Sky

COLUMNS = {"object": "objectid", "ra": "ra", "dec": "dec", "time": "mjd", "value": "mag", "error": "magerr"}


@dataclass(frozen=True)
class Kind:
    """A kind of input: maker (sky, path), options of ingest, and rows read without skytrawl."""

    make: Callable[[Sky, Path], Any]
    options: dict[str, Any]
    rows: Callable[[Path], Iterator[check.Rows]]


def _make_ogle(sky: Sky, path: Path) -> None:
    data.write_ogle(path, sky.objects, int(sky.mean), sky.seed)


def _ztf(band: str) -> dict[str, Any]:
    return {"survey": "ztf", "photometry": "total", "columns": COLUMNS | {"band": band}}


KINDS = {
    "sorted": Kind(data.write_sorted, _ztf("filter"), check.parquet_rows),
    "random": Kind(data.write_random, _ztf("filter"), check.parquet_rows),
    "hats": Kind(data.write_hats, _ztf("band"), check.hats_rows),
    "hats-single": Kind(
        lambda sky, path: data.write_hats(sky, path, nested_band=False), _ztf("filterid"), check.hats_rows
    ),
    "ogle": Kind(
        _make_ogle,
        {"survey": "ogle", "columns": {"object": "{stem}", "band": "I"}},
        check.ogle_rows,
    ),
}


@dataclass(frozen=True)
class Case:
    """An input on disk."""

    kind: str
    path: Path
    nbytes: int
    options: dict[str, Any] = field(hash=False)

    def rows(self) -> Iterator[check.Rows]:
        return KINDS[self.kind].rows(self.path)


def prepare(kind: str, sky: Sky, folder: Path) -> Case:
    """The input, made unless `folder` has it already from the same numbers."""
    path = folder / f"{kind}-{sky.objects * sky.mean:.0e}"
    note = path.with_name(path.name + ".json")
    wanted = {"kind": kind, **asdict(sky)}
    if not (note.exists() and json.loads(note.read_text()) == wanted):
        note.unlink(missing_ok=True)
        KINDS[kind].make(sky, path)
        note.write_text(json.dumps(wanted))
    return Case(kind, path, data.size_of(path), KINDS[kind].options)


def remove(case: Case) -> None:
    """Free the disk of an input."""
    shutil.rmtree(case.path)
    case.path.with_name(case.path.name + ".json").unlink()


@contextmanager
def workplace() -> Iterator[Path]:
    """The folder of SKYTRAWL_BENCHMARK_DATA, where inputs stay for the next run, or a temporary one."""
    if folder := os.environ.get("SKYTRAWL_BENCHMARK_DATA"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
