"""Sizes are those of the files, all of them, and the table says what was done to the values."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from skytrawl.catalogs.archive import Archive, Block
from skytrawl.catalogs.sizes import sizes
from skytrawl.cli import main
from skytrawl.errors import CorruptShardError


def test_every_file_is_counted(archive_path: Path) -> None:
    found = sizes(archive_path)
    archive = Archive.open(archive_path)
    assert [column.variable for column in found.columns] == list(archive.variables)
    for column in found.columns:
        files = list((archive_path / column.variable / "c").iterdir())
        assert column.shards == len(files)
        assert column.bytes == sum(file.stat().st_size for file in files)
        assert column.stored == pytest.approx(column.bytes / column.rows)
        assert column.ratio == pytest.approx(column.raw / column.stored)
    assert sum(column.share for column in found.columns) == pytest.approx(1)
    aside = ("intents", "writers")
    files = [file for file in archive_path.rglob("*") if file.is_file()]
    everything = sum(
        file.stat().st_size for file in files if file.relative_to(archive_path).parts[0] not in aside
    )
    assert found.total == everything
    figures = found.to_dict()
    assert figures["bytes per observation"] == found.total / archive.n_observations
    by_name = {column.variable: column for column in found.columns}
    assert (by_name["lightcurves/time"].raw, by_name["lightcurves/time"].codec) == (8, "zstd 1")
    assert by_name["lightcurves/value"].codec == "blosc lz4 5 bitshuffle"
    assert found.of("objects") + found.of("lightcurves") + found.other == found.total


def test_only_the_version_that_is_asked_for(archive_path: Path, make_writer: Any, make_block: Any) -> None:
    from skytrawl.catalogs.archive import ArchiveWriter

    before = sizes(archive_path)
    with ArchiveWriter(archive_path) as writer:
        writer.write(make_block([30] * 20, first_id=900))
    assert sizes(archive_path, 1) == before
    assert sizes(archive_path).total > before.total


def test_no_rows_and_missing_shards(tmp_path: Path, make_writer: Any, make_block: Any) -> None:
    with make_writer(tmp_path / "empty") as writer:
        writer.write(Block())
    found = sizes(tmp_path / "empty")
    assert found.to_dict()["bytes per observation"] is None
    assert all(np.isnan(column.stored) and column.bytes == 0 for column in found.columns)
    done = CliRunner().invoke(main, ["info", str(tmp_path / "empty"), "--sizes"])
    assert done.exit_code == 0, done.output
    with make_writer(tmp_path / "a") as writer:
        writer.write(make_block([30] * 5))
    (tmp_path / "a/lightcurves/band/c/1").unlink()
    with pytest.raises(CorruptShardError, match=r"lightcurves/band, slot 1: .*missing"):
        sizes(tmp_path / "a")


def test_the_command(tmp_path: Path, make_writer: Any, make_block: Any) -> None:
    curves = {
        "quantity": "magnitude",
        "photometry": "total",
        "units": "mag",
        "rounding": {"value": {"step": 0.001, "max_error": 0.00049}},
        "time": {
            "scale": "utc",
            "reference_position": "geocenter",
            "recovered": {
                "from": "heliocenter",
                "resolution": 1e-5,
                "max_error": 5e-6,
                "rows": 150,
                "bytes_before": 2.4,
                "bytes_after": 1.1,
            },
        },
    }
    with make_writer(tmp_path / "a", light_curves=curves) as writer:
        writer.write(make_block([30] * 5))
    shown = CliRunner().invoke(main, ["info", str(tmp_path / "a"), "--sizes"])
    assert shown.exit_code == 0, shown.output
    for text in (
        "lightcurves/time",
        "zstd 1",
        "bytes per observation",
        "2.400 bytes a row before, 1.100 after",
    ):
        assert text in shown.output
    assert "value rounded to 0.001, largest error 0.00049" in shown.output
    told = CliRunner().invoke(main, ["info", str(tmp_path / "a"), "--sizes", "--json"])
    assert json.loads(told.output) == sizes(tmp_path / "a").to_dict()
    both = CliRunner().invoke(main, ["info", str(tmp_path / "a"), "--sizes", "--validate"])
    assert both.exit_code == 2
    wrong = CliRunner().invoke(main, ["info", str(tmp_path), "--sizes"])
    assert wrong.exit_code == 1
